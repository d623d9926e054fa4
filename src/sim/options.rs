//! Options of a simulation, and the plan that is drawn from its seed: every number of a run comes from here.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;

use super::master::Version;
use crate::clock::Timestamp;
use crate::config::RetentionConfig;
use crate::journaling::{Limits, SyncPolicy};
use crate::modes::StorageMode;
use crate::pipeline::Settings;
use crate::store::DatabaseUrl;

/// Something on our side that goes wrong, or something rough on the masters'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// Every call of the database fails for a while.
    DatabaseDown,
    /// Calls of the database take seconds for a while.
    DatabaseSlow,
    /// Calls of the database fail now and then for a while, as with another writer.
    DatabaseLocked,
    /// The answer to a COMMIT is lost; what it did is stored or not.
    DatabaseDoubt,
    /// The disk is full for a while.
    DiskFull,
    /// A sync fails.
    DiskSync,
    /// An append ends in the middle.
    DiskTorn,
    /// Journal work takes seconds for a while.
    DiskSlow,
    /// The process is killed at a disk call, a store call or a moment, and started again.
    Kill,
    /// The machine loses power at such a place; what was not synced may be lost.
    Power,
    /// The wall clock is stepped.
    Clock,
    /// The recorder is told to stop, and started again.
    Shutdown,
    /// Somebody switches to another mode.
    Mode,
    /// Masters and networks do everything that they were seen to do.
    Masters,
}

impl FaultKind {
    /// All of them with their names.
    pub const NAMES: [(Self, &'static str); 14] = [
        (Self::DatabaseDown, "database-down"),
        (Self::DatabaseSlow, "database-slow"),
        (Self::DatabaseLocked, "database-locked"),
        (Self::DatabaseDoubt, "database-doubt"),
        (Self::DiskFull, "disk-full"),
        (Self::DiskSync, "disk-sync"),
        (Self::DiskTorn, "disk-torn"),
        (Self::DiskSlow, "disk-slow"),
        (Self::Kill, "kill"),
        (Self::Power, "power"),
        (Self::Clock, "clock"),
        (Self::Shutdown, "shutdown"),
        (Self::Mode, "mode"),
        (Self::Masters, "masters"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// Which faults happen: `all`, `none`, or names with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub BTreeSet<FaultKind>);

impl Faults {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(FaultKind::NAMES.into_iter().map(|(kind, _)| kind).collect())
    }

    /// Whether one of them happens.
    #[must_use]
    pub fn has(&self, kind: FaultKind) -> bool {
        self.0.contains(&kind)
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::all()),
            "none" => Ok(Self::default()),
            list => list
                .split(',')
                .map(|name| {
                    let known = FaultKind::NAMES.iter().find(|(_, own)| *own == name.trim());
                    known.map(|(kind, _)| *kind).ok_or_else(|| {
                        let names: Vec<&str> = FaultKind::NAMES.iter().map(|(_, name)| *name).collect();
                        format!("there is no fault `{name}`; give all, none, or some of {}", names.join(","))
                    })
                })
                .collect::<Result<_, _>>()
                .map(Self),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        if *self == Self::all() {
            return f.write_str("all");
        }
        let names: Vec<&str> = self.0.iter().map(|kind| kind.name()).collect();
        f.write_str(&names.join(","))
    }
}

/// Which database a simulation writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Plain maps in memory.
    Memory,
    /// A real SQLite file, made for the run and removed after it.
    Sqlite,
    /// This database, which must be empty.
    Url(DatabaseUrl),
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite),
            url => url.parse().map(Self::Url).map_err(|error: crate::store::StoreError| error.to_string()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sqlite => f.write_str("sqlite"),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// What a simulation is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Virtual time under faults; some 45 minutes in which everything must converge follow.
    pub length: Duration,
    /// Masters.
    pub endpoints: usize,
    /// Tunnels of each at the beginning.
    pub tunnels: usize,
    /// The masters' report interval.
    pub report_interval: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// Where it is stored.
    pub database: Database,
    /// How events reach it at first; `None` leaves that to the recorder.
    pub mode: Option<StorageMode>,
    /// `cache.sync_interval`; `None` leaves that to the seed.
    pub live_sync: Option<Duration>,
}

impl Default for Options {
    /// A virtual day of two masters with five tunnels each, everything going wrong, in memory.
    fn default() -> Self {
        Self {
            seed: 1,
            length: Duration::from_secs(86_400),
            endpoints: 2,
            tunnels: 5,
            report_interval: Duration::from_secs(5),
            faults: Faults::all(),
            database: Database::Memory,
            mode: None,
            live_sync: None,
        }
    }
}

impl fmt::Display for Options {
    /// The flags that repeat it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--seed {} --days {} --endpoints {} --tunnels {} --report-interval {} --faults {} --database {}",
            self.seed,
            self.length.as_secs_f64() / 86_400.0,
            self.endpoints,
            self.tunnels,
            humantime::format_duration(self.report_interval),
            self.faults,
            self.database
        )?;
        self.mode.map_or(Ok(()), |mode| write!(f, " --mode {mode}"))?;
        self.live_sync.map_or(Ok(()), |every| write!(f, " --live-sync {}", humantime::format_duration(every)))
    }
}

