use serde_json::{Value, json};

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
async fn tunnels_come_in_parts_that_are_the_whole_together_whatever_is_removed_meanwhile() {
    let (mut picture, views) = (picture(), views(&["tokyo", "paris"]).await);
    let all = [(1, "a"), (1, "b"), (1, "c"), (2, "a"), (2, "b")];
    picture.take(delta(1, all.map(|(endpoint, instance)| tunnel(endpoint, instance, 1, None)).to_vec()), &views, Timestamp(0));
    let page = |picture: &Picture, endpoint: Option<&str>, after: Option<&TunnelKey>, limit: usize| {
        let (page, end) = picture.tunnel_page(endpoint, after, limit);
        let names = page.into_iter().map(|text| {
            let document: Value = serde_json::from_str(text).unwrap();
            format!("{}/{}", document["endpoint"].as_str().unwrap(), document["instance_id"].as_str().unwrap())
        });
        (names.collect::<Vec<_>>().join(" "), end.cloned())
    };
    assert_eq!(page(&picture, None, None, 2), ("tokyo/a tokyo/b".to_owned(), Some(key(1, "b"))));
    assert_eq!(page(&picture, None, Some(&key(1, "b")), 2), ("tokyo/c paris/a".to_owned(), Some(key(2, "a"))));
    assert_eq!(page(&picture, None, Some(&key(2, "a")), 1), ("paris/b".to_owned(), None));
    assert_eq!(page(&picture, Some("paris"), None, 2), ("paris/a paris/b".to_owned(), None));
    assert_eq!(page(&picture, None, None, usize::MAX).1, None);
    let left = vec![(EndpointId(1), ["a", "c"].map(InstanceId::from).into())];
    picture.take(Delta { thinned: left, ..delta(2, Vec::new()) }, &views, Timestamp(0));
    assert_eq!(
        page(&picture, None, Some(&key(1, "b")), 1),
        ("tokyo/c".to_owned(), Some(key(1, "c"))),
        "the cursor's own is gone"
    );
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
    let before = fake.state().asked;
    let mirror = Mirror::new(fake.clone(), std::sync::Arc::new(SystemClock));
    for answer in futures_util::future::join_all((0..100).map(|_| mirror.refresh())).await {
        answer.unwrap();
    }
    assert_eq!(fake.state().asked - before, 1);
    mirror.refresh_now().await.unwrap();
    assert_eq!(fake.state().asked - before, 2);
}

#[actix_rt::test]
async fn an_endpoint_counts_its_tunnels_by_status() {
    let (mut picture, views) = (picture(), views(&["tokyo", "paris"]).await);
    let tunnels = ["running", "running", "stopped", "error", "resting", ""].into_iter().enumerate().map(|(n, status)| {
        let (key, mut state, rate) = tunnel(1, &n.to_string(), 1, None);
        state.sample.status = status.into();
        (key, state, rate)
    });
    let all: Vec<_> = tunnels.collect();
    picture.take(delta(1, all.clone()), &views, Timestamp(0));
    let statuses = |picture: &Picture, name: &str| -> Value {
        serde_json::from_str::<Value>(picture.endpoint(name).unwrap()).unwrap()["tunnel_statuses"].clone()
    };
    assert_eq!(statuses(&picture, "tokyo"), json!({"running": 2, "stopped": 1, "error": 1, "other": 2}));
    assert_eq!(statuses(&picture, "paris"), json!({"running": 0, "stopped": 0, "error": 0, "other": 0}));
    let mut first = all[0].clone();
    first.1.sample.status = "error".into();
    picture.take(delta(2, vec![first]), &views, Timestamp(0));
    assert_eq!(statuses(&picture, "tokyo"), json!({"running": 1, "stopped": 1, "error": 2, "other": 2}));
}
