//! One suite for both databases: whatever the store promises holds on SQLite files and on a real PostgreSQL server alike.

mod postgres;
#[path = "store_suite/sample.rs"]
mod sample;

use std::sync::Arc;

use postgres::TestDatabase;
use sample::{NOON, at, batch, endpoint, event, gap, history, info, minute, open, tunnel, update};
use tidegate::clock::SystemClock;
use tidegate::endpoint::{ApiKey, EndpointHealth, EndpointStatus, TlsPolicy};
use tidegate::event::{Counters, EndpointId, InstanceConfig, Record};
use tidegate::id::EventId;
use tidegate::redact::Redacted;
use tidegate::store::{
    Committed, CounterEvent, DieselStore, EndpointChange, EventBatch, FlushCause, HistoryRow, LiveChanges, PingStats,
    ReadConnection, Store, StoreErrorKind, TunnelFilter, migrate,
};

/// Makes of each function one test per database.
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        mod on_sqlite {
            $($(#[$attribute])* #[test] fn $name() { super::$name(&super::TestDatabase::sqlite()); })*
        }
        mod on_postgres {
            $($(#[$attribute])* #[test] fn $name() { super::$name(&super::TestDatabase::postgres()); })*
        }
    };
}

on_both_databases!(
    a_batch_is_stored_with_its_flush,
    a_batch_that_was_stored_is_not_stored_again,
    ids_that_are_there_are_skipped_and_counted,
    a_boundary_without_records_leaves_a_flush,
    flushes_stand_in_the_order_of_commits,
    a_row_that_is_refused_goes_to_quarantine_and_the_rest_is_stored,
    a_table_that_refuses_everything_is_not_the_rows_fault,
    counters_beyond_the_range_stay_at_its_end,
    a_minute_written_again_replaces_the_row,
    a_merged_minute_adds_to_what_is_stored_and_only_once,
    states_and_counter_events_are_stored_with_the_history,
    live_state_is_never_overwritten_by_something_older,
    a_removed_tunnel_is_gone_and_a_removed_endpoint_does_not_come_back,
    names_and_masters_are_unique,
    an_endpoint_is_read_as_it_was_written,
    what_an_endpoint_left_behind_stays_or_is_purged,
    all_that_was_stored_is_loaded,
    a_newer_schema_is_refused,
    a_second_recorder_is_refused_until_the_first_ends,
    people_read_without_a_recorder,
    a_nul_character_stops_nothing,
    an_older_schema_is_migrated_once,
);

fn a_batch_is_stored_with_its_flush(database: &TestDatabase) {
    let mut store = open(database);
    let mut records: Vec<Record> = (1..=250).map(update).collect();
    records.push(Record::Gap(gap(251)));
    let committed = store.commit_events(&batch(records)).unwrap();
    assert_eq!(committed, Committed { written: 251, skipped: 0, quarantined: 0 });
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 250);
    assert_eq!(database.number("SELECT count(*) AS value FROM gaps WHERE reason = 'connection_lost'"), 1);
    let row = "SELECT id || event_type || event_time || endpoint_id || instance_id || status || tcp_rx || COALESCE(ping, -1) \
               || COALESCE(logs, '-') AS value FROM endpoint_sse WHERE id = 7";
    assert_eq!(database.texts(row), [format!("7update{}1aaaa0001running703-", NOON.0 + 7_000_000 - 50)]);
    let flush = "SELECT batch || cause || first_id || ',' || last_id || ',' || rows || ',' || skipped || ',' || quarantined AS value \
                 FROM flushes";
    assert_eq!(database.texts(flush), ["eventsthreshold1,251,251,0,0"]);
    let times = "SELECT count(*) AS value FROM flushes WHERE last_received - first_received = 250000000 AND duration_us >= 0";
    assert_eq!(database.number(times), 1);
}

fn a_batch_that_was_stored_is_not_stored_again(database: &TestDatabase) {
    let mut store = open(database);
    let first = batch((1..=150).map(update).collect());
    store.commit_events(&first).unwrap();
    // Retention has deleted a row meanwhile: it must not come back.
    database.execute("DELETE FROM endpoint_sse WHERE id = 3");
    let again = EventBatch { maybe_stored: true, ..first };
    assert_eq!(store.commit_events(&again).unwrap(), Committed { written: 0, skipped: 150, quarantined: 0 });
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 149);
    assert_eq!(database.number("SELECT count(*) AS value FROM flushes"), 1);
}

