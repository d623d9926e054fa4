//! What the instances' processes print.

use super::instance::{Instance, InstanceSpec, Role, TUNNEL_PASSWORD};
use super::version::Version;

/// A level with its ANSI colour, as between the time and the text of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Event,
}

impl Level {
    pub fn coloured(self) -> &'static str {
        match self {
            Self::Debug => "\u{1b}[34mDEBUG\u{1b}[0m",
            Self::Info => "\u{1b}[32mINFO\u{1b}[0m",
            Self::Warn => "\u{1b}[33mWARN\u{1b}[0m",
            Self::Error => "\u{1b}[31mERROR\u{1b}[0m",
            Self::Event => "\u{1b}[36mEVENT\u{1b}[0m",
        }
    }
}

/// `Server` or `Client`.
fn role(spec: &InstanceSpec) -> &'static str {
    match spec.role {
        Role::Server => "Server",
        Role::Client => "Client",
    }
}

/// `Server started: ...` with the URL and the tunnel password in it, which is derived where the operator gave none; older
/// versions leave out the scheme.
pub(super) fn started(version: Version, spec: &InstanceSpec, again: bool) -> String {
    let verb = match (again, version) {
        (false, _) => "started",
        (true, Version::Go1_1_5 | Version::Go1_4_2) => "restarted",
        (true, Version::Go1_6_1 | Version::Go1_7_0) => "restarting",
        (true, _) => "restart",
    };
    let derived = format!("{TUNNEL_PASSWORD}-derived");
    let password = if spec.password.reveal().is_empty() { &derived } else { spec.password.reveal() };
    let (role, address) = (role(spec), format!("{}/{}", spec.tunnel, spec.target));
    let pool = if spec.role == Role::Server { "max=1024" } else { "min=64" };
    let mode = spec.mode;
    match version {
        Version::Go1_1_5 => format!("{role} {verb}: {address}"),
        Version::Go1_4_2 => format!("{role} {verb}: {password}@{address}"),
        Version::Go1_6_1 | Version::Go1_7_0 => {
            format!("{role} {verb}: {password}@{address}?{pool}&mode={mode}&read=1h0m0s&rate=0&slot=65536")
        }
        _ => {
            let scheme = spec.role.name();
            let first = if spec.role == Role::Server { "" } else { "sni=none&" };
            let last = if spec.role == Role::Server { "type=0&" } else { "" };
            format!(
                "{role} {verb}: {scheme}://{password}@{address}?dns=5m0s&{first}{pool}&mode={mode}&{last}dial=auto&read=0s&rate=0&slot=65536&proxy=0&block=0&notcp=0&noudp=0"
            )
        }
    }
}

/// The line that sets the status `error` on versions that do so.
pub(super) fn failed(spec: &InstanceSpec) -> String {
    match spec.role {
        Role::Server => format!(
            "Server error: start: initTunnelListener failed: initTunnelListener: listenTCP failed: listen tcp {}: bind: address already in use",
            spec.tunnel
        ),
        Role::Client => format!(
            "Client error: commonStart: tunnelHandshake failed: tunnelHandshake: Get \"http://{0}/\": dial tcp {0}: connect: connection refused",
            spec.tunnel
        ),
    }
}

/// A line about a connection; `number` makes them differ.
pub(super) fn connection(version: Version, instance: &Instance, number: u64) -> (Level, String) {
    let port = 32_768 + number % 28_000;
    let spec = &instance.spec;
    if version < Version::Go1_6_1 {
        let shown = instance.shown;
        return (
            if version == Version::Go1_1_5 { Level::Debug } else { Level::Event },
            format!(
                "Exchange complete: TRAFFIC_STATS|TCP_RX={}|TCP_TX={}|UDP_RX={}|UDP_TX={}",
                shown.tcp_rx, shown.tcp_tx, shown.udp_rx, shown.udp_tx
            ),
        );
    }
    match number % 4 {
        0 => (Level::Debug, format!("Target connection: {} <-> 127.0.0.1:{port}", spec.target)),
        1 => (Level::Debug, format!("Tunnel connection: get {:08x} <- pool active {}", number as u32, instance.pool)),
        2 => (Level::Debug, format!("Transfer complete: 127.0.0.1:{port} <-> {}", spec.target)),
        _ => (Level::Info, "Exchange complete: EOF".to_owned()),
    }
}

/// Usage text that a process prints which cannot start: lines without time or level.
pub(super) fn usage(version: Version) -> Vec<String> {
    vec![
        "Error: start: create core failed: newServer: initConfig failed: getAddress: no valid target address found [8045]"
            .to_owned(),
        "╭─────────────────────────────────────╮".to_owned(),
        format!("│{:>36} │", format!("nodepass-{}", version.name())),
        "│                         linux/amd64 │".to_owned(),
        "├─────────────────────────────────────┤".to_owned(),
        "│ server://password@host/host?<query> │".to_owned(),
        "╰─────────────────────────────────────╯".to_owned(),
        String::new(),
    ]
}
