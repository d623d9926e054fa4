//! Charts: what a tunnel, an endpoint or the fleet did, step by step.
//!
//! The level of the ladder is the step: minutes, hours or days. Left to itself the finest one is taken that still holds the
//! whole range and gives at most [`AUTO_SLOTS_MAX`] values. Every step of the range has a slot; one for which nothing is stored
//! and nothing waits is null, which is not zero. What the recorder has and the database has not is added.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::calendar::Step;
use super::heard::{self, Live};
use super::range::Range;
use super::{Names, QueryError, Scope};
use crate::actors::buffer::WaitingHistory;
use crate::clock::Timestamp;
use crate::config::RetentionConfig;
use crate::event::{Counters, TunnelKey};
use crate::history::figures::{Figures, Totals};
use crate::history::ladder::Level;
use crate::store::{HistoryRow, ReadConnection, Stretch};

/// Most values of a chart whose step was not asked for: a day by the minute, two months by the hour.
pub const AUTO_SLOTS_MAX: usize = 1_500;
/// Most values of a chart: five days by the minute, twenty years by the day. More would take longer than a page should wait
/// (`benches/queries.rs`).
pub const SLOTS_MAX: usize = 7_500;
/// Range of a chart, unless asked otherwise.
const RANGE_DEFAULT: Duration = Duration::from_secs(86_400);

/// `?tunnel=ENDPOINT/ID | endpoint=NAME | (neither: the fleet) &since=24h&until=&step=auto|1m|1h|1d`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Of this tunnel.
    #[param(pattern = "^[^/]+/.+$")]
    pub tunnel: Option<String>,
    /// Of this endpoint.
    pub endpoint: Option<String>,
    /// From then on: an age (`24h`, which it is unless given), RFC 3339, or a date.
    #[param(min_length = 1, max_length = 64)]
    pub since: Option<String>,
    /// Until then; now unless given.
    #[param(min_length = 1, max_length = 64)]
    pub until: Option<String>,
    /// `auto` (unless given), `1m`, `1h` or `1d`. A range of more than 7500 steps is refused.
    #[param(pattern = "^(auto|1m|1h|1d)$")]
    pub step: Option<String>,
}

/// `GET /api/v1/history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// `tunnel`, `endpoint` or `fleet`.
    pub scope: String,
    /// Name of the endpoint, with scope `tunnel` or `endpoint`.
    pub endpoint: Option<String>,
    /// The instance, with scope `tunnel`.
    pub instance_id: Option<String>,
    /// Start of the first step; RFC 3339.
    pub from: String,
    /// End of the range; RFC 3339.
    pub to: String,
    /// Usual length of a step in seconds: a day may have an hour more or less.
    pub step_s: u64,
    /// Zone in which hours and days are cut.
    pub timezone: String,
    /// What the figures count.
    pub counts: String,
    /// Rows that wait in the journal alone and are not among these: the database was away for long.
    pub in_journal_only: u64,
    /// The values.
    pub columns: Columns,
}

/// One value for each step. `null` means that nothing is known; 0 is known to be zero. Bytes are seen from an instance's
/// non-tunnel side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Columns {
    /// Start of the step, in seconds since 1970.
    pub time: Vec<i64>,
    /// Bytes received, TCP and UDP.
    #[serde(rename = "in")]
    pub received: Vec<Option<u64>>,
    /// Bytes sent, TCP and UDP.
    #[serde(rename = "out")]
    pub sent: Vec<Option<u64>>,
    /// Bytes received over TCP.
    pub tcp_in: Vec<Option<u64>>,
    /// Bytes sent over TCP.
    pub tcp_out: Vec<Option<u64>>,
    /// Bytes received over UDP.
    pub udp_in: Vec<Option<u64>>,
    /// Bytes sent over UDP.
    pub udp_out: Vec<Option<u64>>,
    /// Bytes received per second over the time that is covered; of many tunnels the sum of theirs by the
    /// minute, and by the hour and day what all moved by what has passed of it.
    pub speed_in: Vec<Option<i64>>,
    /// Bytes sent per second, likewise.
    pub speed_out: Vec<Option<i64>>,
    /// Mean round trip in milliseconds.
    pub ping_avg: Vec<Option<f64>>,
    /// Lowest.
    pub ping_min: Vec<Option<i32>>,
    /// Highest.
    pub ping_max: Vec<Option<i32>>,
    /// Idle pooled connections, last value; of many tunnels the sum.
    pub pool: Vec<Option<i32>>,
    /// Open TCP connections, likewise.
    pub tcps: Vec<Option<i32>>,
    /// Open UDP sessions, likewise.
    pub udps: Vec<Option<i32>>,
    /// Reports received.
    pub reports: Vec<Option<i32>>,
    /// Reports expected; 0 while the interval is not known.
    pub expected: Vec<Option<i32>>,
    /// Seconds of the step in which the master was heard (of the fleet: all of them), from the first report of what is asked for on. Where
    /// there is no value although the master was heard, a tunnel was down or had nothing to report; where it was not, nothing is known.
    #[serde(default)]
    pub heard_s: Vec<i64>,
    /// With steps of a day: `storage.timezone` was changed in it, so that it is longer or shorter than a day of one zone.
    #[serde(default)]
    pub zone_changed: Vec<bool>,
}

