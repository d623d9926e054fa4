//! `tidegate restore`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use crate::blocking::Blocking;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DatabaseUrl};
use crate::restore::{self, JournalFate, RestoreError};
use crate::store::{DatabaseReport, ReadConnection};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The backup is verified first, and what comes of it is checked at the end. No recorder may run meanwhile. A \
                  database with data is replaced with --force only, and kept beside under another name. Its journal stays, and the \
                  next start stores what is missing, if the backup is of the same recorder; else it is kept aside too.\n\n\
                  Example:\n  tidegate restore /backup/tidegate-2026-11-25.db --force"
)]
pub(super) struct Restore {
    /// File that `tidegate backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replaces a database that holds data; it is kept aside
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: Json,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    /// The backup.
    file: PathBuf,
    /// Where the database that was there is now.
    kept_aside: Option<PathBuf>,
    /// Migrations that the backup lacked.
    migrated: Vec<String>,
    /// What became of the journal; `None` if there was none.
    journal: Option<JournalFate>,
    /// Rows by table, as the backup has them.
    rows: BTreeMap<String, i64>,
    /// What `tidegate check` says of the database now.
    database: DatabaseReport,
}

impl Restore {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let DatabaseUrl::Sqlite(database) = config.database.clone() else {
            return Err(Failure::usage(format!(
                "{} is restored with PostgreSQL's own tool while no recorder runs: `pg_restore --clean --if-exists --dbname={} {}`",
                config.database,
                config.database,
                self.file.display()
            )));
        };
        if !self.file.is_file() {
            return Err(Failure::usage(format!("there is no file {}", self.file.display())));
        }
        let (file, url, journal) = (self.file.clone(), config.database.clone(), config.journal.dir.clone());
        let (force, now) = (self.force, SystemClock.wall());
        let work = Blocking::Threads.run("restore", move || {
            let (restored, fate) = restore::run(&file, &database, &journal, force, now)?;
            let database = ReadConnection::open(&url).and_then(|mut connection| connection.check(SystemClock.wall()));
            Ok::<_, Failure>((restored, fate, database?))
        });
        let (restored, journal, database) = output::patiently("verifying and restoring", work).await?;
        let report = Report {
            file: self.file,
            kept_aside: restored.kept_aside,
            migrated: restored.migrated,
            journal,
            rows: restored.rows,
            database,
        };
        if self.output.json {
            output::json(&report);
        } else {
            show(&report);
        }
        Ok(if report.database.problems.is_empty() { ExitCode::Done } else { ExitCode::Failed })
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Backup(error) => error.into(),
            error @ RestoreError::Journal(..) => Self::database(error.to_string()),
        }
    }
}

fn show(report: &Report) {
    output::print(&format!("restored {} from {}", report.database.database, report.file.display()));
    if let Some(aside) = &report.kept_aside {
        output::print(&format!("the database that was there is {} now", aside.display()));
    }
    match &report.journal {
        None => {}
        Some(JournalFate { directory, events, kept_aside: None }) => output::print(&format!(
            "the journal {} stays: the next start stores those of its {events} events that are missing",
            directory.display()
        )),
        Some(JournalFate { events, kept_aside: Some(aside), .. }) => output::print(&format!(
            "the journal with {events} events is {} now: it belongs to endpoints that the backup does not have",
            aside.display()
        )),
    }
    if !report.migrated.is_empty() {
        output::print(&format!("migrated: {}", report.migrated.join(", ")));
    }
    output::print(&format!("checked: {} events, {} rows of history", report.database.events, report.database.history_rows));
    for problem in &report.database.problems {
        output::print(&format!("  {}", plain(problem)));
    }
}
