//! How long charts and sums take with 1,000 tunnels, full minutes, gaps, and ten minutes of history that wait in memory, while flushes
//! of 1,000 rows run; beside the same rows read through SQLite's C API in the same run.
//!
//! `cargo bench --bench queries [-- DAYS]`: days of minutes, 2 unless given. The budgets are meant for 30 (43 million rows, 4 GB,
//! some minutes to fill): a chart of anything for any range in 50 ms at p99, today's total of all tunnels in 10 ms.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
// The C API is called as C is; the library itself forbids unsafe code.
#![allow(unsafe_code, missing_docs)]

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libsqlite3_sys as c;
use nix::time::ClockId;
use tidegate::actors::buffer::WaitingHistory;
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::config::RetentionConfig;
use tidegate::endpoint::{ApiKey, TlsPolicy};
use tidegate::event::{Counters, EndpointId, Event, EventKind, Gap, InstanceConfig, InstanceId, Record, Sample, TunnelKey};
use tidegate::history::InTotals;
use tidegate::history::figures::{Figures, Ping};
use tidegate::id::{EventId, IdGenerator};
use tidegate::query::Scope;
use tidegate::query::events::{self, EventQuery, EventQuestion};
use tidegate::query::heard::Live;
use tidegate::query::history::{self, HistoryQuery, HistoryQuestion};
use tidegate::query::traffic::{self, Billing, By, PeriodName, TrafficQuery};
use tidegate::redact::Redacted;
use tidegate::store::{
    DatabaseUrl, DieselStore, EventBatch, FlushCause, FlushInfo, HistoryRow, LiveChanges, NewEndpoint, ReadConnection, Store,
};

const ENDPOINTS: i32 = 25;
const TUNNELS_EACH: i32 = 40;
/// Days of history by the day: five years.
const DAYS_KEPT: i64 = 1_825;
const MINUTE: i64 = Timestamp::MINUTE;
const DAY: i64 = 1_440 * MINUTE;
const ASKED: usize = 300;
/// Budgets at p99, in milliseconds: a chart, and today's totals.
const CHART_MS: f64 = 50.0;
const TODAY_MS: f64 = 10.0;

fn main() {
    let days = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_i64);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queries.db");
    let url: DatabaseUrl = format!("sqlite:{}", path.display()).parse().expect("a URL");
    // What is written is written as of now, so that `today` and ages mean what they say.
    let now = Timestamp(SystemClock.wall().0 / MINUTE * MINUTE);
    let started = Instant::now();
    let rows = fill(&url, &path, now, days);
    let bytes = std::fs::metadata(&path).expect("the file").len();
    println!(
        "{} tunnels, {days} days of minutes: {rows} rows in {:.0} s, {} MiB",
        ENDPOINTS * TUNNELS_EACH,
        started.elapsed().as_secs_f64(),
        bytes >> 20
    );
    let stop = Arc::new(AtomicBool::new(false));
    let flushed = Arc::new(AtomicU64::new(0));
    let flushes = std::thread::spawn({
        let (url, stop, flushed) = (url.clone(), Arc::clone(&stop), Arc::clone(&flushed));
        move || flush_for_ever(&url, &stop, &flushed)
    });
    while flushed.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    ask(&url, &path, now, days);
    stop.store(true, Ordering::Relaxed);
    flushes.join().expect("the flushes end");
    println!("{} flushes of 1,000 rows meanwhile", flushed.load(Ordering::Relaxed));
}

