//! The page in a real Chromium, served by the real binary. Needs Debian's chromium and chromium-driver.

#[path = "common/browser.rs"]
mod browser;
#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/told_master.rs"]
mod told_master;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::clock::SystemClock;
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::Version;

use browser::{Browser, SETTLED, VIEWS};
use recorder::{PATIENCE, Recorder, Setup, wait};
use told_master::ToldMaster;

/// A stream that was recorded: two tunnels that have 700,000 bytes in each direction, and in the end 900,000.
const RECORDED: &str = include_str!("fixtures/go/v1.14.0-resume-2.sse");
/// Its events before the counters rise; the last one says that the master stops, and is left out.
const BEFORE_THE_RISE: usize = 13;
const TUNNEL: &str = "#/tunnel/tokyo/0a8d970c";

fn recorded() -> ToldMaster {
    let end = RECORDED.rfind("event: ").expect("there are events");
    ToldMaster::start(&RECORDED[..end], BEFORE_THE_RISE)
}

fn start(setup: &Setup) -> Recorder<'_> {
    setup.start_and_wait()
}

/// A request past the browser. The connection of the one before may have been closed since.
fn ask(recorder: &mut Recorder<'_>, method: &str, path: &str) -> (u16, String) {
    recorder.request(method, path).or_else(|_| recorder.request(method, path)).expect("the recorder answers")
}

#[test]
fn numbers_of_a_recorded_stream_rise_without_a_reload_and_charts_draw() {
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("#endpoints", "tokyo");
    browser.until_text("#endpoints", "Online");
    browser.until_text(".link", "Live");
    browser.run("window.notReloaded = true");

    browser.click("#endpoints tbody a");
    browser.until_text("#endpoint-tunnels", "Running");
    browser.open(&format!("/{TUNNEL}"));
    browser.run("window.notReloaded = true");
    browser.until_text(".tile", "700 kB");
    master.release();
    browser.until_text(".tile", "900 kB");
    assert_eq!(browser.run("return window.notReloaded"), json!(true), "it was reloaded");
    // Loads anew what is known by now.
    browser.click_text("24 h");
    browser.click_text("1 h");
    browser.until("four charts are there", "document.querySelectorAll('.chart canvas').length === 4");
    // A pixel of exactly the line's colour: what stands on the axes is grey.
    let drawn = "(() => { const chart = document.querySelector('.chart'); const canvas = chart.querySelector('canvas'); \
        const [r, g, b] = getComputedStyle(chart.querySelector('.u-marker')).borderTopColor.match(/\\d+/g).map(Number); \
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); \
        for (let at = 0; at < data.length; at += 4) if (data[at] === r && data[at + 1] === g && data[at + 2] === b) return true; \
        return false; })()";
    browser.until("the line of what was received is drawn", drawn);
    let told =
        "!/–/.test(document.querySelector('.u-legend').innerText) && /B\\/s/.test(document.querySelector('.u-legend').innerText)";
    browser.until("without a pointer the last values are told", told);

    browser.open("/#/storage");
    browser.click_text("Flush now");
    browser.until_text(".toast", "records are committed");
    browser.until_text(".tag", "by hand");
    browser.until("the level is told", "document.querySelector('[role=meter]').getAttribute('aria-valuemax') === '1000'");
    browser.assert_well_behaved();
}

#[test]
fn an_endpoint_is_added_edited_paused_and_removed() {
    let master = recorded();
    let setup = Setup::sqlite();
    let mut recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("h2", "No endpoints yet");
    browser.click_text("Add endpoint");
    browser.type_into("[name=name]", "東京");
    browser.type_into("[name=url]", "ftp://nowhere");
    browser.click_text("Add");
    browser.until_text("dialog [role=alert]", "not http or https");
    assert!(browser.console().iter().all(|line| line.contains("422")), "only the refused request is in the console");
    browser.clear("[name=url]");
    browser.type_into("[name=url]", &master.url());
    browser.type_into("[name=api_key]", "secret-key-of-the-master");
    browser.click_text("Add");
    browser.until_text("#endpoints", "東京");
    browser.until_text("#endpoints", "Online");

    browser.click("#endpoints tbody a");
    browser.until_text("h1", "東京");
    browser.click_text("Probe");
    browser.until_text(".steps", "TCP connection");
    browser.click_text("Close");
    browser.click_text("Edit");
    browser.click("summary");
    browser.run("const select = document.querySelector('[name=log_events]'); select.value = 'false'; select.dispatchEvent(new Event('change'))");
    browser.click_text("Save");
    browser.until("the dialog is closed", "document.querySelector('dialog') === null");
    let shown: Value = serde_json::from_str(&ask(&mut recorder, "GET", "/api/v1/endpoints/%E6%9D%B1%E4%BA%AC").1).unwrap();
    assert_eq!(shown["log_events"], json!(false));
    browser.click_text("Pause");
    browser.until_text(".tile", "Paused");
    browser.click_text("Resume");
    browser.until_text(".tile", "Online");

    browser.click_text("Remove");
    browser.type_into("[name=typed]", "東");
    assert_eq!(browser.run("return document.querySelector('dialog [type=submit]').disabled"), json!(true), "not typed whole");
    browser.type_into("[name=typed]", "京");
    browser.run("document.querySelector('dialog [type=submit]').click()");
    browser.until_text("h2", "No endpoints yet");
    assert_eq!(ask(&mut recorder, "GET", "/api/v1/endpoints/%E6%9D%B1%E4%BA%AC").0, 404);
    browser.assert_well_behaved();
}

