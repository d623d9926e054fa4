//! What was moved today, this month and in this billing cycle: by the fleet, by each endpoint, by each tunnel.
//!
//! Days are summed, as they were cut, so a period reaches as far back as `retention.days`. What the recorder has and the database has not is added.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::calendar::Periods;
use super::history::{counts, not_stored};
use super::range::Range;
use super::{Names, QueryError, Scope};
use crate::actors::buffer::WaitingHistory;
use crate::clock::Timestamp;
use crate::event::{Counters, EndpointId, InstanceId, TunnelKey};
use crate::history::ladder::FLEET;
use crate::store::{DayTraffic, ReadConnection};

/// `?by=fleet|endpoint|tunnel&endpoint=NAME&period=today|month|cycle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrafficQuery {
    /// A row for the fleet (unless given), for each endpoint, or for each tunnel.
    pub by: Option<By>,
    /// Only of this endpoint.
    pub endpoint: Option<String>,
    /// Only this period: what the others need is not read. All three unless given.
    pub period: Option<PeriodName>,
}

/// One of the periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PeriodName {
    /// The day.
    Today,
    /// The calendar month.
    Month,
    /// The billing cycle.
    Cycle,
}

/// What a row stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// All endpoints together.
    #[default]
    Fleet,
    /// An endpoint.
    Endpoint,
    /// A tunnel.
    Tunnel,
}

/// `GET /api/v1/traffic`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Zone of the periods.
    pub timezone: String,
    /// What the figures count.
    pub counts: String,
    /// From when to when.
    pub periods: PeriodsDocument,
    /// By endpoint and instance.
    pub rows: Vec<TrafficRow>,
    /// Rows that wait in the journal alone and are not counted here: the database was away for long.
    pub in_journal_only: u64,
}

/// The periods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeriodsDocument {
    /// The day.
    pub today: Period,
    /// The calendar month.
    pub month: Period,
    /// The billing cycle, from `billing.start_day` on.
    pub cycle: Period,
}

/// A period; RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Period {
    /// Start.
    pub from: String,
    /// End, which does not belong to it.
    pub to: String,
}

impl From<Range> for Period {
    fn from(range: Range) -> Self {
        Self { from: range.from.to_string(), to: range.until.to_string() }
    }
}

/// The traffic of the fleet, an endpoint or a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficRow {
    /// Name of the endpoint; `null` for the fleet, and if it was removed.
    pub endpoint: Option<String>,
    /// The instance, for a tunnel.
    pub instance_id: Option<String>,
    /// The tunnel's alias; empty if it has none or is gone.
    pub alias: String,
    /// Of the day; left out where another `period` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub today: Option<Moved>,
    /// Of the month; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month: Option<Moved>,
    /// Of the billing cycle; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Moved>,
}

/// Bytes, TCP and UDP, seen from the non-tunnel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// Received.
    #[serde(rename = "in")]
    pub received: u64,
    /// Sent.
    #[serde(rename = "out")]
    pub sent: u64,
}

impl Moved {
    fn plus(&mut self, other: Self) {
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
    }

    fn add(&mut self, delta: Counters) {
        self.received = self.received.saturating_add(delta.tcp_rx).saturating_add(delta.udp_rx);
        self.sent = self.sent.saturating_add(delta.tcp_tx).saturating_add(delta.udp_tx);
    }
}

/// What the periods depend on beside the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Billing {
    /// `storage.timezone`.
    pub timezone: Tz,
    /// `billing.start_day`.
    pub start_day: u8,
}

/// What of the waiting rows is of use.
///
/// # Errors
/// [`QueryError::NotFound`].
pub fn scope(query: &TrafficQuery, names: &Names) -> Result<Scope, QueryError> {
    names.scope(query.endpoint.as_deref(), None)
}

