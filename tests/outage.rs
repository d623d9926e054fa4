//! The database is taken away while the real binary records, and comes back: locked, full, stopped, restarted, killed in the
//! middle of a commit. Nothing is lost, nothing is stored twice, and meanwhile the recorder says how things are.
//!
//! `TIDEGATE_TEST_OUTAGE` is how long the outages last, in seconds: 8 without it, which is longer than SQLite's busy time-out and a
//! few waits of the back-off. `TIDEGATE_TEST_OUTAGE=60 cargo test --test outage` is the whole thing.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;
#[path = "common/tmpfs.rs"]
mod tmpfs;

mod postgres;

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::{Around, Cluster};
use recorder::{PATIENCE, Recorder, Setup, all_receive, flushes, number, received, tail, wait};
use serde_json::Value;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;
use tmpfs::Tmpfs;

/// Events per second and master: far below what a debug build stores, so that a backlog shrinks on a busy machine too.
const RATE: u64 = 400;
/// Events of a batch.
const BATCH: u64 = 200;
/// Events kept in memory.
const MEMORY_EVENTS: &str = "1000";
/// How much more memory the process may take while events wait: an allocator's slack, and batches on their way.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// Seconds of most outages.
const OUTAGE_SECS: u64 = 8;

/// `TIDEGATE_TEST_OUTAGE` seconds, or as long as this.
fn outage_time(seconds: u64) -> Duration {
    let seconds = std::env::var("TIDEGATE_TEST_OUTAGE").map_or(seconds, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Two masters that never stop sending.
struct Masters {
    all: Vec<LoadServer>,
    _servers: ServerThread,
}

impl Masters {
    fn start() -> Self {
        let servers = ServerThread::start().expect("a thread for the masters");
        let load = Load {
            version: Version::Go1_14_0,
            instances: 4,
            events: u64::MAX,
            per_second: Some(RATE),
            then: AfterLoad::StayOpen,
        };
        let start = |seed| servers.run(|| LoadServer::start(load, Arc::new(SystemClock), seed).expect("a port"));
        Self { all: (1..=2).map(start).collect(), _servers: servers }
    }

    fn follow(&self, setup: Setup) -> Setup {
        let batch = BATCH.to_string();
        [("storage.max_buffer_size", batch.as_str()), ("storage.memory_max_events", MEMORY_EVENTS), ("cache.sync_interval", "1s")]
            .into_iter()
            .fold(setup.masters(&self.all), |setup, (key, value)| setup.set(key, value))
    }
}

/// Starts the recorder and waits until batches are stored.
fn recording(setup: &Setup) -> Recorder<'_> {
    let mut run = setup.start();
    run.until("batches are stored", |stats| flushes(stats) >= 4 && all_receive(stats, 2));
    run
}

fn storage<'a>(stats: &'a Value, name: &str) -> &'a Value {
    &stats["optimized_storage"][name]
}

fn waiting(stats: &Value) -> u64 {
    number(storage(stats, "buffer_size"))
}

fn rss(stats: &Value) -> u64 {
    number(&stats["process"]["rss_bytes"])
}

/// The recorder while the database is away: from when it has noticed, for `time`.
fn endure(setup: &Setup, run: &mut Recorder, time: Duration, words: &str) {
    let before = run.stats().expect("it answers");
    let noticed = run.until("the failure is noticed", |stats| stats["database"]["ok"] == false);
    assert!(noticed["database"]["since"].is_string(), "{noticed:#}");
    let error = noticed["database"]["error"].as_str().unwrap_or_default();
    assert!(error.contains(words), "`{words}` is not in: {error}");
    let (ready, reason) = run.request("GET", "/readyz").expect("it answers");
    assert_eq!(ready, 503, "{reason}");

    let until = SystemClock.monotonic() + time;
    let mut rss_max = 0;
    let after = run.until_within(time + PATIENCE, "the outage is over", |stats| {
        assert_eq!(stats["database"]["ok"], false, "{stats:#}");
        assert_eq!(stats["database"]["since"], noticed["database"]["since"], "it is the same failure all the time");
        rss_max = rss_max.max(rss(stats));
        SystemClock.monotonic() >= until && waiting(stats) > 4 * BATCH
    });
    // A quarter of what is meant to be sent leaves room for a busy machine.
    let more = received(&after) - received(&noticed);
    assert!(more >= time.as_secs() * RATE * 2 / 4, "only {more} events were received in the outage\n{}", tail(&setup.log()));
    assert!(number(storage(&after, "waiting_batches")) >= 4, "{after:#}");
    assert!(storage(&after, "oldest_unflushed_s").as_f64() >= Some(time.as_secs_f64() - 1.0), "{after:#}");
    assert!(number(storage(&after, "journal_bytes")) > 0, "{after:#}");
    let growth = rss_max.saturating_sub(rss(&before));
    println!("{} events wait, the process grew by {} KiB", waiting(&after), growth >> 10);
    assert!(growth <= GROWTH_BYTES_MAX, "the process grew by {growth} bytes while {} events waited", waiting(&after));

    let flush = setup.run(&["flush", "--json"]);
    assert_eq!(flush.status.code(), Some(4), "{flush:?}");
    let answer: Value = serde_json::from_slice(&flush.stdout).expect("one document on stdout");
    assert!(number(&answer["waiting"]) > 4 * BATCH, "{answer}");
    assert!(answer["error"].as_str().is_some_and(|error| error.contains(words)), "{answer}");
}

