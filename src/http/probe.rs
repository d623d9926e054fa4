//! `/api/v1/probe` and `/api/v1/endpoints/{name}/probe`: whether a master can be followed, step by step. Done on this thread,
//! with connections of its own: the recorder's streams are not touched.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use tokio::sync::Semaphore;

use super::document::{ProbeRequest, Probed};
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::endpoints::ChangeError;
use crate::clock::SystemClock;
use crate::transport::probe::probe;
use crate::transport::{HttpTransport, Target};

/// Probes at a time: each may hold two connections for a minute.
const PROBES_MAX: usize = 8;

static UNDER_WAY: Semaphore = Semaphore::const_new(PROBES_MAX);

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/v1/probe").post(probe_url))
        .service(resource("/api/v1/endpoints/{name}/probe").post(probe_endpoint::<R>));
}

/// Tries an address that need not be an endpoint. What fails is in the answer, whose status is 200.
#[utoipa::path(post, path = "/api/v1/probe", tag = "endpoints", request_body = ProbeRequest, responses(
    (status = 200, body = Probed),
    (status = 422, description = "A value cannot be used", body = Problem, content_type = "application/problem+json"),
))]
async fn probe_url(body: web::Json<ProbeRequest>) -> Answer {
    let target = body.into_inner().check();
    answer(target.map_err(|reason| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason))?, None).await
}

/// Tries an endpoint with its key and its policy. What fails is in the answer, whose status is 200.
#[utoipa::path(post, path = "/api/v1/endpoints/{name}/probe", tag = "endpoints",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = Probed),
        (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
    ))]
async fn probe_endpoint<R: RecorderApi>(recorder: web::Data<R>, name: web::Path<String>) -> Answer {
    let views = recorder.endpoints().await?;
    let view = views.into_iter().find(|view| view.endpoint.name == *name);
    let endpoint = view.ok_or_else(|| ChangeError::NotFound(name.into_inner()))?.endpoint;
    answer(Target { url: endpoint.url, api_key: endpoint.api_key, tls: endpoint.tls }, Some(&endpoint.name)).await
}

async fn answer(target: Target, name: Option<&str>) -> Answer {
    let Ok(_turn) = UNDER_WAY.try_acquire() else {
        let detail = "as many probes as are allowed are under way; try again when one is done";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let steps = probe(&HttpTransport::new(), &target, name, &SystemClock).await;
    Ok(HttpResponse::Ok().json(Probed::from(&*steps)))
}
