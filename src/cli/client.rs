//! The commands' way to a running recorder: its HTTP API at `http.listen`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::exit::{ExitCode, Failure};
use super::output;
use crate::config::{HttpConfig, Token};
use crate::http::identity;
use crate::http::problem::Problem;

/// A recorder on this machine that does not take a connection within this time is not there or hangs.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait for an answer. A flush that drains a backlog and a purge of a large endpoint take minutes.
const ANSWER: Duration = Duration::from_secs(600);
/// Longest answer: 10,000 tunnels have some 5 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Talks to the recorder of one database.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    token: Option<Token>,
    identity: String,
    takes_demo: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the address: no recorder runs.
    #[error("no recorder runs at {address}")]
    NotRunning {
        /// `http.listen`.
        address: SocketAddr,
    },
    /// A recorder of another database, or something else, listens there.
    #[error("what listens at {address} is not the recorder of this database")]
    Another {
        /// `http.listen`.
        address: SocketAddr,
    },
    /// It does not answer.
    #[error("the recorder at {address} does not answer: {detail}")]
    NoAnswer {
        /// `http.listen`.
        address: SocketAddr,
        /// What happened.
        detail: String,
    },
    /// It asks for a token, and none is configured here.
    #[error(
        "the recorder at {address} asks for a token: give the one of its http.token, as http.token in the configuration or in \
         TIDEGATE_HTTP__TOKEN"
    )]
    TokenMissing {
        /// `http.listen`.
        address: SocketAddr,
    },
    /// It refuses.
    #[error("{0}")]
    Problem(Problem),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::NotRunning { .. } | ClientError::Another { .. } | ClientError::NoAnswer { .. } => ExitCode::Unreachable,
            ClientError::Problem(problem) if problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() => ExitCode::Database,
            ClientError::Problem(problem) if problem.status >= 500 => ExitCode::Unreachable,
            ClientError::Problem(_) | ClientError::TokenMissing { .. } => ExitCode::Usage,
        };
        let message = match error {
            ClientError::Problem(problem) => problem.detail,
            other => other.to_string(),
        };
        Self { code, message }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    body: Bytes,
    address: SocketAddr,
    is_demo: bool,
}

impl Answer {
    /// The document in it, whatever the status.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] if it is another document.
    pub fn document<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::NoAnswer {
            address: self.address,
            detail: format!("its answer ({}) is not understood: {error}; is it of another version?", self.status),
        })
    }

    /// The document of a success; the problem of a failure.
    ///
    /// # Errors
    /// [`ClientError::Problem`], or as [`Answer::document`].
    pub fn success<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        self.done()?;
        self.document()
    }

    /// Nothing of a success; the problem of a failure.
    ///
    /// # Errors
    /// As [`Answer::success`].
    pub fn done(&self) -> Result<(), ClientError> {
        if self.status.is_success() { Ok(()) } else { Err(ClientError::Problem(self.document()?)) }
    }
}

impl Client {
    /// A client for the recorder that this configuration describes; where there is nothing of one's own to confuse it with,
    /// a demo's recorder will do.
    #[must_use]
    pub fn new(http: &HttpConfig, identity: String, takes_demo: bool) -> Self {
        let mut address = http.listen;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self { address, token: http.token.clone(), identity, takes_demo }
    }

    /// Where it looks for the recorder.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the recorder of this database is there and answers. Says so if it is a demo's instead.
    ///
    /// # Errors
    /// [`ClientError`], never with a problem.
    pub async fn hello(&self) -> Result<(), ClientError> {
        let answer = timeout(CONNECT, self.exchange(Method::GET, "/healthz", None)).await.map_err(|_| self.silent(CONNECT))??;
        if answer.is_demo {
            output::note(&format!("note: the demo at {} answers; what it records is gone when it stops", self.address));
        }
        Ok(())
    }

    /// Sends one request. `path` is ready for the wire: percent-encoded, with its query.
    ///
    /// # Errors
    /// [`ClientError`], never with a problem: the answer holds it.
    pub async fn call(&self, method: Method, path: &str, body: Option<&serde_json::Value>) -> Result<Answer, ClientError> {
        timeout(ANSWER, self.exchange(method, path, body)).await.map_err(|_| self.silent(ANSWER))?
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&serde_json::Value>) -> Result<Answer, ClientError> {
        let broken = |detail: String| ClientError::NoAnswer { address: self.address, detail };
        let stream = match timeout(CONNECT, TcpStream::connect(self.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Err(ClientError::NotRunning { address: self.address });
            }
            Ok(Err(error)) => return Err(broken(error.to_string())),
            Err(_) => return Err(self.silent(CONNECT)),
        };
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(error.to_string()))?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(body.map_or_else(Bytes::new, |body| body.to_string().into()));
        let request = request.body(body).map_err(|error| broken(error.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
            let theirs = response.headers().get(identity::HEADER).and_then(|value| value.to_str().ok());
            let is_demo = self.takes_demo && theirs == Some(identity::DEMO);
            if !is_demo && theirs != Some(self.identity.as_str()) {
                return Err(ClientError::Another { address: self.address });
            }
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
                return Err(ClientError::TokenMissing { address: self.address });
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
            Ok(Answer { status, body, address: self.address, is_demo })
        };
        // The connection's own end comes after the answer or explains its absence; the answer is what counts.
        let drive = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = drive => Err(broken("the connection ended".to_owned())),
        }
    }

    fn silent(&self, limit: Duration) -> ClientError {
        ClientError::NoAnswer { address: self.address, detail: format!("no answer within {} s", limit.as_secs()) }
    }
}

/// A name as one segment of a path.
#[must_use]
pub fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
