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

use browser::Browser;
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
    let drawn = "[...document.querySelectorAll('canvas')].filter((canvas) => { \
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); \
        return new Set(new Uint32Array(data.buffer)).size > 8; }).length === 4";
    browser.until("four charts are drawn", drawn);
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
    browser.click_text("Edit");
    browser.click("summary");
    browser.run("const select = document.querySelector('[name=log_events]'); select.value = 'false'; select.dispatchEvent(new Event('change'))");
    browser.click_text("Save");
    browser.until("the dialog is closed", "document.querySelector('dialog') === null");
    let shown: Value = serde_json::from_str(&recorder.request("GET", "/api/v1/endpoints/%E6%9D%B1%E4%BA%AC").unwrap().1).unwrap();
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
    assert_eq!(recorder.request("GET", "/api/v1/endpoints/%E6%9D%B1%E4%BA%AC").unwrap().0, 404);
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
    let markup = "<img src=x onerror=\"document.title='owned'\"><script>window.owned = true</script>";
    let instances = [
        instance("aaaa0001", markup, &format!("server://h:1/{markup}")),
        instance("aaaa0002", "\u{202e}gpj.exe\u{2066}\u{0007}\u{0000}", "javascript:window.owned=true"),
        instance("aaaa0003", &"長".repeat(3_400), "server://h:1/h:2"),
        instance("aaaa0004", "{{7*7}} ${7*7} &lt;b&gt; {name}", "server://h:1/h:2"),
    ];
    let event = |kind: &str, instance: &Value, logs: &str| {
        let event = json!({"type": kind, "time": "2026-11-23T06:19:42.5Z", "instance": instance, "logs": logs});
        format!("event: instance\ndata: {event}\n\n")
    };
    let lines = [
        format!("\u{1b}[31mERROR\u{1b}[0m {markup}"),
        "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[1;1H\u{1b}[38;5;31mstill\u{1b}[0m here".to_owned(),
        "\u{202e}txet desrever".to_owned(),
        "x".repeat(20_000),
    ];
    let mut stream = String::from("retry: 3000\n\n");
    instances.iter().for_each(|instance| stream += &event("initial", instance, ""));
    lines.iter().for_each(|line| stream += &event("log", &instances[0], line));
    stream
}

#[test]
fn hostile_names_and_log_lines_stay_text() {
    let master = ToldMaster::start(&hostile(), usize::MAX);
    let setup = Setup::sqlite().endpoint("bad", &master.url(), "key");
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/tunnels");
    browser.until_text("#all-tunnels", "<img src=x onerror=");
    browser.until_text("#all-tunnels", "{{7*7}} ${7*7} &lt;b&gt; {name}");
    browser.until("there are four", "document.querySelectorAll('#all-tunnels tbody tr').length === 4");
    for place in ["/#/tunnel/bad/aaaa0002", "/#/tunnel/bad/aaaa0003", "/#/endpoint/bad", "/#/tunnel/bad/aaaa0001"] {
        browser.open(place);
        browser.until_text(".tile, #endpoint-tunnels", "Running");
        let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
        assert!(wide.as_i64().unwrap() <= 0, "{place} is {wide} too wide");
    }
    browser.until_text(".events", "<script>window.owned = true</script>");
    browser.until_text(".events .ansi-red", "ERROR");
    browser.until_text(".events", "still here");
    let inside = "document.querySelectorAll('main img, main script, main iframe, a[href^=javascript]').length";
    assert_eq!(
        browser.run(&format!("return [{inside}, window.owned ?? null, document.title.includes('owned')]")),
        json!([0, null, false])
    );
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
    browser.until_text("h2", "No endpoints yet");
    browser.until_text(".link", "Live");
    browser.assert_well_behaved();
    browser.click("#logout");
    browser.until("the form is there again", "location.pathname === '/login' && document.querySelector('#token')");
    browser.open("/");
    browser.until("without a session there is only the form", "location.pathname === '/login'");
}

/// Views of a recorder that follows the recorded stream: name and address.
const VIEWS: [(&str, &str); 5] = [
    ("overview", "/#/"),
    ("endpoint", "/#/endpoint/tokyo"),
    ("tunnels", "/#/tunnels"),
    ("tunnel", "/#/tunnel/tokyo/0a8d970c"),
    ("storage", "/#/storage"),
];
/// Says that a view has all that it waits for.
const SETTLED: &str =
    "document.querySelector('h1') && document.querySelector('.link.live') && !document.body.innerText.match(/Loading…|加载中/)";

fn choose(browser: &Browser, language: &str, theme: &str) {
    browser.run(&format!("localStorage.setItem('language', '{language}'); localStorage.setItem('theme', '{theme}')"));
    browser.run("location.reload()");
    browser.until("the choice is taken", &format!("document.documentElement.dataset.theme === '{theme}'"));
}

