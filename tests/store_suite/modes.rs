//! Records stored one at a time, batches over them, and what is kept of the modes.

use tidegate::alerts::{Active, Condition};
use tidegate::clock::Timestamp;
use tidegate::event::{Event, EventKind, Record};
use tidegate::id::EventId;
use tidegate::modes::StorageMode;
use tidegate::modes::usage::{Comparison, Usage};
use tidegate::store::{AlertChanges, Committed, EventBatch, LiveChanges, Overlap, Settings, Store, StoreErrorKind};

use crate::postgres::TestDatabase;
use crate::sample::{NOON, batch, config, endpoint, event, gap, live_changes, open, tunnel, update};

pub fn a_record_is_stored_with_its_tunnels_state_and_brings_no_tunnel_back(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    assert!(store.commit_single(&update(3)).unwrap());
    assert_eq!(store.load().unwrap().tunnels, [], "the sync makes tunnels");
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    let with_config = Event { config: Some(config().into()), ..event(5) };
    for record in [Record::Event(with_config), update(4), Record::Gap(gap(6))] {
        assert!(store.commit_single(&record).unwrap());
    }
    assert!(!store.commit_single(&update(4)).unwrap(), "it is there");
    let stored = store.load().unwrap();
    let (_, state) = &stored.tunnels[0];
    assert_eq!((state.last_event, state.sample.counters.tcp_rx), (EventId(5), 50), "an older record changes nothing");
    assert_eq!(*state.config, config());
    assert_eq!(stored.highest_id, EventId(6));
    // A removal that waited is the sync's, too, and what comes after one does not undo it.
    store.commit_single(&Record::Event(Event { kind: EventKind::Delete, ..event(7) })).unwrap();
    assert_eq!(store.load().unwrap().tunnels.len(), 1);
    store.sync_live(&LiveChanges { removed: vec![(tunnel("aaaa0001"), NOON)], ..LiveChanges::default() }).unwrap();
    store.commit_single(&update(8)).unwrap();
    assert_eq!(store.load().unwrap().tunnels, []);
    assert_eq!(database.number("SELECT COUNT(*) AS value FROM endpoint_sse"), 5);
}

pub fn a_batch_stores_what_was_left_out_and_counts_the_rest_as_stored(database: &TestDatabase) {
    let mut store = open(database);
    let mut singles: Vec<Record> = (1..=250).filter(|id| id % 3 != 0).map(update).collect();
    singles.push(Record::Gap(gap(251)));
    for record in &singles {
        store.commit_single(record).unwrap();
    }
    let overlap = Overlap { written: singles.iter().map(Record::id).collect(), ..Overlap::default() };
    let count = singles.len() as u64;
    let records: Vec<Record> = (1..=250).map(update).chain([Record::Gap(gap(251))]).collect();
    let over = EventBatch { overlap: Some(overlap), ..batch(records.clone()) };
    let committed = store.commit_events(&over).unwrap();
    assert_eq!(committed, Committed { written: 251 - count, single: count, ..Committed::default() });
    assert_eq!(database.texts("SELECT CAST(rows AS TEXT) AS value FROM flushes"), ["251"]);
    // After a commit in doubt it is told from its flush.
    let again = EventBatch { maybe_stored: true, ..over };
    assert_eq!(store.commit_events(&again).unwrap(), Committed { skipped: 251, ..Committed::default() });
    assert_eq!(database.number("SELECT COUNT(*) AS value FROM endpoint_sse"), 250);
}

pub fn a_row_that_nobody_reported_as_written_is_skipped_and_not_counted_as_single(database: &TestDatabase) {
    let mut store = open(database);
    for id in 1..=3 {
        store.commit_single(&update(id)).unwrap();
    }
    let overlap = Overlap { written: vec![EventId(1)], doubtful: 1, ..Overlap::default() };
    let over = EventBatch { overlap: Some(overlap), ..batch((1..=4).map(update).collect()) };
    assert_eq!(store.commit_events(&over).unwrap(), Committed { written: 1, single: 2, skipped: 1, ..Committed::default() });
}

pub fn a_comparison_finds_what_differs_and_what_is_missing_on_either_side(database: &TestDatabase) {
    let mut store = open(database);
    let config_and_text = Event { detail: Some("{\"alias\":\"x\"}".into()), ..event(2) };
    let records =
        vec![update(1), Record::Event(config_and_text), update(3), update(4), Record::Gap(gap(5)), update(6), update(8)];
    for record in &records[..6] {
        store.commit_single(record).unwrap();
    }
    store.commit_single(&update(7)).unwrap();
    let written = vec![EventId(1), EventId(2), EventId(3), EventId(4), EventId(5), EventId(6)];
    database.execute("UPDATE endpoint_sse SET ping = 99 WHERE id = 3");
    database.execute("DELETE FROM endpoint_sse WHERE id = 4");
    let overlap = Overlap { written, left: 1, compare: true, ..Overlap::default() };
    let committed = store.commit_events(&EventBatch { overlap: Some(overlap), ..batch(records) }).unwrap();
    let found = Comparison { identical: 4, different: 1, missing_in_realtime: 1, missing_in_batch: 1 };
    assert_eq!(committed, Committed { written: 2, single: 5, comparison: found, ..Committed::default() });
    assert_eq!(
        database.number("SELECT CAST(ping AS BIGINT) AS value FROM endpoint_sse WHERE id = 3"),
        99,
        "what is there is the truth"
    );
    assert_eq!(database.number("SELECT COUNT(*) AS value FROM endpoint_sse"), 7);
}

