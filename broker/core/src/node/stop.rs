//! SIGTERM: hand leaderships over, make everything durable, go.

use quorate_store::stamp::StampState;
use uuid::Uuid;

use super::{Node, Phase, Then};
use crate::event::Level;
use crate::io::{Output, Point, Tick};

/// How far an orderly stop has come.
#[derive(Debug)]
pub(crate) enum Stopping {
    /// Leaderships are handed over, until then at most.
    HandingOver { until: Tick },
    /// The last log batch is being written.
    Logging {
        /// The store becomes clean by this shutdown.
        clean: Option<Uuid>,
    },
    /// The last checkpoints are being written.
    Flushing {
        /// As before.
        clean: Option<Uuid>,
        /// Batches that are not durable yet.
        waiting: usize,
    },
    /// The last stamp is being written.
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
                let best = node.best_successor(group);
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
        self.stop = Some(Stopping::Logging { clean: None });
        self.log_the_end();
    }

    /// The last log batch, and a sync that covers everything.
    pub(super) fn log_the_end(&mut self) {
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
        self.must_sync = false;
        self.give_batch(ticket, records, Point::Synced);
    }

    pub(super) fn stop_logged(&mut self) {
        let Some(Stopping::Logging { clean }) = self.stop else { return };
        let mut waiting = 0;
        for id in self.group_ids() {
            self.with_group(id, |node, group| {
                if group.replica.is_some()
                    && node.may_checkpoint(group)
                    && group.sink.is_none()
                    && !group.checkpoint_running
                {
                    let batch = group.checkpoint();
                    let ticket = node.ticket();
                    node.after(ticket, Then::StopFlushed);
                    node.emit(Output::WriteState { ticket, batch, flush: true, open_view: None });
                    waiting += 1;
                }
            });
        }
        self.stop = Some(Stopping::Flushing { clean, waiting });
        if waiting == 0 {
            self.stop_with_stamp(clean);
        }
    }

    /// One of the last checkpoints is durable.
    pub(super) fn stop_flushed(&mut self) {
        let Some(Stopping::Flushing { clean, waiting }) = &mut self.stop else { return };
        *waiting = waiting.saturating_sub(1);
        if *waiting == 0 {
            let clean = *clean;
            self.stop_with_stamp(clean);
        }
    }

    /// Last of all.
    fn stop_with_stamp(&mut self, clean: Option<Uuid>) {
        self.stop = Some(Stopping::Stamping);
        if self.transient {
            self.stop_stamped();
            return;
        }
        let mut stamp = self.current_stamp();
        if let Some(shutdown) = clean {
            stamp.state = StampState::Clean { shutdown };
        }
        self.write_stamp(stamp, Then::StopStamped);
    }

    pub(super) fn stop_stamped(&mut self) {
        if self.frozen {
            self.closed();
        } else {
            self.exit(0, "stopped as asked".into());
        }
    }
}
