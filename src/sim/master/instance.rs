//! An instance: what the operator asked for, what the master shows, and what its process has moved.

use std::collections::BTreeMap;
use std::fmt;

use super::version::Version;
use crate::clock::Timestamp;
use crate::event::{Counters, InstanceId};
use crate::sim::traffic::{Moved, Traffic};

/// The invented tunnel password. It must never come out of a recorder, so that a search for it finds leaks.
pub const TUNNEL_PASSWORD: &str = "tunnelpass";

/// User-info of an instance's URL. Its `Debug` hides it, since traces print what was done.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    /// The password itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Which end of a tunnel an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The exit: connects to the target.
    Server,
    /// The entry: users connect to it.
    Client,
}

impl Role {
    /// As the field `type` and the URL's scheme.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// How much an instance's process prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing, and no reports either: the instance shows `running` and zeros for ever.
    None,
    /// Warnings and errors.
    Warn,
    /// Starts, stops and 2 lines per connection.
    #[default]
    Info,
    /// 7 lines per connection.
    Debug,
}

impl LogLevel {
    /// As in the URL's query.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// `meta.peer`: the other end, as the operator entered it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSpec {
    /// Both ends of a tunnel have the same.
    pub sid: Box<str>,
    /// Service type.
    pub kind: Box<str>,
    /// Service alias.
    pub alias: Box<str>,
}

/// What an operator gives when making an instance, and what its tunnel is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSpec {
    /// 8 lower-case hex digits; drawn where `None`.
    pub id: Option<InstanceId>,
    /// Server or client.
    pub role: Role,
    /// Alias; any text.
    pub alias: Box<str>,
    /// User-info of the URL; may be empty.
    pub password: Password,
    /// `host:port` of the tunnel.
    pub tunnel: Box<str>,
    /// `host:port` of the target.
    pub target: Box<str>,
    /// 1 or 2, shown from the first report on.
    pub mode: i32,
    /// Log level of the process.
    pub log: LogLevel,
    /// The other end.
    pub peer: PeerSpec,
    /// Tags.
    pub tags: BTreeMap<Box<str>, Box<str>>,
    /// What moves through the tunnel.
    pub traffic: Traffic,
    /// Whether the other end is connected; without it the process runs and does not report.
    pub connected: bool,
    /// Lines about connections that are printed with each report, at [`LogLevel::Info`] and above.
    pub lines_per_report: u8,
}

impl InstanceSpec {
    /// A connected server on loopback without traffic.
    #[must_use]
    pub fn server(alias: &str, port: u16) -> Self {
        Self {
            id: None,
            role: Role::Server,
            alias: alias.into(),
            password: TUNNEL_PASSWORD.into(),
            tunnel: format!("127.0.0.1:{port}").into(),
            target: format!("127.0.0.1:{}", port.wrapping_add(10_000)).into(),
            mode: 2,
            log: LogLevel::Info,
            peer: PeerSpec::default(),
            tags: BTreeMap::new(),
            traffic: Traffic::default(),
            connected: true,
            lines_per_report: 0,
        }
    }

    /// A connected client on loopback without traffic.
    #[must_use]
    pub fn client(alias: &str, port: u16) -> Self {
        Self { role: Role::Client, ..Self::server(alias, port) }
    }

    /// The two ends of one tunnel, server first: same traffic, same peer sid, each other's alias.
    #[must_use]
    pub fn pair(alias: &str, port: u16, traffic: Traffic) -> (Self, Self) {
        let end = |role: Role, own: &str, other: &str| Self {
            role,
            traffic,
            peer: PeerSpec { sid: sid(traffic.seed).into(), kind: "2".into(), alias: format!("{alias}-{other}").into() },
            ..Self::server(&format!("{alias}-{own}"), port)
        };
        (end(Role::Server, "exit", "entry"), end(Role::Client, "entry", "exit"))
    }

    /// The URL as the master shows it.
    pub(super) fn url(&self, version: Version) -> String {
        let query = match version {
            Version::Go1_1_5 => format!("log={}", self.log.name()),
            Version::Rust0_1_0 => format!("mode={}", self.mode),
            _ => format!("log={}&mode={}", self.log.name(), self.mode),
        };
        format!("{}?{query}", self.address())
    }

    /// The URL with all defaults spelled out; empty where the version has none.
    pub(super) fn config(&self, version: Version) -> String {
        let (log, mode) = (self.log.name(), self.mode);
        let pool = if self.role == Role::Server { "max=1024" } else { "min=64" };
        let last = if self.role == Role::Server { "type=0" } else { "sni=none" };
        let query = match version {
            Version::Go1_7_0 => format!("log={log}&{pool}&mode={mode}&proxy=0&rate=0&read=1h0m0s&slot=65536"),
            Version::Go1_14_0 | Version::Go2_0_0B10 => format!(
                "block=0&dial=auto&dns=5m0s&{}log={log}&{pool}&mode={mode}&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&{last}",
                if version == Version::Go2_0_0B10 { "lbs=0&" } else { "" },
            ),
            _ => return String::new(),
        };
        format!("{}?{query}", self.address())
    }

