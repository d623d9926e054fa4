//! What people were told outlives the recorder: the real binary is stopped and started beside a webhook.

#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/stored.rs"]
mod stored;
#[path = "common/webhook.rs"]
mod webhook;

mod postgres;

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use recorder::{PATIENCE, Setup, wait};

/// A webhook that takes everything: its address, and what it got.
fn listening() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let (_, body) = webhook::read_request(&mut tcp);
            write!(tcp, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            if tell.send(body).is_err() {
                return;
            }
        }
    });
    (url, told)
}

#[test]
fn a_restart_tells_nothing_again_and_a_pause_is_the_next_that_people_hear() {
    let (url, told) = listening();
    let setup = Setup::sqlite().set("alerts.webhook_url", &url).set("alerts.endpoint_offline", "1s").endpoint(
        "oslo",
        "http://127.0.0.1:9",
        "key",
    );
    let recorder = setup.start_and_wait();
    let next = || told.recv_timeout(PATIENCE).expect("the webhook is told")["text"].as_str().unwrap().to_owned();
    assert!(next().starts_with("oslo offline: "));
    let mut database = stored::connect(setup.database_url());
    let kept =
        wait(PATIENCE, || (database.texts("SELECT kind || ' ' || endpoint AS value FROM alerts").len() == 1).then_some(()));
    assert!(kept.is_some(), "{}", setup.log());
    recorder.stop_well();

    let mut recorder = setup.start_and_wait();
    let active = |recorder: &mut recorder::Recorder<'_>| {
        // The connection of the one before may have been closed since.
        let answer = recorder.request("GET", "/api/v1/alerts").or_else(|_| recorder.request("GET", "/api/v1/alerts"));
        let (_, body) = answer.unwrap();
        serde_json::from_str::<Value>(&body).unwrap()["active"].as_array().unwrap().len()
    };
    assert_eq!(active(&mut recorder), 1, "it is known from the first moment");
    assert!(setup.ask(&["endpoint", "pause", "oslo"]).status.success());
    assert_eq!(next(), "oslo no longer watched (paused or removed)");
    assert_eq!(active(&mut recorder), 0);
    let gone = wait(PATIENCE, || database.texts("SELECT kind AS value FROM alerts").is_empty().then_some(()));
    assert!(gone.is_some(), "{}", setup.log());
    recorder.stop_well();
}
