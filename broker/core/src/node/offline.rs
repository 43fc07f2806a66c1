//! A recovered store without a running broker: what its tools are told.
//!
//! The inspector makes a [`Node`] over what it found, answers the scans and loads of its recovery and nothing else, and
//! asks here. So a tool and a broker can never read the same store differently.

use bytes::Bytes;
use quorate_store::ids::{GroupId, Index, Position};
use quorate_store::record::EntryKind;
use quorate_store::stamp::EpochEntry;

use super::group::{Group, Machine};
use super::meta::Space;
use super::startup::Phase;
use super::{Node, body};
use crate::formation::InitialStatus;
use crate::machine::{QueueId, SystemMachine, VhostMachine, body_key};

pub use body::Body;

/// One group as a store holds it, with everything in its log applied, committed or not: what the group would hold if
/// this store were gone on from.
pub struct StoredGroup {
    /// Which.
    pub group: GroupId,
    /// The virtual host's name; `system` for group 0.
    pub vhost: String,
    /// Its epochs, oldest first.
    pub lineage: Vec<EpochEntry>,
    /// The first index in the log.
    pub first: Index,
    /// The highest index known to be committed; a crash may have left it behind.
    pub committed: Index,
    /// Where the log ends.
    pub end: Position,
    /// A received state is beyond the log: the process ended before its log began anew.
    pub is_beyond_log: bool,
    space: Space,
    machine: Machine,
}

impl StoredGroup {
    fn of(mut group: Group, end: Position) -> Self {
        let committed = group.applied;
        let (first, tail, is_beyond_log) = match group.recovered.take() {
            Some(recovered) => (recovered.found.first, recovered.tail, recovered.reset),
            None => (group.applied.next(), Vec::new(), true),
        };
        for entry in tail {
            match entry.kind {
                EntryKind::Command => drop(group.apply_commands(&entry)),
                EntryKind::Control => group.replay_act(&entry),
                EntryKind::Membership => {}
            }
        }
        let Group { id, vhost, lineage, space, machine, .. } = group;
        let lineage = lineage.entries().to_vec();
        Self { group: id, vhost, lineage, first, committed, end, is_beyond_log, space, machine }
    }

    /// A fingerprint of everything replicated: equal in stores that hold the same.
    pub fn digest(&self) -> u64 {
        self.machine.digest()
    }

    /// Queues and messages; none for `system`.
    pub fn machine(&self) -> Option<&VhostMachine> {
        self.machine.vhost()
    }

    /// The cluster's members and virtual hosts; none for a virtual host.
    pub fn system(&self) -> Option<&SystemMachine> {
        self.machine.system()
    }

    /// The key of a spilled message in [`quorate_store::state::Family::Body`]; its value is read with
    /// [`Body::decode`].
    pub fn body_key(&self, queue: QueueId, seq: u64) -> Bytes {
        body_key(self.space.prefix(), queue, seq)
    }
}

impl Node {
    /// What this broker says of itself before it does anything; none while its store is being read. Ask after each
    /// input: the next output may already be the beginning of a start.
    pub fn initial_status(&self) -> Option<InitialStatus> {
        if matches!(self.phase, Phase::Recovering(_)) { None } else { Some(self.own_status()) }
    }

    /// Takes the groups out, ascending.
    pub fn into_stored_groups(self) -> Vec<StoredGroup> {
        let status = self.own_status();
        let mut stored: Vec<StoredGroup> = self
            .groups
            .into_values()
            .map(|group| {
                let end = status.group(group.id).map_or_else(Position::default, |status| status.position);
                StoredGroup::of(*group, end)
            })
            .collect();
        // A deletion in the log counts like everything else in it. What an operator left behind goes once it is kept, and
        // an image is where it is kept.
        let deleted: Vec<GroupId> = stored
            .iter()
            .find_map(StoredGroup::system)
            .map(|system| {
                let groups = stored.iter().map(|group| group.group);
                groups.filter(|id| system.is_deleted(*id) && !system.is_left_behind(*id)).collect()
            })
            .unwrap_or_default();
        stored.retain(|group| !deleted.contains(&group.group));
        stored
    }
}
