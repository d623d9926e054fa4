//! `/api/v1/history` and `/api/v1/traffic`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::archive::Archive;
use super::etag;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::query::calendar::Periods;
use crate::query::history::{self, History, HistoryQuery, HistoryQuestion};
use crate::query::traffic::{self, Traffic, TrafficQuery};
use crate::query::{Names, Scope};

/// How often the recorder is asked anew when what waited was committed before the database was read. Commits of history are
/// minutes apart: a second time is rare, a fifth one is a fault.
const TRIES: u32 = 5;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/history").get(chart::<R>)).service(resource("/api/v1/traffic").get(sums::<R>));
}

/// The chart of a tunnel, an endpoint or the fleet: one value for each step of the range, null where nothing is known.
#[utoipa::path(get, path = "/api/v1/history", tag = "archive", params(HistoryQuery), responses(
    (status = 200, body = History),
    (status = 404, description = "No such endpoint or tunnel", body = Problem, content_type = "application/problem+json"),
))]
async fn chart<R: RecorderApi>(recorder: web::Data<R>, archive: web::Data<Archive>, query: web::Query<HistoryQuery>) -> Answer {
    let question = HistoryQuestion::new(query.into_inner(), archive.now(), archive.timezone(), archive.retention())?;
    let asked = question.clone();
    let scope = archive.read(move |reader| asked.scope(&Names::read(reader)?)).await?;
    for _ in 0..TRIES {
        let (question, waiting) = (question.clone(), recorder.waiting_history(scope.clone()).await?);
        if let Some(chart) = archive.read(move |reader| history::answer(reader, &question, &waiting)).await? {
            return Ok(HttpResponse::Ok().json(chart));
        }
    }
    Err(never_still())
}

/// What was moved today, this month and in this billing cycle.
#[utoipa::path(get, path = "/api/v1/traffic", tag = "archive", params(TrafficQuery), responses(
    (status = 200, body = Traffic),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn sums<R: RecorderApi>(
    request: HttpRequest,
    recorder: web::Data<R>,
    archive: web::Data<Archive>,
    query: web::Query<TrafficQuery>,
) -> Answer {
    let query = query.into_inner();
    let zone = archive.timezone();
    let periods = Periods::at(archive.now(), zone, archive.billing_start_day());
    let asked = query.clone();
    let scope: Scope = archive.read(move |reader| traffic::scope(&asked, &Names::read(reader)?)).await?;
    for _ in 0..TRIES {
        let (query, waiting) = (query.clone(), recorder.waiting_history(scope.clone()).await?);
        if let Some(sums) = archive.read(move |reader| traffic::answer(reader, &query, &waiting, &periods, zone)).await? {
            return etag::json(&request, &sums);
        }
    }
    Err(never_still())
}

fn never_still() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "history was committed again and again while it was read; ask once more")
}
