//! `/api/v1/stats`.

use actix_web::{HttpResponse, web};

use super::recorder::RecorderApi;
use super::routes::resource;
use crate::status::snapshot::Stats;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/stats").get(stats::<R>));
}

/// What the recorder does: buffer, flushes, journal, endpoints, database. Answers also while it waits for its database.
#[utoipa::path(get, path = "/api/v1/stats", tag = "state", responses((status = 200, body = Stats)))]
async fn stats<R: RecorderApi>(recorder: web::Data<R>) -> HttpResponse {
    HttpResponse::Ok().json(recorder.stats())
}
