//! One rule for the query parameters of all routes: one that the OpenAPI document does not name is refused, since whoever
//! misspells one would else get another answer than the one asked for and not know.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};

use super::openapi;
use super::problem::Problem;

/// The middleware. Inside of the guard: who may not ask is not told what could be asked. The page's files, which are not in
/// the document, may be asked for with anything.
///
/// # Errors
/// As the services behind it.
pub async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match unknown(&request) {
        None => Ok(next.call(request).await?.map_into_left_body()),
        Some(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}

fn unknown(request: &ServiceRequest) -> Option<Problem> {
    let query = request.query_string();
    if query.is_empty() {
        return None;
    }
    let known = openapi::parameters(&request.match_pattern()?, request.method())?;
    let given = url::form_urlencoded::parse(query.as_bytes());
    let unknown = given.map(|(name, _)| name).find(|name| !known.contains(&&**name))?;
    let taken = if known.is_empty() { "none is known".to_owned() } else { format!("known are {}", known.join(", ")) };
    Some(Problem::bad_request(format!("there is no parameter `{}` here; {taken}", unknown.escape_debug())))
}
