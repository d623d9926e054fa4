//! Every recorded stream through decoder, parser and tracker: nothing is lost, nothing secret leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tidegate::actors::sse_ingest::IngestState;
use tidegate::clock::Timestamp;
use tidegate::endpoint::ApiKey;
use tidegate::event::{EndpointId, EventKind, Record};
use tidegate::id::{EventId, IdGenerator};
use tidegate::ingest::intake::{Haul, Intake};
use tidegate::ingest::tracker::Tracker;
use tidegate::redact::Redactor;
use tidegate::sse::{Decoder, Frame};
use tidegate::wire::parse_event;

/// File; initial, create, update, log, delete, shutdown, as its README counted them.
const CAPTURES: &[(&str, [u64; 6])] = &[
    ("go/v1.14.0-lifecycle.sse", [1, 4, 49, 311, 3, 1]),
    ("go/v1.14.0-idle-1.sse", [3, 0, 12, 0, 0, 0]),
    ("go/v1.14.0-idle-2-reconnect-sigkill.sse", [3, 0, 4, 0, 0, 0]),
    ("go/v1.14.0-idle-3-after-sigkill.sse", [3, 0, 10, 8, 0, 1]),
    ("go/v1.14.0-resume-1-sigterm.sse", [3, 0, 2, 0, 0, 1]),
    ("go/v1.14.0-resume-2.sse", [3, 0, 4, 8, 0, 1]),
    ("go/v1.14.0-quiet-95s.sse", [1, 0, 0, 0, 0, 1]),
    ("go/v1.14.0-rekey-shutdown-only.sse", [1, 0, 0, 0, 0, 1]),
    ("go/v1.14.0-rekey-update-first.sse", [1, 0, 1, 0, 0, 1]),
    ("go/v1.14.0-rekey-after.sse", [1, 0, 0, 0, 0, 1]),
    ("go/v1.14.0-edge.sse", [1, 5, 29, 21, 4, 1]),
    ("go/v1.14.0-slow-pair-prompt.sse", [3, 0, 34, 404, 0, 1]),
    ("go/v1.14.0-slow-pair-slow.sse", [3, 0, 6, 26, 0, 1]),
    ("go/v1.14.0-slow-at-stop.sse", [3, 0, 0, 18, 0, 0]),
    ("go/v1.14.0-patchflood-slow.sse", [2, 0, 27, 0, 0, 0]),
    ("go/v1.14.0-tls1.sse", [1, 2, 6, 13, 0, 1]),
    ("go/v1.14.0-tls1-h2.sse", [1, 2, 6, 13, 0, 1]),
    ("go/v2.0.0-b10-lifecycle.sse", [1, 4, 49, 300, 3, 1]),
    ("go/v2.0.0-b10-resume-2.sse", [3, 0, 6, 16, 0, 1]),
    ("go/v2.0.0-b10-idle-2-reconnect-sigkill.sse", [3, 0, 4, 0, 0, 0]),
    ("go/v2.0.0-b10-edge.sse", [1, 5, 29, 16, 4, 1]),
    ("go/v2.0.0-b10-rekey-update-first.sse", [1, 0, 1, 0, 0, 1]),
    ("go/v1.1.5-lifecycle.sse", [1, 3, 27, 127, 1, 1]),
    ("go/v1.4.2-lifecycle.sse", [1, 3, 27, 143, 1, 1]),
    ("go/v1.6.1-lifecycle.sse", [1, 3, 33, 80, 1, 1]),
    ("go/v1.7.0-lifecycle.sse", [1, 3, 30, 114, 1, 1]),
    ("rs/0.1.0-api-and-keepalive.sse", [1, 2, 5, 0, 0, 0]),
    ("rs/0.1.0-delete-sigkill.sse", [1, 1, 1, 0, 1, 0]),
    ("rs/0.1.0-tls1.sse", [1, 2, 0, 0, 0, 0]),
    ("rs/0.1.0-tls1-h2.sse", [1, 2, 0, 0, 0, 0]),
];

const KINDS: [&str; 6] = ["initial", "create", "update", "log", "delete", "shutdown"];

fn read(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/fixtures").join(name)).unwrap()
}

fn intake() -> Intake {
    let tracker = Tracker::new(EndpointId(1), BTreeMap::new(), Redactor::default(), true);
    Intake::new(EndpointId(1), "capture", ApiKey::new(""), None, tracker)
}

fn run(intake: &mut Intake, stream: &[u8], piece: usize) -> (Haul, IngestState) {
    let (mut haul, mut state) = (Haul::default(), IngestState::default());
    let mut ids = IdGenerator::new(0, EventId::ZERO);
    let now = Timestamp(1_795_435_200_000_000);
    intake.begin(None);
    for piece in stream.chunks(piece) {
        intake.read(piece, now, &mut state, &mut |_| ids.next(now), &mut haul);
    }
    (haul, state)
}

static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push_str(&format!("{}\n", record.args()));
    }
    fn flush(&self) {}
}

#[test]
fn the_table_names_every_capture() {
    let count = |folder: &str| {
        let entries = fs::read_dir(Path::new("tests/fixtures").join(folder)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "sse")).count()
    };
    assert_eq!(count("go") + count("rs"), CAPTURES.len());
}

