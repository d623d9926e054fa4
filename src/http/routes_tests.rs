use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, middleware, test};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::guard::{self, Guard};
use super::super::server;
use super::super::starting::Starting;
use super::*;
use crate::actors::buffer::FlushAnswer;
use crate::actors::endpoints::EndpointView;
use crate::actors::sse_ingest::IngestState;
use crate::config::Token;
use crate::endpoint::{Endpoint, EndpointHealth};
use crate::event::{EndpointId, InstanceId, TunnelKey, TunnelState};
use crate::recorder::TunnelView;
use crate::status::snapshot::Stats;
use crate::store::NewEndpoint;

const KEY: &str = "fa4ec0de000000000000000000000000";

/// A recorder that keeps endpoints in a map and is as well as it is told.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    endpoints: BTreeMap<String, Endpoint>,
    broken: Option<String>,
    purged: Vec<String>,
}

impl RecorderApi for Fake {
    fn stats(&self) -> Stats {
        Stats { mode: "batched".to_owned(), ..Stats::default() }
    }

    fn ready(&self) -> Result<(), String> {
        self.0.lock().unwrap().broken.clone().map_or(Ok(()), Err)
    }

    async fn flush(&self) -> FlushAnswer {
        match self.0.lock().unwrap().broken.clone() {
            None => FlushAnswer { committed: 7, ..FlushAnswer::default() },
            error => FlushAnswer { waiting: 7, error, ..FlushAnswer::default() },
        }
    }

    async fn endpoints(&self) -> Result<Vec<EndpointView>, Problem> {
        let view = |endpoint: &Endpoint| EndpointView {
            endpoint: endpoint.clone(),
            health: EndpointHealth::default(),
            state: IngestState::default(),
            tunnels: 1,
        };
        Ok(self.0.lock().unwrap().endpoints.values().map(view).collect())
    }

    async fn add_endpoint(&self, new: NewEndpoint) -> Result<EndpointId, ChangeError> {
        let mut state = self.0.lock().unwrap();
        if let Some(reason) = &state.broken {
            return Err(ChangeError::Unavailable(reason.clone()));
        }
        if state.endpoints.contains_key(&new.name) {
            return Err(ChangeError::Conflict(format!("the name `{}` is taken", new.name)));
        }
        let NewEndpoint { name, url, api_key, tls, log_events } = new;
        let id = EndpointId(i32::try_from(state.endpoints.len()).unwrap() + 1);
        let endpoint = Endpoint { id, name: name.clone(), url, api_key, tls, paused: false, log_events, master_id: None };
        state.endpoints.insert(name, endpoint);
        Ok(id)
    }

    async fn change_endpoint(&self, name: &str, change: EndpointChange) -> Result<(), ChangeError> {
        let mut state = self.0.lock().unwrap();
        let endpoint = state.endpoints.get_mut(name).ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
        endpoint.url = change.url.unwrap_or(endpoint.url.clone());
        endpoint.api_key = change.api_key.unwrap_or(endpoint.api_key.clone());
        endpoint.tls = change.tls.unwrap_or(endpoint.tls.clone());
        endpoint.paused = change.paused.unwrap_or(endpoint.paused);
        endpoint.log_events = change.log_events.unwrap_or(endpoint.log_events);
        Ok(())
    }

    async fn remove_endpoint(&self, name: &str, purge: bool) -> Result<(), ChangeError> {
        let mut state = self.0.lock().unwrap();
        state.endpoints.remove(name).ok_or_else(|| ChangeError::NotFound(name.to_owned()))?;
        if purge {
            state.purged.push(name.to_owned());
        }
        Ok(())
    }

    async fn tunnels(&self) -> Result<Vec<TunnelView>, Problem> {
        let view = |endpoint: &Endpoint| TunnelView {
            key: TunnelKey { endpoint: endpoint.id, instance: InstanceId::from("9c3209de") },
            state: TunnelState {
                config: Arc::default(),
                sample: crate::event::Sample::default(),
                seen_at: crate::clock::Timestamp(0),
                last_event: crate::id::EventId(1),
            },
            endpoint_name: endpoint.name.clone(),
        };
        Ok(self.0.lock().unwrap().endpoints.values().map(view).collect())
    }
}

/// The app as the server builds it.
fn app<R: RecorderApi>(
    recorder: R,
    token: Option<&str>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + 'static>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let guard = Guard::new(token.and_then(Token::new).as_ref());
    App::new()
        .app_data(web::Data::new(guard))
        .app_data(web::Data::new(recorder))
        .wrap(middleware::from_fn(guard::check))
        .wrap(server::headers("0123456789abcdef"))
        .configure(configure::<R>)
}

/// Sends one request from loopback and gives status, media type and body.
async fn ask<R: RecorderApi>(recorder: &R, method: &str, path: &str, body: Option<Value>) -> (u16, String, Value) {
    let app = test::init_service(app(recorder.clone(), None)).await;
    let mut request =
        test::TestRequest::with_uri(path).method(method.parse().unwrap()).insert_header((header::HOST, "localhost:8686"));
    if let Some(body) = body {
        request = request.set_json(body);
    }
    answer(app.call(request.to_request()).await).await
}

