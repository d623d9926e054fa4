use std::collections::BTreeSet;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Service;
use actix_web::introspection::IntrospectionTree;
use actix_web::test as actix_test;
use boon::{Compiler, Schemas};
use serde_json::{Value, json};

use super::super::archive_tests::stored_examples;
use super::super::fake::{Fake, IDENTITY, app, ask, with_endpoint};
use super::*;

/// A request for every operation: method, path in the document, path and query to ask, body, status.
/// Whoever adds a route adds a row; answers other than the first are for the routes that have them.
fn examples() -> Vec<(&'static str, &'static str, &'static str, Option<Value>, u16)> {
    let tokyo = "/api/v1/endpoints/tokyo";
    let named = "/api/v1/endpoints/{name}";
    vec![
        ("GET", "/healthz", "/healthz", None, 200),
        ("GET", "/readyz", "/readyz", None, 200),
        ("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", None, 200),
        ("GET", "/api/v1/stats", "/api/v1/stats", None, 200),
        ("GET", "/api/v1/endpoints", "/api/v1/endpoints", None, 200),
        ("POST", "/api/v1/endpoints", "/api/v1/endpoints", Some(json!({"name": "paris", "url": "http://h"})), 201),
        ("POST", "/api/v1/endpoints", "/api/v1/endpoints", Some(json!({"name": "tokyo", "url": "http://h"})), 409),
        ("POST", "/api/v1/endpoints", "/api/v1/endpoints", Some(json!({"name": "/", "url": "http://h"})), 422),
        ("POST", "/api/v1/endpoints", "/api/v1/endpoints", Some(json!([])), 400),
        ("POST", "/api/v1/endpoints", "/api/v1/endpoints", None, 415),
        ("GET", named, tokyo, None, 200),
        ("GET", named, "/api/v1/endpoints/paris", None, 404),
        ("PATCH", named, tokyo, Some(json!({"paused": true})), 200),
        ("PATCH", named, tokyo, Some(json!({"tls": "maybe"})), 422),
        ("DELETE", named, "/api/v1/endpoints/tokyo?purge=true", None, 204),
        ("DELETE", named, "/api/v1/endpoints/tokyo?purge=2", None, 400),
        ("POST", "/api/v1/endpoints/{name}/trust", "/api/v1/endpoints/tokyo/trust", None, 200),
        ("GET", "/api/v1/tunnels", "/api/v1/tunnels?endpoint=tokyo", None, 200),
        ("GET", "/api/v1/tunnels", "/api/v1/tunnels?endpoint=paris", None, 404),
        ("GET", "/api/v1/tunnels", "/api/v1/tunnels?limit=1&cursor=1/a", None, 200),
        ("GET", "/api/v1/endpoints", "/api/v1/endpoints?limit=1", None, 200),
        ("POST", "/api/v1/flush", "/api/v1/flush", None, 200),
        ("GET", "/api/v1/mode", "/api/v1/mode", None, 200),
        ("POST", "/api/v1/mode", "/api/v1/mode", Some(json!({"mode": "dual", "set": {"storage.batch_size": "7"}})), 200),
        ("POST", "/api/v1/mode", "/api/v1/mode", Some(json!({"mode": "fast"})), 400),
        ("GET", "/api/v1/stream", "/api/v1/stream?tunnels=all", None, 200),
        // Nobody resolves `.invalid`: the probe fails at its first step, and says so with 200.
        ("POST", "/api/v1/probe", "/api/v1/probe", Some(json!({"url": "http://tidegate.invalid"})), 200),
        ("POST", "/api/v1/probe", "/api/v1/probe", Some(json!({"url": "ftp://h"})), 422),
        ("POST", "/api/v1/endpoints/{name}/probe", "/api/v1/endpoints/paris/probe", None, 404),
        ("GET", "/metrics", "/metrics", None, 200),
        ("GET", "/api/v1/alerts", "/api/v1/alerts", None, 200),
        ("POST", "/api/v1/alerts/test", "/api/v1/alerts/test", None, 200),
        ("GET", "/api/v1/events", "/api/v1/events?endpoint=tokyo&kind=update&since=1d&limit=5", None, 200),
        ("GET", "/api/v1/events", "/api/v1/events?cursor=x", None, 400),
        ("GET", "/api/v1/events", "/api/v1/events?endpoint=paris", None, 404),
        ("GET", "/api/v1/falls", "/api/v1/falls?endpoint=tokyo&kind=reset&since=1d", None, 200),
        ("GET", "/api/v1/falls", "/api/v1/falls?kind=crash", None, 400),
        ("GET", "/api/v1/falls", "/api/v1/falls?tunnel=paris/a", None, 404),
        ("GET", "/api/v1/flushes", "/api/v1/flushes?limit=1", None, 200),
        ("GET", "/api/v1/flushes", "/api/v1/flushes?limit=0", None, 400),
        ("GET", "/api/v1/gaps", "/api/v1/gaps", None, 200),
        ("GET", "/api/v1/gaps", "/api/v1/gaps?endpoint=paris", None, 404),
        ("GET", "/api/v1/storage", "/api/v1/storage", None, 200),
        ("GET", "/api/v1/history", "/api/v1/history?endpoint=tokyo&since=2h", None, 200),
        ("GET", "/api/v1/history", "/api/v1/history?step=2h", None, 400),
        ("GET", "/api/v1/history", "/api/v1/history?tunnel=tokyo/cccc0000", None, 404),
        ("GET", "/api/v1/traffic", "/api/v1/traffic?by=tunnel", None, 200),
        ("GET", "/api/v1/traffic", "/api/v1/traffic?endpoint=paris", None, 404),
        ("GET", "/api/v1/export", "/api/v1/export?what=events", None, 200),
        ("GET", "/api/v1/export", "/api/v1/export?what=hours&endpoint=paris", None, 404),
        ("GET", "/login", "/login?failed=1&wait=6", None, 200),
        ("POST", "/login", "/login", None, 400),
        ("POST", "/logout", "/logout", None, 303),
    ]
}

