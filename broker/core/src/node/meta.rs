//! The replica's own record beside a checkpoint, and where a group's state is kept.
//!
//! Every group's state lives under a key prefix of its own, its *space*. A snapshot is received into a new space, and
//! one small write makes it the group's: a crash leaves either the old state or the new, each whole.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::ids::{Epoch, GroupId, Index, Term};
use quorate_store::state::{Family, StateWrite};

use super::configuration::Configuration;
use crate::codec::{CodecError, Reader};
use crate::controls::Controls;

/// What a checkpoint's state is the state of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) applied: Index,
    pub(crate) applied_term: Term,
    pub(crate) configuration: Configuration,
    /// The latest epoch with work of clients; 0 for none.
    pub(crate) client_epoch: Epoch,
    pub(crate) controls: Controls,
}

const VERSION: u8 = 4;

impl Meta {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u64_le(self.applied.0);
        out.put_u64_le(self.applied_term.0);
        self.configuration.encode(&mut out);
        out.put_u32_le(self.client_epoch.0);
        self.controls.encode(&mut out);
        out.freeze()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(CodecError::Unknown("version of a checkpoint"));
        }
        let meta = Self {
            applied: Index(reader.u64("applied index")?),
            applied_term: Term(reader.u64("applied term")?),
            configuration: Configuration::decode(&mut reader)?,
            client_epoch: Epoch(reader.u32("client epoch")?),
            controls: Controls::decode(&mut reader)?,
        };
        reader.end("checkpoint")?;
        Ok(meta)
    }
}

/// A key prefix in the state store, never used twice by one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Space(pub(crate) u32);

const SPACE_KEY: &[u8] = b"space/";
const NEXT_KEY: &[u8] = b"next-space";

impl Space {
    /// As the machine's encodings name it.
    pub(crate) fn prefix(self) -> GroupId {
        GroupId(self.0)
    }

    /// Keys of this space: from here ...
    pub(crate) fn from(self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }

    /// ... to here.
    pub(crate) fn to(self) -> Bytes {
        Bytes::copy_from_slice(&(self.0 + 1).to_be_bytes())
    }

    /// Makes this space the group's.
    pub(crate) fn assign(self, group: GroupId) -> StateWrite {
        let mut key = SPACE_KEY.to_vec();
        key.extend_from_slice(&group.0.to_be_bytes());
        StateWrite::Put(Family::Node, key.into(), self.from())
    }

    /// The group has none any more.
    pub(crate) fn unassign(group: GroupId) -> StateWrite {
        let mut key = SPACE_KEY.to_vec();
        key.extend_from_slice(&group.0.to_be_bytes());
        StateWrite::Delete(Family::Node, key.into())
    }

    /// Empties it.
    pub(crate) fn wipe(self) -> [StateWrite; 2] {
        [Family::State, Family::Body].map(|family| StateWrite::DeleteRange(family, self.from(), self.to()))
    }

    /// Reads an assignment.
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<(GroupId, Self)> {
        let group = u32::from_be_bytes(key.strip_prefix(SPACE_KEY)?.try_into().ok()?);
        let space = u32::from_be_bytes(value.try_into().ok()?);
        Some((GroupId(group), Self(space)))
    }

    /// Notes that spaces below this one have been used: a space is never used twice, so that what an interrupted
    /// transfer left behind is never taken for state.
    pub(crate) fn used_below(next: u32) -> StateWrite {
        StateWrite::Put(
            Family::Node,
            Bytes::from_static(NEXT_KEY),
            Bytes::copy_from_slice(&next.to_be_bytes()),
        )
    }

    /// Reads that note.
    pub(crate) fn read_next(key: &[u8], value: &[u8]) -> Option<u32> {
        if key != NEXT_KEY {
            return None;
        }
        Some(u32::from_be_bytes(value.try_into().ok()?))
    }

    /// All keys of the node family.
    pub(crate) fn node_range() -> (Bytes, Bytes) {
        (Bytes::new(), Bytes::from_static(&[0xff]))
    }
}
