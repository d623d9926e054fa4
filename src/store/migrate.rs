//! The schema: which migrations a database has, which this program knows, and bringing the first up to the second.

use std::error::Error as StdError;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::result::Error;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;
use diesel::{QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::{Connection, DatabaseUrl, Phase, judged, on, query_error};
use super::lock::FileLock;
use super::{StoreError, diesel_store};

/// Where the migrations that ran are noted.
pub(super) const TABLE: &str = "__diesel_schema_migrations";

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Brings the schema of a database up to date, under the lock, and returns the names of the migrations that ran.
///
/// # Errors
/// As [`DieselStore::open`](super::DieselStore::open).
pub fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, StoreError> {
    let _lock = url.sqlite_path().map(FileLock::acquire).transpose()?;
    diesel_store::connect(url).map(|(_, ran)| ran)
}

/// Brings the schema up to this program's and returns the names of the migrations that ran. The caller holds the lock.
///
/// # Errors
/// [`Fatal`](super::StoreErrorKind::Fatal) if the database knows a migration that this program does not: it was written
/// by a newer one.
pub(super) fn run(url: &DatabaseUrl, connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let applied = on!(&mut *connection, c => c.applied_migrations()).map_err(|error| migration_error(url, error.as_ref()))?;
    refuse_newer(url, &applied.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let ran = match connection {
        Connection::Sqlite(c) => names(run_sqlite(c)),
        Connection::Postgres(c) => names(c.run_pending_migrations(POSTGRES)),
    };
    ran.map_err(|error| migration_error(url, error.as_ref()))
}

/// SQLite's transactions of several migrations begin as readers and would not wait for another writer; asking for the write
/// lock first makes them.
fn run_sqlite(connection: &mut SqliteConnection) -> diesel::migration::Result<Vec<MigrationVersion<'_>>> {
    connection.immediate_transaction(|_| Ok::<_, Error>(()))?;
    connection.run_pending_migrations(SQLITE)
}

fn names(ran: diesel::migration::Result<Vec<MigrationVersion<'_>>>) -> diesel::migration::Result<Vec<String>> {
    Ok(ran?.iter().map(ToString::to_string).collect())
}

/// Whether a migration ever ran in this database.
pub(super) fn has_schema(connection: &mut Connection) -> bool {
    let query = sql_query(format!("SELECT version FROM {TABLE} LIMIT 1"));
    on!(connection, c => query.execute(c)).is_ok()
}

/// Checks, without writing, that a database has exactly this program's schema.
///
/// # Errors
/// [`Fatal`](super::StoreErrorKind::Fatal) if it is older, newer or no tidegate database.
pub(super) fn check(url: &DatabaseUrl, connection: &mut Connection) -> Result<(), StoreError> {
    let applied = refuse_foreign(url, connection)?;
    match known().into_iter().find(|version| !applied.contains(version)) {
        None => Ok(()),
        Some(missing) => Err(StoreError::fatal(format!("{url} lacks migration {missing}; run `tidegate migrate`"))),
    }
}

/// Checks, without writing, that a database has a schema of this program, maybe an older one, and returns the migrations that
/// it has.
///
/// # Errors
/// [`Fatal`](super::StoreErrorKind::Fatal) if it is newer or no tidegate database.
pub(super) fn refuse_foreign(url: &DatabaseUrl, connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let query = sql_query("SELECT version FROM __diesel_schema_migrations ORDER BY version");
    let applied: Vec<Applied> = on!(&mut *connection, c => query.load(c)).map_err(|error| {
        let text = error.to_string();
        if text.contains(TABLE) {
            StoreError::fatal(format!("{url} is not a tidegate database; check database.url, or run `tidegate migrate`"))
        } else {
            query_error(url, &error, Phase::Opening)
        }
    })?;
    let applied: Vec<String> = applied.into_iter().map(|row| row.version).collect();
    refuse_newer(url, &applied)?;
    Ok(applied)
}

fn refuse_newer(url: &DatabaseUrl, applied: &[String]) -> Result<(), StoreError> {
    let known = known();
    match applied.iter().find(|version| !known.contains(version)) {
        None => Ok(()),
        Some(newer) => Err(StoreError::fatal(format!(
            "{url} was written by a newer tidegate (migration {newer} is not known to this one); use that version, or restore a backup"
        ))),
    }
}

/// Versions of the embedded migrations; the two databases have the same, which a test checks.
fn known() -> Vec<String> {
    versions::<Sqlite>(&SQLITE)
}

fn versions<DB: diesel::backend::Backend>(source: &EmbeddedMigrations) -> Vec<String>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations: Vec<Box<dyn Migration<DB>>> = source.migrations().unwrap_or_default();
    migrations.iter().map(|migration| migration.name().version().to_string()).collect()
}

/// Diesel hands migration errors out as text only.
fn migration_error(url: &DatabaseUrl, error: &(dyn StdError + Send + Sync + 'static)) -> StoreError {
    let text = url.scrub(&error.to_string());
    if text.contains("already exists") {
        return StoreError::fatal(format!(
            "{url} holds tables that are not tidegate's ({text}); give tidegate a database of its own"
        ));
    }
    judged(url, &text, Phase::Opening)
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

#[cfg(test)]
mod tests {
    use diesel::pg::Pg;

    use super::*;

    #[test]
    fn both_databases_have_the_same_migrations() {
        assert!(!known().is_empty());
        assert_eq!(known(), versions::<Pg>(&POSTGRES));
    }
}
