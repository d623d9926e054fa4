//! The simulated master against what was recorded of real ones: form of events per version, queue, counters, endings.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tidegate::clock::Timestamp;
use tidegate::event::InstanceId;
use tidegate::sim::master::{
    Action, Answering, End, Fault, InstanceSpec, LogLevel, Malformed, MasterSpec, PeerSpec, Reply, Request, Role, SimMaster,
    StreamState, SubscriberId, Version,
};
use tidegate::sim::traffic::Traffic;

const NOON: Timestamp = Timestamp(1_795_435_200_000_000);
const BUSY: Traffic = Traffic { seed: 1, peak_down: 1_000_000, peak_up: 100_000, udp_percent: 10, users_offset_seconds: 0 };

fn at(seconds: f64) -> Timestamp {
    NOON.plus(Duration::from_secs_f64(seconds))
}

fn master(version: Version) -> SimMaster {
    SimMaster::new(MasterSpec::new(version), NOON, fastrand::Rng::with_seed(11))
}

fn subscribe(master: &mut SimMaster) -> SubscriberId {
    let key = master.api_key().to_owned();
    match master.handle(&Request::get("/api/v1/events", &key)) {
        Reply::Stream(id) => id,
        other => panic!("no stream: {other:?}"),
    }
}

/// All that a stream brings now, as text per chunk, and whether it goes on.
fn read(master: &mut SimMaster, id: SubscriberId) -> (Vec<String>, StreamState) {
    let mut chunks: Vec<Bytes> = Vec::new();
    let state = master.poll(id, &mut chunks);
    (chunks.iter().map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect(), state)
}

fn json(chunk: &str) -> Value {
    let data = chunk.lines().find_map(|line| line.strip_prefix("data: ")).expect("a data line");
    serde_json::from_str(data).expect("JSON")
}

