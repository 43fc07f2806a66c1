//! Epochs as bytes, bounded in both directions: what a status carries of a group's lineage.

use quorate_store::ids::{Epoch, Incarnation, RaftId, Term};
use quorate_store::stamp::{EpochCause, EpochEntry, Known, LeftOut};

use super::limits::{EPOCHS, LEFT_OUT, LINEAGE_BYTES, NAME_BYTES, REASON_BYTES};
use super::wire::{DecodeError, Reader, Writer};

/// A whole lineage, for a message that carries one.
pub(crate) fn encode_lineage(epochs: &[EpochEntry]) -> Vec<u8> {
    let mut out = Writer::default();
    out.list(epochs, write_epoch);
    out.finish()
}

/// Reads what [`encode_lineage`] wrote.
pub(crate) fn decode_lineage(bytes: &[u8]) -> Result<Vec<EpochEntry>, DecodeError> {
    let mut from = Reader::new("lineage", bytes, LINEAGE_BYTES)?;
    let epochs = from.list("lineage: epochs", EPOCHS, read_epoch)?;
    from.end("lineage")?;
    Ok(epochs)
}

pub(crate) fn write_epoch(out: &mut Writer, epoch: &EpochEntry) {
    out.u32(epoch.number.0);
    out.uuid(epoch.id);
    out.position(epoch.fork);
    out.u64(epoch.term.0);
    match epoch.cause {
        EpochCause::Founding => out.u8(0),
        EpochCause::Mark { recovery, alone, members, sole } => {
            out.u8(1);
            out.uuid(recovery);
            out.flag(alone);
            out.u32(members);
            out.u64(sole.0);
        }
        EpochCause::Override { sole, lease_ms } => {
            out.u8(2);
            out.u64(sole.0);
            out.u64(lease_ms);
        }
        EpochCause::Solo { sole, number } => {
            out.u8(3);
            out.u64(sole.0);
            out.u64(number);
        }
        EpochCause::TakeOver { sole, number } => {
            out.u8(4);
            out.u64(sole.0);
            out.u64(number);
        }
    }
    out.list(&epoch.left_out, |out, left| {
        out.uuid(left.store.0);
        out.text(&left.name, NAME_BYTES);
        out.flag(left.voter);
        out.flag(left.named);
        out.option(left.known.as_ref(), |out, known| {
            out.u64(known.incarnation.0);
            out.position(known.position);
            out.uuid(known.tip);
        });
    });
    out.text(&epoch.who, REASON_BYTES);
    out.u64(epoch.when_ms);
    out.text(&epoch.why, REASON_BYTES);
}

pub(crate) fn read_epoch(from: &mut Reader<'_>) -> Result<EpochEntry, DecodeError> {
    Ok(EpochEntry {
        number: Epoch(from.u32("epoch: number")?),
        id: from.uuid("epoch: id")?,
        fork: from.position("epoch: fork")?,
        term: Term(from.u64("epoch: term")?),
        cause: read_cause(from)?,
        left_out: from.list("epoch: left out", LEFT_OUT, |from| {
            Ok(LeftOut {
                store: from.store("left out: store id")?,
                name: from.text("left out: name", NAME_BYTES)?,
                voter: from.flag("left out: voter")?,
                named: from.flag("left out: named")?,
                known: from.option("left out: known", |from| {
                    Ok(Known {
                        incarnation: Incarnation(from.u64("known: incarnation")?),
                        position: from.position("known: position")?,
                        tip: from.uuid("known: last epoch")?,
                    })
                })?,
            })
        })?,
        who: from.text("epoch: who", REASON_BYTES)?,
        when_ms: from.u64("epoch: when")?,
        why: from.text("epoch: why", REASON_BYTES)?,
    })
}

fn read_cause(from: &mut Reader<'_>) -> Result<EpochCause, DecodeError> {
    Ok(match from.u8("epoch: cause")? {
        0 => EpochCause::Founding,
        1 => EpochCause::Mark {
            recovery: from.uuid("mark: recovery id")?,
            alone: from.flag("mark: alone")?,
            members: from.u32("mark: members")?,
            sole: RaftId(from.u64("mark: sole voter")?),
        },
        2 => EpochCause::Override {
            sole: RaftId(from.u64("override: first voter")?),
            lease_ms: from.u64("override: lease")?,
        },
        3 => EpochCause::Solo {
            sole: RaftId(from.u64("solo: only voter")?),
            number: from.u64("solo: number")?,
        },
        4 => EpochCause::TakeOver {
            sole: RaftId(from.u64("take-over: only voter")?),
            number: from.u64("take-over: number")?,
        },
        other => return Err(DecodeError::Unknown { what: "epoch: cause", found: u64::from(other) }),
    })
}
