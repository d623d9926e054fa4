//! Who may ask what.
//!
//! - `/healthz` and `/readyz` are open.
//! - With a token everything else needs it as a bearer token.
//! - Without one the server listens on loopback only (the configuration sees to that), and the danger is a page in the
//!   user's own browser: it can send requests here (cross-site requests), and with a name that it points at 127.0.0.1
//!   it can read the answers (DNS rebinding). So `Host` must be a loopback name or address.
//! - Changes need an `Origin` that is absent (not a browser) or our own, with a token too.

use std::net::IpAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use crate::config::Token;

/// Decides which requests are let through.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Digest of the token, so that a comparison takes the same time whatever is sent, whatever its length.
    token: Option<[u8; 32]>,
}

impl Guard {
    /// A guard for `http.token`.
    #[must_use]
    pub fn new(token: Option<&Token>) -> Self {
        Self { token: token.map(|token| digest(token.reveal().as_bytes())) }
    }

    /// Lets a request through, or says why not.
    ///
    /// # Errors
    /// 400 without a usable `Host`, 401 without the token, 403 for what a foreign page sent.
    pub fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        if matches!(path, "/healthz" | "/readyz") {
            return Ok(());
        }
        let host = only(headers, &header::HOST)?.ok_or_else(|| Problem::bad_request("the request has no Host header"))?;
        match &self.token {
            Some(token) => bearer(token, only(headers, &header::AUTHORIZATION)?)?,
            None if is_loopback(host) => {}
            None => {
                let detail = "without http.token only requests to a loopback name are answered, against pages that point their \
                              name here; ask for localhost or 127.0.0.1, or set http.token";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
        }
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        match only(headers, &header::ORIGIN)? {
            Some(origin) if !reads && !is_same(origin, host) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "changes are taken from our own page only; this came from another origin",
            )),
            _ => Ok(()),
        }
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
        Some(guard) => guard.judge(request.method(), request.path(), request.headers()),
        // A server that was built without a guard must not be open.
        None => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no guard")),
    };
    match verdict {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        // As a response and not as an error, so that it carries the headers of every answer.
        Err(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn bearer(token: &[u8; 32], given: Option<&str>) -> Result<(), Problem> {
    let unauthorized = |detail: &str| Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    let Some(given) = given else { return unauthorized("send http.token as `Authorization: Bearer TOKEN`") };
    match given.split_once(' ') {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => {
            if digest(text.trim().as_bytes()).ct_eq(token).into() {
                Ok(())
            } else {
                unauthorized("the token is not http.token")
            }
        }
        _ => unauthorized("send http.token as `Authorization: Bearer TOKEN`"),
    }
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

/// Whether an `Origin` is the page at that `Host`. The scheme is left out: a proxy in front may speak https.
fn is_same(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn status(token: Option<&str>, method: Method, path: &str, headers: &[(HeaderName, &'static str)]) -> u16 {
        let token = token.map(|token| Token::new(token).unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        Guard::new(token.as_ref()).judge(&method, path, &map).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn without_a_token_only_loopback_hosts_are_answered() {
        for host in ["localhost", "LOCALHOST:8686", "127.0.0.1:8686", "127.9.9.9", "[::1]:8686", "[::1]"] {
            assert_eq!(status(None, Method::GET, "/api/v1/stats", &[(header::HOST, host)]), 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8686", "10.0.0.1", "127.0.0.1.evil.example", "[::2]", ""] {
            assert_eq!(status(None, Method::GET, "/api/v1/stats", &[(header::HOST, host)]), 403, "{host}");
        }
        assert_eq!(status(None, Method::GET, "/api/v1/stats", &[]), 400);
    }

    #[test]
    fn changes_are_taken_from_no_origin_or_our_own() {
        let host = (header::HOST, "localhost:8686");
        assert_eq!(status(None, Method::POST, "/api/v1/flush", std::slice::from_ref(&host)), 200);
        for (origin, expected) in [
            ("http://localhost:8686", 200),
            ("http://localhost", 403),
            ("http://127.0.0.1:8686", 403),
            ("https://evil.example", 403),
            ("null", 403),
        ] {
            let headers = [host.clone(), (header::ORIGIN, origin)];
            assert_eq!(status(None, Method::POST, "/api/v1/flush", &headers), expected, "{origin}");
            assert_eq!(status(None, Method::DELETE, "/api/v1/endpoints/a", &headers), expected, "{origin}");
            assert_eq!(status(None, Method::GET, "/api/v1/stats", &headers), 200, "reads are not changes");
        }
    }

    #[test]
    fn with_a_token_everything_but_the_probes_needs_it() {
        let host = (header::HOST, "panel.example");
        for (given, expected) in [
            (None, 401),
            (Some("Bearer right"), 200),
            (Some("bearer right"), 200),
            (Some("Bearer wrong"), 401),
            (Some("Bearer "), 401),
            (Some("Basic right"), 401),
            (Some("right"), 401),
        ] {
            let mut headers = vec![host.clone()];
            headers.extend(given.map(|given| (header::AUTHORIZATION, given)));
            assert_eq!(status(Some("right"), Method::GET, "/api/v1/stats", &headers), expected, "{given:?}");
            assert_eq!(status(Some("right"), Method::GET, "/readyz", &headers), 200);
        }
        let foreign = [host, (header::AUTHORIZATION, "Bearer right"), (header::ORIGIN, "https://evil.example")];
        assert_eq!(status(Some("right"), Method::POST, "/api/v1/flush", &foreign), 403);
    }

    #[test]
    fn a_header_that_decides_must_not_be_there_twice() {
        let headers = [(header::HOST, "localhost"), (header::HOST, "evil.example")];
        assert_eq!(status(None, Method::GET, "/api/v1/stats", &headers), 400);
    }
}
