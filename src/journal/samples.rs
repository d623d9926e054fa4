//! Records for this module's own tests.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, Event, EventKind, Gap, InstanceConfig, InstanceId, Record, Sample, Status, TunnelKey};
use crate::history::InTotals;
use crate::history::figures::{Figures, Ping};
use crate::id::EventId;
use crate::redact::Redacted;
use crate::store::{FlushCause, FlushInfo, HistoryBatch, HistoryRow};

const NOON: Timestamp = Timestamp(1_795_435_200_123_456);

/// An id as it would be in 2026, `nth` of its kind.
pub(super) fn id(nth: i64) -> EventId {
    EventId(((NOON.millis() - 1_704_067_200_000) << 22) + nth)
}

/// A tunnel's report as a master sends it every few seconds.
pub(crate) fn report(nth: i64) -> Record {
    Record::Event(Event {
        id: id(nth),
        endpoint: EndpointId(3),
        received_at: NOON,
        event_time: Some(NOON),
        kind: EventKind::Update,
        instance: InstanceId::from("f09c5c29"),
        sample: Some(Sample {
            status: Status::Running,
            counters: Counters { tcp_rx: 8_123_456_789, tcp_tx: 912_345_678, udp_rx: 123_456, udp_tx: 0 },
            ping: Some(12),
            pool: Some(64),
            tcps: Some(17),
            udps: Some(0),
        }),
        config: None,
        detail: None,
        logs: None,
        stored: true,
    })
}

/// An event with every field filled.
pub(super) fn full_event(nth: i64) -> Record {
    let Record::Event(event) = report(nth) else { unreachable!() };
    let text = Redacted::from_store;
    let config = InstanceConfig {
        alias: text("edge"),
        kind: text("server"),
        url: text("server://:10101/127.0.0.1:8080"),
        tags: [(text("a"), text("b"))].into(),
        restart: Some(true),
        mode: Some(2),
        ..InstanceConfig::default()
    };
    Record::Event(Event {
        kind: EventKind::Other("novel".into()),
        config: Some(Arc::new(config)),
        detail: Some(r#"{"alias":"edge"}"#.into()),
        logs: Some(text("a line")),
        ..event
    })
}

/// A gap.
pub(super) fn gap(nth: i64) -> Record {
    Record::Gap(Gap {
        id: id(nth),
        endpoint: EndpointId(3),
        instance: InstanceId::default(),
        from: NOON,
        to: Timestamp(NOON.0 + 5),
        reason: "connection_lost".into(),
    })
}

/// A history batch of one row.
pub(super) fn history(nth: i64) -> HistoryBatch {
    let tunnel = TunnelKey { endpoint: EndpointId(3), instance: InstanceId::from("f09c5c29") };
    HistoryBatch {
        id: id(nth),
        info: FlushInfo { cause: FlushCause::Hourly, boundary: Some(NOON), skipped_boundaries: 0, cut_at: NOON },
        through: id(nth - 1),
        rows: vec![HistoryRow {
            tunnel: tunnel.clone(),
            minute: NOON.minute(),
            figures: Figures {
                delta: Counters { tcp_rx: 1, tcp_tx: 2, udp_rx: 3, udp_tx: 4 },
                covered_ms: 60_000,
                ping: Some(Ping { sum: 3, count: 2, min: 1, max: 2 }),
                pool: Some(1),
                tcps: None,
                udps: None,
                record_count: 12,
                expected_count: 12,
            },
            in_totals: InTotals::BOTH,
        }],
        counter_events: Vec::new(),
        states: vec![(tunnel, Some("{}".into()))],
        accounts: Vec::new(),
    }
}