#[test]
fn what_was_tried_with_other_values_is_forgotten_and_an_edit_that_changes_nothing_tells_nothing() {
    let setup = Setup::sqlite().endpoint("oslo", "http://127.0.0.1:9", "key");
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("#endpoints", "Offline");
    browser.click_text("Add endpoint");
    browser.type_into("[name=url]", "http://127.0.0.1:9");
    browser.click_text("Try it");
    browser.until_text("dialog .steps", "connection refused");
    browser.type_into("[name=url]", "0");
    browser.until("what was found of another address is gone", "document.querySelector('dialog .steps') === null");
    browser.click_text("Cancel");
    browser.open("/#/endpoint/oslo");
    browser.until_text("h1", "oslo");
    browser.click_text("Edit");
    browser.until_text("dialog h2", "Edit oslo");
    browser.click_text("Save");
    browser.until("the dialog is closed", "document.querySelector('dialog') === null");
    assert_eq!(browser.run("return document.querySelectorAll('.toast').length"), json!(0), "nothing was changed");
    let focused = browser.run("return document.activeElement.textContent");
    assert_eq!(focused, json!("Edit"), "the focus is back where it was");
    browser.assert_well_behaved();
}

#[test]
fn language_and_colours_follow_the_browser_and_the_switches_are_kept() {
    let setup = Setup::sqlite();
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "zh-CN");
    let ground = || browser.run("return getComputedStyle(document.body).backgroundColor");
    browser.prefer_colours("dark");
    browser.open("/");
    browser.until_text("h1", "概览");
    assert_eq!(browser.run("return document.documentElement.lang"), json!("zh-Hans"));
    let dark = ground();
    browser.prefer_colours("light");
    let light = ground();
    assert_ne!(dark, light, "the colours follow the system");
    browser.click("#language");
    browser.until_text("h1", "Overview");
    browser.click("#theme");
    browser.click("#theme");
    assert_eq!(ground(), dark, "light, then dark, whatever the system says");
    browser.open("/#/storage");
    browser.until_text("h1", "Storage");
    assert_eq!((ground(), browser.run("return document.documentElement.lang")), (dark, json!("en")), "kept over a reload");
    browser.assert_well_behaved();
}

/// The stream of a master whose names and lines try to be more than text.
fn hostile() -> String {
    let instance = |id: &str, alias: &str, url: &str| {
        json!({"id": id, "alias": alias, "type": "server", "status": "running", "url": url, "config": "", "restart": false,
               "meta": {"peer": {"sid": "", "type": "", "alias": ""}, "tags": {}},
               "mode": 0, "ping": 1, "pool": 2, "tcps": 3, "udps": 4, "tcprx": 5, "tcptx": 6, "udprx": 7, "udptx": 8})
    };
    let instances = [
        instance("aaaa0001", MARKUP, &format!("server://h:1/{MARKUP}")),
        instance("aaaa0002", "\u{202e}gpj.exe\u{2066}\u{0007}\u{0000}", "javascript:window.owned=true"),
        instance("aaaa0003", &"長".repeat(3_400), "server://h:1/h:2"),
        instance("aaaa0004", "{{7*7}} ${7*7} &lt;b&gt; {name}", "server://h:1/h:2"),
        instance("aaaa0005", "\u{1b}[31mred\u{1b}[0m\r\n\u{1b}[2J", "server://h:1/h:2"),
        instance("aaaa0006", "👩‍👩‍👧‍👦🏳️‍🌈\u{200f}שלום\u{0301}\u{0301}\u{0301}", "server://h:1/h:2"),
    ];
    let event = |kind: &str, instance: &Value, logs: &str| {
        let event = json!({"type": kind, "time": "2026-11-23T06:19:42.5Z", "instance": instance, "logs": logs});
        format!("event: instance\ndata: {event}\n\n")
    };
    let lines = [
        format!("\u{1b}[31mERROR\u{1b}[0m {MARKUP}"),
        "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[1;1H\u{1b}[38;5;31mstill\u{1b}[0m here".to_owned(),
        "\u{202e}txet desrever".to_owned(),
        "👩‍👩‍👧‍👦 joined 🎉".to_owned(),
        "\u{1b}[48;2;10;20;30m\u{1b}[38;2;10;20;30mcamouflaged\u{1b}[0m \u{1b}[8mconcealed\u{1b}[0m \u{1b}[4;7munderlined\u{1b}[0m".to_owned(),
        "x".repeat(20_000),
    ];
    let mut stream = String::from("retry: 3000\n\n");
    instances.iter().for_each(|instance| stream += &event("initial", instance, ""));
    lines.iter().for_each(|line| stream += &event("log", &instances[0], line));
    stream
}

