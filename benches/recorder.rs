//! The real binary against masters that send as fast as the socket takes it: what the whole path costs, from the socket to
//! committed rows.
//!
//! `cargo bench --bench recorder -- SECTION [EVENTS]`, with SECTION one of
//! - `path`: rows per second with 1 and with 100 masters, against what the store alone does with the same rows in the same run,
//!   with the journal synced each second, never, and in memory; CPU time of the recorder;
//! - `fleet`: memory and CPU time with 100 masters of 100 tunnels that report each 5 s;
//! - `restart`: bytes per journaled event, and the time from the start of the process until it is ready, by size of the journal.
//!
//! The masters live on one thread of this process, the recorder is a child with a directory of its own under the system's
//! directory for temporary files. Every row is counted at the end: a row that is missing, doubled or out of order fails the run.

#[path = "../tests/common/recorder.rs"]
mod recorder;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use recorder::{Recorder, Setup, number, received, segments, wait};
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::event::{Counters, EndpointId, Event, EventKind, InstanceId, Record, Sample, Status};
use tidegate::id::{EventId, IdGenerator};
use tidegate::sim::master::Version;
use tidegate::store::{DatabaseUrl, DieselStore, EventBatch, FlushCause, FlushInfo, Store};

/// Each measurement is repeated, since other processes disturb it; the median is what counts.
const REPEATS: usize = 3;
/// `storage.max_buffer_size` and `storage.batch_size` as they are by default.
const BATCH: usize = 1_000;
const BATCH_SIZE: usize = 100;
/// Time between two looks at the recorder's statistics.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A run that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let events = words.iter().find_map(|word| word.parse().ok());
    let wanted = |section: &str| words.iter().all(|word| word.parse::<u64>().is_ok()) || words.iter().any(|word| word == section);
    if wanted("path") {
        for masters in [1, 100] {
            path(masters, events.unwrap_or(400_000));
        }
    }
    if wanted("fleet") {
        fleet();
    }
    if wanted("restart") {
        restart(events.unwrap_or(2_000_000));
    }
}

/// Masters that send, and the thread that they live on.
struct Masters {
    all: Vec<LoadServer>,
    load: Load,
    _thread: ServerThread,
}

impl Masters {
    fn start(count: usize, instances: usize, events: u64, per_second: Option<u64>) -> Self {
        let thread = ServerThread::start().expect("a thread");
        let load = Load { version: Version::Go1_14_0, instances, events, per_second, then: AfterLoad::StayOpen };
        let start = |seed| thread.run(|| LoadServer::start(load, Arc::new(SystemClock), seed).expect("a port"));
        Self { all: (0..count as u64).map(start).collect(), load, _thread: thread }
    }

    fn wait_until_one_sends(&self) {
        wait(LIMIT, || self.all.iter().any(|master| !master.sent().is_empty()).then_some(())).expect("a connection");
    }

    /// All that they send beside what each instance is at the beginning.
    fn updates(&self) -> u64 {
        self.all.len() as u64 * self.load.events
    }

