//! The hourly flush: kept at the boundary, and aligned with it again when the wall clock was stepped.

use std::time::Duration;

use actix::{AsyncContext, Context};
use log::warn;

use super::BufferActor;
use crate::clock::Timestamp;
use crate::store::FlushCause;

impl BufferActor {
    pub(super) fn keep_boundary(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.wall();
        if let Some(kept) = self.schedule.take_due(now) {
            if kept.skipped > 0 {
                warn!("{} boundaries passed without a flush (the clock was set forward, or the machine slept)", kept.skipped);
            }
            self.boundary_pending = Some((kept.boundary, self.clock.monotonic()));
            self.cut(ctx, FlushCause::Hourly, Some(kept.boundary), kept.skipped);
            self.cut_windows(FlushCause::Hourly, false);
        }
        self.align(ctx);
    }

    /// Arms the boundary timer: once to the next boundary, from there at the flush interval. Where the next boundary is
    /// not one interval away (the clock was stepped, daylight saving) the interval is aligned anew.
    pub(super) fn align(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.boundary_timer.take() {
            ctx.cancel_future(timer);
        }
        let now = self.clock.wall();
        let wait = self.schedule.next(now).since(now);
        self.boundary_timer = Some(ctx.run_later(wait, |actor, ctx| {
            let interval = actor.flush_interval;
            actor.boundary_timer = Some(ctx.run_interval(interval, |actor, ctx| actor.on_boundary(ctx)));
            actor.on_boundary(ctx);
        }));
    }

    fn on_boundary(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.wall();
        if self.schedule.next(now) > now {
            // The timer came early: its clock and the wall clock drift apart by microseconds.
            self.align(ctx);
            return;
        }
        let armed = self.boundary_timer.take();
        let boundary = self.schedule.next(now);
        self.keep_boundary(ctx);
        let on_time = now.since(boundary) < Duration::from_millis(100);
        if on_time
            && self.schedule.next(now).since(boundary) == self.flush_interval
            && let Some(armed) = armed
        {
            // The interval that runs already comes at the next boundary.
            if let Some(timer) = self.boundary_timer.replace(armed) {
                ctx.cancel_future(timer);
            }
        } else if let Some(armed) = armed {
            ctx.cancel_future(armed);
        }
        self.publish_state();
    }

    /// Aligns the hourly flush anew if the wall clock and the monotonic one have come apart since the last look.
    pub(super) fn notice_a_clock_step(&mut self, ctx: &mut Context<Self>) {
        let offset = self.clock_offset_now();
        if (offset - self.clock_offset).abs() > Timestamp::SECOND / 2 {
            warn!(
                "the wall clock was stepped by {} s; the hourly flush is aligned anew",
                (offset - self.clock_offset) / Timestamp::SECOND
            );
            self.keep_boundary(ctx);
        }
        self.clock_offset = offset;
    }

    pub(super) fn clock_offset_now(&self) -> i64 {
        let monotonic = i64::try_from((self.clock.monotonic() - self.started).as_micros()).unwrap_or(i64::MAX);
        self.clock.wall().0 - monotonic
    }
}
