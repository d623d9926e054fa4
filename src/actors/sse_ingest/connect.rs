//! Connecting, losing the connection and coming back.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};

use super::SseIngestActor;
use super::pieces::Portions;
use crate::actors::endpoints::{CertificateSeen, Identified, KeyRotated};
use crate::endpoint::{EndpointStatus, TlsPolicy};
use crate::ingest::backoff::STABLE_AFTER;
use crate::ingest::intake::{Haul, OpenGap};
use crate::ingest::pace::Pace;
use crate::transport::{OpenStream, TransportError};

/// After its `shutdown` a master ends the stream within 0.1 s; one that has not by then is left.
const END_AFTER_SHUTDOWN: Duration = Duration::from_secs(5);

impl SseIngestActor {
    pub(super) fn connect(&mut self, ctx: &mut Context<Self>) {
        self.connection += 1;
        let connection = self.connection;
        let opening = self.transport.events(&self.target());
        self.link = Some(ctx.spawn(opening.into_actor(self).map(move |opened, actor, ctx| {
            if actor.connection != connection {
                return;
            }
            match opened {
                Ok(stream) => actor.opened(stream, ctx),
                Err(error) => {
                    let status = if error.needs_a_person() { EndpointStatus::Fail } else { EndpointStatus::Offline };
                    actor.set_health(status, error.to_string());
                    actor.connect_later(ctx);
                }
            }
        })));
    }

    fn opened(&mut self, stream: OpenStream, ctx: &mut Context<Self>) {
        let now = self.clock.monotonic();
        if let (TlsPolicy::Pin(None), Some(fingerprint)) = (&self.endpoint.tls, stream.certificate) {
            self.endpoint.tls = TlsPolicy::Pin(Some(fingerprint));
            self.tell(
                self.downstream.certificate_seen.clone().send(CertificateSeen { endpoint: self.endpoint.id, fingerprint }),
                ctx,
            );
        }
        if std::mem::replace(&mut self.connected_before, true) {
            self.state.send_modify(|state| state.reconnects += 1);
        }
        self.open_since = Some(now);
        self.shutdown_seen = false;
        self.pace = Pace::new(now);
        self.uptime.opened(now);
        self.intake.begin(self.gap.take());
        self.set_health(EndpointStatus::Online, String::new());
        let portions = Portions::new(self.connection, stream.body, self.backlog.clone(), self.clock.clone());
        self.link = Some(ctx.add_stream(portions));
        self.info_asked = 0;
        self.ask_info(ctx);
        self.begin_checks(ctx);
    }

    /// What else a portion of the stream brought.
    pub(super) fn follow_up(&mut self, haul: Haul, ctx: &mut Context<Self>) {
        if haul.heard {
            self.pace.heard(self.clock.monotonic());
        }
        if self.pace.take_sooner() {
            self.watch(ctx);
        }
        if let Some(api_key) = haul.new_key {
            log::info!("endpoint {}: the master has a new API key, which is used from now on", self.endpoint.name);
            self.endpoint.api_key = api_key.clone();
            self.tell(self.downstream.key_rotated.clone().send(KeyRotated { endpoint: self.endpoint.id, api_key }), ctx);
        }
        if let Some(master_id) = haul.master_id {
            self.endpoint.master_id = Some(master_id.clone());
            self.tell(self.downstream.identified.clone().send(Identified { endpoint: self.endpoint.id, master_id }), ctx);
        }
        if haul.shutdown && !std::mem::replace(&mut self.shutdown_seen, true) {
            self.later(END_AFTER_SHUTDOWN, ctx, Self::stream_ended);
        }
        if haul.initial {
            self.last_initial = self.clock.monotonic();
        }
        if haul.settled && !self.reconciled && !self.shutdown_seen {
            self.reconcile(ctx);
        }
    }

    pub(super) fn stream_ended(&mut self, ctx: &mut Context<Self>) {
        if self.shutdown_seen {
            self.lost("master_shutdown", "the master said that it shuts down or has a new key".to_owned(), ctx);
        } else {
            self.lost("connection_lost", "the master ended the stream without saying why".to_owned(), ctx);
        }
    }

    pub(super) fn stream_broke(&mut self, error: &TransportError, ctx: &mut Context<Self>) {
        if self.shutdown_seen { self.stream_ended(ctx) } else { self.lost("connection_lost", error.to_string(), ctx) }
    }

    /// The stream is over or dead: it is closed, and another is opened after a while.
    pub(super) fn lost(&mut self, reason: &'static str, told: String, ctx: &mut Context<Self>) {
        let stable = self.open_since.is_some_and(|since| self.clock.monotonic() - since >= STABLE_AFTER);
        if stable {
            self.backoff.reset();
        }
        if let Some(millis) = self.intake.retry_millis() {
            self.backoff.asked_for(Duration::from_millis(millis));
        }
        self.leave(reason, ctx);
        self.set_health(EndpointStatus::Offline, told);
        self.connect_later(ctx);
    }

    /// Another address, key or policy: nothing of the old connection goes on.
    pub(super) fn retarget(&mut self, ctx: &mut Context<Self>) {
        self.leave("reconfigured", ctx);
        self.backoff.reset();
        self.connect(ctx);
    }

    /// Stops reading and connecting.
    pub(super) fn close(&mut self, ctx: &mut Context<Self>) {
        self.connection += 1;
        self.question = None;
        self.restarted = None;
        self.open_since = None;
        if let Some(link) = self.link.take() {
            ctx.cancel_future(link);
        }
    }

    fn leave(&mut self, reason: &'static str, ctx: &mut Context<Self>) {
        if self.open_since.is_some() && self.gap.is_none() {
            // A silent stream may have carried comments to the end; what it should have brought is missing since the
            // last event.
            let from = if reason == "silent" { self.last_event_at } else { self.health.last_heard };
            self.gap = from.map(|from| OpenGap { from, reason });
        }
        self.close(ctx);
    }

    fn connect_later(&mut self, ctx: &mut Context<Self>) {
        let wait = self.backoff.next_wait(&mut self.rng);
        log::debug!("endpoint {}: next attempt in {} ms", self.endpoint.name, wait.as_millis());
        self.later(wait, ctx, Self::connect);
    }

    /// Runs `what` after `wait` unless the connection changes before.
    pub(super) fn later(&self, wait: Duration, ctx: &mut Context<Self>, what: fn(&mut Self, &mut Context<Self>)) -> SpawnHandle {
        let connection = self.connection;
        ctx.run_later(wait, move |actor, ctx| {
            if actor.connection == connection {
                what(actor, ctx);
            }
        })
    }

    /// Sends a finding that must not be lost; the answer says that it was taken.
    fn tell<M>(&self, request: actix::dev::RecipientRequest<M>, ctx: &mut Context<Self>)
    where
        M: actix::Message<Result = ()> + Send + 'static,
    {
        ctx.spawn(request.into_actor(self).map(|taken, actor, _| {
            if taken.is_err() {
                log::error!("endpoint {}: what the master told of itself could not be kept", actor.endpoint.name);
            }
        }));
    }
}
