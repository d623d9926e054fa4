//! Minute windows: what a sample adds to them, when they close, and what has to be known to go on after a crash.
//!
//! A window is a UTC minute of one tunnel, by time of receipt. A delta counts from the previous sample, whichever
//! window that was in, so that nothing falls between two windows: the traffic of a gap counts in the minute that ended it.
//!
//! What is handed over is never handed over again. A minute may come in parts (its window was handed over while it was
//! open, or the wall clock was set back over it), and the parts are added. With each batch goes what the counters did
//! since the batch before, so that the sums can be proved from the database alone ([`audit`]).

pub mod audit;
pub mod calendar;
pub mod figures;
pub mod ladder;
mod movement;
mod pairs;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use self::movement::{Before, step};
pub use self::pairs::{InTotals, in_totals};

use self::figures::sum;
use self::movement::{FALL_BACK, FALL_UNKNOWN, RESET, bounded};
use self::pairs::{Clients, End};
use self::window::{Interval, Window};
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, Event, EventKind, Gap, Record, TunnelKey};
use crate::id::EventId;
use crate::store::{Account, CounterEvent, FlushInfo, HistoryBatch, HistoryRow};

/// From this version on a reset lasts; before, the next report brings the old figures back.
const RESETS_LAST_SINCE: (u32, u32, u32) = (1, 8, 2);

/// What is known of one tunnel's counters; stored in `history_state` so that counting goes on after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TunnelHistory {
    last: LastSample,
    /// Counters before a fall that the very next figures may undo.
    fall: Option<Counters>,
    /// Counters as of the last batch, or as they were first seen.
    accounted: Counters,
    /// Its first sample was not a `create` event and no batch has it yet: should that event still come, it counts from 0.
    first: Option<Counters>,
    last_update: Option<Timestamp>,
    interval: Interval,
    window: Option<Window>,
    part: Option<Part>,
    end: Option<End>,
}

/// A minute of which a part was closed before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    minute: Timestamp,
    /// When the minute's first sample came.
    first: Timestamp,
    /// Reports that its parts so far expected.
    expected: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LastSample {
    counters: Counters,
    at: Timestamp,
}

impl TunnelHistory {
    /// The open window's row as it stands at `now`.
    fn row(&self, tunnel: &TunnelKey, window: &Window, now: Timestamp, in_totals: InTotals) -> HistoryRow {
        let part = self.part_of(window);
        let expected = (window.expected(self.interval, part.first, now) - part.expected).max(0);
        HistoryRow {
            tunnel: tunnel.clone(),
            minute: window.minute,
            figures: window.figures(expected),
            in_totals: window.in_totals.and(in_totals),
        }
    }

    /// What was closed of the window's minute before.
    fn part_of(&self, window: &Window) -> Part {
        let known = self.part.filter(|part| part.minute == window.minute);
        known.unwrap_or(Part { minute: window.minute, first: window.first, expected: 0 })
    }

    fn account(&self, tunnel: &TunnelKey) -> Account {
        let open = self.window.map_or_else(Counters::default, |window| window.delta);
        Account { tunnel: tunnel.clone(), from: self.accounted, to: self.last.counters, open }
    }
}

/// The histories of all tunnels: open windows, closed rows that wait to be stored, and doubts about counters.
#[derive(Debug, Default)]
pub struct Histories {
    tunnels: BTreeMap<TunnelKey, TunnelHistory>,
    /// Closed rows by tunnel and minute, which is the order in which they touch the fewest pages.
    closed: BTreeMap<(TunnelKey, Timestamp), HistoryRow>,
    counter_events: Vec<CounterEvent>,
    /// Accounts of tunnels that are gone, since the last batch.
    ended: Vec<Account>,
    /// Tunnels whose state differs from the one handed over last.
    changed: BTreeSet<TunnelKey>,
    gone: BTreeSet<TunnelKey>,
    clients: Clients,
    /// Endpoints where a reset lasts.
    resets_last: BTreeSet<EndpointId>,
    through: EventId,
}

