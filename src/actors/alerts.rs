//! AlertsActor: looks at what is shown of the recorder, and tells people what is wrong.
//!
//! Fed by nobody: every few seconds it reads the published states, and asks the CacheActor which tunnels are in error. It keeps
//! which alerts hold, and messages that could not be sent yet, both bounded and in memory. What people were told is in the
//! database too, from the moment at which a channel has nothing left to send: a restart goes on from there. It ends with its
//! System; nothing waits for it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message as ActorMessage, Recipient, ResponseFuture, WrapFuture,
};
use futures_util::future::join_all;
use log::{info, warn};
use tokio::sync::watch;
use tokio::time::Instant;

use super::buffer::BufferState;
use super::cache::{CacheState, ReadInError};
use super::endpoints::EndpointsState;
use super::flush::KeepAlerts;
use crate::alerts::{
    Active, Channel, ChannelState, Condition, CycleTraffic, Look, Message, Notice, Notify, Outbox, Rules, TunnelInError, Turn,
    Wait, Watch,
};
use crate::clock::{SharedClock, Timestamp};
use crate::endpoint::EndpointStatus;
use crate::event::TunnelKey;
use crate::store::AlertChanges;
use crate::transport::post::PostError;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long what begins or ends is gathered into one message: a fleet does not fall at one instant.
const GATHER_FOR: Duration = Duration::from_secs(15);
/// How often traffic is added up: it is read from the database.
const TRAFFIC_EVERY: Duration = Duration::from_secs(60);
/// Notices that are gathered; beyond that the message goes out at once.
const GATHERED_MAX: usize = 10_000;

/// Send a test message on every channel, now. The reply says how it went on each.
#[derive(Clone, Copy, Debug, ActorMessage)]
#[rtype(result = "TestedChannels")]
pub struct Test;

/// How a test went, by channel.
pub type TestedChannels = Vec<(Channel, Result<(), String>)>;

/// What the AlertsActor shows to all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertsState {
    /// What was found and is not over.
    pub active: Vec<Active>,
    /// The channels that are configured.
    pub channels: Vec<(Channel, ChannelState)>,
}

/// What an AlertsActor is given.
pub struct AlertsSetup {
    /// What is watched.
    pub rules: Rules,
    /// Where messages go.
    pub channels: Vec<Channel>,
    /// How they go there.
    pub notify: Rc<dyn Notify>,
    /// Clock.
    pub clock: SharedClock,
    /// `journal.max_bytes`.
    pub journal_bytes_max: u64,
    /// CacheActor's state: health of masters.
    pub cache: watch::Receiver<CacheState>,
    /// Names of masters.
    pub endpoints: watch::Receiver<EndpointsState>,
    /// BufferActor's state: journal and flushes.
    pub buffer: watch::Receiver<BufferState>,
    /// CacheActor.
    pub read_in_error: Recipient<ReadInError>,
    /// Adds up traffic, where a rule wants it.
    pub traffic: Rc<dyn CycleTraffic>,
    /// What people were told before a restart and is not known to be over.
    pub told: Vec<Active>,
    /// FlushActor: stores what people were told.
    pub keep: Recipient<KeepAlerts>,
    /// What is shown.
    pub publish: watch::Sender<AlertsState>,
}

/// See the module.
pub struct AlertsActor {
    setup: AlertsSetup,
    watch: Watch,
    /// What each master moved in this billing cycle, as it was added up last; `None` before that.
    traffic: Option<Vec<(String, u64)>>,
    is_adding_up: bool,
    /// What is stored: alerts that were told and since when they hold.
    kept: BTreeMap<Condition, Timestamp>,
    is_keeping: bool,
    gathered: Vec<Notice>,
    gathered_since: Option<Instant>,
    outboxes: BTreeMap<Channel, Outbox>,
}

impl AlertsActor {
    /// An actor that has seen nothing yet.
    #[must_use]
    pub fn new(mut setup: AlertsSetup) -> Self {
        let told = std::mem::take(&mut setup.told);
        let outboxes = setup.channels.iter().map(|channel| (*channel, Outbox::default())).collect();
        Self {
            kept: told.iter().map(|alert| (alert.condition.clone(), alert.since)).collect(),
            watch: Watch::going_on(setup.rules.clone(), told, setup.clock.monotonic()),
            setup,
            traffic: None,
            is_adding_up: false,
            is_keeping: false,
            gathered: Vec::new(),
            gathered_since: None,
            outboxes,
        }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let asked = self.setup.read_in_error.send(ReadInError);
        ctx.spawn(asked.into_actor(self).map(|in_error, actor, ctx| {
            // Else the CacheActor has stopped, and the recorder is stopping.
            if let Ok(in_error) = in_error {
                actor.look(&in_error, ctx);
            }
        }));
    }

    fn add_up(&mut self, ctx: &mut Context<Self>) {
        if self.is_adding_up {
            return;
        }
        self.is_adding_up = true;
        let sums = self.setup.traffic.sums();
        ctx.spawn(sums.into_actor(self).map(|sums, actor, _| {
            actor.is_adding_up = false;
            match sums {
                Ok(sums) => actor.traffic = Some(sums),
                // What was known stays: a sum only grows until the cycle ends.
                Err(error) => warn!("alerts: traffic could not be added up: {error}"),
            }
        }));
    }

