//! How much the recorder writes, against one transaction per event: the same simulated stream through the real recorder into a SQLite
//! file, in the same run. One master with 1, 10, 65 and 1,000 tunnels that report every 5 s, without log lines; live state synced every
//! 5 s and every 60 s. Aims with 65 tunnels: at 5 s 8 times fewer bytes and 98 % fewer transactions, at 60 s 20 times and 99.5 %.
//!
//! `cargo bench --bench writes [-- TUNNELS ...] [disk]`. Bytes are the process's own counters (`/proc/self/io`): `wchar`, what it handed to
//! the system's write calls, from the beginning of a run to its end; of these the recorder's calls of the database. The simulation keeps the
//! journal in memory, so its bytes, which are counted where it writes them, are added to what batches cost, and not to what single
//! transactions cost: those need none. Single transactions write live state themselves; its syncs are a minute apart there. With `disk` the
//! database is a file in the current directory and not in memory: then `write_bytes` counts what went to the disk, synced as
//! a recorder does. That takes long: every transaction waits for the disk.
//!
//! The time is virtual: half an hour and the three quarters of an hour in which a simulation settles (1,000 tunnels: 5 minutes).
#![allow(missing_docs)]

use std::process::ExitCode;
use std::time::Duration;

use tidegate::modes::StorageMode;
use tidegate::sim::compare::{Compared, Cost, REALTIME_SYNC, cost};
use tidegate::sim::options::Database;

const LENGTH: Duration = Duration::from_secs(1_800);
const LENGTH_OF_MANY: Duration = Duration::from_secs(300);
const TUNNELS: [usize; 4] = [1, 10, 65, 1_000];
/// With 65 tunnels: the interval of the sync, so many times fewer bytes, so many percent fewer transactions.
const AIMS: [(u64, f64, f64); 2] = [(5, 8.0, 98.0), (60, 20.0, 99.5)];
const AIMED_AT: usize = 65;

/// Counters of this process.
#[derive(Clone, Copy, Default)]
struct Io {
    /// Bytes handed to write calls.
    wchar: u64,
    /// Bytes that went to a disk.
    write_bytes: u64,
}

impl Io {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
        };
        Self { wchar: of("wchar:"), write_bytes: of("write_bytes:") }
    }

    fn since(self, before: Self) -> Self {
        Self { wchar: self.wchar - before.wchar, write_bytes: self.write_bytes - before.write_bytes }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let on_disk = arguments.iter().any(|argument| argument == "disk");
    let mut tunnels: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if tunnels.is_empty() {
        tunnels.extend(TUNNELS);
    }
    println!(
        "{:>7} {:>10} {:>6} {:>8} {:>13} {:>8} {:>8} {:>8} {:>11} {:>12} {:>11} {:>11}",
        "tunnels",
        "mode",
        "sync",
        "events",
        "transactions",
        "batch",
        "live",
        "other",
        "database kB",
        "journal kB",
        "process kB",
        "disk kB"
    );
    let mut met = true;
    for tunnels in tunnels {
        let (realtime, io) = run(StorageMode::Realtime, tunnels, REALTIME_SYNC, on_disk);
        row(tunnels, StorageMode::Realtime, REALTIME_SYNC, &realtime, io);
        for (seconds, times_aimed, saved_aimed) in AIMS {
            let every = Duration::from_secs(seconds);
            let (batched, written) = run(StorageMode::Batched, tunnels, every, on_disk);
            row(tunnels, StorageMode::Batched, every, &batched, written);
            let compared = Compared::new(tunnels, every, &realtime, &batched);
            let process = io.wchar as f64 / (written.wchar + batched.journal_bytes).max(1) as f64;
            print!(
                "        {:.1} times fewer bytes, journal included ({process:.1} by the process's counter), {:.2} % fewer transactions",
                compared.bytes_times_fewer.unwrap_or_default(),
                compared.transactions_saved_pct
            );
            if on_disk {
                let disk = io.write_bytes as f64 / (written.write_bytes + batched.journal_bytes).max(1) as f64;
                print!(", {disk:.1} times fewer to the disk");
            }
            if tunnels == AIMED_AT {
                let good = process >= times_aimed && compared.transactions_saved_pct >= saved_aimed;
                print!(" (aim {times_aimed} times, {saved_aimed} %: {})", if good { "met" } else { "MISSED" });
                met &= good;
            }
            println!();
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(mode: StorageMode, tunnels: usize, sync: Duration, on_disk: bool) -> (Cost, Io) {
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let database = if on_disk {
        let url = format!("sqlite:{}", directory.path().join("writes.db").display());
        Database::Url(url.parse().expect("a URL"))
    } else {
        Database::Sqlite
    };
    let length = if tunnels >= 1_000 { LENGTH_OF_MANY } else { LENGTH };
    let before = Io::now();
    // A System of its own takes a thread of its own.
    let cost =
        std::thread::spawn(move || cost(mode, tunnels, length, sync, database)).join().expect("no panic").expect("it runs");
    (cost, Io::now().since(before))
}

fn row(tunnels: usize, mode: StorageMode, sync: Duration, Cost { usage, journal_bytes }: &Cost, io: Io) {
    let kilo = |bytes: u64| bytes as f64 / 1e3;
    let journal = if mode == StorageMode::Realtime { "-".to_owned() } else { format!("{:.0}", kilo(*journal_bytes)) };
    println!(
        "{tunnels:>7} {:>10} {:>4} s {:>8} {:>13} {:>8} {:>8} {:>8} {:>11.0} {journal:>12} {:>11.0} {:>11.0}",
        mode.as_str(),
        sync.as_secs(),
        usage.events,
        usage.transactions() - if mode == StorageMode::Realtime { usage.live_transactions } else { 0 },
        usage.batch_transactions,
        usage.live_transactions,
        usage.other_transactions,
        kilo(usage.bytes.unwrap_or_default()),
        kilo(io.wchar),
        kilo(io.write_bytes),
    );
}