impl Histories {
    /// Goes on from what the database or a journaled batch holds. `through` is the last event contained in it.
    ///
    /// A state that cannot be read (it was written by another version) begins anew: its counters are learnt from the next
    /// sample, at the price of one delta.
    pub fn restore<'a>(&mut self, through: EventId, states: impl IntoIterator<Item = (TunnelKey, Option<&'a str>)>) {
        self.through = self.through.max(through);
        for (tunnel, state) in states {
            let known = match state.and_then(|json| serde_json::from_str::<TunnelHistory>(json).ok()) {
                Some(history) => {
                    self.clients.add(tunnel.endpoint, history.end.as_ref());
                    self.tunnels.insert(tunnel.clone(), history)
                }
                None => self.tunnels.remove(&tunnel),
            };
            self.clients.remove(tunnel.endpoint, known.as_ref().and_then(|known| known.end.as_ref()));
        }
    }

    /// A master told its version, which says whether resets last there.
    pub fn learn_version(&mut self, endpoint: EndpointId, version: &str) {
        if lasting_resets(version) {
            self.resets_last.insert(endpoint);
        } else {
            self.resets_last.remove(&endpoint);
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

    /// The closed rows that wait to be stored, by tunnel and minute.
    pub fn closed_rows(&self) -> impl Iterator<Item = &HistoryRow> {
        self.closed.values()
    }

    /// Counts a record. Records with ids not above [`Self::through`] were counted before and are left out.
    pub fn observe(&mut self, record: &Record) {
        if record.id() <= self.through {
            return;
        }
        self.through = record.id();
        match record {
            Record::Event(event) => self.observe_event(event),
            Record::Gap(gap) => match gap.reason.as_ref() {
                Gap::VANISHED => self.remove(&TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() }),
                Gap::MASTER_RESTARTED => self.explain_falls(gap.endpoint, gap.from),
                _ => {}
            },
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
        if let Some(config) = &event.config {
            self.learn_end(&tunnel, End::of(config), event);
        }
        self.count(&tunnel, event);
        if event.kind == EventKind::Delete {
            self.remove(&tunnel);
        }
    }

    /// The service id of a tunnel. While a client is followed, its server's rows are no part of totals.
    fn learn_end(&mut self, tunnel: &TunnelKey, end: Option<End>, event: &Event) {
        let Some(history) = self.tunnels.get_mut(tunnel) else {
            if event.sample.is_some() {
                self.begin(tunnel, end, event);
            }
            return;
        };
        if history.end == end {
            return;
        }
        self.clients.remove(tunnel.endpoint, history.end.as_ref());
        self.clients.add(tunnel.endpoint, end.as_ref());
        history.end = end;
        self.leave_out_servers();
    }

    /// Also of totals of minutes that are open: part of what they count, a new client has counted as well.
    fn leave_out_servers(&mut self) {
        for (tunnel, history) in &mut self.tunnels {
            if let Some(window) = &mut history.window {
                window.in_totals = window.in_totals.and(self.clients.in_totals(tunnel.endpoint, history.end.as_ref()));
            }
        }
    }

    /// A tunnel is seen for the first time. What its counters showed before is not ours, unless it is being created.
    fn begin(&mut self, tunnel: &TunnelKey, end: Option<End>, event: &Event) {
        let Some(sample) = &event.sample else { return };
        let counters = if event.kind == EventKind::Create { Counters::default() } else { bounded(sample.counters) };
        self.clients.add(tunnel.endpoint, end.as_ref());
        let pairs_up = end.as_ref().is_some_and(|end| end.client);
        let history = TunnelHistory {
            last: LastSample { counters, at: event.received_at },
            fall: None,
            accounted: counters,
            first: (event.kind != EventKind::Create).then_some(counters),
            last_update: None,
            interval: Interval::default(),
            window: None,
            part: None,
            end,
        };
        self.tunnels.insert(tunnel.clone(), history);
        if pairs_up {
            self.leave_out_servers();
        }
    }

    fn count(&mut self, tunnel: &TunnelKey, event: &Event) {
        let Some(sample) = &event.sample else { return };
        if !self.tunnels.contains_key(tunnel) {
            self.begin(tunnel, None, event);
        }
        let Some(history) = self.tunnels.get_mut(tunnel) else { return };
        let now = event.received_at;
        let after = bounded(sample.counters);
        let resets_last = self.resets_last.contains(&tunnel.endpoint);
        let mut step = step(Before { counters: history.last.counters, fall: history.fall, resets_last }, after);
        if event.kind == EventKind::Create
            && let Some(first) = history.first.take()
        {
            // An `update` overtook it (the master's two senders race): what that showed first was moved since.
            step.counted = sum(step.counted, first);
            history.accounted = Counters::default();
        }
        if let Some(kind) = step.kind {
            self.counter_events.push(CounterEvent {
                event: event.id,
                tunnel: tunnel.clone(),
                at: now,
                kind: kind.into(),
                before: history.last.counters,
                after,
                counted: step.counted,
            });
        }
        history.fall = step.fall;
        if history.window.is_some_and(|window| window.minute != now.minute()) {
            let until = now.max(Timestamp(history.window.map_or(0, |window| window.minute.0) + Timestamp::MINUTE));
            close(&mut self.closed, tunnel, history, until, &self.clients);
        }
        let covered = now.0.saturating_sub(history.last.at.0).max(0);
        let in_totals = self.clients.in_totals(tunnel.endpoint, history.end.as_ref());
        let is_report = event.kind == EventKind::Update;
        history.window.get_or_insert_with(|| Window::new(now, in_totals)).add(sample, step.counted, covered, is_report);
        if is_report && let Some(before) = history.last_update.replace(now) {
            history.interval.observe(now.since(before));
        }
        history.last = LastSample { counters: after, at: now };
        self.gone.remove(tunnel);
        self.changed.insert(tunnel.clone());
    }

    /// The master was restarted at `since`: what fell at once came back from an older state.
    fn explain_falls(&mut self, endpoint: EndpointId, since: Timestamp) {
        for event in self.counter_events.iter_mut().rev().take_while(|event| event.at >= since) {
            if event.tunnel.endpoint == endpoint && matches!(event.kind.as_ref(), RESET | FALL_UNKNOWN) {
                event.kind = FALL_BACK.into();
                if let Some(history) = self.tunnels.get_mut(&event.tunnel) {
                    history.fall = None;
                    self.changed.insert(event.tunnel.clone());
                }
            }
        }
    }

    /// Closes the windows of an endpoint's tunnels and forgets their counters.
    pub fn forget(&mut self, endpoint: EndpointId) {
        let tunnels: Vec<TunnelKey> = self.tunnels.keys().filter(|tunnel| tunnel.endpoint == endpoint).cloned().collect();
        for tunnel in tunnels {
            self.remove(&tunnel);
        }
        self.resets_last.remove(&endpoint);
    }

    fn remove(&mut self, tunnel: &TunnelKey) {
        if let Some(mut history) = self.tunnels.remove(tunnel) {
            let until = history.last.at;
            close(&mut self.closed, tunnel, &mut history, until, &self.clients);
            self.clients.remove(tunnel.endpoint, history.end.as_ref());
            self.ended.push(history.account(tunnel));
            self.changed.remove(tunnel);
            self.gone.insert(tunnel.clone());
        }
    }

    /// Closes the windows of minutes that are over.
    pub fn close_until(&mut self, now: Timestamp) {
        let minute = now.minute();
        for (tunnel, history) in &mut self.tunnels {
            if history.window.is_some_and(|window| window.minute < minute) {
                close(&mut self.closed, tunnel, history, now, &self.clients);
                self.changed.insert(tunnel.clone());
            }
        }
    }

    /// Rows of windows that are still open, as they stand at `now`.
    pub fn open_rows(&self, now: Timestamp) -> impl Iterator<Item = HistoryRow> {
        self.tunnels.iter().filter_map(move |(tunnel, history)| {
            let in_totals = self.clients.in_totals(tunnel.endpoint, history.end.as_ref());
            history.window.as_ref().map(|window| history.row(tunnel, window, now, in_totals))
        })
    }

    /// Hands over all that waits, with the states that changed; `None` if there is nothing. With `open` also what the open
    /// windows have so far: what they get from then on is a further part of the same minute.
    pub fn cut(&mut self, id: EventId, info: FlushInfo, open: bool) -> Option<HistoryBatch> {
        if open {
            for (tunnel, history) in &mut self.tunnels {
                if history.window.is_some() {
                    close(&mut self.closed, tunnel, history, info.cut_at, &self.clients);
                    self.changed.insert(tunnel.clone());
                }
            }
        }
        if self.closed.is_empty() && self.counter_events.is_empty() && self.changed.is_empty() && self.gone.is_empty() {
            return None;
        }
        let mut accounts = std::mem::take(&mut self.ended);
        let mut states = Vec::new();
        for tunnel in std::mem::take(&mut self.changed) {
            let Some(history) = self.tunnels.get_mut(&tunnel) else { continue };
            accounts.push(history.account(&tunnel));
            history.accounted = history.last.counters;
            history.first = None;
            states.push((tunnel, serde_json::to_string(history).ok().map(String::into_boxed_str)));
        }
        states.extend(std::mem::take(&mut self.gone).into_iter().map(|tunnel| (tunnel, None)));
        Some(HistoryBatch {
            id,
            info,
            through: self.through,
            rows: std::mem::take(&mut self.closed).into_values().collect(),
            counter_events: std::mem::take(&mut self.counter_events),
            states,
            accounts,
        })
    }
}

/// Closes the open window, if there is one. Two rows of one minute in memory are parts of it.
fn close(
    closed: &mut BTreeMap<(TunnelKey, Timestamp), HistoryRow>,
    tunnel: &TunnelKey,
    history: &mut TunnelHistory,
    until: Timestamp,
    clients: &Clients,
) {
    let Some(window) = history.window.take() else { return };
    let row = history.row(tunnel, &window, until, clients.in_totals(tunnel.endpoint, history.end.as_ref()));
    let part = history.part_of(&window);
    history.part = Some(Part { expected: part.expected + row.figures.expected_count, ..part });
    let key = (row.tunnel.clone(), row.minute);
    let row = match closed.remove(&key) {
        Some(earlier) => {
            HistoryRow { figures: earlier.figures.plus(row.figures), in_totals: earlier.in_totals.and(row.in_totals), ..row }
        }
        None => row,
    };
    closed.insert(key, row);
}

/// Whether a reset lasts at a master of this version; not where the version cannot be read.
fn lasting_resets(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let mut next = || numbers.next();
    match (next(), next()) {
        (Some(major), Some(minor)) => (major, minor, next().unwrap_or(0)) >= RESETS_LAST_SINCE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::figures::Figures;
    use super::*;
    use crate::event::{InstanceConfig, InstanceId, Peer, Sample};
    use crate::redact::Redacted;
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
        let deltas: Vec<u64> = batch.rows.iter().map(|row| row.figures.delta.tcp_rx).collect();
        assert_eq!(deltas, [1000, 700, 300]);
        assert_eq!(deltas.iter().sum::<u64>(), 3000 - 1000);
        assert_eq!(batch.rows[1].figures.speed_in(), Some(70));
    }

    #[test]
    fn a_reset_to_zero_counts_nothing_and_growth_goes_on_from_zero() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 1000), (5, 0), (10, 0), (15, 40)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let batch = cut(&mut histories, 20, true);
        assert_eq!(batch.rows[0].figures.delta.tcp_rx, 40);
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
        assert_eq!(batch.rows[0].figures.delta.tcp_rx, 300);
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
        assert_eq!(batch.rows[0].figures.delta.tcp_rx, 500);
        assert_eq!(batch.counter_events[0].kind.as_ref(), "fall_unknown");
        assert_eq!(batch.counter_events[0].before.tcp_rx, 300_000);
    }

    #[test]
    fn counting_goes_on_from_a_stored_state_in_the_same_window() {
        let mut first = Histories::default();
        first.observe(&update(0, 100));
        first.observe(&update(5, 200));
        let batch = cut(&mut first, 7, true);
        assert_eq!(batch.rows[0].figures.delta.tcp_rx, 100);

        let mut second = Histories::default();
        second.restore(batch.through, batch.states.iter().map(|(tunnel, state)| (tunnel.clone(), state.as_deref())));
        second.observe(&update(5, 200));
        second.observe(&update(10, 350));
        let rows = cut(&mut second, 70, true).rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].figures.delta.tcp_rx, rows[0].figures.record_count), (150, 1), "the rest of the minute, to be added");
    }

    #[test]
    fn a_minute_that_the_clock_went_back_to_is_added_to() {
        let mut histories = Histories::default();
        for (seconds, tcp_rx) in [(0, 0), (30, 100), (60, 150)] {
            histories.observe(&update(seconds, tcp_rx));
        }
        let Record::Event(mut back) = update(61, 170) else { unreachable!() };
        back.received_at = at(20);
        histories.observe(&Record::Event(back));
        let rows = cut(&mut histories, 62, true).rows;
        assert_eq!(rows.iter().map(|row| row.figures.delta.tcp_rx).collect::<Vec<_>>(), [120, 50]);
    }

    /// The clock goes back by a minute and forward again: the rows of both minutes are whole in the end, also where parts of
    /// them were handed over in between.
    #[test]
    fn minutes_that_are_lived_through_twice_add_up_however_often_they_are_cut() {
        for cut_often in [false, true] {
            let mut histories = Histories::default();
            let mut stored: BTreeMap<Timestamp, Figures> = BTreeMap::new();
            let mut store = |histories: &mut Histories, seconds| {
                for row in cut(histories, seconds, true).rows {
                    let stored = stored.entry(row.minute).or_default();
                    *stored = stored.plus(row.figures);
                }
                stored.values().map(|figures| figures.delta.tcp_rx).sum::<u64>()
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
            rows.iter().map(|row| (row.figures.record_count, row.figures.expected_count)).collect::<Vec<_>>(),
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

    fn accounts(batch: &HistoryBatch) -> Vec<(u64, u64, u64)> {
        batch.accounts.iter().map(|account| (account.from.tcp_rx, account.to.tcp_rx, account.open.tcp_rx)).collect()
    }

    #[test]
    fn a_window_that_is_handed_over_in_parts_expects_no_more_reports_than_a_whole_one() {
        let mut histories = Histories::default();
        let mut expected = 0;
        for step in 0..36 {
            histories.observe(&update(step * 5, 0));
            if step % 5 == 3 {
                let batch = cut(&mut histories, step * 5 + 1, true);
                expected +=
                    batch.rows.iter().filter(|row| row.minute == at(60)).map(|row| row.figures.expected_count).sum::<i32>();
            }
        }
        // The last part ended before the minute did.
        assert_eq!(expected, 11);
    }

    #[test]
    fn the_first_figures_of_a_tunnel_are_not_ours_unless_it_is_seen_being_created() {
        let mut histories = Histories::default();
        histories.observe(&of_kind(EventKind::Initial, 0, 1_000_000));
        histories.observe(&update(5, 1_000_010));
        let batch = cut(&mut histories, 7, true);
        assert_eq!(batch.rows[0].figures.delta.tcp_rx, 10);
        assert_eq!(accounts(&batch), [(1_000_000, 1_000_010, 0)]);

        let mut histories = Histories::default();
        histories.observe(&of_kind(EventKind::Create, 0, 7));
        histories.observe(&update(5, 17));
        assert_eq!(cut(&mut histories, 7, true).rows[0].figures.delta.tcp_rx, 17);
    }

    #[test]
    fn a_create_event_that_an_update_overtook_still_counts_from_zero() {
        let mut histories = Histories::default();
        histories.observe(&update(0, 7));
        histories.observe(&of_kind(EventKind::Create, 1, 7));
        histories.observe(&update(5, 17));
        let batch = cut(&mut histories, 7, true);
        assert_eq!((batch.rows[0].figures.delta.tcp_rx, accounts(&batch)), (17, vec![(0, 17, 0)]));
    }

    #[test]
    fn accounts_go_on_from_batch_to_batch_and_say_what_is_open() {
        let mut histories = Histories::default();
        histories.observe(&update(0, 100));
        histories.observe(&update(50, 150));
        histories.observe(&update(65, 175));
        assert_eq!(accounts(&cut(&mut histories, 66, false)), [(100, 175, 25)]);
        histories.observe(&update(70, 180));
        assert_eq!(accounts(&cut(&mut histories, 71, true)), [(175, 180, 0)]);
        histories.observe(&of_kind(EventKind::Delete, 72, 181));
        assert_eq!(accounts(&cut(&mut histories, 73, true)), [(180, 181, 0)]);
    }

    #[test]
    fn a_tunnel_that_comes_back_after_it_was_gone_has_two_accounts_in_a_batch() {
        let mut histories = Histories::default();
        for record in [update(0, 100), of_kind(EventKind::Delete, 5, 140), update(10, 900), update(15, 907)] {
            histories.observe(&record);
        }
        let batch = cut(&mut histories, 20, true);
        assert_eq!((batch.rows[0].figures.delta.tcp_rx, accounts(&batch)), (47, vec![(100, 140, 0), (900, 907, 0)]));
    }

    #[test]
    fn a_reset_lasts_where_the_version_says_so() {
        for (version, moved) in [("v1.8.1", 200), ("v1.8.2", 1_200), ("2.0.0-b10", 1_200), ("nonsense", 200)] {
            let mut histories = Histories::default();
            histories.learn_version(EndpointId(1), version);
            for (seconds, tcp_rx) in [(0, 1_000), (3, 0), (5, 1_200)] {
                histories.observe(&update(seconds, tcp_rx));
            }
            assert_eq!(cut(&mut histories, 20, true).rows[0].figures.delta.tcp_rx, moved, "{version}");
        }
    }

    #[test]
    fn a_restart_of_the_master_explains_what_fell_since() {
        let mut histories = Histories::default();
        histories.observe(&update(0, 1_000));
        histories.observe(&of_kind(EventKind::Initial, 20, 400));
        histories.observe(&Record::Gap(Gap {
            id: EventId(NOON + 21 * 10),
            endpoint: EndpointId(1),
            instance: InstanceId::from(""),
            from: at(18),
            to: at(21),
            reason: Gap::MASTER_RESTARTED.into(),
        }));
        // Growth beyond the old figures is growth: the fall is explained and nothing will take it back.
        histories.observe(&update(25, 1_100));
        let batch = cut(&mut histories, 30, true);
        assert_eq!((batch.counter_events.len(), batch.counter_events[0].kind.as_ref()), (1, "fall_back"));
        assert_eq!(batch.rows[0].figures.delta.tcp_rx, 700);
    }

    #[test]
    fn of_two_followed_ends_the_client_counts_in_totals() {
        let end = |instance: &str, kind: &str, seconds: i64| {
            let Record::Event(event) = update(seconds, 5) else { unreachable!() };
            let peer = Peer { sid: Redacted::from_store("service"), ..Peer::default() };
            let config = InstanceConfig { kind: Redacted::from_store(kind), peer, ..InstanceConfig::default() };
            Record::Event(Event { instance: InstanceId::from(instance), config: Some(std::sync::Arc::new(config)), ..event })
        };
        let mut histories = Histories::default();
        histories.observe(&end("aaaa0001", "server", 0));
        histories.observe(&end("bbbb0002", "client", 1));
        let rows = cut(&mut histories, 2, true).rows;
        let counts: Vec<bool> = rows.iter().map(|row| row.in_totals.fleet).collect();
        assert_eq!(counts, [false, true]);
    }
}