/// Asks everything, in turn, on one connection while the flushes run.
fn ask(url: &DatabaseUrl, path: &Path, now: Timestamp, days: i64) {
    let mut reader = ReadConnection::open(url).expect("the database opens");
    let raw = Raw::open(path);
    let mut random = fastrand::Rng::with_seed(1);
    let waits = waiting(now);
    println!("{:<34}{:>18}{:>12}{:>18}   {:>18}", "p50 and p99 ms", "passed", "budget", "on the processor", "passed, C API");
    // The longest chart by the minute that is allowed, as far as there are minutes.
    let longest = format!("{}m", history::SLOTS_MAX.min(usize::try_from(days * 1_440).unwrap_or_default()));
    for (since, step, table, key) in [
        ("24h", "auto", "service_history", "minutes"),
        (&longest, "1m", "service_history", "minutes"),
        ("7d", "auto", "history_hours", "hours"),
        ("30d", "auto", "history_hours", "hours"),
        ("5y", "auto", "history_days", "days"),
    ] {
        for scope in ["tunnel", "endpoint", "fleet"] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ASKED {
                let (endpoint, instance) = (random.i32(1..=ENDPOINTS), random.i32(0..TUNNELS_EACH));
                let query = query(scope, endpoint, instance, since, step);
                // The recorder hands over what concerns the question.
                let concerned = match scope {
                    "tunnel" => Scope::Tunnel(TunnelKey { endpoint: EndpointId(endpoint), instance: name(instance) }),
                    "endpoint" => Scope::Endpoint(EndpointId(endpoint)),
                    _ => Scope::Fleet,
                };
                let counting = waits.counting.iter().filter(|row| concerned.contains(&row.tunnel)).cloned().collect();
                let waits = WaitingHistory { counting, as_of: waits.as_of, ..WaitingHistory::default() };
                ours.push(timed(|| chart(&mut reader, query, &waits, now)));
                let statement = reference(scope, table, endpoint, instance, now, since);
                theirs.push(timed(|| raw.read(&statement)));
            }
            report(&format!("{scope}, {since} ({key})"), Some(CHART_MS), ours, theirs);
        }
    }
    for (name, by) in [("fleet", By::Fleet), ("each endpoint", By::Endpoint), ("each tunnel", By::Tunnel)] {
        for (periods, period, since) in
            [("today, month, cycle", None, now.0 - 31 * DAY), ("today", Some(PeriodName::Today), now.0 / DAY * DAY)]
        {
            let ours = (0..ASKED).map(|_| timed(|| sums(&mut reader, by, period, &waits, now))).collect();
            // The order of the join is the order of the words.
            let tables = match by {
                By::Fleet => "history_day_totals d WHERE d.endpoint_id = 0",
                By::Endpoint => "endpoints e CROSS JOIN history_day_totals d WHERE d.endpoint_id = e.id",
                By::Tunnel => {
                    "tunnel_config t CROSS JOIN history_days d WHERE d.endpoint_id = t.endpoint_id AND d.instance_id = t.instance_id"
                }
            };
            let statement = format!("SELECT d.* FROM {tables} AND d.record_time >= {since}");
            let statement = CString::new(statement).expect("no NUL");
            let theirs = (0..ASKED).map(|_| timed(|| raw.read(&statement))).collect();
            report(&format!("{periods}: {name}"), period.map(|_| TODAY_MS), ours, theirs);
        }
    }
    let ours = (0..ASKED).map(|_| timed(|| page(&mut reader, &mut random, now))).collect();
    let statement = c"SELECT * FROM endpoint_sse ORDER BY id DESC LIMIT 100";
    let theirs = (0..ASKED).map(|_| timed(|| raw.read(statement))).collect();
    report("100 events of one tunnel", None, ours, theirs);
}

/// How long something took, in milliseconds.
#[derive(Clone, Copy)]
struct Took {
    passed: f64,
    /// Of the processor, which tells more than time on a machine that is busy otherwise.
    processor: f64,
}

fn timed(work: impl FnOnce()) -> Took {
    let processor = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("a clock of the thread"));
    let (started, on_processor) = (Instant::now(), processor());
    work();
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    Took { processor: millis(processor() - on_processor), passed: millis(started.elapsed()) }
}

fn report(name: &str, budget: Option<f64>, ours: Vec<Took>, theirs: Vec<Took>) {
    let p50_and_p99 = |took: &[Took], of: fn(&Took) -> f64| {
        let mut times: Vec<f64> = took.iter().map(of).collect();
        times.sort_by(f64::total_cmp);
        [0.5, 0.99].map(|share| times[((times.len() - 1) as f64 * share).round() as usize])
    };
    let text = |[p50, p99]: [f64; 2]| format!("{p50:.2} {p99:>8.2}");
    let passed = p50_and_p99(&ours, |took| took.passed);
    let verdict = budget.map(|budget| format!("{budget:.0} {}", if passed[1] <= budget { "met" } else { "MISSED" }));
    println!(
        "{name:<34}{:>18}{:>12}{:>18}   {:>18}",
        text(passed),
        verdict.unwrap_or_default(),
        text(p50_and_p99(&ours, |took| took.processor)),
        text(p50_and_p99(&theirs, |took| took.passed)),
    );
}

