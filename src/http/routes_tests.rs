use actix_web::dev::Service;
use actix_web::http::header;
use actix_web::test;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::archive_tests::stored_examples;
use super::super::fake::{Fake, KEY, answer, app, ask, with_endpoint};
use super::super::starting::Starting;
use super::*;

#[actix_rt::test]
async fn an_endpoint_is_added_shown_changed_and_removed() {
    let fake = with_endpoint().await;
    let (status, _, list) = ask(&fake, "GET", "/api/v1/endpoints", None).await;
    assert_eq!((status, &list["endpoints"][0]["name"], &list["endpoints"][0]["tls"]), (200, &json!("tokyo"), &json!("pin")));
    assert_eq!(fake.state().endpoints["tokyo"].api_key.reveal(), KEY);

    let change = json!({"url": "http://10.0.0.6:9090/x", "paused": true, "log_events": false, "tls": "verify"});
    let (status, _, shown) = ask(&fake, "PATCH", "/api/v1/endpoints/tokyo", Some(change)).await;
    assert_eq!(status, 200);
    assert_eq!(shown, ask(&fake, "GET", "/api/v1/endpoints/tokyo", None).await.2);
    let expected = (&json!("http://10.0.0.6:9090/x"), &json!(true), &json!(false), &json!("verify"));
    assert_eq!((&shown["url"], &shown["paused"], &shown["log_events"], &shown["tls"]), expected);
    assert_eq!(fake.state().endpoints["tokyo"].api_key.reveal(), KEY, "what is absent stays");

    ask(&fake, "PATCH", "/api/v1/endpoints/tokyo", Some(json!({"log_events": null}))).await;
    assert_eq!(fake.state().endpoints["tokyo"].log_events, None, "null goes back to the general setting");

    assert_eq!(ask(&fake, "DELETE", "/api/v1/endpoints/tokyo?purge=true", None).await.0, 204);
    assert_eq!(fake.state().purged, ["tokyo"]);
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
        ("GET", "/api/v1/tunnels?colour=red", None, 400, "known are endpoint"),
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
        ("GET", "/api/v1/events?limit=ten", None, 400, "the query `limit=ten` cannot be used"),
    ] {
        let (status, media_type, problem) = ask(&fake, method, path, body).await;
        assert_eq!((status, media_type.as_str()), (expected, "application/problem+json"), "{method} {path}: {problem}");
        assert_eq!(problem["status"], json!(expected));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{method} {path}: {problem}");
        assert!(!problem.to_string().contains("123456"), "{problem}");
        assert!(!problem.to_string().contains("deserialize"), "a word of programmers: {problem}");
    }
}

#[actix_rt::test]
async fn a_flush_that_failed_is_503_with_the_same_document() {
    let fake = Fake::default();
    let (status, _, answer) = ask(&fake, "POST", "/api/v1/flush", None).await;
    assert_eq!((status, answer), (200, json!({"committed": 7, "waiting": 0, "error": null})));
    fake.state().broken = Some("the database is locked".to_owned());
    let (status, _, answer) = ask(&fake, "POST", "/api/v1/flush", None).await;
    assert_eq!((status, answer), (503, json!({"committed": 0, "waiting": 7, "error": "the database is locked"})));
}

#[actix_rt::test]
async fn readyz_says_why_not_and_healthz_answers_all_the_same() {
    let fake = Fake::default();
    assert_eq!(ask(&fake, "GET", "/readyz", None).await.0, 200);
    fake.state().broken = Some("flush overdue".to_owned());
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
    for path in ["/api/v1/stats", "/api/v1/endpoints", "/nothing"] {
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

/// A form as a browser sends it, and the answer's `Location` and cookie.
async fn send_form(path: &str, form: &str, proto: &str, cookie: &str) -> (u16, String, String) {
    let app = test::init_service(app(Fake::default(), Some("right"))).await;
    let request = test::TestRequest::post()
        .uri(path)
        .insert_header((header::HOST, "panel.example"))
        .insert_header((header::ORIGIN, "https://panel.example"))
        .insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded"))
        .insert_header((header::X_FORWARDED_PROTO, proto))
        .insert_header((header::COOKIE, cookie))
        .set_payload(form.to_owned());
    let response = app.call(request.to_request()).await.unwrap();
    let text = |name| response.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), text(header::LOCATION), text(header::SET_COOKIE))
}

#[actix_rt::test]
async fn the_form_gives_a_cookie_that_scripts_and_other_sites_do_not_have() {
    let (status, location, cookie) = send_form("/login", "token=right", "https", "").await;
    assert_eq!((status, location.as_str()), (303, "/"));
    let id = cookie.strip_prefix("tidegate-0123456789abcdef=").unwrap().split(';').next().unwrap();
    assert_eq!(id.len(), 64);
    for attribute in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=2592000"] {
        assert!(cookie.split("; ").any(|part| part == attribute), "{attribute}: {cookie}");
    }
    let (.., cookie) = send_form("/login", "token=right", "http", "").await;
    assert!(!cookie.contains("Secure"), "else the browser would not send it back over http: {cookie}");
    let (status, location, cookie) = send_form("/login", "token=wrong", "https", "").await;
    assert_eq!((status, location.as_str(), cookie.as_str()), (303, "/login?failed=1", ""));
    for form in ["", "token=right&more=1", "password=right", &format!("token={}", "x".repeat(2_000))] {
        assert_eq!(send_form("/login", form, "https", "").await.0, 400, "{form}");
    }
    assert_eq!(send_form("/logout", "", "https", "").await.0, 401);
}

#[actix_rt::test]
async fn who_polls_is_told_that_nothing_changed() {
    let fake = with_endpoint().await;
    let app = test::init_service(app(fake.clone(), None)).await;
    let ask = async |path: &str, known: &str| {
        let request = test::TestRequest::get().uri(path).insert_header((header::HOST, "localhost"));
        let response = app.call(request.insert_header((header::IF_NONE_MATCH, known)).to_request()).await.unwrap();
        let tag = response.headers().get(header::ETAG).unwrap().to_str().unwrap().to_owned();
        (response.status().as_u16(), tag, test::read_body(response).await.len())
    };
    let _ = stored_examples();
    for path in [
        "/api/v1/tunnels",
        "/api/v1/endpoints",
        "/api/v1/endpoints/tokyo",
        "/api/v1/openapi.json",
        "/api/v1/alerts",
        "/api/v1/mode",
        "/api/v1/flushes",
        "/api/v1/gaps",
        "/api/v1/storage",
        "/api/v1/traffic",
    ] {
        let (status, tag, length) = ask(path, "\"another\"").await;
        assert!(status == 200 && length > 0 && tag.starts_with("W/"), "{path}: {status} {tag}");
        assert_eq!(ask(path, &tag).await, (304, tag.clone(), 0), "{path}");
        assert_eq!(ask(path, &format!("\"x\", {tag}")).await.0, 304, "{path}");
    }
    let (_, before, _) = ask("/api/v1/endpoints/tokyo", "\"another\"").await;
    fake.state().endpoints.get_mut("tokyo").unwrap().paused = true;
    let deadline = std::time::Duration::from_secs(10);
    let changed = async { while ask("/api/v1/endpoints/tokyo", &before).await.0 == 304 {} };
    tokio::time::timeout(deadline, changed).await.expect("a change makes another tag");
}
