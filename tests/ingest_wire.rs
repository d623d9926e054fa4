//! What a master may send, also one that is newer, older or broken.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate::clock::Timestamp;
use tidegate::endpoint::ApiKey;
use tidegate::event::{EndpointId, Event, EventKind};
use tidegate::id::EventId;
use tidegate::ingest::tracker::{INSTANCES_MAX, Rejected, Tracker};
use tidegate::redact::{Redacted, Redactor};
use tidegate::wire::{ParseError, parse_event, parse_instances, parse_time};

const KEY: &str = "fa4ec0de94466eb9305cbb1792a8bad5";

fn tracker() -> Tracker {
    Tracker::new(EndpointId(1), BTreeMap::new(), Redactor::new([&ApiKey::new(KEY)]), true)
}

fn instance() -> Value {
    json!({"id": "9545ac3d", "type": "server", "status": "running", "url": "server://:1/:2",
           "tcprx": 1, "tcptx": 2, "udprx": 3, "udptx": u64::MAX})
}

/// An update with some fields of its instance replaced; null removes one.
fn update(changes: Value) -> String {
    let mut instance = instance();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            instance.as_object_mut().unwrap().remove(name);
        } else {
            instance[name] = value.clone();
        }
    }
    json!({"type": "update", "time": "2026-11-23T06:00:00Z", "instance": instance}).to_string()
}

fn apply(tracker: &mut Tracker, data: &str) -> Result<Event, Rejected> {
    tracker.apply(&parse_event(data)?, EventId(1), Timestamp(1))
}

fn error(data: &str) -> ParseError {
    parse_event(data).unwrap_err()
}

#[test]
fn the_fields_of_the_oldest_version_are_enough() {
    let event = apply(&mut tracker(), &update(json!({}))).unwrap();
    let sample = event.sample.unwrap();
    assert_eq!((sample.counters.tcp_rx, sample.counters.udp_tx), (1, u64::MAX));
    assert_eq!((sample.ping, sample.pool, sample.tcps, sample.udps), (None, None, None, None));
    let config = event.config.unwrap();
    assert_eq!((config.restart, config.mode, config.alias.as_str()), (None, None, ""));
    assert_eq!(event.logs, None);
}

