//! From applied state to consumers.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{ConsumerClosed, NumberRange};
use quorate_store::ids::{GroupId, Index};
use quorate_store::record::Entry;
use quorate_store::state::{Family, Pair};

use super::config::limits;
use super::group::Group;
use super::origin::Origin;
use super::serving::{Outbound, PumpStop};
use super::{LoadFor, Node, ScanFor};
use crate::event::Level;
use crate::io::Output;
use crate::machine::{Command, QueueId, body_key};

impl Node {
    /// Queues changed: consumers of a deleted queue are told, and there may be something to deliver.
    pub(super) fn after_apply(&mut self, group: &mut Group) {
        let Some(machine) = group.machine.vhost_mut() else { return };
        let touched = machine.take_touched();
        if touched.is_empty() {
            return;
        }
        let Some(serving) = &mut group.serving else { return };
        for key in serving.delivery.touched(machine, &touched) {
            let text = "the queue was deleted".to_owned();
            let frame = ConsumerClosed { consumer: key.consumer, code: FaultCode::QueueDeleted, text };
            self.write(key.session, key.channel, frame);
        }
    }

    /// Decides, proves, answers and sends, as far as possible now.
    pub(super) fn serve(&mut self, group: &mut Group) {
        if !group.is_leader() {
            return;
        }
        Self::assign(group);
        let (Some(serving), Some(machine), Some(replica)) =
            (&mut group.serving, group.machine.vhost(), &mut group.replica)
        else {
            return;
        };
        let exposures = serving.delivery.take_expose_requests(machine);
        let mut frames = Vec::new();
        let stop = serving.pump(machine, |index| replica.cached(index), &mut frames);
        let reads = serving.take_proved_reads();
        let loading = serving.loading.is_some();
        for (queue, to) in exposures {
            group.propose(Command::Expose { queue, to }, Origin::Internal);
        }
        for outbound in frames {
            self.deliver(group, outbound);
        }
        for read in reads {
            self.answer_read(group, read);
        }
        match stop {
            PumpStop::Idle => {}
            PumpStop::NeedEntry(index) if !loading => {
                let ticket = self.ticket();
                self.loads.insert(ticket, LoadFor::Deliver(group.id));
                let to = group.applied.next();
                self.emit(Output::Load {
                    ticket,
                    group: group.id,
                    from: index,
                    to,
                    max_bytes: limits::CHUNK_BYTES,
                });
                if let Some(serving) = &mut group.serving {
                    serving.loading = Some(ticket);
                }
            }
            PumpStop::NeedSpilled(queue, seq) if !loading => {
                let ticket = self.ticket();
                self.scans.insert(ticket, ScanFor::Deliver(group.id, queue));
                let prefix = group.space.prefix();
                self.emit(Output::Scan {
                    ticket,
                    family: Family::Body,
                    from: body_key(prefix, queue, seq),
                    to: body_key(prefix, queue, u64::MAX),
                    max_bytes: limits::CHUNK_BYTES,
                    view: None,
                });
                if let Some(serving) = &mut group.serving {
                    serving.loading = Some(ticket);
                }
            }
            PumpStop::NeedEntry(_) | PumpStop::NeedSpilled(..) => {}
            PumpStop::Damaged(queue, seq) => {
                // Serving on would skip a message that was confirmed.
                let reason = format!(
                    "virtual host {}: message {seq} of queue {queue} is not where the state says it is",
                    group.vhost
                );
                self.note(Level::Error, reason.clone());
                self.exit(70, reason);
            }
        }
    }

    /// Decides what to deliver, and asks for the proof that this broker still leads.
    fn assign(group: &mut Group) {
        let (Some(serving), Some(machine)) = (&mut group.serving, group.machine.vhost()) else { return };
        let context = serving.assign(machine);
        if let (Some(context), Some(replica)) = (context, &mut group.replica) {
            replica.read_index(context);
            Self::round_asked(group, context);
        }
    }

    fn deliver(&mut self, group: &mut Group, outbound: Outbound) {
        let Outbound { consumer, frame, settled, .. } = outbound;
        self.counters.delivered += frame.messages.len() as u64;
        self.counters.redelivered +=
            frame.messages.iter().filter(|message| message.redelivered).count() as u64;
        self.write(consumer.session, consumer.channel, frame);
        let Some(serving) = &mut group.serving else { return };
        let full = |session: &super::session::Session| session.outbound > limits::OUTBOUND_BYTES;
        if self.sessions.get(&consumer.session).is_some_and(full) {
            serving.delivery.pause(consumer.session);
        }
        if !settled.is_empty()
            && let Ok(settlement) = serving.delivery.settle(consumer, &NumberRange::collect(settled))
            && !settlement.ranges.is_empty()
        {
            let (queue, ranges) = (settlement.queue, settlement.ranges);
            let origin = Origin::Settle { consumer, request: 0, queue, ranges: ranges.clone() };
            group.propose(Command::Ack { queue, ranges }, origin);
        }
    }

    pub(super) fn deliver_loaded(&mut self, id: GroupId, entries: Vec<Entry>) {
        let Some(serving) = self.groups.get_mut(id).and_then(|group| group.serving.as_mut()) else { return };
        serving.loading = None;
        serving
            .put_entries(entries.into_iter().map(|entry: Entry| -> (Index, _) { (entry.index, entry.data) }));
    }

    pub(super) fn deliver_scanned(&mut self, id: GroupId, _queue: QueueId, pairs: Vec<Pair>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let bodies: Vec<_> = Self::spilled_bodies(group, pairs).collect();
        if let Some(serving) = &mut group.serving {
            serving.loading = None;
            serving.put_spilled(bodies);
        }
    }
}
