//! `tidegate backup` and `tidegate restore` with the real binary: beside a recorder that works, after its end, and with files
//! that are not what they should be.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;

mod postgres;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use recorder::{Setup, number, received, segments};
use serde_json::Value;
use tidegate::clock::SystemClock;
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/go/v1.14.0-edge.sse");

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must end with this code.
fn run(setup: &Setup, code: i32, arguments: &[&str]) -> String {
    let output = setup.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// Runs a command with `--json` that must end with this code.
fn json(setup: &Setup, code: i32, arguments: &[&str]) -> Value {
    let output = setup.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

/// A setup whose database holds a replayed capture.
fn recorded() -> Setup {
    let setup = Setup::sqlite();
    run(&setup, 0, &["replay", "--as", "tokyo", CAPTURE]);
    setup
}

fn path(setup: &Setup, name: &str) -> String {
    setup.path(name).display().to_string()
}

/// All rows of all tables that tell what was recorded.
fn content(database: &Path) -> Vec<String> {
    let mut connection = stored::connect(&format!("sqlite:{}", database.display()));
    let tables = ["endpoint_sse", "service_history", "endpoints", "tunnels", "gaps", "flushes"];
    let texts = |table: &&str| {
        let columns: Vec<String> =
            connection.texts(&format!("SELECT name AS value FROM pragma_table_info('{table}') ORDER BY cid"));
        let all: Vec<String> = columns.iter().map(|column| format!("coalesce(quote(\"{column}\"), '')")).collect();
        connection.texts(&format!("SELECT '{table} ' || {} AS value FROM {table} ORDER BY 1", all.join(" || ' ' || ")))
    };
    tables.iter().flat_map(texts).collect()
}

fn files(setup: &Setup) -> Vec<String> {
    let directory = setup.database_path().parent().unwrap().to_owned();
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_private_whole_and_restored_to_the_same_rows() {
    let setup = recorded();
    let backup = path(&setup, "copy.db");
    let report = json(&setup, 0, &["backup", &backup]);
    let mode = std::fs::metadata(&backup).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(report["flushed"], Value::Null);
    assert!(number(&report["rows"]["endpoint_sse"]) > 0, "{report:#}");
    assert_eq!(content(Path::new(&backup)), content(&setup.database_path()));
    assert!(!files(&setup).iter().any(|name| name.contains("partial") || name.starts_with("copy.db-")), "{:?}", files(&setup));

    let elsewhere = Setup::sqlite();
    let restored = json(&elsewhere, 0, &["restore", &backup]);
    assert_eq!(restored["kept_aside"], Value::Null);
    assert_eq!(restored["rows"], report["rows"]);
    assert_eq!(content(&elsewhere.database_path()), content(&setup.database_path()));
    assert!(run(&elsewhere, 0, &["check"]).contains("nothing is wrong"));
}

#[test]
fn a_file_that_is_there_is_replaced_with_force_only_and_never_the_database_itself() {
    let setup = recorded();
    let backup = path(&setup, "copy.db");
    std::fs::write(&backup, "precious").unwrap();
    assert!(run(&setup, 2, &["backup", &backup]).contains("--force"));
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), "precious");
    run(&setup, 0, &["backup", &backup, "--force"]);
    assert!(std::fs::read(&backup).unwrap().starts_with(b"SQLite format 3"));
    let database = path(&setup, "tide.db");
    assert!(run(&setup, 2, &["backup", &database, "--force"]).contains("database itself"));
    assert!(run(&setup, 2, &["restore", &database, "--force"]).contains("database itself"));
    run(&setup, 0, &["check"]);
}

#[test]
fn a_damaged_database_gives_no_backup_and_leaves_an_older_one_alone() {
    let setup = recorded();
    let backup = path(&setup, "copy.db");
    run(&setup, 0, &["backup", &backup]);
    let good = std::fs::read(&backup).unwrap();
    let mut bytes = std::fs::read(setup.database_path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xa5);
    std::fs::write(setup.database_path(), &bytes).unwrap();
    let output = setup.run(&["backup", &backup, "--force"]);
    assert!(matches!(output.status.code(), Some(1 | 4)), "{}", text(&output));
    assert_eq!(std::fs::read(&backup).unwrap(), good);
    assert!(!setup.path("copy.db.partial").exists());
}

#[test]
fn what_is_no_backup_is_not_restored_and_changes_nothing() {
    let setup = recorded();
    let before = content(&setup.database_path());
    let noise = path(&setup, "noise.db");
    std::fs::write(&noise, vec![7; 20_000]).unwrap();
    run(&setup, 4, &["restore", &noise, "--force"]);

    let foreign = path(&setup, "foreign.db");
    stored::connect(&format!("sqlite:{foreign}")).execute("CREATE TABLE notes (text TEXT)");
    assert!(run(&setup, 4, &["restore", &foreign, "--force"]).contains("not a tidegate database"));

    let newer = path(&setup, "newer.db");
    run(&setup, 0, &["backup", &newer]);
    stored::connect(&format!("sqlite:{newer}"))
        .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')");
    assert!(run(&setup, 4, &["restore", &newer, "--force"]).contains("newer tidegate"));

    let damaged = path(&setup, "damaged.db");
    run(&setup, 0, &["backup", &damaged]);
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xa5);
    std::fs::write(&damaged, &bytes).unwrap();
    let output = setup.run(&["restore", &damaged, "--force"]);
    assert!(matches!(output.status.code(), Some(1 | 4)), "{}", text(&output));

    assert!(run(&setup, 2, &["restore", &path(&setup, "nowhere.db")]).contains("there is no file"));
    let text_file = path(&setup, "notes.txt");
    std::fs::write(&text_file, "not a database").unwrap();
    assert!(run(&setup, 4, &["restore", &text_file, "--force"]).contains("notes.txt is no backup"));
    let told = run(&setup, 2, &["backup", &path(&setup, "nowhere/x.db")]);
    assert!(told.contains("there is no directory") && !told.contains(".partial"), "{told}");
    assert_eq!(content(&setup.database_path()), before);
    assert!(!files(&setup).iter().any(|name| name.contains("restor")), "{:?}", files(&setup));
}

