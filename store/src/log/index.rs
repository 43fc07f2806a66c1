//! What the log holds, in memory: per group where each entry is, and what was compacted, reset or voted.
//!
//! The writer applies each batch's effects after writing it, recovery applies what it finds; both by the same code, so
//! that a restart sees what the process saw.

use std::collections::{BTreeMap, VecDeque};

use super::RecoveredGroup;
use crate::ids::{Epoch, GroupId, Index, Term};
use crate::record::HardState;

/// Where an entry's record is: 12 bytes for each entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's generation.
    pub(super) segment: u32,
    /// Where the record begins in the segment.
    pub(super) offset: u32,
    /// Bytes of its payload.
    pub(super) length: u32,
}

/// What one record does to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// An entry; at or below the last index it replaces what is there and after.
    Entry { group: GroupId, epoch: Epoch, term: Term, index: Index, place: Place },
    /// A new hard state.
    HardState { group: GroupId, epoch: Epoch, hard_state: HardState },
    /// The group's log is empty and continues after this place.
    Reset { group: GroupId, epoch: Epoch, term: Term, index: Index },
    /// The group is gone.
    Remove { group: GroupId },
    /// Everything up to here may leave the log.
    Compact { group: GroupId, epoch: Epoch, term: Term, index: Index },
    /// What is known of the group where a segment begins, so that earlier segments are not needed for it.
    Base {
        group: GroupId,
        epoch: Epoch,
        compacted: (Index, Term),
        last: (Index, Term),
        hard_state: HardState,
    },
}

impl Effect {
    pub(super) fn group(&self) -> GroupId {
        match *self {
            Self::Entry { group, .. }
            | Self::HardState { group, .. }
            | Self::Reset { group, .. }
            | Self::Remove { group }
            | Self::Compact { group, .. }
            | Self::Base { group, .. } => group,
        }
    }
}

/// Between which indexes a group's log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) compacted: Index,
    pub(super) last: Index,
}

/// The bounds after an effect; `None` is an unknown group. The error says what rule the effect breaks: a bug in what is
/// about to be written, damage in what was read.
pub(super) fn step(bounds: Option<Bounds>, effect: &Effect) -> Result<Option<Bounds>, String> {
    let now = bounds.unwrap_or_default();
    let group = effect.group();
    Ok(match *effect {
        Effect::Entry { index, .. } => {
            if index <= now.compacted || index.0 > now.last.0.saturating_add(1) || index.0 == u64::MAX {
                let Bounds { compacted, last } = now;
                return Err(format!("entry {index} of group {group} does not follow {compacted}..={last}"));
            }
            Some(Bounds { last: index, ..now })
        }
        Effect::HardState { .. } => Some(now),
        Effect::Reset { index, .. } => {
            if index.0 == u64::MAX {
                return Err(format!("group {group} is reset beyond any log"));
            }
            Some(Bounds { compacted: index, last: index })
        }
        Effect::Remove { .. } => None,
        Effect::Compact { index, .. } => {
            if bounds.is_none() || index <= now.compacted || index > now.last {
                let Bounds { compacted, last } = now;
                return Err(format!(
                    "group {group} with {compacted}..={last} cannot be compacted up to {index}"
                ));
            }
            Some(Bounds { compacted: index, ..now })
        }
        Effect::Base { compacted, last, .. } => {
            let base = Bounds { compacted: compacted.0, last: last.0 };
            if base.compacted > base.last || last.0.0 == u64::MAX || bounds.is_some_and(|now| now != base) {
                return Err(format!("group {group} begins a segment with other bounds than it had"));
            }
            Some(base)
        }
    })
}

/// One group.
#[derive(Clone, Debug)]
pub(super) struct GroupLog {
    epoch: Epoch,
    hard_state: HardState,
    bounds: Bounds,
    /// Places of `first_place..=last`.
    places: VecDeque<Place>,
    first_place: Index,
    /// First index and term of each run, the compaction point first.
    terms: Vec<(Index, Term)>,
}

impl Default for GroupLog {
    /// A new group: nothing before index 1, and index 0 has term 0.
    fn default() -> Self {
        Self::from_base(Epoch::default(), Default::default(), Default::default(), HardState::default())
    }
}

