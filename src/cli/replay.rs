//! `tidegate replay`.

use std::path::PathBuf;

use serde_json::json;

use super::Json;
use super::exit::{ExitCode, Failure};
use super::output;
use crate::config::Config;
use crate::endpoint::valid_name;
use crate::replay::{self, Capture, Job};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times of receipt come from NAME.times.jsonl beside NAME.sse, else from the events. A second replay adds \
                  nothing. No recorder may run on the database meanwhile.\n\n\
                  Example:\n  tidegate replay --as tokyo captures/*.sse"
)]
pub(super) struct Replay {
    /// Recorded bodies of /events
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Endpoint that the streams are counted to, in the given order [default: one for each file, named after it]
    #[arg(long = "as", value_name = "NAME")]
    endpoint: Option<String>,
    #[command(flatten)]
    output: Json,
}

impl Replay {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        if config.log == "info" {
            // Starting and stopping is told once per file, which is of no interest here.
            log::set_max_level(log::LevelFilter::Warn);
        }
        if let Some(name) = &self.endpoint {
            valid_name(name).map_err(|error| Failure::usage(error.to_string()))?;
        }
        let mut jobs = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let capture = Capture::read(file).map_err(|error| Failure::usage(error.to_string()))?;
            let endpoint = self.endpoint.clone().unwrap_or_else(|| capture.endpoint_name());
            jobs.push(Job { endpoint, capture });
        }
        let done = output::patiently("replaying", replay::run(config, jobs)).await?;
        if self.output.json {
            output::json(&json!({ "files": self.files.len(), "written": done.written, "skipped": done.skipped }));
        } else {
            output::print(&format!(
                "{} files: {} events written, {} were there already",
                self.files.len(),
                done.written,
                done.skipped
            ));
        }
        Ok(ExitCode::Done)
    }
}
