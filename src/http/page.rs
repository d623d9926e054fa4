//! The page: files that are part of the program, made by hand and served as they lie in `src/http/page/`.
//!
//! All but the documents lie under `/assets/VERSION/`, where the version is a digest over all of them. So a browser keeps
//! them for good, and after an update it asks for other names. The documents and what the login form needs have fixed
//! names and are asked for again each time; an ETag makes that short.

use std::io::Write;
use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentEncoding, ETag, EntityTag, Header, HeaderValue, IfNoneMatch, Preference, Quality};
use actix_web::{HttpRequest, HttpResponse, web};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::routes::resource;

/// What a browser may do with the page: run and show what comes from here, ask nobody else, and be framed by nobody. Text
/// cannot become markup or script, even by mistake.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// Hex digits of the version: enough that two builds do not share one.
const VERSION_DIGITS: usize = 12;

macro_rules! files {
    ($($name:literal),* $(,)?) => { &[$(($name, include_bytes!(concat!("page/", $name)))),*] };
}

/// Every file of the page. The modules are named here in the order in which they are needed.
const FILES: &[(&str, &[u8])] = files![
    "index.html",
    "login.html",
    "login.css",
    "login.js",
    "icon.svg",
    "app.css",
    "boot.js",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
    "app.js",
    "vendor/preact.mjs",
    "state.js",
    "api.js",
    "strings.js",
    "phrases.js",
    "i18n.js",
    "format.js",
    "ui.js",
    "table.js",
    "chart.js",
    "traffic.js",
    "ansi.js",
    "dialogs.js",
    "overview.js",
    "endpoint.js",
    "tunnels.js",
    "tunnel.js",
    "alerts.js",
    "mode.js",
    "storage.js",
];

/// The document for those who have logged in: a script cannot see the session's cookie.
const WITH_SESSION: &str = "session/index.html";

static SITE: LazyLock<Site> = LazyLock::new(Site::new);

/// Adds the page's routes. Of `/login` this answers GET alone: what it sends is another's.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(resource("/").get(|request: HttpRequest| {
            let name = if has_session(&request) { WITH_SESSION } else { "index.html" };
            fixed(request, name)
        }))
        .route("/login", web::get().to(login_form))
        .service(resource("/assets/login.css").get(|request: HttpRequest| fixed(request, "login.css")))
        .service(resource("/assets/login.js").get(|request: HttpRequest| fixed(request, "login.js")))
        .service(resource("/assets/{version}/{name:.*}").get(versioned));
}

/// Whether the page should offer to log out. A session that is over does not come here.
fn has_session(request: &HttpRequest) -> bool {
    request.cookies().is_ok_and(|cookies| cookies.iter().any(|cookie| cookie.name().starts_with("tidegate-")))
}

/// What the form's own script reads of its address, after a token that was wrong.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read in the browser")]
struct LoginQuery {
    /// `1` if the token was wrong.
    failed: Option<String>,
    /// Seconds until the next one is looked at.
    wait: Option<String>,
}

/// The form that asks for the token.
#[utoipa::path(get, path = "/login", tag = "session", security(()), params(LoginQuery), responses(
    (status = 200, body = String, content_type = "text/html; charset=utf-8"),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
))]
pub(super) async fn login_form(request: HttpRequest) -> Result<HttpResponse, Problem> {
    fixed(request, "login.html").await
}

/// A file under a name that stays: whether it has changed is asked each time.
async fn fixed(request: HttpRequest, name: &'static str) -> Result<HttpResponse, Problem> {
    answer(&request, name, "no-cache")
}

/// A file of this version: it never changes.
async fn versioned(request: HttpRequest, path: web::Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (version, name) = path.into_inner();
    if version != SITE.version {
        return Err(missing(&request));
    }
    answer(&request, &name, "private, max-age=31536000, immutable")
}

fn answer(request: &HttpRequest, name: &str, kept: &'static str) -> Result<HttpResponse, Problem> {
    let file = SITE.files.iter().find(|file| file.name == name).ok_or_else(|| missing(request))?;
    let tag = EntityTag::new_weak(file.digest.clone());
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(IfNoneMatch::Any) | Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header(ETag(tag))
        .insert_header((header::CACHE_CONTROL, kept))
        .insert_header((header::VARY, HeaderValue::from_static("accept-encoding")))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    if known {
        return Ok(response.finish());
    }
    response.insert_header((header::CONTENT_TYPE, file.media_type));
    if accepts_gzip(request) {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
        return Ok(response.body(file.compressed.clone()));
    }
    Ok(response.body(file.plain.clone()))
}

fn missing(request: &HttpRequest) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", request.path()))
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let gzip = Preference::Specific(header::Encoding::Known(ContentEncoding::Gzip));
    header::AcceptEncoding::parse(request)
        .is_ok_and(|accepted| accepted.iter().any(|item| item.item == gzip && item.quality > Quality::ZERO))
}

/// The files as they are served.
struct Site {
    version: String,
    files: Vec<File>,
}

struct File {
    name: &'static str,
    media_type: &'static str,
    digest: String,
    plain: web::Bytes,
    compressed: web::Bytes,
}

impl Site {
    /// Compresses all files: some tens of milliseconds, at the first request.
    fn new() -> Self {
        let mut digest = Sha256::new();
        for (name, content) in FILES {
            digest.update(name.as_bytes());
            digest.update(content);
        }
        let version = hex(&digest.finalize());
        let mut files = Vec::new();
        for &(name, content) in FILES {
            if name == "index.html" {
                let document = index(&String::from_utf8_lossy(content), &version);
                files.push(File::new(WITH_SESSION, document.replace("<body>", "<body data-session>").into()));
                files.push(File::new(name, document.into()));
            } else {
                files.push(File::new(name, web::Bytes::from_static(content)));
            }
        }
        Self { version, files }
    }
}

impl File {
    fn new(name: &'static str, plain: web::Bytes) -> Self {
        Self { name, media_type: media_type(name), digest: hex(&Sha256::digest(&plain)), compressed: gzip(&plain).into(), plain }
    }
}

/// The document with the version in its addresses. It names all modules, or a browser would learn of each from the one before.
fn index(template: &str, version: &str) -> String {
    let modules = FILES.iter().map(|(name, _)| *name).filter(|name| is_module(name));
    let links: Vec<String> =
        modules.map(|name| format!("<link rel=\"modulepreload\" href=\"/assets/{version}/{name}\">")).collect();
    template.replace("{{modules}}", &links.join("\n")).replace("{{version}}", version)
}

/// Whether others are imported from this file, or import it.
fn is_module(name: &str) -> bool {
    name.ends_with(".mjs") || (name.ends_with(".js") && !name.starts_with("vendor/") && !matches!(name, "boot.js" | "login.js"))
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("a Vec takes all that is written")
}

fn hex(digest: &[u8]) -> String {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..VERSION_DIGITS].to_owned()
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "page_phrases_tests.rs"]
mod phrases_tests;
