//! One life of a recorder: the real pipeline on paused time, from its start to its end.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::agenda::{Agenda, Now};
use super::disk::SimDisk;
use super::master::{Action, Answering, Fault as MasterFault};
use super::observation::{Ended, Look, Seen, Settled, Shown};
use super::options::Plan;
use super::shared::{Shared, lock};
use super::store::SimStore;
use super::transport::{Living, Place, SimTransport};
use super::{crash, database};
use crate::actors::cache::ReadTunnels;
use crate::actors::realtime::Switch;
use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::endpoint::{ApiKey, EndpointStatus};
use crate::event::{Counters, EndpointId, TunnelKey};
use crate::journal::MemoryDisk;
use crate::modes::StorageMode;
use crate::modes::usage::Usage;
use crate::pipeline::{self, Parts};
use crate::recorder::RecorderHandle;
use crate::store::EndpointChange;

/// Syncs of live state that a simulation waits for before it looks whether all has converged.
pub(super) const SYNCS_TO_SETTLE: u32 = 3;
/// After the masters calmed down, what they began has ended within this time: the longest stop is half an hour.
const MASTERS_CALM_WITHIN: Duration = Duration::from_secs(32 * 60);
/// From the last cut of all streams to convergence: back-off of connections and of the database, a sync, a few reports.
const CONVERGE_WITHIN: Duration = Duration::from_secs(12 * 60);
/// Between two looks at whether everything converged.
const CONVERGED_YET_EVERY: Duration = Duration::from_secs(5);
/// Looks at the end of which one has to find everything at rest. A silent process counts as failed after 3 s at the earliest.
const MOMENTS_MAX: u32 = 15;
/// Before these are over the last reports need not have been read.
const MOMENTS_MIN: u32 = 2;
/// See [`MOMENTS_MAX`].
const MOMENT: Duration = Duration::from_millis(150);
/// How much later than its deadline a shutdown may be answered.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(15);
/// How often someone looks whether a master refuses its key, and enters the new one.
const OPERATOR_EVERY: Duration = Duration::from_secs(1_800);

/// What outlives recorders.
pub struct World {
    /// Options and settings.
    pub plan: Plan,
    /// Time, judge and faults.
    pub shared: Shared,
    /// The journal's disk.
    pub disk: MemoryDisk,
    /// The database.
    pub database: database::World,
    /// The masters.
    pub places: Vec<Place>,
    /// What goes wrong.
    pub agenda: Agenda,
    /// Seeds each life's recorder.
    pub rng: fastrand::Rng,
    /// Number of the life.
    pub life: u32,
    /// True time of the next visit of the operator.
    pub operator_at: Duration,
    /// What each mode cost, as the last recorder knew it at its end.
    pub usage: BTreeMap<StorageMode, Usage>,
    /// Told how far it is.
    pub progress: Box<dyn FnMut(Duration)>,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// It died, or stopped, and another follows after a while.
    Over(Ended),
    /// All is done.
    Settled,
    /// Something was violated.
    Violated,
}

impl World {
    /// Lives one life. Runs inside the life's own System.
    pub async fn live(&mut self) -> LifeEnd {
        self.shared.begin_life();
        self.life += 1;
        let recorder = match self.start().await {
            Ok(recorder) => recorder,
            Err(end) => return end,
        };
        self.shared.see(Seen::Started { life: self.life });
        // What it made of database and journal, before a stream says anything new.
        if self.look(&recorder).await.is_none() {
            return self.over();
        }
        if let Some(end) = self.under_faults(&recorder).await {
            return end;
        }
        self.heal();
        match self.converge(&recorder).await {
            Some(end) => end,
            None => self.settle(&recorder).await,
        }
    }

    fn parts(&mut self) -> Result<Parts, String> {
        let shared = Arc::clone(&self.shared);
        let latencies = Arc::clone(&shared);
        let store = self.database.open(self.plan.batch_size, shared.clone()).map_err(|error| error.to_string())?;
        Ok(Parts {
            clock: shared.clone(),
            blocking: Blocking::Inline(Arc::new(move |job| latencies.latency(job))),
            transport: Rc::new(SimTransport::new(self.places.clone())),
            store: Box::new(SimStore::new(store, shared.clone())),
            disk: Arc::new(SimDisk::new(self.disk.clone(), shared)),
            rng: self.rng.fork(),
        })
    }

