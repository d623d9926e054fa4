//! The commands that show what is stored: the real binary, with a recorder and without one.

#[allow(dead_code, reason = "each test program uses a part")]
mod cli_support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cli_support::{Fake, Ran, nobody, run, serve};
use serde_json::json;
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{Counters, EndpointId, Event, EventKind, Record, Sample, Status};
use tidegate::id::{EventId, IdGenerator};
use tidegate::redact::Redacted;
use tidegate::store::{DatabaseUrl, DieselStore, EventBatch, FlushCause, FlushInfo, NewEndpoint, Store};

const KEY: &str = "fa4ec0de000000000000000000000000";

/// A database `tidegate.db` with an endpoint `tokyo` and 130 events of it, one a second up to now; every tenth is a log line of
/// `bbbb0000` that tries to colour the screen.
fn database(directory: &Path) {
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
}

/// A recorder of that database, which knows `tokyo` too.
fn recorder(directory: &Path) -> String {
    let at = serve(&Fake::default(), directory, None);
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
    ] {
        for at in [&recorder, &without] {
            let ran = ask(path, at, arguments);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
            assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
        }
    }
}