/// What becomes of a log line: its pieces, each with classes and colours.
#[test]
fn colours_of_log_lines_are_understood_and_nothing_else_in_them() {
    let setup = Setup::sqlite();
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("h2", "No endpoints yet");
    let pieces = |line: &str| {
        let module = "document.querySelector('script[type=module]').src.replace('app.js', 'ansi.js')";
        browser.run(&format!("return import({module}).then(({{ ansi }}) => ansi({}))", json!(line)))
    };
    let plain = |text: &str| json!([[text, "", null]]);
    let on = |text: &str, classes: &str, fore: &str, back: &str| json!([[text, classes, {"--fore": fore, "--back": back}]]);
    let (black, white) = ("rgb(0 0 0)", "rgb(255 255 255)");
    for (line, expected) in [
        ("text", plain("text")),
        ("\u{1b}[31mred", json!([["red", "ansi-red", null]])),
        ("\u{1b}[91mred", json!([["red", "ansi-bright-red", null]])),
        (
            "\u{1b}[1;4;92mgo\u{1b}[22;24;39m on",
            json!([["go", "ansi-bold ansi-underline ansi-bright-green", null], [" on", "", null]]),
        ),
        ("\u{1b}[4:3mcurly\u{1b}[4:0m", json!([["curly", "ansi-underline", null]])),
        ("\u{1b}[41mground", on("ground", "ansi-on", white, "rgb(178 34 46)")),
        ("\u{1b}[107;30mon white", on("on white", "ansi-on", black, white)),
        ("\u{1b}[7;33minverse", on("inverse", "ansi-on", white, "rgb(150 100 0)")),
        ("\u{1b}[7minverse", json!([["inverse", "ansi-inverse", null]])),
        ("\u{1b}[7m\u{1b}[27mnot", plain("not")),
        ("\u{1b}[38;5;9mred", json!([["red", "ansi-bright-red", null]])),
        ("\u{1b}[38;5;208morange", json!([["orange", "ansi-any", {"--fore": "rgb(255 135 0)"}]])),
        ("\u{1b}[38;5;255;1mgrey", json!([["grey", "ansi-bold ansi-any", {"--fore": "rgb(238 238 238)"}]])),
        ("\u{1b}[38;2;1;2;3;1mtrue", json!([["true", "ansi-bold ansi-any", {"--fore": "rgb(1 2 3)"}]])),
        ("\u{1b}[38:2::1:2:3mtrue", json!([["true", "ansi-any", {"--fore": "rgb(1 2 3)"}]])),
        ("\u{1b}[38:5:208morange", json!([["orange", "ansi-any", {"--fore": "rgb(255 135 0)"}]])),
        // A ground and a text that can be told apart stay as they are; others do not hide anything.
        ("\u{1b}[48;2;0;0;0;38;2;255;255;0myellow", on("yellow", "ansi-on", "rgb(255 255 0)", black)),
        ("\u{1b}[40;30mhidden", on("hidden", "ansi-on", white, black)),
        ("\u{1b}[48;5;231;38;5;230mhidden", on("hidden", "ansi-on", black, white)),
        ("\u{1b}[8mconcealed", plain("concealed")),
        // No colour: out of range, cut short, of an unknown kind, with letters.
        ("\u{1b}[38;5;256mtext", plain("text")),
        ("\u{1b}[38;2;1;2mtext", plain("text")),
        ("\u{1b}[38;9;4mtext", plain("text")),
        ("\u{1b}[38mtext", plain("text")),
        ("\u{1b}[38:2:999:0:0mtext", plain("text")),
        ("\u{1b}[;;;999999999999999999mtext", plain("text")),
        // Everything else is left out.
        ("\u{1b}[2J\u{1b}[1;1H\u{1b}[?25l\u{1b}[>4;1m\u{1b}[!ptext", plain("text")),
        ("\u{9b}31mred\u{9b}0m", json!([["red", "ansi-red", null]])),
        ("\u{1b}]8;;javascript:alert(1)\u{1b}\\link\u{1b}]8;;\u{7}", plain("link")),
        ("\u{1b}Pq#0\u{1b}\\text", plain("text")),
        ("\u{202e}txet\u{2066}", plain("txet")),
        // A string that does not end hides nothing.
        ("\u{1b}]0;not a title", plain("0;not a title")),
        ("\u{1b}[31", plain("31")),
        ("a\u{8}\u{7}\u{0}\u{7f}\tb\u{1b}", json!([["a", "", null], ["\tb", "", null]])),
        ("\u{1b}[31;url(x);</style>mtext", plain("rl(x);</style>mtext")),
    ] {
        assert_eq!(pieces(line), expected, "{line:?}");
    }
    // Looked through once: the square of its length would be minutes.
    assert_eq!(pieces(&"\u{9d}".repeat(200_000)), json!([]));
    let many = pieces(&"\u{1b}[31mx\u{1b}[32my".repeat(50_000));
    let many = many.as_array().unwrap();
    assert_eq!((many.len(), many.iter().map(|piece| piece[0].as_str().unwrap().len()).sum::<usize>()), (1_001, 100_000));
    browser.assert_well_behaved();
}

