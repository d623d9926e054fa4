//! The commands against a running recorder: the real binary, the real server, a recorder in memory.

#[allow(dead_code, reason = "each test program uses a part")]
mod cli_support;

use cli_support::{fake, nobody, run, run_with, serve, serve_as};
use std::sync::Arc;

use serde_json::json;
use tidegate::endpoint::TlsPolicy;
use tidegate::event::InstanceConfig;
use tidegate::redact::Redacted;

const KEY: &str = "fa4ec0de000000000000000000000000";
const OTHER_KEY: &str = "0123c0de000000000000000000000000";

#[test]
fn an_endpoint_lives_through_all_its_commands_and_its_key_is_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let fake = fake();
    let at = serve(&fake, path, None);
    let mut printed = String::new();
    let mut tidegate = |arguments: &[&str], environment: &[(&str, &str)], input: &str| {
        let mut all = vec!["endpoint"];
        all.extend(arguments);
        all.extend([at.as_str(), "--json"]);
        let ran = run_with(path, &all, environment, input);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        printed.push_str(&ran.stdout);
        printed.push_str(&ran.stderr);
        ran.json()
    };
    let key = || fake.state().endpoints["東京"].api_key.reveal().to_owned();

    let added =
        tidegate(&["add", "東京", "https://10.0.0.5:9090", "--tls", "pin", "--api-key-file", "-"], &[], &format!("{KEY}\n"));
    assert_eq!(
        (&added["name"], &added["url"], &added["tls"]),
        (&json!("東京"), &json!("https://10.0.0.5:9090/api"), &json!("pin"))
    );
    assert_eq!(key(), KEY);

    // A key in the environment is for who asks for it: this changes the address only.
    let changed = tidegate(&["set", "東京", "--url", "https://10.0.0.6:9090"], &[("TIDEGATE_API_KEY", OTHER_KEY)], "");
    assert_eq!((&changed["url"], key().as_str()), (&json!("https://10.0.0.6:9090/api"), KEY));
    tidegate(&["set", "東京"], &[("TIDEGATE_API_KEY", OTHER_KEY)], "");
    assert_eq!(key(), OTHER_KEY);

    tidegate(&["set", "東京", "--pin", &"ab".repeat(32), "--log-events", "false"], &[], "");
    assert_eq!(fake.state().endpoints["東京"].log_events, Some(false));
    assert_eq!(tidegate(&["trust", "東京"], &[], "")["pin"], json!(null));
    assert_eq!(fake.state().endpoints["東京"].tls, TlsPolicy::Pin(None));
    assert_eq!(tidegate(&["pause", "東京"], &[], "")["paused"], json!(true));
    assert_eq!(tidegate(&["resume", "東京"], &[], "")["paused"], json!(false));
    assert_eq!(tidegate(&["list"], &[], "")["endpoints"][0]["name"], json!("東京"));
    assert_eq!(tidegate(&["remove", "東京", "--purge", "--yes"], &[], ""), json!({"removed": "東京", "purged": true}));
    assert_eq!(fake.state().purged, ["東京"]);
    assert!(!printed.contains(KEY) && !printed.contains(OTHER_KEY), "{printed}");
}

