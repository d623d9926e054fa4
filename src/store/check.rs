//! Looks through the database without changing it: what `tidegate check` prints of it.

use diesel::dsl::{count_star, max, min};
use diesel::sql_types::{BigInt, Text};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use serde::Serialize;

use super::check_history::HistoryReport;
use super::connection::{Connection, Phase, is_damage, on, query_error, without_advice};
use super::flushes::Kind;
use super::read::ReadConnection;
use super::schema::{endpoint_sse, flushes, gaps, quarantine, retention_floors, service_history};
use super::{DatabaseUrl, StoreError, modes};
use crate::clock::Timestamp;
use crate::id::EventId;

/// How findings of SQLite's own check begin.
const INTEGRITY: &str = "integrity check: ";

/// An id clock this far ahead of the wall clock is an alarm: the wall clock was wrong, or is.
const AHEAD_MAX_SECONDS: u64 = 60;

/// A database, looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DatabaseReport {
    /// Which.
    pub database: String,
    /// Rows of `endpoint_sse`.
    pub events: i64,
    /// Lowest and highest id among them; as text, as JavaScript's numbers end at 53 bits.
    pub ids: Option<(String, String)>,
    /// Rows of `gaps`.
    pub gaps: i64,
    /// Rows of `quarantine`.
    pub quarantined: i64,
    /// Rows of `service_history`.
    pub history_rows: i64,
    /// Flushes of events.
    pub flushes: i64,
    /// Rows that they wrote in all; more than there are where rows expired or were purged.
    pub rows_flushed: i64,
    /// What is wrong.
    pub problems: Vec<String>,
}

