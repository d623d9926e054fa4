//! What a recorder keeps in memory as the weeks go by: 30 virtual days in which instances come and go, and the live heap at the
//! end against that of the second day (at most 10 % more). `cargo bench --bench heap [-- DAYS]`; exit code 1 if it grew.
//!
//! What is counted is every live byte of the process. What would grow outside of the recorder is emptied before each look: the
//! rows of the database in memory, and the master's sums of instances that are gone.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate::sim::by_hand::{ByHand, Running};
use tidegate::sim::scenario::{Happening, Rates};

const DAY: Duration = Duration::from_secs(86_400);
/// Instances that go each day. Three times as many would come, so that there are nearly as many as there may be at each look.
const GOINGS_PER_DAY: u32 = 200;
/// At most at the same time.
const INSTANCES_MAX: usize = 20;
/// How much more than on the second day is let pass.
const GROWTH_PERCENT_MAX: usize = 10;
/// Looks of which the mean counts, each just after an hour, when the buffer is empty: what has gathered would hide what is kept.
const LOOKS: usize = 24;

/// Counts live bytes on their way to the system's allocator.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let days = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(30_u32).max(3);
    let life = Happening::NAMES.into_iter().fold(Rates::none(), |rates, (happening, _)| rates.with(happening, 12));
    let life = life.with(Happening::Create, 3 * GOINGS_PER_DAY).with(Happening::Delete, GOINGS_PER_DAY);
    let (second, last) = ByHand::new(7).with_life(life, INSTANCES_MAX).run(async move |world| {
        let mut second = 0;
        let mut last = 0;
        for day in 1..=days {
            last = live_bytes_of_a_day(world).await;
            println!("day {day}: {:.1} KiB live, {} instances", last as f64 / 1024.0, instances(world));
            if day == 2 {
                second = last;
            }
        }
        (second, last)
    });
    println!("the last day has {:.1} % of the second", last as f64 * 100.0 / second as f64);
    if last * 100 > second * (100 + GROWTH_PERCENT_MAX) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn live_bytes_of_a_day(world: &Running) -> usize {
    let mut sum = 0;
    for _ in 0..LOOKS {
        world.advance(DAY / LOOKS as u32).await;
        world.database.with_tables(|tables| {
            tables.records.clear();
            tables.flushes = Vec::new();
            tables.history = Default::default();
            tables.history_totals = Default::default();
            tables.history_batches = Vec::new();
            tables.counter_events.clear();
        });
        world.master.with(|living| living.forget_gone());
        sum += LIVE.load(Ordering::Relaxed);
    }
    sum / LOOKS
}

fn instances(world: &Running) -> usize {
    world.master.with(|living| living.master.instances().count())
}
