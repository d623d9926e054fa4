//! `/api/v1/tunnels`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::document::Tunnels;
use super::etag;
use super::mirror::{self, Mirror};
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::endpoints::ChangeError;

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

/// All tunnels, by endpoint and instance. At most 100 ms old.
#[utoipa::path(get, path = "/api/v1/tunnels", tag = "state", params(TunnelQuery), responses(
    (status = 200, body = Tunnels),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
    (status = 404, description = "No such endpoint", body = Problem, content_type = "application/problem+json"),
))]
async fn list_tunnels<R: RecorderApi>(
    request: HttpRequest,
    mirror: web::Data<Mirror<R>>,
    query: web::Query<TunnelQuery>,
) -> Answer {
    mirror.refresh().await?;
    let endpoint = query.endpoint.as_deref();
    mirror.read(|picture| -> Result<HttpResponse, Problem> {
        if let Some(name) = endpoint.filter(|name| picture.endpoint(name).is_none()) {
            return Err(ChangeError::NotFound(name.to_owned()).into());
        }
        let body = || format!("{{\"tunnels\":{}}}", mirror::list(picture.tunnels_after(0, endpoint, None)));
        Ok(etag::tagged(&request, &picture.tag(), || body().into()))
    })
}
