//! `/api/v1/flush`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::document::Flushed;
use super::recorder::RecorderApi;
use super::routes::resource;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/flush").post(flush::<R>));
}

/// Writes what is buffered to the database, now. The answer comes when it is committed, or with the first failure.
#[utoipa::path(post, path = "/api/v1/flush", tag = "state", responses(
    (status = 200, description = "All is committed", body = Flushed),
    (status = 503, description = "It waits in the journal, and why", body = Flushed),
))]
async fn flush<R: RecorderApi>(recorder: web::Data<R>) -> HttpResponse {
    let answer = recorder.flush().await;
    let status = if answer.error.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    HttpResponse::build(status).json(Flushed { committed: answer.committed, waiting: answer.waiting, error: answer.error })
}
