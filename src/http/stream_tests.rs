use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;

use serde_json::{Value, json};

use super::super::fake::{Fake, with_endpoint};
use super::*;
use crate::clock::{Clock, SystemClock, Timestamp, VirtualClock};

/// Runs a test on paused time, which goes on by itself while everyone waits.
fn paused<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    actix_rt::System::with_tokio_rt(runtime).block_on(test());
}

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Problem>>>>;

fn hub(fake: &Fake) -> web::Data<Hub<Fake>> {
    let clock = VirtualClock::starting_at(Timestamp(0));
    let mirror = web::Data::new(Mirror::new(fake.clone(), clock.clone()));
    web::Data::new(Hub::new(fake.clone(), mirror, clock))
}

async fn join(hub: &web::Data<Hub<Fake>>, tunnels: &str) -> Body {
    Box::pin(Hub::join(hub, Wanted::parse(tunnels), None).await.unwrap())
}

/// The next event: its kind, id and data; a comment has neither.
async fn next(body: &mut Body) -> (String, u64, Value) {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let piece = tokio::time::timeout(PERIOD * 60, body.next()).await.expect("something is told within a minute");
        text.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let data = serde_json::from_str(field("data: ")).unwrap_or(Value::Null);
    (field("event: ").to_owned(), field("id: ").parse().unwrap_or_default(), data)
}

fn receive(fake: &Fake, bytes: u64) {
    fake.state().tunnel.sample.counters.tcp_rx = bytes;
}

#[test]
fn a_reader_is_told_all_once_and_then_what_changed_once_a_second() {
    paused(|| async {
        let fake = with_endpoint().await;
        let mut body = join(&hub(&fake), "all").await;
        let (kind, first, data) = next(&mut body).await;
        assert_eq!((kind.as_str(), &data["tunnels"][0]["endpoint"]), ("snapshot", &json!("tokyo")));
        assert_eq!((&data["endpoints"][0]["rate_in"], &data["stats"]["mode"]), (&json!(20), &json!("batched")));
        let start = SystemClock.monotonic();
        let mut last = first;
        // Its first update tells the stats once more.
        next(&mut body).await;
        for n in 1..=3 {
            receive(&fake, n);
            let (kind, id, data) = next(&mut body).await;
            assert_eq!((kind.as_str(), &data["tunnels"][0]["tcp_rx"]), ("update", &json!(n)));
            assert!(id > last && data.get("stats").is_none() && data.get("endpoints").is_none(), "{data}");
            last = id;
        }
        assert_eq!(start.elapsed(), PERIOD * 4);
        let (kind, _, _) = next(&mut body).await;
        assert_eq!((kind.as_str(), start.elapsed()), ("", PERIOD * (4 + QUIET_MAX)), "a comment after silence");
    });
}

#[test]
fn removed_endpoints_and_tunnels_are_named() {
    paused(|| async {
        let fake = with_endpoint().await;
        let hub = hub(&fake);
        let (mut all, mut none) = (join(&hub, "all").await, join(&hub, "none").await);
        next(&mut all).await;
        assert!(next(&mut none).await.2.get("tunnels").is_none());
        next(&mut all).await;
        next(&mut none).await;
        fake.remove_endpoint("tokyo", false).await.unwrap();
        let (_, _, data) = next(&mut all).await;
        assert_eq!((&data["removed_endpoints"], &data["removed_tunnels"]), (&json!(["tokyo"]), &json!([["tokyo", "9c3209de"]])));
        let (_, _, data) = next(&mut none).await;
        assert_eq!((&data["removed_endpoints"], data.get("removed_tunnels")), (&json!(["tokyo"]), None));
    });
}

#[test]
fn a_reader_hears_of_the_tunnels_it_asked_for() {
    assert_eq!(Wanted::parse("all/"), Wanted::Endpoint("all".to_owned()));
    paused(|| async {
        let fake = with_endpoint().await;
        let hub = hub(&fake);
        for (tunnels, number) in [("all", 1), ("tokyo", 1), ("tokyo/9c3209de", 1), ("tokyo/aaaa0000", 0), ("paris", 0)] {
            let (_, _, data) = next(&mut join(&hub, tunnels).await).await;
            assert_eq!(data["tunnels"].as_array().unwrap().len(), number, "{tunnels}");
        }
    });
}

