//! How fields become bytes and bytes fields: little-endian numbers, counted strings and lists.
//!
//! Nothing here trusts a length: what is announced is compared with what has arrived before anything is allocated.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use uuid::Uuid;

use crate::fault::FaultCode;
use crate::limits::TEXT_LENGTH_MAX;
use crate::name::{
    Address, BrokerName, ClusterName, ExchangeName, NameError, QueueName, RoutingKey, VhostName,
};

/// Bytes that are not what the protocol says, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field that could not be read; empty if it is the whole.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// More bytes are announced or needed than there are.
    #[error("{needed} bytes are needed, {available} are there")]
    Truncated {
        /// How many.
        needed: u64,
        /// How many there are.
        available: u64,
    },
    /// The frame goes on after its last field.
    #[error("{0} bytes follow the last field")]
    TrailingBytes(u64),
    /// Longer or more than the limit.
    #[error("{length} is more than the limit of {limit}")]
    TooLong {
        /// How long or how many.
        length: u64,
        /// How long or how many at most.
        limit: u64,
    },
    /// A text that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A name that is not one.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A number without meaning there.
    #[error("the value {0} is not allowed")]
    Value(u64),
    /// Not the protocol's magic bytes.
    #[error("the magic bytes are missing")]
    Magic,
}

impl Malformed {
    /// The same problem, in this field unless an inner one is named already.
    pub(crate) fn within(self, field: &'static str) -> Self {
        if self.field.is_empty() { Self { field, ..self } } else { self }
    }

    /// The code to answer with.
    pub fn fault(&self) -> FaultCode {
        match self.problem {
            Problem::Name(_) => FaultCode::InvalidName,
            Problem::Magic => FaultCode::WrongProtocol,
            _ => FaultCode::MalformedFrame,
        }
    }
}

impl From<Problem> for Malformed {
    fn from(problem: Problem) -> Self {
        Self { field: "", problem }
    }
}

impl From<NameError> for Malformed {
    fn from(problem: NameError) -> Self {
        Problem::Name(problem).into()
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            self.problem.fmt(f)
        } else {
            write!(f, "field {}: {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for Malformed {}

/// Where encoded bytes go.
pub(crate) trait Sink {
    /// Takes a copy.
    fn put(&mut self, bytes: &[u8]);
    /// Takes a share, if that is cheaper than a copy.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be written.
#[derive(Default)]
pub(crate) struct Measure(pub(crate) usize);

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Takes fields from the front of bytes that came from elsewhere.
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// The next `length` bytes, shared, if they are there.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        self.require(length)?;
        Ok(self.rest.split_to(length))
    }

    /// Everything that is left.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(array) = self.rest.first_chunk::<N>().copied() else {
            return Err(truncated(N, self.rest.len()));
        };
        self.rest.advance(N);
        Ok(array)
    }

    /// Fails unless everything was taken.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Problem::TrailingBytes(count(self.rest.len())).into()) }
    }

    fn require(&self, length: usize) -> Result<(), Malformed> {
        if length <= self.rest.len() { Ok(()) } else { Err(truncated(length, self.rest.len())) }
    }
}

pub(crate) fn truncated(needed: usize, available: usize) -> Malformed {
    Problem::Truncated { needed: count(needed), available: count(available) }.into()
}

pub(crate) fn too_long(length: usize, limit: usize) -> Malformed {
    Problem::TooLong { length: count(length), limit: count(limit) }.into()
}

/// A length as a number for error messages.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// An announced 32-bit length as a length in memory; on a smaller machine what does not fit is never there.
pub(crate) fn length(announced: u32) -> usize {
    usize::try_from(announced).unwrap_or(usize::MAX)
}

/// A length in memory as it is announced. Our own values are bounded far below.
pub(crate) fn announce(length: usize) -> u32 {
    u32::try_from(length).expect("what is sent is shorter than 4 GiB")
}

/// Something with one place in a frame.
pub(crate) trait Field: Sized {
    /// The fewest bytes it can take: bounds how many a list can hold.
    const MINIMUM: usize;
    /// The most of them in one list, if the frame's own limit is not enough.
    const LIST_MAXIMUM: usize = usize::MAX;
    fn put(&self, sink: &mut impl Sink);
    fn get(reader: &mut Reader) -> Result<Self, Malformed>;
}

macro_rules! number_field {
    ($($number:ty),*) => {$(
        impl Field for $number {
            const MINIMUM: usize = size_of::<$number>();
            fn put(&self, sink: &mut impl Sink) {
                sink.put(&self.to_le_bytes());
            }
            fn get(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.array().map(<$number>::from_le_bytes)
            }
        }
    )*};
}

