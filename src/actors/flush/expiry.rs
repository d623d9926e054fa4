//! Deleting what has expired: one step of the [`Plan`] between two batches, and never before live state.

use std::time::Duration;

use actix::Context;
use log::warn;

use super::{FlushActor, Outcome};
use crate::modes::usage::Purpose;
use crate::retention::{Expired, Expiry};
use crate::store::StoreError;

/// How often it is looked whether a sweep is due or a table is late.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(60);

impl FlushActor {
    /// The next step, if one is due and may go before what waits.
    pub(super) fn next_expiry(&mut self) -> Option<Expiry> {
        if self.retry.is_some() || !(self.turn_of_others || self.batches.is_empty()) {
            return None;
        }
        let uptime = self.clock.monotonic() - self.started;
        self.plan.next(uptime, self.clock.wall())
    }

    pub(super) fn expire(&mut self, ctx: &mut Context<Self>, step: Expiry) {
        let clock = self.clock.clone();
        self.write(ctx, "expire", move |store| {
            let started = clock.monotonic();
            let result = store.expire(&step);
            Outcome::Expiry(step, result, clock.monotonic() - started)
        });
    }

    pub(super) fn settle_expiry(
        &mut self,
        ctx: &mut Context<Self>,
        step: &Expiry,
        result: Result<Expired, StoreError>,
        took: Duration,
    ) {
        match result {
            Ok(expired) => {
                self.state.rows_expired += expired.rows;
                // A step that found nothing has written nothing.
                if expired.rows > 0 {
                    self.succeeded(ctx, Purpose::Other, 0);
                }
                self.plan.done(step, expired, took, self.clock.wall());
            }
            Err(error) => self.failed(ctx, error),
        }
    }

    /// Begins a sweep that is due, and says which tables are older than promised. While the database is down that is said already.
    pub(super) fn look_at_expiry(&mut self, ctx: &mut Context<Self>) {
        if self.last_error.is_some() {
            return;
        }
        let uptime = self.clock.monotonic() - self.started;
        let late: Vec<&'static str> = self.plan.late(uptime, self.clock.wall()).iter().map(|what| what.table()).collect();
        if late != self.state.expiry_late {
            if !late.is_empty() {
                warn!("rows should have expired more than an hour ago and are still there, in {}", late.join(", "));
            }
            self.state.expiry_late = late;
            self.publish.send_replace(self.state.clone());
        }
        self.write_next(ctx);
    }
}