    /// Counts every row.
    fn check(&self, database: &Path) {
        let mut database = SqliteConnection::establish(&database.display().to_string()).expect("the database opens");
        let one = |database: &mut SqliteConnection, sql: &str| -> i64 {
            let row: Number = diesel::sql_query(sql).get_result(database).expect("a number");
            row.value
        };
        let rows = one(&mut database, "SELECT count(*) AS value FROM endpoint_sse WHERE event_type = 'update'");
        assert_eq!(rows.unsigned_abs(), self.updates(), "rows in the database");
        let jumps = one(
            &mut database,
            "SELECT count(*) AS value FROM (SELECT tcp_rx - lag(tcp_rx, 1, 0) OVER (PARTITION BY endpoint_id ORDER BY id) AS step \
             FROM endpoint_sse WHERE event_type = 'update' AND tcp_tx = 1) WHERE step <> 1",
        );
        assert_eq!(jumps, 0, "rows that do not follow the one before");
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// What one run of the recorder showed.
struct Run {
    seconds: f64,
    cpu_seconds: f64,
    resident_mb: f64,
}

fn path(count: usize, events: u64) {
    let each = events / count as u64;
    println!("\n{count} masters, {each} events each as fast as the socket takes them");
    let journals: [(&str, &[(&str, &str)]); 3] = [
        ("synced each second", &[]),
        ("never synced", &[("journal.sync_interval", "off")]),
        ("in memory, never synced", &[("journal.sync_interval", "off"), ("journal.dir", MEMORY)]),
    ];
    let mut alone = Vec::new();
    let mut runs: [Vec<Run>; 3] = Default::default();
    let millions = (count as u64 * each) as f64 / 1e6;
    for _ in 0..REPEATS {
        alone.push(store_alone(count, each));
        for ((name, set), runs) in journals.iter().zip(&mut runs) {
            let run = record(&Masters::start(count, 100, each, None), set);
            println!(
                "  journal {name}: {:.0} rows/s, CPU {:.1} s per million, {:.0} MB; store alone {:.0} rows/s",
                millions * 1e6 / run.seconds,
                run.cpu_seconds / millions,
                run.resident_mb,
                millions * 1e6 / alone[alone.len() - 1]
            );
            runs.push(run);
        }
    }
    let alone = median(alone.into_iter());
    let memory = median(runs[2].iter().map(|run| run.seconds));
    for ((name, _), runs) in journals.iter().zip(&runs) {
        let seconds = median(runs.iter().map(|run| run.seconds));
        println!(
            "median, journal {name}: {:.2} of the store alone, {:.2} of the journal in memory, {:.0} rows/s, CPU {:.1} s per million",
            alone / seconds,
            memory / seconds,
            millions * 1e6 / seconds,
            median(runs.iter().map(|run| run.cpu_seconds)) / millions
        );
    }
}

/// Where a journal costs no disk.
const MEMORY: &str = "/dev/shm/tidegate-bench.journal";

/// From the first byte that is sent until all is committed.
fn record(masters: &Masters, set: &[(&str, &str)]) -> Run {
    let setup = set.iter().fold(Setup::sqlite().masters(&masters.all), |setup, (key, value)| setup.set(key, value));
    let cpu_before = children_cpu_seconds();
    let mut run = setup.start();
    masters.wait_until_one_sends();
    let begin = SystemClock.monotonic();
    until_read(&mut run, masters);
    // It goes the way of the events, behind the last of them.
    let (status, answer) = run.request("POST", "/api/v1/flush").expect("an answer");
    let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
    assert!(status == 200, "{status} {answer}");
    let resident_mb = memory_mb(&run, "VmHWM:");
    let stats = run.stats().expect("stats");
    assert!(stats["dropped"].as_object().is_some_and(|dropped| dropped.is_empty()), "dropped: {}", stats["dropped"]);
    run.stop_well();
    masters.check(&setup.database_path());
    Run { seconds, cpu_seconds: children_cpu_seconds() - cpu_before, resident_mb }
}

/// Looks seldom, since a look at 100 endpoints costs the recorder something.
fn until_read(run: &mut Recorder, masters: &Masters) {
    until(run, |stats| number(&stats["events"]["update"]) >= masters.updates());
}

fn until(run: &mut Recorder, condition: impl Fn(&serde_json::Value) -> bool) {
    let reached = wait(LIMIT, || {
        std::thread::sleep(LOOK_EVERY);
        condition(&run.stats()?).then_some(())
    });
    assert!(reached.is_some(), "not all was received: {:#}", run.stats().unwrap_or_default());
}

/// Seconds that the store takes for the same rows, in batches as the recorder cuts them.
fn store_alone(masters: usize, each: u64) -> f64 {
    let mut ids = IdGenerator::new(0, EventId::ZERO);
    let instances: Vec<InstanceId> =
        (0..100_u32).map(|nth| format!("{:08x}", nth.wrapping_mul(2_654_435_761)).as_str().into()).collect();
    let mut records = Vec::new();
    for k in 0..each {
        for endpoint in 1..=masters {
            let received_at = SystemClock.wall();
            let sample = Sample {
                status: Status::Running,
                counters: Counters { tcp_rx: k + 1, tcp_tx: 1, ..Counters::default() },
                ping: Some(0),
                pool: Some(0),
                tcps: Some(0),
                udps: Some(0),
            };
            records.push(Record::Event(Event {
                id: ids.next(received_at),
                endpoint: EndpointId(endpoint as i32),
                received_at,
                event_time: Some(received_at),
                kind: EventKind::Update,
                instance: instances[k as usize % instances.len()].clone(),
                sample: Some(sample),
                config: None,
                detail: None,
                logs: None,
                stored: true,
            }));
        }
    }
    let batches: Vec<EventBatch> = records
        .chunks(BATCH)
        .map(|records| {
            let cut_at = SystemClock.wall();
            let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at };
            EventBatch::new(info, Arc::new(records.to_vec()))
        })
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let url: DatabaseUrl = format!("sqlite:{}", directory.path().join("tide.db").display()).parse().expect("a URL");
    let mut store = DieselStore::open(&url, BATCH_SIZE, Arc::new(SystemClock)).expect("the database opens");
    let begin = SystemClock.monotonic();
    for batch in &batches {
        store.commit_events(batch).expect("the batch is stored");
    }
    (SystemClock.monotonic() - begin).as_secs_f64()
}

/// CPU time is told of the whole run, the start with its 10,000 new tunnels included, and of what follows these seconds.
const SETTLED_AFTER_SECS: u64 = 15;

fn fleet() {
    let seconds = 300;
    println!("\n100 masters of 100 tunnels, a report of each tunnel every 5 s, for {seconds} s");
    let masters = Masters::start(100, 100, 20 * seconds, Some(20));
    let setup = Setup::sqlite().masters(&masters.all);
    let cpu_before = children_cpu_seconds();
    let mut run = setup.start();
    // It is asked nothing meanwhile: the answers would be part of what is measured.
    std::thread::sleep(Duration::from_secs(SETTLED_AFTER_SECS));
    let at_first = cpu_seconds_of(&format!("/proc/{}/stat", run.pid()), OWN);
    std::thread::sleep(Duration::from_secs(seconds - SETTLED_AFTER_SECS));
    let settled = cpu_seconds_of(&format!("/proc/{}/stat", run.pid()), OWN) - at_first;
    until_read(&mut run, &masters);
    let (resident, highest) = (memory_mb(&run, "VmRSS:"), memory_mb(&run, "VmHWM:"));
    run.stop_well();
    masters.check(&setup.database_path());
    let cpu_seconds = children_cpu_seconds() - cpu_before;
    let updates = masters.updates() as f64;
    println!(
        "resident {resident:.1} MB, at most {highest:.1} MB; CPU {:.1} s per million updates, start and stop included, {:.1} once started",
        cpu_seconds * 1e6 / updates,
        settled * 1e6 / (updates * (seconds - SETTLED_AFTER_SECS) as f64 / seconds as f64)
    );
}

fn restart(events: u64) {
    println!("\na start with {events} events in the journal, the database locked by another process while they came");
    let masters = Masters::start(1, 100, events, None);
    let setup = Setup::sqlite().masters(&masters.all);
    let mut run = setup.start();
    masters.wait_until_one_sends();
    let mut lock = SqliteConnection::establish(&setup.database_path().display().to_string()).expect("the database opens");
    lock.batch_execute("PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE").expect("the lock");
    until(&mut run, |stats| received(stats) >= masters.updates());
    run.kill();
    drop(lock);
    let journal = segments(&setup.journal());
    let first = journal.first().expect("a segment");
    assert!(first.trim_start_matches('0').starts_with("1-"), "no segment may have gone yet, and the first is {first}");
    let bytes: u64 = journal.iter().map(|name| std::fs::metadata(setup.journal().join(name)).expect("a file").len()).sum();
    println!("{:.1} bytes per journaled event", bytes as f64 / masters.updates() as f64);
    // What it would send to the next recorder is not part of the start.
    drop(masters);
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let begin = SystemClock.monotonic();
        let mut run = setup.start();
        wait(LIMIT, || matches!(run.request("GET", "/readyz"), Ok((200, _))).then_some(())).expect("it is ready");
        let seconds = (SystemClock.monotonic() - begin).as_secs_f64();
        let highest = memory_mb(&run, "VmHWM:");
        run.kill();
        println!("  ready after {seconds:.2} s, at most {highest:.0} MB resident");
        times.push(seconds);
    }
    let seconds = median(times.into_iter());
    println!("median: {:.1} s per GiB of journal", seconds * f64::from(1 << 30) / bytes as f64);
}

/// CPU time, user and system, of children that have ended.
fn children_cpu_seconds() -> f64 {
    cpu_seconds_of("/proc/self/stat", OF_CHILDREN)
}

/// Places of user and system time in `/proc/PID/stat`, after the name.
const OWN: usize = 11;
const OF_CHILDREN: usize = 13;

fn cpu_seconds_of(stat: &str, place: usize) -> f64 {
    let stat = std::fs::read_to_string(stat).expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let ticks: Vec<f64> = after_name.split_whitespace().skip(place).take(2).map(|word| word.parse().expect("ticks")).collect();
    ticks.iter().sum::<f64>() / 100.0
}

fn memory_mb(run: &Recorder, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("kilobytes") * 1024.0 / 1e6
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
