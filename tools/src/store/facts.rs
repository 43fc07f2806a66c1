//! What a store says about itself, as a document: what stamp and log say, and what its broker would tell its peers.

mod document;
mod sealed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::node::offline::StoredGroup;
use quorate_store::ids::GroupId;
use quorate_store::log::RecoveredGroup;
use quorate_store::quarantine::QUARANTINE_DIRECTORY;
use quorate_store::stamp::{RecoveryMode, Stamp, StampState};

pub use self::document::{EpochFacts, Facts, FoundingFacts, GroupFacts, MemberFacts, Place};
pub use self::sealed::{parse, seal};
use super::look::Look;
use super::recover::{RecoveredStore, damage_in};
use crate::base64;

/// Version of the document.
pub const FACTS_FORMAT: u32 = 2;
/// How deep below `quarantine` is looked.
const QUARANTINE_DEPTH: usize = 8;

impl Facts {
    /// Of a store that was looked at, and of what its recovery gave.
    pub fn of(look: &Look, recovered: Result<&RecoveredStore, &str>) -> Self {
        let mut facts = Self::blank(&look.dir);
        facts.in_use_by = look.in_use_by;
        facts.quarantine_bytes = bytes_below(&look.dir.join(QUARANTINE_DIRECTORY), QUARANTINE_DEPTH);
        facts.damage.clone_from(&look.damage);
        facts.notes.clone_from(&look.notes);
        facts.incarnation = look.incarnation.map(|incarnation| incarnation.0);
        facts.store_id = look.id().map(|id| id.to_string());
        let stamp = look.stamp.as_deref();
        if let Some(stamp) = stamp {
            facts.take_stamp(stamp);
        }
        facts.take_log(look);
        match recovered {
            Ok(store) => facts.take_recovered(store),
            Err(why) => facts.unread = Some(why.to_owned()),
        }
        facts.finish(look, stamp);
        facts
    }

    /// Of a path where nothing could be read.
    pub fn nothing(path: &Path, why: String) -> Self {
        Self { state: "unread".to_owned(), unread: Some(why), ..Self::blank(path) }
    }

