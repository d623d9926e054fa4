//! The simulation holds for a fixed set of seeds and for one that the commit gives, and it is the same on every machine.

mod postgres;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tidegate::sim::options::{Database, Faults, Options};
use tidegate::sim::world;

const HOUR: Duration = Duration::from_secs(3_600);

/// A trace in memory.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<u8>>>);

impl Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn traced(options: &Options) -> String {
    let trace = Trace::default();
    let report = world::run(options, Some(Box::new(trace.clone())), |_| ()).expect("a run");
    assert!(report.holds(), "{report}");
    let bytes = trace.0.lock().expect("a lock").clone();
    String::from_utf8(bytes).expect("text")
}

/// Small enough for a build without optimisation: a report every 30 s.
fn small(seed: u64, hours: u32, database: Database) -> Options {
    Options { seed, length: HOUR * hours, endpoints: 1, tunnels: 4, report_interval: HOUR / 120, database, ..Options::default() }
}

fn holds(options: &Options) {
    let report = world::run(options, None, |_| ()).expect("a run");
    assert!(report.holds(), "{}\n{report}", report.plan);
}

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    for database in [Database::Memory, Database::Sqlite] {
        let options = small(42, 2, database);
        let (first, second) = (traced(&options), traced(&options));
        if let Some((number, (one, other))) = first.lines().zip(second.lines()).enumerate().find(|(_, (a, b))| a != b) {
            panic!("line {number} differs:\n{one}\n{other}");
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn a_fixed_set_of_seeds_holds_in_memory() {
    for seed in 1..=8 {
        holds(&small(seed, 6, Database::Memory));
    }
}

/// Found by `cargo bench --bench simulate`: what expired after its 24 hours was taken for lost.
#[test]
fn a_run_without_faults_that_is_longer_than_events_are_kept_holds() {
    let faults = Faults::default();
    holds(&Options { tunnels: 2, report_interval: HOUR / 30, faults, ..small(1, 27, Database::Memory) });
}

#[test]
fn a_fixed_set_of_seeds_holds_with_sqlite() {
    for seed in 101..=104 {
        holds(&small(seed, 3, Database::Sqlite));
    }
}

#[test]
fn a_seed_holds_with_postgresql() {
    let database = postgres::TestDatabase::postgres();
    holds(&small(201, 1, Database::Url(database.url())));
}

/// Each commit tries something that was never tried before, and can be repeated: the first 8 bytes of its hash are the seed.
#[test]
fn the_seed_of_the_commit_holds() {
    let commit = option_env!("GIT_COMMIT").map(str::to_owned).or_else(|| {
        let output = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
        String::from_utf8(output.stdout).ok()
    });
    let seed = commit.and_then(|hash| u64::from_str_radix(hash.get(..16)?, 16).ok()).unwrap_or(7);
    holds(&small(seed, 6, Database::Memory));
}

/// What a simulation writes is made up, and what it expires would be somebody's.
#[test]
fn a_database_that_holds_anything_is_refused_also_without_endpoints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kept.db");
    let url = Database::Url(format!("sqlite:{}", path.display()).parse().unwrap());
    let options = Options { length: HOUR / 60, faults: Faults::default(), ..small(1, 1, url) };
    holds(&options);
    let mut connection = SqliteConnection::establish(&path.display().to_string()).unwrap();
    connection.batch_execute("DELETE FROM endpoints").unwrap();
    let error = world::run(&options, None, |_| ()).unwrap_err();
    assert!(matches!(error, world::SimulateError::NotEmpty), "{error}");
}
