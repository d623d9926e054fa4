//! The JSON objects of a master, of every version: what must be there, what may be missing, what is not known yet.
//!
//! Text is borrowed from the event as far as it has no escapes. Nothing here is redacted: only [`crate::ingest`] reads
//! these types, and what leaves it is.

mod field;
mod meta;

use std::borrow::Cow;
use std::fmt;

use chrono::DateTime;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::field::{Field, Key, Text};
use self::meta::{Meta, Tags};
use crate::clock::Timestamp;
use crate::event::{Counters, InstanceId};

/// Longest id of an instance and longest name of a kind or status, in bytes. Masters use 8 digits and short words.
pub const NAME_BYTES_MAX: usize = 64;

/// Why an event was dropped. The words are those of the counter `dropped`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or cut off.
    #[error("not valid JSON (at column {column})")]
    Json {
        /// Position in the event's data, from 1.
        column: usize,
    },
    /// JSON, but not an object where one must be.
    #[error("`{field}` is not an object")]
    NotAnObject {
        /// Which.
        field: &'static str,
    },
    /// A field that every version sends is not there.
    #[error("the field `{field}` is missing")]
    MissingField {
        /// Its name.
        field: &'static str,
    },
    /// A field is of another type than in any version.
    #[error("the field `{field}` has the wrong type")]
    WrongType {
        /// Its name.
        field: &'static str,
    },
    /// A number outside its range: counters are 0 to 2^64-1, the others 0 to 2^31-1.
    #[error("the field `{field}` is out of range")]
    OutOfRange {
        /// Its name.
        field: &'static str,
    },
    /// An id, kind or status that is empty, too long, or has characters that none has.
    #[error("the field `{field}` is not a usable name")]
    BadName {
        /// Its name.
        field: &'static str,
    },
}

impl ParseError {
    /// The word under which it is counted.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Json { .. } => "json",
            Self::NotAnObject { .. } => "not_an_object",
            Self::MissingField { .. } => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::OutOfRange { .. } => "out_of_range",
            Self::BadName { .. } => "bad_name",
        }
    }
}

/// An event of the stream.
#[derive(Clone, Debug)]
pub struct WireEvent<'a> {
    /// `type`.
    pub kind: Cow<'a, str>,
    /// `time`, as it was sent.
    pub time: Option<Cow<'a, str>>,
    /// `instance`; `None` where it is null or missing.
    pub instance: Option<WireInstance<'a>>,
    /// `logs`.
    pub logs: Option<Cow<'a, str>>,
}

/// An instance, from an event or from `GET /instances`.
#[derive(Clone, Debug)]
pub struct WireInstance<'a> {
    /// `id`, see [`WireInstance::is_key_holder`].
    pub id: Cow<'a, str>,
    /// `alias`.
    pub alias: Cow<'a, str>,
    /// `type`.
    pub kind: Cow<'a, str>,
    /// `status`.
    pub status: Cow<'a, str>,
    /// `url`.
    pub url: Cow<'a, str>,
    /// `config`.
    pub config: Cow<'a, str>,
    /// `restart`.
    pub restart: Option<bool>,
    /// `mode`.
    pub mode: Option<i32>,
    /// `ping`.
    pub ping: Option<i32>,
    /// `pool`.
    pub pool: Option<i32>,
    /// `tcps`.
    pub tcps: Option<i32>,
    /// `udps`.
    pub udps: Option<i32>,
    /// `tcprx`, `tcptx`, `udprx`, `udptx`.
    pub counters: Counters,
    /// `meta.peer`.
    pub peer: WirePeer<'a>,
    /// `meta.tags`, or `tags` of v1.7.0 to v1.8.1.
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Fields that this version does not know, in the order in which they were sent.
    pub unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// `meta.peer`.
#[derive(Clone, Debug, Default)]
pub struct WirePeer<'a> {
    /// `sid`.
    pub sid: Cow<'a, str>,
    /// `type`.
    pub kind: Cow<'a, str>,
    /// `alias`.
    pub alias: Cow<'a, str>,
}

impl WireInstance<'_> {
    /// Whether this is the pseudo-instance that carries the master's API key.
    #[must_use]
    pub fn is_key_holder(&self) -> bool {
        self.id == InstanceId::KEY_HOLDER
    }
}

/// Reads the data of an event.
///
/// # Errors
/// See [`ParseError`].
pub fn parse_event(data: &str) -> Result<WireEvent<'_>, ParseError> {
    let fields: EventFields<'_> = serde_json::from_str(data).map_err(|error| json_error(&error, "event"))?;
    let kind = fields.kind.required("type")?;
    usable_name(&kind, "type")?;
    let instance = match fields.instance {
        Instance::Missing => None,
        Instance::WrongType => return Err(ParseError::NotAnObject { field: "instance" }),
        Instance::Fields(fields) => Some(fields.check()?),
    };
    let needs_instance = matches!(&*kind, "initial" | "create" | "update" | "log" | "delete");
    if needs_instance && instance.is_none() {
        return Err(ParseError::MissingField { field: "instance" });
    }
    // A time of another type is as good as one that cannot be read; the event is not worse for it.
    Ok(WireEvent { kind, time: fields.time.text(), instance, logs: fields.logs.optional("logs")? })
}

/// The master's own id out of the answer of `GET /instances`: the `config` of the key holder (v1.8.2 and later).
#[must_use]
pub fn master_id(answer: &[u8]) -> Option<String> {
    let (instances, _) = parse_instances(std::str::from_utf8(answer).ok()?).ok()?;
    let holder = instances.into_iter().find(WireInstance::is_key_holder)?;
    (!holder.config.is_empty()).then(|| holder.config.into_owned())
}

