//! The address of the database, without showing its password.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

/// `database.url`, parsed. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the URL is kept as it was given, for [`DatabaseUrl::reveal`].
    Postgres(String),
}

impl DatabaseUrl {
    /// The URL as the database library takes it, password included: not for logs.
    #[must_use]
    pub fn reveal(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// The file, with SQLite.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// The same text for the same database, whatever directory or user it is named by. Tells a recorder of this database
    /// from another one on the same port.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Sqlite(path) => {
                // The file may not exist yet; its directory does, or nothing will work.
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
                let file = path.canonicalize().unwrap_or_else(|_| directory.join(path.file_name().unwrap_or_default()));
                format!("sqlite:{}", file.display())
            }
            Self::Postgres(text) => {
                let Ok(url) = Url::parse(text) else { return "postgres:".to_owned() };
                let host = url.query_pairs().find(|(name, _)| name == "host").map(|(_, host)| host.into_owned());
                let host = host.or_else(|| url.host_str().map(str::to_owned)).unwrap_or_default();
                let host = if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") { "" } else { &host };
                format!("postgres:{host}:{}{}", url.port().unwrap_or(5432), url.path())
            }
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
    fn a_password_is_shown_by_nothing_but_reveal() {
        for text in ["postgres://me:s3cret@db/tide", "postgresql://me@db/tide?password=s3cret"] {
            let url: DatabaseUrl = text.parse().unwrap();
            for shown in [url.to_string(), format!("{url:?}"), url.identity()] {
                assert!(!shown.contains("s3cret"), "{shown}");
            }
            assert_eq!(url.reveal(), text);
        }
    }

    #[test]
    fn a_file_is_the_same_by_its_relative_and_its_absolute_path() {
        let directory = tempfile::tempdir().unwrap();
        let direct: DatabaseUrl = format!("sqlite:{}/t.db", directory.path().display()).parse().unwrap();
        let detour: DatabaseUrl = format!("sqlite://{}/./t.db", directory.path().display()).parse().unwrap();
        assert_eq!(direct.identity(), detour.identity());
        let bare: DatabaseUrl = "sqlite:t.db".parse().unwrap();
        assert_eq!(bare.identity(), format!("sqlite:{}/t.db", std::env::current_dir().unwrap().display()));
    }

    #[test]
    fn a_server_is_the_same_whoever_logs_in() {
        let one: DatabaseUrl = "postgres://me:1@localhost/tide".parse().unwrap();
        let other: DatabaseUrl = "postgresql://you@127.0.0.1:5432/tide".parse().unwrap();
        assert_eq!(one.identity(), other.identity());
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for text in ["", "tide.db", "mysql://h/x", "sqlite:", "sqlite::memory:", "postgres://[::1/x"] {
            assert!(text.parse::<DatabaseUrl>().is_err(), "{text}");
        }
    }
}