const MARKUP: &str = "<img src=x onerror=\"document.title='owned'\"><script>window.owned = true</script>";

#[test]
fn hostile_names_and_log_lines_stay_text_on_every_view_in_both_languages() {
    let master = ToldMaster::start(&hostile(), usize::MAX);
    let setup = Setup::sqlite().endpoint("bad", &master.url(), "key");
    let mut recorder = start(&setup);
    recorder.until("all are known", |stats| stats["endpoints"][0]["tunnels"] == json!(6));
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    let tunnels = (1..=6).map(|nth| format!("/#/tunnel/bad/aaaa000{nth}"));
    let others = ["/#/", "/#/tunnels", "/#/endpoint/bad", "/#/storage"].map(str::to_owned);
    let places: Vec<String> = others.into_iter().chain(tunnels).collect();
    for language in ["en", "zh"] {
        browser.choose(language, "light");
        for place in &places {
            browser.open(place);
            browser.until(place, SETTLED);
            let inside = "document.querySelectorAll('main img, main script, main b, main iframe, a[href^=javascript]').length";
            let control = "/[\\u0000-\\u0008\\u000b-\\u001f\\u007f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)";
            let found = browser.run(&format!(
                "return [{inside}, window.owned ?? null, document.title.includes('owned'), document.documentElement.scrollWidth - innerWidth, {control}]"
            ));
            assert_eq!(found, json!([0, null, false, 0, false]), "{place} {language}");
        }
    }
    browser.choose("en", "light");
    browser.open("/#/tunnels");
    browser.until_text("#all-tunnels", "<img src=x onerror=");
    browser.until_text("#all-tunnels", "{{7*7}} ${7*7} &lt;b&gt; {name}");
    browser.until_text("#all-tunnels", "👩‍👩‍👧‍👦🏳️‍🌈");
    // What would colour a terminal when it is copied there is not there.
    browser.until_text("#all-tunnels", "\u{fffd}[31mred\u{fffd}[0m");
    browser.until_text("#all-tunnels", "\u{fffd}gpj.exe\u{fffd}\u{fffd}\u{fffd}");
    browser.until("there are six", "document.querySelectorAll('#all-tunnels tbody tr').length === 6");
    browser.open("/#/tunnel/bad/aaaa0001");
    browser.until_text(".events", "<script>window.owned = true</script>");
    browser.until_text(".events .ansi-red", "ERROR");
    // Set past the policy that forbids styles in markup, and never in the colour of its ground.
    browser.until_text(".events .ansi-on", "camouflaged");
    let colours = "const { color, backgroundColor } = getComputedStyle(document.querySelector('.events .ansi-on')); return [color, backgroundColor]";
    assert_eq!(browser.run(colours), json!(["rgb(255, 255, 255)", "rgb(10, 20, 30)"]));
    browser.until_text(".events", "concealed");
    browser.until_text(".events .ansi-underline.ansi-inverse", "underlined");
    browser.until_text(".events", "still here");
    browser.until_text(".events", "👩‍👩‍👧‍👦 joined 🎉");
    browser.assert_well_behaved();
}

#[test]
fn with_a_token_the_page_is_behind_a_login_and_can_be_left() {
    const TOKEN: &str = "a-token-that-nobody-guesses";
    let setup = Setup::sqlite().set("http.token", TOKEN);
    let mut recorder = setup.start();
    let up = wait(PATIENCE, || recorder.request("GET", "/readyz").is_ok_and(|(status, _)| status == 200).then_some(()));
    assert!(up.is_some(), "{}", setup.log());
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/storage");
    browser.until("the form is there", "location.pathname === '/login' && document.querySelector('#token')");
    browser.type_into("#token", "wrong");
    browser.click("#enter");
    browser.until_text("#failed", "This is not the token.");
    browser.type_into("#token", TOKEN);
    browser.click("#enter");
    browser.until_text("h1", "Storage");
    browser.until_text(".link", "Live");
    browser.assert_well_behaved();
    browser.click("#logout");
    browser.until("the form is there again", "location.pathname === '/login' && document.querySelector('#token')");
    browser.open("/");
    browser.until("without a session there is only the form", "location.pathname === '/login'");
}

#[test]
fn the_storage_mode_is_switched_after_a_confirmation() {
    let setup = Setup::sqlite();
    let mut recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    let pressed = |mode: &str| {
        format!("[...document.querySelectorAll('.segment[aria-pressed=true]')].some((one) => one.textContent === '{mode}')")
    };
    browser.open("/#/storage");
    browser.until("it is batched", &pressed("batched"));
    browser.click_text("dual");
    browser.until_text("dialog h2", "Switch to dual?");
    browser.click_text("Switch");
    browser.until("it is dual", &pressed("dual"));
    let report: Value = serde_json::from_str(&ask(&mut recorder, "GET", "/api/v1/mode").1).unwrap();
    assert_eq!(report["mode"], json!("dual"));
    browser.assert_well_behaved();
}