fn ids_that_are_there_are_skipped_and_counted(database: &TestDatabase) {
    let mut store = open(database);
    store.commit_events(&batch((1..=10).map(update).collect())).unwrap();
    for (maybe_stored, last, written) in [(false, 250, 240), (true, 260, 10)] {
        let overlapping = EventBatch { maybe_stored, ..batch((1..=last).map(update).collect()) };
        let committed = store.commit_events(&overlapping).unwrap();
        assert_eq!(committed, Committed { written, skipped: last as u64 - written, quarantined: 0 });
    }
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 260);
}

fn a_boundary_without_records_leaves_a_flush(database: &TestDatabase) {
    let mut store = open(database);
    let mut empty = batch(Vec::new());
    empty.info.cause = FlushCause::Hourly;
    empty.info.boundary = Some(NOON);
    empty.info.skipped_boundaries = 2;
    assert_eq!(store.commit_events(&empty).unwrap(), Committed::default());
    let row = "SELECT cause || boundary || ',' || skipped_boundaries || COALESCE(first_id, -1) AS value FROM flushes";
    assert_eq!(database.texts(row), [format!("hourly{},2-1", NOON.0)]);
    let stored = store.load().unwrap();
    assert_eq!((stored.last_boundary, stored.last_flush), (Some(NOON), Some(empty.info.cut_at)));
}

fn flushes_stand_in_the_order_of_commits(database: &TestDatabase) {
    let mut store = open(database);
    for first in [10, 20, 30] {
        store.commit_events(&batch((first..first + 5).map(update).collect())).unwrap();
        store.commit_history(&history(first + 5, first + 4, vec![minute("aaaa0001", first)])).unwrap();
    }
    let rows = database.texts("SELECT batch || first_id AS value FROM flushes ORDER BY id");
    assert_eq!(rows, ["events10", "history15", "events20", "history25", "events30", "history35"]);
}

fn a_row_that_is_refused_goes_to_quarantine_and_the_rest_is_stored(database: &TestDatabase) {
    let mut store = open(database);
    refuse_where(database, "NEW.tcp_rx IN (70, 1230, 1240)");
    let committed = store.commit_events(&batch((1..=250).map(update).collect())).unwrap();
    assert_eq!(committed, Committed { written: 247, skipped: 0, quarantined: 3 });
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 247);
    let rows = database.texts("SELECT event_id || reason AS value FROM quarantine ORDER BY event_id");
    assert_eq!(rows.len(), 3, "{}", postgres::joined(&rows));
    assert!(rows[0].starts_with("7") && rows[0].contains("tide out"), "{}", rows[0]);
    let json: serde_json::Value =
        serde_json::from_str(&database.texts("SELECT \"row\" AS value FROM quarantine ORDER BY event_id")[1]).unwrap();
    assert_eq!((&json["id"], &json["tcp_rx"], &json["instance_id"]), (&123.into(), &1230.into(), &"aaaa0001".into()));
    assert_eq!(database.texts("SELECT rows || ',' || quarantined AS value FROM flushes"), ["247,3"]);
}

fn a_table_that_refuses_everything_is_not_the_rows_fault(database: &TestDatabase) {
    let mut store = open(database);
    refuse_where(database, "true");
    let all = batch((1..=150).map(update).collect());
    let error = store.commit_events(&all).unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (StoreErrorKind::Unavailable, false), "{error}");
    assert_eq!(database.number("SELECT (SELECT count(*) FROM quarantine) + (SELECT count(*) FROM flushes) AS value"), 0);
    database.execute(match database {
        TestDatabase::Sqlite(_) => "DROP TRIGGER refuse",
        TestDatabase::Postgres(_) => "DROP TRIGGER refuse ON endpoint_sse",
    });
    assert_eq!(store.commit_events(&all).unwrap().written, 150);
}

