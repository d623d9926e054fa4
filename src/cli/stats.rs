//! `tidegate stats`.

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use crate::config::Config;
use crate::status::snapshot;

#[derive(Debug, clap::Args)]
#[command(after_help = "Without a recorder it shows what the database knows; counters are then zero and `process` is null.\n\n\
                  Example:\n  tidegate stats --json")]
pub(super) struct Stats {
    #[command(flatten)]
    output: Json,
}

impl Stats {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let stats = Place::find(config).await.stats().await?;
        if self.output.json {
            output::json(&stats);
        } else {
            show(&stats);
        }
        Ok(ExitCode::Done)
    }
}

fn show(stats: &snapshot::Stats) {
    let mut table = output::table(&[]);
    let storage = &stats.optimized_storage;
    let bytes = |bytes: u64| bytesize::ByteSize(bytes).to_string();
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let count = |counts: &std::collections::BTreeMap<String, u64>| {
        let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{} {n}", plain(name))).collect();
        if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
    };
    let flushes = storage.flushes;
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row(
        "recorder",
        match &stats.process {
            Some(process) => format!(
                "pid {}, up {}, {}, version {}",
                process.pid,
                humantime::format_duration(std::time::Duration::from_secs(process.uptime_s as u64)),
                bytes(process.rss_bytes),
                process.version
            ),
            None if !stats.database.ok => "waits for its database".to_owned(),
            None => "not running; this is what the database knows".to_owned(),
        },
    );
    row(
        "database",
        match &stats.database.error {
            Some(error) => format!("failing since {}: {}", known(&stats.database.since), plain(error)),
            None => "ok".to_owned(),
        },
    );
    row("buffer", format!("{} of {} events ({:.1} %)", storage.buffer_size, storage.max_buffer_size, storage.buffer_usage_pct));
    row("last flush", known(&storage.last_flush_time));
    row("next boundary", known(&storage.next_boundary));
    row(
        "flushes",
        format!(
            "threshold {}, hourly {}, manual {}, drain {}, recovery {}",
            flushes.threshold, flushes.hourly, flushes.manual, flushes.drain, flushes.recovery
        ),
    );
    row(
        "rows",
        format!("{} written, {} skipped, {} in quarantine", storage.rows_written, storage.rows_skipped, storage.quarantined),
    );
    row(
        "writes",
        format!("{} transactions, {} retries, {} failures", storage.write_transactions, storage.retries, storage.failures),
    );
    row("waiting", format!("{} batches, {}", storage.waiting_batches, bytes(storage.buffer_bytes)));
    row("journal", bytes(storage.journal_bytes));
    row("events", count(&stats.events));
    row("dropped", count(&stats.dropped));
    output::print_table(&table);
    if stats.endpoints.is_empty() {
        return;
    }
    let mut table = output::table(&["ENDPOINT", "STATUS", "RECEIVED", "MISSED", "RECONNECTS", "TUNNELS", "REASON"]);
    for endpoint in &stats.endpoints {
        table.add_row([
            endpoint.name.clone(),
            endpoint.status.as_str().to_owned(),
            endpoint.events_received.to_string(),
            endpoint.reports_missed.to_string(),
            endpoint.reconnects.to_string(),
            endpoint.tunnels.to_string(),
            plain(&endpoint.reason),
        ]);
    }
    output::print("");
    output::print_table(&table);
}
