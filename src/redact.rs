//! Text from a master without its secrets. [`Redacted`] can only be made by removing them.
//!
//! Two things are secret: the master's API keys, which are known and are looked for as they are, and the user-info of
//! URLs (`scheme://SECRET@host`), where NodePass keeps the tunnel password, also one that it derived itself and that
//! stands in no other field than a log line. Both become `***`; `client://pw@10.0.0.5:101/x` reads
//! `client://***@10.0.0.5:101/x` afterwards.
//!
//! Where user-info ends is only clear in a URL that is well-formed, and a password typed by a person need not be: it may
//! hold `/`, `@`, `?` or blanks. In doubt more is removed: see `user_info_end`.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memchr2, memmem, memrchr};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::endpoint::ApiKey;

/// What stands in place of a secret.
pub const REPLACEMENT: &str = "***";

/// Shorter keys are not looked for in text, since words would be taken for them. NodePass makes keys of 32 digits.
const KEY_BYTES_MIN: usize = 8;

/// How many keys of one endpoint are remembered; the oldest goes first.
const KEYS_MAX: usize = 16;

/// Text that went through the redactor: no API key, no user-info in any URL.
///
/// It is deserialised as it stands, from the journal and the database only: what is there was redacted before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Redacted(Arc<str>);

impl Redacted {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Text out of our own database, which was redacted before it got there.
    #[must_use]
    pub fn from_store(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl Default for Redacted {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl Borrow<str> for Redacted {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Removes secrets from text of one endpoint.
#[derive(Clone, Default)]
pub struct Redactor {
    keys: Vec<memmem::Finder<'static>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} keys)", self.keys.len())
    }
}

impl Redactor {
    /// A redactor that knows these keys.
    #[must_use]
    pub fn new<'a>(api_keys: impl IntoIterator<Item = &'a ApiKey>) -> Self {
        let mut redactor = Self::default();
        api_keys.into_iter().for_each(|key| redactor.learn(key));
        redactor
    }

    /// Adds a key, for instance after a rotation. Old keys are still removed.
    pub fn learn(&mut self, api_key: &ApiKey) {
        let key = api_key.reveal().as_bytes();
        if key.len() < KEY_BYTES_MIN || self.keys.iter().any(|known| known.needle() == key) {
            return;
        }
        if self.keys.len() == KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(memmem::Finder::new(key).into_owned());
    }

    /// The text without secrets.
    #[must_use]
    pub fn clean(&self, text: &str) -> Redacted {
        Redacted(Arc::from(&*self.cleaned(text)))
    }

    /// The text without secrets, borrowed if it has none: for comparing with what is known.
    #[must_use]
    pub fn cleaned<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = without_user_info(text);
        for key in &self.keys {
            if let Some(first) = key.find(text.as_bytes()) {
                text = Cow::Owned(without_key(&text, first, key));
            }
        }
        text
    }

    /// A JSON object of which every string and every name is cleaned; empty text for an empty object.
    #[must_use]
    pub fn clean_json(&self, object: Map<String, Value>) -> Redacted {
        if object.is_empty() {
            return Redacted::default();
        }
        Redacted(Arc::from(self.cleaned_json(Value::Object(object)).to_string()))
    }

    fn cleaned_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.cleaned(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.cleaned_json(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (self.cleaned(&name).into_owned(), self.cleaned_json(value))).collect()
            }
            other => other,
        }
    }

    /// Whether nothing would be removed.
    #[must_use]
    pub fn is_clean(&self, text: &str) -> bool {
        self.cleaned(text) == text
    }
}

fn without_key(text: &str, first: usize, key: &memmem::Finder<'_>) -> String {
    let length = key.needle().len();
    let mut out = String::with_capacity(text.len());
    let (mut from, mut found) = (0, Some(first));
    while let Some(at) = found {
        out.push_str(&text[from..at]);
        out.push_str(REPLACEMENT);
        from = at + length;
        found = key.find(&text.as_bytes()[from..]).map(|offset| from + offset);
    }
    out.push_str(&text[from..]);
    out
}

/// How far a password with a delimiter in it is looked for after the start of a URL, in bytes. Keeps the work on hostile
/// text linear.
const WINDOW_BYTES: usize = 1 << 10;