async fn answer<B: MessageBody + 'static>(response: Result<ServiceResponse<B>, actix_web::Error>) -> (u16, String, Value) {
    let response = response.unwrap();
    let status = response.status().as_u16();
    let media_type =
        response.headers().get(header::CONTENT_TYPE).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let body = test::read_body(response).await;
    assert!(!String::from_utf8_lossy(&body).contains(KEY), "a response holds an API key");
    (status, media_type, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn with_endpoint() -> Fake {
    let fake = Fake::default();
    let body = json!({"name": "tokyo", "url": "https://10.0.0.5:9090", "api_key": KEY, "tls": "pin"});
    assert_eq!(ask(&fake, "POST", "/api/v1/endpoints", Some(body)).await.0, 201);
    fake
}

#[actix_rt::test]
async fn an_endpoint_is_added_shown_changed_and_removed() {
    let fake = with_endpoint().await;
    let (status, _, list) = ask(&fake, "GET", "/api/v1/endpoints", None).await;
    assert_eq!((status, &list["endpoints"][0]["name"], &list["endpoints"][0]["tls"]), (200, &json!("tokyo"), &json!("pin")));
    assert_eq!(fake.0.lock().unwrap().endpoints["tokyo"].api_key.reveal(), KEY);

    let change = json!({"url": "http://10.0.0.6:9090/x", "paused": true, "log_events": false, "tls": "verify"});
    let (status, _, shown) = ask(&fake, "PATCH", "/api/v1/endpoints/tokyo", Some(change)).await;
    assert_eq!(status, 200);
    assert_eq!(shown, ask(&fake, "GET", "/api/v1/endpoints/tokyo", None).await.2);
    let expected = (&json!("http://10.0.0.6:9090/x"), &json!(true), &json!(false), &json!("verify"));
    assert_eq!((&shown["url"], &shown["paused"], &shown["log_events"], &shown["tls"]), expected);
    assert_eq!(fake.0.lock().unwrap().endpoints["tokyo"].api_key.reveal(), KEY, "what is absent stays");

    ask(&fake, "PATCH", "/api/v1/endpoints/tokyo", Some(json!({"log_events": null}))).await;
    assert_eq!(fake.0.lock().unwrap().endpoints["tokyo"].log_events, None, "null goes back to the general setting");

    assert_eq!(ask(&fake, "DELETE", "/api/v1/endpoints/tokyo?purge=true", None).await.0, 204);
    assert_eq!(fake.0.lock().unwrap().purged, ["tokyo"]);
    assert_eq!(ask(&fake, "DELETE", "/api/v1/endpoints/tokyo", None).await.0, 404);
}

#[actix_rt::test]
async fn names_of_any_script_find_their_endpoint() {
    let fake = Fake::default();
    ask(&fake, "POST", "/api/v1/endpoints", Some(json!({"name": "東京", "url": "http://10.0.0.5:9090"}))).await;
    assert_eq!(ask(&fake, "GET", "/api/v1/endpoints/%E6%9D%B1%E4%BA%AC", None).await.0, 200);
    assert_eq!(ask(&fake, "GET", "/api/v1/tunnels?endpoint=%E6%9D%B1%E4%BA%AC", None).await.0, 200);
}

#[actix_rt::test]
async fn trust_forgets_the_pin_and_is_refused_where_nothing_is_pinned() {
    let fake = with_endpoint().await;
    let pin = json!({"tls": "pin", "pin": "ab".repeat(32)});
    let (_, _, shown) = ask(&fake, "PATCH", "/api/v1/endpoints/tokyo", Some(pin)).await;
    assert_eq!(shown["pin"], json!("ab".repeat(32)));
    let (status, _, shown) = ask(&fake, "POST", "/api/v1/endpoints/tokyo/trust", None).await;
    assert_eq!((status, &shown["tls"], &shown["pin"]), (200, &json!("pin"), &Value::Null));
    ask(&fake, "PATCH", "/api/v1/endpoints/tokyo", Some(json!({"tls": "insecure"}))).await;
    assert_eq!(ask(&fake, "POST", "/api/v1/endpoints/tokyo/trust", None).await.0, 409);
}

#[actix_rt::test]
async fn every_error_is_a_problem_that_says_what_is_wrong() {
    let fake = with_endpoint().await;
    let taken = json!({"name": "tokyo", "url": "http://h"});
    let large = json!({"name": "x".repeat(BODY_BYTES_MAX), "url": "http://h"});
    for (method, path, body, expected, detail) in [
        ("GET", "/api/v1/nothing", None, 404, "nothing at /api/v1/nothing"),
        ("GET", "/nothing", None, 404, "nothing at"),
        ("PUT", "/api/v1/stats", None, 405, "is not for PUT"),
        ("GET", "/api/v1/endpoints/paris", None, 404, "no endpoint named `paris`"),
        ("GET", "/api/v1/tunnels?endpoint=paris", None, 404, "no endpoint named `paris`"),
        ("GET", "/api/v1/tunnels?colour=red", None, 400, "unknown field"),
        ("POST", "/api/v1/endpoints", Some(taken), 409, "taken"),
        ("POST", "/api/v1/endpoints", None, 415, "application/json"),
        ("POST", "/api/v1/endpoints", Some(large), 413, "bytes"),
        ("POST", "/api/v1/endpoints", Some(json!({"name": "a"})), 400, "missing field `url`"),
        ("POST", "/api/v1/endpoints", Some(json!({"name": "a", "url": "http://h", "port": 1})), 400, "unknown field `port`"),
        (
            "POST",
            "/api/v1/endpoints",
            Some(json!({"name": "a", "url": "http://h", "api_key": 123_456})),
            400,
            "`api_key` is a text",
        ),
        ("POST", "/api/v1/endpoints", Some(json!({"name": "a/b", "url": "http://h"})), 422, "cannot be an endpoint's name"),
        ("POST", "/api/v1/endpoints", Some(json!({"name": "a", "url": "ftp://h"})), 422, "not http or https"),
        ("PATCH", "/api/v1/endpoints/tokyo", Some(json!({"tls": "maybe"})), 422, "`verify`, `pin` or `insecure`"),
        ("DELETE", "/api/v1/endpoints/tokyo?purge=maybe", None, 400, "`true` or `false`"),
    ] {
        let (status, media_type, problem) = ask(&fake, method, path, body).await;
        assert_eq!((status, media_type.as_str()), (expected, "application/problem+json"), "{method} {path}: {problem}");
        assert_eq!(problem["status"], json!(expected));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{method} {path}: {problem}");
        assert!(!problem.to_string().contains("123456"), "{problem}");
    }
}

#[actix_rt::test]
async fn a_flush_that_failed_is_503_with_the_same_document() {
    let fake = Fake::default();
    let (status, _, answer) = ask(&fake, "POST", "/api/v1/flush", None).await;
    assert_eq!((status, answer), (200, json!({"committed": 7, "waiting": 0, "error": null})));
    fake.0.lock().unwrap().broken = Some("the database is locked".to_owned());
    let (status, _, answer) = ask(&fake, "POST", "/api/v1/flush", None).await;
    assert_eq!((status, answer), (503, json!({"committed": 0, "waiting": 7, "error": "the database is locked"})));
}

#[actix_rt::test]
async fn readyz_says_why_not_and_healthz_answers_all_the_same() {
    let fake = Fake::default();
    assert_eq!(ask(&fake, "GET", "/readyz", None).await.0, 200);
    fake.0.lock().unwrap().broken = Some("flush overdue".to_owned());
    let (status, media_type, problem) = ask(&fake, "GET", "/readyz", None).await;
    assert_eq!((status, media_type.as_str(), &problem["detail"]), (503, "application/problem+json", &json!("flush overdue")));
    assert_eq!(ask(&fake, "GET", "/healthz", None).await.0, 200);
}

#[actix_rt::test]
async fn before_the_recorder_has_started_everything_says_what_it_waits_for() {
    let (recorder, started) = watch::channel(None);
    let (waiting, reason) = watch::channel(Some("connection refused".to_owned()));
    let starting = Starting::new(started, reason);
    for path in ["/readyz", "/api/v1/endpoints", "/api/v1/tunnels"] {
        let (status, _, problem) = ask(&starting, "GET", path, None).await;
        assert_eq!(status, 503);
        assert!(problem["detail"].as_str().unwrap().contains("connection refused"), "{problem}");
    }
    assert_eq!(ask(&starting, "GET", "/api/v1/stats", None).await.2["database"]["ok"], json!(false));
    assert_eq!(ask(&starting, "GET", "/healthz", None).await.0, 200);
    recorder.send_replace(Some(with_endpoint().await));
    waiting.send_replace(None);
    assert_eq!(ask(&starting, "GET", "/readyz", None).await.0, 200);
    assert_eq!(ask(&starting, "GET", "/api/v1/endpoints/tokyo", None).await.0, 200);
}

#[actix_rt::test]
async fn the_guard_stands_before_every_route_and_answers_carry_the_headers() {
    let app = test::init_service(app(Fake::default(), Some("right"))).await;
    for path in ["/api/v1/stats", "/api/v1/endpoints", "/", "/nothing"] {
        let request = test::TestRequest::get().uri(path).insert_header((header::HOST, "panel.example")).to_request();
        let response = app.call(request).await;
        assert_eq!(response.as_ref().unwrap().headers().get("tidegate-database").unwrap(), "0123456789abcdef");
        let (status, media_type, _) = answer(response).await;
        assert_eq!((status, media_type.as_str()), (401, "application/problem+json"), "{path}");
    }
    let request = test::TestRequest::get()
        .uri("/api/v1/stats")
        .insert_header((header::HOST, "panel.example"))
        .insert_header((header::AUTHORIZATION, "Bearer right"))
        .to_request();
    let response = app.call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("tidegate-database").unwrap(), "0123456789abcdef");
    assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
}