#[test]
fn each_field_that_every_version_sends_must_be_there() {
    for field in ["id", "type", "status", "url", "tcprx", "tcptx", "udprx", "udptx"] {
        assert_eq!(error(&update(json!({field: null}))).word(), "missing_field", "{field}");
    }
    assert_eq!(error(r#"{"time":"x"}"#), ParseError::MissingField { field: "type" });
    assert_eq!(error(r#"{"type":"update","instance":null}"#), ParseError::MissingField { field: "instance" });
    assert_eq!(error(r#"{"type":"log","logs":"x"}"#), ParseError::MissingField { field: "instance" });
}

#[test]
fn wrong_types_and_ranges_are_told_apart() {
    for (changes, word) in [
        (json!({"tcprx": -1}), "out_of_range"),
        (json!({"tcprx": 1.5}), "wrong_type"),
        (json!({"tcprx": 1e30}), "out_of_range"),
        (json!({"tcprx": "1"}), "wrong_type"),
        (json!({"ping": 2_147_483_648_u64}), "out_of_range"),
        (json!({"ping": -1}), "out_of_range"),
        (json!({"pool": {}}), "wrong_type"),
        (json!({"pool": [1, [2]]}), "wrong_type"),
        (json!({"restart": 1}), "wrong_type"),
        (json!({"alias": 7}), "wrong_type"),
        (json!({"id": ""}), "bad_name"),
        (json!({"id": "../../etc"}), "bad_name"),
        (json!({"id": "a".repeat(65)}), "bad_name"),
        (json!({"status": "run ning"}), "bad_name"),
    ] {
        assert_eq!(error(&update(changes.clone())).word(), word, "{changes}");
    }
    // Beyond u64, as text since serde_json has no such number.
    let beyond = update(json!({})).replace(&u64::MAX.to_string(), "18446744073709551616");
    assert_eq!(error(&beyond).word(), "out_of_range");
    assert_eq!(error(r#"{"type":"update","instance":[]}"#).word(), "not_an_object");
    assert_eq!(error(r#"{"type":"update","instance":7}"#).word(), "not_an_object");
    assert_eq!(error("[]").word(), "not_an_object");
    assert_eq!(error("7").word(), "not_an_object");
    for broken in ["", "{", "{\"type\":", "nonsense", "{\"type\":\"update\"}x", "{\"type\":\"\\ud800\"}"] {
        assert_eq!(error(broken).word(), "json", "{broken}");
    }
}

#[test]
fn null_stands_for_a_missing_optional_field() {
    let data = update(json!({})).replace("\"id\"", "\"ping\":null,\"alias\":null,\"meta\":null,\"tags\":null,\"id\"");
    assert_eq!(apply(&mut tracker(), &data).unwrap().sample.unwrap().ping, None);
}

#[test]
fn tags_are_read_as_list_as_object_and_inside_meta() {
    for (changes, expected) in [
        (json!({"tags": [{"key": "env", "value": "test"}]}), vec![("env", "test")]),
        (json!({"tags": {"env": "test", "n": 1}}), vec![("env", "test"), ("n", "1")]),
        (json!({"meta": {"tags": {"env": "test"}, "peer": {"sid": "s", "type": "1", "alias": "p"}}}), vec![("env", "test")]),
        (json!({"tags": ["plain", {"key": "k"}]}), vec![("k", ""), ("plain", "")]),
        (json!({"tags": []}), vec![]),
        (json!({"tags": 7}), vec![]),
        (json!({"meta": {"tags": null, "peer": null}}), vec![]),
        (json!({"meta": []}), vec![]),
    ] {
        let event = apply(&mut tracker(), &update(changes.clone())).unwrap();
        let config = event.config.unwrap();
        let found: Vec<_> = config.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{changes}");
    }
}

#[test]
fn unknown_fields_are_kept_without_their_secrets() {
    let changes = json!({"quota": 5, "proxy": {"url": "socks5://u:tunnelpass@h:1", "k": [KEY]}, "meta": {"color": "red"}});
    let config = apply(&mut tracker(), &update(changes)).unwrap().config.unwrap();
    let unknown: Value = serde_json::from_str(config.unknown.as_str()).unwrap();
    assert_eq!(unknown, json!({"quota": 5, "proxy": {"url": "socks5://***@h:1", "k": ["***"]}, "meta.color": "red"}));
}

#[test]
fn unknown_kinds_are_stored_under_their_name_also_without_an_instance() {
    let event = apply(&mut tracker(), r#"{"type":"moved","instance":null}"#).unwrap();
    assert_eq!((event.kind, event.stored, event.sample), (EventKind::Other("moved".into()), true, None));
    let data = update(json!({})).replace("\"update\"", "\"renamed\"");
    assert_eq!(apply(&mut tracker(), &data).unwrap().instance.as_str(), "9545ac3d");
}

#[test]
fn an_id_kind_or_status_that_is_the_key_does_not_leave() {
    let mut tracker = tracker();
    assert_eq!(apply(&mut tracker, &update(json!({"id": KEY}))).unwrap_err().word(), "bad_name");
    let event = apply(&mut tracker, &update(json!({"status": KEY})).replace("\"update\"", &format!("\"{KEY}\""))).unwrap();
    assert!(!format!("{event:?}").contains("fa4ec0de"), "{event:?}");
}

#[test]
fn what_changed_is_in_the_detail_and_only_that() {
    let mut tracker = tracker();
    let detail = |tracker: &mut Tracker, changes| {
        let event = apply(tracker, &update(changes)).unwrap();
        event.detail.map(|detail| serde_json::from_str::<Value>(&detail).unwrap())
    };
    assert_eq!(detail(&mut tracker, json!({})), Some(json!({"type": "server", "url": "server://:1/:2"})));
    assert_eq!(detail(&mut tracker, json!({"tcprx": 9})), None);
    assert_eq!(detail(&mut tracker, json!({"alias": "a", "restart": true})), Some(json!({"alias": "a", "restart": true})));
    assert_eq!(
        detail(&mut tracker, json!({"url": "server://tunnelpass@:1/:2"})),
        Some(json!({"alias": "", "restart": null, "url": "server://***@:1/:2"}))
    );
    // Another password looks the same from here on: it is not a change that can be shown.
    assert_eq!(detail(&mut tracker, json!({"url": "server://tunnelpass2@:1/:2"})), None);
}

#[test]
fn a_log_event_has_a_line_even_an_empty_one_and_is_stored_if_that_is_wanted() {
    let mut tracker = tracker();
    let data = update(json!({})).replace("\"update\"", "\"log\"");
    let event = apply(&mut tracker, &data).unwrap();
    assert_eq!((event.logs.as_ref().map(Redacted::as_str), event.stored), (Some(""), true));
    tracker.log_events = false;
    assert!(!apply(&mut tracker, &data).unwrap().stored);
}

#[test]
fn more_instances_than_are_followed_are_refused_and_known_ones_go_on() {
    let mut tracker = tracker();
    for n in 0..INSTANCES_MAX {
        apply(&mut tracker, &update(json!({"id": format!("{n:08x}")}))).unwrap();
    }
    assert_eq!(apply(&mut tracker, &update(json!({"id": "ffffffff"}))).unwrap_err(), Rejected::TooManyInstances);
    assert!(apply(&mut tracker, &update(json!({"id": "00000001", "tcprx": 5}))).is_ok());
}

#[test]
fn times_are_read_with_any_offset_and_any_number_of_digits() {
    let noon = Timestamp(1_795_435_200_000_000);
    for text in ["2026-11-23T12:00:00Z", "2026-11-23T20:00:00.000000000+08:00", "2026-11-23T06:30:00.0-05:30"] {
        assert_eq!(parse_time(text), Some(noon), "{text}");
    }
    assert_eq!(parse_time("2026-11-23T12:00:00.1234567Z"), Some(Timestamp(noon.0 + 123_456)));
    for text in ["", "yesterday", "2026-13-23T12:00:00Z", "2026-11-23 12:00", "1795435200"] {
        assert_eq!(parse_time(text), None, "{text}");
    }
    let unread = update(json!({})).replace("2026-11-23T06:00:00Z", "soon");
    assert_eq!(apply(&mut tracker(), &unread).unwrap().event_time, None);
}

#[test]
fn a_list_is_read_item_by_item() {
    let good = instance();
    let answer = json!([good, 7, {"id": "x"}, null, good]).to_string();
    let (listed, errors) = parse_instances(&answer).unwrap();
    assert_eq!((listed.len(), errors.len()), (2, 3));
    assert!(parse_instances("{}").is_err() && parse_instances("<html>").is_err());
}

#[test]
fn json_that_is_nested_without_end_is_survived() {
    let deep = "[".repeat(200_000);
    assert_eq!(error(&format!("{{\"type\":\"update\",\"instance\":{deep}")).word(), "json");
    let closed = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let data = update(json!({"new": 1})).replace("\"new\":1", &format!("\"new\":{closed}"));
    let config = apply(&mut tracker(), &data).unwrap().config.unwrap();
    assert!(config.unknown.as_str().contains("nested too deeply"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(data in "\\PC{0,80}") {
        let _ = parse_event(&data);
        let _ = parse_instances(&data);
        let _ = parse_time(&data);
    }

    #[test]
    fn no_cut_or_changed_byte_of_an_event_makes_the_parser_panic(at in 0..200_usize, byte in 0..128_u8, cut: bool) {
        let mut data = update(json!({"meta": {"tags": {"a": "b"}}, "ping": 5, "new": [1]})).into_bytes();
        let at = at % data.len();
        data[at] = byte;
        if cut {
            data.truncate(at);
        }
        let _ = apply(&mut tracker(), &String::from_utf8(data).unwrap());
    }

    #[test]
    fn a_password_planted_anywhere_in_an_instance_never_survives(
        field in "alias|url|config|type|peer|tags|new",
        secret in "[!-.0-;=?-~]{0,6}zq9XSECRETqz[!-.0-;=?-~]{0,6}",
    ) {
        prop_assume!(!secret.contains("://"));
        let url = format!("client://{secret}@10.0.0.5:101/127.0.0.1:80");
        let changes = match &*field {
            "peer" => json!({"meta": {"peer": {"alias": url}}}),
            "tags" => json!({"tags": {url.clone(): url}}),
            other => json!({other: url}),
        };
        let event = apply(&mut tracker(), &update(changes)).unwrap();
        prop_assert!(!format!("{event:?}").contains("zq9XSECRETqz"), "{:?}", event);
    }
}
