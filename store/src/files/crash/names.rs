//! What becomes of the names in directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// A directory's number, and a name in it. Whatever name leads to the directory, what is in it stays in it.
pub(super) type Place = (u64, String);

/// The directory that has no name.
pub(super) const ROOT: u64 = 0;

/// What a name leads to. Several may lead to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    File(u64),
    Dir(u64),
}

/// A change that happens whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) put: Option<(Place, Node)>,
    pub(super) drop: Option<Place>,
}

impl NameChange {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.put.iter().map(|(place, _)| place).chain(self.drop.iter())
    }

    fn apply(&self, names: &mut BTreeMap<Place, Node>) {
        if let Some(place) = &self.drop {
            names.remove(place);
        }
        if let Some((place, node)) = &self.put {
            names.insert(place.clone(), *node);
        }
    }
}

/// Which name leads to which file or directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// What everybody sees.
    pub(super) now: BTreeMap<Place, Node>,
    durable: BTreeMap<Place, Node>,
    pending: Vec<NameChange>,
}

impl Names {
    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// A name that was always there.
    pub(super) fn put_durably(&mut self, place: Place, node: Node) {
        self.now.insert(place.clone(), node);
        self.durable.insert(place, node);
    }

    /// The directory of this path.
    pub(super) fn dir(&self, path: &Path) -> Option<u64> {
        let mut dir = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => match self.now.get(&(dir, name.to_str()?.to_owned()))? {
                    Node::Dir(below) => dir = *below,
                    Node::File(_) => return None,
                },
                Component::ParentDir | Component::Prefix(_) => return None,
            }
        }
        Some(dir)
    }

    /// The names in a directory with what they lead to.
    pub(super) fn list(&self, dir: u64) -> impl Iterator<Item = (&String, Node)> {
        self.now.range((dir, String::new())..(dir + 1, String::new())).map(|((_, name), node)| (name, *node))
    }

    /// The files that have a name, and how many.
    pub(super) fn files(&self) -> BTreeMap<u64, u64> {
        let mut files = BTreeMap::new();
        for node in self.now.values() {
            if let Node::File(file) = node {
                *files.entry(*file).or_default() += 1;
            }
        }
        files
    }

    /// Every file below a directory, by path.
    pub(super) fn walk(&self, dir: u64, path: &Path, found: &mut Vec<(PathBuf, u64)>) {
        for (name, node) in self.list(dir) {
            let path = path.join(name);
            match node {
                Node::File(file) => found.push((path, file)),
                Node::Dir(below) => self.walk(below, &path, found),
            }
        }
    }

    /// Makes the names in `dir` durable, and what they depend on.
    pub(super) fn sync(&mut self, dir: u64) {
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

    /// Whether a change is not durable.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Power is lost: every change is there, or none that was not made durable.
    pub(super) fn settle(&mut self, keeps: bool) {
        for change in std::mem::take(&mut self.pending) {
            if keeps {
                change.apply(&mut self.durable);
            }
        }
        self.now = self.durable.clone();
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
