use serde_json::{Value, json};

use super::super::fake::{Fake, ask_text};
use super::*;
use crate::alerts::Active;

/// Stats in which every number is another one.
fn stats() -> Stats {
    let mut next = 0;
    let blank = Stats {
        endpoints: vec![EndpointStats { since: "2026-03-01T00:00:01Z".to_owned(), ..EndpointStats::default() }; 2],
        process: Some(Default::default()),
        ..Stats::default()
    };
    let mut value = serde_json::to_value(blank).unwrap();
    for pointer in ["threshold_share_pct", "updates_per_transaction", "flush_ms/last", "flush_ms/mean", "flush_ms/p99"] {
        *value.pointer_mut(&format!("/optimized_storage/{pointer}")).unwrap() = json!(0.0);
    }
    value["events"] = json!({"update": 0, "log": 0});
    value["dropped"] = json!({"journal_full": 0});
    value["endpoints"][0]["name"] = json!("to\"kyo\\\n");
    value["endpoints"][0]["dropped"] = json!({"journal_full": 0});
    value["endpoints"][1]["name"] = json!("paris");
    value["endpoints"][1]["status"] = json!("ONLINE");
    value["optimized_storage"]["next_boundary"] = json!("2026-03-01T01:00:00+01:00");
    value["optimized_storage"]["last_flush_time"] = json!("2026-03-01 00:00:02");
    value["optimized_storage"]["expiry_late"] = json!(["service_history"]);
    value["database"] = json!({"ok": true, "since": "2026-03-01T00:00:03Z", "error": "none"});
    value["process"]["version"] = json!("0.1.0");
    value["mode"] = json!("dual");
    number(&mut value, &mut next);
    let mut stats: Stats = serde_json::from_value(value).unwrap();
    // The document has it as text alone.
    stats.optimized_storage.last_flush_at = Some(Timestamp(1_772_323_202 * Timestamp::SECOND));
    stats
}

