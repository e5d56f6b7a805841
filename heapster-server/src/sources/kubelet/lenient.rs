//! [`Lenient`]: a JSON value that remembers being of the wrong type instead of failing its document.
//!
//! A kubelet's answer describes dozens of pods. If one number of one container is a text, only
//! that number may be lost. A plain derived reader would refuse the whole document, so every value
//! here takes whatever JSON there is, keeps it if it fits and skips it otherwise. Reading stays a
//! single pass that borrows texts from the body.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The longest name taken for a name. Kubernetes stops at 253 bytes.
const NAME_BYTES_MAX: usize = 1024;

/// The most elements of one list that are kept; a pod has a handful of containers and volumes.
const ELEMENTS_MAX: usize = 1024;

/// Floats up to here are exact integers.
const FLOAT_EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A value that may be missing, unusable or there.
#[derive(Clone, Debug, Default)]
pub(super) enum Lenient<T> {
    /// Absent or `null`.
    #[default]
    Absent,
    /// There, but not what it should be.
    Bad,
    /// As it should be.
    Given(T),
}

impl<T> Lenient<T> {
    /// The value, if it is there and usable.
    pub(super) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }
}

impl Lenient<Cow<'_, str>> {
    /// The text, `""` when there is none.
    pub(super) fn text(&self) -> &str {
        self.given().map_or("", AsRef::as_ref)
    }

    /// The text, if it can name something: neither empty nor absurdly long.
    pub(super) fn name(&self) -> Option<&str> {
        let name = self.text();
        (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(name)
    }
}

/// What can be made of the kinds of JSON values. Kinds that do not fit give `None`.
pub(super) trait FromJson<'de>: Sized {
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_u64(_: u64) -> Option<Self> {
        None
    }
    fn from_i64(_: i64) -> Option<Self> {
        None
    }
    fn from_f64(_: f64) -> Option<Self> {
        None
    }
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    fn from_borrowed(text: &'de str) -> Option<Self> {
        Self::from_text(text)
    }
    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        skip_map(map)?;
        Ok(None)
    }
    fn from_seq<A: SeqAccess<'de>>(seq: A) -> Result<Option<Self>, A::Error> {
        skip_seq(seq)?;
        Ok(None)
    }
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

impl FromJson<'_> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

/// Whole numbers from 0 to 2^64−1; also written as `5.0` or `5e3`, while the float is exact.
impl FromJson<'_> for u64 {
    fn from_u64(value: u64) -> Option<Self> {
        Some(value)
    }

    fn from_i64(value: i64) -> Option<Self> {
        Self::try_from(value).ok()
    }

    fn from_f64(value: f64) -> Option<Self> {
        let whole = value.fract() == 0.0 && (0.0..=FLOAT_EXACT_MAX).contains(&value);
        whole.then_some(value as Self)
    }
}

impl FromJson<'_> for i64 {
    fn from_u64(value: u64) -> Option<Self> {
        Self::try_from(value).ok()
    }

    fn from_i64(value: i64) -> Option<Self> {
        Some(value)
    }

    fn from_f64(value: f64) -> Option<Self> {
        let whole = value.fract() == 0.0 && value.abs() <= FLOAT_EXACT_MAX;
        whole.then_some(value as Self)
    }
}

impl FromJson<'_> for f64 {
    fn from_u64(value: u64) -> Option<Self> {
        Some(value as Self)
    }

    fn from_i64(value: i64) -> Option<Self> {
        Some(value as Self)
    }

    fn from_f64(value: f64) -> Option<Self> {
        Some(value)
    }
}

impl<'a, 'de: 'a> FromJson<'de> for Cow<'a, str> {
    fn from_text(text: &str) -> Option<Self> {
        Some(Cow::Owned(text.to_owned()))
    }

    fn from_borrowed(text: &'de str) -> Option<Self> {
        Some(Cow::Borrowed(text))
    }
}

/// The elements of a JSON list, as far as a list of that kind may go.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    /// The first elements, at most [`ELEMENTS_MAX`].
    pub(super) elements: Vec<Lenient<T>>,
    /// How many more there were.
    pub(super) left_out: usize,
}

