//! A recorder in a map, and requests to it, for the tests of the routes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::{App, middleware, test, web};
use serde_json::{Value, json};

use super::archive::Archive;
use super::guard::{self, Guard};
use super::problem::Problem;
use super::recorder::RecorderApi;
use super::{routes, server};
use crate::actors::alerts::{AlertsState, TestedChannels};
use crate::actors::buffer::{FlushAnswer, WaitingHistory};
use crate::actors::endpoints::{ChangeError, EndpointView};
use crate::actors::sse_ingest::IngestState;
use crate::alerts::{Active, Channel, ChannelState, Condition};
use crate::clock::{SystemClock, Timestamp};
use crate::config::{Config, Sources, Token};
use crate::endpoint::{Endpoint, EndpointHealth};
use crate::event::{EndpointId, InstanceId, Record, Sample, TunnelKey, TunnelState};
use crate::id::EventId;
use crate::live::Delta;
use crate::query::Scope;
use crate::query::buffered::{Buffered, Wanted};
use crate::rates::Rate;
use crate::status::snapshot::Stats;
use crate::store::{DieselStore, EndpointChange, NewEndpoint};

/// What the app says that it is.
pub(super) const IDENTITY: &str = "0123456789abcdef";
/// The API key of the fake's endpoint; no answer may hold it.
pub(super) const KEY: &str = "fa4ec0de000000000000000000000000";

/// A recorder that keeps endpoints in a map and is as well as it is told.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

pub(super) struct State {
    /// What is told of every tunnel.
    pub(super) tunnel: TunnelState,
    /// How often live state was asked for.
    pub(super) asked: u64,
    pub(super) endpoints: BTreeMap<String, Endpoint>,
    pub(super) broken: Option<String>,
    pub(super) purged: Vec<String>,
    /// One alert, and two channels.
    pub(super) alerts: AlertsState,
    /// Received and not stored, newest first.
    pub(super) buffered: Vec<Record>,
    /// History that waits, answer by answer from the last one; the first stays.
    pub(super) waiting: Vec<WaitingHistory>,
}

impl Default for State {
    fn default() -> Self {
        let tunnel =
            TunnelState { config: Arc::default(), sample: Sample::default(), seen_at: Timestamp(0), last_event: EventId(1) };
        let alert = Active {
            condition: Condition::EndpointOffline { endpoint: "tokyo".to_owned() },
            since: Timestamp(0),
            text: "connection refused".to_owned(),
        };
        let alerts = AlertsState {
            active: vec![alert],
            channels: [Channel::Webhook, Channel::Telegram].map(|channel| (channel, ChannelState::default())).to_vec(),
        };
        Self {
            alerts,
            tunnel,
            asked: 0,
            endpoints: BTreeMap::new(),
            broken: None,
            purged: Vec::new(),
            buffered: Vec::new(),
            waiting: Vec::new(),
        }
    }
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

    /// One tunnel for each endpoint; all of it each time, as if it had changed.
    async fn live_since(&self, version: u64) -> Result<Delta, Problem> {
        let tunnel = |endpoint: &Endpoint| {
            let key = TunnelKey { endpoint: endpoint.id, instance: InstanceId::from("9c3209de") };
            (key, self.0.lock().unwrap().tunnel.clone(), Some(Rate { bytes_in: 20, bytes_out: 3, until: Timestamp(i64::MAX) }))
        };
        self.0.lock().unwrap().asked += 1;
        let endpoints: Vec<Endpoint> = self.0.lock().unwrap().endpoints.values().cloned().collect();
        Ok(Delta {
            version: version + 1,
            endpoints: endpoints.iter().map(|endpoint| endpoint.id).collect(),
            thinned: Vec::new(),
            tunnels: endpoints.iter().map(tunnel).collect(),
        })
    }

    fn alerts(&self) -> AlertsState {
        self.0.lock().unwrap().alerts.clone()
    }

    async fn test_alerts(&self) -> Result<TestedChannels, Problem> {
        let sent = |channel| (channel, if channel == Channel::Webhook { Ok(()) } else { Err("it answered 401".to_owned()) });
        Ok(self.0.lock().unwrap().alerts.channels.iter().map(|(channel, _)| sent(*channel)).collect())
    }

    async fn buffered(&self, wanted: Wanted) -> Result<Buffered, Problem> {
        let state = self.0.lock().unwrap();
        let endpoint = wanted.endpoint.as_ref().and_then(|name| state.endpoints.get(name)).map(|endpoint| endpoint.id);
        let records = state.buffered.iter().filter(|record| wanted.takes(record, endpoint)).take(wanted.limit);
        Ok(Buffered { records: records.cloned().collect(), in_journal_only: 0 })
    }

    async fn waiting_history(&self, scope: Scope) -> Result<WaitingHistory, Problem> {
        let mut state = self.0.lock().unwrap();
        let mut waiting = match state.waiting.as_slice() {
            [] => WaitingHistory::default(),
            [one] => one.clone(),
            [.., _] => state.waiting.pop().unwrap(),
        };
        waiting.counting.retain(|row| scope.contains(&row.tunnel));
        waiting.batches.iter_mut().for_each(|(_, rows)| rows.retain(|row| scope.contains(&row.tunnel)));
        Ok(waiting)
    }
}

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
        Response = ServiceResponse<impl MessageBody + 'static>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let guard = Guard::new(token.and_then(Token::new).as_ref(), IDENTITY, Arc::new(SystemClock));
    App::new()
        .app_data(web::Data::new(guard))
        .configure(routes::share(recorder, Arc::new(SystemClock)))
        .app_data(web::Data::new(archive()))
        .wrap(middleware::from_fn(guard::check))
        .wrap(server::headers(IDENTITY))
        .configure(routes::configure::<R>)
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
