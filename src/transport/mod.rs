//! How bytes come from a master. The production transport speaks HTTP/1.1 over TCP or TLS; the simulation has its own.

mod http;
pub mod post;
pub mod probe;
mod socket;
mod tls;

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;

pub use self::http::HttpTransport;
use crate::endpoint::{ApiKey, Fingerprint, MasterUrl, TlsPolicy};

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address and prefix.
    pub url: MasterUrl,
    /// Sent as `X-API-Key`.
    pub api_key: ApiKey,
    /// How the certificate is judged.
    pub tls: TlsPolicy,
}

/// An open event stream.
pub struct OpenStream {
    /// The body, in the pieces in which it arrives. Ends with `None` after a clean end of the body.
    pub body: LocalBoxStream<'static, Result<Bytes, TransportError>>,
    /// The certificate that the master showed, where TLS is spoken.
    pub certificate: Option<Fingerprint>,
}

/// Connects to masters.
pub trait Transport {
    /// Opens `GET {prefix}/v1/events`. Resolves after a response head that says 200 and `text/event-stream`.
    fn events(&self, target: &Target) -> LocalBoxFuture<'static, Result<OpenStream, TransportError>>;

    /// Gets the body of `GET {prefix}/v1{call}`, for example `/instances`; at most [`ANSWER_BYTES_MAX`].
    fn get(&self, target: &Target, call: &'static str) -> LocalBoxFuture<'static, Result<Bytes, TransportError>>;
}

/// A transport as it is handed around; actors share one thread.
pub type SharedTransport = Rc<dyn Transport>;

/// Longest answer to a plain `GET`. A fleet of 500 instances with 500 tags each has 130 MB in theory; a real one a few hundred
/// kilobytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What went wrong on the way to a master or during a stream, told apart so that status and log can say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The host name has no address.
    #[error("cannot resolve the host name: {detail}; check the URL and the name server")]
    Resolve {
        /// The resolver's words.
        detail: String,
    },
    /// Nobody listens there.
    #[error("connection refused; check that the master runs and that the port is right")]
    Refused,
    /// The network says no (unreachable, reset while connecting, ...).
    #[error("cannot connect: {detail}; check the address and firewalls")]
    Unreachable {
        /// The system's words.
        detail: String,
    },
    /// A phase took too long.
    #[error("no answer within {seconds} s while waiting for {phase}; check that the master is not hung")]
    TimedOut {
        /// `the connection`, `the TLS handshake`, `the response head`, `the answer`.
        phase: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The certificate was not accepted.
    #[error("the certificate is not trusted: {detail}")]
    Untrusted {
        /// Why, and what can be done.
        detail: String,
    },
    /// The certificate differs from the pinned one.
    #[error("the certificate changed: pinned {expected}, shown {shown}; if that is right, run `tidegate endpoint trust NAME`")]
    PinMismatch {
        /// The pinned fingerprint.
        expected: String,
        /// The one shown.
        shown: String,
    },
    /// TLS failed otherwise.
    #[error("TLS failed: {detail}; check whether the master speaks https (tls=1 or tls=2)")]
    Tls {
        /// The library's words.
        detail: String,
    },
    /// An `http` URL met a TLS port.
    #[error("the master speaks https there; use an https:// URL")]
    SpeaksTls,
    /// An `https` URL met a port without TLS.
    #[error("the master does not speak https there; use an http:// URL")]
    SpeaksPlain,
    /// 401.
    #[error("the API key was not accepted (401); set the right one with `tidegate endpoint set NAME --api-key-file FILE`")]
    WrongKey,
    /// 404.
    #[error("no NodePass API at {path} (404); check the prefix in the URL (without one /api is used)")]
    WrongPath {
        /// The path that was asked for.
        path: String,
    },
    /// A redirect; it is not followed since the key would travel with it.
    #[error("the master redirects to {location}; redirects are not followed, give that address as the URL if it is right")]
    Redirect {
        /// The target, without user-info.
        location: String,
    },
    /// Another status.
    #[error("the master answered {status}; {hint}")]
    Status {
        /// The HTTP status code.
        status: u16,
        /// What it may mean.
        hint: &'static str,
    },
    /// 200, but no event stream or no NodePass answer.
    #[error("not a NodePass master: {detail}")]
    NotAMaster {
        /// What was found.
        detail: String,
    },
    /// The answer is longer than allowed.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// The stream broke in the middle.
    #[error(
        "the connection broke: {detail}; if that goes on, see the log of the master, and what is on the way to it (proxies, firewalls)"
    )]
    Broken {
        /// The system's words.
        detail: String,
    },
}

impl TransportError {
    /// True if a person must mend it: status `FAIL` instead of `OFFLINE`.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Untrusted { .. }
            | Self::PinMismatch { .. }
            | Self::SpeaksTls
            | Self::SpeaksPlain
            | Self::WrongKey
            | Self::WrongPath { .. }
            | Self::Redirect { .. }
            | Self::NotAMaster { .. } => true,
            Self::Status { status, .. } => *status < 500 && *status != 429,
            Self::Resolve { .. }
            | Self::Refused
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Tls { .. }
            | Self::TooLong { .. }
            | Self::Broken { .. } => false,
        }
    }
}
