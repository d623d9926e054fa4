//! Live state: newest only, gone when removed, there after a restart and for people.

use std::sync::Arc;

use tidegate::endpoint::EndpointHealth;
use tidegate::event::{EndpointId, Record};
use tidegate::id::EventId;
use tidegate::store::{LiveChanges, ReadConnection, Store, StoreErrorKind, TunnelFilter};

use crate::postgres::TestDatabase;
use crate::sample::{
    NOON, at, batch, config, endpoint, gap, history, info, live_changes, minute, open, reported, tunnel, update,
};

pub fn live_state_is_never_overwritten_by_something_older(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    for (rx, id) in [(100, 10), (50, 9), (70, 10), (300, 12)] {
        store.sync_live(&live_changes("aaaa0001", rx, id)).unwrap();
    }
    let stored = store.load().unwrap();
    let [(key, state)] = stored.tunnels.as_slice() else { panic!("{:?}", stored.tunnels) };
    assert_eq!((key, state.last_event, state.sample.counters.tcp_rx), (&tunnel("aaaa0001"), EventId(12), 300));
    assert_eq!((state.config.alias.as_str(), state.seen_at), ("alias 12", at(12)));
    // Twice in one change: the later one counts.
    let mut twice = live_changes("aaaa0001", 500, 14);
    twice.samples.extend(live_changes("aaaa0001", 400, 13).samples);
    store.sync_live(&twice).unwrap();
    assert_eq!(store.load().unwrap().tunnels[0].1.sample.counters.tcp_rx, 500);
}

pub fn a_removed_tunnel_is_gone_and_a_removed_endpoint_does_not_come_back(database: &TestDatabase) {
    let mut store = open(database);
    let id = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    store.sync_live(&live_changes("aaaa0002", 1, 2)).unwrap();
    store.sync_live(&LiveChanges { removed: vec![(tunnel("aaaa0001"), NOON)], ..LiveChanges::default() }).unwrap();
    assert_eq!(database.texts("SELECT instance_id AS value FROM tunnels"), ["aaaa0002"]);
    store.remove_endpoint(id).unwrap();
    store.remove_endpoint(id).unwrap();
    // A sync that was on its way.
    let mut late = live_changes("aaaa0002", 9, 9);
    late.endpoints = vec![(id, EndpointHealth::default())];
    store.sync_live(&late).unwrap();
    assert_eq!(store.load().unwrap().tunnels, []);
    // Its number is not given again: its history stands under it.
    assert_ne!(store.add_endpoint(&endpoint("tokyo"), NOON).unwrap(), id);
}

pub fn all_that_was_stored_is_loaded(database: &TestDatabase) {
    let mut store = open(database);
    let id = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    assert_eq!(id, EndpointId(1));
    let nothing = store.load().unwrap();
    assert_eq!((nothing.highest_id, nothing.history_through, nothing.last_boundary), (EventId::ZERO, EventId::ZERO, None));
    let changes = LiveChanges {
        configs: vec![(tunnel("aaaa0001"), Arc::new(config()), EventId(3))],
        samples: vec![(tunnel("aaaa0001"), reported(), at(4), EventId(4))],
        ..LiveChanges::default()
    };
    store.sync_live(&changes).unwrap();
    assert_eq!(store.load().unwrap().highest_id, EventId(4));
    store.commit_events(&batch(vec![update(5), Record::Gap(gap(6))])).unwrap();
    store.commit_history(&history(8, 7, vec![minute("aaaa0001", 0)])).unwrap();
    drop(store);
    let stored = open(database).load().unwrap();
    let [(key, state)] = stored.tunnels.as_slice() else { panic!("{:?}", stored.tunnels) };
    assert_eq!((key, &*state.config, &state.sample), (&tunnel("aaaa0001"), &config(), &reported()));
    assert_eq!((state.seen_at, state.last_event), (at(4), EventId(4)));
    assert_eq!((stored.highest_id, stored.history_through, stored.last_flush), (EventId(8), EventId(7), Some(info().cut_at)));
}

pub fn people_read_without_a_recorder(database: &TestDatabase) {
    assert_eq!(ReadConnection::open(&database.url()).err().map(|error| error.kind), Some(StoreErrorKind::Fatal));
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    store.sync_live(&live_changes("aaaa0001", 1, 1)).unwrap();
    store.sync_live(&live_changes("aaaa0002", 2, 2)).unwrap();
    // Beside a recorder and without one.
    for store in [Some(store), None] {
        let mut reader = ReadConnection::open(&database.url()).unwrap();
        let endpoints = reader.endpoints().unwrap();
        assert_eq!((endpoints[0].name.as_str(), endpoints[0].status.as_str()), ("tokyo", "OFFLINE"));
        assert!(!serde_json::to_string(&endpoints).unwrap().contains("fa4ec0de"));
        assert_eq!(reader.tunnels(&TunnelFilter::default()).unwrap().len(), 2);
        let by_alias = TunnelFilter { alias: Some("alias 2".to_owned()), endpoint: Some("tokyo".to_owned()), instance: None };
        let found = reader.tunnels(&by_alias).unwrap();
        assert_eq!((found.len(), found[0].instance_id.as_str(), found[0].tcp_rx), (1, "aaaa0002", 2));
        let none = TunnelFilter { instance: Some("aaaa0003".to_owned()), ..TunnelFilter::default() };
        assert_eq!(reader.tunnels(&none).unwrap(), []);
        drop(store);
    }
}
