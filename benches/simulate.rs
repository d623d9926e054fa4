//! How fast virtual time passes: a day of one master with 10 tunnels at 5 s with SQLite (at most 5 s), and a year of
//! boundaries of a nearly idle recorder (at most 3 minutes). `cargo bench --bench simulate`.

use std::process::ExitCode;
use std::time::Duration;

use tidegate::sim::options::{Database, Faults, Options};
use tidegate::sim::world;

const DAY: Duration = Duration::from_secs(86_400);

fn main() -> ExitCode {
    let busy = |database| Options {
        seed: 1,
        length: DAY,
        endpoints: 1,
        tunnels: 10,
        report_interval: Duration::from_secs(5),
        faults: Faults::default(),
        database,
        ..Options::default()
    };
    let memory = measure("a day of 10 tunnels, maps in memory", &busy(Database::Memory));
    let sqlite = measure("a day of 10 tunnels, SQLite", &busy(Database::Sqlite));
    if let (Some(memory), Some(sqlite)) = (memory, sqlite) {
        println!("SQLite's share: {:.2} s", sqlite.saturating_sub(memory).as_secs_f64());
    }
    let idle = Options { length: DAY * 365, tunnels: 0, ..busy(Database::Sqlite) };
    let year = measure("a year of boundaries, idle", &idle);
    // What did not hold was not measured.
    if memory.and(sqlite).and(year).is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How long it took; `None` if it failed or something was violated.
fn measure(name: &str, options: &Options) -> Option<Duration> {
    match world::run(options, None, |_| ()) {
        Ok(report) => {
            println!("{name}: {} events in {:.2} s", report.counts.received, report.real_time.as_secs_f64());
            if !report.holds() {
                println!("{report}");
            }
            report.holds().then_some(report.real_time)
        }
        Err(error) => {
            println!("{name}: {error}");
            None
        }
    }
}
