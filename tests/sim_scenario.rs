//! A master's random life from a seed.

use std::time::Duration;

use tidegate::clock::Timestamp;
use tidegate::sim::master::{InstanceSpec, MasterSpec, Reply, Request, SimMaster, StreamState, Version};
use tidegate::sim::scenario::{Happening, Rates, Scenario};
use tidegate::sim::traffic::Traffic;

const NOON: Timestamp = Timestamp(1_795_435_200_000_000);
const BUSY: Traffic = Traffic { seed: 1, peak_down: 1_000_000, peak_up: 100_000, udp_percent: 10, users_offset_seconds: 0 };

/// Goal: the same seed gives the same bytes. Method: a rough day with every fault, twice, hashed as it goes.
#[test]
fn a_rough_day_is_the_same_twice_from_one_seed_and_another_from_another() {
    let first = rough_day(1);
    assert_eq!(first, rough_day(1));
    assert_ne!(first.0, rough_day(2).0);
    assert!(first.1 > 50_000, "{} events", first.1);
    assert_eq!(first.2, 20, "all kinds of actions that a scenario draws, faults as one");
}

#[test]
fn happenings_are_found_by_their_names() {
    for (happening, name) in Happening::NAMES {
        assert_eq!((happening.name(), Happening::by_name(name)), (name, Some(happening)));
    }
}

fn rough_day(seed: u64) -> (u32, u64, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut master = SimMaster::new(MasterSpec::new(Version::Go1_14_0), NOON, rng.fork());
    for port in 0..5 {
        master.create(InstanceSpec { traffic: BUSY, lines_per_report: 1, ..InstanceSpec::client("x", 10_000 + port) });
    }
    let mut scenario = Scenario::new(Rates::rough(), NOON, rng.fork(), 3, 9);
    let (mut crc, mut streams, mut kinds) = (crc32fast::Hasher::new(), Vec::new(), std::collections::HashSet::new());
    while let Some(due) = [master.next_due(), scenario.next_due()]
        .into_iter()
        .flatten()
        .min()
        .filter(|due| *due <= NOON.plus(Duration::from_secs(86_400)))
    {
        master.advance(due);
        while let Some(action) = scenario.next_action(due, &master) {
            kinds.insert(std::mem::discriminant(&action));
            master.act(&action);
        }
        if streams.is_empty() {
            let key = master.api_key().to_owned();
            if let Reply::Stream(id) = master.handle(&Request::get("/api/v1/events", &key)) {
                streams.push(id);
            }
        }
        streams.retain(|id| {
            let mut chunks = Vec::new();
            let state = master.poll(*id, &mut chunks);
            chunks.iter().for_each(|chunk| crc.update(chunk));
            state == StreamState::Open
        });
    }
    (crc.finalize(), master.events_made(), kinds.len())
}

#[test]
fn what_a_trace_prints_holds_no_secret() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut master = SimMaster::new(MasterSpec::new(Version::Go1_14_0), NOON, rng.fork());
    let id = master.create(InstanceSpec::client("x", 10_000));
    let key = master.api_key().to_owned();
    let mut scenario = Scenario::new(Rates::none().with(Happening::Create, 1_000), NOON, rng, 0, 9);
    let action = scenario.next_action(NOON.plus(Duration::from_secs(600)), &master);
    let request = Request::get("/api/v1/events", &key);
    let printed = format!("{master:?} {:?} {:?} {request:?}", master.instance(&id), action.expect("one in ten minutes"));
    assert!(!printed.contains("tunnelpass") && !printed.contains("fa4ec0de"), "{printed}");
}
