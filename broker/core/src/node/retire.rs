//! Letting go of the log: spill what is alive, checkpoint, compact.
//!
//! The log of a group may lose what is at or below both the applied index that the state store has *flushed* and the
//! entry before the lowest body that only the log has.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_store::ids::{GroupId, Index};
use quorate_store::record::Entry;

use super::body::Body;
use super::config::limits;
use super::group::Group;
use super::{LoadFor, Node, Phase, Then};
use crate::event::Event;
use crate::io::Output;
use crate::machine::{Candidate, VhostMachine};

/// Messages whose bodies are read for spilling at a time.
const SPILL_MESSAGES: usize = 4096;

impl Node {
    /// The oldest segment of the log is due.
    pub(super) fn segment_due(&mut self, up_to: Vec<(GroupId, Index)>) {
        for (id, index) in up_to {
            match self.groups.get_mut(id) {
                Some(group) => {
                    let wanted = group.retirement.wanted.map_or(index, |wanted| wanted.max(index));
                    group.retirement.wanted = Some(wanted);
                }
                // One that was deleted is in the store until its last step, and a start in between has to be able to read it.
                None if self.deleted.contains_key(&id) => {}
                // A group that is gone holds nothing back.
                None => self.emit(Output::Compact { group: id, index }),
            }
        }
    }

    /// The oldest segment of the log may go early.
    pub(super) fn segment_idle(&mut self, up_to: Vec<(GroupId, Index)>) {
        for (id, index) in up_to {
            if let Some(group) = self.groups.get_mut(id) {
                group.retirement.idle = group.retirement.idle.max(Some(index));
            }
        }
    }

    /// Called once a round.
    pub(super) fn retire_groups(&mut self, looked_at: &BTreeSet<GroupId>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        for id in looked_at {
            self.visit(*id, Self::retire_group);
        }
    }

    fn retire_group(&mut self, group: &mut Group) {
        if group.replica.is_none()
            || group.sink.is_some()
            || group.checkpoint_running
            || group.retirement.busy
        {
            return;
        }
        if let Some(idle) = group.retirement.idle.filter(|idle| *idle <= group.applied) {
            let alive = group.machine.vhost_mut().and_then(VhostMachine::lowest_unspilled);
            if alive.is_none_or(|lowest| lowest > idle) {
                group.retirement.idle = None;
                group.retirement.wanted = group.retirement.wanted.max(Some(idle));
            }
        }
        let due = group.bytes_since_checkpoint >= limits::CHECKPOINT_LOG_BYTES;
        let Some(wanted) = group.retirement.wanted else {
            if due {
                self.begin_checkpoint(group);
            }
            return;
        };
        // A transfer reads bodies from the log. What is handed over is to go with a checkpoint at once.
        if group.sources.current.is_some() || !self.may_checkpoint(group) {
            return;
        }
        let wanted = wanted.min(group.applied);
        let mut candidates = Vec::new();
        let mut searched = true;
        if let Some(machine) = group.machine.vhost_mut() {
            if machine.lowest_unspilled().is_some_and(|lowest| lowest <= wanted) {
                let (found, resume) =
                    machine.spill_candidates(wanted, group.retirement.resume, SPILL_MESSAGES);
                group.retirement.resume = resume;
                searched = resume.is_none();
                candidates = found;
            } else {
                group.retirement.resume = None;
            }
        }
        if !candidates.is_empty() {
            candidates.sort_by_key(|candidate| (candidate.slot.index, candidate.queue, candidate.seq));
            group.retirement.busy = true;
            self.spill(group, candidates);
        } else if searched {
            // Everything at or below is dead or handed over; the checkpoint makes that durable.
            self.begin_checkpoint(group);
        } else {
            // The search goes on in the next round.
            self.groups.touch(group.id);
            self.dirty = true;
        }
    }

