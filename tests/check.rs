//! `tidegate check` with the real binary: says yes to what is whole, and exits with 1 for what is damaged.

use std::path::Path;
use std::process::{Command, Output};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

fn tidegate(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    // A port that nobody listens on, so that no recorder of the machine answers.
    command.args(arguments).args(["--set", "http.listen=127.0.0.1:9999"]).current_dir(directory);
    command.output().expect("the binary can be started")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A database with a replayed capture.
fn recorded() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/go/v1.14.0-edge.sse");
    let replayed = tidegate(directory.path(), &["replay", capture]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed));
    directory
}

#[test]
fn a_recorded_database_is_whole() {
    let directory = recorded();
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    assert!(text(&checked).contains("nothing is wrong"), "{}", text(&checked));
}

#[test]
fn damage_of_the_journal_is_told_with_file_and_exit_code() {
    let directory = recorded();
    let journal = directory.path().join("tidegate.db.journal");
    std::fs::create_dir_all(&journal).unwrap();
    std::fs::write(journal.join("00000000000000000007-0000abcd.events"), b"this is no segment").unwrap();
    let checked = tidegate(directory.path(), &["check", "--json"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["journal"]["damage"][0]["file"].as_str().unwrap().contains("0007-0000abcd"), "{report:#}");
}

#[test]
fn a_journal_that_cannot_be_opened_is_no_journal_that_is_well() {
    let directory = recorded();
    let journal = directory.path().join("tidegate.db.journal");
    assert_eq!(tidegate(directory.path(), &["check"]).status.code(), Some(0), "there need not be one");
    std::fs::write(&journal, b"a file").unwrap();
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(4), "{}", text(&checked));
    assert!(text(&checked).contains("tidegate.db.journal"), "{}", text(&checked));
}

#[test]
fn events_that_are_missing_are_told_unless_their_endpoint_was_purged() {
    let directory = recorded();
    let mut database = SqliteConnection::establish(&directory.path().join("tidegate.db").display().to_string()).unwrap();
    let gone =
        database.batch_execute("DELETE FROM endpoint_sse WHERE id IN (SELECT id FROM endpoint_sse ORDER BY id LIMIT 3 OFFSET 5)");
    gone.unwrap();
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    assert!(text(&checked).contains("3 rows that flushes stored"), "{}", text(&checked));

    let directory = recorded();
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/go/v1.14.0-lifecycle.sse");
    assert_eq!(tidegate(directory.path(), &["replay", other]).status.code(), Some(0));
    let removed = tidegate(directory.path(), &["endpoint", "remove", "v1.14.0-lifecycle", "--purge", "--yes"]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed));
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
}

/// Overwrites pages of the database and checks it: the finding, exit code 1 and what to do, and nothing is changed. With a backup
/// that was made before, what is advised mends it.
fn check_with_noise(place: impl Fn(usize) -> std::ops::Range<usize>) -> String {
    let directory = recorded();
    let backup = tidegate(directory.path(), &["backup", "good.db"]);
    assert_eq!(backup.status.code(), Some(0), "{}", text(&backup));
    let database = directory.path().join("tidegate.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let place = place(bytes.len());
    bytes[place].fill(0xa5);
    std::fs::write(&database, &bytes).unwrap();
    for arguments in [&["check"][..], &["check", "--history", "--json"]] {
        let checked = tidegate(directory.path(), arguments);
        let told = text(&checked);
        assert_eq!(checked.status.code(), Some(1), "{told}");
        assert!(told.contains("tidegate restore BACKUP --force") && told.contains("tidegate.db"), "{told}");
        assert!(!told.contains("run `tidegate check`") && !told.contains('\u{fffd}'), "{told}");
    }
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
    let told = text(&tidegate(directory.path(), &["check"]));
    let restored = tidegate(directory.path(), &["restore", "good.db", "--force"]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored));
    assert_eq!(tidegate(directory.path(), &["check"]).status.code(), Some(0));
    told
}

#[test]
fn a_database_with_noise_in_its_middle_is_damage_and_what_sqlite_finds_is_told_line_by_line() {
    let told = check_with_noise(|length| length / 2..length / 2 + 3_000);
    assert!(told.contains("integrity check: ") || told.contains("malformed"), "{told}");
}

#[test]
fn a_database_of_which_all_but_the_first_page_is_noise_is_damage_and_no_failure() {
    let told = check_with_noise(|length| 4_096..length);
    assert!(told.contains("malformed") || told.contains("integrity check: "), "{told}");
}

#[test]
fn a_database_whose_schema_or_first_bytes_are_noise_is_damage_and_no_failure() {
    let told = check_with_noise(|_| 100..4_096);
    assert!(told.contains("malformed"), "{told}");
    let told = check_with_noise(|_| 0..4_096);
    assert!(told.contains("not a database"), "{told}");
}

#[test]
fn a_database_that_was_cut_off_is_damage_and_no_failure() {
    let directory = recorded();
    let database = directory.path().join("tidegate.db");
    let bytes = std::fs::read(&database).unwrap();
    std::fs::write(&database, &bytes[..bytes.len() / 2]).unwrap();
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
}

#[test]
fn without_a_database_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(4), "{}", text(&checked));
}
