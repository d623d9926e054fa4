//! Which endpoints and tunnels are made of a source's, and which are there already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::source::{SourceEndpoint, SourceTunnel};
use crate::clock::Timestamp;
use crate::endpoint::{Endpoint, MasterUrl, TlsPolicy, valid_name};
use crate::event::{Counters, InstanceConfig, InstanceId, Peer, Sample};
use crate::redact::{Redacted, Redactor};
use crate::store::NewEndpoint;

/// Longest name of an endpoint.
const NAME_CHARS_MAX: usize = 64;

/// What is done with an endpoint of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It is made.
    Add(NewEndpoint),
    /// The endpoint of that name has the same address: it is that one.
    Present(String),
    /// It cannot be followed.
    Skip(String),
}

/// What is done with each endpoint of the source. An endpoint is found again by its address.
#[must_use]
pub fn endpoints(found: &[SourceEndpoint], there: &[Endpoint]) -> Vec<Plan> {
    let mut by_url: Vec<(MasterUrl, String)> =
        there.iter().map(|endpoint| (endpoint.url.clone(), endpoint.name.clone())).collect();
    let mut taken: BTreeSet<String> = there.iter().map(|endpoint| endpoint.name.clone()).collect();
    let plan = |endpoint: &SourceEndpoint| {
        let path = endpoint.api_path.trim_matches('/');
        let url: MasterUrl = match format!("{}/{path}", endpoint.url.trim_end_matches('/')).parse() {
            Ok(url) => url,
            Err(error) => return Plan::Skip(error.to_string()),
        };
        if let Some((_, name)) = by_url.iter().find(|(known, _)| *known == url) {
            return Plan::Present(name.clone());
        }
        let name = free_name(&endpoint.name, &taken);
        taken.insert(name.clone());
        by_url.push((url.clone(), name.clone()));
        // NodePassDash accepts every certificate, and masters make their own: the first one that is shown is kept.
        let tls = if url.https { TlsPolicy::Pin(None) } else { TlsPolicy::Verify };
        Plan::Add(NewEndpoint { name, url, api_key: endpoint.api_key.clone(), tls, log_events: None })
    };
    found.iter().map(plan).collect()
}

/// The name as an endpoint may have it, and as none has it yet.
fn free_name(name: &str, taken: &BTreeSet<String>) -> String {
    let plain: String = name.trim().chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let plain = plain.trim_start_matches(['-', '_', '.']);
    let plain = if plain.is_empty() { "nodepass" } else { plain };
    let cut = |length: usize| plain.chars().take(length).collect::<String>();
    let first = cut(NAME_CHARS_MAX);
    debug_assert!(valid_name(&first).is_ok());
    if !taken.contains(&first) {
        return first;
    }
    let numbered = |n: u32| {
        let end = format!("-{n}");
        cut(NAME_CHARS_MAX - end.len()) + &end
    };
    (2..).map(numbered).find(|name| !taken.contains(name)).unwrap_or(first)
}

/// A tunnel without its secrets, and its state as NodePassDash saw it last; `None` if it is none that a master has.
#[must_use]
pub fn tunnel(tunnel: &SourceTunnel, endpoint: &SourceEndpoint) -> Option<(InstanceId, Arc<InstanceConfig>, Sample, Timestamp)> {
    if tunnel.instance.is_empty() || tunnel.instance == InstanceId::KEY_HOLDER {
        return None;
    }
    let redactor = Redactor::new([&endpoint.api_key, &tunnel.password]);
    let clean = |text: &str| redactor.clean(text);
    let config = InstanceConfig {
        alias: clean(&tunnel.name),
        kind: clean(&tunnel.kind),
        url: clean(&tunnel.command_line),
        config: clean(&tunnel.config_line),
        restart: tunnel.restart,
        mode: tunnel.mode,
        peer: peer(&tunnel.peer, &redactor),
        tags: tags(&tunnel.tags, &redactor),
        unknown: Redacted::default(),
    };
    let gauge = |n: usize| tunnel.gauges[n].and_then(|value| i32::try_from(value).ok());
    let [tcp_rx, tcp_tx, udp_rx, udp_tx] = tunnel.counters.map(|counter| u64::try_from(counter).unwrap_or_default());
    let sample = Sample {
        status: redactor.clean(&tunnel.status).as_str().into(),
        counters: Counters { tcp_rx, tcp_tx, udp_rx, udp_tx },
        ping: gauge(3),
        pool: gauge(2),
        tcps: gauge(0),
        udps: gauge(1),
    };
    let seen_at = tunnel.last_event.map_or(Timestamp(0), |time| time.at);
    Some((tunnel.instance.as_str().into(), Arc::new(config), sample, seen_at))
}

fn peer(json: &str, redactor: &Redactor) -> Peer {
    let peer: Value = serde_json::from_str(json).unwrap_or_default();
    let field = |name: &str| redactor.clean(peer[name].as_str().unwrap_or_default());
    Peer { sid: field("sid"), kind: field("type"), alias: field("alias") }
}