/// The recorder after the database came back: drains in order while events go on coming, and live state is fresh again.
fn recover(setup: &Setup, run: &mut Recorder, masters: &Masters, outage: Duration) {
    let since = SystemClock.monotonic();
    // The back-off may have grown to two thirds of the outage, and waits a quarter longer for jitter.
    let works = run.until_within(outage + PATIENCE, "it tries again", |stats| stats["database"]["ok"] == true);
    let (tried, backlog) = (SystemClock.monotonic() - since, waiting(&works));
    let drained = run.until_within(2 * PATIENCE, "the backlog is drained", |stats| waiting(stats) < 2 * BATCH);
    let took = SystemClock.monotonic() - since - tried;
    println!("tried again after {tried:?}, drained {backlog} events in {took:?}");
    assert!(drained["database"]["error"].is_null(), "{drained:#}");
    assert_eq!(number(storage(&drained, "quarantined")), 0);
    let new = received(&drained);
    run.until("new events are received", |stats| received(stats) > new);

    // What the masters have sent by now is seen in `tunnels` within the sync interval, and the time that a busy machine needs.
    let sent: Vec<u64> = masters.all.iter().map(|master| *master.sent().last().expect("a connection")).collect();
    let fresh = wait(PATIENCE, || {
        let mut database = stored::connect(setup.database_url());
        let seen = "SELECT max(t.tcp_rx) || '' AS value FROM tunnels t JOIN endpoints e ON e.id = t.endpoint_id GROUP BY e.name ORDER BY e.name";
        let seen = database.texts(seen);
        seen.iter().zip(&sent).all(|(seen, sent)| seen.parse().is_ok_and(|seen: u64| seen >= *sent)).then_some(())
    });
    assert!(fresh.is_some(), "tunnels stays behind\n{}", tail(&setup.log()));
}

/// Stops the recorder and compares all that is stored with all that was sent.
fn finish(setup: &Setup, mut run: Recorder, masters: &Masters) {
    let seen = received(&run.stats().expect("it answers"));
    run.stop_well();
    let mut database = stored::connect(setup.database_url());
    stored::assert_prefixes(&mut database, &masters.all);
    assert!(stored::rows(&mut database) >= seen, "{seen} events were received");
    let disorder = "SELECT count(*) AS value FROM (SELECT first_id - lag(first_id) OVER (ORDER BY id) AS step \
                    FROM flushes WHERE batch = 'events' AND first_id > 0) s WHERE step <= 0";
    assert_eq!(database.number(disorder), 0, "batches were committed out of order");
    let log = setup.log();
    assert!(!log.contains("were in the database already"), "{}", tail(&log));
}

/// Asserts that the log tells changes of state and not tries: no warning of the database twice, and one return.
fn assert_told_once(setup: &Setup, outages: usize) {
    let log = setup.log();
    // What stands behind the time and the level.
    let lines = |level: &str, words: &str| -> Vec<String> {
        let messages = log.lines().filter_map(|line| Some(line.split_once(level)?.1.trim().to_owned()));
        messages.filter(|message| message.starts_with(words)).collect()
    };
    let warnings = lines(" WARN ", "database: ");
    let mut different = warnings.clone();
    different.dedup();
    assert!(!warnings.is_empty() && warnings.len() == different.len(), "{warnings:#?}");
    assert_eq!(lines(" INFO ", "database works again").len(), outages, "{}", tail(&log));
}

#[test]
fn while_another_process_holds_the_write_lock_of_sqlite_nothing_is_lost() {
    let masters = Masters::start();
    let setup = masters.follow(Setup::sqlite());
    let mut run = recording(&setup);
    let mut lock = stored::connect(setup.database_url());
    lock.execute("BEGIN IMMEDIATE");
    let outage = outage_time(60);
    endure(&setup, &mut run, outage, "locked");
    lock.execute("ROLLBACK");
    recover(&setup, &mut run, &masters, outage);
    finish(&setup, run, &masters);
    assert_told_once(&setup, 1);
}