/// A question that was checked as far as that is possible without the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuestion {
    tunnel: Option<String>,
    endpoint: Option<String>,
    range: Range,
    step: Step,
    zone: Tz,
    now: Timestamp,
    retention: RetentionConfig,
    live: Option<Live>,
}

impl HistoryQuestion {
    /// Checks a question and chooses its step.
    ///
    /// # Errors
    /// [`QueryError::Invalid`].
    pub fn new(query: HistoryQuery, now: Timestamp, zone: Tz, retention: &RetentionConfig) -> Result<Self, QueryError> {
        let HistoryQuery { tunnel, endpoint, since, until, step } = query;
        let range = Range::parse(since.as_deref(), until.as_deref(), RANGE_DEFAULT, now, zone)?;
        let step = match step.as_deref() {
            None | Some("auto") => choose(range, now, retention),
            Some("1m") => Step::Minute,
            Some("1h") => Step::Hour,
            Some("1d") => Step::Day,
            Some(_) => return Err(QueryError::Invalid("step is one of auto, 1m, 1h, 1d".to_owned())),
        };
        if slots(range, step) > SLOTS_MAX as u64 {
            return Err(QueryError::Invalid(format!(
                "that would be {} values, and {SLOTS_MAX} is the most: ask for a shorter range or a longer step than {}",
                slots(range, step),
                step.as_str()
            )));
        }
        Ok(Self { tunnel, endpoint, range, step, zone, now, retention: retention.clone(), live: None })
    }

    /// With what a recorder knows that runs.
    #[must_use]
    pub fn with_live(self, live: Live) -> Self {
        Self { live: Some(live), ..self }
    }

    /// What it is about.
    ///
    /// # Errors
    /// [`QueryError`] where there is no such endpoint or tunnel.
    pub fn scope(&self, names: &Names) -> Result<Scope, QueryError> {
        names.scope(self.endpoint.as_deref(), self.tunnel.as_deref())
    }
}

/// About how many steps a range has.
fn slots(range: Range, step: Step) -> u64 {
    range.length().as_secs().div_ceil(step.seconds())
}

/// The finest step whose level still holds the whole range and that has not too many values; if none does, days.
fn choose(range: Range, now: Timestamp, retention: &RetentionConfig) -> Step {
    // A range as long as the retention is meant to be held by it.
    let held = |kept: Duration, step: Step| now.since(range.from) <= kept + Duration::from_secs(step.seconds());
    let fits = |step| slots(range, step) <= AUTO_SLOTS_MAX as u64;
    if fits(Step::Minute) && held(retention.minutes, Step::Minute) {
        Step::Minute
    } else if fits(Step::Hour) && held(retention.hours, Step::Hour) {
        Step::Hour
    } else {
        Step::Day
    }
}

fn level(step: Step) -> Level {
    match step {
        Step::Minute => Level::Minutes,
        Step::Hour => Level::Hours,
        Step::Day => Level::Days,
    }
}

