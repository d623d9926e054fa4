//! A segment of the journal is removed only after the database has synced its batch. No kill of a process can show this: the
//! system call trace of the real binary does.
//!
//! Needs `strace` and the right to trace a child.

#[path = "common/recorder.rs"]
mod recorder;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use recorder::{Setup, flushes, received, segments};
use tidegate::clock::SystemClock;
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;

/// Events of a batch.
const BATCH: u64 = 500;
/// Batches of the run; with its one `initial` event the master sends exactly so many.
const BATCHES: u64 = 5;
/// Bytes in the database's log by which the commit of such a batch is told from one of live state or history.
const BATCH_BYTES_MIN: u64 = 24 << 10;

/// A call that the kernel was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    name: String,
    /// The file, without its directory.
    file: String,
    /// Position in the trace when it was begun, and when its result was there.
    begun: usize,
    done: usize,
    /// What it returned; negative where it failed.
    result: i64,
}

/// Reads the output of `strace -f -y`: calls that others interrupt stand in two lines.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for (position, line) in trace.lines().enumerate() {
        let Some((thread, line)) = line.trim_start().split_once(' ') else { continue };
        let line = line.trim_start();
        if let Some(begin) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, (position, begin.to_owned()));
            continue;
        }
        let (begun, whole) = match line.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, end)) => {
                let Some((begun, begin)) = unfinished.remove(thread) else { continue };
                (begun, begin + end)
            }
            None => (position, line.to_owned()),
        };
        let Some((name, arguments)) = whole.split_once('(') else { continue };
        let result = whole.rsplit_once("= ").and_then(|(_, result)| result.split(' ').next()?.parse().ok());
        // `pwrite64(9</tmp/x/tide.db-wal>, ...` or `unlink("/tmp/x/...")`
        let path = match name {
            "unlink" | "unlinkat" => arguments.split('"').nth(1),
            _ => arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path),
        };
        let Some(file) = path.and_then(|path| path.rsplit('/').next()) else { continue };
        calls.push(Call { name: name.to_owned(), file: file.to_owned(), begun, done: position, result: result.unwrap_or(-1) });
    }
    calls
}

fn is_segment(file: &str) -> bool {
    file.ends_with(".events") || file.ends_with(".history")
}

/// What is wrong with the order of calls; the number of removals that are right.
///
/// Batches are committed in order and their segments removed in order, so when the n-th segment of events goes, n commits of batches
/// must have been written to the database's log *and* synced. A segment of history must have been followed by any synced commit.
fn judge(calls: &[Call]) -> Result<usize, String> {
    let is_write = |call: &&Call| matches!(call.name.as_str(), "write" | "pwrite64" | "writev" | "pwritev");
    let is_log = |call: &&Call| call.file.ends_with("-wal");
    let syncs =
        || calls.iter().filter(is_log).filter(|call| matches!(call.name.as_str(), "fsync" | "fdatasync") && call.result == 0);
    let written = |from: usize, to: usize| -> u64 {
        let bytes = calls.iter().filter(is_log).filter(is_write).filter(|call| from <= call.begun && call.done < to);
        bytes.map(|call| call.result.max(0).unsigned_abs()).sum()
    };
    // When each commit was durable, and how many bytes it had.
    let mut commits = Vec::new();
    let mut from = 0;
    for sync in syncs() {
        commits.push((from, sync.done, written(from, sync.begun)));
        from = sync.begun;
    }
    let mut batches_removed = 0;
    let mut removed = 0;
    for unlink in calls.iter().filter(|call| call.name.starts_with("unlink") && is_segment(&call.file)) {
        if unlink.file.ends_with(".events") {
            batches_removed += 1;
            let durable = commits.iter().filter(|(_, done, bytes)| *done < unlink.begun && *bytes >= BATCH_BYTES_MIN).count();
            if durable < batches_removed {
                return Err(format!("{unlink:?}: the {batches_removed}. batch goes, {durable} are durable in the database"));
            }
        } else {
            let appended = calls.iter().filter(is_write).filter(|call| call.file == unlink.file).map(|call| call.done).max();
            let appended = appended.ok_or_else(|| format!("{unlink:?}: nothing was ever written to it"))?;
            let durable = commits.iter().any(|(_, done, _)| *done < unlink.begun && written(appended, *done) > 0);
            if !durable {
                return Err(format!("{unlink:?}: no commit was made durable between its writing and its removal"));
            }
        }
        removed += 1;
    }
    Ok(removed)
}

