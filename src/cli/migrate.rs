//! `tidegate migrate`.

use serde_json::json;

use super::Json;
use super::database;
use super::exit::{ExitCode, Failure};
use super::output;
use crate::blocking::Blocking;
use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(after_help = "`tidegate run` does the same when it starts. No recorder may run meanwhile.\n\n\
                  Example:\n  tidegate migrate --database-url sqlite:/var/lib/tidegate/tidegate.db")]
pub(super) struct Migrate {
    #[command(flatten)]
    output: Json,
}

impl Migrate {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let database = config.database.clone();
        let work = Blocking::Threads.run("migrate", move || database::migrate(&database));
        let applied = output::patiently("migrating", work).await?;
        if self.output.json {
            output::json(&json!({ "database": config.database.to_string(), "applied": applied }));
        } else if applied.is_empty() {
            output::print(&format!("{}: the schema is up to date", config.database));
        } else {
            output::print(&format!("{}: applied {}", config.database, applied.join(", ")));
        }
        Ok(ExitCode::Done)
    }
}