    fn address(&self) -> String {
        let password = self.password.reveal();
        let at = if password.is_empty() { "" } else { "@" };
        format!("{}://{password}{at}{}/{}", self.role.name(), self.tunnel, self.target)
    }
}

/// A service id in the form of a UUID, from a number.
fn sid(seed: u64) -> String {
    let low = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}", seed as u32, (seed >> 32) as u16, low & 0xfff, low >> 12 & 0xfff, low >> 16)
}

/// Status as the master shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    /// Its process runs.
    Running,
    /// It was stopped.
    Stopped,
    /// It printed an error, fell silent, or its process died.
    Error,
}

impl InstanceStatus {
    /// As the field `status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

/// An instance as it lives in a master. The public fields are what a subscriber is shown.
#[derive(Clone)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// What the operator gave.
    pub spec: InstanceSpec,
    /// Status.
    pub status: InstanceStatus,
    /// Start together with the master.
    pub restart: bool,
    /// 0 until the first report.
    pub mode: i32,
    /// Milliseconds.
    pub ping: i32,
    /// Idle pooled connections.
    pub pool: i32,
    /// Open TCP connections.
    pub tcps: i32,
    /// Open UDP sessions.
    pub udps: i32,
    /// The counters that are shown.
    pub shown: Counters,
    /// Bytes that moved and that no report will ever count: before a stop, a restart or a kill. For the oracle.
    pub lost: Moved,
    /// What a report adds to; differs from `shown` after a reset that does not last.
    pub(super) counted: Counters,
    /// `counted` when the state file was last written: what a killed master comes back with.
    pub(super) saved: Counters,
    /// Up to when traffic is counted; `None` while no process runs.
    pub(super) counted_to: Option<Timestamp>,
    /// When the process last reported.
    pub(super) reported_at: Option<Timestamp>,
    /// Number of the process; a timer of an earlier one does nothing.
    pub(super) run: u64,
    /// The process runs and does not report.
    pub(super) silent: bool,
    /// The process fails and retries every 3 s.
    pub(super) flapping: bool,
    /// A timer looks whether it has been silent for too long.
    pub(super) stale_armed: bool,
    /// A timer lets it fail again.
    pub(super) retry_armed: bool,
    /// Gone from the master, still referred to by queued events.
    pub(super) deleted: bool,
    /// `url` as JSON, rendered once since it repeats in every event.
    pub(super) url_json: Box<str>,
    /// `config` as JSON.
    pub(super) config_json: Box<str>,
}

/// Without the URLs, which hold the tunnel password.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("spec", &self.spec)
            .field("status", &self.status)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Whether its process runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.counted_to.is_some()
    }

    /// What moved since traffic was last counted, which is then up to `now`.
    pub(super) fn take_moved(&mut self, now: Timestamp) -> Moved {
        let Some(from) = self.counted_to else { return Moved::default() };
        self.counted_to = Some(now);
        if self.spec.connected { self.spec.traffic.moved(from, now) } else { Moved::default() }
    }

    /// Counts what moved, as seen from the non-tunnel side of this end, and shows it.
    pub(super) fn count(&mut self, moved: Moved, per_byte: u64) {
        let (rx, tx, udp_rx, udp_tx) = match self.spec.role {
            Role::Client => (moved.tcp_up, moved.tcp_down, moved.udp_up, moved.udp_down),
            Role::Server => (moved.tcp_down, moved.tcp_up, moved.udp_down, moved.udp_up),
        };
        self.counted.tcp_rx += rx * per_byte;
        self.counted.tcp_tx += tx * per_byte;
        self.counted.udp_rx += udp_rx * per_byte;
        self.counted.udp_tx += udp_tx * per_byte;
        self.shown = self.counted;
    }

    /// The process is gone, and with it what it had not reported.
    pub(super) fn process_ended(&mut self, now: Timestamp) {
        let moved = self.take_moved(now);
        self.lost.add(moved);
        self.counted_to = None;
        self.reported_at = None;
        (self.stale_armed, self.retry_armed) = (false, false);
        self.run += 1;
    }

    /// After a commanded stop these are 0; after a death they keep their last values.
    pub(super) fn clear_figures(&mut self) {
        (self.ping, self.pool, self.tcps, self.udps) = (0, 0, 0, 0);
    }
}
