//! Words for made-up histories, for the tests of the checkers.

use std::sync::Arc;
use std::time::Duration;

use super::super::observation::{Answer, Look, Observation, Seen};
use super::super::oracle::Oracle;
use super::{Invariant, Terms};
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, Event, EventKind, Record, Sample, Status, TunnelKey, TunnelState};
use crate::id::EventId;
use crate::pipeline::Settings;
use crate::store::{Committed, EventBatch, FlushCause, FlushInfo, LiveChanges};

/// 2026-11-23T12:00:00Z.
pub const NOON: Timestamp = Timestamp(1_795_435_200_000_000);

/// The terms of a default recorder.
pub fn terms() -> Terms {
    Terms { settings: Settings::default(), latency_max: Duration::from_millis(100) }
}

/// A history that is told step by step.
pub struct History {
    /// The oracle after what was told so far.
    pub oracle: Oracle,
    checked: Option<Box<dyn Invariant>>,
    /// What the checker said first.
    pub verdict: Result<(), String>,
    /// Facts checked.
    pub checks: u64,
    at: Duration,
    step: i64,
}

impl History {
    /// Of a recorder that has just started.
    pub fn told() -> Self {
        let mut history =
            Self { oracle: Oracle::default(), checked: None, verdict: Ok(()), checks: 0, at: Duration::ZERO, step: 0 };
        history.see(Seen::Started { life: 1 });
        history
    }

    /// Judged by a checker.
    pub fn of(checked: impl Invariant + 'static) -> Self {
        let mut history = Self { checked: Some(Box::new(checked)), ..Self::told() };
        history.see(Seen::Started { life: 1 });
        history
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: u64) -> &mut Self {
        self.at += Duration::from_secs(seconds);
        self
    }

    /// Something is seen.
    pub fn see(&mut self, seen: Seen) -> &mut Self {
        if let Seen::Stepped { micros } = &seen {
            self.step += micros;
        }
        let wall = Timestamp(NOON.0 + self.at.as_micros() as i64 + self.step);
        let observation = Observation { at: self.at, wall, seen };
        if let (Some(checked), true) = (&mut self.checked, self.verdict.is_ok()) {
            match checked.check(&self.oracle, &observation) {
                Ok(checks) => self.checks += checks,
                Err(violation) => self.verdict = Err(violation),
            }
        }
        self.oracle.fold(&observation);
        self
    }

    /// Records are written.
    pub fn written(&mut self, file: &str, records: &[Record]) -> &mut Self {
        let (file, records) = (Arc::from(file), records.to_vec());
        self.see(Seen::Written { file, records, bytes: 90, answer: Answer::Acknowledged(()) })
    }

    /// A batch is given to the database.
    pub fn batch(&mut self, records: &[Record], maybe_stored: bool, answer: Answer<Committed>) -> &mut Self {
        let wall = Timestamp(NOON.0 + self.at.as_micros() as i64 + self.step);
        let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: wall };
        self.flushed(info, records, maybe_stored, answer)
    }

    /// A batch of a stated cause is given to the database.
    pub fn flushed(&mut self, info: FlushInfo, records: &[Record], maybe_stored: bool, answer: Answer<Committed>) -> &mut Self {
        let batch = EventBatch { maybe_stored, ..EventBatch::new(info, Arc::new(records.to_vec())) };
        self.see(Seen::Events { batch, answer })
    }

    /// Live state of a tunnel is stored.
    pub fn live(&mut self, id: i64, tcp_rx: u64) -> &mut Self {
        let samples = vec![(tunnel(), sample(tcp_rx), NOON, EventId(id))];
        let changes = LiveChanges { through: EventId(id), samples, ..LiveChanges::default() };
        self.see(Seen::Live { changes: Box::new(changes), answer: Answer::Acknowledged(()) })
    }

    /// The recorder is looked at.
    pub fn look(&mut self, change: impl FnOnce(&mut Look)) -> &mut Self {
        let mut look = Look::default();
        change(&mut look);
        self.see(Seen::Looked(Box::new(look)))
    }

    /// The checker found nothing, and did check something.
    pub fn is_good(&self) {
        assert_eq!(self.verdict, Ok(()));
        assert!(self.checks > 0, "nothing was checked");
    }

    /// The checker found something that its words name.
    pub fn is_bad(&self, words: &str) {
        let violation = self.verdict.as_ref().expect_err("a violation");
        assert!(violation.contains(words), "`{violation}` does not say `{words}`");
    }
}

/// The one tunnel of these histories.
pub fn tunnel() -> TunnelKey {
    TunnelKey { endpoint: EndpointId(1), instance: "9545ac3d".into() }
}

/// A running tunnel's figures.
pub fn sample(tcp_rx: u64) -> Sample {
    Sample { status: Status::Running, counters: counters(tcp_rx), ..Sample::default() }
}

/// Counters of which one is not 0.
pub fn counters(tcp_rx: u64) -> Counters {
    Counters { tcp_rx, ..Counters::default() }
}

/// An `update` of the tunnel.
pub fn update(id: i64, tcp_rx: u64) -> Record {
    of_kind(EventKind::Update, id, tcp_rx)
}

/// An event of the tunnel.
pub fn of_kind(kind: EventKind, id: i64, tcp_rx: u64) -> Record {
    let at = Timestamp(NOON.0 + id * Timestamp::SECOND);
    Record::Event(Event {
        id: EventId(id),
        endpoint: EndpointId(1),
        received_at: at,
        event_time: Some(at),
        kind,
        instance: "9545ac3d".into(),
        sample: Some(sample(tcp_rx)),
        config: None,
        detail: None,
        logs: None,
        stored: true,
    })
}

/// Live state after an `update`.
pub fn state(id: i64, tcp_rx: u64) -> (TunnelKey, TunnelState) {
    let (config, seen_at) = (Arc::default(), NOON);
    (tunnel(), TunnelState { config, sample: sample(tcp_rx), seen_at, last_event: EventId(id) })
}

/// A commit that wrote and skipped so many rows.
pub fn committed(written: u64, skipped: u64) -> Answer<Committed> {
    Answer::Acknowledged(Committed { written, skipped, ..Committed::default() })
}
