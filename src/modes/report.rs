//! The report on the modes: what each cost, what the comparison found, and whether it is safe to go on to `batched`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StorageMode;
use super::usage::{Usage, micros};
use crate::clock::Timestamp;
use crate::config::Tuning;
use crate::store::Settings;

/// Events that have to be compared before `dual` says anything.
pub const COMPARED_MIN: u64 = 1_000;
/// Time in `dual` before it says anything: a day has every hour's load and every boundary.
pub const OBSERVED_MIN: Duration = Duration::from_secs(86_400);

/// `GET /api/v1/mode`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModeReport {
    /// `realtime`, `dual` or `batched`.
    pub mode: String,
    /// Since when it is in force in this life of the recorder; RFC 3339; `null` where no recorder runs.
    pub since: Option<String>,
    /// Why mode and values are not kept across a restart yet; `null` if they are.
    pub not_kept: Option<String>,
    /// The keys that may change while the recorder runs, by name.
    pub settings: BTreeMap<String, Setting>,
    /// The modes that were in force, in the order of a rollout; added up over restarts.
    pub modes: Vec<ModeCost>,
    /// What `dual` found since it was entered last; `null` if it never was.
    pub comparison: Option<ComparisonReport>,
    /// Whether it is safe to switch to `batched`.
    pub safe_to_switch: Verdict,
}

/// A key that may change while the recorder runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its value, as the configuration spells it.
    pub value: String,
    /// True if it was set with `tidegate mode --set`, which wins over the configuration.
    pub kept: bool,
}

/// What a mode cost and achieved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModeCost {
    /// Which.
    pub mode: String,
    /// How long it was in force while a recorder ran, in seconds.
    pub seconds: f64,
    /// Events and gaps stored.
    pub events: u64,
    /// Transactions committed, of all kinds.
    pub write_transactions: u64,
    /// Of these: one event each.
    pub single_transactions: u64,
    /// Of these: batches of events.
    pub batch_transactions: u64,
    /// Of these: live state.
    pub live_transactions: u64,
    /// Of these: history, endpoints, settings.
    pub other_transactions: u64,
    /// Rows written: events, gaps, history, live state.
    pub rows: u64,
    /// Bytes that the database wrote; `null` where that is not known. SQLite: what this recorder handed to the system, log and
    /// checkpoints included. PostgreSQL: its log, by everyone.
    pub bytes_written: Option<u64>,
    /// Transactions per 1,000 events; `null` without events.
    pub transactions_per_1000_events: Option<f64>,
    /// Milliseconds in the database per 1,000 events; `null` without events.
    pub database_ms_per_1000_events: Option<f64>,
    /// Mean time from receipt to the committed row, in milliseconds; `null` without events.
    pub latency_mean_ms: Option<f64>,
    /// The longest, in milliseconds; `null` without events.
    pub latency_max_ms: Option<f64>,
    /// Events that were to be written one at a time and were left to their batch.
    pub left_to_batch: u64,
}

/// What the batches and the rows that were written one at a time have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComparisonReport {
    /// Since when; RFC 3339.
    pub since: Option<String>,
    /// Rows that were there with every field equal.
    pub identical: u64,
    /// Rows that were there with another field somewhere.
    pub different: u64,
    /// Rows that were written one at a time, and then were not there; the batch stored them.
    pub missing_in_realtime: u64,
    /// Rows that were there and in no batch.
    pub missing_in_batch: u64,
}

/// An answer to "is it safe?".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Yes or no.
    pub safe: bool,
    /// Why not; empty if it is.
    pub reasons: Vec<String>,
}

/// What the report is made of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The mode in force.
    pub mode: StorageMode,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why it is not kept.
    pub not_kept: Option<String>,
    /// The values in force.
    pub tuning: Tuning,
    /// What is kept.
    pub kept: Settings,
    /// What each mode cost.
    pub usage: BTreeMap<StorageMode, Usage>,
    /// What a running recorder knows of its database; `None` where none runs.
    pub running: Option<Running>,
    /// The wall clock.
    pub now: Timestamp,
}

