//! Every key there is, with its default and range: the one table that loading, `--help` and the documentation follow.

use std::fmt;
use std::time::Duration;

/// A key of the configuration. All layers give values as text in the same syntax.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted name: `storage.batch_size`.
    pub name: &'static str,
    /// What holds where no layer says otherwise; `None` where the key has no fixed default (see `help`).
    pub default: Option<&'static str>,
    /// What values are allowed.
    pub kind: Kind,
    /// One line for people.
    pub help: &'static str,
}

/// What a key's values look like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number.
    Count {
        /// Lowest.
        min: u64,
        /// Highest.
        max: u64,
    },
    /// A number of bytes, `4 MiB`.
    Size {
        /// Lowest.
        min: u64,
        /// Highest.
        max: u64,
    },
    /// A duration, `1h 30m`.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// Words that are allowed beside durations, with their meaning in the key's help.
        words: &'static [&'static str],
    },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text of a form that this describes; checked where it is parsed.
    Text(&'static str),
    /// As `Text`, but never shown.
    Secret(&'static str),
}

/// What is allowed, for error messages and `--help`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Size { min, max } => {
                write!(f, "a size from {} to {}", bytesize::ByteSize(min), bytesize::ByteSize(max))
            }
            Self::Duration { min, max, words } => {
                for word in words {
                    write!(f, "`{word}` or ")?;
                }
                write!(f, "a duration from {} to {}", humantime::format_duration(min), humantime::format_duration(max))
            }
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Choice(words) => {
                f.write_str("one of")?;
                words.iter().enumerate().try_for_each(|(n, word)| write!(f, "{} `{word}`", if n == 0 { "" } else { "," }))
            }
            Self::Text(form) | Self::Secret(form) => f.write_str(form),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// humantime's year, so that "100y" is inside the range that ends with it.
pub(super) const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

/// Rows per statement: SQLite takes 32,766 variables and a row of the widest table has under 32 columns.
const BATCH_SIZE_MAX: u64 = 1_000;
/// Nodes from here on belong to the ids of replays, see [`crate::replay`].
const NODE_MAX: u64 = crate::replay::REPLAY_NODE_FIRST as u64 - 1;