pub fn a_record_that_the_database_refuses_is_left_to_its_batch(database: &TestDatabase) {
    let mut store = open(database);
    database.execute(match database.url() {
        tidegate::store::DatabaseUrl::Sqlite(_) => {
            "CREATE TRIGGER refuse BEFORE INSERT ON endpoint_sse WHEN NEW.id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END"
        }
        tidegate::store::DatabaseUrl::Postgres(_) => "ALTER TABLE endpoint_sse ADD CHECK (id <> 2)",
    });
    assert!(store.commit_single(&update(1)).unwrap());
    let refused = store.commit_single(&update(2)).unwrap_err();
    assert_eq!((refused.kind, refused.in_doubt), (StoreErrorKind::Refused, false), "{refused}");
    assert!(store.commit_single(&update(3)).unwrap());
    let overlap = Overlap { written: vec![EventId(1), EventId(3)], left: 1, ..Overlap::default() };
    let over = EventBatch { overlap: Some(overlap), ..batch((1..=3).map(update).collect()) };
    assert_eq!(store.commit_events(&over).unwrap(), Committed { single: 2, quarantined: 1, ..Committed::default() });
}

pub fn settings_and_usage_are_read_as_they_were_kept(database: &TestDatabase) {
    let mut store = open(database);
    let before = store.bytes_written().expect("both databases tell");
    let usage = Usage {
        time_us: 1,
        events: 2,
        rows: 3,
        single_transactions: 4,
        batch_transactions: 5,
        live_transactions: 6,
        other_transactions: 7,
        bytes: Some(8),
        database_us: 9,
        latency_us: 10,
        latency_max_us: 11,
        left_to_batch: 12,
        compared_since: Some(NOON),
        comparison: Comparison { identical: 13, different: 14, missing_in_realtime: 15, missing_in_batch: 16 },
    };
    let settings = |pairs: &[(&str, &str)]| -> Settings { pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect() };
    let first = settings(&[("storage.mode", "dual"), ("storage.batch_size", "7")]);
    store.keep_settings(&first, &[(StorageMode::Dual, usage), (StorageMode::Batched, Usage::default())]).unwrap();
    let stored = store.load().unwrap();
    assert_eq!((&stored.settings, stored.usage[&StorageMode::Dual]), (&first, usage));
    let second = settings(&[("storage.mode", "batched")]);
    store.keep_settings(&second, &[]).unwrap();
    let with_usage = EventBatch { usage: Some(Box::new((StorageMode::Batched, usage))), ..batch(vec![update(1), update(2)]) };
    store.commit_events(&with_usage).unwrap();
    let stored = store.load().unwrap();
    assert_eq!((stored.settings, stored.usage.len()), (second, 2));
    // With the rows of the batch that carries it.
    assert_eq!(stored.usage[&StorageMode::Batched], Usage { events: 4, rows: 5, ..usage });
    assert!(store.bytes_written().expect("both databases tell") > before);
}

pub fn what_people_were_told_is_read_as_it_was_kept(database: &TestDatabase) {
    let mut store = open(database);
    let alert = |kind: &str, endpoint: &str, instance: &str, text: &str| Active {
        condition: Condition::from_parts(kind, endpoint, instance).unwrap(),
        since: NOON,
        text: text.to_owned(),
    };
    let offline = alert("endpoint_offline", "東京", "", "connection refused");
    let tunnel = alert("tunnel_error", "東京", "9545ac3d", "tunnel web\0 is in error");
    let full = alert("journal_full", "", "", "the journal is nearly full");
    let told = vec![offline.clone(), full.clone(), tunnel.clone()];
    store.keep_alerts(&AlertChanges { told: told.clone(), over: Vec::new() }).unwrap();
    let kept = store.told_alerts().unwrap();
    assert_eq!(kept[..2], told[..2], "by kind and name");
    assert_eq!((&kept[2].condition, &*kept[2].text), (&tunnel.condition, "tunnel web\u{fffd} is in error"), "no NUL");
    let later = Active { since: Timestamp(NOON.0 + 1), ..offline.clone() };
    let over = vec![full.condition, tunnel.condition, Condition::FlushOverdue];
    store.keep_alerts(&AlertChanges { told: vec![later.clone()], over }).unwrap();
    assert_eq!(store.told_alerts().unwrap(), [later]);
}
