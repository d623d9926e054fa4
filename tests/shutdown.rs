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
