use serde_json::{Value, json};

use super::super::fake::{Fake, ask_text};
use super::*;

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
    number(&mut value, &mut next);
    serde_json::from_value(value).unwrap()
}

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

fn numbers(value: &Value, path: String, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => found.push((path, number.as_f64().unwrap())),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(n, value)| numbers(value, format!("{path}/{n}"), found));
        }
        Value::Object(members) => members.iter().for_each(|(name, value)| numbers(value, format!("{path}/{name}"), found)),
        _ => {}
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

#[test]
fn every_number_of_the_stats_is_shown_as_it_is() {
    let stats = stats();
    let series = parse(&encode(Shown { stats: stats.clone(), stream_readers: 77 }).unwrap());
    let mut expected = Vec::new();
    numbers(&serde_json::to_value(&stats).unwrap(), String::new(), &mut expected);
    // The process's id is not a measurement.
    expected.retain(|(path, _)| path != "/process/pid");
    assert!(expected.len() > 30);
    for (path, number) in expected {
        let (name, factor) = series_of(&path);
        let shown = series.get(&name).unwrap_or_else(|| panic!("{path}: there is no {name} in {series:#?}"));
        assert!((shown - number * factor).abs() < 1e-9, "{path}: {name} is {shown} and not {number} * {factor}");
    }
    assert_eq!(series["tidegate_endpoint_up{endpoint=\"paris\"}"], 1.0);
    assert_eq!(series["tidegate_endpoint_status_info{endpoint=\"paris\",status=\"ONLINE\"}"], 1.0);
    assert_eq!(series["tidegate_endpoint_status_since_timestamp_seconds{endpoint=\"paris\"}"], 1_772_323_201.0);
    assert_eq!(series["tidegate_next_boundary_timestamp_seconds"], 1_772_323_200.0);
    assert_eq!((series["tidegate_stream_readers"], series["tidegate_endpoints"]), (77.0, 2.0));
}

#[test]
fn what_is_not_known_is_absent_and_kinds_that_nobody_knows_make_no_series() {
    let mut stats = Stats::default();
    stats.events.extend((0..100).map(|n| (format!("kind{n}"), 2)));
    stats.endpoints = (0..=ENDPOINTS_MAX).map(|n| EndpointStats { name: n.to_string(), ..EndpointStats::default() }).collect();
    let series = parse(&encode(Shown { stats, stream_readers: 0 }).unwrap());
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
