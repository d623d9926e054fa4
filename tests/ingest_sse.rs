//! The decoder against the rules of the WHATWG standard, at every way of cutting the stream.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tidegate::sse::{Decoder, EVENT_BYTES_MAX, Frame};

type Events = Vec<(String, String, String)>;

/// Events as (name, data, last id), the last id and the retry time at the end.
fn decode(pieces: &[&[u8]]) -> (Events, String, Option<u64>) {
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece, |frame| match frame {
            Frame::Event(event) => {
                events.push((event.name.to_owned(), event.data.to_owned(), event.last_event_id.to_owned()));
            }
            Frame::Oversized { .. } => panic!("nothing here is large"),
        });
    }
    (events, decoder.last_event_id().to_owned(), decoder.retry_millis())
}

/// Stream, events as (name, data, id), last id, retry.
type Case<'a> = (&'a [u8], &'a [(&'a str, &'a str, &'a str)], &'a str, Option<u64>);

const CASES: &[Case<'static>] = &[
    // Line ends.
    (b"data: a\n\ndata: b\r\n\r\ndata: c\r\r", &[("message", "a", ""), ("message", "b", ""), ("message", "c", "")], "", None),
    (b"data: a\r\n\ndata: b\n\r\n", &[("message", "a", ""), ("message", "b", "")], "", None),
    (b"data: a\n\r\ndata: b\r\n\r", &[("message", "a", ""), ("message", "b", "")], "", None),
    // Data lines are joined by LF; one blank after the colon is dropped, not more.
    (b"data: a\ndata:b\ndata:  c\n\n", &[("message", "a\nb\n c", "")], "", None),
    (b"data\n\ndata\ndata\n\ndata:\n", &[("message", "", ""), ("message", "\n", "")], "", None),
    (b"data:\n\n", &[("message", "", "")], "", None),
    (b"data: a\ndata\ndata: b\n\n", &[("message", "a\n\nb", "")], "", None),
    (b"data:\ta\n\n", &[("message", "\ta", "")], "", None),
    // Without a data line nothing is dispatched, and the name is forgotten.
    (b"event: x\n\ndata: a\n\n", &[("message", "a", "")], "", None),
    (b"\n\n\r\r\n", &[], "", None),
    // Names.
    (b"event: x\ndata: a\n\ndata: b\n\n", &[("x", "a", ""), ("message", "b", "")], "", None),
    (b"event: x\nevent:\ndata: a\n\n", &[("message", "a", "")], "", None),
    (b"event: x\nevent: y\ndata: a\n\n", &[("y", "a", "")], "", None),
    (b"event\ndata: a\n\n", &[("message", "a", "")], "", None),
    // Comments and unknown fields.
    (b":\n\n: comment\ndata: a\n:data: no\n\n:\n\n", &[("message", "a", "")], "", None),
    (b"Data: no\n data: no\ndata : no\nfoo: no\nfoo\ndata: a\n\n", &[("message", "a", "")], "", None),
    // The id persists, also from an event without data; one with NUL is ignored; an empty one empties it.
    (b"id: 1\ndata: a\n\ndata: b\n\n", &[("message", "a", "1"), ("message", "b", "1")], "1", None),
    (b"id: 7\n\ndata: a\n\n", &[("message", "a", "7")], "7", None),
    (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", &[("message", "a", "1"), ("message", "b", "1")], "1", None),
    (b"id: 1\ndata: a\n\nid\ndata: b\n\n", &[("message", "a", "1"), ("message", "b", "")], "", None),
    // Retry takes digits alone, up to 64 bits.
    (b"retry: 3000\n\ndata: a\n\n", &[("message", "a", "")], "", Some(3000)),
    (b"retry: 5000000000\n", &[], "", Some(5_000_000_000)),
    (b"retry: 99999999999999999999999\n", &[], "", Some(u64::MAX)),
    (b"retry: 10\nretry: -1\nretry: 1.5\nretry: 1s\nretry:\nretry:  2\nretry: +3\n", &[], "", Some(10)),
    // A byte order mark is dropped once, at the start.
    (b"\xEF\xBB\xBFdata: a\n\n", &[("message", "a", "")], "", None),
    (b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n", &[("message", "b", "")], "", None),
    (b"\xEF\xBBdata: a\n\ndata: b\n\n", &[("message", "b", "")], "", None),
    (b"data: a\n\n\xEF\xBB\xBFdata: b\n\n", &[("message", "a", "")], "", None),
    // What is not UTF-8 becomes U+FFFD, and the stream goes on.
    (b"data: a\xFFb\xC3\n\ndata: \xC3\xA9\n\n", &[("message", "a\u{FFFD}b\u{FFFD}", ""), ("message", "\u{e9}", "")], "", None),
    (b"event: \xFF\nid: \xFE\ndata: \xE2\x82\n\n", &[("\u{FFFD}", "\u{FFFD}", "\u{FFFD}")], "\u{FFFD}", None),
    // NUL is text like any other.
    (b"data: a\0b\n\n", &[("message", "a\0b", "")], "", None),
    // An event that is not ended is discarded.
    (b"data: a\n\ndata: b", &[("message", "a", "")], "", None),
    (b"data: a\n", &[], "", None),
];

#[test]
fn every_rule_of_the_standard_holds_whole_and_cut_at_every_byte() {
    for (stream, expected, id, retry) in CASES {
        let owned = |(name, data, id): &(&str, &str, &str)| (name.to_string(), data.to_string(), id.to_string());
        let expected = (expected.iter().map(owned).collect(), id.to_string(), *retry);
        let shown = String::from_utf8_lossy(stream);
        assert_eq!(decode(&[stream]), expected, "{shown:?}");
        for at in 0..=stream.len() {
            assert_eq!(decode(&[&stream[..at], &stream[at..]]), expected, "{shown:?} cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode(&bytes), expected, "{shown:?} byte by byte");
    }
}

#[test]
fn a_capture_cut_at_every_byte_gives_the_same_events() {
    let stream = fs::read(Path::new("tests/fixtures/go/v1.14.0-rekey-after.sse")).unwrap();
    let whole = decode(&[&stream]);
    assert_eq!(whole.0.len(), 2);
    for at in 0..stream.len() {
        assert_eq!(decode(&[&stream[..at], &stream[at..]]), whole, "cut at {at}");
    }
}

#[test]
fn captures_cut_into_equal_pieces_of_any_length_give_the_same_events() {
    for name in ["go/v1.14.0-edge.sse", "rs/0.1.0-api-and-keepalive.sse", "go/v1.7.0-lifecycle.sse"] {
        let stream = fs::read(Path::new("tests/fixtures").join(name)).unwrap();
        let whole = decode(&[&stream]);
        for length in [1, 2, 3, 5, 7, 64, 600, 4096] {
            let pieces: Vec<&[u8]> = stream.chunks(length).collect();
            assert_eq!(decode(&pieces), whole, "{name} in pieces of {length}");
        }
    }
}

/// Frames as text, and the most memory that was held after a piece.
fn frames(pieces: &[&[u8]]) -> (Vec<String>, usize) {
    let (mut decoder, mut frames, mut held) = (Decoder::default(), Vec::new(), 0);
    for piece in pieces {
        decoder.feed(piece, |frame| {
            frames.push(match frame {
                Frame::Event(event) => format!("event of {} at {}", event.data.len(), event.offset),
                Frame::Oversized { offset, length } => format!("oversized {length} at {offset}"),
            });
        });
        held = held.max(decoder.held_bytes());
    }
    (frames, held)
}

#[test]
fn an_event_over_the_bound_is_refused_with_length_and_offset_and_the_next_one_arrives() {
    let big = "x".repeat(3 * EVENT_BYTES_MAX);
    let stream = format!("data: a\n\nevent: instance\ndata: {big}\nid: 3\n\ndata: b\n\n");
    let expected = [
        "event of 1 at 0".to_owned(),
        format!("oversized {} at 9", 16 + 6 + big.len() + 1 + 6),
        format!("event of 1 at {}", stream.len() - 9),
    ];
    for length in [stream.len(), 1 << 16, 4096, 1000] {
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(length).collect();
        let (found, held) = frames(&pieces);
        assert_eq!(found, expected, "in pieces of {length}");
        assert!(held <= EVENT_BYTES_MAX + 64, "held {held} bytes with pieces of {length}");
    }
}

#[test]
fn the_bound_counts_the_data_alone_and_holds_for_many_lines_names_and_ids() {
    let fits = format!("data: {}\n\n", "x".repeat(EVENT_BYTES_MAX));
    assert_eq!(frames(&[fits.as_bytes()]).0, [format!("event of {EVENT_BYTES_MAX} at 0")]);
    let pieces: Vec<&[u8]> = fits.as_bytes().chunks(999).collect();
    assert_eq!(frames(&pieces).0, [format!("event of {EVENT_BYTES_MAX} at 0")]);

    let line = "y".repeat(EVENT_BYTES_MAX + 1);
    let lines = "data: 0123456789\n".repeat(EVENT_BYTES_MAX / 10);
    for field in [format!("data: {line}\n"), lines, format!("event: {line}\ndata: a\n"), format!("id: {line}\ndata: a\n")] {
        let stream = format!("{field}\ndata: b\n\n");
        for length in [stream.len(), 5000] {
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(length).collect();
            let (found, held) = frames(&pieces);
            assert_eq!(found.len(), 2, "{found:?}");
            assert_eq!(found[0], format!("oversized {} at 0", field.len()));
            assert!(held <= 2 * EVENT_BYTES_MAX, "held {held}");
        }
    }
}

#[test]
fn an_endless_comment_or_event_costs_no_memory_and_buffers_shrink_after_a_large_event() {
    let filler = "z".repeat(8192);
    for start in [":", "data: "] {
        let mut pieces = vec![start.as_bytes()];
        pieces.extend(std::iter::repeat_n(filler.as_bytes(), 1000));
        assert!(frames(&pieces).1 <= EVENT_BYTES_MAX + 64);
    }
    let mut decoder = Decoder::default();
    let large = format!("data: {}\n\n", "x".repeat(900_000));
    for piece in large.as_bytes().chunks(1000) {
        decoder.feed(piece, |_| {});
    }
    assert!(decoder.held_bytes() <= 3 * 65_536, "{}", decoder.held_bytes());
}

#[test]
fn the_end_of_a_stream_tells_of_an_unfinished_event() {
    let mut decoder = Decoder::default();
    decoder.feed(b"data: a\n\nevent: instance\nda", |_| {});
    assert_eq!(decoder.finish(), Some((9, 18)));
    let mut decoder = Decoder::default();
    decoder.feed(b"data: a\n\n:comm", |_| {});
    assert_eq!(decoder.finish(), None);
}

proptest! {
    #[test]
    fn any_bytes_cut_anywhere_give_the_same_events(
        stream in proptest::collection::vec(
            prop_oneof![
                Just(&b"data"[..]), Just(&b"event"[..]), Just(&b"id"[..]), Just(&b"retry"[..]), Just(&b":"[..]), Just(&b" "[..]),
                Just(&b"\n"[..]), Just(&b"\r"[..]), Just(&b"\r\n"[..]), Just(&b"\n\n"[..]), Just(&b"7"[..]), Just(&b"\0"[..]),
                Just(&b"\xEF\xBB\xBF"[..]), Just(&b"\xEF"[..]), Just(&b"\xC3\xA9"[..]),
            ],
            0..60,
        ),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let stream = stream.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(decode(&pieces), decode(&[&stream]));
    }
}
