//! What can be wrong with a configuration. Every message names where the value came from and what to do.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::endpoint::EndpointError;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table of keys.
    Default,
    /// A configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A command line flag, as it is written: `--set`.
    Flag(&'static str),
    /// A request to the running recorder.
    Request,
    /// The table `settings`.
    Database,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Request => f.write_str("the request"),
            Self::Database => f.write_str("kept in the database"),
        }
    }
}

/// Why a configuration cannot be used. All of these end the program with exit code 2 before anything was done.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {detail}; check --config")]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// The file is not TOML.
    #[error("{origin}: not valid TOML: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// The parser's words, without the line itself, which may hold a secret.
        message: String,
    },
    /// No such key.
    #[error("unknown key `{key}` ({origin}); {hint}")]
    UnknownKey {
        /// As it was given.
        key: String,
        /// Where.
        origin: Origin,
        /// What to do.
        hint: String,
    },
    /// The value is not allowed.
    #[error("`{key}` cannot be {value} ({origin}); allowed is {allowed}")]
    Value {
        /// The key.
        key: String,
        /// The value in quotes, or what stands for a secret.
        value: String,
        /// Where.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// `--set` without `=`.
    #[error("--set takes KEY=VALUE, for example --set storage.batch_size=200; `{text}` has no `=`")]
    SetSyntax {
        /// What was given.
        text: String,
    },
    /// `--endpoint` without `=`.
    #[error("--endpoint takes NAME=URL, for example --endpoint tokyo=http://10.0.0.5:9090/api")]
    EndpointSyntax,
    /// A variable's value is not text.
    #[error("{origin}: the value is not valid UTF-8")]
    NotUnicode {
        /// Which.
        origin: Origin,
    },
    /// An endpoint's definition.
    #[error("endpoint `{name}` ({origin}): {reason}")]
    Endpoint {
        /// Its name, or its position where it has none.
        name: String,
        /// Where.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// Open to the network without a token.
    #[error(
        "http.listen is {listen}, which others can reach, and http.token is not set: anyone could read the page and change endpoints; \
         set http.token (TIDEGATE_HTTP__TOKEN) or listen on 127.0.0.1"
    )]
    Exposed {
        /// The address.
        listen: SocketAddr,
    },
    /// A key that is read at start only.
    #[error("`{key}` ({origin}) cannot change while the recorder runs; what can is {changeable}")]
    Fixed {
        /// Which.
        key: String,
        /// Where.
        origin: Origin,
        /// The keys that can.
        changeable: String,
    },
}

impl ConfigError {
    pub(super) fn endpoint(name: &str, origin: &Origin, error: &EndpointError) -> Self {
        Self::Endpoint { name: name.to_owned(), origin: origin.clone(), reason: error.to_string() }
    }
}
