//! Looks step by step whether a master can be followed: name, TCP, TLS, response head, key, path, version, first event. What
//! the transport does at once is done in pieces here, each timed, and the first that fails says what to do.

use futures_util::StreamExt;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::http::{self, Answer, HttpTransport, Io, Limit};
use super::socket::Socket;
use super::{Target, Transport, TransportError};
use crate::clock::Clock;
use crate::endpoint::{Fingerprint, TlsPolicy};
use crate::redact::Redactor;
use crate::sse::{Decoder, Frame};
use crate::wire;

/// Time for the first event after the response head. A master sends one at once: it introduces itself.
const EVENT_SECS: u64 = 15;
/// Longest event that is looked at.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Longest detail of a step, in characters: two names of a certificate may be long.
const DETAIL_CHARS_MAX: usize = 600;

/// A step, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// The host name has an address.
    Name,
    /// Somebody takes the connection.
    Tcp,
    /// The certificate is accepted; for `https` only.
    Tls,
    /// It answers in HTTP.
    Head,
    /// It accepts the API key.
    Key,
    /// There is a NodePass API at the prefix.
    Path,
    /// It tells its version.
    Version,
    /// It sends an event.
    Event,
}

impl StepName {
    /// As in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Head => "head",
            Self::Key => "key",
            Self::Path => "path",
            Self::Version => "version",
            Self::Event => "event",
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// Whether it went well. After one that did not there are no more.
    pub ok: bool,
    /// How long it took.
    pub took: std::time::Duration,
    /// What was found, for people; without secrets.
    pub detail: String,
    /// What to do; empty if it went well.
    pub advice: String,
}

/// Tries all steps until one fails. Sends the key only to who passed the TLS policy, and shows it to nobody. `name` is the
/// endpoint's for the advice; `None` for an address that need not be an endpoint.
pub async fn probe(transport: &HttpTransport, target: &Target, name: Option<&str>, clock: &dyn Clock) -> Vec<Step> {
    let mut log = Log { steps: Vec::new(), began: clock.monotonic(), clock, target, name };
    // What failed is the last step.
    let _ = steps(&mut log, transport, target).await;
    log.steps
}

/// A step failed, and is in the log.
struct Failed;

struct Log<'a> {
    steps: Vec<Step>,
    began: Instant,
    clock: &'a dyn Clock,
    target: &'a Target,
    name: Option<&'a str>,
}

impl Log<'_> {
    /// Notes a step that took from the end of the one before until now.
    fn step<T>(
        &mut self,
        name: StepName,
        result: Result<T, TransportError>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, Failed> {
        let now = self.clock.monotonic();
        let took = now.saturating_duration_since(std::mem::replace(&mut self.began, now));
        let (ok, detail, advice) = match &result {
            Ok(value) => (true, detail(value), String::new()),
            Err(error) => {
                let text = error.to_string();
                let (detail, advice) = text.split_once("; ").unwrap_or((&text, "see the log of the master"));
                (false, detail.to_owned(), advised(error, advice, self.name))
            }
        };
        self.steps.push(Step { name, ok, took, detail: self.clean(&detail), advice });
        result.map_err(|_| Failed)
    }

    /// Adds to what was found in the last step.
    fn add(&mut self, text: &str) {
        let text = self.clean(text);
        if let Some(step) = self.steps.last_mut() {
            step.detail = format!("{}; {text}", step.detail);
        }
    }

    /// A text that a peer had a part in: without secrets and control characters, not too long.
    fn clean(&self, text: &str) -> String {
        let clean = Redactor::new([&self.target.api_key]).clean(text);
        clean.as_str().chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect()
    }
}

/// What to do, for who is probed: the general words speak of an endpoint by the name NAME.
fn advised(error: &TransportError, general: &str, name: Option<&str>) -> String {
    match (name, error) {
        (Some(name), _) => general.replace("NAME", name),
        (None, TransportError::WrongKey) => "give the right API key (`--api-key-file FILE`)".to_owned(),
        (None, TransportError::PinMismatch { .. }) => {
            "if that is right, give the fingerprint that is shown as the pin".to_owned()
        }
        (None, _) => general.to_owned(),
    }
}

async fn steps(log: &mut Log<'_>, transport: &HttpTransport, target: &Target) -> Result<(), Failed> {
    let addresses = log.step(StepName::Name, http::resolve(&target.url).await, |addresses| {
        addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
    })?;
    let tcp = log.step(StepName::Tcp, http::connect(&target.url, &addresses).await, |tcp| {
        tcp.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| format!("connected to {peer}"))
    })?;
    let io = if target.url.https { tls(log, transport, target, tcp).await? } else { Io::Plain(tcp) };
    let path = target.url.path("/events");
    let answer = http::ask(io, target, &path, "text/event-stream", None).await;
    let answer =
        log.step(StepName::Head, answer, |answer| format!("{:?} {}", answer.response.version(), answer.response.status()))?;
    let mut answer = judged(log, target, path, answer).await?;
    let version = transport.get(target, "/info").await;
    version_of(log, version)?;
    let limit = Limit { phase: "the first event", seconds: EVENT_SECS };
    let first = limit.over(first_event(&mut answer)).await;
    log.step(StepName::Event, first, |kind| format!("the first event is `{kind}`"))?;
    Ok(())
}

