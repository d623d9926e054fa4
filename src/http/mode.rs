//! `/api/v1/mode`.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::etag;
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::routes::{Answer, resource};
use crate::actors::realtime::Switch;
use crate::modes::StorageMode;
use crate::modes::report::ModeReport;

pub(super) fn configure<R: RecorderApi>(config: &mut web::ServiceConfig) {
    config.service(resource("/api/v1/mode").get(show_mode::<R>).post(change_mode::<R>));
}

/// Body of `POST /api/v1/mode`: what is absent stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeMode {
    /// `realtime`, `dual` or `batched`.
    #[schema(pattern = "^(realtime|dual|batched)$")]
    mode: Option<String>,
    /// Keys that may change while the recorder runs, with their values as text; an empty one goes back to the configuration.
    #[serde(default)]
    #[schema(value_type = TunedKeys)]
    set: BTreeMap<String, String>,
}

/// The keys of [`Tuning`](crate::config::Tuning); a test holds them against it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the description of a map that is judged key by key")]
pub(super) struct TunedKeys {
    /// Events at which a batch is cut.
    #[schema(rename = "storage.max_buffer_size")]
    max_buffer_size: Option<String>,
    /// Rows per statement.
    #[schema(rename = "storage.batch_size")]
    batch_size: Option<String>,
    /// Longest wait of an event.
    #[schema(rename = "storage.flush_interval")]
    flush_interval: Option<String>,
    /// How often changes of live state are written.
    #[schema(rename = "cache.sync_interval")]
    sync_interval: Option<String>,
}

impl ChangeMode {
    fn check(self) -> Result<Switch, Problem> {
        let mode = self.mode.map(|name| name.parse::<StorageMode>().map_err(Problem::bad_request));
        Ok(Switch { mode: mode.transpose()?, set: self.set })
    }
}

/// How events reach the database, what each mode cost, and whether it is safe to go on to `batched`.
#[utoipa::path(get, path = "/api/v1/mode", tag = "state", responses(
    (status = 200, body = ModeReport),
    (status = 304, description = "As the `ETag` in `If-None-Match` says"),
))]
pub(super) async fn show_mode<R: RecorderApi>(request: HttpRequest, recorder: web::Data<R>) -> Answer {
    etag::json(&request, &recorder.mode_report()?)
}

/// Changes the mode, or keys that may change while the recorder runs. It is in effect when the answer comes; `not_kept` says
/// if it would not survive a restart yet.
#[utoipa::path(post, path = "/api/v1/mode", tag = "state", request_body = ChangeMode,
    responses((status = 200, body = ModeReport)))]
pub(super) async fn change_mode<R: RecorderApi>(recorder: web::Data<R>, body: web::Json<ChangeMode>) -> Answer {
    recorder.switch_mode(body.into_inner().check()?).await?;
    Ok(HttpResponse::Ok().json(recorder.mode_report()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fake::{Fake, ask};

    #[actix_web::test]
    async fn a_mode_is_shown_and_changed_and_a_wrong_one_is_told_so() {
        let fake = Fake::default();
        assert_eq!(ask(&fake, "GET", "/api/v1/mode", None).await.2["mode"], "batched");
        let body = json!({"mode": "dual", "set": {"storage.max_buffer_size": "500"}});
        let (status, _, report) = ask(&fake, "POST", "/api/v1/mode", Some(body)).await;
        assert_eq!(
            (status, &report["mode"], &report["settings"]["storage.max_buffer_size"]["value"]),
            (200, &json!("dual"), &json!("500"))
        );
        for (wrong, words) in [
            (json!({"mode": "fast"}), "there is no mode `fast`"),
            (json!({"set": {"storage.max_buffer_size": "0"}}), "a whole number from 1"),
            (json!({"set": {"journal.max_bytes": "1 GiB"}}), "cannot change while the recorder runs"),
            (json!({"modus": "dual"}), "modus"),
        ] {
            let (status, _, problem) = ask(&fake, "POST", "/api/v1/mode", Some(wrong.clone())).await;
            assert!(status == 400 && problem["detail"].as_str().unwrap().contains(words), "{wrong}: {status} {problem}");
        }
    }
}