/// The series that shows something, with its value; or why none does.
type Shows = Result<(&'static str, f64), &'static str>;

/// What of the stats is shown by another value than its own.
const OTHERS: [(&str, Shows); 17] = [
    ("/optimized_storage/last_flush_time", Ok(("last_flush_timestamp_seconds", 1_772_323_202.0))),
    ("/optimized_storage/next_boundary", Ok(("next_boundary_timestamp_seconds", 1_772_323_200.0))),
    ("/optimized_storage/expiry_late/0", Ok(("expiry_late_tables", 1.0))),
    ("/endpoints/0/name", Ok(("endpoint_up{endpoint=\"to\\\"kyo\\\\\\n\"}", 0.0))),
    ("/endpoints/0/status", Ok(("endpoint_status_info{endpoint=\"to\\\"kyo\\\\\\n\",status=\"OFFLINE\"}", 1.0))),
    ("/endpoints/0/reason", Err("a text for people, of which there are as many as there are ways to fail")),
    ("/endpoints/0/since", Ok(("endpoint_status_since_timestamp_seconds{endpoint=\"to\\\"kyo\\\\\\n\"}", 1_772_323_201.0))),
    ("/endpoints/1/name", Ok(("endpoint_up{endpoint=\"paris\"}", 1.0))),
    ("/endpoints/1/status", Ok(("endpoint_status_info{endpoint=\"paris\",status=\"ONLINE\"}", 1.0))),
    ("/endpoints/1/reason", Err("as above")),
    ("/endpoints/1/since", Ok(("endpoint_status_since_timestamp_seconds{endpoint=\"paris\"}", 1_772_323_201.0))),
    ("/database/ok", Ok(("database_up", 1.0))),
    ("/database/since", Ok(("database_status_since_timestamp_seconds", 1_772_323_203.0))),
    ("/database/error", Err("a text for people; database_up says that there is one")),
    ("/mode", Ok(("storage_info{mode=\"dual\"}", 1.0))),
    ("/process/version", Ok(("build_info{version=\"0.1.0\"}", 1.0))),
    ("/process/pid", Err("a name, not a measurement")),
];

fn number(value: &mut Value, next: &mut u64) {
    match value {
        Value::Number(number) => {
            *next += 1;
            *number = if number.is_f64() { serde_json::Number::from_f64(*next as f64 + 0.5).unwrap() } else { (*next).into() };
        }
        Value::Array(values) => values.iter_mut().for_each(|value| self::number(value, next)),
        Value::Object(members) => members.values_mut().for_each(|value| self::number(value, next)),
        _ => {}
    }
}

/// The series that shows a number of the stats, by the number's place there, and what it is multiplied with.
fn series_of(path: &str) -> (String, f64) {
    let simple = |name: &str| (format!("tidegate_{name}"), 1.0);
    let storage = path.strip_prefix("/optimized_storage/").unwrap_or_default();
    match (storage, path.split('/').collect::<Vec<_>>().as_slice()) {
        ("buffer_size", _) => simple("buffer_events"),
        ("max_buffer_size", _) => simple("buffer_limit_events"),
        ("buffer_usage_pct", _) => ("tidegate_buffer_usage_ratio".to_owned(), 0.01),
        ("threshold_share_pct", _) => ("tidegate_flushes_threshold_ratio".to_owned(), 0.01),
        ("quarantined", _) => simple("rows_quarantined_total"),
        ("realtime/queue_events", _) => simple("realtime_queue_events"),
        ("realtime/queue_bytes", _) => simple("realtime_queue_bytes"),
        ("realtime/written", _) => simple("realtime_rows_written_total"),
        ("realtime/left_to_batch", _) => simple("realtime_left_to_batch_total"),
        ("retries", _) => simple("write_retries_total"),
        ("failures", _) => simple("write_failures_total"),
        ("oldest_unflushed_s", _) => simple("oldest_unflushed_seconds"),
        ("rows_written" | "rows_skipped" | "write_transactions", _) => simple(&format!("{storage}_total")),
        ("updates_per_transaction" | "waiting_batches" | "buffer_bytes" | "journal_bytes", _) => simple(storage),
        (_, ["", "optimized_storage", "flushes", cause]) => simple(&format!("flushes_total{{cause=\"{cause}\"}}")),
        (_, ["", "optimized_storage", "flush_ms", which]) => (format!("tidegate_flush_{which}_duration_seconds"), 0.001),
        (_, ["", "events", kind]) => simple(&format!("events_total{{kind=\"{kind}\"}}")),
        (_, ["", "dropped", reason]) => simple(&format!("dropped_events_total{{reason=\"{reason}\"}}")),
        (_, ["", "endpoints", n, rest @ ..]) => {
            let name = if *n == "0" { "to\\\"kyo\\\\\\n" } else { "paris" };
            match rest {
                ["tunnels"] => simple(&format!("endpoint_tunnels{{endpoint=\"{name}\"}}")),
                ["dropped", reason] => {
                    simple(&format!("endpoint_dropped_events_total{{endpoint=\"{name}\",reason=\"{reason}\"}}"))
                }
                rest => simple(&format!("endpoint_{}_total{{endpoint=\"{name}\"}}", rest.join("_"))),
            }
        }
        (_, ["", "process", "uptime_s"]) => simple("uptime_seconds"),
        (_, ["", "process", "rss_bytes"]) => simple("resident_memory_bytes"),
        _ => panic!("no metric shows {path}"),
    }
}

/// Every value of a document that is no list and no object, with its place.
fn leaves(value: &Value, path: String, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(values) => values.iter().enumerate().for_each(|(n, value)| leaves(value, format!("{path}/{n}"), found)),
        Value::Object(members) => members.iter().for_each(|(name, value)| leaves(value, format!("{path}/{name}"), found)),
        leaf => found.push((path, leaf.clone())),
    }
}

/// Series and values of a text; panics at a line that OpenMetrics does not have.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut types = BTreeMap::new();
    let mut series = BTreeMap::new();
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    for line in body.lines() {
        match line.split_once(' ').unwrap() {
            ("#", rest) => {
                let mut words = rest.splitn(3, ' ');
                let (word, name, value) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                assert!(matches!(word, "HELP" | "TYPE" | "UNIT") && name.starts_with("tidegate_") && !value.is_empty(), "{line}");
                if word == "TYPE" {
                    assert_eq!(types.insert(name.to_owned(), value.to_owned()), None, "{name} is there twice");
                }
            }
            _ => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let family = name.split('{').next().unwrap();
                let kind = types.iter().find(|(known, _)| {
                    family.strip_prefix(known.as_str()).is_some_and(|rest| matches!(rest, "" | "_total" | "_info"))
                });
                let (known, kind) = kind.unwrap_or_else(|| panic!("{family} has no type"));
                let suffix = match kind.as_str() {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                assert_eq!(family, format!("{known}{suffix}"), "{line}");
                assert_eq!(series.insert(name.to_owned(), value.parse().unwrap()), None, "{name} is there twice");
            }
        }
    }
    series
}

