//! What a store must hold at a moment, from what was handed to it and what was reported durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_store::ids::{Epoch, GroupId, Index, StoreId};
use quorate_store::model::StateModel;
use quorate_store::record::{Batch, Entry, HardState, Record};
use quorate_store::stamp::Stamp;

use super::judge::Recovered;
use crate::sim::record::{Moment, Note};

/// One group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// Everything up to here may have left the log.
    pub compacted: Index,
    /// Where it ends.
    pub last: Index,
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Of what was written last.
    pub epoch: Epoch,
    /// What comes after `compacted`.
    pub entries: BTreeMap<Index, Entry>,
}

/// All groups' logs, written apart from the product's own index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs(pub BTreeMap<GroupId, GroupLog>);

/// What goes to the log with one call, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Call {
    compactions: BTreeMap<GroupId, Index>,
    batches: Vec<Batch>,
}

impl Logs {
    fn take(&mut self, call: &Call) {
        for (group, index) in &call.compactions {
            if let Some(log) = self.0.get_mut(group)
                && (log.compacted.next()..=log.last).contains(index)
            {
                log.compacted = *index;
                log.entries = log.entries.split_off(&index.next());
            }
        }
        for record in call.batches.iter().flat_map(|batch| &batch.records) {
            match record {
                Record::Entry(group, epoch, entry) => {
                    let log = self.0.entry(*group).or_default();
                    log.entries.split_off(&entry.index);
                    log.entries.insert(entry.index, entry.clone());
                    (log.last, log.epoch) = (entry.index, *epoch);
                }
                Record::HardState(group, epoch, state) => {
                    let log = self.0.entry(*group).or_default();
                    (log.hard_state, log.epoch) = (*state, *epoch);
                }
                Record::Reset(group, epoch, _, index) => {
                    let log = self.0.entry(*group).or_default();
                    log.entries.clear();
                    (log.compacted, log.last, log.epoch) = (*index, *index, *epoch);
                }
                Record::Remove(group) => {
                    self.0.remove(group);
                }
            }
        }
    }
}

/// An image that was reported made.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its directory's name.
    pub name: String,
    /// The log then.
    pub logs: Arc<Logs>,
    /// The stamp then.
    pub stamp: Option<Arc<Stamp>>,
}

/// What a store must hold, and what it may hold besides.
#[derive(Clone, Default)]
pub struct Expected {
    /// Whose store it is, once a start was over.
    pub store: Option<StoreId>,
    /// The stamp reported written.
    pub stamp: Option<Arc<Stamp>>,
    /// The one being written.
    pub next_stamp: Option<Arc<Stamp>>,
    /// One that was being written before the power failed last, until the next is written: where the next begins like
    /// it, a torn write of the next can make it whole. Nothing was done yet on the ground of any other.
    pub stray: Option<Arc<Stamp>>,
    /// The log reported durable.
    pub logs: Arc<Logs>,
    /// Handed to the log since, in order.
    calls: Vec<Call>,
    /// Asked for since the last call.
    asked: BTreeMap<GroupId, Index>,
    /// Images reported made.
    pub images: Vec<Kept>,
    /// It was damaged on purpose, and is being given up.
    pub spoiled: bool,
    /// The state store.
    pub state: StateModel,
    /// What clients were told.
    pub told: Moment,
}

impl Expected {
    /// One more thing was said.
    pub fn take(&mut self, note: &Note) {
        match note {
            Note::Opened(store) => {
                self.store = Some(*store);
                self.settle();
                self.asked.clear();
            }
            Note::Appending(batches) => {
                let compactions = std::mem::take(&mut self.asked);
                self.calls.push(Call { compactions, batches: batches.clone() });
            }
            Note::Synced => self.settle(),
            Note::Compact(group, index) => {
                let asked = self.asked.entry(*group).or_default();
                *asked = *index.max(asked);
            }
            Note::Stamping(stamp) => self.next_stamp = Some(Arc::new((**stamp).clone())),
            Note::Stamped => {
                self.stamp = self.next_stamp.take();
                self.stray = None;
            }
            Note::State(state) => self.state = (**state).clone(),
            Note::Kept(name) => {
                let (name, logs) = (name.clone(), Arc::clone(&self.logs));
                self.images.push(Kept { name, logs, stamp: self.stamp.clone() });
            }
            Note::Spoiled => self.spoiled = true,
            Note::SetAside => {
                let images = std::mem::take(&mut self.images);
                *self = Self { images, told: std::mem::take(&mut self.told), ..Self::default() };
            }
            Note::Told(moment) => self.told = moment.clone(),
            Note::Peers(_) => {}
        }
    }

    /// A recovery found this: it is what must be found from now on.
    pub fn begin_again(&mut self, recovered: &Recovered) {
        match &recovered.logs {
            Some(_) if self.spoiled && recovered.stamp.is_none() => {
                // It was set aside, all but the last word.
                self.take(&Note::Kept("-damage".to_owned()));
                self.take(&Note::SetAside);
            }
            Some(logs) => {
                self.stray = self.next_stamp.take().filter(|next| Some(next) != recovered.stamp.as_ref());
                self.stamp.clone_from(&recovered.stamp);
                self.logs = Arc::clone(logs);
                self.calls.clear();
                self.asked.clear();
            }
            None => {}
        }
    }

    fn settle(&mut self) {
        let logs = Arc::make_mut(&mut self.logs);
        self.calls.drain(..).for_each(|call| logs.take(&call));
    }

    /// What the log may hold: what is durable, and after each call since.
    pub fn possible_logs(&self) -> Vec<Arc<Logs>> {
        let mut possible = vec![Arc::clone(&self.logs)];
        let mut logs = Arc::clone(&self.logs);
        for call in &self.calls {
            Arc::make_mut(&mut logs).take(call);
            possible.push(Arc::clone(&logs));
        }
        possible
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_store::ids::Term;
    use quorate_store::record::EntryKind;

    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn entry(index: u64, term: u64) -> Batch {
        let data = Bytes::from(format!("{index} in {term}"));
        let entry = Entry { term: Term(term), index: Index(index), kind: EntryKind::Command, data };
        Batch { records: vec![Record::Entry(GROUP, Epoch(1), entry)] }
    }

    fn indexes(logs: &Logs) -> Vec<(u64, u64)> {
        logs.0[&GROUP].entries.values().map(|entry| (entry.index.0, entry.term.0)).collect()
    }

    #[test]
    fn what_was_handed_over_since_the_last_report_may_be_there_call_by_call() {
        let mut expected = Expected::default();
        expected.take(&Note::Appending(vec![entry(1, 1), entry(2, 1)]));
        expected.take(&Note::Synced);
        expected.take(&Note::Appending(vec![entry(3, 1)]));
        expected.take(&Note::Compact(GROUP, Index(1)));
        expected.take(&Note::Appending(vec![entry(2, 2)]));
        let possible = expected.possible_logs();
        let found: Vec<_> = possible.iter().map(|logs| indexes(logs)).collect();
        assert_eq!(found, [vec![(1, 1), (2, 1)], vec![(1, 1), (2, 1), (3, 1)], vec![(2, 2)]]);
        expected.take(&Note::Synced);
        assert_eq!(expected.possible_logs().len(), 1);
    }
}
