//! How a tunnel is named on the command line: `ENDPOINT/INSTANCE_ID`, or its alias where that is unique.

use super::exit::Failure;
use super::output::plain;
use crate::http::document::TunnelDocument;

/// Most tunnels that an error lists.
const LISTED_MAX: usize = 20;

/// The tunnel that is meant.
///
/// # Errors
/// Usage: there is none, or the alias is not unique; then they are listed.
pub fn resolve<'a>(tunnels: &'a [TunnelDocument], address: &str) -> Result<&'a TunnelDocument, Failure> {
    let exact = |tunnel: &&TunnelDocument| address.split_once('/') == Some((&tunnel.endpoint, &tunnel.instance_id));
    if let Some(tunnel) = tunnels.iter().find(exact) {
        return Ok(tunnel);
    }
    let by_alias: Vec<_> = tunnels.iter().filter(|tunnel| !address.is_empty() && tunnel.alias == address).collect();
    match by_alias.as_slice() {
        [tunnel] => Ok(tunnel),
        [] => Err(Failure::usage(format!(
            "there is no tunnel `{}`: give ENDPOINT/INSTANCE_ID or an alias (`tidegate tunnels` lists them), or an endpoint where one may stand",
            plain(address)
        ))),
        several => {
            let mut message = format!("{} tunnels have the alias `{}`; name one of them:", several.len(), plain(address));
            for tunnel in several.iter().take(LISTED_MAX) {
                message.push_str(&format!("\n  {}/{}", tunnel.endpoint, plain(&tunnel.instance_id)));
            }
            if several.len() > LISTED_MAX {
                message.push_str(&format!("\n  and {} more", several.len() - LISTED_MAX));
            }
            Err(Failure::usage(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::ExitCode;

    fn tunnel(endpoint: &str, instance_id: &str, alias: &str) -> TunnelDocument {
        TunnelDocument {
            endpoint: endpoint.to_owned(),
            instance_id: instance_id.to_owned(),
            alias: alias.to_owned(),
            ..TunnelDocument::default()
        }
    }

    #[test]
    fn a_tunnel_is_found_by_its_place_and_by_an_alias_that_is_unique() {
        let tunnels =
            [tunnel("tokyo", "aaaa0000", "web"), tunnel("paris", "aaaa0000", "tokyo/x"), tunnel("paris", "bbbb0000", "")];
        assert_eq!(resolve(&tunnels, "paris/aaaa0000").unwrap(), &tunnels[1]);
        assert_eq!(resolve(&tunnels, "web").unwrap(), &tunnels[0]);
        assert_eq!(resolve(&tunnels, "tokyo/x").unwrap(), &tunnels[1], "an alias may hold a slash");
        for nobody in ["", "mail", "tokyo/bbbb0000", "tokyo"] {
            assert_eq!(resolve(&tunnels, nobody).unwrap_err().code, ExitCode::Usage, "{nobody}");
        }
    }

    #[test]
    fn an_alias_that_is_not_unique_lists_the_tunnels() {
        let tunnels = [tunnel("tokyo", "aaaa0000", "web"), tunnel("paris", "bbbb0000", "web")];
        let failure = resolve(&tunnels, "web").unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.message.contains("tokyo/aaaa0000") && failure.message.contains("paris/bbbb0000"), "{failure}");
    }
}
