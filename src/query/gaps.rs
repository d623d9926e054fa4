//! From when to when nothing is known, and why.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::buffered::{Wanted, What};
use super::{Names, QueryError, id, limit};
use crate::clock::Timestamp;
use crate::event::{EndpointId, Record};
use crate::store::{GapRecord, ReadConnection};

/// Gaps of an answer, unless asked otherwise.
const LIMIT_DEFAULT: u32 = 50;
/// Most gaps of an answer.
const LIMIT_MAX: u32 = 1_000;

/// `?endpoint=NAME&tunnel=ENDPOINT/ID&limit=50&before=ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GapQuery {
    /// Only of this endpoint.
    pub endpoint: Option<String>,
    /// Only of this tunnel and of its whole endpoint.
    #[param(pattern = "^[^/]+/.+$")]
    pub tunnel: Option<String>,
    /// How many; 50 unless given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only older ones than this; `next` of the answer before.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    pub before: Option<String>,
}

impl GapQuery {
    /// What is of use from the buffer.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        // The limit is judged with the answer; a larger one is refused there.
        Wanted::newest(What::Gaps, LIMIT_MAX as usize).of(self.endpoint.as_deref(), self.tunnel.as_deref())
    }
}

/// `GET /api/v1/gaps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gaps {
    /// Newest first.
    pub gaps: Vec<GapDocument>,
    /// `before` of the next page; `null` at the end.
    pub next: Option<String>,
}

/// A gap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapDocument {
    /// Its id, from the events' sequence.
    pub id: String,
    /// Name of the endpoint; `null` if it was removed.
    pub endpoint: Option<String>,
    /// The instance; empty where the gap concerns the whole endpoint.
    pub instance_id: String,
    /// From when; RFC 3339.
    pub from: String,
    /// Until when.
    pub to: String,
    /// `connection_lost`, `master_shutdown`, `silent`, `reconfigured`, `recorder_stopped`, `vanished`, `refused`. With
    /// `master_restarted` nothing is missing: the master was started anew at `from`.
    pub reason: String,
    /// Whether it is in the database already, or still in the buffer.
    pub stored: bool,
}

/// A page of gaps. `buffered` are those that are not in the database.
///
/// # Errors
/// [`QueryError`].
pub fn answer(reader: &mut ReadConnection, query: &GapQuery, buffered: &[Record]) -> Result<Gaps, QueryError> {
    let limit = limit(query.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let below = id("before", query.before.as_deref())?.unwrap_or(i64::MAX);
    let names = Names::read(reader)?;
    let scope = names.scope(query.endpoint.as_deref(), query.tunnel.as_deref())?;
    let stored = reader.gaps_before(&scope, below, limit)?;
    let mut rows: Vec<(GapRecord, bool)> = stored.into_iter().map(|gap| (gap, true)).collect();
    let waiting = buffered.iter().filter_map(as_gap).filter(|gap| gap.id < below);
    for gap in waiting {
        // It was committed between the two looks.
        if !rows.iter().any(|(known, _)| known.id == gap.id) {
            rows.push((gap, false));
        }
    }
    rows.sort_by_key(|(gap, _)| std::cmp::Reverse(gap.id));
    let more = rows.len() >= limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|(gap, _)| gap.id.to_string());
    let document = |(gap, stored): (GapRecord, bool)| GapDocument {
        id: gap.id.to_string(),
        endpoint: names.of(EndpointId(gap.endpoint_id)).map(str::to_owned),
        instance_id: gap.instance_id,
        from: Timestamp(gap.from_time).to_string(),
        to: Timestamp(gap.to_time).to_string(),
        reason: gap.reason,
        stored,
    };
    Ok(Gaps { gaps: rows.into_iter().map(document).collect(), next })
}

fn as_gap(record: &Record) -> Option<GapRecord> {
    let Record::Gap(gap) = record else { return None };
    Some(GapRecord {
        id: gap.id.0,
        endpoint_id: gap.endpoint.0,
        instance_id: gap.instance.as_str().to_owned(),
        from_time: gap.from.0,
        to_time: gap.to.0,
        reason: gap.reason.to_string(),
    })
}
