//! From bytes of a stream to records with ids: decoding, parsing, tracking and counting in one synchronous step.

use std::collections::BTreeSet;

use super::tracker::{Rejected, Tracker};
use crate::actors::sse_ingest::IngestState;
use crate::clock::Timestamp;
use crate::endpoint::ApiKey;
use crate::event::{EndpointId, EventKind, Gap, InstanceId, Record};
use crate::id::EventId;
use crate::sse::{Decoder, EVENT_BYTES_MAX, Frame, SseEvent};
use crate::wire::{ParseError, WireEvent, WireInstance, parse_event};

/// Kinds that are counted under their own name; a master that makes up new ones all the time must not fill memory.
const KINDS_MAX: usize = 32;

/// Longest API key that is believed to be one.
const KEY_BYTES_MAX: usize = 256;

/// What a piece of the stream brought.
#[derive(Debug, Default)]
pub struct Haul {
    /// Records in the order of arrival; ids rise.
    pub records: Vec<Record>,
    /// At least one whole event was in it, whatever became of it.
    pub heard: bool,
    /// An `initial` event was in it, perhaps the key holder's.
    pub initial: bool,
    /// An event of another kind was in it.
    pub settled: bool,
    /// A `shutdown` was in it.
    pub shutdown: bool,
    /// The master has a new key.
    pub new_key: Option<ApiKey>,
    /// The master's id, where it differs from the one that was known.
    pub master_id: Option<String>,
}

/// A gap that ends with the next event that is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// Last time that something was heard.
    pub from: Timestamp,
    /// Its reason.
    pub reason: &'static str,
}

/// Gives an id for the event that begins at this offset of the stream.
pub type GiveId<'a> = &'a mut dyn FnMut(u64) -> EventId;

/// Reads the streams of one endpoint, one after the other.
#[derive(Debug)]
pub struct Intake {
    endpoint: EndpointId,
    name: String,
    api_key: ApiKey,
    master_id: Option<String>,
    decoder: Decoder,
    /// What is known of the instances.
    pub tracker: Tracker,
    open_gap: Option<OpenGap>,
    logged: BTreeSet<&'static str>,
}

impl Intake {
    /// `name` is the endpoint's, for the log.
    #[must_use]
    pub fn new(endpoint: EndpointId, name: &str, api_key: ApiKey, master_id: Option<String>, mut tracker: Tracker) -> Self {
        tracker.learn_key(&api_key);
        Self {
            endpoint,
            name: name.to_owned(),
            api_key,
            master_id,
            decoder: Decoder::default(),
            tracker,
            open_gap: None,
            logged: BTreeSet::new(),
        }
    }

    /// A new stream begins, after this gap if any. A gap that no event has ended yet goes on.
    pub fn begin(&mut self, gap: Option<OpenGap>) {
        self.decoder = Decoder::default();
        if self.open_gap.is_none() {
            self.open_gap = gap;
        }
    }

    /// Another key is in use now; what was learnt before is still removed from text.
    pub fn set_key(&mut self, key: &ApiKey) {
        self.tracker.learn_key(key);
        self.api_key = key.clone();
    }

    /// The waiting time before a reconnect that the master asks for, in milliseconds.
    #[must_use]
    pub fn retry_millis(&self) -> Option<u64> {
        self.decoder.retry_millis()
    }

