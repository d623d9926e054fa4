//! `/api/v1/history` and `/api/v1/traffic`.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::archive::Archive;
use super::etag;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::endpoints::EndpointView;
use crate::clock::Timestamp;
use crate::endpoint::EndpointStatus;
use crate::event::Record;
use crate::query::buffered::{Wanted, What};
use crate::query::heard::Live;
use crate::query::history::{self, History, HistoryQuery, HistoryQuestion};
use crate::query::traffic::{self, Billing, Traffic, TrafficQuery};
use crate::query::{Names, Scope};

/// How often the recorder is asked anew when what waited was committed before the database was read. Commits of history are
/// minutes apart: a second time is rare, a fifth one is a fault.
const TRIES: u32 = 5;
/// Gaps that are taken from the buffer for a chart, the newest.
const BUFFERED_GAPS_MAX: usize = 10_000;

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
    let question = question.with_live(live(recorder.get_ref()).await?);
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

/// Until when each endpoint was heard, and the gaps that are not stored yet. It is asked before the database, so that no gap is in neither.
async fn live<R: RecorderApi>(recorder: &R) -> Result<Live, Problem> {
    // A gap that ends between the two questions is then among the gaps.
    let views = recorder.endpoints().await?;
    let buffered = recorder.buffered(Wanted::newest(What::Gaps, BUFFERED_GAPS_MAX)).await?;
    let gaps = buffered.records.into_iter().filter_map(|record| match record {
        Record::Gap(gap) => Some(gap),
        Record::Event(_) => None,
    });
    let until = |view: EndpointView| {
        let connected = view.health.status == EndpointStatus::Online;
        let until = if connected { Timestamp(i64::MAX) } else { view.health.last_heard.unwrap_or_default() };
        (view.endpoint.id, until)
    };
    Ok(Live { until: views.into_iter().filter(|view| !view.endpoint.paused).map(until).collect(), gaps: gaps.collect() })
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
    let (now, billing) = (archive.now(), Billing { timezone: archive.timezone(), start_day: archive.billing_start_day() });
    let asked = query.clone();
    let scope: Scope = archive.read(move |reader| traffic::scope(&asked, &Names::read(reader)?)).await?;
    for _ in 0..TRIES {
        let (query, waiting) = (query.clone(), recorder.waiting_history(scope.clone()).await?);
        if let Some(sums) = archive.read(move |reader| traffic::answer(reader, &query, &waiting, now, billing)).await? {
            return etag::json(&request, &sums);
        }
    }
    Err(never_still())
}

fn never_still() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "history was committed again and again while it was read; ask once more")
}
