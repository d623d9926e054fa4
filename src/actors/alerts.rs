//! AlertsActor: looks at what is shown of the recorder, and tells people what is wrong.
//!
//! Fed by nobody: every few seconds it reads the published states, and asks the CacheActor which tunnels changed. It keeps
//! which alerts hold, and messages that could not be sent yet, both bounded and in memory: after a restart what still holds is
//! told again. It ends with its System; nothing waits for it.

use std::collections::{BTreeMap, BTreeSet};
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
use super::cache::{CacheState, ReadSince};
use super::endpoints::EndpointsState;
use crate::alerts::{Active, Channel, ChannelState, Look, Message, Notice, Notify, Outbox, Rules, TunnelInError, Wait, Watch};
use crate::clock::SharedClock;
use crate::endpoint::EndpointStatus;
use crate::event::{Status, TunnelKey};
use crate::live::Delta;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long what begins or ends is gathered into one message: a fleet does not fall at one instant.
const GATHER_FOR: Duration = Duration::from_secs(15);
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
    pub read_since: Recipient<ReadSince>,
    /// What is shown.
    pub publish: watch::Sender<AlertsState>,
}

/// See the module.
pub struct AlertsActor {
    setup: AlertsSetup,
    watch: Watch,
    /// The version of live state that was looked at.
    version: u64,
    /// Tunnels in error, with their aliases.
    in_error: BTreeMap<TunnelKey, String>,
    gathered: Vec<Notice>,
    gathered_since: Option<Instant>,
    outboxes: BTreeMap<Channel, Outbox>,
}

impl AlertsActor {
    /// An actor that has seen nothing yet.
    #[must_use]
    pub fn new(setup: AlertsSetup) -> Self {
        let outboxes = setup.channels.iter().map(|channel| (*channel, Outbox::default())).collect();
        Self {
            watch: Watch::new(setup.rules.clone()),
            setup,
            version: 0,
            in_error: BTreeMap::new(),
            gathered: Vec::new(),
            gathered_since: None,
            outboxes,
        }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let asked = self.setup.read_since.send(ReadSince(self.version));
        ctx.spawn(asked.into_actor(self).map(|delta, actor, ctx| {
            // Else the CacheActor has stopped, and the recorder is stopping.
            if let Ok(delta) = delta {
                actor.take(delta);
                actor.look(ctx);
            }
        }));
    }

    fn take(&mut self, delta: Delta) {
        self.version = delta.version;
        let known: BTreeSet<_> = delta.endpoints.into_iter().collect();
        let thinned: BTreeMap<_, _> = delta.thinned.into_iter().collect();
        self.in_error.retain(|key, _| {
            let is_there = thinned.get(&key.endpoint).is_none_or(|left| left.contains(&key.instance));
            known.contains(&key.endpoint) && is_there
        });
        for (key, state, _) in delta.tunnels {
            if state.sample.status == Status::Error {
                self.in_error.insert(key, state.config.alias.to_string());
            } else {
                self.in_error.remove(&key);
            }
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let (now, wall) = (self.setup.clock.monotonic(), self.setup.clock.wall());
        let look = self.present();
        for notice in self.watch.look(&look, now, wall) {
            let Active { condition, text, .. } = &notice.alert;
            let (endpoint, instance) = condition.subject();
            let subject = [endpoint, instance].into_iter().flatten().collect::<Vec<_>>().join("/");
            if notice.begins {
                warn!("alert {} {subject}: {text}", condition.kind());
            } else {
                info!("alert {} {subject}: over", condition.kind());
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
        self.publish();
    }

    /// How things are now.
    fn present(&self) -> Look {
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
        let in_error = self.in_error.iter().filter_map(|(key, alias)| {
            let (endpoint, _) = names.get(&key.endpoint)?;
            Some(TunnelInError { endpoint: endpoint.clone(), instance: key.instance.to_string(), alias: alias.clone() })
        });
        Look {
            endpoints: followed.collect(),
            tunnels: in_error.collect(),
            flush_overdue: buffer.overdue,
            journal: (buffer.journal_bytes, self.setup.journal_bytes_max),
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
            }));
        }
    }

    fn sent(&mut self, channel: Channel, result: Result<(), String>) {
        let (now, wall) = (self.setup.clock.monotonic(), self.setup.clock.wall());
        if let Err(error) = &result {
            warn!("alerts: not sent by {}: {error}; it is tried again", channel.as_str());
        }
        if let Some(outbox) = self.outboxes.get_mut(&channel) {
            outbox.done(result, now, wall);
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
    }
}

impl Handler<Test> for AlertsActor {
    type Result = ResponseFuture<TestedChannels>;

    fn handle(&mut self, _: Test, _: &mut Self::Context) -> Self::Result {
        let message = Message::test(self.setup.clock.wall());
        let sent = self.setup.channels.iter().map(|channel| {
            let (channel, sent) = (*channel, self.setup.notify.send(*channel, &message));
            async move { (channel, sent.await) }
        });
        Box::pin(join_all(sent.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
#[path = "alerts_tests.rs"]
mod tests;
