//! `tidegate demo`: simulated masters over real HTTP on loopback, and the recorder in the same process.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use log::info;

use super::exit::{ExitCode, Failure};
use super::run;
use crate::clock::{Clock, SystemClock};
use crate::config::keys::KEYS;
use crate::config::{Config, DatabaseUrl};
use crate::demo::Fleet;
use crate::http::identity;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything but the masters is real. The database is temporary and gone afterwards, unless --database-url is \
                  given; configured endpoints are left alone. A database that held a demo before has its endpoints at ports that \
                  are gone: give a new one.\n\nExample:\n  tidegate demo"
)]
pub(super) struct Demo {}

impl Demo {
    pub(super) async fn execute(self, config: &mut Config, keep: bool) -> Result<ExitCode, Failure> {
        config.endpoints.clear();
        let scratch = if keep { None } else { Some(Scratch::make()?) };
        if let Some(Scratch(directory)) = &scratch {
            config.database = DatabaseUrl::Sqlite(directory.join("demo.db"));
            config.journal.dir = directory.join("journal");
        }
        let (identity, mut look) = match &scratch {
            Some(_) => (identity::DEMO.to_owned(), "tidegate stats".to_owned()),
            None => (identity::of(&config.database), format!("tidegate stats --database-url {}", config.database)),
        };
        let usual = KEYS.iter().find(|key| key.name == "http.listen").and_then(|key| key.default);
        let listen = config.http.listen.to_string();
        if usual != Some(&listen) {
            look.push_str(&format!(" --set http.listen={listen}"));
        }
        let clock = Arc::new(SystemClock);
        let fleet = Fleet::start(clock.clone(), clock.wall().0.cast_unsigned())
            .map_err(|error| Failure::usage(format!("no port for a simulated master on loopback: {error}")))?;
        info!("demo: {} simulated masters; look around with `{look}`, stop with Ctrl-C", fleet.endpoints.len());
        let code = run::record(config, fleet.endpoints.clone(), &identity).await;
        fleet.stop().await;
        code
    }
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self, Failure> {
        let directory = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
        // One of its own: what lies under a name that others can guess may be theirs.
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| Failure::usage(format!("cannot make {}: {error}; give --database-url", directory.display())))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it is a few megabytes of invented data.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