#[test]
fn the_page_says_that_it_is_not_live_while_the_recorder_is_away_and_goes_on_by_itself() {
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("#endpoints", "Online");
    recorder.stop_well();
    browser.until_text(".notice.warn", "What is shown is old");
    browser.until("it does not say that it is live", "document.querySelector('.link.live') === null");
    browser.until_text("#endpoints", "tokyo");
    // What is asked for meanwhile is asked for again as soon as somebody is there, not when its time has come: in five minutes.
    browser.click_text("7 d");
    browser.until_text(".card .notice.bad", "The recorder does not answer; see whether it runs.");
    browser.until("it is told for what is missing alone", "document.querySelectorAll('.notice.bad').length === 1");
    let _recorder = start(&setup);
    browser.until_text(".link", "Live");
    browser.until(
        "the charts are there",
        "document.querySelector('.notice.bad') === null && document.querySelector('.chart canvas') !== null",
    );
    browser.until("the notice is gone", "document.querySelector('.notice.warn') === null");
}

/// Rows that nobody sees are not made, whatever their number; the search looks at all of them, and all of it is quick.
#[test]
fn a_table_of_thousands_draws_what_is_seen_and_searches_all() {
    const INSTANCES: usize = 10_000;
    let load = Load { version: Version::Go1_14_0, instances: INSTANCES, events: 0, per_second: None, then: AfterLoad::StayOpen };
    let thread = ServerThread::start().unwrap();
    let server = thread.run(|| LoadServer::start(load, Arc::new(SystemClock), 1)).unwrap();
    let setup = Setup::sqlite().masters([&server]);
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/tunnels");
    browser.until_text(".counted", "10,000");
    let rows = "[...document.querySelectorAll('#all-tunnels tbody tr:not(.gap)')]";
    let few = format!("{rows}.length > 20 && {rows}.length < 100");
    browser.until("few rows are drawn", &few);
    assert_eq!(browser.run(&format!("return {rows}[0].querySelector('bdi').textContent")), json!("load-0"));
    browser.run("scrollTo(0, document.body.scrollHeight)");
    browser.until("the last row is there, in order", &format!("{rows}.at(-1).querySelector('bdi').textContent === 'load-9999'"));
    assert_eq!(browser.run(&format!("return {few}")), json!(true));
    browser.run("scrollTo(0, 0)");
    browser.type_into("#main input[type=search]", "load-1234");
    browser.until("one is found", &format!("{rows}.length === 1"));
    browser.until_text(".counted", "1 of 10,000");
    // From what is done to what is seen, in milliseconds. Rows are looked through a few times: hundreds would be seconds.
    let took = |action: &str| {
        let body = format!(
            "return new Promise((done) => {{ const search = document.querySelector('#main input[type=search]'); \
             const begin = performance.now(); {action}; requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin))); }})"
        );
        browser.run(&body).as_f64().unwrap()
    };
    let search = |text: &str| took(&format!("search.value = '{text}'; search.dispatchEvent(new Event('input'))"));
    let (some, all) = (search("load 99"), search(""));
    let sorted = took("document.querySelector('#all-tunnels th:last-child button').click()");
    let filtered = took(
        "const type = document.querySelectorAll('.filters select')[1]; type.value = 'server'; type.dispatchEvent(new Event('change'))",
    );
    println!("of 10,000 rows: search {some:.0} ms, all again {all:.0} ms, sort {sorted:.0} ms, filter {filtered:.0} ms");
    for (what, millis) in [("search", some), ("all again", all), ("sort", sorted), ("filter", filtered)] {
        assert!(millis < QUICK_MS, "{what}: {millis} ms");
    }
    browser.assert_well_behaved();
}

/// Longest time between an action on a table and its sight, in milliseconds, with room for a busy test machine.
const QUICK_MS: f64 = 1_000.0;

/// Five hundred endpoints: all are searched and sorted, and the page stays as quick.
#[test]
fn five_hundred_endpoints_are_searched_and_sorted() {
    let endpoints = (0..500)
        .fold(Setup::sqlite(), |setup, nth| setup.endpoint(&format!("m{nth}"), &format!("http://127.0.0.1:9/m{nth}"), "key"));
    let _recorder = start(&endpoints);
    let browser = Browser::start(&endpoints.origin(), "en");
    browser.open("/");
    browser.until_text(".counted", "500");
    browser.until_text(".attention", "494 more endpoints");
    let named = "[...document.querySelectorAll('.attention bdi')].map((name) => name.textContent).join()";
    browser.until("by number, not by text", &format!("{named} === 'm0,m1,m2,m3,m4,m5'"));
    let rows = "[...document.querySelectorAll('#endpoints tbody tr:not(.gap)')]";
    browser.click_text("Endpoint");
    browser.until(
        "by number, not by text",
        &format!("{rows}.slice(0, 3).map((row) => row.querySelector('bdi').textContent).join() === 'm0,m1,m2'"),
    );
    browser.type_into("#main input[type=search]", "m49");
    browser.until_text(".counted", "11 of 500");
    browser.assert_well_behaved();
}

