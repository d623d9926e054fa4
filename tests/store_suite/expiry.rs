//! What expires goes in small steps, and what is left still proves itself.

use tidegate::clock::Timestamp;
use tidegate::event::{Counters, Record};
use tidegate::id::EventId;
use tidegate::retention::{Expiring, Expiry};
use tidegate::store::{Account, CounterEvent, DieselStore, HistoryRow, ReadConnection, Store};

use crate::postgres::TestDatabase;
use crate::sample::{NOON, at, batch, gap, history, minute, open, tunnel, update};

/// Sweeps one table to the end; returns rows deleted and steps taken.
fn sweep(store: &mut DieselStore, what: Expiring, before: Timestamp, rows: u32) -> (u64, u32) {
    sweep_at(Timestamp(i64::MAX), store, what, before, rows)
}

/// The same while the wall clock shows `now`.
fn sweep_at(now: Timestamp, store: &mut DieselStore, what: Expiring, before: Timestamp, rows: u32) -> (u64, u32) {
    let (mut after, mut deleted, mut steps) = (None, 0, 0);
    loop {
        let expired = store.expire(&Expiry { what, before, now, rows, after }).unwrap();
        steps += 1;
        assert!(expired.rows <= u64::from(rows), "{what:?}: {} rows in a step of {rows}", expired.rows);
        deleted += expired.rows;
        match expired.next {
            Some(next) => after = next,
            None => return (deleted, steps),
        }
    }
}

fn problems(database: &TestDatabase) -> Vec<String> {
    let report = ReadConnection::open(&database.url()).unwrap().check_history().unwrap();
    assert!(report.tunnels > 0, "nothing was checked");
    report.problems
}

/// Minutes of two tunnels over three hours, with the accounts that they owe.
fn three_hours(store: &mut DieselStore) {
    let mut rows: Vec<HistoryRow> = Vec::new();
    for instance in ["aaaa0001", "aaaa0002"] {
        rows.extend((0..180).map(|n| minute(instance, n)));
    }
    let mut batch = history(1, 1, rows);
    let to = Counters { tcp_rx: 180, tcp_tx: 360, udp_rx: 540, udp_tx: 720 };
    batch.accounts = ["aaaa0001", "aaaa0002"]
        .map(|instance| Account { tunnel: tunnel(instance), from: Counters::default(), to, open: Counters::default() })
        .into();
    batch.states = vec![(tunnel("aaaa0001"), Some("{}".into()))];
    store.commit_history(&batch).unwrap();
}

pub fn minutes_expire_tunnel_by_tunnel_and_no_sum_falls(database: &TestDatabase) {
    let mut store = open(database);
    three_hours(&mut store);
    assert_eq!(problems(database), [""; 0]);
    let (deleted, steps) = sweep(&mut store, Expiring::Minutes, at(90 * 60), 50);
    assert_eq!((deleted, steps >= 4), (180, true), "{steps} steps");
    assert_eq!(database.number("SELECT MIN(record_time) AS value FROM service_history"), at(90 * 60).0);
    assert_eq!(sweep(&mut store, Expiring::MinuteTotals, at(90 * 60), 50).0, 180);
    assert_eq!(database.number("SELECT CAST(SUM(delta_tcp_in) AS BIGINT) AS value FROM history_hours"), 360);
    assert_eq!(problems(database), [""; 0]);
    // A minute that comes late, for an hour whose minutes are gone.
    let mut late = history(2, 2, vec![minute("aaaa0001", 10)]);
    late.accounts = vec![Account {
        tunnel: tunnel("aaaa0001"),
        from: Counters::default(),
        to: Counters { tcp_rx: 1, tcp_tx: 2, udp_rx: 3, udp_tx: 4 },
        open: Counters::default(),
    }];
    store.commit_history(&late).unwrap();
    assert_eq!(database.number("SELECT CAST(SUM(delta_tcp_in) AS BIGINT) AS value FROM history_hours"), 361);
    assert_eq!(problems(database), [""; 0]);
    assert_eq!(sweep(&mut store, Expiring::Minutes, at(90 * 60), 50).0, 1);
}

pub fn days_and_falls_that_expire_leave_accounts_that_still_add_up(database: &TestDatabase) {
    let mut store = open(database);
    three_hours(&mut store);
    let bytes = |tcp_rx| Counters { tcp_rx, ..Counters::default() };
    let mut later = history(5, 5, vec![minute("aaaa0001", 2 * 1_440)]);
    later.counter_events = vec![CounterEvent {
        event: EventId(5),
        tunnel: tunnel("aaaa0001"),
        at: at(60),
        kind: "fall_unknown".into(),
        before: bytes(180),
        after: bytes(70),
        counted: bytes(0),
    }];
    let to = Counters { tcp_rx: 71, tcp_tx: 362, udp_rx: 543, udp_tx: 724 };
    let from = Counters { tcp_rx: 180, tcp_tx: 360, udp_rx: 540, udp_tx: 720 };
    later.accounts = vec![Account { tunnel: tunnel("aaaa0001"), from, to, open: Counters::default() }];
    store.commit_history(&later).unwrap();
    assert_eq!(problems(database), [""; 0]);
    let day = at(2 * 86_400 - 3_600);
    for what in
        [Expiring::Minutes, Expiring::Hours, Expiring::CounterEvents, Expiring::Days, Expiring::HourTotals, Expiring::DayTotals]
    {
        assert!(sweep(&mut store, what, day, 1_000).0 > 0, "{what:?}");
        assert_eq!(problems(database), [""; 0], "after {what:?}");
    }
    // The one that is gone leaves nothing; the one that lives has its account.
    let left = "SELECT instance_id AS value FROM history_accounts";
    assert_eq!(database.texts(left), ["aaaa0001"]);
    assert_eq!(database.number("SELECT COUNT(*) AS value FROM counter_events"), 0);
}

