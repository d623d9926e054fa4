//! `tidegate simulate`: weeks of operation in minutes, with faults, from a seed.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::exit::{ExitCode, Failure};
use super::{Json, output};
use crate::modes::StorageMode;
use crate::sim::options::{Database, Faults, Options, Plan};
use crate::sim::report::Report;
use crate::sim::world::{self, SimulateError};

/// Report intervals that can be simulated. Masters report every 5 s, or as they are told.
const REPORT_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
/// What `cache.sync_interval` allows (a test holds them together).
const LIVE_SYNCS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// Between two lines of progress, in virtual time.
const PROGRESS_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// Seconds of a day.
const DAY_SECONDS: f64 = 86_400.0;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The same seed and options give the same run, byte for byte. Exit code 1 and the command that repeats it if an \
                  invariant is violated.\n\nExample:\n  tidegate simulate --seed 7 --days 30 --runs 100 --database memory"
)]
pub(super) struct Simulate {
    /// Everything is drawn from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Virtual days under faults; some 45 minutes to converge follow
    #[arg(long, default_value_t = 1.0, value_name = "D")]
    days: f64,
    /// Masters
    #[arg(long, default_value_t = 2, value_name = "E")]
    endpoints: usize,
    /// Tunnels of each at the beginning
    #[arg(long, default_value_t = 5, value_name = "T")]
    tunnels: usize,
    /// The masters' report interval
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = humantime::parse_duration)]
    report_interval: Duration,
    /// all, none, or names: database-down, database-slow, database-locked, database-doubt, disk-full, disk-sync, disk-torn,
    /// disk-slow, kill, power, clock, shutdown, mode, masters
    #[arg(long, default_value = "all", value_name = "LIST")]
    faults: Faults,
    /// sqlite (a file for the run), memory, or the URL of an empty database
    #[arg(long, default_value = "sqlite", value_name = "DATABASE")]
    database: Database,
    /// How events reach the database at first: realtime, dual or batched; the fault `mode` switches
    #[arg(long, value_name = "MODE")]
    mode: Option<StorageMode>,
    /// cache.sync_interval [default: drawn from the seed]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    live_sync: Option<Duration>,
    /// Consecutive seeds; stops at the first failure. With sqlite or memory only
    #[arg(long, default_value_t = 1, value_name = "R")]
    runs: u64,
    /// Writes a line for each thing that was observed (of the last run)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

impl Simulate {
    /// Runs on a thread of its own: a System of its own, on time of its own.
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let days_are_usable = self.days.is_finite() && self.days > 0.0 && self.days < 40_000.0;
        if !days_are_usable || self.endpoints == 0 || self.runs == 0 {
            return Err(Failure::usage("--days, --endpoints and --runs must be above 0, and --days below 40000"));
        }
        if self.runs > 1 && matches!(self.database, Database::Url(_)) {
            return Err(Failure::usage(
                "--runs takes several seeds, and a database that a URL names is empty for one only; give sqlite or memory",
            ));
        }
        if !REPORT_INTERVALS.contains(&self.report_interval) {
            return Err(Failure::usage("--report-interval must be from 100ms to 1day"));
        }
        if self.live_sync.is_some_and(|live_sync| !LIVE_SYNCS.contains(&live_sync)) {
            return Err(Failure::usage("--live-sync must be from 1s to 1h, as cache.sync_interval"));
        }
        let Some(last_seed) = self.seed.checked_add(self.runs - 1) else {
            return Err(Failure::usage(format!("--seed and --runs go beyond the last seed, {}", u64::MAX)));
        };
        let (mut reports, mut traces_are_whole) = (Vec::new(), true);
        for seed in self.seed..=last_seed {
            let options = self.options(seed);
            let plan = Plan::draw(&options);
            if self.json.json {
                output::note(&plan.to_string())
            } else {
                output::print(&plan.to_string())
            }
            let trace = self.trace.as_ref().map(File::create).transpose();
            let trace =
                trace.map_err(|error| Failure::usage(format!("cannot write the trace: {error}; give another --trace")))?;
            let report = run_on_a_thread(options, trace).map_err(|error| match error {
                SimulateError::Store(_) | SimulateError::NotEmpty => {
                    Failure { code: ExitCode::Database, message: error.to_string() }
                }
                SimulateError::Runtime(_) => Failure::usage(error.to_string()),
            })?;
            let holds = report.holds();
            if !self.json.json {
                output::print(&report.to_string());
            }
            if let Some(error) = &report.trace_error {
                output::note(&format!("the trace is not whole: {error}; check the path and the space left"));
                traces_are_whole = false;
            }
            reports.push(report);
            if !holds {
                break;
            }
        }
        if self.json.json {
            output::json(&reports.iter().map(Report::to_json).collect::<Vec<_>>());
        }
        let failed = reports.iter().any(|report| !report.holds()) || !traces_are_whole;
        Ok(if failed { ExitCode::Failed } else { ExitCode::Done })
    }

    fn options(&self, seed: u64) -> Options {
        Options {
            seed,
            length: Duration::from_secs_f64(self.days * DAY_SECONDS),
            endpoints: self.endpoints,
            tunnels: self.tunnels,
            report_interval: self.report_interval,
            faults: self.faults.clone(),
            database: self.database.clone(),
            mode: self.mode,
            live_sync: self.live_sync,
        }
    }
}

fn run_on_a_thread(options: Options, trace: Option<File>) -> Result<Report, SimulateError> {
    let length = options.length;
    let mut next = PROGRESS_EVERY;
    let shows = std::io::stderr().is_terminal() || length > 4 * PROGRESS_EVERY;
    let progress = move |now: Duration| {
        if shows && now >= next {
            next = now + PROGRESS_EVERY;
            output::note(&format!("  day {:.2} of {:.2}", now.as_secs_f64() / DAY_SECONDS, length.as_secs_f64() / DAY_SECONDS));
        }
    };
    let trace = trace.map(|file| Box::new(BufWriter::new(file)) as Box<dyn Write + Send>);
    let thread = std::thread::Builder::new().name("simulate".to_owned()).spawn(move || world::run(&options, trace, progress));
    let joined = thread.map_err(SimulateError::Runtime)?.join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{KEYS, Kind};

    #[test]
    fn live_sync_may_be_what_the_key_may_be() {
        let key = KEYS.iter().find(|key| key.name == "cache.sync_interval").unwrap();
        let Kind::Duration { min, max, .. } = key.kind else { panic!("it is a duration") };
        assert_eq!(LIVE_SYNCS, min..=max);
    }
}
