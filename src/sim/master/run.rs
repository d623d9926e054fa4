//! What happens by itself: reports, ends of connections, staleness, retries, keep-alives, the ends of faults.

use std::time::Duration;

use bytes::Bytes;

use super::action::{Answering, Wire};
use super::instance::InstanceStatus;
use super::lines::{self, Level};
use super::subscriber::{End, SubscriberId};
use super::{LogLevel, SimMaster};
use crate::event::InstanceId;

/// A Rust master sends a comment when nothing was sent for so long.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// A failed process tries again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// What fires at a set time. `run` is the number of the process for which it was set.
#[derive(Clone, Debug)]
pub(super) enum Timer {
    /// A process comes up after POST, `restart` or PUT.
    Comes { id: InstanceId, run: u64, again: bool },
    /// The periodic report, or up to v1.4.2 the end of a connection.
    Report { id: InstanceId, run: u64 },
    /// A process that had reported is silent.
    Stale { id: InstanceId, run: u64 },
    /// A failing process tries again.
    Retry { id: InstanceId, run: u64 },
    /// Keep-alive of a Rust master.
    Comment { subscriber: SubscriberId },
    /// The bodies of all subscribers below this number end; `hard` without regard to what still waits.
    EndStreams { below: u64, hard: bool },
    /// A master that was down starts.
    StartMaster,
    /// The fault is over.
    AnswerNormally { set: u64 },
    /// The fault is over.
    WireNormal { set: u64 },
}