/// The chart. `None`: what waited in memory was committed meanwhile, ask the recorder anew.
///
/// # Errors
/// [`QueryError`].
pub fn answer(
    reader: &mut ReadConnection,
    question: &HistoryQuestion,
    waiting: &WaitingHistory,
) -> Result<Option<History>, QueryError> {
    reader.in_snapshot(|reader| {
        let Some(rows) = not_stored(reader, waiting)? else { return Ok(None) };
        let names = Names::read(reader)?;
        let scope = question.scope(&names)?;
        if let Scope::Tunnel(tunnel) = &scope
            && !rows.iter().any(|row| row.tunnel == *tunnel)
            && !reader.has_history(tunnel)?
        {
            return Err(QueryError::NotFound(format!(
                "there is no tunnel `{}` and no history of one",
                question.tunnel.as_deref().unwrap_or_default().escape_debug()
            )));
        }
        let (now, live) = (question.now, question.live.as_ref());
        let stored_by = reader.calendar()?;
        let calendar = stored_by.followed_by(question.zone, now);
        let slots = question.step.slots(&calendar, question.range);
        let first = slots.first().copied().unwrap_or(question.range.from);
        let stored = reader.stretches(level(question.step), &scope, first, question.range.until)?;
        let end = slots.last().map_or(question.range.until, |last| question.step.next(&calendar, *last));
        let values = fill(&slots, end, question, &scope, &stored, &rows);
        let heard = heard::of(reader, &calendar, &scope, Range { from: first, until: now }, &question.retention, live, &rows)?;
        let heard_s = heard.seconds(&slots, question.range.until.min(now));
        let ends = slots.iter().skip(1).copied().chain([end]);
        let is_marked = |start, end| question.step == Step::Day && stored_by.changed_within(start, end);
        let zone_changed = slots.iter().zip(ends).map(|(start, end)| is_marked(*start, end)).collect();
        let (endpoint, instance) = match &scope {
            Scope::Fleet => (None, None),
            Scope::Endpoint(id) => (Some(*id), None),
            Scope::Tunnel(tunnel) => (Some(tunnel.endpoint), Some(tunnel.instance.as_str().to_owned())),
        };
        Ok(Some(History {
            scope: name(&scope).to_owned(),
            endpoint: endpoint.and_then(|id| names.of(id)).map(str::to_owned),
            instance_id: instance,
            from: first.to_string(),
            to: question.range.until.to_string(),
            step_s: question.step.seconds(),
            timezone: question.zone.name().to_owned(),
            counts: counts(&scope).to_owned(),
            in_journal_only: waiting.missing,
            columns: Columns { heard_s, zone_changed, ..columns(&slots, &values) },
        }))
    })
}

/// The rows of `waiting` that are not in the database as it is now; `None` if that cannot be told any more.
pub(super) fn not_stored<'a>(
    reader: &mut ReadConnection,
    waiting: &'a WaitingHistory,
) -> Result<Option<Vec<&'a HistoryRow>>, QueryError> {
    if waiting.counting.is_empty() && waiting.batches.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let ids: Vec<_> = waiting.batches.iter().map(|(id, _)| *id).collect();
    let known = reader.stored_batches(&ids, waiting.as_of)?;
    if known.newer {
        return Ok(None);
    }
    let batches = waiting.batches.iter().filter(|(id, _)| !known.stored.contains(id)).flat_map(|(_, rows)| rows);
    Ok(Some(batches.chain(&waiting.counting).collect()))
}

/// Whether a tunnel's row counts in what is asked for.
fn counts_in(scope: &Scope, row: &HistoryRow) -> bool {
    match scope {
        Scope::Fleet => row.in_totals.fleet,
        Scope::Endpoint(id) => row.tunnel.endpoint == *id && row.in_totals.endpoint,
        Scope::Tunnel(tunnel) => row.tunnel == *tunnel,
    }
}

fn name(scope: &Scope) -> &'static str {
    match scope {
        Scope::Fleet => "fleet",
        Scope::Endpoint(_) => "endpoint",
        Scope::Tunnel(_) => "tunnel",
    }
}

/// What the figures of a scope count.
pub(super) fn counts(scope: &Scope) -> &'static str {
    match scope {
        Scope::Tunnel(_) => "bytes as this instance reports them, seen from its non-tunnel side",
        Scope::Endpoint(_) => {
            "the endpoint's instances, each seen from its non-tunnel side; where a client and a server of this endpoint share \
             peer.sid they are the two ends of one tunnel, and the client alone counts"
        }
        Scope::Fleet => {
            "all instances, each seen from its non-tunnel side; where a client and a server share peer.sid they are the two ends \
             of one tunnel, and the client alone counts"
        }
    }
}

