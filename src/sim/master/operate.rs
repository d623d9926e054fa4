//! What [`Action`]s do.

use std::time::Duration;

use bytes::Bytes;

use super::action::{Action, Fault};
use super::instance::{Instance, InstanceSpec, InstanceStatus};
use super::lines::{self, Level};
use super::render::{self, Kind};
use super::run::Timer;
use super::subscriber::{About, End};
use super::{Answering, SimMaster, draw_key};
use crate::event::{Counters, InstanceId};
use crate::sim::traffic::Moved;

impl SimMaster {
    /// Does something at the present moment.
    pub fn act(&mut self, action: &Action) {
        match action {
            Action::StartMaster => return self.start_master(),
            Action::Fault(fault) => return self.inject(fault),
            Action::SetReportInterval(interval) => self.spec.report_interval = *interval,
            Action::SetZone { offset_seconds } => self.spec.zone_offset_seconds = *offset_seconds,
            _ => {}
        }
        if !self.up {
            return;
        }
        match action {
            Action::Create(spec) => {
                self.create((**spec).clone());
            }
            Action::RotateKey { update_first } => self.rotate_key(*update_first),
            Action::Shutdown { down_for } => self.shut_down(*down_for),
            Action::Kill { down_for } => self.kill(*down_for),
            Action::StartMaster | Action::Fault(_) | Action::SetReportInterval(_) | Action::SetZone { .. } => {}
            Action::Delete { id }
            | Action::Start { id }
            | Action::Stop { id }
            | Action::Restart { id }
            | Action::Reset { id }
            | Action::SetAlias { id, .. }
            | Action::SetPeer { id, .. }
            | Action::SetTags { id, .. }
            | Action::SetRestart { id, .. }
            | Action::SetLog { id, .. }
            | Action::SetConnected { id, .. }
            | Action::Die { id, .. }
            | Action::Silence { id, .. }
            | Action::Flap { id, .. }
            | Action::Fail { id }
            | Action::Print { id, .. }
            | Action::PrintUsage { id }
            | Action::Burst { id, .. } => {
                if self.instance(id).is_some() {
                    self.act_on(&id.clone(), action);
                }
            }
        }
    }

    fn act_on(&mut self, id: &InstanceId, action: &Action) {
        match action {
            Action::Delete { .. } => self.delete(id),
            Action::Start { .. } => self.start(id),
            Action::Stop { .. } => self.stop(id),
            Action::Restart { .. } => self.restart(id),
            Action::Reset { .. } => self.reset(id),
            Action::SetAlias { alias, .. } => {
                let old = std::mem::replace(&mut self.edit(id).spec.alias, alias.clone());
                // Go tells only what changed.
                self.patched(id, old != *alias || self.spec.version.is_rust());
            }
            Action::SetPeer { peer, .. } => {
                self.edit(id).spec.peer = peer.clone();
                self.patched(id, true);
            }
            Action::SetTags { count, .. } => {
                let tag = |index: usize| (format!("tag-{index:04}").into(), "v".repeat(500).into());
                self.edit(id).spec.tags = (0..*count).map(tag).collect();
                self.patched(id, true);
            }
            Action::SetRestart { restart, .. } => {
                self.edit(id).restart = *restart;
                self.patched(id, true);
            }
            Action::SetLog { log, .. } => {
                self.edit(id).spec.log = *log;
                self.spell_urls(id);
                self.save();
                if self.edit(id).runs() {
                    self.restart(id);
                }
            }
            Action::SetConnected { connected, .. } => {
                // What moved until now moved in the old state.
                let now = self.now;
                let per_byte = self.spec.version.counted_per_byte();
                let instance = self.edit(id);
                let (moved, shown) = (instance.take_moved(now), instance.shown);
                instance.count(moved, per_byte);
                instance.shown = shown;
                instance.spec.connected = *connected;
            }
            Action::Die { clean, .. } if self.edit(id).runs() => {
                let now = self.now;
                let instance = self.edit(id);
                instance.process_ended(now);
                instance.status = if *clean { InstanceStatus::Stopped } else { InstanceStatus::Error };
                self.update(id);
            }
            Action::Silence { silent, .. } => self.silence(id, *silent),
            Action::Flap { on, .. } => self.flap(id, *on),
            Action::Fail { .. } if self.edit(id).runs() => self.print_failure(id),
            Action::Print { line, .. } if self.spec.version.runs_instances() => self.print_raw(id, line),
            Action::PrintUsage { .. } if self.spec.version.runs_instances() => {
                lines::usage(self.spec.version).iter().for_each(|line| self.print_raw(id, line));
            }
            Action::Burst { lines, .. } if self.spec.version.runs_instances() => self.burst(id, *lines),
            _ => {}
        }
    }

