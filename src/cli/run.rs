//! `tidegate run`: start, wait for a signal, drain.

use std::net::SocketAddr;

use futures_util::stream::{self, StreamExt};
use log::{error, info, warn};
use tokio::sync::watch;

use super::api_key;
use super::exit::{ExitCode, Failure};
use super::keys_help;
use super::signals::Signals;
use crate::actors::endpoints::ChangeError;
use crate::config::{Config, Sources, Token};
use crate::http::archive::Archive;
use crate::http::server;
use crate::http::starting::Starting;
use crate::pipeline::StartError;
use crate::production;
use crate::recorder::RecorderHandle;
use crate::status::snapshot::VERSION;
use crate::store::NewEndpoint;

/// Endpoints that are made at the same time: each of their masters is asked for its id, and one that hangs takes 5 s.
const ADDED_AT_ONCE: usize = 64;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  TIDEGATE_API_KEY=... tidegate run --endpoint tokyo=http://10.0.0.5:9090/api\n\n\
                  --help lists the keys of the configuration.",
    after_long_help = keys_help(
        "Example:\n  TIDEGATE_API_KEY=... tidegate run --endpoint tokyo=http://10.0.0.5:9090/api --set storage.flush_interval=15m"
    )
)]
pub(super) struct Run {
    /// Address of the HTTP server [default: 127.0.0.1:8686]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Follows this master; it is stored, and what is stored under that name already wins; can be repeated
    #[arg(long, value_name = "NAME=URL")]
    endpoint: Vec<String>,
}

impl Run {
    pub(super) fn add_to(&self, sources: &mut Sources) {
        sources.listen.clone_from(&self.listen);
        sources.endpoints.clone_from(&self.endpoint);
    }
}

/// Records until a signal, with the endpoints of the configuration and `more`.
/// `identity` is what commands know it by.
pub(super) async fn record(config: &Config, more: Vec<NewEndpoint>, identity: &str) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    if config.http.token.as_ref().is_some_and(Token::is_guessable) {
        warn!(
            "http.token has fewer than {} characters and can be guessed; make one with `openssl rand -hex 16`",
            Token::LENGTH_SAFE
        );
    }
    let listener = server::bind(config.http.listen).map_err(|error| cannot_listen(config.http.listen, &error))?;
    let address = listener.local_addr().unwrap_or(config.http.listen);
    let (publish, started) = watch::channel(None);
    let (waiting, reason) = watch::channel(None);
    let archive = Archive::new(config);
    let server = server::serve(listener, Starting::new(started, reason), archive.clone(), &config.http, identity)
        .map_err(|error| cannot_listen(address, &error))?;
    let http = server.handle();
    actix_rt::spawn(server);
    info!("tidegate {VERSION}: database {}, journal {}, http://{address}", config.database, config.journal.dir.display());

    let recorder = tokio::select! {
        biased;
        signal = signals.next() => {
            info!("{signal} before the recorder had started: stopped, nothing was received");
            return Ok(ExitCode::Done);
        }
        started = production::start(config, &waiting) => started?,
    };
    publish.send_replace(Some(recorder.clone()));
    let signal = tokio::select! {
        biased;
        signal = signals.next() => signal,
        () = make_missing(config, more, &recorder) => signals.next().await,
    };
    let deadline = humantime::format_duration(config.shutdown_deadline);
    info!("{signal}: stopping within {deadline}; a second signal ends at once");
    // It logs its own summary.
    tokio::select! {
        biased;
        signal = signals.next() => {
            warn!("{signal} again: ended at once; what was not written waits in the journal");
            return Ok(ExitCode::Interrupted);
        }
        () = async {
            archive.close().await;
            recorder.shutdown().await;
        } => {}
    }
    http.stop(false).await;
    Ok(ExitCode::Done)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::database(error.to_string())
    }
}

/// Makes the endpoints that are configured and not stored. What is stored wins: a key may have been rotated since.
async fn make_missing(config: &Config, more: Vec<NewEndpoint>, recorder: &RecorderHandle) {
    let known: Vec<String> = recorder.endpoints().await.into_iter().map(|view| view.endpoint.name).collect();
    let configured = config.endpoints.iter().filter(|endpoint| !known.contains(&endpoint.name)).filter_map(|endpoint| {
        let api_key = api_key::configured(endpoint, &config.api_keys)
            .inspect_err(|failure| error!("endpoint {} is not followed: {failure}", endpoint.name))
            .ok()?;
        if api_key.reveal().is_empty() {
            warn!("endpoint {} has no API key; set one with `tidegate endpoint set {0} --api-key-file FILE`", endpoint.name);
        }
        Some(NewEndpoint {
            name: endpoint.name.clone(),
            url: endpoint.url.clone(),
            api_key,
            tls: endpoint.tls.clone(),
            log_events: endpoint.log_events,
        })
    });
    let missing: Vec<NewEndpoint> = configured.chain(more).collect();
    stream::iter(missing)
        .for_each_concurrent(ADDED_AT_ONCE, |new| async {
            let name = new.name.clone();
            if let Err(error) = recorder.add_endpoint(new).await {
                error!("{}", not_followed(&name, &error));
            }
        })
        .await;
}

/// What is told of an endpoint that could not be made. To try again helps only where the database could not take it.
fn not_followed(name: &str, error: &ChangeError) -> String {
    let advice = match error {
        ChangeError::Unavailable(_) => " (start again then, or use `tidegate endpoint add`)",
        ChangeError::Conflict(_) | ChangeError::NotFound(_) => "",
    };
    format!("endpoint {name} is not followed: {error}{advice}")
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let what = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another program listens there, perhaps another recorder; choose another with --listen",
        std::io::ErrorKind::PermissionDenied => "this user may not; ports below 1024 need a privilege",
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        _ => "check http.listen",
    };
    Failure::usage(format!("cannot listen on {address}: {what} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_is_followed_already_is_named_and_nobody_is_advised_to_try_again() {
        let twin = ChangeError::Conflict("this master is followed already, as endpoint `tokyo`".to_owned());
        let told = not_followed("osaka", &twin);
        assert_eq!(told, "endpoint osaka is not followed: this master is followed already, as endpoint `tokyo`");
        let told = not_followed("osaka", &ChangeError::Unavailable("disk I/O error".to_owned()));
        assert!(told.contains("disk I/O error") && told.contains("start again"), "{told}");
    }
}
