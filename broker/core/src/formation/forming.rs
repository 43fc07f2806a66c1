//! What a founding agrees on, and what each acceptor writes into its stamp before it answers.

use std::fmt;

use bytes::Bytes;
use quorate_store::ids::{ClusterId, RaftId, StoreId};
use quorate_store::stamp;

use super::limits::{ADDRESS_BYTES, FORMING_BYTES, MEMBERS, NAME_BYTES};
use super::wire::{DecodeError, Reader, Writer};

/// Version of [`FoundingValue`]'s bytes in the stamp. Frozen once released; a new layout gets a new number.
const FORMAT: u16 = 1;

/// Orders proposals: the round first, then the proposer, so that no two proposers ever share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Counts up.
    pub round: u64,
    /// Whose proposal.
    pub proposer: StoreId,
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.round, self.proposer)
    }
}

/// One of the cluster's first members: a voter of every group founded with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Founder {
    /// Its store.
    pub store: StoreId,
    /// Its number inside Raft: 1.. in the order of the founders.
    pub raft_id: RaftId,
    /// The broker's name.
    pub name: String,
    /// Where peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
}

/// One possible member: a place in the union of the founders' peer lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A broker that answered there.
    Store(StoreId),
    /// An address that no founder has reached yet, as it was configured.
    Address(String),
}

/// What is decided once per cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingValue {
    /// The new cluster's id.
    pub cluster_id: ClusterId,
    /// Its configured name.
    pub cluster_name: String,
    /// The first members, ascending by store id.
    pub founders: Vec<Founder>,
    /// All possible members: the founding rule's union, ascending.
    pub union: Vec<Place>,
    /// Decided by a majority of the founders instead of the union (`--allow-small-cluster`).
    pub small: bool,
}

impl FoundingValue {
    /// How many acceptances decide this value.
    pub fn majority(&self) -> usize {
        let acceptors = if self.small { self.founders.len() } else { self.union.len() };
        acceptors / 2 + 1
    }

    /// The founder with this store.
    pub fn founder(&self, store: StoreId) -> Option<&Founder> {
        self.founders.iter().find(|founder| founder.store == store)
    }

    /// The bytes for the stamp.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(FORMAT);
        self.write(&mut out);
        out.finish()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new("founding value", bytes, FORMING_BYTES)?;
        let found = from.u16("founding value: format")?;
        if found != FORMAT {
            return Err(DecodeError::Newer { what: "founding value", found, supported: FORMAT });
        }
        let value = Self::read(&mut from)?;
        from.end("founding value")?;
        Ok(value)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.uuid(self.cluster_id.0);
        out.text(&self.cluster_name, NAME_BYTES);
        out.list(&self.founders, |out, founder| {
            out.uuid(founder.store.0);
            out.u64(founder.raft_id.0);
            out.text(&founder.name, NAME_BYTES);
            out.text(&founder.cluster_address, ADDRESS_BYTES);
            out.text(&founder.client_address, ADDRESS_BYTES);
            out.text(&founder.admin_address, ADDRESS_BYTES);
        });
        out.list(&self.union, |out, place| match place {
            Place::Store(store) => {
                out.u8(0);
                out.uuid(store.0);
            }
            Place::Address(address) => {
                out.u8(1);
                out.text(address, ADDRESS_BYTES);
            }
        });
        out.flag(self.small);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster_id: from.cluster("founding: cluster id")?,
            cluster_name: from.text("founding: cluster name", NAME_BYTES)?,
            founders: from.list("founding: founders", MEMBERS, |from| {
                Ok(Founder {
                    store: from.store("founder: store id")?,
                    raft_id: RaftId(from.u64("founder: raft id")?),
                    name: from.text("founder: name", NAME_BYTES)?,
                    cluster_address: from.text("founder: cluster address", ADDRESS_BYTES)?,
                    client_address: from.text("founder: client address", ADDRESS_BYTES)?,
                    admin_address: from.text("founder: admin address", ADDRESS_BYTES)?,
                })
            })?,
            union: from.list("founding: union", MEMBERS, |from| match from.u8("founding: place")? {
                0 => Ok(Place::Store(from.store("place: store id")?)),
                1 => Ok(Place::Address(from.text("place: address", ADDRESS_BYTES)?)),
                other => Err(DecodeError::Unknown { what: "founding: place", found: u64::from(other) }),
            })?,
            small: from.flag("founding: small")?,
        })
    }
}

/// An acceptor's memory, and whether it knows the decision. Written to the stamp, synced, before any answer that
/// depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormingState {
    /// The highest ballot promised: no smaller one will be accepted.
    pub promised: Option<Ballot>,
    /// The value of the highest ballot accepted.
    pub accepted: Option<(Ballot, FoundingValue)>,
    /// The accepted value is known to be the decision.
    pub decided: bool,
}

impl FormingState {
    /// Nothing promised yet: the store is still empty.
    pub fn is_blank(&self) -> bool {
        self.promised.is_none() && self.accepted.is_none() && !self.decided
    }

    /// The accepted value, decided or not.
    pub fn value(&self) -> Option<&FoundingValue> {
        self.accepted.as_ref().map(|(_, value)| value)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.option(self.promised.as_ref(), |out, ballot| write_ballot(out, *ballot));
        out.option(self.accepted.as_ref(), |out, (ballot, value)| {
            write_ballot(out, *ballot);
            value.write(out);
        });
        out.flag(self.decided);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let promised = from.option("forming state: promised", read_ballot)?;
        let accepted = from
            .option("forming state: accepted", |from| Ok((read_ballot(from)?, FoundingValue::read(from)?)))?;
        let decided = from.flag("forming state: decided")?;
        if decided && accepted.is_none() {
            return Err(DecodeError::Unknown { what: "forming state: decided without a value", found: 1 });
        }
        Ok(Self { promised, accepted, decided })
    }
}

pub(crate) fn write_ballot(out: &mut Writer, ballot: Ballot) {
    out.u64(ballot.round);
    out.uuid(ballot.proposer.0);
}

pub(crate) fn read_ballot(from: &mut Reader<'_>) -> Result<Ballot, DecodeError> {
    Ok(Ballot { round: from.u64("ballot: round")?, proposer: from.store("ballot: proposer")? })
}

impl From<&FormingState> for stamp::FormingState {
    fn from(state: &FormingState) -> Self {
        let ballot = |ballot: Ballot| stamp::Ballot { round: ballot.round, store: ballot.proposer };
        Self {
            promised: state.promised.map(ballot),
            accepted: state.accepted.as_ref().map(|(at, value)| (ballot(*at), Bytes::from(value.to_bytes()))),
            decided: state.decided,
        }
    }
}

impl TryFrom<&stamp::FormingState> for FormingState {
    type Error = DecodeError;

    /// Fails if the stamp's value is of a newer format, or is not one: a store whose stamp says so is damaged.
    fn try_from(stamped: &stamp::FormingState) -> Result<Self, DecodeError> {
        let ballot = |ballot: stamp::Ballot| Ballot { round: ballot.round, proposer: ballot.store };
        let accepted = match &stamped.accepted {
            Some((at, value)) => Some((ballot(*at), FoundingValue::from_bytes(value)?)),
            None => None,
        };
        if stamped.decided && accepted.is_none() {
            return Err(DecodeError::Unknown { what: "forming state: decided without a value", found: 1 });
        }
        Ok(Self { promised: stamped.promised.map(ballot), accepted, decided: stamped.decided })
    }
}
