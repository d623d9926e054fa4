//! What a row takes in SQLite, all in: the promise that a database stays small.

use tidegate::clock::Timestamp;
use tidegate::event::{Counters, Event, EventKind, Record, Sample};
use tidegate::history::figures::{Figures, Ping};
use tidegate::id::{EventId, IdGenerator};
use tidegate::store::{HistoryRow, Store};

use crate::postgres::TestDatabase;
use crate::sample::{NOON, batch, event, history, minute, open, reported, tunnel};

fn used_bytes(database: &TestDatabase) -> i64 {
    database.number(
        "SELECT (page_count - freelist_count) * page_size AS value FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
}

/// All pages of a table, with what is free in them.
fn table_bytes(database: &TestDatabase, table: &str) -> i64 {
    database.number(&format!("SELECT SUM(pgsize) AS value FROM dbstat WHERE name = '{table}'"))
}

#[test]
fn an_update_takes_at_most_110_bytes() {
    const ROWS: i64 = 20_000;
    let database = TestDatabase::sqlite();
    let mut store = open(&database);
    let before = used_bytes(&database);
    let mut ids = IdGenerator::new(7, EventId::ZERO);
    let updates: Vec<Record> = (0..ROWS)
        .map(|n| {
            let received_at = Timestamp(NOON.0 + n * 77_123);
            // Counters of a busy year: terabytes, five to six bytes each.
            let counters = Counters {
                tcp_rx: 1_234_567_890_123 + n.unsigned_abs() * 7_919,
                tcp_tx: 91_234_567_890_123 + n.unsigned_abs() * 104_729,
                udp_rx: 1_234_567_890 + n.unsigned_abs(),
                udp_tx: 1_234_567_890 + n.unsigned_abs(),
            };
            let sample = Sample { counters, ping: Some(180), pool: Some(64), tcps: Some(300), udps: Some(20), ..reported() };
            let event_time = Some(Timestamp(received_at.0 - 1_234));
            Record::Event(Event { id: ids.next(received_at), received_at, event_time, sample: Some(sample), ..event(1) })
        })
        .collect();
    assert!(matches!(&updates[0], Record::Event(Event { kind: EventKind::Update, .. })));
    for thousand in updates.chunks(1_000) {
        store.commit_events(&batch(thousand.to_vec())).unwrap();
    }
    let bytes = (used_bytes(&database) - before) as f64 / ROWS as f64;
    assert!(bytes <= 110.0, "{bytes:.1} bytes for an update");
}

#[test]
fn a_minute_of_history_takes_at_most_95_bytes() {
    const TUNNELS: i64 = 65;
    const HOURS: i64 = 12;
    let database = TestDatabase::sqlite();
    let mut store = open(&database);
    for hour in 0..HOURS {
        let rows = (0..TUNNELS * 60).map(|n| {
            let noise = ((hour * TUNNELS * 60 + n) * 7_919 % 1_000).unsigned_abs();
            // A gigabit per second both ways, all day.
            let delta = Counters { tcp_rx: 7_500_000_000 - noise, tcp_tx: 7_400_000_000 + noise, udp_rx: noise, udp_tx: noise };
            HistoryRow {
                tunnel: tunnel(&format!("{:08x}", n / 60 * 2_654_435)),
                figures: Figures {
                    delta,
                    covered_ms: 59_980,
                    ping: Some(Ping { sum: 12 * 33 + noise as i64, count: 12, min: 20, max: 180 }),
                    pool: Some(64),
                    tcps: Some(300),
                    ..minute("", 0).figures
                },
                ..minute("", hour * 60 + n % 60)
            }
        });
        store.commit_history(&history(hour + 1, hour, rows.collect())).unwrap();
    }
    let bytes = table_bytes(&database, "service_history") as f64 / (HOURS * TUNNELS * 60) as f64;
    assert!(bytes <= 95.0, "{bytes:.1} bytes for a minute");
}
