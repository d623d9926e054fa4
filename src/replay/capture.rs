//! Recorded streams, cut into what arrived together, with the times and ids that make a second replay add nothing.
//!
//! A capture is the body of `GET {prefix}/v1/events` as it was received. It is cut after every blank line, so that a
//! [`Chunk`] brings one event at most. A chunk's time of receipt is that of its last byte in `NAME.times.jsonl` beside
//! `NAME.sse`; without that file it is the event's own `time`, never earlier than the chunk's before.
//!
//! # Ids
//!
//! An id must depend on nothing but the file: not on the database, the clock, or what else is replayed. It must not collide
//! with an id that a recorder gave, and it must rise within the file, since live state takes no step back. A replay's id has
//! the shape of every id, with other contents:
//!
//! ```text
//!  milliseconds since 2024 (41)                     node (9)             counter (13)
//!  seconds of 1,024 ms (31) │ fingerprint, high (10) │ 1 │ fingerprint, low (8) │ position in that second (13)
//! ```
//!
//! - The node is 256 to 511, which no recorder may have (`node` ends at 255).
//! - Within a file positions rise and, when a second is full, go on in the next: two chunks never share an id.
//! - The fingerprint is 18 bits of the file's SHA-256. Two files can collide only if they share it (1 in 262,144) and a
//!   second.
//! - A chunk has two positions: one for its event, [`Chunk::id`], and one for whatever else arises with it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use chrono::DateTime;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::clock::{Clock, Timestamp};
use crate::endpoint::{ApiKey, EndpointError, MasterUrl, TlsPolicy, valid_name};
use crate::id::EventId;
use crate::store::NewEndpoint;

/// First node number of replays; the last is the last there is.
pub const REPLAY_NODE_FIRST: u16 = 256;

/// 2024-01-01T00:00:00Z, from where an id's milliseconds count.
const EPOCH_MILLIS: i64 = 1_704_067_200_000;
/// Bits of the milliseconds that make room for the fingerprint.
const SECOND_BITS: u32 = 10;
/// Bits of a fingerprint above and inside the node number.
const FINGERPRINT_BITS: u32 = SECOND_BITS + 8;
/// Bits of a position.
const POSITION_BITS: u32 = 13;
/// Bits of an id below the second.
const BELOW_SECOND_BITS: u32 = SECOND_BITS + 9 + POSITION_BITS;
/// Last second that fits.
const SECOND_MAX: i64 = (1 << (63 - BELOW_SECOND_BITS)) - 1;
/// Positions of a chunk.
const CHUNK_POSITIONS: i64 = 2;

/// A recorded stream.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The file's name without its extension.
    pub name: String,
    bytes: Bytes,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    range: Range<usize>,
    received_at: Timestamp,
    id: EventId,
}

/// Bytes that arrived together; one event at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset in the file.
    pub offset: usize,
    /// The bytes.
    pub bytes: Bytes,
    /// When they arrived.
    pub received_at: Timestamp,
    /// Id of the event in it. The id after it belongs to this chunk too, for whatever else arises with it.
    pub id: EventId,
}

/// A capture cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file, or the one with its times, cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The times do not belong to the capture.
    #[error("{path}: {reason}; is it of another capture?")]
    Times {
        /// The file with the times.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No event has a time.
    #[error("{path}: no event has a time, and there is no {times}: nothing is known of when it was received")]
    NoTimes {
        /// The capture.
        path: PathBuf,
        /// The file that is missing.
        times: PathBuf,
    },
}

impl Capture {
    /// Reads a capture and, if they are there, its times.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn read(path: &Path) -> Result<Self, ReplayError> {
        let failed = |path: &Path, source| ReplayError::Read { path: path.to_owned(), source };
        let bytes = fs::read(path).map_err(|error| failed(path, error))?;
        let times_path = path.with_extension("times.jsonl");
        let times = match fs::read_to_string(&times_path) {
            Ok(text) => {
                Some(Times::parse(&text, bytes.len()).map_err(|reason| ReplayError::Times { path: times_path.clone(), reason })?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&times_path, error)),
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let pieces = pieces(&bytes, times.as_ref());
        let pieces = pieces.ok_or_else(|| ReplayError::NoTimes { path: path.to_owned(), times: times_path })?;
        Ok(Self { name, bytes: bytes.into(), pieces })
    }

    /// What arrived, in order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        self.pieces.iter().map(|piece| Chunk {
            offset: piece.range.start,
            bytes: self.bytes.slice(piece.range.clone()),
            received_at: piece.received_at,
            id: piece.id,
        })
    }

    /// Length of the capture in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if nothing was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The name of the endpoint that it is replayed to, where none is given: the file's, without what a name cannot hold.
    #[must_use]
    pub fn endpoint_name(&self) -> String {
        let name: String =
            self.name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).take(64).collect();
        if valid_name(&name).is_ok() { name } else { "replay".to_owned() }
    }
}

/// An endpoint for replays: without a key, at an address that exists nowhere. It is to be paused.
///
/// # Errors
/// [`EndpointError::Name`].
pub fn endpoint(name: &str) -> Result<NewEndpoint, EndpointError> {
    valid_name(name)?;
    let url = MasterUrl { https: false, host: "replay.invalid".to_owned(), port: 80, prefix: "/api".to_owned() };
    Ok(NewEndpoint { name: name.to_owned(), url, api_key: ApiKey::new(""), tls: TlsPolicy::Verify, log_events: None })
}

