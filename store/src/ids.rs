//! The identities and positions that everything durable is named by.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid_id! {
    /// Names the cluster a store belongs to: the design note's initial UUID.
    ClusterId
}
uuid_id! {
    /// Names one data directory, for ever. A transient broker draws a new one at every start.
    StoreId
}
uuid_id! {
    /// Names one life of one broker process.
    RunId
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Counted up each time a broker leaves a held state with this store.
    Incarnation(u64)
}
number! {
    /// A replication group: 0 is `system`, every other one is a virtual host.
    GroupId(u32)
}
number! {
    /// A member's number inside Raft: given by `system` to a store id once, never used again, never 0.
    RaftId(u64)
}
number! {
    /// A Raft term.
    Term(u64)
}
number! {
    /// A place in a group's log; the first entry has index 1, 0 is "before everything".
    Index(u64)
}
number! {
    /// A number in a group's lineage; the first epoch is 1.
    Epoch(u32)
}

impl GroupId {
    /// The group that carries the cluster's own metadata.
    pub const SYSTEM: Self = Self(0);
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where a group's log ends, compared epoch first, then term, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the latest epoch of the group's lineage.
    pub epoch: Epoch,
    /// Term of the last entry.
    pub term: Term,
    /// Index of the last entry.
    pub index: Index,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.term, self.index)
    }
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a position is written epoch.term.index, three decimal numbers")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (epoch, rest) = text.split_once('.').ok_or(NoPosition)?;
        let (term, index) = rest.split_once('.').ok_or(NoPosition)?;
        Ok(Self {
            epoch: Epoch(epoch.parse().map_err(|_| NoPosition)?),
            term: Term(term.parse().map_err(|_| NoPosition)?),
            index: Index(index.parse().map_err(|_| NoPosition)?),
        })
    }
}
