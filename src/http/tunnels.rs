//! `/api/v1/tunnels`.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::document::{TunnelDocument, Tunnels};
use super::endpoints::find;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/tunnels").get(list_tunnels::<R>));
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TunnelQuery {
    /// Only the tunnels of this endpoint.
    endpoint: Option<String>,
}

/// All tunnels, by endpoint and instance.
#[utoipa::path(get, path = "/api/v1/tunnels", tag = "state", params(TunnelQuery), responses(
    (status = 200, body = Tunnels),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn list_tunnels<R: RecorderApi>(recorder: web::Data<R>, query: web::Query<TunnelQuery>) -> Answer {
    if let Some(name) = &query.endpoint {
        find(&recorder, name).await?;
    }
    let wanted = |name: &str| query.endpoint.as_deref().is_none_or(|endpoint| endpoint == name);
    let views = recorder.tunnels().await?;
    let tunnels = views.iter().filter(|view| wanted(&view.endpoint_name)).map(TunnelDocument::from).collect();
    Ok(HttpResponse::Ok().json(Tunnels { tunnels }))
}
