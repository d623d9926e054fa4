//! Storing what was recorded by another program: endpoints, tunnels, and history that goes into the ladder beside what is there.
//!
//! All of an import is one transaction: it is there as a whole or not at all, whenever it is interrupted. For each tunnel
//! `history_imports` notes how far its history was imported, and a later import goes on from there; what this program
//! recorded itself is never added to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use diesel::connection::SimpleConnection;
use diesel::dsl::min;
use diesel::upsert::excluded;
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl};

use super::connection::{Connection, Phase, on, query_error};
use super::diesel_store::{self, transaction};
use super::endpoints::Failure;
use super::events::text;
use super::history::add_account;
use super::lock::FileLock;
use super::schema::{history_days, history_hours, history_imports, retention_floors, service_history};
use super::{BATCH_SIZE_MAX, DatabaseUrl, EndpointChange, HistoryRow, LiveChanges, NewEndpoint, StoreError};
use super::{endpoints, ladder, live, migrate, zones};
use crate::clock::Timestamp;
use crate::endpoint::Endpoint;
use crate::event::{Counters, EndpointId, InstanceConfig, Sample, TunnelKey, TunnelState};
use crate::history::InTotals;
use crate::history::calendar::Calendar;
use crate::history::figures::{Figures, sum};
use crate::history::ladder::{FLEET, Level, Placed, TotalRows, add, place};
use crate::id::EventId;

/// All boundaries of hours and days are multiples of this in UTC, so minutes can be added up to it before they are placed.
const QUARTER: i64 = 15 * Timestamp::MINUTE;
/// An import lasts longer than a call of a recorder, and waits for its source between two statements.
const POSTGRES_PATIENCE: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// For how long the levels are kept, as in the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Minutes.
    pub minutes: Duration,
    /// Hours.
    pub hours: Duration,
    /// Days; `None` is for ever.
    pub days: Option<Duration>,
}

/// From when on the levels take rows: a minute before its level's time goes to the next level only. Each is the start of a
/// stretch of the next level, so that none is there in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cuts {
    minutes: Timestamp,
    hours: Timestamp,
    days: Timestamp,
}

impl Cuts {
    fn new(kept: Kept, calendar: &Calendar, now: Timestamp) -> Self {
        let before = |kept: Duration| Timestamp(now.0.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX)));
        // The first stretch that is whole.
        let next_hour = |at: Timestamp| Timestamp(calendar.hour(at).0 + 60 * Timestamp::MINUTE);
        let days = kept.days.map_or(Timestamp(i64::MIN), |days| calendar.day_end(before(days)));
        let hours = calendar.day_end(before(kept.hours)).max(days);
        Self { minutes: next_hour(before(kept.minutes)).max(hours), hours, days }
    }

    fn of(self, level: Level) -> Timestamp {
        match level {
            Level::Minutes => self.minutes,
            Level::Hours => self.hours,
            Level::Days => self.days,
        }
    }
}

/// What became of a tunnel's minutes, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Minutes that were added.
    pub added: u64,
    /// Minutes that an earlier import has brought.
    pub there: u64,
    /// Minutes of a time that this program recorded itself.
    pub recorded: u64,
    /// Minutes older than everything that is kept.
    pub too_old: u64,
    /// Rows written or changed, in the order of [`Level::ALL`].
    pub rows: [u64; 3],
    /// Bytes that were added, by counter.
    pub moved: Counters,
}

impl Imported {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.there += other.there;
        self.recorded += other.recorded;
        self.too_old += other.too_old;
        self.rows = std::array::from_fn(|n| self.rows[n] + other.rows[n]);
        self.moved = sum(self.moved, other.moved);
    }
}

