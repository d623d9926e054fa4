//! `settings` and `mode_usage`: what the database knows of how it is written.

use std::collections::BTreeMap;

use diesel::{ExpressionMethods, Insertable, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::connection::{Connection, Phase, on, query_error};
use super::schema::{mode_usage, settings};
use super::{ReadConnection, Settings, StoreError};
use crate::clock::Timestamp;
use crate::modes::StorageMode;
use crate::modes::usage::{Comparison, Usage};

/// All settings.
pub(super) fn settings(connection: &mut Connection) -> QueryResult<Settings> {
    let rows: Vec<(String, String)> = on!(connection, c => settings::table.load(c))?;
    Ok(rows.into_iter().collect())
}

/// Makes these the only settings.
pub(super) fn store_settings(connection: &mut Connection, all: &Settings) -> QueryResult<()> {
    on!(&mut *connection, c => diesel::delete(settings::table).execute(c))?;
    for (name, value) in all {
        let row = (settings::name.eq(name), settings::value.eq(value));
        on!(&mut *connection, c => diesel::insert_into(settings::table).values(row).execute(c))?;
    }
    Ok(())
}

/// What each mode cost. A mode of another version is left alone.
pub(super) fn usage(connection: &mut Connection) -> QueryResult<BTreeMap<StorageMode, Usage>> {
    let rows: Vec<Row> = on!(connection, c => mode_usage::table.order(mode_usage::mode).load(c))?;
    Ok(rows.into_iter().filter_map(|row| Some((StorageMode::from_name(&row.mode)?, row.into_usage()))).collect())
}

/// Stores what a mode cost.
pub(super) fn store_usage(connection: &mut Connection, mode: StorageMode, usage: &Usage) -> QueryResult<()> {
    let row = Row::new(mode, usage);
    on!(&mut *connection, c => diesel::delete(mode_usage::table.find(&row.mode)).execute(c))?;
    on!(connection, c => diesel::insert_into(mode_usage::table).values(&row).execute(c))?;
    Ok(())
}

impl ReadConnection {
    /// The settings that the database knows, and what each mode cost.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn modes(&mut self) -> Result<(Settings, BTreeMap<StorageMode, Usage>), StoreError> {
        let known = settings(&mut self.connection).and_then(|known| Ok((known, usage(&mut self.connection)?)));
        known.map_err(|error| query_error(&self.url, &error, Phase::Running))
    }
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = mode_usage, treat_none_as_default_value = false)]
struct Row {
    mode: String,
    time_us: i64,
    events: i64,
    rows: i64,
    single_transactions: i64,
    batch_transactions: i64,
    live_transactions: i64,
    other_transactions: i64,
    bytes: Option<i64>,
    database_us: i64,
    latency_us: i64,
    latency_max_us: i64,
    left_to_batch: i64,
    compared_since: Option<i64>,
    identical: i64,
    different: i64,
    missing_in_realtime: i64,
    missing_in_batch: i64,
}

impl Row {
    fn new(mode: StorageMode, usage: &Usage) -> Self {
        let stored = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            mode: mode.as_str().to_owned(),
            time_us: stored(usage.time_us),
            events: stored(usage.events),
            rows: stored(usage.rows),
            single_transactions: stored(usage.single_transactions),
            batch_transactions: stored(usage.batch_transactions),
            live_transactions: stored(usage.live_transactions),
            other_transactions: stored(usage.other_transactions),
            bytes: usage.bytes.map(stored),
            database_us: stored(usage.database_us),
            latency_us: stored(usage.latency_us),
            latency_max_us: stored(usage.latency_max_us),
            left_to_batch: stored(usage.left_to_batch),
            compared_since: usage.compared_since.map(|at| at.0),
            identical: stored(usage.comparison.identical),
            different: stored(usage.comparison.different),
            missing_in_realtime: stored(usage.comparison.missing_in_realtime),
            missing_in_batch: stored(usage.comparison.missing_in_batch),
        }
    }

    fn into_usage(self) -> Usage {
        let count = |stored: i64| u64::try_from(stored).unwrap_or_default();
        Usage {
            time_us: count(self.time_us),
            events: count(self.events),
            rows: count(self.rows),
            single_transactions: count(self.single_transactions),
            batch_transactions: count(self.batch_transactions),
            live_transactions: count(self.live_transactions),
            other_transactions: count(self.other_transactions),
            bytes: self.bytes.map(count),
            database_us: count(self.database_us),
            latency_us: count(self.latency_us),
            latency_max_us: count(self.latency_max_us),
            left_to_batch: count(self.left_to_batch),
            compared_since: self.compared_since.map(Timestamp),
            comparison: Comparison {
                identical: count(self.identical),
                different: count(self.different),
                missing_in_realtime: count(self.missing_in_realtime),
                missing_in_batch: count(self.missing_in_batch),
            },
        }
    }
}
