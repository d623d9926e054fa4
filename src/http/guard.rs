//! Who may ask what.
//!
//! - `/healthz` and `/readyz` are open.
//! - With a token everything else needs it as a bearer token, or the session of a browser that gave it to `/login`; that page
//!   and its two assets are open too. Wrong tokens are limited by the address they come from. The right one is let through
//!   all the same, unless it is so short that trying would find it.
//! - Without one the server listens on loopback only (the configuration sees to that), and the danger is a page in the
//!   user's own browser: it can send requests here (cross-site requests), and with a name that it points at 127.0.0.1
//!   it can read the answers (DNS rebinding). So `Host` must be a loopback name or address. Behind a reverse proxy on the
//!   same host everyone would come from loopback, so what says that it came through one is refused.
//! - Changes need an `Origin` that is absent (not a browser) or our own, with a token too; with a session it must be there.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::cookie::Cookie;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, ResponseError, web};
use rustls::crypto::ring;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::failures::Failures;
use super::problem::Problem;
use super::session::Sessions;
use crate::clock::SharedClock;
use crate::config::Token;

/// What is open to everyone where there is a token: the form that asks for it.
const LOGIN_PATHS: [&str; 3] = ["/login", "/assets/login.css", "/assets/login.js"];

/// Decides which requests are let through.
pub struct Guard {
    /// Digest of the token, so that a comparison takes the same time whatever is sent, whatever its length.
    token: Option<[u8; 32]>,
    /// Whether the token is so short that trying finds it.
    is_guessable: bool,
    /// Name of the session's cookie. Cookies do not tell ports apart, so recorders of one host need names of their own.
    cookie: String,
    clock: SharedClock,
    sessions: Mutex<Sessions>,
    failures: Mutex<Failures>,
}

/// A request, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path without query.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Where the connection comes from.
    pub peer: Option<IpAddr>,
}

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is answered with this.
    Problem(Problem),
    /// Too many wrong tokens came from there; the next one is looked at after this time.
    Wait(Duration),
    /// A person who has not logged in is shown the form.
    LogIn,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Refusal {
    fn response(&self) -> HttpResponse {
        match self {
            Self::Problem(problem) => problem.error_response(),
            Self::Wait(wait) => {
                let detail = "too many wrong tokens came from this address; wait and try again";
                let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).error_response();
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds_up(*wait)));
                response
            }
            Self::LogIn => HttpResponse::SeeOther().insert_header((header::LOCATION, "/login")).finish(),
        }
    }
}

