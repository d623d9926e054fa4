use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::id::IdGenerator;

const NOON: Timestamp = Timestamp(1_795_435_200_000_000);

fn event(time: &str) -> String {
    format!("event: instance\ndata: {{\"type\":\"update\",\"time\":\"{time}\",\"instance\":null}}\n\n")
}

/// Writes a capture, with its times if there are any, and reads it.
fn capture(body: &str, times: Option<&str>) -> Result<Capture, ReplayError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some capture.sse");
    fs::write(&path, body).unwrap();
    if let Some(times) = times {
        fs::write(path.with_extension("times.jsonl"), times).unwrap();
    }
    Capture::read(&path)
}

fn at(text: &str) -> Timestamp {
    parse_time(text).unwrap()
}

#[test]
fn a_capture_is_cut_after_every_blank_line_of_any_kind() {
    let body = b"retry: 1\n\ndata: a\r\n\r\ndata: b\rdata: c\r\rx: half";
    let parts: Vec<_> = split(body).into_iter().map(|range| std::str::from_utf8(&body[range]).unwrap()).collect();
    assert_eq!(parts, ["retry: 1\n\n", "data: a\r\n\r\n", "data: b\rdata: c\r\r", "x: half"]);
    assert!(split(b"").is_empty());
    assert_eq!(parts.concat().as_bytes(), body, "nothing is lost");
}

#[test]
fn with_a_file_of_times_a_chunk_came_when_its_last_byte_came() {
    let body = format!("retry: 3000\n\n{}{}", event("2026-01-01T00:00:00Z"), event("2026-01-01T00:00:00Z"));
    let second = 13 + event("2026-01-01T00:00:00Z").len();
    let times = format!(
        "{{\"t\": \"2026-11-23T06:19:40Z\", \"head\": \"HTTP/1.1 200 OK\"}}\n\
         {{\"t\": \"2026-11-23T06:19:41.5Z\", \"off\": 0, \"len\": {second}}}\n\
         {{\"t\": \"2026-11-23T06:19:42Z\", \"off\": {second}, \"len\": 10}}\n\
         {{\"t\": \"2026-11-23T06:19:43Z\", \"off\": {}, \"len\": {}}}\n\
         {{\"t\": \"2026-11-23T06:19:44Z\", \"end\": \"last-chunk\", \"bytes\": {}}}\n",
        second + 10,
        body.len() - second - 10,
        body.len()
    );
    let capture = capture(&body, Some(&times)).unwrap();
    let received: Vec<_> = capture.chunks().map(|chunk| (chunk.offset, chunk.received_at)).collect();
    let expected = [(0, at("2026-11-23T06:19:41.5Z")), (13, at("2026-11-23T06:19:41.5Z")), (second, at("2026-11-23T06:19:43Z"))];
    assert_eq!(received, expected);
    assert_eq!(capture.endpoint_name(), "some-capture");
}

#[test]
fn without_times_the_events_own_count_and_do_not_run_back() {
    let body = format!(
        "retry: 3000\n\n{}{}: comment\n\n{}",
        event("2026-11-23T14:00:00.000002+08:00"),
        event("2026-11-23T06:00:00.000001Z"),
        event("2026-11-23T06:00:01Z")
    );
    let received: Vec<_> = capture(&body, None).unwrap().chunks().map(|chunk| chunk.received_at).collect();
    let first = at("2026-11-23T06:00:00.000002Z");
    assert_eq!(received, [first, first, first, first, at("2026-11-23T06:00:01Z")]);
}

#[test]
fn a_capture_without_any_time_is_refused_and_an_empty_one_is_not() {
    assert!(matches!(capture("data: {}\n\n", None), Err(ReplayError::NoTimes { .. })));
    assert_eq!(capture("", None).unwrap().chunks().count(), 0);
}

#[test]
fn times_of_another_capture_are_refused() {
    let line = |off: usize, len: usize| format!("{{\"t\": \"2026-11-23T06:19:41Z\", \"off\": {off}, \"len\": {len}}}\n");
    for (times, reason) in [
        (line(0, 5), "covers 5 bytes, the capture has 10"),
        (line(0, 3) + &line(4, 6), "begins at offset 4, the line before ended at 3"),
        ("{\"t\": \"yesterday\", \"off\": 0, \"len\": 10}".to_owned(), "`t` is not a time"),
        (line(0, 10) + "{\"t\": \"2026-11-23T06:19:41Z\", \"end\": \"x\", \"bytes\": 9}", "speaks of 9 bytes"),
        ("nonsense".to_owned(), "line 1"),
    ] {
        let error = capture("data: {}\n\n", Some(&times)).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("times.jsonl"), "{error}");
    }
}

#[test]
fn ids_rise_within_a_file_even_if_a_second_is_full_and_time_stands_still() {
    let mut ids = Ids::of(b"file");
    let mut last = EventId::ZERO;
    for _ in 0..10_000 {
        let id = ids.next(NOON);
        assert!(id.0 > last.0 + 1, "the chunk before has two positions");
        last = id;
    }
    assert!(last.id_clock() <= NOON.plus(Duration::from_secs(4)));
}

#[test]
fn ids_depend_on_the_file_alone_and_two_files_of_the_same_moment_differ() {
    let ids = |bytes: &[u8]| {
        let mut ids = Ids::of(bytes);
        (0..1_000).map(|n| ids.next(NOON.plus(Duration::from_millis(n)))).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(b"one"), ids(b"one"));
    assert!(ids(b"one").is_disjoint(&ids(b"other")));
}

#[test]
fn no_recorder_gives_an_id_of_a_replay() {
    let node = |id: EventId| id.0 >> POSITION_BITS & 511;
    for bytes in [&b"a"[..], b"b", b"c", b"d"] {
        let id = Ids::of(bytes).next(NOON);
        assert!(node(id) >= i64::from(REPLAY_NODE_FIRST) && id.0 > 0, "{id}");
        assert!(id.id_clock().since(NOON) < Duration::from_secs(2) && NOON.since(id.id_clock()) < Duration::from_secs(2));
    }
    assert!(node(IdGenerator::new(REPLAY_NODE_FIRST - 1, EventId::ZERO).next(NOON)) < i64::from(REPLAY_NODE_FIRST));
}

#[test]
fn times_beyond_the_range_of_ids_still_give_positive_rising_ids() {
    let mut ids = Ids::of(b"old");
    let first = ids.next(Timestamp(0));
    assert!(first.0 > 0 && ids.next(Timestamp(0)) > first);
    assert!(Ids::of(b"far").next(Timestamp(i64::MAX)).0 > 0);
}
