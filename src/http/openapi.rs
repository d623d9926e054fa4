//! The description of the API, made from the annotations of the routes. A test holds it against the routes that actix-web
//! knows of, and against what they answer.

use std::sync::LazyLock;

use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use super::etag;
use super::problem::{self, Problem};
use super::routes::resource;
use super::{
    alerts, endpoints, events, flush, health, history, login, metrics, mode, page, probe, stats, stored, stream, tunnels,
};
use crate::query::export::Export;
use crate::query::traffic::{By, PeriodName};

/// What is described. A route that is missing here fails a test.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(description = "The HTTP interface of a recorder. Errors are problem details (RFC 9457). An unknown query parameter is an \
                        error. Whatever answers GET answers HEAD alike, without the body."),
    paths(
        health::healthz,
        health::readyz,
        stats::stats,
        endpoints::list_endpoints,
        endpoints::add_endpoint,
        endpoints::show_endpoint,
        endpoints::change_endpoint,
        endpoints::remove_endpoint,
        endpoints::trust_endpoint,
        probe::probe_endpoint,
        probe::probe_url,
        tunnels::list_tunnels,
        stream::stream,
        metrics::metrics,
        alerts::list_alerts,
        alerts::test_alerts,
        flush::flush,
        mode::show_mode,
        mode::change_mode,
        events::list_events,
        history::chart,
        history::sums,
        stored::export,
        stored::list_falls,
        stored::list_flushes,
        stored::list_gaps,
        stored::storage,
        page::login_form,
        login::log_in,
        login::log_out,
        openapi,
    ),
    // All but the first are named by parameters alone, of which utoipa does not make components by itself.
    components(schemas(Problem, By, PeriodName, Export)),
    modifiers(&EveryRoute)
)]
struct Described;

/// Problems that any operation may answer, by status: what is refused is refused before the route is asked.
const ANY_OPERATION: &[(&str, &str, &str)] = &[
    ("400", "BadRequest", "The request cannot be understood; the detail says why"),
    ("401", "Unauthorized", "`http.token` is set, and this request does not know it"),
    ("403", "Forbidden", "Sent by a foreign page, or to a name that is not this machine's"),
    ("429", "TooMany", "Too many wrong tokens came from this address; `Retry-After` says how long to wait"),
    ("503", "Unavailable", "The recorder waits for its database, or stops"),
];
/// And one that is open to all: its query is looked at too.
const OPEN_OPERATION: &[(&str, &str, &str)] = ANY_OPERATION.split_at(1).0;
/// Problems that an operation with a body may answer.
const ANY_BODY: &[(&str, &str, &str)] =
    &[("413", "TooLarge", "The body is too long"), ("415", "NotJson", "The body is not said to be JSON")];

/// Adds what the annotations need not repeat: who may ask, and the problems of every operation.
struct EveryRoute;

impl Modify for EveryRoute {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        for (_, name, description) in ANY_OPERATION.iter().chain(ANY_BODY) {
            components.responses.insert((*name).to_owned(), problem_response(description).into());
        }
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("`http.token`, where it is set")).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        for operation in document.paths.paths.values_mut().flat_map(operations_of) {
            describe_success(operation);
            if operation.security.is_none() {
                operation.security = Some(vec![SecurityRequirement::new::<_, _, &str>("token", [])]);
                add_problems(operation, ANY_OPERATION);
            } else {
                add_problems(operation, OPEN_OPERATION);
            }
            if operation.request_body.is_some() {
                add_problems(operation, ANY_BODY);
            }
        }
    }
}

/// A response must have a description. What succeeds is what the operation is for.
fn describe_success(operation: &mut Operation) {
    let summary = operation.summary.clone().unwrap_or_default();
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description.clone_from(&summary);
        }
    }
}

fn add_problems(operation: &mut Operation, problems: &[(&str, &str, &str)]) {
    for (status, name, _) in problems {
        let response = || RefOr::Ref(Ref::from_response_name(*name));
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(response);
    }
}

fn problem_response(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content(problem::MEDIA_TYPE, content).build()
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    [get, post, put, patch, delete].into_iter().flatten()
}

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(Described::openapi);
static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_json().expect("a document of plain values can be written"));

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/openapi.json").get(openapi));
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "health",
    responses(
        (status = 200, body = Object, content_type = "application/json"),
        (status = 304, description = "As the `ETag` in `If-None-Match` says"),
    ))]
async fn openapi(request: HttpRequest) -> HttpResponse {
    etag::hashed(&request, Bytes::from_static(TEXT.as_bytes()))
}

/// Names of the query parameters of an operation, by the route's pattern; `None` if there is no such operation.
pub(super) fn parameters(pattern: &str, method: &Method) -> Option<Vec<&'static str>> {
    let PathItem { get, post, put, patch, delete, .. } = DOCUMENT.paths.paths.get(pattern)?;
    let operation = match *method {
        Method::GET => get,
        Method::POST => post,
        Method::PUT => put,
        Method::PATCH => patch,
        Method::DELETE => delete,
        _ => &None,
    };
    let names = operation.as_ref()?.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.as_str()),
        _ => None,
    });
    Some(names.collect())
}

/// The value of `Allow` for a route, by its pattern.
pub(super) fn allowed(pattern: &str) -> Option<HeaderValue> {
    let PathItem { get, post, put, patch, delete, .. } = DOCUMENT.paths.paths.get(pattern)?;
    // What answers GET answers HEAD.
    let methods = [("GET", get), ("HEAD", get), ("POST", post), ("PUT", put), ("PATCH", patch), ("DELETE", delete)];
    let methods: Vec<&str> = methods.iter().filter(|(_, operation)| operation.is_some()).map(|(name, _)| *name).collect();
    HeaderValue::from_str(&methods.join(", ")).ok()
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
