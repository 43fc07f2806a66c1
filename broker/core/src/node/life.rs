//! This life of the store, told to the others before it takes part.
//!
//! A store that was copied or rolled back looks like an ordinary one to itself. So every process, once its store is
//! dirty, tells its incarnation and run to all peers; each writes them into its own stamp, and only then answers. A
//! group's node starts, that is, may vote, ask for votes and acknowledge, when a majority of the group's recorded voters
//! has answered: itself, as one that knows, and enough others. Nobody answers an earlier life, or another run of the same
//! incarnation. So a store that was rolled back meets somebody who knows better, unless all who do are gone; and two
//! copies that run at once both have their majority only if each has others that the other copy never met.
//!
//! A leader also notes which position each voter is known to have acknowledged: a store whose log ends before it is not
//! what it was.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term};
use quorate_store::stamp::Witness;

use super::group::Group;
use super::{Node, Phase, Then};
use crate::event::Event;
use crate::formation::status::VoterRef;
use crate::formation::{Facts, InitialStatus};
use crate::io::{Output, PeerKey, Tick};
use crate::peer::{LifeAnswer, PeerMessage};

/// Who has not answered is told again after this, in milliseconds.
const TELL_MILLIS: u64 = 300;

/// What became of telling.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Stores that have this life in their stamps.
    noted_by: BTreeSet<StoreId>,
    /// The highest incarnation that somebody knows of this store, if that is not an earlier one.
    refused: Option<Incarnation>,
    next_tell: Tick,
    /// What this broker knows of others, as its stamp says.
    witnessed: BTreeMap<StoreId, Witness>,
    /// Lives that are being written into the stamp.
    noting: BTreeSet<PeerKey>,
    /// That the own store is an older copy of itself was told.
    told_older: bool,
}

/// What a told life is to one that remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// Later than what is known: write it down, then answer.
    Later,
    /// Just what is known: answer.
    Known,
    /// It lacks what it acknowledged, this: it was rolled back.
    Lost(Vec<(GroupId, Position)>),
    /// An earlier one, or another run of the same one: a copy.
    Stale,
}

/// Compares a told life, and where the logs of its groups end, with what is known. Groups that it says to be refilling
/// are not in `ends`: it does not claim to have anything of them.
fn judge(
    known: Option<&Witness>,
    told: (Incarnation, RunId),
    ends: &BTreeMap<GroupId, Option<Position>>,
) -> Judgement {
    let Some(known) = known else { return Judgement::Later };
    // A process that has been alive since it acknowledged holds it; what it last told of its logs is older than that.
    if told == (known.incarnation, known.run) {
        return Judgement::Known;
    }
    let lacks = lacking(&known.positions, ends);
    if !lacks.is_empty() {
        return Judgement::Lost(lacks);
    }
    match told.0.cmp(&known.incarnation) {
        std::cmp::Ordering::Greater => Judgement::Later,
        std::cmp::Ordering::Equal | std::cmp::Ordering::Less => Judgement::Stale,
    }
}

/// Which of these acknowledged positions logs that end there do not reach.
fn lacking(
    acknowledged: &[(GroupId, Position)],
    ends: &BTreeMap<GroupId, Option<Position>>,
) -> Vec<(GroupId, Position)> {
    let lacks = |group: &GroupId, position: &Position| {
        ends.get(group).is_some_and(|end| end.is_none_or(|end| end < *position))
    };
    acknowledged.iter().filter(|(group, position)| lacks(group, position)).copied().collect()
}

impl Life {
    /// From the stamp.
    pub(crate) fn remembering(witnessed: &[Witness]) -> Self {
        let witnessed = witnessed.iter().map(|witness| (witness.store, witness.clone())).collect();
        Self { witnessed, ..Self::default() }
    }