impl<'de, T: FromJson<'de>> FromJson<'de> for List<T> {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut list = Self { elements: Vec::new(), left_out: 0 };
        while list.elements.len() < ELEMENTS_MAX {
            match seq.next_element()? {
                Some(element) => list.elements.push(element),
                None => return Ok(Some(list)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            list.left_out += 1;
        }
        Ok(Some(list))
    }
}

impl<T> Lenient<List<T>> {
    /// The elements; none when the list is absent or unusable.
    pub(super) fn elements(&self) -> &[Lenient<T>] {
        self.given().map_or(&[], |list| &list.elements)
    }
}

/// The last element of a JSON list; the others are read past, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Last<T>(pub(super) Option<Lenient<T>>);

impl<'de, T: FromJson<'de>> FromJson<'de> for Last<T> {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut last = None;
        while let Some(element) = seq.next_element()? {
            last = Some(element);
        }
        Ok(Some(Self(last)))
    }
}

/// The members of a JSON object whose names are not known beforehand; as many as a list may have.
impl<'a, 'de: 'a, T: FromJson<'de>> FromJson<'de> for BTreeMap<Cow<'a, str>, Lenient<T>> {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut members = Self::new();
        while let Some(Key(name)) = map.next_key()? {
            if members.len() < ELEMENTS_MAX {
                members.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Some(members))
    }
}

/// The name of an object's member, borrowed where the body allows.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Lets structs that derive `Deserialize` be read leniently: they are JSON objects.
macro_rules! json_objects {
    ($($name:ident $(<$lifetime:lifetime>)?),* $(,)?) => {$(
        impl<'de $(: $lifetime, $lifetime)?> $crate::sources::kubelet::lenient::FromJson<'de>
            for $name $(<$lifetime>)?
        {
            fn from_map<A: serde::de::MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
                let object = serde::de::value::MapAccessDeserializer::new(map);
                serde::Deserialize::deserialize(object).map(Some)
            }
        }
    )*};
}
pub(super) use json_objects;

struct LenientVisitor<T>(PhantomData<T>);

fn fit<T>(value: Option<T>) -> Lenient<T> {
    value.map_or(Lenient::Bad, Lenient::Given)
}

impl<'de, T: FromJson<'de>> Visitor<'de> for LenientVisitor<T> {
    type Value = Lenient<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Lenient::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(fit(T::from_bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(fit(T::from_u64(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(fit(T::from_i64(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(fit(T::from_f64(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(fit(T::from_text(text)))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(fit(T::from_borrowed(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::from_map(map).map(fit)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::from_seq(seq).map(fit)
    }
}

impl<'de, T: FromJson<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(json: &str) -> Option<u64> {
        serde_json::from_str::<Lenient<u64>>(json).unwrap().given().copied()
    }

    #[test]
    fn whole_numbers_are_exact_and_others_are_not_guessed() {
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        assert_eq!((number("5.0"), number("5e3"), number("-0")), (Some(5), Some(5000), Some(0)));
        for json in ["5.5", "-1", "1e300", "18446744073709551616", "\"5\"", "true", "[5]", "{}"] {
            assert_eq!(number(json), None, "{json}");
        }
    }

    #[test]
    fn texts_are_borrowed_unless_they_are_escaped() {
        let borrowed: Lenient<Cow<'_, str>> = serde_json::from_str(r#""web-1""#).unwrap();
        assert!(matches!(borrowed, Lenient::Given(Cow::Borrowed("web-1"))));
        let escaped: Lenient<Cow<'_, str>> = serde_json::from_str(r#""\u0061b""#).unwrap();
        assert_eq!(escaped.text(), "ab");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let json = format!("[{}1]", "1,".repeat(ELEMENTS_MAX + 1));
        let list: Lenient<List<u64>> = serde_json::from_str(&json).unwrap();
        assert_eq!(list.elements().len(), ELEMENTS_MAX);
        assert_eq!(list.given().unwrap().left_out, 2);
    }
}
