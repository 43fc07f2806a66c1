//! One message as it travels and is kept: properties, then the body, in one piece of bytes.

use bytes::{Bytes, BytesMut};

use crate::limits::{PROPERTIES_LENGTH_MAX, PROPERTIES_MAX};
use crate::name::{self, NameError};
use crate::wire::{Malformed, Sink, put_short, too_long, truncated};

/// Names of properties that mean the same to everybody. Values are UTF-8 text unless said otherwise.
pub mod property {
    /// The body's media type.
    pub const CONTENT_TYPE: &str = "content-type";
    /// How the body is compressed.
    pub const CONTENT_ENCODING: &str = "content-encoding";
    /// The application's name for the message.
    pub const MESSAGE_ID: &str = "message-id";
    /// The message that this one is about.
    pub const CORRELATION_ID: &str = "correlation-id";
    /// The queue where an answer is expected.
    pub const REPLY_TO: &str = "reply-to";
    /// What kind of message it is, to the application.
    pub const TYPE: &str = "type";
    /// When it was made: milliseconds since 1970 (UTC), 8 bytes, little-endian.
    pub const TIMESTAMP: &str = "timestamp";
}

/// A message: what [`Message::parse`] finds in the bytes of a batch or of a delivery. Shares those bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    properties: Properties,
    body: Bytes,
}

impl Message {
    /// Takes the message apart, checking everything: its bytes are those between one message's length field
    /// and the next message, in a batch or a delivery.
    pub fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let body_at = check(bytes)?;
        let properties = Properties { encoded: bytes.slice(LENGTH_FIELD..body_at) };
        Ok(Self { properties, body: bytes.slice(body_at..) })
    }

    /// The properties, in the order in which they were set.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes the body out.
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

/// Takes a message apart: see [`Message::parse`].
pub fn parse_message(bytes: &Bytes) -> Result<Message, Malformed> {
    Message::parse(bytes)
}

const LENGTH_FIELD: usize = 2;

/// Checks a message and says where its body begins.
pub(crate) fn check(bytes: &[u8]) -> Result<usize, Malformed> {
    let (announced, rest) = split_length(bytes).map_err(|malformed| malformed.within("properties"))?;
    if announced > usize::from(PROPERTIES_LENGTH_MAX) {
        return Err(too_long(announced, PROPERTIES_LENGTH_MAX.into()).within("properties"));
    }
    let mut encoded =
        rest.get(..announced).ok_or_else(|| truncated(announced, rest.len()).within("properties"))?;
    let mut seen = 0;
    while !encoded.is_empty() {
        let ((name, _), rest) =
            split_property(encoded).map_err(|malformed| malformed.within("properties"))?;
        name::check(name, false).map_err(|problem| Malformed::from(problem).within("properties"))?;
        encoded = rest;
        seen += 1;
        if seen > PROPERTIES_MAX {
            return Err(too_long(seen, PROPERTIES_MAX).within("properties"));
        }
    }
    Ok(LENGTH_FIELD + announced)
}

fn split_length(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (length, rest) = bytes.split_first_chunk().ok_or_else(|| truncated(LENGTH_FIELD, bytes.len()))?;
    Ok((u16::from_le_bytes(*length).into(), rest))
}

fn split_counted(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = split_length(bytes)?;
    rest.split_at_checked(length).ok_or_else(|| truncated(length, rest.len()))
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn split_property(bytes: &[u8]) -> Result<(Pair<'_>, &[u8]), Malformed> {
    let (name, rest) = split_counted(bytes)?;
    let (value, rest) = split_counted(rest)?;
    Ok(((name, value), rest))
}

/// Names with values, in the order in which they were set; the first of a name counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Checked: whole pairs of valid names and values, within the limits.
    encoded: Bytes,
}

impl Properties {
    /// No properties.
    pub const NONE: Self = Self { encoded: Bytes::new() };

    /// These names and values.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, PropertyError> {
        let mut encoded = BytesMut::new();
        for (count, (name, value)) in pairs.into_iter().enumerate() {
            if count >= PROPERTIES_MAX {
                return Err(PropertyError::TooMany);
            }
            name::check(name.as_bytes(), false)?;
            let length = encoded.len() + 2 * LENGTH_FIELD + name.len() + value.len();
            if length > usize::from(PROPERTIES_LENGTH_MAX) {
                return Err(PropertyError::TooLong);
            }
            put_short(name.as_bytes(), &mut encoded);
            put_short(value, &mut encoded);
        }
        Ok(Self { encoded: encoded.freeze() })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The value of the first property of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> PropertyIter<'_> {
        PropertyIter { rest: &self.encoded }
    }

    pub(crate) fn encoded_length(&self) -> usize {
        LENGTH_FIELD + self.encoded.len()
    }

    pub(crate) fn put(&self, sink: &mut impl Sink) {
        put_short(&self.encoded, sink);
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = PropertyIter<'a>;
    fn into_iter(self) -> PropertyIter<'a> {
        self.iter()
    }
}

