//! A group's epochs as the stamp keeps them, with what each forced act recorded of the stores it left out.

use uuid::Uuid;

use super::codec::{read_many, read_position};
use crate::ids::{Epoch, Incarnation, Position, RaftId, StoreId, Term};
use crate::text::{Reader, TextError, Writer};

/// One epoch of a group's lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// Its number; the first is 1.
    pub number: Epoch,
    /// Its random id; two lineages are the same only if these are.
    pub id: Uuid,
    /// Where the previous epoch was left.
    pub fork: Position,
    /// The first term of the epoch, above every one seen when it began.
    pub term: Term,
    /// What began it.
    pub cause: EpochCause,
    /// What whoever forced it knew of the stores that had no say in it, voters or not.
    pub left_out: Vec<LeftOut>,
    /// Who forced it: a broker or an operator.
    pub who: String,
    /// Wall-clock time, milliseconds since 1970.
    pub when_ms: u64,
    /// The reason given.
    pub why: String,
}

/// What begins an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EpochCause {
    /// The group was made.
    Founding,
    /// An operator marked a stopped store, which goes on from what it holds.
    Mark {
        /// The mark's random id, the same in every group of the store.
        recovery: Uuid,
        /// Clients are served without waiting for anybody.
        alone: bool,
        /// How many members must be up to date before clients are served; 0 if `alone`.
        members: u32,
        /// The only voter.
        sole: RaftId,
    },
    /// An operator let fewer voters than a majority go on.
    Override {
        /// The only voter at first; those that go on with it are named among the stores left out.
        sole: RaftId,
        /// For how long clients may be served, in milliseconds of the leader's own clock.
        lease_ms: u64,
    },
    /// The designated primary of two went on alone.
    Solo {
        /// The only voter.
        sole: RaftId,
        /// The number that it was designated with.
        number: u64,
    },
    /// The other one of two went on by an operator's word.
    TakeOver {
        /// The only voter.
        sole: RaftId,
        /// Higher than every number that was known: the other side gives way to it.
        number: u64,
    },
}

impl EpochCause {
    /// The only voter with which the epoch began; none if it is the first one.
    pub fn sole(self) -> Option<RaftId> {
        match self {
            Self::Founding => None,
            Self::Mark { sole, .. }
            | Self::Override { sole, .. }
            | Self::Solo { sole, .. }
            | Self::TakeOver { sole, .. } => Some(sole),
        }
    }

    /// The designated primary's number with which it was begun, if it was.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Solo { number, .. } | Self::TakeOver { number, .. } => Some(number),
            Self::Founding | Self::Mark { .. } | Self::Override { .. } => None,
        }
    }

    /// Its name, as people and scripts read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Founding => "founding",
            Self::Mark { .. } => "mark",
            Self::Override { .. } => "override",
            Self::Solo { .. } => "solo",
            Self::TakeOver { .. } => "take-over",
        }
    }
}

/// A store that had no say in a forced act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub store: StoreId,
    /// Its broker's name.
    pub name: String,
    /// It was a recorded voter of the group.
    pub voter: bool,
    /// An operator named it to go on with the epoch: an override's first voter is joined by it.
    pub named: bool,
    /// What was known of the group in it; none if nothing was.
    pub known: Option<Known>,
}

/// What was known of one group in one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// The store's incarnation.
    pub incarnation: Incarnation,
    /// Where the group's log ended in it.
    pub position: Position,
    /// Id of the last epoch of the group's lineage in it.
    pub tip: Uuid,
}

