//! The real binary is killed with `kill -9`, and stopped with SIGTERM, at random moments under load. What it had received is
//! stored once, in order.
//!
//! - `TIDEGATE_TEST_KILLS`: how many kills in all, 50 without it. `TIDEGATE_TEST_KILLS=1000 cargo test --test kill` takes
//!   about 20 minutes on two cores.
//! - `TIDEGATE_TEST_SEED`: repeats the moments of a failed run (it prints its seed); what the machine does between them is new
//!   each time.
//!
//! Masters number the events of each connection. After the last restart and an orderly stop, the stored events of each
//! connection must be a gapless prefix of what was sent on it, and each run must have stored at least what its stats had shown
//! as received before it was killed.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;

mod postgres;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use recorder::{PATIENCE, Recorder, Setup, flushes, number, received, received_from, segments, tail, wait};
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;

/// Kills in all where the environment does not say otherwise.
const KILLS: usize = 50;
/// Scenarios over which they are spread.
const SCENARIOS: usize = 4;
/// Instances of a master.
const INSTANCES: usize = 5;

/// What a recorder does, and for how long the masters send after each connect.
struct Scenario {
    name: &'static str,
    set: &'static [(&'static str, &'static str)],
    masters: usize,
    events: u64,
    per_second: Option<u64>,
}

/// When a run ends.
#[derive(Debug)]
enum Moment {
    /// This long after the start, whatever it is doing then: opening, migrating, recovering, connecting. Nothing that can be
    /// waited for from outside marks these, so a random time is what picks one of them.
    After(Duration),
    /// When this many events were received.
    Received(u64),
    /// When this many flushes were committed: their segments may be about to go.
    Flushed(u64),
    /// When the oldest segment is gone: others may be about to follow.
    SegmentGone,
    /// When all that was sent is received and nothing more comes.
    Idle,
    /// When something is received and what the runs before left in the journal is stored.
    CaughtUp,
}

impl Moment {
    fn draw(scenario: &Scenario, rng: &mut fastrand::Rng) -> Self {
        let most = scenario.events * scenario.masters as u64;
        match rng.u8(..10) {
            0..3 => Self::After(Duration::from_micros(rng.u64(..400_000))),
            3..6 => Self::Received(rng.u64(1..most)),
            6..8 => Self::Flushed(rng.u64(1..=5)),
            8 => Self::SegmentGone,
            _ => Self::Idle,
        }
    }

    /// Waits for it, and returns how many events each endpoint showed as received in the end.
    fn wait(&self, scenario: &Scenario, masters: &[LoadServer], setup: &Setup, run: &mut Recorder) -> BTreeMap<String, u64> {
        let mut seen = BTreeMap::new();
        let mut note = |stats: &serde_json::Value| {
            for nth in 1..=masters.len() {
                let name = format!("load{nth}");
                let received = received_from(stats, &name);
                seen.insert(name, received);
            }
        };
        let all = scenario.events * scenario.masters as u64;
        match self {
            Self::After(time) => std::thread::sleep(*time),
            Self::Received(count) => {
                run.until(&format!("{count} events are received"), |stats| {
                    note(stats);
                    received(stats) >= *count
                });
            }
            Self::Flushed(count) => {
                run.until(&format!("{count} flushes are committed, or all is received"), |stats| {
                    note(stats);
                    flushes(stats) >= *count || received(stats) >= all
                });
            }
            Self::SegmentGone => {
                run.until("it answers", |stats| {
                    note(stats);
                    true
                });
                let oldest = segments(&setup.journal()).into_iter().next();
                // It may be needed for longer than this run is meant to last; then any moment is as good.
                wait(Duration::from_secs(3), || {
                    let there = segments(&setup.journal());
                    oldest.as_ref().is_some_and(|oldest| !there.contains(oldest)).then_some(())
                });
                if let Some(stats) = run.stats() {
                    note(&stats);
                }
            }
            Self::Idle => {
                run.until("all is received", |stats| {
                    note(stats);
                    received(stats) >= all
                });
            }
            Self::CaughtUp => {
                // Hundreds of kills leave a long backlog where batches are small and the machine is busy.
                run.until_within(5 * PATIENCE, "the backlog is stored", |stats| {
                    note(stats);
                    received(stats) > 0 && number(&stats["optimized_storage"]["waiting_batches"]) == 0
                });
            }
        }
        seen
    }
}

