//! `/healthz` and `/readyz`: is the process there, and does what matters work. Both are open to everyone.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::document::{Health, Ready};
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::status::snapshot::VERSION;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/healthz").get(healthz)).service(resource("/readyz").get(readyz::<R>));
}

/// Whether the process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok".to_owned(), version: VERSION.to_owned() })
}

/// Whether database and journal work and no flush is overdue.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, body = Ready),
    (status = 503, description = "The reason", body = Problem, content_type = "application/problem+json"),
))]
async fn readyz<R: RecorderApi>(recorder: web::Data<R>) -> Answer {
    match recorder.ready() {
        Ok(()) => Ok(HttpResponse::Ok().json(Ready { status: "ready".to_owned() })),
        Err(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}
