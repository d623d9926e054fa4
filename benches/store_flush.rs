//! Rows per second from `commit_events` to durable rows, against prepared inserts through SQLite's C API with the same rows,
//! schema, batches and pragmas in the same run; and what a row takes on disk.
//!
//! `cargo bench --bench store_flush [-- ROWS]`; with `TIDEGATE_TEST_POSTGRES` set, PostgreSQL too (no ratio there).
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
// The C API is called as C is; the library itself forbids unsafe code.
#![allow(unsafe_code, missing_docs)]

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use libsqlite3_sys as c;
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::event::{Counters, EndpointId, Event, EventKind, InstanceId, Record, Sample, Status, TunnelKey};
use tidegate::history::InTotals;
use tidegate::history::figures::{Figures, Ping};
use tidegate::id::{EventId, IdGenerator};
use tidegate::store::{DatabaseUrl, DieselStore, EventBatch, FlushCause, FlushInfo, HistoryBatch, HistoryRow, Store};

const BATCH: usize = 1_000;
const TUNNELS: usize = 65;
const NOON: i64 = 1_795_435_200_000_000;

fn main() {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let batches = batches(rows);
    println!("{rows} update events of {TUNNELS} tunnels, {BATCH} per transaction, WAL, synchronous=FULL");
    for _ in 0..3 {
        let directory = tempfile::tempdir().expect("a directory");
        let plain = c_api(&directory.path().join("c.db"), &batches);
        println!("C API, prepared inserts      {:>9.0} rows/s", rows as f64 / plain);
        for batch_size in [1, 10, 100, 1_000] {
            let url: DatabaseUrl =
                format!("sqlite:{}", directory.path().join(format!("{batch_size}.db")).display()).parse().expect("a URL");
            let seconds = store(&url, batch_size, &batches);
            println!(
                "store, batch_size {batch_size:<5}      {:>9.0} rows/s, {:.2} of the C API",
                rows as f64 / seconds,
                plain / seconds
            );
        }
    }
    sizes(&batches);
    if let Ok(text) = std::env::var("TIDEGATE_TEST_POSTGRES") {
        postgres(&text.parse().expect("a URL"), &batches);
    }
}

fn instance(index: usize) -> InstanceId {
    format!("{:08x}", (index as u32).wrapping_mul(2_654_435_761)).as_str().into()
}

fn batches(rows: usize) -> Vec<EventBatch> {
    let mut ids = IdGenerator::new(0, EventId::ZERO);
    let instances: Vec<InstanceId> = (0..TUNNELS).map(instance).collect();
    let records: Vec<Record> = (0..rows)
        .map(|row| {
            let received_at = Timestamp(NOON + row as i64 * 77_123);
            let step = row as u64;
            let counters =
                Counters { tcp_rx: 123_456_789 + step * 7_919, tcp_tx: 9_123_456_789 + step * 104_729, udp_rx: 0, udp_tx: 0 };
            let sample = Sample {
                status: Status::Running,
                counters,
                ping: Some((row % 90) as i32),
                pool: Some(8),
                tcps: Some((row % 40) as i32),
                udps: Some(0),
            };
            Record::Event(Event {
                id: ids.next(received_at),
                endpoint: EndpointId((row % TUNNELS % 25) as i32 + 1),
                received_at,
                event_time: Some(Timestamp(received_at.0 - 1_234)),
                kind: EventKind::Update,
                instance: instances[row % TUNNELS].clone(),
                sample: Some(sample),
                config: None,
                detail: None,
                logs: None,
                stored: true,
            })
        })
        .collect();
    let info = FlushInfo { cause: FlushCause::Threshold, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(NOON) };
    records.chunks(BATCH).map(|chunk| EventBatch::new(info, Arc::new(chunk.to_vec()))).collect()
}

fn store(url: &DatabaseUrl, batch_size: usize, batches: &[EventBatch]) -> f64 {
    let mut store = DieselStore::open(url, batch_size, Arc::new(SystemClock)).expect("the database opens");
    let started = Instant::now();
    for batch in batches {
        store.commit_events(batch).expect("the batch is stored");
    }
    started.elapsed().as_secs_f64()
}

fn postgres(url: &DatabaseUrl, batches: &[EventBatch]) {
    let rows = batches.len() * BATCH;
    for (name, maybe_stored) in [("COPY", false), ("INSERT .. ON CONFLICT", true)] {
        let mut fresh: Vec<EventBatch> = batches.to_vec();
        // Ids of their own, so that each run inserts.
        let offset = (SystemClock.wall().millis() << 1) | i64::from(maybe_stored);
        for batch in &mut fresh {
            batch.maybe_stored = maybe_stored;
            for record in Arc::make_mut(&mut batch.records) {
                let Record::Event(event) = record else { continue };
                event.id.0 += offset;
            }
        }
        println!("PostgreSQL, {name:<22} {:>9.0} rows/s", rows as f64 / store(url, 100, &fresh));
    }
}

/// Bytes per row all in: the file's pages that are in use, after a checkpoint, over the rows.
fn sizes(batches: &[EventBatch]) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = |name: &str| -> DatabaseUrl { format!("sqlite:{}", directory.path().join(name).display()).parse().expect("a URL") };
    let bytes = |name: &str| used_bytes(&directory.path().join(name));
    drop(DieselStore::open(&url("empty.db"), 100, Arc::new(SystemClock)).expect("the database opens"));
    store(&url("events.db"), 100, batches);
    let rows = batches.len() * BATCH;
    println!("update event    {:.1} bytes (with its share of `flushes`)", (bytes("events.db") - bytes("empty.db")) / rows as f64);

    let mut store = DieselStore::open(&url("history.db"), 100, Arc::new(SystemClock)).expect("the database opens");
    let (hours, mut random) = (52_i64, fastrand::Rng::with_seed(1));
    for hour in 0..hours {
        store.commit_history(&history(hour, &mut random)).expect("the batch is stored");
    }
    let rows = (hours * 60) as usize * TUNNELS;
    println!(
        "minute of history {:.1} bytes, with its share of hours, days and totals ({rows} rows, hourly flushes)",
        (bytes("history.db") - bytes("empty.db")) / rows as f64
    );
}

