//! Making events and moving them through queue and sender into the sockets.

use bytes::Bytes;

use super::SimMaster;
use super::lines::Level;
use super::render::{self, Kind, Moment, Subject};
use super::subscriber::{About, Queued, SubscriberId};
use crate::event::InstanceId;

impl SimMaster {
    /// Makes an event and lets every sender run.
    pub(super) fn emit(&mut self, kind: Kind, about: About, logs: &str) {
        self.enqueue(kind, about, logs);
        self.send_all();
    }

    /// Makes an `update` of an instance.
    pub(super) fn update(&mut self, id: &InstanceId) {
        self.emit(Kind::Update, About::Instance(id.clone()), "");
    }

    /// Makes a `log` event with a line as it stands.
    pub(super) fn print_raw(&mut self, id: &InstanceId, line: &str) {
        self.emit(Kind::Log, About::Instance(id.clone()), line);
    }

    /// Makes a `log` event with time and coloured level, as processes print them.
    pub(super) fn print(&mut self, id: &InstanceId, level: Level, text: &str) {
        let line = self.line(level, text);
        self.print_raw(id, &line);
    }

    /// A line as processes print it.
    pub(super) fn line(&self, level: Level, text: &str) -> String {
        format!("{}  {}  {text}", render::line_time(self.now, self.spec.zone_offset_seconds), level.coloured())
    }

    /// Puts an event into the queue of every subscriber, or drops it there.
    pub(super) fn enqueue(&mut self, kind: Kind, about: About, logs: &str) {
        self.events_made += 1;
        let moment = self.moment();
        let queued = Queued::Live { kind, moment, about, logs: logs.into() };
        // The Rust master keeps a copy of what was, the others render when they send.
        let queued = if self.spec.version.is_rust() { Queued::Rendered(self.render(queued)) } else { queued };
        let slots = self.spec.version.queue_slots();
        for subscriber in self.subscribers.values_mut().filter(|subscriber| subscriber.end.is_none()) {
            if subscriber.half_open {
                subscriber.counts.cut_off += 1;
            } else if subscriber.queue.len() < slots {
                subscriber.queue.push_back(queued.clone());
            } else {
                subscriber.counts.dropped += 1;
            }
        }
    }

    /// Lets the senders of all subscribers run.
    pub(super) fn send_all(&mut self) {
        let ids: Vec<SubscriberId> = self.subscribers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send_queued(id));
    }

    /// Moves what waits into the socket of one subscriber while that has room.
    pub(super) fn send_queued(&mut self, id: SubscriberId) {
        loop {
            let room = self.spec.socket_bytes;
            let Some(subscriber) = self.subscribers.get_mut(&id).filter(|s| s.socket_bytes < room && !s.half_open) else {
                return;
            };
            let Some(queued) = subscriber.take_queued() else { return };
            let bytes = self.render(queued);
            if let Some(subscriber) = self.subscribers.get_mut(&id) {
                subscriber.put(bytes, self.now);
            }
        }
    }

    /// The bytes of an event, from the instance as it is now.
    pub(super) fn render(&self, queued: Queued) -> Bytes {
        match queued {
            Queued::Rendered(bytes) => bytes,
            Queued::Live { kind, moment, about, logs } => {
                let subject = match &about {
                    About::Instance(id) => self.instances.get(id).map_or(Subject::Nothing, Subject::Instance),
                    About::KeyHolder => Subject::KeyHolder(self.key.reveal(), &self.master_id),
                    About::Nothing => Subject::Nothing,
                };
                let mut out = String::with_capacity(768);
                let (version, zone) = (self.spec.version, self.spec.zone_offset_seconds);
                render::push_event(&mut out, version, kind, moment, zone, subject, &logs);
                Bytes::from(out)
            }
        }
    }

    /// Now, with nanoseconds; now and then some microseconds back, as seen between instances.
    pub(super) fn moment(&mut self) -> Moment {
        let nanos = self.rng.u16(0..1_000);
        let back = if self.rng.u8(..) < 4 { self.rng.i64(0..184) } else { 0 };
        Moment { at: crate::clock::Timestamp(self.now.0 - back), nanos }
    }

    /// Lets go of deleted instances that no queue refers to any more.
    pub(super) fn forget_deleted(&mut self) {
        if !self.instances.values().any(|instance| instance.deleted) {
            return;
        }
        let refers =
            |queued: &Queued, id: &InstanceId| matches!(queued, Queued::Live { about: About::Instance(of), .. } if of == id);
        let subscribers = &self.subscribers;
        self.instances.retain(|id, instance| {
            !instance.deleted || subscribers.values().any(|s| s.queue.iter().any(|queued| refers(queued, id)))
        });
    }
}