/// Also where only a part of the rows is drawn, above and below gaps.
#[test]
fn a_long_table_has_room_for_names_at_every_width() {
    let load = Load { version: Version::Go1_14_0, instances: 150, events: 0, per_second: None, then: AfterLoad::StayOpen };
    let thread = ServerThread::start().unwrap();
    let server = thread.run(|| LoadServer::start(load, Arc::new(SystemClock), 1)).unwrap();
    let setup = (0..150).fold(Setup::sqlite().masters([&server]), |setup, nth| {
        setup.endpoint(&format!("m{nth}"), &format!("http://127.0.0.1:9/m{nth}"), "key")
    });
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    for (address, table) in [("/#/tunnels", "all-tunnels"), ("/#/endpoint/load1", "endpoint-tunnels"), ("/#/", "endpoints")] {
        browser.open(address);
        browser.until("only a part of the rows is drawn", &format!("document.querySelector('#{table} tr.gap') !== null"));
        for (width, least) in
            [(390, 100), (640, 140), (700, 140), (820, 180), (960, 180), (1_024, 180), (1_181, 180), (1_280, 180), (1_920, 180)]
        {
            browser.resize(width, 900);
            let name = browser.run(&format!("return document.querySelector('#{table} th.main').offsetWidth")).as_u64().unwrap();
            assert!(name >= least, "{address} at {width}: the column of names has {name} px");
            let both =
                "return ['select.wide', 'th.number.wide'].map((css) => document.querySelector(css)?.checkVisibility() ?? null)";
            let both = browser.run(both);
            assert!(
                both[0].is_null() || both[0] == both[1],
                "{address} at {width}: a period is chosen where its traffic is shown"
            );
        }
    }
    browser.assert_well_behaved();
}

/// What the page's own functions make of figures that a recorder seldom has: modules are loaded as the page does.
fn of_module(browser: &Browser, module: &str, body: &str) -> Value {
    let address = format!("document.querySelector('script[type=module]').src.replace('app.js', '{module}')");
    browser.run(&format!("return import({address}).then((module) => {{ {body} }})"))
}

#[test]
fn alerts_are_named_with_their_subject_up_to_a_number_and_in_the_readers_language() {
    let setup = Setup::sqlite();
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("h2", "No endpoints yet");
    let alert = |kind: &str, endpoint: Option<&str>, id: Option<&str>, text: &str| json!({"kind": kind, "endpoint": endpoint, "instance_id": id, "text": text});
    let overdue = "a flush is overdue: the boundary passed and its events are not committed";
    let limit = "1.5 GB moved in this billing cycle, of 1 GB";
    let mut alerts = vec![alert("flush_overdue", None, None, overdue)];
    alerts.extend((0..9).map(|nth| alert("traffic_limit", Some(&format!("m{nth}")), None, limit)));
    alerts.extend((0..7).map(|nth| alert("tunnel_error", Some("m0"), Some(&format!("aaaa000{nth}")), "tunnel web is in error")));
    let storage = json!({"buffer_usage_pct": 0, "quarantined": 0, "journal_bytes": 5_000_000});
    let stats = json!({"optimized_storage": storage, "database": {"ok": true, "error": null}, "dropped": {"bad_name": 35}});
    let body = format!(
        "const flat = (text) => [text].flat(9).map((one) => one?.props?.text ?? (one || '')).join(''); \
         return module.attention({{ stats: {stats}, endpoints: new Map(), alerts: {} }}) \
             .map(({{ text, detail, href }}) => [flat(text), detail && detail.replaceAll('\\u00a0', ' '), href])",
        json!(alerts)
    );
    let told = of_module(&browser, "overview.js", &body);
    assert_eq!(told[0], json!(["Flush overdue", overdue, "#/storage"]));
    assert_eq!(told[1], json!(["m0: Traffic limit reached", limit, "#/endpoint/m0"]));
    assert_eq!(told[6][0], "m5: Traffic limit reached");
    let hint = "See the table below, with the traffic of the billing cycle.";
    assert_eq!(told[7], json!(["3 more: Traffic limit reached", hint, null]));
    assert_eq!(told[8], json!(["m0/aaaa0000: Tunnel in error", "tunnel web is in error", "#/tunnel/m0/aaaa0000"]));
    assert_eq!(told[14], json!(["1 more: Tunnel in error", null, "#/tunnels/error"]));
    assert_eq!(told[15][0], "35 events not kept");
    assert_eq!(told[15][1], "An id, kind or status in them was no usable name. (bad_name)");
    assert_eq!(told.as_array().unwrap().len(), 16);

    browser.choose("zh", "light");
    let told = of_module(&browser, "overview.js", &body);
    assert_eq!(told[1], json!(["m0: 达到流量上限", "本计费周期已传输 1.5 GB，上限 1 GB", "#/endpoint/m0"]));
    for item in told.as_array().unwrap() {
        let detail = item[1].as_str().unwrap_or_default();
        assert!(!detail.contains("is ") && !detail.contains(" in "), "{detail}: this can be told in Chinese");
    }
    browser.assert_well_behaved();
}