#[derive(QueryableByName)]
struct Finding {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

/// What a person does about a damaged file; `restore` keeps it aside.
const DAMAGED_ADVICE: &str = "the file is damaged: stop the recorder and take a backup back (`tidegate restore BACKUP --force` keeps \
                              the damaged file beside it); without a backup, `sqlite3 DAMAGED .recover | sqlite3 NEW` saves what can \
                              still be read. Then look at the disk. What is in the journal is stored at the next start";

/// Counts rows against what the flushes say, has SQLite check its file, and on request proves that history adds up. What is too
/// damaged to be read is a finding and not an error. PostgreSQL has no such check; its own tool is `pg_amcheck`.
///
/// # Errors
/// As [`ReadConnection::open`] and the calls of it, for everything but damage.
pub fn check_database(
    url: &DatabaseUrl,
    now: Timestamp,
    with_history: bool,
) -> Result<(DatabaseReport, Option<HistoryReport>), StoreError> {
    let mut report = DatabaseReport { database: url.to_string(), ..DatabaseReport::default() };
    let mut history = None;
    let whole = ReadConnection::open(url).and_then(|mut connection| {
        let failed = |error| query_error(url, &error, Phase::Running);
        // Kept where the rest cannot be read.
        report.problems = integrity(&mut connection.connection).map_err(failed)?;
        let found = look(&mut connection.connection, url, now).map_err(failed)?;
        report = DatabaseReport { problems: [report.problems.clone(), found.problems].concat(), ..found };
        history = with_history.then(|| connection.check_history()).transpose()?;
        Ok(report.problems.iter().any(|problem| problem.starts_with(INTEGRITY)))
    });
    match whole {
        Ok(false) => {}
        Ok(true) => report.problems.push(DAMAGED_ADVICE.to_owned()),
        Err(error) if is_damage(url, &error) => {
            report.problems.push(format!("it cannot be read: {}", without_advice(&error.message)));
            report.problems.push(DAMAGED_ADVICE.to_owned());
        }
        Err(error) => return Err(error),
    }
    Ok((report, history))
}

impl ReadConnection {
    /// Counts rows against what the flushes say, and has SQLite check its file. [`check_database`] also does with a file that is too
    /// damaged for that.
    ///
    /// # Errors
    /// [`Unavailable`](super::StoreErrorKind::Unavailable).
    pub fn check(&mut self, now: Timestamp) -> Result<DatabaseReport, StoreError> {
        let Self { url, connection } = self;
        let wrong = integrity(connection).map_err(|error| query_error(url, &error, Phase::Running))?;
        let found = look(connection, url, now).map_err(|error| query_error(url, &error, Phase::Running))?;
        Ok(DatabaseReport { problems: [wrong, found.problems].concat(), ..found })
    }
}

fn look(connection: &mut Connection, url: &DatabaseUrl, now: Timestamp) -> QueryResult<DatabaseReport> {
    let mut problems = Vec::new();
    let (events, lowest, highest): (i64, Option<i64>, Option<i64>) = on!(&mut *connection, c => endpoint_sse::table
        .select((count_star(), min(endpoint_sse::id), max(endpoint_sse::id)))
        .first(c))?;
    let gaps = on!(&mut *connection, c => gaps::table.count().get_result(c))?;
    let quarantined: i64 = on!(&mut *connection, c => quarantine::table.count().get_result(c))?;
    let history_rows = on!(&mut *connection, c => service_history::table.count().get_result(c))?;
    let of_events = flushes::table.filter(flushes::batch.eq(Kind::Events.as_str()));
    let flush_count: i64 = on!(&mut *connection, c => of_events.count().get_result(c))?;
    // A sum of BIGINT has another type in each database; the rows of a flush fit the narrow one.
    let rows_flushed = total_rows(connection)?;
    let backwards: i64 =
        on!(&mut *connection, c => flushes::table.filter(flushes::first_id.gt(flushes::last_id)).count().get_result(c))?;

    if lowest.is_some_and(|lowest| lowest <= 0) {
        problems.push(format!("endpoint_sse holds an id that is not positive: {}", lowest.unwrap_or_default()));
    }
    let ahead = highest.map_or(0, |highest| EventId(highest).id_clock().since(now).as_secs());
    if ahead > AHEAD_MAX_SECONDS {
        problems.push(format!("the newest id is {ahead} s ahead of the wall clock: one of the two clocks is or was wrong"));
    }
    // What is written one at a time belongs to no flush before its batch is cut, and never does if a loss of power takes it from
    // the journal.
    let single = modes::usage(connection)?.keys().any(|mode| mode.writes_singly());
    // Gaps are kept longer than flushes.
    let oldest: Option<i64> = on!(&mut *connection, c => of_events.select(min(flushes::first_id)).first(c))?;
    let told: i64 = on!(&mut *connection, c => gaps::table
        .filter(gaps::id.ge(oldest.unwrap_or(i64::MAX)))
        .count()
        .get_result(c))?;
    if events + told > rows_flushed && !single {
        let unaccounted = events + told - rows_flushed;
        problems.push(format!(
            "{unaccounted} rows of endpoint_sse and gaps are accounted for by no flush: another program wrote them"
        ));
    }
    let missing = missing_rows(connection)?;
    if missing > 0 {
        problems.push(format!(
            "{missing} rows that flushes stored are in endpoint_sse and gaps no more: another program deleted them, or the disk lost them"
        ));
    }
    if backwards > 0 {
        problems.push(format!("{backwards} rows of flushes have a first id above their last id"));
    }
    Ok(DatabaseReport {
        database: url.to_string(),
        events,
        ids: lowest.zip(highest).map(|(lowest, highest)| (lowest.to_string(), highest.to_string())),
        gaps,
        quarantined,
        history_rows,
        flushes: flush_count,
        rows_flushed,
        problems,
    })
}

pub(super) fn integrity(connection: &mut Connection) -> QueryResult<Vec<String>> {
    let Connection::Sqlite(sqlite) = connection else { return Ok(Vec::new()) };
    let findings: Vec<Finding> = sql_query("PRAGMA integrity_check(100)").load(sqlite)?;
    let wrong = findings.into_iter().map(|finding| finding.integrity_check).filter(|finding| finding != "ok");
    // A finding may have several lines.
    let lines: Vec<String> = wrong.flat_map(|finding| finding.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    Ok(lines.iter().filter(|line| !line.is_empty()).map(|line| format!("{INTEGRITY}{line}")).collect())
}

/// Rows that flushes tell of and that are not there. Events expire in the order of their ids, so of a batch whose first id is not below
/// the lowest that is left, all is; what an endpoint's purge took is behind the floor that it left. Batches of a replay may lie
/// between the ids of others, so this is a lower bound.
fn missing_rows(connection: &mut Connection) -> QueryResult<i64> {
    use retention_floors as f;
    let purged: Option<i64> = on!(&mut *connection, c => f::table.find("endpoint_sse").select(f::floor).first(c).optional())?;
    let above = purged.map_or(EventId::ZERO, |floor| EventId::first_of(Timestamp(floor.saturating_add(Timestamp::SECOND))));
    let query = sql_query(
        "SELECT CAST(COALESCE(SUM(missing), 0) AS BIGINT) AS total FROM (SELECT f.rows - \
         (SELECT COUNT(*) FROM endpoint_sse e WHERE e.id BETWEEN f.first_id AND f.last_id) - \
         (SELECT COUNT(*) FROM gaps g WHERE g.id BETWEEN f.first_id AND f.last_id) AS missing \
         FROM flushes f WHERE f.batch = 'events' AND f.first_id >= $1 AND f.first_id >= (SELECT MIN(id) FROM endpoint_sse)) AS batches \
         WHERE missing > 0",
    )
    .bind::<BigInt, _>(above.0);
    let totals: Vec<Total> = on!(connection, c => query.load(c))?;
    Ok(totals.first().map_or(0, |total| total.total))
}

#[derive(QueryableByName)]
struct Total {
    #[diesel(sql_type = BigInt)]
    total: i64,
}

fn total_rows(connection: &mut Connection) -> QueryResult<i64> {
    let query = sql_query("SELECT CAST(COALESCE(SUM(rows), 0) AS BIGINT) AS total FROM flushes WHERE batch = 'events'");
    let totals: Vec<Total> = on!(connection, c => query.load(c))?;
    Ok(totals.first().map_or(0, |total| total.total))
}
