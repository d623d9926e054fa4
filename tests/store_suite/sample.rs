//! Records, batches and endpoints as the store gets them.

use std::sync::Arc;

use tidegate::clock::{SystemClock, Timestamp};
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{
    Counters, EndpointId, Event, EventKind, Gap, InstanceConfig, InstanceId, Peer, Record, Sample, Status, TunnelKey,
};
use tidegate::history::InTotals;
use tidegate::history::figures::{Figures, Ping};
use tidegate::id::EventId;
use tidegate::redact::Redacted;
use tidegate::store::{DieselStore, EventBatch, FlushCause, FlushInfo, HistoryBatch, HistoryRow, LiveChanges, NewEndpoint};

use crate::postgres::TestDatabase;

/// 2026-11-23T12:00:00Z.
pub const NOON: Timestamp = Timestamp(1_795_435_200_000_000);

/// Noon and so many seconds.
pub fn at(second: i64) -> Timestamp {
    Timestamp(NOON.0 + second * Timestamp::SECOND)
}

/// A store with 100 rows per statement.
pub fn open(database: &TestDatabase) -> DieselStore {
    DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).unwrap_or_else(|error| panic!("{error}"))
}

pub fn tunnel(instance: &str) -> TunnelKey {
    TunnelKey { endpoint: EndpointId(1), instance: instance.into() }
}

pub fn reported() -> Sample {
    Sample {
        status: Status::Running,
        counters: Counters { tcp_rx: 10, tcp_tx: 20, udp_rx: 30, udp_tx: 40 },
        ping: Some(3),
        pool: Some(8),
        tcps: Some(1),
        udps: None,
    }
}

/// Everything that an instance can have.
pub fn config() -> InstanceConfig {
    let text = Redacted::from_store;
    InstanceConfig {
        alias: text("潮 gate"),
        kind: text("client"),
        url: text("client://0.0.0.0:10101/127.0.0.1:8080?log=info"),
        config: text("client://0.0.0.0:10101/127.0.0.1:8080?log=info&min=64"),
        restart: Some(true),
        mode: Some(2),
        peer: Peer { sid: text("s1"), kind: text("0"), alias: text("other end") },
        tags: [(text("region"), text("東京")), (text("a\"b"), text("c\\d"))].into(),
        unknown: text("{\"x\":1}"),
    }
}

/// A report of tunnel `aaaa0001`, received so many seconds after noon as its id says; its counter is ten times the id.
pub fn event(id: i64) -> Event {
    let counters = Counters { tcp_rx: id.unsigned_abs() * 10, ..Counters::default() };
    Event {
        id: EventId(id),
        endpoint: EndpointId(1),
        received_at: at(id),
        event_time: Some(Timestamp(at(id).0 - 50)),
        kind: EventKind::Update,
        instance: "aaaa0001".into(),
        sample: Some(Sample { counters, ..reported() }),
        config: None,
        detail: None,
        logs: None,
        stored: true,
    }
}

pub fn update(id: i64) -> Record {
    Record::Event(event(id))
}

pub fn gap(id: i64) -> Gap {
    Gap {
        id: EventId(id),
        endpoint: EndpointId(1),
        instance: InstanceId::default(),
        from: at(id - 1),
        to: at(id),
        reason: "connection_lost".into(),
    }
}

pub fn info() -> FlushInfo {
    FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: at(3600) }
}

pub fn batch(records: Vec<Record>) -> EventBatch {
    EventBatch { info: info(), records: Arc::new(records), maybe_stored: false }
}

pub fn history(id: i64, through: i64, rows: Vec<HistoryRow>) -> HistoryBatch {
    let (id, through) = (EventId(id), EventId(through));
    HistoryBatch { id, info: info(), through, rows, counter_events: Vec::new(), states: Vec::new(), accounts: Vec::new() }
}

/// A row of the minute that many minutes after noon.
pub fn minute(instance: &str, minute: i64) -> HistoryRow {
    HistoryRow {
        tunnel: tunnel(instance),
        minute: at(minute * 60),
        figures: Figures {
            delta: Counters { tcp_rx: 1, tcp_tx: 2, udp_rx: 3, udp_tx: 4 },
            covered_ms: 60_000,
            ping: Some(Ping { sum: 42, count: 12, min: 2, max: 9 }),
            pool: Some(8),
            tcps: Some(1),
            udps: Some(0),
            record_count: 12,
            expected_count: 12,
        },
        in_totals: InTotals::BOTH,
    }
}

pub fn endpoint(name: &str) -> NewEndpoint {
    NewEndpoint {
        name: name.to_owned(),
        url: "http://10.0.0.5:9090/api".parse().unwrap(),
        api_key: ApiKey::new("fa4ec0defa4ec0defa4ec0defa4ec0de"),
        tls: TlsPolicy::Verify,
        log_events: None,
    }
}

/// Configuration and sample of a tunnel as event `id` told them.
pub fn live_changes(instance: &str, rx: u64, id: i64) -> LiveChanges {
    let config = InstanceConfig { alias: Redacted::from_store(&format!("alias {id}")), ..config() };
    let sample = Sample { counters: Counters { tcp_rx: rx, ..Counters::default() }, ..reported() };
    LiveChanges {
        configs: vec![(tunnel(instance), Arc::new(config), EventId(id))],
        samples: vec![(tunnel(instance), sample, at(id), EventId(id))],
        ..LiveChanges::default()
    }
}

/// PostgreSQL releases a session's lock a moment after the client has closed it; each try asks the server anew.
pub fn open_when_released(database: &TestDatabase) -> DieselStore {
    for _ in 0..1_000 {
        match DieselStore::open(&database.url(), 100, Arc::new(SystemClock)) {
            Ok(store) => return store,
            Err(error) => assert!(error.message.contains("in use by"), "{error}"),
        }
    }
    panic!("the lock was not released");
}
