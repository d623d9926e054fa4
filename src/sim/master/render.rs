//! The bytes of events and instances, per version: the same fields in the same order with the same escapes.

use std::fmt::Write;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};

use super::instance::Instance;
use super::version::Version;
use crate::clock::Timestamp;
use crate::event::{Counters, InstanceId};

/// Kind of an event that a master makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At subscription.
    Initial,
    /// After a POST.
    Create,
    /// State or counters.
    Update,
    /// A printed line.
    Log,
    /// After a DELETE.
    Delete,
    /// The end of the streams.
    Shutdown,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Create => "create",
            Self::Update => "update",
            Self::Log => "log",
            Self::Delete => "delete",
            Self::Shutdown => "shutdown",
        }
    }
}

/// When an event was made: microseconds and the nanoseconds below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub at: Timestamp,
    pub nanos: u16,
}

/// RFC 3339 in the master's zone: `Z` or an offset, nanoseconds; Go drops trailing zeros of the fraction.
pub(super) fn push_time(out: &mut String, version: Version, moment: Moment, offset_seconds: i32) {
    let offset = if version.is_rust() { 0 } else { offset_seconds };
    let time = local(moment.at, offset);
    push_date(out, &time, 'T');
    let nanos = time.nanosecond() / 1_000 * 1_000 + u32::from(moment.nanos);
    let fraction = format!(".{nanos:09}");
    out.push_str(if version.is_rust() { &fraction } else { fraction.trim_end_matches('0').trim_end_matches('.') });
    if offset == 0 {
        out.push('Z');
    } else {
        let minutes = offset.abs() / 60;
        let _ = write!(out, "{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60);
    }
}

/// The time at the head of a printed line: local, milliseconds, no zone.
pub(super) fn line_time(at: Timestamp, offset_seconds: i32) -> String {
    let time = local(at, offset_seconds);
    let mut out = String::with_capacity(24);
    push_date(&mut out, &time, ' ');
    let _ = write!(out, ".{:03}", time.nanosecond() / 1_000_000);
    out
}

fn local(at: Timestamp, offset_seconds: i32) -> DateTime<FixedOffset> {
    at.to_utc().with_timezone(&FixedOffset::east_opt(offset_seconds).unwrap_or(FixedOffset::east_opt(0).expect("0 is in range")))
}

fn push_date(out: &mut String, time: &DateTime<FixedOffset>, between: char) {
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}{between}{:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
}

/// A JSON string. Go escapes `<`, `>`, `&` and the two line separators too.
pub(super) fn push_string(out: &mut String, version: Version, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if !version.is_rust() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A JSON string on its own.
pub(super) fn string(version: Version, text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len() + 16);
    push_string(&mut out, version, text);
    out.into()
}

/// The instance object.
pub(super) fn push_instance(out: &mut String, version: Version, instance: &Instance) {
    let _ = write!(out, "{{\"id\":\"{}\"", instance.id);
    if version.has_alias() {
        out.push_str(",\"alias\":");
        push_string(out, version, &instance.spec.alias);
    }
    let (role, status) = (instance.spec.role.name(), instance.status.name());
    let _ = write!(out, ",\"type\":\"{role}\",\"status\":\"{status}\",\"url\":{}", instance.url_json);
    if version.has_config() {
        let _ = write!(out, ",\"config\":{}", instance.config_json);
    }
    if version.has_alias() {
        let _ = write!(out, ",\"restart\":{}", instance.restart);
    }
    if version.has_tag_list() {
        out.push_str(",\"tags\":[");
        for (index, (key, value)) in instance.spec.tags.iter().enumerate() {
            out.push_str(if index == 0 { "{\"key\":" } else { ",{\"key\":" });
            push_string(out, version, key);
            out.push_str(",\"value\":");
            push_string(out, version, value);
            out.push('}');
        }
        out.push(']');
    }
    if version.has_meta() {
        let peer = &instance.spec.peer;
        out.push_str(",\"meta\":{\"peer\":{\"sid\":");
        push_string(out, version, &peer.sid);
        out.push_str(",\"type\":");
        push_string(out, version, &peer.kind);
        out.push_str(",\"alias\":");
        push_string(out, version, &peer.alias);
        out.push_str("},\"tags\":{");
        for (index, (key, value)) in instance.spec.tags.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_string(out, version, key);
            out.push(':');
            push_string(out, version, value);
        }
        out.push_str("}}");
    }
    let figures = [instance.mode, instance.ping, instance.pool, instance.tcps, instance.udps];
    push_numbers(out, version, figures, instance.shown);
}

