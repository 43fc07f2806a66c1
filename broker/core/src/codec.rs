//! Bounded reading and plain writing of the core's own encodings (peer messages, checkpoints' replica record).
//!
//! All integers are little-endian. Reading never trusts a length for allocation: a length is first compared with what
//! is there.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_store::ids::StoreId;
use thiserror::Error;
use uuid::Uuid;

/// The bytes are not what the format says.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("the bytes end inside {0}")]
    Short(&'static str),
    /// A field has a value that the format does not know.
    #[error("{0} has an unknown value")]
    Unknown(&'static str),
    /// A count or length is over its limit.
    #[error("{0} is over its limit")]
    Limit(&'static str),
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// Bytes are left over.
    #[error("bytes are left over after {0}")]
    Trailing(&'static str),
}

/// Takes fields from the front of shared bytes.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Reads from these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn need(&self, length: usize, what: &'static str) -> Result<(), CodecError> {
        if self.bytes.len() < length { Err(CodecError::Short(what)) } else { Ok(()) }
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        self.need(1, what)?;
        Ok(self.bytes.get_u8())
    }

    /// A flag: 0 or 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Unknown(what)),
        }
    }

    /// Two bytes.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, CodecError> {
        self.need(2, what)?;
        Ok(self.bytes.get_u16_le())
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        self.need(4, what)?;
        Ok(self.bytes.get_u32_le())
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        self.need(8, what)?;
        Ok(self.bytes.get_u64_le())
    }

    /// A UUID: sixteen bytes in the order of RFC 9562.
    pub fn uuid(&mut self, what: &'static str) -> Result<Uuid, CodecError> {
        self.need(16, what)?;
        let mut raw = [0; 16];
        self.bytes.copy_to_slice(&mut raw);
        Ok(Uuid::from_bytes(raw))
    }

    /// A store id.
    pub fn store(&mut self, what: &'static str) -> Result<StoreId, CodecError> {
        Ok(StoreId(self.uuid(what)?))
    }

    /// A count of things of at least `each` bytes, no more than can still follow.
    pub fn count(&mut self, each: usize, what: &'static str) -> Result<usize, CodecError> {
        let count = self.u32(what)? as usize;
        match count.checked_mul(each.max(1)) {
            Some(least) if least <= self.bytes.len() => Ok(count),
            _ => Err(CodecError::Limit(what)),
        }
    }

    /// Bytes with a four-byte length, shared, not copied.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, CodecError> {
        let length = self.u32(what)? as usize;
        self.need(length, what)?;
        Ok(self.bytes.split_to(length))
    }

    /// Text with a two-byte length.
    pub fn text(&mut self, what: &'static str) -> Result<String, CodecError> {
        let length = usize::from(self.u16(what)?);
        self.need(length, what)?;
        let raw = self.bytes.split_to(length);
        std::str::from_utf8(&raw).map(str::to_owned).map_err(|_| CodecError::Text(what))
    }

    /// An optional field behind a flag.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        if self.bool(what)? { read(self).map(Some) } else { Ok(None) }
    }

    /// Everything that is left, shared.
    pub fn rest(&mut self) -> Bytes {
        self.bytes.split_to(self.bytes.len())
    }

    /// Nothing may be left.
    pub fn end(&self, what: &'static str) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::Trailing(what)) }
    }
}

/// An encoding in pieces: long byte strings stay shared with whoever holds them, short ones are copied together.
#[derive(Debug, Default)]
pub struct Pieces {
    done: Vec<Bytes>,
    open: BytesMut,
}

/// From this many bytes on, sharing is cheaper than copying.
const SHARED_BYTES: usize = 4 << 10;

impl Pieces {
    /// Where fields are appended.
    pub fn open(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Appends bytes with a four-byte length, as [`put_bytes`] does.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES {
            put_bytes(&mut self.open, bytes);
            return;
        }
        put_count(&mut self.open, bytes.len());
        self.done.push(self.open.split().freeze());
        self.done.push(bytes.clone());
    }

    /// The pieces, in order; none is empty.
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }
}

/// Appends text with a two-byte length; longer text is cut at a character boundary.
pub fn put_text(out: &mut BytesMut, text: &str) {
    let mut length = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "cut to u16::MAX above")]
    out.put_u16_le(length as u16);
    out.put_slice(&text.as_bytes()[..length]);
}

/// Appends a count.
pub fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("counts in messages are far below four thousand million"));
}

/// Appends bytes with a four-byte length.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends a UUID.
pub fn put_uuid(out: &mut BytesMut, id: Uuid) {
    out.put_slice(id.as_bytes());
}

/// Appends an optional field behind a flag.
pub fn put_option<T>(out: &mut BytesMut, value: Option<&T>, write: impl FnOnce(&mut BytesMut, &T)) {
    match value {
        None => out.put_u8(0),
        Some(value) => {
            out.put_u8(1);
            write(out, value);
        }
    }
}