/// What the seed says beside the options.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The options.
    pub options: Options,
    /// What the recorder is configured with.
    pub settings: Settings,
    /// Rows per statement.
    pub batch_size: usize,
    /// The masters' versions.
    pub versions: Vec<Version>,
    /// When it begins.
    pub start: Timestamp,
    /// Longest time of an ordinary blocking call.
    pub latency_max: Duration,
    /// Mean time between two faults on our side.
    pub fault_every: Duration,
    /// Time between two looks at the recorder.
    pub look_every: Duration,
}

/// Zones with whole, half and quarter hours, with and without daylight saving, one of half an hour.
const ZONES: [Tz; 8] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Asia__Shanghai,
    Tz::Asia__Kolkata,
    Tz::Asia__Kathmandu,
    Tz::Australia__Lord_Howe,
    Tz::America__St_Johns,
];

/// Days before which something happens to clocks: changes of daylight saving on both hemispheres, a leap day, a new year.
const DAYS: [&str; 7] = ["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-04-04", "2028-02-28", "2026-12-31"];

impl Plan {
    /// Draws it.
    #[must_use]
    pub fn draw(options: &Options) -> Self {
        let mut rng = fastrand::Rng::with_seed(options.seed ^ 0x7469_6465_6761_7465);
        let calm = options.faults.0.is_empty();
        let day = DAYS[rng.usize(0..DAYS.len())];
        let midnight = chrono::DateTime::parse_from_rfc3339(&format!("{day}T00:00:00Z")).map_or(0, |day| day.timestamp_micros());
        let start = Timestamp(midnight + rng.i64(0..24 * 3_600) * Timestamp::SECOND + rng.i64(0..Timestamp::SECOND));
        let versions: Vec<Version> = (0..options.endpoints).map(|_| Version::ALL[rng.usize(0..Version::ALL.len())]).collect();
        let settings = settings(&mut rng);
        let (settings, versions) =
            if calm { (Settings::default(), vec![Version::Go1_14_0; options.endpoints]) } else { (settings, versions) };
        let cache_sync_interval = options.live_sync.unwrap_or(settings.cache_sync_interval);
        let settings = Settings { cache_sync_interval, ..settings };
        let latency_max = Duration::from_millis(if calm { 4 } else { rng.u64(4..60) });
        let batch_size = if calm { 100 } else { [1, 7, 100][rng.usize(0..3)] };
        Self {
            options: options.clone(),
            settings: Settings { batch_size, mode: options.mode, ..settings },
            batch_size,
            versions,
            start,
            latency_max,
            fault_every: Duration::from_secs(rng.u64(300..2_400)),
            look_every: Duration::from_secs(if calm { 60 } else { rng.u64(7..40) }),
        }
    }
}

fn settings(rng: &mut fastrand::Rng) -> Settings {
    let batch_events_max = [5, 40, 200, 1_000][rng.usize(0..4)];
    // Segments of small batches pile up until the boundary makes history durable.
    let intervals: &[u64] = if batch_events_max < 200 { &[60, 300, 900] } else { &[60, 300, 900, 3_600, 3_600, 6 * 3_600] };
    Settings {
        limits: Limits {
            batch_events_max,
            batch_bytes_max: [8 << 10, 64 << 10, 4 << 20][rng.usize(0..3)],
            journal_bytes_max: [256 << 10, 4 << 20, 1 << 30][rng.usize(0..3)],
            free_bytes_min: [0, 64 << 10][rng.usize(0..2)],
        },
        flush_interval: Duration::from_secs(intervals[rng.usize(0..intervals.len())]),
        timezone: ZONES[rng.usize(0..ZONES.len())],
        memory_events_max: [batch_events_max, 1_000, 100_000][rng.usize(0..3)],
        cache_sync_interval: Duration::from_secs([1, 5, 5, 60][rng.usize(0..4)]),
        journal_sync: [
            SyncPolicy::Always,
            SyncPolicy::Every(Duration::from_secs(1)),
            SyncPolicy::Every(Duration::from_secs(1)),
            SyncPolicy::Every(Duration::from_secs(10)),
        ][rng.usize(0..4)],
        shutdown_deadline: Duration::from_secs(rng.u64(2..40)),
        retention: retention(rng),
        ..Settings::default()
    }
}