/// Lets a trigger refuse rows, with words that no list of known errors holds.
fn refuse_where(database: &TestDatabase, condition: &str) {
    database.execute(&match database {
        TestDatabase::Sqlite(_) => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON endpoint_sse WHEN {condition} BEGIN SELECT RAISE(ABORT, 'tide out'); END"
        ),
        TestDatabase::Postgres(_) => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'tide out'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON endpoint_sse FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
        ),
    });
}

fn counters_beyond_the_range_stay_at_its_end(database: &TestDatabase) {
    let mut store = open(database);
    let mut huge = event(1);
    huge.sample.as_mut().unwrap().counters = Counters { tcp_rx: u64::MAX, tcp_tx: 1 << 63, udp_rx: (1 << 63) - 1, udp_tx: 0 };
    store.commit_events(&batch(vec![Record::Event(huge)])).unwrap();
    let sql =
        "SELECT count(*) AS value FROM endpoint_sse WHERE tcp_rx = 9223372036854775807 AND tcp_tx = tcp_rx AND udp_rx = tcp_rx";
    assert_eq!(database.number(sql), 1);
}

fn a_minute_written_again_replaces_the_row(database: &TestDatabase) {
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

fn a_merged_minute_adds_to_what_is_stored_and_only_once(database: &TestDatabase) {
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

fn states_and_counter_events_are_stored_with_the_history(database: &TestDatabase) {
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

fn live_changes(instance: &str, rx: u64, id: i64) -> LiveChanges {
    let config = InstanceConfig { alias: Redacted::from_store(&format!("alias {id}")), ..sample::config() };
    let sample = tidegate::event::Sample { counters: Counters { tcp_rx: rx, ..Counters::default() }, ..sample::reported() };
    LiveChanges {
        configs: vec![(tunnel(instance), Arc::new(config), EventId(id))],
        samples: vec![(tunnel(instance), sample, at(id), EventId(id))],
        ..LiveChanges::default()
    }
}

fn live_state_is_never_overwritten_by_something_older(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    for (rx, id) in [(100, 10), (50, 9), (70, 10), (300, 12)] {
        store.sync_live(&live_changes("aaaa0001", rx, id)).unwrap();
    }
    let stored = store.load().unwrap();
    let [(key, state)] = stored.tunnels.as_slice() else { panic!("{:?}", stored.tunnels) };
    assert_eq!((key, state.last_event, state.sample.counters.tcp_rx), (&tunnel("aaaa0001"), EventId(12), 300));
    assert_eq!((state.config.alias.as_str(), state.seen_at), ("alias 12", at(12)));
    // Twice in one change: the later one counts.
    let mut twice = live_changes("aaaa0001", 500, 14);
    twice.samples.extend(live_changes("aaaa0001", 400, 13).samples);
    store.sync_live(&twice).unwrap();
    assert_eq!(store.load().unwrap().tunnels[0].1.sample.counters.tcp_rx, 500);
}

fn a_removed_tunnel_is_gone_and_a_removed_endpoint_does_not_come_back(database: &TestDatabase) {
    let mut store = open(database);
    let id = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    store.sync_live(&live_changes("aaaa0002", 1, 2)).unwrap();
    store.sync_live(&LiveChanges { removed: vec![(tunnel("aaaa0001"), NOON)], ..LiveChanges::default() }).unwrap();
    assert_eq!(database.texts("SELECT instance_id AS value FROM tunnels"), ["aaaa0002"]);
    store.remove_endpoint(id, false, NOON).unwrap();
    store.remove_endpoint(id, false, NOON).unwrap();
    // A sync that was on its way.
    let mut late = live_changes("aaaa0002", 9, 9);
    late.endpoints = vec![(id, EndpointHealth::default())];
    store.sync_live(&late).unwrap();
    assert_eq!(store.load().unwrap().tunnels, []);
    // Its number is not given again: its history stands under it.
    assert_ne!(store.add_endpoint(&endpoint("tokyo"), NOON).unwrap(), id);
}

fn names_and_masters_are_unique(database: &TestDatabase) {
    let mut store = open(database);
    let tokyo = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let osaka = store.add_endpoint(&endpoint("osaka"), NOON).unwrap();
    let error = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    let seen = EndpointChange { master_id: Some("00ff00ff00ff00ff".to_owned()), ..EndpointChange::default() };
    store.change_endpoint(tokyo, &seen, NOON).unwrap();
    store.change_endpoint(tokyo, &seen, NOON).unwrap();
    let error = store.change_endpoint(osaka, &seen, NOON).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    assert!(error.message.contains("`tokyo`"), "{error}");
    let error = store.change_endpoint(EndpointId(99), &EndpointChange::default(), NOON).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    assert_eq!(store.load().unwrap().endpoints.len(), 2);
}

fn an_endpoint_is_read_as_it_was_written(database: &TestDatabase) {
    let mut store = open(database);
    let mut new = endpoint("tokyo");
    new.tls = TlsPolicy::VerifyWith("/etc/ca.pem".into());
    new.log_events = Some(false);
    let id = store.add_endpoint(&new, NOON).unwrap();
    let health = EndpointHealth {
        status: EndpointStatus::Fail,
        reason: "the API key was not accepted".to_owned(),
        since: at(5),
        last_heard: Some(at(4)),
        version: Some("v1.14.0".to_owned()),
    };
    store.sync_live(&LiveChanges { endpoints: vec![(id, health.clone())], ..LiveChanges::default() }).unwrap();
    let (read, read_health) = store.load().unwrap().endpoints.remove(0);
    assert_eq!((&read.name, &read.url, &read.api_key, &read.tls), (&new.name, &new.url, &new.api_key, &new.tls));
    assert_eq!((read.id, read.paused, read.log_events, &read.master_id, read_health), (id, false, Some(false), &None, health));
    let change = EndpointChange {
        url: Some("https://other.example:8443/x/y".parse().unwrap()),
        api_key: Some(ApiKey::new("rotated")),
        tls: Some(TlsPolicy::Pin(None)),
        paused: Some(true),
        log_events: Some(None),
        master_id: None,
    };
    store.change_endpoint(id, &change, at(9)).unwrap();
    let read = store.load().unwrap().endpoints.remove(0).0;
    assert_eq!((Some(read.url), Some(read.api_key), Some(read.tls)), (change.url, change.api_key, change.tls));
    assert_eq!((read.paused, read.log_events), (true, None));
}

fn what_an_endpoint_left_behind_stays_or_is_purged(database: &TestDatabase) {
    let mut store = open(database);
    let tokyo = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let osaka = store.add_endpoint(&endpoint("osaka"), NOON).unwrap();
    // More than one step of a purge, and rows of the other endpoint among them.
    let mixed = (1..=25_000).map(|id| match update(id) {
        Record::Event(event) => {
            Record::Event(tidegate::event::Event { endpoint: if id % 5 == 0 { osaka } else { tokyo }, ..event })
        }
        gap @ Record::Gap(_) => gap,
    });
    store.commit_events(&batch(mixed.chain([Record::Gap(gap(25_001))]).collect())).unwrap();
    store.commit_history(&history(25_002, 25_000, (0..30).map(|n| minute("aaaa0001", n)).collect())).unwrap();
    let left = "SELECT (SELECT count(*) FROM endpoint_sse) + (SELECT count(*) FROM service_history) + (SELECT count(*) FROM gaps) AS value";
    store.remove_endpoint(tokyo, false, NOON).unwrap();
    assert_eq!(database.number(left), 25_031);
    store.remove_endpoint(tokyo, true, NOON).unwrap();
    assert_eq!(database.number(left), 5_000);
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse WHERE endpoint_id = 2"), 5_000);
}

fn all_that_was_stored_is_loaded(database: &TestDatabase) {
    let mut store = open(database);
    let id = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    assert_eq!(id, EndpointId(1));
    let nothing = store.load().unwrap();
    assert_eq!((nothing.highest_id, nothing.history_through, nothing.last_boundary), (EventId::ZERO, EventId::ZERO, None));
    let changes = LiveChanges {
        configs: vec![(tunnel("aaaa0001"), Arc::new(sample::config()), EventId(3))],
        samples: vec![(tunnel("aaaa0001"), sample::reported(), at(4), EventId(4))],
        ..LiveChanges::default()
    };
    store.sync_live(&changes).unwrap();
    assert_eq!(store.load().unwrap().highest_id, EventId(4));
    store.commit_events(&batch(vec![update(5), Record::Gap(gap(6))])).unwrap();
    store.commit_history(&history(8, 7, vec![minute("aaaa0001", 0)])).unwrap();
    drop(store);
    let stored = open(database).load().unwrap();
    let [(key, state)] = stored.tunnels.as_slice() else { panic!("{:?}", stored.tunnels) };
    assert_eq!((key, &*state.config, &state.sample), (&tunnel("aaaa0001"), &sample::config(), &sample::reported()));
    assert_eq!((state.seen_at, state.last_event), (at(4), EventId(4)));
    assert_eq!((stored.highest_id, stored.history_through, stored.last_flush), (EventId(8), EventId(7), Some(info().cut_at)));
}

fn a_newer_schema_is_refused(database: &TestDatabase) {
    drop(open(database));
    database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000000')");
    for refused in [
        DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err(),
        ReadConnection::open(&database.url()).err(),
        migrate(&database.url()).err(),
    ] {
        let error = refused.expect("the schema is newer");
        assert_eq!(error.kind, StoreErrorKind::Fatal);
        assert!(error.message.contains("newer tidegate") && error.message.contains("20990101000000"), "{error}");
    }
}

fn a_second_recorder_is_refused_until_the_first_ends(database: &TestDatabase) {
    let first = open(database);
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("it is in use");
    assert_eq!(error.kind, StoreErrorKind::Fatal);
    assert!(error.message.contains("in use by") && error.message.contains(&format!("pid {}", std::process::id())), "{error}");
    assert_eq!(migrate(&database.url()).unwrap_err().kind, StoreErrorKind::Fatal);
    drop(first);
    open_when_released(database);
}

/// PostgreSQL releases a session's lock a moment after the client has closed it; each try asks the server anew.
fn open_when_released(database: &TestDatabase) -> DieselStore {
    for _ in 0..1_000 {
        match DieselStore::open(&database.url(), 100, Arc::new(SystemClock)) {
            Ok(store) => return store,
            Err(error) => assert!(error.message.contains("in use by"), "{error}"),
        }
    }
    panic!("the lock was not released");
}

fn people_read_without_a_recorder(database: &TestDatabase) {
    assert_eq!(ReadConnection::open(&database.url()).err().map(|error| error.kind), Some(StoreErrorKind::Fatal));
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    store.sync_live(&live_changes("aaaa0002", 2, 2)).unwrap();
    // Beside a recorder and without one.
    for store in [Some(store), None] {
        let mut reader = ReadConnection::open(&database.url()).unwrap();
        let endpoints = reader.endpoints().unwrap();
        assert_eq!((endpoints[0].name.as_str(), endpoints[0].status.as_str()), ("tokyo", "OFFLINE"));
        assert!(!serde_json::to_string(&endpoints).unwrap().contains("fa4ec0de"));
        assert_eq!(reader.tunnels(&TunnelFilter::default()).unwrap().len(), 2);
        let by_alias = TunnelFilter { alias: Some("alias 2".to_owned()), endpoint: Some("tokyo".to_owned()), instance: None };
        let found = reader.tunnels(&by_alias).unwrap();
        assert_eq!((found.len(), found[0].instance_id.as_str(), found[0].tcp_rx), (1, "aaaa0002", 2));
        let none = TunnelFilter { instance: Some("aaaa0003".to_owned()), ..TunnelFilter::default() };
        assert_eq!(reader.tunnels(&none).unwrap(), []);
        drop(store);
    }
}

fn a_nul_character_stops_nothing(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let mut with_nul = event(2);
    with_nul.logs = Some(Redacted::from_store("a\0b"));
    let committed = store.commit_events(&batch(vec![update(1), Record::Event(with_nul.clone()), update(3)])).unwrap();
    let quarantined = u64::from(matches!(database, TestDatabase::Postgres(_)));
    assert_eq!(committed, Committed { written: 3 - quarantined, skipped: 0, quarantined });
    with_nul.id = EventId(4);
    assert_eq!(store.commit_events(&batch(vec![Record::Event(with_nul)])).unwrap().quarantined, quarantined);
    let mut changes = live_changes("aaaa0001", 1, 5);
    changes.configs[0].1 = Arc::new(InstanceConfig { alias: Redacted::from_store("a\0b"), ..InstanceConfig::default() });
    store.sync_live(&changes).unwrap();
    assert_eq!(store.load().unwrap().tunnels[0].1.config.alias.as_str(), "a\u{fffd}b");
}

fn an_older_schema_is_migrated_once(database: &TestDatabase) {
    let ran = migrate(&database.url()).unwrap();
    assert!(!ran.is_empty());
    assert_eq!(migrate_when_released(database), Vec::<String>::new());
}

fn migrate_when_released(database: &TestDatabase) -> Vec<String> {
    (0..1_000).find_map(|_| migrate(&database.url()).ok()).expect("the lock is released")
}

#[test]
fn both_databases_have_the_same_tables_and_columns() {
    let (sqlite, server) = (TestDatabase::sqlite(), TestDatabase::postgres());
    for database in [&sqlite, &server] {
        migrate(&database.url()).unwrap();
    }
    let of_sqlite = "SELECT m.name || '.' || p.name || ' ' || \
         CASE WHEN m.type = 'view' THEN '' WHEN p.type = 'BIGINT' OR (p.pk = 1 AND m.name <> 'endpoints' AND p.name = 'id') THEN 'bigint' \
         ELSE lower(p.type) END || CASE WHEN p.\"notnull\" OR m.type = 'view' THEN '' ELSE ' null' END \
         || CASE WHEN p.pk > 0 THEN ' key' || p.pk ELSE '' END AS value \
         FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%' \
         AND m.name NOT LIKE '__diesel%'";
    let of_postgres = "SELECT c.table_name || '.' || c.column_name || ' ' || CASE WHEN t.table_type = 'VIEW' THEN '' ELSE c.data_type END \
         || CASE WHEN c.is_nullable = 'NO' OR t.table_type = 'VIEW' THEN '' ELSE ' null' END \
         || COALESCE((SELECT ' key' || k.ordinal_position FROM information_schema.key_column_usage k \
            JOIN information_schema.table_constraints tc USING (constraint_schema, constraint_name) \
            WHERE tc.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name), '') AS value \
         FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) \
         WHERE c.table_schema = 'public' AND c.table_name NOT LIKE '\\_\\_diesel%'";
    let (mut of_sqlite, mut of_postgres) = (sqlite.texts(of_sqlite), server.texts(of_postgres));
    of_sqlite.sort();
    of_postgres.sort();
    assert!(of_sqlite.len() > 100, "{}", postgres::joined(&of_sqlite));
    assert_eq!(of_sqlite, of_postgres);
}

#[test]
fn a_new_sqlite_file_gives_space_back_and_syncs_every_commit() {
    let database = TestDatabase::sqlite();
    let _store = open(&database);
    // 2 is INCREMENTAL.
    assert_eq!(database.number("SELECT auto_vacuum AS value FROM pragma_auto_vacuum"), 2);
    assert_eq!(database.texts("SELECT journal_mode AS value FROM pragma_journal_mode"), ["wal"]);
}

#[test]
fn another_writer_of_an_sqlite_file_makes_it_unavailable_until_it_ends() {
    let database = TestDatabase::sqlite();
    let mut store = open(&database);
    let mut other = database.connect();
    other.execute("BEGIN IMMEDIATE");
    let all = batch((1..=10).map(update).collect());
    let error = store.commit_events(&all).unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (StoreErrorKind::Unavailable, false));
    assert!(error.message.contains("locked"), "{error}");
    other.execute("ROLLBACK");
    assert_eq!(store.commit_events(&all).unwrap().written, 10);
}

#[test]
fn a_killed_session_is_replaced_and_takes_the_lock_again() {
    let database = TestDatabase::postgres();
    let mut store = open(&database);
    let kill = "SELECT count(pg_terminate_backend(pid)) AS value FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name LIKE 'tidegate%'";
    store.commit_events(&batch((1..=10).map(update).collect())).unwrap();
    assert_eq!(database.number(kill), 1);
    // The first call finds out, and nothing of it was stored.
    let second = batch((11..=20).map(update).collect());
    let error = store.commit_events(&second).unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (StoreErrorKind::Unavailable, false), "{error}");
    assert_eq!(store.commit_events(&second).unwrap().written, 10);
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("the lock was taken again");
    assert!(error.message.contains("in use by"), "{error}");
}

#[test]
fn a_commit_whose_answer_is_lost_is_in_doubt() {
    let database = TestDatabase::postgres();
    let mut store = open(&database);
    // A deferred trigger runs inside COMMIT and ends the session there.
    database.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$; \
         CREATE CONSTRAINT TRIGGER die AFTER INSERT ON flushes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
    );
    let all = batch((1..=10).map(update).collect());
    let error = store.commit_events(&all).unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (StoreErrorKind::Unavailable, true), "{error}");
    database.execute("DROP TRIGGER die ON flushes");
    let again = EventBatch { maybe_stored: true, ..all };
    assert_eq!(store.commit_events(&again).unwrap().written, 10);
}