impl GroupLog {
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The term of an entry in the log, or of the compaction point.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        if index < self.bounds.compacted || index > self.bounds.last {
            return None;
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms.get(after.checked_sub(1)?)?.1)
    }

    pub(super) fn place(&self, index: Index) -> Option<Place> {
        let number = index.0.checked_sub(self.first_place.0)?;
        self.places.get(usize::try_from(number).ok()?).copied()
    }

    /// The highest index whose entry is in a segment up to this one.
    pub(super) fn highest_in(&self, segment: u32) -> Option<Index> {
        let count = self.places.partition_point(|place| place.segment <= segment);
        (count > 0).then(|| Index(self.first_place.0 + count as u64 - 1))
    }

    /// The oldest segment that holds an entry of this group.
    pub(super) fn oldest_segment(&self) -> Option<u32> {
        self.places.front().map(|place| place.segment)
    }

    pub(super) fn base(&self, group: GroupId) -> Effect {
        let Bounds { compacted, last } = self.bounds;
        let term = |index| self.term(index).unwrap_or_default();
        Effect::Base {
            group,
            epoch: self.epoch,
            compacted: (compacted, term(compacted)),
            last: (last, term(last)),
            hard_state: self.hard_state,
        }
    }

    /// Whether every entry between the bounds has a place.
    fn is_whole(&self) -> bool {
        let wanted = self.bounds.last.0 - self.bounds.compacted.0;
        self.places.len() as u64 == wanted
            && (wanted == 0 || self.first_place == self.bounds.compacted.next())
    }

    fn recovered(&self, group: GroupId) -> RecoveredGroup {
        RecoveredGroup {
            group,
            hard_state: self.hard_state,
            first: self.bounds.compacted.next(),
            last: self.bounds.last,
            terms: self.terms.clone(),
            epoch: self.epoch,
        }
    }

    fn push(&mut self, index: Index, term: Term, place: Place) {
        if index < self.first_place {
            // It replaces entries whose segments are gone.
            self.places.clear();
            self.first_place = index;
        }
        let kept = usize::try_from(index.0 - self.first_place.0).unwrap_or(usize::MAX);
        self.places.truncate(kept);
        self.places.push_back(place);
        // The compaction point is below every entry, so the first run stays.
        let runs = self.terms.partition_point(|(first, _)| *first < index);
        self.terms.truncate(runs);
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
    }

    fn compact(&mut self, index: Index, term: Term) {
        let gone = index.next().0.saturating_sub(self.first_place.0);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.places.len());
        self.places.drain(..gone);
        self.first_place = self.first_place.max(index.next());
        let runs = self.terms.partition_point(|(first, _)| *first <= index);
        self.terms.splice(..runs, [(index, term)]);
        // After a base the runs between its bounds were not known, and two may turn out to be one.
        if self.terms.get(1).is_some_and(|(_, next)| *next == term) {
            self.terms.remove(1);
        }
        if self.places.capacity() > 1024 && self.places.capacity() / 4 > self.places.len() {
            self.places.shrink_to(self.places.len() * 2);
        }
    }

    fn apply(&mut self, effect: &Effect) {
        match *effect {
            Effect::Entry { epoch, term, index, place, .. } => {
                self.epoch = epoch;
                self.push(index, term, place);
            }
            Effect::HardState { epoch, hard_state, .. } => {
                self.epoch = epoch;
                self.hard_state = hard_state;
            }
            Effect::Reset { epoch, term, index, .. } => {
                self.epoch = epoch;
                self.places = VecDeque::new();
                self.first_place = index.next();
                self.terms = vec![(index, term)];
            }
            Effect::Remove { .. } => unreachable!("a removed group is taken out of the index"),
            Effect::Compact { term, index, .. } => self.compact(index, term),
            Effect::Base { .. } => {}
        }
    }

    /// A group whose earlier segments are gone. The entries up to `last` are expected to be compacted or replaced by
    /// what follows; [`Catalogue::hole`] finds it if they are not.
    fn from_base(epoch: Epoch, compacted: (Index, Term), last: (Index, Term), hard_state: HardState) -> Self {
        let mut terms = vec![compacted];
        if last.0 > compacted.0 {
            terms.push(last);
        }
        Self {
            epoch,
            hard_state,
            bounds: Bounds { compacted: compacted.0, last: last.0 },
            places: VecDeque::new(),
            first_place: last.0.next(),
            terms,
        }
    }
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalogue {
    pub(super) groups: BTreeMap<GroupId, GroupLog>,
}

impl Catalogue {
    /// Applies one effect; the error says what rule it breaks.
    pub(super) fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        let id = effect.group();
        let known = self.groups.get(&id);
        let Some(bounds) = step(known.map(GroupLog::bounds), effect)? else {
            self.groups.remove(&id);
            return Ok(());
        };
        match (known, *effect) {
            (None, Effect::Base { epoch, compacted, last, hard_state, .. }) => {
                self.groups.insert(id, GroupLog::from_base(epoch, compacted, last, hard_state));
                return Ok(());
            }
            // Two ways to the same facts: what was replayed, and what the segment begins with. Terms below the place
            // where replay itself began are only known from here.
            (Some(group), Effect::Base { epoch, hard_state, .. })
                if group.epoch != epoch || group.hard_state != hard_state =>
            {
                return Err(format!("group {id} begins a segment with another state than it had"));
            }
            _ => {}
        }
        let group = self.groups.entry(id).or_default();
        group.bounds = bounds;
        group.apply(effect);
        Ok(())
    }

    /// What every group knows where a segment begins.
    pub(super) fn bases(&self) -> impl Iterator<Item = Effect> {
        self.groups.iter().map(|(id, group)| group.base(*id))
    }

    /// The oldest segment with an entry that some group still has.
    pub(super) fn oldest_segment(&self) -> Option<u32> {
        self.groups.values().filter_map(GroupLog::oldest_segment).min()
    }

    /// A group that misses entries it should have.
    pub(super) fn hole(&self) -> Option<GroupId> {
        self.groups.iter().find(|(_, group)| !group.is_whole()).map(|(id, _)| *id)
    }

    pub(super) fn recovered(&self) -> Vec<RecoveredGroup> {
        self.groups.iter().map(|(id, group)| group.recovered(*id)).collect()
    }
}