    /// Makes an instance and gives its id. On all but Rust masters its process comes 1 to 3 ms later.
    pub fn create(&mut self, spec: InstanceSpec) -> InstanceId {
        let version = self.spec.version;
        let id = spec.id.clone().unwrap_or_else(|| self.draw_id());
        let instance = Instance {
            id: id.clone(),
            spec,
            status: InstanceStatus::Stopped,
            restart: version.restart_by_default(),
            mode: 0,
            ping: 0,
            pool: 0,
            tcps: 0,
            udps: 0,
            shown: Counters::default(),
            lost: Moved::default(),
            counted: Counters::default(),
            saved: Counters::default(),
            counted_to: None,
            reported_at: None,
            run: 1,
            silent: false,
            flapping: false,
            stale_armed: false,
            retry_armed: false,
            deleted: false,
            url_json: "".into(),
            config_json: "".into(),
        };
        self.instances.insert(id.clone(), instance);
        self.spell_urls(&id);
        self.save();
        // The two events race: now and then `update` comes first and `create` already says `running`.
        if version.runs_instances() && self.rng.u8(0..20) == 0 {
            self.process_comes(&id, false);
            self.emit(Kind::Create, About::Instance(id.clone()), "");
        } else {
            self.emit(Kind::Create, About::Instance(id.clone()), "");
            if version.runs_instances() {
                let soon = self.draw_millis(1, 3);
                self.set(soon, Timer::Comes { id: id.clone(), run: 1, again: false });
            }
        }
        id
    }

    fn draw_id(&mut self) -> InstanceId {
        loop {
            let id = InstanceId::from(&*format!("{:08x}", self.rng.u32(..)));
            if !self.instances.contains_key(&id) {
                return id;
            }
        }
    }

    /// Renders the URLs anew, which repeat in every event.
    fn spell_urls(&mut self, id: &InstanceId) {
        let version = self.spec.version;
        let instance = self.edit(id);
        instance.url_json = render::string(version, &instance.spec.url(version));
        instance.config_json = render::string(version, &instance.spec.config(version));
    }

    /// An instance that is known to be there.
    fn edit(&mut self, id: &InstanceId) -> &mut Instance {
        self.instances.get_mut(id).expect("the caller has looked it up, and only a poll forgets instances")
    }

    /// Writes the state file: what a killed master comes back with.
    fn save(&mut self) {
        self.instances.values_mut().for_each(|instance| instance.saved = instance.counted);
    }

    fn patched(&mut self, id: &InstanceId, tell: bool) {
        self.save();
        if tell {
            self.update(id);
        }
    }

    fn delete(&mut self, id: &InstanceId) {
        if self.edit(id).runs() {
            self.stop(id);
        }
        self.emit(Kind::Delete, About::Instance(id.clone()), "");
        let instance = self.edit(id);
        instance.deleted = true;
        instance.run += 1;
        self.save();
        self.forget_deleted();
    }

    fn start(&mut self, id: &InstanceId) {
        if !self.spec.version.runs_instances() {
            self.update(id);
        } else if !self.edit(id).runs() {
            self.edit(id).run += 1;
            self.process_comes(id, false);
        }
    }

    fn stop(&mut self, id: &InstanceId) {
        if !self.spec.version.runs_instances() {
            return self.update(id);
        }
        let now = self.now;
        let instance = self.edit(id);
        if !instance.runs() && instance.status == InstanceStatus::Stopped {
            return;
        }
        instance.process_ended(now);
        instance.status = InstanceStatus::Stopped;
        instance.clear_figures();
        self.save();
        for _ in 0..self.spec.version.stopped_updates() {
            self.update(id);
        }
    }

    fn restart(&mut self, id: &InstanceId) {
        self.stop(id);
        if self.spec.version.runs_instances() {
            let run = self.edit(id).run;
            self.set(Duration::from_millis(100), Timer::Comes { id: id.clone(), run, again: false });
        }
    }

    fn reset(&mut self, id: &InstanceId) {
        // v1.4.2 has no reset.
        if !self.spec.version.has_figures() {
            return;
        }
        let lasts = self.spec.version.reset_lasts();
        let instance = self.edit(id);
        instance.shown = Counters::default();
        if lasts {
            instance.counted = Counters::default();
        }
        self.patched(id, true);
    }

    fn silence(&mut self, id: &InstanceId, silent: bool) {
        self.edit(id).silent = silent;
        if silent && self.spec.version.sets_error() {
            self.arm_stale(id);
        }
    }

    fn flap(&mut self, id: &InstanceId, on: bool) {
        self.edit(id).flapping = on;
        if on {
            let soon = self.draw_millis(100, 3_000);
            self.arm_retry(id, soon);
        }
    }