    /// For the stamp.
    pub(crate) fn witnessed(&self) -> impl Iterator<Item = &Witness> {
        self.witnessed.values()
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// A new life begins, later than everything that is known of it. Told once its stamp is written, see
    /// [`Node::tell_life_now`].
    pub(crate) fn renew(&mut self, incarnation: Incarnation) -> Incarnation {
        let known = self.refused.take().unwrap_or_default();
        self.noted_by.clear();
        // Not before the stamp says so.
        self.next_tell = Tick(u64::MAX);
        Incarnation(incarnation.0.max(known.0).saturating_add(1))
    }

    /// What anybody acknowledged of a deleted group is nothing that it has to have.
    pub(crate) fn forget_group(&mut self, id: GroupId) {
        for witness in self.witnessed.values_mut() {
            witness.positions.retain(|(group, _)| *group != id);
        }
    }

    /// This voter is known to have acknowledged everything up to here. Whoever lags may be behind what this log still
    /// has, so that nobody knows the term: it is no lower than that of what it acknowledged before.
    fn acknowledged(
        &mut self,
        (store, run): (StoreId, RunId),
        group: GroupId,
        epoch: Epoch,
        index: Index,
        term: Option<Term>,
    ) {
        let Some(witness) = self.witnessed.get_mut(&store).filter(|witness| witness.run == run) else {
            return;
        };
        let known = witness.positions.iter_mut().find(|(of, _)| *of == group);
        let at_least = known.as_ref().filter(|(_, known)| known.epoch == epoch).map(|(_, known)| known.term);
        let position = Position { epoch, term: term.or(at_least).unwrap_or_default(), index };
        match known {
            Some((_, known)) => *known = position.max(*known),
            None => witness.positions.push((group, position)),
        }
    }
}

impl Node {
    /// Tells this life to whoever has not noted it. Called once a round.
    pub(super) fn tell_life(&mut self) {
        if self.transient || !matches!(self.phase, Phase::Running) || self.now < self.life.next_tell {
            return;
        }
        self.life.next_tell = self.now.plus(TELL_MILLIS);
        let unaware: Vec<PeerKey> = self
            .peers
            .all_linked()
            .map(|peer| peer.identity.key)
            .filter(|key| !self.life.noted_by.contains(&key.store))
            .collect();
        for to in unaware {
            let message = PeerMessage::Life { incarnation: self.incarnation };
            self.emit(Output::Send { to, message, after: None });
        }
    }

    /// A peer is there, or has just begun to take part: tell it soon.
    pub(super) fn tell_life_now(&mut self) {
        self.life.next_tell = self.now;
    }

    /// A peer tells its life.
    pub(super) fn life_told(&mut self, from: PeerKey, incarnation: Incarnation) {
        if self.transient || !matches!(self.phase, Phase::Running) || self.life.noting.contains(&from) {
            return;
        }
        let Some(status) = self.peers.get(from.store).and_then(|peer| peer.status.as_ref()) else { return };
        if status.cluster_id != self.cluster_id || !status.belongs() {
            return;
        }
        let known = self.life.witnessed.get(&from.store);
        let ends = ends_of(status, known.map_or(&[], |known| &known.positions));
        match judge(known, (incarnation, from.run), &ends) {
            Judgement::Known => self.answer_life(from, LifeAnswer::Noted { incarnation }),
            Judgement::Later => {
                let positions = known.map(|known| {
                    known.positions.iter().filter(|(group, _)| ends.contains_key(group)).copied().collect()
                });
                let witness = Witness {
                    store: from.store,
                    incarnation,
                    run: from.run,
                    positions: positions.unwrap_or_default(),
                };
                self.life.witnessed.insert(from.store, witness);
                self.life.noting.insert(from);
                let stamp = self.current_stamp();
                self.write_stamp(stamp, Then::LifeNoted(from, incarnation));
            }
            judgement @ (Judgement::Lost(_) | Judgement::Stale) => {
                let known = known.map(|known| known.incarnation).unwrap_or_default();
                let why = format!(
                    "it tells incarnation {incarnation}, and incarnation {known} with all that it acknowledged is known here"
                );
                let member = status.name.clone();
                self.event(Event::OlderCopy { store: from.store, member, why });
                let lacks = if let Judgement::Lost(lacks) = judgement { lacks } else { Vec::new() };
                self.answer_life(from, LifeAnswer::Stale { told: incarnation, known, lacks });
            }
        }
    }

    /// This store is an older copy of itself: told once.
    pub(super) fn tell_older(&mut self, why: String) {
        if !std::mem::replace(&mut self.life.told_older, true) {
            let member = self.config.name.clone();
            self.event(Event::OlderCopy { store: self.own.store, member, why });
        }
    }

