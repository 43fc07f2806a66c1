//! What a store says about itself: identity, stamp and log, read without changing a byte.
//!
//! Nothing here takes the lock, which would write: whether a broker has the store is read from the kernel's table.

mod document;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_store::files::Files;
use quorate_store::files::real::RealFiles;
use quorate_store::identity::{LOCK_NAME, STORE_ID_NAME, read_store_id};
use quorate_store::ids::{GroupId, StoreId};
use quorate_store::log::{self, LOG_DIRECTORY, RecoveredGroup};
use quorate_store::quarantine::QUARANTINE_DIRECTORY;
use quorate_store::stamp::{RecoveryMode, SLOT_NAMES, Stamp, StampError, StampFile, StampFound, StampState};

pub use self::document::{EpochFacts, Facts, FoundingFacts, GroupFacts, MemberFacts, Place};
use crate::exit::{Failure, Status};

/// Version of the document.
const FACTS_FORMAT: u32 = 1;
/// How deep below `quarantine` is looked.
const QUARANTINE_DEPTH: usize = 8;

/// Reads everything there is.
///
/// # Errors
/// There is no such directory, it cannot be read, or nothing of a store is in it.
pub fn read(dir: &Path) -> Result<Facts, Failure> {
    let nothing = |text: String| {
        Failure::new(Status::Unknown, "no-store", text)
            .next("quorate store facts DIR    (the directory given to quorated --data-dir)")
    };
    let names = RealFiles.list(dir).map_err(|error| nothing(error.to_string()))?;
    let is_piece =
        |name: &String| name == STORE_ID_NAME || name == LOG_DIRECTORY || SLOT_NAMES.contains(&name.as_str());
    if !names.iter().any(is_piece) {
        return Err(nothing(format!("{} holds no store: neither identity nor stamp nor log", dir.display())));
    }
    let mut facts = Facts::of(dir);
    let identity = facts.read_identity(dir);
    let stamp = facts.read_stamp(dir);
    let stamp = stamp.as_deref();
    if let (Some(identity), Some(stamp)) = (identity, stamp)
        && identity != stamp.store_id
    {
        facts.damage.push(format!(
            "the stamp belongs to store {}, the directory to store {identity}",
            stamp.store_id
        ));
    }
    let id = identity.or(stamp.map(|stamp| stamp.store_id));
    facts.store_id = id.map(|id| id.to_string());
    if let Some(stamp) = stamp {
        facts.take_stamp(stamp);
    }
    facts.read_log(dir, id, stamp);
    facts.finish(stamp);
    Ok(facts)
}

