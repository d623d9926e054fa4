//! `tidegate export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use super::exit::{ExitCode, Failure};
use super::output;
use super::place::Place;
use super::question::Question;
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::config::Config;
use crate::query::export::{Export as What, ExportPage, ExportQuery};
use crate::query::range::Range;

/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes what is stored, row by row in the order of the table's key; what the recorder has not flushed yet is not \
                  included (`tidegate flush` first). Pages are short reads, so an export of any size disturbs nothing. A text in a \
                  CSV cell that a spreadsheet would take for a formula gets a ' in front.\n\n\
                  Examples:\n  tidegate export hours --since 2026-11-01 --output november.csv\n  \
                  tidegate export events --tunnel tokyo/9c3209de --since 2h --format jsonl"
)]
pub(super) struct Export {
    /// What
    what: What,
    /// From then on: an age (24h), RFC 3339, or a date [default: everything]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Until then [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only of this endpoint
    #[arg(long, value_name = "NAME", conflicts_with = "tunnel")]
    endpoint: Option<String>,
    /// Only of this tunnel: ENDPOINT/INSTANCE_ID, or its alias where that is unique
    #[arg(long, value_name = "TUNNEL")]
    tunnel: Option<String>,
    /// Comma-separated values, or one JSON object per line
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Into this file, which appears when it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
}

impl Export {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        let tunnel = match &self.tunnel {
            Some(tunnel) => Some(place.tunnel_address(tunnel).await?),
            None => None,
        };
        // As times and not as ages, which would move from page to page.
        let (now, zone) = (SystemClock.wall(), config.storage.timezone);
        let range = Range::parse(self.since.as_deref(), self.until.as_deref(), Duration::MAX, now, zone)?;
        let query = ExportQuery {
            what: self.what,
            since: Some(range.from.to_string()),
            until: Some(range.until.to_string()),
            endpoint: self.endpoint.clone(),
            tunnel,
            limit: None,
            cursor: None,
        };
        place.mention_journal();
        let Some(path) = &self.output else {
            let rows = copy(&place, query, self.format, BufWriter::new(io::stdout().lock())).await?;
            if let Some(rows) = rows {
                output::note(&format!("{rows} rows"));
            }
            return Ok(ExitCode::Done);
        };
        // An export that was interrupted must not be taken for a whole one.
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let cannot = |error: io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
        let file = File::create(&part).map_err(cannot)?;
        let rows = copy(&place, query, self.format, BufWriter::new(&file)).await;
        let done = rows.and_then(|rows| {
            file.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(cannot)?;
            Ok(rows)
        });
        match done {
            Ok(rows) => {
                output::note(&format!("{} rows in {}", rows.unwrap_or_default(), path.display()));
                Ok(ExitCode::Done)
            }
            Err(failure) => {
                let _ = std::fs::remove_file(&part);
                Err(failure)
            }
        }
    }
}

/// Copies page after page. Gives the number of rows, or `None` if the reader went away.
async fn copy(place: &Place<'_>, query: ExportQuery, format: Format, out: impl Write) -> Result<Option<u64>, Failure> {
    let mut rows = Rows::new(format, out);
    let (mut cursor, mut count, mut progress) = (None, 0_u64, Stopwatch::start());
    loop {
        let asked = ExportQuery { cursor, ..query.clone() };
        let page: ExportPage = place.ask(&Question::Export(asked)).await?;
        match rows.write(&page) {
            Ok(()) => {}
            // `tidegate export ... | head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
            Err(error) => return Err(Failure::usage(format!("cannot write: {error}"))),
        }
        count += page.rows.len() as u64;
        if page.next.is_none() {
            break;
        }
        if progress.elapsed() >= PROGRESS {
            output::note(&format!("{count} rows so far"));
            progress = Stopwatch::start();
        }
        cursor = page.next;
    }
    match rows.finish() {
        Ok(()) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(Failure::usage(format!("cannot write: {error}"))),
    }
}

/// Where rows go.
enum Rows<W: Write> {
    Csv { writer: Box<csv::Writer<W>>, with_header: bool },
    Jsonl(W),
}

impl<W: Write> Rows<W> {
    fn new(format: Format, out: W) -> Self {
        match format {
            Format::Csv => Self::Csv { writer: Box::new(csv::Writer::from_writer(out)), with_header: false },
            Format::Jsonl => Self::Jsonl(out),
        }
    }

    fn write(&mut self, page: &ExportPage) -> io::Result<()> {
        match self {
            Self::Csv { writer, with_header } => {
                if !std::mem::replace(with_header, true) {
                    writer.write_record(&page.columns).map_err(of_csv)?;
                }
                for row in &page.rows {
                    writer.write_record(row.iter().map(cell)).map_err(of_csv)?;
                }
            }
            Self::Jsonl(out) => {
                for row in &page.rows {
                    let object: serde_json::Map<String, Value> = page.columns.iter().cloned().zip(row.iter().cloned()).collect();
                    serde_json::to_writer(&mut *out, &object).map_err(io::Error::from)?;
                    out.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Csv { mut writer, .. } => writer.flush(),
            Self::Jsonl(mut out) => out.flush(),
        }
    }
}

/// The library's own conversion forgets of which kind an error is.
fn of_csv(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A value as the text of a cell; null is empty.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A spreadsheet takes such a text for a formula, and events hold what others wrote.
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(format: Format, page: &ExportPage) -> String {
        let mut out = Vec::new();
        let mut rows = Rows::new(format, &mut out);
        rows.write(page).unwrap();
        rows.write(page).unwrap();
        rows.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// As `tidegate export ... | head` closes its end.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_known_as_one_in_every_format() {
        let page = ExportPage { columns: vec!["a".to_owned()], rows: vec![vec![json!("x".repeat(20_000))]], next: None };
        for format in [Format::Csv, Format::Jsonl] {
            let error = Rows::new(format, Closed).write(&page).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        let page = ExportPage {
            columns: vec!["a".to_owned(), "b".to_owned()],
            rows: vec![vec![json!("=1+1"), json!(-5)], vec![json!("x, \"y\"\nz"), json!(null)]],
            next: None,
        };
        assert_eq!(written(Format::Csv, &page), "a,b\n'=1+1,-5\n\"x, \"\"y\"\"\nz\",\n'=1+1,-5\n\"x, \"\"y\"\"\nz\",\n");
        let lines = written(Format::Jsonl, &page);
        assert_eq!(lines.lines().next().unwrap(), "{\"a\":\"=1+1\",\"b\":-5}");
        assert_eq!(lines.lines().count(), 4);
    }
}
