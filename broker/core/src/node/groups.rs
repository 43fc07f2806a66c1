//! The groups of this broker, and which of them a round looks at.
//!
//! There may be thousands of which few have anything to do. A group is *touched* when something came for it, or may have
//! changed for it; a round looks at those alone. A group is *awake* while its node counts time: each tick touches it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::GroupId;

use super::group::Group;
use crate::replica::Replica;

/// All groups by their numbers.
#[derive(Default)]
pub(crate) struct Groups {
    all: BTreeMap<GroupId, Box<Group>>,
    touched: BTreeSet<GroupId>,
    awake: BTreeSet<GroupId>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} groups, awake {:?}, touched {:?}", self.all.len(), self.awake, self.touched)
    }
}

impl Groups {
    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.all.get(&id).map(Box::as_ref)
    }

    /// Touches it.
    pub(crate) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        let group = self.all.get_mut(&id)?;
        self.touched.insert(id);
        Some(group)
    }

    /// For what a round need not look at.
    pub(crate) fn get_mut_quietly(&mut self, id: GroupId) -> Option<&mut Group> {
        self.all.get_mut(&id).map(Box::as_mut)
    }

    pub(crate) fn contains_key(&self, id: GroupId) -> bool {
        self.all.contains_key(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &GroupId> {
        self.all.keys()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Group> {
        self.all.values().map(Box::as_ref)
    }

    /// Touches all.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.touched.extend(self.all.keys());
        self.all.values_mut().map(Box::as_mut)
    }

    /// A new group, touched.
    pub(crate) fn insert(&mut self, group: Box<Group>) {
        self.touched.insert(group.id);
        self.put(group);
    }

    pub(crate) fn remove(&mut self, id: GroupId) -> Option<Box<Group>> {
        self.awake.remove(&id);
        self.all.remove(&id)
    }

    /// Takes a group out to work on it with the rest of the node at hand.
    pub(super) fn take(&mut self, id: GroupId) -> Option<Box<Group>> {
        self.all.remove(&id)
    }

    /// Puts it back.
    pub(super) fn put(&mut self, group: Box<Group>) {
        let id = group.id;
        if group.replica.as_ref().is_some_and(Replica::is_awake) {
            self.awake.insert(id);
        } else {
            self.awake.remove(&id);
        }
        let previous = self.all.insert(id, group);
        assert!(previous.is_none(), "a group must not be made while it is worked on");
    }

    pub(crate) fn touch(&mut self, id: GroupId) {
        self.touched.insert(id);
    }

    /// Something has changed that concerns every group.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.all.keys());
    }

    /// What was touched since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = Box<Group>> {
        self.all.into_values()
    }

    /// Those whose nodes count time.
    pub(crate) fn awake(&self) -> impl ExactSizeIterator<Item = GroupId> + use<'_> {
        self.awake.iter().copied()
    }
}
