//! The journal has no room: its file system is full, or it has reached `journal.max_bytes`. What was received stays, what comes is
//! refused, counted and recorded as a gap, and all works again when there is room.
//!
//! To fill the journal the database is locked meanwhile. The masters send a number of events and then no more, so that in the
//! end received and refused must add up to what was sent. On a machine that lets nobody mount a tmpfs the actor-level
//! tests over a disk in memory remain (`src/journaling.rs`, `tests/virtual_day.rs`).

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;
#[path = "common/tmpfs.rs"]
mod tmpfs;

mod postgres;

use std::sync::Arc;

use recorder::{PATIENCE, Recorder, Setup, all_receive, flushes, number, received, segments, tail, wait};
use serde_json::Value;
use tidegate::clock::SystemClock;
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;
use tmpfs::Tmpfs;

/// Events of each master: several times what the journals of these tests hold.
const EVENTS: u64 = 12_000;
const MASTERS: u64 = 2;
/// Events of a batch.
const BATCH: u64 = 500;
/// Room for the journal in these tests.
const JOURNAL_BYTES: u64 = 1 << 20;
const INSTANCES: usize = 3;

struct Masters {
    all: Vec<LoadServer>,
    _servers: ServerThread,
}

fn masters() -> Masters {
    let servers = ServerThread::start().expect("a thread for the masters");
    let load = Load {
        version: Version::Go1_14_0,
        instances: INSTANCES,
        events: EVENTS,
        per_second: Some(2_000),
        then: AfterLoad::StayOpen,
    };
    let start = |seed| servers.run(|| LoadServer::start(load, Arc::new(SystemClock), seed).expect("a port"));
    Masters { all: (1..=MASTERS).map(start).collect(), _servers: servers }
}

fn dropped(stats: &Value, reason: &str) -> u64 {
    number(&stats["dropped"][reason])
}

/// Waits until every event that was sent is either received or refused for this reason, and returns how many of each.
fn all_decided(run: &mut Recorder, masters: &Masters, reason: &str) -> (u64, u64) {
    let sent = || masters.all.iter().flat_map(LoadServer::sent).sum::<u64>();
    let stats = run.until("every event is received or refused", |stats| {
        sent() == EVENTS * MASTERS && received(stats) + dropped(stats, reason) >= EVENTS * MASTERS
    });
    // The instances were new: each had a stored `initial` event.
    let initial = MASTERS * INSTANCES as u64;
    let (received, dropped) = (received(&stats), dropped(&stats, reason));
    assert_eq!(received + dropped, EVENTS * MASTERS + initial, "{stats:#}");
    (received, dropped)
}

/// What is stored of each master when the oldest were kept and the newest refused: a prefix, but for what lay in the bunches
/// that met the bound.
fn assert_the_oldest_were_kept(setup: &Setup, masters: &Masters) {
    let mut database = stored::connect(setup.database_url());
    for connection in stored::assert_no_repeats(&mut database, &masters.all) {
        assert!(connection.last - connection.rows < EVENTS / 4, "new events were kept and old ones refused: {connection:?}");
    }
}

/// Endpoints of which it is recorded that events were refused.
fn endpoints_with_a_gap(setup: &Setup) -> u64 {
    let sql = "SELECT count(DISTINCT endpoint_id) AS value FROM gaps WHERE reason = 'refused'";
    stored::connect(setup.database_url()).number(sql).unsigned_abs()
}

/// Fills the journal, makes room, and sees all of it.
fn fill_and_free(setup: &Setup, masters: &Masters, reason: &str) {
    let mut run = setup.start();
    run.until("it receives", |stats| all_receive(stats, masters.all.len()));
    let mut lock = stored::connect(setup.database_url());
    lock.execute("BEGIN IMMEDIATE");
    let (received_before, refused) = all_decided(&mut run, masters, reason);
    println!("{received_before} received, {refused} refused");
    assert!(received_before > EVENTS / 10 && refused > EVENTS / 10, "{received_before} received, {refused} refused");
    let stats = run.stats().expect("it answers");
    let (status, why) = run.request("GET", "/readyz").expect("it answers");
    assert_eq!(status, 503, "{why}");
    let by_endpoint = stats["endpoints"].as_array().expect("endpoints").iter();
    let by_endpoint: Vec<u64> = by_endpoint.map(|endpoint| number(&endpoint["dropped"][reason])).collect();
    assert!(by_endpoint.iter().all(|count| *count > 0) && by_endpoint.iter().sum::<u64>() == refused, "{by_endpoint:?}");

    lock.execute("ROLLBACK");
    // Also of what was kept for live state and history only, and not at the next hour but now.
    run.until("the journal is drained and has room again", |stats| {
        let storage = &stats["optimized_storage"];
        number(&storage["buffer_size"]) < BATCH && number(&storage["journal_bytes"]) < JOURNAL_BYTES / 2
    });
    run.stop_well();
    let mut database = stored::connect(setup.database_url());
    // Of the first connection: a load master falls silent when it has sent all, its list is not quite what it sent, and then it is called
    // again and begins anew.
    let updates =
        database.number("SELECT count(*) AS value FROM endpoint_sse WHERE event_type = 'update' AND tcp_tx = 1").unsigned_abs();
    let stored = updates + MASTERS * INSTANCES as u64;
    assert_eq!(stored, received_before, "what was received and nothing else is stored\n{}", tail(&setup.log()));
    assert_the_oldest_were_kept(setup, masters);
    assert_eq!(endpoints_with_a_gap(setup), MASTERS, "each endpoint's gap is recorded\n{}", tail(&setup.log()));

    // It works again: the same masters are followed once more, and batches come and go.
    let mut next = setup.start();
    let stats = next.until("events are received and stored again", |stats| flushes(stats) >= 3);
    assert_eq!(dropped(&stats, reason), 0, "{stats:#}");
    next.stop_well();
    let log = setup.log();
    assert!(!log.contains("set aside") && !log.contains("panicked"), "{}", tail(&log));
    let told = log.lines().filter(|line| line.contains("ERROR") && line.contains("journal")).count();
    assert!(told <= 12, "{told} lines of one state\n{}", tail(&log));
}

