//! The configuration: defaults < file < environment < flags, checked as a whole before anything is done.
//!
//! The file, the environment and the flags give values as text in one syntax, and one table ([`keys::KEYS`]) says which keys
//! there are, what holds by default and what is allowed. An unknown key is an error wherever it stands.

mod alerts;
mod endpoints;
mod error;
pub mod keys;
mod layers;
mod tuning;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;

pub use self::alerts::AlertsConfig;
pub use self::endpoints::{ApiKeys, EndpointConfig, tls_policy};
pub use self::error::{ConfigError, Origin};
use self::keys::Kind;
use self::layers::Layers;
pub use self::layers::Sources;
pub use self::tuning::Tuning;
pub use crate::modes::StorageMode;
pub use crate::store::DatabaseUrl;

/// Everything that can be configured. Values are within the ranges of [`keys::KEYS`].
#[derive(Clone, Debug)]
pub struct Config {
    /// `database.url`.
    pub database: DatabaseUrl,
    /// `storage.*`.
    pub storage: StorageConfig,
    /// `cache.*`.
    pub cache: CacheConfig,
    /// `journal.*`.
    pub journal: JournalConfig,
    /// `retention.*`.
    pub retention: RetentionConfig,
    /// `http.*`.
    pub http: HttpConfig,
    /// `shutdown.deadline`.
    pub shutdown_deadline: Duration,
    /// `billing.start_day`, 1 to 31; the last day of months that are shorter.
    pub billing_start_day: u8,
    /// `alerts.*`.
    pub alerts: AlertsConfig,
    /// `node`, below [`crate::replay::REPLAY_NODE_FIRST`].
    pub node: u16,
    /// `log`, else `RUST_LOG`, else the default: a valid filter.
    pub log: String,
    /// `[[endpoints]]` and `--endpoint`: made at start where they are missing.
    pub endpoints: Vec<EndpointConfig>,
    /// Keys of masters from the environment.
    pub api_keys: ApiKeys,
}

/// How events are buffered and flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// How events reach the database where the database does not say; `None` where no layer says either.
    pub mode: Option<StorageMode>,
    /// Events at which a batch is cut.
    pub max_buffer_size: usize,
    /// Bytes at which a batch is cut.
    pub max_buffer_bytes: usize,
    /// Rows per statement.
    pub batch_size: usize,
    /// Longest wait of an event; whole seconds, divides 24 h.
    pub flush_interval: Duration,
    /// Zone of boundaries, hours and days.
    pub timezone: Tz,
    /// Events kept in memory.
    pub memory_max_events: usize,
    /// Whether `log` events are stored where the endpoint does not say otherwise.
    pub log_events: bool,
}

/// Live state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How often changes are handed to the database.
    pub sync_interval: Duration,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Its directory.
    pub dir: PathBuf,
    /// When what was written is synced.
    pub sync: JournalSync,
    /// Size at which new events are refused.
    pub max_bytes: u64,
    /// Free disk space below which new events are refused.
    pub min_free_bytes: u64,
}

/// When the journal is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalSync {
    /// Before a write is acknowledged.
    Always,
    /// At most this long after a write.
    Every(Duration),
    /// When the system likes to.
    Off,
}

/// How long what is kept. `None` is for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Rows of `endpoint_sse`.
    pub events: Duration,
    /// History by the minute.
    pub minutes: Duration,
    /// History by the hour.
    pub hours: Duration,
    /// History by the day.
    pub days: Option<Duration>,
}

impl RetentionConfig {
    /// As long as the configuration allows: nothing expires in a test or a simulation of less than a century.
    pub const LONGEST: Self = Self { events: keys::CENTURY, minutes: keys::CENTURY, hours: keys::CENTURY, days: None };
}

/// The HTTP server, and where commands find it.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where it listens. Not a loopback address only if there is a token.
    pub listen: SocketAddr,
    /// The bearer token.
    pub token: Option<Token>,
}