/// An object, or the list of pairs that masters before v1.8.2 send.
fn tags(json: &str, redactor: &Redactor) -> BTreeMap<Redacted, Redacted> {
    let pairs: Vec<(String, Value)> = match serde_json::from_str(json) {
        Ok(Value::Object(tags)) => tags.into_iter().collect(),
        Ok(Value::Array(tags)) => {
            tags.into_iter().filter_map(|tag| Some((tag["key"].as_str()?.to_owned(), tag["value"].clone()))).collect()
        }
        _ => Vec::new(),
    };
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    pairs.into_iter().map(|(name, value)| (redactor.clean(&name), redactor.clean(&text(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ApiKey;
    use crate::event::EndpointId;

    fn source(id: i64, name: &str, url: &str, api_path: &str) -> SourceEndpoint {
        SourceEndpoint { id, name: name.into(), url: url.into(), api_path: api_path.into(), api_key: ApiKey::new("key-of-it") }
    }

    fn there(name: &str, url: &str) -> Endpoint {
        Endpoint {
            id: EndpointId(1),
            name: name.into(),
            url: url.parse().unwrap(),
            api_key: ApiKey::new(""),
            tls: TlsPolicy::Verify,
            paused: false,
            log_events: None,
            master_id: None,
        }
    }

    fn names(plans: &[Plan]) -> Vec<String> {
        let name = |plan: &Plan| match plan {
            Plan::Add(new) => format!("+{}", new.name),
            Plan::Present(name) => format!("={name}"),
            Plan::Skip(_) => "-".to_owned(),
        };
        plans.iter().map(name).collect()
    }

    #[test]
    fn an_endpoint_is_found_again_by_its_address_whatever_it_is_called() {
        let plans = endpoints(
            &[
                source(1, "Tokyo", "http://10.0.0.5:9090", "/api"),
                source(2, "twin", "http://10.0.0.5:9090/", "api/"),
                source(3, "other prefix", "http://10.0.0.5:9090", "/other"),
                source(4, "no address", "", "/api"),
            ],
            &[there("edge", "http://10.0.0.5:9090/api")],
        );
        assert_eq!(names(&plans), ["=edge", "=edge", "+other-prefix", "-"]);
    }

    #[test]
    fn names_become_valid_and_stay_apart() {
        let plans = endpoints(
            &[
                source(1, "香港 1/2", "https://a:1", "/api"),
                source(2, "edge", "http://b:1", "/api"),
                source(3, "edge", "http://c:1", "/api"),
                source(4, "--", "http://d:1", "/api"),
                source(5, &"x".repeat(80), "http://e:1", "/api"),
                source(6, &"x".repeat(81), "http://f:1", "/api"),
            ],
            &[there("edge", "http://z:1/api")],
        );
        let long = "x".repeat(64);
        let numbered = format!("+{}-2", "x".repeat(62));
        assert_eq!(names(&plans), ["+香港-1-2", "+edge-2", "+edge-3", "+nodepass", &format!("+{long}"), &numbered]);
        let Plan::Add(new) = &plans[0] else { unreachable!() };
        assert_eq!(new.tls, TlsPolicy::Pin(None));
    }

    #[test]
    fn a_tunnel_keeps_no_password_wherever_it_stands() {
        let tunnel_of = |instance: &str| SourceTunnel {
            endpoint: 1,
            instance: instance.into(),
            name: "web s3cretpass".into(),
            kind: "client".into(),
            status: "running".into(),
            command_line: "client://s3cretpass@10.0.0.5:101/127.0.0.1:80?x=s3cretpass".into(),
            config_line: "client://s3cretpass@10.0.0.5:101/127.0.0.1:80?key=key-of-it".into(),
            password: ApiKey::new("s3cretpass"),
            restart: Some(true),
            mode: Some(2),
            tags: r#"[{"key":"room","value":"s3cretpass"}]"#.into(),
            peer: r#"{"sid":"s1","type":"1","alias":"s3cretpass"}"#.into(),
            counters: [1, 2, 3, -4],
            gauges: [Some(5), None, Some(7), Some(i64::MAX)],
            last_event: None,
        };
        let endpoint = source(1, "tokyo", "http://a:1", "/api");
        let (instance, config, sample, _) = tunnel(&tunnel_of("9545ac3d"), &endpoint).unwrap();
        assert_eq!(instance.as_str(), "9545ac3d");
        let shown = format!("{config:?} {sample:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("key-of-it"), "{shown}");
        assert_eq!(config.url.as_str(), "client://***@10.0.0.5:101/127.0.0.1:80?x=***");
        assert_eq!((config.peer.sid.as_str(), config.tags.len()), ("s1", 1));
        assert_eq!((sample.counters.udp_rx, sample.counters.udp_tx, sample.tcps, sample.ping), (3, 0, Some(5), None));
        assert!(tunnel(&tunnel_of(""), &endpoint).is_none() && tunnel(&tunnel_of("********"), &endpoint).is_none());
    }
}
