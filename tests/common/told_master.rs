//! A master that tells a given stream: its first part at once, the rest when asked to.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

/// Serves until the test ends.
pub struct ToldMaster {
    port: u16,
    released: Arc<(Mutex<bool>, Condvar)>,
}

impl ToldMaster {
    /// Tells the events of `stream` (the text of an SSE stream), after the first `at_once` only when released.
    pub fn start(stream: &str, at_once: usize) -> Self {
        let ends: Vec<usize> = stream.match_indices("\n\n").map(|(at, _)| at + 2).collect();
        let cut = ends.get(at_once).copied().unwrap_or(stream.len());
        let (first, rest) = (stream[..cut].to_owned(), stream[cut..].to_owned());
        let instances = instances(&first);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let released = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = released.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (first, rest, instances, released) = (first.clone(), rest.clone(), instances.clone(), shared.clone());
                // An error is a reader that left.
                std::thread::spawn(move || converse(connection, &first, &rest, &instances, &released));
            }
        });
        Self { port, released }
    }

    /// Tells the rest.
    pub fn release(&self) {
        *self.released.0.lock().unwrap() = true;
        self.released.1.notify_all();
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// What `GET /instances` answers after these events.
fn instances(events: &str) -> String {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    for data in events.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(data).expect("an event is JSON");
        let id = event["instance"]["id"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str() {
            Some("delete") => drop(known.remove(&id)),
            Some("shutdown") => {}
            _ => drop(known.insert(id, event["instance"].clone())),
        }
    }
    Value::from_iter(known.into_values()).to_string()
}

fn converse(
    mut connection: TcpStream,
    first: &str,
    rest: &str,
    instances: &str,
    released: &(Mutex<bool>, Condvar),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if connection.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path.ends_with("/events") {
        write!(connection, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{first}")?;
        let waiting = released.1.wait_while(released.0.lock().unwrap(), |released| !*released).unwrap();
        drop(waiting);
        connection.write_all(rest.as_bytes())?;
        // Until the reader leaves.
        return connection.read(&mut [0]).map(drop);
    }
    let (status, body) = if path.ends_with("/instances") { ("200 OK", instances) } else { ("404 Not Found", "{}") };
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
