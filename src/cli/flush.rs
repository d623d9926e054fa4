//! `tidegate flush`.

use hyper::Method;

use super::Json;
use super::client::ClientError;
use super::exit::{ExitCode, Failure};
use super::output;
use super::place;
use crate::config::Config;
use crate::http::document::Flushed;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs the recorder to run. The answer comes when everything that was buffered is committed, or with the \
                  reason why it waits.\n\nExample:\n  tidegate flush --json"
)]
pub(super) struct Flush {
    #[command(flatten)]
    output: Json,
}

impl Flush {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let client = place::client(config);
        let answer = match client.hello().await {
            Ok(()) => output::patiently("flushing", client.call(Method::POST, "/api/v1/flush", None)).await,
            Err(error) => Err(error),
        };
        let answer = answer.map_err(|error| match error {
            ClientError::NotRunning { .. } | ClientError::Another { .. } => Failure::unreachable(format!(
                "{error}, and without it nothing is buffered; start it with `tidegate run`, or give its address with --set http.listen=ADDRESS"
            )),
            error => error.into(),
        })?;
        // A flush that failed has the same document as one that did not; what has not is a problem.
        let flushed: Flushed = match answer.document() {
            Ok(flushed) => flushed,
            Err(error) => return Err(answer.done().err().unwrap_or(error).into()),
        };
        let Flushed { committed, waiting, error } = &flushed;
        if self.output.json {
            output::json(&flushed);
        } else {
            output::print(&format!("committed {committed}, waiting {waiting}"));
        }
        match error {
            None => Ok(ExitCode::Done),
            Some(error) => Err(Failure::database(format!("not everything could be written: {error}"))),
        }
    }
}
