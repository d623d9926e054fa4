//! Minute windows: what a sample adds to them, when they close, and what has to be known to go on after a crash.
//!
//! A window is a UTC minute of one tunnel, by time of receipt. A delta counts from the previous sample, whichever
//! window that was in, so that nothing falls between two windows: the traffic of a gap counts in the minute that ended it, and
//! so do the reports that were due in it.
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
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use self::movement::{Before, Step, step};
pub use self::pairs::{InTotals, in_totals};

use self::figures::sum;
use self::movement::{FALL_BACK, FALL_UNKNOWN, RESET, bounded, fallen_from, growth, in_doubt};
use self::pairs::{Clients, End};
use self::window::{Due, Window};
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, Event, EventKind, Gap, Record, Status, TunnelKey};
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
    /// See [`fallen_from`].
    #[serde(default)]
    fallen_from: Option<Counters>,
    /// What a stream began with, if an older state may have come back in it.
    #[serde(default)]
    in_doubt: Option<Doubt>,
    /// Counters as of the last batch, or as they were first seen.
    accounted: Counters,
    /// Its first sample was not a `create` event and no batch has it yet: should that event still come, it counts from 0.
    first: Option<Counters>,
    #[serde(default)]
    due: Due,
    window: Option<Window>,
    end: Option<End>,
    /// Whether a reset lasted at its master when the last sample came, as far as that was known.
    #[serde(default)]
    resets_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LastSample {
    counters: Counters,
    at: Timestamp,
}

/// The first figures of a stream rose, of a tunnel that had fallen. If the master turns out to have been started anew, an older state
/// came back, and what it brought back was counted before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Doubt {
    event: EventId,
    at: Timestamp,
    before: Counters,
    after: Counters,
    counted: Counters,
    /// The part of `counted` that would not be traffic.
    taken_back: Counters,
}

impl TunnelHistory {
    /// The open window's row as it stands.
    fn row(&self, tunnel: &TunnelKey, window: &Window, clients: &Clients) -> HistoryRow {
        let in_totals = clients.in_totals(tunnel.endpoint, self.end.as_ref());
        HistoryRow {
            tunnel: tunnel.clone(),
            minute: window.minute,
            figures: window.figures(),
            in_totals: window.in_totals.and(in_totals),
        }
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
    /// Whether a reset lasts at an endpoint, where its master told since this began. Elsewhere each tunnel's state says what was known
    /// of it: records that are counted anew after a crash must not be judged by a version that came after them.
    resets_last: BTreeMap<EndpointId, bool>,
    /// The record with which each stream began that followed another one: what fell since may be explained by a restart.
    resumed: BTreeMap<EndpointId, EventId>,
    /// The last record of each tunnel that was left out, for its sample: of tunnels that are in `tunnels`, and no others.
    skipped: BTreeMap<TunnelKey, Event>,
    /// The last record before the first one that was left out, while any is: the journal may have taken it, so it must not be taken
    /// for counted.
    through_before_skipped: Option<EventId>,
    /// The last record that was seen.
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
        self.resets_last.insert(endpoint, lasting_resets(version));
    }

    /// The last event through which all is contained.
    #[must_use]
    pub fn through(&self) -> EventId {
        self.through_before_skipped.unwrap_or(self.through)
    }

    /// Closed rows and falls of counters that wait to be stored.
    #[must_use]
    pub fn waiting_rows(&self) -> usize {
        self.closed.len() + self.counter_events.len()
    }

    /// Falls of counters that wait to be stored.
    pub fn falls(&self) -> impl Iterator<Item = &CounterEvent> {
        self.counter_events.iter()
    }

    /// The closed rows that wait to be stored, by tunnel and minute.
    pub fn closed_rows(&self) -> impl Iterator<Item = &HistoryRow> {
        self.closed.values()
    }

    /// Counts a record. Records with ids not above the last one that was seen were counted before and are left out.
    pub fn observe(&mut self, record: &Record) {
        if record.id() <= self.through {
            return;
        }
        self.through = record.id();
        match record {
            Record::Event(event) => self.observe_event(event),
            Record::Gap(gap) => match gap.reason.as_ref() {
                Gap::VANISHED => self.remove(&TunnelKey { endpoint: gap.endpoint, instance: gap.instance.clone() }),
                Gap::MASTER_RESTARTED => self.explain_falls(gap.endpoint),
                Gap::REFUSED => {}
                _ if gap.instance.as_str().is_empty() => {
                    self.resumed.insert(gap.endpoint, gap.id);
                }
                _ => {}
            },
        }
    }

