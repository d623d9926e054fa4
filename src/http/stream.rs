//! `/api/v1/stream`: what changes, as server-sent events.
//!
//! Once a second, while there are readers, the hub asks the [`mirror`] what changed and makes one message for
//! each choice of tunnels that a reader has made; readers share its bytes. Who does not take them is disconnected: a queue of
//! a few messages is all that is kept for a reader.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use socket2::Socket;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use utoipa::{IntoParams, ToSchema};

use super::connection;
use super::document::{AlertDocument, Alerts, EndpointDocument, TunnelDocument};
use super::mirror::{self, Mirror, Picture, Removed};
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::alerts::AlertsState;
use crate::clock::SharedClock;
use crate::status::snapshot::{ProcessStats, Stats};

/// A reader hears of changes this often at most.
const PERIOD: Duration = Duration::from_secs(1);
/// Without anything to say for so many periods a comment is sent: proxies close what is silent for a minute.
const QUIET_MAX: u32 = 15;
/// Readers at a time: a page in every browser of a team, several times over.
pub const READERS_MAX: usize = 256;
/// Messages that wait for one reader, beside what the system holds for its connection. More is a reader that does not follow.
const WAITING_MAX: usize = 8;
/// Bytes that are handed to a connection at a time, so that little is copied for a reader that takes nothing.
const PIECE_BYTES: usize = 16 << 10;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/stream").get(stream::<R>));
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// Which tunnels are told of: `none` (default), `all`, `ENDPOINT` or `ENDPOINT/INSTANCE_ID`; `NAME/` for an endpoint of the
    /// name `all` or `none`.
    tunnels: Option<String>,
}

/// Data of the events `snapshot` and `update`. What is absent is unchanged. What is in both of `removed_*` and of the list beside
/// it was removed and is back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is written from texts that are ready, see `members`; this is its description")]
pub(super) struct StreamData {
    /// When it was made; RFC 3339.
    time: String,
    /// As `GET /api/v1/stats`. Told when anything in it changed but times and memory.
    stats: Option<Stats>,
    /// All alerts that are not over, whenever these change.
    alerts: Option<Vec<AlertDocument>>,
    /// Endpoints that changed; all of them in a snapshot.
    endpoints: Option<Vec<EndpointDocument>>,
    /// Names of endpoints that are gone.
    removed_endpoints: Option<Vec<String>>,
    /// Tunnels that changed, of those asked for; all of them in a snapshot.
    tunnels: Option<Vec<TunnelDocument>>,
    /// Tunnels that are gone: endpoint and instance.
    removed_tunnels: Option<Vec<(String, String)>>,
}

/// What changes, as server-sent events: `snapshot` once, then at most one `update` a second, and a comment now and then.
#[utoipa::path(get, path = "/api/v1/stream", tag = "state", params(StreamQuery), responses(
    (status = 200, description = "Events whose data is a `StreamData`; `id` rises", body = StreamData, content_type = "text/event-stream"),
    (status = 503, description = "Too many readers, or the recorder is not there yet", body = Problem, content_type = "application/problem+json"),
))]
async fn stream<R: RecorderApi>(request: HttpRequest, hub: web::Data<Hub<R>>, query: web::Query<StreamQuery>) -> Answer {
    let wanted = Wanted::parse(query.tunnels.as_deref().unwrap_or("none"));
    let body = Hub::join(&hub, wanted, connection::socket(&request)).await?;
    Ok(HttpResponse::Ok()
        .insert_header(ContentType("text/event-stream".parse().expect("a media type")))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Or nginx holds events back until it has a few kilobytes.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

/// The tunnels that a reader wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    None,
    All,
    Endpoint(String),
    Tunnel(String, String),
}

impl Wanted {
    fn parse(text: &str) -> Self {
        match (text, text.split_once('/')) {
            ("none", _) => Self::None,
            ("all", _) => Self::All,
            (_, Some((endpoint, ""))) => Self::Endpoint(endpoint.to_owned()),
            (_, Some((endpoint, instance))) => Self::Tunnel(endpoint.to_owned(), instance.to_owned()),
            (endpoint, None) => Self::Endpoint(endpoint.to_owned()),
        }
    }

    /// The documents of its tunnels that changed after a revision, as a JSON array; `None` if it wants none.
    fn tunnels_after(&self, picture: &Picture, revision: u64) -> Option<String> {
        Some(match self {
            Self::None => return None,
            Self::All => mirror::list(picture.tunnels_after(revision, None, None)),
            Self::Endpoint(endpoint) => mirror::list(picture.tunnels_after(revision, Some(endpoint), None)),
            Self::Tunnel(endpoint, instance) => mirror::list(picture.tunnels_after(revision, Some(endpoint), Some(instance))),
        })
    }

    fn holds(&self, endpoint: &str, instance: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Endpoint(name) => name == endpoint,
            Self::Tunnel(name, id) => name == endpoint && id == instance,
        }
    }
}

