//! The byte layout: that of bincode 1.3 with its default settings, read and written by hand.
//!
//! Integers are little-endian and of fixed width, lengths and `usize` are `u64`, an enum is its variant's number as `u32`,
//! an `Option` is one byte. By hand, because a number that we do not know must be told apart from bytes that are
//! broken: the first comes from a newer node and is skipped, the second is a fault.
//!
//! Nothing here trusts a length: it is compared with the bytes that are left before anything is allocated, and
//! memory grows only as elements are really read.

/// Why bytes could not be read. The frame is skipped; the frames after it are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the layout asks for.
    #[error("the message ends {missing} bytes too early: it was cut, or is of another layout")]
    TooShort {
        /// How many bytes are missing, at least.
        missing: usize,
    },
    /// A length that the rest of the message cannot hold.
    #[error("a length of {length} where {left} bytes are left: the message is damaged or hostile")]
    Length {
        /// The length as told.
        length: u64,
        /// The bytes left in the message.
        left: usize,
    },
    /// A boolean or an option with a byte other than 0 and 1.
    #[error("{0} where only 0 or 1 may stand")]
    NotABool(u8),
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// JSON text that is no JSON: what the published node sends instead of a module's JSON-RPC parameters.
    #[error("no JSON: {0}")]
    NotJson(String),
    /// A number that a newer node may know.
    #[error("{what} {number} is unknown here: the node is newer than this module")]
    UnknownNumber {
        /// Which enum it is a number of.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// An event whose contents belong to another event.
    #[error("an event of kind {kind} with the contents of kind {payload}: forged by a module")]
    WrongPayload {
        /// The kind it claims.
        kind: u32,
        /// The kind of its contents.
        payload: u32,
    },
}

/// Bytes not yet read.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::TooShort`].
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, left)) = self.left.split_at_checked(count) else {
            return Err(DecodeError::TooShort {
                missing: count - self.left.len(),
            });
        };
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// A length of things that take at least `least` bytes each, checked against what is left.
    fn length(&mut self, least: usize) -> Result<usize, DecodeError> {
        let length = u64::take(self)?;
        let fits = usize::try_from(length).ok().filter(|count| {
            count
                .checked_mul(least.max(1))
                .is_some_and(|bytes| bytes <= self.left.len())
        });
        fits.ok_or(DecodeError::Length {
            length,
            left: self.left.len(),
        })
    }
}

/// Room set aside for a sequence before its elements are read.
const FIRST_ROOM: usize = 64;

/// A value with a place in the protocol.
pub(crate) trait Wire: Sized {
    /// The fewest bytes a value takes.
    const LEAST: usize;

    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads a value.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no such value.
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Appends a sequence's elements.
    fn put_all(all: &[Self], out: &mut Vec<u8>) {
        for one in all {
            one.put(out);
        }
    }

    /// Reads a sequence's elements.
    ///
    /// # Errors
    /// As [`Wire::take`].
    fn take_all(input: &mut Reader<'_>, count: usize) -> Result<Vec<Self>, DecodeError> {
        let mut all = Vec::with_capacity(count.min(FIRST_ROOM));
        for _ in 0..count {
            all.push(Self::take(input)?);
        }
        Ok(all)
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            const LEAST: usize = size_of::<$type>();

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(<$type>::from_le_bytes(input.array()?))
            }
        }
    )*};
}

number!(u32, u64, i32, i64, f64);

impl Wire for u8 {
    const LEAST: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(input.array::<1>()?[0])
    }

    fn put_all(all: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(all);
    }

    fn take_all(input: &mut Reader<'_>, count: usize) -> Result<Vec<Self>, DecodeError> {
        Ok(input.bytes(count)?.to_vec())
    }
}

impl Wire for bool {
    const LEAST: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::NotABool(other)),
        }
    }
}

impl Wire for [u8; 32] {
    const LEAST: usize = 32;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array()
    }
}

impl Wire for String {
    const LEAST: usize = 8;

    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = input.length(1)?;
        let text = std::str::from_utf8(input.bytes(length)?).map_err(|_| DecodeError::NotUtf8)?;
        Ok(text.to_owned())
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    (text.len() as u64).put(out);
    out.extend_from_slice(text.as_bytes());
}

impl<T: Wire> Wire for Vec<T> {
    const LEAST: usize = 8;

    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        T::put_all(self, out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.length(T::LEAST)?;
        T::take_all(input, count)
    }
}

impl<T: Wire> Wire for Option<T> {
    const LEAST: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::take(input)? {
            Some(T::take(input)?)
        } else {
            None
        })
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    const LEAST: usize = A::LEAST + B::LEAST;

    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

/// As JSON text: bincode cannot read a value that describes itself. The published node tries and fails, a repaired one sends
/// text.
impl Wire for serde_json::Value {
    const LEAST: usize = 8;

    fn put(&self, out: &mut Vec<u8>) {
        put_text(&self.to_string(), out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = input.length(1)?;
        serde_json::from_slice(input.bytes(length)?).map_err(|error| DecodeError::NotJson(error.to_string()))
    }
}

/// A struct whose fields stand on the wire one after the other.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type),* }

        impl $crate::codec::Wire for $name {
            const LEAST: usize = 0 $(+ <$type as $crate::codec::Wire>::LEAST)*;

            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(input: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: $crate::codec::Wire::take(input)?),* })
            }
        }
    };
}

/// An enum that stands on the wire as its variant's number and the variant's fields.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident as $what:literal {
        $($(#[$variant_meta:meta])* $number:literal => $variant:ident
            $({ $($field:ident: $type:ty),* $(,)? })?
            $(($bind:ident: $inner:ty))?
        ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($(#[$variant_meta])* #[allow(missing_docs, reason = "the protocol's names say it")]
            $variant $({ $($field: $type),* })? $(($inner))?),*
        }

        impl $name {
            /// The numbers of all variants, in order.
            pub const NUMBERS: &'static [u32] = &[$($number),*];

            /// The variant's number on the wire.
            pub fn number(&self) -> u32 {
                match self {
                    $(choice!(@any $name $variant $({ $($field)* })? $(($bind))?) => $number),*
                }
            }

            /// What the variant is called.
            pub fn name(&self) -> &'static str {
                match self {
                    $(choice!(@any $name $variant $({ $($field)* })? $(($bind))?) => stringify!($variant)),*
                }
            }
        }

        impl $crate::codec::Wire for $name {
            const LEAST: usize = 4;

            fn put(&self, out: &mut Vec<u8>) {
                self.number().put(out);
                match self {
                    $(Self::$variant $({ $($field),* })? $(($bind))? => { $($($field.put(out);)*)? $($bind.put(out);)? }),*
                }
            }

            fn take(input: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                match <u32 as $crate::codec::Wire>::take(input)? {
                    $($number => Ok(Self::$variant
                        $({ $($field: <$type as $crate::codec::Wire>::take(input)?),* })?
                        $((<$inner as $crate::codec::Wire>::take(input)?))?),)*
                    number => Err($crate::codec::DecodeError::UnknownNumber { what: $what, number }),
                }
            }
        }
    };
    (@any $name:ident $variant:ident) => { $name::$variant };
    (@any $name:ident $variant:ident { $($field:ident)* }) => { $name::$variant { .. } };
    (@any $name:ident $variant:ident ($bind:ident)) => { $name::$variant(..) };
}

pub(crate) use {choice, record};
