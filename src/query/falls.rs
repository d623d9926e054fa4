//! Counters that fell: when, from what to what, what it was as far as something shows it, and how much of it was counted.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::range::{EVER, Range};
use super::{Names, QueryError, id, limit};
use crate::clock::Timestamp;
use crate::event::Counters;
use crate::store::{CounterEvent, FallFilter, ReadConnection};

/// Falls of an answer, unless asked otherwise.
const LIMIT_DEFAULT: u32 = 50;
/// Most falls of an answer.
pub const LIMIT_MAX: u32 = 1_000;
/// The kinds that there are.
const KINDS: [&str; 4] = ["reset", "reset_undone", "fall_back", "fall_unknown"];

/// `?endpoint=NAME&tunnel=ENDPOINT/ID&kind=&since=&until=&limit=50&before=ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FallQuery {
    /// Only of this endpoint.
    pub endpoint: Option<String>,
    /// Only of this tunnel.
    pub tunnel: Option<String>,
    /// Only of this kind: `reset`, `reset_undone`, `fall_back`, `fall_unknown`.
    pub kind: Option<String>,
    /// Only since then: an age (`24h`), RFC 3339, or a date.
    pub since: Option<String>,
    /// Only before then.
    pub until: Option<String>,
    /// How many; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only older ones than this; `next` of the answer before.
    pub before: Option<String>,
}

/// `GET /api/v1/falls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Falls {
    /// Newest first.
    pub falls: Vec<FallDocument>,
    /// `before` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// A fall, or that one was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FallDocument {
    /// Id of the event that showed it.
    pub id: String,
    /// When that was received; RFC 3339.
    pub time: String,
    /// Name of the endpoint; `null` if it was removed.
    pub endpoint: Option<String>,
    /// The instance.
    pub instance_id: String,
    /// `reset`: to 0. `reset_undone`: what was before a fall is back. `fall_back`: the master was started anew, with older figures.
    /// `fall_unknown`: nothing shows why; what was moved meanwhile is not known and counts 0.
    pub kind: String,
    /// The counters before it.
    pub before: FallCounters,
    /// The counters after it.
    pub after: FallCounters,
    /// What was counted with it.
    pub counted: FallCounters,
    /// Whether it is in the database already, or waits to be written.
    pub stored: bool,
}

/// Bytes, seen from the instance's non-tunnel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FallCounters {
    /// Received over TCP.
    pub tcp_in: u64,
    /// Sent over TCP.
    pub tcp_out: u64,
    /// Received over UDP.
    pub udp_in: u64,
    /// Sent over UDP.
    pub udp_out: u64,
}

impl From<Counters> for FallCounters {
    fn from(Counters { tcp_rx, tcp_tx, udp_rx, udp_tx }: Counters) -> Self {
        Self { tcp_in: tcp_rx, tcp_out: tcp_tx, udp_in: udp_rx, udp_out: udp_tx }
    }
}

/// A page of falls. `waiting` are those that the recorder had before the database is read here; what was committed since is in both.
///
/// # Errors
/// [`QueryError`].
pub fn answer(
    reader: &mut ReadConnection,
    query: &FallQuery,
    waiting: &[CounterEvent],
    now: Timestamp,
    zone: chrono_tz::Tz,
) -> Result<Falls, QueryError> {
    let limit = limit(query.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let below = id("before", query.before.as_deref())?.unwrap_or(i64::MAX);
    let kind = query.kind.as_deref();
    if kind.is_some_and(|kind| !KINDS.contains(&kind)) {
        return Err(QueryError::Invalid(format!("kind is one of {}", KINDS.join(", "))));
    }
    let range = Range::parse(query.since.as_deref(), query.until.as_deref(), EVER, now, zone)?;
    // What came in this very moment is no later than now.
    let until = if query.until.is_some() { range.until } else { Timestamp(i64::MAX) };
    let names = Names::read(reader)?;
    let scope = names.scope(query.endpoint.as_deref(), query.tunnel.as_deref())?;
    let filter = FallFilter { scope, kind: kind.map(str::to_owned), from: range.from, until };
    let stored = reader.falls_before(&filter, below, limit)?;
    let mut rows: Vec<(CounterEvent, bool)> = stored.into_iter().map(|fall| (fall, true)).collect();
    for fall in waiting.iter().filter(|fall| fall.event.0 < below && filter.takes(fall)) {
        // It was committed between the two looks.
        if !rows.iter().any(|(known, _)| known.event == fall.event) {
            rows.push((fall.clone(), false));
        }
    }
    rows.sort_by_key(|(fall, _)| std::cmp::Reverse(fall.event));
    let more = rows.len() >= limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|(fall, _)| fall.event.to_string());
    let document = |(fall, stored): (CounterEvent, bool)| FallDocument {
        id: fall.event.to_string(),
        time: fall.at.to_string(),
        endpoint: names.of(fall.tunnel.endpoint).map(str::to_owned),
        instance_id: fall.tunnel.instance.as_str().to_owned(),
        kind: fall.kind.into(),
        before: fall.before.into(),
        after: fall.after.into(),
        counted: fall.counted.into(),
        stored,
    };
    Ok(Falls { falls: rows.into_iter().map(document).collect(), next })
}