    /// The peer's life is in this stamp.
    pub(super) fn life_is_noted(&mut self, from: PeerKey, incarnation: Incarnation) {
        self.life.noting.remove(&from);
        self.answer_life(from, LifeAnswer::Noted { incarnation });
    }

    fn answer_life(&mut self, to: PeerKey, answer: LifeAnswer) {
        if self.peers.key(to.store) == Some(to) {
            self.emit(Output::Send { to, message: PeerMessage::LifeAnswer(answer), after: None });
        }
    }

    /// A peer answers.
    pub(super) fn life_answered(&mut self, from: PeerKey, answer: LifeAnswer) {
        match answer {
            LifeAnswer::Noted { incarnation } if incarnation == self.incarnation => {
                self.life.noted_by.insert(from.store);
                self.facts_changed = true;
            }
            LifeAnswer::Stale { told, known, lacks } if told == self.incarnation => {
                // What it had when that was said may be less than it has by now: an older copy that was brought up to date by
                // those who did not know of it. Whatever it acknowledged and has again is nothing that its vote could forget.
                let lost = !lacking(&lacks, &ends_of(&self.own_status(), &lacks)).is_empty();
                if !lost && !lacks.is_empty() && known < told {
                    // It is told again, and judged by later news.
                    return;
                }
                // A node that runs has a majority that knows this very life: who knows another one met a copy. But who
                // knows more than this store has is believed, whoever else knows less.
                let runs = self.groups.values().any(|group| group.replica.is_some() && !group.stale);
                if lost || !runs {
                    self.tell_older(format!(
                        "{} knows incarnation {known} of it with all that it acknowledged, and this is {told}",
                        self.name_of(from.store)
                    ));
                    let known = self.life.refused.unwrap_or_default().max(known);
                    self.life.refused = Some(known);
                    self.distrust_store();
                } else {
                    self.distrust_unvouched();
                }
            }
            LifeAnswer::Noted { .. } | LifeAnswer::Stale { .. } => {}
        }
    }

    /// Whether a majority of the group's recorded voters knows this life: of those that this store recorded last, of
    /// those that vote now where the group is active, or of those that the latest log here names. Others may be gone for
    /// good; and a store that was made a voter while it was away is needed before it knows.
    pub(super) fn is_vouched(&self, group: &Group, facts: &Facts) -> bool {
        let Some(recovered) = &group.recovered else { return true };
        // By the operator's word it is the only voter.
        if self.transient || recovered.marked {
            return true;
        }
        let knows = |store: StoreId| store == self.own.store || self.life.noted_by.contains(&store);
        let enough =
            |voters: &[VoterRef]| voters.iter().filter(|voter| knows(voter.store)).count() > voters.len() / 2;
        let noted = |id: &&u64| {
            let raft_id = RaftId(**id);
            self.raft_id == Some(raft_id) || self.peers.store_of(raft_id).is_some_and(knows)
        };
        recovered.latest.voters.iter().filter(noted).count() >= recovered.latest.majority()
            || facts.reference(group.id).is_some_and(|active| enough(&active.voters))
            || enough(&facts.recorded_voters(group.id))
    }

