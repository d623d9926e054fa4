//! Single values of JSON, taken as they come: what is wrong with one is said when it is asked for, with its name.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ParseError;

/// A value that was taken as it came; what is wrong with it is said when it is asked for.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Missing,
    Value(T),
    WrongType,
    OutOfRange,
}

impl<T> Field<T> {
    pub(super) fn optional(self, field: &'static str) -> Result<Option<T>, ParseError> {
        match self {
            Self::Missing => Ok(None),
            Self::Value(value) => Ok(Some(value)),
            Self::WrongType => Err(ParseError::WrongType { field }),
            Self::OutOfRange => Err(ParseError::OutOfRange { field }),
        }
    }

    pub(super) fn required(self, field: &'static str) -> Result<T, ParseError> {
        self.optional(field)?.ok_or(ParseError::MissingField { field })
    }

    pub(super) fn text(self) -> Option<T> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

/// What a [`Field`] can be read from. The default of each is the wrong type.
trait FromJson<'de>: Sized {
    const EXPECTED: &'static str;

    fn from_borrowed(_: &'de str) -> Field<Self> {
        Field::WrongType
    }
    fn from_text(_: &str) -> Field<Self> {
        Field::WrongType
    }
    fn from_bool(_: bool) -> Field<Self> {
        Field::WrongType
    }
    fn from_u64(_: u64) -> Field<Self> {
        Field::WrongType
    }
    /// Of negative numbers, and of those that are not whole or beyond 64 bits.
    fn from_other_number(_: f64) -> Field<Self> {
        Field::WrongType
    }
}

impl<'de> FromJson<'de> for Cow<'de, str> {
    const EXPECTED: &'static str = "a string";

    fn from_borrowed(text: &'de str) -> Field<Self> {
        Field::Value(Cow::Borrowed(text))
    }
    fn from_text(text: &str) -> Field<Self> {
        Field::Value(Cow::Owned(text.to_owned()))
    }
}

impl FromJson<'_> for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_bool(value: bool) -> Field<Self> {
        Field::Value(value)
    }
}

impl FromJson<'_> for u64 {
    const EXPECTED: &'static str = "a number";

    fn from_u64(value: u64) -> Field<Self> {
        Field::Value(value)
    }
    fn from_other_number(value: f64) -> Field<Self> {
        if !(0.0..18_446_744_073_709_551_615.0).contains(&value) { Field::OutOfRange } else { Field::WrongType }
    }
}

impl FromJson<'_> for i32 {
    const EXPECTED: &'static str = "a number";

    fn from_u64(value: u64) -> Field<Self> {
        Self::try_from(value).map_or(Field::OutOfRange, Field::Value)
    }
    fn from_other_number(value: f64) -> Field<Self> {
        if value < 0.0 || value > f64::from(Self::MAX) { Field::OutOfRange } else { Field::WrongType }
    }
}

impl<'de, T: FromJson<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(std::marker::PhantomData))
    }
}

struct FieldVisitor<T>(std::marker::PhantomData<T>);

#[expect(clippy::cast_precision_loss, reason = "only the sign and the magnitude are looked at")]
impl<'de, T: FromJson<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<T>, E> {
        Ok(T::from_borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Field<T>, E> {
        Ok(T::from_text(text))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Field<T>, E> {
        Ok(T::from_bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Field<T>, E> {
        Ok(T::from_u64(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Field<T>, E> {
        Ok(T::from_other_number(value as f64))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Field<T>, E> {
        Ok(T::from_other_number(value))
    }
    fn visit_unit<E>(self) -> Result<Field<T>, E> {
        Ok(Field::Missing)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::WrongType)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<T>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::WrongType)
    }
}

pub(super) type Text<'a> = Field<Cow<'a, str>>;

/// A string's text, a number's or a truth value's as text, nothing for anything else.
#[derive(Default)]
pub(super) struct LooseText<'a>(pub(super) Cow<'a, str>);

impl<'de> FromJson<'de> for LooseText<'de> {
    const EXPECTED: &'static str = "a string";

    fn from_borrowed(text: &'de str) -> Field<Self> {
        Field::Value(Self(Cow::Borrowed(text)))
    }
    fn from_text(text: &str) -> Field<Self> {
        Field::Value(Self(Cow::Owned(text.to_owned())))
    }
    fn from_bool(value: bool) -> Field<Self> {
        Field::Value(Self(Cow::Owned(value.to_string())))
    }
    fn from_u64(value: u64) -> Field<Self> {
        Field::Value(Self(Cow::Owned(value.to_string())))
    }
    fn from_other_number(value: f64) -> Field<Self> {
        Field::Value(Self(Cow::Owned(value.to_string())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LooseText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Field::<LooseText<'de>>::deserialize(deserializer)?.text().unwrap_or_default())
    }
}

/// The methods of a visitor for everything but objects, which all give this value.
macro_rules! other_forms_are {
    ($value:expr, except_seq) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    ($value:expr) => {
        $crate::wire::field::other_forms_are!($value, except_seq);

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}
pub(super) use other_forms_are;

/// The name of a field, borrowed unless it has escapes.
#[derive(Clone, Debug)]
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?.text().map(Key).ok_or_else(|| D::Error::custom("a key that is no string"))
    }
}