#[test]
fn while_the_file_system_of_the_database_is_full_nothing_is_lost() {
    let Some(disk) = Tmpfs::mount(24 << 10) else { return };
    let masters = Masters::start();
    let setup = Setup::on_database(&format!("sqlite:{}", disk.path().join("tide.db").display()));
    let setup = masters.follow(setup);
    let mut run = recording(&setup);
    let ballast = disk.fill();
    endure(&setup, &mut run, Duration::from_secs(3), "full");
    drop(ballast);
    recover(&setup, &mut run, &masters, outage_time(OUTAGE_SECS));
    finish(&setup, run, &masters);
    assert_told_once(&setup, 1);
}

/// Exit code 0 and what is left; the next run stores it.
#[test]
fn stopped_while_the_database_is_locked_it_says_what_is_left_and_the_next_run_stores_it() {
    let masters = Masters::start();
    let setup = masters.follow(Setup::sqlite());
    let mut run = recording(&setup);
    let mut lock = stored::connect(setup.database_url());
    lock.execute("BEGIN IMMEDIATE");
    let stats = run.until("batches wait", |stats| waiting(stats) > 3 * BATCH);
    let ended = run.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}\n{}", tail(&setup.log()));
    assert!(ended.number("left_in_journal") > 3 * BATCH, "{ended:?} after {stats:#}");
    lock.execute("ROLLBACK");
    let mut next = setup.start();
    next.until("it receives again", |stats| received(stats) > 0);
    finish(&setup, next, &masters);
}

/// Locked at start: it stays, says that it is not ready, receives nothing, and begins when the lock is gone. A signal ends it.
#[test]
fn started_while_the_database_is_locked_it_waits_and_says_so() {
    let masters = Masters::start();
    let setup = masters.follow(Setup::sqlite());
    recording(&setup).stop_well();
    for ends in [true, false] {
        let mut lock = stored::connect(setup.database_url());
        lock.execute("BEGIN EXCLUSIVE");
        let connections = masters.all[0].sent().len();
        let mut run = setup.start();
        let reason = wait(PATIENCE, || {
            let (status, reason) = run.request("GET", "/readyz").ok()?;
            (status == 503 && reason.contains("locked")).then_some(reason)
        });
        assert!(reason.is_some(), "/readyz does not say that the database is locked\n{}", tail(&setup.log()));
        assert_eq!(masters.all[0].sent().len(), connections, "no stream is opened before the endpoints are known");
        if ends {
            let ended = run.stop();
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
            continue;
        }
        lock.execute("ROLLBACK");
        run.until("it receives", |stats| received(stats) > 0);
        finish(&setup, run, &masters);
    }
}

/// A cluster of its own, a recorder on it, and both kinds of end.
struct OnPostgres {
    cluster: Cluster,
    masters: Masters,
    setup: Setup,
}

impl OnPostgres {
    fn start() -> Self {
        let (cluster, masters) = (Cluster::start(), Masters::start());
        let setup = masters.follow(Setup::on_database(&cluster.url()));
        Self { cluster, masters, setup }
    }

    fn admin(&self) -> Around {
        let mut admin = stored::connect(&self.cluster.url());
        admin.execute("SET synchronous_commit = local");
        admin
    }

    /// Waits until the recorder's session waits for this, and gives its process id.
    fn session_waiting_for(&self, event: &str) -> String {
        let sql = format!(
            "SELECT pid || '' AS value FROM pg_stat_activity WHERE application_name LIKE 'tidegate%' AND wait_event = '{event}'"
        );
        let mut admin = self.admin();
        wait(PATIENCE, || admin.texts(&sql).pop())
            .unwrap_or_else(|| panic!("no session waits for {event}\n{}", tail(&self.setup.log())))
    }
}

#[test]
fn while_postgres_is_stopped_nothing_is_lost() {
    let all = OnPostgres::start();
    let mut run = recording(&all.setup);
    all.cluster.stop("fast");
    endure(&all.setup, &mut run, outage_time(OUTAGE_SECS), "connect");
    all.cluster.start_again();
    // Someone asks: it tries at once.
    let flush = all.setup.run(&["flush", "--json"]);
    assert_eq!(flush.status.code(), Some(0), "{flush:?}\n{}", tail(&all.setup.log()));
    let answer: Value = serde_json::from_slice(&flush.stdout).expect("one document on stdout");
    assert!(number(&answer["committed"]) > 4 * BATCH && answer["error"].is_null(), "{answer}");
    recover(&all.setup, &mut run, &all.masters, outage_time(OUTAGE_SECS));
    finish(&all.setup, run, &all.masters);
    assert_told_once(&all.setup, 1);
}