    /// What the voters of the groups that this broker leads are known to have acknowledged, for the stamp: only what they
    /// had synced before. Whoever lacks anything else may have lost it as its policy permits.
    pub(super) fn note_acknowledged(&mut self) {
        let mut known = Vec::new();
        for group in self.groups.values() {
            let Some(replica) = group.replica.as_ref().filter(|replica| replica.is_leader()) else {
                continue;
            };
            let epoch = group.lineage.tag().epoch;
            for id in &group.configuration.voters {
                let key = self.peers.store_of(RaftId(*id)).and_then(|store| self.peers.key(store));
                if let (Some(key), Some(index)) = (key, replica.matched(RaftId(*id)))
                    && index.0 > 0
                    && group.is_synced_by_replicas(index)
                {
                    known.push((key, group.id, epoch, index, replica.term_at(index)));
                }
            }
        }
        for (key, group, epoch, index, term) in known {
            self.life.acknowledged((key.store, key.run), group, epoch, index, term);
        }
    }
}

/// Where the logs end of the groups that this store claims to have, among those of which something is known: none if the
/// group is missing.
fn ends_of(status: &InitialStatus, known: &[(GroupId, Position)]) -> BTreeMap<GroupId, Option<Position>> {
    let groups = known.iter().map(|(group, _)| *group);
    groups
        .filter_map(|id| match status.group(id) {
            Some(part) if !part.trusted => None,
            Some(part) => Some((id, Some(part.position))),
            // It may know of a deletion that this broker is still to hear of.
            None if status.has_deleted(id) => None,
            None => Some((id, None)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn run(number: u128) -> RunId {
        RunId(Uuid::from_u128(number))
    }

    fn at(term: u64, index: u64) -> Position {
        Position { epoch: Epoch(1), term: Term(term), index: Index(index) }
    }

    #[test]
    fn a_life_is_judged_by_what_is_known_of_it() {
        let known = Witness {
            store: StoreId(Uuid::from_u128(1)),
            incarnation: Incarnation(5),
            run: run(50),
            positions: vec![(GroupId(1), at(3, 100))],
        };
        let whole = BTreeMap::from([(GroupId(1), Some(at(3, 100)))]);
        let cases = [
            ("never seen", None, 1, 10, whole.clone(), Judgement::Later),
            ("a later life", Some(&known), 6, 60, whole.clone(), Judgement::Later),
            (
                "a start that ended before it was acknowledged",
                Some(&known),
                8,
                80,
                whole.clone(),
                Judgement::Later,
            ),
            ("the same process", Some(&known), 5, 50, whole.clone(), Judgement::Known),
            (
                "the same process, of whose logs older news is here",
                Some(&known),
                5,
                50,
                BTreeMap::from([(GroupId(1), Some(at(3, 90)))]),
                Judgement::Known,
            ),
            ("another run of the same incarnation", Some(&known), 5, 51, whole.clone(), Judgement::Stale),
            ("an earlier life", Some(&known), 4, 50, whole.clone(), Judgement::Stale),
            (
                "a later life that lacks what it acknowledged",
                Some(&known),
                6,
                60,
                BTreeMap::from([(GroupId(1), Some(at(3, 99)))]),
                Judgement::Lost(vec![(GroupId(1), at(3, 100))]),
            ),
            (
                "a later life whose tail a later leader replaced",
                Some(&known),
                6,
                60,
                BTreeMap::from([(GroupId(1), Some(at(4, 90)))]),
                Judgement::Later,
            ),
            (
                "a later life that lost the whole group",
                Some(&known),
                6,
                60,
                BTreeMap::from([(GroupId(1), None)]),
                Judgement::Lost(vec![(GroupId(1), at(3, 100))]),
            ),
            ("a later life that is being refilled", Some(&known), 6, 60, BTreeMap::new(), Judgement::Later),
        ];
        for (name, known, incarnation, process, ends, expected) in cases {
            assert_eq!(judge(known, (Incarnation(incarnation), run(process)), &ends), expected, "{name}");
        }
    }

    #[test]
    fn what_a_voter_acknowledged_is_remembered_though_its_place_has_left_the_log() {
        let store = StoreId(Uuid::from_u128(1));
        let witness = Witness { store, incarnation: Incarnation(1), run: run(1), positions: Vec::new() };
        let mut life = Life::remembering(&[witness]);
        let mut acknowledge = |by, index, term: Option<u64>| {
            life.acknowledged((store, run(by)), GroupId(1), Epoch(1), Index(index), term.map(Term));
            life.witnessed[&store].positions.first().map(|(_, position)| *position)
        };
        assert_eq!(acknowledge(2, 500, Some(3)), None, "another run");
        assert_eq!(acknowledge(1, 90, None), Some(at(0, 90)), "of the lowest term that it can be");
        assert_eq!(acknowledge(1, 100, Some(3)), Some(at(3, 100)));
        assert_eq!(acknowledge(1, 133, None), Some(at(3, 133)));
        assert_eq!(acknowledge(1, 120, Some(3)), Some(at(3, 133)), "never less");
    }

    #[test]
    fn a_renewed_life_is_later_than_all_that_is_known() {
        let mut life = Life { refused: Some(Incarnation(9)), ..Life::default() };
        life.noted_by.insert(StoreId(Uuid::from_u128(1)));
        assert_eq!(life.renew(Incarnation(4)), Incarnation(10));
        assert!(life.noted_by.is_empty() && !life.is_refused());
        assert_eq!(life.renew(Incarnation(10)), Incarnation(11));
    }
}
