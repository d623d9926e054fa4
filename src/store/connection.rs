//! Connecting: which database a URL names, how its connection is set up, and what its errors mean.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{Connection as _, ConnectionError, PgConnection, RunQueryDsl, SqliteConnection, sql_query};

use super::{StoreError, StoreErrorKind};

/// Rights of a new database file.
pub(super) const FILE_MODE: u32 = 0o600;
/// How long SQLite waits for another writer before a call fails. Short: the FlushActor has its own back-off, and a query of
/// the page or an `sqlite3` shell never holds the write lock for long.
const SQLITE_BUSY_MILLIS: u32 = 500;
/// Pages after which SQLite copies its write-ahead log into the database file (4 MiB): some forty batches.
const SQLITE_CHECKPOINT_PAGES: u32 = 1_000;
/// What the write-ahead log is cut back to after it had to grow, for instance behind a long backup.
const SQLITE_LOG_BYTES_MAX: u32 = 16 << 20;
/// Appended to a PostgreSQL URL where it does not say otherwise, so that a peer that is gone is noticed within a minute.
const POSTGRES_DEFAULTS: [(&str, &str); 5] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "15"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];
/// Set on every PostgreSQL session. The server's own keep-alive makes it end our session, and so release our lock, soon
/// after we are gone without a word.
const POSTGRES_SESSION: &str = "SET synchronous_commit = on; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '60s'; SET client_encoding = 'UTF8'; SET client_min_messages = warning; \
     SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// Set on PostgreSQL once the schema is there: a migration of a large database may take longer than anything after it.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Which database: `sqlite:PATH` or `postgres://...`. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server, in the form that libpq takes.
    Postgres(String),
}

impl DatabaseUrl {
    /// The file, where it is one.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// `text` without the URL's password, for what drivers and servers say.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let text = text.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        match self.password() {
            Some(password) if !password.is_empty() => text.replace(password, "***"),
            _ => text,
        }
    }

    fn password(&self) -> Option<&str> {
        let Self::Postgres(url) = self else { return None };
        let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
        let in_authority = authority.rsplit_once('@').and_then(|(user_info, _)| user_info.split_once(':')).map(|parts| parts.1);
        in_authority.or_else(|| url.split_once("password=").map(|parts| parts.1.split('&').next().unwrap_or_default()))
    }

    /// The URL as libpq takes it, with our defaults where it does not say otherwise.
    pub(crate) fn libpq(&self, url: &str) -> String {
        let application = format!("tidegate%20pid%20{}", std::process::id());
        let defaults = POSTGRES_DEFAULTS.into_iter().chain([("application_name", application.as_str())]);
        defaults.fold(url.to_owned(), |mut url, (key, value)| {
            if !url.contains(&format!("{key}=")) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(key);
                url.push('=');
                url.push_str(value);
            }
            url
        })
    }
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let wrong =
            |why: &str| StoreError::fatal(format!("database.url {why}; give sqlite:PATH or postgres://USER@HOST/DATABASE"));
        let Some((scheme, rest)) = text.split_once(':') else { return Err(wrong("has no scheme")) };
        match scheme {
            "sqlite" => match rest.strip_prefix("//").unwrap_or(rest) {
                "" => Err(wrong("names no file")),
                ":memory:" => Err(wrong("asks for a database in memory, which keeps nothing")),
                path if path.contains('\0') => Err(wrong("holds a NUL character")),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            },
            "postgres" | "postgresql" if rest.starts_with("//") && !rest.contains('\0') && postgres_parts(text).is_some() => {
                Ok(Self::Postgres(text.to_owned()))
            }
            "postgres" | "postgresql" => Err(wrong("is not a valid URL (special characters of a password are written as %XX)")),
            // The text is not repeated: it may be a mistyped URL with a password in it.
            _ => Err(wrong("has a scheme that is neither sqlite nor postgres")),
        }
    }
}

/// The parts of a PostgreSQL URL. libpq takes what the standard does not: a user without a host, for a server behind a
/// Unix socket (`postgres://USER@/DATABASE?host=/run/postgresql`); it counts as `localhost`.
pub fn postgres_parts(text: &str) -> Option<url::Url> {
    match url::Url::parse(text) {
        Err(url::ParseError::EmptyHost) => {
            let (before, after) = text.split_once("@/")?;
            url::Url::parse(&format!("{before}@localhost/{after}")).ok()
        }
        parsed => parsed.ok(),
    }
}