/// Runs `work` on the database at `url`, under its lock and in one transaction. Without `write` nothing is locked, made or
/// changed, and the database may not be there.
///
/// # Errors
/// What `work` gives; [`StoreError`] as [`super::DieselStore::open`], or of the transaction's end.
pub fn import<T, E: From<StoreError>>(
    url: &DatabaseUrl,
    write: bool,
    zone: Tz,
    kept: Kept,
    now: Timestamp,
    work: impl FnOnce(&mut Import<'_>) -> Result<T, E>,
) -> Result<T, E> {
    if !write {
        let there = url.sqlite_path().is_none_or(|path| path.exists());
        let mut connection = if there { Some(Connection::open_read_only(url)?) } else { None };
        // A new database on a server is as good as none.
        connection.take_if(|connection| !migrate::has_schema(connection));
        let calendar = match &mut connection {
            Some(connection) => {
                migrate::check(url, connection)?;
                zones::calendar(connection).map_err(|error| query_error(url, &error, Phase::Opening))?
            }
            None => Calendar::new([(Timestamp(0), zone)]),
        };
        return work(&mut Import::new(url, connection.as_mut(), false, calendar, kept, now));
    }
    let _lock = url.sqlite_path().map(FileLock::acquire).transpose()?;
    let (mut connection, _) = diesel_store::connect(url)?;
    if let Connection::Postgres(c) = &mut connection {
        c.batch_execute(POSTGRES_PATIENCE).map_err(|error| query_error(url, &error, Phase::Opening))?;
    }
    let mut outcome = None;
    let ended = transaction(url, &mut connection, |connection| {
        zones::set(connection, zone, now)?;
        let calendar = zones::calendar(connection)?;
        let mut import = Import::new(url, Some(connection), true, calendar, kept, now);
        match work(&mut import) {
            Ok(value) => {
                import.finish()?;
                outcome = Some(Ok(value));
                Ok(())
            }
            Err(error) => {
                outcome = Some(Err(error));
                Err(Failure::Refused(StoreError::refused("the import was given up".to_owned())))
            }
        }
    });
    match (outcome, ended) {
        (Some(Ok(value)), Ok(())) => Ok(value),
        (Some(Err(error)), _) => Err(error),
        (_, Err(error)) => Err(error.into()),
        (None, Ok(())) => Err(StoreError::refused("the import did nothing".to_owned()).into()),
    }
}

/// An import in its transaction.
pub struct Import<'a> {
    url: &'a DatabaseUrl,
    /// `None` for a trial without a database.
    connection: Option<&'a mut Connection>,
    write: bool,
    calendar: Calendar,
    cuts: Cuts,
    now: Timestamp,
    /// The endpoint whose tunnels are being added; its totals are kept until the next one comes, the fleet's to the end.
    endpoint: Option<EndpointId>,
    totals: BTreeMap<Level, Totals>,
    /// Numbers for endpoints of a trial, which are made up.
    made_up: i32,
}

/// Totals of one level as they were read, and as they are to be.
#[derive(Default)]
struct Totals {
    before: TotalRows,
    now: TotalRows,
}

impl<'a> Import<'a> {
    fn new(
        url: &'a DatabaseUrl,
        connection: Option<&'a mut Connection>,
        write: bool,
        calendar: Calendar,
        kept: Kept,
        now: Timestamp,
    ) -> Self {
        let cuts = Cuts::new(kept, &calendar, now);
        Self { url, connection, write, calendar, cuts, now, endpoint: None, totals: BTreeMap::new(), made_up: 0 }
    }

