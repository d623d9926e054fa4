//! The last moments of the real binary, when threads end in an order that only load brings about: the kernel delays their calls.
//!
//! Needs `strace` and the right to trace a child.

#[path = "common/recorder.rs"]
mod recorder;

use std::process::Command;

use std::net::TcpListener;

use recorder::{PATIENCE, Setup, tail, wait};

/// The HTTP server's thread closes its files, then lets go of its thread locals; the main thread has let go of its own before and
/// waits to end.
const SLOW_END: [&str; 8] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "-etrace=close,exit_group",
    "-einject=close:delay_enter=30000",
    "-einject=exit_group:delay_enter=1000000",
    "-o",
];

#[test]
fn a_thread_that_outlives_the_main_one_does_not_panic() {
    assert!(
        Command::new("strace").args(["-D", "-f", "-qq", "true"]).output().is_ok_and(|output| output.status.success()),
        "this test needs strace and the right to use it (apt-get install strace; in a container, the capability SYS_PTRACE)"
    );
    let setup = Setup::sqlite();
    let trace = setup.path("strace.log").display().to_string();
    let wrapper: Vec<&str> = SLOW_END.iter().copied().chain([trace.as_str()]).collect();
    let setup = setup.under(&wrapper);
    setup.start_and_wait().stop_well();
    let log = setup.log();
    assert!(!log.contains("panicked"), "{}", tail(&log));
    let traced = std::fs::read_to_string(&trace).expect("strace runs and may trace a child");
    assert!(traced.contains("DELAYED"), "nothing was delayed, so nothing was tested");
}

/// Each of them is asked for its id, and none answers.
#[test]
fn a_signal_while_the_configured_endpoints_are_being_made_is_obeyed() {
    let hung = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", hung.local_addr().expect("it has an address"));
    let setup = (0..30).fold(Setup::sqlite(), |setup, number| setup.endpoint(&format!("hung{number}"), &url, "key"));
    let run = setup.start();
    let _unanswered = wait(PATIENCE, || hung.accept().ok()).expect("the first one is asked");
    let ended = run.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let log = setup.log();
    assert!(!log.contains("added"), "it was not made for want of an answer\n{}", tail(&log));
}

/// Who moves a database copies one file.
#[test]
fn after_an_orderly_stop_the_database_is_one_file_though_questions_were_answered() {
    let setup = Setup::sqlite();
    let mut run = setup.start_and_wait();
    let asked = setup.ask(&["history", "--all", "--since", "1h", "--json"]);
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    let (status, _) = run.request("GET", "/api/v1/flushes").expect("an answer");
    assert_eq!(status, 200);
    run.stop_well();
    let database = setup.database_path().display().to_string();
    for left in ["-wal", "-shm"] {
        assert!(!std::path::Path::new(&format!("{database}{left}")).exists(), "{left} is left behind");
    }
}
