//! Decoding and parsing of recorded events against plain `serde_json` into the same owned struct.
//!
//! `cargo bench --bench decode`. Prints nanoseconds per event, the ratio to plain `serde_json::from_str` on text that is
//! already cut out of the stream, and what the recorder does in all (tracking, redaction, ids) on the same events.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidegate::actors::sse_ingest::IngestState;
use tidegate::clock::Timestamp;
use tidegate::endpoint::ApiKey;
use tidegate::event::EndpointId;
use tidegate::id::{EventId, IdGenerator};
use tidegate::ingest::intake::{Haul, Intake};
use tidegate::ingest::tracker::Tracker;
use tidegate::redact::Redactor;
use tidegate::sse::{Decoder, Frame};
use tidegate::wire::{WireEvent, parse_event};

/// Pieces as a socket gives them under load.
const PIECE_BYTES: usize = 16 << 10;
/// Each way runs this often; the fastest run counts, since others on the machine only make it slower.
const RUNS: usize = 40;

#[derive(Deserialize)]
#[expect(dead_code, reason = "only built")]
struct Owned {
    #[serde(rename = "type")]
    kind: String,
    time: Option<String>,
    instance: Option<OwnedInstance>,
    logs: Option<String>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only built")]
struct OwnedInstance {
    id: String,
    #[serde(default)]
    alias: String,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    url: String,
    #[serde(default)]
    config: String,
    restart: Option<bool>,
    #[serde(default)]
    meta: Meta,
    mode: Option<i32>,
    ping: Option<i32>,
    pool: Option<i32>,
    tcps: Option<i32>,
    udps: Option<i32>,
    tcprx: u64,
    tcptx: u64,
    udprx: u64,
    udptx: u64,
}

#[derive(Default, Deserialize)]
#[expect(dead_code, reason = "only built")]
struct Meta {
    peer: Peer,
    tags: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[expect(dead_code, reason = "only built")]
struct Peer {
    sid: String,
    #[serde(rename = "type")]
    kind: String,
    alias: String,
}

fn owned(wire: WireEvent<'_>) -> Owned {
    Owned {
        kind: wire.kind.into_owned(),
        time: wire.time.map(Into::into),
        logs: wire.logs.map(Into::into),
        instance: wire.instance.map(|instance| OwnedInstance {
            id: instance.id.into_owned(),
            alias: instance.alias.into_owned(),
            kind: instance.kind.into_owned(),
            status: instance.status.into_owned(),
            url: instance.url.into_owned(),
            config: instance.config.into_owned(),
            restart: instance.restart,
            meta: Meta {
                peer: Peer {
                    sid: instance.peer.sid.into_owned(),
                    kind: instance.peer.kind.into_owned(),
                    alias: instance.peer.alias.into_owned(),
                },
                tags: instance.tags.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            },
            mode: instance.mode,
            ping: instance.ping,
            pool: instance.pool,
            tcps: instance.tcps,
            udps: instance.udps,
            tcprx: instance.counters.tcp_rx,
            tcptx: instance.counters.tcp_tx,
            udprx: instance.counters.udp_rx,
            udptx: instance.counters.udp_tx,
        }),
    }
}

/// The fastest of several runs of each way. They take turns, so that a busy machine slows all of them alike.
fn fastest<const N: usize>(mut ways: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut fastest = [Duration::MAX; N];
    for _ in 0..RUNS {
        for (way, fastest) in ways.iter_mut().zip(&mut fastest) {
            let start = Instant::now();
            way();
            *fastest = start.elapsed().min(*fastest);
        }
    }
    fastest
}

fn main() {
    for name in ["v1.14.0-lifecycle", "v1.14.0-slow-pair-prompt", "v2.0.0-b10-lifecycle", "v1.14.0-idle-1"] {
        let one = std::fs::read(format!("tests/fixtures/go/{name}.sse")).expect("run it in the project's directory");
        // A megabyte, so that a run takes milliseconds and some run is undisturbed.
        let stream = one.repeat((1 << 20) / one.len() + 1);
        let mut texts = Vec::new();
        Decoder::default().feed(&stream, |frame| {
            if let Frame::Event(event) = frame {
                texts.push(event.data.to_owned());
            }
        });

        let mut plain = || {
            for text in &texts {
                black_box(serde_json::from_str::<Owned>(text).expect("a recorded event"));
            }
        };
        let mut decode = || {
            let mut decoder = Decoder::default();
            for piece in stream.chunks(PIECE_BYTES) {
                decoder.feed(piece, |frame| {
                    black_box(frame);
                });
            }
        };
        let mut both = || {
            let mut decoder = Decoder::default();
            for piece in stream.chunks(PIECE_BYTES) {
                decoder.feed(piece, |frame| {
                    if let Frame::Event(event) = frame {
                        black_box(owned(parse_event(event.data).expect("a recorded event")));
                    }
                });
            }
        };
        let mut all = || {
            let tracker = Tracker::new(EndpointId(1), BTreeMap::new(), Redactor::default(), true);
            let mut intake = Intake::new(EndpointId(1), "bench", ApiKey::new(""), None, tracker);
            let (mut state, mut ids) = (IngestState::default(), IdGenerator::new(0, EventId::ZERO));
            let now = Timestamp(1_795_435_200_000_000);
            for piece in stream.chunks(PIECE_BYTES) {
                let mut haul = Haul::default();
                intake.read(piece, now, &mut state, &mut |_| ids.next(now), &mut haul);
                black_box(haul);
            }
        };
        let [plain, decode, both, all] = fastest([&mut plain, &mut decode, &mut both, &mut all]);

        #[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
        let per_event = |run: Duration| run.as_nanos() as f64 / texts.len() as f64;
        println!("{name}: {} events, {} bytes each", texts.len(), stream.len() / texts.len());
        println!("  plain serde_json      {:7.0} ns/event", per_event(plain));
        println!("  decode + parse        {:7.0} ns/event  {:.2}x", per_event(both), per_event(both) / per_event(plain));
        println!(
            "  decode + parse, track, redact, ids {:7.0} ns/event  {:.2}x",
            per_event(all),
            per_event(all) / per_event(plain)
        );
        #[expect(clippy::cast_precision_loss, reason = "shown to two digits")]
        let speed = stream.len() as f64 / decode.as_secs_f64() / 1e9;
        println!("  decode alone          {:7.0} ns/event  {speed:.1} GB/s", per_event(decode));
    }
}
