//! `/api/v1/falls`, `/api/v1/flushes`, `/api/v1/gaps`, `/api/v1/storage` and `/api/v1/export`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::archive::Archive;
use super::etag;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::query::Names;
use crate::query::export::{self, ExportPage, ExportQuery};
use crate::query::falls::{self, FallQuery, Falls};
use crate::query::flushes::{self, FlushPage, FlushQuery};
use crate::query::gaps::{self, GapQuery, Gaps};
use crate::query::storage::Storage;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/v1/falls").get(list_falls::<R>))
        .service(resource("/api/v1/flushes").get(list_flushes))
        .service(resource("/api/v1/gaps").get(list_gaps::<R>))
        .service(resource("/api/v1/storage").get(storage::<R>))
        .service(resource("/api/v1/export").get(export));
}

/// Batches that were committed, newest first, a page at a time.
#[utoipa::path(get, path = "/api/v1/flushes", tag = "archive", params(FlushQuery), responses(
    (status = 200, body = FlushPage),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
))]
async fn list_flushes(request: HttpRequest, archive: web::Data<Archive>, query: web::Query<FlushQuery>) -> Answer {
    let query = query.into_inner();
    etag::json(&request, &archive.read(move |reader| flushes::answer(reader, &query)).await?)
}

/// Counters that fell, newest first, a page at a time: resets, masters that came back with older figures, and what nothing explains.
#[utoipa::path(get, path = "/api/v1/falls", tag = "archive", params(FallQuery), responses(
    (status = 200, body = Falls),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn list_falls<R: RecorderApi>(recorder: web::Data<R>, archive: web::Data<Archive>, query: web::Query<FallQuery>) -> Answer {
    let query = query.into_inner();
    let asked = query.clone();
    let scope =
        archive.read(move |reader| Names::read(reader)?.scope(asked.endpoint.as_deref(), asked.tunnel.as_deref())).await?;
    let (waiting, now, zone) = (recorder.waiting_history(scope).await?, archive.now(), archive.timezone());
    Ok(HttpResponse::Ok().json(archive.read(move |reader| falls::answer(reader, &query, &waiting.falls, now, zone)).await?))
}

/// From when to when nothing is known, newest first, a page at a time, from the database and from the buffer.
#[utoipa::path(get, path = "/api/v1/gaps", tag = "archive", params(GapQuery), responses(
    (status = 200, body = Gaps),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn list_gaps<R: RecorderApi>(
    request: HttpRequest,
    recorder: web::Data<R>,
    archive: web::Data<Archive>,
    query: web::Query<GapQuery>,
) -> Answer {
    let query = query.into_inner();
    let buffered = recorder.buffered(query.wanted()).await?;
    etag::json(&request, &archive.read(move |reader| gaps::answer(reader, &query, &buffered.records)).await?)
}

/// How large the database is, table by table, and how many transactions writing in batches has saved. The database is measured at
/// most once a minute.
#[utoipa::path(get, path = "/api/v1/storage", tag = "archive", responses(
    (status = 200, body = Storage),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
))]
async fn storage<R: RecorderApi>(request: HttpRequest, recorder: web::Data<R>, archive: web::Data<Archive>) -> Answer {
    let stats = recorder.stats();
    let storage = Storage {
        journal_bytes: stats.optimized_storage.journal_bytes,
        per_event_transactions: stats.events.values().sum(),
        write_transactions: stats.optimized_storage.write_transactions,
        ..archive.storage().await?
    };
    etag::json(&request, &storage)
}

/// Events or history as they are stored, in the order of the table's key, a page at a time.
#[utoipa::path(get, path = "/api/v1/export", tag = "archive", params(ExportQuery), responses(
    (status = 200, body = ExportPage),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn export(archive: web::Data<Archive>, query: web::Query<ExportQuery>) -> Answer {
    let (query, now, zone) = (query.into_inner(), archive.now(), archive.timezone());
    Ok(HttpResponse::Ok().json(archive.read(move |reader| export::answer(reader, &query, now, zone)).await?))
}
