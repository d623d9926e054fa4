use std::sync::Arc;

use super::*;
use crate::clock::{SystemClock, Timestamp, VirtualClock};

fn status(token: Option<&str>, method: Method, path: &str, headers: &[(HeaderName, &'static str)]) -> u16 {
    let token = token.map(|token| Token::new(token).unwrap());
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.clone(), HeaderValue::from_static(value));
    }
    let guard = Guard::new(token.as_ref(), "id", Arc::new(SystemClock));
    ask(&guard, &method, path, &map)
}

fn ask(guard: &Guard, method: &Method, path: &str, headers: &HeaderMap) -> u16 {
    let peer = Some(IpAddr::from([10, 0, 0, 9]));
    match guard.judge(Asked { method, path, headers, peer }) {
        Ok(()) => 200,
        Err(refusal) => refusal.response().status().as_u16(),
    }
}

fn map(headers: &[(HeaderName, &str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn without_a_token_only_loopback_hosts_are_answered() {
    for host in ["localhost", "LOCALHOST:8686", "127.0.0.1:8686", "127.9.9.9", "[::1]:8686", "[::1]"] {
        assert_eq!(status(None, Method::GET, "/api/v1/stats", &[(header::HOST, host)]), 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8686", "10.0.0.1", "127.0.0.1.evil.example", "[::2]", ""] {
        assert_eq!(status(None, Method::GET, "/api/v1/stats", &[(header::HOST, host)]), 403, "{host}");
    }
    assert_eq!(status(None, Method::GET, "/api/v1/stats", &[]), 400);
}

#[test]
fn without_a_token_nothing_that_came_through_a_proxy_is_answered() {
    let host = (header::HOST, "127.0.0.1:8686");
    let names = [
        "Forwarded",
        "Via",
        "X-Forwarded",
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "CF-Connecting-IP",
    ];
    for name in names {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let headers = [host.clone(), (name.clone(), "203.0.113.9")];
        assert_eq!(status(None, Method::GET, "/api/v1/stats", &headers), 403, "{name}: reading too");
        assert_eq!(status(None, Method::GET, "/", &headers), 403, "{name}");
        assert_eq!(status(None, Method::POST, "/api/v1/flush", &headers), 403, "{name}");
        assert_eq!(status(None, Method::GET, "/readyz", &headers), 200, "{name}: this is open to everyone");
        let right = [&headers[..], &[(header::AUTHORIZATION, "Bearer right")]].concat();
        assert_eq!(status(Some("right"), Method::GET, "/api/v1/stats", &right), 200, "{name}: with a token proxies are welcome");
    }
    let guard = Guard::new(None, "id", Arc::new(SystemClock));
    let headers = map(&[host, (HeaderName::from_static("x-real-ip"), "203.0.113.9")]);
    let asked = Asked { method: &Method::GET, path: "/", headers: &headers, peer: None };
    let Err(Refusal::Problem(problem)) = guard.judge(asked) else { panic!("it is refused") };
    assert!(problem.detail.contains("x-real-ip") && problem.detail.contains("set http.token"), "{}", problem.detail);
}

#[test]
fn changes_are_taken_from_no_origin_or_our_own() {
    let host = (header::HOST, "localhost:8686");
    assert_eq!(status(None, Method::POST, "/api/v1/flush", std::slice::from_ref(&host)), 200);
    for (origin, expected) in [
        ("http://localhost:8686", 200),
        ("HTTP://LOCALHOST:8686", 200),
        ("https://localhost:8686", 403),
        ("ftp://localhost:8686", 403),
        ("http://localhost", 403),
        ("http://127.0.0.1:8686", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let headers = [host.clone(), (header::ORIGIN, origin)];
        assert_eq!(status(None, Method::POST, "/api/v1/flush", &headers), expected, "{origin}");
        assert_eq!(status(None, Method::DELETE, "/api/v1/endpoints/a", &headers), expected, "{origin}");
        assert_eq!(status(None, Method::GET, "/api/v1/stats", &headers), 200, "reads are not changes");
    }
}

#[test]
fn with_a_token_everything_but_the_probes_needs_it() {
    let host = (header::HOST, "panel.example");
    for (given, expected) in [
        (None, 401),
        (Some("Bearer right"), 200),
        (Some("bearer right"), 200),
        (Some("Bearer wrong"), 401),
        (Some("Bearer "), 401),
        (Some("Basic right"), 401),
        (Some("right"), 401),
    ] {
        let mut headers = vec![host.clone()];
        headers.extend(given.map(|given| (header::AUTHORIZATION, given)));
        assert_eq!(status(Some("right"), Method::GET, "/api/v1/stats", &headers), expected, "{given:?}");
        assert_eq!(status(Some("right"), Method::GET, "/readyz", &headers), 200);
    }
    let foreign = [host, (header::AUTHORIZATION, "Bearer right"), (header::ORIGIN, "https://evil.example")];
    assert_eq!(status(Some("right"), Method::POST, "/api/v1/flush", &foreign), 403);
}

#[test]
fn a_header_that_decides_must_not_be_there_twice() {
    let headers = [(header::HOST, "localhost"), (header::HOST, "evil.example")];
    assert_eq!(status(None, Method::GET, "/api/v1/stats", &headers), 400);
}

fn guard(clock: SharedClock) -> Guard {
    Guard::new(Token::new("right").as_ref(), "id", clock)
}

#[test]
fn a_session_opens_everything_and_changes_need_our_own_origin_by_name() {
    let guard = guard(Arc::new(SystemClock));
    let cookie = guard.log_in("right", None).unwrap().unwrap().to_string();
    let with = |more: &[(HeaderName, &str)]| {
        map(&[&[(header::HOST, "panel.example"), (header::COOKIE, &format!("theme=dark; {cookie}"))], more].concat())
    };
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with(&[])), 200);
    assert_eq!(ask(&guard, &Method::GET, "/", &with(&[])), 200);
    assert_eq!(ask(&guard, &Method::POST, "/api/v1/flush", &with(&[(header::ORIGIN, "https://panel.example")])), 200);
    assert_eq!(ask(&guard, &Method::POST, "/api/v1/flush", &with(&[])), 403, "every browser says where a change comes from");
    let asked = Asked { method: &Method::POST, path: "/api/v1/flush", headers: &with(&[]), peer: None };
    let Err(Refusal::Problem(problem)) = guard.judge(asked) else { panic!("it is refused") };
    assert!(problem.detail.contains("needs the header Origin"), "{}", problem.detail);
    assert_eq!(ask(&guard, &Method::POST, "/api/v1/flush", &with(&[(header::ORIGIN, "https://evil.example")])), 403);
    guard.log_out(&with(&[]));
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with(&[])), 401);
    let forged = map(&[(header::HOST, "panel.example"), (header::COOKIE, &format!("tidegate-id={}", "0".repeat(64)))]);
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &forged), 401);
}

