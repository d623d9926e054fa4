//! `tidegate mode`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output::{self, plain};
use super::place::Place;
use crate::actors::realtime::Switch;
use crate::config::{Config, Origin, Tuning};
use crate::modes::StorageMode;
use crate::modes::report::{ComparisonReport, ModeCost, ModeReport, Verdict};
use crate::sim::compare::{self, Compared, PROMISED_PCT};

/// Keys that say where the recorder is and not how it works; `--set` means the command with them.
const FOR_THE_COMMAND: [&str; 5] = ["database.url", "http.listen", "http.token", "journal.dir", "log"];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With the recorder running a change is in effect at once; without it, it is kept in the database for the \
                  next start. What the database knows wins over the configuration. --set changes one of\n  \
                  storage.max_buffer_size, storage.batch_size, storage.flush_interval, cache.sync_interval\nfor good; an \
                  empty value goes back to the configuration. docs/rollout.md has the three stages.\n\nExamples:\n  \
                  tidegate mode                    # which one, what each cost, and whether it is safe to go on\n  \
                  tidegate mode dual\n  tidegate mode --set storage.max_buffer_size=500\n  tidegate mode compare            # what batches save, measured"
)]
pub(super) struct Mode {
    /// The mode from now on, or `compare`
    #[arg(value_name = "MODE")]
    mode: Option<Name>,
    /// With `compare`: numbers of tunnels, each of which reports every 5 s
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 10, 65])]
    tunnels: Vec<usize>,
    /// With `compare`: how long they report, in virtual time
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    time: Duration,
    #[command(flatten)]
    output: Json,
    /// Keys that are to change: the global `--set`.
    #[arg(skip)]
    set: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// Each event by itself, at once, as panels do
    Realtime,
    /// Both, and each batch is compared with what stands there
    Dual,
    /// In batches only
    Batched,
    /// Measure what batches save: the same simulated stream in realtime and in batched; touches no recorder
    Compare,
}

impl Name {
    fn mode(self) -> Option<StorageMode> {
        match self {
            Self::Realtime => Some(StorageMode::Realtime),
            Self::Dual => Some(StorageMode::Dual),
            Self::Batched => Some(StorageMode::Batched),
            Self::Compare => None,
        }
    }
}

impl Mode {
    /// Takes the keys that are to change out of the global `--set KEY=VALUE`, which else would only configure this command.
    pub(super) fn take_keys(&mut self, set: &mut Vec<String>) -> Result<(), Failure> {
        self.set = to_change(set)?;
        set.retain(|set| set.split_once('=').is_none_or(|(name, _)| !Tuning::has(name.trim())));
        Ok(())
    }

    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        if let Some(Name::Compare) = self.mode {
            return self.compare(config);
        }
        let switch = Switch { mode: self.mode.and_then(Name::mode), set: self.set };
        let asked = switch.mode;
        let place = Place::find(config).await;
        let before = if asked == Some(StorageMode::Batched) { Some(place.mode_report().await?) } else { None };
        let report = if switch.is_empty() { place.mode_report().await? } else { place.switch_mode(&switch).await? };
        if self.output.json {
            output::json(&report);
        } else {
            show(&report);
        }
        if let Some(before) = before.filter(|before| before.mode == StorageMode::Dual.as_str() && !before.safe_to_switch.safe) {
            output::note(&format!("note: not everything spoke for it: {}", before.safe_to_switch.reasons.join("; ")));
        }
        if let Some(reason) = &report.not_kept {
            output::note(&format!(
                "note: this holds now, and is kept across a restart as soon as the database can be written: {}",
                plain(reason)
            ));
        }
        Ok(ExitCode::Done)
    }
}