/// All keys, in the order of the documentation. Those that [`Key::changes_while_running`] names change with `tidegate mode`.
pub const KEYS: &[Key] = &[
    Key {
        name: "database.url",
        default: Some("sqlite:tidegate.db"),
        kind: Kind::Secret("`sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`"),
        help: "where events, history and endpoints are stored",
    },
    Key {
        name: "storage.mode",
        default: Some("batched"),
        kind: Kind::Choice(&["batched", "dual", "realtime"]),
        help: "how events reach the database; what the database knows wins, see `tidegate mode`",
    },
    Key {
        name: "storage.max_buffer_size",
        default: Some("1000"),
        kind: Kind::Count { min: 1, max: 1_000_000 },
        help: "events at which a batch is cut",
    },
    Key {
        name: "storage.max_buffer_bytes",
        default: Some("4 MiB"),
        kind: Kind::Size { min: 64 << 10, max: 256 << 20 },
        help: "bytes at which a batch is cut",
    },
    Key {
        name: "storage.batch_size",
        default: Some("100"),
        kind: Kind::Count { min: 1, max: BATCH_SIZE_MAX },
        help: "rows per statement",
    },
    Key {
        name: "storage.flush_interval",
        default: Some("1h"),
        kind: Kind::Duration { min: MINUTE, max: DAY, words: &[] },
        help: "longest wait of an event; whole seconds that divide 24 h, counted from local midnight",
    },
    Key {
        name: "storage.timezone",
        default: Some("UTC"),
        kind: Kind::Text("an IANA name such as `Europe/Berlin`"),
        help: "time zone of flush boundaries, hours and days",
    },
    Key {
        name: "storage.memory_max_events",
        default: Some("100000"),
        kind: Kind::Count { min: 1, max: 100_000_000 },
        help: "events kept in memory; what is beyond lives in the journal alone",
    },
    Key {
        name: "storage.log_events",
        default: Some("true"),
        kind: Kind::Flag,
        help: "store `log` events; each endpoint can say otherwise",
    },
    Key {
        name: "cache.sync_interval",
        default: Some("5s"),
        kind: Kind::Duration { min: SECOND, max: HOUR, words: &[] },
        help: "how often changes of live state are written",
    },
    Key {
        name: "journal.dir",
        default: None,
        kind: Kind::Text("a directory"),
        help: "the journal's directory; default: the SQLite path plus `.journal`, else `tidegate.journal`",
    },
    Key {
        name: "journal.sync_interval",
        default: Some("1s"),
        kind: Kind::Duration { min: Duration::from_millis(10), max: HOUR, words: &["always", "off"] },
        help: "what a machine that loses power may lose; `always` loses nothing, `off` leaves it to the system",
    },
    Key {
        name: "journal.max_bytes",
        default: Some("1 GiB"),
        kind: Kind::Size { min: 64 << 10, max: 1 << 40 },
        help: "size at which new events are refused",
    },
    Key {
        name: "journal.min_free_bytes",
        default: Some("64 MiB"),
        kind: Kind::Size { min: 0, max: 1 << 40 },
        help: "free disk space below which new events are refused",
    },
    Key {
        name: "retention.events",
        default: Some("24h"),
        kind: Kind::Duration { min: MINUTE, max: CENTURY, words: &[] },
        help: "how long events are kept",
    },
    Key {
        name: "retention.minutes",
        default: Some("7d"),
        kind: Kind::Duration { min: HOUR, max: CENTURY, words: &[] },
        help: "how long history by the minute is kept",
    },
    Key {
        name: "retention.hours",
        default: Some("90d"),
        kind: Kind::Duration { min: DAY, max: CENTURY, words: &[] },
        help: "how long history by the hour is kept",
    },
    Key {
        name: "retention.days",
        default: Some("5y"),
        kind: Kind::Duration { min: DAY, max: CENTURY, words: &["0"] },
        help: "how long history by the day is kept; 0 is for ever",
    },
    Key {
        name: "http.listen",
        default: Some("127.0.0.1:8686"),
        kind: Kind::Text("an address and a port such as `127.0.0.1:8686` or `[::1]:8686`"),
        help: "where the HTTP server listens, and where commands find the recorder",
    },
    Key {
        name: "http.token",
        default: None,
        kind: Kind::Secret("1 to 256 visible ASCII characters without blanks"),
        help: "bearer token; needed where `http.listen` is not a loopback address",
    },
    Key {
        name: "shutdown.deadline",
        default: Some("30s"),
        kind: Kind::Duration { min: SECOND, max: HOUR, words: &[] },
        help: "how long a shutdown may take",
    },
    Key {
        name: "billing.start_day",
        default: Some("1"),
        kind: Kind::Count { min: 1, max: 31 },
        help: "first day of a billing cycle; the last day of months that are shorter",
    },
    Key {
        name: "alerts.endpoint_offline",
        default: Some("2m"),
        kind: Kind::Duration { min: SECOND, max: DAY, words: &["off"] },
        help: "how long a master must be offline before people are told",
    },
    Key {
        name: "alerts.tunnel_error",
        default: Some("1m"),
        kind: Kind::Duration { min: SECOND, max: DAY, words: &["off"] },
        help: "how long a tunnel must be in error before people are told",
    },
    Key {
        name: "alerts.flush_overdue",
        default: Some("1m"),
        kind: Kind::Duration { min: SECOND, max: DAY, words: &["off"] },
        help: "how long a flush must be overdue before people are told; it is from a minute after its boundary on",
    },
    Key {
        name: "alerts.journal_full",
        default: Some("1m"),
        kind: Kind::Duration { min: SECOND, max: DAY, words: &["off"] },
        help: "how long the journal must be above its share before people are told",
    },
    Key {
        name: "alerts.journal_percent",
        default: Some("80"),
        kind: Kind::Count { min: 1, max: 100 },
        help: "that share, in percent of journal.max_bytes",
    },
    Key {
        name: "alerts.traffic_limit",
        default: None,
        kind: Kind::Size { min: 1 << 20, max: 1 << 60 },
        help: "bytes that one master may move in a billing cycle, received and sent, before people are told",
    },
    Key {
        name: "alerts.webhook_url",
        default: None,
        kind: Kind::Secret("an http or https URL without user-info"),
        help: "where alerts are posted as JSON",
    },
    Key {
        name: "alerts.webhook_template",
        default: None,
        kind: Kind::Text(
            "a JSON object or list whose texts may hold {{title}}, {{text}}, {{time}}, {{state}}, {{began}}, {{ended}}",
        ),
        help: "the body for the webhook, where it wants one of its own form",
    },
    Key {
        name: "alerts.telegram_token",
        default: None,
        kind: Kind::Secret("the token of a bot, as BotFather gives it"),
        help: "bot that sends alerts to alerts.telegram_chat",
    },
    Key {
        name: "alerts.telegram_chat",
        default: None,
        kind: Kind::Text("the number of a chat, or @NAME of a channel"),
        help: "chat that alerts go to",
    },
    Key {
        name: "alerts.telegram_api",
        default: Some("https://api.telegram.org"),
        kind: Kind::Text("an http or https URL"),
        help: "Telegram's API, or a proxy of it",
    },
    Key {
        name: "node",
        default: Some("0"),
        kind: Kind::Count { min: 0, max: NODE_MAX },
        help: "number of this recorder in its event ids: give each a number of its own where the databases of several are to be merged",
    },
    Key {
        name: "log",
        default: Some("info"),
        kind: Kind::Text("a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or `MODULE=LEVEL,...`"),
        help: "what is logged to standard error; RUST_LOG is read if it is not set",
    },
];