    /// Leaves the sample of a record out that was not received. What it says about what exists is known all the same: a
    /// configuration is told once.
    pub fn skip(&mut self, record: &Record) {
        match record {
            Record::Event(event) if event.kind != EventKind::Delete => {
                self.through_before_skipped.get_or_insert(self.through);
                self.through = self.through.max(event.id);
                let Some(tunnel) = event.tunnel() else { return };
                if let Some(config) = &event.config {
                    self.learn_end(&tunnel, End::of(config), event);
                }
                if event.sample.is_some() && self.tunnels.contains_key(&tunnel) {
                    self.skipped.insert(tunnel, Event { config: None, detail: None, logs: None, ..event.clone() });
                }
            }
            record => self.observe(record),
        }
    }

    /// Nothing is left out any more. The journal took the last records before this was known: their traffic is counted here, since
    /// nobody knows whether their tunnels report again.
    pub fn count_skipped(&mut self) {
        for (tunnel, event) in std::mem::take(&mut self.skipped) {
            self.count(&tunnel, &event);
        }
        self.through_before_skipped = None;
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
            fallen_from: None,
            in_doubt: None,
            accounted: counters,
            first: (event.kind != EventKind::Create).then_some(counters),
            due: Due::default(),
            window: None,
            end,
            resets_last: false,
        };
        self.tunnels.insert(tunnel.clone(), history);
        if pairs_up {
            self.leave_out_servers();
        }
    }

    fn count(&mut self, tunnel: &TunnelKey, event: &Event) {
        let Some(sample) = &event.sample else { return };
        if !self.tunnels.contains_key(tunnel) {
            // Of a tunnel that ends nothing can be learnt, and after a crash the journal may give again the end of one that was handed over.
            if event.kind == EventKind::Delete {
                return;
            }
            self.begin(tunnel, None, event);
        }
        let Some(history) = self.tunnels.get_mut(tunnel) else { return };
        let now = event.received_at;
        let after = bounded(sample.counters);
        let resets_last = *self.resets_last.get(&tunnel.endpoint).unwrap_or(&history.resets_last);
        history.resets_last = resets_last;
        let mut step = step(Before { counters: history.last.counters, fall: history.fall, resets_last }, after);
        if event.kind == EventKind::Create
            && let Some(first) = history.first.take()
        {
            history.accounted = Counters::default();
            step = if step.kind.is_some() && history.last.counters == first {
                // The list of instances, from which it was taken, was ahead of the stream: all that it showed is still to come.
                Step { counted: after, kind: None, fall: None }
            } else {
                // An `update` overtook it (the master's two senders race): what that showed first was moved since.
                Step { counted: sum(step.counted, first), ..step }
            };
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
        if event.kind == EventKind::Initial {
            let (before, counted) = (history.last.counters, step.counted);
            let doubt =
                history.fallen_from.map(|from| in_doubt(counted, after, from)).filter(|doubt| *doubt != Counters::default());
            history.in_doubt = doubt.map(|taken_back| Doubt { event: event.id, at: now, before, after, counted, taken_back });
        }
        history.fallen_from = fallen_from(history.fallen_from, history.last.counters, step.kind, after);
        history.fall = step.fall;
        if history.window.is_some_and(|window| window.minute != now.minute()) {
            close(&mut self.closed, tunnel, history, &self.clients);
        }
        let covered = now.0.saturating_sub(history.last.at.0).max(0);
        let in_totals = self.clients.in_totals(tunnel.endpoint, history.end.as_ref());
        let is_report = event.kind == EventKind::Update;
        let report = is_report.then(|| history.due.report(now, sample.status == Status::Running));
        let window = history.window.get_or_insert_with(|| Window::new(now.minute(), in_totals));
        window.add(sample, step.counted, covered, report);
        history.last = LastSample { counters: after, at: now };
        self.gone.remove(tunnel);
        self.changed.insert(tunnel.clone());
    }

    /// The master was started anew before the present stream: what fell since that began came back from an older state. Only what
    /// was not handed over meanwhile can still be called so.
    fn explain_falls(&mut self, endpoint: EndpointId) {
        let since = self.resumed.get(&endpoint).copied().unwrap_or_default();
        for event in self.counter_events.iter_mut().rev().take_while(|event| event.event > since) {
            if event.tunnel.endpoint != endpoint || !matches!(event.kind.as_ref(), RESET | FALL_UNKNOWN) {
                continue;
            }
            event.kind = FALL_BACK.into();
            // Where resets do not last the next figures may undo one that was seen together with the restart.
            if let Some(history) = self.tunnels.get_mut(&event.tunnel).filter(|history| history.resets_last) {
                history.fall = None;
                self.changed.insert(event.tunnel.clone());
            }
        }
        self.take_back(endpoint, since);
        // It may have come back as another version. It tells which one next.
        self.resets_last.insert(endpoint, false);
    }

    /// Takes out of their minutes what the present stream began with and was no traffic, as far as that was not handed over meanwhile.
    fn take_back(&mut self, endpoint: EndpointId, since: EventId) {
        for (tunnel, history) in self.tunnels.iter_mut().filter(|(tunnel, _)| tunnel.endpoint == endpoint) {
            let Some(doubt) = history.in_doubt.take().filter(|doubt| doubt.event > since) else { continue };
            let minute = doubt.at.minute();
            let delta = match history.window.as_mut().filter(|window| window.minute == minute) {
                Some(open) => &mut open.delta,
                None => match self.closed.get_mut(&(tunnel.clone(), minute)) {
                    Some(closed) => &mut closed.figures.delta,
                    None => continue,
                },
            };
            let (Some(left), Some(counted)) = (growth(doubt.taken_back, *delta), growth(doubt.taken_back, doubt.counted)) else {
                continue;
            };
            *delta = left;
            self.changed.insert(tunnel.clone());
            if let Some(known) = self.counter_events.iter_mut().rev().find(|known| known.event == doubt.event) {
                known.counted = counted;
                continue;
            }
            let Doubt { event, at, before, after, .. } = doubt;
            self.counter_events.push(CounterEvent {
                event,
                tunnel: tunnel.clone(),
                at,
                kind: FALL_BACK.into(),
                before,
                after,
                counted,
            });
        }
    }

    /// Closes the windows of an endpoint's tunnels and forgets their counters.
    pub fn forget(&mut self, endpoint: EndpointId) {
        let tunnels: Vec<TunnelKey> = self.tunnels.keys().filter(|tunnel| tunnel.endpoint == endpoint).cloned().collect();
        for tunnel in tunnels {
            self.remove(&tunnel);
        }
        self.resets_last.remove(&endpoint);
        self.resumed.remove(&endpoint);
    }

    /// Forgets tunnels that do not exist, as [`Self::forget`] does.
    pub fn forget_unless(&mut self, exists: impl Fn(&TunnelKey) -> bool) {
        let gone: Vec<TunnelKey> = self.tunnels.keys().filter(|tunnel| !exists(tunnel)).cloned().collect();
        for tunnel in gone {
            self.remove(&tunnel);
        }
    }

    fn remove(&mut self, tunnel: &TunnelKey) {
        self.skipped.remove(tunnel);
        if let Some(mut history) = self.tunnels.remove(tunnel) {
            close(&mut self.closed, tunnel, &mut history, &self.clients);
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
                close(&mut self.closed, tunnel, history, &self.clients);
                self.changed.insert(tunnel.clone());
            }
        }
    }

    /// Rows of windows that are still open, as they stand.
    pub fn open_rows(&self) -> impl Iterator<Item = HistoryRow> {
        let row =
            |(tunnel, history): (&TunnelKey, &TunnelHistory)| Some(history.row(tunnel, history.window.as_ref()?, &self.clients));
        self.tunnels.iter().filter_map(row)
    }

    /// Hands over all that waits, with the states that changed; `None` if there is nothing. With `open` also what the open
    /// windows have so far: what they get from then on is a further part of the same minute.
    pub fn cut(&mut self, id: EventId, info: FlushInfo, open: bool) -> Option<HistoryBatch> {
        if open {
            for (tunnel, history) in &mut self.tunnels {
                if history.window.is_some() {
                    close(&mut self.closed, tunnel, history, &self.clients);
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
            through: self.through(),
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
    clients: &Clients,
) {
    let Some(window) = history.window.take() else { return };
    let row = history.row(tunnel, &window, clients);
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
