//! Sends a JSON body to somebody who is no master: a webhook, Telegram. The address may hold a secret, so it is not shown.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use hyper::http::response::Parts;
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

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PostError {
    /// For people; holds nothing of the address.
    pub reason: String,
    /// Whether the same body will be refused again.
    pub is_permanent: bool,
    /// How long the other side wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl PostError {
    /// Something that may go away by itself.
    #[must_use]
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_permanent: false, retry_after: None }
    }

    /// Something that a person must mend.
    #[must_use]
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self { is_permanent: true, ..Self::passing(reason) }
    }

    /// What an answer without success means.
    fn of(answer: &Parts) -> Self {
        let status = answer.status;
        let advice = match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                "the body or the receiver that it names is not accepted; check the template, or the chat"
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "it does not accept the token or the secret in the URL",
            StatusCode::NOT_FOUND | StatusCode::GONE => "there is nobody at that address; check the URL or the token",
            StatusCode::PAYLOAD_TOO_LARGE => "the message is too long for it",
            status if status.is_redirection() => "it is somewhere else; set the URL that it leads to",
            _ => "",
        };
        // A date instead of seconds would need a clock that agrees with theirs.
        let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let is_permanent =
            status.is_client_error() && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let status = status.as_u16();
        let reason = if advice.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {advice}") };
        Self { reason, is_permanent, retry_after: seconds.map(Duration::from_secs) }
    }
}

impl HttpTransport {
    /// Posts a JSON body; a status of 2xx is success. Redirects are not followed.
    ///
    /// # Errors
    /// [`PostError`].
    pub async fn post(&self, target: &PostTarget, body: Bytes) -> Result<(), PostError> {
        let limit = Limit { phase: "the answer", seconds: POST_SECS };
        let answer = limit.over(self.posted(target, body)).await.map_err(|error| PostError::passing(reason(&error)))?;
        if answer.status.is_success() { Ok(()) } else { Err(PostError::of(&answer)) }
    }

    async fn posted(&self, target: &PostTarget, body: Bytes) -> Result<Parts, TransportError> {
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

    fn error(status: u16, retry_after: &str) -> PostError {
        let answer = hyper::Response::builder().status(status).header(RETRY_AFTER, retry_after).body(()).unwrap();
        PostError::of(&answer.into_parts().0)
    }

    #[test]
    fn what_the_other_side_refuses_for_good_is_told_from_what_may_pass() {
        for (status, permanent) in [(400, true), (401, true), (404, true), (410, true), (408, false), (429, false)] {
            assert_eq!(error(status, "").is_permanent, permanent, "{status}");
        }
        for status in [302, 500, 502, 503] {
            assert!(!error(status, "").is_permanent, "{status}");
        }
        assert_eq!(error(429, "30").retry_after, Some(Duration::from_secs(30)));
        for other in ["", "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "99999999999999999999999"] {
            assert_eq!(error(429, other).retry_after, None, "{other}");
        }
    }

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