/// What a running recorder knows of its database.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// What failed last.
    pub database_error: Option<String>,
    /// A boundary passed and its flush is not committed.
    pub overdue: bool,
    /// Batches cut and not committed.
    pub waiting_batches: u64,
}

impl ModeReport {
    /// From the facts.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        let setting = |name: &&str| {
            let value = facts.tuning.text(name).unwrap_or_default();
            ((*name).to_owned(), Setting { value, kept: facts.kept.contains_key(*name) })
        };
        let dual = facts.usage.get(&StorageMode::Dual);
        Self {
            mode: facts.mode.as_str().to_owned(),
            since: facts.since.map(|since| since.to_string()),
            not_kept: facts.not_kept.clone(),
            settings: Tuning::KEYS.iter().map(setting).collect(),
            modes: facts.usage.iter().map(|(mode, usage)| ModeCost::new(*mode, usage)).collect(),
            comparison: dual.map(ComparisonReport::new),
            safe_to_switch: Verdict::new(facts),
        }
    }
}

impl ModeCost {
    /// From what was counted.
    #[must_use]
    pub fn new(mode: StorageMode, usage: &Usage) -> Self {
        let per_event = |sum: u64, factor: f64| (usage.events > 0).then(|| sum as f64 * factor / usage.events as f64);
        Self {
            mode: mode.as_str().to_owned(),
            seconds: usage.time_us as f64 / 1e6,
            events: usage.events,
            write_transactions: usage.transactions(),
            single_transactions: usage.single_transactions,
            batch_transactions: usage.batch_transactions,
            live_transactions: usage.live_transactions,
            other_transactions: usage.other_transactions,
            rows: usage.rows,
            bytes_written: usage.bytes,
            transactions_per_1000_events: per_event(usage.transactions(), 1e3),
            database_ms_per_1000_events: per_event(usage.database_us, 1.0),
            latency_mean_ms: per_event(usage.latency_us, 1e-3),
            latency_max_ms: (usage.events > 0).then(|| usage.latency_max_us as f64 / 1e3),
            left_to_batch: usage.left_to_batch,
        }
    }
}

impl ComparisonReport {
    fn new(usage: &Usage) -> Self {
        let found = usage.comparison;
        Self {
            since: usage.compared_since.map(|since| since.to_string()),
            identical: found.identical,
            different: found.different,
            missing_in_realtime: found.missing_in_realtime,
            missing_in_batch: found.missing_in_batch,
        }
    }
}

impl Verdict {
    fn new(facts: &Facts) -> Self {
        let mut reasons = Vec::new();
        let mut because = |reason: String| reasons.push(reason);
        match &facts.running {
            None => because("no recorder runs: what waits in the journal is not known; ask again while it runs".to_owned()),
            Some(Running { database_error, overdue, waiting_batches }) => {
                if let Some(error) = database_error {
                    because(format!("the database does not work: {error}"));
                }
                if *overdue {
                    because("a boundary passed over a minute ago and its flush is not committed".to_owned());
                }
                if *waiting_batches > 0 {
                    because(format!("{waiting_batches} batches are cut and not committed; ask again when they are"));
                }
            }
        }
        let dual = facts.usage.get(&StorageMode::Dual).copied().unwrap_or_default();
        let found = dual.comparison;
        for (count, what) in [
            (found.different, "stand in the database with other fields than were received"),
            (found.missing_in_realtime, "were written one at a time and were not there when their batch came"),
            (found.missing_in_batch, "stand in the database and were in no batch"),
        ] {
            if count > 0 {
                because(format!("{count} events {what}; the log names them"));
            }
        }
        if facts.mode != StorageMode::Dual && found.compared() == 0 {
            because("nothing was compared: `tidegate mode dual` does that".to_owned());
        } else {
            observed_enough(&dual, facts.now, &mut because);
        }
        Self { safe: reasons.is_empty(), reasons }
    }
}

