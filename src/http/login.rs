//! `/login` and `/logout`: a browser gives the token once and gets a session's cookie. The form itself is a page.

use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::error::UrlencodedError;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::guard::{Guard, Refusal, seconds_up};
use super::problem::Problem;
use super::routes::{Answer, resource};
use super::session;

/// Longest body: a token has 256 characters at most, each of which may take three in a form.
const FORM_BYTES_MAX: usize = 1_024;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    let form = web::FormConfig::default().limit(FORM_BYTES_MAX).error_handler(|error, _| form_problem(&error).into());
    config.service(resource("/login").app_data(form).post(log_in)).service(resource("/logout").post(log_out));
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// `http.token`.
    #[schema(write_only)]
    token: String,
}

/// Begins a session. `Location` is `/` with the session's cookie; with a wrong token it is `/login?failed=1`, and while too
/// many wrong ones came from the same address `/login?failed=1&wait=SECONDS`.
#[utoipa::path(post, path = "/login", tag = "session", security(()),
    request_body(content = Login, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "See `Location`", headers(("location" = String), ("set-cookie" = String))),
        (status = 400, description = "Not the form", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Sent by a foreign page", body = Problem, content_type = "application/problem+json"),
    ))]
async fn log_in(request: HttpRequest, guard: web::Data<Guard>, form: web::Form<Login>) -> Answer {
    let peer = request.peer_addr().map(|peer| peer.ip());
    match guard.log_in(form.token.trim(), peer) {
        Ok(None) => Ok(go_to("/").finish()),
        Ok(Some(session)) => {
            let mut session = of_this_site(session, &request);
            session.set_max_age(in_browser(session::LENGTH_MAX));
            Ok(go_to("/").cookie(session).finish())
        }
        Err(Refusal::Wait(wait)) => Ok(go_to(&format!("/login?failed=1&wait={}", seconds_up(wait))).finish()),
        Err(Refusal::Problem(problem)) if problem.status >= 500 => Err(problem),
        Err(Refusal::Problem(_) | Refusal::LogIn) => Ok(go_to("/login?failed=1").finish()),
    }
}

/// Ends the session.
#[utoipa::path(post, path = "/logout", tag = "session", responses(
    (status = 303, description = "To `/login`", headers(("location" = String), ("set-cookie" = String))),
))]
async fn log_out(request: HttpRequest, guard: web::Data<Guard>) -> HttpResponse {
    let mut cookie = of_this_site(guard.log_out(request.headers()), &request);
    cookie.make_removal();
    go_to("/login").cookie(cookie).finish()
}

fn go_to(place: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::SeeOther();
    response.insert_header((header::LOCATION, place));
    response
}

/// Not readable by scripts, not sent by other sites. Over https only where the request came by it: a proxy in front says so
/// in `X-Forwarded-Proto`. Who forges that header gets a cookie that is sent less often, and nothing else.
fn of_this_site(mut cookie: Cookie<'static>, request: &HttpRequest) -> Cookie<'static> {
    cookie.set_path("/");
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Strict);
    let by_https = request.headers().get(header::X_FORWARDED_PROTO).is_some_and(|value| value == "https");
    cookie.set_secure(by_https);
    cookie
}

fn in_browser(length: Duration) -> actix_web::cookie::time::Duration {
    actix_web::cookie::time::Duration::seconds(i64::try_from(length.as_secs()).unwrap_or(i64::MAX))
}

fn form_problem(error: &UrlencodedError) -> Problem {
    // The library's own words could repeat what was sent.
    let detail = match error {
        UrlencodedError::Overflow { .. } => "the form is too long",
        _ => "send a form with the one field `token`, as application/x-www-form-urlencoded",
    };
    Problem::bad_request(detail)
}