#[test]
fn a_database_with_data_is_replaced_with_force_only_and_kept_aside() {
    let setup = recorded();
    let backup = path(&setup, "copy.db");
    run(&setup, 0, &["backup", &backup]);
    let backed_up = content(&setup.database_path());
    run(&setup, 0, &["endpoint", "add", "paris", "http://127.0.0.1:9", "--no-api-key"]);
    let later = content(&setup.database_path());
    assert_ne!(later, backed_up);

    assert!(run(&setup, 2, &["restore", &backup]).contains("holds data"));
    assert_eq!(content(&setup.database_path()), later);
    let report = json(&setup, 0, &["restore", &backup, "--force"]);
    assert_eq!(content(&setup.database_path()), backed_up);
    let aside = PathBuf::from(report["kept_aside"].as_str().unwrap());
    assert_eq!(content(&aside), later);
    assert_eq!(std::fs::metadata(&aside).unwrap().permissions().mode() & 0o777, 0o600);
    run(&setup, 0, &["check"]);
}

/// Masters that send so many events at once and are silent then.
fn masters(events: u64) -> (ServerThread, LoadServer) {
    let servers = ServerThread::start().unwrap();
    let load = Load { version: Version::Go1_14_0, instances: 3, events, per_second: Some(5_000), then: AfterLoad::StayOpen };
    let master = servers.run(|| LoadServer::start(load, Arc::new(SystemClock), 7).unwrap());
    (servers, master)
}