fn observed_enough(dual: &Usage, now: Timestamp, because: &mut impl FnMut(String)) {
    let compared = dual.comparison.compared();
    if compared < COMPARED_MIN {
        because(format!("{compared} events were compared, which is too few: at least {COMPARED_MIN} should be"));
    }
    // The shorter of the two: a recorder that was off for a day has seen nothing.
    let since = dual.compared_since.map_or(0, |since| micros(now.since(since)));
    let observed = Duration::from_micros(since.min(dual.time_us));
    if observed < OBSERVED_MIN {
        let short = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
        because(format!(
            "`dual` was in force for {}, which is too short: {} show every hour's load",
            short(observed),
            short(OBSERVED_MIN)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modes::usage::Comparison;

    const NOW: Timestamp = Timestamp(1_795_435_200_000_000);

    /// After a day in `dual` with 5,000 equal events.
    fn good() -> Facts {
        let day = micros(OBSERVED_MIN);
        let dual = Usage {
            time_us: day,
            events: 5_000,
            single_transactions: 5_000,
            database_us: 10_000,
            latency_us: 20_000,
            latency_max_us: 3_000,
            compared_since: Some(Timestamp(NOW.0 - day.cast_signed())),
            comparison: Comparison { identical: 5_000, ..Comparison::default() },
            ..Usage::default()
        };
        Facts {
            mode: StorageMode::Dual,
            usage: [(StorageMode::Dual, dual)].into(),
            running: Some(Running::default()),
            now: NOW,
            ..Facts::default()
        }
    }

    fn verdict(change: impl FnOnce(&mut Facts, &mut Usage)) -> Verdict {
        let mut facts = good();
        let mut dual = facts.usage[&StorageMode::Dual];
        change(&mut facts, &mut dual);
        facts.usage.insert(StorageMode::Dual, dual);
        ModeReport::new(&facts).safe_to_switch
    }

    #[test]
    fn after_a_day_without_a_difference_it_is_safe() {
        assert_eq!(verdict(|_, _| ()), Verdict { safe: true, reasons: vec![] });
    }

    #[test]
    fn it_is_not_safe_with_the_reason_why() {
        type Change = fn(&mut Facts, &mut Usage);
        let changes: [(Change, &str); 10] = [
            (|_, dual| dual.comparison.different = 1, "other fields"),
            (|_, dual| dual.comparison.missing_in_realtime = 1, "were not there"),
            (|_, dual| dual.comparison.missing_in_batch = 1, "in no batch"),
            (|_, dual| dual.comparison.identical = 999, "999 events were compared"),
            (|_, dual| dual.time_us /= 2, "12h, which is too short"),
            (|_, dual| dual.compared_since = Some(NOW), "0s, which is too short"),
            (|facts, _| facts.running.as_mut().unwrap().overdue = true, "boundary"),
            (|facts, _| facts.running.as_mut().unwrap().waiting_batches = 2, "2 batches"),
            (|facts, _| facts.running.as_mut().unwrap().database_error = Some("locked".into()), "locked"),
            (|facts, _| facts.running = None, "no recorder runs"),
        ];
        for (change, words) in changes {
            let verdict = verdict(change);
            assert!(!verdict.safe && verdict.reasons.len() == 1 && verdict.reasons[0].contains(words), "{words}: {verdict:?}");
        }
        let never = ModeReport::new(&Facts { running: Some(Running::default()), ..Facts::default() });
        assert!(!never.safe_to_switch.safe && never.safe_to_switch.reasons[0].contains("nothing was compared"));
    }

    #[test]
    fn costs_are_per_thousand_events_and_unknown_without_events() {
        let report = ModeReport::new(&good());
        let [cost] = report.modes.as_slice() else { panic!("{:?}", report.modes) };
        assert_eq!((cost.transactions_per_1000_events, cost.database_ms_per_1000_events), (Some(1_000.0), Some(2.0)));
        assert_eq!((cost.latency_mean_ms, cost.latency_max_ms), (Some(0.004), Some(3.0)));
        let none = ModeCost::new(StorageMode::Batched, &Usage::default());
        assert_eq!((none.latency_mean_ms, none.database_ms_per_1000_events), (None, None));
    }
}
