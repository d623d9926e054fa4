//! The page for those who see it otherwise, or who have no mouse, in a real Chromium: names, roles, contrast and order by axe-core in
//! both languages and themes, at a desk and on a phone, and all dialogs by keyboard. Needs Debian's chromium and chromium-driver.

#[path = "common/browser.rs"]
mod browser;
#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/told_master.rs"]
mod told_master;

use serde_json::json;

use browser::{Browser, SETTLED, VIEWS};
use recorder::{PATIENCE, Setup, wait};
use told_master::ToldMaster;

/// A stream that was recorded: two tunnels. Its last event says that the master stops, and is left out.
const RECORDED: &str = include_str!("fixtures/go/v1.14.0-resume-2.sse");
const DESK: (u32, u32) = (1_280, 900);
const PHONE: (u32, u32) = (390, 844);
/// Languages, themes and sizes in which everything is looked at: each pair of two of them is among these.
const LOOKS: [(&str, &str, (u32, u32)); 4] =
    [("en", "light", DESK), ("en", "dark", PHONE), ("zh", "light", PHONE), ("zh", "dark", DESK)];

fn recorded() -> ToldMaster {
    let end = RECORDED.rfind("event: ").expect("there are events");
    ToldMaster::start(&RECORDED[..end], usize::MAX)
}

/// axe-core finds nothing that hinders: names, roles, contrast, order of headings.
fn assert_accessible(browser: &Browser, what: &str) {
    const AXE: &str = include_str!("assets/axe.min.js");
    const CHECK: &str = "return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => \
        violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`))";
    browser.run(&format!("if (!window.axe) {{ {AXE} }}"));
    assert_eq!(browser.run(CHECK), json!([]), "{what}");
}

#[test]
fn every_view_is_accessible_in_every_look() {
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = setup.start_and_wait();
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    for (language, theme, (width, height)) in LOOKS {
        browser.resize(width, height);
        browser.choose(language, theme);
        for (name, address) in VIEWS {
            browser.open(address);
            browser.until(name, SETTLED);
            assert_accessible(&browser, &format!("{name}, {language}, {theme}, {width} wide"));
        }
    }
    browser.assert_well_behaved();
}

#[test]
fn the_login_is_accessible_in_every_look() {
    let setup = Setup::sqlite().set("http.token", "a-token-that-nobody-guesses");
    let mut recorder = setup.start();
    let up = wait(PATIENCE, || recorder.request("GET", "/readyz").is_ok_and(|(status, _)| status == 200).then_some(()));
    assert!(up.is_some(), "{}", setup.log());
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/login");
    for (language, theme, (width, height)) in LOOKS {
        browser.resize(width, height);
        browser.choose(language, theme);
        for address in ["/login", "/login?failed=1", "/login?failed=1&wait=6"] {
            browser.open(address);
            browser.until("the form is there", "document.querySelector('#token')");
            let what = format!("{address}, {language}, {theme}, {width} wide");
            assert_eq!(browser.run("return document.activeElement.id"), json!("token"), "{what}");
            assert_eq!(browser.run("return document.documentElement.scrollWidth"), json!(width), "{what}");
            assert_accessible(&browser, &what);
        }
    }
    browser.assert_well_behaved();
}

/// Where dialogs are opened, and the button that does it, in both languages.
fn dialogs() -> Vec<(&'static str, String)> {
    let says = |en: &str, zh: &str| {
        format!("[...document.querySelectorAll('main button')].find((one) => ['{en}', '{zh}'].includes(one.textContent.trim()))")
    };
    vec![
        ("/#/", says("Add endpoint", "添加端点")),
        ("/#/endpoint/tokyo", says("Edit", "编辑")),
        ("/#/endpoint/tokyo", says("Probe", "探测")),
        ("/#/endpoint/tokyo", says("Remove", "移除")),
        ("/#/endpoint/pinned", says("Trust", "信任")),
        ("/#/storage", "document.querySelector('.segment:not([disabled])')".to_owned()),
        ("/#/storage", "document.querySelector('#settings button')".to_owned()),
    ]
}

/// By keyboard alone: it opens, is accessible, keeps the focus, closes with Escape, and gives the focus back.
#[test]
fn every_dialog_is_accessible_and_keeps_the_focus_until_it_gives_it_back() {
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    const ESCAPE: &str = "\u{e00c}";
    /// More than a dialog has fields and buttons.
    const TABS: usize = 14;
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = setup.start_and_wait();
    let added = setup.ask(&["endpoint", "add", "pinned", "https://127.0.0.1:9", "--tls", "pin", "--no-api-key"]);
    assert!(added.status.success(), "{added:?}");
    let browser = Browser::start(&setup.origin(), "en");
    browser.open("/");
    for (language, theme, (width, height)) in LOOKS {
        browser.resize(width, height);
        browser.choose(language, theme);
        for (address, button) in dialogs() {
            let what = format!("{button} at {address}, {language}, {theme}, {width} wide");
            browser.open(address);
            browser.until(&what, SETTLED);
            browser.until(&what, &button);
            browser.run(&format!("window.openedBy = {button}; window.openedBy.focus()"));
            browser.press(ENTER);
            browser.until(&what, "document.querySelector('dialog[open]')");
            browser.until(&what, "document.querySelector('dialog').contains(document.activeElement)");
            // What a probe finds is there when it is done.
            browser.until(&what, "!document.querySelector('dialog [role=status]')");
            browser.run("document.querySelectorAll('dialog details').forEach((one) => { one.open = true; })");
            assert_accessible(&browser, &what);
            assert_eq!(browser.run("return document.documentElement.scrollWidth"), json!(width), "{what}");
            for _ in 0..TABS {
                browser.press(TAB);
                // Between its last and its first element a browser's own buttons have their turn; the page behind it has none.
                let inside = "const one = document.activeElement; return one === document.body || document.querySelector('dialog').contains(one)";
                assert_eq!(browser.run(inside), json!(true), "{what}");
            }
            browser.press(ESCAPE);
            browser.until(&what, "document.querySelector('dialog') === null");
            assert_eq!(
                browser.run("return document.activeElement === window.openedBy"),
                json!(true),
                "{what}: back where it was"
            );
        }
    }
    browser.assert_well_behaved();
}

/// The keyboard alone: the link to the content, a search, a row, a dialog and back to where it was opened.
#[test]
fn the_page_works_by_keyboard() {
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    const ESCAPE: &str = "\u{e00c}";
    let master = recorded();
    let setup = Setup::sqlite().endpoint("tokyo", &master.url(), "key");
    let _recorder = setup.start_and_wait();
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
