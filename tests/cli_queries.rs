//! The commands that show what is stored: the real binary, with a recorder and without one.

#[allow(dead_code, reason = "each test program uses a part")]
mod cli_support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Timelike;
use chrono_tz::Tz;
use cli_support::{Ran, fake, nobody, run, serve_as};
use serde_json::json;
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{Counters, EndpointId, Event, EventKind, Record, Sample, Status, TunnelKey};
use tidegate::history::InTotals;
use tidegate::history::figures::Figures;
use tidegate::id::{EventId, IdGenerator};
use tidegate::redact::Redacted;
use tidegate::store::{
    CounterEvent, DatabaseUrl, DieselStore, EventBatch, FlushCause, FlushInfo, HistoryBatch, HistoryRow, NewEndpoint, Store,
};

const KEY: &str = "fa4ec0de000000000000000000000000";

/// A zone in which the day that it is began at least two hours ago, and does not end within one.
fn zone_of_day(now: Timestamp) -> Tz {
    if (2..23).contains(&now.to_utc().hour()) { Tz::UTC } else { Tz::Etc__GMTPlus12 }
}

/// A database `tidegate.db` with an endpoint `tokyo` and 130 events of it, one a second up to now; every tenth is a log line of
/// `bbbb0000` that tries to colour the screen. Gives the zone of its days.
fn database(directory: &Path) -> Tz {
    let url: DatabaseUrl = format!("sqlite:{}/tidegate.db", directory.display()).parse().unwrap();
    let mut store = DieselStore::open(&url, 100, Arc::new(SystemClock)).unwrap();
    let now = SystemClock.wall();
    let endpoint = NewEndpoint {
        name: "tokyo".to_owned(),
        url: "http://10.0.0.5:9090/api".parse().unwrap(),
        api_key: ApiKey::new(KEY),
        tls: TlsPolicy::Verify,
        log_events: None,
    };
    store.add_endpoint(&endpoint, now).unwrap();
    let zone = zone_of_day(now);
    store.set_timezone(zone, now).unwrap();
    let mut ids = IdGenerator::new(0, EventId::ZERO);
    let records = (0..130_u64).map(|n| {
        let received_at = Timestamp(now.0 - 130 * Timestamp::SECOND).plus(Duration::from_secs(n));
        let is_log = n % 10 == 0;
        let counters = Counters { tcp_rx: n * 1_000, ..Counters::default() };
        Record::Event(Event {
            id: ids.next(received_at),
            endpoint: EndpointId(1),
            received_at,
            event_time: Some(received_at),
            kind: if is_log { EventKind::Log } else { EventKind::Update },
            instance: if is_log { "bbbb0000".into() } else { "aaaa0000".into() },
            sample: (!is_log).then(|| Sample { status: Status::Running, counters, ping: Some(7), ..Sample::default() }),
            config: None,
            detail: None,
            logs: is_log.then(|| Redacted::from_store("\u{1b}[31mred, \"quoted\"")),
            stored: true,
        })
    });
    let info = FlushInfo { cause: FlushCause::Manual, boundary: None, skipped_boundaries: 0, cut_at: now };
    store.commit_events(&EventBatch::new(info, Arc::new(records.collect()))).unwrap();
    // Three minutes of two tunnels, an hour and more ago.
    let minute = Timestamp(now.minute().0 - 70 * Timestamp::MINUTE);
    let rows = ["aaaa0000", "bbbb0000"].into_iter().flat_map(|instance| {
        (0..3).map(move |n| HistoryRow {
            tunnel: TunnelKey { endpoint: EndpointId(1), instance: instance.into() },
            minute: Timestamp(minute.0 + n * Timestamp::MINUTE),
            figures: Figures {
                delta: Counters { tcp_rx: 1_000, udp_rx: 24, tcp_tx: 5, udp_tx: 0 },
                covered_ms: 60_000,
                record_count: 12,
                expected_count: 12,
                ..Figures::default()
            },
            in_totals: InTotals::BOTH,
        })
    });
    let id = ids.next(now);
    let history = HistoryBatch {
        id,
        info,
        through: id,
        rows: rows.collect(),
        counter_events: vec![CounterEvent {
            event: EventId(77),
            tunnel: TunnelKey { endpoint: EndpointId(1), instance: "bbbb0000".into() },
            at: minute,
            kind: "fall_unknown".into(),
            before: Counters { tcp_rx: 3_000, ..Counters::default() },
            after: Counters { tcp_rx: 1_000, ..Counters::default() },
            counted: Counters::default(),
        }],
        states: Vec::new(),
        accounts: Vec::new(),
    };
    store.commit_history(&history).unwrap();
    zone
}

