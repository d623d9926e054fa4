//! Questions to the master beside the stream: its version, whether it was started anew, what exists, and whether a silence means
//! something.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use tokio::time::Instant;

use super::SseIngestActor;
use crate::actors::history_worker::LearnVersion;
use crate::clock::Timestamp;
use crate::event::{Gap, InstanceId, Record};
use crate::id::EventId;
use crate::ingest::tracker::Comparison;
use crate::transport::TransportError;
use crate::wire::{WireInstance, parse_instances};

/// The `initial` events are over when none came for this long; they come all together.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What the list of instances shows may still be on its way in the stream; it arrives within milliseconds.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(2);

/// When to ask again if the list could not be had after a (re)connect.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A deadline that has just been moved is not looked at more often than this.
const WATCH_MIN: Duration = Duration::from_millis(100);

/// When to ask for `/info` again: it could not be had, or the master has run for less than a second, which tells nothing.
const ASK_INFO_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often `/info` is asked over one stream. Rust masters never tell an uptime.
const INFO_ASKED_MAX: u32 = 3;

/// Longest version text that is kept, in characters.
const VERSION_CHARS_MAX: usize = 40;

/// `GET /instances` is under way, or its answer waits for a second look.
pub(super) struct Question {
    /// The last id given before it was asked: what has a higher one was told by the stream since.
    mark: EventId,
    /// Instances that the stream deleted since.
    deleted: Vec<InstanceId>,
}

#[derive(Deserialize)]
struct Info {
    ver: Option<String>,
    /// Seconds. Not there before v1.6; always 0 on Rust masters. Whatever else it is must not cost the version.
    uptime: Option<Value>,
}

impl Info {
    fn uptime(&self) -> Option<u64> {
        self.uptime.as_ref().and_then(Value::as_u64)
    }
}

/// The master was started anew since it was heard over the stream before.
pub(super) struct Restarted {
    /// When, by our wall clock; a second or two early.
    at: Timestamp,
    version: Option<Box<str>>,
}

impl SseIngestActor {
    /// Asks for the version, and for the uptime, which alone tells that a master was killed.
    pub(super) fn ask_info(&mut self, ctx: &mut Context<Self>) {
        self.info_asked += 1;
        let (connection, asked_at) = (self.connection, self.clock.monotonic());
        let asked = self.transport.get(&self.target(), "/info");
        ctx.spawn(asked.into_actor(self).map(move |answer, actor, ctx| {
            if actor.connection != connection {
                return;
            }
            // v1.1.5 has no /info: its version stays unknown, and asking again would not help.
            let none = matches!(answer, Err(TransportError::WrongPath { .. }));
            let info = answer.ok().and_then(|answer| serde_json::from_slice::<Info>(&answer).ok());
            let is_young = info.as_ref().is_some_and(|info| info.uptime() == Some(0));
            if !none && (info.is_none() || is_young) && actor.info_asked < INFO_ASKED_MAX {
                actor.later(ASK_INFO_AGAIN_AFTER, ctx, Self::ask_info);
            }
            if let Some(info) = info {
                actor.take_info(info, asked_at, ctx);
            }
        }));
    }

