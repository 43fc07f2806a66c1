//! Steps that use a log in every way, and a naive model of what it must hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::ids::{Epoch, GroupId, Index, Term};
use crate::log::{LogReader, RecoveredGroup};
use crate::record::{Batch, Entry, EntryKind, HardState, Record};

/// One group, the simple way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NaiveGroup {
    epoch: Epoch,
    hard_state: HardState,
    compacted: (Index, Term),
    entries: Vec<Entry>,
}

impl Default for NaiveGroup {
    fn default() -> Self {
        let compacted = (Index(0), Term(0));
        Self { epoch: Epoch(0), hard_state: HardState::default(), compacted, entries: Vec::new() }
    }
}

impl NaiveGroup {
    pub(super) fn last(&self) -> Index {
        Index(self.compacted.0.0 + self.entries.len() as u64)
    }

    fn last_term(&self) -> Term {
        self.entries.last().map_or(self.compacted.1, |entry| entry.term)
    }

    fn expected(&self, group: GroupId) -> RecoveredGroup {
        let mut terms = vec![self.compacted];
        for entry in &self.entries {
            if terms.last().unwrap().1 != entry.term {
                terms.push((entry.index, entry.term));
            }
        }
        RecoveredGroup {
            group,
            hard_state: self.hard_state,
            first: self.compacted.0.next(),
            last: self.last(),
            terms,
            epoch: self.epoch,
        }
    }
}

/// What the log must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Naive {
    pub(super) groups: BTreeMap<GroupId, NaiveGroup>,
}

impl Naive {
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(group, epoch, entry) => {
                let log = self.groups.entry(*group).or_default();
                log.epoch = *epoch;
                log.entries.retain(|old| old.index < entry.index);
                log.entries.push(entry.clone());
            }
            Record::HardState(group, epoch, hard_state) => {
                let log = self.groups.entry(*group).or_default();
                log.epoch = *epoch;
                log.hard_state = *hard_state;
            }
            Record::Reset(group, epoch, term, index) => {
                let log = self.groups.entry(*group).or_default();
                log.epoch = *epoch;
                log.compacted = (*index, *term);
                log.entries.clear();
            }
            Record::Remove(group) => {
                self.groups.remove(group);
            }
        }
    }

    pub(super) fn compact(&mut self, group: GroupId, index: Index) {
        let Some(log) = self.groups.get_mut(&group) else { return };
        if let Some(entry) = log.entries.iter().find(|entry| entry.index == index) {
            log.compacted = (index, entry.term);
            log.entries.retain(|entry| entry.index > index);
        }
    }

    /// What is different in a log, by what it recovered and by what it reads; none if it holds the same.
    pub(super) fn difference(&self, groups: &[RecoveredGroup], reader: &LogReader) -> Option<String> {
        let expected: Vec<_> = self.groups.iter().map(|(id, group)| group.expected(*id)).collect();
        if expected != groups {
            return Some(format!("recovered {groups:?}, expected {expected:?}"));
        }
        self.unreadable(reader)
    }

    /// What cannot be read as it must be.
    pub(super) fn unreadable(&self, reader: &LogReader) -> Option<String> {
        for (id, group) in &self.groups {
            let (first, last) = (group.compacted.0.next(), group.last());
            if reader.bounds(*id) != Some((first, last)) {
                return Some(format!("group {id} is {:?}, not {first}..={last}", reader.bounds(*id)));
            }
            match reader.read(*id, first, last.next(), usize::MAX) {
                Ok(entries) if entries == group.entries => {}
                Ok(_) => return Some(format!("group {id} has other entries")),
                Err(error) => return Some(error.to_string()),
            }
            for index in first.0 - 1..=last.0 {
                let entry = group.entries.iter().find(|entry| entry.index.0 == index);
                let term = entry.map_or(group.compacted.1, |entry| entry.term);
                if reader.term(*id, Index(index)) != Some(term) {
                    return Some(format!("group {id} has another term at {index}"));
                }
            }
        }
        None
    }
}

