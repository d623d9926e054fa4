//! A real Chromium, driven by chromedriver over its HTTP protocol: WebDriver, and Chrome's own commands for logs and emulation.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::recorder::{PATIENCE, wait};

/// Member of a WebDriver answer that names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long one command may take: starting a browser on a busy machine is the longest.
const COMMAND_MAX: Duration = Duration::from_secs(120);

/// Views of a recorder that follows the recorded stream as `tokyo`: name and address.
pub const VIEWS: [(&str, &str); 5] = [
    ("overview", "/#/"),
    ("endpoint", "/#/endpoint/tokyo"),
    ("tunnels", "/#/tunnels"),
    ("tunnel", "/#/tunnel/tokyo/0a8d970c"),
    ("storage", "/#/storage"),
];
/// Says that a view has all that it waits for.
pub const SETTLED: &str =
    "document.querySelector('h1') && document.querySelector('.link.live') && !document.body.innerText.match(/Loading…|加载中/)";

/// A browser with one window and an empty profile. Ends when dropped.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Origin to which every request must go.
    origin: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser whose language is this one, for pages of this origin (`http://127.0.0.1:8686`).
    pub fn start(origin: &str, language: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let (chromium, chromedriver) = (program("chromium"), program("chromedriver"));
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let port = port_of(&mut driver);
        let mut browser = Self { driver, port, session: String::new(), origin: origin.to_owned(), _profile: profile };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", browser._profile.path().display()));
        arguments.push(format!("--lang={language}"));
        arguments.push(format!("--accept-lang={language}"));
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"binary": chromium, "args": arguments, "prefs": {"intl.accept_languages": language}},
        }}});
        let made = browser.command("POST", "/session", &capabilities);
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("a session has an id"));
        browser.resize(1_280, 900);
        // What the browser shows by itself at first is not of interest.
        browser.session_command("POST", "/url", &json!({"url": "about:blank"}));
        browser.requests();
        browser.console();
        browser
    }

    /// Opens a path of the origin.
    pub fn open(&self, path: &str) {
        self.session_command("POST", "/url", &json!({"url": format!("{}{path}", self.origin)}));
    }

    /// Runs the body of a function in the page and gives what it returns; a promise is waited for.
    pub fn run(&self, body: &str) -> Value {
        self.session_command("POST", "/execute/sync", &json!({"script": body, "args": []}))
    }

    /// Waits until an expression is true, or something else that counts as such, and gives it.
    pub fn until(&self, what: &str, expression: &str) -> Value {
        let found = wait(PATIENCE, || {
            let value = self.run(&format!("return {expression};"));
            (!matches!(value, Value::Null | Value::Bool(false)) && value != json!(0) && value != json!("")).then_some(value)
        });
        found.unwrap_or_else(|| {
            let text = self.run("return document.body.innerText");
            panic!(
                "not within {PATIENCE:?}: {what}: {expression}\n{}\nconsole: {:?}",
                text.as_str().unwrap_or_default(),
                self.console()
            )
        })
    }

    /// Waits until an element of this CSS selector shows this text.
    pub fn until_text(&self, css: &str, text: &str) {
        // A number and its unit are kept on one line by another space. The text of what is hidden is text all the same: the form that is
        // about to be left would show already what the next one will.
        let shown = "one.checkVisibility() && one.innerText.replaceAll('\\u00a0', ' ')";
        let found = format!("[...document.querySelectorAll({css:?})].some((one) => ({shown} || '').includes({}))", json!(text));
        self.until(&format!("{css} shows {text:?}"), &found);
    }

    /// Clicks on the first element of this CSS selector, as a person does: it must be there and not be covered.
    pub fn click(&self, css: &str) {
        self.until(&format!("{css} is there"), &format!("document.querySelector({css:?}) !== null"));
        let element = self.element("css selector", css);
        self.session_command("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Clicks on the button or link that shows this text.
    pub fn click_text(&self, text: &str) {
        // What an open dialog covers cannot be meant.
        let xpath = format!(
            "//dialog//button[normalize-space()={text:?}]|//*[self::button or self::a][normalize-space()={text:?}][not(//dialog)]"
        );
        let found = wait(PATIENCE, || {
            let found = self.session_command("POST", "/elements", &json!({"using": "xpath", "value": xpath}));
            found[0][ELEMENT].as_str().map(str::to_owned)
        });
        let element =
            found.unwrap_or_else(|| panic!("nothing to click says {text:?}\n{}", self.run("return document.body.innerText")));
        self.session_command("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into the first element of this CSS selector, after what is there.
    pub fn type_into(&self, css: &str, text: &str) {
        self.until(&format!("{css} is there"), &format!("document.querySelector({css:?}) !== null"));
        let element = self.element("css selector", css);
        self.session_command("POST", &format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Empties a field by keys. WebDriver's own command for it does so without an `input` event, so that the page would not
    /// know of it, and would put back what was there when it is drawn the next time.
    pub fn clear(&self, css: &str) {
        const CONTROL: &str = "\u{e009}";
        const RELEASE: &str = "\u{e000}";
        const DELETE: &str = "\u{e017}";
        self.type_into(css, &format!("{CONTROL}a{RELEASE}{DELETE}"));
    }

    /// Presses a key where the focus is: a character, or a code point of WebDriver's list.
    pub fn press(&self, key: &str) {
        let keys = [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        self.session_command("POST", "/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": keys}]}));
    }

    /// Gives the page this size in CSS pixels; below 600 wide it is a phone's.
    pub fn resize(&self, width: u32, height: u32) {
        let phone = width < 600;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        self.devtools("Emulation.setTouchEmulationEnabled", &json!({"enabled": phone}));
    }

    /// Lets the system's colours be `light` or `dark`.
    pub fn prefer_colours(&self, scheme: &str) {
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}));
    }

    /// Chooses language and theme, as the switches of the page do, and loads it anew.
    pub fn choose(&self, language: &str, theme: &str) {
        self.run(&format!("localStorage.setItem('language', '{language}'); localStorage.setItem('theme', '{theme}')"));
        self.run("location.reload()");
        self.until("the choice is taken", &format!("document.documentElement.dataset.theme === '{theme}'"));
    }

    /// Lets files that the page gives be saved in this folder.
    pub fn download_to(&self, folder: &Path) {
        self.devtools("Browser.setDownloadBehavior", &json!({"behavior": "allow", "downloadPath": folder}));
    }

    /// Writes what the whole page shows to a PNG file.
    pub fn screenshot(&self, path: &Path) {
        let shot = self.devtools("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let data = shot["data"].as_str().expect("a screenshot has data");
        let picture = BASE64_STANDARD.decode(data).expect("a screenshot is base64");
        std::fs::write(path, picture).expect("the screenshot can be written");
    }

    /// What was written to the console since the last look.
    pub fn console(&self) -> Vec<String> {
        let entries = self.session_command("POST", "/se/log", &json!({"type": "browser"}));
        entries.as_array().into_iter().flatten().map(|entry| format!("{}: {}", entry["level"], entry["message"])).collect()
    }

    /// Addresses that were asked for since the last look.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.session_command("POST", "/se/log", &json!({"type": "performance"}));
        let messages = entries.as_array().into_iter().flatten().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let asked = message["method"] == "Network.requestWillBeSent";
            asked.then(|| message["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        messages.collect()
    }

    /// Asserts what holds of every test: nothing in the console, no request that leaves the origin.
    pub fn assert_well_behaved(&self) {
        assert_eq!(self.console(), Vec::<String>::new(), "something was written to the console");
        let requests = self.requests();
        assert!(requests.iter().any(|url| url.starts_with(&self.origin)), "the log of requests is empty: {requests:?}");
        let elsewhere = |url: &&String| {
            !url.starts_with(&format!("{}/", self.origin))
                && !url.starts_with("data:")
                && !url.starts_with(&format!("blob:{}/", self.origin))
        };
        assert_eq!(requests.iter().filter(elsewhere).collect::<Vec<_>>(), Vec::<&String>::new(), "a request left the origin");
    }

    fn element(&self, using: &str, value: &str) -> String {
        let found = self.session_command("POST", "/element", &json!({"using": using, "value": value}));
        found[ELEMENT].as_str().expect("an element has an id").to_owned()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.session_command("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn session_command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.command(method, &format!("{}{path}", self.session), body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = exchange(self.port, method, path, &body.to_string()).expect("chromedriver answers");
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{method} {path} {body}: {}: {}", value["error"], value["message"]);
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes the browser; where that fails the driver's end does.
        let _ = exchange(self.port, "DELETE", &self.session, "{}");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Where a program of Debian's chromium packages is.
fn program(name: &str) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let places = [PathBuf::from("/usr/bin")].into_iter().chain(std::env::split_paths(&paths));
    places.map(|place| place.join(name)).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("the tests of the page need {name}: apt-get install chromium chromium-driver, or put chromium and chromedriver into PATH")
    })
}

/// The port that chromedriver says it listens on.
fn port_of(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
    let said = lines.find_map(|line| line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok());
    // What it says later must have somewhere to go.
    std::thread::spawn(move || lines.for_each(drop));
    said.expect("chromedriver tells its port")
}

fn exchange(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(COMMAND_MAX))?;
    let body = if method == "POST" { body } else { "" };
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")?;
    // It keeps the connection open, whatever it is asked.
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