/// `http.token`. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Length above which a header would be refused by others.
    const LENGTH_MAX: usize = 256;

    /// A shorter one can be found by trying, in characters.
    pub const LENGTH_SAFE: usize = 16;

    /// The token of that text, if it can stand in a header: 1 to 256 visible ASCII characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// Whether it is so short that trying finds it.
    #[must_use]
    pub fn is_guessable(&self) -> bool {
        self.0.len() < Self::LENGTH_SAFE
    }

    /// The token itself: for the client's header and the guard only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Config {
    /// Reads all layers and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let layers = Layers::read(sources)?;
        let values = Values(&layers);
        let database = values.parse("database.url", |text| text.parse::<DatabaseUrl>().map_err(|why| Some(why.to_string())))?;
        let config = Self {
            storage: StorageConfig {
                mode: values.mode()?,
                max_buffer_size: values.count("storage.max_buffer_size")?,
                max_buffer_bytes: values.count("storage.max_buffer_bytes")?,
                batch_size: values.count("storage.batch_size")?,
                flush_interval: values.flush_interval()?,
                timezone: values.parse("storage.timezone", |text| text.parse().map_err(|_| None))?,
                memory_max_events: values.count("storage.memory_max_events")?,
                log_events: values.parse("storage.log_events", |text| text.parse().map_err(|_| None))?,
            },
            cache: CacheConfig { sync_interval: values.duration("cache.sync_interval")? },
            journal: JournalConfig {
                dir: values.journal_dir(&database)?,
                sync: match values.text("journal.sync_interval") {
                    "always" => JournalSync::Always,
                    "off" => JournalSync::Off,
                    _ => JournalSync::Every(values.duration("journal.sync_interval")?),
                },
                max_bytes: values.count("journal.max_bytes")?,
                min_free_bytes: values.count("journal.min_free_bytes")?,
            },
            retention: RetentionConfig {
                events: values.duration("retention.events")?,
                minutes: values.duration("retention.minutes")?,
                hours: values.duration("retention.hours")?,
                days: if values.text("retention.days") == "0" { None } else { Some(values.duration("retention.days")?) },
            },
            http: values.http()?,
            shutdown_deadline: values.duration("shutdown.deadline")?,
            billing_start_day: values.count("billing.start_day")?,
            alerts: alerts::parse(&values)?,
            node: values.count("node")?,
            log: values.log()?,
            endpoints: endpoints::parse(&layers.endpoints)?,
            api_keys: ApiKeys::new(&layers.api_keys),
            database,
        };
        Ok(config)
    }
}

/// The merged layers, read key by key.
struct Values<'a>(&'a Layers);

