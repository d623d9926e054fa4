//! A random life for a master, drawn from a seed: what happens how often is said by [`Rates`], when and to whom by the seed.
//!
//! Whoever drives a master calls [`Scenario::next_action`] at (or after) [`Scenario::next_due`] until it gives nothing more, and hands each
//! action to [`SimMaster::act`]. What begins also ends: a stopped instance is started again, a fault is over after a while.

use std::collections::BTreeMap;
use std::time::Duration;

use super::master::{Action, Answering, Fault, InstanceSpec, LogLevel, Malformed, Role, SimMaster, Wire};
use super::traffic::Traffic;
use crate::clock::Timestamp;
use crate::event::InstanceId;

/// Something that happens to a master now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// An instance is created.
    Create,
    /// An instance is deleted.
    Delete,
    /// An instance is restarted.
    Restart,
    /// An instance is stopped, and started again after a while.
    Stop,
    /// Counters are reset.
    Reset,
    /// An alias changes.
    Alias,
    /// The URL changes.
    Url,
    /// A process dies, and is started again after a while.
    Die,
    /// A process swings between error and running for a while.
    Flap,
    /// A process falls silent for a while.
    Silence,
    /// The other end of a tunnel is away for a while.
    Disconnect,
    /// One error line.
    ErrorLine,
    /// More lines at once than a queue holds.
    Burst,
    /// The report interval changes.
    Interval,
    /// The zone of `time` changes.
    Zone,
    /// The API key is regenerated.
    RotateKey,
    /// The master is restarted in good order.
    Shutdown,
    /// The master is killed and comes back with older counters.
    Kill,
    /// Streams are cut.
    Cut,
    /// Streams end cleanly without `shutdown`.
    CleanEnd,
    /// Streams fall silent without an end.
    HalfOpen,
    /// Requests are accepted and not answered for a while.
    NoHead,
    /// Connections are refused for a while.
    Refuse,
    /// Requests are redirected for a while.
    Redirect,
    /// A proxy answers with an error for a while.
    BadStatus,
    /// Bytes come slowly and in small pieces for a while.
    SlowBytes,
    /// A chunk that cannot be read.
    Malformed,
    /// An event above the reader's limit.
    Oversized,
}

impl Happening {
    /// All of them with their names, which options and reports use.
    pub const NAMES: [(Self, &'static str); 28] = [
        (Self::Create, "create"),
        (Self::Delete, "delete"),
        (Self::Restart, "restart"),
        (Self::Stop, "stop"),
        (Self::Reset, "reset"),
        (Self::Alias, "alias"),
        (Self::Url, "url"),
        (Self::Die, "die"),
        (Self::Flap, "flap"),
        (Self::Silence, "silence"),
        (Self::Disconnect, "disconnect"),
        (Self::ErrorLine, "error-line"),
        (Self::Burst, "burst"),
        (Self::Interval, "interval"),
        (Self::Zone, "zone"),
        (Self::RotateKey, "rotate-key"),
        (Self::Shutdown, "shutdown"),
        (Self::Kill, "kill"),
        (Self::Cut, "cut"),
        (Self::CleanEnd, "clean-end"),
        (Self::HalfOpen, "half-open"),
        (Self::NoHead, "no-head"),
        (Self::Refuse, "refuse"),
        (Self::Redirect, "redirect"),
        (Self::BadStatus, "bad-status"),
        (Self::SlowBytes, "slow-bytes"),
        (Self::Malformed, "malformed"),
        (Self::Oversized, "oversized"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(happening, _)| *happening == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, own)| *own == name).map(|(happening, _)| *happening)
    }
}

/// How often each thing happens, in times per master and day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates(BTreeMap<Happening, u32>);

impl Rates {
    /// Nothing ever happens but the traffic.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What an ordinary week brings, and no fault of a network.
    #[must_use]
    pub fn calm() -> Self {
        use Happening as H;
        [(H::Restart, 24), (H::Stop, 6), (H::Reset, 2), (H::Alias, 6), (H::ErrorLine, 24), (H::Burst, 24), (H::Shutdown, 4)]
            .into_iter()
            .fold(Self::none(), |rates, (happening, per_day)| rates.with(happening, per_day))
    }

    /// Everything, often.
    #[must_use]
    pub fn rough() -> Self {
        Happening::NAMES.into_iter().fold(Self::none(), |rates, (happening, _)| rates.with(happening, 12))
    }

    /// With another rate for one of them.
    #[must_use]
    pub fn with(mut self, happening: Happening, per_day: u32) -> Self {
        self.0.insert(happening, per_day);
        self
    }