/// One value for each slot, of which the last ends at `end`: what is stored, and what waits on top of it.
///
/// The speed of many tunnels over an hour or a day is what all moved by what has passed of it: tunnels come and go, and the sum of
/// their own speeds, each over the time that it was there, would be a speed that never was.
fn fill(
    slots: &[Timestamp],
    end: Timestamp,
    question: &HistoryQuestion,
    scope: &Scope,
    stored: &[Stretch],
    rows: &[&HistoryRow],
) -> Vec<Option<Totals>> {
    let mut values = vec![None; slots.len()];
    let slot_of = |time: Timestamp| {
        let inside = time < question.range.until;
        slots.partition_point(|start| *start <= time).checked_sub(1).filter(|_| inside)
    };
    let many = !matches!(scope, Scope::Tunnel(_));
    let each = stored.iter().filter_map(|stretch| Some((slot_of(stretch.start)?, stretch.totals)));
    for (slot, totals) in each {
        values[slot] = Some(join(values[slot], totals, many, false));
    }
    let mut waiting: BTreeMap<usize, BTreeMap<&TunnelKey, Figures>> = BTreeMap::new();
    for row in rows.iter().filter(|row| counts_in(scope, row)) {
        let Some(slot) = slot_of(row.minute) else { continue };
        let figures = waiting.entry(slot).or_default().entry(&row.tunnel).or_default();
        *figures = figures.plus(row.figures);
    }
    for (slot, tunnels) in waiting {
        let mut totals = Totals::default();
        tunnels.into_values().for_each(|figures| totals.replace(None, figures));
        values[slot] = Some(join(values[slot], totals, many, question.step == Step::Minute));
    }
    if many && question.step != Step::Minute {
        let ends = slots.iter().skip(1).copied().chain([end]).map(|end| end.min(question.now));
        for ((start, end), value) in slots.iter().zip(ends).zip(&mut values) {
            // Traffic counts when it is reported, so in its first moments a step shows that of the step before.
            let passed = end.since(*start).max(Duration::from_secs(60));
            if let Some(totals) = value {
                let Counters { tcp_rx, tcp_tx, udp_rx, udp_tx } = totals.figures.delta;
                let speed = |tcp: u64, udp: u64| Some((tcp.saturating_add(udp) as f64 / passed.as_secs_f64()).round() as i64);
                (totals.speed_in, totals.speed_out) = (speed(tcp_rx, udp_rx), speed(tcp_tx, udp_tx));
            }
        }
    }
    values
}

/// Two parts of a step as one. Sums are exact. What is a sum over tunnels of something that does not add up over time (speeds,
/// last values) is exact where the parts are of other tunnels, as in a minute; else it is taken from the later part.
fn join(earlier: Option<Totals>, later: Totals, many: bool, other_tunnels: bool) -> Totals {
    let Some(earlier) = earlier else { return later };
    let figures = earlier.figures.plus(later.figures);
    if !many {
        return Totals { figures, speed_in: figures.speed_in(), speed_out: figures.speed_out(), tunnels: later.tunnels };
    }
    if other_tunnels {
        let add = |a: Option<i32>, b: Option<i32>| a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or_default())));
        let speed = |a: Option<i64>, b: Option<i64>| a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or_default())));
        return Totals {
            figures: Figures {
                pool: add(earlier.figures.pool, later.figures.pool),
                tcps: add(earlier.figures.tcps, later.figures.tcps),
                udps: add(earlier.figures.udps, later.figures.udps),
                ..figures
            },
            speed_in: speed(earlier.speed_in, later.speed_in),
            speed_out: speed(earlier.speed_out, later.speed_out),
            tunnels: earlier.tunnels.saturating_add(later.tunnels),
        };
    }
    Totals { figures, tunnels: earlier.tunnels.max(later.tunnels), ..later }
}

fn columns(slots: &[Timestamp], values: &[Option<Totals>]) -> Columns {
    fn column<T>(values: &[Option<Totals>], get: impl Fn(&Totals) -> Option<T>) -> Vec<Option<T>> {
        values.iter().map(|value| value.as_ref().and_then(&get)).collect()
    }
    let figures = |get: fn(&Figures) -> u64| column(values, move |totals| Some(get(&totals.figures)));
    Columns {
        time: slots.iter().map(|start| start.0.div_euclid(Timestamp::SECOND)).collect(),
        received: figures(|figures| figures.delta.tcp_rx.saturating_add(figures.delta.udp_rx)),
        sent: figures(|figures| figures.delta.tcp_tx.saturating_add(figures.delta.udp_tx)),
        tcp_in: figures(|figures| figures.delta.tcp_rx),
        tcp_out: figures(|figures| figures.delta.tcp_tx),
        udp_in: figures(|figures| figures.delta.udp_rx),
        udp_out: figures(|figures| figures.delta.udp_tx),
        speed_in: column(values, |totals| totals.speed_in),
        speed_out: column(values, |totals| totals.speed_out),
        // To a hundredth of a millisecond.
        ping_avg: column(values, |totals| totals.figures.ping.map(|ping| (ping.mean() * 100.0).round() / 100.0)),
        ping_min: column(values, |totals| totals.figures.ping.map(|ping| ping.min)),
        ping_max: column(values, |totals| totals.figures.ping.map(|ping| ping.max)),
        pool: column(values, |totals| totals.figures.pool),
        tcps: column(values, |totals| totals.figures.tcps),
        udps: column(values, |totals| totals.figures.udps),
        reports: column(values, |totals| Some(totals.figures.record_count)),
        expected: column(values, |totals| Some(totals.figures.expected_count)),
        heard_s: Vec::new(),
        zone_changed: Vec::new(),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