/// The phrases themselves are compared with the code beside `phrases.js`.
#[test]
fn what_the_recorder_says_in_its_own_words_is_said_in_chinese_on_the_chinese_page() {
    let setup = Setup::sqlite().endpoint("oslo", "http://127.0.0.1:9", "key");
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "zh-CN");
    browser.open("/");
    let refused = "连接被拒绝；请确认主控正在运行且端口正确";
    browser.until_text(".attention", refused);
    browser.open("/#/endpoint/oslo");
    browser.until_text(".notice.bad", refused);
    browser.click_text("探测");
    browser.until_text(".step-detail", "127.0.0.1");
    browser.until_text(".steps .bad .step-detail", "连接被拒绝");
    browser.until_text(".step-advice", "请确认主控正在运行且端口正确");
    browser.click_text("关闭");
    browser.open("/#/");
    browser.click_text("添加端点");
    browser.type_into("[name=name]", "oslo");
    browser.type_into("[name=url]", "ftp://nowhere");
    browser.click_text("添加");
    browser.until_text(
        "dialog [role=alert]",
        "不是可用的主控地址：协议是 ftp，而不是 http 或 https；例如：http://10.0.0.5:9090/api",
    );

    let said = |told: &str| of_module(&browser, "i18n.js", &format!("return module.say({})", json!(told)));
    assert_eq!(
        said("an endpoint named `paused` exists already; change it with `tidegate endpoint set`, or choose another name"),
        json!("已有名为 `paused` 的端点；请编辑该端点，或另选名称"),
        "a name stays a name"
    );
    assert_eq!(
        said(
            "the stream is silent and the master does not answer: cannot connect: Bad (os error 9); check the address and firewalls"
        ),
        json!("事件流无消息，主控也没有响应：无法连接：Bad (os error 9)；请检查地址和防火墙"),
        "the words of others stay as they are"
    );
    assert_eq!(
        said("sqlite:t.db: database is locked; another process writes to it; it is tried again"),
        json!("sqlite:t.db: database is locked；另一个进程正在写入；将会重试")
    );
    assert_eq!(said("disk I/O error; or so"), json!("disk I/O error; or so"));
    browser.choose("en", "light");
    assert_eq!(said("connection refused"), json!("connection refused"));
}

