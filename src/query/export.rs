//! A table of events or history, page after page, in the order of its key.
//!
//! The cursor is the key of the last row. Pages are reads of their own: what is written or deleted behind the cursor while the
//! export runs is not seen. Only what is stored is exported, not what waits.

use std::time::Duration;

use chrono_tz::Tz;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::range::Range;
use super::{Names, QueryError, Scope, limit};
use crate::clock::Timestamp;
use crate::event::{EndpointId, InstanceId, TunnelKey};
use crate::history::ladder::Level;
use crate::id::EventId;
use crate::store::{EventRecord, HistoryPlace, ReadConnection, SCANNED_ROWS_MAX, Stretch, received_at};

/// Rows of a page, unless asked otherwise: a few milliseconds, a megabyte.
pub const PAGE_ROWS: u32 = 5_000;
/// Most rows of a page.
const PAGE_ROWS_MAX: u32 = 20_000;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Export {
    /// Events.
    Events,
    /// History by the minute, a row for each tunnel and minute.
    Minutes,
    /// History by the hour.
    Hours,
    /// History by the day.
    Days,
}

/// `?what=events|minutes|hours|days&since=&until=&endpoint=&tunnel=ENDPOINT/ID&limit=5000&cursor=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Which table.
    pub what: Export,
    /// From then on: an age (`24h`), RFC 3339, or a date; everything unless given.
    #[param(min_length = 1, max_length = 64)]
    pub since: Option<String>,
    /// Until then; now unless given.
    #[param(min_length = 1, max_length = 64)]
    pub until: Option<String>,
    /// Only of this endpoint.
    pub endpoint: Option<String>,
    /// Only of this tunnel.
    #[param(pattern = "^[^/]+/.+$")]
    pub tunnel: Option<String>,
    /// About how many rows; 5000 unless given.
    #[param(minimum = 1, maximum = 20_000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(min_length = 1)]
    pub cursor: Option<String>,
}

/// `GET /api/v1/export`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportPage {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, in the order of the table's key, each with a value for each column. May be none while `next` is not null.
    pub rows: Vec<Vec<Value>>,
    /// `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}

const EVENT_COLUMNS: [&str; 17] = [
    "id",
    "received",
    "event_time",
    "kind",
    "endpoint",
    "instance_id",
    "status",
    "tcp_rx",
    "tcp_tx",
    "udp_rx",
    "udp_tx",
    "tcps",
    "udps",
    "pool",
    "ping",
    "logs",
    "detail",
];
const HISTORY_COLUMNS: [&str; 18] = [
    "time",
    "endpoint",
    "instance_id",
    "tcp_in",
    "tcp_out",
    "udp_in",
    "udp_out",
    "speed_in",
    "speed_out",
    "ping_avg",
    "ping_min",
    "ping_max",
    "pool",
    "tcps",
    "udps",
    "reports",
    "expected",
    "covered_ms",
];
/// Which only days have.
const ZONE_CHANGED: &str = "zone_changed";

/// A page.
///
/// # Errors
/// [`QueryError`].
pub fn answer(reader: &mut ReadConnection, query: &ExportQuery, now: Timestamp, zone: Tz) -> Result<ExportPage, QueryError> {
    let range = Range::parse(query.since.as_deref(), query.until.as_deref(), Duration::MAX, now, zone)?;
    let rows_max = limit(query.limit, PAGE_ROWS, PAGE_ROWS_MAX)?;
    let names = Names::read(reader)?;
    let scope = names.scope(query.endpoint.as_deref(), query.tunnel.as_deref())?;
    let level = match query.what {
        Export::Events => return events(reader, query, &names, &scope, range, rows_max),
        Export::Minutes => Level::Minutes,
        Export::Hours => Level::Hours,
        Export::Days => Level::Days,
    };
    let after = query.cursor.as_deref().map(place).transpose()?;
    let page = reader.history_after(level, &scope, (range.from, range.until), after.as_ref(), rows_max)?;
    let next = page.next.map(|HistoryPlace { tunnel, time }| format!("{}:{}:{}", tunnel.endpoint, time.0, tunnel.instance));
    let row = |(tunnel, stretch): &(TunnelKey, Stretch)| {
        let mut row = history_row(tunnel, stretch, &names);
        row.extend((level == Level::Days).then(|| json!(stretch.zone_changed)));
        row
    };
    let columns = HISTORY_COLUMNS.into_iter().chain((level == Level::Days).then_some(ZONE_CHANGED));
    Ok(ExportPage { columns: columns.map(str::to_owned).collect(), rows: page.rows.iter().map(row).collect(), next })
}

