//! What is said: one message for all that begins and ends at about the same time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::watch::{Active, Notice, Turn};
use crate::clock::Timestamp;

/// Of more subjects than this with the same trouble, so many are named and the others counted.
const NAMED_MAX: usize = 10;
/// Alerts that a message carries one by one for programs; all of them are in its text and its counts.
const LISTED_MAX: usize = 100;
/// What stands in a template for the parts of a message.
pub const TEMPLATE_WORDS: [&str; 6] = ["{{title}}", "{{text}}", "{{time}}", "{{state}}", "{{began}}", "{{ended}}"];

/// Longest text in a filled template, in UTF-16 units: what Slack takes.
const TEXT_UNITS_MAX: usize = 40_000;
/// The same of `content` at the top of a template, which is Discord's form.
const CONTENT_UNITS_MAX: usize = 2_000;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub title: String,
    /// All lines.
    pub text: String,
    /// When it was made.
    pub time: Timestamp,
    /// How many alerts begin.
    pub began: usize,
    /// How many are over.
    pub ended: usize,
    /// The alerts, as JSON; at most 100.
    pub alerts: Value,
}

impl Message {
    /// The message of these notices; `None` of none.
    #[must_use]
    pub fn of(notices: &[Notice], time: Timestamp) -> Option<Self> {
        let began = notices.iter().filter(|notice| notice.turn == Turn::Begins).count();
        let ended = notices.len() - began;
        let lines = lines(notices);
        let first = lines.first()?;
        let title = match lines.len() {
            1 => first.lines().next().unwrap_or_default().to_owned(),
            _ => format!("{began} began, {ended} over"),
        };
        let listed = notices.iter().take(LISTED_MAX).map(|notice| {
            let Active { condition, since, text } = &notice.alert;
            let (endpoint, instance) = condition.subject();
            json!({
                "state": if notice.turn == Turn::Begins { "firing" } else { "resolved" }, "kind": condition.kind(), "endpoint": endpoint,
                "instance_id": instance, "since": since.to_string(), "text": text,
            })
        });
        let alerts = listed.collect();
        Some(Self { title, text: lines.join("\n"), time, began, ended, alerts })
    }

    /// The message of the test.
    #[must_use]
    pub fn test(time: Timestamp) -> Self {
        let text = "This is a test: alerts of this recorder arrive here.".to_owned();
        Self { title: "tidegate: test".to_owned(), text, time, began: 0, ended: 0, alerts: json!([]) }
    }

    fn state(&self) -> &'static str {
        match (self.began, self.ended) {
            (0, 0) => "test",
            (0, _) => "resolved",
            _ => "firing",
        }
    }

    /// The body for a webhook without a template.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({
            "title": self.title, "text": self.text, "time": self.time.to_string(), "state": self.state(),
            "began": self.began, "ended": self.ended, "alerts": self.alerts,
        })
    }
}