    /// Hands over the bodies of these messages, reading the log where memory does not have them.
    fn spill(&mut self, group: &mut Group, candidates: Vec<Candidate>) {
        let mut rest = candidates.into_iter().peekable();
        while let Some(candidate) = rest.peek() {
            let index = candidate.slot.index;
            let Some(data) = group.replica.as_ref().and_then(|replica| replica.cached(index)) else {
                let rest: Vec<_> = rest.collect();
                let ticket = self.ticket();
                self.loads.insert(ticket, LoadFor::Spill(group.id, rest));
                let to = group.applied.next();
                self.emit(Output::Load {
                    ticket,
                    group: group.id,
                    from: index,
                    to,
                    max_bytes: limits::CHUNK_BYTES,
                });
                return;
            };
            let candidate = *candidate;
            rest.next();
            if self.hand_over(group, &candidate, &data).is_none() {
                return;
            }
        }
        // Bodies handed over wait in memory for the checkpoint that takes them out: one at a time.
        self.begin_checkpoint(group);
    }

    pub(super) fn spill_loaded(&mut self, id: GroupId, candidates: Vec<Candidate>, entries: &[Entry]) {
        self.with_group(id, |node, group| {
            let Some(first) = entries.first().map(|entry| entry.index) else {
                group.retirement.busy = false;
                return;
            };
            let mut bytes = 0;
            let mut rest = Vec::new();
            for candidate in candidates {
                let place =
                    candidate.slot.index.0.checked_sub(first.0).and_then(|place| usize::try_from(place).ok());
                let entry = place.and_then(|place| entries.get(place));
                match entry {
                    Some(entry) if bytes < limits::CHUNK_BYTES * 4 => {
                        let Some(length) = node.hand_over(group, &candidate, &entry.data) else { return };
                        bytes += length;
                    }
                    _ => rest.push(candidate),
                }
            }
            if rest.is_empty() || bytes >= limits::CHUNK_BYTES * 4 {
                // What is left over is found again by the next search.
                group.retirement.resume = None;
                node.begin_checkpoint(group);
            } else {
                node.spill(group, rest);
            }
        });
    }

    /// Gives the machine a body to keep in the state store; its length, or none if the process must end.
    fn hand_over(&mut self, group: &mut Group, candidate: &Candidate, data: &Bytes) -> Option<usize> {
        let machine = group.machine.vhost_mut()?;
        let Some(body) = Body::cut(data, &candidate.slot) else {
            // Letting the log go would lose a message that was confirmed.
            let (queue, seq) = (candidate.queue, candidate.seq);
            let vhost = &group.vhost;
            let reason = format!(
                "virtual host {vhost}: message {seq} of queue {queue} is not where the state says it is"
            );
            self.exit(70, reason);
            return None;
        };
        machine.mark_spilled(candidate.queue, candidate.seq, body.encode());
        Some(body.message.len())
    }

    /// Writes what changed, with the applied index in the same batch, and makes it durable.
    pub(super) fn begin_checkpoint(&mut self, group: &mut Group) {
        if group.checkpoint_running || group.sink.is_some() {
            // Should what is received not become the group's state, this begins anew.
            group.retirement.busy &= group.checkpoint_running;
            return;
        }
        // What RocksDB has of the state, the log has to have on the medium: a message's body is nowhere else. The round after
        // the sync comes here again.
        if !self.may_checkpoint(group) {
            group.retirement.busy = false;
            return;
        }
        group.checkpoint_running = true;
        let index = group.applied;
        let batch = group.checkpoint();
        let ticket = self.ticket();
        self.after(ticket, Then::Checkpointed(group.id, index));
        self.emit(Output::WriteState { ticket, batch, flush: true, open_view: None });
    }

    pub(super) fn checkpointed(&mut self, id: GroupId, index: Index) {
        self.event(Event::Checkpoint { group: id, applied: index });
        self.with_group(id, |node, group| {
            group.checkpoint_running = false;
            group.retirement.busy = false;
            group.checkpointed = group.checkpointed.max(index);
            let Some(wanted) = group.retirement.wanted else { return };
            let unspilled = group.machine.vhost_mut().and_then(VhostMachine::lowest_unspilled);
            let free = match unspilled {
                Some(lowest) => Index(lowest.0.saturating_sub(1)).min(group.checkpointed),
                None => group.checkpointed,
            };
            // While no node runs on it, what was found of the log stays as it is.
            if free >= wanted && group.sources.current.is_none() && group.replica.is_some() {
                group.retirement.wanted = None;
                if let Some(replica) = &mut group.replica {
                    replica.compact(wanted);
                }
                node.emit(Output::Compact { group: id, index: wanted });
            }
        });
    }
}
