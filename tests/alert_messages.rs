//! Alerts over a real connection, to a webhook and to Telegram, with the keys of the configuration.

#[path = "common/webhook.rs"]
mod webhook;

use std::io::Write;
use std::net::TcpListener;

use serde_json::{Value, json};
use tidegate::alerts::{Channel, Message, Messenger, Notify};
use tidegate::clock::Timestamp;
use tidegate::config::{AlertsConfig, Config, Sources};
use tidegate::transport::HttpTransport;

const TOKEN: &str = "123456:AAsecret-canary_x";

/// Takes one request, answers with this status, and gives the request's line and body.
fn taking(status: &'static str) -> (String, std::thread::JoinHandle<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let taken = webhook::read_request(&mut tcp);
        write!(tcp, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
        taken
    });
    (url, taken)
}

fn messenger(set: &[String]) -> Messenger {
    let sources = Sources { set: set.to_vec(), ..Sources::default() };
    let AlertsConfig { webhook, telegram, .. } = Config::load(&sources).unwrap().alerts;
    Messenger { transport: HttpTransport::new(), webhook, telegram }
}

#[tokio::test]
async fn a_webhook_gets_our_document_or_the_one_it_wants() {
    let message = Message::test(Timestamp(0));
    let (url, taken) = taking("204 No Content");
    let plain = messenger(&[format!("alerts.webhook_url={url}/hook?thread=1")]);
    assert_eq!(plain.channels(), [Channel::Webhook]);
    plain.send(Channel::Webhook, &message).await.unwrap();
    let (line, body) = taken.join().unwrap();
    assert_eq!((line.as_str(), body), ("POST /hook?thread=1 HTTP/1.1", message.document()));

    let (url, taken) = taking("200 OK");
    let template = r#"alerts.webhook_template={"content": "{{state}}: {{title}}"}"#.to_owned();
    messenger(&[format!("alerts.webhook_url={url}"), template]).send(Channel::Webhook, &message).await.unwrap();
    assert_eq!(taken.join().unwrap().1, json!({"content": "test: tidegate: test"}));
}

#[tokio::test]
async fn telegram_is_told_and_its_token_is_not_shown_when_it_refuses() {
    let message = Message::test(Timestamp(0));
    let (url, taken) = taking("401 Unauthorized");
    let set = [
        "alerts.telegram_chat=-100200".to_owned(),
        format!("alerts.telegram_token={TOKEN}"),
        format!("alerts.telegram_api={url}/"),
    ];
    let messenger = messenger(&set);
    let error = messenger.send(Channel::Telegram, &message).await.unwrap_err();
    assert!(error.is_permanent && error.reason.starts_with("it answered 401"), "{error}");
    let (line, body) = taken.join().unwrap();
    assert_eq!(line, format!("POST /bot{TOKEN}/sendMessage HTTP/1.1"));
    assert_eq!((&body["chat_id"], &body["text"]), (&json!("-100200"), &json!(message.text)));
    let error = messenger.send(Channel::Telegram, &message).await.unwrap_err();
    assert!(!error.is_permanent && !error.reason.contains("canary") && error.reason.contains("refused"), "{error}");
}

#[test]
fn what_belongs_together_must_be_given_together_and_no_error_repeats_a_secret() {
    for (set, expected) in [
        (vec![format!("alerts.telegram_token={TOKEN}")], "alerts.telegram_chat"),
        (vec!["alerts.telegram_chat=1".to_owned()], "alerts.telegram_token"),
        (vec!["alerts.telegram_chat=1".to_owned(), "alerts.telegram_token=secret/canary".to_owned()], "alerts.telegram_token"),
        (vec!["alerts.webhook_url=https://u:canary@h/".to_owned()], "alerts.webhook_url"),
        (vec!["alerts.webhook_url=http://h".to_owned(), "alerts.webhook_template={".to_owned()], "alerts.webhook_template"),
        (vec!["alerts.webhook_template={}".to_owned()], "alerts.webhook_url"),
    ] {
        let error = Config::load(&Sources { set, ..Sources::default() }).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("canary"), "{error}");
    }
    assert!(Config::load(&Sources::default()).unwrap().alerts.webhook.is_none());
}