#[test]
fn readers_do_not_add_to_what_the_recorder_is_asked() {
    paused(|| async {
        let fake = with_endpoint().await;
        let hub = hub(&fake);
        let mut bodies = Vec::new();
        for _ in 0..READERS_MAX {
            bodies.push(join(&hub, "all").await);
        }
        assert!(Hub::join(&hub, Wanted::All, None).await.is_err(), "their number has a bound");
        let before = fake.state().asked;
        for n in 0..5 {
            receive(&fake, 100 + n);
            for body in &mut bodies {
                next(body).await;
            }
        }
        // The first message that each reads is the snapshot.
        assert_eq!(fake.state().asked - before, 4);
        drop(bodies);
        tokio::time::sleep(PERIOD * 2).await;
        let idle = fake.state().asked;
        tokio::time::sleep(PERIOD * 10).await;
        assert_eq!(fake.state().asked, idle, "without readers nothing is asked");
        let _next = join(&hub, "all").await;
    });
}

#[test]
fn when_the_last_reader_has_left_the_next_one_is_told_as_the_first_was() {
    paused(|| async {
        let fake = with_endpoint().await;
        let hub = hub(&fake);
        let mut last = 0;
        for round in 0..3 {
            let mut body = join(&hub, "all").await;
            assert_eq!(next(&mut body).await.0, "snapshot");
            for n in 1..=2 {
                receive(&fake, 10 * round + n);
                let (kind, id, data) = next(&mut body).await;
                assert_eq!((kind.as_str(), &data["tunnels"][0]["tcp_rx"]), ("update", &json!(10 * round + n)));
                assert!(id > last);
                last = id;
            }
            drop(body);
            tokio::time::sleep(PERIOD * 3).await;
            assert!(hub.told.borrow().readers.is_empty(), "it is let go of, with its connection");
        }
    });
}

#[test]
fn a_panic_ends_the_streams_and_who_comes_back_is_told_again() {
    paused(|| async {
        let fake = with_endpoint().await;
        let hub = hub(&fake);
        let mut body = join(&hub, "all").await;
        next(&mut body).await;
        fake.state().panics = true;
        let end = tokio::time::timeout(PERIOD * 60, body.next()).await;
        assert!(end.expect("a reader that hears nothing would wait for ever").is_none());
        let mut body = join(&hub, "all").await;
        next(&mut body).await;
        next(&mut body).await;
        receive(&fake, 5);
        assert_eq!(next(&mut body).await.2["tunnels"][0]["tcp_rx"], json!(5));
    });
}

#[test]
fn a_reader_that_takes_nothing_is_disconnected_and_holds_nobody_up() {
    paused(|| async {
        let fake = with_endpoint().await;
        let hub = hub(&fake);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stalled_end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Arc::new(Socket::from(listener.accept().unwrap().0));
        let _stalled = Hub::join(&hub, Wanted::All, Some(socket)).await.unwrap();
        let mut body = join(&hub, "all").await;
        next(&mut body).await;
        for n in 0..2 * WAITING_MAX as u64 {
            receive(&fake, n + 1);
            assert_eq!(next(&mut body).await.2["tunnels"][0]["tcp_rx"], json!(n + 1));
        }
        assert_eq!(hub.told.borrow().readers.len(), 1);
        assert_eq!(stalled_end.read(&mut [0; 1]).unwrap(), 0, "its connection is ended");
    });
}

#[test]
fn large_messages_go_out_in_pieces_and_come_together_again() {
    paused(|| async {
        let (queue, waiting) = mpsc::channel(1);
        let large: Bytes = "x".repeat(3 * PIECE_BYTES + 1).into();
        queue.try_send([large.clone(), Bytes::from_static(b"end")]).unwrap();
        drop(queue);
        let pieces: Vec<Bytes> = pieces(waiting).map(Result::unwrap).collect().await;
        assert!(pieces.len() == 5 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.concat(), [&large[..], b"end"].concat());
    });
}