    /// Many lines at once: the sender gets to run between them only now and then, and the queue overflows.
    fn burst(&mut self, id: &InstanceId, count: u32) {
        for number in 0..count {
            let text = format!("Tunnel connection: 127.0.0.1:{} <-> 127.0.0.1:{}", 32_768 + number % 28_000, number);
            let line = self.line(Level::Debug, &text);
            self.enqueue(Kind::Log, About::Instance(id.clone()), &line);
            // Gives losses of about a fifth, as seen for 64 connections at once.
            if self.rng.u8(..) < 40 {
                self.send_all();
            }
        }
        self.send_all();
    }

    fn rotate_key(&mut self, update_first: Option<bool>) {
        if self.spec.version.is_rust() {
            return self.emit(Kind::Update, About::KeyHolder, "");
        }
        self.key = draw_key(&mut self.rng);
        self.save();
        if update_first.unwrap_or(self.rng.u8(0..6) > 0) {
            self.emit(Kind::Update, About::KeyHolder, "");
        }
        self.say_goodbye();
    }

    /// `shutdown` to all who read, then the end of their bodies.
    fn say_goodbye(&mut self) {
        if self.spec.version.is_rust() {
            self.subscribers.values_mut().for_each(|subscriber| subscriber.end_with(End::Cut));
            return;
        }
        self.emit(Kind::Shutdown, About::Nothing, "");
        let below = self.subscribers_made;
        self.set(self.spec.version.shutdown_to_end(), Timer::EndStreams { below, hard: false });
    }

    fn shut_down(&mut self, down_for: Option<Duration>) {
        let now = self.now;
        self.say_goodbye();
        for instance in self.instances.values_mut().filter(|instance| instance.runs()) {
            instance.process_ended(now);
            instance.clear_figures();
            instance.status = InstanceStatus::Stopped;
        }
        self.save();
        self.goes_down(down_for);
    }

    fn kill(&mut self, down_for: Option<Duration>) {
        let now = self.now;
        self.subscribers.values_mut().for_each(|subscriber| subscriber.end_with(End::Cut));
        for instance in self.instances.values_mut() {
            instance.process_ended(now);
            instance.clear_figures();
            instance.status = InstanceStatus::Stopped;
            instance.counted = instance.saved;
            instance.shown = instance.saved;
        }
        self.goes_down(down_for);
    }

    fn goes_down(&mut self, down_for: Option<Duration>) {
        self.up = false;
        if let Some(down_for) = down_for {
            self.set(down_for, Timer::StartMaster);
        }
    }

    /// Comes up with the state file; starts what is to start with it.
    pub(super) fn start_master(&mut self) {
        if self.up {
            return;
        }
        self.up = true;
        self.first_run = false;
        self.started_at = self.now;
        // What a Rust master does then is to hang: see the protocol notes, section 10.
        if self.spec.version.is_rust() {
            if self.instances().any(|instance| instance.restart) {
                self.answering = Answering::Never;
            }
            return;
        }
        let starting: Vec<InstanceId> = self.instances().filter(|i| i.restart).map(|i| i.id.clone()).collect();
        for id in starting {
            self.edit(&id).mode = 0;
            self.edit(&id).run += 1;
            self.process_comes(&id, false);
        }
    }

    fn inject(&mut self, fault: &Fault) {
        match fault {
            Fault::Cut => self.subscribers.values_mut().for_each(|subscriber| subscriber.end_with(End::Cut)),
            Fault::CleanEnd => self.subscribers.values_mut().for_each(|subscriber| subscriber.end_with(End::Clean)),
            Fault::HalfOpen => {
                for subscriber in self.subscribers.values_mut().filter(|subscriber| subscriber.end.is_none()) {
                    subscriber.half_open = true;
                    subscriber.counts.cut_off += (subscriber.queue.len() + subscriber.socket.len()) as u64;
                    subscriber.queue.clear();
                    subscriber.socket.clear();
                }
                self.forget_deleted();
            }
            Fault::Answering { answering, lasting } => {
                self.answering = answering.clone();
                self.answering_set += 1;
                if let Some(lasting) = lasting {
                    self.set(*lasting, Timer::AnswerNormally { set: self.answering_set });
                }
            }
            Fault::Wire { wire, lasting } => {
                self.wire = *wire;
                self.wire_set += 1;
                if let Some(lasting) = lasting {
                    self.set(*lasting, Timer::WireNormal { set: self.wire_set });
                }
            }
            Fault::Malformed(malformed) => {
                let bytes = Bytes::from(malformed.bytes());
                for subscriber in self.subscribers.values_mut().filter(|s| s.end.is_none() && !s.half_open) {
                    subscriber.put(bytes.clone(), self.now);
                }
            }
        }
    }
}
