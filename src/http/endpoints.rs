//! `/api/v1/endpoints`: masters are listed, added, changed and removed. API keys go in and never come out.

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::document::{AddEndpoint, ChangeEndpoint, EndpointDocument, Endpoints};
use super::etag;
use super::mirror::{self, Mirror};
use super::paging;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::endpoints::ChangeError;
use crate::endpoint::TlsPolicy;
use crate::store::EndpointChange;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/v1/endpoints").get(list_endpoints::<R>).post(add_endpoint::<R>))
        .service(
            resource("/api/v1/endpoints/{name}").get(show_endpoint::<R>).patch(change_endpoint::<R>).delete(remove_endpoint::<R>),
        )
        .service(resource("/api/v1/endpoints/{name}/trust").post(trust_endpoint::<R>));
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EndpointQuery {
    /// How many at most; all, unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the answer before.
    cursor: Option<String>,
}

/// All endpoints, by name, or a part of them. At most 100 ms old.
#[utoipa::path(get, path = "/api/v1/endpoints", tag = "endpoints", params(EndpointQuery), responses(
    (status = 200, body = Endpoints),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
))]
async fn list_endpoints<R: RecorderApi>(
    request: HttpRequest,
    mirror: web::Data<Mirror<R>>,
    query: web::Query<EndpointQuery>,
) -> Answer {
    let limit = paging::limit(query.limit)?;
    let after = query.cursor.as_deref();
    mirror.refresh().await?;
    Ok(mirror.read(|picture| {
        let body = || {
            let (page, end) = picture.endpoint_page(after, limit);
            let next = paging::next(query.limit.is_some() || after.is_some(), end);
            format!("{{\"endpoints\":{}{next}}}", mirror::list(page.into_iter()))
        };
        etag::tagged(&request, &picture.tag(), || body().into())
    }))
}

/// One endpoint.
#[utoipa::path(get, path = "/api/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = EndpointDocument),
        (status = 304, description = "As the `ETag` in `If-None-Match` says"),
        (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
    ))]
async fn show_endpoint<R: RecorderApi>(request: HttpRequest, mirror: web::Data<Mirror<R>>, name: web::Path<String>) -> Answer {
    mirror.refresh().await?;
    Ok(etag::hashed(&request, shown(&mirror, &name)?))
}

/// The document of an endpoint in the mirror.
fn shown<R: RecorderApi>(mirror: &Mirror<R>, name: &str) -> Result<Bytes, Problem> {
    let found = mirror.read(|picture| picture.endpoint(name).map(|text| Bytes::copy_from_slice(text.as_bytes())));
    found.ok_or_else(|| ChangeError::NotFound(name.to_owned()).into())
}

/// The document of an endpoint that was just changed.
async fn changed<R: RecorderApi>(mirror: &Mirror<R>, name: &str, status: StatusCode) -> Answer {
    mirror.refresh_now().await?;
    Ok(HttpResponse::build(status).insert_header(ContentType::json()).body(shown(mirror, name)?))
}

/// Follows a new master. The answer comes when it is stored and being connected to.
#[utoipa::path(post, path = "/api/v1/endpoints", tag = "endpoints", request_body = AddEndpoint, responses(
    (status = 201, body = EndpointDocument),
    (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "A value cannot be used", body = Problem, content_type = "application/problem+json"),
))]
async fn add_endpoint<R: RecorderApi>(
    recorder: web::Data<R>,
    mirror: web::Data<Mirror<R>>,
    body: web::Json<AddEndpoint>,
) -> Answer {
    let new = body.into_inner().check().map_err(unprocessable)?;
    let name = new.name.clone();
    recorder.add_endpoint(new).await?;
    changed(&mirror, &name, StatusCode::CREATED).await
}

/// Changes an endpoint: what is absent stays. It is in effect when the answer comes.
#[utoipa::path(patch, path = "/api/v1/endpoints/{name}", tag = "endpoints", request_body = ChangeEndpoint,
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = EndpointDocument),
        (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "What is stored forbids it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value cannot be used", body = Problem, content_type = "application/problem+json"),
    ))]
async fn change_endpoint<R: RecorderApi>(
    recorder: web::Data<R>,
    mirror: web::Data<Mirror<R>>,
    name: web::Path<String>,
    body: web::Json<ChangeEndpoint>,
) -> Answer {
    let change = body.into_inner().check().map_err(unprocessable)?;
    recorder.change_endpoint(&name, change).await?;
    changed(&mirror, &name, StatusCode::OK).await
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Removal {
    /// Delete its events and history too.
    #[serde(default)]
    #[param(required = false)]
    purge: bool,
}

/// Stops following a master; what it sent is stored first.
#[utoipa::path(delete, path = "/api/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path, description = "Its name"), Removal),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
    ))]
async fn remove_endpoint<R: RecorderApi>(
    recorder: web::Data<R>,
    mirror: web::Data<Mirror<R>>,
    name: web::Path<String>,
    removal: web::Query<Removal>,
) -> Answer {
    recorder.remove_endpoint(&name, removal.purge).await?;
    // It is removed, whether that can be seen at once or not.
    let _ = mirror.refresh_now().await;
    Ok(HttpResponse::NoContent().finish())
}

/// Forgets the pinned certificate; the next one that is shown is kept.
#[utoipa::path(post, path = "/api/v1/endpoints/{name}/trust", tag = "endpoints",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = EndpointDocument),
        (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It pins nothing", body = Problem, content_type = "application/problem+json"),
    ))]
async fn trust_endpoint<R: RecorderApi>(recorder: web::Data<R>, mirror: web::Data<Mirror<R>>, name: web::Path<String>) -> Answer {
    let views = recorder.endpoints().await?;
    let view = views.iter().find(|view| view.endpoint.name == *name).ok_or_else(|| ChangeError::NotFound(name.clone()))?;
    let tls = Some(trust(&name, &view.endpoint.tls).map_err(|reason| Problem::new(StatusCode::CONFLICT, reason))?);
    recorder.change_endpoint(&name, EndpointChange { tls, ..EndpointChange::default() }).await?;
    changed(&mirror, &name, StatusCode::OK).await
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

fn unprocessable(reason: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason)
}