/// The pseudo-instance that carries the API key.
pub(super) fn push_key_holder(out: &mut String, version: Version, key: &str, master_id: &str) {
    let _ = write!(out, "{{\"id\":\"{}\"", InstanceId::KEY_HOLDER);
    if version.has_alias() {
        out.push_str(",\"alias\":\"\"");
    }
    let status = if version.is_rust() { "stopped" } else { "" };
    let _ = write!(out, ",\"type\":\"\",\"status\":\"{status}\",\"url\":\"{key}\"");
    if version.has_config() {
        let _ = write!(out, ",\"config\":\"{}\"", if version.has_meta() { master_id } else { "" });
    }
    if version.has_alias() {
        out.push_str(",\"restart\":false");
    }
    if version.has_tag_list() {
        out.push_str(",\"tags\":null");
    }
    if version.has_meta() {
        out.push_str(",\"meta\":{\"peer\":{\"sid\":\"\",\"type\":\"\",\"alias\":\"\"},\"tags\":{}}");
    }
    push_numbers(out, version, [0; 5], Counters::default());
}

fn push_numbers(out: &mut String, version: Version, figures: [i32; 5], counters: Counters) {
    if version.has_figures() {
        let [mode, ping, pool, tcps, udps] = figures;
        let _ = write!(out, ",\"mode\":{mode},\"ping\":{ping},\"pool\":{pool},\"tcps\":{tcps},\"udps\":{udps}");
    }
    let Counters { tcp_rx, tcp_tx, udp_rx, udp_tx } = counters;
    let _ = write!(out, ",\"tcprx\":{tcp_rx},\"tcptx\":{tcp_tx},\"udprx\":{udp_rx},\"udptx\":{udp_tx}}}");
}

/// What stands in the field `instance`.
pub(super) enum Subject<'a> {
    /// An instance.
    Instance(&'a Instance),
    /// The API key and the master's id.
    KeyHolder(&'a str, &'a str),
    /// `null`.
    Nothing,
}

/// One whole event with its blank line. `logs` is the printed line of a `log` event, also if it is empty.
pub(super) fn push_event(
    out: &mut String,
    version: Version,
    kind: Kind,
    moment: Moment,
    zone: i32,
    what: Subject<'_>,
    logs: &str,
) {
    let _ = write!(out, "event: instance\ndata: {{\"type\":\"{}\",\"time\":\"", kind.name());
    push_time(out, version, moment, zone);
    out.push_str("\",\"instance\":");
    match what {
        Subject::Instance(instance) => push_instance(out, version, instance),
        Subject::KeyHolder(key, master_id) => push_key_holder(out, version, key, master_id),
        Subject::Nothing => out.push_str("null"),
    }
    if !logs.is_empty() || version.has_empty_logs() {
        out.push_str(",\"logs\":");
        push_string(out, version, logs);
    }
    out.push_str("}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(version: Version, micros: i64, nanos: u16, offset: i32) -> String {
        let mut out = String::new();
        push_time(&mut out, version, Moment { at: Timestamp(micros), nanos }, offset);
        out
    }

    #[test]
    fn go_drops_trailing_zeros_of_the_fraction_and_rust_does_not() {
        assert_eq!(time(Version::Go1_14_0, 1_795_415_307_255_000, 0, 8 * 3_600), "2026-11-23T14:28:27.255+08:00");
        assert_eq!(time(Version::Go1_14_0, 1_795_415_307_000_000, 0, 0), "2026-11-23T06:28:27Z");
        assert_eq!(time(Version::Rust0_1_0, 1_795_415_307_000_000, 0, 8 * 3_600), "2026-11-23T06:28:27.000000000Z");
        assert_eq!(time(Version::Go1_7_0, 1_795_415_307_255_001, 20, -12_600), "2026-11-23T02:58:27.25500102-03:30");
    }

    #[test]
    fn strings_are_escaped_as_the_language_does_it() {
        assert_eq!(&*string(Version::Go1_14_0, "a<b>&\u{1b}é\""), "\"a\\u003cb\\u003e\\u0026\\u001bé\\\"\"");
        assert_eq!(&*string(Version::Rust0_1_0, "a<b>&\u{1b}é\""), "\"a<b>&\\u001bé\\\"\"");
    }
}