/// One line for each kind of trouble that begins or ends.
fn lines(notices: &[Notice]) -> Vec<String> {
    let mut groups: BTreeMap<(Turn, &'static str), Vec<&Active>> = BTreeMap::new();
    for Notice { turn, alert } in notices {
        groups.entry((*turn, alert.condition.kind())).or_default().push(alert);
    }
    groups.into_iter().map(|((turn, kind), alerts)| line(turn, kind, &alerts)).collect()
}

fn line(turn: Turn, kind: &str, alerts: &[&Active]) -> String {
    let several = alerts.len() > 1;
    let verb = match (turn, kind) {
        (Turn::Begins, "endpoint_offline") => "offline",
        (Turn::Over, "endpoint_offline") => "online again",
        (Turn::Begins, "tunnel_error") => "in error",
        (Turn::Over, "tunnel_error") => "no longer in error",
        (Turn::Begins, "traffic_limit") if several => "at their traffic limit",
        (Turn::Over, "traffic_limit") if several => "below their traffic limit",
        (Turn::Begins, "traffic_limit") => "at its traffic limit",
        (Turn::Over, "traffic_limit") => "below its traffic limit",
        (Turn::Begins, "flush_overdue") => "flush overdue",
        (Turn::Over, "flush_overdue") => "flushed again",
        (Turn::Begins, _) => "journal nearly full",
        (Turn::Over, _) => "journal has room again",
        (Turn::Unwatched, "tunnel_error") if several => "no longer watched (their masters were paused or removed)",
        (Turn::Unwatched, "tunnel_error") => "no longer watched (its master was paused or removed)",
        (Turn::Unwatched, _) => "no longer watched (paused or removed)",
    };
    if let [alert] = alerts {
        let subject = subject(alert);
        let reason = if turn == Turn::Begins { format!(": {}", alert.text) } else { String::new() };
        return if subject.is_empty() { format!("{verb}{reason}") } else { format!("{subject} {verb}{reason}") };
    }
    let what = if kind == "tunnel_error" { "tunnels" } else { "masters" };
    let mut names: Vec<String> = alerts.iter().take(NAMED_MAX).map(|alert| subject(alert)).collect();
    if alerts.len() > NAMED_MAX {
        names.push(format!("and {} more", alerts.len() - NAMED_MAX));
    }
    format!("{} {what} {verb}: {}", alerts.len(), names.join(", "))
}

fn subject(alert: &Active) -> String {
    match alert.condition.subject() {
        (Some(endpoint), Some(instance)) => format!("{endpoint}/{instance}"),
        (Some(endpoint), None) => endpoint.to_owned(),
        (None, _) => String::new(),
    }
}

/// Fills the words of a JSON template with a message. Only texts are looked at, so that what is put in stays inside its text. Texts
/// that their receiver would refuse for their length are cut.
///
/// # Errors
/// The template is no JSON.
pub fn fill(template: &str, message: &Message) -> Result<Value, serde_json::Error> {
    let mut value: Value = serde_json::from_str(template)?;
    let time = message.time.to_string();
    let (began, ended) = (message.began.to_string(), message.ended.to_string());
    let parts = [message.title.as_str(), &message.text, &time, message.state(), &began, &ended];
    fill_texts(&mut value, &parts);
    if let Some(Value::String(content)) = value.get_mut("content") {
        *content = cut(content, CONTENT_UNITS_MAX).into_owned();
    }
    Ok(value)
}

/// A text of so many UTF-16 units at most: nobody who has such a limit counts more of them. What is cut ends in `…`.
pub(super) fn cut(text: &str, units_max: usize) -> Cow<'_, str> {
    if text.encode_utf16().count() <= units_max {
        return text.into();
    }
    let mut left = units_max.saturating_sub(1);
    let fits = |character: &char| match left.checked_sub(character.len_utf16()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let kept: String = text.chars().take_while(fits).collect();
    (kept + "…").into()
}

fn fill_texts(value: &mut Value, parts: &[&str; TEMPLATE_WORDS.len()]) {
    match value {
        Value::String(text) => *text = cut(&replace_words(text, parts), TEXT_UNITS_MAX).into_owned(),
        Value::Array(values) => values.iter_mut().for_each(|value| fill_texts(value, parts)),
        Value::Object(members) => members.values_mut().for_each(|value| fill_texts(value, parts)),
        _ => {}
    }
}

/// In one pass: a word in what is put in is text of somebody else.
fn replace_words(template: &str, parts: &[&str; TEMPLATE_WORDS.len()]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        match TEMPLATE_WORDS.iter().position(|word| from.starts_with(word)) {
            Some(n) => {
                filled.push_str(parts[n]);
                rest = &from[TEMPLATE_WORDS[n].len()..];
            }
            None => {
                filled.push_str("{{");
                rest = &from[2..];
            }
        }
    }
    filled + rest
}

/// Whether a text can be a template.
#[must_use]
pub fn fits(template: &str) -> bool {
    serde_json::from_str::<Value>(template).is_ok_and(|value| value.is_object() || value.is_array())
}

#[cfg(test)]
mod tests {
    use super::super::Condition;
    use super::*;

    fn offline(n: usize, turn: Turn) -> Notice {
        let condition = Condition::EndpointOffline { endpoint: format!("m{n:02}") };
        Notice { turn, alert: Active { condition, since: Timestamp(0), text: "connection refused".to_owned() } }
    }