    fn blank(path: &Path) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            facts_format: FACTS_FORMAT,
            path: path.display().to_string(),
            taken_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            state: String::new(),
            damage: Vec::new(),
            notes: Vec::new(),
            in_use_by: None,
            store_id: None,
            cluster_id: None,
            cluster_name: None,
            broker_name: None,
            incarnation: None,
            run_id: None,
            shutdown_id: None,
            recovery_id: None,
            sequence: None,
            positions: BTreeMap::new(),
            groups: Vec::new(),
            members: Vec::new(),
            members_position: None,
            possible_members: Vec::new(),
            founding: None,
            wait_for: None,
            recovery: None,
            boot_id: None,
            boot_id_same: None,
            safety_number: None,
            stamped_at_ms: None,
            log_end: None,
            log_synced: None,
            log_bytes: None,
            quarantine_bytes: 0,
            queues: None,
            messages: None,
            unread: None,
            status: None,
        }
    }

    fn take_stamp(&mut self, stamp: &Stamp) {
        self.cluster_id = stamp.cluster_id.map(|id| id.to_string());
        self.cluster_name = Some(stamp.cluster_name.clone());
        self.broker_name = Some(stamp.broker_name.clone());
        self.incarnation = Some(stamp.incarnation.0);
        self.run_id = Some(stamp.run_id.to_string());
        self.sequence = Some(stamp.sequence);
        match stamp.state {
            StampState::Clean { shutdown } => self.shutdown_id = Some(shutdown.to_string()),
            StampState::Recovered { recovery } => self.recovery_id = Some(recovery.to_string()),
            StampState::Empty | StampState::Forming | StampState::Dirty => {}
        }
        self.groups = stamp.groups.iter().map(GroupFacts::from).collect();
        self.members = stamp.members.iter().map(MemberFacts::from).collect();
        self.members_position = Some(stamp.members_position.into());
        self.possible_members = stamp.possible_members.iter().map(ToString::to_string).collect();
        self.founding = stamp.forming.as_ref().map(|forming| FoundingFacts {
            promised: forming.promised.map(|ballot| (ballot.round, ballot.store.to_string())),
            accepted: forming.accepted.as_ref().map(|(ballot, _)| (ballot.round, ballot.store.to_string())),
            decided: forming.decided,
        });
        self.wait_for = Some(stamp.wait_for);
        self.recovery = Some(
            match stamp.recovery {
                RecoveryMode::Automatic => "automatic",
                RecoveryMode::Manual => "manual",
            }
            .to_owned(),
        );
        self.boot_id = Some(stamp.boot_id.clone()).filter(|id| !id.is_empty());
        let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        self.boot_id_same = self.boot_id.as_deref().zip(now.as_deref()).map(|(then, now)| then == now.trim());
        self.safety_number = Some(stamp.safety_number);
        self.stamped_at_ms = Some(stamp.wall_clock_ms);
        self.log_synced = Some(stamp.log_synced.to_string());
    }

    fn take_log(&mut self, look: &Look) {
        let Some((_, recovered)) = &look.log else { return };
        self.log_end = Some(recovered.end.to_string());
        self.log_bytes = Some(recovered.log_bytes);
        for found in &recovered.groups {
            let group = self.group(found.group);
            group.log_position = Some(log_position(found));
            group.first = Some(found.first.0);
            group.commit = Some(found.hard_state.commit.0);
            group.term = Some(found.hard_state.term.0);
            group.vote = Some(found.hard_state.vote);
        }
    }

    fn take_recovered(&mut self, store: &RecoveredStore) {
        self.status = Some(base64::encode(&store.status.encode()));
        if let Some(damage) = damage_in(&store.status)
            && self.damage.is_empty()
        {
            self.damage.push(damage.to_owned());
        }
        for stored in &store.groups {
            let group = self.group(stored.group);
            group.vhost.clone_from(&stored.vhost);
            // A received state may be beyond the log.
            group.log_position = Some(stored.end.into());
            group.digest = Some(format!("{:016x}", stored.digest()));
            // The log's own word comes with the next entry only; what a checkpoint holds was committed, too.
            group.commit = group.commit.max(Some(stored.committed.0));
            if let Some((queues, messages)) = count(stored) {
                group.queues = Some(queues);
                group.messages = Some(messages);
            }
        }
        let sum = |of: fn(&GroupFacts) -> Option<u64>| self.groups.iter().filter_map(of).sum();
        if damage_in(&store.status).is_none() {
            (self.queues, self.messages) =
                (Some(sum(|group| group.queues)), Some(sum(|group| group.messages)));
        }
    }

    /// The facts of a group; made if the stamp does not have it.
    fn group(&mut self, group: GroupId) -> &mut GroupFacts {
        let at = self.groups.iter().position(|known| known.group == group.0).unwrap_or_else(|| {
            let vhost = if group == GroupId::SYSTEM { "system".to_owned() } else { format!("group {group}") };
            self.groups.push(GroupFacts { group: group.0, vhost, ..GroupFacts::default() });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }

    fn finish(&mut self, look: &Look, stamp: Option<&Stamp>) {
        let positions = self
            .groups
            .iter()
            .filter_map(|group| Some((group.vhost.clone(), group.log_position.or(group.stamp_position)?)));
        self.positions = positions.collect();
        let state = match stamp.map(|stamp| stamp.state) {
            _ if look.is_other_format => "other-format",
            _ if !self.damage.is_empty() => "damaged",
            None if look.unread.is_some() => "unread",
            None | Some(StampState::Empty) => "empty",
            Some(StampState::Forming) => "forming",
            Some(StampState::Dirty) => "dirty",
            Some(StampState::Clean { .. } | StampState::Recovered { .. }) => "clean",
        };
        state.clone_into(&mut self.state);
    }
}

fn count(stored: &StoredGroup) -> Option<(u64, u64)> {
    let machine = stored.machine()?;
    Some((u64::try_from(machine.queues().count()).unwrap_or(u64::MAX), machine.live()))
}

fn log_position(found: &RecoveredGroup) -> Place {
    let term = found.terms.last().map_or(0, |(_, term)| term.0);
    Place { epoch: found.epoch.0, term, index: found.last.0 }
}

fn bytes_below(dir: &Path, depth: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => bytes_below(&entry.path(), depth - 1),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
