//! `tidegate endpoint probe`.

use hyper::Method;

use super::{KeyFlags, TlsFlags, wrong};
use crate::cli::client::segment;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::output::{self, plain};
use crate::cli::place::{self, Place};
use crate::cli::{Json, api_key};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::endpoint::ApiKey;
use crate::http::document::Probed;
use crate::transport::probe::{StepName, probe};
use crate::transport::{HttpTransport, Target};

#[derive(Debug, clap::Args)]
pub(super) struct Probe {
    /// The endpoint's name, or the address of a master
    #[arg(value_name = "URL|NAME")]
    master: String,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    output: Json,
}

impl Probe {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let probed = if self.master.contains("://") { self.url(config).await? } else { self.name(config).await? };
        if self.output.json {
            output::json(&probed)
        } else {
            show(&probed)
        }
        Ok(code(&probed))
    }

    async fn url(&self, config: &Config) -> Result<Probed, Failure> {
        let url = self.master.parse().map_err(wrong)?;
        let api_key = if self.key.no_api_key {
            ApiKey::new("")
        } else {
            api_key::obtain(self.key.api_key_file.as_deref(), &config.api_keys, &self.master)?
        };
        let target = Target { url, api_key, tls: self.tls.policy()?.unwrap_or_default() };
        Ok(here(&target, None).await)
    }

    async fn name(&self, config: &Config) -> Result<Probed, Failure> {
        if self.key.no_api_key || self.key.api_key_file.is_some() || self.tls.policy()?.is_some() {
            return Err(Failure::usage(format!(
                "`{}` is probed with its stored key and policy; to try others give its URL instead of its name",
                plain(&self.master)
            )));
        }
        match Place::find(config).await {
            // From where it will be followed, which may be another machine than this one.
            Place::Recorder(client) => {
                let path = format!("/api/v1/endpoints/{}/probe", segment(&self.master));
                let answer = client.call(Method::POST, &path, None);
                Ok(output::patiently("probing", answer).await?.success()?)
            }
            Place::Database { config, why } => {
                let endpoint = place::stored_endpoint(config, &why, &self.master)?;
                let target = Target { url: endpoint.url, api_key: endpoint.api_key, tls: endpoint.tls };
                Ok(here(&target, Some(&self.master)).await)
            }
        }
    }
}

async fn here(target: &Target, name: Option<&str>) -> Probed {
    let steps = output::patiently("probing", probe(&HttpTransport::new(), target, name, &SystemClock)).await;
    Probed::from(&*steps)
}

fn show(probed: &Probed) {
    for step in &probed.steps {
        let verdict = if step.ok { "ok" } else { "FAILED" };
        output::print(&format!("{:<8}{verdict:<7}{:>8.1} ms  {}", step.step, step.ms, plain(&step.detail)));
        if !step.advice.is_empty() {
            output::print(&format!("{:27}{}", "", plain(&step.advice)));
        }
    }
}

/// 3 if the master was not reached, 1 if it cannot be followed all the same.
fn code(probed: &Probed) -> ExitCode {
    let failed = probed.steps.iter().find(|step| !step.ok);
    let reaching = [StepName::Name, StepName::Tcp, StepName::Tls, StepName::Head];
    match failed {
        None if probed.ok => ExitCode::Done,
        Some(step) if reaching.iter().any(|name| name.as_str() == step.step) => ExitCode::Unreachable,
        _ => ExitCode::Failed,
    }
}
