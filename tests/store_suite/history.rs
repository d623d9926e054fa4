//! Minutes of history, the states behind them, and what is special about counters.

use tidegate::event::Counters;
use tidegate::id::EventId;
use tidegate::store::{Committed, CounterEvent, HistoryRow, PingStats, Store};

use crate::postgres::TestDatabase;
use crate::sample::{NOON, history, minute, open, tunnel};

pub fn a_minute_written_again_replaces_the_row(database: &TestDatabase) {
    let mut store = open(database);
    let row = HistoryRow { record_count: 3, delta: Counters { tcp_rx: 5, ..Counters::default() }, ..minute("aaaa0001", 0) };
    store.commit_history(&history(1, 0, vec![row.clone(), minute("aaaa0002", 0)])).unwrap();
    let newer = HistoryRow { record_count: 12, delta: Counters { tcp_rx: 50, ..Counters::default() }, pool: None, ..row };
    let committed = store.commit_history(&history(2, 0, vec![newer])).unwrap();
    assert_eq!(committed.written, 1);
    let sql = "SELECT record_count || ',' || delta_tcp_in || ',' || COALESCE(avg_pool, -1) AS value FROM service_history \
               WHERE instance_id = 'aaaa0001'";
    assert_eq!(database.texts(sql), ["12,50,-1"]);
}

pub fn a_merged_minute_adds_to_what_is_stored_and_only_once(database: &TestDatabase) {
    let mut store = open(database);
    let first = HistoryRow {
        delta: Counters { tcp_rx: 100, tcp_tx: 7, udp_rx: 0, udp_tx: 1 },
        ping: Some(PingStats { mean: 10.0, min: 8, max: 12 }),
        speed_in: Some(100.0),
        record_count: 3,
        ..minute("aaaa0001", 0)
    };
    let second = HistoryRow {
        delta: Counters { tcp_rx: 11, tcp_tx: 0, udp_rx: 0, udp_tx: 0 },
        ping: Some(PingStats { mean: 20.0, min: 5, max: 11 }),
        speed_in: Some(200.0),
        pool: None,
        record_count: 1,
        merge: true,
        ..first.clone()
    };
    store.commit_history(&history(1, 0, vec![first])).unwrap();
    let part = history(2, 0, vec![second.clone()]);
    store.commit_history(&part).unwrap();
    assert_eq!(store.commit_history(&part).unwrap(), Committed { skipped: 1, ..Committed::default() });
    let sql = "SELECT delta_tcp_in || ',' || delta_tcp_out || ',' || min_ping || ',' || max_ping || ',' || avg_pool || ',' || record_count \
               || ',' || CAST(avg_ping * 10 AS INTEGER) || ',' || CAST(avg_speed_in AS INTEGER) AS value FROM service_history";
    assert_eq!(database.texts(sql), ["111,7,5,12,8,4,125,125"]);
    // Two parts of a minute in one batch.
    store.commit_history(&history(3, 0, vec![second.clone(), second])).unwrap();
    assert_eq!(database.texts("SELECT delta_tcp_in || ',' || record_count AS value FROM service_history"), ["133,6"]);
}

pub fn states_and_counter_events_are_stored_with_the_history(database: &TestDatabase) {
    let mut store = open(database);
    let mut first = history(9, 8, Vec::new());
    first.states = vec![(tunnel("aaaa0001"), Some("{\"a\":1}".into())), (tunnel("aaaa0002"), Some("{}".into()))];
    let fall = CounterEvent {
        event: EventId(5),
        tunnel: tunnel("aaaa0001"),
        at: NOON,
        kind: "reset".into(),
        before: Counters { tcp_rx: 9, ..Counters::default() },
        after: Counters::default(),
    };
    first.counter_events = vec![fall.clone()];
    store.commit_history(&first).unwrap();
    let mut second = history(12, 11, Vec::new());
    second.states = vec![(tunnel("aaaa0001"), Some("{\"a\":2}".into())), (tunnel("aaaa0002"), None)];
    second.counter_events = vec![fall];
    store.commit_history(&second).unwrap();
    let stored = store.load().unwrap();
    assert_eq!(stored.history_states, [(tunnel("aaaa0001"), "{\"a\":2}".into())]);
    assert_eq!((stored.history_through, stored.highest_id), (EventId(11), EventId(12)));
    assert_eq!(database.texts("SELECT kind || before_tcp_rx || after_tcp_rx AS value FROM counter_events"), ["reset90"]);
}