number_field!(u8, u16, u32, u64, u128);

impl Field for bool {
    const MINIMUM: usize = 1;
    fn put(&self, sink: &mut impl Sink) {
        u8::from(*self).put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        match u8::get(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Problem::Value(other.into()).into()),
        }
    }
}

/// Text for people: cut to its limit when written, so that a long explanation never breaks a connection.
impl Field for String {
    const MINIMUM: usize = 2;
    fn put(&self, sink: &mut impl Sink) {
        let text = self.get(..self.floor_char_boundary(TEXT_LENGTH_MAX)).unwrap_or_default();
        put_short(text.as_bytes(), sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let length = usize::from(u16::get(reader)?);
        if length > TEXT_LENGTH_MAX {
            return Err(too_long(length, TEXT_LENGTH_MAX));
        }
        let bytes = reader.take(length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Problem::NotUtf8)?;
        Ok(text.to_owned())
    }
}

/// Writes a 16-bit length and the bytes, which are short by their type.
pub(crate) fn put_short(bytes: &[u8], sink: &mut impl Sink) {
    u16::try_from(bytes.len()).expect("names and texts are short by construction").put(sink);
    sink.put(bytes);
}

impl Field for Bytes {
    const MINIMUM: usize = 4;
    fn put(&self, sink: &mut impl Sink) {
        announce(self.len()).put(sink);
        sink.put_shared(self);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let announced = u32::get(reader)?;
        reader.take(length(announced))
    }
}

impl Field for Uuid {
    const MINIMUM: usize = 16;
    fn put(&self, sink: &mut impl Sink) {
        sink.put(self.as_bytes());
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.array().map(Uuid::from_bytes)
    }
}

impl<const N: usize> Field for [u8; N] {
    const MINIMUM: usize = N;
    fn put(&self, sink: &mut impl Sink) {
        sink.put(self);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.array()
    }
}

impl<T: Field> Field for Option<T> {
    const MINIMUM: usize = 1;
    fn put(&self, sink: &mut impl Sink) {
        self.is_some().put(sink);
        if let Some(value) = self {
            value.put(sink);
        }
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        if bool::get(reader)? { T::get(reader).map(Some) } else { Ok(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    const MINIMUM: usize = 4;
    fn put(&self, sink: &mut impl Sink) {
        announce(self.len()).put(sink);
        for item in self {
            item.put(sink);
        }
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let announced = length(u32::get(reader)?);
        if announced > T::LIST_MAXIMUM {
            return Err(too_long(announced, T::LIST_MAXIMUM));
        }
        // Bytes that arrived bound the list before it is allocated.
        reader.require(announced.saturating_mul(T::MINIMUM.max(1)))?;
        let mut items = Self::with_capacity(announced);
        for _ in 0..announced {
            items.push(T::get(reader)?);
        }
        Ok(items)
    }
}

macro_rules! name_field {
    ($($name:ty),*) => {$(
        impl Field for $name {
            const MINIMUM: usize = 2;
            fn put(&self, sink: &mut impl Sink) {
                put_short(self.as_str().as_bytes(), sink);
            }
            fn get(reader: &mut Reader) -> Result<Self, Malformed> {
                let length = usize::from(u16::get(reader)?);
                let bytes = reader.take(length)?;
                Ok(<$name>::from_bytes(&bytes)?)
            }
        }
    )*};
}

name_field!(VhostName, QueueName, ExchangeName, RoutingKey, BrokerName, ClusterName, Address);

impl Field for FaultCode {
    const MINIMUM: usize = 2;
    fn put(&self, sink: &mut impl Sink) {
        self.number().put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        u16::get(reader).map(Self::from_number)
    }
}

/// Defines a struct whose bytes are its fields', in the order they are written down.
macro_rules! fields {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::wire::Field for $name {
            const MINIMUM: usize = 0 $(+ <$type as $crate::wire::Field>::MINIMUM)*;
            #[allow(unused_variables, reason = "a frame may have no fields")]
            fn put(&self, sink: &mut impl $crate::wire::Sink) {
                $($crate::wire::Field::put(&self.$field, sink);)*
            }
            #[allow(unused_variables, reason = "a frame may have no fields")]
            fn get(reader: &mut $crate::wire::Reader) -> Result<Self, $crate::wire::Malformed> {
                Ok(Self {
                    $($field: <$type as $crate::wire::Field>::get(reader)
                        .map_err(|malformed| malformed.within(stringify!($field)))?,)*
                })
            }
        }
    };
}
pub(crate) use fields;
