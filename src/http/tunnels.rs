//! `/api/v1/tunnels`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::document::Tunnels;
use super::etag;
use super::mirror::{self, Mirror};
use super::paging;
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
    /// How many at most; all, unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the answer before.
    #[param(pattern = "^-?[0-9]+/")]
    cursor: Option<String>,
}

/// All tunnels, by endpoint and instance, or a part of them. At most 100 ms old.
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
    let limit = paging::limit(query.limit)?;
    let after = query.cursor.as_deref().map(paging::tunnel).transpose()?;
    let is_part = query.limit.is_some() || after.is_some();
    mirror.refresh().await?;
    let endpoint = query.endpoint.as_deref();
    mirror.read(|picture| -> Result<HttpResponse, Problem> {
        if let Some(name) = endpoint.filter(|name| picture.endpoint(name).is_none()) {
            return Err(ChangeError::NotFound(name.to_owned()).into());
        }
        let body = || {
            let (page, end) = picture.tunnel_page(endpoint, after.as_ref(), limit);
            let next = paging::next(is_part, end.map(paging::cursor).as_deref());
            format!("{{\"tunnels\":{}{next}}}", mirror::list(page.into_iter()))
        };
        Ok(etag::tagged(&request, &picture.tag(), || body().into()))
    })
}
