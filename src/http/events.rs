//! `/api/v1/events`.

use actix_web::{HttpResponse, web};

use super::archive::Archive;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::query::events::{self, EventQuery, EventQuestion, Events};

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/events").get(list_events::<R>));
}

/// Events newest first, a page at a time, from the database and from the buffer. With a filter a page looks at a bounded number
/// of rows: it may hold fewer events than asked for, even none, while `next` is not null.
#[utoipa::path(get, path = "/api/v1/events", tag = "archive", params(EventQuery), responses(
    (status = 200, body = Events),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn list_events<R: RecorderApi>(
    recorder: web::Data<R>,
    archive: web::Data<Archive>,
    query: web::Query<EventQuery>,
) -> Answer {
    let question = EventQuestion::new(query.into_inner(), archive.now(), archive.timezone())?;
    // First what is in memory: what is committed meanwhile is then seen twice and not missed.
    let buffered = recorder.buffered(question.wanted()).await?;
    let events = archive.read(move |reader| events::answer(reader, &question, &buffered)).await?;
    Ok(HttpResponse::Ok().json(events))
}