/// Without the password, and without the query, from which libpq also takes one.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(text) => {
                let Some(mut url) = postgres_parts(text) else { return f.write_str("postgres://") };
                // A URL that has no host takes no password either; then there is none to remove.
                let _ = url.set_password(None);
                url.set_query(None);
                write!(f, "{url}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An open connection to either database.
///
/// Diesel's `MultiConnection` knows neither batch inserts nor `on_conflict`; [`on!`] runs the same query on both instead.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Runs one Diesel query, typed for each database, on whichever is connected: `on!(connection, c => query.execute(c))`.
macro_rules! on {
    ($connection:expr, $c:ident => $body:expr) => {
        match $connection {
            $crate::store::connection::Connection::Sqlite($c) => $body,
            $crate::store::connection::Connection::Postgres($c) => $body,
        }
    };
}
pub(super) use on;

impl Connection {
    /// Connects for writing.
    pub(super) fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        match url {
            DatabaseUrl::Sqlite(path) => {
                // An absolute path can be none of the names that SQLite gives a meaning (`:memory:`, `file:...`).
                let path = std::path::absolute(path).map_err(|error| StoreError::fatal(format!("{url}: {error}")))?;
                make_private(&path);
                let mut connection = SqliteConnection::establish(&path.to_string_lossy()).map_err(|e| connect_error(url, &e))?;
                set_up_sqlite(&mut connection).map_err(|error| query_error(url, &error, Phase::Opening))?;
                Ok(Self::Sqlite(connection))
            }
            DatabaseUrl::Postgres(text) => connect_postgres(url, text).map(Self::Postgres),
        }
    }

    /// Connects for reading: a query here waits for no flush and delays none.
    pub(super) fn open_read_only(url: &DatabaseUrl) -> Result<Self, StoreError> {
        match url {
            DatabaseUrl::Sqlite(path) => {
                let path = std::path::absolute(path).map_err(|error| StoreError::fatal(format!("{url}: {error}")))?;
                if !path.exists() {
                    return Err(StoreError::fatal(format!("there is no database {url} yet; `tidegate run` makes it")));
                }
                let uri = sqlite_uri(&path, "mode=ro");
                let mut connection = SqliteConnection::establish(&uri).map_err(|e| connect_error(url, &e))?;
                let pragmas = format!("PRAGMA busy_timeout = {SQLITE_BUSY_MILLIS}; PRAGMA query_only = ON");
                connection.batch_execute(&pragmas).map_err(|error| query_error(url, &error, Phase::Opening))?;
                Ok(Self::Sqlite(connection))
            }
            DatabaseUrl::Postgres(text) => {
                let mut connection = connect_postgres(url, text)?;
                let read_only = "SET default_transaction_read_only = on";
                connection.batch_execute(read_only).map_err(|error| query_error(url, &error, Phase::Opening))?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    /// Lets no statement take longer than this from now on. SQLite's cannot hang on a network.
    pub(super) fn limit_statements(&mut self, url: &DatabaseUrl, limit: Duration) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(c) => {
                let limit = format!("SET statement_timeout = {}", limit.as_millis());
                c.batch_execute(&limit).map_err(|error| query_error(url, &error, Phase::Opening))
            }
        }
    }

    /// True if the next call can use this connection.
    pub(super) fn is_usable(&mut self) -> bool {
        on!(self, c => sql_query("SELECT 1").execute(c).is_ok())
    }
}

/// Makes the file with rights for its owner alone where there is none yet: it will hold the masters' API keys. SQLite gives
/// its other files the same rights.
fn make_private(path: &Path) {
    // If it cannot be made, SQLite says why, and better.
    let _ = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
}

fn set_up_sqlite(connection: &mut SqliteConnection) -> Result<(), Error> {
    // One statement each: SQLite reports only the first error of several. The vacuum mode can be chosen only before the
    // first page is written, that is also before the switch to WAL; on an existing database the line does nothing.
    for pragma in [
        format!("PRAGMA busy_timeout = {SQLITE_BUSY_MILLIS}"),
        "PRAGMA auto_vacuum = INCREMENTAL".to_owned(),
        "PRAGMA journal_mode = WAL".to_owned(),
        // FULL for every transaction: with NORMAL a COMMIT is not synced, and the journal deletes its copy after it.
        "PRAGMA synchronous = FULL".to_owned(),
        format!("PRAGMA wal_autocheckpoint = {SQLITE_CHECKPOINT_PAGES}"),
        format!("PRAGMA journal_size_limit = {SQLITE_LOG_BYTES_MAX}"),
        "PRAGMA foreign_keys = ON".to_owned(),
    ] {
        connection.batch_execute(&pragma)?;
    }
    Ok(())
}

fn connect_postgres(url: &DatabaseUrl, text: &str) -> Result<PgConnection, StoreError> {
    let mut connection = PgConnection::establish(&url.libpq(text)).map_err(|error| connect_error(url, &error))?;
    connection.batch_execute(POSTGRES_SESSION).map_err(|error| query_error(url, &error, Phase::Opening))?;
    // English messages are what the classification below reads. Only a superuser may ask for them; for others the server's
    // language stays, and an error that is not recognised counts as passing.
    let _ = connection.batch_execute("SET lc_messages = 'C'");
    Ok(connection)
}

/// The `file:` URI of an absolute path, with SQLite's parameters.
pub(crate) fn sqlite_uri(path: &Path, parameters: &str) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?{parameters}")
}