    fn look(&mut self, in_error: &[(TunnelKey, String)], ctx: &mut Context<Self>) {
        let (now, wall) = (self.setup.clock.monotonic(), self.setup.clock.wall());
        let look = self.present(in_error);
        for notice in self.watch.look(&look, now, wall) {
            let Active { condition, text, .. } = &notice.alert;
            let (endpoint, instance) = condition.subject();
            let subject = [endpoint, instance].into_iter().flatten().collect::<Vec<_>>().join("/");
            match notice.turn {
                Turn::Begins => warn!("alert {} {subject}: {text}", condition.kind()),
                Turn::Over => info!("alert {} {subject}: over", condition.kind()),
                Turn::Unwatched => info!("alert {} {subject}: no longer watched", condition.kind()),
            }
            self.gathered_since.get_or_insert(now);
            self.gathered.push(notice);
        }
        let is_due = self.gathered_since.is_some_and(|since| now.saturating_duration_since(since) >= GATHER_FOR);
        if is_due || self.gathered.len() >= GATHERED_MAX {
            self.gathered_since = None;
            if let Some(message) = Message::of(&std::mem::take(&mut self.gathered), wall) {
                self.outboxes.values_mut().for_each(|outbox| outbox.push(message.clone()));
            }
        }
        self.send(ctx);
        self.keep(ctx);
        self.publish();
    }

    /// Has stored what people were told. What no channel has sent yet they were not: the next recorder would tell it. Asked again with
    /// the next look if it fails.
    fn keep(&mut self, ctx: &mut Context<Self>) {
        let is_told = self.gathered.is_empty() && (self.outboxes.is_empty() || self.outboxes.values().any(Outbox::is_empty));
        if self.is_keeping || !is_told {
            return;
        }
        let told = self.watch.active();
        let known: BTreeMap<Condition, Timestamp> = told.iter().map(|alert| (alert.condition.clone(), alert.since)).collect();
        let changes = AlertChanges {
            told: told.into_iter().filter(|alert| self.kept.get(&alert.condition) != Some(&alert.since)).collect(),
            over: self.kept.keys().filter(|condition| !known.contains_key(condition)).cloned().collect(),
        };
        if changes.is_empty() {
            return;
        }
        self.is_keeping = true;
        let asked = self.setup.keep.send(KeepAlerts(changes));
        ctx.spawn(asked.into_actor(self).map(move |result, actor, _| {
            actor.is_keeping = false;
            // Of a database that does not work the FlushActor tells, and if it is gone the recorder is stopping.
            if let Ok(Ok(())) = result {
                actor.kept = known;
            }
        }));
    }

    /// How things are now.
    fn present(&self, in_error: &[(TunnelKey, String)]) -> Look {
        let names = self.setup.endpoints.borrow();
        let cache = self.setup.cache.borrow();
        let buffer = self.setup.buffer.borrow();
        let followed = names.iter().filter_map(|(id, (name, _))| {
            let (health, _) = cache.endpoints.get(id)?;
            match health.status {
                EndpointStatus::Disconnect => None,
                EndpointStatus::Online => Some((name.clone(), None)),
                EndpointStatus::Offline | EndpointStatus::Fail => Some((name.clone(), Some(health.reason.clone()))),
            }
        });
        let in_error = in_error.iter().filter_map(|(key, alias)| {
            let (endpoint, _) = names.get(&key.endpoint)?;
            Some(TunnelInError { endpoint: endpoint.clone(), instance: key.instance.to_string(), alias: alias.clone() })
        });
        Look {
            endpoints: followed.collect(),
            tunnels: in_error.collect(),
            flush_overdue: buffer.overdue,
            journal: (buffer.journal_bytes, self.setup.journal_bytes_max),
            traffic: self.traffic.clone(),
        }
    }

    fn send(&mut self, ctx: &mut Context<Self>) {
        let now = self.setup.clock.monotonic();
        for channel in self.setup.channels.clone() {
            let Some(Wait::Send(message)) = self.outboxes.get_mut(&channel).map(|outbox| outbox.next(now)) else { continue };
            let sent = self.setup.notify.send(channel, &message);
            ctx.spawn(sent.into_actor(self).map(move |result, actor, ctx| {
                actor.sent(channel, result);
                actor.send(ctx);
                actor.keep(ctx);
            }));
        }
    }

    fn sent(&mut self, channel: Channel, result: Result<(), PostError>) {
        let (now, wall) = (self.setup.clock.monotonic(), self.setup.clock.wall());
        if let Some(outbox) = self.outboxes.get_mut(&channel) {
            let before = outbox.state().given_up;
            let error = result.as_ref().err().map(ToString::to_string);
            outbox.done(result, now, wall);
            if let Some(error) = error {
                let then = if outbox.state().given_up > before { "it is given up" } else { "it is tried again" };
                warn!("alerts: not sent by {}: {error}; {then}", channel.as_str());
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let channels = self.outboxes.iter().map(|(channel, outbox)| (*channel, outbox.state())).collect();
        let shown = AlertsState { active: self.watch.active(), channels };
        self.setup.publish.send_if_modified(|state| {
            let changed = *state != shown;
            *state = shown;
            changed
        });
    }
}

impl Actor for AlertsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.publish();
        ctx.run_interval(LOOK_EVERY, Self::ask);
        if self.setup.rules.traffic_limit.is_some() {
            self.add_up(ctx);
            ctx.run_interval(TRAFFIC_EVERY, Self::add_up);
        }
    }
}

impl Handler<Test> for AlertsActor {
    type Result = ResponseFuture<TestedChannels>;

    fn handle(&mut self, _: Test, _: &mut Self::Context) -> Self::Result {
        let message = Message::test(self.setup.clock.wall());
        let sent = self.setup.channels.iter().map(|channel| {
            let (channel, sent) = (*channel, self.setup.notify.send(*channel, &message));
            async move { (channel, sent.await.map_err(|error| error.reason)) }
        });
        Box::pin(join_all(sent.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
#[path = "alerts_tests.rs"]
mod tests;