/// The key of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key whose name is closest to a name that does not exist, if one is close enough to be meant.
#[must_use]
pub fn closest(name: &str) -> Option<&'static Key> {
    /// Below this similarity a suggestion confuses more than it helps.
    const SIMILAR: f64 = 0.8;
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |key: &Key| {
        let whole = strsim::jaro_winkler(key.name, name);
        // The right key in the wrong section is the commonest mistake.
        if last(key.name) == last(name) { 1.0_f64.max(whole) } else { whole }
    };
    let best = KEYS.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) >= SIMILAR).then_some(best)
}

/// The list of keys for `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Keys, for the file, for TIDEGATE_* variables (`__` between levels) and for --set. A recorder reads them when it starts; \
         those marked * can be changed while it runs, with `tidegate mode`.",
    );
    for key in KEYS {
        let Key { name, default, kind, help } = key;
        let mark = if key.changes_while_running() { " *" } else { "" };
        let default = default.map_or_else(String::new, |default| format!(" [default: {default}]"));
        text.push_str(&format!("\n\n  {name}{mark}{default}\n      {help}; {kind}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_have_one_section_at_most() {
        for (n, key) in KEYS.iter().enumerate() {
            assert!(KEYS[n + 1..].iter().all(|other| other.name != key.name), "{} is there twice", key.name);
            assert!(key.name.matches('.').count() <= 1, "{}", key.name);
        }
    }

    #[test]
    fn a_misspelt_or_misplaced_key_suggests_the_right_one() {
        for (wrong, right) in
            [("storage.batchsize", "storage.batch_size"), ("batch_size", "storage.batch_size"), ("http.listn", "http.listen")]
        {
            assert_eq!(closest(wrong).map(|key| key.name), Some(right), "{wrong}");
        }
        assert!(closest("qqq").is_none());
    }
}