/// A write that does not end in time: the summary names who was late and says what waits; the next run stores it.
#[test]
fn stopped_at_the_deadline_it_says_who_was_late_and_what_is_left() {
    let mut all = OnPostgres::start();
    all.setup = all.setup.set("shutdown.deadline", "1s");
    let mut run = recording(&all.setup);
    let mut lock = all.admin();
    lock.execute("BEGIN");
    lock.execute("LOCK TABLE endpoint_sse IN ACCESS EXCLUSIVE MODE");
    run.until("batches wait", |stats| waiting(stats) > 3 * BATCH);
    let ended = run.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.last_line.contains("late=") && ended.last_line.contains("BufferActor"), "{ended:?}");
    assert!(ended.number("left_in_journal") > 3 * BATCH, "{ended:?}");
    lock.execute("ROLLBACK");
    all.setup = all.setup.set("shutdown.deadline", "30s");
    let mut next = all.setup.start();
    next.until("it receives again", |stats| all_receive(stats, 2));
    finish(&all.setup, next, &all.masters);
}

/// Restarts, as a crash would do them, under load and at random moments.
#[test]
fn postgres_restarted_and_killed_again_and_again_stores_everything_once() {
    let all = OnPostgres::start();
    let mut rng = fastrand::Rng::new();
    let mut run = recording(&all.setup);
    for round in 0..4 {
        let more = received(&run.stats().expect("it answers")) + rng.u64(1..2_000);
        run.until("some more is received", |stats| received(stats) >= more);
        if round % 2 == 0 {
            all.cluster.stop("immediate");
        } else {
            kill(Pid::from_raw(all.cluster.pid()), Signal::SIGKILL).expect("the postmaster can be killed");
        }
        run.until("the failure is noticed", |stats| stats["database"]["ok"] == false);
        all.cluster.start_again();
        run.until("it works again", |stats| stats["database"]["ok"] == true);
    }
    recover(&all.setup, &mut run, &all.masters, outage_time(OUTAGE_SECS));
    finish(&all.setup, run, &all.masters);
}

/// The session is ended while COMMIT still runs, before anything is stored: the batch is sent again.
#[test]
fn a_commit_that_is_killed_before_it_took_effect_is_repeated() {
    let all = OnPostgres::start();
    let mut run = recording(&all.setup);
    let mut admin = all.admin();
    admin.execute(
        "CREATE TABLE slow_commit (seconds double precision NOT NULL); INSERT INTO slow_commit VALUES (0); \
         CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS \
           $$ BEGIN PERFORM pg_sleep(seconds) FROM slow_commit; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON flushes DEFERRABLE INITIALLY DEFERRED \
           FOR EACH ROW EXECUTE FUNCTION slow_commit()",
    );
    for _ in 0..3 {
        admin.execute("UPDATE slow_commit SET seconds = 50");
        let session = all.session_waiting_for("PgSleep");
        admin.execute("UPDATE slow_commit SET seconds = 0");
        admin.execute(&format!("SELECT pg_terminate_backend({session})"));
        run.until("the failure is noticed", |stats| stats["database"]["ok"] == false);
        run.until("it works again", |stats| stats["database"]["ok"] == true);
    }
    recover(&all.setup, &mut run, &all.masters, outage_time(OUTAGE_SECS));
    let stats = run.stats().expect("it answers");
    assert_eq!(number(storage(&stats, "rows_skipped")), 0, "nothing was stored before the repetition");
    assert!(number(storage(&stats, "retries")) >= 3, "{stats:#}");
    finish(&all.setup, run, &all.masters);
}

/// The session is ended after COMMIT took effect and before its answer: the batch is recognised, skipped and counted.
#[test]
fn a_commit_whose_answer_is_lost_is_not_stored_twice() {
    let all = OnPostgres::start();
    let mut run = recording(&all.setup);
    let mut admin = all.admin();
    let mut skipped = 0;
    // A commit now waits for a standby that does not exist, after it is durable here.
    while skipped == 0 {
        let before = flushes(&run.stats().expect("it answers"));
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        admin.execute("SELECT pg_reload_conf()");
        let session = all.session_waiting_for("SyncRep");
        admin.execute(&format!("SELECT pg_terminate_backend({session})"));
        run.until("the failure is noticed", |stats| stats["database"]["ok"] == false);
        admin.execute("ALTER SYSTEM RESET synchronous_standby_names");
        admin.execute("SELECT pg_reload_conf()");
        let stats = run.until("it stores again", |stats| stats["database"]["ok"] == true && flushes(stats) > before + 1);
        // It may have been a transaction of live state, which is no batch.
        skipped = number(storage(&stats, "rows_skipped"));
    }
    assert_eq!(skipped % BATCH, 0, "whole batches are skipped");
    recover(&all.setup, &mut run, &all.masters, outage_time(OUTAGE_SECS));
    finish(&all.setup, run, &all.masters);
}