    /// Runs `query`, or gives what stands for its result where there is no database.
    fn ask<T: Default>(&mut self, query: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Result<T, StoreError> {
        let Some(connection) = self.connection.as_deref_mut() else { return Ok(T::default()) };
        query(connection).map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Query(error) => query_error(self.url, &error, Phase::Running),
        })
    }

    fn change(&mut self, query: impl FnOnce(&mut Connection) -> QueryResult<()>) -> Result<(), StoreError> {
        if self.write { self.ask(|connection| Ok(query(connection)?)) } else { Ok(()) }
    }

    /// All endpoints, by name.
    ///
    /// # Errors
    /// [`StoreError`], as all of these.
    pub fn endpoints(&mut self) -> Result<Vec<Endpoint>, StoreError> {
        let stored = self.ask(endpoints::load)?;
        Ok(stored.into_iter().map(|(endpoint, _)| endpoint).collect())
    }

    /// All live tunnels.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tunnels(&mut self) -> Result<Vec<(TunnelKey, TunnelState)>, StoreError> {
        self.ask(|connection| Ok(live::load(connection)?))
    }

    /// Makes an endpoint that is paused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_endpoint(&mut self, new: &NewEndpoint) -> Result<EndpointId, StoreError> {
        if !self.write {
            self.made_up -= 1;
            return Ok(EndpointId(self.made_up));
        }
        let now = self.now;
        self.ask(|connection| {
            let id = endpoints::add(connection, new, now)?;
            let paused = EndpointChange { paused: Some(true), ..EndpointChange::default() };
            endpoints::change(connection, id, &paused, now)?;
            Ok(Some(id))
        })?
        .ok_or_else(|| StoreError::refused("the endpoint was not made".to_owned()))
    }

    /// Adds tunnels. Where one is there already, it stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_tunnels(&mut self, tunnels: Vec<(TunnelKey, Arc<InstanceConfig>, Sample, Timestamp)>) -> Result<(), StoreError> {
        let mut changes = LiveChanges::default();
        for (tunnel, config, sample, seen_at) in tunnels {
            // No event says so: whatever comes from the master is newer.
            changes.configs.push((tunnel.clone(), config, EventId::ZERO));
            changes.samples.push((tunnel, sample, seen_at, EventId::ZERO));
        }
        self.change(|connection| live::sync(connection, &changes, BATCH_SIZE_MAX))
    }

    /// Adds what a tunnel moved by UTC minute to all levels, but for what is there. All tunnels of an endpoint must come
    /// together.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_history(
        &mut self,
        tunnel: &TunnelKey,
        in_totals: InTotals,
        minutes: &BTreeMap<Timestamp, Figures>,
    ) -> Result<Imported, StoreError> {
        let seam = Seam::new(self, tunnel)?;
        let mut imported = Imported::default();
        let mut rows = Vec::with_capacity(minutes.len());
        for (minute, figures) in minutes {
            if *minute < self.cuts.days {
                imported.too_old += 1;
            } else if seam.is_imported(*minute, &self.calendar, self.cuts) {
                imported.there += 1;
            } else if seam.is_recorded(*minute) {
                imported.recorded += 1;
            } else {
                rows.push(HistoryRow { tunnel: tunnel.clone(), minute: *minute, figures: *figures, in_totals });
                imported.moved = sum(imported.moved, figures.delta);
            }
        }
        imported.added = rows.len() as u64;
        let Some(last) = rows.last().map(|row| row.minute) else { return Ok(imported) };
        self.turn_to(tunnel.endpoint)?;
        let quarters = quarters(&rows);
        let from = rows.partition_point(|row| row.minute < self.cuts.minutes);
        imported.rows[0] = self.add_to_level(Level::Minutes, &rows[from..])?;
        let from = quarters.partition_point(|row| row.minute < self.cuts.hours);
        imported.rows[1] = self.add_to_level(Level::Hours, &quarters[from..])?;
        imported.rows[2] = self.add_to_level(Level::Days, &quarters)?;
        let moved = imported.moved;
        self.change(|connection| {
            add_account(connection, tunnel, moved)?;
            note_through(connection, tunnel, last)
        })?;
        Ok(imported)
    }

    fn add_to_level(&mut self, level: Level, rows: &[HistoryRow]) -> Result<u64, StoreError> {
        let placed: Vec<Placed<'_>> = place(rows, level, &self.calendar);
        let keys: Vec<_> = placed.iter().map(|placed| (&placed.row.tunnel, placed.start)).collect();
        let starts: BTreeSet<Timestamp> = placed.iter().map(|placed| placed.start).collect();
        let mut tunnels = self.ask(|connection| Ok(ladder::load_tunnels(connection, level, keys.into_iter())?))?;
        let totals = self.totals.entry(level).or_default();
        add(&placed, &mut tunnels, &mut totals.now);
        tunnels.retain(|(_, start), _| starts.contains(start));
        self.change(|connection| ladder::write_tunnels(connection, level, &tunnels))?;
        Ok(tunnels.len() as u64)
    }

    /// Writes the totals of the endpoint before, and reads those of this one.
    fn turn_to(&mut self, endpoint: EndpointId) -> Result<(), StoreError> {
        if self.endpoint == Some(endpoint) {
            return Ok(());
        }
        let is_first = self.endpoint.is_none();
        self.write_totals(|owner| owner != FLEET)?;
        self.endpoint = Some(endpoint);
        for level in Level::ALL {
            let from = self.cuts.of(level);
            let owners = [FLEET, endpoint].into_iter().skip(usize::from(!is_first));
            for owner in owners {
                let read = self.ask(|connection| Ok(ladder::load_totals_from(connection, level, owner, from)?))?;
                let totals = self.totals.entry(level).or_default();
                totals.before.extend(read.iter().map(|(key, row)| (*key, *row)));
                totals.now.extend(read);
            }
        }
        Ok(())
    }

    fn write_totals(&mut self, which: impl Fn(EndpointId) -> bool) -> Result<(), StoreError> {
        for level in Level::ALL {
            let totals = self.totals.entry(level).or_default();
            let mut done = TotalRows::new();
            for (key, row) in totals.now.extract_if(.., |(owner, _), _| which(*owner)) {
                if totals.before.get(&key) != Some(&row) {
                    done.insert(key, row);
                }
            }
            totals.before.retain(|(owner, _), _| !which(*owner));
            self.change(|connection| ladder::write_totals(connection, level, &done))?;
        }
        Ok(())
    }

    /// Writes what is left, and from when on the levels are whole.
    fn finish(&mut self) -> Result<(), Failure> {
        self.write_totals(|_| true).map_err(Failure::Refused)?;
        let cuts = self.cuts;
        self.change(|connection| {
            for table in ladder::Table::ALL {
                raise_floor(connection, table.name, cuts.of(table.level))?;
            }
            Ok(())
        })
        .map_err(Failure::Refused)
    }
}

