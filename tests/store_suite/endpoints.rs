//! Endpoints: unique, read as written, removed with or without what they left.

use tidegate::endpoint::{ApiKey, EndpointHealth, EndpointStatus, TlsPolicy};
use tidegate::event::{EndpointId, Event, Gap, Record};
use tidegate::store::{EndpointChange, LiveChanges, Purge, Store, StoreErrorKind, check_database};

use crate::postgres::TestDatabase;
use crate::sample::{NOON, at, batch, endpoint, gap, history, minute, open, update};

pub fn names_and_masters_are_unique(database: &TestDatabase) {
    let mut store = open(database);
    let tokyo = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let osaka = store.add_endpoint(&endpoint("osaka"), NOON).unwrap();
    let error = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    let seen = EndpointChange { master_id: Some("00ff00ff00ff00ff".to_owned()), ..EndpointChange::default() };
    store.change_endpoint(tokyo, &seen, NOON).unwrap();
    store.change_endpoint(tokyo, &seen, NOON).unwrap();
    let error = store.change_endpoint(osaka, &seen, NOON).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    assert!(error.message.contains("`tokyo`"), "{error}");
    let error = store.change_endpoint(EndpointId(99), &EndpointChange::default(), NOON).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    assert_eq!(store.load().unwrap().endpoints.len(), 2);
}

pub fn an_endpoint_is_read_as_it_was_written(database: &TestDatabase) {
    let mut store = open(database);
    let mut new = endpoint("tokyo");
    new.tls = TlsPolicy::VerifyWith("/etc/ca.pem".into());
    new.log_events = Some(false);
    let id = store.add_endpoint(&new, NOON).unwrap();
    let health = EndpointHealth {
        status: EndpointStatus::Fail,
        reason: "the API key was not accepted".to_owned(),
        since: at(5),
        last_heard: Some(at(4)),
        version: Some("v1.14.0".to_owned()),
    };
    store.sync_live(&LiveChanges { endpoints: vec![(id, health.clone())], ..LiveChanges::default() }).unwrap();
    let (read, read_health) = store.load().unwrap().endpoints.remove(0);
    assert_eq!((&read.name, &read.url, &read.api_key, &read.tls), (&new.name, &new.url, &new.api_key, &new.tls));
    assert_eq!((read.id, read.paused, read.log_events, &read.master_id, read_health), (id, false, Some(false), &None, health));
    let change = EndpointChange {
        url: Some("https://other.example:8443/x/y".parse().unwrap()),
        api_key: Some(ApiKey::new("rotated")),
        tls: Some(TlsPolicy::Pin(None)),
        paused: Some(true),
        log_events: Some(None),
        master_id: None,
    };
    store.change_endpoint(id, &change, at(9)).unwrap();
    let read = store.load().unwrap().endpoints.remove(0).0;
    assert_eq!((Some(read.url), Some(read.api_key), Some(read.tls)), (change.url, change.api_key, change.tls));
    assert_eq!((read.paused, read.log_events), (true, None));
}

pub fn what_an_endpoint_left_behind_stays_or_is_purged(database: &TestDatabase) {
    let mut store = open(database);
    let tokyo = store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let osaka = store.add_endpoint(&endpoint("osaka"), NOON).unwrap();
    // More than one step of a purge, and rows of the other endpoint among them.
    let mixed = (1..=25_000).map(|id| match update(id) {
        Record::Event(event) => Record::Event(Event { endpoint: if id % 5 == 0 { osaka } else { tokyo }, ..event }),
        gap @ Record::Gap(_) => gap,
    });
    store.commit_events(&batch(mixed.chain([Record::Gap(gap(25_001))]).collect())).unwrap();
    store.commit_history(&history(25_002, 25_000, (0..30).map(|n| minute("aaaa0001", n)).collect())).unwrap();
    let left = "SELECT (SELECT count(*) FROM endpoint_sse) + (SELECT count(*) FROM service_history) + (SELECT count(*) FROM gaps) AS value";
    store.remove_endpoint(tokyo).unwrap();
    assert_eq!(database.number(left), 25_031);
    let (mut progress, mut steps) = (Purge::START, 0);
    while progress != Purge::Done {
        progress = store.purge(tokyo, progress).unwrap();
        steps += 1;
    }
    assert!(steps > 3, "{steps} steps: others write in between");
    assert_eq!(database.number(left), 5_000);
    assert_eq!(database.number("SELECT count(*) AS value FROM endpoint_sse WHERE endpoint_id = 2"), 5_000);
}

/// Gaps count among the rows of a flush, and go with a purge too.
pub fn a_purge_of_nothing_but_gaps_is_not_taken_for_a_loss(database: &TestDatabase) {
    let mut store = open(database);
    store.add_endpoint(&endpoint("tokyo"), NOON).unwrap();
    let osaka = store.add_endpoint(&endpoint("osaka"), NOON).unwrap();
    let silent = Record::Gap(Gap { endpoint: osaka, ..gap(3) });
    store.commit_events(&batch(vec![update(1), update(2), silent, update(4)])).unwrap();
    store.remove_endpoint(osaka).unwrap();
    let mut progress = Purge::START;
    while progress != Purge::Done {
        progress = store.purge(osaka, progress).unwrap();
    }
    assert_eq!(database.number("SELECT count(*) AS value FROM gaps"), 0);
    let (report, _) = check_database(&database.url(), NOON, false).unwrap();
    assert_eq!(report.problems, [""; 0]);
}