fn document() -> Value {
    serde_json::from_str(&TEXT).unwrap()
}

/// `METHOD /path` of every operation of the document.
fn documented() -> BTreeSet<String> {
    let document = document();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = paths.into_iter().flat_map(|(path, item)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(move |method| format!("{method} {path}"))
    });
    operations.collect()
}

#[actix_rt::test]
async fn what_is_registered_is_documented_and_the_other_way_round() {
    let routes = |tree: web::Data<IntrospectionTree>| async move { HttpResponse::Ok().body(tree.report_as_json()) };
    let app = app(Fake::default(), None).app_data(web::PayloadConfig::default());
    let app = actix_test::init_service(app.route("/registered", web::get().to(routes))).await;
    let request = actix_test::TestRequest::get().uri("/registered").insert_header(("host", "localhost")).to_request();
    let report: Value = actix_test::read_body_json(app.call(request).await.unwrap()).await;
    let mut registered = BTreeSet::new();
    for item in report.as_array().unwrap().iter().filter(|item| item["resource_type"] == "resource") {
        let path = item["full_path"].as_str().unwrap();
        for method in item["methods"].as_array().unwrap() {
            registered.insert(format!("{} {path}", method.as_str().unwrap()));
        }
    }
    registered.remove("GET /registered");
    // The files of the page are no operations.
    registered.retain(|route| route != "GET /" && !route.starts_with("GET /assets/"));
    assert_eq!(registered, documented());
}

#[actix_rt::test]
async fn every_operation_answers_as_the_document_says() {
    let document = document();
    let mut asked = BTreeSet::new();
    let _ = stored_examples();
    for (method, path, uri, body, expected) in examples() {
        let (status, media_type, answer) = match path {
            "/api/v1/stream" => first_event(uri).await,
            _ => ask(&with_endpoint().await, method, uri, body).await,
        };
        assert_eq!(status, expected, "{method} {uri}: {answer}");
        let operation = &document["paths"][path][method.to_lowercase()];
        let mut response = &operation["responses"][status.to_string()];
        if let Some(reference) = response["$ref"].as_str() {
            response = document.pointer(reference.trim_start_matches('#')).unwrap();
        }
        assert!(response.is_object(), "{method} {uri}: {status} is not in the document");
        match response["content"].as_object() {
            None => assert_eq!((media_type.as_str(), answer), ("", Value::Null), "{method} {uri}"),
            Some(content) => {
                let schema = &content.get(&media_type).unwrap_or_else(|| panic!("{method} {uri}: {media_type}"))["schema"];
                let answer = if media_type.contains("text") && answer.is_null() { json!("text") } else { answer };
                validate(&document, schema, &answer).unwrap_or_else(|error| panic!("{method} {uri}: {error}"));
            }
        }
        asked.insert(format!("{method} {path}"));
    }
    assert_eq!(asked, documented(), "an operation has no example");
}