fn events(master: &mut SimMaster, id: SubscriberId) -> Vec<Value> {
    read(master, id).0.iter().map(|chunk| json(chunk)).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn rx_of(events: &[Value], id: &InstanceId) -> Vec<u64> {
    let of = events.iter().filter(|event| event["instance"]["id"] == id.as_str());
    of.map(|event| event["instance"]["tcprx"].as_u64().unwrap()).collect()
}

/// A busy client on a master that has run for a minute, and a stream that was read so far.
fn after_a_minute(version: Version) -> (SimMaster, SubscriberId, InstanceId) {
    let mut master = master(version);
    let id = master.create(InstanceSpec { traffic: BUSY, ..InstanceSpec::client("busy", 10_100) });
    let stream = subscribe(&mut master);
    master.advance(at(60.0));
    read(&mut master, stream);
    (master, stream, id)
}

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/sim/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// An instance as it was created when the line was recorded.
fn spec_of(instance: &Value) -> InstanceSpec {
    let text = |field: &str| instance[field].as_str().unwrap_or_default().to_owned();
    let url = text("url");
    let (role, rest) = url.split_once("://").unwrap();
    let (address, query) = rest.split_once('?').unwrap();
    let (password, address) = address.split_once('@').unwrap_or(("", address));
    let (tunnel, target) = address.split_once('/').unwrap();
    InstanceSpec {
        id: Some(InstanceId::from(&*text("id"))),
        role: if role == "server" { Role::Server } else { Role::Client },
        alias: text("alias").into(),
        password: password.into(),
        tunnel: tunnel.into(),
        target: target.into(),
        log: if query.contains("log=debug") { LogLevel::Debug } else { LogLevel::Info },
        mode: 2,
        connected: false,
        ..InstanceSpec::server("", 1)
    }
}

/// A line without what differs by run: time, key and master id, and the role in a Rust line whose URL was changed by PUT.
fn masked(line: &str, key: &str, master_id: &str) -> String {
    let (before, rest) = line.split_once("\"time\":\"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}{after}").replace(key, "KEY").replace(master_id, "MID")
}

/// Goal: for every kind of event of every version, the bytes are those that were recorded. Method: the instances of the
/// recorded lines are made anew, with the same ids and URLs, and lived through until the same event comes.
#[test]
fn events_are_byte_for_byte_what_each_version_sent() {
    for version in Version::ALL {
        for line in fixture(&format!("{}.txt", version.name())).lines() {
            let recorded = json(line);
            let kind = recorded["type"].as_str().unwrap();
            let instance = &recorded["instance"];
            let mut master = master(version);
            let stream;
            if kind == "initial" {
                stream = subscribe(&mut master);
            } else if kind == "shutdown" {
                stream = subscribe(&mut master);
                master.act(&Action::Shutdown { down_for: None });
            } else {
                // The recorded instance of `delete` had reported (mode 2) in v1.6.1 and v1.7.0.
                let spec = InstanceSpec { connected: instance["mode"] == 2, ..spec_of(instance) };
                let role = if version.is_rust() && kind == "delete" { Role::Client } else { spec.role };
                stream = subscribe(&mut master);
                let id = master.create(InstanceSpec { role, ..spec });
                master.advance(at(1.0));
                match kind {
                    "log" => master.act(&Action::Print { id, line: recorded["logs"].as_str().unwrap().into() }),
                    "delete" => master.act(&Action::Delete { id }),
                    _ => {}
                }
            }
            let (key, mid) = (master.api_key().to_owned(), master.master_id().to_owned());
            let chunks = read(&mut master, stream).0;
            let sent: Vec<&str> =
                chunks.iter().flat_map(|chunk| chunk.lines().filter(|line| line.starts_with("data: "))).collect();
            let same_kind =
                |line: &&&str| json(line)["type"] == kind && (kind != "log" || json(line)["logs"] == recorded["logs"]);
            let sent = sent.iter().find(same_kind).unwrap_or_else(|| panic!("{} sends no {kind}", version.name()));
            let recorded_key = instance["url"].as_str().filter(|url| url.len() == 32).unwrap_or("no key");
            let recorded_mid = instance["config"].as_str().filter(|mid| mid.len() == 16).unwrap_or("no id");
            let expected = masked(line, recorded_key, recorded_mid);
            assert_eq!(masked(sent, &key, &mid), expected, "{} {kind}", version.name());
        }
    }
}

#[test]
fn info_has_the_fields_of_each_version_in_their_order() {
    let names = |text: &str| -> Vec<String> {
        text.split(['{', ',']).filter_map(|pair| Some(pair.split_once("\":")?.0.trim_matches('"').to_owned())).collect()
    };
    for version in Version::ALL {
        let mut master = master(version);
        let key = master.api_key().to_owned();
        let Reply::Answer(answer) = master.handle(&Request::get("/api/v1/info", &key)) else { panic!("no answer") };
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        if version == Version::Go1_1_5 {
            assert_eq!((answer.status, &*body), (404, "404 page not found\n"));
            continue;
        }
        let recorded = fixture(&format!("{}-info.json", version.name()));
        assert_eq!(names(&body), names(&recorded), "{}", version.name());
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["ver"], version.name());
    }
}

#[test]
fn instances_lists_all_and_the_key_holder_in_the_form_of_the_events() {
    let (mut master, _, id) = after_a_minute(Version::Go1_14_0);
    let key = master.api_key().to_owned();
    let Reply::Answer(all) = master.handle(&Request::get("/api/v1/instances", &key)) else { panic!("no answer") };
    let all: Value = serde_json::from_slice(&all.body).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(all.as_array().unwrap().iter().any(|one| one["id"] == "********" && one["url"] == *key));
    let path = format!("/api/v1/instances/{id}");
    let Reply::Answer(one) = master.handle(&Request::get(&path, &key)) else { panic!("no answer") };
    let one: Value = serde_json::from_slice(&one.body).unwrap();
    assert!(all.as_array().unwrap().contains(&one));
}

#[test]
fn initial_events_come_first_with_retry_in_the_first_chunk_and_the_key_at_any_position() {
    let mut positions = std::collections::BTreeSet::new();
    let mut master = master(Version::Go1_14_0);
    for port in 0..4 {
        master.create(InstanceSpec::server("x", 10_000 + port));
    }
    for _ in 0..64 {
        let stream = subscribe(&mut master);
        let (chunks, state) = read(&mut master, stream);
        assert_eq!((chunks.len(), state), (5, StreamState::Open));
        assert!(chunks[0].starts_with("retry: 3000\n\nevent: instance\ndata: {\"type\":\"initial\""));
        assert!(chunks[1..].iter().all(|chunk| chunk.starts_with("event: instance\ndata: {\"type\":\"initial\"")));
        positions.insert(chunks.iter().position(|chunk| chunk.contains("********")).unwrap());
    }
    assert_eq!(positions.len(), 5);
}