/// What a recorder has in memory when its flush is near: ten minutes of each tunnel, which is where it hands them over.
fn waiting(now: Timestamp) -> WaitingHistory {
    let tunnels = (1..=ENDPOINTS).flat_map(|endpoint| (0..TUNNELS_EACH).map(move |instance| (endpoint, instance)));
    let row = |(endpoint, instance): (i32, i32), minute: i64| HistoryRow {
        tunnel: TunnelKey { endpoint: EndpointId(endpoint), instance: name(instance) },
        minute: Timestamp(now.0 - minute * MINUTE),
        figures: Figures {
            delta: Counters { tcp_rx: 7_500_000, tcp_tx: 75_000_000, ..Counters::default() },
            covered_ms: 60_000,
            ping: Some(Ping { sum: 250, count: 12, min: 18, max: 29 }),
            record_count: 12,
            expected_count: 12,
            ..Figures::default()
        },
        in_totals: InTotals::BOTH,
    };
    let counting = tunnels.flat_map(|tunnel| (0..10).map(move |minute| row(tunnel, minute))).collect();
    WaitingHistory { counting, as_of: EventId(i64::MAX), ..WaitingHistory::default() }
}

/// What a recorder says of the endpoints: all are connected, and of each four gaps are not stored yet.
fn live(now: Timestamp) -> Live {
    let gap = |endpoint: i32, nth: i64| Gap {
        id: EventId(1),
        endpoint: EndpointId(endpoint),
        instance: InstanceId::default(),
        from: Timestamp(now.0 - nth * MINUTE),
        to: Timestamp(now.0 - nth * MINUTE + MINUTE / 2),
        reason: "connection_lost".into(),
    };
    Live {
        until: (1..=ENDPOINTS).map(|endpoint| (EndpointId(endpoint), Timestamp(i64::MAX))).collect(),
        gaps: (1..=ENDPOINTS).flat_map(|endpoint| (1..=4).map(move |nth| gap(endpoint, nth))).collect(),
    }
}

fn query(scope: &str, endpoint: i32, instance: i32, since: &str, step: &str) -> HistoryQuery {
    HistoryQuery {
        endpoint: (scope == "endpoint").then(|| format!("master-{endpoint}")),
        tunnel: (scope == "tunnel").then(|| format!("master-{endpoint}/{instance:08x}")),
        since: Some(since.to_owned()),
        step: Some(step.to_owned()),
        ..HistoryQuery::default()
    }
}

fn chart(reader: &mut ReadConnection, query: HistoryQuery, waits: &WaitingHistory, now: Timestamp) {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let retention = RetentionConfig { events: days(1), minutes: days(30), hours: days(90), days: Some(days(1_825)) };
    let question = HistoryQuestion::new(query, now, chrono_tz::Tz::UTC, &retention).expect("a question");
    let question = question.with_live(live(now));
    let chart = history::answer(reader, &question, waits).expect("an answer").expect("nothing waits");
    let known = chart.columns.received.iter().flatten().count();
    assert!(known * 10 >= chart.columns.time.len() * 9, "{known} of {} values", chart.columns.time.len());
    // What the route does with it.
    std::hint::black_box(serde_json::to_vec(&chart).expect("JSON"));
}

fn sums(reader: &mut ReadConnection, by: By, period: Option<PeriodName>, waits: &WaitingHistory, now: Timestamp) {
    let billing = Billing { timezone: chrono_tz::Tz::UTC, start_day: 15 };
    let query = TrafficQuery { by: Some(by), endpoint: None, period };
    let sums = traffic::answer(reader, &query, waits, now, billing);
    let sums = sums.expect("an answer").expect("nothing waits");
    let rows = match by {
        By::Fleet => 1,
        By::Endpoint => ENDPOINTS,
        By::Tunnel => ENDPOINTS * TUNNELS_EACH,
    };
    assert_eq!(sums.rows.len(), usize::try_from(rows).unwrap_or_default());
    assert!(sums.rows.iter().all(|row| row.today.is_some_and(|moved| moved.received > 0)));
    assert!(by != By::Tunnel || sums.rows.iter().all(|row| !row.alias.is_empty()));
    std::hint::black_box(serde_json::to_vec(&sums).expect("JSON"));
}

fn page(reader: &mut ReadConnection, random: &mut fastrand::Rng, now: Timestamp) {
    let tunnel = format!("master-{}/{:08x}", random.i32(1..=ENDPOINTS), random.i32(0..TUNNELS_EACH));
    let query = EventQuery { tunnel: Some(tunnel), ..EventQuery::default() };
    let question = EventQuestion::new(query, now, chrono_tz::Tz::UTC).expect("a question");
    std::hint::black_box(events::answer(reader, &question, &Default::default()).expect("an answer"));
}