impl Facts {
    fn of(dir: &Path) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            facts_format: FACTS_FORMAT,
            path: dir.display().to_string(),
            taken_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            state: String::new(),
            damage: Vec::new(),
            notes: Vec::new(),
            in_use_by: lock_holder(&dir.join(LOCK_NAME)),
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
            quarantine_bytes: bytes_below(&dir.join(QUARANTINE_DIRECTORY), QUARANTINE_DEPTH),
        }
    }

    fn read_identity(&mut self, dir: &Path) -> Option<StoreId> {
        match read_store_id(&RealFiles, dir) {
            Ok(Some(id)) => Some(id),
            Ok(None) => {
                self.damage.push("the store id is missing beside other parts of a store".to_owned());
                None
            }
            Err(error) => {
                self.damage.push(error.to_string());
                None
            }
        }
    }

    fn read_stamp(&mut self, dir: &Path) -> Option<Box<Stamp>> {
        let (file, found) = match StampFile::open(Arc::new(RealFiles), dir.to_path_buf()) {
            Ok(opened) => opened,
            Err(error) => {
                if matches!(error, StampError::OtherFormat { .. }) {
                    "other-format".clone_into(&mut self.state);
                }
                self.damage.push(error.to_string());
                return None;
            }
        };
        match found {
            StampFound::Absent => None,
            StampFound::Stamp(stamp) => {
                // Its twin is whole, and the next write repairs it.
                self.notes
                    .extend(file.damage().map(|what| format!("one of two stamps is unreadable: {what}")));
                Some(stamp)
            }
            StampFound::Damaged { reason, incarnation } => {
                self.damage.push(format!("the stamp is unreadable: {reason}"));
                self.incarnation = incarnation.map(|incarnation| incarnation.0);
                None
            }
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
        self.recovery = Some(match stamp.recovery {
            RecoveryMode::Automatic => "automatic",
            RecoveryMode::Manual => "manual",
        });
        self.boot_id = Some(stamp.boot_id.clone()).filter(|id| !id.is_empty());
        let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        self.boot_id_same = self.boot_id.as_deref().zip(now.as_deref()).map(|(then, now)| then == now.trim());
        self.safety_number = Some(stamp.safety_number);
        self.stamped_at_ms = Some(stamp.wall_clock_ms);
        self.log_synced = Some(stamp.log_synced.to_string());
    }

    fn read_log(&mut self, dir: &Path, id: Option<StoreId>, stamp: Option<&Stamp>) {
        let log_dir = dir.join(LOG_DIRECTORY);
        let has_log =
            RealFiles.list(&log_dir).is_ok_and(|names| names.iter().any(|name| log::is_segment_name(name)));
        if has_log && stamp.is_none() && self.damage.is_empty() {
            self.damage.push("there is a log and no stamp".to_owned());
        }
        let Some(id) = id else { return };
        let recovered = match log::inspect(&RealFiles, &log_dir, id, stamp.map(|stamp| stamp.log_synced)) {
            Ok((_, recovered)) => recovered,
            Err(error) => {
                if matches!(error, log::LogError::OtherFormat { .. }) {
                    "other-format".clone_into(&mut self.state);
                }
                self.damage.push(error.to_string());
                return;
            }
        };
        // What was cut while opening for writing is only seen here.
        self.notes.extend(recovered.torn.map(|torn| {
            format!(
                "a torn batch of {} bytes at {}+{}, never acknowledged: {}",
                torn.bytes, torn.generation, torn.offset, torn.what
            )
        }));
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

    /// The facts of a group; made if the stamp does not have it.
    fn group(&mut self, group: GroupId) -> &mut GroupFacts {
        let at = self.groups.iter().position(|known| known.group == group.0).unwrap_or_else(|| {
            let vhost = if group == GroupId::SYSTEM { "system".to_owned() } else { format!("group {group}") };
            self.groups.push(GroupFacts { group: group.0, vhost, ..GroupFacts::default() });
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }

    fn finish(&mut self, stamp: Option<&Stamp>) {
        let positions = self
            .groups
            .iter()
            .filter_map(|group| Some((group.vhost.clone(), group.log_position.or(group.stamp_position)?)));
        self.positions = positions.collect();
        if self.state.is_empty() {
            let state = match stamp.map(|stamp| stamp.state) {
                _ if !self.damage.is_empty() => "damaged",
                None | Some(StampState::Empty) => "empty",
                Some(StampState::Forming) => "forming",
                Some(StampState::Dirty) => "dirty",
                Some(StampState::Clean { .. } | StampState::Recovered { .. }) => "clean",
            };
            state.clone_into(&mut self.state);
        }
    }
}

fn log_position(found: &RecoveredGroup) -> Place {
    let term = found.terms.last().map_or(0, |(_, term)| term.0);
    Place { epoch: found.epoch.0, term, index: found.last.0 }
}

/// The process that holds the advisory lock, from the kernel's table: asking with a lock of one's own could keep out
/// a broker that starts at this moment.
fn lock_holder(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino();
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = fields.as_slice() else { return None };
        let (_, found) = place.rsplit_once(':')?;
        if found.parse() == Ok(inode) { pid.parse().ok() } else { None }
    })
}

fn bytes_below(dir: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
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