/// A wall clock that shows the time of receipt of the chunk that is replayed.
#[derive(Debug, Default)]
pub struct ReplayClock(AtomicI64);

impl ReplayClock {
    /// Shows this time from now on.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.0, Ordering::Relaxed);
    }
}

impl Clock for ReplayClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Times of receipt: where each HTTP chunk ended, and when it came.
struct Times(Vec<(usize, Timestamp)>);

/// A line of `.times.jsonl`. The first has a `head` and the last an `end`.
#[derive(Deserialize)]
struct TimesLine {
    t: String,
    off: Option<usize>,
    len: Option<usize>,
    bytes: Option<usize>,
}

impl Times {
    fn parse(text: &str, capture_bytes: usize) -> Result<Self, String> {
        let mut ends = Vec::new();
        let mut covered = 0;
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: &str| format!("line {}: {what}", n + 1);
            let line: TimesLine = serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
            let time = parse_time(&line.t).ok_or_else(|| wrong("`t` is not a time"))?;
            if let (Some(off), Some(len)) = (line.off, line.len) {
                if off != covered {
                    return Err(wrong(&format!("begins at offset {off}, the line before ended at {covered}")));
                }
                covered = off.checked_add(len).ok_or_else(|| wrong("`len` is too large"))?;
                ends.push((covered, time));
            }
            if line.bytes.is_some_and(|bytes| bytes != capture_bytes) {
                return Err(wrong(&format!(
                    "speaks of {} bytes, the capture has {capture_bytes}",
                    line.bytes.unwrap_or_default()
                )));
            }
        }
        if covered == capture_bytes {
            Ok(Self(ends))
        } else {
            Err(format!("covers {covered} bytes, the capture has {capture_bytes}"))
        }
    }

    /// When the byte before `end` came.
    fn at(&self, end: usize) -> Option<Timestamp> {
        let chunk = self.0.partition_point(|(chunk_end, _)| *chunk_end < end);
        self.0.get(chunk).map(|(_, time)| *time)
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc().into())
}

/// The pieces of a capture; `None` if it has events and no time at all.
fn pieces(bytes: &[u8], times: Option<&Times>) -> Option<Vec<Piece>> {
    let ranges = split(bytes);
    let mut found: Vec<Option<Timestamp>> = match times {
        Some(times) => ranges.iter().map(|range| times.at(range.end)).collect(),
        None => ranges.iter().map(|range| event_time(&bytes[range.clone()])).collect(),
    };
    if times.is_none() {
        // What comes before the first event (`retry`, comments) came with it. After that time does not run back: the
        // master's clock may, but what arrived later was received later.
        let mut last = found.iter().flatten().next().copied();
        if last.is_none() && !found.is_empty() {
            return None;
        }
        for time in &mut found {
            last = last.max(*time);
            *time = last;
        }
    }
    let mut ids = Ids::of(bytes);
    let dated = ranges.into_iter().zip(found);
    Some(
        dated
            .filter_map(|(range, time)| time.map(|received_at| Piece { range, received_at, id: ids.next(received_at) }))
            .collect(),
    )
}

/// Cuts after every blank line, by the line ends of SSE: LF, CR LF, CR. What follows the last one is a piece too.
fn split(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut line_start, mut at) = (0, 0, 0);
    while at < bytes.len() {
        let terminator = match &bytes[at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        if terminator == 0 {
            at += 1;
            continue;
        }
        let blank = line_start == at;
        at += terminator;
        line_start = at;
        if blank {
            ranges.push(start..at);
            start = at;
        }
    }
    if start < bytes.len() {
        ranges.push(start..bytes.len());
    }
    ranges
}

/// The field `time` of the event in a piece.
fn event_time(piece: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Dated {
        time: String,
    }
    let text = String::from_utf8_lossy(piece);
    let lines = text.split(['\r', '\n']).filter_map(|line| line.strip_prefix("data:"));
    let data = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    parse_time(&serde_json::from_str::<Dated>(&data).ok()?.time)
}

/// Gives the ids of one file; see the module.
struct Ids {
    fingerprint: i64,
    second: i64,
    position: i64,
}

impl Ids {
    fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let high = digest.iter().take(8).fold(0_u64, |high, byte| high << 8 | u64::from(*byte));
        let fingerprint = i64::try_from(high >> (64 - FINGERPRINT_BITS)).unwrap_or_default();
        Self { fingerprint, second: -1, position: 0 }
    }

    fn next(&mut self, time: Timestamp) -> EventId {
        let second = ((time.millis() - EPOCH_MILLIS) >> SECOND_BITS).clamp(0, SECOND_MAX);
        if second > self.second {
            (self.second, self.position) = (second, 0);
        } else if self.position + CHUNK_POSITIONS < 1 << POSITION_BITS {
            self.position += CHUNK_POSITIONS;
        } else {
            (self.second, self.position) = (self.second + 1, 0);
        }
        let (high, low) = (self.fingerprint >> 8, self.fingerprint & 0xff);
        let node = i64::from(REPLAY_NODE_FIRST) | low;
        EventId(self.second << BELOW_SECOND_BITS | high << (9 + POSITION_BITS) | node << POSITION_BITS | self.position)
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