/// A recorder of that database, which knows `tokyo` too.
fn recorder(directory: &Path) -> String {
    recorder_with(directory, &[])
}

/// As [`recorder`], with keys set.
fn recorder_with(directory: &Path, set: &[String]) -> String {
    let at = serve_as(None, &fake(), directory, set);
    let added = ask(directory, &at, &["endpoint", "add", "tokyo", "http://10.0.0.5:9090", "--no-api-key"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    at
}

/// Runs a command on the database in `directory` with the recorder that the flag names.
fn ask(directory: &Path, at: &str, arguments: &[&str]) -> Ran {
    let url = format!("--database-url=sqlite:{}/tidegate.db", directory.display());
    let mut all = arguments.to_vec();
    all.extend([at, url.as_str()]);
    let ran = run(directory, &all);
    assert!(!ran.stdout.contains(KEY) && !ran.stderr.contains(KEY));
    ran
}

#[test]
fn events_are_the_same_with_a_recorder_and_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    database(path);
    let (recorder, without) = (recorder(path), nobody());
    for arguments in [
        &["events", "--json"][..],
        &["events", "--json", "--kind", "log", "--tunnel", "tokyo/bbbb0000"],
        &["events", "--json", "--endpoint", "tokyo", "--since", "65s", "--limit", "1000"],
    ] {
        let (with, alone) = (ask(path, &recorder, arguments), ask(path, &without, arguments));
        assert_eq!((with.code, alone.code), (0, 0), "{arguments:?}: {} {}", with.stderr, alone.stderr);
        assert_eq!(with.json(), alone.json(), "{arguments:?}");
        assert!(alone.stderr.contains("no recorder runs"), "{}", alone.stderr);
        assert!(!with.stderr.contains("no recorder runs"), "{}", with.stderr);
    }
    let all = ask(path, &without, &["events", "--json"]).json();
    assert_eq!((all["events"].as_array().unwrap().len(), all["next"].is_string()), (50, true));
    assert_eq!(all["events"][0]["tcp_rx"], json!(129_000));
    let older = ask(path, &without, &["events", "--json", "--limit=100", "--cursor", all["next"].as_str().unwrap()]).json();
    assert_eq!((older["events"].as_array().unwrap().len(), &older["next"]), (80, &json!(null)));
    let logs = ask(path, &without, &["events", "--json", "--kind", "log"]).json();
    assert_eq!(logs["events"].as_array().unwrap().len(), 13);
}

#[test]
fn falls_of_counters_are_listed_with_a_recorder_and_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    database(path);
    let (recorder, without) = (recorder(path), nobody());
    for (arguments, count) in [
        (&["history", "--all", "--falls", "--json"][..], 1),
        (&["history", "tokyo", "--falls", "--json"], 1),
        (&["history", "tokyo/bbbb0000", "--falls", "--json"], 1),
        (&["history", "tokyo/aaaa0000", "--falls", "--json"], 0),
        (&["history", "--falls", "--json", "--since", "1h"], 0),
    ] {
        let (with, alone) = (ask(path, &recorder, arguments), ask(path, &without, arguments));
        assert_eq!((with.code, alone.code), (0, 0), "{arguments:?}: {} {}", with.stderr, alone.stderr);
        assert_eq!(with.json(), alone.json(), "{arguments:?}");
        assert_eq!(with.json()["falls"].as_array().unwrap().len(), count, "{arguments:?}");
    }
    let shown = ask(path, &without, &["history", "--falls"]);
    assert!(shown.stdout.contains("tokyo/bbbb0000") && shown.stdout.contains("fall_unknown"), "{}", shown.stdout);
    assert!(shown.stderr.contains("nothing shows why"), "{}", shown.stderr);
    assert_eq!(ask(path, &without, &["history", "--falls", "--csv"]).code, 2);
}