    /// Reads a piece of the stream that was received at `now`.
    pub fn read(&mut self, piece: &[u8], now: Timestamp, state: &mut IngestState, give_id: GiveId<'_>, haul: &mut Haul) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.feed(piece, |frame| {
            haul.heard = true;
            let (offset, length, outcome) = match frame {
                Frame::Oversized { offset, length } => (offset, length, Err(Dropped::TooLarge)),
                Frame::Event(event) => {
                    self.end_gap(now, event.offset, give_id, haul);
                    let taken = self.take(&event, now, state, give_id, haul);
                    (event.offset, event.data.len() as u64, taken.map_err(Dropped::Rejected))
                }
            };
            if let Err(dropped) = outcome {
                self.count_dropped(&dropped, offset, length, state);
            }
        });
        self.decoder = decoder;
    }

    /// Applies an instance out of `GET /instances` that the stream did not bring, as if it were an `initial` event.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn adopt(
        &mut self,
        instance: WireInstance<'_>,
        now: Timestamp,
        state: &mut IngestState,
        give_id: GiveId<'_>,
    ) -> Result<Record, Rejected> {
        let wire = WireEvent { kind: "initial".into(), time: None, instance: Some(instance), logs: None };
        let event = self.tracker.apply(&wire, give_id(0), now)?;
        count_kind(&event.kind, state);
        Ok(Record::Event(event))
    }

    fn end_gap(&mut self, now: Timestamp, offset: u64, give_id: GiveId<'_>, haul: &mut Haul) {
        let Some(OpenGap { from, reason }) = self.open_gap.take() else { return };
        let (id, instance) = (give_id(offset), InstanceId::default());
        haul.records.push(Record::Gap(Gap { id, endpoint: self.endpoint, instance, from, to: now, reason: reason.into() }));
    }

    fn take(
        &mut self,
        event: &SseEvent<'_>,
        now: Timestamp,
        state: &mut IngestState,
        give_id: GiveId<'_>,
        haul: &mut Haul,
    ) -> Result<(), Rejected> {
        let wire = parse_event(event.data)?;
        let initial = wire.kind == "initial";
        haul.initial |= initial;
        haul.settled |= !initial;
        if let Some(holder) = wire.instance.as_ref().filter(|instance| instance.is_key_holder()) {
            // It is no tunnel: nothing of it leaves but the key, to where keys are kept, and the master's id.
            if initial || wire.kind == "update" {
                self.read_key_holder(holder, haul);
            }
            return Ok(());
        }
        let event = self.tracker.apply(&wire, give_id(event.offset), now)?;
        count_kind(&event.kind, state);
        haul.shutdown |= event.kind == EventKind::Shutdown;
        haul.records.push(Record::Event(event));
        Ok(())
    }

    fn read_key_holder(&mut self, holder: &WireInstance<'_>, haul: &mut Haul) {
        let key = ApiKey::new(&holder.url);
        let usable =
            (1..=KEY_BYTES_MAX).contains(&key.reveal().len()) && key.reveal().bytes().all(|byte| byte.is_ascii_graphic());
        if usable && key != self.api_key {
            self.set_key(&key);
            haul.new_key = Some(key);
        }
        let id = &*holder.config;
        let usable =
            (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id != self.api_key.reveal();
        if usable && self.master_id.as_deref() != Some(id) {
            self.master_id = Some(id.to_owned());
            haul.master_id = Some(id.to_owned());
        }
    }

    fn count_dropped(&mut self, dropped: &Dropped, offset: u64, length: u64, state: &mut IngestState) {
        let word = dropped.word();
        *state.dropped.entry(word).or_default() += 1;
        if self.logged.insert(word) {
            log::warn!(
                "endpoint {}: dropped an event of {length} bytes at offset {offset} of the stream: {dropped}; \
                 more of this kind ({word}) are counted, not logged",
                self.name
            );
        }
    }
}

/// Why an event of the stream was dropped.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("it is larger than {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error(transparent)]
    Rejected(Rejected),
}

impl Dropped {
    fn word(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Rejected(rejected) => rejected.word(),
        }
    }
}

impl From<ParseError> for Dropped {
    fn from(error: ParseError) -> Self {
        Self::Rejected(error.into())
    }
}

fn count_kind(kind: &EventKind, state: &mut IngestState) {
    if let Some(count) = state.events.get_mut(kind.as_str()) {
        *count += 1;
        return;
    }
    let name = if state.events.len() < KINDS_MAX { kind.as_str() } else { "other" };
    *state.events.entry(name.to_owned()).or_default() += 1;
}