fn reference(scope: &str, table: &str, endpoint: i32, instance: i32, now: Timestamp, since: &str) -> CString {
    let from = now.0 - i64::try_from(humantime::parse_duration(since).expect("an age").as_micros()).unwrap_or_default();
    let totals =
        table.replace("service_history", "history_minute_totals").replace("hours", "hour_totals").replace("days", "day_totals");
    let statement = match scope {
        "tunnel" => format!(
            "SELECT * FROM {table} WHERE endpoint_id = {endpoint} AND instance_id = '{instance:08x}' AND record_time >= {from} \
             ORDER BY record_time"
        ),
        "endpoint" => {
            format!("SELECT * FROM {totals} WHERE endpoint_id = {endpoint} AND record_time >= {from} ORDER BY record_time")
        }
        _ => format!("SELECT * FROM {totals} WHERE endpoint_id = 0 AND record_time >= {from} ORDER BY record_time"),
    };
    CString::new(statement).expect("no NUL")
}

/// Commits batches of 1,000 events one after the other, as a recorder in a hurry does.
fn flush_for_ever(url: &DatabaseUrl, stop: &AtomicBool, flushed: &AtomicU64) {
    let mut store = DieselStore::open(url, 100, Arc::new(SystemClock)).expect("the database opens");
    let mut ids = IdGenerator::new(0, EventId::ZERO);
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let at = SystemClock.wall();
        let records = (0..1_000).map(|_| {
            number += 1;
            let (endpoint, instance) = (number % ENDPOINTS as u64 + 1, number / ENDPOINTS as u64 % TUNNELS_EACH as u64);
            Record::Event(Event {
                id: ids.next(at),
                endpoint: EndpointId(i32::try_from(endpoint).unwrap_or_default()),
                received_at: at,
                event_time: Some(at),
                kind: EventKind::Update,
                instance: format!("{instance:08x}").as_str().into(),
                sample: Some(Sample { counters: Counters { tcp_rx: number, ..Counters::default() }, ..Sample::default() }),
                config: None,
                detail: None,
                logs: None,
                stored: true,
            })
        });
        let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: at };
        let batch = EventBatch::new(info, Arc::new(records.collect()));
        store.commit_events(&batch).expect("the batch is stored");
        flushed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes the database and fills all levels; gives the number of minutes of tunnels.
