//! The routes that read the database, over a real one, and a recorder whose buffer the test fills.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::{Fake, KEY, ask, store, with_endpoint};
use crate::actors::buffer::WaitingHistory;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::endpoint::{ApiKey, TlsPolicy};
use crate::event::{Counters, EndpointId, Event, EventKind, Gap, InstanceId, Record, Sample, TunnelKey};
use crate::history::InTotals;
use crate::history::figures::Figures;
use crate::id::{EventId, IdGenerator};
use crate::redact::Redacted;
use crate::store::{CounterEvent, EventBatch, FlushCause, FlushInfo, HistoryBatch, HistoryRow, NewEndpoint, Store};

/// Events and gaps of an endpoint `tokyo`, received one second after the other, the last one a second ago.
struct Written {
    ids: IdGenerator,
    now: Timestamp,
}

impl Written {
    fn event(&mut self, second: i64, kind: &str, instance: &str) -> Record {
        let received_at = Timestamp(self.now.0 - 100 * Timestamp::SECOND + second * Timestamp::SECOND);
        Record::Event(Event {
            id: self.ids.next(received_at),
            endpoint: EndpointId(1),
            received_at,
            event_time: Some(received_at),
            kind: EventKind::from(kind),
            instance: InstanceId::from(instance),
            sample: Some(Sample::default()),
            config: None,
            detail: Some("{\"alias\":[\"a\",\"b\"]}".into()),
            logs: (kind == "log").then(|| Redacted::from_store("line")),
            stored: true,
        })
    }

    fn gap(&mut self, second: i64, instance: &str) -> Record {
        let to = Timestamp(self.now.0 - 100 * Timestamp::SECOND + second * Timestamp::SECOND);
        let from = Timestamp(to.0 - Timestamp::SECOND);
        let instance = InstanceId::from(instance);
        Record::Gap(Gap { id: self.ids.next(to), endpoint: EndpointId(1), instance, from, to, reason: "silent".into() })
    }
}

/// Stores ten updates, a log line and a gap of `tokyo`; gives more like them.
pub(super) fn stored_examples() -> impl FnMut(i64, &str, &str) -> Record {
    let now = SystemClock.wall();
    let mut written = Written { ids: IdGenerator::new(0, EventId::ZERO), now };
    let mut store = store();
    let endpoint = NewEndpoint {
        name: "tokyo".to_owned(),
        url: "http://10.0.0.5:9090/api".parse().unwrap(),
        api_key: ApiKey::new(KEY),
        tls: TlsPolicy::Verify,
        log_events: None,
    };
    store.add_endpoint(&endpoint, now).unwrap();
    let mut records: Vec<Record> =
        (0..10).map(|n| written.event(n, "update", if n % 2 == 0 { "aaaa0000" } else { "bbbb0000" })).collect();
    records.push(written.event(10, "log", "aaaa0000"));
    records.push(written.gap(11, ""));
    let info = FlushInfo { cause: FlushCause::Hourly, boundary: Some(now), skipped_boundaries: 0, cut_at: now };
    store.commit_events(&EventBatch::new(info, Arc::new(records))).unwrap();
    move |second, kind, instance| {
        if kind == "gap" { written.gap(second, instance) } else { written.event(second, kind, instance) }
    }
}

async fn events(fake: &Fake, query: &str) -> Value {
    let (status, _, answer) = ask(fake, "GET", &format!("/api/v1/events?{query}"), None).await;
    assert_eq!(status, 200, "{query}: {answer}");
    answer
}

