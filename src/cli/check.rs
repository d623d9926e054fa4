//! `tidegate check`.

use serde::Serialize;

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use crate::blocking::Blocking;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::journal::{CheckReport, JournalError, RealDisk, Recorder, verify};
use crate::store::{DatabaseReport, HistoryReport, check_database};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing; a recorder may run. Events that are in the journal and in the database are normal: a segment \
                  is removed only when live state and history are durable too. Exit code 1 if something is damaged, does not add up, \
                  or (beside a recorder that has run for an hour) is older than retention.* says.\n\n\
                  Examples:\n  tidegate check --database-url sqlite:/var/lib/tidegate/tidegate.db\n  tidegate check --history --json"
)]
pub(super) struct Check {
    /// Also prove that history adds up: per tunnel, that what is stored is what its counters did, and per level, that it is the
    /// sum of the one below.
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    output: Json,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// True if nothing is wrong.
    ok: bool,
    /// `None` if there is no journal yet.
    journal: Option<CheckReport>,
    /// The database.
    database: DatabaseReport,
    /// With `--history`.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<HistoryReport>,
}

impl Check {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        let recorder = match place {
            Place::Recorder(_) => Recorder::Running,
            Place::Database { .. } => Recorder::Stopped,
        };
        // Without a recorder nothing expires, and that is no fault.
        let late = match recorder {
            Recorder::Running => place.stats().await?.optimized_storage.expiry_late,
            Recorder::Stopped => Vec::new(),
        };
        let with_history = self.history;
        let (url, directory) = (config.database.clone(), config.journal.dir.clone());
        let work = Blocking::Threads.run("check", move || {
            let journal = match RealDisk::open_read_only(&directory) {
                Ok(disk) => Some(verify(&disk, recorder)?),
                Err(JournalError::Directory { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
            let (database, history) = check_database(&url, SystemClock.wall(), with_history)?;
            Ok::<_, CheckError>((journal, database, history))
        });
        let (journal, mut database, history) = output::patiently("checking journal and database", work).await?;
        database
            .problems
            .extend(late.iter().map(|table| format!("{table} holds rows that should have expired more than an hour ago")));
        let ok = database.problems.is_empty()
            && journal.as_ref().is_none_or(|journal| !journal.is_damaged())
            && history.as_ref().is_none_or(|history| history.problems.is_empty());
        let report = Report { ok, journal, database, history };
        if self.output.json {
            output::json(&report);
        } else {
            show(&report, config);
        }
        Ok(if ok { ExitCode::Done } else { ExitCode::Failed })
    }
}

/// Something could not even be looked at.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Database(#[from] crate::store::StoreError),
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        Self::database(error.to_string())
    }
}

fn show(report: &Report, config: &Config) {
    let Report { ok, journal, database, history } = report;
    match journal {
        None => output::print(&format!("journal   {}: none", config.journal.dir.display())),
        Some(journal) => {
            let bytes: u64 = journal.segments.iter().map(|segment| segment.bytes).sum();
            output::print(&format!(
                "journal   {}: {} segments, {} records, {}",
                config.journal.dir.display(),
                journal.segments.len(),
                journal.records(),
                bytesize::ByteSize(bytes)
            ));
            for damage in &journal.damage {
                output::print(&format!("  {}", plain(&damage.to_string())));
            }
            for segment in journal.segments.iter().filter(|segment| segment.out_of_order > 0) {
                output::print(&format!("  {}: {} records out of order", plain(&segment.file), segment.out_of_order));
            }
            if !journal.set_aside.is_empty() {
                let count = journal.set_aside.len();
                output::print(&format!(
                    "  {count} files with damaged bytes were set aside by earlier starts; look at them, then move them away"
                ));
            }
        }
    }
    output::print(&format!(
        "database  {}: {} events, {} gaps, {} in quarantine, {} rows of history, {} flushes",
        database.database, database.events, database.gaps, database.quarantined, database.history_rows, database.flushes
    ));
    for problem in &database.problems {
        output::print(&format!("  {}", plain(problem)));
    }
    if let Some(HistoryReport { tunnels, totals, rows, problems, further_problems }) = history {
        output::print(&format!(
            "history   {tunnels} tunnels and {totals} totals, {rows} rows: each sum was made again, as far as what it is made of is kept"
        ));
        for problem in problems {
            output::print(&format!("  {}", plain(problem)));
        }
        if *further_problems > 0 {
            output::print(&format!("  and {further_problems} more"));
        }
    }
    output::print(if *ok { "nothing is wrong" } else { "something is wrong" });
}
