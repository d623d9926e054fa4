//! The address of the database, without showing its password.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

/// `database.url`, parsed. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the URL as it was given.
    Postgres(String),
}

impl DatabaseUrl {
    /// The file, with SQLite.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(text) => {
                let Ok(mut url) = Url::parse(text) else { return f.write_str("postgres://") };
                // A URL that has no host takes no password either; then there is none to remove.
                let _ = url.set_password(None);
                // libpq also reads a password from the query.
                url.set_query(None);
                write!(f, "{url}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl std::str::FromStr for DatabaseUrl {
    /// Why, without repeating the URL.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err("the path is missing"),
                ":memory:" => Err("a database in memory would lose everything at the end; give a path"),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            };
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return match Url::parse(text) {
                Ok(_) => Ok(Self::Postgres(text.to_owned())),
                Err(_) => Err("it is not a valid URL; special characters of a password are written as %XX"),
            };
        }
        Err("it begins with neither `sqlite:` nor `postgres://`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for text in ["postgres://me:s3cret@db/tide", "postgresql://me@db/tide?password=s3cret"] {
            let url: DatabaseUrl = text.parse().unwrap();
            for shown in [url.to_string(), format!("{url:?}")] {
                assert!(!shown.contains("s3cret"), "{shown}");
            }
        }
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for text in ["", "tide.db", "mysql://h/x", "sqlite:", "sqlite::memory:", "postgres://[::1/x"] {
            assert!(text.parse::<DatabaseUrl>().is_err(), "{text}");
        }
    }
}