#[test]
fn a_reader_that_does_not_read_keeps_ten_events_rendered_when_they_are_sent_and_loses_the_rest_in_silence() {
    let spec = MasterSpec { socket_bytes: 0, ..MasterSpec::new(Version::Go1_14_0) };
    let mut master = SimMaster::new(spec, NOON, fastrand::Rng::with_seed(5));
    let id = master.create(InstanceSpec { connected: false, ..InstanceSpec::server("0", 10_000) });
    master.advance(at(1.0));
    let stream = subscribe(&mut master);
    read(&mut master, stream);
    for number in 1..=70 {
        master.advance(at(1.0 + f64::from(number)));
        master.act(&Action::SetAlias { id: id.clone(), alias: number.to_string().into() });
    }
    let events = events(&mut master, stream);
    assert_eq!(events.len(), 10);
    assert!(events.iter().all(|event| event["instance"]["alias"] == "70"), "the live object, not what it was");
    assert!(events[0]["time"].as_str().unwrap() < "2026-11-23T12:00:03Z", "made long ago: {}", events[0]["time"]);
    assert_eq!(master.stream_counts().dropped, 60);
}

#[test]
fn a_prompt_reader_loses_lines_of_a_burst_and_none_of_sixty_instances_updates() {
    let mut master = master(Version::Go1_14_0);
    let ids: Vec<InstanceId> = (0..60).map(|port| master.create(InstanceSpec::client("x", 10_000 + port))).collect();
    let stream = subscribe(&mut master);
    while let Some(due) = master.next_due().filter(|due| *due <= at(30.0)) {
        master.advance(due);
        read(&mut master, stream);
    }
    assert_eq!(master.stream_counts().dropped, 0);
    master.act(&Action::Burst { id: ids[0].clone(), lines: 896 });
    let arrived = events(&mut master, stream).len();
    assert!((600..880).contains(&arrived), "{arrived} of 896");
    assert_eq!(arrived as u64 + master.stream_counts().dropped, 896);
}

#[test]
fn a_deleted_instance_is_still_rendered_in_the_events_that_wait() {
    let spec = MasterSpec { socket_bytes: 0, ..MasterSpec::new(Version::Go1_14_0) };
    let mut master = SimMaster::new(spec, NOON, fastrand::Rng::with_seed(5));
    let id = master.create(InstanceSpec { connected: false, ..InstanceSpec::server("gone", 10_000) });
    master.advance(at(1.0));
    let stream = subscribe(&mut master);
    read(&mut master, stream);
    master.act(&Action::Delete { id: id.clone() });
    assert!(master.instance(&id).is_none());
    let events = events(&mut master, stream);
    assert_eq!(kinds(&events), ["update", "delete"]);
    assert!(events.iter().all(|event| event["instance"]["alias"] == "gone" && event["instance"]["status"] == "stopped"));
}

#[test]
fn reports_come_at_once_then_at_the_interval_and_both_ends_count_the_same_bytes_crosswise() {
    let mut master = master(Version::Go1_14_0);
    let (server, client) = InstanceSpec::pair("pair", 10_000, BUSY);
    let (server, client) = (master.create(server), master.create(client));
    let stream = subscribe(&mut master);
    master.advance(at(61.0));
    let events = events(&mut master, stream);
    let reports = rx_of(&events, &client).len();
    assert!((15..=20).contains(&reports), "first lines and 13 reports: {reports}");
    let sid = |id: &InstanceId| master.instance(id).unwrap().spec.peer.sid.clone();
    assert_eq!(sid(&server), sid(&client));
    let (server, client) = (master.instance(&server).unwrap().shown, master.instance(&client).unwrap().shown);
    assert!(client.tcp_rx > 100_000 && client.tcp_tx > client.tcp_rx && client.udp_rx > 0);
    assert!(
        server.tcp_tx.abs_diff(client.tcp_rx) < client.tcp_rx / 20 && server.tcp_rx.abs_diff(client.tcp_tx) < client.tcp_tx / 20
    );
}