fn without_user_info(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if memchr2(b'@', b'%', text.as_bytes()).is_none() {
        return text;
    }
    // Plain; as some write it inside JSON; percent-encoded as a parameter of another URL.
    for (opening, find_end) in [
        ("//", user_info_end as fn(&[u8], usize) -> Option<usize>),
        ("\\/\\/", user_info_end),
        ("%2F%2F", encoded_user_info_end),
        ("%2f%2f", encoded_user_info_end),
    ] {
        if let Some(replaced) = without_user_info_after(&text, opening, find_end) {
            text = Cow::Owned(replaced);
        }
    }
    match without_bare_user_info(&text) {
        Some(replaced) => Cow::Owned(replaced),
        None => text,
    }
}

/// Removes what stands before `@host:port` without a scheme, back to the blank or quote before it: v1.4.2 to v1.7.0 print
/// `Server started: PASSWORD@127.0.0.1:10190/...`. `None` if nothing was to be removed.
fn without_bare_user_info(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    for at in memchr_iter(b'@', bytes).filter(|at| starts_with_host_and_port(&bytes[at + 1..])) {
        let window = &bytes[copied.max(at.saturating_sub(WINDOW_BYTES))..at];
        let length = window.iter().rev().take_while(|byte| !byte.is_ascii_whitespace() && !b"\"'`<>(".contains(byte)).count();
        let mut start = at - length;
        while !text.is_char_boundary(start) {
            start += 1;
        }
        if start < at && !text[start..at].ends_with(REPLACEMENT) {
            out.push_str(&text[copied..start]);
            out.push_str(REPLACEMENT);
            copied = at;
        }
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// `None` if nothing was to be removed.
fn without_user_info_after(text: &str, opening: &str, find_end: fn(&[u8], usize) -> Option<usize>) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = memmem::find(&bytes[at..], opening.as_bytes()) {
        at += found + opening.len();
        at += bytes[at..].iter().take_while(|byte| **byte == b'/').count();
        if let Some(end) = find_end(bytes, at) {
            out.push_str(&text[copied..at]);
            out.push_str(REPLACEMENT);
            (copied, at) = (end, end);
        }
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// The end of the user-info that begins at `start`: the offset of its `@`, or `None` if there is no user-info.
///
/// 1. An `@` in the authority (up to the first `/`, `?`, `#`, blank or quote) ends it, the last one if there are several.
/// 2. Without one, if the authority does not look like a host (a dot, a port, brackets or `localhost`), it is taken for
///    the first part of a password with such a character in it, which ends at the next `@` of the line.
/// 3. If it looks like one, it still is user-info if `host:port` follows a later `@` before the next `://`.
///
/// So `https://example.com/@name?to=a@b` stays whole, and `client://pass/word@10.0.0.5:101` does not leak `pass`.
fn user_info_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut end = None;
    let mut from = start;
    loop {
        let stop = position_from(bytes, from, is_delimiter);
        if let Some(at) = memrchr(b'@', &bytes[from..stop]) {
            end = Some(from + at);
            from += at + 1;
            continue;
        }
        let window = bytes.len().min(stop.saturating_add(WINDOW_BYTES));
        let window = position_from(&bytes[..window], stop, |byte| b"\r\n".contains(byte));
        if !looks_like_host(&bytes[from..stop]) {
            // Once an `@` was found, what follows may be a host of any form; the password is not sought beyond a blank.
            let to = if end.is_some() { position_from(&bytes[..window], stop, u8::is_ascii_whitespace) } else { window };
            if let Some(at) = memchr(b'@', &bytes[stop..to]) {
                end = Some(stop + at);
                from = stop + at + 1;
                continue;
            }
        }
        let rest = &bytes[stop..window];
        let rest = &rest[..memmem::find(rest, b"://").unwrap_or(rest.len())];
        let last = memchr_iter(b'@', rest).rfind(|at| starts_with_host_and_port(&rest[at + 1..]));
        return last.map(|at| stop + at).or(end);
    }
}

/// The same inside a percent-encoded URL, which ends where its own delimiters stand encoded.
fn encoded_user_info_end(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = &bytes[start..];
    let ends = |at: usize| {
        let code = rest.get(at + 1..at + 3).unwrap_or_default().to_ascii_uppercase();
        is_delimiter(&rest[at]) || rest[at] == b'&' || (rest[at] == b'%' && matches!(&code[..], b"2F" | b"3F" | b"23"))
    };
    let stop = (0..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len());
    let at = (0..stop).rfind(|at| rest[*at] == b'@' || rest[*at..].starts_with(b"%40"))?;
    Some(start + at)
}

fn position_from(bytes: &[u8], from: usize, is: impl Fn(&u8) -> bool) -> usize {
    bytes[from..].iter().position(is).map_or(bytes.len(), |offset| from + offset)
}

fn is_delimiter(byte: &u8) -> bool {
    *byte <= b' ' || matches!(byte, b'/' | b'?' | b'#' | b'"' | b'<' | b'>' | b'`' | b'\\' | 0x7F)
}

fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(byte)
}

fn looks_like_host(text: &[u8]) -> bool {
    if text.first() == Some(&b'[') {
        return memchr(b']', text).is_some();
    }
    let (host, port) = memrchr(b':', text).map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let port_fits = port.is_none_or(|port| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit));
    host.iter().all(is_host_byte) && port_fits && (port.is_some() || host.contains(&b'.') || host == b"localhost")
}

