//! Requests to the app as the server builds it, for the tests of the routes.

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::{App, test, web};
use serde_json::{Value, json};

use super::archive::Archive;
use super::guard::Guard;
use super::recorder::RecorderApi;
use super::server;
use crate::clock::SystemClock;
use crate::config::{Config, Sources, Token};
use crate::store::DieselStore;

#[path = "../../tests/common/fake.rs"]
mod recorder;

pub(super) use recorder::Fake;

/// What the app says that it is.
pub(super) const IDENTITY: &str = "0123456789abcdef";
/// The API key of the fake's endpoint; no answer may hold it.
pub(super) const KEY: &str = "fa4ec0de000000000000000000000000";

thread_local! {
    /// The directory of the test's database; it goes with the test's thread.
    static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap();
}

/// The configuration of a database that may have been made by [`store`].
pub(super) fn config() -> Config {
    let path = DIRECTORY.with(|directory| directory.path().join("t.db"));
    let database_url = Some(format!("sqlite:{}", path.display()));
    Config::load(&Sources { database_url, ..Sources::default() }).unwrap()
}

/// The test's database for writing.
pub(super) fn store() -> DieselStore {
    DieselStore::open(&config().database, 100, Arc::new(SystemClock)).unwrap()
}

fn archive() -> Archive {
    Archive::new(&config())
}

/// The app as the server builds it.
pub(super) fn app<R: RecorderApi>(
    recorder: R,
    token: Option<&str>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + 'static + use<R>>,
        Error = actix_web::Error,
        InitError = (),
    > + use<R>,
> {
    let guard = web::Data::new(Guard::new(token.and_then(Token::new).as_ref(), IDENTITY, Arc::new(SystemClock)));
    server::app(&guard, recorder, &archive(), Arc::new(SystemClock), IDENTITY)
}

/// Sends one request from loopback and gives status, media type and body.
pub(super) async fn ask<R: RecorderApi>(recorder: &R, method: &str, path: &str, body: Option<Value>) -> (u16, String, Value) {
    let app = test::init_service(app(recorder.clone(), None)).await;
    let mut request =
        test::TestRequest::with_uri(path).method(method.parse().unwrap()).insert_header((header::HOST, "localhost:8686"));
    if let Some(body) = body {
        request = request.set_json(body);
    }
    answer(app.call(request.to_request()).await).await
}

/// As [`ask`], for what is no JSON.
pub(super) async fn ask_text<R: RecorderApi>(recorder: &R, path: &str) -> (u16, String, String) {
    let app = test::init_service(app(recorder.clone(), None)).await;
    let request = test::TestRequest::with_uri(path).insert_header((header::HOST, "localhost:8686"));
    text(app.call(request.to_request()).await).await
}

pub(super) async fn answer<B: MessageBody + 'static>(
    response: Result<ServiceResponse<B>, actix_web::Error>,
) -> (u16, String, Value) {
    let (status, media_type, body) = text(response).await;
    (status, media_type, serde_json::from_str(&body).unwrap_or(Value::Null))
}

async fn text<B: MessageBody + 'static>(response: Result<ServiceResponse<B>, actix_web::Error>) -> (u16, String, String) {
    let response = response.unwrap();
    let status = response.status().as_u16();
    let media_type =
        response.headers().get(header::CONTENT_TYPE).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let body = String::from_utf8(test::read_body(response).await.to_vec()).unwrap();
    assert!(!body.contains(KEY), "a response holds an API key");
    (status, media_type, body)
}

pub(super) async fn with_endpoint() -> Fake {
    let fake = Fake::default();
    let body = json!({"name": "tokyo", "url": "https://10.0.0.5:9090", "api_key": KEY, "tls": "pin"});
    assert_eq!(ask(&fake, "POST", "/api/v1/endpoints", Some(body)).await.0, 201);
    fake
}
