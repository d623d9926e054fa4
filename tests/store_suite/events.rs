//! Batches of records: stored once, in order, with their `flushes` row, and without the rows that are refused.

use std::sync::Arc;

use tidegate::event::{Counters, InstanceConfig, Record};
use tidegate::id::EventId;
use tidegate::redact::Redacted;
use tidegate::store::{Committed, EventBatch, FlushCause, Store, StoreErrorKind};

use crate::postgres::{self, TestDatabase};
use crate::sample::{NOON, at, batch, endpoint, event, gap, history, live_changes, minute, open, update};

pub fn a_batch_is_stored_with_its_flush(database: &TestDatabase) {
    let mut store = open(database);
    let mut records: Vec<Record> = (1..=250).map(update).collect();
    records.push(Record::Gap(gap(251)));
    let committed = store.commit_events(&batch(records)).unwrap();
    assert_eq!(committed, Committed { written: 251, skipped: 0, quarantined: 0, ..Committed::default() });
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

pub fn a_batch_that_was_stored_is_not_stored_again(database: &TestDatabase) {
    let mut store = open(database);
    let first = batch((1..=150).map(update).collect());
    store.commit_events(&first).unwrap();
    // Retention has deleted a row meanwhile: it must not come back.
    database.execute("DELETE FROM endpoint_sse WHERE id = 3");
    let again = EventBatch { maybe_stored: true, ..first };
    assert_eq!(
        store.commit_events(&again).unwrap(),
        Committed { written: 0, skipped: 150, quarantined: 0, ..Committed::default() }
    );
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 149);
    assert_eq!(database.number("SELECT count(*) AS value FROM flushes"), 1);
}

pub fn ids_that_are_there_are_skipped_and_counted(database: &TestDatabase) {
    let mut store = open(database);
    store.commit_events(&batch((1..=10).map(update).collect())).unwrap();
    for (maybe_stored, last, written) in [(false, 250, 240), (true, 260, 10)] {
        let overlapping = EventBatch { maybe_stored, ..batch((1..=last).map(update).collect()) };
        let committed = store.commit_events(&overlapping).unwrap();
        assert_eq!(committed, Committed { written, skipped: last as u64 - written, quarantined: 0, ..Committed::default() });
    }
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 260);
}

pub fn a_boundary_without_records_leaves_a_flush(database: &TestDatabase) {
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

pub fn flushes_stand_in_the_order_of_commits(database: &TestDatabase) {
    let mut store = open(database);
    for first in [10, 20, 30] {
        store.commit_events(&batch((first..first + 5).map(update).collect())).unwrap();
        store.commit_history(&history(first + 5, first + 4, vec![minute("aaaa0001", first)])).unwrap();
    }
    let rows = database.texts("SELECT batch || first_id AS value FROM flushes ORDER BY id");
    assert_eq!(rows, ["events10", "history15", "events20", "history25", "events30", "history35"]);
}

pub fn a_row_that_is_refused_goes_to_quarantine_and_the_rest_is_stored(database: &TestDatabase) {
    let mut store = open(database);
    refuse_where(database, "NEW.tcp_rx IN (70, 1230, 1240)");
    let committed = store.commit_events(&batch((1..=250).map(update).collect())).unwrap();
    assert_eq!(committed, Committed { written: 247, skipped: 0, quarantined: 3, ..Committed::default() });
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse"), 247);
    let rows = database.texts("SELECT event_id || reason AS value FROM quarantine ORDER BY event_id");
    assert_eq!(rows.len(), 3, "{}", postgres::joined(&rows));
    assert!(rows[0].starts_with("7") && rows[0].contains("tide out"), "{}", rows[0]);
    let json: serde_json::Value =
        serde_json::from_str(&database.texts("SELECT \"row\" AS value FROM quarantine ORDER BY event_id")[1]).unwrap();
    assert_eq!((&json["id"], &json["tcp_rx"], &json["instance_id"]), (&123.into(), &1230.into(), &"aaaa0001".into()));
    assert_eq!(database.texts("SELECT rows || ',' || quarantined AS value FROM flushes"), ["247,3"]);
}

pub fn a_table_that_refuses_everything_is_not_the_rows_fault(database: &TestDatabase) {
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

pub fn counters_beyond_the_range_stay_at_its_end(database: &TestDatabase) {
    let mut store = open(database);
    let mut huge = event(1);
    huge.sample.as_mut().unwrap().counters = Counters { tcp_rx: u64::MAX, tcp_tx: 1 << 63, udp_rx: (1 << 63) - 1, udp_tx: 0 };
    store.commit_events(&batch(vec![Record::Event(huge)])).unwrap();
    let sql =
        "SELECT count(*) AS value FROM endpoint_sse WHERE tcp_rx = 9223372036854775807 AND tcp_tx = tcp_rx AND udp_rx = tcp_rx";
    assert_eq!(database.number(sql), 1);
}

pub fn a_nul_character_stops_nothing(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let mut with_nul = event(2);
    with_nul.logs = Some(Redacted::from_store("a\0b"));
    let committed = store.commit_events(&batch(vec![update(1), Record::Event(with_nul.clone()), update(3)])).unwrap();
    let quarantined = u64::from(matches!(database, TestDatabase::Postgres(_)));
    assert_eq!(committed, Committed { written: 3 - quarantined, skipped: 0, quarantined, ..Committed::default() });
    with_nul.id = EventId(4);
    assert_eq!(store.commit_events(&batch(vec![Record::Event(with_nul)])).unwrap().quarantined, quarantined);
    let mut changes = live_changes("aaaa0001", 1, 5);
    changes.configs[0].1 = Arc::new(InstanceConfig { alias: Redacted::from_store("a\0b"), ..InstanceConfig::default() });
    store.sync_live(&changes).unwrap();
    assert_eq!(store.load().unwrap().tunnels[0].1.config.alias.as_str(), "a\u{fffd}b");
}

#[test]
fn times_of_receipt_are_kept_by_the_flush() {
    let database = TestDatabase::sqlite();
    let mut store = open(&database);
    store.commit_events(&batch((3..=5).map(update).collect())).unwrap();
    let times = "SELECT first_received || ',' || last_received AS value FROM flushes";
    assert_eq!(database.texts(times), [format!("{},{}", at(3).0, at(5).0)]);
}

pub fn a_statement_takes_one_row_or_a_thousand_and_nothing_beyond(database: &TestDatabase) {
    let mut store = open(database);
    let mut first = 1;
    for batch_size in [0, 1, 1_000, usize::MAX] {
        store.set_batch_size(batch_size);
        let part = EventBatch { maybe_stored: true, ..batch((first..first + 2_500).map(update).collect()) };
        assert_eq!(store.commit_events(&part).unwrap().written, 2_500, "{batch_size}");
        let rows = (0..1_500).map(|n| minute("aaaa0001", first + n)).collect();
        assert_eq!(store.commit_history(&history(first + 2_500, 0, rows)).unwrap().written, 1_500, "{batch_size}");
        first += 2_501;
    }
}
