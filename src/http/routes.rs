//! The routes of all groups, and what answers where there is none. Each answers JSON, or problem details.

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, web};

use super::mirror::Mirror;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::stream::Hub;
use super::{
    alerts, endpoints, events, flush, health, history, login, metrics, mode, openapi, probe, stats, stored, stream, tunnels,
};
use crate::clock::SharedClock;

/// Longest body of a request. An endpoint's definition has well under a kilobyte.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest part of a query that is repeated in an error, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// What a route answers.
pub(super) type Answer = Result<HttpResponse, Problem>;

/// Adds the routes, and extractors that answer problems.
pub fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config
        .app_data(web::JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| json_problem(&error).into()))
        .app_data(web::PayloadConfig::default().limit(BODY_BYTES_MAX))
        .app_data(
            web::QueryConfig::default().error_handler(|error, request| query_problem(&error, request.query_string()).into()),
        )
        .app_data(web::PathConfig::default().error_handler(|error, _| path_problem(&error).into()))
        // First, since it has the form of the login, of which it takes GET alone.
        .configure(super::page::configure)
        .configure(health::configure::<R>)
        .configure(stats::configure::<R>)
        .configure(endpoints::configure::<R>)
        .configure(probe::configure::<R>)
        .configure(tunnels::configure::<R>)
        .configure(flush::configure::<R>)
        .configure(mode::configure::<R>)
        .configure(stream::configure::<R>)
        .configure(metrics::configure::<R>)
        .configure(alerts::configure::<R>)
        .configure(events::configure::<R>)
        .configure(history::configure::<R>)
        .configure(stored::configure::<R>)
        .configure(login::configure)
        .configure(openapi::configure)
        .default_service(web::to(not_found));
}

/// Adds what the routes share: the recorder, and what is seen of it. Made on the thread that answers.
pub fn share<R: RecorderApi>(recorder: R, clock: SharedClock) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let mirror = web::Data::new(Mirror::new(recorder.clone(), clock.clone()));
        config
            .app_data(web::Data::new(Hub::new(recorder.clone(), mirror.clone(), clock)))
            .app_data(mirror)
            .app_data(web::Data::new(recorder));
    }
}

/// A resource at `path` that answers a problem to methods it does not have. Every route of every group begins with it.
pub(super) fn resource(path: &str) -> Resource {
    web::resource(path).default_service(web::to(method_not_allowed))
}

async fn not_found(request: HttpRequest) -> Answer {
    Err(Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", request.path())))
}

async fn method_not_allowed(request: HttpRequest) -> HttpResponse {
    let detail = format!("{} is not for {}", request.path(), request.method());
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).error_response();
    let described = request.match_pattern().as_deref().and_then(openapi::allowed);
    // The files of the page are not in the document.
    response.headers_mut().insert(header::ALLOW, described.unwrap_or(header::HeaderValue::from_static("GET, HEAD")));
    response
}

fn json_problem(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {BODY_BYTES_MAX} bytes"))
        }
        JsonPayloadError::ContentType => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be JSON, with Content-Type: application/json")
        }
        JsonPayloadError::Deserialize(error) => Problem::bad_request(format!("the body cannot be used: {error}")),
        error => Problem::bad_request(error.to_string()),
    }
}

/// The library's errors do not name the parameter, so the query stands with them.
fn query_problem(error: &QueryPayloadError, query: &str) -> Problem {
    let query: String = query.chars().take(QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect();
    let why = match error {
        QueryPayloadError::Deserialize(error) => error.to_string(),
        error => error.to_string(),
    };
    Problem::bad_request(format!("the query `{query}` cannot be used: {why}"))
}

fn path_problem(error: &PathError) -> Problem {
    match error {
        PathError::Deserialize(error) => Problem::bad_request(format!("the path cannot be used: {error}")),
        error => Problem::bad_request(error.to_string()),
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
