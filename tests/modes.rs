//! Modes are switched at random under load, with the real binary, in SQLite and in PostgreSQL: with kills in between, with the
//! database away, and back again at the worst moment. Every event is counted: what was received is stored once, in order.
//!
//! After a kill the journal is flushed first, also the batches that were committed already and whose segments were still needed:
//! those are replays, and their rows are what `rows_skipped` may count.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;

mod postgres;

use std::sync::Arc;

use nix::sys::signal::Signal;
use postgres::TestDatabase;
use recorder::{Recorder, Setup, number, received, tail};
use serde_json::Value;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;

/// Kills in a test.
const KILLS: u32 = 6;
const MODES: [&str; 3] = ["realtime", "dual", "batched"];

/// Masters that never stop sending, far slower than a debug build stores one at a time.
struct Masters {
    all: Vec<LoadServer>,
    _servers: ServerThread,
}

impl Masters {
    fn start() -> Self {
        let servers = ServerThread::start().expect("a thread for the masters");
        let load =
            Load { version: Version::Go1_14_0, instances: 4, events: u64::MAX, per_second: Some(200), then: AfterLoad::StayOpen };
        let start = |seed| servers.run(|| LoadServer::start(load, Arc::new(SystemClock), seed).expect("a port"));
        Self { all: (1..=2).map(start).collect(), _servers: servers }
    }

    fn follow(&self, setup: Setup) -> Setup {
        setup.masters(&self.all).set("storage.max_buffer_size", "150").set("cache.sync_interval", "1s")
    }
}

