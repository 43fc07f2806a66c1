//! SIGTERM: hand leaderships over, make everything durable, go.

use quorate_store::ids::RaftId;

use super::{Node, Phase, Then};
use crate::event::Level;
use crate::io::{Output, Tick};

/// How far an orderly stop has come.
#[derive(Debug)]
pub(crate) enum Stopping {
    /// Leaderships are handed over, until then at most.
    HandingOver { until: Tick },
    /// The last log batch is being written.
    Logging,
    /// The last checkpoint and stamp are being written.
    Stamping,
}

impl Node {
    pub(super) fn begin_stop(&mut self) {
        if self.stop.is_some() {
            return;
        }
        if !matches!(self.phase, Phase::Running) {
            // Held: nothing was begun, nothing is to be kept.
            self.exit(0, "stopped while held".into());
            return;
        }
        self.note(Level::Info, "stopping: handing leaderships over".into());
        self.phase = Phase::Stopping;
        let until = self.now.plus(self.config.timing.election_millis() * 2);
        self.stop = Some(Stopping::HandingOver { until });
        for id in self.group_ids() {
            self.with_group(id, |node, group| {
                if !group.is_leader() {
                    return;
                }
                let best = best_successor(node, group);
                if let (Some(to), Some(replica)) = (best, &mut group.replica) {
                    replica.transfer(to);
                }
            });
        }
    }

    /// Called once a round.
    pub(super) fn drive_stop(&mut self) {
        let Some(Stopping::HandingOver { until }) = &self.stop else { return };
        let leads =
            self.groups.values().any(|group| group.is_leader() && group.configuration.voters.len() > 1);
        if leads && self.now < *until {
            return;
        }
        self.stop = Some(Stopping::Logging);
        let mut records = Vec::new();
        for group in self.groups.values_mut() {
            if let Some(replica) = &mut group.replica {
                records.extend(replica.final_record());
            }
        }
        self.records.extend(records);
        // An empty batch is a covering sync all the same.
        let ticket = self.log_ticket();
        self.after(ticket, Then::StopLogged);
        let records = std::mem::take(&mut self.records);
        self.round_ticket = None;
        self.emit(Output::Persist { ticket, batch: quorate_store::record::Batch { records } });
    }

    pub(super) fn stop_logged(&mut self) {
        if !matches!(self.stop, Some(Stopping::Logging)) {
            return;
        }
        self.stop = Some(Stopping::Stamping);
        for id in self.group_ids() {
            self.with_group(id, |node, group| {
                if group.replica.is_some() && group.sink.is_none() && !group.checkpoint_running {
                    let batch = group.checkpoint();
                    let ticket = node.ticket();
                    node.emit(Output::WriteState { ticket, batch, flush: true, open_view: None });
                }
            });
        }
        if self.transient {
            self.stop_stamped();
            return;
        }
        let stamp = self.current_stamp();
        self.write_stamp(stamp, Then::StopStamped);
    }

    pub(super) fn stop_stamped(&mut self) {
        self.exit(0, "stopped as asked".into());
    }
}

/// The linked voter whose log is longest.
fn best_successor(node: &Node, group: &super::group::Group) -> Option<RaftId> {
    let replica = group.replica.as_ref()?;
    group
        .configuration
        .voters
        .iter()
        .map(|id| RaftId(*id))
        .filter(|id| *id != replica.id())
        .filter(|id| node.peers.store_of(*id).is_some_and(|store| node.peers.is_linked(store)))
        .max_by_key(|id| replica.matched(*id))
}
