//! What is asked for twice is done once: a master is followed once, also where it cannot be asked who it is, and paused once. The
//! real binary.

#[path = "common/recorder.rs"]
mod recorder;

use recorder::Setup;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn add(setup: &Setup, name: &str, url: &str) -> (Option<i32>, String) {
    let output = setup.ask(&["endpoint", "add", name, url, "--no-api-key"]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_address_is_not_followed_under_two_names_with_a_recorder_and_without_one() {
    let setup = Setup::sqlite();
    let recorder = setup.start_and_wait();
    assert_eq!(add(&setup, "tokyo", NOWHERE).0, Some(0));
    let (code, error) = add(&setup, "again", &format!("{NOWHERE}/api/"));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("followed already, as endpoint `tokyo`"), "{error}");
    // Another prefix may be another master behind the same proxy.
    assert_eq!(add(&setup, "other", &format!("{NOWHERE}/other")).0, Some(0));
    recorder.stop_well();

    let (code, error) = add(&setup, "again", NOWHERE);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("followed already, as endpoint `tokyo`"), "{error}");
    let (_, error) = add(&setup, "tokyo", NOWHERE);
    assert!(error.contains("there is an endpoint `tokyo` already"), "{error}");
}

#[test]
fn who_pauses_twice_is_told_once_and_the_time_stays_that_of_the_first() {
    let setup = Setup::sqlite();
    let recorder = setup.start_and_wait();
    assert_eq!(add(&setup, "tokyo", NOWHERE).0, Some(0));
    let pause = || {
        let output = setup.ask(&["endpoint", "pause", "tokyo", "--json"]);
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("a document")["since"].clone()
    };
    let first = pause();
    assert_eq!(pause(), first);
    recorder.stop_well();
    assert_eq!(setup.log().matches("endpoint tokyo: paused").count(), 1, "{}", setup.log());
}