    async fn start(&mut self) -> Result<RecorderHandle, LifeEnd> {
        let parts = self.parts().map_err(|error| LifeEnd::Over(Ended::NotStarted(error)))?;
        let (waiting, _) = watch::channel(None);
        let settings = self.plan.settings.clone();
        let mut starting = std::pin::pin!(pipeline::start(parts, settings, &waiting));
        loop {
            let until = self.next_due();
            tokio::select! {
                biased;
                () = crash::over(&self.shared) => return Err(self.over()),
                started = &mut starting => {
                    return started.map_err(|error| LifeEnd::Over(Ended::NotStarted(error.to_string())));
                }
                () = self.sleep_until(until) => match self.agenda.act(self.shared.elapsed(), &self.shared, &self.disk) {
                    Now::Nothing => {}
                    // Nobody is there to be told.
                    Now::Switch(_) => {}
                    // It is not started yet: SIGTERM ends it as a kill does.
                    Now::Stop => return Err(LifeEnd::Over(Ended::Killed)),
                    Now::Die { power, .. } => return Err(self.die(power)),
                },
            }
            if self.shared.elapsed() >= self.plan.options.length {
                self.heal();
            }
        }
    }

    fn next_due(&self) -> Duration {
        let end = self.plan.options.length.max(self.shared.elapsed() + Duration::from_secs(60));
        self.agenda.due().unwrap_or(end).min(end)
    }

    fn sleep_until(&self, at: Duration) -> tokio::time::Sleep {
        tokio::time::sleep(at.saturating_sub(self.shared.elapsed()))
    }

    /// The safety phase: faults come and go, until the time is over or the recorder is.
    async fn under_faults(&mut self, recorder: &RecorderHandle) -> Option<LifeEnd> {
        let length = self.plan.options.length;
        let mut look_at = self.shared.elapsed() + self.plan.look_every;
        while self.shared.elapsed() < length {
            let due = self.agenda.due().unwrap_or(length).min(look_at).min(length).min(self.operator_at.max(look_at));
            tokio::select! {
                biased;
                () = crash::over(&self.shared) => return Some(self.over()),
                () = self.sleep_until(due) => {}
            }
            let now = self.shared.elapsed();
            if self.agenda.due().is_some_and(|due| due <= now) {
                match self.agenda.act(now, &self.shared, &self.disk) {
                    Now::Nothing => {}
                    Now::Switch(mode) => self.switch(recorder, mode),
                    Now::Stop => return Some(self.stop(recorder).await),
                    Now::Die { power, turns } => {
                        for _ in 0..turns {
                            tokio::task::yield_now().await;
                        }
                        return Some(self.die(power));
                    }
                }
            }
            if now >= look_at {
                look_at = now + self.plan.look_every;
                if self.look(recorder).await.is_none() {
                    return Some(self.over());
                }
                (self.progress)(now);
            }
            if now >= self.operator_at {
                self.operator_at = now + OPERATOR_EVERY;
                self.enter_new_keys(recorder).await;
            }
        }
        None
    }

    /// Someone enters the keys of masters that refuse the known ones.
    async fn enter_new_keys(&mut self, recorder: &RecorderHandle) {
        let refused: Vec<usize> = {
            let state = recorder.states.cache.borrow();
            let failed = |number: &usize| {
                let id = endpoint_id(*number);
                state.endpoints.get(&id).is_some_and(|(health, _)| health.status == EndpointStatus::Fail)
            };
            (0..self.places.len()).filter(failed).collect()
        };
        for number in refused {
            let key = self.places[number].with(|living| living.master.api_key().to_owned());
            let change = EndpointChange { api_key: Some(ApiKey::new(&key)), ..EndpointChange::default() };
            let name = endpoint_name(number);
            let entered = recorder.change_endpoint(&name, change);
            tokio::select! {
                biased;
                () = crash::over(&self.shared) => {
                    // Noticed again by whoever waits next.
                    self.shared.over.notify_one();
                    return;
                }
                // What cannot be stored now is entered again next time.
                _ = tokio::time::timeout(Duration::from_secs(60), entered) => {}
            }
        }
    }

    /// Somebody switches to another mode and does not wait for the answer.
    fn switch(&self, recorder: &RecorderHandle, mode: StorageMode) {
        self.shared.see(Seen::Switched { mode });
        recorder.actors.realtime.do_send(Switch { mode: Some(mode), ..Switch::default() });
    }

