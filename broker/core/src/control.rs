//! Entries that speak about the group itself: not commands of clients, and never counted as such.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::ids::{RaftId, RunId, StoreId};
use uuid::Uuid;

use crate::codec::{CodecError, Reader, put_count, put_uuid};
use crate::controls::{Act, Change, Forced};
use crate::io::PeerKey;

/// Most processes that one shutdown names.
pub const MAX_PARTICIPANTS: usize = 1024;

/// The data of an entry of the kind `Control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The cluster is shut down by an operator: the last entry of every group's log.
    Shutdown(Shutdown),
    /// The first entry of an epoch that an operator forced by marking a store: everything before it in this log counts
    /// as committed, and the store is the only voter.
    Recovery {
        /// The mark's id.
        recovery: Uuid,
        /// The only voter.
        sole: RaftId,
    },
    /// An operator changed controls of the group.
    Act(Act),
    /// The first entry of an epoch that was forced while the broker runs: as with a mark, everything before it in this log
    /// counts as committed, and one store is the only voter.
    Forced(Forced),
}

impl Control {
    /// The highest number of a designated primary in it; 0 if there is none.
    pub fn number(&self) -> u64 {
        match self {
            Self::Act(act) => {
                let number = |change: &Change| match change {
                    Change::Primary { number, .. } => Some(*number),
                    _ => None,
                };
                act.changes.iter().filter_map(number).max().unwrap_or(0)
            }
            Self::Forced(forced) => forced.kind.cause(forced.sole).number().unwrap_or(0),
            Self::Shutdown(_) | Self::Recovery { .. } => 0,
        }
    }

    /// The only voter, if this is the first entry of a forced epoch.
    pub fn sole(&self) -> Option<RaftId> {
        match self {
            Self::Recovery { sole, .. } => Some(*sole),
            Self::Forced(forced) => Some(forced.sole),
            Self::Shutdown(_) | Self::Act(_) => None,
        }
    }
}

/// One administrative shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Its random id, which the stamps of all who were closed by it carry.
    pub id: Uuid,
    /// Whom the operator asked: it gathers the reports.
    pub initiator: StoreId,
    /// The processes that close by it. Every other process that ever applies the entry, a restarted one above all,
    /// takes no notice: a restart never shuts down again because of an old entry.
    pub participants: Vec<PeerKey>,
}

impl Shutdown {
    /// Whether this process closes by it.
    pub fn names(&self, process: PeerKey) -> bool {
        self.participants.contains(&process)
    }
}

const SHUTDOWN: u8 = 1;
const RECOVERY: u8 = 2;
const ACT: u8 = 3;
const FORCED: u8 = 4;

impl Control {
    /// The entry's data.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Shutdown(shutdown) => {
                out.put_u8(SHUTDOWN);
                put_uuid(&mut out, shutdown.id);
                put_uuid(&mut out, shutdown.initiator.0);
                put_count(&mut out, shutdown.participants.len());
                for process in &shutdown.participants {
                    put_uuid(&mut out, process.store.0);
                    put_uuid(&mut out, process.run.0);
                }
            }
            Self::Recovery { recovery, sole } => {
                out.put_u8(RECOVERY);
                put_uuid(&mut out, *recovery);
                out.put_u64_le(sole.0);
            }
            Self::Act(act) => {
                out.put_u8(ACT);
                act.encode(&mut out);
            }
            Self::Forced(forced) => {
                out.put_u8(FORCED);
                forced.encode(&mut out);
            }
        }
        out.freeze()
    }

    /// Reads an entry's data.
    ///
    /// # Errors
    /// It is not what this version writes.
    pub fn decode(data: Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(data);
        let control = match reader.u8("control kind")? {
            SHUTDOWN => {
                let id = reader.uuid("shutdown id")?;
                let initiator = reader.store("initiator")?;
                let count = reader.count(32, "participants")?;
                if count > MAX_PARTICIPANTS {
                    return Err(CodecError::Unknown("number of participants"));
                }
                let participants = (0..count)
                    .map(|_| {
                        let store = StoreId(reader.uuid("store")?);
                        Ok(PeerKey { store, run: RunId(reader.uuid("run")?) })
                    })
                    .collect::<Result<_, CodecError>>()?;
                Self::Shutdown(Shutdown { id, initiator, participants })
            }
            RECOVERY => {
                Self::Recovery { recovery: reader.uuid("recovery id")?, sole: RaftId(reader.u64("raft id")?) }
            }
            ACT => Self::Act(Act::decode(&mut reader)?),
            FORCED => Self::Forced(Forced::decode(&mut reader)?),
            _ => return Err(CodecError::Unknown("control kind")),
        };
        reader.end("control entry")?;
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u128) -> PeerKey {
        PeerKey { store: StoreId(Uuid::from_u128(number)), run: RunId(Uuid::from_u128(number + 100)) }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let shutdown =
            Shutdown { id: Uuid::from_u128(7), initiator: key(1).store, participants: vec![key(1), key(2)] };
        let control = Control::Shutdown(shutdown.clone());
        let data = control.encode();
        assert_eq!(Control::decode(data.clone()), Ok(control));
        for length in 0..data.len() {
            assert!(Control::decode(data.slice(..length)).is_err(), "cut at {length}");
        }
        let mut longer = data.to_vec();
        longer.push(0);
        assert!(Control::decode(longer.into()).is_err());
        let recovery = Control::Recovery { recovery: Uuid::from_u128(9), sole: RaftId(3) };
        assert_eq!(Control::decode(recovery.encode()), Ok(recovery));
        assert!(shutdown.names(key(2)) && !shutdown.names(key(3)));
        let forced = Control::Forced(Forced {
            id: Uuid::from_u128(4),
            kind: crate::controls::ForcedKind::TakeOver { number: 6 },
            sole: RaftId(2),
            name: "b2".into(),
            nodes: [2].into(),
            former: [1, 2].into(),
            at_ms: 1,
            author: crate::admin::Author::local("h"),
            reason: "fire".into(),
        });
        assert_eq!((forced.sole(), forced.number()), (Some(RaftId(2)), 6));
        assert_eq!(Control::decode(forced.encode()), Ok(forced));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Control::decode(bytes.into());
        }
    }
}