/// Whether `host:port` stands at the start, followed by nothing that could belong to it.
fn starts_with_host_and_port(text: &[u8]) -> bool {
    let host = match text.first() {
        Some(b'[') => text.iter().take(64).position(|byte| *byte == b']').map_or(0, |end| end + 1),
        _ => text.iter().take(256).take_while(|byte| is_host_byte(byte)).count(),
    };
    let Some((b':', port)) = text[host..].split_first() else { return false };
    let digits = port.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    (1..=5).contains(&digits) && port.get(digits).is_none_or(|byte| is_delimiter(byte) || b",;)'%".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "fa4ec0de94466eb9305cbb1792a8bad5";

    fn redactor() -> Redactor {
        Redactor::new([&ApiKey::new(KEY)])
    }

    #[test]
    fn user_info_becomes_three_stars_and_the_rest_of_the_url_stays() {
        for (text, clean) in [
            ("client://pw@10.0.0.5:101/127.0.0.1:80?log=info", "client://***@10.0.0.5:101/127.0.0.1:80?log=info"),
            ("CLIENT://User:p%40ss@h:1", "CLIENT://***@h:1"),
            ("//pw@h", "//***@h"),
            ("///pw@h", "///***@h"),
            ("server://:pw@[::1]:10/x", "server://***@[::1]:10/x"),
            ("server://p@ss@h:1/:2", "server://***@h:1/:2"),
            ("server://pa/ss@h:1/:2", "server://***@h:1/:2"),
            ("server://pa?ss#x@h:1/:2", "server://***@h:1/:2"),
            ("server://my pass@h:1/:2", "server://***@h:1/:2"),
            ("server://pa.ss/word@h:1/:2", "server://***@h:1/:2"),
            ("server://p@ss/word@h/:2", "server://***@h/:2"),
            ("server://user:12/word@[fe80::1]:1", "server://***@[fe80::1]:1"),
            ("http:\\/\\/u:p@h\\/x", "http:\\/\\/***@h\\/x"),
            ("http://h:1/?to=http%3A%2F%2Fu%3Ap%40h2%2Fa%40b&x=1", "http://h:1/?to=http%3A%2F%2F***%40h2%2Fa%40b&x=1"),
            ("http://h:1/?to=http%3a%2f%2fu:p@h2", "http://h:1/?to=http%3a%2f%2f***@h2"),
            ("http://h:1/?to=http://u:p@h2:2", "http://h:1/?to=http://***@h2:2"),
            (
                "a server://127.0.0.1:1/127.0.0.1:2 -> client://pw@10.0.0.1:3/x and tcp://q@h:1",
                "a server://127.0.0.1:1/127.0.0.1:2 -> client://***@10.0.0.1:3/x and tcp://***@h:1",
            ),
        ] {
            assert_eq!(redactor().clean(text).as_str(), clean);
        }
    }

    /// Found by `tidegate simulate --seed 2 --faults all`: the password that a master derives stood in the first log line of
    /// every instance of v1.4.2 to v1.7.0, which print the address without a scheme.
    #[test]
    fn a_password_before_an_address_without_a_scheme_goes_too() {
        for (text, clean) in [
            (
                "INFO  Server started: 517531d6@127.0.0.1:10190/127.0.0.1:10180?max=1024",
                "INFO  Server started: ***@127.0.0.1:10190/127.0.0.1:10180?max=1024",
            ),
            ("Client restarted: 27ce@:10190/[::1]:10180", "Client restarted: ***@:10190/[::1]:10180"),
            ("é@h:1 and \"pw@[::1]:2\"", "***@h:1 and \"***@[::1]:2\""),
        ] {
            assert_eq!(redactor().clean(text).as_str(), clean);
        }
    }

    #[test]
    fn an_at_sign_that_ends_no_user_info_is_left_alone() {
        for text in [
            "https://example.com/@name?to=a@b",
            "server://:10101/127.0.0.1:8080?sni=a@b",
            "mail bob@example.com",
            "server://10.0.0.5:101/x mail bob@example.com",
            "https://pkg.example.com/mod@v1.2/x",
            "2026-11-23 06:17:35.483  \u{1b}[31mERROR\u{1b}[0m  dial tcp 127.0.0.1:1: refused",
            "",
            "//",
            "@",
            "100%",
        ] {
            assert!(matches!(redactor().cleaned(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn every_known_key_goes_wherever_it_stands_also_after_a_rotation() {
        let mut redactor = redactor();
        let new = "fa4ec0dec05c3c9cd3f10664f64910ad";
        redactor.learn(&ApiKey::new(new));
        let text = format!("{KEY}{KEY} x={new}&y http://{KEY}@h");
        assert_eq!(redactor.clean(&text).as_str(), "****** x=***&y http://***@h");
        assert_eq!(format!("{redactor:?}"), "Redactor(2 keys)");
    }

    #[test]
    fn json_is_cleaned_string_by_string_and_stays_json() {
        let Value::Object(object) = serde_json::json!({"a//x@h": ["//u:p@h", {"k": KEY}], "b": "bob@y", "n": 1}) else {
            panic!()
        };
        let clean = redactor().clean_json(object);
        assert_eq!(clean.as_str(), r#"{"a//***@h":["//***@h",{"k":"***"}],"b":"bob@y","n":1}"#);
        assert_eq!(redactor().clean_json(Map::new()), Redacted::default());
    }

    #[test]
    fn a_key_too_short_to_be_told_from_a_word_is_not_looked_for() {
        let redactor = Redactor::new([&ApiKey::new(""), &ApiKey::new("log")]);
        assert!(redactor.is_clean("catalog"));
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        let mut text = "//a".repeat(20_000);
        text.push('@');
        assert!(redactor().clean(&text).as_str().ends_with("//***@"));
        let mut text = "//a.b:1/".repeat(10_000);
        text.push_str("@h:1");
        assert!(redactor().clean(&text).as_str().ends_with("@h:1"));
    }

    proptest! {
        #[test]
        fn a_planted_password_never_survives(
            before in "[ -~]{0,30}",
            scheme in "[a-zA-Z][a-zA-Z0-9+.-]{0,8}:|",
            // Any printable text, also beyond ASCII, except `:`+`//`, which would start another URL.
            secret in "([!-.0-9;-~]|[à-ÿ]){0,8}zq9XSECRETqz([!-~ ]|[à-ÿ]){0,8}",
            host in "[a-z]{1,8}(\\.[a-z]{2,3})?|10\\.0\\.0\\.[1-9]|\\[fe80::1\\]",
            after in "[ -~]{0,30}",
        ) {
            prop_assume!(!secret.contains("://"));
            let text = format!("{before} {scheme}//{secret}@{host}:10101/{after}");
            let clean = redactor().clean(&text);
            prop_assert!(!clean.as_str().contains("zq9XSECRETqz"), "{text} -> {clean}");
        }

        #[test]
        fn text_without_an_at_sign_stays_as_it_is(text in "([a-c:/?. ]|%2F|//|[à-ÿ]){0,60}") {
            prop_assert!(matches!(redactor().cleaned(&text), Cow::Borrowed(_)));
        }
    }
}