    /// Reads what the recorder shows. `None` if it died meanwhile.
    async fn look(&mut self, recorder: &RecorderHandle) -> Option<Look> {
        let tunnels = tokio::select! {
            biased;
            () = crash::over(&self.shared) => return None,
            tunnels = recorder.actors.cache.send(ReadTunnels(None)) => tunnels.unwrap_or_default(),
        };
        let instances = self.places.iter().map(|place| place.with(|living| living.master.instances().count())).sum();
        let ingest = recorder.states.endpoints.borrow().iter().map(|(id, (_, state))| (*id, state.borrow().clone())).collect();
        let look = Look {
            buffer: recorder.states.buffer.borrow().clone(),
            cache: recorder.states.cache.borrow().clone(),
            flush: recorder.states.flush.borrow().clone(),
            ingest,
            tunnels,
            instances,
        };
        self.shared.see(Seen::Looked(Box::new(look.clone())));
        Some(look)
    }

    fn over(&mut self) -> LifeEnd {
        if lock(&self.shared.judge).violation.is_some() {
            return LifeEnd::Violated;
        }
        let power = self.shared.going().death.is_some_and(|death| death.power);
        self.die(power)
    }

    fn die(&mut self, power: bool) -> LifeEnd {
        self.shared.going().dead = true;
        LifeEnd::Over(if power { Ended::PowerLost } else { Ended::Killed })
    }

    async fn stop(&mut self, recorder: &RecorderHandle) -> LifeEnd {
        let limit = self.plan.settings.shutdown_deadline + SHUTDOWN_MARGIN;
        self.shared.see(Seen::Fault { name: "stopping", on: true });
        self.agenda.stop_begins(self.shared.elapsed(), self.plan.settings.shutdown_deadline, &self.shared, &self.disk);
        let mut answered = std::pin::pin!(tokio::time::timeout(limit, recorder.shutdown()));
        loop {
            let due = self.next_due();
            tokio::select! {
                biased;
                () = crash::over(&self.shared) => return self.over(),
                answered = &mut answered => return LifeEnd::Over(answered.map_or(Ended::Hung, Ended::Stopped)),
                () = self.sleep_until(due) => match self.agenda.act(self.shared.elapsed(), &self.shared, &self.disk) {
                    // Told to stop once more, it goes on stopping.
                    Now::Nothing | Now::Stop => {}
                    Now::Switch(mode) => self.switch(recorder, mode),
                    Now::Die { power, .. } => return self.die(power),
                },
            }
        }
    }

    /// Ends all faults, ours and the masters'.
    fn heal(&mut self) {
        if lock(&self.shared.judge).oracle.healed {
            return;
        }
        self.agenda.heal(&self.shared, &self.disk);
        for place in &self.places {
            place.with(|living| living.scenario.calm_down());
        }
        self.shared.see(Seen::Healed);
    }

    /// Gives the masters time to calm down, cuts all streams once, and waits until everything agrees. What does not is
    /// left for [`World::settle`] to tell.
    async fn converge(&mut self, recorder: &RecorderHandle) -> Option<LifeEnd> {
        let calm_at = self.shared.elapsed() + MASTERS_CALM_WITHIN;
        while self.shared.elapsed() < calm_at {
            if let Some(end) = self.pass(recorder, self.plan.look_every).await {
                return Some(end);
            }
        }
        self.operator_at = Duration::ZERO;
        self.enter_new_keys(recorder).await;
        for place in &self.places {
            // A Rust master that hangs after its restart does so for ever: somebody mends it.
            place.act(&Action::Fault(MasterFault::Answering { answering: Answering::Normally, lasting: None }));
            place.act(&Action::Fault(MasterFault::Cut));
        }
        let until = self.shared.elapsed() + CONVERGE_WITHIN;
        while self.shared.elapsed() < until {
            if let Some(end) = self.pass(recorder, CONVERGED_YET_EVERY).await {
                return Some(end);
            }
            self.enter_new_keys(recorder).await;
            if self.unmet(recorder).is_empty() {
                break;
            }
        }
        None
    }

    async fn pass(&mut self, recorder: &RecorderHandle, time: Duration) -> Option<LifeEnd> {
        tokio::select! {
            biased;
            () = crash::over(&self.shared) => return Some(self.over()),
            () = tokio::time::sleep(time) => {}
        }
        if self.look(recorder).await.is_none() { Some(self.over()) } else { None }
    }