#[test]
fn what_the_recorder_refuses_is_told_with_its_reason_and_code() {
    let directory = tempfile::tempdir().unwrap();
    let fake = fake();
    let at = serve(&fake, directory.path(), None);
    let add = ["endpoint", "add", "tokyo", "http://10.0.0.5:9090", "--no-api-key", &at];
    assert_eq!(run(directory.path(), &add).code, 0);
    for (arguments, code, reason) in [
        (&add[..], 2, "taken"),
        (&["endpoint", "pause", "paris", &at], 2, "no endpoint named `paris`"),
        (&["endpoint", "trust", "tokyo", &at], 2, "pins no certificate"),
        (&["tunnels", "--endpoint", "paris", &at], 2, "no endpoint named `paris`"),
        (&["tunnels", "tokyo/cccc0000", &at], 2, "no tunnel `tokyo/cccc0000`"),
    ] {
        let ran = run(directory.path(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_master_that_nobody_follows_yet_is_listed_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let at = nobody();
    assert_eq!(run(directory.path(), &["endpoint", "add", "tokyo", "http://10.0.0.5:9090", "--no-api-key", &at]).code, 0);
    let listed = run(directory.path(), &["endpoint", "list", &at]);
    assert!(
        listed.stdout.contains("OFFLINE") && listed.stdout.contains("not followed yet; start `tidegate run`"),
        "{}",
        listed.stdout
    );
    assert_eq!(run(directory.path(), &["endpoint", "pause", "tokyo", &at]).code, 0);
    let paused = run(directory.path(), &["endpoint", "list", &at]);
    assert!(!paused.stdout.contains("not followed yet"), "{}", paused.stdout);
}

/// An alias may have 5,000 characters: it must not push all that stands behind it off the screen. And it must not turn it around.
#[test]
fn an_alias_neither_pads_nor_turns_around_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let fake = fake();
    let at = serve(&fake, directory.path(), None);
    let alias = format!("\u{202e}live\u{2066}{}", "x".repeat(5_000));
    fake.state().tunnel.config = Arc::new(InstanceConfig { alias: Redacted::from_store(&alias), ..InstanceConfig::default() });
    assert_eq!(run(directory.path(), &["endpoint", "add", "tokyo", "http://10.0.0.5:9090", "--no-api-key", &at]).code, 0);
    let listed = run(directory.path(), &["tunnels", &at]);
    assert!(listed.stdout.contains("\u{fffd}live\u{fffd}xxx") && listed.stdout.contains("xxx…"), "{}", listed.stdout);
    assert!(listed.stdout.lines().all(|line| line.chars().count() < 250), "{}", listed.stdout);
    let all = run(directory.path(), &["tunnels", "--json", &at]).json();
    assert_eq!(all["tunnels"][0]["alias"], json!(alias), "whole and as it is");
}

#[test]
fn tunnels_are_listed_shown_and_found_by_what_is_unique() {
    let directory = tempfile::tempdir().unwrap();
    let fake = fake();
    let at = serve(&fake, directory.path(), None);
    run(directory.path(), &["endpoint", "add", "tokyo", "http://10.0.0.5:9090", "--no-api-key", &at]);
    let list = run(directory.path(), &["tunnels", &at]);
    assert!(list.stdout.contains("tokyo/aaaa0000") && list.stdout.contains("tokyo/bbbb0000"), "{}", list.stdout);
    assert!(!list.stdout.contains('\u{1b}'), "an alias must not colour the screen");
    assert_eq!(run(directory.path(), &["tunnels", &at, "--json"]).json()["tunnels"][0]["instance_id"], json!("aaaa0000"));
    let one = run(directory.path(), &["tunnels", "tokyo/bbbb0000", &at, "--json"]);
    assert_eq!(one.json()["instance_id"], json!("bbbb0000"));
    let several = run(directory.path(), &["tunnels", "web\u{1b}[31m", &at]);
    assert_eq!(several.code, 2);
    assert!(several.stderr.contains("tokyo/aaaa0000") && several.stderr.contains("tokyo/bbbb0000"), "{}", several.stderr);
}

#[test]
fn stats_and_flush_print_the_documents_of_the_interface() {
    let directory = tempfile::tempdir().unwrap();
    let fake = fake();
    let at = serve(&fake, directory.path(), None);
    let stats = run(directory.path(), &["stats", &at, "--json"]).json();
    assert_eq!((&stats["process"]["pid"], &stats["mode"]), (&json!(4711), &json!("batched")));
    assert!(run(directory.path(), &["stats", &at]).stdout.contains("pid 4711"));
    assert_eq!(run(directory.path(), &["flush", &at, "--json"]).json(), json!({"committed": 7, "waiting": 0, "error": null}));

    fake.state().broken = Some("the database is locked".to_owned());
    let failed = run(directory.path(), &["flush", &at, "--json"]);
    assert_eq!((failed.code, failed.json()), (4, json!({"committed": 0, "waiting": 7, "error": "the database is locked"})));
    assert!(failed.stderr.contains("the database is locked"), "{}", failed.stderr);
}

#[test]
fn the_token_of_the_configuration_is_sent_and_a_wrong_one_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = serve(&fake(), directory.path(), Some("the-right-token"));
    let with = |token: &str| run_with(directory.path(), &["stats", &at, "--json"], &[("TIDEGATE_HTTP__TOKEN", token)], "");
    assert_eq!(with("the-right-token").code, 0);
    let wrong = with("the-wrong-token");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("not http.token") && !wrong.stderr.contains("the-wrong-token"), "{}", wrong.stderr);
    for command in ["stats", "flush"] {
        let without = run(directory.path(), &[command, &at]);
        assert_eq!(without.code, 2, "no token");
        assert!(without.stderr.contains("http.token") && without.stderr.contains("TIDEGATE_HTTP__TOKEN"), "{}", without.stderr);
    }
}

#[test]
fn the_recorder_of_another_database_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let fake = fake();
    let at = serve(&fake, directory.path(), None);
    let other = tempfile::tempdir().unwrap();
    let ran = run(other.path(), &["flush", &at]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("not the recorder of this database"), "{}", ran.stderr);
    run(other.path(), &["endpoint", "add", "tokyo", "http://10.0.0.5:9090", "--no-api-key", &at]);
    assert!(fake.state().endpoints.is_empty(), "added to the wrong recorder");
}

#[test]
fn check_fails_while_a_recorder_says_that_rows_outlive_their_retention() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(run(path, &["migrate"]).code, 0);
    let fake = fake();
    let at = serve(&fake, path, None);
    let whole = run(path, &["check", &at]);
    assert_eq!(whole.code, 0, "{}{}", whole.stdout, whole.stderr);
    fake.state().expiry_late = vec!["service_history".to_owned()];
    let late = run(path, &["check", "--json", &at]);
    assert_eq!(late.code, 1, "{}", late.stderr);
    let told = json!(["service_history holds rows that should have expired more than an hour ago"]);
    assert_eq!((&late.json()["ok"], &late.json()["database"]["problems"]), (&json!(false), &told));
}

#[test]
fn a_demo_answers_where_there_is_no_database_that_could_be_meant() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = serve_as(Some("demo"), &fake(), theirs.path(), &[]);
    for command in [&["stats", &at, "--json"][..], &["flush", &at, "--json"], &["tunnels", &at, "--json"]] {
        let ran = run(ours.path(), command);
        assert_eq!(ran.code, 0, "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("the demo at"), "{}", ran.stderr);
    }
    assert_eq!(run(ours.path(), &["migrate"]).code, 0);
    let ran = run(ours.path(), &["flush", &at]);
    assert_eq!(ran.code, 3, "a command with a database of its own is not for the demo");
}

#[test]
fn a_listener_that_never_answers_is_told_from_a_recorder_that_is_off() {
    let directory = tempfile::tempdir().unwrap();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("--set=http.listen={}", mute.local_addr().unwrap());
    let ran = run(directory.path(), &["stats", &at]);
    assert!(ran.stderr.contains("no answer within"), "{}", ran.stderr);
    let off = run(directory.path(), &["stats", &nobody()]);
    assert!(!off.stderr.contains("no answer"), "{}", off.stderr);
}
