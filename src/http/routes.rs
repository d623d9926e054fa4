//! The routes. Each answers JSON, or problem details.

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::Deserialize;

use super::document::{AddEndpoint, ChangeEndpoint, EndpointDocument, Endpoints, Flushed, Health, TunnelDocument, Tunnels};
use super::problem::Problem;
use super::recorder::RecorderApi;
use crate::actors::endpoints::ChangeError;
use crate::endpoint::TlsPolicy;
use crate::status::snapshot::VERSION;
use crate::store::EndpointChange;

/// Longest body of a request. An endpoint's definition has well under a kilobyte.
pub const BODY_BYTES_MAX: usize = 64 << 10;

type Answer = Result<HttpResponse, Problem>;

/// Adds the routes, and extractors that answer problems.
pub fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    let resource = |path: &str| web::resource(path).default_service(web::to(method_not_allowed));
    config
        .app_data(web::JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| json_problem(&error).into()))
        .app_data(web::PayloadConfig::default().limit(BODY_BYTES_MAX))
        .app_data(web::QueryConfig::default().error_handler(|error, _| query_problem(&error).into()))
        .app_data(web::PathConfig::default().error_handler(|error, _| path_problem(&error).into()))
        .service(resource("/healthz").get(healthz))
        .service(resource("/readyz").get(readyz::<R>))
        .service(
            web::scope("/api/v1")
                .service(resource("/stats").get(stats::<R>))
                .service(resource("/endpoints").get(list_endpoints::<R>).post(add_endpoint::<R>))
                .service(
                    resource("/endpoints/{name}")
                        .get(show_endpoint::<R>)
                        .patch(change_endpoint::<R>)
                        .delete(remove_endpoint::<R>),
                )
                .service(resource("/endpoints/{name}/trust").post(trust_endpoint::<R>))
                .service(resource("/tunnels").get(list_tunnels::<R>))
                .service(resource("/flush").post(flush::<R>)),
        )
        .default_service(web::to(not_found));
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok".to_owned(), version: VERSION.to_owned() })
}

async fn readyz<R: RecorderApi>(recorder: web::Data<R>) -> Answer {
    match recorder.ready() {
        Ok(()) => Ok(HttpResponse::Ok().json(serde_json::json!({ "status": "ready" }))),
        Err(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}

async fn stats<R: RecorderApi>(recorder: web::Data<R>) -> HttpResponse {
    HttpResponse::Ok().json(recorder.stats())
}

async fn list_endpoints<R: RecorderApi>(recorder: web::Data<R>) -> Answer {
    let endpoints = recorder.endpoints().await?.iter().map(EndpointDocument::from).collect();
    Ok(HttpResponse::Ok().json(Endpoints { endpoints }))
}

async fn show_endpoint<R: RecorderApi>(recorder: web::Data<R>, name: web::Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(find(&recorder, &name).await?.0))
}

async fn add_endpoint<R: RecorderApi>(recorder: web::Data<R>, body: web::Json<AddEndpoint>) -> Answer {
    let new = body.into_inner().check().map_err(unprocessable)?;
    let name = new.name.clone();
    recorder.add_endpoint(new).await?;
    let (document, _) = find(&recorder, &name).await?;
    Ok(HttpResponse::Created().json(document))
}

async fn change_endpoint<R: RecorderApi>(
    recorder: web::Data<R>,
    name: web::Path<String>,
    body: web::Json<ChangeEndpoint>,
) -> Answer {
    let change = body.into_inner().check().map_err(unprocessable)?;
    recorder.change_endpoint(&name, change).await?;
    Ok(HttpResponse::Ok().json(find(&recorder, &name).await?.0))
}

/// `?purge=true`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    #[serde(default)]
    purge: bool,
}

async fn remove_endpoint<R: RecorderApi>(
    recorder: web::Data<R>,
    name: web::Path<String>,
    removal: web::Query<Removal>,
) -> Answer {
    recorder.remove_endpoint(&name, removal.purge).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Forgets the pinned certificate; the next one that is shown is kept.
async fn trust_endpoint<R: RecorderApi>(recorder: web::Data<R>, name: web::Path<String>) -> Answer {
    let (_, policy) = find(&recorder, &name).await?;
    let tls = Some(trust(&name, &policy).map_err(|reason| Problem::new(StatusCode::CONFLICT, reason))?);
    recorder.change_endpoint(&name, EndpointChange { tls, ..EndpointChange::default() }).await?;
    Ok(HttpResponse::Ok().json(find(&recorder, &name).await?.0))
}

/// What an endpoint's policy becomes when a changed certificate is to be accepted.
///
/// # Errors
/// Why there is nothing to accept.
pub fn trust(name: &str, policy: &TlsPolicy) -> Result<TlsPolicy, String> {
    match policy {
        TlsPolicy::Pin(_) => Ok(TlsPolicy::Pin(None)),
        TlsPolicy::Verify | TlsPolicy::VerifyWith(_) | TlsPolicy::Insecure => Err(format!(
            "`{name}` pins no certificate; `tidegate endpoint set {name} --tls pin` makes it keep the next one it sees"
        )),
    }
}

/// `?endpoint=NAME`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TunnelQuery {
    endpoint: Option<String>,
}

async fn list_tunnels<R: RecorderApi>(recorder: web::Data<R>, query: web::Query<TunnelQuery>) -> Answer {
    if let Some(name) = &query.endpoint {
        find(&recorder, name).await?;
    }
    let wanted = |name: &str| query.endpoint.as_deref().is_none_or(|endpoint| endpoint == name);
    let views = recorder.tunnels().await?;
    let tunnels = views.iter().filter(|view| wanted(&view.endpoint_name)).map(TunnelDocument::from).collect();
    Ok(HttpResponse::Ok().json(Tunnels { tunnels }))
}

async fn flush<R: RecorderApi>(recorder: web::Data<R>) -> HttpResponse {
    let answer = recorder.flush().await;
    let status = if answer.error.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    HttpResponse::build(status).json(Flushed { committed: answer.committed, waiting: answer.waiting, error: answer.error })
}

async fn find<R: RecorderApi>(recorder: &web::Data<R>, name: &str) -> Result<(EndpointDocument, TlsPolicy), Problem> {
    let views = recorder.endpoints().await?;
    let view = views.iter().find(|view| view.endpoint.name == name).ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
    Ok((view.into(), view.endpoint.tls.clone()))
}

async fn not_found(request: HttpRequest) -> Answer {
    Err(Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", request.path())))
}

async fn method_not_allowed(request: HttpRequest) -> HttpResponse {
    let detail = format!("{} is not for {}", request.path(), request.method());
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).error_response();
    let allowed = match request.match_pattern().as_deref() {
        Some("/api/v1/endpoints") => "GET, POST",
        Some("/api/v1/endpoints/{name}") => "GET, PATCH, DELETE",
        Some("/api/v1/endpoints/{name}/trust" | "/api/v1/flush") => "POST",
        _ => "GET",
    };
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    response
}

fn unprocessable(reason: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason)
}

fn json_problem(error: &JsonPayloadError) -> Problem {
    match error {
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {BODY_BYTES_MAX} bytes"))
        }
        JsonPayloadError::ContentType => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be JSON, with Content-Type: application/json")
        }
        error => Problem::bad_request(error.to_string()),
    }
}

fn query_problem(error: &QueryPayloadError) -> Problem {
    Problem::bad_request(error.to_string())
}

fn path_problem(error: &PathError) -> Problem {
    Problem::bad_request(error.to_string())
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
