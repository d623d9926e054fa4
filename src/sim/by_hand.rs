//! A recorder for a test of one's own: messages are injected by hand, and time passes when it is told to.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::sim::by_hand::ByHand;
//! use tidegate::sim::master::{Action, InstanceSpec};
//!
//! ByHand::new(7).run(async |world| {
//!     world.master.act(&Action::Create(Box::new(InstanceSpec::server("tokyo", 10_190))));
//!     world.advance(Duration::from_secs(3_600)).await;
//!     let answer = world.recorder.flush().await;
//!     assert_eq!(answer.waiting, 0);
//!     let rows = world.database.with_tables(|tables| tables.records.len());
//!     assert!(rows > 700, "a report every 5 s for an hour, and {rows} rows");
//! });
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::invariants::Terms;
use super::judge::Judge;
use super::master::{MasterSpec, SimMaster, Version};
use super::scenario::{Rates, Scenario};
use super::shared::{Shared, State};
use super::transport::{Living, Place, SimTransport};
use super::world::runtime;
use crate::blocking::Blocking;
use crate::clock::{Clock, Timestamp};
use crate::endpoint::{ApiKey, MasterUrl, TlsPolicy};
use crate::journal::MemoryDisk;
use crate::pipeline::{self, Parts, Settings};
use crate::recorder::RecorderHandle;
use crate::store::memory::MemoryDatabase;
use crate::store::{NewEndpoint, Store};

/// 2026-11-23T12:00:00Z.
const START: Timestamp = Timestamp(1_795_435_200_000_000);
/// Until the recorder has connected.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);

/// A recorder that is to be started; see the module.
#[derive(Debug)]
pub struct ByHand {
    seed: u64,
    settings: Settings,
    rates: Rates,
    instances_max: usize,
    version: Version,
}

/// A recorder that runs, with all that it sees.
pub struct Running {
    /// The recorder.
    pub recorder: RecorderHandle,
    /// Its one master, without instances at first.
    pub master: Place,
    /// Its database.
    pub database: MemoryDatabase,
    /// Its journal's disk.
    pub disk: MemoryDisk,
    shared: Shared,
}

impl ByHand {
    /// With default settings, and a master to which nothing happens but what the test does.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, settings: Settings::default(), rates: Rates::none(), instances_max: 0, version: Version::Go1_14_0 }
    }

    /// With other settings.
    #[must_use]
    pub fn with(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// With a master of another version than v1.14.0.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// With a master that has a life of its own: these things happen to it, and it has at most so many instances.
    #[must_use]
    pub fn with_life(mut self, rates: Rates, instances_max: usize) -> Self {
        (self.rates, self.instances_max) = (rates, instances_max);
        self
    }

    /// Starts it at noon on a System of its own, on paused time, and runs a test against it.
    ///
    /// # Panics
    /// If the recorder does not start, which over an empty database and disk is a bug.
    pub fn run<T: 'static>(self, test: impl AsyncFnOnce(&Running) -> T + 'static) -> T {
        actix::System::with_tokio_rt(runtime).block_on(async move {
            let running = self.start().await;
            tokio::time::sleep(CONNECTED_WITHIN).await;
            test(&running).await
        })
    }

    #[expect(clippy::expect_used, reason = "an empty database and an empty disk refuse nothing")]
    async fn start(self) -> Running {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let terms = Terms { settings: self.settings.clone(), latency_max: Duration::ZERO };
        let shared = State::new(Judge::new(&terms, None), START, Duration::ZERO, rng.fork());
        shared.begin_life();
        let master = SimMaster::new(MasterSpec::new(self.version), START, rng.fork());
        let api_key = ApiKey::new(master.api_key());
        let scenario = Scenario::new(self.rates, START, rng.fork(), 0, self.instances_max);
        let place = Place::new(Living::new(master, scenario), Arc::clone(&shared));
        let (database, disk) = (MemoryDatabase::default(), MemoryDisk::new());
        let url = MasterUrl { https: false, host: "m0.sim".to_owned(), port: 9_090, prefix: "/api".to_owned() };
        let endpoint = NewEndpoint { name: "m0".to_owned(), url, api_key, tls: TlsPolicy::Verify, log_events: None };
        database.store().add_endpoint(&endpoint, START).expect("an endpoint in an empty database");
        let parts = Parts {
            clock: shared.clone(),
            blocking: Blocking::immediate(),
            transport: Rc::new(SimTransport::new(vec![place.clone()])),
            store: Box::new(database.store()),
            disk: Arc::new(disk.clone()),
            rng,
        };
        let (waiting, _) = watch::channel(None);
        let recorder = pipeline::start(parts, self.settings, &waiting).await.expect("a recorder");
        Running { recorder, master: place, database, disk, shared }
    }
}

impl Running {
    /// Time passes, and everything that happens meanwhile happens.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// What the recorder's wall clock shows.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.shared.wall()
    }

    /// Steps the recorder's wall clock.
    pub fn step(&self, micros: i64) {
        self.shared.step(micros);
    }
}