/// Head and body of an answer; a body that does not end is not read.
async fn raw(method: &str, uri: &str) -> (u16, Vec<(String, String)>, BodySize, bool) {
    let app = actix_test::init_service(app(with_endpoint().await, None)).await;
    let request = actix_test::TestRequest::with_uri(uri).method(method.parse().unwrap()).insert_header(("host", "localhost"));
    let response = app.call(request.to_request()).await.unwrap();
    let mut headers: Vec<(String, String)> =
        response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    let (status, size) = (response.status().as_u16(), response.response().body().size());
    let mut body = Box::pin(response.into_body());
    let first = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await;
    (status, headers, size, first.is_some())
}

#[actix_rt::test]
async fn head_answers_as_get_does_without_the_body() {
    let _ = stored_examples();
    let page = ["/", "/assets/login.css"].map(|path| ("GET", path, path, None, 200));
    for (method, _, uri, _, expected) in examples().into_iter().chain(page) {
        if method != "GET" {
            continue;
        }
        let ((status, headers, size, has_body), mut head) = (raw("GET", uri).await, raw("HEAD", uri).await);
        assert_eq!((head.0, head.3), (expected, false), "{uri}");
        assert_eq!(status, head.0, "{uri}");
        // The tag of live state says when the app began.
        let told = head.1.iter().position(|(name, _)| name == "content-length").map(|at| head.1.remove(at).1);
        let but_tag = |headers: Vec<(String, String)>| headers.into_iter().filter(|(name, _)| name != "etag").collect::<Vec<_>>();
        assert_eq!(but_tag(headers), but_tag(head.1), "{uri}");
        let length = if let BodySize::Sized(length) = size { Some(length.to_string()) } else { None };
        assert_eq!(told, length, "{uri}: its length is told where it has one");
        assert!(has_body && (length.is_some() || uri.contains("/stream")), "{uri}");
    }
    let (status, headers, ..) = raw("PUT", "/api/v1/endpoints").await;
    assert_eq!(status, 405);
    assert!(headers.contains(&("allow".to_owned(), "GET, HEAD, POST".to_owned())), "{headers:?}");
}

#[actix_rt::test]
async fn with_a_token_nothing_but_the_probes_and_the_form_is_open() {
    let app = actix_test::init_service(app(with_endpoint().await, Some("right"))).await;
    let files = ["/", "/assets/0/app.js", "/assets/0/vendor/preact.mjs", "/nothing"].map(|path| ("GET", path, path, None, 200));
    let gets = |(method, ..): &(&str, &str, &str, Option<Value>, u16)| *method == "GET";
    let heads = examples().into_iter().filter(gets).map(|(_, path, uri, body, status)| ("HEAD", path, uri, body, status));
    for (method, path, uri, body, _) in examples().into_iter().chain(heads).chain(files) {
        let open = matches!(path, "/healthz" | "/readyz" | "/login");
        for authorization in ["", "Basic cmlnaHQ6cmlnaHQ=", "right", "Bearer right right"] {
            let request =
                actix_test::TestRequest::with_uri(uri).method(method.parse().unwrap()).insert_header(("host", "panel.example"));
            let request =
                if authorization.is_empty() { request } else { request.insert_header(("authorization", authorization)) };
            let request = request.insert_header(("cookie", format!("tidegate-{IDENTITY}={}", "0".repeat(64))));
            let request = if let Some(body) = &body { request.set_json(body) } else { request };
            let status = app.call(request.to_request()).await.unwrap().status().as_u16();
            match (open, path) {
                (true, _) => assert_ne!(status, 401, "{method} {uri}"),
                // A person is sent to the form.
                (false, "/") if authorization.is_empty() => assert_eq!(status, 303),
                // After ten wrong tokens from one address the next ones wait.
                (false, _) => assert!(matches!(status, 401 | 429), "{method} {uri} {authorization}: {status}"),
            }
        }
    }
}