fn fill(url: &DatabaseUrl, path: &Path, now: Timestamp, days: i64) -> i64 {
    let mut store = DieselStore::open(url, 100, Arc::new(SystemClock)).expect("the database opens");
    for endpoint in 1..=ENDPOINTS {
        let new = NewEndpoint {
            name: format!("master-{endpoint}"),
            url: format!("http://10.0.0.{endpoint}:9090/api").parse().expect("a URL"),
            api_key: ApiKey::new("none"),
            tls: TlsPolicy::Verify,
            log_events: None,
        };
        store.add_endpoint(&new, now).expect("the endpoint is stored");
    }
    let keys = (1..=ENDPOINTS).flat_map(|endpoint| (0..TUNNELS_EACH).map(move |instance| (endpoint, instance)));
    let config = |(endpoint, instance): (i32, i32)| {
        let url = Redacted::from_store(&format!("client://0.0.0.0:{}/10.0.0.{endpoint}:8080?log=info", 10_000 + instance));
        let config = InstanceConfig {
            alias: Redacted::from_store(&format!("tunnel {instance} of master {endpoint}")),
            kind: Redacted::from_store("client"),
            config: url.clone(),
            url,
            ..InstanceConfig::default()
        };
        (TunnelKey { endpoint: EndpointId(endpoint), instance: name(instance) }, Arc::new(config), EventId(1))
    };
    let changes = LiveChanges { configs: keys.map(config).collect(), ..LiveChanges::default() };
    store.sync_live(&changes).expect("the tunnels are stored");
    drop(store);
    let raw = Raw::open(path);
    // Nothing of this is to survive a crash.
    for pragma in [c"PRAGMA journal_mode = OFF", c"PRAGMA synchronous = OFF", c"PRAGMA cache_size = -65536"] {
        raw.execute(pragma);
    }
    let hour = 60 * MINUTE;
    let midnight = now.0 / DAY * DAY;
    raw.execute(c"BEGIN");
    for (level, table, step, first, last) in [
        ("minute", "service_history", MINUTE, now.0 - days * DAY, now.0),
        ("hour", "history_hours", hour, now.0 / hour * hour - 90 * DAY, now.0),
        ("day", "history_days", DAY, midnight - DAYS_KEPT * DAY, midnight),
    ] {
        let zone = if level == "day" { ", zone_changed" } else { "" };
        let no = if level == "day" { ", 0" } else { "" };
        let figures = "delta_tcp_in, delta_tcp_out, delta_udp_in, delta_udp_out, avg_ping, min_ping, max_ping, avg_pool, avg_tcps, \
                       avg_udps, avg_speed_in, avg_speed_out, record_count, expected_count, ping_count, covered_ms";
        // As store_flush has them: up to a megabit per second, and a ping with a mean that is no whole number.
        let values = "abs(random()) % 7500000, abs(random()) % 75000000, 0, 0, 20.0 + (abs(random()) % 1000) / 7.0, 18, 29, 8, \
                      abs(random()) % 40, 0, abs(random()) % 125000, abs(random()) % 1250000, 12, 12, 12, 60000";
        let times =
            format!("WITH RECURSIVE t(at) AS (SELECT {first} UNION ALL SELECT at + {step} FROM t WHERE at + {step} <= {last})");
        for endpoint in 0..=ENDPOINTS {
            raw.execute(
                &CString::new(format!(
                    "INSERT INTO history_{level}_totals (endpoint_id, record_time, {figures}, tunnels{zone}) {times} \
                 SELECT {endpoint}, at, {values}, {TUNNELS_EACH}{no} FROM t"
                ))
                .expect("no NUL"),
            );
            for instance in (0..TUNNELS_EACH).filter(|_| endpoint > 0) {
                raw.execute(
                    &CString::new(format!(
                        "INSERT INTO {table} (endpoint_id, instance_id, record_time, {figures}{zone}) {times} \
                     SELECT {endpoint}, '{instance:08x}', at, {values}{no} FROM t"
                    ))
                    .expect("no NUL"),
                );
            }
        }
    }
    // Every six hours each master was lost for half a minute.
    for (endpoint, nth) in (1..=ENDPOINTS).flat_map(|endpoint| (1..=90 * 4).map(move |nth| (endpoint, nth))) {
        let from = Timestamp(now.0 - nth * 6 * hour + i64::from(endpoint) * MINUTE);
        let to = Timestamp(from.0 + MINUTE / 2);
        let id = EventId::first_of(to).0 + i64::from(endpoint);
        raw.execute(
            &CString::new(format!(
                "INSERT INTO gaps (id, endpoint_id, instance_id, from_time, to_time, reason) \
             VALUES ({id}, {endpoint}, '', {}, {}, 'connection_lost')",
                from.0, to.0
            ))
            .expect("no NUL"),
        );
    }
    raw.execute(c"COMMIT");
    raw.execute(c"PRAGMA journal_mode = WAL");
    (days * 1_440 + 1) * i64::from(ENDPOINTS * TUNNELS_EACH)
}

/// The id of a tunnel's instance.
fn name(instance: i32) -> InstanceId {
    format!("{instance:08x}").as_str().into()
}

/// A connection as C has it.
struct Raw(*mut c::sqlite3);

impl Raw {
    fn open(path: &Path) -> Self {
        let name = CString::new(path.to_string_lossy().as_bytes()).expect("no NUL in a path");
        let mut db = ptr::null_mut();
        // SAFETY: both pointers are valid for the call.
        assert_eq!(unsafe { c::sqlite3_open(name.as_ptr(), &mut db) }, c::SQLITE_OK);
        Self(db)
    }

    fn execute(&self, sql: &CStr) {
        // SAFETY: the connection is open; the text ends with NUL.
        let code = unsafe { c::sqlite3_exec(self.0, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
        assert_eq!(code, c::SQLITE_OK, "{sql:?}");
    }

    /// Steps through all rows and looks at each value.
    fn read(&self, sql: &CStr) {
        let mut statement = ptr::null_mut();
        // SAFETY: the connection is open; the statement is used until it is finalized, columns within their number.
        unsafe {
            let code = c::sqlite3_prepare_v2(self.0, sql.as_ptr(), -1, &mut statement, ptr::null_mut());
            assert_eq!(code, c::SQLITE_OK, "{sql:?}");
            let columns = c::sqlite3_column_count(statement);
            while c::sqlite3_step(statement) == c::SQLITE_ROW {
                for column in 0..columns {
                    std::hint::black_box(c::sqlite3_column_int64(statement, column));
                }
            }
            c::sqlite3_finalize(statement);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: it was opened by `open`, and no statement is left.
        unsafe { c::sqlite3_close(self.0) };
    }
}