#[test]
fn when_the_disk_of_the_journal_is_full_new_events_are_refused_and_the_old_ones_stored() {
    let Some(disk) = Tmpfs::mount(JOURNAL_BYTES >> 10) else { return };
    let masters = masters();
    let setup = Setup::sqlite().masters(&masters.all);
    let setup = setup.set("journal.dir", &disk.path().join("journal").display().to_string());
    // Nothing is kept free: the disk itself says that it is full.
    let setup = setup
        .set("journal.min_free_bytes", "0")
        .set("storage.max_buffer_size", &BATCH.to_string())
        .set("cache.sync_interval", "1s");
    fill_and_free(&setup, &masters, "disk_full");
}

#[test]
fn when_less_than_the_minimum_is_free_new_events_are_refused_and_others_can_use_the_rest() {
    let Some(disk) = Tmpfs::mount(JOURNAL_BYTES >> 9) else { return };
    let masters = masters();
    let setup = Setup::sqlite().masters(&masters.all);
    let setup = setup.set("journal.dir", &disk.path().join("journal").display().to_string());
    let setup = setup
        .set("journal.min_free_bytes", "1 MiB")
        .set("storage.max_buffer_size", &BATCH.to_string())
        .set("cache.sync_interval", "1s");
    fill_and_free(&setup, &masters, "disk_full");
}

#[test]
fn when_the_journal_has_reached_its_bound_the_oldest_are_kept_and_the_newest_refused() {
    let masters = masters();
    let setup = Setup::sqlite().masters(&masters.all);
    let setup = setup
        .set("journal.max_bytes", &JOURNAL_BYTES.to_string())
        .set("storage.max_buffer_size", &BATCH.to_string())
        .set("cache.sync_interval", "1s");
    fill_and_free(&setup, &masters, "journal_full");
    assert!(setup.log().contains("journal.max_bytes"), "the log warns before it is full\n{}", tail(&setup.log()));
}

/// Killed on a full disk and started again on it: what was received comes back whole.
#[test]
fn killed_on_a_full_disk_it_starts_again_and_stores_what_it_had() {
    let Some(disk) = Tmpfs::mount(JOURNAL_BYTES >> 10) else { return };
    let masters = masters();
    let setup = Setup::sqlite().masters(&masters.all);
    let setup = setup.set("journal.dir", &disk.path().join("journal").display().to_string());
    let setup = setup
        .set("journal.min_free_bytes", "0")
        .set("storage.max_buffer_size", &BATCH.to_string())
        .set("cache.sync_interval", "1s");
    let mut run = setup.start();
    run.until("it receives", |stats| all_receive(stats, masters.all.len()));
    let mut lock = stored::connect(setup.database_url());
    lock.execute("BEGIN IMMEDIATE");
    let (received_before, _) = all_decided(&mut run, &masters, "disk_full");
    run.kill();
    let ballast = disk.fill();
    lock.execute("ROLLBACK");
    let next = setup.start();
    let drained = wait(PATIENCE, || (stored::rows(&mut stored::connect(setup.database_url())) >= received_before).then_some(()));
    assert!(drained.is_some(), "what was received before is not stored\n{}", tail(&setup.log()));
    drop(ballast);
    next.kill();
    let mut third = setup.start();
    third.until("the journal has room again", |stats| number(&stats["optimized_storage"]["journal_bytes"]) < JOURNAL_BYTES / 2);
    third.stop_well();
    // The masters send anew to who connects anew.
    let mut last = setup.start();
    last.until("it receives again", |stats| received(stats) > 0);
    last.stop_well();
    stored::assert_no_repeats(&mut stored::connect(setup.database_url()), &masters.all);
    assert!(segments(&setup.journal()).is_empty());
}

/// A journal that is small beside what waits for the hourly hand-over of history does not refuse events while the database works.
#[test]
fn a_small_journal_refuses_nothing_while_the_database_works() {
    let masters = masters();
    let setup = Setup::sqlite().masters(&masters.all);
    let setup = setup
        .set("journal.max_bytes", "4 MiB")
        .set("storage.max_buffer_size", &BATCH.to_string())
        .set("cache.sync_interval", "1s");
    let mut run = setup.start();
    // More than the journal holds, bunch by bunch.
    run.until("everything is received", |stats| {
        assert_eq!(dropped(stats, "journal_full"), 0, "{stats:#}");
        received(stats) >= EVENTS * MASTERS
    });
    run.stop_well();
    stored::assert_prefixes(&mut stored::connect(setup.database_url()), &masters.all);
}