/// Something to do to a log; numbers are taken modulo what is possible.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// `count` entries of `size` bytes, `back` below the end.
    Entries {
        group: u32,
        count: u8,
        size: u16,
        back: u8,
        raise_term: bool,
    },
    HardState {
        group: u32,
        commit: u64,
    },
    Reset {
        group: u32,
        ahead: u8,
    },
    Remove {
        group: u32,
    },
    Compact {
        group: u32,
        keep: u8,
    },
    Sync,
    Reopen,
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let group = || 0..3_u32;
    let entries = (group(), 1..4_u8, 0..3000_u16, prop_oneof![3 => Just(0), 1 => 0..6_u8], any::<bool>());
    prop_oneof![
        8 => entries.prop_map(|(group, count, size, back, raise_term)| Step::Entries {
            group, count, size, back, raise_term
        }),
        2 => (group(), any::<u64>()).prop_map(|(group, commit)| Step::HardState { group, commit }),
        1 => (group(), any::<u8>()).prop_map(|(group, ahead)| Step::Reset { group, ahead }),
        1 => group().prop_map(|group| Step::Remove { group }),
        4 => (group(), 0..8_u8).prop_map(|(group, keep)| Step::Compact { group, keep }),
        3 => Just(Step::Sync),
        2 => Just(Step::Reopen),
    ]
}

/// A step from dice, for workloads that are not shrunk. Never `Sync` or `Reopen`.
pub(super) fn rolled_step(dice: &mut ChaCha8Rng) -> Step {
    let mut roll = |bound: u64| dice.next_u64() % bound;
    let group = u32::try_from(roll(3)).unwrap();
    match roll(32) {
        0 => Step::Reset { group, ahead: 5 },
        1 => Step::Remove { group },
        2..=5 => Step::HardState { group, commit: roll(1000) },
        6..=13 => Step::Compact { group, keep: u8::try_from(roll(4)).unwrap() },
        _ => Step::Entries {
            group,
            count: u8::try_from(1 + roll(3)).unwrap(),
            size: u16::try_from(roll(2500)).unwrap(),
            back: if roll(4) == 0 { u8::try_from(roll(4)).unwrap() } else { 0 },
            raise_term: roll(3) == 0,
        },
    }
}

/// What a step means for a log that holds this: a batch, or a compaction.
pub(super) enum Meaning {
    Append(Batch),
    Compact(GroupId, Index),
    Nothing,
}

pub(super) fn meaning(step: Step, naive: &Naive, number: u64) -> Meaning {
    let log = |group: u32| naive.groups.get(&GroupId(group)).cloned().unwrap_or_default();
    let batch = |records| Meaning::Append(Batch { records });
    let epoch = Epoch(u32::try_from(number / 10).unwrap() + 1);
    match step {
        Step::Entries { group, count, size, back, raise_term } => {
            let log = log(group);
            let back = u64::from(back).min(log.entries.len() as u64);
            let term = Term(log.last_term().0 + u64::from(raise_term));
            let entry = |offset: u64| {
                let index = Index(log.last().0 - back + 1 + offset);
                let kind = if index.0.is_multiple_of(5) { EntryKind::Membership } else { EntryKind::Command };
                // Different everywhere, so that no stale record passes for another.
                let text = format!("{group} {index} {number} ");
                let data: Vec<u8> = text.bytes().cycle().take(usize::from(size)).collect();
                Record::Entry(GroupId(group), epoch, Entry { term, index, kind, data: Bytes::from(data) })
            };
            batch((0..u64::from(count)).map(entry).collect())
        }
        Step::HardState { group, commit } => {
            let hard_state = HardState { term: Term(number), vote: number, commit: Index(commit) };
            batch(vec![Record::HardState(GroupId(group), epoch, hard_state)])
        }
        Step::Reset { group, ahead } => {
            let log = log(group);
            let index = Index(log.last().0 + u64::from(ahead));
            batch(vec![Record::Reset(GroupId(group), epoch, log.last_term(), index)])
        }
        Step::Remove { group } => batch(vec![Record::Remove(GroupId(group))]),
        Step::Compact { group, keep } => {
            let log = log(group);
            let index = Index(log.last().0.saturating_sub(u64::from(keep)));
            if index <= log.compacted.0 { Meaning::Nothing } else { Meaning::Compact(GroupId(group), index) }
        }
        Step::Sync | Step::Reopen => Meaning::Nothing,
    }
}
