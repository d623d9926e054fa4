//! Sends a JSON body to somebody who is no master: a webhook, Telegram. The address may hold a secret, so it is not shown.

use std::fmt;

use bytes::Bytes;
use url::Url;

use super::http::{self, HttpTransport, Io, Limit};
use super::{Target, TransportError};
use crate::endpoint::{ApiKey, MasterUrl, TlsPolicy};

/// Time for all of it.
const POST_SECS: u64 = 60;

/// An address to post to.
#[derive(Clone, PartialEq, Eq)]
pub struct PostTarget {
    place: MasterUrl,
    path: String,
}

impl fmt::Debug for PostTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostTarget(hidden)")
    }
}

impl PostTarget {
    /// The address of an `http` or `https` URL without user-info. `None` if it is another text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let place = MasterUrl { https, host, port: url.port_or_known_default()?, prefix: String::new() };
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        Some(Self { place, path: format!("{}{query}", url.path()) })
    }
}

impl HttpTransport {
    /// Posts a JSON body; a status of 2xx is success. Redirects are not followed.
    ///
    /// # Errors
    /// For people; holds nothing of the address.
    pub async fn post(&self, target: &PostTarget, body: Bytes) -> Result<(), String> {
        let limit = Limit { phase: "the answer", seconds: POST_SECS };
        let status = limit.over(self.posted(target, body)).await.map_err(|error| reason(&error))?;
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    async fn posted(&self, target: &PostTarget, body: Bytes) -> Result<u16, TransportError> {
        let PostTarget { place, path } = target;
        let tcp = http::connect(place, &http::resolve(place).await?).await?;
        let target = Target { url: place.clone(), api_key: ApiKey::new(""), tls: TlsPolicy::Verify };
        let io = if place.https { Io::Tls(Box::new(self.encrypt(&target, tcp).await?.0)) } else { Io::Plain(tcp) };
        http::post(io, place, path, body).await
    }
}

/// The errors of the transport speak of masters.
fn reason(error: &TransportError) -> String {
    match error {
        TransportError::Resolve { .. } => "its host name cannot be resolved".to_owned(),
        TransportError::Refused => "connection refused".to_owned(),
        TransportError::TimedOut { phase, seconds } => format!("no answer within {seconds} s while waiting for {phase}"),
        TransportError::Untrusted { .. } => "its certificate is not trusted".to_owned(),
        TransportError::SpeaksTls => "it speaks https; use an https:// URL".to_owned(),
        TransportError::SpeaksPlain | TransportError::Tls { .. } => "TLS failed".to_owned(),
        _ => "the connection failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_query_and_is_not_shown() {
        let target = PostTarget::parse("https://hooks.example/services/T0/secret?thread=1").unwrap();
        assert_eq!((target.path.as_str(), target.place.port, target.place.https), ("/services/T0/secret?thread=1", 443, true));
        assert_eq!(format!("{target:?}"), "PostTarget(hidden)");
        assert_eq!(PostTarget::parse("http://[::1]:8080").unwrap().place.host, "::1");
        for wrong in ["", "hooks.example", "ftp://h/", "https://user:secret@h/"] {
            assert!(PostTarget::parse(wrong).is_none(), "{wrong}");
        }
    }
}