fn events(
    reader: &mut ReadConnection,
    query: &ExportQuery,
    names: &Names,
    scope: &Scope,
    range: Range,
    rows_max: u32,
) -> Result<ExportPage, QueryError> {
    let columns = EVENT_COLUMNS.map(str::to_owned).to_vec();
    let after = super::id("cursor", query.cursor.as_deref())?;
    let Some((first, last)) = reader.event_ids_within(range)? else {
        return Ok(ExportPage { columns, ..ExportPage::default() });
    };
    let above = after.unwrap_or(i64::MIN).max(first.saturating_sub(1));
    let (events, next) = reader.events_after(scope, above, last, rows_max, SCANNED_ROWS_MAX)?;
    let spans = match (events.first(), events.last()) {
        (Some(first), Some(last)) => reader.flush_spans(first.id, last.id)?,
        _ => Vec::new(),
    };
    let rows = events.into_iter().filter_map(|event| {
        let received = received_at(EventId(event.id), &spans);
        (range.from..range.until).contains(&received).then(|| event_row(event, received, names))
    });
    Ok(ExportPage { columns, rows: rows.collect(), next: next.map(|id| id.to_string()) })
}

/// `ENDPOINT:MICROSECONDS:INSTANCE`.
fn place(cursor: &str) -> Result<HistoryPlace, QueryError> {
    let parsed = || {
        let (endpoint, rest) = cursor.split_once(':')?;
        let (time, instance) = rest.split_once(':')?;
        let tunnel = TunnelKey { endpoint: EndpointId(endpoint.parse().ok()?), instance: InstanceId::from(instance) };
        Some(HistoryPlace { tunnel, time: Timestamp(time.parse().ok()?) })
    };
    parsed().ok_or_else(|| QueryError::Invalid("`cursor` is none: give what `next` of an earlier answer was".to_owned()))
}

fn event_row(event: EventRecord, received: Timestamp, names: &Names) -> Vec<Value> {
    vec![
        json!(event.id.to_string()),
        json!(received.to_string()),
        json!(event.event_time.map(|time| Timestamp(time).to_string())),
        json!(event.event_type),
        json!(names.of(EndpointId(event.endpoint_id))),
        json!(event.instance_id),
        json!(event.status),
        json!(event.tcp_rx),
        json!(event.tcp_tx),
        json!(event.udp_rx),
        json!(event.udp_tx),
        json!(event.tcps),
        json!(event.udps),
        json!(event.pool),
        json!(event.ping),
        json!(event.logs),
        json!(event.detail.map(|detail| serde_json::from_str(&detail).unwrap_or(Value::String(detail)))),
    ]
}

fn history_row(tunnel: &TunnelKey, stretch: &Stretch, names: &Names) -> Vec<Value> {
    let figures = &stretch.totals.figures;
    vec![
        json!(stretch.start.to_string()),
        json!(names.of(tunnel.endpoint)),
        json!(tunnel.instance.as_str()),
        json!(figures.delta.tcp_rx),
        json!(figures.delta.tcp_tx),
        json!(figures.delta.udp_rx),
        json!(figures.delta.udp_tx),
        json!(stretch.totals.speed_in),
        json!(stretch.totals.speed_out),
        json!(figures.ping.map(|ping| (ping.mean() * 100.0).round() / 100.0)),
        json!(figures.ping.map(|ping| ping.min)),
        json!(figures.ping.map(|ping| ping.max)),
        json!(figures.pool),
        json!(figures.tcps),
        json!(figures.udps),
        json!(figures.record_count),
        json!(figures.expected_count),
        json!(figures.covered_ms),
    ]
}
