//! Opening: schema, lock, and what is a person's business.

use std::sync::Arc;

use tidegate::clock::SystemClock;
use tidegate::store::{DatabaseUrl, DieselStore, ReadConnection, StoreErrorKind, migrate};

use crate::postgres::{self, TestDatabase};
use crate::sample::{open, open_when_released};

pub fn a_newer_schema_is_refused(database: &TestDatabase) {
    drop(open(database));
    database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000000')");
    for refused in [
        DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err(),
        ReadConnection::open(&database.url()).err(),
        migrate(&database.url()).err(),
    ] {
        let error = refused.expect("the schema is newer");
        assert_eq!(error.kind, StoreErrorKind::Fatal);
        assert!(error.message.contains("newer tidegate") && error.message.contains("20990101000000"), "{error}");
    }
}

pub fn a_second_recorder_is_refused_until_the_first_ends(database: &TestDatabase) {
    let first = open(database);
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("it is in use");
    assert_eq!(error.kind, StoreErrorKind::Fatal);
    assert!(error.message.contains("in use by") && error.message.contains(&format!("pid {}", std::process::id())), "{error}");
    assert_eq!(migrate(&database.url()).unwrap_err().kind, StoreErrorKind::Fatal);
    drop(first);
    open_when_released(database);
}

pub fn an_older_schema_is_migrated_once(database: &TestDatabase) {
    let ran = migrate(&database.url()).unwrap();
    assert!(!ran.is_empty());
    assert_eq!(migrate_when_released(database), Vec::<String>::new());
}

fn migrate_when_released(database: &TestDatabase) -> Vec<String> {
    (0..1_000).find_map(|_| migrate(&database.url()).ok()).expect("the lock is released")
}

#[test]
fn both_databases_have_the_same_tables_and_columns() {
    let (sqlite, server) = (TestDatabase::sqlite(), TestDatabase::postgres());
    for database in [&sqlite, &server] {
        migrate(&database.url()).unwrap();
    }
    let of_sqlite = "SELECT m.name || '.' || p.name || ' ' || \
         CASE WHEN m.type = 'view' THEN '' WHEN p.type = 'BIGINT' OR (p.pk = 1 AND m.name <> 'endpoints' AND p.name = 'id') THEN 'bigint' \
         ELSE lower(p.type) END || CASE WHEN p.\"notnull\" OR m.type = 'view' THEN '' ELSE ' null' END \
         || CASE WHEN p.pk > 0 THEN ' key' || p.pk ELSE '' END AS value \
         FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%' \
         AND m.name NOT LIKE '__diesel%'";
    let of_postgres = "SELECT c.table_name || '.' || c.column_name || ' ' || CASE WHEN t.table_type = 'VIEW' THEN '' ELSE c.data_type END \
         || CASE WHEN c.is_nullable = 'NO' OR t.table_type = 'VIEW' THEN '' ELSE ' null' END \
         || COALESCE((SELECT ' key' || k.ordinal_position FROM information_schema.key_column_usage k \
            JOIN information_schema.table_constraints tc USING (constraint_schema, constraint_name) \
            WHERE tc.constraint_type = 'PRIMARY KEY' AND k.table_name = c.table_name AND k.column_name = c.column_name), '') AS value \
         FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) \
         WHERE c.table_schema = 'public' AND c.table_name NOT LIKE '\\_\\_diesel%'";
    let (mut of_sqlite, mut of_postgres) = (sqlite.texts(of_sqlite), server.texts(of_postgres));
    of_sqlite.sort();
    of_postgres.sort();
    assert!(of_sqlite.len() > 100, "{}", postgres::joined(&of_sqlite));
    assert_eq!(of_sqlite, of_postgres);
}

#[test]
fn a_new_sqlite_file_gives_space_back_and_syncs_every_commit() {
    let database = TestDatabase::sqlite();
    let _store = open(&database);
    // 2 is INCREMENTAL.
    assert_eq!(database.number("SELECT auto_vacuum AS value FROM pragma_auto_vacuum"), 2);
    assert_eq!(database.texts("SELECT journal_mode AS value FROM pragma_journal_mode"), ["wal"]);
}

#[test]
fn a_new_sqlite_file_and_what_belongs_to_it_can_be_read_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let _store = DieselStore::open(&DatabaseUrl::Sqlite(path.clone()), 100, Arc::new(SystemClock)).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", path.display());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_wrong_password_or_database_or_missing_rights_are_fatal_and_a_silent_server_is_not() {
    let database = TestDatabase::postgres();
    let role = format!("role_{}", database.url_text().rsplit("tidegate_test_").next().unwrap().split('?').next().unwrap());
    postgres::admin(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right'"));
    let as_role = |password: &str| {
        let text = database.url_text();
        let (_, behind) = text.split_once("://").unwrap();
        let behind = behind.rsplit_once('@').map_or(behind, |(_, behind)| behind);
        format!("postgres://{role}:{password}@{behind}")
    };
    let kind_of = |url: &str| {
        let error = DieselStore::open(&url.parse().unwrap(), 100, Arc::new(SystemClock)).err().expect("it cannot be opened");
        assert!(!error.message.contains("wr0ng"), "{error}");
        (error.kind, error.message)
    };
    let missing = postgres::with_database(postgres::server(), "tidegate_no_such_database");
    for url in [as_role("wr0ng"), as_role("right"), missing] {
        let (kind, message) = kind_of(&url);
        assert_eq!(kind, StoreErrorKind::Fatal, "{message}");
    }
    let (kind, message) = kind_of("postgres://tide:wr0ng@127.0.0.1:1/tide");
    assert_eq!(kind, StoreErrorKind::Unavailable, "{message}");
    drop(database);
    postgres::admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_file_that_is_something_else_is_fatal() {
    let database = TestDatabase::sqlite();
    let path = database.url().sqlite_path().unwrap().to_owned();
    std::fs::write(&path, "this is a letter, and a long one, and not a database at all".repeat(100)).unwrap();
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("it is no database");
    assert_eq!(error.kind, StoreErrorKind::Fatal, "{error}");
    std::fs::remove_file(&path).unwrap();
    database.execute("CREATE TABLE endpoints (id INTEGER)");
    let error = DieselStore::open(&database.url(), 100, Arc::new(SystemClock)).err().expect("its tables are another program's");
    assert_eq!(error.kind, StoreErrorKind::Fatal, "{error}");
    assert!(error.message.contains("database of its own"), "{error}");
}
