//! What the traffic limit looks at, read by a running recorder from a real SQLite and a real PostgreSQL: what is stored of this
//! billing cycle, and what waits.

use std::sync::Arc;

use tidegate::actors::history_worker::Observe;
use tidegate::alerts::{CycleTraffic, StoredTraffic};
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::config::{Config, Sources};
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{Bunch, Counters, EndpointId, Event, EventKind, InstanceConfig, Record, Sample, TunnelKey};
use tidegate::history::InTotals;
use tidegate::history::figures::Figures;
use tidegate::id::{EventId, IdGenerator};
use tidegate::pipeline::Shutdown;
use tidegate::production;
use tidegate::store::{DieselStore, EndpointChange, FlushCause, FlushInfo, HistoryBatch, HistoryRow, NewEndpoint, Store};

mod postgres;

use postgres::TestDatabase;

/// Longer than any billing cycle.
const LONG_AGO: i64 = 40 * 86_400 * Timestamp::SECOND;

/// A minute of a tunnel of that endpoint.
fn minute(endpoint: i32, at: Timestamp, received: u64, sent: u64) -> HistoryRow {
    let delta = Counters { tcp_rx: received, udp_tx: sent, ..Counters::default() };
    let figures = Figures { delta, covered_ms: 60_000, record_count: 1, expected_count: 1, ..Figures::default() };
    let tunnel = TunnelKey { endpoint: EndpointId(endpoint), instance: "aaaa0000".into() };
    HistoryRow { tunnel, minute: at.minute(), figures, in_totals: InTotals::BOTH }
}

/// Two paused endpoints with history of now and of a cycle that is over.
fn prepare(database: &TestDatabase, now: Timestamp) {
    let mut store = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).unwrap();
    for name in ["tokyo", "paris"] {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let new =
            NewEndpoint { name: name.to_owned(), url, api_key: ApiKey::new("key"), tls: TlsPolicy::Verify, log_events: None };
        let id = store.add_endpoint(&new, now).unwrap();
        store.change_endpoint(id, &EndpointChange { paused: Some(true), ..EndpointChange::default() }, now).unwrap();
    }
    let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: now };
    let before = Timestamp(now.0 - LONG_AGO);
    let rows = vec![minute(1, before, 1_000_000, 0), minute(1, now, 100, 20), minute(2, before, 5, 5), minute(2, now, 0, 3)];
    let (id, through) = (EventId(5), EventId(0));
    let batch = HistoryBatch { id, info, through, rows, counter_events: Vec::new(), states: Vec::new(), accounts: Vec::new() };
    store.commit_history(&batch).unwrap();
}

/// Reports of a tunnel of `tokyo` whose counters rise from 0 to these.
fn reports(now: Timestamp, received: u64) -> Arc<Bunch> {
    let (endpoint, mut ids) = (EndpointId(1), IdGenerator::new(0, EventId::ZERO));
    let mut event = |kind: EventKind, tcp_rx: u64| {
        let counters = Counters { tcp_rx, ..Counters::default() };
        Record::Event(Event {
            id: ids.next(now),
            endpoint,
            received_at: now,
            event_time: None,
            instance: "bbbb0000".into(),
            sample: Some(Sample { counters, ..Sample::default() }),
            config: (kind == EventKind::Create).then(|| Arc::new(InstanceConfig::default())),
            kind,
            detail: None,
            logs: None,
            stored: true,
        })
    };
    let records = vec![event(EventKind::Create, 0), event(EventKind::Update, received)];
    Arc::new(Bunch { endpoint, records })
}

fn adds_up_the_present_cycle(database: &TestDatabase) {
    let now = SystemClock.wall();
    prepare(database, now);
    let journal = tempfile::tempdir().unwrap();
    let set = vec![format!("journal.dir={}", journal.path().join("journal").display())];
    let config = Config::load(&Sources { set, database_url: Some(database.url_text()), ..Sources::default() }).unwrap();
    actix_rt::System::new().block_on(async {
        let (waiting, _) = tokio::sync::watch::channel(None);
        let recorder = production::start(&config, &waiting).await.unwrap();
        let traffic = StoredTraffic {
            recorder: recorder.clone(),
            database: config.database.clone(),
            timezone: config.storage.timezone,
            billing_start_day: config.billing_start_day,
        };
        let sums = async || {
            let mut sums = traffic.sums().await.unwrap();
            sums.sort();
            sums
        };
        let named = |paris: u64, tokyo: u64| vec![("paris".to_owned(), paris), ("tokyo".to_owned(), tokyo)];
        assert_eq!(sums().await, named(3, 120), "received and sent, and nothing of the cycle before");
        recorder.actors.history.send(Observe(reports(now, 7_000))).await.unwrap();
        assert_eq!(sums().await, named(3, 7_120), "what is not stored yet counts");
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
    });
}

#[test]
fn the_traffic_of_a_cycle_is_added_up_from_sqlite() {
    adds_up_the_present_cycle(&TestDatabase::sqlite());
}

#[test]
fn the_traffic_of_a_cycle_is_added_up_from_postgresql() {
    adds_up_the_present_cycle(&TestDatabase::postgres());
}

/// A database that does not answer is an error for the AlertsActor to show, not a sum of nothing.
#[test]
fn a_database_that_is_gone_is_an_error() {
    let database = TestDatabase::sqlite();
    prepare(&database, SystemClock.wall());
    let config = Config::load(&Sources { database_url: Some(database.url_text()), ..Sources::default() }).unwrap();
    actix_rt::System::new().block_on(async {
        let (waiting, _) = tokio::sync::watch::channel(None);
        let recorder = production::start(&config, &waiting).await.unwrap();
        let traffic = StoredTraffic {
            recorder: recorder.clone(),
            database: "sqlite:/nowhere/tide.db".parse().unwrap(),
            timezone: config.storage.timezone,
            billing_start_day: config.billing_start_day,
        };
        let error = traffic.sums().await.unwrap_err();
        assert!(error.contains("/nowhere/tide.db"), "{error}");
        recorder.actors.pipeline.send(Shutdown).await.unwrap();
    });
}