/// Reads the answer of `GET /instances`: those that can be read, and why others cannot.
///
/// # Errors
/// [`ParseError::Json`] if it is not a JSON array.
pub fn parse_instances(answer: &str) -> Result<(Vec<WireInstance<'_>>, Vec<ParseError>), ParseError> {
    let items: Vec<Instance<'_>> = serde_json::from_str(answer).map_err(|error| json_error(&error, "answer"))?;
    let (mut instances, mut errors) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        match item {
            Instance::Fields(fields) => match fields.check() {
                Ok(instance) => instances.push(instance),
                Err(error) => errors.push(error),
            },
            Instance::Missing | Instance::WrongType => errors.push(ParseError::NotAnObject { field: "instance" }),
        }
    }
    Ok((instances, errors))
}

/// Reads an RFC 3339 time with any offset and any number of fraction digits; more than six are cut.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| Timestamp(time.timestamp_micros()))
}

fn json_error(error: &serde_json::Error, whole: &'static str) -> ParseError {
    if error.is_data() { ParseError::NotAnObject { field: whole } } else { ParseError::Json { column: error.column() } }
}

fn usable_name(name: &str, field: &'static str) -> Result<(), ParseError> {
    let usable = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if usable && !name.is_empty() && name.len() <= NAME_BYTES_MAX { Ok(()) } else { Err(ParseError::BadName { field }) }
}

#[derive(Default)]
struct EventFields<'a> {
    kind: Text<'a>,
    time: Text<'a>,
    instance: Instance<'a>,
    logs: Text<'a>,
}

impl<'de> Deserialize<'de> for EventFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;
        impl<'de> Visitor<'de> for EventVisitor {
            type Value = EventFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = EventFields::default();
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "type" => fields.kind = map.next_value()?,
                        "time" => fields.time = map.next_value()?,
                        "instance" => fields.instance = map.next_value()?,
                        "logs" => fields.logs = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(EventVisitor)
    }
}

#[derive(Default)]
enum Instance<'a> {
    #[default]
    Missing,
    WrongType,
    Fields(Box<InstanceFields<'a>>),
}

#[derive(Default)]
struct InstanceFields<'a> {
    id: Text<'a>,
    alias: Text<'a>,
    kind: Text<'a>,
    status: Text<'a>,
    url: Text<'a>,
    config: Text<'a>,
    restart: Field<bool>,
    mode: Field<i32>,
    ping: Field<i32>,
    pool: Field<i32>,
    tcps: Field<i32>,
    udps: Field<i32>,
    tcp_rx: Field<u64>,
    tcp_tx: Field<u64>,
    udp_rx: Field<u64>,
    udp_tx: Field<u64>,
    meta: Meta<'a>,
    tags: Tags<'a>,
    unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> InstanceFields<'a> {
    fn check(self) -> Result<WireInstance<'a>, ParseError> {
        let id = self.id.required("id")?;
        let key_holder = id == InstanceId::KEY_HOLDER;
        let status = self.status.required("status")?;
        if !key_holder {
            usable_name(&id, "id")?;
            usable_name(&status, "status")?;
        }
        let mut unknown = self.unknown;
        unknown.extend(self.meta.unknown);
        Ok(WireInstance {
            id,
            alias: self.alias.optional("alias")?.unwrap_or_default(),
            kind: self.kind.required("instance.type")?,
            status,
            url: self.url.required("url")?,
            config: self.config.optional("config")?.unwrap_or_default(),
            restart: self.restart.optional("restart")?,
            mode: self.mode.optional("mode")?,
            ping: self.ping.optional("ping")?,
            pool: self.pool.optional("pool")?,
            tcps: self.tcps.optional("tcps")?,
            udps: self.udps.optional("udps")?,
            counters: Counters {
                tcp_rx: self.tcp_rx.required("tcprx")?,
                tcp_tx: self.tcp_tx.required("tcptx")?,
                udp_rx: self.udp_rx.required("udprx")?,
                udp_tx: self.udp_tx.required("udptx")?,
            },
            peer: self.meta.peer,
            tags: if self.meta.tags.0.is_empty() { self.tags.0 } else { self.meta.tags.0 },
            unknown,
        })
    }
}

impl<'de> Deserialize<'de> for Instance<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InstanceVisitor;
        impl<'de> Visitor<'de> for InstanceVisitor {
            type Value = Instance<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instance")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Box::<InstanceFields<'de>>::default();
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "id" => fields.id = map.next_value()?,
                        "alias" => fields.alias = map.next_value()?,
                        "type" => fields.kind = map.next_value()?,
                        "status" => fields.status = map.next_value()?,
                        "url" => fields.url = map.next_value()?,
                        "config" => fields.config = map.next_value()?,
                        "restart" => fields.restart = map.next_value()?,
                        "mode" => fields.mode = map.next_value()?,
                        "ping" => fields.ping = map.next_value()?,
                        "pool" => fields.pool = map.next_value()?,
                        "tcps" => fields.tcps = map.next_value()?,
                        "udps" => fields.udps = map.next_value()?,
                        "tcprx" => fields.tcp_rx = map.next_value()?,
                        "tcptx" => fields.tcp_tx = map.next_value()?,
                        "udprx" => fields.udp_rx = map.next_value()?,
                        "udptx" => fields.udp_tx = map.next_value()?,
                        "meta" => fields.meta = map.next_value()?,
                        "tags" => fields.tags = map.next_value()?,
                        _ => {
                            let value = map.next_value()?;
                            fields.unknown.push((key, value));
                        }
                    }
                }
                Ok(Instance::Fields(fields))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Instance::Missing)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Instance::WrongType)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Instance::WrongType)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Instance::WrongType)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Instance::WrongType)
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Instance::WrongType)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Instance::WrongType)
            }
        }
        deserializer.deserialize_any(InstanceVisitor)
    }
}