#[actix_rt::test]
async fn what_waits_stands_before_what_is_stored_and_nothing_twice() {
    let fake = with_endpoint().await;
    let mut more = stored_examples();
    let (first, second) = (more(20, "update", "aaaa0000"), more(21, "update", "bbbb0000"));
    let (first_id, second_id) = (first.id().to_string(), second.id().to_string());
    fake.state().buffered = vec![second.clone(), first.clone()];
    let all = events(&fake, "").await;
    let ids: Vec<&str> = all["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0], ids[1]), (13, second_id.as_str(), first_id.as_str()));
    assert_eq!((&all["events"][1]["stored"], &all["events"][2]["stored"]), (&json!(false), &json!(true)));
    assert_eq!(
        (&all["next"], &all["events"][2]["kind"], &all["events"][2]["logs"]),
        (&Value::Null, &json!("log"), &json!("line"))
    );
    assert_eq!(all["events"][0]["detail"], json!({"alias": ["a", "b"]}));

    // Committed between the two looks.
    let info = FlushInfo { cause: FlushCause::Manual, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
    store().commit_events(&EventBatch::new(info, Arc::new(vec![first]))).unwrap();
    let again = events(&fake, "").await;
    assert_eq!(again["events"].as_array().unwrap().len(), 13);
    assert_eq!(again["events"][1]["stored"], json!(true));

    // Pages of two, each with the cursor of the one before, while one more arrives at the top.
    let (mut cursor, mut paged) = (String::new(), Vec::new());
    for page in 0.. {
        let answer = events(&fake, &format!("endpoint=tokyo&limit=2{cursor}")).await;
        paged.extend(answer["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        if page == 0 {
            fake.state().buffered.insert(0, more(30, "update", "aaaa0000"));
        }
        let Some(next) = answer["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, ids);
}

#[actix_rt::test]
async fn a_page_of_what_waits_alone_says_that_there_is_more() {
    let fake = with_endpoint().await;
    let mut more = stored_examples();
    let mut waiting: Vec<Record> = (0..3).map(|n| more(20 + n, "create", "aaaa0000")).collect();
    waiting.reverse();
    fake.state().buffered = waiting;
    let first = events(&fake, "kind=create&limit=2").await;
    assert_eq!(first["events"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let second = events(&fake, &format!("kind=create&limit=2&cursor={next}")).await;
    assert_eq!((second["events"].as_array().unwrap().len(), &second["next"]), (1, &Value::Null));
}

#[actix_rt::test]
async fn filters_hold_for_what_waits_and_for_what_is_stored() {
    let fake = with_endpoint().await;
    let mut more = stored_examples();
    fake.state().buffered = vec![more(21, "log", "bbbb0000"), more(20, "update", "aaaa0000")];
    for (query, count) in [
        ("tunnel=tokyo/aaaa0000", 7),
        ("tunnel=tokyo/aaaa0000&kind=update", 6),
        ("kind=log", 2),
        ("kind=shutdown", 0),
        ("since=85s", 2),
        ("until=85s", 11),
        ("since=97s&until=93s", 4),
        ("tunnel=tokyo/cccc0000", 0),
    ] {
        assert_eq!(events(&fake, query).await["events"].as_array().unwrap().len(), count, "{query}");
    }
}

#[actix_rt::test]
async fn what_cannot_be_asked_is_a_problem_and_says_why() {
    let fake = with_endpoint().await;
    let _ = stored_examples();
    let long = "9".repeat(5_000);
    for (path, status, detail) in [
        ("/api/v1/events?limit=0", 400, "1 to 1000"),
        ("/api/v1/events?limit=1001", 400, "1 to 1000"),
        ("/api/v1/events?limit=-1", 400, ""),
        ("/api/v1/events?cursor=-5", 400, "no id"),
        ("/api/v1/events?cursor=99999999999999999999", 400, "no id"),
        ("/api/v1/events?since=yesterday", 400, "no since"),
        ("/api/v1/events?since=1h&until=2h", 400, "nothing is between"),
        ("/api/v1/events?until=1h&until=2h", 400, "duplicate field"),
        ("/api/v1/events?kind=", 400, "kind"),
        ("/api/v1/events?tunnel=tokyo", 400, "ENDPOINT/INSTANCE_ID"),
        ("/api/v1/events?tunnel=tokyo/", 400, "ENDPOINT/INSTANCE_ID"),
        ("/api/v1/events?tunnel=tokyo/a&endpoint=tokyo", 400, "not both"),
        ("/api/v1/events?endpoint=%27%20OR%201=1", 404, "no endpoint named"),
        ("/api/v1/events?colour=red", 400, "there is no parameter `colour` here; known are"),
        ("/api/v1/flushes?before=0", 400, "no id"),
        ("/api/v1/gaps?tunnel=paris/a", 404, "no endpoint named"),
        ("/api/v1/storage?x=1", 400, "there is no parameter `x` here; none is known"),
        ("/api/v1/history?step=5m", 400, "step is one of"),
        ("/api/v1/history?since=60d&step=1m", 400, "the most"),
        ("/api/v1/history?since=99999y&step=1h", 400, "the most"),
        ("/api/v1/history?tunnel=tokyo/cccc0000", 404, "no history of one"),
        ("/api/v1/history?tunnel=tokyo/a&endpoint=tokyo", 400, "not both"),
        ("/api/v1/history?since=2030-01-01", 400, "nothing is between"),
        ("/api/v1/traffic?by=colour", 400, "unknown variant"),
        ("/api/v1/traffic?endpoint=paris", 404, "no endpoint named"),
        ("/api/v1/traffic?by=fleet&endpoint=tokyo", 400, "of all endpoints"),
        ("/api/v1/export", 400, "missing field"),
        ("/api/v1/export?what=minutes&cursor=a:b", 400, "`cursor` is none"),
        ("/api/v1/export?what=minutes&limit=0", 400, "1 to"),
        (&format!("/api/v1/events?since={long}"), 400, "no since"),
        (&format!("/api/v1/events?tunnel=tokyo/{long}"), 400, "ENDPOINT/INSTANCE_ID"),
    ] {
        let (answered, media_type, problem) = ask(&fake, "GET", path, None).await;
        assert_eq!((answered, media_type.as_str()), (status, "application/problem+json"), "{path:.80}: {problem}");
        let text = problem["detail"].as_str().unwrap();
        assert!(text.contains(detail) && text.len() < 1_000, "{path:.80}: {problem}");
    }
}

#[actix_rt::test]
async fn flushes_gaps_and_sizes_are_those_of_the_database() {
    let fake = with_endpoint().await;
    let mut more = stored_examples();
    let (_, _, answer) = ask(&fake, "GET", "/api/v1/flushes", None).await;
    let flush = &answer["flushes"][0];
    assert_eq!((&flush["batch"], &flush["cause"], &flush["rows"]), (&json!("events"), &json!("hourly"), &json!(12)));
    assert!(flush["first_id"].is_string() && flush["boundary"].is_string());

    let (first, second) = (more(30, "gap", ""), more(31, "gap", "bbbb0000"));
    fake.state().buffered = vec![second, first];
    let gaps = |answer: &Value| -> Vec<(String, bool)> {
        let gaps = answer["gaps"].as_array().unwrap().iter();
        gaps.map(|gap| (gap["instance_id"].as_str().unwrap().to_owned(), gap["stored"] == json!(true))).collect()
    };
    let own = |instance: &str, stored: bool| (instance.to_owned(), stored);
    let all = ask(&fake, "GET", "/api/v1/gaps", None).await.2;
    assert_eq!(gaps(&all), [own("bbbb0000", false), own("", false), own("", true)]);
    let of_one = ask(&fake, "GET", "/api/v1/gaps?tunnel=tokyo/aaaa0000", None).await.2;
    assert_eq!(gaps(&of_one), [own("", false), own("", true)]);
    let first = ask(&fake, "GET", "/api/v1/gaps?limit=2", None).await.2;
    let next = format!("/api/v1/gaps?limit=2&before={}", first["next"].as_str().unwrap());
    assert_eq!(gaps(&ask(&fake, "GET", &next, None).await.2), [own("", true)]);

    let storage = ask(&fake, "GET", "/api/v1/storage", None).await.2;
    let table = storage["tables"].as_array().unwrap().iter().find(|table| table["name"] == "endpoint_sse").unwrap();
    assert_eq!((&table["rows"], &table["retention_s"]), (&json!(11), &json!(86_400)));
    assert!(table["oldest"].is_string() && table["bytes"].as_u64() >= Some(4_096));
}

/// A minute of a tunnel of `tokyo`, so many minutes ago.
fn minute(instance: &str, ago: i64, bytes: u64) -> HistoryRow {
    let figures = Figures {
        delta: Counters { tcp_rx: bytes, ..Counters::default() },
        covered_ms: 60_000,
        record_count: 12,
        expected_count: 12,
        ..Figures::default()
    };
    let minute = Timestamp(SystemClock.wall().minute().0 - ago * Timestamp::MINUTE);
    let tunnel = TunnelKey { endpoint: EndpointId(1), instance: InstanceId::from(instance) };
    HistoryRow { tunnel, minute, figures, in_totals: InTotals::BOTH }
}

fn commit(id: i64, rows: Vec<HistoryRow>) {
    let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
    let (id, through) = (EventId(id), EventId(0));
    let batch = HistoryBatch { id, info, through, rows, counter_events: Vec::new(), states: Vec::new(), accounts: Vec::new() };
    store().commit_history(&batch).unwrap();
}

fn sum(chart: &Value) -> u64 {
    chart["columns"]["in"].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
}

#[actix_rt::test]
async fn a_chart_holds_what_waits_in_the_recorder_once() {
    let fake = with_endpoint().await;
    let _ = stored_examples();
    commit(5, vec![minute("aaaa0000", 30, 100)]);
    let waiting = |as_of| WaitingHistory {
        counting: vec![minute("aaaa0000", 2, 1)],
        batches: vec![(EventId(6), vec![minute("aaaa0000", 20, 10), minute("bbbb0000", 20, 1_000)])],
        missing: 3,
        as_of: EventId(as_of),
        ..WaitingHistory::default()
    };
    fake.state().waiting = vec![waiting(7)];
    let ask_chart = async |query: &str| ask(&fake, "GET", &format!("/api/v1/history?{query}"), None).await.2;
    let chart = ask_chart("tunnel=tokyo/aaaa0000").await;
    assert_eq!((sum(&chart), &chart["in_journal_only"], &chart["step_s"]), (111, &json!(3), &json!(60)));
    assert_eq!(sum(&ask_chart("endpoint=tokyo&since=3d").await), 1_111);
    assert_eq!(sum(&ask_chart("step=1d").await), 1_111);
    // The batch is committed while the recorder says that it waits: it counts once.
    commit(6, vec![minute("aaaa0000", 20, 10), minute("bbbb0000", 20, 1_000)]);
    assert_eq!(sum(&ask_chart("").await), 1_111);
    // What was counting is committed before the database is read: the recorder is asked anew.
    commit(8, vec![minute("aaaa0000", 2, 1)]);
    fake.state().waiting = vec![WaitingHistory { as_of: EventId(9), ..WaitingHistory::default() }, waiting(7)];
    assert_eq!(sum(&ask_chart("").await), 1_111);
    // A recorder that never knows of what is committed is no reason to ask for ever.
    fake.state().waiting = vec![waiting(7)];
    assert_eq!(ask(&fake, "GET", "/api/v1/history", None).await.0, 503);
    assert_eq!(ask(&fake, "GET", "/api/v1/traffic", None).await.0, 503);
}

#[actix_rt::test]
async fn traffic_has_a_row_for_each_and_periods_of_the_zone() {
    let fake = with_endpoint().await;
    let _ = stored_examples();
    commit(5, vec![minute("aaaa0000", 0, 100), minute("bbbb0000", 0, 1)]);
    fake.state().waiting =
        vec![WaitingHistory { counting: vec![minute("aaaa0000", 0, 10)], as_of: EventId(6), ..WaitingHistory::default() }];
    let sums = async |query: &str| ask(&fake, "GET", &format!("/api/v1/traffic?{query}"), None).await.2;
    let fleet = sums("").await;
    assert_eq!((&fleet["rows"][0]["today"]["in"], &fleet["rows"][0]["endpoint"]), (&json!(111), &Value::Null));
    assert_eq!(fleet["timezone"], json!("UTC"));
    let tunnels = sums("by=tunnel&endpoint=tokyo").await;
    let row = |n: usize| (tunnels["rows"][n]["instance_id"].clone(), tunnels["rows"][n]["month"]["in"].clone());
    assert_eq!([row(0), row(1)], [(json!("aaaa0000"), json!(110)), (json!("bbbb0000"), json!(1))]);
    assert_eq!(sums("endpoint=tokyo").await["rows"][0]["cycle"]["in"], json!(111));
    let today = sums("endpoint=tokyo&period=today").await;
    assert_eq!((&today["rows"][0]["today"]["in"], today["rows"][0].get("month")), (&json!(111), None));
    assert_eq!(ask(&fake, "GET", "/api/v1/traffic?period=week", None).await.0, 400);
}

#[actix_rt::test]
async fn falls_are_listed_from_the_database_and_from_what_waits_each_once() {
    let fake = with_endpoint().await;
    let _ = stored_examples();
    let now = SystemClock.wall();
    let fall = |event: i64, instance: &str, kind: &str, hours: i64| CounterEvent {
        event: EventId(event),
        tunnel: TunnelKey { endpoint: EndpointId(1), instance: InstanceId::from(instance) },
        at: Timestamp(now.0 - hours * 60 * Timestamp::MINUTE),
        kind: kind.into(),
        before: Counters { tcp_rx: 300_000, udp_tx: 7, ..Counters::default() },
        after: Counters { tcp_rx: 100_000, udp_tx: 9, ..Counters::default() },
        counted: Counters { udp_tx: 2, ..Counters::default() },
    };
    let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(0) };
    let stored = vec![fall(11, "aaaa0000", "fall_unknown", 30), fall(12, "bbbb0000", "reset", 2)];
    let batch = HistoryBatch {
        id: EventId(20),
        info,
        through: EventId(20),
        rows: Vec::new(),
        counter_events: stored,
        states: Vec::new(),
        accounts: Vec::new(),
    };
    store().commit_history(&batch).unwrap();
    // The second was committed after the recorder was asked.
    let falls = vec![fall(12, "bbbb0000", "reset", 2), fall(30, "aaaa0000", "fall_back", 0)];
    fake.state().waiting = vec![WaitingHistory { falls, ..WaitingHistory::default() }];
    let ask_falls = async |query: &str| ask(&fake, "GET", &format!("/api/v1/falls?{query}"), None).await.2;
    let listed = |answer: &Value| -> Vec<(String, String, bool)> {
        let falls = answer["falls"].as_array().unwrap().iter();
        let text = |fall: &Value, field: &str| fall[field].as_str().unwrap().to_owned();
        falls.map(|fall| (text(fall, "id"), text(fall, "kind"), fall["stored"] == json!(true))).collect()
    };
    let own = |id: &str, kind: &str, stored: bool| (id.to_owned(), kind.to_owned(), stored);
    let all = ask_falls("").await;
    assert_eq!(listed(&all), [own("30", "fall_back", false), own("12", "reset", true), own("11", "fall_unknown", true)]);
    let oldest = &all["falls"][2];
    assert_eq!((&oldest["endpoint"], &oldest["instance_id"]), (&json!("tokyo"), &json!("aaaa0000")));
    assert_eq!((&oldest["before"]["tcp_in"], &oldest["after"]["tcp_in"]), (&json!(300_000), &json!(100_000)));
    assert_eq!(oldest["counted"], json!({"tcp_in": 0, "tcp_out": 0, "udp_in": 0, "udp_out": 2}));
    for (query, ids) in [
        ("kind=fall_unknown", &["11"][..]),
        ("tunnel=tokyo/aaaa0000", &["30", "11"]),
        ("since=1d", &["30", "12"]),
        ("until=1d", &["11"]),
        ("limit=2", &["30", "12"]),
        ("limit=2&before=12", &["11"]),
    ] {
        let found: Vec<String> = listed(&ask_falls(query).await).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(found, ids, "{query}");
    }
    assert_eq!((&ask_falls("limit=2").await["next"], &all["next"]), (&json!("12"), &Value::Null));
}

#[actix_rt::test]
async fn without_a_database_the_answer_is_503_and_says_why() {
    let fake = with_endpoint().await;
    for path in ["events", "falls", "flushes", "gaps", "storage", "history", "traffic", "export?what=days"] {
        let path = &format!("/api/v1/{path}");
        let (status, _, problem) = ask(&fake, "GET", path, None).await;
        assert_eq!(status, 503, "{path}");
        assert!(problem["detail"].as_str().unwrap().contains("no database"), "{path}: {problem}");
    }
}