pub fn a_row_that_somebody_changed_is_found(database: &TestDatabase) {
    let mut store = open(database);
    three_hours(&mut store);
    database.execute("UPDATE history_hours SET delta_tcp_in = delta_tcp_in + 1 WHERE instance_id = 'aaaa0002'");
    let found = problems(database);
    assert!(found.iter().any(|problem| problem.contains("aaaa0002") && problem.contains("hour")), "{found:?}");
    assert!(found.iter().all(|problem| !problem.contains("aaaa0001")), "{found:?}");
    database.execute("UPDATE history_accounts SET risen_udp_tx = risen_udp_tx - 3 WHERE instance_id = 'aaaa0001'");
    let found = problems(database);
    assert!(found.iter().any(|problem| problem.contains("aaaa0001 of endpoint 1: udp_tx moved 717 bytes, and 720")), "{found:?}");
}

pub fn rows_that_are_missing_altogether_are_found_by_the_other_levels(database: &TestDatabase) {
    let mut store = open(database);
    three_hours(&mut store);
    assert_eq!(problems(database), [""; 0]);
    database.execute("DELETE FROM history_day_totals WHERE endpoint_id = 0");
    let found = problems(database);
    assert!(found.iter().all(|problem| problem.contains("the fleet: the day")) && !found.is_empty(), "{found:?}");
    database.execute("DELETE FROM history_days WHERE instance_id = 'aaaa0002'");
    database.execute("DELETE FROM history_accounts WHERE instance_id = 'aaaa0002'");
    let found = problems(database);
    assert!(found.iter().any(|problem| problem.contains("aaaa0002 of endpoint 1 has history and no account")), "{found:?}");
}

pub fn events_gaps_and_flushes_expire_by_when_they_were_received(database: &TestDatabase) {
    let mut store = open(database);
    // Ids that say nothing of time: what was received is in `flushes`.
    for first in [1, 11, 21] {
        let mut records: Vec<Record> = (first..first + 9).map(update).collect();
        records.push(Record::Gap(gap(first + 9)));
        store.commit_events(&batch(records)).unwrap();
    }
    assert_eq!(sweep(&mut store, Expiring::Events, at(15), 4), (9, 3));
    assert_eq!(database.number("SELECT MIN(id) AS value FROM endpoint_sse"), 11);
    assert_eq!(sweep(&mut store, Expiring::Events, NOON, 4).0, 0);
    assert_eq!(sweep(&mut store, Expiring::Gaps, at(15), 4).0, 1);
    assert_eq!(sweep(&mut store, Expiring::Flushes, at(1_000_000), 4).0, 0, "the newest stay");
    assert_eq!(sweep(&mut store, Expiring::Quarantine, at(15), 4).0, 0);
    assert_eq!(sweep(&mut store, Expiring::Events, at(1_000_000), 4).0, 18);
    assert_eq!(sweep(&mut store, Expiring::Space, at(15), 4).0, 0);
}

/// A batch with these ids, of events that were received at these seconds.
fn received_at(store: &mut DieselStore, events: [(i64, i64); 2]) {
    let records = events.map(|(id, second)| {
        let Record::Event(event) = update(id) else { unreachable!() };
        Record::Event(tidegate::event::Event { received_at: at(second), ..event })
    });
    store.commit_events(&batch(records.into())).unwrap();
}

fn ids(database: &TestDatabase) -> Vec<String> {
    database.texts("SELECT CAST(id AS TEXT) AS value FROM endpoint_sse ORDER BY id")
}

pub fn what_a_clock_ahead_has_dated_expires_with_what_came_after_it(database: &TestDatabase) {
    let mut store = open(database);
    received_at(&mut store, [(1, 1), (2, 2)]);
    received_at(&mut store, [(11, 900_000), (12, 900_001)]);
    received_at(&mut store, [(21, 21), (22, 22)]);
    received_at(&mut store, [(31, 31), (32, 32)]);
    assert_eq!(sweep_at(at(50), &mut store, Expiring::Events, at(15), 10).0, 2);
    assert_eq!(ids(database), ["11", "12", "21", "22", "31", "32"]);
    assert_eq!(sweep_at(at(50), &mut store, Expiring::Events, at(30), 10).0, 4);
    assert_eq!(ids(database), ["31", "32"]);
}

pub fn what_a_clock_behind_has_dated_takes_nothing_young_with_it(database: &TestDatabase) {
    let mut store = open(database);
    received_at(&mut store, [(1, 1), (2, 2)]);
    received_at(&mut store, [(11, 31), (12, 32)]);
    received_at(&mut store, [(21, 3), (22, 4)]);
    received_at(&mut store, [(31, 33), (32, 34)]);
    assert_eq!(sweep_at(at(50), &mut store, Expiring::Events, at(15), 10).0, 2);
    assert_eq!(ids(database), ["11", "12", "21", "22", "31", "32"]);
    assert_eq!(sweep_at(at(50), &mut store, Expiring::Events, at(33), 10).0, 4);
    assert_eq!(ids(database), ["31", "32"]);
}
