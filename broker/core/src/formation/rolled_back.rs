//! Stores that are older than what others recorded of them.

use quorate_store::ids::{GroupId, Position};

use super::status::{InitialStatus, RecordedRun};

/// A peer recorded a later life of this store than the one that its stamp shows, or a position that its log lacks: it
/// was rolled back or copied.
pub(crate) fn rolled_back(member: &InitialStatus, witnesses: &[&InitialStatus]) -> bool {
    !member.is_transient()
        && witnesses.iter().filter(|witness| witness.key.store != member.key.store).any(|witness| {
            witness
                .recorded
                .iter()
                .filter(|recorded| recorded.store == member.key.store)
                // A record of the very process that speaks may only be newer than what it last said.
                .filter(|recorded| recorded.run != Some(member.key.run))
                .any(|recorded| later_life(recorded, member) || lacks_recorded(recorded, witness, member))
        })
}

fn later_life(recorded: &RecordedRun, member: &InitialStatus) -> bool {
    let other_run =
        recorded.run.is_some() && member.stamped_run.is_some() && recorded.run != member.stamped_run;
    recorded.incarnation > member.incarnation || (recorded.incarnation == member.incarnation && other_run)
}

fn lacks_recorded(recorded: &RecordedRun, witness: &InitialStatus, member: &InitialStatus) -> bool {
    recorded.positions.iter().any(|(group, position)| {
        let end = member.group(*group).map(|part| part.position).unwrap_or_default();
        // Whoever carried out a deletion that the witness is still to hear of has nothing any more, and lacks nothing.
        *position > end && !member.has_deleted(*group) && of_one_history(*group, *position, witness, member)
    })
}

/// Whether a recorded position is of the history that the member has: positions of an epoch that was dropped since, or
/// that only has the same number, say nothing.
fn of_one_history(
    group: GroupId,
    position: Position,
    witness: &InitialStatus,
    member: &InitialStatus,
) -> bool {
    let epoch = |status: &InitialStatus| {
        let part = status.group(group)?;
        part.lineage.iter().find(|epoch| epoch.number == position.epoch).map(|epoch| epoch.id)
    };
    match (epoch(witness), epoch(member)) {
        (Some(recorded), Some(held)) => recorded == held,
        (Some(_), None) => true,
        (None, _) => false,
    }
}
