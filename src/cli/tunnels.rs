//! `tidegate tunnels`.

use super::Json;
use super::address;
use super::exit::{ExitCode, Failure};
use super::output::{self, cell, plain};
use super::place::Place;
use crate::config::Config;
use crate::http::document::{TunnelDocument, Tunnels as Document};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate tunnels --endpoint tokyo\n  tidegate tunnels tokyo/9c3209de --json")]
pub(super) struct Tunnels {
    /// One tunnel: ENDPOINT/INSTANCE_ID, or its alias where that is unique
    tunnel: Option<String>,
    /// Only tunnels of this endpoint
    #[arg(long, value_name = "NAME", conflicts_with = "tunnel")]
    endpoint: Option<String>,
    #[command(flatten)]
    output: Json,
}

impl Tunnels {
    pub(super) async fn execute(self, config: &Config) -> Result<ExitCode, Failure> {
        let place = Place::find(config).await;
        let mut tunnels = place.tunnels().await?;
        if let Some(address) = &self.tunnel {
            let tunnel = address::resolve(&tunnels, address)?;
            if self.output.json {
                output::json(tunnel)
            } else {
                show(tunnel)
            }
            return Ok(ExitCode::Done);
        }
        if let Some(name) = &self.endpoint {
            tunnels.retain(|tunnel| tunnel.endpoint == *name);
            if tunnels.is_empty() && !place.endpoints().await?.iter().any(|endpoint| endpoint.name == *name) {
                return Err(Failure::usage(format!(
                    "there is no endpoint named `{}`; see `tidegate endpoint list`",
                    plain(name)
                )));
            }
        }
        if self.output.json {
            output::json(&Document { tunnels, next: None });
        } else if tunnels.is_empty() {
            output::note("no tunnels yet; `tidegate endpoint list` shows whether the masters are connected");
        } else {
            list(&tunnels);
        }
        Ok(ExitCode::Done)
    }
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

fn known(value: Option<i32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn list(tunnels: &[TunnelDocument]) {
    let mut table = output::table(&["TUNNEL", "ALIAS", "TYPE", "STATUS", "RECEIVED", "SENT", "PING", "POOL", "TCP", "UDP"]);
    for tunnel in tunnels {
        table.add_row([
            plain(&format!("{}/{}", tunnel.endpoint, tunnel.instance_id)),
            cell(&tunnel.alias),
            plain(&tunnel.kind),
            plain(&tunnel.status),
            bytes(tunnel.tcp_rx.saturating_add(tunnel.udp_rx)),
            bytes(tunnel.tcp_tx.saturating_add(tunnel.udp_tx)),
            known(tunnel.ping),
            known(tunnel.pool),
            known(tunnel.tcps),
            known(tunnel.udps),
        ]);
    }
    output::print_table(&table);
}

fn show(tunnel: &TunnelDocument) {
    let mut table = output::table(&[]);
    for (name, value) in [
        ("tunnel", plain(&format!("{}/{}", tunnel.endpoint, tunnel.instance_id))),
        ("alias", plain(&tunnel.alias)),
        ("type", plain(&tunnel.kind)),
        ("status", plain(&tunnel.status)),
        ("tcp", format!("{} received, {} sent, {} open", bytes(tunnel.tcp_rx), bytes(tunnel.tcp_tx), known(tunnel.tcps))),
        ("udp", format!("{} received, {} sent, {} open", bytes(tunnel.udp_rx), bytes(tunnel.udp_tx), known(tunnel.udps))),
        ("pool", known(tunnel.pool)),
        ("ping", tunnel.ping.map_or_else(|| "-".to_owned(), |ping| format!("{ping} ms"))),
        ("last event", tunnel.last_event_time.clone()),
        ("url", plain(&tunnel.url)),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    output::print_table(&table);
}
