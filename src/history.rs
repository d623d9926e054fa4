//! Minute windows: what a sample adds to them, when they close, and what has to be known to go on after a crash.
//!
//! A window is a UTC minute of one tunnel, by time of receipt. A delta counts from the previous sample, whichever
//! window that was in, so that nothing falls between two windows. Counters that fall are never wrap-around
//! (protocol: section 5 of NodePass's behaviour): in doubt nothing is counted and the doubt is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, Event, EventKind, Gap, Record, TunnelKey};
use crate::id::EventId;
use crate::store::{CounterEvent, FlushInfo, HistoryBatch, HistoryRow, PingStats};

/// Two report intervals are taken for the same if they differ by less than this share of the longer one.
const INTERVAL_TOLERANCE: f64 = 0.1;
/// Reports further apart than this are not a cadence but a gap.
const INTERVAL_MAX: Duration = Duration::from_secs(600);
/// Updates closer together than this are a change of state and its echo, not a cadence.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// What is known of one tunnel's counters; stored in `history_state` so that counting goes on after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TunnelHistory {
    last: Option<LastSample>,
    /// Counters before a reset that the next report may undo (masters up to 1.8.1).
    before_reset: Option<Counters>,
    last_update: Option<Timestamp>,
    interval: Interval,
    window: Option<Window>,
    /// The latest minute that has a row: a window of that minute or of one before is a further part of a row.
    #[serde(default)]
    latest_minute: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LastSample {
    counters: Counters,
    at: Timestamp,
    event: EventId,
}

/// The learnt report interval, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Interval {
    learnt: Option<i64>,
    candidate: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    minute: Timestamp,
    /// When its first sample came.
    first: Timestamp,
    delta: Counters,
    /// Time over which `delta` was moved: from the sample before the first one to the last one, in microseconds.
    covered: i64,
    ping_sum: i64,
    ping_count: i64,
    ping_min: i32,
    ping_max: i32,
    pool: Option<i32>,
    tcps: Option<i32>,
    udps: Option<i32>,
    record_count: i32,
    merge: bool,
}

/// What a change of counters means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Movement {
    /// They grew, or stayed.
    Grew(Counters),
    /// They went to zero.
    Reset,
    /// The report after a reset brought the old figures back.
    ResetUndone(Counters),
    /// They fell, and nothing shows why.
    FallUnknown,
}

fn movement(before: Counters, after: Counters, before_reset: Option<Counters>) -> Movement {
    if let Some(old) = before_reset
        && old != Counters::default()
        && let Some(since) = difference(old, after)
    {
        return Movement::ResetUndone(since);
    }
    match difference(before, after) {
        Some(delta) => Movement::Grew(delta),
        None if after == Counters::default() => Movement::Reset,
        None => Movement::FallUnknown,
    }
}

/// `after - before`, or `None` if any counter is smaller.
fn difference(before: Counters, after: Counters) -> Option<Counters> {
    Some(Counters {
        tcp_rx: after.tcp_rx.checked_sub(before.tcp_rx)?,
        tcp_tx: after.tcp_tx.checked_sub(before.tcp_tx)?,
        udp_rx: after.udp_rx.checked_sub(before.udp_rx)?,
        udp_tx: after.udp_tx.checked_sub(before.udp_tx)?,
    })
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        tcp_rx: a.tcp_rx.saturating_add(b.tcp_rx),
        tcp_tx: a.tcp_tx.saturating_add(b.tcp_tx),
        udp_rx: a.udp_rx.saturating_add(b.udp_rx),
        udp_tx: a.udp_tx.saturating_add(b.udp_tx),
    }
}

impl Interval {
    /// A cadence counts as learnt when it was seen twice in a row; changes of state between two reports do not disturb it.
    fn observe(&mut self, apart: Duration) {
        if apart < INTERVAL_MIN || apart > INTERVAL_MAX {
            return;
        }
        let apart = i64::try_from(apart.as_micros()).unwrap_or(i64::MAX);
        let alike = |other: i64| (apart - other).abs() as f64 <= INTERVAL_TOLERANCE * apart.max(other) as f64;
        if self.candidate.is_some_and(alike) {
            self.learnt = Some(apart);
        }
        self.candidate = Some(apart);
    }
}