/// axe-core finds nothing that hinders: names, roles, contrast, order of headings.
#[test]
fn every_view_and_dialog_is_accessible_in_both_themes() {
    const AXE: &str = include_str!("assets/axe.min.js");
    const CHECK: &str = "return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => \
        violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`))";
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    let check = |name: &str| {
        browser.run(&format!("if (!window.axe) {{ {AXE} }}"));
        assert_eq!(browser.run(CHECK), json!([]), "{name}");
    };
    browser.open("/");
    for theme in ["light", "dark"] {
        choose(&browser, "en", theme);
        for (name, address) in VIEWS {
            browser.open(address);
            browser.until(name, SETTLED);
            check(&format!("{name}, {theme}"));
        }
        browser.open("/#/");
        browser.click_text("Add endpoint");
        browser.click("summary");
        check(&format!("the dialog, {theme}"));
        browser.click_text("Cancel");
        browser.open("/#/endpoint/tokyo");
        browser.click_text("Remove");
        check(&format!("the confirmation, {theme}"));
        browser.click_text("Cancel");
    }
}

/// The keyboard alone: the link to the content, a search, a row, a dialog and back to where it was opened.
#[test]
fn the_page_works_by_keyboard() {
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    const ESCAPE: &str = "\u{e00c}";
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("#endpoints", "tokyo");
    let focused = || browser.run("return document.activeElement.textContent.trim()");
    browser.press(TAB);
    assert_eq!(focused(), json!("Skip to content"));
    browser.press(ENTER);
    assert_eq!(focused(), json!("Overview"), "the heading");
    browser.press(TAB);
    assert_eq!(focused(), json!("Add endpoint"));
    browser.press(ENTER);
    browser.until("the first field has the focus", "document.activeElement.name === 'name'");
    browser.press(ESCAPE);
    browser.until("the dialog is closed", "document.querySelector('dialog') === null");
    assert_eq!(focused(), json!("Add endpoint"), "back where it was opened");
    browser.run("document.querySelector('#endpoints tbody a').focus()");
    browser.press(ENTER);
    browser.until_text("h1", "tokyo");
    browser.until("the heading has the focus", "document.activeElement.tagName === 'H1'");
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
    let _recorder = start(&setup);
    browser.until_text(".link", "Live");
    browser.until("the notice is gone", "document.querySelector('.notice.warn') === null");
}

/// Rows that nobody sees are not made, whatever their number; the search looks at all of them.
#[test]
fn a_table_of_thousands_draws_what_is_seen_and_searches_all() {
    const INSTANCES: usize = 3_000;
    let load = Load { version: Version::Go1_14_0, instances: INSTANCES, events: 0, per_second: None, then: AfterLoad::StayOpen };
    let thread = ServerThread::start().unwrap();
    let server = thread.run(|| LoadServer::start(load, Arc::new(SystemClock), 1)).unwrap();
    let setup = Setup::sqlite().masters([&server]);
    let _recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/#/tunnels");
    browser.until_text(".counted", "3,000");
    let rows = "[...document.querySelectorAll('#all-tunnels tbody tr:not(.gap)')]";
    let few = format!("{rows}.length > 20 && {rows}.length < 100");
    browser.until("few rows are drawn", &few);
    assert_eq!(browser.run(&format!("return {rows}[0].querySelector('bdi').textContent")), json!("load-0"));
    browser.run("scrollTo(0, document.body.scrollHeight)");
    browser.until("the last row is there, in order", &format!("{rows}.at(-1).querySelector('bdi').textContent === 'load-2999'"));
    assert_eq!(browser.run(&format!("return {few}")), json!(true));
    browser.type_into("#main input[type=search]", "load-1234");
    browser.until("one is found", &format!("{rows}.length === 1"));
    browser.until_text(".counted", "1 of 3,000");
    browser.assert_well_behaved();
}

/// For people to look at: every view at three sizes, in both languages and both themes. Written to `screenshots/`, which is
/// not committed. The test fails where a view is wider than the screen, or has a text that is cut off in a button.
#[test]
fn every_view_fits_at_three_sizes_in_both_languages_and_themes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key").endpoint("oslo", "http://127.0.0.1:9", "key");
    let mut recorder = start(&setup);
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    browser.until_text("#endpoints", "Online");
    recorder.request("POST", "/api/v1/flush").unwrap();
    master.release();
    for (language, theme) in [("en", "light"), ("en", "dark"), ("zh", "light"), ("zh", "dark")] {
        choose(&browser, language, theme);
        for (name, address) in VIEWS {
            browser.open(address);
            browser.until(name, SETTLED);
            for (size, width, height) in [("desktop", 1_280, 900), ("tablet", 820, 1_180), ("phone", 390, 844)] {
                browser.resize(width, height);
                browser.screenshot(&folder.join(format!("{name}-{size}-{language}-{theme}.png")));
                let what = format!("{name} {size} {language} {theme}");
                let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
                assert!(wide.as_i64().unwrap() <= 0, "{what} is {wide} too wide");
                let cut = "return [...document.querySelectorAll('button, h1, h2, dt')].filter((one) => one.offsetParent && \
                    getComputedStyle(one).overflowX === 'hidden' && one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)";
                assert_eq!(browser.run(cut), json!([]), "{what}");
            }
        }
    }
    browser.assert_well_behaved();
}