#[test]
fn beside_a_recorder_everything_received_before_is_in_the_backup() {
    const EVENTS: u64 = 700;
    let (_servers, master) = masters(EVENTS);
    let setup = Setup::sqlite().masters([&master]);
    let mut recorder = setup.start_and_wait();
    recorder.until("all is received", |stats| received(stats) >= EVENTS);
    let backup = path(&setup, "copy.db");
    let report = json(&setup, 0, &["backup", &backup]);
    assert!(number(&report["flushed"]["committed"]) > 0, "{report:#}");
    assert_eq!(report["flushed"]["waiting"], 0);
    assert!(number(&report["rows"]["endpoint_sse"]) >= EVENTS, "{report:#}");
    // It records on, and nobody takes its database away meanwhile.
    assert!(run(&setup, 4, &["restore", &backup, "--force"]).contains(&format!("in use by pid {}", recorder.pid())));
    recorder.stop_well();
}

/// The database is locked, so that nothing can be flushed: the backup is made all the same, and says what is not in it.
#[test]
fn what_waits_in_the_journal_is_counted_and_is_stored_after_a_restore() {
    const EVENTS: u64 = 300;
    let (_servers, master) = masters(EVENTS);
    let setup = Setup::sqlite().masters([&master]);
    let mut recorder = setup.start_and_wait();
    recorder.until("all is received", |stats| received(stats) >= EVENTS);
    let mut lock = stored::connect(setup.database_url());
    lock.execute("BEGIN IMMEDIATE");
    let backup = path(&setup, "copy.db");
    let report = json(&setup, 0, &["backup", &backup]);
    assert!(number(&report["flushed"]["waiting"]) >= EVENTS, "{report:#}");
    assert_eq!(number(&report["rows"]["endpoint_sse"]), 0, "{report:#}");
    recorder.kill();
    lock.execute("ROLLBACK");
    drop(lock);

    assert!(!segments(&setup.journal()).is_empty());
    let restored = json(&setup, 0, &["restore", &backup, "--force"]);
    assert_eq!(restored["journal"]["kept_aside"], Value::Null, "{restored:#}");
    assert!(number(&restored["journal"]["events"]) >= EVENTS, "{restored:#}");
    let mut recorder = setup.start_and_wait();
    recorder.until("the journal is stored", |stats| number(&stats["optimized_storage"]["waiting_batches"]) == 0);
    recorder.stop_well();
    let mut database = stored::connect(setup.database_url());
    stored::assert_prefixes(&mut database, std::slice::from_ref(&master));
    assert!(stored::rows(&mut database) >= EVENTS);
    run(&setup, 0, &["check"]);
}

/// The numbers of another database's endpoints are other masters: their events must not be counted to these.
#[test]
fn a_journal_of_other_endpoints_is_kept_aside_with_its_database() {
    const EVENTS: u64 = 300;
    let other = recorded();
    let backup = path(&other, "copy.db");
    run(&other, 0, &["backup", &backup]);

    let (_servers, master) = masters(EVENTS);
    let setup = Setup::sqlite().masters([&master]);
    let mut recorder = setup.start_and_wait();
    recorder.until("all is received", |stats| received(stats) >= EVENTS);
    recorder.kill();
    let segments_before = segments(&setup.journal());
    assert!(!segments_before.is_empty());
    let restored = json(&setup, 0, &["restore", &backup, "--force"]);
    let aside = PathBuf::from(restored["journal"]["kept_aside"].as_str().unwrap());
    assert_eq!(segments(&aside), segments_before);
    assert!(!setup.journal().exists());
    assert_eq!(content(&setup.database_path()), content(&other.database_path()));
}

#[test]
fn a_postgresql_database_is_left_to_its_own_tools() {
    let database = postgres::TestDatabase::postgres();
    let setup = Setup::on_database(&database.url_text());
    let told = run(&setup, 2, &["backup", "copy.db"]);
    assert!(told.contains("pg_dump") && !told.contains("scratch"), "{told}");
    let told = run(&setup, 2, &["restore", "copy.db"]);
    assert!(told.contains("pg_restore") && !told.contains("scratch"), "{told}");
    assert!(!setup.path("copy.db").exists());
}