pub(super) fn write_epoch(out: &mut Writer, epoch: &EpochEntry) {
    out.line("epoch", epoch.number);
    out.line("epoch.id", epoch.id);
    out.line("epoch.fork", epoch.fork);
    out.line("epoch.term", epoch.term);
    match epoch.cause {
        EpochCause::Founding => out.line("epoch.cause", "founding"),
        EpochCause::Mark { recovery, alone, members, sole } => {
            out.line("epoch.cause", format_args!("mark {recovery} {alone} {members} {sole}"));
        }
        EpochCause::Override { sole, lease_ms } => {
            out.line("epoch.cause", format_args!("override {sole} {lease_ms}"));
        }
        EpochCause::Solo { sole, number } => out.line("epoch.cause", format_args!("solo {sole} {number}")),
        EpochCause::TakeOver { sole, number } => {
            out.line("epoch.cause", format_args!("take-over {sole} {number}"));
        }
    }
    out.line("epoch.left_out", epoch.left_out.len());
    for left in &epoch.left_out {
        out.quoted("left_out", &left.name);
        out.line("left_out.store_id", left.store);
        out.line("left_out.voter", left.voter);
        out.line("left_out.named", left.named);
        out.optional(
            "left_out.known",
            left.known.map(|known| format!("{} {} {}", known.incarnation, known.position, known.tip)),
        );
    }
    out.quoted("epoch.who", &epoch.who);
    out.line("epoch.when_ms", epoch.when_ms);
    out.quoted("epoch.why", &epoch.why);
}

pub(super) fn read_epoch(reader: &mut Reader<'_>) -> Result<EpochEntry, TextError> {
    Ok(EpochEntry {
        number: Epoch(reader.parsed("epoch")?),
        id: reader.parsed("epoch.id")?,
        fork: read_position(reader, "epoch.fork")?,
        term: Term(reader.parsed("epoch.term")?),
        cause: read_cause(reader)?,
        left_out: read_many(reader, "epoch.left_out", read_left_out)?,
        who: reader.quoted("epoch.who")?,
        when_ms: reader.parsed("epoch.when_ms")?,
        why: reader.quoted("epoch.why")?,
    })
}

fn read_cause(reader: &mut Reader<'_>) -> Result<EpochCause, TextError> {
    let value = reader.value("epoch.cause")?;
    let cause = match value.split_once(' ') {
        None if value == "founding" => Some(EpochCause::Founding),
        Some(("mark", value)) => read_mark(value),
        Some((word, value)) => read_forced(word, value),
        None => None,
    };
    cause.ok_or_else(|| reader.wrong("unknown cause of an epoch"))
}

fn read_forced(word: &str, value: &str) -> Option<EpochCause> {
    let (sole, value) = value.split_once(' ')?;
    let (sole, value) = (RaftId(sole.parse().ok()?), value.parse().ok()?);
    match word {
        "override" => Some(EpochCause::Override { sole, lease_ms: value }),
        "solo" => Some(EpochCause::Solo { sole, number: value }),
        "take-over" => Some(EpochCause::TakeOver { sole, number: value }),
        _ => None,
    }
}

fn read_mark(value: &str) -> Option<EpochCause> {
    let mut words = value.split(' ');
    let mark = EpochCause::Mark {
        recovery: Uuid::try_parse(words.next()?).ok()?,
        alone: words.next()?.parse().ok()?,
        members: words.next()?.parse().ok()?,
        sole: RaftId(words.next()?.parse().ok()?),
    };
    words.next().is_none().then_some(mark)
}

fn read_left_out(reader: &mut Reader<'_>) -> Result<LeftOut, TextError> {
    Ok(LeftOut {
        name: reader.quoted("left_out")?,
        store: StoreId(reader.parsed("left_out.store_id")?),
        voter: reader.parsed("left_out.voter")?,
        named: reader.parsed("left_out.named")?,
        known: {
            let value = reader.value("left_out.known")?;
            match value {
                "none" => None,
                value => {
                    Some(read_known(value).ok_or_else(|| reader.wrong("left_out.known has no valid value"))?)
                }
            }
        },
    })
}

fn read_known(value: &str) -> Option<Known> {
    let mut words = value.split(' ');
    let known = Known {
        incarnation: Incarnation(words.next()?.parse().ok()?),
        position: words.next()?.parse().ok()?,
        tip: Uuid::try_parse(words.next()?).ok()?,
    };
    words.next().is_none().then_some(known)
}
