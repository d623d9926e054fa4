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
    let memory = measure("a day of 10 tunnels, maps in memory", &busy(Database::Memory), None);
    let sqlite = measure("a day of 10 tunnels, SQLite", &busy(Database::Sqlite), Some(5));
    if let (Some(memory), Some(sqlite)) = (memory, sqlite) {
        println!("SQLite's share: {:.2} s", sqlite.saturating_sub(memory).as_secs_f64());
    }
    let idle = Options { length: DAY * 365, tunnels: 0, ..busy(Database::Sqlite) };
    let year = measure("a year of boundaries, idle", &idle, Some(180));
    // What did not hold was not measured.
    if memory.and(sqlite).and(year).is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How long it took; `None` if it failed, something was violated, or it took more than so many seconds.
fn measure(name: &str, options: &Options, at_most: Option<u64>) -> Option<Duration> {
    match world::run(options, None, |_| ()) {
        Ok(report) => {
            let in_time = at_most.is_none_or(|seconds| report.real_time <= Duration::from_secs(seconds));
            let verdict = at_most.map(|seconds| format!(" (at most {seconds} s: {})", if in_time { "met" } else { "MISSED" }));
            let (events, took) = (report.counts.received, report.real_time.as_secs_f64());
            println!("{name}: {events} events in {took:.2} s{}", verdict.unwrap_or_default());
            if !report.holds() {
                println!("{report}");
            }
            (report.holds() && in_time).then_some(report.real_time)
        }
        Err(error) => {
            println!("{name}: {error}");
            None
        }
    }
}