#[test]
fn events_are_shown_as_a_table_that_nothing_in_it_can_break() {
    let directory = tempfile::tempdir().unwrap();
    database(directory.path());
    let shown = ask(directory.path(), &nobody(), &["events", "--limit", "20"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("tokyo/aaaa0000") && shown.stdout.contains("red"), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
    assert!(shown.stderr.contains("--cursor"), "{}", shown.stderr);
}

#[test]
fn what_cannot_be_asked_ends_with_2_and_what_is_not_there_with_4() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(ask(path, &nobody(), &["events"]).code, 4, "there is no database");
    database(path);
    let (recorder, without) = (recorder(path), nobody());
    for (arguments, reason) in [
        (&["events", "--since", "yesterday"][..], "no since"),
        (&["events", "--endpoint", "paris"], "no endpoint named"),
        (&["events", "--tunnel", "nobody"], "no tunnel"),
        (&["events", "--cursor", "x"], "no id"),
        (&["events", "--limit", "0"], "limit"),
        (&["events", "--endpoint", "tokyo", "--tunnel", "tokyo/a"], "cannot be used with"),
        (&["history", "tokyo", "--step", "5m"], "step is one of"),
        (&["history", "--since", "10y", "--step", "1m"], "the most"),
        (&["history", "--since", "2h", "--until", "3h"], "nothing is between"),
        (&["history", "nobody"], "no tunnel"),
        (&["history", "tokyo/cccc0000"], "no history of one"),
        (&["history", "tokyo", "--all"], "cannot be used with"),
        (&["history", "--csv", "--json"], "cannot be used with"),
        (&["traffic", "--by", "colour"], "possible values"),
        (&["traffic", "--by", "fleet", "--endpoint", "tokyo"], "of all endpoints"),
        (&["traffic", "--endpoint", "paris"], "no endpoint named"),
        (&["export", "seconds"], "possible values"),
        (&["export", "events", "--since", "x"], "no since"),
        (&["export", "minutes", "--endpoint", "paris"], "no endpoint named"),
        (&["export", "minutes", "--output", "/nowhere/at/all.csv"], "cannot write"),
    ] {
        for at in [&recorder, &without] {
            let ran = ask(path, at, arguments);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
            assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
        }
    }
}

#[test]
fn history_is_the_same_with_a_recorder_and_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    database(path);
    let (recorder, without) = (recorder(path), nobody());
    for (of, sum) in [("--all", 6_144_u64), ("tokyo", 6_144), ("tokyo/aaaa0000", 3_072)] {
        // An end of its own, so that both are asked for the same minutes.
        let until = Timestamp(SystemClock.wall().minute().0).to_string();
        let arguments = ["history", of, "--since", "3h", "--until", until.as_str(), "--json"];
        let (with, alone) = (ask(path, &recorder, &arguments), ask(path, &without, &arguments));
        assert_eq!((with.code, alone.code), (0, 0), "{of}: {} {}", with.stderr, alone.stderr);
        let chart = with.json();
        let received = chart["columns"]["in"].as_array().unwrap();
        assert_eq!(received.iter().filter_map(serde_json::Value::as_u64).sum::<u64>(), sum, "{of}");
        assert_eq!(received.iter().filter(|value| value.is_u64()).count(), 3, "{of}: what is not known is null");
        assert_eq!(received.len(), chart["columns"]["time"].as_array().unwrap().len());
        assert_eq!(chart["step_s"], json!(60));
        assert!(alone.stderr.contains("journal"), "{}", alone.stderr);
        let (mut with, mut alone) = (with.json(), alone.json());
        // Ages count from when each was asked.
        for chart in [&mut with, &mut alone] {
            chart["from"] = json!(null);
            for column in chart["columns"].as_object_mut().unwrap().values_mut() {
                let values = column.as_array_mut().unwrap();
                values.drain(..values.len() - 170);
            }
        }
        assert_eq!(with, alone, "{of}");
    }
    let table = ask(path, &without, &["history", "tokyo", "--since", "3h"]);
    assert!(table.stdout.contains("unknown)") && table.stdout.contains("24/24"), "{}", table.stdout);
    let csv = ask(path, &recorder, &["history", "bbbb0000", "--since", "3h", "--csv"]);
    assert_eq!(csv.code, 2, "that is no alias");
    let csv = ask(path, &recorder, &["history", "tokyo/bbbb0000", "--since", "3h", "--csv"]);
    assert_eq!(csv.stdout.lines().filter(|line| line.contains(",1024,5,1000,5,24,0,17,0,")).count(), 3, "{}", csv.stdout);
}

