//! What goes wrong on our side, and when: drawn from the seed, one fault after the other, each with its end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observation::Seen;
use super::options::{FaultKind, Plan};
use super::shared::{Death, Shared};
use crate::clock::Timestamp;
use crate::journal::{Call, Fault, MemoryDisk};
use crate::modes::StorageMode;

/// Before this time nothing goes wrong, so that each run sees a recorder at work.
const QUIET_AT_FIRST: Duration = Duration::from_secs(120);
/// Within so many calls of the disk, or of the database, a death that was decided on happens.
const CALLS_BEFORE_DEATH_MAX: u32 = 40;

/// What the world has to do beside letting time pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// Nothing.
    Nothing,
    /// Kill the recorder after so many further turns of the scheduler.
    Die {
        /// Is power lost too?
        power: bool,
        /// Turns.
        turns: u32,
    },
    /// Tell the recorder to stop.
    Stop,
    /// Switch the recorder to another mode.
    Switch(StorageMode),
}

/// See the module.
#[derive(Debug)]
pub struct Agenda {
    kinds: Vec<FaultKind>,
    every: Duration,
    next: Option<Duration>,
    ends: BTreeMap<(Duration, u64), FaultKind>,
    made: u64,
    rng: fastrand::Rng,
}

impl Agenda {
    /// Of a plan.
    #[must_use]
    pub fn new(plan: &Plan, mut rng: fastrand::Rng) -> Self {
        let kinds: Vec<FaultKind> = plan.options.faults.0.iter().copied().filter(|kind| *kind != FaultKind::Masters).collect();
        let first = QUIET_AT_FIRST + Duration::from_millis(rng.u64(0..plan.fault_every.as_millis() as u64));
        let next = (!kinds.is_empty()).then_some(first);
        Self { kinds, every: plan.fault_every, next, ends: BTreeMap::new(), made: 0, rng }
    }

    /// When something is due.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let end = self.ends.first_key_value().map(|((at, _), _)| *at);
        [self.next, end].into_iter().flatten().min()
    }

    /// Does one thing that is due.
    pub fn act(&mut self, now: Duration, shared: &Shared, disk: &MemoryDisk) -> Now {
        if let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= now) {
            let kind = entry.remove();
            end(kind, shared, disk);
            return Now::Nothing;
        }
        if self.next.is_none_or(|next| next > now) {
            return Now::Nothing;
        }
        self.next = Some(now + Duration::from_millis(self.rng.u64(1_000..2 * self.every.as_millis() as u64)));
        let kind = self.kinds[self.rng.usize(0..self.kinds.len())];
        self.begin(kind, now, shared, disk)
    }

    /// A shutdown begins: half of them meet a fault on their way, which may be a kill, and a third of them two faults of the
    /// database at once, since what is written last is written while other writes are under way.
    pub fn stop_begins(&mut self, now: Duration, deadline: Duration, shared: &Shared, disk: &MemoryDisk) {
        if self.next.is_none() {
            return;
        }
        if self.rng.bool() {
            self.next = Some(now + Duration::from_millis(self.rng.u64(0..=deadline.as_millis() as u64)));
        }
        let mut database: Vec<FaultKind> =
            self.kinds.iter().copied().filter(|kind| kind.name().starts_with("database")).collect();
        if self.rng.u8(0..3) == 0 {
            self.rng.shuffle(&mut database);
            for kind in database.into_iter().take(2) {
                self.begin(kind, now, shared, disk);
            }
        }
    }

    /// Ends everything, for good.
    pub fn heal(&mut self, shared: &Shared, disk: &MemoryDisk) {
        self.next = None;
        for (_, kind) in std::mem::take(&mut self.ends) {
            end(kind, shared, disk);
        }
        disk.clear_faults();
        let mut going = shared.going();
        going.doubts.clear();
        going.death = None;
    }

    fn begin(&mut self, kind: FaultKind, now: Duration, shared: &Shared, disk: &MemoryDisk) -> Now {
        let rng = &mut self.rng;
        let mut lasting = None;
        match kind {
            FaultKind::DatabaseDown => {
                shared.going().database_down = true;
                let most = [10, 300, 5_400][rng.usize(0..3)];
                lasting = Some(rng.u64(1..most));
            }
            FaultKind::DatabaseSlow => {
                shared.going().database_slow = true;
                lasting = Some(rng.u64(5..600));
            }
            FaultKind::DatabaseLocked => {
                shared.going().database_locked_one_in = rng.u8(2..5);
                lasting = Some(rng.u64(5..600));
            }
            FaultKind::DatabaseDoubt => {
                let count = rng.usize(1..4);
                shared.going().doubts = (0..count).map(|_| rng.bool()).collect();
                lasting = Some(60);
            }
            FaultKind::DiskFull => {
                disk.set_capacity(Some(disk.used_bytes() + rng.u64(0..20_000)));
                lasting = Some(rng.u64(5..900));
            }
            FaultKind::DiskSync => {
                disk.fail(Call::Sync, Fault::BROKEN, rng.usize(1..3));
                shared.going().forget = rng.bool();
                lasting = Some(rng.u64(1..60));
            }
            FaultKind::DiskTorn => {
                let fault = Fault { errno: [5, 28][rng.usize(0..2)], after_bytes: rng.usize(0..400) };
                disk.fail(Call::Append, fault, rng.usize(1..3));
                lasting = Some(60);
            }
            FaultKind::DiskSlow => {
                shared.going().disk_slow = true;
                lasting = Some(rng.u64(5..300));
            }
            FaultKind::Kill | FaultKind::Power => {
                let power = kind == FaultKind::Power;
                if rng.u8(0..3) == 0 {
                    return Now::Die { power, turns: rng.u32(0..30) };
                }
                let (at_disk, after_call) = (rng.bool(), rng.bool());
                let calls_left = rng.u32(0..CALLS_BEFORE_DEATH_MAX);
                shared.going().death = Some(Death { at_disk, calls_left, power, after_call });
            }
            FaultKind::Clock => {
                let most = [2, 60, 3_700, 12_000][rng.usize(0..4)] * Timestamp::SECOND;
                shared.step(rng.i64(-most..=most));
            }
            FaultKind::Shutdown => return Now::Stop,
            FaultKind::Mode => return Now::Switch(StorageMode::ALL[rng.usize(0..StorageMode::ALL.len())]),
            FaultKind::Masters => {}
        }
        if let Some(seconds) = lasting {
            shared.see(Seen::Fault { name: kind.name(), on: true });
            self.made += 1;
            self.ends.insert((now + Duration::from_secs(seconds), self.made), kind);
        }
        Now::Nothing
    }
}

fn end(kind: FaultKind, shared: &Shared, disk: &MemoryDisk) {
    {
        let mut going = shared.going();
        match kind {
            FaultKind::DatabaseDown => going.database_down = false,
            FaultKind::DatabaseSlow => going.database_slow = false,
            FaultKind::DatabaseLocked => going.database_locked_one_in = 0,
            FaultKind::DatabaseDoubt => going.doubts.clear(),
            FaultKind::DiskSlow => going.disk_slow = false,
            _ => {}
        }
    }
    match kind {
        FaultKind::DiskFull => disk.set_capacity(None),
        FaultKind::DiskSync => {
            disk.clear_faults();
            let mut going = shared.going();
            going.forgotten |= std::mem::take(&mut going.forget) && disk.forget();
        }
        FaultKind::DiskTorn => disk.clear_faults(),
        _ => {}
    }
    shared.see_always(Seen::Fault { name: kind.name(), on: false });
}