/// When an error came: what is a person's business at start is waited out later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// While connecting, locking or migrating.
    Opening,
    /// In a call of a running recorder.
    Running,
}

/// What PostgreSQL or libpq say while connecting when waiting will not help, and what to do.
const POSTGRES_FATAL: [(&str, &str); 14] = [
    ("password authentication failed", "check user and password in database.url"),
    ("no password supplied", "put the password into database.url or into ~/.pgpass"),
    ("authentication failed", "check user and password in database.url"),
    (
        "no pg_hba.conf entry",
        "allow this host and user in the server's pg_hba.conf; if it takes them with TLS only, build with `--features postgres-tls` and \
         add `?sslmode=require`",
    ),
    ("does not exist", "create it, or correct database.url"),
    ("permission denied", "grant the user rights on the database and its schema `public`"),
    ("must be owner of", "let the user own tidegate's tables"),
    ("invalid connection option", "correct the part behind `?` of database.url"),
    ("invalid uri query parameter", "correct the part behind `?` of database.url"),
    ("invalid percent-encoded", "percent-encode the special characters of user and password in database.url"),
    ("invalid port number", "correct the port in database.url"),
    ("unexpected character", "correct database.url; special characters of a password are percent-encoded"),
    ("when ssl support is not compiled in", "build with `--features postgres-tls`, or use another sslmode"),
    ("server does not support ssl", "switch TLS on at the server, or use another sslmode"),
];

/// SQLite's words for what is wrong around a statement and not with its values, and what to do.
const SQLITE_AROUND: [(&str, &str); 16] = [
    ("database is locked", "another process writes to it; it is tried again"),
    ("database table is locked", "another process writes to it; it is tried again"),
    ("database schema is locked", "another process writes to it; it is tried again"),
    ("attempt to write a readonly database", "let this user write to the file and its directory"),
    ("disk i/o error", "look at the system's log and the disk"),
    ("database or disk is full", "make room on the disk"),
    ("unable to open database file", "check that the directory exists and that this user may write there"),
    ("database disk image is malformed", "run `tidegate check`; restore a backup if it reports damage"),
    ("file is not a database", "give the path of a tidegate database, or of a file that does not exist yet"),
    ("out of memory", "free memory"),
    ("locking protocol", "another process holds the database; it is tried again"),
    ("large file support is disabled", "use another file system"),
    ("access permission denied", "let this user read and write the file and its directory"),
    ("interrupted", "it is tried again"),
    ("no such", "the schema is not tidegate's; restore a backup or take a new file"),
    ("has no column", "the schema is not tidegate's; restore a backup or take a new file"),
];

/// PostgreSQL's words for the same. Incomplete by nature; see [`refuses_row`].
const POSTGRES_AROUND: [&str; 16] = [
    "no space left",
    "could not ",
    "permission denied",
    "does not exist",
    "terminating connection",
    "server closed the connection",
    "connection",
    "statement timeout",
    "lock timeout",
    "canceling statement",
    "deadlock detected",
    "out of memory",
    "out of shared memory",
    "disk full",
    "current transaction is aborted",
    "database system is",
];

/// What is advised, for whoever translates it.
#[cfg(test)]
pub(crate) fn advices() -> impl Iterator<Item = &'static str> {
    POSTGRES_FATAL.iter().chain(&SQLITE_AROUND).map(|(_, advice)| *advice)
}

/// The error of a connection that was not made.
pub(super) fn connect_error(url: &DatabaseUrl, error: &ConnectionError) -> StoreError {
    let text = url.scrub(&error.to_string());
    let lower = text.to_lowercase();
    let known = match url {
        DatabaseUrl::Postgres(_) => find(&POSTGRES_FATAL, &lower),
        DatabaseUrl::Sqlite(_) => Some(find(&SQLITE_AROUND, &lower).unwrap_or("check the path in database.url")),
    };
    match (error, known) {
        (ConnectionError::InvalidCString(_) | ConnectionError::InvalidConnectionUrl(_), _) => {
            StoreError::fatal(format!("{url}: database.url is not usable; correct it"))
        }
        (_, Some(advice)) => StoreError::fatal(format!("cannot open {url}: {text}; {advice}")),
        (_, None) => StoreError::unavailable(format!("cannot connect to {url}: {text}")),
    }
}

