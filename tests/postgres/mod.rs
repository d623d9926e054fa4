//! A real PostgreSQL server for tests, and databases of either kind that go away with the test.
//!
//! `TIDEGATE_TEST_POSTGRES` names a server where databases may be created. Without it a scratch cluster is made with the
//! `initdb` that is found, once per test binary, and stopped when the process ends, however it ends.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use tidegate::store::DatabaseUrl;

/// The server's URL with a user who may create databases.
pub fn server() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| std::env::var("TIDEGATE_TEST_POSTGRES").unwrap_or_else(|_| scratch_cluster()))
}

/// `server` with another database.
pub fn with_database(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').map_or((server, String::new()), |(base, query)| (base, format!("?{query}")));
    let (scheme, rest) = base.split_once("://").expect("TIDEGATE_TEST_POSTGRES is postgres://USER:PASSWORD@HOST/DATABASE");
    let authority = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}/{name}{query}")
}

fn scratch_cluster() -> String {
    // A static is never dropped, so the server ends with the process and not before.
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start).url()
}

/// A server that a test may have for itself, to stop and kill it. Gone when dropped, and when the process ends.
pub struct Cluster {
    bin: PathBuf,
    directory: PathBuf,
    owner: Option<(u32, u32)>,
    /// See [`Cluster::stop_at_end`].
    stopper: Option<Child>,
}

impl Cluster {
    /// Makes one with the `initdb` that is found, and starts it.
    pub fn start() -> Self {
        let initdb = find("initdb").unwrap_or_else(|| {
            panic!(
                "no PostgreSQL for the tests: set TIDEGATE_TEST_POSTGRES to a server's URL, or install one (apt-get install \
                 postgresql); the tests that stop and kill a server need one that is installed"
            )
        });
        let bin = initdb.parent().expect("a program has a directory").to_owned();
        let directory = tempfile::Builder::new().prefix("tidegate-pg-").tempdir().expect("a directory for the cluster").keep();
        let owner = unprivileged_user();
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).expect("the directory is given to user postgres");
        }
        let password_file = directory.join("password");
        std::fs::write(&password_file, "scratch\n").expect("the password is written");
        let mut cluster = Self { bin, directory, owner, stopper: None };
        let password = format!("--pwfile={}", password_file.display());
        cluster.run("initdb", &["-U", "postgres", "-A", "scram-sha-256", &password, "-E", "UTF8", "--locale=C", "--no-sync"]);
        cluster.stopper = Some(cluster.stop_at_end());
        cluster.start_again();
        cluster
    }

    /// The server's URL with its superuser.
    pub fn url(&self) -> String {
        format!("postgres://postgres:scratch@/postgres?host={}", self.directory.display())
    }

    /// Starts it after a stop or a kill.
    pub fn start_again(&self) {
        let options = format!("-k '{}' -c listen_addresses= -c fsync=off -c max_connections=100", self.directory.display());
        let log = self.directory.join("log");
        // After a kill the sessions' processes need a moment to notice, and keep a new server from starting.
        const TRIES: u32 = 50;
        for _ in 0..TRIES {
            if self.try_to_run("pg_ctl", &["-w", "-o", &options, "-l", &log.to_string_lossy(), "start"]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("PostgreSQL does not start: see {}", log.display());
    }

    /// Stops it: `fast` ends the sessions in order, `immediate` as a crash would.
    pub fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["-w", "-m", mode, "stop"]);
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> i32 {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("the server runs");
        file.lines().next().and_then(|line| line.parse().ok()).expect("a process id in the first line")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        assert!(self.try_to_run(program, arguments), "{program} failed: see {}", self.directory.display());
    }

    fn try_to_run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).arg("-D").arg(self.data()).current_dir(&self.directory);
        // What the server has to say is in its log.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command.status().expect("PostgreSQL's programs can be started").success()
    }

    /// A shell that waits for our end of a pipe to close, with the value or with this process however it ends, and stops
    /// the server then.
    fn stop_at_end(&self) -> Child {
        let script = r#"while read -r _; do :; done; "$1" -D "$2" -m immediate stop; rm -rf "$3"/*; rmdir "$3" 2>/dev/null"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(self.bin.join("pg_ctl")).arg(self.data()).arg(&self.directory).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C in the terminal must not end the shell before the server is stopped.
        command.process_group(0);
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command.spawn().expect("sh can be started")
    }
}

