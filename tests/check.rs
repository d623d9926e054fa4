//! `tidegate check` with the real binary: says yes to what is whole, and exits with 1 for what is damaged.

use std::path::Path;
use std::process::{Command, Output};

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
fn damage_of_the_database_is_told_and_nothing_is_changed() {
    let directory = recorded();
    let database = directory.path().join("tidegate.db");
    let mut bytes = std::fs::read(&database).unwrap();
    // The second page on holds tables and indexes; noise in the middle of the file hits some of them.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3_000].fill(0xa5);
    std::fs::write(&database, &bytes).unwrap();
    let checked = tidegate(directory.path(), &["check"]);
    assert!(matches!(checked.status.code(), Some(1 | 4)), "{}", text(&checked));
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
}

#[test]
fn without_a_database_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let checked = tidegate(directory.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(4), "{}", text(&checked));
}