#[test]
fn a_reset_lasts_from_v1_14_on_and_is_undone_by_the_next_report_before() {
    for (version, lasts) in [(Version::Go1_6_1, false), (Version::Go1_7_0, false), (Version::Go1_14_0, true)] {
        let (mut master, stream, id) = after_a_minute(version);
        let before = master.instance(&id).unwrap().shown.tcp_rx;
        master.act(&Action::Reset { id: id.clone() });
        master.advance(at(66.0));
        let seen = rx_of(&events(&mut master, stream), &id);
        assert_eq!(seen[0], 0, "an update with zeros comes at once");
        assert_eq!(*seen.last().unwrap() >= before, !lasts, "{}: {before} then {seen:?}", version.name());
    }
}

#[test]
fn bytes_since_the_last_report_are_lost_at_a_stop_and_the_counters_go_on_after_a_start() {
    let (mut master, stream, id) = after_a_minute(Version::Go1_14_0);
    let before = master.instance(&id).unwrap().shown;
    master.act(&Action::Stop { id: id.clone() });
    assert_eq!(master.instance(&id).unwrap().shown, before);
    assert!(master.instance(&id).unwrap().lost.total() > 0);
    master.act(&Action::Start { id: id.clone() });
    master.advance(at(70.0));
    let events = events(&mut master, stream);
    let stopped = &events[0]["instance"];
    assert_eq!((&stopped["status"], &stopped["pool"], &stopped["tcprx"]), (&"stopped".into(), &0.into(), &before.tcp_rx.into()));
    assert!(rx_of(&events, &id).is_sorted());
    assert!(master.instance(&id).unwrap().shown.tcp_rx > before.tcp_rx);
}

#[test]
fn a_killed_master_cuts_its_streams_and_comes_back_with_older_counters() {
    let (mut master, stream, id) = after_a_minute(Version::Go1_14_0);
    let before = master.instance(&id).unwrap().shown;
    master.act(&Action::Kill { down_for: Some(Duration::from_secs(3)) });
    assert_eq!(read(&mut master, stream), (Vec::new(), StreamState::Ended(End::Cut)));
    let key = master.api_key().to_owned();
    assert_eq!(master.handle(&Request::get("/api/v1/events", &key)), Reply::Refused);
    master.advance(at(63.0));
    let stream = subscribe(&mut master);
    let initial = events(&mut master, stream);
    assert_eq!(rx_of(&initial, &id), [0], "the state file was written when the instance was created");
    assert!(before.tcp_rx > 0);
    let first = initial.iter().find(|event| event["instance"]["id"] == id.as_str()).unwrap();
    assert_eq!(first["instance"]["status"], "running", "restart: true starts with the master");
}

#[test]
fn a_graceful_restart_says_shutdown_ends_cleanly_and_keeps_the_counters() {
    let (mut master, stream, id) = after_a_minute(Version::Go1_14_0);
    let before = master.instance(&id).unwrap().shown;
    master.act(&Action::Shutdown { down_for: Some(Duration::from_secs(3)) });
    master.advance(at(61.0));
    let (chunks, state) = read(&mut master, stream);
    assert_eq!((chunks.len(), state), (1, StreamState::Ended(End::Clean)));
    assert!(json(&chunks[0])["instance"].is_null());
    master.advance(at(63.0));
    let stream = subscribe(&mut master);
    assert_eq!(rx_of(&events(&mut master, stream), &id), [before.tcp_rx]);
}

#[test]
fn a_sleeping_reader_gets_no_shutdown_and_is_cut_after_five_seconds() {
    let spec = MasterSpec { socket_bytes: 0, ..MasterSpec::new(Version::Go1_14_0) };
    let mut master = SimMaster::new(spec, NOON, fastrand::Rng::with_seed(5));
    let id = master.create(InstanceSpec::server("x", 10_000));
    let stream = subscribe(&mut master);
    master.act(&Action::Burst { id, lines: 100 });
    master.act(&Action::Shutdown { down_for: None });
    master.advance(at(6.0));
    let (chunks, state) = read(&mut master, stream);
    assert_eq!(state, StreamState::Ended(End::Cut));
    assert!(chunks.iter().all(|chunk| !chunk.contains("shutdown")));
}