/// PostgreSQL refuses to run as root; then it runs as user `postgres`.
fn unprivileged_user() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").expect("/proc is there").uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == "postgres");
    let fields = fields.unwrap_or_else(|| panic!("run as root, the tests need a user `postgres` (useradd --system postgres)"));
    Some((fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid")))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    std::env::split_paths(&path).chain(debian).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// A database for one test, gone when dropped.
pub enum TestDatabase {
    /// A file in a directory of its own.
    Sqlite(tempfile::TempDir),
    /// A database of [`server`].
    Postgres(String),
}

impl TestDatabase {
    /// A path where no file is yet.
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary directory"))
    }

    /// An empty database.
    pub fn postgres() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tidegate_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        admin(&format!("CREATE DATABASE {name}"));
        Self::Postgres(name)
    }

    /// As in `database.url`.
    pub fn url_text(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!("sqlite:{}", directory.path().join("tide.db").display()),
            Self::Postgres(name) => with_database(server(), name),
        }
    }

    /// Parsed.
    pub fn url(&self) -> DatabaseUrl {
        self.url_text().parse().expect("a database URL")
    }

    /// A connection that goes around the store.
    pub fn connect(&self) -> Around {
        match self {
            Self::Sqlite(directory) => {
                let path = directory.path().join("tide.db");
                let mut connection = SqliteConnection::establish(&path.to_string_lossy()).expect("the file can be opened");
                connection.batch_execute("PRAGMA busy_timeout = 5000").expect("a pragma");
                Around::Sqlite(connection)
            }
            Self::Postgres(_) => Around::Postgres(PgConnection::establish(&self.url_text()).expect("the server answers")),
        }
    }

    /// Runs statements around the store.
    pub fn execute(&self, sql: &str) {
        self.connect().execute(sql);
    }

    /// The first column of all rows, as text.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.connect().texts(sql)
    }

    /// One number.
    pub fn number(&self, sql: &str) -> i64 {
        self.connect().number(sql)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Self::Postgres(name) = self {
            admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// Runs a statement as the server's administrator.
pub fn admin(sql: &str) {
    let mut connection = PgConnection::establish(server()).expect("TIDEGATE_TEST_POSTGRES is reachable");
    connection.batch_execute(sql).expect("the user may create and drop databases");
}

/// A connection that goes around the store.
pub enum Around {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl Around {
    /// Runs statements.
    pub fn execute(&mut self, sql: &str) {
        match self {
            Self::Sqlite(c) => c.batch_execute(sql),
            Self::Postgres(c) => c.batch_execute(sql),
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The column `value` of all rows; NULL as `null`.
    pub fn texts(&mut self, sql: &str) -> Vec<String> {
        let rows: Vec<TextRow> = match self {
            Self::Sqlite(c) => sql_query(sql).load(c),
            Self::Postgres(c) => sql_query(sql).load(c),
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.value.unwrap_or_else(|| "null".to_owned())).collect()
    }

    /// The column `value` of the only row.
    pub fn number(&mut self, sql: &str) -> i64 {
        let row: NumberRow = match self {
            Self::Sqlite(c) => sql_query(sql).get_result(c),
            Self::Postgres(c) => sql_query(sql).get_result(c),
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
        row.value
    }
}

/// Text in one line, for messages of failed comparisons.
pub fn joined(rows: &[String]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        let _ = write!(text, "{row} ");
        text
    })
}
