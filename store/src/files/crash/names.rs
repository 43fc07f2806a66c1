//! What becomes of the names in directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// A directory, and a name in it.
pub(super) type Place = (PathBuf, String);

/// A change that happens whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) put: Option<(Place, u64)>,
    pub(super) drop: Option<Place>,
}

impl NameChange {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.put.iter().map(|(place, _)| place).chain(self.drop.iter())
    }

    fn apply(&self, names: &mut BTreeMap<Place, u64>) {
        if let Some(place) = &self.drop {
            names.remove(place);
        }
        if let Some((place, file)) = &self.put {
            names.insert(place.clone(), *file);
        }
    }
}

/// Which name leads to which file.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// What everybody sees.
    pub(super) now: BTreeMap<Place, u64>,
    durable: BTreeMap<Place, u64>,
    pending: Vec<NameChange>,
}

impl Names {
    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// A name that was always there.
    pub(super) fn put_durably(&mut self, place: Place, file: u64) {
        self.now.insert(place.clone(), file);
        self.durable.insert(place, file);
    }

    /// Makes the names in `dir` durable, and what they depend on.
    pub(super) fn sync(&mut self, dir: &Path) {
        let mut touched: BTreeSet<Place> = BTreeSet::new();
        let mut rest = Vec::new();
        let mut chosen = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.places().any(|place| place.0 == dir || touched.contains(place)) {
                touched.extend(change.places().cloned());
                chosen.push(change);
            } else {
                rest.push(change);
            }
        }
        rest.reverse();
        self.pending = rest;
        for change in chosen.iter().rev() {
            change.apply(&mut self.durable);
        }
    }

    /// Power is lost: changes of the same names survive in order, others independently.
    pub(super) fn lose(&mut self, dice: &mut ChaCha8Rng) {
        let odds = dice.next_u64() % 101;
        let mut lost: BTreeSet<Place> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let depends = change.places().any(|place| lost.contains(place));
            if depends || dice.next_u64() % 100 >= odds {
                lost.extend(change.places().cloned());
            } else {
                change.apply(&mut self.durable);
            }
        }
        self.now = self.durable.clone();
    }
}