#[test]
fn traffic_adds_up_and_says_of_when() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let zone = format!("storage.timezone={}", database(path));
    let (recorder, without) = (recorder_with(path, std::slice::from_ref(&zone)), nobody());
    for at in [&recorder, &without] {
        let ask = |arguments: &[&str]| ask(path, at, &[arguments, &["--set", &zone]].concat());
        let fleet = ask(&["traffic", "--json"]).json();
        for period in ["today", "month", "cycle"] {
            assert_eq!(fleet["rows"][0][period], json!({ "in": 6_144, "out": 30 }), "{period}: {fleet}");
        }
        let tunnels = ask(&["traffic", "--by", "tunnel", "--json"]).json();
        assert_eq!(tunnels["rows"].as_array().unwrap().len(), 2, "{tunnels}");
        let shown = ask(&["traffic", "--by", "endpoint"]);
        assert!(shown.stdout.contains("tokyo") && shown.stdout.contains("cycle since"), "{}", shown.stdout);
    }
}

#[test]
fn an_export_is_whole_or_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    database(path);
    let (recorder, without) = (recorder(path), nobody());
    for at in [&recorder, &without] {
        let events = ask(path, at, &["export", "events", "--format", "jsonl"]);
        assert_eq!((events.code, events.stdout.lines().count()), (0, 130), "{}", events.stderr);
        let first: serde_json::Value = serde_json::from_str(events.stdout.lines().next().unwrap()).unwrap();
        assert_eq!((&first["kind"], &first["endpoint"], first["id"].is_string()), (&json!("log"), &json!("tokyo"), true));
        let file = path.join("minutes.csv");
        let name = file.to_str().unwrap();
        let minutes = ask(path, at, &["export", "minutes", "--tunnel", "tokyo/aaaa0000", "--output", name]);
        assert_eq!((minutes.code, minutes.stdout.as_str()), (0, ""), "{}", minutes.stderr);
        assert!(minutes.stderr.contains("3 rows"), "{}", minutes.stderr);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.lines().nth(1).unwrap().contains(",tokyo,aaaa0000,1000,5,24,0,17,0,"), "{text}");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(ask(path, at, &["export", "days", "--endpoint", "paris", "--output", name]).code, 2);
        assert!(!file.exists() && !path.join("minutes.csv.part").exists());
        let days = ask(path, at, &["export", "hours"]);
        assert!(days.stdout.starts_with("time,endpoint,instance_id,"), "{}", days.stdout);
    }
}
