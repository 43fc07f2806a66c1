//! Little-endian encoding of this module's values, bounded in both directions. Shared by statuses, the forming state
//! in the stamp and founding messages.

use quorate_store::ids::{ClusterId, Epoch, Index, Position, RunId, StoreId, Term};
use uuid::Uuid;

/// Bytes that are not what they should be: the peer's fault, or a rotten or newer store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{what} ends early, at byte {at}")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// Bytes are left over.
    #[error("{what} is followed by {extra} bytes that do not belong to it")]
    Long {
        /// What was read.
        what: &'static str,
        /// How many bytes follow.
        extra: usize,
    },
    /// A length or count is beyond its limit.
    #[error("{what} of {found} is beyond the limit of {limit}")]
    Limit {
        /// Which.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The largest allowed.
        limit: usize,
    },
    /// A value that means nothing.
    #[error("{what} has the unknown value {found}")]
    Unknown {
        /// Which.
        what: &'static str,
        /// The value found.
        found: u64,
    },
    /// A text is not UTF-8.
    #[error("{what} is not UTF-8")]
    Text {
        /// Which.
        what: &'static str,
    },
    /// Written by a version that this one cannot read.
    #[error("{what} has format {found}, this version reads up to {supported}: use the newer version")]
    Newer {
        /// Which.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The highest version known here.
        supported: u16,
    },
}

/// Appends values.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A length. Lists and texts held in memory are far below 2^32.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("a list in memory has fewer than 2^32 elements"));
    }

    /// A text, cut at a character boundary if it is longer than `limit` bytes, so that what was written can be read.
    pub(crate) fn text(&mut self, value: &str, limit: usize) {
        let mut end = value.len().min(limit);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let (kept, _) = value.split_at(end);
        self.count(kept.len());
        self.bytes.extend_from_slice(kept.as_bytes());
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<&T>, each: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
    }

    pub(crate) fn position(&mut self, position: Position) {
        self.u32(position.epoch.0);
        self.u64(position.term.0);
        self.u64(position.index.0);
    }
}

/// Takes values off the front; every failure says what was being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8], limit: usize) -> Result<Self, DecodeError> {
        if bytes.len() > limit {
            return Err(DecodeError::Limit { what, found: bytes.len() as u64, limit });
        }
        Ok(Self { whole: bytes.len(), rest: bytes })
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Long { what, extra: self.rest.len() }) }
    }

    fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let at = self.whole - self.rest.len();
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Short { what, at })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let at = self.whole - self.rest.len();
        self.take(what, N)?.try_into().map_err(|_| DecodeError::Short { what, at })
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Unknown { what, found: u64::from(other) }),
        }
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array(what)?))
    }

    pub(crate) fn store(&mut self, what: &'static str) -> Result<StoreId, DecodeError> {
        Ok(StoreId(self.uuid(what)?))
    }

    pub(crate) fn run(&mut self, what: &'static str) -> Result<RunId, DecodeError> {
        Ok(RunId(self.uuid(what)?))
    }

    pub(crate) fn cluster(&mut self, what: &'static str) -> Result<ClusterId, DecodeError> {
        Ok(ClusterId(self.uuid(what)?))
    }

    fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let found = self.u32(what)?;
        match usize::try_from(found) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(DecodeError::Limit { what, found: u64::from(found), limit }),
        }
    }

    pub(crate) fn text(&mut self, what: &'static str, limit: usize) -> Result<String, DecodeError> {
        let count = self.count(what, limit)?;
        let bytes = self.take(what, count)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Text { what })
    }

    /// A list; memory grows with what was really read, never with the announced count.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        limit: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what, limit)?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }

    pub(crate) fn option<T>(
        &mut self,
        what: &'static str,
        each: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag(what)? { each(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn position(&mut self, what: &'static str) -> Result<Position, DecodeError> {
        Ok(Position {
            epoch: Epoch(self.u32(what)?),
            term: Term(self.u64(what)?),
            index: Index(self.u64(what)?),
        })
    }
}
