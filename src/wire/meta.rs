//! `meta` and `tags`, whose form differs most between versions. What has another form than any version sends counts as
//! empty, since no event should be lost for it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::WirePeer;
use super::field::{Key, LooseText, other_forms_are};

/// `meta`.
#[derive(Default)]
pub(super) struct Meta<'a> {
    pub(super) peer: WirePeer<'a>,
    pub(super) tags: Tags<'a>,
    pub(super) unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// `meta.peer`, and its unknown fields.
#[derive(Default)]
struct Peer<'a>(WirePeer<'a>, Vec<(Cow<'a, str>, &'a RawValue)>);

/// Tags as list of `{"key", "value"}`, as object, or null.
#[derive(Default)]
pub(super) struct Tags<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// An item of the list; one that is a plain string becomes a tag without a value.
#[derive(Default)]
struct Tag<'a>(Cow<'a, str>, Cow<'a, str>);

impl<'de> Deserialize<'de> for Meta<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetaVisitor;
        impl<'de> Visitor<'de> for MetaVisitor {
            type Value = Meta<'de>;

            other_forms_are!(Meta::default());

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut meta = Meta::default();
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "peer" => {
                            let Peer(peer, unknown) = map.next_value()?;
                            meta.peer = peer;
                            meta.unknown.extend(unknown);
                        }
                        "tags" => meta.tags = map.next_value()?,
                        _ => meta.unknown.push((Cow::Owned(format!("meta.{key}")), map.next_value()?)),
                    }
                }
                Ok(meta)
            }
        }
        deserializer.deserialize_any(MetaVisitor)
    }
}

impl<'de> Deserialize<'de> for Peer<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeerVisitor;
        impl<'de> Visitor<'de> for PeerVisitor {
            type Value = Peer<'de>;

            other_forms_are!(Peer::default());

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let Peer(mut peer, mut unknown) = Peer::default();
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "sid" => peer.sid = map.next_value::<LooseText<'_>>()?.0,
                        "type" => peer.kind = map.next_value::<LooseText<'_>>()?.0,
                        "alias" => peer.alias = map.next_value::<LooseText<'_>>()?.0,
                        _ => unknown.push((Cow::Owned(format!("meta.peer.{key}")), map.next_value()?)),
                    }
                }
                Ok(Peer(peer, unknown))
            }
        }
        deserializer.deserialize_any(PeerVisitor)
    }
}

impl<'de> Deserialize<'de> for Tags<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;
        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = Tags<'de>;

            other_forms_are!(Tags::default(), except_seq);

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tags = Tags::default();
                while let Some((Key(name), LooseText(value))) = map.next_entry()? {
                    tags.0.push((name, value));
                }
                Ok(tags)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut tags = Tags::default();
                while let Some(Tag(name, value)) = list.next_element()? {
                    tags.0.push((name, value));
                }
                Ok(tags)
            }
        }
        deserializer.deserialize_any(TagsVisitor)
    }
}

impl<'de> Deserialize<'de> for Tag<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The list is of old versions alone, so that reading it twice costs nothing that matters.
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            let LooseText(name) = serde_json::from_str(raw.get()).unwrap_or_default();
            return Ok(Self(name, Cow::default()));
        }
        #[derive(Default, Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            key: LooseText<'a>,
            #[serde(borrow, default)]
            value: LooseText<'a>,
        }
        let Fields { key, value } = serde_json::from_str(raw.get()).unwrap_or_default();
        Ok(Self(key.0, value.0))
    }
}
