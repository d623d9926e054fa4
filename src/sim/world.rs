//! Runs a simulation: builds the world from its plan, and lives one life of a recorder after the other.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::agenda::Agenda;
use super::database;
use super::invariants::Terms;
use super::judge::Judge;
use super::life::{World, endpoint_name};
use super::logs;
use super::master::{InstanceSpec, MasterSpec, SimMaster};
use super::observation::Seen;
use super::options::{FaultKind, Options, Plan};
use super::report::Report;
use super::scenario::{Rates, Scenario};
use super::shared::{Shared, State, lock};
use super::traffic::Traffic;
use super::transport::{Living, Place};
use crate::clock::{Clock, Stopwatch};
use crate::endpoint::{ApiKey, MasterUrl, TlsPolicy};
use crate::journal::MemoryDisk;
use crate::store::{NewEndpoint, StoreError};

/// A simulation could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The database could not be used.
    #[error("database: {0}")]
    Store(#[from] StoreError),
    /// The database holds rows: it is somebody's.
    #[error("the database is not empty; give an empty one, everything that a simulation writes is made up")]
    NotEmpty,
    /// The runtime could not be made.
    #[error("cannot make a runtime: {0}")]
    Runtime(std::io::Error),
}

/// Runs a simulation to its end or to the first violation, on this thread, on virtual time.
///
/// `trace` gets one line per observation: the same bytes for the same options on every machine. `progress` is told the
/// virtual time from time to time.
///
/// # Errors
/// [`SimulateError`]; a violation is not an error but part of the report.
pub fn run(
    options: &Options,
    trace: Option<Box<dyn Write + Send>>,
    progress: impl FnMut(Duration) + 'static,
) -> Result<Report, SimulateError> {
    let stopwatch = Stopwatch::start();
    let mut world = build(Plan::draw(options), trace, progress)?;
    let shared = Arc::clone(&world.shared);
    let _capture = logs::capture({
        let shared = Arc::clone(&world.shared);
        let directory = world.database.anonymous_prefix();
        move |line| shared.see(Seen::Logged { line: directory.replace(line) })
    });
    loop {
        let system = actix::System::with_tokio_rt(runtime);
        let (back, end) = system.block_on(async move {
            let end = world.live().await;
            world.shared.freeze();
            (world, end)
        });
        world = back;
        // With the System go all tasks: what the recorder still wanted to do is not done.
        drop(system);
        if !world.bury(end) {
            break;
        }
    }
    report(&world, &shared, stopwatch.elapsed())
}

/// Paused time jumps to the next timer when nothing is left to do. No input or output: the world has none.
#[expect(clippy::expect_used, reason = "a runtime without input and output needs nothing that could be missing")]
pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

fn build(
    plan: Plan,
    trace: Option<Box<dyn Write + Send>>,
    progress: impl FnMut(Duration) + 'static,
) -> Result<World, SimulateError> {
    let mut rng = fastrand::Rng::with_seed(plan.options.seed);
    let terms = Terms { settings: plan.settings.clone(), latency_max: plan.latency_max };
    let shared = State::new(Judge::new(&terms, trace), plan.start, plan.latency_max, rng.fork());
    let database = database::World::new(&plan.options.database, plan.options.seed)?;
    let places = (0..plan.options.endpoints).map(|number| place(&plan, number, &shared, &mut rng)).collect::<Vec<_>>();
    add_endpoints(&plan, &database, &places, &shared)?;
    Ok(World {
        agenda: Agenda::new(&plan, rng.fork()),
        disk: MemoryDisk::new(),
        rng: rng.fork(),
        life: 0,
        operator_at: Duration::from_secs(1_800),
        usage: BTreeMap::new(),
        progress: Box::new(progress),
        plan,
        shared,
        database,
        places,
    })
}

fn place(plan: &Plan, number: usize, shared: &Shared, rng: &mut fastrand::Rng) -> Place {
    let rough = plan.options.faults.has(FaultKind::Masters);
    let spec = MasterSpec {
        report_interval: plan.options.report_interval,
        zone_offset_seconds: if rough { rng.i32(-24..=28) * 1_800 } else { 0 },
        ..MasterSpec::new(plan.versions[number])
    };
    let mut master = SimMaster::new(spec, plan.start, rng.fork());
    for tunnel in 0..plan.options.tunnels {
        let traffic =
            Traffic { seed: rng.u64(..), peak_down: 500_000, peak_up: 50_000, udp_percent: 10, users_offset_seconds: 0 };
        let port = u16::try_from(10_000 + tunnel).unwrap_or(u16::MAX);
        master.create(InstanceSpec { traffic, ..InstanceSpec::server(&format!("tunnel-{tunnel}"), port) });
    }
    let rates = if rough { Rates::rough() } else { Rates::none() };
    let tunnels = plan.options.tunnels;
    let scenario = Scenario::new(rates, plan.start, rng.fork(), tunnels.min(1), tunnels * 2 + 2);
    Place::new(Living::new(master, scenario), Arc::clone(shared))
}

fn add_endpoints(plan: &Plan, database: &database::World, places: &[Place], shared: &Shared) -> Result<(), SimulateError> {
    let mut store = database.open(plan.batch_size, shared.clone())?;
    if !database.is_empty()? {
        return Err(SimulateError::NotEmpty);
    }
    for (number, place) in places.iter().enumerate() {
        let url = MasterUrl { https: false, host: format!("m{number}.sim"), port: 9_090, prefix: "/api".to_owned() };
        let api_key = ApiKey::new(&place.with(|living| living.master.api_key().to_owned()));
        let name = endpoint_name(number);
        store.add_endpoint(&NewEndpoint { name, url, api_key, tls: TlsPolicy::Verify, log_events: None }, shared.wall())?;
    }
    Ok(())
}

fn report(world: &World, shared: &Shared, real_time: Duration) -> Result<Report, SimulateError> {
    let counts = world.places.iter().map(|place| place.with(|living| living.master.stream_counts()));
    let (sent, dropped) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.sent, sum.1 + counts.dropped));
    let mut judge = lock(&shared.judge);
    let trace_error = judge.finish_trace().err().map(|error| error.to_string());
    Ok(Report {
        trace_error,
        plan: world.plan.clone(),
        sent,
        dropped_by_masters: dropped,
        usage: world.usage.clone(),
        counts: judge.counts.clone(),
        checks: judge.checks(),
        virtual_time: shared.elapsed(),
        real_time,
        violation: judge.violation.clone(),
    })
}
