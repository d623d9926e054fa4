//! What can be done to a master: by its operator, by its instances, by its machine and by the network.

use std::time::Duration;

use super::instance::{InstanceSpec, LogLevel, PeerSpec};
use crate::event::InstanceId;

/// Something that happens at a master. An action on an instance that is not there, or on a master that is down, does nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// POST: makes an instance and starts it.
    Create(Box<InstanceSpec>),
    /// DELETE: stops and removes it.
    Delete {
        /// Which.
        id: InstanceId,
    },
    /// PATCH `start`.
    Start {
        /// Which.
        id: InstanceId,
    },
    /// PATCH `stop`: what it moved since its last report is lost.
    Stop {
        /// Which.
        id: InstanceId,
    },
    /// PATCH `restart`: `stopped`, 0.1 s later `running`.
    Restart {
        /// Which.
        id: InstanceId,
    },
    /// PATCH `reset`: counters to 0, for good or until the next report, by version.
    Reset {
        /// Which.
        id: InstanceId,
    },
    /// PATCH `alias`; no event if it stays the same.
    SetAlias {
        /// Which.
        id: InstanceId,
        /// The new alias.
        alias: Box<str>,
    },
    /// PATCH `meta.peer`.
    SetPeer {
        /// Which.
        id: InstanceId,
        /// The new peer.
        peer: PeerSpec,
    },
    /// PATCH `meta.tags`: `count` tags; 500 of them give data lines of a quarter of a megabyte.
    SetTags {
        /// Which.
        id: InstanceId,
        /// How many.
        count: usize,
    },
    /// PATCH `restart`.
    SetRestart {
        /// Which.
        id: InstanceId,
        /// Start together with the master?
        restart: bool,
    },
    /// PUT: another log level in the URL; has no event but those of the restart.
    SetLog {
        /// Which.
        id: InstanceId,
        /// The new level.
        log: LogLevel,
    },
    /// The other end of the tunnel appears or vanishes; without it an instance does not report.
    SetConnected {
        /// Which.
        id: InstanceId,
        /// Is it there?
        connected: bool,
    },
    /// The process dies by itself: `error`, or `stopped` if its exit code was 0.
    Die {
        /// Which.
        id: InstanceId,
        /// Exit code 0?
        clean: bool,
    },
    /// The process falls silent (or speaks again): after 3 intervals `error`, again every interval.
    Silence {
        /// Which.
        id: InstanceId,
        /// Silent?
        silent: bool,
    },
    /// The process fails and retries every 3 s: swings between `error` (in a `log` event) and `running`.
    Flap {
        /// Which.
        id: InstanceId,
        /// Begin or end?
        on: bool,
    },
    /// One error line.
    Fail {
        /// Which.
        id: InstanceId,
    },
    /// One line as it stands; may be empty.
    Print {
        /// Which.
        id: InstanceId,
        /// The line.
        line: Box<str>,
    },
    /// Usage text with box-drawing characters, then an empty line.
    PrintUsage {
        /// Which.
        id: InstanceId,
    },
    /// Many lines at once, more than the queue of a prompt reader holds.
    Burst {
        /// Which.
        id: InstanceId,
        /// How many.
        lines: u32,
    },
    /// The master's `NP_REPORT_INTERVAL` changes, from the next reports on.
    SetReportInterval(Duration),
    /// The master's time zone changes (DST).
    SetZone {
        /// Seconds east of UTC.
        offset_seconds: i32,
    },
    /// PATCH `restart` of `********`: a new key.
    RotateKey {
        /// Whether the new key comes as an `update` before the `shutdown`; by chance (5 in 6) where `None`.
        update_first: Option<bool>,
    },
    /// SIGTERM: `shutdown`, clean end, counters kept.
    Shutdown {
        /// Starts again after this time; stays down where `None`.
        down_for: Option<Duration>,
    },
    /// SIGKILL: streams are cut, counters fall back to the last write of the state file.
    Kill {
        /// Starts again after this time; stays down where `None`.
        down_for: Option<Duration>,
    },
    /// Starts a master that is down.
    StartMaster,
    /// Something between the master and its readers.
    Fault(Fault),
}

