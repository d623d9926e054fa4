//! Endpoints in the configuration, and their keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::ConfigError;
use super::layers::GivenEndpoint;
use crate::endpoint::{ApiKey, EndpointError, Fingerprint, MasterUrl, TlsPolicy, valid_name};

/// An endpoint of `[[endpoints]]` or `--endpoint`. It is made at start if none of that name is stored; what is stored wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Unique name.
    pub name: String,
    /// Where its API is.
    pub url: MasterUrl,
    /// How its certificate is judged.
    pub tls: TlsPolicy,
    /// File that holds its key.
    pub api_key_file: Option<PathBuf>,
    /// Whether its `log` events are stored; `None` follows `storage.log_events`.
    pub log_events: Option<bool>,
}

const FIELDS: &[&str] = &["name", "url", "tls", "pin", "ca", "api_key_file", "log_events"];

pub(super) fn parse(given: &[GivenEndpoint]) -> Result<Vec<EndpointConfig>, ConfigError> {
    let mut endpoints = Vec::<EndpointConfig>::with_capacity(given.len());
    for (n, entry) in given.iter().enumerate() {
        let endpoint = one(n, entry)?;
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            let reason = "it is there twice; names are unique".to_owned();
            return Err(ConfigError::Endpoint { name: endpoint.name, origin: entry.origin.clone(), reason });
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn one(n: usize, entry: &GivenEndpoint) -> Result<EndpointConfig, ConfigError> {
    let field = |field: &str| entry.fields.get(field).map(|given| given.text.as_str());
    let name = field("name").map_or_else(|| format!("number {}", n + 1), str::to_owned);
    let fail = |reason: String| ConfigError::Endpoint { name: name.clone(), origin: entry.origin.clone(), reason };
    if let Some((unknown, given)) = entry.fields.iter().find(|(field, _)| !FIELDS.contains(&field.as_str())) {
        let hint = match unknown.as_str() {
            "api_key" | "key" => "a key goes into a file (`api_key_file`) or into TIDEGATE_API_KEY_<NAME>".to_owned(),
            _ => format!("an endpoint has {}", FIELDS.join(", ")),
        };
        return Err(ConfigError::UnknownKey { key: format!("endpoints.{unknown}"), origin: given.origin.clone(), hint });
    }
    valid_name(&name).map_err(|error| match field("name") {
        Some(_) => ConfigError::endpoint(&name, &entry.origin, &error),
        None => fail("`name` is missing".to_owned()),
    })?;
    let url = field("url").ok_or_else(|| fail("`url` is missing".to_owned()))?;
    let log_events = match field("log_events").map(str::parse) {
        None => None,
        Some(Ok(flag)) => Some(flag),
        Some(Err(_)) => return Err(fail("`log_events` is `true` or `false`".to_owned())),
    };
    Ok(EndpointConfig {
        url: url.parse().map_err(|error: EndpointError| ConfigError::endpoint(&name, &entry.origin, &error))?,
        tls: tls_policy(field("tls"), field("pin"), field("ca")).map_err(&fail)?.unwrap_or_default(),
        api_key_file: field("api_key_file").map(PathBuf::from),
        log_events,
        name: name.clone(),
    })
}

/// The policy that `verify|pin|insecure`, a fingerprint and a CA file mean together; `None` if none of them is given.
///
/// # Errors
/// What does not go together, as a sentence.
pub fn tls_policy(policy: Option<&str>, pin: Option<&str>, ca: Option<&str>) -> Result<Option<TlsPolicy>, String> {
    let policy = match (policy, pin, ca) {
        (None, None, None) => return Ok(None),
        (Some(policy), _, _) => policy,
        (None, Some(_), _) => "pin",
        (None, None, Some(_)) => "verify",
    };
    match (policy, pin, ca) {
        ("verify", None, None) => Ok(Some(TlsPolicy::Verify)),
        ("verify", None, Some(file)) => Ok(Some(TlsPolicy::VerifyWith(PathBuf::from(file)))),
        ("pin", None | Some(""), None) => Ok(Some(TlsPolicy::Pin(None))),
        ("pin", Some(text), None) => {
            let fingerprint = text.parse::<Fingerprint>().map_err(|error| error.to_string())?;
            Ok(Some(TlsPolicy::Pin(Some(fingerprint))))
        }
        ("insecure", None, None) => Ok(Some(TlsPolicy::Insecure)),
        ("verify" | "insecure", Some(_), _) => Err(format!("a fingerprint goes with `pin`, not with `{policy}`")),
        ("pin" | "insecure", _, Some(_)) => Err(format!("a CA file goes with `verify`, not with `{policy}`")),
        _ => Err(format!("TLS is judged by `verify`, `pin` or `insecure`, not by `{policy}`")),
    }
}

/// Keys of masters from the environment: `TIDEGATE_API_KEY_<NAME>` and `TIDEGATE_API_KEY`.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    named: BTreeMap<String, ApiKey>,
    any: Option<ApiKey>,
}

impl ApiKeys {
    pub(super) fn new(given: &BTreeMap<String, String>) -> Self {
        let mut keys = Self::default();
        for (suffix, key) in given {
            match suffix.as_str() {
                "" => keys.any = Some(ApiKey::new(key)),
                _ => _ = keys.named.insert(suffix.clone(), ApiKey::new(key)),
            }
        }
        keys
    }

    /// The key for the endpoint of that name, if the environment has one.
    #[must_use]
    pub fn for_endpoint(&self, name: &str) -> Option<&ApiKey> {
        self.named.get(&Self::suffix(name)).or(self.any.as_ref())
    }

    /// The variable that holds the key of the endpoint of that name alone.
    #[must_use]
    pub fn variable(name: &str) -> String {
        format!("TIDEGATE_API_KEY_{}", Self::suffix(name))
    }

    /// Upper case; what is neither letter nor digit of ASCII cannot stand in a variable's name.
    fn suffix(name: &str) -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    }
}