/// Whole seconds, rounded up.
pub(super) fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Guard {
    /// A guard for `http.token`. `identity` is the recorder's.
    #[must_use]
    pub fn new(token: Option<&Token>, identity: &str, clock: SharedClock) -> Self {
        Self {
            token: token.map(|token| digest(token.reveal().as_bytes())),
            is_guessable: token.is_some_and(Token::is_guessable),
            cookie: format!("tidegate-{identity}"),
            clock,
            sessions: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Lets a request through, or says why not.
    ///
    /// # Errors
    /// 400 without a usable `Host`, 401 without the token, 403 for what a foreign page sent, 429 after many wrong tokens.
    pub fn judge(&self, asked: Asked<'_>) -> Result<(), Refusal> {
        let Asked { method, path, headers, .. } = asked;
        if matches!(path, "/healthz" | "/readyz") {
            return Ok(());
        }
        let host = only(headers, &header::HOST)?.ok_or_else(|| Problem::bad_request("the request has no Host header"))?;
        let by_session = match &self.token {
            Some(_) if LOGIN_PATHS.contains(&path) => false,
            Some(token) => self.knows_token(token, asked)?,
            None if is_loopback(host) => {
                if let Some(name) = proxy_header(headers) {
                    let detail = format!(
                        "this came through a proxy (it has the header {name}), behind which everyone would be let in; set http.token"
                    );
                    return Err(Problem::new(StatusCode::FORBIDDEN, detail).into());
                }
                false
            }
            None => {
                let detail = "without http.token only requests to a loopback name are answered, against pages that point their \
                              name here; ask for localhost or 127.0.0.1, or set http.token";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail).into());
            }
        };
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        match only(headers, &header::ORIGIN)? {
            Some(origin) if is_same(origin, host, self.token.is_some()) => Ok(()),
            None if !by_session => Ok(()),
            origin => {
                let detail = match origin {
                    Some(_) => "changes are taken from our own page only; this came from another origin",
                    None => {
                        "a change with a session's cookie needs the header Origin, which every browser sends; a program sends \
                         http.token as `Authorization: Bearer TOKEN` instead"
                    }
                };
                Err(Problem::new(StatusCode::FORBIDDEN, detail).into())
            }
        }
    }

    /// Whether the request knows the token by its session and not by itself; a refusal if it does not know it.
    fn knows_token(&self, token: &[u8; 32], asked: Asked<'_>) -> Result<bool, Refusal> {
        if let Some(given) = only(asked.headers, &header::AUTHORIZATION)? {
            let Some(text) = bearer(given) else { return Err(unauthorized("send http.token as `Authorization: Bearer TOKEN`")) };
            self.compare(token, text, asked.peer)?;
            return Ok(false);
        }
        if let Some(session) = self.session_of(asked.headers)
            && self.sessions().is_valid(&session, self.clock.monotonic())
        {
            return Ok(true);
        }
        let accept = asked.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_page = asked.path == "/" || (!asked.path.starts_with("/api/") && accept.contains("text/html"));
        if *asked.method == Method::GET && is_page {
            return Err(Refusal::LogIn);
        }
        Err(unauthorized("send http.token as `Authorization: Bearer TOKEN`, or log in at /login"))
    }

    fn compare(&self, token: &[u8; 32], given: &str, peer: Option<IpAddr>) -> Result<(), Refusal> {
        let is_right: bool = digest(given.as_bytes()).ct_eq(token).into();
        // Who knows a token that trying does not find need not wait for others who try: behind a proxy all have one address.
        if is_right && !self.is_guessable {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = failures.wait(peer, now) {
            return Err(Refusal::Wait(wait));
        }
        if is_right {
            return Ok(());
        }
        failures.count(peer, now);
        Err(unauthorized("the token is not http.token"))
    }

    /// Begins a session for who knows the token; the cookie is to be given to the browser. `None` where there is no token to
    /// know.
    ///
    /// # Errors
    /// [`Refusal`] with a wrong token, and after many.
    pub fn log_in(&self, given: &str, peer: Option<IpAddr>) -> Result<Option<Cookie<'static>>, Refusal> {
        let Some(token) = &self.token else { return Ok(None) };
        self.compare(token, given, peer)?;
        let random = ring::default_provider().secure_random;
        let session = self.sessions().begin(random, self.clock.monotonic());
        let session = session
            .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random numbers for a session"))?;
        Ok(Some(Cookie::new(self.cookie.clone(), session)))
    }

    /// Ends the session of a request; the cookie to take back is in the answer.
    pub fn log_out(&self, headers: &HeaderMap) -> Cookie<'static> {
        if let Some(session) = self.session_of(headers) {
            self.sessions().end(&session);
        }
        Cookie::new(self.cookie.clone(), "")
    }

    fn session_of(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, value)| value.to_owned())
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The middleware. The guard is found in the app's data. What is not let through is answered with its problem.
///
/// # Errors
/// As the services behind it.
pub async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let verdict = match request.app_data::<web::Data<Guard>>() {
        Some(guard) => guard.judge(Asked {
            method: request.method(),
            path: request.path(),
            headers: request.headers(),
            peer: request.peer_addr().map(|peer| peer.ip()),
        }),
        // A server that was built without a guard must not be open.
        None => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no guard").into()),
    };
    match verdict {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        // As a response and not as an error, so that it carries the headers of every answer.
        Err(refusal) => Ok(request.into_response(refusal.response()).map_into_right_body()),
    }
}

fn unauthorized(detail: &str) -> Refusal {
    Problem::new(StatusCode::UNAUTHORIZED, detail).into()
}

/// The token of an `Authorization` header.
fn bearer(given: &str) -> Option<&str> {
    let (scheme, text) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The value of a header that must not be there twice: two readers could each believe another one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| Problem::bad_request(format!("the header {name} is not ASCII")))
        }
        _ => Err(Problem::bad_request(format!("the header {name} is there twice"))),
    }
}

/// Whether a `Host` header names this machine to itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Headers that proxies add, beside all that begin with [`FORWARDED_PREFIX`].
const PROXY_HEADERS: [&str; 8] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-original-host",
    "x-envoy-external-address",
    "cf-connecting-ip",
    "true-client-ip",
];
const FORWARDED_PREFIX: &str = "x-forwarded";

/// The header by which a request says that it came through a proxy. A browser on this machine sends none of them.
fn proxy_header(headers: &HeaderMap) -> Option<&str> {
    // Names are lower case.
    headers.keys().map(HeaderName::as_str).find(|name| PROXY_HEADERS.contains(name) || name.starts_with(FORWARDED_PREFIX))
}

/// Whether an `Origin` is the page at that `Host`. A proxy in front may speak https; where there can be none, only http is ours.
fn is_same(origin: &str, host: &str, behind_proxy: bool) -> bool {
    origin.split_once("://").is_some_and(|(scheme, authority)| {
        authority.eq_ignore_ascii_case(host) && (behind_proxy || scheme.eq_ignore_ascii_case("http"))
    })
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