/// What the network, a proxy or a broken master does to readers.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// All streams are cut, the master lives on.
    Cut,
    /// All streams end cleanly without `shutdown`.
    CleanEnd,
    /// All streams stay open and nothing more ever comes.
    HalfOpen,
    /// How requests are answered.
    Answering {
        /// How.
        answering: Answering,
        /// For how long; until the next such fault where `None`.
        lasting: Option<Duration>,
    },
    /// How bytes travel.
    Wire {
        /// How.
        wire: Wire,
        /// For how long; until the next such fault where `None`.
        lasting: Option<Duration>,
    },
    /// A chunk that a reader must survive, to all streams.
    Malformed(Malformed),
}

/// How a master answers requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answering {
    /// As it should.
    #[default]
    Normally,
    /// Accepts connections and never answers.
    Never,
    /// Refuses connections.
    Refusing,
    /// Redirects everything there.
    Redirecting(Box<str>),
    /// With this status and an HTML body, as a proxy does.
    Status(u16),
    /// 200 with an HTML page.
    AnotherSite,
}

/// How bytes travel to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Chunks are cut into pieces of so many bytes, across events; 0 leaves each chunk whole.
    pub piece_bytes: usize,
    /// Pause after each piece.
    pub pause: Duration,
}

/// A block of the stream that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Data that is no JSON.
    NotJson,
    /// JSON that ends in the middle.
    CutJson,
    /// JSON of another shape.
    WrongTypes,
    /// An object without any of the fields.
    NoFields,
    /// Invalid UTF-8 within an alias of an otherwise good `update`.
    InvalidUtf8,
    /// `data:` without anything.
    EmptyData,
    /// A kind of event that nobody knows.
    UnknownKind,
    /// An `update` whose instance is null.
    NullInstance,
    /// A comment, other fields, CR and CRLF line ends, an event in two data lines.
    Exotic,
    /// A `log` event with a line of so many bytes.
    Oversized {
        /// Bytes.
        bytes: usize,
    },
    /// A single line without end, of so many bytes, then the line end.
    Endless {
        /// Bytes.
        bytes: usize,
    },
}

impl Malformed {
    /// The bytes of the block, with its blank line.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let event = |data: &str| format!("event: instance\ndata: {data}\n\n").into_bytes();
        match self {
            Self::NotJson => event("tide gate"),
            Self::CutJson => event(r#"{"type":"update","time":"2026-11-23T06:19:42.545745121Z","instance":{"id":"9c32"#),
            Self::WrongTypes => event(r#"{"type":7,"time":{},"instance":[1,2],"logs":{"a":null}}"#),
            Self::NoFields => event("{}"),
            Self::InvalidUtf8 => {
                let mut bytes = event(
                    r#"{"type":"update","time":"2026-11-23T06:19:42.5Z","instance":{"id":"ffffff01","alias":"?","type":"server","status":"running","url":"server://127.0.0.1:1/127.0.0.1:2","tcprx":0,"tcptx":0,"udprx":0,"udptx":0}}"#,
                );
                bytes.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
                bytes
            }
            Self::EmptyData => b"event: instance\ndata:\n\n".to_vec(),
            Self::UnknownKind => event(r#"{"type":"eclipse","time":"2026-11-23T06:19:42Z","instance":null,"logs":""}"#),
            Self::NullInstance => event(r#"{"type":"update","time":"2026-11-23T06:19:42Z","instance":null,"logs":""}"#),
            Self::Exotic => b": comment\r\nid: 5\rfield: x\r\nevent: instance\r\ndata: {\"type\":\"update\",\r\ndata: \"instance\":null}\r\n\r\n".to_vec(),
            Self::Oversized { bytes } => event(&format!(
                r#"{{"type":"log","time":"2026-11-23T06:19:42Z","instance":null,"logs":"{}"}}"#,
                "x".repeat(bytes)
            )),
            Self::Endless { bytes } => {
                let mut line = vec![b'y'; bytes];
                line.extend_from_slice(b"\n\n");
                line
            }
        }
    }
}
