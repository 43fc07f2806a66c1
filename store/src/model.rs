//! The state store in memory, with the durability rule of the real one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::state::{Family, Pair, StateBatch, StateError, StateStore, StateWrite, ViewId};

type Pairs = BTreeMap<Bytes, Bytes>;

/// The families; clones share until one changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    node: Arc<Pairs>,
    state: Arc<Pairs>,
    body: Arc<Pairs>,
}

impl Content {
    fn family(&self, family: Family) -> &Pairs {
        match family {
            Family::Node => &self.node,
            Family::State => &self.state,
            Family::Body => &self.body,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut Pairs {
        Arc::make_mut(match family {
            Family::Node => &mut self.node,
            Family::State => &mut self.state,
            Family::Body => &mut self.body,
        })
    }

    fn apply(&mut self, batch: &StateBatch) {
        for write in &batch.writes {
            match write {
                StateWrite::Put(family, key, value) => {
                    let replaced = self.family_mut(*family).insert(key.clone(), value.clone());
                    assert!(
                        *family != Family::Body || replaced.is_none(),
                        "a body's key is put at most once before it is deleted: {key:?}"
                    );
                }
                StateWrite::Delete(family, key) => {
                    self.family_mut(*family).remove(key);
                }
                StateWrite::DeleteRange(family, from, to) => {
                    self.family_mut(*family).retain(|key, _| !(from <= key && key < to));
                }
            }
        }
    }
}

/// A state store without a disk. [`StateModel::crash`] takes what was not flushed.
#[derive(Clone, Debug, Default)]
pub struct StateModel {
    now: Content,
    durable: Content,
    unflushed: Vec<StateBatch>,
    views: BTreeMap<ViewId, Content>,
    next_view: u64,
}

impl StateModel {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Power is lost: of the batches since the last flush the first `dice % (n + 1)` are found, whole; views are gone.
    pub fn crash(&mut self, dice: u64) {
        let count = self.unflushed.len() as u64;
        let kept = usize::try_from(dice % (count + 1)).unwrap_or(0);
        for batch in self.unflushed.drain(..).take(kept) {
            self.durable.apply(&batch);
        }
        self.now = self.durable.clone();
        self.views.clear();
    }
}

impl StateStore for StateModel {
    fn write(&mut self, batch: &StateBatch) -> Result<(), StateError> {
        self.now.apply(batch);
        self.unflushed.push(batch.clone());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.durable = self.now.clone();
        self.unflushed.clear();
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.now.family(family).get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<Vec<Pair>, StateError> {
        let content = match view {
            Some(view) => self.views.get(&view).ok_or(StateError::NoView(view))?,
            None => &self.now,
        };
        let mut pairs = Vec::new();
        let mut bytes = 0;
        if from >= to {
            return Ok(pairs);
        }
        let range = content.family(family).range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        for (key, value) in range {
            if bytes >= max_bytes && !pairs.is_empty() {
                break;
            }
            bytes += key.len() + value.len();
            pairs.push((key.clone(), value.clone()));
        }
        Ok(pairs)
    }

    fn open_view(&mut self) -> Result<ViewId, StateError> {
        self.next_view += 1;
        let view = ViewId(self.next_view);
        self.views.insert(view, self.now.clone());
        Ok(view)
    }

    fn close_view(&mut self, view: ViewId) {
        self.views.remove(&view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> StateBatch {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        StateBatch { writes: vec![StateWrite::Put(Family::State, key, value)] }
    }

    fn keys(model: &StateModel) -> Vec<String> {
        let pairs = model.scan(Family::State, b"", b"z", usize::MAX, None).unwrap();
        pairs.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_crash_takes_unflushed_batches_from_the_end() {
        let mut model = StateModel::new();
        model.write(&put("a", "1")).unwrap();
        model.flush().unwrap();
        model.write(&put("b", "2")).unwrap();
        model.write(&put("c", "3")).unwrap();
        let after = |dice| {
            let mut model = model.clone();
            model.crash(dice);
            // What was found stays found.
            model.crash(0);
            keys(&model).join("")
        };
        assert_eq!([after(0), after(1), after(2), after(3)], ["a", "ab", "abc", "a"]);
        assert_eq!(keys(&model), ["a", "b", "c"]);
    }

    #[test]
    fn a_view_stays_as_it_was() {
        let mut model = StateModel::new();
        model.write(&put("a", "1")).unwrap();
        let view = model.open_view().unwrap();
        let from = Bytes::from_static(b"a");
        let gone = StateWrite::DeleteRange(Family::State, from, Bytes::from_static(b"b"));
        model.write(&StateBatch { writes: vec![gone] }).unwrap();
        assert!(keys(&model).is_empty());
        assert_eq!(model.scan(Family::State, b"a", b"b", 0, Some(view)).unwrap().len(), 1);
        model.close_view(view);
        assert!(matches!(model.scan(Family::State, b"a", b"b", 0, Some(view)), Err(StateError::NoView(_))));
    }

    #[test]
    fn a_scan_stops_at_its_limit_and_gives_at_least_one() {
        let mut model = StateModel::new();
        for key in ["a", "b", "c"] {
            model.write(&put(key, "value")).unwrap();
        }
        let count = |max_bytes| model.scan(Family::State, b"a", b"z", max_bytes, None).unwrap().len();
        assert_eq!([count(0), count(6), count(7), count(100)], [1, 1, 2, 3]);
        assert_eq!(model.scan(Family::State, b"z", b"a", 9, None).unwrap(), []);
        assert_eq!(model.get(Family::State, b"b").unwrap().unwrap(), "value");
        assert_eq!(model.get(Family::Node, b"b").unwrap(), None);
    }
}
