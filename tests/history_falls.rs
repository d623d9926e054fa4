//! Counters that fall, from a simulated master through the whole recorder into the database: told apart where something shows what it
//! was, and never counted twice.

use std::time::Duration;

use tidegate::event::{Counters, EventKind, InstanceId, Record};
use tidegate::sim::by_hand::{ByHand, Running};
use tidegate::sim::master::{Action, InstanceSpec, Version};
use tidegate::sim::traffic::Traffic;

const BUSY: Traffic = Traffic { seed: 1, peak_down: 1_000_000, peak_up: 100_000, udp_percent: 0, users_offset_seconds: 0 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes a tunnel that moves something all the time.
fn create(world: &Running) -> InstanceId {
    let spec = InstanceSpec { traffic: BUSY, ..InstanceSpec::client("x", 10_190) };
    world.master.act(&Action::Create(Box::new(spec)));
    world.master.with(|living| living.master.instances().next().expect("it is made").id.clone())
}

fn shown(world: &Running, id: &InstanceId) -> Counters {
    world.master.with(|living| living.master.instance(id).expect("it is there").shown)
}

/// After a flush: kinds of the recorded falls with the figures before and after, and the bytes received that are stored.
async fn stored(world: &Running) -> (Vec<(String, u64, u64)>, u64) {
    assert_eq!(world.recorder.flush().await.waiting, 0);
    world.database.with_tables(|tables| {
        let falls = tables.counter_events.values();
        let falls = falls.map(|fall| (fall.kind.to_string(), fall.before.tcp_rx, fall.after.tcp_rx)).collect();
        (falls, tables.history[2].values().map(|day| day.row.delta.tcp_rx).sum())
    })
}

/// The state file of a master is written when something is changed, not at each report.
#[test]
fn a_master_that_was_killed_and_came_back_with_older_figures_leaves_a_fall_back() {
    for version in [Version::Go1_6_1, Version::Go1_14_0, Version::Go2_0_0B10] {
        ByHand::new(7).with_version(version).run(async move |world| {
            let id = create(world);
            world.advance(seconds(60)).await;
            world.master.act(&Action::SetAlias { id: id.clone(), alias: "saved".into() });
            let saved = shown(world, &id).tcp_rx;
            world.advance(seconds(60)).await;
            let last = shown(world, &id).tcp_rx;
            assert!(saved > 0 && last > saved, "{saved} {last}");
            world.master.act(&Action::Kill { down_for: Some(seconds(10)) });
            world.advance(seconds(120)).await;
            let end = shown(world, &id).tcp_rx;
            let (falls, moved) = stored(world).await;
            let [(kind, before, after)] = falls.as_slice() else { panic!("{version:?}: {falls:?}") };
            assert_eq!((kind.as_str(), *before), ("fall_back", last), "{version:?}");
            assert!((saved..last).contains(after), "{version:?}: {after} was seen first, {saved} was saved");
            assert_eq!(moved, last + (end - after), "what was counted before the fall, and what came after it");
        });
    }
}

#[test]
fn where_the_master_tells_no_uptime_the_doubt_is_listed_and_counts_nothing() {
    ByHand::new(7).with_version(Version::Go1_4_2).run(async |world| {
        let id = create(world);
        world.advance(seconds(300)).await;
        world.master.act(&Action::SetAlias { id: id.clone(), alias: "saved".into() });
        let saved = shown(world, &id).tcp_rx;
        world.advance(seconds(300)).await;
        let last = shown(world, &id).tcp_rx;
        world.master.act(&Action::Kill { down_for: Some(seconds(10)) });
        world.advance(seconds(300)).await;
        let (falls, moved) = stored(world).await;
        let [(kind, before, after)] = falls.as_slice() else { panic!("{falls:?}") };
        assert_eq!((kind.as_str(), *before), ("fall_unknown", last));
        assert!((saved..last).contains(after), "{after} was seen first, {saved} was saved");
        assert_eq!(moved, last + (shown(world, &id).tcp_rx - after));
    });
}

#[test]
fn a_master_that_was_stopped_and_started_leaves_a_restart_and_no_fall() {
    ByHand::new(7).run(async |world| {
        let id = create(world);
        world.advance(seconds(60)).await;
        world.master.act(&Action::Shutdown { down_for: Some(seconds(10)) });
        world.advance(seconds(60)).await;
        let (falls, moved) = stored(world).await;
        assert_eq!((falls, moved), (vec![], shown(world, &id).tcp_rx));
        let reasons: Vec<String> = world.database.with_tables(|tables| {
            tables
                .records
                .values()
                .filter_map(|record| match record {
                    Record::Gap(gap) => Some(gap.reason.to_string()),
                    Record::Event(_) => None,
                })
                .collect()
        });
        assert_eq!(reasons, ["master_shutdown", "master_restarted"]);
    });
}

/// Right after its first report a tunnel is reset, and the next report is above the old figures: growth where a reset lasts, the old
/// figures and more where it does not. Which of them it is, is told by `/info` alone, to a recorder that has never met the master.
#[test]
fn whether_a_reset_lasts_is_known_from_the_version_that_the_master_tells() {
    for (version, lasts) in [(Version::Go1_14_0, true), (Version::Go1_7_0, false)] {
        ByHand::new(7).with_version(version).run(async move |world| {
            let id = create(world);
            while shown(world, &id).tcp_rx == 0 {
                world.advance(Duration::from_millis(100)).await;
            }
            world.advance(Duration::from_millis(500)).await;
            let before = shown(world, &id).tcp_rx;
            world.master.act(&Action::Reset { id: id.clone() });
            world.advance(seconds(60)).await;
            let end = shown(world, &id).tcp_rx;
            let (falls, moved) = stored(world).await;
            let kinds: Vec<&str> = falls.iter().map(|(kind, ..)| kind.as_str()).collect();
            if lasts {
                assert_eq!((kinds, moved), (vec!["reset"], before + end));
            } else {
                assert_eq!((kinds, moved), (vec!["reset", "reset_undone"], end));
            }
            let reports = world.database.with_tables(|tables| {
                let of = |record: &Record| matches!(record, Record::Event(event) if event.kind == EventKind::Update);
                let counters = tables.records.values().filter(|record| of(record)).filter_map(|record| match record {
                    Record::Event(event) => event.sample.as_ref().map(|sample| sample.counters.tcp_rx),
                    Record::Gap(_) => None,
                });
                counters.collect::<Vec<_>>()
            });
            let reset = reports.windows(2).position(|pair| pair[0] == before && pair[1] == 0).expect("the reset is told");
            assert!(reports[reset + 2] >= before, "else nothing had to be told apart: {reports:?}");
        });
    }
}
