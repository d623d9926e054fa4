//! What people do on the page, in a real Chromium: what destroys asks first, and what is changed is changed. Needs Debian's
//! chromium and chromium-driver, as `page.rs` does.

#[path = "common/browser.rs"]
mod browser;
#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/told_master.rs"]
mod told_master;

use std::io::{Read, Write};
use std::net::TcpListener;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use serde_json::{Value, json};

use browser::Browser;
use recorder::{PATIENCE, Recorder, Setup, received, wait};
use told_master::ToldMaster;

/// A stream that was recorded: two tunnels.
const RECORDED: &str = include_str!("fixtures/go/v1.14.0-resume-2.sse");
/// Id of the master that told it.
const MASTER: &str = "630bf1520e7fe929";

fn recorded() -> ToldMaster {
    recorded_as(MASTER)
}

/// The same from another master.
fn recorded_as(master_id: &str) -> ToldMaster {
    let end = RECORDED.rfind("event: ").expect("there are events");
    ToldMaster::start(&RECORDED[..end].replace(MASTER, master_id), usize::MAX)
}

/// A request past the browser. The connection of the one before may have been closed since.
fn ask(recorder: &mut Recorder<'_>, method: &str, path: &str) -> (u16, Value) {
    let answer = recorder.request(method, path).or_else(|_| recorder.request(method, path));
    let (status, body) = answer.expect("the recorder answers");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn a_changed_certificate_is_trusted_after_a_confirmation() {
    let setup = Setup::sqlite();
    let mut recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.click_text("Add endpoint");
    browser.type_into("[name=name]", "tokyo");
    // Nobody listens there: what is pinned stays as it is given.
    browser.type_into("[name=url]", "https://127.0.0.1:9");
    browser.click("summary");
    browser.run("const tls = document.querySelector('[name=tls]'); tls.value = 'pin'; tls.dispatchEvent(new Event('change'))");
    browser.type_into("[name=pin]", &"ab".repeat(32));
    browser.click_text("Add");
    browser.until_text("#endpoints", "tokyo");
    browser.click("#endpoints tbody a");
    browser.until_text(".facts", &"ab".repeat(32));

    browser.click_text("Trust");
    browser.until_text("dialog h2", "Trust the new certificate of tokyo?");
    browser.click_text("Cancel");
    assert_eq!(ask(&mut recorder, "GET", "/api/v1/endpoints/tokyo").1["pin"], json!("ab".repeat(32)), "it was not confirmed");
    browser.click_text("Trust");
    browser.until_text("dialog h2", "Trust the new certificate of tokyo?");
    browser.click_text("Trust");
    browser.until_text(".toast", "The next certificate of tokyo is kept.");
    browser.until_text(".facts", "the next one seen");
    let shown = ask(&mut recorder, "GET", "/api/v1/endpoints/tokyo").1;
    assert_eq!((&shown["tls"], &shown["pin"]), (&json!("pin"), &Value::Null));
    browser.assert_well_behaved();
}

#[test]
fn what_was_recorded_is_deleted_only_where_the_box_is_ticked_and_the_name_typed() {
    let (master, other) = (recorded(), recorded_as("0000000000000001"));
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key").endpoint("oslo", &other.url(), "key");
    let mut recorder = setup.start_and_wait();
    recorder.until("both were heard", |stats| {
        received(stats) >= 20 && stats["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["tunnels"] == json!(2))
    });
    ask(&mut recorder, "POST", "/api/v1/flush");
    // They are added beside each other, in either order.
    let id = |name: &str| count(&setup, &format!("SELECT CAST(id AS BIGINT) AS value FROM endpoints WHERE name = '{name}'"));
    let ids = [id("tokyo"), id("oslo")];
    let stored =
        |nth: usize| count(&setup, &format!("SELECT count(*) AS value FROM endpoint_sse WHERE endpoint_id = {}", ids[nth - 1]));
    let (tokyo, oslo) = (stored(1), stored(2));
    assert!(tokyo > 0 && oslo > 0);

    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/endpoint/tokyo");
    browser.click_text("Remove");
    browser.type_into("[name=typed]", "tokyo");
    browser.click("[name=purge]");
    browser.until_text("dialog [type=submit]", "Remove and delete data");
    browser.click_text("Cancel");
    assert_eq!(stored(1), tokyo, "it was not confirmed");
    browser.click_text("Remove");
    browser.click("[name=purge]");
    browser.type_into("[name=typed]", "toky");
    assert_eq!(browser.run("return document.querySelector('dialog [type=submit]').disabled"), json!(true), "not typed whole");
    browser.type_into("[name=typed]", "o");
    browser.run("document.querySelector('dialog [type=submit]').click()");
    browser.until_text(".toast", "tokyo and its data are removed.");
    browser.until_text("h1", "Overview");
    assert_eq!(stored(1), 0);

    browser.open("/#/endpoint/oslo");
    browser.click_text("Remove");
    browser.type_into("[name=typed]", "oslo");
    browser.run("document.querySelector('dialog [type=submit]').click()");
    browser.until_text(".toast", "oslo is removed; its history is kept.");
    assert!(stored(2) >= oslo, "the box was not ticked");
    browser.assert_well_behaved();
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// What a query on the database gives, past the recorder.
fn count(setup: &Setup, query: &str) -> i64 {
    let mut connection = SqliteConnection::establish(&setup.database_path().to_string_lossy()).expect("the file can be opened");
    connection.batch_execute("PRAGMA busy_timeout = 5000").expect("a pragma");
    sql_query(query).get_result::<Count>(&mut connection).expect("a count").value
}

/// Answers requests with these statuses, one after the other.
fn webhook(statuses: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for status in statuses {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                let mut piece = [0; 4_096];
                match tcp.read(&mut piece).unwrap() {
                    0 => break,
                    length => request.extend_from_slice(&piece[..length]),
                }
            }
            assert!(String::from_utf8_lossy(&request).contains("\"state\":"));
            write!(tcp, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    url
}

#[test]
fn a_test_alert_is_sent_and_a_channel_that_fails_says_why() {
    let url = webhook(&["204 No Content", "500 Internal Server Error"]);
    let setup = Setup::sqlite().set("alerts.webhook_url", &url);
    let _recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/storage");
    browser.until_text(".channels", "Webhook");
    browser.click_text("Send a test");
    browser.until_text(".toast", "Webhook: the test was taken.");
    browser.click_text("Send a test");
    browser.until_text(".toast.bad", "Webhook: it answered 500");
    browser.assert_well_behaved();
}

#[test]
fn an_alert_that_nobody_was_told_is_shown_with_the_reason() {
    let url = webhook(&["404 Not Found"]);
    let setup = Setup::sqlite().set("alerts.webhook_url", &url).set("alerts.endpoint_offline", "1s").endpoint(
        "oslo",
        "http://127.0.0.1:9",
        "key",
    );
    let _recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/storage");
    browser.until_text(".given-up", "messages given up: 1");
    browser.until_text(".given-up", "oslo offline: connection refused");
    browser.until_text(".given-up", "it answered 404");
    browser.assert_well_behaved();
}

#[test]
fn without_a_channel_no_test_is_offered_and_the_page_says_what_to_set() {
    let setup = Setup::sqlite();
    let _recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/storage");
    let card = |name: &str| format!(".card[aria-label='{name}']");
    browser.until_text(&card("Alerts"), "Nobody is told yet: set alerts.webhook_url");
    let offered = browser.run(&format!("return document.querySelectorAll(\"{} button\").length", card("Alerts")));
    assert_eq!(offered, json!(0));
    browser.until_text(&card("Write transactions"), "none yet");
    browser.assert_well_behaved();
}

#[test]
fn a_key_that_may_change_is_changed_refused_and_set_back() {
    let setup = Setup::sqlite();
    let mut recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    let edit = "[aria-label='Edit storage.max_buffer_size']";
    browser.open("/#/storage");
    browser.until_text("#settings", "storage.max_buffer_size");
    browser.click(edit);
    browser.clear("[name=value]");
    browser.type_into("[name=value]", "0");
    browser.click_text("Save");
    browser.until_text("dialog [role=alert]", "a whole number from 1");
    assert!(browser.console().iter().all(|line| line.contains("400")), "only the refused request is in the console");
    browser.clear("[name=value]");
    browser.type_into("[name=value]", "500");
    browser.click_text("Save");
    browser.until_text("#settings", "set while running");
    // It lies over what is clicked next.
    browser.click(".toast button");
    browser.until("the level rises to it", "document.querySelector('[role=meter]').getAttribute('aria-valuemax') === '500'");
    let value =
        |recorder: &mut Recorder<'_>| ask(recorder, "GET", "/api/v1/mode").1["settings"]["storage.max_buffer_size"].clone();
    assert_eq!(value(&mut recorder), json!({"value": "500", "kept": true}));
    browser.click(edit);
    browser.clear("[name=value]");
    browser.click_text("Save");
    browser.until(
        "the level rises to a thousand",
        "document.querySelector('[role=meter]').getAttribute('aria-valuemax') === '1000'",
    );
    assert_eq!(value(&mut recorder), json!({"value": "1000", "kept": false}));
    browser.assert_well_behaved();
}

#[test]
fn the_overview_counts_the_fleet_by_status_and_leads_to_the_tunnels_of_one() {
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key").endpoint("oslo", "http://127.0.0.1:9", "key");
    let _recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text(".statuses", "1 Online");
    browser.until_text(".statuses", "1 Offline");
    browser.until_text(".statuses", "2 Running");
    for period in ["Today", "This month", "Billing cycle"] {
        browser.until_text(".periods", period);
    }
    browser.click_text("2 Running");
    browser.until_text("h1", "Tunnels");
    browser.until("both are there", "document.querySelectorAll('#all-tunnels tbody tr').length === 2");
    browser.open("/#/tunnels/stopped");
    browser.until_text(".counted", "0");
    // A master that is away does not tell how its tunnels are.
    browser.open("/#/endpoint/tokyo");
    browser.click_text("Pause");
    browser.until_text(".statuses", "2 Unknown");
    browser.until_text("#endpoint-tunnels", "Unknown");
    let pool = "return [...document.querySelectorAll('#endpoint-tunnels tbody tr')].map((row) => row.innerText.includes('64'))";
    assert_eq!(browser.run(pool), json!([false, false]), "nor how many connections wait in their pools");
    browser.click("#endpoint-tunnels tbody a");
    browser.until_text(".tile-note", "last told: Running");
    let marked = "return [...document.querySelectorAll('.tile')].filter((one) => one.innerText.includes('last told')).length";
    assert_eq!(browser.run(marked), json!(4), "status, ping, pool and connections");
    browser.open("/#/tunnel/nobody/0a8d970c");
    browser.until_text("#main", "There is no endpoint of this name.");
    assert_eq!(browser.run("return document.querySelectorAll('.card').length"), json!(0));
    browser.assert_well_behaved();
}

#[test]
fn a_chart_is_exported_as_csv_and_as_json_lines() {
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    let folder = setup.path("downloads");
    std::fs::create_dir(&folder).unwrap();
    browser.download_to(&folder);
    let file = |name: &str| {
        let path = folder.join(name);
        wait(PATIENCE, || std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty()))
            .unwrap_or_else(|| panic!("no {name} in {:?}", std::fs::read_dir(&folder).unwrap().flatten().collect::<Vec<_>>()))
    };
    browser.open("/#/tunnel/tokyo/0a8d970c");
    browser.until_text("#endpoint-tunnels, .tile", "Running");
    browser.click_text("CSV");
    let csv = file("tidegate-tokyo-0a8d970c-1h.csv");
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!((head[0], head[1], head[2]), ("time", "in", "out"), "{head:?}");
    assert!(lines.clone().count() >= 60 && lines.all(|line| line.split(',').count() == head.len()), "{csv}");
    browser.click_text("JSON lines");
    let json = file("tidegate-tokyo-0a8d970c-1h.jsonl");
    let steps: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.len(), csv.lines().count() - 1);
    assert!(steps[0]["in"].is_null(), "what is not known is null and not 0: {}", steps[0]);
    assert!(steps.iter().any(|step| step["reports"].as_u64() > Some(0)), "the minute that runs is there");
    browser.open("/#/endpoint/tokyo");
    browser.until_text("#endpoint-tunnels", "Running");
    browser.click_text("CSV");
    file("tidegate-tokyo-24h.csv");
    browser.assert_well_behaved();
}
