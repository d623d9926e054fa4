//! Which database a recorder writes, told without naming it: a command must not talk to the recorder of another one.

use sha2::{Digest, Sha256};
use std::path::Path;

use crate::config::DatabaseUrl;
use crate::store::postgres_parts;

/// Response header of every answer.
pub const HEADER: &str = "tidegate-database";
/// What a demo with a temporary database sends: any command that has no database of its own may talk to it.
pub const DEMO: &str = "demo";
/// Hex digits that are sent: enough to tell databases of one machine apart.
const DIGITS: usize = 16;

/// The same text for the same database, by whatever path or user it is named.
#[must_use]
pub fn of(database: &DatabaseUrl) -> String {
    let digest = Sha256::digest(place(database));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..DIGITS].to_owned()
}

/// Where the database is, without user and password.
fn place(database: &DatabaseUrl) -> String {
    match database {
        DatabaseUrl::Sqlite(path) => {
            // The file may not exist yet; its directory does, or nothing will work.
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
            let file = path.canonicalize().unwrap_or_else(|_| directory.join(path.file_name().unwrap_or_default()));
            format!("sqlite:{}", file.display())
        }
        DatabaseUrl::Postgres(text) => {
            let Some(url) = postgres_parts(text) else { return text.clone() };
            let host = url.query_pairs().find(|(name, _)| name == "host").map(|(_, host)| host.into_owned());
            let host = host.or_else(|| url.host_str().map(str::to_owned)).unwrap_or_default();
            let host = if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") { "" } else { &host };
            format!("postgres:{host}:{}{}", url.port().unwrap_or(5432), url.path())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> String {
        of(&text.parse().unwrap())
    }

    #[test]
    fn a_file_is_the_same_by_its_relative_and_its_absolute_path() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(identity("sqlite:t.db"), identity(&format!("sqlite://{}/./t.db", here.display())));
        assert_ne!(identity("sqlite:t.db"), identity("sqlite:u.db"));
    }

    #[test]
    fn a_server_is_the_same_whoever_logs_in() {
        let one = identity("postgres://me:1@localhost/tide");
        assert_eq!(one, identity("postgresql://you:2@127.0.0.1:5432/tide"));
        assert_ne!(one, identity("postgres://me:1@localhost/other"));
        assert_eq!(one.len(), DIGITS);
    }
}
