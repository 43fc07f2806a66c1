//! What forced epochs recorded of the stores that had no say in them, and which stores went on beyond that.

use quorate_store::ids::{Epoch, GroupId};
use quorate_store::stamp::{EpochCause, EpochEntry, Known, LeftOut};

use super::assembly::Standing;
use super::lineage::{Relation, common, relation};
use super::status::InitialStatus;
use crate::machine::Agreement;

/// Both hold what the other does not, and no mark says which of them goes on.
pub(crate) fn rivals(one: &Standing<'_>, other: &Standing<'_>) -> bool {
    if superseded(one, other.lineage) || superseded(other, one.lineage) {
        return false;
    }
    // A mark that was not begun holds nothing yet: two of them are compared by what they were put on.
    let (mine, theirs) = match (one.mark, other.mark) {
        (Some(_), Some(_)) => (one.unmarked(), other.unmarked()),
        _ => (one.lineage, other.lineage),
    };
    match relation(mine, theirs) {
        Relation::Same => are_parted(one, other),
        Relation::Forked => true,
        Relation::Earlier => exceeds(one, mine, theirs),
        Relation::Later => exceeds(other, theirs, mine),
    }
}

/// Their epochs are the same, and the cluster's safety number was renewed otherwise: some store voted in two histories, and
/// each of them may hold confirmed messages that the other does not.
pub(crate) fn parted(one: &InitialStatus, other: &InitialStatus) -> bool {
    let (Some(mine), Some(theirs)) = (one.group(GroupId::SYSTEM), other.group(GroupId::SYSTEM)) else {
        return false;
    };
    one.safety.compare(&other.safety) == Agreement::Apart
        && !mine.lineage.is_empty()
        && relation(&mine.lineage, &theirs.lineage) == Relation::Same
}

/// [`parted`], and both hold all they acknowledged: what may lack something is filled again in any case.
pub(crate) fn are_parted(one: &Standing<'_>, other: &Standing<'_>) -> bool {
    one.trusted && other.trusted && parted(one.member, other.member)
}

/// Both histories left what they share by the designated primary's number, the first one by the lower one, or by none and
/// nobody's word: it gives way to the other one, whatever it holds. A mark and an override are an operator's word.
pub(crate) fn outnumbered(own: &[EpochEntry], lineage: &[EpochEntry]) -> bool {
    let highest = |epochs: &[EpochEntry]| epochs.iter().filter_map(|epoch| epoch.cause.number()).max();
    let (mine, theirs) = (lacked(lineage, own), lacked(own, lineage));
    !own.is_empty()
        && highest(theirs) > highest(mine)
        && mine.iter().all(|epoch| epoch.cause.number().is_some())
}

/// A mark in `lineage` names this very state of the store as superseded, or the number that it goes on with does.
pub(crate) fn superseded(standing: &Standing<'_>, lineage: &[EpochEntry]) -> bool {
    if outnumbered(standing.lineage, lineage) {
        return true;
    }
    let tip = standing.lineage.last().map(|epoch| epoch.id);
    let earlier = relation(standing.lineage, lineage) == Relation::Earlier;
    lacked(standing.lineage, lineage)
        .iter()
        .filter(|epoch| matches!(epoch.cause, EpochCause::Mark { .. }))
        .filter_map(|epoch| record(epoch, standing)?.known)
        .any(|known| !beyond(standing, known) && (earlier || tip == Some(known.tip)))
}

/// A store of an earlier lineage is beyond what one of the forced epochs that it lacks recorded for it. What was
/// recorded as unknown, or not at all, ends where the lineage left the store's own.
fn exceeds(standing: &Standing<'_>, own: &[EpochEntry], lineage: &[EpochEntry]) -> bool {
    let lacked = lacked(own, lineage);
    let Some(fork) = lacked.first().map(|epoch| epoch.fork) else { return false };
    // Without an epoch of its own it holds nothing of the group at all.
    !own.is_empty()
        && lacked.iter().any(|epoch| match record(epoch, standing).and_then(|record| record.known) {
            Some(known) => beyond(standing, known),
            None => standing.position > fork,
        })
}

/// The store went on after this was recorded: by its log; for `system`, which a broker takes part in before all else, by
/// its incarnation, too. That of the store says nothing of another group: it rises when `system` alone is joined.
fn beyond(standing: &Standing<'_>, known: Known) -> bool {
    let lived = standing.group == GroupId::SYSTEM && standing.member.incarnation > known.incarnation;
    lived || standing.position > known.position
}

/// The epochs of `lineage` beyond what it shares with `own`.
fn lacked<'a>(own: &[EpochEntry], lineage: &'a [EpochEntry]) -> &'a [EpochEntry] {
    lineage.get(common(own, lineage)..).unwrap_or_default()
}

fn record<'a>(epoch: &'a EpochEntry, standing: &Standing<'_>) -> Option<&'a LeftOut> {
    epoch.left_out.iter().find(|left| left.store == standing.member.key.store)
}

/// The epochs of its own, which `history` lacks, in which this store holds client entries.
pub(crate) fn own_client_epochs(standing: &Standing<'_>, history: &[EpochEntry]) -> Vec<Epoch> {
    lacked(history, standing.lineage)
        .iter()
        .map(|epoch| epoch.number)
        .filter(|number| standing.client_epochs.contains(number))
        .collect()
}

#[cfg(test)]
mod tests {
    use quorate_store::ids::RaftId;
    use quorate_store::stamp::EpochCause;
    use uuid::Uuid;

    use super::super::samples::epochs;
    use super::*;

    const FORCED: EpochCause = EpochCause::Override { sole: RaftId(1), lease_ms: 1000 };
    const MARKED: EpochCause =
        EpochCause::Mark { recovery: Uuid::nil(), alone: true, members: 0, sole: RaftId(1) };

    fn solo(number: u64) -> EpochCause {
        EpochCause::Solo { sole: RaftId(1), number }
    }

    fn take_over(number: u64) -> EpochCause {
        EpochCause::TakeOver { sole: RaftId(2), number }
    }

    /// The founding, and epochs of one side after it.
    fn after(side: u128, causes: &[EpochCause]) -> Vec<EpochEntry> {
        let ids: Vec<u128> =
            std::iter::once(1).chain((1..=causes.len() as u128).map(|at| side + at)).collect();
        let mut list = epochs(&ids);
        for (epoch, cause) in list.iter_mut().skip(1).zip(causes) {
            epoch.cause = *cause;
        }
        list
    }

    #[test]
    fn of_two_histories_the_lower_designated_number_gives_way_and_no_operators_word_does() {
        let cases: [(&[EpochCause], &[EpochCause], bool); 11] = [
            (&[], &[solo(1)], true),
            (&[], &[take_over(1)], true),
            (&[solo(1)], &[take_over(2)], true),
            (&[solo(1), solo(1)], &[take_over(2)], true),
            (&[take_over(2)], &[solo(1)], false),
            (&[solo(1)], &[], false),
            (&[take_over(2)], &[take_over(2)], false),
            (&[solo(1)], &[FORCED], false),
            (&[], &[FORCED], false),
            (&[FORCED], &[take_over(2)], false),
            (&[solo(1), MARKED], &[take_over(2)], false),
        ];
        for (mine, theirs, expected) in cases {
            assert_eq!(
                outnumbered(&after(100, mine), &after(200, theirs)),
                expected,
                "{mine:?} beside {theirs:?}"
            );
        }
        assert!(!outnumbered(&[], &after(200, &[solo(1)])), "what holds nothing is filled anyway");
        let shared = after(100, &[solo(1)]);
        assert!(!outnumbered(&shared, &shared), "one history");
    }
}