#[test]
fn the_database_syncs_a_batch_before_its_segment_is_removed() {
    assert!(
        Command::new("strace").args(["-f", "-e", "trace=fsync", "true"]).output().is_ok_and(|output| output.status.success()),
        "this test needs strace and the right to use it (apt-get install strace; in a container, the capability SYS_PTRACE)"
    );
    let servers = ServerThread::start().expect("a thread for the master");
    let events = BATCHES * BATCH - 1;
    let load = Load { version: Version::Go1_14_0, instances: 1, events, per_second: Some(BATCH), then: AfterLoad::StayOpen };
    let master = servers.run(|| LoadServer::start(load, Arc::new(SystemClock), 1).expect("a port"));
    let setup = Setup::sqlite();
    let trace = setup.path("trace").display().to_string();
    let wanted = "trace=fsync,fdatasync,unlink,unlinkat,rename,write,pwrite64,writev,pwritev";
    let setup = setup
        .masters([&master])
        .set("storage.max_buffer_size", &BATCH.to_string())
        .set("cache.sync_interval", "1s")
        // In a small journal history is handed over early, so that segments go while it runs.
        .set("journal.max_bytes", "256 KiB")
        .under(&["strace", "-f", "-y", "-q", "-s", "0", "-e", wanted, "-e", "signal=none", "-o", &trace]);
    let mut run = setup.start();
    run.until("all batches are stored", |stats| flushes(stats) >= BATCHES && received(stats) == events + 1);
    println!("{} segments are left before the end", segments(&setup.journal()).len());
    // The recorder is strace's child.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid())).expect("strace has a child");
    let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a process id");
    kill(Pid::from_raw(child), Signal::SIGTERM).expect("it can be signalled");
    let ended = run.ended();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(segments(&setup.journal()).is_empty());

    let trace = std::fs::read_to_string(&trace).expect("strace has written");
    let calls = calls(&trace);
    match judge(&calls) {
        Ok(removed) => assert!(removed >= 5, "only {removed} removals in the trace\n{}", relevant(&calls)),
        Err(wrong) => panic!("{wrong}\n{}", relevant(&calls)),
    }
}

fn relevant(calls: &[Call]) -> String {
    let lines = calls.iter().filter(|call| is_segment(&call.file) || call.file.contains("tide.db"));
    lines.map(|call| format!("{call:?}\n")).collect()
}

/// The judge itself: good and bad orders, also of calls that overlap.
#[test]
fn a_removal_before_the_sync_or_during_it_is_noticed() {
    const APPEND: &str = "1 write(5</j/01-a.history>, \"\"..., 80) = 80\n";
    const STORE: &str = "2 pwrite64(7</d/tide.db-wal>, \"\"..., 32768, 32) = 32768\n";
    const LIVE: &str = "2 pwrite64(7</d/tide.db-wal>, \"\"..., 4096, 32) = 4096\n2 fdatasync(7</d/tide.db-wal>) = 0\n";
    const SYNC: &str = "2 fdatasync(7</d/tide.db-wal>) = 0\n";
    const SYNC_BEGUN: &str = "2 fdatasync(7</d/tide.db-wal> <unfinished ...>\n";
    const SYNC_DONE: &str = "2 <... fdatasync resumed>) = 0\n";
    const SYNC_FAILED: &str = "2 fdatasync(7</d/tide.db-wal>) = -1 EIO (Input/output error)\n";
    const REMOVE: &str = "1 unlink(\"/j/02-a.events\") = 0\n";
    const REMOVE_HISTORY: &str = "1 unlink(\"/j/01-a.history\") = 0\n";
    let judged = |parts: &[&str]| judge(&calls(&parts.concat()));
    for (removed, right) in [
        (1, vec![STORE, SYNC, REMOVE]),
        (1, vec![STORE, SYNC_BEGUN, SYNC_DONE, REMOVE]),
        (2, vec![STORE, SYNC, REMOVE, LIVE, STORE, SYNC, STORE, REMOVE]),
        (1, vec![APPEND, LIVE, REMOVE_HISTORY]),
    ] {
        assert_eq!(judged(&right), Ok(removed), "{right:?}");
    }
    for wrong in [
        vec![STORE, REMOVE, SYNC],
        vec![REMOVE, STORE, SYNC],
        vec![LIVE, REMOVE],
        vec![STORE, SYNC, REMOVE, LIVE, REMOVE],
        vec![STORE, SYNC_FAILED, REMOVE],
        vec![STORE, SYNC_BEGUN, REMOVE, SYNC_DONE],
        vec![LIVE, APPEND, REMOVE_HISTORY],
        vec![APPEND, STORE, REMOVE_HISTORY, SYNC],
    ] {
        assert!(judged(&wrong).is_err(), "{wrong:?}");
    }
}