    #[test]
    fn one_alert_is_one_line_with_its_reason() {
        let message = Message::of(&[offline(1, Turn::Begins)], Timestamp(0)).unwrap();
        assert_eq!(message.text, "m01 offline: connection refused");
        assert_eq!((message.title.as_str(), message.state()), ("m01 offline: connection refused", "firing"));
        let message = Message::of(&[offline(1, Turn::Over)], Timestamp(0)).unwrap();
        assert_eq!((message.text.as_str(), message.state()), ("m01 online again", "resolved"));
        let message = Message::of(&[offline(1, Turn::Unwatched)], Timestamp(0)).unwrap();
        assert_eq!((message.text.as_str(), message.state()), ("m01 no longer watched (paused or removed)", "resolved"));
        assert_eq!(Message::of(&[], Timestamp(0)), None);
    }

    #[test]
    fn a_whole_fleet_is_one_message_that_names_some() {
        let notices: Vec<Notice> = (0..500).map(|n| offline(n, Turn::Begins)).chain([offline(500, Turn::Over)]).collect();
        let message = Message::of(&notices, Timestamp(0)).unwrap();
        let lines: Vec<&str> = message.text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("500 masters offline: m00, m01,") && lines[0].ends_with("and 490 more"), "{}", lines[0]);
        assert_eq!(message.title, "500 began, 1 over");
        assert!(message.document()["alerts"].as_array().unwrap().len() == LISTED_MAX && message.text.len() < 500);
    }

    #[test]
    fn what_several_have_in_common_is_said_of_several() {
        let notice = |turn, name: &str, instance: &str| {
            let endpoint = name.to_owned();
            let condition = match instance {
                "" => Condition::TrafficLimit { endpoint },
                instance => Condition::TunnelError { endpoint, instance: instance.to_owned() },
            };
            Notice { turn, alert: Active { condition, since: Timestamp(0), text: "text".to_owned() } }
        };
        let said = |turn, instances: &[&str]| {
            let notices: Vec<Notice> = ["m0", "m1"].into_iter().zip(instances).map(|(name, id)| notice(turn, name, id)).collect();
            Message::of(&notices, Timestamp(0)).unwrap().text
        };
        assert_eq!(said(Turn::Begins, &[""]), "m0 at its traffic limit: text");
        assert_eq!(said(Turn::Begins, &["", ""]), "2 masters at their traffic limit: m0, m1");
        assert_eq!(said(Turn::Over, &["", ""]), "2 masters below their traffic limit: m0, m1");
        let unwatched = "2 tunnels no longer watched (their masters were paused or removed): m0/a, m1/b";
        assert_eq!(said(Turn::Unwatched, &["a", "b"]), unwatched);
    }

    #[test]
    fn texts_are_cut_to_what_their_receiver_takes_and_never_inside_a_character() {
        assert_eq!(cut("four", 4), "four");
        assert_eq!(cut("fives", 4), "fiv…");
        assert_eq!(cut("東京大阪", 3), "東京…");
        // Each is two units, of which half is no character.
        assert_eq!(cut("🎉🎉🎉", 4), "🎉…");
        assert_eq!(cut("ab", 0), "…");
        let mut message = Message::test(Timestamp(0));
        message.text = "🎉".repeat(50_000);
        let filled = fill(r#"{"content": "{{text}}", "text": "{{text}}", "inside": {"content": "{{text}}"}}"#, &message).unwrap();
        let units = |value: &Value| value.as_str().unwrap().encode_utf16().count();
        assert_eq!([&filled["content"], &filled["text"], &filled["inside"]["content"]].map(units), [1_999, 39_999, 39_999]);
    }

    #[test]
    fn a_template_is_filled_inside_its_texts_whatever_stands_in_them() {
        let mut message = Message::of(&[offline(1, Turn::Begins)], Timestamp(0)).unwrap();
        message.title = "\",\"x\":1,\n{{text}}".to_owned();
        let filled =
            fill(r#"{"content": "[{{state}}] {{title}} {{other}}", "n": 1, "{{title}}": ["{{began}}"]}"#, &message).unwrap();
        let text = "[firing] \",\"x\":1,\n{{text}} {{other}}";
        assert_eq!(filled, json!({"content": text, "n": 1, "{{title}}": ["1"]}));
        assert!(fits(r#"{"a": "{{text}}"}"#) && !fits("{{text}}") && !fits("1"));
    }
}
