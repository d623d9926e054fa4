//! Events, newest first, in pages.
//!
//! The cursor is the id below which the next page begins. Ids never change and only ever rise, so it stays valid while rows
//! arrive and expire: what arrives is above it, what expired is not missed. A page with a filter looks at a bounded number of
//! rows and may hold fewer than asked for, even none, while `next` says that there is more.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::buffered::{Buffered, Wanted, What};
use super::range::Range;
use super::{Names, QueryError, Scope, id, limit};
use crate::clock::Timestamp;
use crate::event::{EndpointId, Event, Record};
use crate::id::EventId;
use crate::store::{self, EventFilter, EventPage, EventRecord, FlushSpan, ReadConnection};

/// Events of an answer, unless asked otherwise.
pub const LIMIT_DEFAULT: u32 = 100;
/// Most events of an answer.
pub const LIMIT_MAX: u32 = 1_000;
/// Longest name of a kind that is looked for.
const KIND_BYTES_MAX: usize = 64;

/// `?endpoint=&tunnel=ENDPOINT/ID&kind=&since=&until=&limit=100&cursor=`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only of this endpoint.
    pub endpoint: Option<String>,
    /// Only of this tunnel.
    #[param(pattern = "^[^/]+/.+$")]
    pub tunnel: Option<String>,
    /// Only of this kind: `initial`, `create`, `update`, `delete`, `shutdown`, `log`, or what a newer master says.
    #[param(min_length = 1, max_length = 64)]
    pub kind: Option<String>,
    /// Only received since then: an age (`24h`), RFC 3339, or a date.
    #[param(min_length = 1, max_length = 64)]
    pub since: Option<String>,
    /// Only received before then.
    #[param(min_length = 1, max_length = 64)]
    pub until: Option<String>,
    /// How many; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the answer before.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    pub cursor: Option<String>,
}

/// `GET /api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// Newest first.
    pub events: Vec<EventDocument>,
    /// `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
    /// Events that wait in the journal alone and are not among these: the database was away for long.
    pub in_journal_only: u64,
}

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventDocument {
    /// Its id.
    pub id: String,
    /// When it was received; RFC 3339.
    pub received: String,
    /// The master's own time; RFC 3339.
    pub event_time: Option<String>,
    /// Kind.
    pub kind: String,
    /// Name of the endpoint; `null` if it was removed.
    pub endpoint: Option<String>,
    /// The instance; empty where it concerns the master itself.
    pub instance_id: String,
    /// Status; empty where the event has none.
    pub status: String,
    /// TCP bytes received since the counters began.
    pub tcp_rx: u64,
    /// TCP bytes sent.
    pub tcp_tx: u64,
    /// UDP bytes received.
    pub udp_rx: u64,
    /// UDP bytes sent.
    pub udp_tx: u64,
    /// Open TCP connections.
    pub tcps: Option<i32>,
    /// Open UDP sessions.
    pub udps: Option<i32>,
    /// Idle pooled connections.
    pub pool: Option<i32>,
    /// Round trip in milliseconds.
    pub ping: Option<i32>,
    /// The line of a `log` event.
    pub logs: Option<String>,
    /// What changed of alias, type, URL and the like.
    pub detail: Option<Value>,
    /// Whether it is in the database already, or still in the buffer.
    pub stored: bool,
}

/// A question that was checked as far as that is possible without the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuestion {
    endpoint: Option<String>,
    tunnel: Option<String>,
    kind: Option<String>,
    range: Option<Range>,
    limit: u32,
    below: i64,
}

impl EventQuestion {
    /// Checks a question.
    ///
    /// # Errors
    /// [`QueryError::Invalid`].
    pub fn new(query: EventQuery, now: Timestamp, zone: chrono_tz::Tz) -> Result<Self, QueryError> {
        let EventQuery { endpoint, tunnel, kind, since, until, limit: given, cursor } = query;
        if kind.as_ref().is_some_and(|kind| kind.is_empty() || kind.len() > KIND_BYTES_MAX) {
            return Err(QueryError::Invalid(format!("a kind has 1 to {KIND_BYTES_MAX} bytes, such as `update`")));
        }
        let range = if since.is_some() || until.is_some() {
            let (since, until) = (since.as_deref(), until.as_deref());
            // Without `until` also what a clock set back later has dated ahead.
            let end = if until.is_some() { None } else { Some(Timestamp(i64::MAX)) };
            let range = Range::parse(since, until, Duration::MAX, now, zone)?;
            Some(Range { until: end.unwrap_or(range.until), ..range })
        } else {
            None
        };
        let limit = limit(given, LIMIT_DEFAULT, LIMIT_MAX)?;
        let below = id("cursor", cursor.as_deref())?.unwrap_or(i64::MAX);
        Ok(Self { endpoint, tunnel, kind, range, limit, below })
    }

    /// What is of use from the buffer: a page, and one more to know that there is more.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let Self { endpoint, tunnel, kind, range, limit, below } = self;
        let newest = Wanted::newest(What::Events, *limit as usize + 1);
        Wanted { below: EventId(*below), kind: kind.clone(), range: *range, ..newest }.of(endpoint.as_deref(), tunnel.as_deref())
    }
}

