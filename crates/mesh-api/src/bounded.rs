//! Fields that may not grow past a limit, on the way out and on the way in.
//!
//! `#[serde(with = "AtMost::<N>")]` on a field of text, bytes, a list or an option of these keeps the layout that serde
//! would give it and adds one check: a length over N is refused as soon as it has been read, before memory is reserved
//! for it. The unit is bytes for text and bytes, items for lists.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

/// The limit, as a type that serde's `with` accepts.
pub(crate) struct AtMost<const MAX: usize>;

impl<const MAX: usize> AtMost<MAX> {
    pub(crate) fn serialize<T: Measured, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.write(MAX, serializer)
    }

    pub(crate) fn deserialize<'de, T: Measured, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        T::read(MAX, deserializer)
    }
}

/// A value whose length is checked against a maximum while it is written or read.
pub(crate) trait Measured: Sized {
    fn write<S: Serializer>(&self, max: usize, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(max: usize, deserializer: D) -> Result<Self, D::Error>;
}

/// What lists are made of. Bytes are not among them: they are copied as one block.
pub(crate) trait Item: Serialize + DeserializeOwned {}

impl Item for [u8; 32] {}

fn over(max: usize, length: usize, unit: &str) -> Option<String> {
    (length > max).then(|| format!("{length} {unit} exceed the limit of {max}"))
}

impl Measured for String {
    fn write<S: Serializer>(&self, max: usize, serializer: S) -> Result<S::Ok, S::Error> {
        match over(max, self.len(), "bytes of text") {
            Some(problem) => Err(S::Error::custom(problem)),
            None => serializer.serialize_str(self),
        }
    }

    fn read<'de, D: Deserializer<'de>>(max: usize, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor { max })
    }
}

impl Measured for Vec<u8> {
    fn write<S: Serializer>(&self, max: usize, serializer: S) -> Result<S::Ok, S::Error> {
        match over(max, self.len(), "bytes") {
            Some(problem) => Err(S::Error::custom(problem)),
            None => serializer.serialize_bytes(self),
        }
    }

    fn read<'de, D: Deserializer<'de>>(max: usize, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor { max })
    }
}

impl<T: Item> Measured for Vec<T> {
    fn write<S: Serializer>(&self, max: usize, serializer: S) -> Result<S::Ok, S::Error> {
        match over(max, self.len(), "items") {
            Some(problem) => Err(S::Error::custom(problem)),
            None => self.serialize(serializer),
        }
    }

    fn read<'de, D: Deserializer<'de>>(max: usize, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor {
            max,
            item: PhantomData,
        })
    }
}

impl<T: Measured> Measured for Option<T> {
    fn write<S: Serializer>(&self, max: usize, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            None => serializer.serialize_none(),
            Some(value) => serializer.serialize_some(&Present { value, max }),
        }
    }

    fn read<'de, D: Deserializer<'de>>(max: usize, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(OptionVisitor {
            max,
            value: PhantomData,
        })
    }
}

struct Present<'a, T> {
    value: &'a T,
    max: usize,
}

impl<T: Measured> Serialize for Present<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.write(self.max, serializer)
    }
}

struct TextVisitor {
    max: usize,
}

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text of at most {} bytes", self.max)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        match over(self.max, text.len(), "bytes of text") {
            Some(problem) => Err(E::custom(problem)),
            None => Ok(text.to_owned()),
        }
    }
}

struct BytesVisitor {
    max: usize,
}

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} bytes", self.max)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        match over(self.max, bytes.len(), "bytes") {
            Some(problem) => Err(E::custom(problem)),
            None => Ok(bytes.to_vec()),
        }
    }

    /// Formats that know no bytes, JSON for one, show them as a list of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<u8>, A::Error> {
        read_list(self.max, items)
    }
}

struct ListVisitor<T> {
    max: usize,
    item: PhantomData<T>,
}

impl<'de, T: Item> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} items", self.max)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<T>, A::Error> {
        read_list(self.max, items)
    }
}

struct OptionVisitor<T> {
    max: usize,
    value: PhantomData<T>,
}

impl<'de, T: Measured> Visitor<'de> for OptionVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing, or a value no longer than {}", self.max)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        T::read(self.max, deserializer).map(Some)
    }
}

/// The announced length is believed only up to `max`, and counted again while reading: not every format announces one.
fn read_list<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    max: usize,
    mut items: A,
) -> Result<Vec<T>, A::Error> {
    let announced = items.size_hint().unwrap_or(0);
    if let Some(problem) = over(max, announced, "items") {
        return Err(A::Error::custom(problem));
    }
    let mut list = Vec::with_capacity(announced);
    while let Some(item) = items.next_element()? {
        if let Some(problem) = over(max, list.len().saturating_add(1), "items") {
            return Err(A::Error::custom(problem));
        }
        list.push(item);
    }
    Ok(list)
}

/// `#[serde(with = "as_u64")]`: a count that travels as a u64 whatever the machine's word is.
///
/// A 32-bit machine that reads a count of 2^32 gets an error and never a small number: an operator who is shown 0 routes
/// instead of 4,294,967,296 would act on a lie.
pub(crate) mod as_u64 {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(narrow(*value)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        narrow_read(u64::deserialize(deserializer)?)
    }

    fn narrow<E: serde::ser::Error>(value: usize) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::custom(format!("the count {value} does not fit 64 bits")))
    }

    pub(super) fn narrow_read<N: TryFrom<u64>, E: serde::de::Error>(value: u64) -> Result<N, E> {
        N::try_from(value)
            .map_err(|_| E::custom(format!("the count {value} does not fit this machine's word")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Refused = serde::de::value::Error;

    #[test]
    fn a_count_too_big_for_a_32_bit_machine_is_an_error_and_not_zero() {
        let fits: Result<u32, Refused> = as_u64::narrow_read(u64::from(u32::MAX));
        assert_eq!(fits, Ok(u32::MAX));
        let wraps: Result<u32, Refused> = as_u64::narrow_read(1 << 32);
        assert!(wraps.is_err());
    }

    #[test]
    fn a_list_that_announces_no_length_is_still_counted() {
        let endless = serde::de::value::SeqDeserializer::<_, Refused>::new(std::iter::repeat(7u8));
        let read = BytesVisitor { max: 3 }.visit_seq(endless);
        assert_eq!(read.unwrap_err().to_string(), "4 items exceed the limit of 3");
    }
}