impl Mode {
    /// The simulation has a System of its own, so it needs a thread of its own.
    fn compare(self, config: &Config) -> Result<ExitCode, Failure> {
        const KEY: &str = "cache.sync_interval";
        if let Some(other) = self.set.keys().find(|name| *name != KEY) {
            return Err(Failure::usage(format!("with `compare` only {KEY} can be set, not {other}")));
        }
        let live_sync = match self.set.get(KEY) {
            Some(text) => {
                let tuning = Tuning::new(&config.storage, config.cache.sync_interval);
                let tuned = tuning.with(KEY, text, &Origin::Flag("--set"));
                tuned.map_err(|error| Failure::usage(error.to_string()))?.sync_interval
            }
            None => compare::default_sync(),
        };
        let mut all = Vec::new();
        for tunnels in self.tunnels {
            output::note(&format!("{tunnels} tunnels in realtime and in batched ..."));
            let time = self.time;
            let measured = std::thread::spawn(move || compare::measure(tunnels, time, live_sync)).join();
            let measured = measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.push(measured.map_err(|error| Failure::database(error.to_string()))?);
        }
        if self.output.json {
            output::json(&serde_json::json!({ "promised_pct": PROMISED_PCT, "runs": all }));
        } else {
            show_saving(&all);
        }
        Ok(ExitCode::Done)
    }
}

fn show_saving(all: &[Compared]) {
    let mut table = output::table(&[
        "TUNNELS",
        "MODE",
        "EVENTS",
        "TRANSACTIONS",
        "SINGLE",
        "BATCH",
        "LIVE",
        "OTHER",
        "WRITTEN",
        "JOURNAL",
        "SAVED",
    ]);
    for compared in all {
        let Compared { tunnels, realtime, batched, journal_bytes, .. } = compared;
        let bytes_saved = compared.bytes_saved_pct.map_or_else(String::new, |saved| format!(", {saved:.1} % of bytes"));
        let times =
            compared.bytes_times_fewer.map_or_else(String::new, |times| format!(" ({times:.1} times fewer with the journal)"));
        let saved = format!("{:.1} % of transactions{bytes_saved}{times}", compared.transactions_saved_pct);
        let journal = bytesize::ByteSize(*journal_bytes).to_string();
        for (cost, journal, saved) in [(realtime, "-".to_owned(), String::new()), (batched, journal, saved)] {
            table.add_row([
                tunnels.to_string(),
                cost.mode.clone(),
                cost.events.to_string(),
                cost.write_transactions.to_string(),
                cost.single_transactions.to_string(),
                cost.batch_transactions.to_string(),
                cost.live_transactions.to_string(),
                cost.other_transactions.to_string(),
                cost.bytes_written.map_or_else(|| "-".to_owned(), |bytes| bytesize::ByteSize(bytes).to_string()),
                journal,
                saved,
            ]);
        }
    }
    output::print_table(&table);
    output::print(&format!(
        "\nPromised: {PROMISED_PCT} %. Live state is synced in batched only: in realtime single writes do its work. It comes every\n{} s \
         (--set cache.sync_interval) whatever the number of tunnels, so with one tunnel, which reports every 5 s, it is most of what there is.",
        all.first().map_or(0, |compared| compared.sync_interval_s)
    ));
}

/// The keys that are to change.
fn to_change(set: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut change = BTreeMap::new();
    for (name, value) in set.iter().filter_map(|set| set.split_once('=')).map(|(name, value)| (name.trim(), value.trim())) {
        if Tuning::has(name) {
            change.insert(name.to_owned(), value.to_owned());
        } else if name == StorageMode::KEY {
            return Err(Failure::usage(format!("say `tidegate mode {value}` to change {name}")));
        } else if !FOR_THE_COMMAND.contains(&name) {
            // It is none, or one that only a start reads.
            Tuning::default().with(name, value, &Origin::Flag("--set")).map_err(|error| Failure::usage(error.to_string()))?;
        }
    }
    Ok(change)
}