/// The handshake. The certificate is shown whether it is accepted or not.
async fn tls(log: &mut Log<'_>, transport: &HttpTransport, target: &Target, tcp: Socket) -> Result<Io, Failed> {
    let stream = transport.encrypt(target, tcp).await;
    let refused = matches!(stream, Err(TransportError::Untrusted { .. } | TransportError::PinMismatch { .. }));
    let done = log.step(StepName::Tls, stream, |(stream, _)| shown(stream));
    if refused {
        // Once more, accepting any: nothing is sent over it, least of all the key.
        let any = Target { tls: TlsPolicy::Insecure, ..target.clone() };
        if let Ok(addresses) = http::resolve(&any.url).await
            && let Ok(tcp) = http::connect(&any.url, &addresses).await
            && let Ok((stream, _)) = transport.encrypt(&any, tcp).await
        {
            log.add(&shown(&stream));
        }
    }
    done.map(|(stream, _)| Io::Tls(Box::new(stream)))
}

/// The certificate of a connection: subject, issuer, validity, SHA-256.
fn shown(stream: &TlsStream<Socket>) -> String {
    let Some(der) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
        return "no certificate was shown".to_owned();
    };
    let fingerprint = Fingerprint(Sha256::digest(der.as_ref()).into());
    match X509Certificate::from_der(der.as_ref()) {
        Ok((_, certificate)) => {
            let named = |name: String| if name.is_empty() { "(no name)".to_owned() } else { name };
            let validity = certificate.validity();
            let day = |time: x509_parser::time::ASN1Time| {
                let date = time.to_datetime().date();
                format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
            };
            format!(
                "certificate SHA-256 {fingerprint}, valid {} to {}, subject {}, issuer {}",
                day(validity.not_before),
                day(validity.not_after),
                named(certificate.subject().to_string()),
                named(certificate.issuer().to_string()),
            )
        }
        Err(_) => format!("certificate SHA-256 {fingerprint}; it cannot be read"),
    }
}

/// Key and path, by the status and the type of the answer.
async fn judged(log: &mut Log<'_>, target: &Target, path: String, answer: Answer) -> Result<Answer, Failed> {
    let accepted = match answer.accepted(target, path).await {
        Ok(answer) => http::expect_type(&answer.response, "text/event-stream", target).map(|()| answer),
        Err(error) => Err(error),
    };
    match accepted {
        Err(error @ TransportError::WrongKey) => log.step(StepName::Key, Err(error), |_| String::new()),
        Err(error @ (TransportError::SpeaksTls | TransportError::Status { .. })) => {
            // It is the head after all that is not as it should be.
            log.steps.pop();
            log.step(StepName::Head, Err(error), |_| String::new())
        }
        // What is not found is not found with any key.
        Err(error) => log.step(StepName::Path, Err(error), |_| String::new()),
        Ok(answer) => {
            let sent = !target.api_key.reveal().is_empty();
            let key = if sent { "it is accepted" } else { "none was sent and none is asked for" };
            log.step(StepName::Key, Ok(()), |()| key.to_owned())?;
            log.step(StepName::Path, Ok(answer), |_| format!("the event stream is at {}", target.url.path("/events")))
        }
    }
}

#[derive(Deserialize)]
struct Info {
    ver: Option<String>,
}

/// Masters before 1.2 have no `/info`; that is no failure.
fn version_of(log: &mut Log<'_>, info: Result<bytes::Bytes, TransportError>) -> Result<(), Failed> {
    let version = match info {
        Ok(answer) => Ok(serde_json::from_slice::<Info>(&answer).ok().and_then(|info| info.ver)),
        Err(TransportError::WrongPath { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    log.step(StepName::Version, version, |version| match version {
        Some(version) => version.clone(),
        None => "it does not tell; it is older than 1.2 or no NodePass".to_owned(),
    })?;
    Ok(())
}

/// The kind of the first event.
async fn first_event(answer: &mut Answer) -> Result<String, TransportError> {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    while let Some(piece) = answer.body.next().await {
        let mut found = None;
        decoder.feed(&piece?, |frame| {
            let kind = match frame {
                Frame::Event(event) => wire::parse_event(event.data).map(|event| event.kind.into_owned()).ok(),
                Frame::Oversized { .. } => None,
            };
            found = found.take().or(Some(kind));
        });
        match found {
            Some(Some(kind)) => return Ok(kind),
            Some(None) => {
                let detail = "what it sends is no event of NodePass; check host, port and prefix of the URL".to_owned();
                return Err(TransportError::NotAMaster { detail });
            }
            None => {}
        }
    }
    let detail = "the stream ended before the first event; see the log of the master".to_owned();
    Err(TransportError::Broken { detail })
}
