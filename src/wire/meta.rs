//! `meta` and `tags`, whose form differs most between versions. They are read from raw JSON; what has another form than
//! any version sends counts as empty, since no event should be lost for it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::WirePeer;
use super::field::{Field, Key, Text};

/// `meta` in any form; what is no object counts as empty.
#[derive(Default)]
pub(super) struct Meta<'a> {
    pub(super) peer: WirePeer<'a>,
    pub(super) tags: Tags<'a>,
    pub(super) unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'de> Deserialize<'de> for Meta<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut meta = Self::default();
        for (key, value) in Entries::deserialize(deserializer)?.0 {
            match &*key {
                "peer" => {
                    for (key, value) in nested::<Entries<'de>>(value).0 {
                        match &*key {
                            "sid" => meta.peer.sid = loose_text(value),
                            "type" => meta.peer.kind = loose_text(value),
                            "alias" => meta.peer.alias = loose_text(value),
                            _ => meta.unknown.push((Cow::Owned(format!("meta.peer.{key}")), value)),
                        }
                    }
                }
                "tags" => meta.tags = nested(value),
                _ => meta.unknown.push((Cow::Owned(format!("meta.{key}")), value)),
            }
        }
        Ok(meta)
    }
}

/// Tags as list of `{"key", "value"}`, as object, or null.
#[derive(Default)]
pub(super) struct Tags<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Tags<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('[') {
            return Ok(Self(nested::<Entries<'de>>(raw).0.into_iter().map(|(key, value)| (key, loose_text(value))).collect()));
        }
        let items: Vec<&RawValue> = nested(raw);
        Ok(Self(items.into_iter().map(tag_of_list).collect()))
    }
}

/// An item that is no object with a `key` becomes a tag without a value.
fn tag_of_list(item: &RawValue) -> (Cow<'_, str>, Cow<'_, str>) {
    let (mut name, mut text) = (None, Cow::default());
    for (key, value) in nested::<Entries<'_>>(item).0 {
        match &*key {
            "key" => name = Some(loose_text(value)),
            "value" => text = loose_text(value),
            _ => {}
        }
    }
    (name.unwrap_or_else(|| loose_text(item)), text)
}

/// The fields of an object with their values unread; nothing where there is no object.
#[derive(Default)]
pub(super) struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            return Ok(Self::default());
        }
        serde_json::Deserializer::from_str(raw.get()).deserialize_map(EntriesVisitor).map_err(D::Error::custom)
    }
}

/// Reads what serde has read over before; `T::default()` where it is of another form.
fn nested<'a, T: Deserialize<'a> + Default>(raw: &'a RawValue) -> T {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// A string's text, nothing for null, the JSON of anything else.
fn loose_text(raw: &RawValue) -> Cow<'_, str> {
    match nested::<Text<'_>>(raw) {
        Field::Value(text) => text,
        Field::Missing => Cow::default(),
        Field::WrongType | Field::OutOfRange => Cow::Borrowed(raw.get()),
    }
}