impl SimMaster {
    pub(super) fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Comes { id, run, again } if self.is_run(&id, run) => self.process_comes(&id, again),
            Timer::Report { id, run } if self.is_run(&id, run) => self.report(&id),
            Timer::Stale { id, run } if self.is_run(&id, run) => self.stale(&id),
            Timer::Retry { id, run } if self.is_run(&id, run) => self.retry(&id),
            // Of a process that is gone.
            Timer::Comes { .. } | Timer::Report { .. } | Timer::Stale { .. } | Timer::Retry { .. } => {}
            Timer::Comment { subscriber } => self.comment(subscriber),
            Timer::EndStreams { below, hard } => self.end_streams(below, hard),
            Timer::StartMaster => self.start_master(),
            Timer::AnswerNormally { set } if set == self.answering_set => self.answering = Answering::Normally,
            Timer::WireNormal { set } if set == self.wire_set => self.wire = Wire::default(),
            Timer::AnswerNormally { .. } | Timer::WireNormal { .. } => {}
        }
    }

    fn is_run(&self, id: &InstanceId, run: u64) -> bool {
        self.up && self.instances.get(id).is_some_and(|instance| instance.run == run && !instance.deleted)
    }

    /// The process of an instance begins to run: `update` with `running`, its first lines, its first report soon.
    pub(super) fn process_comes(&mut self, id: &InstanceId, again: bool) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.status = InstanceStatus::Running;
        instance.counted_to = Some(now);
        let (run, log, flapping) = (instance.run, instance.spec.log, instance.flapping);
        let started = lines::started(self.spec.version, &instance.spec, again);
        self.update(id);
        if log >= LogLevel::Warn {
            self.print(id, Level::Warn, "TLS code-0: unencrypted");
        }
        if log >= LogLevel::Info {
            self.print(id, Level::Info, &started);
        }
        if log > LogLevel::None {
            let first = self.draw_millis(50, 300);
            self.set(first, Timer::Report { id: id.clone(), run });
        }
        if flapping {
            self.arm_retry(id, RETRY_AFTER);
        }
    }

    /// A report is due: counts, shows, and tells, unless there is nothing to tell.
    fn report(&mut self, id: &InstanceId) {
        let (now, version) = (self.now, self.spec.version);
        let draw = self.rng.u64(..);
        // Seen: about 1 ms of jitter. Ends of connections come as users come.
        let next = if version.has_figures() {
            self.spec.report_interval.saturating_sub(Duration::from_micros(500)) + Duration::from_micros(draw % 1_000)
        } else {
            Duration::from_micros(1_000_000 + draw % 20_000_000)
        };
        let Some(instance) = self.instances.get_mut(id) else { return };
        let run = instance.run;
        self.set(next, Timer::Report { id: id.clone(), run });
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.silent || !instance.spec.connected {
            return;
        }
        let moved = instance.take_moved(now);
        instance.count(moved, version.counted_per_byte());
        instance.status = InstanceStatus::Running;
        instance.reported_at = Some(now);
        if version.has_figures() {
            instance.mode = instance.spec.mode;
            instance.ping = if draw >> 32 & 3 == 0 { i32::try_from(draw >> 40 & 31).unwrap_or(0) } else { 0 };
            (instance.tcps, instance.udps) = instance.spec.traffic.connections(now);
            instance.pool = if instance.mode == 1 { 0 } else { 64 + i32::try_from(draw >> 48 & 1).unwrap_or(0) };
        } else if moved.total() == 0 {
            // No connection ended.
            return;
        }
        let count = if instance.spec.log >= LogLevel::Info { instance.spec.lines_per_report } else { 0 };
        self.update(id);
        // Up to v1.4.2 the figures of a connection come as a line too.
        let count = if version.has_figures() { count } else { count.max(1) };
        for number in 0..u64::from(count) {
            self.print_connection(id, draw.wrapping_add(number));
        }
    }

    /// Prints a line about a connection.
    fn print_connection(&mut self, id: &InstanceId, number: u64) {
        let Some(instance) = self.instances.get(id) else { return };
        let (level, text) = lines::connection(self.spec.version, instance, number);
        self.print(id, level, &text);
    }

    /// Arms the look at silence, for when it will have lasted 3 intervals. What never reported is not missed.
    pub(super) fn arm_stale(&mut self, id: &InstanceId) {
        let limit = self.spec.report_interval * 3 + Duration::from_millis(1);
        let Some(instance) = self.instances.get_mut(id).filter(|instance| !instance.stale_armed) else { return };
        if let Some(reported_at) = instance.reported_at {
            instance.stale_armed = true;
            let (run, left) = (instance.run, reported_at.plus(limit).since(self.now));
            self.set(left, Timer::Stale { id: id.clone(), run });
        }
    }

    fn stale(&mut self, id: &InstanceId) {
        let (now, limit) = (self.now, self.spec.report_interval * 3);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.stale_armed = false;
        if !instance.silent {
            return;
        }
        if instance.reported_at.is_some_and(|reported_at| now.since(reported_at) <= limit) {
            // It spoke in between.
            return self.arm_stale(id);
        }
        instance.status = InstanceStatus::Error;
        instance.stale_armed = true;
        let run = instance.run;
        self.update(id);
        self.set(self.spec.report_interval, Timer::Stale { id: id.clone(), run });
    }

    /// Arms the next failure of a flapping process.
    pub(super) fn arm_retry(&mut self, id: &InstanceId, after: Duration) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.runs() && !instance.retry_armed) else {
            return;
        };
        instance.retry_armed = true;
        let run = instance.run;
        self.set(after, Timer::Retry { id: id.clone(), run });
    }

    fn retry(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.retry_armed = false;
        if !instance.flapping {
            return;
        }
        let again = lines::started(self.spec.version, &instance.spec, true);
        if instance.status == InstanceStatus::Error {
            self.print(id, Level::Info, &again);
        }
        self.print_failure(id);
        self.arm_retry(id, RETRY_AFTER);
    }

    /// An error line. On versions that look at lines it sets the status, which shows in this very event first.
    pub(super) fn print_failure(&mut self, id: &InstanceId) {
        let sets_error = self.spec.version.sets_error();
        let Some(instance) = self.instances.get_mut(id) else { return };
        if sets_error {
            instance.status = InstanceStatus::Error;
        }
        let text = lines::failed(&instance.spec);
        self.print(id, Level::Error, &text);
    }

    /// Arms the keep-alive of a Rust master's stream.
    pub(super) fn arm_comment(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscribers.get(&id).filter(|_| self.spec.version.is_rust()) {
            let left = subscriber.sent_at.plus(COMMENT_EVERY).since(self.now);
            self.set(left, Timer::Comment { subscriber: id });
        }
    }

    fn comment(&mut self, id: SubscriberId) {
        let now = self.now;
        let Some(subscriber) = self.subscribers.get_mut(&id).filter(|s| s.end.is_none() && !s.half_open) else { return };
        if now.since(subscriber.sent_at) >= COMMENT_EVERY {
            subscriber.put(Bytes::from_static(b":\n\n"), now);
        }
        self.arm_comment(id);
    }

    fn end_streams(&mut self, below: u64, hard: bool) {
        self.send_all();
        let mut waits = false;
        for (_, subscriber) in self.subscribers.range_mut(..SubscriberId(below)) {
            if subscriber.queue.is_empty() {
                subscriber.end_with(End::Clean);
            } else if hard {
                // A sleeping reader: the exit waited 5 s, then the connection was closed in mid-body.
                subscriber.end_with(End::Cut);
            } else {
                waits = true;
            }
        }
        if waits {
            self.set(Duration::from_secs(5), Timer::EndStreams { below, hard: true });
        }
    }
}