fn show(report: &ModeReport) {
    let since = report.since.as_ref().map_or_else(|| "no recorder runs".to_owned(), |since| format!("since {since}"));
    output::print(&format!("{} ({since})\n", report.mode));
    let mut table = output::table(&["KEY", "VALUE", "FROM"]);
    for (name, setting) in &report.settings {
        table.add_row([
            name.clone(),
            setting.value.clone(),
            if setting.kept { "tidegate mode" } else { "configuration" }.to_owned(),
        ]);
    }
    output::print_table(&table);
    if !report.modes.is_empty() {
        output::print("");
        costs(&report.modes);
    }
    if let Some(comparison) = &report.comparison {
        let ComparisonReport { since, identical, different, missing_in_realtime, missing_in_batch } = comparison;
        output::print(&format!(
            "\nCompared in dual since {}: {identical} identical, {different} different, {missing_in_realtime} missing in realtime, \
             {missing_in_batch} missing in the batch",
            since.as_deref().unwrap_or("its first start")
        ));
    }
    let Verdict { safe, reasons } = &report.safe_to_switch;
    output::print(&format!("\n{}", verdict(&report.mode, *safe)));
    for reason in reasons {
        output::print(&format!("  - {}", plain(reason)));
    }
}

/// What the verdict means where that mode is in force.
fn verdict(mode: &str, safe: bool) -> &'static str {
    match (mode == StorageMode::Batched.as_str(), safe) {
        (false, true) => "Safe to switch to batched: yes",
        (false, false) => "Safe to switch to batched: no",
        (true, true) => "Batched is in force, and all that was compared speaks for it.",
        (true, false) => "Batched is in force, so there is nothing to switch to. This would speak against a switch:",
    }
}

fn costs(modes: &[ModeCost]) {
    let mut header = vec![""];
    header.extend(modes.iter().map(|cost| cost.mode.as_str()));
    let mut table = output::table(&header);
    let mut row = |name: &str, value: &dyn Fn(&ModeCost) -> String| {
        table.add_row(std::iter::once(name.to_owned()).chain(modes.iter().map(value)));
    };
    let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    row("in force", &|cost| humantime::format_duration(std::time::Duration::from_secs(cost.seconds as u64)).to_string());
    row("events", &|cost| cost.events.to_string());
    row("write transactions", &|cost| cost.write_transactions.to_string());
    row("  of single events", &|cost| cost.single_transactions.to_string());
    row("  of batches", &|cost| cost.batch_transactions.to_string());
    row("  of live state", &|cost| cost.live_transactions.to_string());
    row("  of history and others", &|cost| cost.other_transactions.to_string());
    row("  per 1,000 events", &|cost| known(cost.transactions_per_1000_events));
    row("rows", &|cost| cost.rows.to_string());
    row("written", &|cost| cost.bytes_written.map_or_else(|| "-".to_owned(), |bytes| bytesize::ByteSize(bytes).to_string()));
    row("ms in the database per 1,000 events", &|cost| known(cost.database_ms_per_1000_events));
    row("ms from event to row, mean", &|cost| known(cost.latency_mean_ms));
    row("ms from event to row, longest", &|cost| known(cost.latency_max_ms));
    row("left to their batch", &|cost| cost.left_to_batch.to_string());
    output::print_table(&table);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(set: &[&str]) -> Result<Vec<String>, String> {
        let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
        to_change(&set).map(|change| change.into_keys().collect()).map_err(|failure| failure.message)
    }

    #[test]
    fn set_changes_what_may_change_and_finds_the_recorder_with_the_rest() {
        assert_eq!(keys(&["storage.batch_size=7", "http.listen=127.0.0.1:1", "log=warn"]).unwrap(), ["storage.batch_size"]);
        assert!(keys(&["retention.events=1h"]).unwrap_err().contains("cannot change while the recorder runs"));
        assert!(keys(&["storage.batchsize=7"]).unwrap_err().contains("did you mean `storage.batch_size`?"));
        assert!(keys(&["storage.mode=dual"]).unwrap_err().contains("tidegate mode dual"));
    }
}
