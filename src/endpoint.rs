//! An endpoint: a NodePass master that is followed, and how to reach it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::event::EndpointId;

/// A master's API key. It has no `Display` and no `Serialize`, and its `Debug` hides it: it cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes the key as the operator or the master gave it; surrounding white space is dropped.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    /// The key itself, for the request header and `endpoints.api_key` only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// SHA-256 of a certificate in DER form. Written and read as 64 hex digits, colons allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let invalid = || EndpointError::Fingerprint { text: text.to_owned() };
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

/// How the certificate of an `https` master is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// By the system's roots, or by the given PEM file alone.
    #[default]
    Verify,
    /// As `Verify`, with the roots of this PEM file.
    VerifyWith(PathBuf),
    /// By its fingerprint; `None` until the first connection, whose certificate is then kept.
    Pin(Option<Fingerprint>),
    /// Not at all.
    Insecure,
}

/// `http` or `https`, host, port and prefix of a master's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterUrl {
    /// Whether TLS is spoken.
    pub https: bool,
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The master's prefix without trailing slash and without `/v1`: `/api`.
    pub prefix: String,
}

impl MasterUrl {
    /// The path of a call below the prefix: `path("/events")` gives `/api/v1/events`.
    #[must_use]
    pub fn path(&self, call: &str) -> String {
        format!("{}/v1{call}", self.prefix)
    }

    /// `scheme://host:port`, the column `endpoints.url`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for MasterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.prefix)
    }
}

impl std::str::FromStr for MasterUrl {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let invalid = |why: &str| EndpointError::Url { why: why.to_owned() };
        let url = url::Url::parse(text.trim()).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => invalid("it does not begin with http:// or https://"),
            error => invalid(&error.to_string()),
        })?;
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(invalid(&format!("the scheme is {other}, not http or https"))),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it holds a user name or a password; the API key goes into a file or the environment"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a query or a fragment; give the address of the API only"));
        }
        let host = match url.host().ok_or_else(|| invalid("it has no host"))? {
            url::Host::Ipv6(address) => address.to_string(),
            other => other.to_string(),
        };
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        let prefix = if path.is_empty() { "/api" } else { path }.to_owned();
        Ok(Self { https, host, port: url.port_or_known_default().unwrap_or(80), prefix })
    }
}

/// An endpoint as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its key in `endpoints`.
    pub id: EndpointId,
    /// Unique name, see [`valid_name`].
    pub name: String,
    /// Where its API is.
    pub url: MasterUrl,
    /// The key that is sent with each request; empty where the master asks for none.
    pub api_key: ApiKey,
    /// How its certificate is judged.
    pub tls: TlsPolicy,
    /// Paused endpoints are not connected to.
    pub paused: bool,
    /// Whether its `log` events are stored; `None` follows `storage.log_events`.
    pub log_events: Option<bool>,
    /// The master's own id, 16 hex digits, once it was seen.
    pub master_id: Option<String>,
}

/// The four values of `endpoints.status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EndpointStatus {
    /// Its stream is open.
    Online,
    /// Not connected; it is tried again.
    #[default]
    Offline,
    /// Not connected for a reason that a person must mend (key, path, certificate, not a master). It is tried all the same.
    Fail,
    /// Paused.
    Disconnect,
}

impl EndpointStatus {
    /// From the column `status`; what is not known is offline.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let all = [Self::Online, Self::Fail, Self::Disconnect];
        all.into_iter().find(|status| status.as_str() == text).unwrap_or_default()
    }

    /// As in the column `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "ONLINE",
            Self::Offline => "OFFLINE",
            Self::Fail => "FAIL",
            Self::Disconnect => "DISCONNECT",
        }
    }
}

/// Status of an endpoint, why, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Status.
    pub status: EndpointStatus,
    /// What happened and what to do, one sentence without secrets; empty while all is well.
    pub reason: String,
    /// When the status changed to this one.
    pub since: Timestamp,
    /// When something was last heard of the master; `None` before the first time.
    pub last_heard: Option<Timestamp>,
    /// The master's version (`ver` of `/info`), where known.
    pub version: Option<String>,
}

/// What is wrong with an endpoint's definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The URL cannot be used.
    #[error("not a usable URL of a master: {why}; example: http://10.0.0.5:9090/api")]
    Url {
        /// Why, without repeating the URL, which may hold a password.
        why: String,
    },
    /// Not a fingerprint.
    #[error("`{text}` is not a SHA-256 fingerprint: give 64 hex digits")]
    Fingerprint {
        /// What was given.
        text: String,
    },
    /// The name cannot be used.
    #[error(
        "`{name}` cannot be an endpoint's name: use 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or digit"
    )]
    Name {
        /// What was given.
        name: String,
    },
}

/// Checks an endpoint's name: 1 to 64 letters (of any script), digits, `-`, `_`, `.`; first a letter or digit.
///
/// # Errors
/// [`EndpointError::Name`].
pub fn valid_name(name: &str) -> Result<(), EndpointError> {
    let first = name.chars().next().is_some_and(char::is_alphanumeric);
    let rest = name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if first && rest && name.chars().count() <= 64 { Ok(()) } else { Err(EndpointError::Name { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_api_and_trailing_slashes_do_not_count() {
        for (text, shown) in [
            ("http://10.0.0.5:9090", "http://10.0.0.5:9090/api"),
            ("http://10.0.0.5:9090/", "http://10.0.0.5:9090/api"),
            ("https://master.example/a/b//", "https://master.example:443/a/b"),
            ("http://[::1]:9090/api/v1", "http://[::1]:9090/api"),
        ] {
            let url: MasterUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
        }
        assert_eq!("http://h".parse::<MasterUrl>().unwrap().path("/events"), "/api/v1/events");
    }

    #[test]
    fn what_is_no_url_is_told_what_one_looks_like() {
        for text in ["127.0.0.1:2", "10.0.0.5", "localhost:9090", ""] {
            let error = text.parse::<MasterUrl>().unwrap_err().to_string();
            assert!(error.contains("http://10.0.0.5:9090/api") && error.contains("https"), "{text}: {error}");
            assert!(!error.contains("base"), "{text}: {error}");
        }
    }

    #[test]
    fn a_url_with_user_info_is_refused_without_being_repeated() {
        let error = "http://user:s3cret@h/api".parse::<MasterUrl>().unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert!("ftp://h".parse::<MasterUrl>().is_err());
        assert!("http://h/api?key=1".parse::<MasterUrl>().is_err());
    }

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(plain.parse::<Fingerprint>(), colons.parse());
        assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), plain);
        assert!("abc".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", ApiKey::new(" fa4ec0de\n")), "ApiKey(hidden)");
    }

    #[test]
    fn names_hold_no_slash_and_no_blank() {
        for good in ["a", "Tokyo-1", "東京.1"] {
            assert!(valid_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a/b", &"x".repeat(65)] {
            assert!(valid_name(bad).is_err(), "{bad}");
        }
    }
}
