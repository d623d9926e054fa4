//! A small fleet of simulated masters over real HTTP on loopback, for `tidegate demo`.
//!
//! Everything but the masters is real: the recorder follows them as it follows any other.

pub mod load;
pub mod server;
mod wire;

use std::io;

use crate::clock::SharedClock;
use crate::endpoint::TlsPolicy;
use crate::sim::master::{Action, InstanceSpec, LogLevel, MasterSpec, SimMaster, Version};
use crate::sim::scenario::{Happening, Rates, Scenario};
use crate::sim::traffic::Traffic;
use crate::store::NewEndpoint;
use server::MasterServer;

/// The masters of the fleet: name, version, hours east of UTC.
const MASTERS: [(&str, Version, i32); 3] =
    [("tokyo", Version::Go1_14_0, 9), ("frankfurt", Version::Go2_0_0B10, 1), ("chicago", Version::Go1_7_0, -6)];

/// The tunnels: alias, index of the exit's master, index of the entry's master, peak bytes per second to the users, percent UDP.
const TUNNELS: [(&str, usize, usize, u64, u64); 6] = [
    ("web", 0, 1, 2_400_000, 0),
    ("video", 1, 0, 9_000_000, 4),
    ("game", 0, 1, 260_000, 85),
    ("backup", 1, 0, 1_100_000, 0),
    ("mail", 2, 1, 90_000, 0),
    ("ssh", 1, 2, 14_000, 0),
];

/// What happens in the fleet by itself, in times per master and day: something to see every few minutes.
fn rates() -> Rates {
    [
        (Happening::Restart, 60),
        (Happening::Stop, 12),
        (Happening::ErrorLine, 24),
        (Happening::Burst, 48),
        (Happening::Reset, 2),
        (Happening::Disconnect, 6),
        (Happening::Shutdown, 12),
        (Happening::Kill, 3),
        (Happening::Cut, 12),
        (Happening::RotateKey, 2),
    ]
    .into_iter()
    .fold(Rates::none(), |rates, (happening, per_day)| rates.with(happening, per_day))
}

/// The fleet; ends when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// What the recorder is to follow.
    pub endpoints: Vec<NewEndpoint>,
    /// The masters, in the order of the endpoints.
    pub masters: Vec<MasterServer>,
}

impl Fleet {
    /// Starts three masters with a dozen instances, one of which flaps. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(clock: SharedClock, seed: u64) -> io::Result<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut fleet = Self { endpoints: Vec::new(), masters: Vec::new() };
        let now = clock.wall();
        for (index, (name, version, hours)) in MASTERS.into_iter().enumerate() {
            let spec = MasterSpec {
                zone_offset_seconds: hours * 3_600,
                alias: format!("{name}-demo").into(),
                ..MasterSpec::new(version)
            };
            let mut master = SimMaster::new(spec, now, rng.fork());
            instances_of(index, seed).into_iter().for_each(|spec| {
                master.create(spec);
            });
            if index == 1 {
                let id = master.create(InstanceSpec { connected: false, ..InstanceSpec::client("office-entry", 10_400) });
                master.act(&Action::Flap { id, on: true });
            }
            let count = master.instances().count();
            let scenario = Scenario::new(rates(), now, rng.fork(), count, count);
            let server = MasterServer::start(master, Some(scenario), clock.clone())?;
            fleet.endpoints.push(NewEndpoint {
                name: name.to_owned(),
                url: server.url(),
                api_key: server.api_key(),
                tls: TlsPolicy::Verify,
                log_events: None,
            });
            fleet.masters.push(server);
        }
        Ok(fleet)
    }

    /// Stops all masters.
    pub async fn stop(self) {
        for master in self.masters {
            master.stop().await;
        }
    }
}

/// The ends of the tunnels that stand at one master.
fn instances_of(master: usize, seed: u64) -> Vec<InstanceSpec> {
    let mut specs = Vec::new();
    for (number, (alias, exit, entry, peak_down, udp_percent)) in (0_u16..).zip(TUNNELS) {
        let traffic = Traffic {
            seed: seed ^ u64::from(number),
            peak_down,
            peak_up: peak_down / 12,
            udp_percent,
            users_offset_seconds: i64::from(MASTERS[entry].2) * 3_600,
        };
        let (server, client) = InstanceSpec::pair(alias, 10_200 + number, traffic);
        let told = |spec: InstanceSpec| InstanceSpec { log: LogLevel::Info, lines_per_report: u8::from(number == 0), ..spec };
        if exit == master {
            specs.push(told(server));
        }
        if entry == master {
            specs.push(told(client));
        }
    }
    specs
}