/// The sums. `None`: what waited in memory was committed meanwhile, ask the recorder anew.
///
/// # Errors
/// [`QueryError`].
pub fn answer(
    reader: &mut ReadConnection,
    query: &TrafficQuery,
    waiting: &WaitingHistory,
    now: Timestamp,
    billing: Billing,
) -> Result<Option<Traffic>, QueryError> {
    reader.in_snapshot(|reader| {
        let Some(rows) = not_stored(reader, waiting)? else { return Ok(None) };
        let names = Names::read(reader)?;
        // What waits is counted in the day that it will be stored in.
        let periods = Periods::at(now, billing.timezone, billing.start_day, &reader.calendar()?);
        let endpoint = match scope(query, &names)? {
            Scope::Endpoint(id) => Some(id),
            _ => None,
        };
        let by = match (query.by, endpoint) {
            (Some(By::Fleet), Some(_)) => {
                return Err(QueryError::Invalid(
                    "`by=fleet` is of all endpoints: leave `endpoint` out, or give another `by`".to_owned(),
                ));
            }
            (None, Some(_)) => By::Endpoint,
            (by, _) => by.unwrap_or_default(),
        };
        let wanted = |name: PeriodName| query.period.is_none_or(|only| only == name);
        let [today, month, cycle] = [PeriodName::Today, PeriodName::Month, PeriodName::Cycle].map(wanted);
        let asked = [periods.today, periods.month, periods.cycle].into_iter().zip([today, month, cycle]);
        let asked: Vec<(usize, Range)> =
            asked.enumerate().filter_map(|(place, (period, wanted))| wanted.then_some((place, period))).collect();
        let places = |time: Timestamp| {
            let within = move |(_, period): &&(usize, Range)| (period.from..period.until).contains(&time);
            asked.iter().filter(within).map(|(place, _)| *place)
        };
        let mut sums: BTreeMap<TunnelKey, [Moved; 3]> = BTreeMap::new();
        let all = Range {
            from: asked.iter().map(|(_, period)| period.from).min().unwrap_or_default(),
            until: asked.iter().map(|(_, period)| period.until).max().unwrap_or_default(),
        };
        for DayTraffic { tunnel, start, delta } in stored(reader, by, endpoint, all)? {
            if places(start).next().is_some() {
                let sums = sums.entry(tunnel).or_default();
                places(start).for_each(|place| sums[place].add(delta));
            }
        }
        let whole = |id: EndpointId| TunnelKey { endpoint: id, instance: InstanceId::default() };
        // Many rows wait, and those of one tunnel follow each other.
        let mut waiting_sums: Vec<(&TunnelKey, [Moved; 3])> = Vec::new();
        for row in rows.into_iter().filter(|row| endpoint.is_none_or(|id| id == row.tunnel.endpoint)) {
            let counts = match by {
                By::Fleet => row.in_totals.fleet,
                By::Endpoint => row.in_totals.endpoint,
                By::Tunnel => true,
            };
            for place in places(row.minute).filter(|_| counts) {
                if waiting_sums.last().is_none_or(|(tunnel, _)| **tunnel != row.tunnel) {
                    waiting_sums.push((&row.tunnel, Default::default()));
                }
                if let Some((_, sums)) = waiting_sums.last_mut() {
                    sums[place].add(row.figures.delta);
                }
            }
        }
        for (tunnel, moved) in waiting_sums {
            let key = match by {
                By::Fleet => whole(FLEET),
                By::Endpoint => whole(tunnel.endpoint),
                By::Tunnel => tunnel.clone(),
            };
            let sums = sums.entry(key).or_default();
            sums.iter_mut().zip(moved).for_each(|(sum, moved)| sum.plus(moved));
        }
        if by == By::Fleet {
            sums.entry(whole(FLEET)).or_default();
        }
        let mut aliases: BTreeMap<TunnelKey, String> =
            if by == By::Tunnel { reader.aliases(endpoint)?.into_iter().collect() } else { BTreeMap::new() };
        let row = |(tunnel, moved): (TunnelKey, [Moved; 3])| TrafficRow {
            endpoint: names.of(tunnel.endpoint).map(str::to_owned),
            alias: aliases.remove(&tunnel).unwrap_or_default(),
            instance_id: (by == By::Tunnel).then(|| tunnel.instance.as_str().to_owned()),
            today: today.then_some(moved[0]),
            month: month.then_some(moved[1]),
            cycle: cycle.then_some(moved[2]),
        };
        let any = match by {
            By::Fleet => Scope::Fleet,
            By::Endpoint => Scope::Endpoint(EndpointId(0)),
            By::Tunnel => Scope::Tunnel(TunnelKey::default()),
        };
        Ok(Some(Traffic {
            timezone: billing.timezone.name().to_owned(),
            counts: counts(&any).to_owned(),
            periods: PeriodsDocument { today: periods.today.into(), month: periods.month.into(), cycle: periods.cycle.into() },
            rows: sums.into_iter().map(row).collect(),
            in_journal_only: waiting.missing,
        }))
    })
}

fn stored(reader: &mut ReadConnection, by: By, endpoint: Option<EndpointId>, days: Range) -> Result<Vec<DayTraffic>, QueryError> {
    Ok(match by {
        By::Fleet => reader.fleet_days(days)?,
        By::Tunnel => reader.tunnel_days(endpoint, days)?,
        By::Endpoint => {
            let mut days = reader.endpoint_days(days)?;
            days.retain(|day| endpoint.is_none_or(|id| id == day.tunnel.endpoint));
            days
        }
    })
}