#[test]
fn every_capture_parses_to_the_events_that_its_description_counts() {
    for (name, expected) in CAPTURES {
        let mut counts = BTreeMap::<String, u64>::new();
        Decoder::default().feed(&read(name), |frame| {
            let Frame::Event(event) = frame else { panic!("{name}: too large") };
            assert_eq!(event.name, "instance");
            let wire = parse_event(event.data).unwrap_or_else(|error| panic!("{name} at {}: {error}", event.offset));
            assert!(tidegate::wire::parse_time(wire.time.as_deref().unwrap()).is_some(), "{name}: {:?}", wire.time);
            *counts.entry(wire.kind.into_owned()).or_default() += 1;
        });
        let found = KINDS.map(|kind| counts.get(kind).copied().unwrap_or_default());
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn nothing_of_a_capture_is_dropped_the_key_holder_is_no_event_and_no_secret_leaves() {
    log::set_logger(&Collector).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    for (name, expected) in CAPTURES {
        let (haul, state) = run(&mut intake(), &read(name), 1000);
        assert_eq!(state.dropped, BTreeMap::new(), "{name}");
        // One `initial` in each capture is the key holder's; a rekey, which does nothing on Rust, adds an `update`.
        let mut expected = *expected;
        expected[0] -= 1;
        if name.contains("rekey-update-first") || name.contains("api-and-keepalive") {
            expected[2] -= 1;
        }
        assert_eq!(KINDS.map(|kind| state.events.get(kind).copied().unwrap_or_default()), expected, "{name}");
        assert_eq!(haul.records.len() as u64, expected.iter().sum::<u64>(), "{name}");
        assert!(haul.records.windows(2).all(|pair| pair[0].id() < pair[1].id()), "{name}");
        let key = haul.new_key.as_ref().expect("the capture tells its key");
        let debug = format!("{:?}", haul);
        let json = serde_json::to_string(&haul.records).unwrap();
        let bytes = postcard::to_stdvec(&haul.records).unwrap();
        for secret in ["fa4ec0de", "tunnelpass", "********", key.reveal()] {
            assert!(!debug.contains(secret), "{name}: {secret} in the debug output");
            assert!(!json.contains(secret), "{name}: {secret} in the JSON");
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{name}: {secret} in the journal's form");
        }
    }
    let logged = LOGGED.lock().unwrap();
    assert!(!logged.contains("fa4ec0de") && !logged.contains("tunnelpass"), "{logged}");
}

#[test]
fn a_configuration_travels_only_when_it_changed_and_adds_up_to_the_last_one_seen() {
    for (name, _) in CAPTURES {
        let mut intake = intake();
        let (haul, _) = run(&mut intake, &read(name), usize::MAX);
        let mut last = BTreeMap::new();
        for record in &haul.records {
            let Record::Event(event) = record else { panic!("no gaps here") };
            assert_eq!(event.config.is_some(), event.detail.is_some(), "{name}");
            if let Some(config) = &event.config {
                let before = last.insert(event.instance.clone(), config.clone());
                assert_ne!(before.as_ref(), Some(config), "{name}: a configuration that did not change was sent on");
            }
            if event.kind == EventKind::Delete {
                last.remove(&event.instance);
            }
        }
        let known: BTreeMap<_, _> =
            intake.tracker.known().iter().map(|(instance, state)| (instance.clone(), state.config.clone())).collect();
        assert_eq!(last, known, "{name}");
    }
}

#[test]
fn a_second_subscription_stores_only_the_initial_events_that_say_something_new() {
    let mut intake = intake();
    let stream = read("go/v1.14.0-idle-1.sse");
    let initial = memchr::memmem::find(&stream, b"event: instance\ndata: {\"type\":\"update\"").unwrap();
    let (first, _) = run(&mut intake, &stream[..initial], usize::MAX);
    let (again, _) = run(&mut intake, &stream[..initial], usize::MAX);
    let stored = |haul: &Haul| {
        let initial = |record: &&Record| matches!(record, Record::Event(event) if event.kind == EventKind::Initial);
        let stored = |record: &Record| matches!(record, Record::Event(event) if event.stored);
        haul.records.iter().filter(initial).map(stored).collect::<Vec<_>>()
    };
    assert_eq!(stored(&first), [true, true]);
    assert_eq!(stored(&again), [false, false], "nothing had changed");
    // Traffic and an alias change fell into the gap before this one.
    let (after_gap, _) = run(&mut intake, &read("go/v1.14.0-idle-2-reconnect-sigkill.sse"), usize::MAX);
    assert!(stored(&after_gap).contains(&true));
}

#[test]
fn a_key_that_was_regenerated_is_found_in_the_stream() {
    let (haul, _) = run(&mut intake(), &read("go/v1.14.0-rekey-update-first.sse"), usize::MAX);
    assert!(haul.shutdown);
    assert_eq!(haul.new_key, Some(ApiKey::new("fa4ec0dec05c3c9cd3f10664f64910ad")));
    assert_eq!(haul.master_id.as_deref(), Some("ca9bb41056d28543"));
}

#[test]
fn the_list_of_instances_of_every_version_agrees_with_its_stream() {
    for (name, instances) in [("go/v1.1.5-lifecycle", 1), ("go/v1.7.0-lifecycle", 2), ("go/v1.14.0-lifecycle", 0)] {
        let answer = fs::read_to_string(Path::new("tests/fixtures").join(format!("{name}.instances.json"))).unwrap();
        let (listed, errors) = tidegate::wire::parse_instances(&answer).unwrap();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let tunnels = listed.iter().filter(|instance| !instance.is_key_holder()).count();
        assert!(tunnels >= instances, "{name}: {tunnels}");
    }
}