fn retention(rng: &mut fastrand::Rng) -> RetentionConfig {
    let events = Duration::from_secs([1, 3, 24, 30 * 24][rng.usize(0..4)] * 3_600);
    let minutes = Duration::from_secs([1, 6, 7 * 24][rng.usize(0..3)] * 3_600);
    // Where days are kept for ever, the sums are asked for at the end.
    let day = Duration::from_secs(86_400);
    let (hours, days) = [(day, Some(2 * day)), (7 * day, None)][rng.usize(0..2)];
    RetentionConfig { events, minutes, hours, days }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings {
            limits,
            flush_interval,
            timezone,
            memory_events_max,
            cache_sync_interval,
            journal_sync,
            shutdown_deadline,
            retention,
            ..
        } = &self.settings;
        writeln!(f, "seed {}: tidegate simulate {}", self.options.seed, self.options)?;
        writeln!(f, "  start {} in {timezone}, boundaries every {}", self.start, humantime::format_duration(*flush_interval))?;
        writeln!(
            f,
            "  batches of {} records or {} bytes, {} rows per statement, {memory_events_max} records in memory, journal of {} bytes, {} free",
            limits.batch_events_max, limits.batch_bytes_max, self.batch_size, limits.journal_bytes_max, limits.free_bytes_min
        )?;
        writeln!(
            f,
            "  journal sync {journal_sync:?}, live sync {}, shutdown {}, calls up to {}",
            humantime::format_duration(*cache_sync_interval),
            humantime::format_duration(*shutdown_deadline),
            humantime::format_duration(self.latency_max)
        )?;
        let RetentionConfig { events, minutes, hours, days } = retention;
        writeln!(
            f,
            "  events are kept for {}, minutes for {}, hours for {}, days for {}",
            humantime::format_duration(*events),
            humantime::format_duration(*minutes),
            humantime::format_duration(*hours),
            days.map_or_else(|| "ever".to_owned(), |days| humantime::format_duration(days).to_string())
        )?;
        let versions: Vec<&str> = self.versions.iter().map(|version| version.name()).collect();
        write!(f, "  a fault every {}, masters {}", humantime::format_duration(self.fault_every), versions.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_plan_and_another_seed_another_one() {
        let plan = |seed| Plan::draw(&Options { seed, ..Options::default() }).to_string();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7)[8..], plan(8)[8..]);
    }

    /// A fault that nobody can read about is one that nobody asks for, and the other way round.
    #[test]
    fn the_documentation_and_the_help_list_the_faults_that_there_are() {
        let names: BTreeSet<&str> = FaultKind::NAMES.iter().map(|(_, name)| *name).collect();
        assert_eq!(names.len(), FaultKind::NAMES.len());
        let documentation = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/simulation.md")).unwrap();
        let paragraph = documentation.split("\n## Faults\n\n").nth(1).and_then(|section| section.split("\n\n").next());
        let code = paragraph.expect("a section").split('`').skip(1).step_by(2);
        let listed: BTreeSet<&str> = code.flat_map(str::split_whitespace).filter(|word| !word.ends_with(".rs")).collect();
        assert_eq!(listed, names);
        let help = include_str!("../cli/simulate.rs").split("/// all, none, or names: ").nth(1).expect("the help");
        let help = help.split("#[arg").next().unwrap_or_default().replace("///", " ");
        assert_eq!(help.split(',').map(str::trim).collect::<BTreeSet<_>>(), names);
    }

    #[test]
    fn faults_are_read_as_they_are_shown_and_an_unknown_name_lists_the_known_ones() {
        for text in ["all", "none", "disk-full,kill"] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        assert!("disc".parse::<Faults>().unwrap_err().contains("disk-full"));
    }
}