#[test]
fn a_rotated_key_is_told_to_the_holders_of_the_old_one_which_is_refused_from_then_on() {
    for update_first in [true, false] {
        let mut master = master(Version::Go1_14_0);
        let stream = subscribe(&mut master);
        let old = master.api_key().to_owned();
        master.act(&Action::RotateKey { update_first: Some(update_first) });
        let new = master.api_key().to_owned();
        assert!(new != old && new.starts_with("fa4ec0de") && new.len() == 32);
        master.advance(at(1.0));
        let (chunks, state) = read(&mut master, stream);
        assert_eq!(state, StreamState::Ended(End::Clean));
        assert_eq!(chunks.iter().any(|chunk| json(chunk)["type"] == "update" && chunk.contains(&new)), update_first);
        assert_eq!(json(chunks.last().unwrap())["type"], "shutdown");
        let Reply::Answer(refused) = master.handle(&Request::get("/api/v1/events", &old)) else { panic!("not refused") };
        assert_eq!((refused.status, &refused.body[..]), (401, &b"{\"error\":\"Unauthorized: Invalid API key\"}\n"[..]));
    }
}

#[test]
fn an_error_shows_first_in_a_log_event_and_the_next_report_says_running() {
    let (mut master, stream, id) = after_a_minute(Version::Go2_0_0B10);
    master.act(&Action::Fail { id: id.clone() });
    master.advance(at(66.0));
    let seen = events(&mut master, stream);
    assert_eq!(kinds(&seen)[..2], ["log", "update"]);
    assert_eq!((&seen[0]["instance"]["status"], &seen[1]["instance"]["status"]), (&"error".into(), &"running".into()));
    assert!(seen[0]["logs"].as_str().unwrap().contains("\u{1b}[31mERROR\u{1b}[0m  Client error:"));
    let (mut old, stream, id) = after_a_minute(Version::Go1_7_0);
    old.act(&Action::Fail { id });
    assert_eq!(events(&mut old, stream)[0]["instance"]["status"], "running", "v1.7.0 does not look at lines");
}

#[test]
fn silence_of_three_intervals_is_an_error_again_at_every_interval_until_the_process_speaks() {
    let (mut master, stream, id) = after_a_minute(Version::Go1_14_0);
    master.act(&Action::Silence { id: id.clone(), silent: true });
    master.advance(at(86.0));
    let seen = events(&mut master, stream);
    assert!(seen.iter().all(|event| event["type"] == "update" && event["instance"]["status"] == "error"));
    assert_eq!(seen.len(), 4, "15 s after the last report at 55 s, and every 5 s until 86 s");
    let before = seen[0]["instance"]["tcprx"].as_u64().unwrap();
    master.act(&Action::Silence { id: id.clone(), silent: false });
    master.advance(at(92.0));
    let seen = events(&mut master, stream);
    assert_eq!(seen.last().unwrap()["instance"]["status"], "running");
    assert!(rx_of(&seen, &id).last().unwrap() > &before, "what moved meanwhile is counted");
}

#[test]
fn a_flapping_instance_swings_and_prints_the_tunnel_password() {
    let (mut master, stream, id) = after_a_minute(Version::Go1_14_0);
    master.act(&Action::Flap { id, on: true });
    master.advance(at(90.0));
    let seen = events(&mut master, stream);
    let statuses: Vec<&str> = seen.iter().map(|event| event["instance"]["status"].as_str().unwrap()).collect();
    let swings = statuses.windows(2).filter(|two| two[0] != two[1]).count();
    assert!(swings >= 6, "{statuses:?}");
    assert!(seen.iter().any(|event| event["logs"].as_str().unwrap().contains("client://tunnelpass@")));
}