/// Goes over names and values.
#[derive(Clone, Debug)]
pub struct PropertyIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = (&'a str, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let ((name, value), rest) =
            split_property(self.rest).expect("properties are checked when they are made");
        self.rest = rest;
        Some((std::str::from_utf8(name).expect("names are checked when properties are made"), value))
    }
}

/// Why properties cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// A name is not one.
    #[error("property: {0}")]
    Name(#[from] NameError),
    /// More than [`PROPERTIES_MAX`].
    #[error("a message has at most 64 properties")]
    TooMany,
    /// More than [`PROPERTIES_LENGTH_MAX`] bytes in all.
    #[error("a message's properties have at most 32 KiB in all")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Problem;

    fn message(properties: &Properties, body: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        properties.put(&mut bytes);
        bytes.extend_from_slice(body);
        bytes.freeze()
    }

    #[test]
    fn the_first_property_of_a_name_counts_and_order_is_kept() {
        let pairs = [("b", &b"1"[..]), ("a", b""), ("b", b"2")];
        let properties = Properties::new(pairs).unwrap();
        assert_eq!(properties.get("b"), Some(&b"1"[..]));
        assert_eq!(properties.get("a"), Some(&b""[..]));
        assert_eq!(properties.get("c"), None);
        assert_eq!(properties.iter().collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn properties_are_bounded() {
        assert_eq!(Properties::new([("", &b""[..])]), Err(PropertyError::Name(NameError::Empty)));
        let many = vec![("p", &b""[..]); PROPERTIES_MAX + 1];
        assert_eq!(Properties::new(many.clone()), Err(PropertyError::TooMany));
        assert!(Properties::new(many.into_iter().skip(1)).is_ok());
        let room = usize::from(PROPERTIES_LENGTH_MAX) - 2 * LENGTH_FIELD - 1;
        assert!(Properties::new([("p", &vec![0; room][..])]).is_ok());
        assert_eq!(Properties::new([("p", &vec![0; room + 1][..])]), Err(PropertyError::TooLong));
    }

    #[test]
    fn the_same_limits_hold_when_reading() {
        let one = b"\x01\x00p\x00\x00";
        let bytes = |count: usize| {
            let mut bytes = u16::try_from(one.len() * count).unwrap().to_le_bytes().to_vec();
            bytes.extend(one.repeat(count));
            Bytes::from(bytes)
        };
        assert!(Message::parse(&bytes(PROPERTIES_MAX)).is_ok());
        assert!(Message::parse(&bytes(PROPERTIES_MAX + 1)).is_err());
        let too_long = [&(PROPERTIES_LENGTH_MAX + 1).to_le_bytes()[..], &vec![0; 40_000]].concat();
        assert!(matches!(Message::parse(&too_long.into()).unwrap_err().problem, Problem::TooLong { .. }));
    }

    #[test]
    fn property_names_are_names() {
        let problem = |bytes: &'static [u8]| Message::parse(&Bytes::from_static(bytes)).unwrap_err();
        for bytes in
            [&b"\x05\x00\x01\x00\xff\x00\x00"[..], b"\x05\x00\x01\x00\n\x00\x00", b"\x04\x00\x00\x00\x00\x00"]
        {
            assert!(matches!(problem(bytes), Malformed { field: "properties", problem: Problem::Name(_) }));
        }
    }

    proptest! {
        #[test]
        fn messages_come_back(
            pairs in prop::collection::vec(("[a-z-]{1,9}", prop::collection::vec(any::<u8>(), 0..30)), 0..6),
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            let properties = Properties::new(pairs.clone()).unwrap();
            let bytes = message(&properties, &body);
            let seen = Message::parse(&bytes).unwrap();
            prop_assert_eq!(seen.properties().iter().collect::<Vec<_>>(), pairs);
            prop_assert_eq!(seen.properties(), &properties);
            prop_assert_eq!(&seen.into_body()[..], &body[..]);
            for shorter in 0..bytes.len() - body.len() {
                prop_assert!(Message::parse(&bytes.slice(..shorter)).is_err());
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), short: bool) {
            let mut bytes = bytes;
            if short && bytes.len() > 1 {
                bytes[0] %= 32;
                bytes[1] = 0;
            }
            if let Ok(message) = Message::parse(&bytes.into()) {
                prop_assert!(message.properties().iter().count() <= PROPERTIES_MAX);
            }
        }
    }
}