impl Values<'_> {
    fn given(&self, name: &str) -> Option<&layers::Given> {
        self.0.values.get(name)
    }

    /// The text of a key that has a default.
    fn text(&self, name: &str) -> &str {
        self.given(name).map_or("", |given| given.text.as_str())
    }

    /// The error for a key's value; `allowed` where more can be said than the table does.
    fn error(&self, name: &str, allowed: Option<String>) -> ConfigError {
        let kind = keys::find(name).map(|key| key.kind);
        let given = self.given(name).cloned().unwrap_or(layers::Given { text: String::new(), origin: Origin::Default });
        let value = match kind {
            Some(Kind::Secret(_)) => "what was given".to_owned(),
            _ => format!("`{}`", given.text),
        };
        let form = kind.map_or_else(String::new, |kind| kind.to_string());
        let allowed = allowed.map_or(form.clone(), |more| format!("{form}; {more}"));
        ConfigError::Value { key: name.to_owned(), value, origin: given.origin, allowed }
    }

    /// Parses a key's text; the function's error says more than the table, or nothing.
    fn parse<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Option<String>>) -> Result<T, ConfigError> {
        parse(self.text(name)).map_err(|allowed| self.error(name, allowed))
    }

    /// A number of things or bytes within the key's range.
    fn count<T: TryFrom<u64>>(&self, name: &str) -> Result<T, ConfigError> {
        let kind = keys::find(name).map(|key| key.kind);
        self.parse(name, |text| {
            let number = match kind {
                Some(Kind::Count { min, max }) => text.parse::<u64>().ok().filter(|number| (min..=max).contains(number)),
                Some(Kind::Size { min, max }) => {
                    text.parse::<bytesize::ByteSize>().ok().map(|size| size.0).filter(|size| (min..=max).contains(size))
                }
                _ => None,
            };
            number.and_then(|number| T::try_from(number).ok()).ok_or(None)
        })
    }

    fn duration(&self, name: &str) -> Result<Duration, ConfigError> {
        let kind = keys::find(name).map(|key| key.kind);
        self.parse(name, |text| match (kind, humantime::parse_duration(text)) {
            (Some(Kind::Duration { min, max, .. }), Ok(duration)) if (min..=max).contains(&duration) => Ok(duration),
            _ => Err(None),
        })
    }

    fn flush_interval(&self) -> Result<Duration, ConfigError> {
        const DAY_SECS: u64 = 86_400;
        let interval = self.duration("storage.flush_interval")?;
        if interval.subsec_nanos() == 0 && DAY_SECS.is_multiple_of(interval.as_secs()) {
            return Ok(interval);
        }
        let more = "it must divide 24 h without a rest, for example 5m, 15m, 1h or 6h".to_owned();
        Err(self.error("storage.flush_interval", Some(more)))
    }

    fn mode(&self) -> Result<Option<StorageMode>, ConfigError> {
        if self.given(StorageMode::KEY).is_none_or(|given| given.origin == Origin::Default) {
            return Ok(None);
        }
        self.parse(StorageMode::KEY, |text| StorageMode::from_name(text).map(Some).ok_or(None))
    }

    fn journal_dir(&self, database: &DatabaseUrl) -> Result<PathBuf, ConfigError> {
        match (self.given("journal.dir"), database.sqlite_path()) {
            (Some(given), _) if given.text.is_empty() => Err(self.error("journal.dir", None)),
            (Some(given), _) => Ok(PathBuf::from(&given.text)),
            (None, Some(path)) => {
                let mut dir = path.as_os_str().to_owned();
                dir.push(".journal");
                Ok(PathBuf::from(dir))
            }
            (None, None) => Ok(PathBuf::from("tidegate.journal")),
        }
    }

    fn http(&self) -> Result<HttpConfig, ConfigError> {
        let listen = self.parse("http.listen", |text| text.parse::<SocketAddr>().map_err(|_| None))?;
        let token = match self.given("http.token") {
            None => None,
            Some(given) => Some(Token::new(&given.text).ok_or_else(|| self.error("http.token", None))?),
        };
        if token.is_none() && !listen.ip().is_loopback() {
            return Err(ConfigError::Exposed { listen });
        }
        Ok(HttpConfig { listen, token })
    }

    fn log(&self) -> Result<String, ConfigError> {
        let unset = self.given("log").is_none_or(|given| given.origin == Origin::Default);
        match &self.0.rust_log {
            // Not ours, and shared with other programs: what cannot be read there is env_logger's to mention.
            Some(filter) if unset && !filter.is_empty() => Ok(filter.clone()),
            _ => self.parse("log", |text| {
                // env_logger takes a lone word that is no level for the name of a module, and would log nothing.
                let lone = |part: &str| part.contains('=') || part.parse::<log::LevelFilter>().is_ok();
                let directives = text.split('/').next().unwrap_or_default();
                let fits = directives.split(',').all(lone) && env_filter::Builder::new().try_parse(text).is_ok();
                if fits { Ok(text.to_owned()) } else { Err(None) }
            }),
        }
    }
}

#[cfg(test)]
mod tests;