    /// The rates that are not 0.
    pub fn iter(&self) -> impl Iterator<Item = (Happening, u32)> {
        self.0.iter().map(|(happening, per_day)| (*happening, *per_day)).filter(|(_, per_day)| *per_day > 0)
    }

    fn total(&self) -> u64 {
        self.iter().map(|(_, per_day)| u64::from(per_day)).sum()
    }
}

/// The life of one master.
#[derive(Debug)]
pub struct Scenario {
    rng: fastrand::Rng,
    rates: Rates,
    next: Option<Timestamp>,
    follow_ups: BTreeMap<(Timestamp, u64), Action>,
    made: u64,
    instances_min: usize,
    instances_max: usize,
}

impl Scenario {
    /// A life that begins at `now`. Instances are created and deleted within these bounds.
    #[must_use]
    pub fn new(rates: Rates, now: Timestamp, rng: fastrand::Rng, instances_min: usize, instances_max: usize) -> Self {
        let mut scenario = Self { rng, rates, next: None, follow_ups: BTreeMap::new(), made: 0, instances_min, instances_max };
        scenario.draw_next(now);
        scenario
    }

    /// When something happens next; `None` if nothing will.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let follow_up = self.follow_ups.first_key_value().map(|((at, _), _)| *at);
        [self.next, follow_up].into_iter().flatten().min()
    }

    /// The next action that is due by `now`, if any. Begins nothing more after [`Scenario::calm_down`].
    pub fn next_action(&mut self, now: Timestamp, master: &SimMaster) -> Option<Action> {
        if let Some(entry) = self.follow_ups.first_entry().filter(|entry| entry.key().0 <= now) {
            return Some(entry.remove());
        }
        while let Some(at) = self.next.filter(|at| *at <= now) {
            self.draw_next(at);
            let happening = self.draw_happening();
            if let Some(action) = self.make(happening, now, master) {
                return Some(action);
            }
        }
        None
    }

    /// Begins nothing more; what has begun still ends.
    pub fn calm_down(&mut self) {
        self.next = None;
    }

    /// Gaps are drawn evenly up to twice their mean: exponential ones would need a logarithm, which differs between machines.
    fn draw_next(&mut self, from: Timestamp) {
        let total = self.rates.total();
        self.next = (total > 0).then(|| {
            let mean_micros = 86_400_000_000 / total;
            from.plus(Duration::from_micros(self.rng.u64(1..=2 * mean_micros)))
        });
    }

    fn draw_happening(&mut self) -> Happening {
        let mut draw = self.rng.u64(0..self.rates.total().max(1));
        for (happening, per_day) in self.rates.iter() {
            match draw.checked_sub(u64::from(per_day)) {
                Some(rest) => draw = rest,
                None => return happening,
            }
        }
        unreachable!("the draw is below the sum of the rates")
    }

    fn make(&mut self, happening: Happening, now: Timestamp, master: &SimMaster) -> Option<Action> {
        match happening {
            Happening::Create => self.create(master),
            Happening::RotateKey => Some(Action::RotateKey { update_first: None }),
            Happening::Shutdown => Some(Action::Shutdown { down_for: Some(self.seconds(1, 90)) }),
            Happening::Kill => Some(Action::Kill { down_for: Some(self.seconds(1, 90)) }),
            Happening::Interval => Some(Action::SetReportInterval(Duration::from_secs(self.rng.u64(1..=10)))),
            Happening::Zone => Some(Action::SetZone { offset_seconds: self.rng.i32(-24..=28) * 1_800 }),
            Happening::Cut => Some(Action::Fault(Fault::Cut)),
            Happening::CleanEnd => Some(Action::Fault(Fault::CleanEnd)),
            Happening::HalfOpen => Some(Action::Fault(Fault::HalfOpen)),
            Happening::NoHead => Some(self.answering(Answering::Never)),
            Happening::Refuse => Some(self.answering(Answering::Refusing)),
            Happening::Redirect => Some(self.answering(Answering::Redirecting("http://127.0.0.2:1/api/v1/events".into()))),
            Happening::BadStatus => {
                let status = self.pick(&[403, 429, 500, 502, 503, 504]);
                Some(self.answering(Answering::Status(status)))
            }
            Happening::SlowBytes => {
                let wire = Wire { piece_bytes: self.below(200) + 1, pause: Duration::from_millis(self.rng.u64(1..50)) };
                let lasting = Some(self.seconds(5, 120));
                Some(Action::Fault(Fault::Wire { wire, lasting }))
            }
            Happening::Malformed => Some(Action::Fault(Fault::Malformed(self.malformed()))),
            Happening::Oversized => {
                let bytes = (1 << 20) + 1 + self.below(2 << 20);
                let one = self.pick(&[Malformed::Oversized { bytes }, Malformed::Endless { bytes }]);
                Some(Action::Fault(Fault::Malformed(one)))
            }
            _ => {
                let id = self.draw_instance(master)?;
                self.make_for(happening, id, now, master)
            }
        }
    }

    fn make_for(&mut self, happening: Happening, id: InstanceId, now: Timestamp, master: &SimMaster) -> Option<Action> {
        match happening {
            Happening::Delete => (master.instances().count() > self.instances_min).then_some(Action::Delete { id }),
            Happening::Restart => Some(Action::Restart { id }),
            Happening::Stop => {
                self.follow(now, 5, 1_800, Action::Start { id: id.clone() });
                Some(Action::Stop { id })
            }
            Happening::Reset => Some(Action::Reset { id }),
            Happening::Alias => {
                let alias = format!("tunnel <{}> & é中", self.rng.u16(..)).into();
                Some(Action::SetAlias { id, alias })
            }
            Happening::Url => {
                let log = self.pick(&[LogLevel::Warn, LogLevel::Info, LogLevel::Debug]);
                Some(Action::SetLog { id, log })
            }
            Happening::Die => {
                self.follow(now, 5, 600, Action::Start { id: id.clone() });
                Some(Action::Die { id, clean: self.rng.bool() })
            }
            Happening::Flap => {
                self.follow(now, 10, 600, Action::Flap { id: id.clone(), on: false });
                Some(Action::Flap { id, on: true })
            }
            Happening::Silence => {
                self.follow(now, 5, 300, Action::Silence { id: id.clone(), silent: false });
                Some(Action::Silence { id, silent: true })
            }
            Happening::Disconnect => {
                self.follow(now, 5, 900, Action::SetConnected { id: id.clone(), connected: true });
                Some(Action::SetConnected { id, connected: false })
            }
            Happening::ErrorLine => Some(Action::Fail { id }),
            Happening::Burst => Some(Action::Burst { id, lines: self.rng.u32(20..400) }),
            _ => None,
        }
    }

    fn create(&mut self, master: &SimMaster) -> Option<Action> {
        if master.instances().count() >= self.instances_max {
            return None;
        }
        let number = self.rng.u16(10_000..30_000);
        let traffic = Traffic {
            seed: self.rng.u64(..),
            peak_down: self.rng.u64(0..5_000_000),
            peak_up: self.rng.u64(0..500_000),
            udp_percent: self.rng.u64(0..30),
            users_offset_seconds: self.rng.i64(-12..13) * 3_600,
        };
        let role = if self.rng.bool() { Role::Server } else { Role::Client };
        let spec = InstanceSpec { traffic, role, ..InstanceSpec::server(&format!("sim-{number}"), number) };
        Some(Action::Create(Box::new(spec)))
    }

    fn malformed(&mut self) -> Malformed {
        use Malformed as M;
        let all = [
            M::NotJson,
            M::CutJson,
            M::WrongTypes,
            M::NoFields,
            M::InvalidUtf8,
            M::EmptyData,
            M::UnknownKind,
            M::NullInstance,
            M::Exotic,
        ];
        self.pick(&all)
    }

    fn answering(&mut self, answering: Answering) -> Action {
        let lasting = Some(self.seconds(5, 120));
        Action::Fault(Fault::Answering { answering, lasting })
    }

    fn draw_instance(&mut self, master: &SimMaster) -> Option<InstanceId> {
        let count = master.instances().count();
        if count == 0 {
            return None;
        }
        master.instances().nth(self.below(count)).map(|instance| instance.id.clone())
    }

    /// One of these.
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number below `bound`, drawn with 64 bits on every machine.
    fn below(&mut self, bound: usize) -> usize {
        self.rng.u64(0..bound as u64) as usize
    }

    fn follow(&mut self, now: Timestamp, seconds_min: u64, seconds_max: u64, action: Action) {
        let at = now.plus(self.seconds(seconds_min, seconds_max));
        self.made += 1;
        self.follow_ups.insert((at, self.made), action);
    }

    fn seconds(&mut self, min: u64, max: u64) -> Duration {
        Duration::from_millis(self.rng.u64(min * 1_000..max * 1_000))
    }
}