/// The minutes of each quarter of an hour as one row.
fn quarters(rows: &[HistoryRow]) -> Vec<HistoryRow> {
    let quarter = |row: &HistoryRow| row.minute.0.div_euclid(QUARTER);
    rows.chunk_by(|a, b| quarter(a) == quarter(b))
        .map(|minutes| {
            let figures = minutes[1..].iter().fold(minutes[0].figures, |sum, row| sum.plus(row.figures));
            HistoryRow { minute: Timestamp(quarter(&minutes[0]) * QUARTER), figures, ..minutes[0].clone() }
        })
        .collect()
}

/// Between which times a tunnel takes imported rows.
struct Seam {
    /// The last minute that was imported.
    through: Option<Timestamp>,
    /// From when on this program recorded it.
    recorded_from: Option<Timestamp>,
}

impl Seam {
    fn new(import: &mut Import<'_>, tunnel: &TunnelKey) -> Result<Self, StoreError> {
        let through = import.ask(|connection| Ok(through(connection, tunnel)?))?;
        let calendar = &import.calendar.clone();
        let after = |start: &dyn Fn(Timestamp) -> Timestamp| through.map_or(Timestamp(i64::MIN), start);
        let (hour, day) = (after(&|through| calendar.hour(through)), after(&|through| calendar.day(through).start));
        let minute = after(&|through| through);
        let [minute, hour, day] = import.ask(|connection| Ok(first_after(connection, tunnel, [minute, hour, day])?))?;
        // The finest level that reaches as far back says best when it began.
        let day = day.filter(|day| minute.or(hour).is_none_or(|at| calendar.day(at).start > *day));
        let hour = hour.filter(|hour| minute.is_none_or(|at| calendar.hour(at) > *hour));
        let recorded_from = [minute, hour, day].into_iter().flatten().min();
        Ok(Self { through, recorded_from })
    }

    /// Where a stretch was imported in part and is no longer there in minutes, its rest is not added: it cannot be told
    /// from what was recorded in it.
    fn is_imported(&self, minute: Timestamp, calendar: &Calendar, cuts: Cuts) -> bool {
        let Some(through) = self.through else { return false };
        if minute >= cuts.minutes {
            minute <= through
        } else if minute >= cuts.hours {
            calendar.hour(minute) <= calendar.hour(through)
        } else {
            calendar.day(minute).start <= calendar.day(through).start
        }
    }

    fn is_recorded(&self, minute: Timestamp) -> bool {
        self.recorded_from.is_some_and(|from| minute >= from)
    }
}

fn through(connection: &mut Connection, tunnel: &TunnelKey) -> QueryResult<Option<Timestamp>> {
    let key = (tunnel.endpoint.0, text(tunnel.instance.as_str()));
    let query = history_imports::table.find(key).select(history_imports::through);
    let found: Option<i64> = on!(connection, c => query.first(c).optional())?;
    Ok(found.map(Timestamp))
}

/// The first row of each level after a time.
fn first_after(connection: &mut Connection, tunnel: &TunnelKey, after: [Timestamp; 3]) -> QueryResult<[Option<Timestamp>; 3]> {
    let (endpoint, instance) = (tunnel.endpoint.0, text(tunnel.instance.as_str()));
    macro_rules! first {
        ($table:ident, $after:expr) => {{
            let of_tunnel = $table::endpoint_id.eq(endpoint).and($table::instance_id.eq(instance.as_ref()));
            let query = $table::table.filter(of_tunnel.and($table::record_time.gt($after.0))).select(min($table::record_time));
            let found: Option<i64> = on!(&mut *connection, c => query.first(c))?;
            found.map(Timestamp)
        }};
    }
    Ok([first!(service_history, after[0]), first!(history_hours, after[1]), first!(history_days, after[2])])
}

fn note_through(connection: &mut Connection, tunnel: &TunnelKey, through: Timestamp) -> QueryResult<()> {
    use history_imports as i;
    let instance = text(tunnel.instance.as_str());
    let row = (i::endpoint_id.eq(tunnel.endpoint.0), i::instance_id.eq(instance), i::through.eq(through.0));
    let insert = diesel::insert_into(i::table).values(row).on_conflict((i::endpoint_id, i::instance_id));
    on!(connection, c => insert.do_update().set(i::through.eq(excluded(i::through))).execute(c).map(drop))
}

/// Older rows are there on a higher level only.
fn raise_floor(connection: &mut Connection, table: &str, floor: Timestamp) -> QueryResult<()> {
    use retention_floors as f;
    let known: Option<i64> = on!(&mut *connection, c => f::table.find(table).select(f::floor).first(c).optional())?;
    let kept_for_ever = floor == Timestamp(i64::MIN);
    if kept_for_ever || known.is_some_and(|known| known >= floor.0) {
        return Ok(());
    }
    let row = (f::table_name.eq(table), f::floor.eq(floor.0));
    let insert = diesel::insert_into(f::table).values(row).on_conflict(f::table_name);
    on!(connection, c => insert.do_update().set(f::floor.eq(floor.0)).execute(c).map(drop))
}