/// A run that is over.
struct Run {
    moment: Moment,
    started: Timestamp,
    seen: BTreeMap<String, u64>,
}

/// Masters, a recorder's setup, and the runs that it had.
struct Trial<'a> {
    scenario: &'a Scenario,
    rng: fastrand::Rng,
    masters: Vec<LoadServer>,
    setup: Setup,
    runs: Vec<Run>,
    _servers: ServerThread,
}

impl<'a> Trial<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let seed = number_from("TIDEGATE_TEST_SEED").unwrap_or_else(|| SystemClock.wall().0.unsigned_abs());
        println!("{}: TIDEGATE_TEST_SEED={seed}", scenario.name);
        let mut rng = fastrand::Rng::with_seed(seed);
        let servers = ServerThread::start().expect("a thread for the masters");
        let load = Load {
            version: Version::Go1_14_0,
            instances: INSTANCES,
            events: scenario.events,
            per_second: scenario.per_second,
            then: AfterLoad::StayOpen,
        };
        let start = |_| servers.run(|| LoadServer::start(load, Arc::new(SystemClock), rng.u64(..)).expect("a port"));
        let masters: Vec<LoadServer> = (0..scenario.masters).map(start).collect();
        let setup = scenario.set.iter().fold(Setup::sqlite().masters(&masters), |setup, (key, value)| setup.set(key, value));
        Self { scenario, rng, masters, setup, runs: Vec::new(), _servers: servers }
    }

    /// Starts the recorder, and ends it at a moment.
    fn run(&mut self, moment: Moment, end: impl FnOnce(Recorder)) {
        let started = SystemClock.wall();
        let mut run = self.setup.start();
        let seen = moment.wait(self.scenario, &self.masters, &self.setup, &mut run);
        println!("run {}: {moment:?}, seen {seen:?}", self.runs.len() + 1);
        end(run);
        self.runs.push(Run { moment, started, seen });
    }

    /// Compares all that is stored with all that was sent.
    fn check(&self) {
        let mut database = stored::connect(self.setup.database_url());
        assert_eq!(database.number("SELECT count(*) AS value FROM quarantine"), 0);
        let damage: Vec<&str> = LOG_OF_DAMAGE.iter().copied().filter(|words| self.setup.log().contains(words)).collect();
        assert!(damage.is_empty(), "{damage:?} in the log:\n{}", tail(&self.setup.log()));
        let stored = stored::assert_prefixes(&mut database, &self.masters);
        let until = SystemClock.wall().plus(Duration::from_secs(3600));
        let ends = self.runs.iter().skip(1).map(|run| run.started).chain([until]);
        for (nth, (run, end)) in (1..).zip(self.runs.iter().zip(ends)) {
            for (endpoint, seen) in &run.seen {
                let rows = stored::rows_received_between(&mut database, endpoint, run.started, end);
                assert!(rows >= *seen, "run {nth} ({:?}): {endpoint} showed {seen} received, {rows} are stored", run.moment);
            }
        }
        // And what was counted from them: sums, levels and the movement of the counters, across all kills.
        let proof = self.setup.run(&["check", "--history"]);
        assert_eq!(proof.status.code(), Some(0), "{}", String::from_utf8_lossy(&proof.stdout));
        println!("{} connections, {} rows", stored.len(), stored::rows(&mut database));
    }
}

/// What the log must not hold: a kill of the process alone damages nothing, and no batch is sent twice without saying so.
const LOG_OF_DAMAGE: [&str; 4] = ["set aside", "were in the database already", "panicked", "events are not accepted"];

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

