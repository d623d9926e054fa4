//! `tidegate backup`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Method;
use serde::Serialize;

use super::Json;
use super::client::{Client, ClientError};
use super::exit::{ExitCode, Failure};
use super::output;
use super::place::Place;
use crate::blocking::Blocking;
use crate::config::{Config, DatabaseUrl};
use crate::http::document::Flushed;
use crate::journal::{RealDisk, Recorder, verify};
use crate::store::{self, BackupError};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A recorder may run: it is asked to flush first, and goes on. The file holds everything that the database holds, \
                  API keys too; only its owner may read it. It is verified before it gets its name.\n\n\
                  Example:\n  tidegate backup /backup/tidegate-$(date +%F).db"
)]
pub(super) struct Backup {
    /// File to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replaces the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: Json,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    /// Where the copy is.
    file: PathBuf,
    /// Its length.
    bytes: u64,
    /// Rows by table, counted in the copy.
    rows: BTreeMap<String, i64>,
    /// What the recorder's flush before it did; `None` if none runs.
    flushed: Option<Flushed>,
    /// Without a recorder: events in the journal, which the next start stores. Some may be in the database already.
    events_in_journal: Option<usize>,
}

impl Backup {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let DatabaseUrl::Sqlite(database) = config.database.clone() else {
            return Err(Failure::usage(format!(
                "{} is backed up with PostgreSQL's own tool, while the recorder runs: `tidegate flush && pg_dump --format=custom \
                 --file={} {}` (the password comes from ~/.pgpass or PGPASSWORD); `pg_restore --clean --if-exists --dbname=...` \
                 takes it back",
                config.database,
                self.file.display(),
                config.database
            )));
        };
        let (flushed, events_in_journal) = match Place::find(config).await {
            Place::Recorder(client) => (Some(flush(&client).await?), None),
            Place::Database { why, .. } => {
                if !matches!(why, ClientError::NotRunning { .. }) {
                    output::note(&format!("note: {why}; nothing is flushed before"));
                }
                (None, events_in_journal(config))
            }
        };
        let (file, force) = (self.file.clone(), self.force);
        let work = Blocking::Threads.run("backup", move || store::back_up(&database, &file, force));
        let copied = output::patiently("copying and verifying", work).await?;
        let report = Report { file: self.file, bytes: copied.bytes, rows: copied.rows, flushed, events_in_journal };
        if self.output.json {
            output::json(&report);
        } else {
            show(&report);
        }
        Ok(ExitCode::Done)
    }
}

/// A flush that fails is no reason to have no backup; the report says what is missing in it.
async fn flush(client: &Client) -> Result<Flushed, Failure> {
    let answer = output::patiently("flushing", client.call(Method::POST, "/api/v1/flush", None)).await?;
    match answer.document() {
        Ok(flushed) => Ok(flushed),
        Err(error) => Err(answer.done().err().unwrap_or(error).into()),
    }
}

/// `None` if there is no journal, or one that cannot be read.
fn events_in_journal(config: &Config) -> Option<usize> {
    let disk = RealDisk::open_read_only(&config.journal.dir).ok()?;
    let report = verify(&disk, Recorder::Stopped).ok()?;
    let of_events = report.segments.iter().filter(|segment| segment.kind == crate::journal::SegmentKind::Events);
    Some(of_events.map(|segment| segment.records).sum())
}

fn show(report: &Report) {
    output::print(&format!("{}: {}, verified", report.file.display(), bytesize::ByteSize(report.bytes)));
    // All tables stand in the JSON; for people those that hold something of theirs.
    let filled = report.rows.iter().filter(|(table, rows)| **rows > 0 && !table.starts_with("__"));
    let rows: Vec<String> = filled.map(|(table, rows)| format!("{rows} {table}")).collect();
    output::print(&format!("rows: {}", rows.join(", ")));
    match (&report.flushed, report.events_in_journal) {
        (Some(Flushed { committed, waiting: 0, .. }), _) => {
            output::print(&format!("flushed before: {committed} events; none received before that is missing"));
        }
        (Some(Flushed { waiting, error, .. }), _) => {
            let why = error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
            output::print(&format!("{waiting} events wait in the journal and are not in the backup{why}"));
        }
        (None, Some(events)) if events > 0 => output::print(&format!(
            "no recorder runs; its journal holds {events} events, of which the backup may lack some: the next start stores them"
        )),
        (None, _) => {}
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let code = match &error {
            BackupError::Exists(_) | BackupError::NoDirectory(_) | BackupError::File { .. } => ExitCode::Usage,
            BackupError::Damaged(_) => ExitCode::Failed,
            BackupError::NotABackup(_) | BackupError::Store(_) => ExitCode::Database,
        };
        Self { code, message: error.to_string() }
    }
}