#[test]
fn figures_are_told_in_units_that_people_count_in() {
    let setup = Setup::sqlite();
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en-GB");
    browser.open("/");
    browser.until_text("h2", "No endpoints yet");
    let told = |call: &str| {
        let text = of_module(&browser, "format.js", &format!("return module.{call}"));
        text.as_str().unwrap().replace('\u{a0}', " ")
    };
    for (millis, text) in [
        ("0.62", "0.62 ms"),
        ("36", "36 ms"),
        ("999", "999 ms"),
        ("5999", "6 sec"),
        ("1234", "1.23 sec"),
        ("83000", "1 min 23 sec"),
    ] {
        assert_eq!(told(&format!("millis({millis})")).replace("secs", "sec").replace("mins", "min"), text);
    }
    for (seconds, text) in [
        ("86400", "1 day"),
        ("90 * 86400", "90 days"),
        ("5 * 31557600", "5 yrs"),
        ("365 * 86400", "1 yr"),
        ("36 * 3600", "1 day 12 hrs"),
        ("400 * 86400", "400 days"),
    ] {
        assert_eq!(told(&format!("period({seconds})")), text, "{seconds}");
    }
    // What nothing is known of is not zero.
    let none = "return JSON.stringify(module.tunnelCharts('a', 'b', {}).props.charts[0]({ columns: { in: [null], out: [null], time: [1] } }, {}).note.props)";
    let none = of_module(&browser, "traffic.js", none);
    assert_eq!(none, json!(r#"{"received":"–","sent":"–"}"#));
    browser.assert_well_behaved();
}

#[test]
fn a_value_that_stands_alone_is_drawn_as_a_dot() {
    let setup = Setup::sqlite();
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("h2", "No endpoints yet");
    let lone = "return [[1, null, 2, 3, null, 0, null], [null, 4], [5], [], [null]].map(module.lone)";
    assert_eq!(of_module(&browser, "chart.js", lone), json!([[0, 5], [1], [0], [], []]));
    // Of 600 values one is alone: there are too many for a dot each, and without a dot nothing would be painted.
    let painted = "const values = Array(600).fill(null); values[300] = 50; const place = document.body.appendChild(document.createElement('div')); \
        const chart = new module.Chart({}); chart.props = { time: values.map((_, at) => 1e9 + 60 * at), heard: values.map(() => 60), format: String, \
            series: [{ label: 'one', colour: 'in', values }] }; \
        chart.place = { current: place }; chart.draw(); \
        return new Promise((done) => setTimeout(() => { const canvas = place.querySelector('canvas'); \
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); let coloured = 0; \
            for (let at = 0; at < data.length; at += 4) coloured += data[at + 3] > 200 && data[at + 2] - data[at] > 90; \
            chart.plot.destroy(); place.remove(); done(coloured); }, 100))";
    let coloured = of_module(&browser, "chart.js", painted).as_u64().unwrap();
    assert!((5..100).contains(&coloured), "{coloured} pixels have the line's colour");
    browser.assert_well_behaved();
}

/// A desk's screen, a tablet's and a phone's.
const SIZES: [(&str, u32, u32); 3] = [("desktop", 1_440, 900), ("tablet", 820, 1_180), ("phone", 390, 844)];

/// Pairs of texts that lie over each other. What scrolls by itself is left out: what is scrolled away lies anywhere.
const OVERLAPS: &str = "
    const texts = [];
    const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const parent = node.parentElement;
        if (!node.data.trim() || !parent.checkVisibility({ visibilityProperty: true })) continue;
        if (parent.closest('.sr, .uplot, option, .tall, .events, .break, .clamp, h1, .row-link')) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const rect of range.getClientRects()) if (rect.width > 1) texts.push([node.data.trim().slice(0, 30), rect]);
    }
    const over = ([, a], [, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
    return texts.flatMap((one, at) => texts.slice(at + 1).filter((other) => over(one, other)).map((other) => [one[0], other[0]]));
";

/// Takes a picture at each size into `screenshots/`, which is not committed. Fails where the view is wider than the screen, has a
/// text that is cut off in a button, or no room for names.
fn assert_fits(browser: &Browser, what: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    for (size, width, height) in SIZES {
        browser.resize(width, height);
        browser.screenshot(&folder.join(format!("{what}-{size}.png")));
        // Not against what the browser says of itself: a phone's shows all of a page that is too wide, smaller.
        let wide = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{what} {size} is {wide} wide");
        let cut = "return [...document.querySelectorAll('button, h1, h2, dt')].filter((one) => one.offsetParent && \
            getComputedStyle(one).overflowX === 'hidden' && one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)";
        assert_eq!(browser.run(cut), json!([]), "{what} {size}");
        let narrow = "return [...document.querySelectorAll('th.main')].filter((one) => one.offsetWidth < 100).map((one) => one.offsetWidth)";
        assert_eq!(browser.run(narrow), json!([]), "{what} {size}: no room for names");
        let hidden = "return [...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.getAttribute('aria-label'))";
        assert_eq!(browser.run(hidden), json!([]), "{what} {size}: a table of figures has columns that are not seen");
        assert_eq!(browser.run(OVERLAPS), json!([]), "{what} {size}: texts lie over each other");
    }
}

/// For people to look at: every view at three sizes, in both languages and both themes.
#[test]
fn every_view_fits_at_three_sizes_in_both_languages_and_themes() {
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key").endpoint("oslo", "http://127.0.0.1:9", "key");
    let mut recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("#endpoints", "Online");
    ask(&mut recorder, "POST", "/api/v1/flush");
    master.release();
    for (language, theme) in [("en", "light"), ("en", "dark"), ("zh", "light"), ("zh", "dark")] {
        browser.choose(language, theme);
        for (name, address) in VIEWS {
            browser.open(address);
            browser.until(name, SETTLED);
            assert_fits(&browser, &format!("{name}-{language}-{theme}"));
        }
    }
    browser.assert_well_behaved();
}

/// The same with names that are long, written from the right, or markup.
#[test]
fn every_view_fits_whatever_the_names_are() {
    let master = ToldMaster::start(&hostile(), usize::MAX);
    let long = "l".repeat(64);
    let endpoints = [&long, "שלום-עולם", "東京大阪名古屋札幌福岡横浜神戸京都川崎埼玉広島仙台千葉北九州"];
    let setup = endpoints.iter().fold(Setup::sqlite().endpoint("bad", &master.url(), "key"), |setup, name| {
        setup.endpoint(name, &format!("http://127.0.0.1:9/{}{}", "prefix".repeat(20), name.len()), "key")
    });
    let mut recorder = start(&setup);
    recorder.until("all are known", |stats| {
        stats["endpoints"].as_array().unwrap().iter().any(|endpoint| endpoint["tunnels"] == json!(6))
    });
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    let views = [
        ("overview", "/#/".to_owned()),
        ("tunnels", "/#/tunnels".to_owned()),
        ("endpoint", "/#/endpoint/bad".to_owned()),
        ("endpoint-long", format!("/#/endpoint/{long}")),
        ("tunnel-markup", "/#/tunnel/bad/aaaa0001".to_owned()),
        ("tunnel-right", "/#/tunnel/bad/aaaa0002".to_owned()),
        ("tunnel-long", "/#/tunnel/bad/aaaa0003".to_owned()),
        ("tunnel-emoji", "/#/tunnel/bad/aaaa0006".to_owned()),
        ("storage", "/#/storage".to_owned()),
    ];
    for (language, theme) in [("en", "light"), ("zh", "dark")] {
        browser.choose(language, theme);
        for (name, address) in &views {
            browser.open(address);
            browser.until(name, SETTLED);
            assert_fits(&browser, &format!("hostile-{name}-{language}-{theme}"));
        }
    }
    browser.assert_well_behaved();
}
