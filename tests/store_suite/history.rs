//! Minutes of history, the states behind them, and what is special about counters.

use tidegate::clock::Timestamp;
use tidegate::event::{Counters, EndpointId};
use tidegate::history::InTotals;
use tidegate::history::figures::{Figures, Ping};
use tidegate::id::EventId;
use tidegate::store::{Account, Committed, CounterEvent, HistoryRow, Store};

use crate::postgres::TestDatabase;
use crate::sample::{NOON, history, minute, open, tunnel};

const LEVELS: [&str; 3] = ["service_history", "history_hours", "history_days"];

pub fn parts_of_a_minute_add_up_on_every_level_and_only_once(database: &TestDatabase) {
    let mut store = open(database);
    let whole = minute("aaaa0001", 0);
    let first = HistoryRow {
        figures: Figures {
            delta: Counters { tcp_rx: 100, tcp_tx: 7, udp_rx: 0, udp_tx: 1 },
            covered_ms: 1_000,
            ping: Some(Ping { sum: 30, count: 3, min: 8, max: 12 }),
            record_count: 3,
            expected_count: 3,
            ..whole.figures
        },
        ..whole
    };
    let second = HistoryRow {
        figures: Figures {
            delta: Counters { tcp_rx: 11, tcp_tx: 0, udp_rx: 0, udp_tx: 0 },
            covered_ms: 500,
            ping: Some(Ping { sum: 20, count: 1, min: 5, max: 11 }),
            pool: None,
            record_count: 1,
            expected_count: 1,
            ..first.figures
        },
        ..first.clone()
    };
    store.commit_history(&history(1, 0, vec![first])).unwrap();
    let part = history(2, 0, vec![second.clone()]);
    store.commit_history(&part).unwrap();
    assert_eq!(store.commit_history(&part).unwrap(), Committed { skipped: 1, ..Committed::default() });
    for table in LEVELS {
        let sql = format!(
            "SELECT delta_tcp_in || ',' || delta_tcp_out || ',' || min_ping || ',' || max_ping || ',' || avg_pool || ',' || record_count \
             || ',' || ping_count || ',' || covered_ms || ',' || CAST(avg_ping * 10 AS INTEGER) || ',' \
             || CAST(avg_speed_in AS INTEGER) AS value FROM {table}"
        );
        assert_eq!(database.texts(&sql), ["111,7,5,12,8,4,4,1500,125,74"], "{table}");
    }
    // Two parts of a minute in one batch.
    store.commit_history(&history(3, 0, vec![second.clone(), second])).unwrap();
    for table in LEVELS {
        assert_eq!(database.texts(&format!("SELECT delta_tcp_in || ',' || record_count AS value FROM {table}")), ["133,6"]);
    }
}

pub fn totals_count_each_tunnel_once_and_leave_out_the_other_end(database: &TestDatabase) {
    let mut store = open(database);
    let server = HistoryRow { in_totals: InTotals { endpoint: true, fleet: false }, ..minute("aaaa0002", 0) };
    let mut elsewhere = minute("aaaa0003", 1);
    elsewhere.tunnel.endpoint = EndpointId(2);
    store.commit_history(&history(1, 0, vec![minute("aaaa0001", 0), server, elsewhere])).unwrap();
    // A second part of a tunnel's minute is no second tunnel.
    store.commit_history(&history(2, 0, vec![minute("aaaa0001", 0)])).unwrap();
    let sql = |table: &str| {
        format!(
            "SELECT endpoint_id || ':' || tunnels || ',' || delta_tcp_in || ',' || avg_tcps || ',' || record_count AS value \
             FROM {table} ORDER BY endpoint_id, record_time"
        )
    };
    assert_eq!(database.texts(&sql("history_minute_totals")), ["0:1,2,1,24", "0:1,1,1,12", "1:2,3,2,36", "2:1,1,1,12"]);
    for table in ["history_hour_totals", "history_day_totals"] {
        assert_eq!(database.texts(&sql(table)), ["0:2,3,2,36", "1:2,3,2,36", "2:1,1,1,12"], "{table}");
    }
}

pub fn hours_and_days_follow_the_zone_and_the_day_of_a_change_is_marked(database: &TestDatabase) {
    let mut store = open(database);
    // Noon of UTC is half past five in the afternoon of Kolkata.
    store.set_timezone(chrono_tz::Tz::Asia__Kolkata, NOON).unwrap();
    store.commit_history(&history(1, 0, vec![minute("aaaa0001", 0), minute("aaaa0001", 29), minute("aaaa0001", 30)])).unwrap();
    let hours =
        "SELECT (record_time / 60000000 - 29923920) || ':' || delta_tcp_in AS value FROM history_hours ORDER BY record_time";
    assert_eq!(database.texts(hours), ["-30:2", "30:1"]);
    let days = "SELECT (record_time / 60000000 - 29923920) || ':' || delta_tcp_in || CASE WHEN zone_changed THEN '!' ELSE '' END \
                AS value FROM history_days ORDER BY record_time";
    assert_eq!(database.texts(days), ["-1050:3"]);
    // The same zone again changes nothing; another one from the next full minute on.
    store.set_timezone(chrono_tz::Tz::Asia__Kolkata, NOON).unwrap();
    store.set_timezone(chrono_tz::Tz::UTC, Timestamp(NOON.0 + 39 * Timestamp::MINUTE + 5)).unwrap();
    assert_eq!(database.texts(days), ["-1050:3!"]);
    store.commit_history(&history(2, 0, vec![minute("aaaa0001", 39), minute("aaaa0001", 40), minute("aaaa0001", 721)])).unwrap();
    assert_eq!(database.texts(hours), ["-30:2", "30:3", "720:1"]);
    assert_eq!(database.texts(days), ["-1050:5!", "720:1"]);
}

pub fn accounts_add_up_from_batch_to_batch(database: &TestDatabase) {
    let mut store = open(database);
    let bytes = |tcp_rx| Counters { tcp_rx, ..Counters::default() };
    let account = |from, to, open| Account { tunnel: tunnel("aaaa0001"), from: bytes(from), to: bytes(to), open: bytes(open) };
    let mut first = history(1, 1, Vec::new());
    first.accounts = vec![account(100, 250, 20)];
    store.commit_history(&first).unwrap();
    let mut second = history(2, 2, Vec::new());
    second.accounts = vec![account(250, 240, 0), account(900, 905, 5)];
    store.commit_history(&second).unwrap();
    store.commit_history(&second).unwrap();
    let sql = "SELECT risen_tcp_rx || ',' || closing_tcp_rx || ',' || open_tcp_rx AS value FROM history_accounts";
    assert_eq!(database.texts(sql), ["145,905,5"]);
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
        counted: Counters::default(),
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
