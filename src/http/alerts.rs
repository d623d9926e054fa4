//! `/api/v1/alerts`: what is wrong, and whether people can be told.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::document::{AlertDocument, Alerts, AlertsTested, ChannelDocument, ChannelTested, GivenUpDocument};
use super::etag;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::alerts::AlertsState;
use crate::alerts::{Active, Channel, ChannelState, GivenUp};
use crate::clock::Timestamp;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/v1/alerts").get(list_alerts::<R>))
        .service(resource("/api/v1/alerts/test").post(test_alerts::<R>));
}

impl From<&AlertsState> for Alerts {
    fn from(state: &AlertsState) -> Self {
        Self { active: state.active.iter().map(Into::into).collect(), channels: state.channels.iter().map(Into::into).collect() }
    }
}

impl From<&Active> for AlertDocument {
    fn from(Active { condition, since, text }: &Active) -> Self {
        let (endpoint, instance) = condition.subject();
        Self {
            kind: condition.kind().to_owned(),
            endpoint: endpoint.map(str::to_owned),
            instance_id: instance.map(str::to_owned),
            since: since.to_string(),
            text: text.clone(),
        }
    }
}

impl From<&(Channel, ChannelState)> for ChannelDocument {
    fn from((channel, state): &(Channel, ChannelState)) -> Self {
        Self {
            channel: channel.as_str().to_owned(),
            waiting: state.waiting as u64,
            sent: state.sent,
            failures: state.failures,
            given_up: state.given_up,
            last_error: state.last_error.clone(),
            last_sent: state.last_sent.as_ref().map(Timestamp::to_string),
            last_given_up: state.last_given_up.iter().map(Into::into).collect(),
        }
    }
}

impl From<&GivenUp> for GivenUpDocument {
    fn from(GivenUp { time, title, reason }: &GivenUp) -> Self {
        Self { time: time.to_string(), title: title.clone(), reason: reason.clone() }
    }
}

/// What was found wrong and is not over, and how the channels do.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", responses(
    (status = 200, body = Alerts),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
))]
async fn list_alerts<R: RecorderApi>(request: HttpRequest, recorder: web::Data<R>) -> Answer {
    etag::json(&request, &Alerts::from(&recorder.alerts()))
}

/// Sends a test message on every channel, now, without the queue. What failed is in the answer, whose status is 200.
#[utoipa::path(post, path = "/api/v1/alerts/test", tag = "alerts", responses(
    (status = 200, body = AlertsTested),
    (status = 409, description = "No channel is configured", body = Problem, content_type = "application/problem+json"),
))]
async fn test_alerts<R: RecorderApi>(recorder: web::Data<R>) -> Answer {
    let sent = recorder.test_alerts().await?;
    if sent.is_empty() {
        let detail = "no channel is configured; set alerts.webhook_url, or alerts.telegram_token and alerts.telegram_chat";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let channels = sent.into_iter().map(|(channel, result)| ChannelTested {
        channel: channel.as_str().to_owned(),
        ok: result.is_ok(),
        error: result.err(),
    });
    Ok(HttpResponse::Ok().json(AlertsTested { channels: channels.collect() }))
}