#[test]
fn without_a_session_a_person_is_sent_to_the_form_and_a_program_is_told() {
    let guard = guard(Arc::new(SystemClock));
    let person = map(&[(header::HOST, "panel.example"), (header::ACCEPT, "text/html,application/xhtml+xml")]);
    let program = map(&[(header::HOST, "panel.example")]);
    for (path, method, headers, expected) in [
        ("/", Method::GET, &person, 303),
        ("/", Method::GET, &program, 303),
        ("/tunnels", Method::GET, &person, 303),
        ("/tunnels", Method::GET, &program, 401),
        ("/api/v1/stats", Method::GET, &person, 401),
        ("/metrics", Method::GET, &program, 401),
        ("/", Method::POST, &person, 401),
        ("/assets/app.js", Method::GET, &program, 401),
        ("/login", Method::GET, &person, 200),
        ("/login", Method::POST, &person, 200),
        ("/logout", Method::POST, &program, 401),
        ("/assets/login.css", Method::GET, &program, 200),
        ("/assets/login.js", Method::GET, &program, 200),
        ("/assets/login.js/../app.js", Method::GET, &program, 401),
        ("//login", Method::GET, &program, 401),
        ("/login/", Method::GET, &program, 401),
    ] {
        assert_eq!(ask(&guard, &method, path, headers), expected, "{method} {path}");
    }
    let foreign = map(&[(header::HOST, "panel.example"), (header::ORIGIN, "https://evil.example")]);
    assert_eq!(ask(&guard, &Method::POST, "/login", &foreign), 403, "nobody logs a browser in from elsewhere");
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_have_to_wait_and_sessions_do_not() {
    let guard = guard(VirtualClock::starting_at(Timestamp(0)));
    let session = guard.log_in("right", None).unwrap().unwrap().to_string();
    let with = |token: &str| map(&[(header::HOST, "h"), (header::AUTHORIZATION, &format!("Bearer {token}"))]);
    for _ in 0..10 {
        assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with("wrong")), 401);
    }
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with("wrong")), 429);
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with("right")), 429, "it is short: else one could go on guessing");
    let peer = Some(IpAddr::from([10, 0, 0, 9]));
    assert_eq!(guard.log_in("right", peer).unwrap_err(), Refusal::Wait(Duration::from_secs(6)));
    let browser = map(&[(header::HOST, "h"), (header::COOKIE, &session)]);
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &browser), 200);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with("right")), 200);
}

#[tokio::test(start_paused = true)]
async fn who_knows_a_long_token_does_not_wait_for_those_who_guess() {
    const LONG: &str = "0123456789abcdef";
    let guard = Guard::new(Token::new(LONG).as_ref(), "id", VirtualClock::starting_at(Timestamp(0)));
    let with = |token: &str| map(&[(header::HOST, "h"), (header::AUTHORIZATION, &format!("Bearer {token}"))]);
    for _ in 0..10 {
        assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with("wrong")), 401);
    }
    let headers = with("wrong");
    let peer = Some(IpAddr::from([10, 0, 0, 9]));
    let refusal = guard.judge(Asked { method: &Method::GET, path: "/api/v1/stats", headers: &headers, peer }).unwrap_err();
    let response = refusal.response();
    assert_eq!((response.status().as_u16(), response.headers().get(header::RETRY_AFTER)), (429, Some(&HeaderValue::from(6))));
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with(LONG)), 200, "from the same address");
    assert!(guard.log_in(LONG, peer).unwrap().is_some(), "a browser too");
    assert_eq!(ask(&guard, &Method::GET, "/api/v1/stats", &with("wrong")), 429, "the wrong ones wait as before");
}
