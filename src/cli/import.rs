//! `tidegate import nodepassdash`.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use super::Json;
use super::database::OpenError;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use crate::blocking::Blocking;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::import::source::{Place, SourceError};
use crate::import::{self, Bytes, EndpointsReport, HistoryReport, ImportError, Job, Progress, Report, TunnelsReport};
use crate::store::Kept;

/// Time between two lines that say how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Most names that a line lists.
const LISTED_MAX: usize = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate import nodepassdash /opt/nodepassdash/db/database.db --dry-run")]
pub(super) struct Import {
    #[command(subcommand)]
    source: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Brings endpoints, tunnels and history from NodePassDash v3.0.0-beta2 to v4.0.5
    #[command(
        after_help = "The source is only read. Endpoints come paused; tunnel passwords are left where they are. What is wrong in the \
                      source is mended and reported. It can be repeated: what is there is not added again. No recorder may run \
                      meanwhile, but for --dry-run. docs/import.md says what becomes of what.\n\n\
                      Examples:\n  tidegate import nodepassdash /opt/nodepassdash/db/database.db --dry-run\n  \
                      tidegate import nodepassdash postgres://nodepass@db.example/nodepassdash"
    )]
    Nodepassdash(NodePassDash),
}

#[derive(Debug, clap::Args)]
struct NodePassDash {
    /// Its SQLite file, or the URL of its PostgreSQL database (a password can come from ~/.pgpass or PGPASSWORD)
    #[arg(value_name = "FILE.db|postgres://...")]
    source: String,
    /// Only looks, and says what would be done
    #[arg(long)]
    dry_run: bool,
    /// Also imports the history of tunnels that were deleted
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    output: Json,
}

impl Import {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let From::Nodepassdash(NodePassDash { source, dry_run, deleted, output }) = self.source;
        let job = Job {
            source: Place::parse(&source).map_err(ImportError::from)?,
            database: config.database.clone(),
            dry_run,
            deleted,
            zone: config.storage.timezone,
            kept: Kept { minutes: config.retention.minutes, hours: config.retention.hours, days: config.retention.days },
            now: SystemClock.wall(),
        };
        let progress = Arc::new(Progress::default());
        let seen = progress.clone();
        let work = Blocking::Threads.run("import", move || import::run(&job, &seen));
        let report = told(work, &progress).await?;
        if output.json {
            output::json(&report);
        } else {
            show(&report);
        }
        Ok(ExitCode::Done)
    }
}

/// Waits, and says how far it is.
async fn told<T>(work: impl Future<Output = T>, progress: &Progress) -> T {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(TELL_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => output::note(&format!("importing: {progress}")),
        }
    }
}

impl std::convert::From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Source(SourceError::Unsuitable(why)) => Self::usage(why),
            ImportError::Source(SourceError::Unreadable(why)) => Self::database(why),
            ImportError::Store(error) => OpenError::of(error).into(),
        }
    }
}

fn show(report: &Report) {
    let Report { source, layout, database, dry_run, endpoints, tunnels, history, repairs } = report;
    output::print(&format!("{source} (NodePassDash, schema of {layout})"));
    let EndpointsReport { found, added, present, renamed, skipped } = endpoints;
    output::print(&format!("endpoints  {found}: {} added, paused; {} there already", added.len(), present.len()));
    list("added", added.iter().cloned());
    list("renamed", renamed.iter().map(|(from, to)| format!("{from} to {to}")));
    list("left out", skipped.iter().map(|(name, why)| format!("{name}: {why}")));
    let TunnelsReport { found, added, present, skipped } = tunnels;
    output::print(&format!("tunnels    {found}: {added} added, {present} there already, {skipped} left out"));
    let HistoryReport { minute_rows, hour_rows, added, there, recorded, too_old, minutes, hours, days, bytes, .. } = history;
    output::print(&format!("history    {minute_rows} minutes and {hour_rows} hours: {added} samples added"));
    for (count, what) in [
        (there, "were imported before"),
        (recorded, "are of times that tidegate recorded itself"),
        (too_old, "are older than everything that is kept (retention.days)"),
    ] {
        if *count > 0 {
            output::print(&format!("           {count} {what}"));
        }
    }
    output::print(&format!("           {minutes} rows by the minute, {hours} by the hour, {days} by the day"));
    let Bytes { tcp_in, tcp_out, udp_in, udp_out } = bytes;
    let size = |a: u64, b: u64| bytesize::ByteSize(a.saturating_add(b));
    output::print(&format!("           {} received, {} sent", size(*tcp_in, *udp_in), size(*tcp_out, *udp_out)));
    if repairs.is_empty() {
        output::print("nothing had to be mended");
    } else {
        output::print("mended:");
    }
    for repair in repairs {
        output::print(&format!("  {} {}", repair.found.count, repair.what));
        for example in &repair.found.examples {
            output::print(&format!("      {}", plain(example)));
        }
    }
    if *dry_run {
        output::print(&format!("this was a trial: {database} was not changed"));
    } else if !endpoints.added.is_empty() {
        output::print("follow them with `tidegate endpoint resume NAME`, once NodePassDash need not");
    }
}

fn list(what: &str, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.map(|name| plain(&name)).collect();
    if names.is_empty() {
        return;
    }
    let more = names.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more (--json lists them)") } else { String::new() };
    output::print(&format!("           {what}: {}{more}", names[..names.len().min(LISTED_MAX)].join(", ")));
}
