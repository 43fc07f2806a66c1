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
    /// An operator let fewer members than a majority go on.
    Override,
    /// The designated primary of two went on alone.
    Solo,
    /// The last of two went on by an operator's word.
    TakeOver,
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
        EpochCause::Override => out.line("epoch.cause", "override"),
        EpochCause::Solo => out.line("epoch.cause", "solo"),
        EpochCause::TakeOver => out.line("epoch.cause", "take-over"),
    }
    out.line("epoch.left_out", epoch.left_out.len());
    for left in &epoch.left_out {
        out.quoted("left_out", &left.name);
        out.line("left_out.store_id", left.store);
        out.line("left_out.voter", left.voter);
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
    let cause = match value {
        "founding" => Some(EpochCause::Founding),
        "override" => Some(EpochCause::Override),
        "solo" => Some(EpochCause::Solo),
        "take-over" => Some(EpochCause::TakeOver),
        value => read_mark(value),
    };
    cause.ok_or_else(|| reader.wrong("unknown cause of an epoch"))
}

fn read_mark(value: &str) -> Option<EpochCause> {
    let mut words = value.strip_prefix("mark ")?.split(' ');
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