/// A page of events, from the database and the buffer. The buffer must have been read first: what is committed between the two
/// looks is then in both, and not in neither.
///
/// # Errors
/// [`QueryError`].
pub fn answer(reader: &mut ReadConnection, question: &EventQuestion, buffered: &Buffered) -> Result<Events, QueryError> {
    let names = Names::read(reader)?;
    let scope = names.scope(question.endpoint.as_deref(), question.tunnel.as_deref())?;
    let (page, spans) = stored(reader, question, &scope)?;
    let mut rows: Vec<(EventRecord, Timestamp, bool)> = Vec::new();
    for event in page.events {
        let received = store::received_at(EventId(event.id), &spans);
        if question.range.is_none_or(|range| (range.from..range.until).contains(&received)) {
            rows.push((event, received, true));
        }
    }
    // What is below the rows that were looked at comes with a later page.
    let belongs = |event: &&Event| page.next_below.is_none_or(|next| event.id.0 >= next);
    for event in buffered.records.iter().filter_map(as_event).filter(belongs) {
        if !rows.iter().any(|(known, ..)| known.id == event.id.0) {
            rows.push((event.into(), event.received_at, false));
        }
    }
    rows.sort_by_key(|(event, ..)| std::cmp::Reverse(event.id));
    let limit = question.limit as usize;
    // A full page ends with its last row; a shorter one where the rows that were looked at end.
    let next = if rows.len() > limit { Some(rows[limit - 1].0.id) } else { page.next_below };
    rows.truncate(limit);
    let events = rows.into_iter().map(|(event, received, stored)| document(event, received, stored, &names)).collect();
    Ok(Events { events, next: next.map(|id| id.to_string()), in_journal_only: buffered.in_journal_only })
}

fn stored(
    reader: &mut ReadConnection,
    question: &EventQuestion,
    scope: &Scope,
) -> Result<(EventPage, Vec<FlushSpan>), QueryError> {
    let (mut lowest, mut below) = (i64::MIN, question.below);
    if let Some(range) = question.range {
        let Some((first, last)) = reader.event_ids_within(range)? else { return Ok((EventPage::default(), Vec::new())) };
        lowest = first;
        below = below.min(last.saturating_add(1));
    }
    let filter = EventFilter { scope: scope.clone(), kind: question.kind.clone(), lowest, below };
    let page = reader.events_before(&filter, question.limit, store::SCANNED_ROWS_MAX)?;
    let spans = match (page.events.last(), page.events.first()) {
        (Some(lowest), Some(highest)) => reader.flush_spans(lowest.id, highest.id)?,
        _ => Vec::new(),
    };
    Ok((page, spans))
}

fn as_event(record: &Record) -> Option<&Event> {
    match record {
        Record::Event(event) => Some(event),
        Record::Gap(_) => None,
    }
}

impl From<&Event> for EventRecord {
    fn from(event: &Event) -> Self {
        let counters = event.sample.as_ref().map_or_else(Default::default, |sample| sample.counters);
        let bigint = |counter: u64| i64::try_from(counter).unwrap_or(i64::MAX);
        let sample = event.sample.as_ref();
        Self {
            id: event.id.0,
            event_type: event.kind.as_str().to_owned(),
            event_time: event.event_time.map(|time| time.0),
            endpoint_id: event.endpoint.0,
            instance_id: event.instance.as_str().to_owned(),
            status: sample.map_or("", |sample| sample.status.as_str()).to_owned(),
            tcp_rx: bigint(counters.tcp_rx),
            tcp_tx: bigint(counters.tcp_tx),
            udp_rx: bigint(counters.udp_rx),
            udp_tx: bigint(counters.udp_tx),
            tcps: sample.and_then(|sample| sample.tcps),
            udps: sample.and_then(|sample| sample.udps),
            pool: sample.and_then(|sample| sample.pool),
            ping: sample.and_then(|sample| sample.ping),
            logs: event.logs.as_ref().map(|line| line.as_str().to_owned()),
            detail: event.detail.as_deref().map(str::to_owned),
        }
    }
}

fn document(event: EventRecord, received: Timestamp, stored: bool, names: &Names) -> EventDocument {
    EventDocument {
        id: event.id.to_string(),
        received: received.to_string(),
        event_time: event.event_time.map(|time| Timestamp(time).to_string()),
        kind: event.event_type,
        endpoint: names.of(EndpointId(event.endpoint_id)).map(str::to_owned),
        instance_id: event.instance_id,
        status: event.status,
        tcp_rx: event.tcp_rx.cast_unsigned(),
        tcp_tx: event.tcp_tx.cast_unsigned(),
        udp_rx: event.udp_rx.cast_unsigned(),
        udp_tx: event.udp_tx.cast_unsigned(),
        tcps: event.tcps,
        udps: event.udps,
        pool: event.pool,
        ping: event.ping,
        logs: event.logs,
        // We wrote it ourselves; what cannot be read all the same is shown as it is.
        detail: event.detail.map(|detail| serde_json::from_str(&detail).unwrap_or(Value::String(detail))),
        stored,
    }
}