fn kill_at_random_moments(scenario: &Scenario) {
    let kills = number_from("TIDEGATE_TEST_KILLS").map_or(KILLS, |kills| usize::try_from(kills).expect("a number of kills"));
    let mut trial = Trial::new(scenario);
    for _ in 0..kills.div_ceil(SCENARIOS) {
        let moment = Moment::draw(scenario, &mut trial.rng);
        trial.run(moment, |run| run.kill());
    }
    trial.run(Moment::CaughtUp, |run| {
        run.stop_well();
    });
    trial.check();
}

/// Batches of a few events, a small journal: flushes and removals of segments all the time.
#[test]
fn kills_under_small_batches_lose_nothing_and_store_nothing_twice() {
    kill_at_random_moments(&Scenario {
        name: "small batches",
        set: &[("storage.max_buffer_size", "20"), ("journal.max_bytes", "16 MiB"), ("cache.sync_interval", "1s")],
        masters: 2,
        events: 1_500,
        per_second: Some(2_000),
    });
}

/// The defaults, under a steady load of several masters.
#[test]
fn kills_under_a_steady_load_lose_nothing_and_store_nothing_twice() {
    kill_at_random_moments(&Scenario { name: "steady load", set: &[], masters: 3, events: 3_000, per_second: Some(3_000) });
}

/// Each reply waits for a sync.
#[test]
fn kills_under_synced_replies_lose_nothing_and_store_nothing_twice() {
    kill_at_random_moments(&Scenario {
        name: "synced replies",
        set: &[("journal.sync_interval", "always"), ("storage.max_buffer_size", "100"), ("cache.sync_interval", "1s")],
        masters: 2,
        events: 1_500,
        per_second: Some(1_500),
    });
}

/// As fast as the sockets take it, with hardly any batch kept in memory.
#[test]
fn kills_under_full_speed_lose_nothing_and_store_nothing_twice() {
    kill_at_random_moments(&Scenario {
        name: "full speed",
        set: &[("storage.memory_max_events", "500"), ("journal.max_bytes", "64 MiB"), ("cache.sync_interval", "1s")],
        masters: 2,
        events: 4_000,
        per_second: None,
    });
}

/// SIGTERM at moments of a run; each time all that was received is stored, the journal is empty, and the last line says so.
#[test]
fn sigterm_at_random_moments_ends_in_order_with_all_stored_and_an_empty_journal() {
    let scenario = Scenario {
        name: "sigterm",
        set: &[("storage.max_buffer_size", "300"), ("cache.sync_interval", "1s")],
        masters: 2,
        events: 2_000,
        per_second: Some(3_000),
    };
    let mut trial = Trial::new(&scenario);
    for nth in 1..=8 {
        let moment = if nth == 8 { Moment::Idle } else { Moment::Received(trial.rng.u64(1..4_000)) };
        trial.run(moment, |run| {
            let ended = run.stop_well();
            assert!(ended.last_line.contains("stopped: flushed="), "{ended:?}");
        });
    }
    trial.check();
}

/// A second signal does not wait for a database that is locked; what is in the journal is stored by the next run.
#[test]
fn a_second_signal_ends_at_once_with_130_and_loses_nothing() {
    let scenario = Scenario { name: "second signal", set: &[], masters: 1, events: 700, per_second: Some(5_000) };
    let mut trial = Trial::new(&scenario);
    let url = trial.setup.database_url().to_owned();
    trial.run(Moment::Idle, |run| {
        let mut lock = stored::connect(&url);
        lock.execute("BEGIN IMMEDIATE");
        run.signal(Signal::SIGTERM);
        // Another signal than the first one: two of the same kind may arrive as one.
        run.signal(Signal::SIGINT);
        let ended = run.ended();
        assert_eq!(ended.status.code(), Some(130), "{ended:?}");
        lock.execute("ROLLBACK");
    });
    trial.run(Moment::CaughtUp, |run| {
        run.stop_well();
    });
    trial.check();
}