/// A message: what all readers are told, and what those of the same tunnels are told beside it.
type Message = [Bytes; 2];

struct Reader {
    wanted: Wanted,
    queue: mpsc::Sender<Message>,
    /// Its connection, to end it. `None` where it could not be had: then it ends when the reader takes what it was sent.
    socket: Option<Arc<Socket>>,
}

/// All readers, and what they were told last.
pub struct Hub<R> {
    recorder: R,
    mirror: web::Data<Mirror<R>>,
    clock: SharedClock,
    told: RefCell<Told>,
    cut_off: Cell<u64>,
}

#[derive(Default)]
struct Told {
    readers: Vec<Reader>,
    is_running: bool,
    id: u64,
    revision: u64,
    stats: Stats,
    alerts: AlertsState,
    quiet: u32,
    /// Snapshots that were made since the last update, for readers that come together.
    snapshots: BTreeMap<Wanted, Message>,
}

impl<R: RecorderApi> Hub<R> {
    /// A hub without readers.
    #[must_use]
    pub fn new(recorder: R, mirror: web::Data<Mirror<R>>, clock: SharedClock) -> Self {
        Self { recorder, mirror, clock, told: RefCell::default(), cut_off: Cell::default() }
    }

    /// Readers there are.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.told.borrow().readers.iter().filter(|reader| !reader.queue.is_closed()).count()
    }

    /// Readers that were disconnected since they did not follow.
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        self.cut_off.get()
    }

    /// A body that begins with a snapshot and goes on with updates.
    async fn join(
        this: &web::Data<Self>,
        wanted: Wanted,
        socket: Option<Arc<Socket>>,
    ) -> Result<impl Stream<Item = Result<Bytes, Problem>> + use<R>, Problem> {
        let unavailable = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        this.mirror.refresh().await?;
        if this.readers() >= READERS_MAX {
            return Err(unavailable("as many readers as are allowed follow the stream already; close one, or poll"));
        }
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        // A queue that was just made has room.
        let _ = queue.try_send(this.snapshot(&wanted));
        let mut told = this.told.borrow_mut();
        told.readers.push(Reader { wanted, queue, socket });
        if !told.is_running {
            told.is_running = true;
            told.revision = this.mirror.read(Picture::revision);
            this.mirror.note_removed(true);
            actix_web::rt::spawn(Self::run(this.clone()));
        }
        Ok(pieces(waiting))
    }

    async fn run(this: web::Data<Self>) {
        let running = Running(this);
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        while {
            ticks.tick().await;
            running.0.tell().await
        } {}
    }

    /// Lets go of all readers and of what they were told; who joins next starts anew.
    fn rest(&self) {
        // Not where this is held, or a panic that is under way would end the program.
        if let Ok(mut told) = self.told.try_borrow_mut() {
            // Ids rise over it.
            *told = Told { id: told.id, ..Told::default() };
        }
        self.mirror.note_removed(false);
    }

    fn snapshot(&self, wanted: &Wanted) -> Message {
        let mut told = self.told.borrow_mut();
        if let Some(message) = told.snapshots.get(wanted) {
            return message.clone();
        }
        told.id += 1;
        let (stats, alerts) = (self.recorder.stats(), self.recorder.alerts());
        let message = self.mirror.read(|picture| {
            let shared = self.members(Some(&stats), Some(&alerts), Some(&mirror::list(picture.endpoints_after(0))), None);
            let tunnels = wanted.tunnels_after(picture, 0).map(|tunnels| format!(",\"tunnels\":{tunnels}"));
            [event("snapshot", told.id, &shared), format!("{}}}\n\n", tunnels.unwrap_or_default()).into()]
        });
        told.snapshots.insert(wanted.clone(), message.clone());
        message
    }

    /// Tells all readers what changed since the last time; false if there is none left.
    async fn tell(&self) -> bool {
        let readers_left = {
            let readers = &mut self.told.borrow_mut().readers;
            readers.retain(|reader| !reader.queue.is_closed());
            !readers.is_empty()
        };
        if !readers_left {
            return false;
        }
        // While the recorder does not answer there are its stats, which say so.
        let _ = self.mirror.refresh_now().await;
        let removed = self.mirror.take_removed();
        let (stats, alerts) = (self.recorder.stats(), self.recorder.alerts());
        let mut told = self.told.borrow_mut();
        let told = &mut *told;
        told.id += 1;
        told.snapshots.clear();
        self.mirror.read(|picture| {
            let news = News { since: told.revision, removed };
            let stats_changed = without_times(&stats) != without_times(&told.stats);
            let endpoints = Some(mirror::list(picture.endpoints_after(told.revision))).filter(|list| list != "[]");
            let gone = Some(&news.removed.endpoints).filter(|gone| !gone.is_empty()).map(json);
            let changed_alerts = Some(&alerts).filter(|alerts| alerts.active != told.alerts.active);
            let shared_changed = stats_changed || changed_alerts.is_some() || endpoints.is_some() || gone.is_some();
            let changed_stats = stats_changed.then_some(&stats);
            let shared = self.members(changed_stats, changed_alerts, endpoints.as_deref(), gone.as_deref());
            let shared = event("update", told.id, &shared);
            let quiet = told.quiet + 1;
            let mut tails: BTreeMap<Wanted, Option<Bytes>> = BTreeMap::new();
            let mut spoken = false;
            told.readers.retain(|reader| {
                let tail = tails.entry(reader.wanted.clone()).or_insert_with(|| news.tail(picture, &reader.wanted));
                let message = match tail {
                    Some(tail) => [shared.clone(), tail.clone()],
                    None if shared_changed => [shared.clone(), Bytes::from_static(b"}\n\n")],
                    None if quiet >= QUIET_MAX => [Bytes::from_static(b": nothing new\n\n"), Bytes::new()],
                    None => return true,
                };
                spoken = true;
                let follows = reader.take(message);
                let is_cut_off = !follows && !reader.queue.is_closed();
                self.cut_off.set(self.cut_off.get() + u64::from(is_cut_off));
                follows
            });
            told.quiet = if spoken { 0 } else { quiet };
            told.revision = picture.revision();
        });
        (told.stats, told.alerts) = (stats, alerts);
        true
    }

    /// The members of a message that all readers are told.
    fn members(
        &self,
        stats: Option<&Stats>,
        alerts: Option<&AlertsState>,
        endpoints: Option<&str>,
        removed_endpoints: Option<&str>,
    ) -> String {
        let mut text = format!("\"time\":\"{}\"", self.clock.wall());
        let (stats, alerts) = (stats.map(json), alerts.map(|alerts| json(&Alerts::from(alerts).active)));
        for (name, value) in [
            ("stats", stats.as_deref()),
            ("alerts", alerts.as_deref()),
            ("removed_endpoints", removed_endpoints),
            ("endpoints", endpoints),
        ] {
            if let Some(value) = value {
                text.push_str(&format!(",\"{name}\":{value}"));
            }
        }
        text
    }
}