/// `tidegate mode ... --json`, which must succeed.
fn mode(setup: &Setup, arguments: &[&str]) -> Value {
    let mut all = vec!["mode", "--json"];
    all.extend(arguments);
    let output = setup.ask(&all);
    assert!(output.status.success(), "{all:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

fn seed() -> fastrand::Rng {
    let seed = SystemClock.wall().0.unsigned_abs();
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// Nothing is there twice, nothing is missing, nothing was skipped or set aside, and no comparison found anything.
fn check(setup: &Setup, masters: &Masters, at_least: u64) {
    let mut database = stored::connect(setup.database_url());
    stored::assert_prefixes(&mut database, &masters.all);
    assert_eq!(database.number("SELECT count(*) AS value FROM quarantine"), 0);
    assert!(stored::rows(&mut database) >= at_least, "{} rows of at least {at_least}", stored::rows(&mut database));
    let sum =
        "SELECT CAST(coalesce(sum(different + missing_in_realtime + missing_in_batch), 0) AS BIGINT) AS value FROM mode_usage";
    assert_eq!(database.number(sum), 0);
    // A batch that is flushed again as a whole has no second entry, and nothing else may find its rows there.
    assert_eq!(database.number("SELECT CAST(coalesce(sum(skipped), 0) AS BIGINT) AS value FROM flushes"), 0);
    for words in ["set aside", "were in the database already", "panicked", "events are not accepted", "stands in the database"] {
        assert!(!setup.log().contains(words), "{words} in the log:\n{}", tail(&setup.log()));
    }
}

/// Events that the recorder which wrote this log found in the journal when it started.
fn replayed(log: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("of a recorder before this one; they are flushed first"));
    let words = line.map(|line| line.split_once("journal: ").expect("the journal says so").1);
    words.map_or(0, |words| words.split(' ').next().and_then(|count| count.parse().ok()).expect("a number of events"))
}

/// Asserts that nothing was skipped but what a replay explains.
fn assert_explained(setup: &Setup, log_before: usize, stats: &Value) {
    let (skipped, explained) = (number(&stats["optimized_storage"]["rows_skipped"]), replayed(&setup.log()[log_before..]));
    assert!(skipped <= explained, "{skipped} rows were skipped, {explained} events were replayed");
}

fn switch_under_load(setup: Setup) {
    let masters = Masters::start();
    let setup = masters.follow(setup);
    let mut rng = seed();
    let mut seen = 0;
    let mut last = "batched";
    for kill in 0..=KILLS {
        let log_before = setup.log().len();
        let mut run = setup.start_and_wait();
        assert_eq!(run.until("it records", |_| true)["mode"], last, "a restart keeps the mode");
        for _ in 0..rng.u32(1..5) {
            let next = received(&run.until("it records", |_| true)) + rng.u64(20..400);
            run.until("more is received", |stats| received(stats) >= next);
            last = MODES[rng.usize(0..3)];
            assert_eq!(mode(&setup, &[last])["mode"], last);
        }
        let stats = run.until("it records", |_| true);
        assert_explained(&setup, log_before, &stats);
        assert!(kill > 0 || replayed(&setup.log()) == 0, "nothing is replayed before the first kill");
        seen += received(&stats);
        if kill < KILLS {
            run.kill();
        } else {
            mode(&setup, &["realtime"]);
            run.until("single events are written", |stats| number(&stats["optimized_storage"]["realtime"]["written"]) > 50);
            run.stop_well();
        }
    }
    check(&setup, &masters, seen);
    // An orderly stop leaves nothing to replay, so nothing is skipped any more.
    let log_before = setup.log().len();
    let mut run = setup.start_and_wait();
    seen += more(&mut run, 300);
    assert_eq!(replayed(&setup.log()[log_before..]), 0);
    assert_explained(&setup, log_before, &run.until("it records", |_| true));
    run.stop_well();
    check(&setup, &masters, seen);
}

#[test]
fn switches_and_kills_under_load_lose_nothing_and_store_nothing_twice_in_sqlite() {
    switch_under_load(Setup::sqlite());
}

#[test]
fn switches_and_kills_under_load_lose_nothing_and_store_nothing_twice_in_postgres() {
    switch_under_load(Setup::on_database(&TestDatabase::postgres().url_text()));
}

/// Waits until so many more events are received.
fn more(run: &mut Recorder, count: u64) -> u64 {
    let before = received(&run.until("it records", |_| true));
    received(&run.until("more is received", |stats| received(stats) >= before + count))
}

/// The database is locked by somebody else: events go on being received, and nobody goes without an answer. Back and forth while
/// that is so, then SIGTERM while it still is.
#[test]
fn a_rollback_while_the_database_is_locked_holds_at_once_and_a_stop_leaves_the_rest_in_the_journal() {
    let masters = Masters::start();
    let setup = masters.follow(Setup::sqlite()).set("shutdown.deadline", "3s");
    let mut run = setup.start_and_wait();
    mode(&setup, &["dual"]);
    let before = more(&mut run, 300);
    let mut lock = stored::connect(setup.database_url());
    lock.execute("BEGIN IMMEDIATE");
    let locked = more(&mut run, 600);
    assert!(locked >= before + 600);
    let report = mode(&setup, &["realtime"]);
    assert_eq!(report["mode"], "realtime");
    assert!(report["not_kept"].as_str().is_some_and(|reason| reason.contains("locked")), "{report}");
    let stats = run.until("it shows the mode", |stats| stats["mode"] == "realtime");
    assert!(number(&stats["optimized_storage"]["realtime"]["queue_events"]) <= 1_001);
    lock.execute("ROLLBACK");
    run.until("the mode is kept", |_| mode(&setup, &[])["not_kept"].is_null());
    // Once more, and this time it stops before the database is back.
    lock.execute("BEGIN IMMEDIATE");
    let seen = more(&mut run, 300);
    mode(&setup, &["batched"]);
    run.signal(Signal::SIGTERM);
    let ended = run.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    lock.execute("ROLLBACK");
    // What could not be kept is not: it was told so.
    let mut run = setup.start_and_wait();
    assert_eq!(run.until("it records", |_| true)["mode"], "realtime");
    more(&mut run, 50);
    run.stop_well();
    check(&setup, &masters, seen);
}

#[test]
fn without_a_recorder_the_database_is_asked_and_changed_and_wins_over_the_configuration() {
    let setup = Setup::sqlite().set("storage.mode", "dual").set("storage.max_buffer_size", "700");
    setup.start_and_wait().stop_well();
    let report = mode(&setup, &[]);
    assert_eq!((&report["mode"], &report["safe_to_switch"]["safe"]), (&"dual".into(), &false.into()));
    assert_eq!(mode(&setup, &["batched", "--set", "storage.max_buffer_size=50"])["mode"], "batched");
    let mut run = setup.start_and_wait();
    let stats = run.until("it records", |_| true);
    assert_eq!((&stats["mode"], &stats["optimized_storage"]["max_buffer_size"]), (&"batched".into(), &50.into()));
    assert!(setup.log().contains("storage.mode is batched in the database and dual in the configuration"), "{}", setup.log());
    let report = mode(&setup, &["--set", "storage.max_buffer_size=", "--set", "cache.sync_interval=2s"]);
    assert_eq!(report["settings"]["storage.max_buffer_size"], serde_json::json!({"value": "700", "kept": false}));
    assert_eq!(report["settings"]["cache.sync_interval"], serde_json::json!({"value": "2s", "kept": true}));
    for (arguments, words) in [
        (["mode", "--set", "storage.flush_interval=7m"], "must divide 24 h"),
        (["mode", "--set", "retention.events=1h"], "cannot change while the recorder runs"),
        (["mode", "fast", "--json"], "invalid value"),
    ] {
        let refused = setup.ask(&arguments);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && text.contains(words), "{arguments:?}: {text}");
    }
    run.stop_well();
}

#[test]
fn a_smaller_batch_and_a_shorter_interval_take_effect_while_it_runs() {
    let masters = Masters::start();
    let setup = masters.follow(Setup::sqlite()).set("storage.max_buffer_size", "100000");
    let mut run = setup.start_and_wait();
    more(&mut run, 300);
    assert_eq!(recorder::flushes(&run.until("it records", |_| true)), 0);
    mode(&setup, &["--set", "storage.max_buffer_size=100"]);
    run.until("batches of the new size are cut", |stats| number(&stats["optimized_storage"]["flushes"]["threshold"]) >= 3);
    let next = |stats: &Value| stats["optimized_storage"]["next_boundary"].as_str().unwrap_or_default().to_owned();
    mode(&setup, &["--set", "storage.flush_interval=24h"]);
    run.until("the boundary is midnight", |stats| next(stats).contains("T00:00:00"));
    mode(&setup, &["--set", "storage.flush_interval=1m"]);
    run.until("the boundary is within a minute", |stats| !next(stats).contains("T00:00:00") || next(stats).contains(":00+"));
    run.stop_well();
    check(&setup, &masters, 300);
}