#[test]
fn a_recorder_that_took_over_meanwhile_is_not_written_beside() {
    let database = TestDatabase::postgres();
    let mut store = open(&database);
    database.number(
        "SELECT count(pg_terminate_backend(pid)) AS value FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name LIKE 'tidegate%'",
    );
    let _other = open_when_released(&database);
    let all = batch((1..=10).map(update).collect());
    for _ in 0..2 {
        store.commit_events(&all).unwrap_err();
    }
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 0);
}

#[test]
fn a_wrong_password_or_database_or_missing_rights_are_fatal_and_a_silent_server_is_not() {
    let database = TestDatabase::postgres();
    let role = format!("role_{}", database.url_text().rsplit("tidegate_test_").next().unwrap().split('?').next().unwrap());
    postgres::admin(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'"));
    let as_role = |password: &str| {
        let text = database.url_text();
        let (_, behind) = text.split_once("://").unwrap();
        let behind = behind.rsplit_once('@').map_or(behind, |(_, behind)| behind);
        format!("postgres://{role}:{password}@{behind}")
    };
    let kind_of = |url: &str| {
        let error = DieselStore::open(&url.parse().unwrap(), 100, Arc::new(SystemClock)).err().expect("it cannot be opened");
        assert!(!error.message.contains("wr0ng"), "{error}");
        (error.kind, error.message)
    };
    let missing = postgres::with_database(postgres::server(), "tidegate_no_such_database");
    for url in [as_role("wr0ng"), as_role("right"), missing] {
        let (kind, message) = kind_of(&url);
        assert_eq!(kind, StoreErrorKind::Fatal, "{message}");
    }
    let (kind, message) = kind_of("postgres://tide:wr0ng@127.0.0.1:1/tide");
    assert_eq!(kind, StoreErrorKind::Unavailable, "{message}");
    drop(database);
    postgres::admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_file_that_is_something_else_is_fatal() {
    let database = TestDatabase::sqlite();
    let path = database.url().sqlite_path().unwrap().to_owned();
    std::fs::write(&path, "this is a letter, and a long one, and not a database at all".repeat(100)).unwrap();
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("it is no database");
    assert_eq!(error.kind, StoreErrorKind::Fatal, "{error}");
    std::fs::remove_file(&path).unwrap();
    database.execute("CREATE TABLE endpoints (id INTEGER)");
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("its tables are another program's");
    assert_eq!(error.kind, StoreErrorKind::Fatal, "{error}");
    assert!(error.message.contains("database of its own"), "{error}");
}

#[test]
fn times_of_receipt_are_kept_by_the_flush() {
    let database = TestDatabase::sqlite();
    let mut store = open(&database);
    store.commit_events(&batch((3..=5).map(update).collect())).unwrap();
    let times = "SELECT first_received || ',' || last_received AS value FROM flushes";
    assert_eq!(database.texts(times), [format!("{},{}", at(3).0, at(5).0)]);
}
