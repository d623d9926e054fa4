//! Tests of URLs and of the classification of errors.

use diesel::result::DatabaseErrorInformation;

use super::*;

fn database_error(kind: DatabaseErrorKind, message: &str) -> Error {
    let information: Box<dyn DatabaseErrorInformation + Send + Sync> = Box::new(message.to_owned());
    Error::DatabaseError(kind, information)
}

fn postgres() -> DatabaseUrl {
    "postgres://tide:s3cret@db.example/tide".parse().unwrap()
}

fn sqlite() -> DatabaseUrl {
    "sqlite:tidegate.db".parse().unwrap()
}

#[test]
fn a_server_behind_a_socket_may_have_a_user_and_no_host() {
    let url: DatabaseUrl = "postgres://tide:s3cret@/tide?host=/run/postgresql".parse().unwrap();
    assert_eq!(url.to_string(), "postgres://tide@localhost/tide");
    assert_eq!(url.scrub("s3cret"), "***");
    assert!("postgres:///tide?host=/run/postgresql".parse::<DatabaseUrl>().is_ok());
}

#[test]
fn a_url_is_sqlite_with_a_path_or_postgres() {
    assert_eq!(sqlite().sqlite_path(), Some(Path::new("tidegate.db")));
    let absolute: DatabaseUrl = "sqlite:///var/lib/tidegate.db".parse().unwrap();
    assert_eq!(absolute.sqlite_path(), Some(Path::new("/var/lib/tidegate.db")));
    assert_eq!(postgres().sqlite_path(), None);
    for wrong in ["", "tidegate.db", "sqlite:", "sqlite::memory:", "mysql://u:s3cret@h/d", "postgres:tide"] {
        let error = wrong.parse::<DatabaseUrl>().unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Fatal, "{wrong}");
        assert!(!error.message.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_password_is_shown_by_nothing() {
    for text in ["postgres://tide:s3cret@db.example/tide", "postgres:///tide?user=tide&password=s3cret&host=/run"] {
        let url: DatabaseUrl = text.parse().unwrap();
        let said = ConnectionError::BadConnection("invalid integer value \"s3cret\" for option".to_owned());
        let shown = format!("{url} {url:?} {}", connect_error(&url, &said));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn defaults_are_appended_only_where_the_url_is_silent() {
    let url = postgres();
    let full = url.libpq("postgres://h/d?connect_timeout=1");
    assert!(full.starts_with("postgres://h/d?connect_timeout=1&keepalives_idle="), "{full}");
    assert_eq!(full.matches("connect_timeout").count(), 1);
    assert!(url.libpq("postgres://h/d").starts_with("postgres://h/d?connect_timeout=5&"));
}

#[test]
fn what_a_person_must_mend_is_fatal_while_connecting_and_the_rest_is_waited_for() {
    for (text, kind) in [
        ("FATAL:  password authentication failed for user \"tide\"", StoreErrorKind::Fatal),
        ("FATAL:  database \"tide\" does not exist", StoreErrorKind::Fatal),
        ("FATAL:  permission denied for database \"tide\"", StoreErrorKind::Fatal),
        ("sslmode value \"require\" invalid when SSL support is not compiled in", StoreErrorKind::Fatal),
        ("connection to server at \"db.example\", port 5432 failed: Connection refused", StoreErrorKind::Unavailable),
        ("could not translate host name \"db.example\" to address: Try again", StoreErrorKind::Unavailable),
        ("FATAL:  the database system is starting up", StoreErrorKind::Unavailable),
        ("FATAL:  sorry, too many clients already", StoreErrorKind::Unavailable),
        ("timeout expired", StoreErrorKind::Unavailable),
    ] {
        let error = connect_error(&postgres(), &ConnectionError::BadConnection(text.to_owned()));
        assert_eq!(error.kind, kind, "{text}");
    }
}

#[test]
fn a_full_disk_and_a_lock_pass_and_a_foreign_file_does_not() {
    for (text, opening) in [
        ("database is locked", StoreErrorKind::Unavailable),
        ("database or disk is full", StoreErrorKind::Unavailable),
        ("disk I/O error", StoreErrorKind::Unavailable),
        ("attempt to write a readonly database", StoreErrorKind::Fatal),
        ("file is not a database", StoreErrorKind::Fatal),
    ] {
        let error = database_error(DatabaseErrorKind::Unknown, text);
        assert_eq!(query_error(&sqlite(), &error, Phase::Opening).kind, opening, "{text}");
        assert_eq!(query_error(&sqlite(), &error, Phase::Running).kind, StoreErrorKind::Unavailable, "{text}");
    }
}

#[test]
fn a_constraint_is_the_rows_fault_a_full_disk_is_not_and_unknown_words_are_left_open() {
    for (sqlite, kind, text, verdict) in [
        (true, DatabaseErrorKind::CheckViolation, "CHECK constraint failed: id", RowVerdict::Refused),
        (true, DatabaseErrorKind::Unknown, "string or blob too big", RowVerdict::Perhaps),
        (true, DatabaseErrorKind::Unknown, "database or disk is full", RowVerdict::Around),
        (true, DatabaseErrorKind::Unknown, "database is locked", RowVerdict::Around),
        (false, DatabaseErrorKind::NotNullViolation, "null value in column \"status\"", RowVerdict::Refused),
        (false, DatabaseErrorKind::Unknown, "refused by a trigger", RowVerdict::Perhaps),
        (false, DatabaseErrorKind::Unknown, "could not extend file: No space left on device", RowVerdict::Around),
        (false, DatabaseErrorKind::ClosedConnection, "terminating connection", RowVerdict::Around),
        (false, DatabaseErrorKind::ReadOnlyTransaction, "cannot execute INSERT in a read-only transaction", RowVerdict::Around),
    ] {
        assert_eq!(row_verdict(sqlite, &database_error(kind, text)), verdict, "{text}");
    }
}