impl Window {
    fn new(minute: Timestamp, first: Timestamp, merge: bool) -> Self {
        Self {
            minute,
            first,
            delta: Counters::default(),
            covered: 0,
            ping_sum: 0,
            ping_count: 0,
            ping_min: i32::MAX,
            ping_max: i32::MIN,
            pool: None,
            tcps: None,
            udps: None,
            record_count: 0,
            merge,
        }
    }

    fn row(&self, tunnel: &TunnelKey, interval: Interval, until: Timestamp) -> HistoryRow {
        let end = until.min(Timestamp(self.minute.0 + Timestamp::MINUTE));
        // A window whose first sample came within an interval of its start covers the whole minute.
        let start = match interval.learnt {
            Some(learnt) if self.first.0 - self.minute.0 > learnt => self.first.0 - learnt,
            _ => self.minute.0,
        };
        let expected = interval.learnt.map_or(0, |learnt| ((end.0 - start) as f64 / learnt as f64).round() as i32);
        let speed = |bytes: u64| (self.covered > 0).then(|| bytes as f64 / (self.covered as f64 / 1e6));
        HistoryRow {
            tunnel: tunnel.clone(),
            minute: self.minute,
            delta: self.delta,
            ping: (self.ping_count > 0).then(|| PingStats {
                mean: self.ping_sum as f64 / self.ping_count as f64,
                min: self.ping_min,
                max: self.ping_max,
            }),
            pool: self.pool,
            tcps: self.tcps,
            udps: self.udps,
            speed_in: speed(self.delta.tcp_rx.saturating_add(self.delta.udp_rx)),
            speed_out: speed(self.delta.tcp_tx.saturating_add(self.delta.udp_tx)),
            record_count: self.record_count,
            expected_count: expected,
            merge: self.merge,
        }
    }
}

/// The histories of all tunnels: open windows, closed rows that wait to be stored, and doubts about counters.
#[derive(Debug, Default)]
pub struct Histories {
    tunnels: BTreeMap<TunnelKey, TunnelHistory>,
    /// Closed rows by tunnel and minute, which is the order in which they touch the fewest pages.
    closed: BTreeMap<(TunnelKey, Timestamp), HistoryRow>,
    counter_events: Vec<CounterEvent>,
    /// Tunnels whose state differs from the one handed over last.
    changed: BTreeSet<TunnelKey>,
    gone: BTreeSet<TunnelKey>,
    through: EventId,
}

