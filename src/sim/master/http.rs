//! The HTTP side: which request gets which answer, with the exact bodies and heads per language.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::subscriber::SubscriberId;
use super::version::Version;
use crate::clock::Timestamp;

/// A request, as much of it as a master looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Method in upper case.
    pub method: &'a str,
    /// Path with its query.
    pub path: &'a str,
    /// The header `X-API-Key`.
    pub key: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// A GET with a key.
    #[must_use]
    pub fn get(path: &'a str, key: &'a str) -> Self {
        Self { method: "GET", path, key: Some(key) }
    }
}

/// Without the key.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a master does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A whole answer.
    Answer(Answer),
    /// 200 and the event stream of this subscriber.
    Stream(SubscriberId),
    /// Nothing is ever answered; the connection stays open.
    Silence,
    /// The connection is refused.
    Refused,
}

/// An answer that is not a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`; empty for none.
    pub content_type: &'static str,
    /// `Location`.
    pub location: Option<Box<str>>,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    pub(super) fn json(version: Version, status: u16, body: &str) -> Self {
        // Go's encoder ends the body with a line feed.
        let end = if version.is_rust() { "" } else { "\n" };
        let body = Bytes::from(format!("{body}{end}"));
        Self { status, content_type: "application/json", location: None, body }
    }

    pub(super) fn error(version: Version, status: u16, message: &str) -> Self {
        Self::json(version, status, &format!("{{\"error\":\"{message}\"}}"))
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, content_type: "", location: None, body: Bytes::new() }
    }

    pub(super) fn not_found(version: Version) -> Self {
        if version.is_rust() {
            return Self::empty(404);
        }
        let body = Bytes::from_static(b"404 page not found\n");
        Self { status: 404, content_type: "text/plain; charset=utf-8", location: None, body }
    }

    pub(super) fn redirect(status: u16, location: &str) -> Self {
        let body = Bytes::from(format!("<a href=\"{location}\">Temporary Redirect</a>.\n\n"));
        Self { status, content_type: "text/html; charset=utf-8", location: Some(location.into()), body }
    }

    pub(super) fn page(status: u16) -> Self {
        let body = Bytes::from_static(b"<!doctype html><title>gateway</title><p>not a master</p>\n");
        Self { status, content_type: "text/html", location: None, body }
    }

    /// Head and body as they go over HTTP/1.1.
    #[must_use]
    pub fn render(&self, version: Version, now: Timestamp) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let go = !version.is_rust();
        if go && self.content_type.starts_with("text/plain") {
            head.push_str("Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n");
        } else {
            head.push_str(cross_origin(version));
            if !self.content_type.is_empty() {
                let _ = write!(head, "{}: {}\r\n", if go { "Content-Type" } else { "content-type" }, self.content_type);
            }
        }
        if let Some(location) = &self.location {
            let _ = write!(head, "Location: {location}\r\n");
        }
        let (date, length) = if go { ("Date", "Content-Length") } else { ("date", "content-length") };
        let _ = write!(head, "{date}: {}\r\n{length}: {}\r\n\r\n", http_date(now), self.body.len());
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The head of an event stream. HTTP/1.0 readers get a body without chunks.
#[must_use]
pub fn stream_head(version: Version, now: Timestamp, http_1_0: bool) -> String {
    let minor = u8::from(!http_1_0);
    let date = http_date(now);
    let chunked = match (http_1_0, version.is_rust()) {
        (true, _) => "",
        (false, false) => "Transfer-Encoding: chunked\r\n",
        (false, true) => "transfer-encoding: chunked\r\n",
    };
    if version.is_rust() {
        return format!(
            "HTTP/1.{minor} 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n{}{chunked}date: {date}\r\n\r\n",
            cross_origin(version)
        );
    }
    let keep_alive = if http_1_0 { "" } else { "Connection: keep-alive\r\n" };
    format!(
        "HTTP/1.{minor} 200 OK\r\n{}Cache-Control: no-cache\r\n{keep_alive}Content-Type: text/event-stream\r\nDate: {date}\r\n{chunked}\r\n",
        cross_origin(version)
    )
}

fn cross_origin(version: Version) -> &'static str {
    match version {
        Version::Rust0_1_0 => {
            "vary: origin, access-control-request-method, access-control-request-headers\r\naccess-control-allow-origin: *\r\n"
        }
        Version::Go1_1_5 => concat!(
            "Access-Control-Allow-Headers: Content-Type, Authorization, X-API-Key, Cache-Control\r\n",
            "Access-Control-Allow-Methods: GET, PATCH, POST, DELETE, OPTIONS\r\n",
            "Access-Control-Allow-Origin: *\r\n"
        ),
        _ => concat!(
            "Access-Control-Allow-Headers: Content-Type, Authorization, X-API-Key, Cache-Control\r\n",
            "Access-Control-Allow-Methods: GET, PATCH, POST, PUT, DELETE, OPTIONS\r\n",
            "Access-Control-Allow-Origin: *\r\n"
        ),
    }
}

fn http_date(now: Timestamp) -> String {
    now.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
