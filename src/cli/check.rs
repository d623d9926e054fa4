//! `tidegate check`.

use log::debug;
use serde::Serialize;

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use crate::blocking::Blocking;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::journal::{CheckReport, JournalError, RealDisk, Recorder, verify};
use crate::store::{DatabaseReport, ReadConnection};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing; a recorder may run. Events that are in the journal and in the database are normal: a segment \
                  is removed only when live state and history are durable too. Exit code 1 if something is damaged.\n\n\
                  Example:\n  tidegate check --database-url sqlite:/var/lib/tidegate/tidegate.db"
)]
pub(super) struct Check {
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
}

impl Check {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let recorder = match Place::find(config).await {
            Place::Recorder(_) => Recorder::Running,
            Place::Database { .. } => Recorder::Stopped,
        };
        let (url, directory) = (config.database.clone(), config.journal.dir.clone());
        let work = Blocking::Threads.run("check", move || {
            let journal = match RealDisk::open_read_only(&directory) {
                Ok(disk) => Some(verify(&disk, recorder)?),
                Err(error) => {
                    debug!("no journal to look at: {error}");
                    None
                }
            };
            let database = ReadConnection::open(&url)?.check(SystemClock.wall())?;
            Ok::<_, CheckError>((journal, database))
        });
        let (journal, database) = output::patiently("checking journal and database", work).await?;
        let ok = database.problems.is_empty() && journal.as_ref().is_none_or(|journal| !journal.is_damaged());
        let report = Report { ok, journal, database };
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
    let Report { ok, journal, database } = report;
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
    output::print(if *ok { "nothing is wrong" } else { "something is wrong" });
}