impl Histories {
    /// Goes on from what the database or a journaled batch holds. `through` is the last event contained in it.
    ///
    /// A state that cannot be read (it was written by a later version) begins anew: its counters are learnt from the next
    /// sample, at the price of one delta.
    pub fn restore<'a>(&mut self, through: EventId, states: impl IntoIterator<Item = (TunnelKey, Option<&'a str>)>) {
        self.through = self.through.max(through);
        for (tunnel, state) in states {
            match state.and_then(|json| serde_json::from_str(json).ok()) {
                Some(history) => self.tunnels.insert(tunnel, history),
                None => self.tunnels.remove(&tunnel),
            };
        }
    }

    /// The last event that is contained.
    #[must_use]
    pub fn through(&self) -> EventId {
        self.through
    }

    /// Closed rows that wait to be stored.
    #[must_use]
    pub fn waiting_rows(&self) -> usize {
        self.closed.len()
    }

    /// Counts a record. Records with ids not above [`Self::through`] were counted before and are left out.
    pub fn observe(&mut self, record: &Record) {
        if record.id() <= self.through {
            return;
        }
        self.through = record.id();
        match record {
            Record::Event(event) => self.observe_event(event),
            Record::Gap(gap) if gap.reason.as_ref() == Gap::VANISHED => {
                self.remove(&TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() });
            }
            Record::Gap(_) => {}
        }
    }

    /// Leaves a record out that was not received, but for what it says about tunnels that are gone.
    pub fn skip(&mut self, record: &Record) {
        match record {
            Record::Event(event) if event.kind != EventKind::Delete => self.through = self.through.max(event.id),
            record => self.observe(record),
        }
    }

    fn observe_event(&mut self, event: &Event) {
        let Some(tunnel) = event.tunnel() else { return };
        if let Some(sample) = &event.sample {
            let history = self.tunnels.entry(tunnel.clone()).or_default();
            let moved = history.last.map(|last| movement(last.counters, sample.counters, history.before_reset));
            let (delta, doubt) = match moved {
                None => (Counters::default(), None),
                Some(Movement::Grew(delta)) => (delta, None),
                Some(Movement::Reset) => (Counters::default(), Some("reset")),
                Some(Movement::ResetUndone(delta)) => (delta, Some("reset_undone")),
                Some(Movement::FallUnknown) => (Counters::default(), Some("fall_unknown")),
            };
            if let (Some(kind), Some(last)) = (doubt, history.last) {
                self.counter_events.push(CounterEvent {
                    event: event.id,
                    tunnel: tunnel.clone(),
                    at: event.received_at,
                    kind: kind.into(),
                    before: last.counters,
                    after: sample.counters,
                });
            }
            // Only the very next figures can undo a reset.
            history.before_reset = match moved {
                Some(Movement::Reset) => history.last.map(|last| last.counters),
                _ if sample.counters == Counters::default() => history.before_reset,
                _ => None,
            };
            let minute = event.received_at.minute();
            if let Some(window) = history.window.take_if(|window| window.minute != minute) {
                let row =
                    window.row(&tunnel, history.interval, event.received_at.max(Timestamp(window.minute.0 + Timestamp::MINUTE)));
                close(&mut self.closed, row);
                history.latest_minute = history.latest_minute.max(Some(window.minute));
            }
            let merge = history.latest_minute.is_some_and(|latest| minute <= latest);
            let covered = history.last.map_or(0, |last| event.received_at.0.saturating_sub(last.at.0).max(0));
            let window = history.window.get_or_insert_with(|| Window::new(minute, event.received_at, merge));
            window.delta = sum(window.delta, delta);
            window.covered += covered;
            if let Some(ping) = sample.ping {
                window.ping_sum += i64::from(ping);
                window.ping_count += 1;
                window.ping_min = window.ping_min.min(ping);
                window.ping_max = window.ping_max.max(ping);
            }
            window.pool = sample.pool.or(window.pool);
            window.tcps = sample.tcps.or(window.tcps);
            window.udps = sample.udps.or(window.udps);
            if event.kind == EventKind::Update {
                window.record_count += 1;
                if let Some(before) = history.last_update.replace(event.received_at) {
                    history.interval.observe(event.received_at.since(before));
                }
            }
            history.last = Some(LastSample { counters: sample.counters, at: event.received_at, event: event.id });
            self.gone.remove(&tunnel);
            self.changed.insert(tunnel.clone());
        }
        if event.kind == EventKind::Delete {
            self.remove(&tunnel);
        }
    }

    /// Closes the windows of tunnels that are not among these, and forgets their counters.
    pub fn keep_only(&mut self, known: &BTreeSet<TunnelKey>) {
        let gone: Vec<TunnelKey> = self.tunnels.keys().filter(|tunnel| !known.contains(tunnel)).cloned().collect();
        for tunnel in gone {
            self.remove(&tunnel);
        }
    }

    /// Closes the windows of an endpoint's tunnels and forgets their counters.
    pub fn forget(&mut self, endpoint: EndpointId) {
        let tunnels: Vec<TunnelKey> = self.tunnels.keys().filter(|tunnel| tunnel.endpoint == endpoint).cloned().collect();
        for tunnel in tunnels {
            self.remove(&tunnel);
        }
    }

    fn remove(&mut self, tunnel: &TunnelKey) {
        if let Some(history) = self.tunnels.remove(tunnel) {
            if let Some(window) = history.window {
                close(&mut self.closed, window.row(tunnel, history.interval, history.last.map_or(window.first, |last| last.at)));
            }
            self.changed.remove(tunnel);
            self.gone.insert(tunnel.clone());
        }
    }

    /// Closes the windows of minutes that are over.
    pub fn close_until(&mut self, now: Timestamp) {
        let minute = now.minute();
        for (tunnel, history) in &mut self.tunnels {
            if let Some(window) = history.window.take_if(|window| window.minute < minute) {
                close(&mut self.closed, window.row(tunnel, history.interval, now));
                history.latest_minute = history.latest_minute.max(Some(window.minute));
                self.changed.insert(tunnel.clone());
            }
        }
    }

    /// Rows of windows that are still open, as they stand at `now`.
    pub fn open_rows(&self, now: Timestamp) -> impl Iterator<Item = HistoryRow> {
        self.tunnels
            .iter()
            .filter_map(move |(tunnel, history)| history.window.map(|window| window.row(tunnel, history.interval, now)))
    }

    /// Hands over all that waits, with the states that changed; `None` if there is nothing. With `open` also the rows of open
    /// windows as far as they are: their windows stay open, and a later row of the same minute contains them.
    pub fn cut(&mut self, id: EventId, info: FlushInfo, open: bool) -> Option<HistoryBatch> {
        if open {
            let rows: Vec<HistoryRow> = self.open_rows(info.cut_at).collect();
            for row in rows {
                if row.merge
                    && let Some(history) = self.tunnels.get_mut(&row.tunnel)
                {
                    // A part is added to its row, so it may be handed over once only: what comes is a further part.
                    history.window = None;
                    history.latest_minute = history.latest_minute.max(Some(row.minute));
                    self.changed.insert(row.tunnel.clone());
                }
                close(&mut self.closed, row);
            }
        }
        if self.closed.is_empty() && self.counter_events.is_empty() && self.changed.is_empty() && self.gone.is_empty() {
            return None;
        }
        let changed = std::mem::take(&mut self.changed).into_iter().map(|tunnel| {
            let state = self.tunnels.get(&tunnel).and_then(|history| serde_json::to_string(history).ok());
            (tunnel, state.map(String::into_boxed_str))
        });
        let mut states: Vec<_> = changed.collect();
        states.extend(std::mem::take(&mut self.gone).into_iter().map(|tunnel| (tunnel, None)));
        Some(HistoryBatch {
            id,
            info,
            through: self.through,
            rows: std::mem::take(&mut self.closed).into_values().collect(),
            counter_events: std::mem::take(&mut self.counter_events),
            states,
        })
    }
}