    /// What has not converged, in words.
    fn unmet(&self, recorder: &RecorderHandle) -> Vec<String> {
        let mut unmet = Vec::new();
        let cache = recorder.states.cache.borrow();
        for number in 0..self.places.len() {
            let id = endpoint_id(number);
            match cache.endpoints.get(&id) {
                Some((health, _)) if health.status == EndpointStatus::Online => {}
                Some((health, _)) => {
                    unmet.push(format!("{} is {}: {}", endpoint_name(number), health.status.as_str(), health.reason));
                }
                None => unmet.push(format!("{} is not known", endpoint_name(number))),
            }
        }
        let buffer = recorder.states.buffer.borrow();
        if buffer.waiting_batches > 0 {
            unmet.push(format!("{} batches wait", buffer.waiting_batches));
        }
        if let Some(error) = &buffer.journal_error {
            unmet.push(format!("the journal says {error}"));
        }
        if let Some(error) = &recorder.states.flush.borrow().error {
            unmet.push(format!("the database says {error}"));
        }
        unmet
    }

    /// Stops the masters' traffic, stops the recorder, and reads everything.
    async fn settle(&mut self, recorder: &RecorderHandle) -> LifeEnd {
        // One more report of everything, then one sync.
        for _ in 0..SYNCS_TO_SETTLE {
            if let Some(end) = self.pass(recorder, self.plan.settings.cache_sync_interval + Duration::from_secs(21)).await {
                return end;
            }
        }
        // The masters fall silent: what they show now is what must be shown and stored after the shutdown, once it was read.
        self.silence_masters();
        let mut unmet = Vec::new();
        for moment in 1..=MOMENTS_MAX {
            if let Some(end) = self.pass(recorder, MOMENT).await {
                return end;
            }
            // At any moment a small batch may be on its way to the database; the next moment it is there.
            unmet = self.unmet(recorder);
            if unmet.is_empty() && moment >= MOMENTS_MIN {
                break;
            }
        }
        let shown = self.shown();
        let Some(look) = self.look(recorder).await else { return self.over() };
        let summary = match self.stop(recorder).await {
            LifeEnd::Over(Ended::Stopped(summary)) => summary,
            LifeEnd::Over(ended) => {
                self.shared.see_always(Seen::Ended(ended));
                return LifeEnd::Violated;
            }
            end => return end,
        };
        self.usage = recorder.states.flush.borrow().ledger.all(self.shared.monotonic());
        let audit = match self.database.audit() {
            Ok(audit) => audit,
            Err(error) => return LifeEnd::Over(Ended::NotStarted(error)),
        };
        let mut segments = self.disk.names();
        segments.retain(|name| name.ends_with(".events") || name.ends_with(".history"));
        self.shared.see_always(Seen::Ended(Ended::Stopped(summary.clone())));
        let moved_at_masters = self.moved_at_masters();
        let settled = Settled { unmet, shown, moved_at_masters, look, summary, audit, segments };
        self.shared.see_always(Seen::Settled(Box::new(settled)));
        if lock(&self.shared.judge).violation.is_some() { LifeEnd::Violated } else { LifeEnd::Settled }
    }

    fn silence_masters(&self) {
        for place in &self.places {
            let ids: Vec<_> = place.with(|living| living.master.instances().map(|instance| instance.id.clone()).collect());
            for id in ids {
                place.act(&Action::Silence { id, silent: true });
            }
        }
    }

    fn moved_at_masters(&self) -> Vec<(TunnelKey, Counters)> {
        let mut all = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            let endpoint = endpoint_id(number);
            place.with(|living| {
                let rises = living.rises();
                all.extend(rises.map(|(instance, rise)| (TunnelKey { endpoint, instance: instance.clone() }, rise)));
            });
        }
        all
    }

    fn shown(&self) -> Vec<Shown> {
        let mut all = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            let endpoint = endpoint_id(number);
            place.with(|Living { master, .. }| {
                let has_alias = master.spec().version.has_alias();
                all.extend(master.instances().map(|instance| Shown {
                    tunnel: TunnelKey { endpoint, instance: instance.id.clone() },
                    alias: has_alias.then(|| instance.spec.alias.to_string()),
                    status: instance.status.name().to_owned(),
                    counters: instance.shown,
                }));
            });
        }
        all
    }
}

/// The number of the endpoint for a master, in a database that was empty.
#[must_use]
pub fn endpoint_id(number: usize) -> EndpointId {
    EndpointId(i32::try_from(number + 1).unwrap_or(i32::MAX))
}

/// The name of the endpoint for a master.
#[must_use]
pub fn endpoint_name(number: usize) -> String {
    format!("m{number}")
}