/// The task that tells the readers. However it ends, by a panic too, the hub does not go on believing that it runs: readers that
/// are left see their streams end and come back.
struct Running<R: RecorderApi>(web::Data<Hub<R>>);

impl<R: RecorderApi> Drop for Running<R> {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// What changed since the last update.
struct News {
    since: u64,
    removed: Removed,
}

impl News {
    /// The end of the message for readers of these tunnels; `None` if there is nothing about them.
    fn tail(&self, picture: &Picture, wanted: &Wanted) -> Option<Bytes> {
        let tunnels = wanted.tunnels_after(picture, self.since)?;
        let removed: Vec<_> = self.removed.tunnels.iter().filter(|(endpoint, id)| wanted.holds(endpoint, id)).collect();
        if tunnels == "[]" && removed.is_empty() {
            return None;
        }
        let removed = if removed.is_empty() { String::new() } else { format!(",\"removed_tunnels\":{}", json(&removed)) };
        Some(format!("{removed},\"tunnels\":{tunnels}}}\n\n").into())
    }
}

impl Reader {
    /// Hands it a message; false if it does not follow, and then its connection is ended.
    fn take(&self, message: Message) -> bool {
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(error) => {
                if let (mpsc::error::TrySendError::Full(_), Some(socket)) = (error, &self.socket) {
                    // It may have ended by itself meanwhile.
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                }
                false
            }
        }
    }
}

/// The stats without what changes by itself.
fn without_times(stats: &Stats) -> Stats {
    let mut stats = stats.clone();
    stats.optimized_storage.oldest_unflushed_s = 0.0;
    if let Some(process) = stats.process.take() {
        stats.process = Some(ProcessStats { uptime_s: 0.0, rss_bytes: 0, ..process });
    }
    stats
}

fn event(kind: &str, id: u64, members: &str) -> Bytes {
    format!("event: {kind}\nid: {id}\ndata: {{{members}").into()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values can be written")
}

/// The messages of a queue in pieces for the connection.
fn pieces(waiting: mpsc::Receiver<Message>) -> impl Stream<Item = Result<Bytes, Problem>> {
    let messages = stream::unfold(waiting, |mut waiting| async move { Some((waiting.recv().await?, waiting)) });
    messages.flat_map(|message| {
        let pieces = message.into_iter().flat_map(|mut part| {
            std::iter::from_fn(move || {
                let next = part.split_to(part.len().min(PIECE_BYTES));
                (!next.is_empty()).then_some(Ok(next))
            })
        });
        stream::iter(pieces)
    })
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