/// Adds a closed row. Two rows of one minute in memory happen where the wall clock went back over it.
fn close(closed: &mut BTreeMap<(TunnelKey, Timestamp), HistoryRow>, row: HistoryRow) {
    let key = (row.tunnel.clone(), row.minute);
    match closed.remove(&key) {
        Some(earlier) if row.merge => closed.insert(key, merged(earlier, row)),
        _ => closed.insert(key, row),
    };
}

/// The row of a minute of which two parts were counted apart.
#[must_use]
pub fn merged(earlier: HistoryRow, later: HistoryRow) -> HistoryRow {
    let weigh = |a: f64, b: f64| {
        let (m, n) = (f64::from(earlier.record_count.max(1)), f64::from(later.record_count.max(1)));
        (a * m + b * n) / (m + n)
    };
    let speed = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => Some(weigh(a, b)),
        (a, b) => a.or(b),
    };
    HistoryRow {
        delta: sum(earlier.delta, later.delta),
        ping: match (earlier.ping, later.ping) {
            (Some(a), Some(b)) => Some(PingStats { mean: weigh(a.mean, b.mean), min: a.min.min(b.min), max: a.max.max(b.max) }),
            (a, b) => a.or(b),
        },
        pool: later.pool.or(earlier.pool),
        tcps: later.tcps.or(earlier.tcps),
        udps: later.udps.or(earlier.udps),
        speed_in: speed(earlier.speed_in, later.speed_in),
        speed_out: speed(earlier.speed_out, later.speed_out),
        record_count: earlier.record_count + later.record_count,
        expected_count: earlier.expected_count.max(later.expected_count),
        merge: earlier.merge,
        tunnel: later.tunnel,
        minute: later.minute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{InstanceId, Sample};
    use crate::store::FlushCause;

    const NOON: i64 = 1_795_435_200_000_000;

    fn tunnel() -> TunnelKey {
        TunnelKey { endpoint: EndpointId(1), instance: InstanceId::from("9545ac3d") }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(NOON + seconds * Timestamp::SECOND)
    }

    fn update(seconds: i64, tcp_rx: u64) -> Record {
        of_kind(EventKind::Update, seconds, tcp_rx)
    }

    fn of_kind(kind: EventKind, seconds: i64, tcp_rx: u64) -> Record {
        let sample = Sample { counters: Counters { tcp_rx, ..Counters::default() }, ping: Some(10), ..Sample::default() };
        Record::Event(Event {
            id: EventId(NOON + seconds * 10 + 1),
            endpoint: EndpointId(1),
            received_at: at(seconds),
            event_time: None,
            kind,
            instance: tunnel().instance,
            sample: Some(sample),
            config: None,
            detail: None,
            logs: None,
            stored: true,
        })
    }

    fn cut(histories: &mut Histories, seconds: i64, open: bool) -> HistoryBatch {
        let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: at(seconds) };
        histories.cut(EventId(1), info, open).expect("something to cut")
    }

    #[test]
    fn traffic_between_two_windows_is_in_the_later_one_and_the_sum_is_the_movement() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 1000), (5, 1500), (55, 2000), (60, 2600), (65, 2700), (130, 3000)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let batch = cut(&mut histories, 131, true);
        let deltas: Vec<u64> = batch.rows.iter().map(|row| row.delta.tcp_rx).collect();
        assert_eq!(deltas, [1000, 700, 300]);
        assert_eq!(deltas.iter().sum::<u64>(), 3000 - 1000);
        assert_eq!(batch.rows[1].speed_in, Some(700.0 / 10.0));
    }

    #[test]
    fn a_reset_to_zero_counts_nothing_and_growth_goes_on_from_zero() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 1000), (5, 0), (10, 0), (15, 40)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let batch = cut(&mut histories, 20, true);
        assert_eq!(batch.rows[0].delta.tcp_rx, 40);
        assert_eq!(batch.counter_events.len(), 1);
        assert_eq!(batch.counter_events[0].kind.as_ref(), "reset");
    }

    #[test]
    fn a_reset_that_the_next_report_undoes_does_not_count_a_lifetime() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 1000), (3, 0), (5, 1200), (10, 1300)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let batch = cut(&mut histories, 20, true);
        assert_eq!(batch.rows[0].delta.tcp_rx, 300);
        let kinds: Vec<&str> = batch.counter_events.iter().map(|event| event.kind.as_ref()).collect();
        assert_eq!(kinds, ["reset", "reset_undone"]);
    }

    #[test]
    fn a_fall_to_an_older_value_counts_nothing_and_is_listed() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 300_000), (5, 100_000), (10, 100_500)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let batch = cut(&mut histories, 20, true);
        assert_eq!(batch.rows[0].delta.tcp_rx, 500);
        assert_eq!(batch.counter_events[0].kind.as_ref(), "fall_unknown");
        assert_eq!(batch.counter_events[0].before.tcp_rx, 300_000);
    }

    #[test]
    fn counting_goes_on_from_a_stored_state_in_the_same_window() {
        let mut first = Histories::default();
        first.observe(&update(0, 100));
        first.observe(&update(5, 200));
        let batch = cut(&mut first, 7, true);
        assert_eq!(batch.rows[0].delta.tcp_rx, 100);

        let mut second = Histories::default();
        second.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
        second.observe(&update(5, 200));
        second.observe(&update(10, 350));
        let rows = cut(&mut second, 70, true).rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].delta.tcp_rx, rows[0].record_count), (250, 3), "the row is whole, not a part to be added");
    }

    #[test]
    fn a_minute_that_the_clock_went_back_to_is_merged_and_not_overwritten() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 0), (30, 100), (60, 150)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let Record::Event(mut back) = update(61, 170) else { unreachable!() };
        back.received_at = at(20);
        histories.observe(&Record::Event(back));
        let rows = cut(&mut histories, 62, true).rows;
        assert_eq!(rows.iter().map(|row| row.delta.tcp_rx).collect::<Vec<_>>(), [120, 50]);
    }

    /// The clock goes back by a minute and forward again: the rows of both minutes are whole in the end, also where parts of
    /// them were handed over in between.
    #[test]
    fn minutes_that_are_lived_through_twice_add_up_however_often_they_are_cut() {
        for cut_often in [false, true] {
            let mut histories = Histories::default();
            let mut stored: BTreeMap<Timestamp, HistoryRow> = BTreeMap::new();
            let mut store = |histories: &mut Histories, seconds| {
                for row in cut(histories, seconds, true).rows {
                    let row = match stored.remove(&row.minute) {
                        Some(earlier) if row.merge => merged(earlier, row),
                        _ => row,
                    };
                    stored.insert(row.minute, row);
                }
                stored.values().map(|row| row.delta.tcp_rx).sum::<u64>()
            };
            // Seconds of the wall clock: up to 90, back to 30, and on to 150.
            let walls = (0..=90).step_by(10).chain((30..=150).step_by(10));
            let mut total = 0;
            for (step, wall) in (0_i64..).zip(walls) {
                let Record::Event(mut event) = update(step, step as u64 * 100) else { unreachable!() };
                event.received_at = at(wall);
                histories.observe(&Record::Event(event));
                if cut_often {
                    total = store(&mut histories, wall);
                    assert_eq!(total, step as u64 * 100, "at {wall}");
                }
            }
            if !cut_often {
                histories.close_until(at(200));
                total = store(&mut histories, 200);
            }
            assert_eq!(total, 2_200);
        }
    }

    #[test]
    fn the_interval_is_learnt_and_gives_the_expected_count() {
        let mut histories = Histories::default();
        for step in 0..26 {
            histories.observe(&update(step * 5, 0));
        }
        // A change of state between two reports does not disturb it.
        histories.observe(&update(126, 0));
        histories.close_until(at(180));
        let rows = cut(&mut histories, 180, false).rows;
        assert_eq!(
            rows.iter().map(|row| (row.record_count, row.expected_count)).collect::<Vec<_>>(),
            [(12, 12), (12, 12), (3, 12)]
        );
    }

    #[test]
    fn a_deleted_tunnel_leaves_its_row_and_no_state() {
        let mut histories = Histories::default();
        histories.observe(&update(0, 5));
        histories.observe(&update(5, 8));
        histories.observe(&of_kind(EventKind::Delete, 6, 8));
        let batch = cut(&mut histories, 7, false);
        assert_eq!(batch.rows.len(), 1);
        assert_eq!(batch.states, [(tunnel(), None)]);
        assert!(histories.tunnels.is_empty() && histories.changed.is_empty());
    }

    #[test]
    fn nothing_new_gives_no_batch() {
        let mut histories = Histories::default();
        histories.observe(&update(0, 5));
        let _ = cut(&mut histories, 7, false);
        let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: at(8) };
        assert!(histories.cut(EventId(2), info, false).is_none());
    }
}
