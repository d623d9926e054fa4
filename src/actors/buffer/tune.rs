//! Limits that change while the recorder runs.

use actix::{Context, Handler};

use super::BufferActor;
use crate::actors::realtime::Tune;
use crate::store::FlushCause;

impl Handler<Tune> for BufferActor {
    type Result = ();

    fn handle(&mut self, Tune(tuning): Tune, ctx: &mut Context<Self>) {
        self.limits.batch_events_max = tuning.max_buffer_size;
        if self.open.events >= tuning.max_buffer_size {
            // Full by the new measure.
            self.cut(ctx, FlushCause::Threshold, None, 0);
        }
        if self.flush_interval != tuning.flush_interval {
            self.flush_interval = tuning.flush_interval;
            self.schedule.set_interval(tuning.flush_interval, self.clock.wall());
            self.align(ctx);
        }
        self.publish_state();
    }
}