/// Whoever adds something to the stats adds a metric, or a reason for having none.
#[test]
fn everything_in_the_stats_is_shown_as_it_is() {
    let stats = stats();
    let series = parse(&encode(Shown { stats: stats.clone(), ..Shown::default() }).unwrap());
    let mut all = Vec::new();
    leaves(&serde_json::to_value(&stats).unwrap(), String::new(), &mut all);
    assert!(all.len() > 50);
    let mut others: BTreeMap<&str, _> = OTHERS.into();
    for (path, value) in all {
        let (name, expected) = match (others.remove(path.as_str()), value.as_f64()) {
            (Some(Err(_)), _) => continue,
            (Some(Ok((name, expected))), _) => (format!("tidegate_{name}"), expected),
            (None, Some(number)) => {
                let (name, factor) = series_of(&path);
                (name, number * factor)
            }
            (None, None) => panic!("no metric shows {path}, which is {value}; null: give it a value in this test"),
        };
        let shown = series.get(&name).unwrap_or_else(|| panic!("{path}: there is no {name} in {series:#?}"));
        assert!((shown - expected).abs() < 1e-9, "{path}: {name} is {shown} and not {expected}");
    }
    assert!(others.is_empty(), "not in the stats any more: {others:?}");
    assert_eq!(series["tidegate_endpoints"], 2.0);
}

#[test]
fn what_the_server_and_the_alerts_do_is_shown() {
    let alert = |endpoint: &str| Active {
        condition: Condition::EndpointOffline { endpoint: endpoint.to_owned() },
        since: Timestamp(0),
        text: String::new(),
    };
    let channel = ChannelState { waiting: 6, sent: 7, failures: 8, given_up: 9, ..ChannelState::default() };
    let shown = Shown {
        alerts: AlertsState { active: vec![alert("a"), alert("b")], channels: vec![(Channel::Webhook, channel)] },
        reads: PoolState { running: 1, waiting: 2, refused: 3, late: 4 },
        connections: 5,
        stream_readers: 77,
        stream_readers_cut_off: 78,
        ..Shown::default()
    };
    let series = parse(&encode(shown).unwrap());
    for (name, value) in [
        ("database_reads_running", 1.0),
        ("database_reads_waiting", 2.0),
        ("database_reads_refused_total", 3.0),
        ("database_reads_late_total", 4.0),
        ("http_connections", 5.0),
        ("alert_messages_waiting{channel=\"webhook\"}", 6.0),
        ("alert_messages_sent_total{channel=\"webhook\"}", 7.0),
        ("alert_messages_failures_total{channel=\"webhook\"}", 8.0),
        ("alert_messages_given_up_total{channel=\"webhook\"}", 9.0),
        ("alerts_active{kind=\"endpoint_offline\"}", 2.0),
        ("alerts_active{kind=\"journal_full\"}", 0.0),
        ("stream_readers", 77.0),
        ("stream_readers_cut_off_total", 78.0),
    ] {
        assert_eq!(series.get(&format!("tidegate_{name}")), Some(&value), "{name}");
    }
}

#[test]
fn what_is_not_known_is_absent_and_kinds_that_nobody_knows_make_no_series() {
    let mut stats = Stats::default();
    stats.events.extend((0..100).map(|n| (format!("kind{n}"), 2)));
    stats.endpoints = (0..=ENDPOINTS_MAX).map(|n| EndpointStats { name: n.to_string(), ..EndpointStats::default() }).collect();
    let series = parse(&encode(Shown { stats, ..Shown::default() }).unwrap());
    assert_eq!(series["tidegate_events_total{kind=\"other\"}"], 200.0);
    assert!(!series.contains_key("tidegate_last_flush_timestamp_seconds"));
    assert!(!series.keys().any(|name| name.starts_with("tidegate_endpoint_")));
}

#[actix_rt::test]
async fn the_route_answers_open_metrics() {
    let (status, media_type, text) = ask_text(&Fake::default(), "/metrics").await;
    assert_eq!((status, media_type.as_str()), (200, MEDIA_TYPE));
    assert_eq!(parse(&text)["tidegate_stream_readers"], 0.0);
}