#[actix_rt::test]
async fn every_operation_refuses_a_parameter_that_it_does_not_know() {
    let document = document();
    for (method, path, uri, body, _) in examples() {
        let uri = format!("{uri}{}colour=red", if uri.contains('?') { '&' } else { '?' });
        let (status, media_type, problem) = ask(&with_endpoint().await, method, &uri, body).await;
        assert_eq!((status, media_type.as_str()), (400, problem::MEDIA_TYPE), "{method} {uri}");
        assert!(problem["detail"].as_str().unwrap().contains("there is no parameter `colour`"), "{problem}");
        assert!(document["paths"][path][method.to_lowercase()]["responses"]["400"].is_object(), "{method} {path}");
    }
}

/// Status and media type of a stream, and the data of its first event.
async fn first_event(uri: &str) -> (u16, String, Value) {
    let app = actix_test::init_service(app(with_endpoint().await, None)).await;
    let request = actix_test::TestRequest::get().uri(uri).insert_header(("host", "localhost")).to_request();
    let response = app.call(request).await.unwrap();
    let (status, media_type) =
        (response.status().as_u16(), response.headers().get("content-type").unwrap().to_str().unwrap().to_owned());
    let mut body = Box::pin(response.into_body());
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let piece = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await;
        let Some(Ok(piece)) = piece else { panic!("the stream ended: {text}") };
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    (status, media_type, serde_json::from_str(data).unwrap())
}

/// Holds a value against a schema of the document. Members that the schema does not name are errors.
fn validate(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let mut root = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"], "allOf": [schema]});
    let schemas = root["components"]["schemas"].as_object_mut().unwrap();
    // A part of another schema must let the other's members pass.
    let all: Vec<Value> = schemas.values().filter_map(|schema| schema["allOf"].as_array()).flatten().cloned().collect();
    for (name, schema) in schemas {
        let is_part = all.iter().any(|part| part["$ref"] == format!("#/components/schemas/{name}"));
        if !is_part && (schema["properties"].is_object() || schema["allOf"].is_array()) {
            schema["unevaluatedProperties"] = json!(false);
        }
    }
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("file:///document", root).map_err(|error| error.to_string())?;
    let index = compiler.compile("file:///document", &mut schemas).map_err(|error| format!("{error:#}"))?;
    schemas.validate(value, index).map_err(|error| format!("{error:#}"))
}

#[test]
fn the_check_of_schemas_sees_what_is_missing_and_what_is_too_much() {
    let document = document();
    let schema = json!({"$ref": "#/components/schemas/Flushed"});
    validate(&document, &schema, &json!({"committed": 1, "waiting": 0, "error": null})).unwrap();
    assert!(validate(&document, &schema, &json!({"committed": 1, "error": null})).is_err());
    assert!(validate(&document, &schema, &json!({"committed": 1, "waiting": 0, "error": null, "more": 1})).is_err());
    assert!(validate(&document, &schema, &json!({"committed": "1", "waiting": 0, "error": null})).is_err());
}

#[test]
fn every_response_is_described() {
    let document = document();
    let mut described = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let response = response["$ref"].as_str().map_or(response, |reference| document.pointer(&reference[1..]).unwrap());
                let description = response["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{method} {path} {status}");
                described += 1;
            }
        }
    }
    assert!(described > 100, "{described}");
}

/// A reader of the document that follows a reference must find something.
#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let references: BTreeSet<&str> = TEXT.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.len() > 30, "{references:?}");
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn the_keys_that_may_change_are_those_of_the_configuration() {
    let document = document();
    let described = document["components"]["schemas"]["TunedKeys"]["properties"].as_object().unwrap();
    let names: BTreeSet<&str> = described.keys().map(String::as_str).collect();
    assert_eq!(names, crate::config::Tuning::KEYS.into());
}

#[test]
fn a_key_of_a_master_is_only_ever_written() {
    let text = TEXT.as_str();
    assert_eq!(text.matches("\"api_key\"").count(), 3, "in what adds, changes and probes an endpoint");
    let schemas = &document()["components"]["schemas"];
    for name in ["AddEndpoint", "ChangeEndpoint", "ProbeRequest"] {
        assert_eq!(schemas[name]["properties"]["api_key"]["writeOnly"], json!(true), "{name}");
    }
}
