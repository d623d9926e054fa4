use serde_json::Value;

use super::super::fake::{Fake, with_endpoint};
use super::*;
use crate::clock::SystemClock;
use crate::event::{Counters, Sample};
use crate::id::EventId;

fn key(endpoint: i32, instance: &str) -> TunnelKey {
    TunnelKey { endpoint: EndpointId(endpoint), instance: instance.into() }
}

fn tunnel(endpoint: i32, instance: &str, tcp_rx: u64, rate: Option<(u64, i64)>) -> (TunnelKey, TunnelState, Option<Rate>) {
    let sample = Sample { counters: Counters { tcp_rx, ..Counters::default() }, ..Sample::default() };
    let state = TunnelState { config: Default::default(), sample, seen_at: Timestamp(0), last_event: EventId(1) };
    let rate = rate.map(|(bytes_in, until)| Rate { bytes_in, bytes_out: 0, until: Timestamp(until) });
    (key(endpoint, instance), state, rate)
}

/// Views of the fake's endpoints: `tokyo` is 1, `paris` is 2.
async fn views(names: &[&str]) -> Vec<EndpointView> {
    let fake = Fake::default();
    for name in ["tokyo", "paris"] {
        let url = "http://h".parse().unwrap();
        let api_key = crate::endpoint::ApiKey::new("");
        let new = crate::store::NewEndpoint { name: name.to_owned(), url, api_key, tls: Default::default(), log_events: None };
        fake.add_endpoint(new).await.unwrap();
    }
    let views = fake.endpoints().await.unwrap();
    views.into_iter().filter(|view| names.contains(&view.endpoint.name.as_str())).collect()
}

fn delta(version: u64, tunnels: Vec<(TunnelKey, TunnelState, Option<Rate>)>) -> Delta {
    Delta { version, endpoints: vec![EndpointId(1), EndpointId(2)], thinned: Vec::new(), tunnels }
}

fn shown(picture: &Picture, revision: u64) -> Vec<Value> {
    picture.tunnels_after(revision, None, None).map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn picture() -> Picture {
    let mut picture = Picture::new(Timestamp(0));
    picture.removed = Some(Removed::default());
    picture
}

#[actix_rt::test]
async fn what_changed_after_a_revision_is_told_and_nothing_else() {
    let (mut picture, views) = (picture(), views(&["tokyo", "paris"]).await);
    picture.take(delta(1, vec![tunnel(1, "a", 1, None), tunnel(2, "b", 1, None)]), &views, Timestamp(0));
    assert_eq!((picture.revision(), shown(&picture, 0).len(), picture.endpoints_after(0).count()), (1, 2, 2));
    picture.take(delta(2, vec![tunnel(1, "a", 1, None)]), &views, Timestamp(0));
    assert_eq!(picture.revision(), 1, "it is as it was");
    picture.take(delta(3, vec![tunnel(2, "b", 7, None)]), &views, Timestamp(0));
    let changed = shown(&picture, 1);
    assert_eq!((changed.len(), &changed[0]["endpoint"], &changed[0]["tcp_rx"]), (1, &"paris".into(), &7.into()));
    assert_eq!(picture.tunnels_after(0, Some("paris"), None).count(), 1);
    assert_eq!(picture.tunnels_after(0, Some("paris"), Some("a")).count(), 0);
    assert_eq!(picture.endpoints_after(1).count(), 0);
}

#[actix_rt::test]
async fn a_rate_is_shown_until_its_time_and_an_endpoint_shows_the_sum() {
    let (mut picture, views) = (picture(), views(&["tokyo"]).await);
    picture.take(delta(1, vec![tunnel(1, "a", 1, Some((5, 100))), tunnel(1, "b", 1, Some((7, 200)))]), &views, Timestamp(0));
    let endpoint = |picture: &Picture| -> Value { serde_json::from_str(picture.endpoint("tokyo").unwrap()).unwrap() };
    assert_eq!((&shown(&picture, 0)[0]["rate_in"], &endpoint(&picture)["rate_in"]), (&5.into(), &12.into()));
    picture.take(delta(1, vec![]), &views, Timestamp(100));
    let changed = shown(&picture, 1);
    assert_eq!((changed.len(), &changed[0]["rate_in"], &endpoint(&picture)["rate_in"]), (1, &Value::Null, &7.into()));
    picture.take(delta(1, vec![]), &views, Timestamp(200));
    assert_eq!(endpoint(&picture)["rate_in"], Value::Null);
}

#[actix_rt::test]
async fn what_is_gone_is_gone_and_named() {
    let mut picture = picture();
    let both = views(&["tokyo", "paris"]).await;
    let tunnels = vec![tunnel(1, "a", 1, None), tunnel(1, "b", 1, None), tunnel(2, "c", 1, None)];
    picture.take(delta(1, tunnels), &both, Timestamp(0));
    let thinned = vec![(EndpointId(1), BTreeSet::from(["b".into()]))];
    picture.take(Delta { thinned, ..delta(2, vec![]) }, &both, Timestamp(0));
    assert_eq!((shown(&picture, 0).len(), picture.revision()), (2, 2));
    picture.take(delta(3, vec![tunnel(2, "d", 1, None)]), &views(&["tokyo"]).await, Timestamp(0));
    assert_eq!(shown(&picture, 0).len(), 1, "tunnels of a removed endpoint go with it, late ones too");
    let removed = picture.removed.take().unwrap();
    assert_eq!(removed.endpoints, BTreeSet::from(["paris".to_owned()]));
    let names: Vec<_> = removed.tunnels.iter().map(|(endpoint, id)| (endpoint.as_str(), id.as_str())).collect();
    assert_eq!(names, [("paris", "c"), ("tokyo", "a")]);
}

#[actix_rt::test]
async fn many_readers_ask_the_recorder_once() {
    let fake = with_endpoint().await;
    let before = fake.0.lock().unwrap().asked;
    let mirror = Mirror::new(fake.clone(), std::sync::Arc::new(SystemClock));
    for answer in futures_util::future::join_all((0..100).map(|_| mirror.refresh())).await {
        answer.unwrap();
    }
    assert_eq!(fake.0.lock().unwrap().asked - before, 1);
    mirror.refresh_now().await.unwrap();
    assert_eq!(fake.0.lock().unwrap().asked - before, 2);
}
