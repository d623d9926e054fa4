//! A database that goes away in the middle.

use std::sync::Arc;

use tidegate::clock::SystemClock;
use tidegate::store::{DieselStore, EventBatch, Store, StoreErrorKind};

use crate::postgres::TestDatabase;
use crate::sample::{batch, open, open_when_released, update};

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