#[test]
fn old_versions_report_only_when_connections_end_and_rust_masters_run_nothing() {
    let (mut old, stream, id) = after_a_minute(Version::Go1_4_2);
    old.advance(at(300.0));
    let seen = events(&mut old, stream);
    assert!(seen.iter().any(|event| event["type"] == "log" && event["logs"].as_str().unwrap().contains("TRAFFIC_STATS|TCP_RX=")));
    assert!(rx_of(&seen, &id).is_sorted() && seen.len() < 100);

    let mut rust = master(Version::Rust0_1_0);
    let id = rust.create(InstanceSpec { traffic: BUSY, ..InstanceSpec::client("x", 10_000) });
    let stream = subscribe(&mut rust);
    assert!(read(&mut rust, stream).0[0].starts_with("event: instance\n"), "no retry block");
    rust.act(&Action::Start { id });
    rust.advance(at(50.0));
    let (chunks, _) = read(&mut rust, stream);
    assert_eq!(chunks.iter().filter(|chunk| *chunk == ":\n\n").count(), 3, "a comment every 15 s");
    assert_eq!(json(&chunks[0])["instance"]["status"], "stopped");
}

#[test]
fn tags_are_a_list_in_v1_7_and_an_object_later_and_five_hundred_of_them_make_a_quarter_of_a_megabyte() {
    for version in [Version::Go1_7_0, Version::Go1_14_0] {
        let (mut master, stream, id) = after_a_minute(version);
        master.act(&Action::SetPeer { id: id.clone(), peer: PeerSpec { sid: "s".into(), kind: "2".into(), alias: "p".into() } });
        master.act(&Action::SetTags { id, count: 500 });
        let (chunks, _) = read(&mut master, stream);
        let last = json(chunks.last().unwrap());
        assert!(chunks.last().unwrap().len() > 250_000);
        if version == Version::Go1_7_0 {
            assert_eq!(last["instance"]["tags"][0]["key"], "tag-0000");
        } else {
            assert_eq!(last["instance"]["meta"]["tags"]["tag-0499"].as_str().unwrap().len(), 500);
            assert_eq!(last["instance"]["meta"]["peer"]["sid"], "s");
        }
    }
}

#[test]
fn faults_hang_refuse_redirect_and_end_by_themselves() {
    let mut master = master(Version::Go1_14_0);
    let key = master.api_key().to_owned();
    let lasting = Some(Duration::from_secs(10));
    let mut answering = |answering: Answering| {
        master.act(&Action::Fault(Fault::Answering { answering, lasting }));
        master.handle(&Request::get("/api/v1/events", &key))
    };
    assert_eq!(answering(Answering::Never), Reply::Silence);
    assert_eq!(answering(Answering::Refusing), Reply::Refused);
    let Reply::Answer(redirect) = answering(Answering::Redirecting("http://elsewhere/".into())) else { panic!("no answer") };
    assert_eq!((redirect.status, redirect.location.as_deref()), (307, Some("http://elsewhere/")));
    let Reply::Answer(gateway) = answering(Answering::Status(502)) else { panic!("no answer") };
    assert_eq!(gateway.status, 502);
    master.advance(at(11.0));
    assert!(matches!(master.handle(&Request::get("/api/v1/events", &key)), Reply::Stream(_)));
}

#[test]
fn a_half_open_stream_is_silent_for_ever_and_others_go_on() {
    let (mut master, dead, _) = after_a_minute(Version::Go1_14_0);
    master.act(&Action::Fault(Fault::HalfOpen));
    let alive = subscribe(&mut master);
    read(&mut master, alive);
    master.advance(at(120.0));
    master.act(&Action::Kill { down_for: None });
    assert_eq!(read(&mut master, dead), (Vec::new(), StreamState::Open));
    let (chunks, state) = read(&mut master, alive);
    assert!(chunks.len() >= 11 && state == StreamState::Ended(End::Cut));
    assert!(master.stream_counts().cut_off >= 11);
}

#[test]
fn what_a_reader_must_survive_is_put_between_the_events() {
    let (mut master, stream, _) = after_a_minute(Version::Go1_14_0);
    master.act(&Action::Fault(Fault::Malformed(Malformed::Oversized { bytes: 2 << 20 })));
    master.act(&Action::Fault(Fault::Malformed(Malformed::InvalidUtf8)));
    let mut chunks = Vec::new();
    master.poll(stream, &mut chunks);
    assert!(chunks[0].len() > 2 << 20);
    assert!(chunks[1].contains(&0xff) && std::str::from_utf8(&chunks[1]).is_err());
}