    fn take_info(&mut self, info: Info, asked_at: Instant, ctx: &mut Context<Self>) {
        let (now, uptime) = (self.clock.monotonic(), info.uptime());
        let version: Option<String> =
            info.ver.map(|text| self.intake.tracker.clean(&text).as_str().chars().take(VERSION_CHARS_MAX).collect());
        if version.is_some() && self.health.version != version {
            self.health.version.clone_from(&version);
            self.send_health();
        }
        let version = version.map(String::into_boxed_str);
        let uptime = uptime.filter(|uptime| *uptime > 0).map(Duration::from_secs);
        match uptime.and_then(|uptime| self.uptime.told(uptime, asked_at, now)) {
            Some(age) => {
                let wall = self.clock.wall();
                let at = Timestamp(wall.0.saturating_sub_unsigned(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)));
                self.restarted = Some(Restarted { at, version });
                if self.reconciled {
                    self.tell_restart(ctx);
                }
            }
            None => match &mut self.restarted {
                // It was started before it told its version.
                Some(restarted) => restarted.version = version.or(restarted.version.take()),
                None => self.tell_version(version),
            },
        }
    }

    /// What fell when the stream came back fell because the master came back with older figures.
    fn tell_restart(&mut self, ctx: &mut Context<Self>) {
        let Some(Restarted { at: from, version }) = self.restarted.take() else { return };
        let wall = self.clock.wall();
        let (id, endpoint, instance) = (self.ids.borrow_mut().next(wall), self.endpoint.id, InstanceId::default());
        log::info!("endpoint {}: the master was started anew at {from}", self.endpoint.name);
        let restart = Gap { id, endpoint, instance, from, to: wall, reason: Gap::MASTER_RESTARTED.into() };
        self.hand_on(vec![Record::Gap(restart)], ctx);
        // It may be another one than before, which the history takes to be unknown since the restart.
        self.tell_version(version);
    }

    fn tell_version(&self, version: Option<Box<str>>) {
        if let Some(version) = version {
            // If the HistoryWorkerActor is gone the recorder is stopping, and the next one asks again.
            self.downstream.version.clone().do_send(LearnVersion { endpoint: self.endpoint.id, version });
        }
    }

    pub(super) fn begin_checks(&mut self, ctx: &mut Context<Self>) {
        self.reconciled = false;
        self.question = None;
        self.last_initial = self.clock.monotonic();
        self.later(SETTLED_AFTER, ctx, Self::reconcile_when_settled);
        self.watch(ctx);
    }

    fn reconcile_when_settled(&mut self, ctx: &mut Context<Self>) {
        if self.reconciled {
            return;
        }
        let quiet = self.clock.monotonic() - self.last_initial;
        match SETTLED_AFTER.checked_sub(quiet).filter(|left| !left.is_zero()) {
            Some(left) => {
                self.later(left, ctx, Self::reconcile_when_settled);
            }
            None => self.reconcile(ctx),
        }
    }

    /// Compares with the full list after a (re)connect: what vanished meanwhile is closed with a gap.
    pub(super) fn reconcile(&mut self, ctx: &mut Context<Self>) {
        self.reconciled = true;
        self.tell_restart(ctx);
        if self.question.is_some() {
            self.later(ASK_AGAIN_AFTER, ctx, Self::reconcile);
            return;
        }
        self.ask_instances(ctx, |actor, answer, ctx| {
            let Some(question) = actor.question.take() else { return };
            let answer = answer.and_then(|answer| {
                actor.take_list(&answer, &question, ctx).map_err(|detail| TransportError::NotAMaster { detail })
            });
            if let Err(error) = answer {
                log::warn!("endpoint {}: the list of instances could not be compared: {error}", actor.endpoint.name);
                actor.later(ASK_AGAIN_AFTER, ctx, Self::reconcile);
            }
        });
    }

    fn take_list(&mut self, answer: &Bytes, question: &Question, ctx: &mut Context<Self>) -> Result<(), String> {
        let text = String::from_utf8_lossy(answer);
        let (listed, unreadable) = parse_instances(&text).map_err(|error| error.to_string())?;
        let Comparison { vanished, changed } = self.intake.tracker.compare(&listed);
        let wall = self.clock.wall();
        let mut records = Vec::new();
        // An entry that could not be read may be any of them, so nobody is declared gone.
        for instance in vanished.into_iter().filter(|_| unreadable.is_empty()) {
            let known = self.intake.tracker.known().get(&instance);
            if known.is_some_and(|state| state.last_event > question.mark) {
                continue;
            }
            let Some(state) = self.intake.tracker.forget(&instance) else { continue };
            self.pace.forget(&instance);
            let (id, endpoint, from) = (self.ids.borrow_mut().next(wall), self.endpoint.id, state.seen_at);
            log::info!("endpoint {}: instance {instance} vanished while it was not watched", self.endpoint.name);
            records.push(Record::Gap(Gap { id, endpoint, instance, from, to: wall, reason: "vanished".into() }));
        }
        for wire in listed {
            if changed.iter().any(|id| id.as_str() == wire.id) && !self.is_told(&wire.id, question) {
                records.extend(self.adopt(wire));
            }
        }
        self.hand_on(records, ctx);
        Ok(())
    }

    /// An instance that the stream has not told of is taken from the list.
    fn adopt(&mut self, wire: WireInstance<'_>) -> Option<Record> {
        if self.intake.tracker.known().contains_key(&*wire.id) {
            return None;
        }
        let wall = self.clock.wall();
        let (intake, ids) = (&mut self.intake, &self.ids);
        let mut adopted = None;
        self.state.send_modify(|state| match intake.adopt(wire, wall, state, &mut |_| ids.borrow_mut().next(wall)) {
            Ok(record) => adopted = Some(record),
            Err(rejected) => *state.dropped.entry(rejected.word()).or_default() += 1,
        });
        adopted
    }

    fn is_told(&self, id: &str, question: &Question) -> bool {
        let known = self.intake.tracker.known().get(id);
        known.is_some_and(|state| state.last_event > question.mark) || question.deleted.iter().any(|gone| gone.as_str() == id)
    }

    pub(super) fn note_deleted(&mut self, instance: &InstanceId) {
        if let Some(question) = &mut self.question {
            question.deleted.push(instance.clone());
        }
    }

    /// Arms the timer for the next silence that would be worth a question.
    pub(super) fn watch(&mut self, ctx: &mut Context<Self>) {
        if let Some(armed) = self.watching.take() {
            ctx.cancel_future(armed);
        }
        let wait = self.pace.deadline().saturating_duration_since(self.clock.monotonic());
        let armed = self.later(wait.max(WATCH_MIN), ctx, |actor, ctx| {
            if actor.pace.overdue(actor.clock.monotonic()) {
                actor.doubt(ctx);
            }
            actor.watch(ctx);
        });
        self.watching = Some(armed);
    }

    /// The stream is silent where it should not be: does the list show what it did not bring?
    fn doubt(&mut self, ctx: &mut Context<Self>) {
        log::debug!("endpoint {}: silence; comparing with the list of instances", self.endpoint.name);
        self.ask_instances(ctx, |actor, answer, ctx| {
            let text = match &answer {
                Ok(answer) => String::from_utf8_lossy(answer),
                Err(error) => return actor.silent(&format!("the stream is silent and the master does not answer: {error}"), ctx),
            };
            let comparison = match parse_instances(&text) {
                Ok((listed, unreadable)) if unreadable.is_empty() => actor.intake.tracker.compare(&listed),
                // An entry that cannot be read may be any of those that seem to have vanished. The others say what they say.
                Ok((listed, _)) => Comparison { vanished: Vec::new(), ..actor.intake.tracker.compare(&listed) },
                // What cannot be read proves nothing.
                Err(_) => Comparison::default(),
            };
            if comparison == Comparison::default() {
                actor.question = None;
                return;
            }
            let connection = actor.connection;
            ctx.run_later(SECOND_LOOK_AFTER, move |actor, ctx| {
                if actor.connection == connection {
                    actor.look_again(&comparison, ctx);
                }
            });
        });
    }

    fn look_again(&mut self, Comparison { vanished, changed }: &Comparison, ctx: &mut Context<Self>) {
        let Some(question) = self.question.take() else { return };
        if vanished.iter().chain(changed).any(|id| !self.is_told(id.as_str(), &question)) {
            self.silent("the stream is dead: the master's list of instances shows what it did not bring", ctx);
        }
    }

    fn silent(&mut self, told: &str, ctx: &mut Context<Self>) {
        self.lost("silent", told.to_owned(), ctx);
    }

    /// Asks for the full list, unless that is under way.
    fn ask_instances(
        &mut self,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<Bytes, TransportError>, &mut Context<Self>) + 'static,
    ) {
        if self.question.is_some() {
            return;
        }
        self.question = Some(Question { mark: self.ids.borrow().last(), deleted: Vec::new() });
        let connection = self.connection;
        let asked = self.transport.get(&self.target(), "/instances");
        ctx.spawn(asked.into_actor(self).map(move |answer, actor, ctx| {
            if actor.connection == connection {
                then(actor, answer, ctx);
            }
        }));
    }
}
