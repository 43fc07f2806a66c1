//! An epoch that was forced on a group while it runs: who goes on, whom it waits for, and for how long it may serve.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use quorate_store::ids::RaftId;
use quorate_store::stamp::EpochCause;

use super::codec::{put_author, read_author};
use crate::admin::Author;
use crate::codec::{CodecError, Reader, put_count, put_text, put_uuid};
use uuid::Uuid;

/// What forced an epoch, for those who take part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The epoch's id.
    pub id: Uuid,
    /// What it is.
    pub kind: ForcedKind,
    /// The voter with which it began.
    pub sole: RaftId,
    /// Its name.
    pub name: String,
    /// The voters that it is meant to go on with: a confirm waits for so many.
    pub nodes: BTreeSet<u64>,
    /// The voters before. It ends once a majority of them votes again and has all that was committed since.
    pub former: BTreeSet<u64>,
    /// When it began, milliseconds since 1970, by the clock of the broker that began it: for people.
    pub at_ms: u64,
    /// Who began it.
    pub author: Author,
    /// Why.
    pub reason: String,
}

/// The kinds of forced epochs that begin on a running broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedKind {
    /// An operator lets fewer voters than a majority serve clients, for so long.
    Override {
        /// In milliseconds.
        lease_ms: u64,
    },
    /// The designated primary of two goes on alone.
    Solo {
        /// The number that it holds.
        number: u64,
    },
    /// The other one of two goes on by an operator's word.
    TakeOver {
        /// The number that it holds from now on.
        number: u64,
    },
}

impl ForcedKind {
    /// As people and scripts read it.
    pub fn word(self) -> &'static str {
        self.cause(RaftId(0)).word()
    }

    /// For how long clients may be served; none: until it ends.
    pub fn lease_ms(self) -> Option<u64> {
        match self {
            Self::Override { lease_ms } => Some(lease_ms),
            Self::Solo { .. } | Self::TakeOver { .. } => None,
        }
    }

    /// As the stamp has it.
    pub(crate) fn cause(self, sole: RaftId) -> EpochCause {
        match self {
            Self::Override { lease_ms } => EpochCause::Override { sole, lease_ms },
            Self::Solo { number } => EpochCause::Solo { sole, number },
            Self::TakeOver { number } => EpochCause::TakeOver { sole, number },
        }
    }

    /// From the stamp; none for what begins on a stopped store.
    pub(crate) fn of(cause: EpochCause) -> Option<Self> {
        match cause {
            EpochCause::Override { lease_ms, .. } => Some(Self::Override { lease_ms }),
            EpochCause::Solo { number, .. } => Some(Self::Solo { number }),
            EpochCause::TakeOver { number, .. } => Some(Self::TakeOver { number }),
            EpochCause::Founding | EpochCause::Mark { .. } => None,
        }
    }
}

const OVERRIDE: u8 = 1;
const SOLO: u8 = 2;
const TAKE_OVER: u8 = 3;

impl Forced {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_uuid(out, self.id);
        let (kind, value) = match self.kind {
            ForcedKind::Override { lease_ms } => (OVERRIDE, lease_ms),
            ForcedKind::Solo { number } => (SOLO, number),
            ForcedKind::TakeOver { number } => (TAKE_OVER, number),
        };
        out.put_u8(kind);
        out.put_u64_le(value);
        out.put_u64_le(self.sole.0);
        put_text(out, &self.name);
        for set in [&self.nodes, &self.former] {
            put_count(out, set.len());
            for id in set {
                out.put_u64_le(*id);
            }
        }
        out.put_u64_le(self.at_ms);
        put_author(out, &self.author);
        put_text(out, &self.reason);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let id = reader.uuid("epoch id")?;
        let kind = reader.u8("kind of a forced epoch")?;
        let value = reader.u64("lease or number")?;
        let kind = match kind {
            OVERRIDE => ForcedKind::Override { lease_ms: value },
            SOLO => ForcedKind::Solo { number: value },
            TAKE_OVER => ForcedKind::TakeOver { number: value },
            _ => return Err(CodecError::Unknown("kind of a forced epoch")),
        };
        let (sole, name) = (RaftId(reader.u64("raft id")?), reader.text("name")?);
        let mut set = || -> Result<BTreeSet<u64>, CodecError> {
            (0..reader.count(8, "voters")?).map(|_| reader.u64("raft id")).collect()
        };
        let (nodes, former) = (set()?, set()?);
        let at_ms = reader.u64("time")?;
        let author = read_author(reader)?;
        let reason = reader.text("reason")?;
        Ok(Self { id, kind, sole, name, nodes, former, at_ms, author, reason })
    }
}

/// A forced epoch that has not ended, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// What began it.
    pub forced: Forced,
    /// What is left of its lease, in milliseconds, beyond what its leader took already; none: it has none.
    pub lease_left_ms: Option<u64>,
}

impl InForce {
    /// At its beginning.
    pub fn begun(forced: Forced) -> Self {
        let lease_left_ms = forced.kind.lease_ms();
        Self { forced, lease_left_ms }
    }

    /// How many voters must have met the policy before a confirm.
    pub fn needed(&self) -> usize {
        self.forced.nodes.len().max(1)
    }

    /// The next part of the lease that a leader takes before it serves: what is taken is spent, served or not, so that no
    /// restart and no clock makes the lease longer.
    pub fn next_part_ms(&self) -> u64 {
        const MOST: u64 = 60_000;
        const PARTS: u64 = 20;
        const LEAST: u64 = 100;
        let (left, whole) = (self.lease_left_ms.unwrap_or(0), self.forced.kind.lease_ms().unwrap_or(0));
        (whole / PARTS).clamp(LEAST, MOST).min(left)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        self.forced.encode(out);
        out.put_u8(u8::from(self.lease_left_ms.is_some()));
        out.put_u64_le(self.lease_left_ms.unwrap_or(0));
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let forced = Forced::decode(reader)?;
        let has = reader.u8("lease")? != 0;
        let left = reader.u64("lease")?;
        Ok(Self { forced, lease_left_ms: has.then_some(left) })
    }
}

/// Who of two voters may go on alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Which.
    pub node: RaftId,
    /// Its name when this was decided.
    pub name: String,
}