/// An hour of all tunnels with traffic of up to a megabit per second and pings with a mean that is no whole number.
fn history(hour: i64, random: &mut fastrand::Rng) -> HistoryBatch {
    let mut rows = Vec::new();
    for index in 0..TUNNELS {
        for minute in 0..60 {
            let delta = Counters { tcp_rx: random.u64(0..7_500_000), tcp_tx: random.u64(0..75_000_000), udp_rx: 0, udp_tx: 0 };
            let low = random.i32(1..80);
            rows.push(HistoryRow {
                tunnel: TunnelKey { endpoint: EndpointId((index % 25) as i32 + 1), instance: instance(index) },
                minute: Timestamp(NOON + (hour * 60 + minute) * Timestamp::MINUTE),
                figures: Figures {
                    delta,
                    covered_ms: 59_980,
                    ping: Some(Ping { sum: 12 * i64::from(low) + random.i64(0..108), count: 12, min: low, max: low + 9 }),
                    pool: Some(8),
                    tcps: Some(random.i32(0..40)),
                    udps: Some(0),
                    record_count: 12,
                    expected_count: 12,
                },
                in_totals: InTotals::BOTH,
            });
        }
    }
    rows.sort_by(|a, b| (&a.tunnel, a.minute).cmp(&(&b.tunnel, b.minute)));
    let info = FlushInfo { cause: FlushCause::Hourly, boundary: None, skipped_boundaries: 0, cut_at: Timestamp(NOON) };
    let id = EventId(hour + 1);
    HistoryBatch { id, info, through: id, rows, counter_events: Vec::new(), states: Vec::new(), accounts: Vec::new() }
}

fn used_bytes(path: &Path) -> f64 {
    let db = Raw::open(path);
    let pages =
        db.number(c"SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)");
    (pages * 4_096) as f64
}

/// The reference: one prepared statement, bound and stepped for each row.
fn c_api(path: &Path, batches: &[EventBatch]) -> f64 {
    let url: DatabaseUrl = format!("sqlite:{}", path.display()).parse().expect("a URL");
    tidegate::store::migrate(&url).expect("the schema");
    let db = Raw::open(path);
    db.execute(c"PRAGMA synchronous = FULL");
    db.execute(c"PRAGMA wal_autocheckpoint = 1000");
    let insert = db.prepare(c"INSERT INTO endpoint_sse VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let started = Instant::now();
    for batch in batches {
        db.execute(c"BEGIN IMMEDIATE");
        for record in batch.records.iter() {
            let Record::Event(event) = record else { continue };
            // SAFETY: the statement is open, has 16 parameters, and the texts outlive the step that reads them.
            unsafe { bind_and_step(insert, event) };
        }
        db.execute(c"COMMIT");
    }
    let seconds = started.elapsed().as_secs_f64();
    // SAFETY: it was prepared above and is not used after.
    unsafe { c::sqlite3_finalize(insert) };
    seconds
}

unsafe fn bind_and_step(insert: *mut c::sqlite3_stmt, event: &Event) {
    let sample = event.sample.as_ref().expect("an update has a sample");
    let counters = sample.counters;
    // SAFETY: as the caller promises.
    unsafe {
        let text =
            |index, text: &str| c::sqlite3_bind_text(insert, index, text.as_ptr().cast(), text.len() as i32, c::SQLITE_STATIC());
        c::sqlite3_bind_int64(insert, 1, event.id.0);
        text(2, event.kind.as_str());
        c::sqlite3_bind_int64(insert, 3, event.event_time.map_or(0, |time| time.0));
        c::sqlite3_bind_int(insert, 4, event.endpoint.0);
        text(5, event.instance.as_str());
        text(6, sample.status.as_str());
        for (index, counter) in [counters.tcp_rx, counters.tcp_tx, counters.udp_rx, counters.udp_tx].into_iter().enumerate() {
            c::sqlite3_bind_int64(insert, 7 + index as i32, counter as i64);
        }
        for (index, gauge) in [sample.tcps, sample.udps, sample.pool, sample.ping].into_iter().enumerate() {
            c::sqlite3_bind_int(insert, 11 + index as i32, gauge.unwrap_or_default());
        }
        c::sqlite3_bind_null(insert, 15);
        c::sqlite3_bind_null(insert, 16);
        assert_eq!(c::sqlite3_step(insert), c::SQLITE_DONE);
        c::sqlite3_reset(insert);
    }
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

    fn prepare(&self, sql: &CStr) -> *mut c::sqlite3_stmt {
        let mut statement = ptr::null_mut();
        // SAFETY: as above.
        let code = unsafe { c::sqlite3_prepare_v2(self.0, sql.as_ptr(), -1, &mut statement, ptr::null_mut()) };
        assert_eq!(code, c::SQLITE_OK, "{sql:?}");
        statement
    }

    fn number(&self, sql: &CStr) -> i64 {
        let statement = self.prepare(sql);
        // SAFETY: the statement is open and has one column.
        unsafe {
            assert_eq!(c::sqlite3_step(statement), c::SQLITE_ROW);
            let number = c::sqlite3_column_int64(statement, 0);
            c::sqlite3_finalize(statement);
            number
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: it was opened by `open`, and no statement is left.
        unsafe { c::sqlite3_close(self.0) };
    }
}