/// The error of a statement or of a transaction's end.
pub(super) fn query_error(url: &DatabaseUrl, error: &Error, phase: Phase) -> StoreError {
    judged(url, &error.to_string(), phase)
}

/// What to make of the words of a database.
pub(super) fn judged(url: &DatabaseUrl, text: &str, phase: Phase) -> StoreError {
    let text = url.scrub(text);
    let lower = text.to_lowercase();
    let sqlite = matches!(url, DatabaseUrl::Sqlite(_));
    let advice = if sqlite { find(&SQLITE_AROUND, &lower) } else { find(&POSTGRES_FATAL, &lower) };
    let message = match advice {
        Some(advice) => format!("{url}: {text}; {advice}"),
        None => format!("{url}: {text}"),
    };
    let passes =
        lower.contains("locked") || lower.contains("full") || lower.contains("i/o error") || lower.contains("interrupted");
    let for_a_person = if sqlite { advice.is_some() && !passes } else { advice.is_some() };
    if phase == Phase::Opening && for_a_person { StoreError::fatal(message) } else { StoreError::unavailable(message) }
}

/// SQLite's words for a file that is damaged, or is no database any more.
const SQLITE_DAMAGED: [&str; 3] = ["database disk image is malformed", "file is not a database", "malformed database schema"];

/// Whether an error says that the database's file is damaged.
pub(super) fn is_damage(url: &DatabaseUrl, error: &StoreError) -> bool {
    matches!(url, DatabaseUrl::Sqlite(_)) && SQLITE_DAMAGED.iter().any(|words| error.message.contains(words))
}

/// The words of an error without what this module advises.
pub(super) fn without_advice(message: &str) -> &str {
    let advised = SQLITE_AROUND.iter().find_map(|(_, advice)| message.strip_suffix(advice)?.strip_suffix("; "));
    advised.unwrap_or(message)
}

fn find(table: &[(&str, &'static str)], lower: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| lower.contains(words)).map(|(_, advice)| *advice)
}

/// How sure it is that a statement failed because of a row's own values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowVerdict {
    /// A constraint, or a value that the database cannot represent.
    Refused,
    /// Diesel passes on no error code and the words are not known: judge by whether other rows go through.
    Perhaps,
    /// The row has nothing to do with it.
    Around,
}

/// Judges whether the database refuses a row for itself.
pub(super) fn refuses_row(connection: &Connection, error: &Error) -> RowVerdict {
    row_verdict(matches!(connection, Connection::Sqlite(_)), error)
}

fn row_verdict(sqlite: bool, error: &Error) -> RowVerdict {
    use DatabaseErrorKind as Kind;
    match error {
        Error::SerializationError(_) => RowVerdict::Refused,
        Error::DatabaseError(kind, information) => match kind {
            Kind::UniqueViolation
            | Kind::ForeignKeyViolation
            | Kind::NotNullViolation
            | Kind::CheckViolation
            | Kind::RestrictViolation
            | Kind::ExclusionViolation => RowVerdict::Refused,
            Kind::Unknown => {
                let lower = information.message().to_lowercase();
                let around = if sqlite {
                    find(&SQLITE_AROUND, &lower).is_some()
                } else {
                    POSTGRES_AROUND.iter().any(|words| lower.contains(words))
                };
                if around { RowVerdict::Around } else { RowVerdict::Perhaps }
            }
            _ => RowVerdict::Around,
        },
        _ => RowVerdict::Around,
    }
}

/// Whether a COMMIT that failed so may have taken effect all the same.
///
/// PostgreSQL: when the connection was lost, the answer was; an error that the server did send means rolled back.
/// SQLite: a lock means that nothing was written. After an I/O error or a full disk the log may hold the whole
/// transaction, which the next process to open the database would find and keep.
pub(super) fn commit_in_doubt(connection: &mut Connection, error: &Error) -> bool {
    match connection {
        Connection::Sqlite(_) => !error.to_string().contains("locked") && row_verdict(true, error) != RowVerdict::Refused,
        Connection::Postgres(_) => !connection.is_usable(),
    }
}

impl StoreError {
    pub(super) fn fatal(message: String) -> Self {
        Self { kind: StoreErrorKind::Fatal, in_doubt: false, message }
    }

    pub(super) fn unavailable(message: String) -> Self {
        Self { kind: StoreErrorKind::Unavailable, in_doubt: false, message }
    }

    pub(super) fn refused(message: String) -> Self {
        Self { kind: StoreErrorKind::Refused, in_doubt: false, message }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
