//! What a leader needs to serve a virtual host: who consumes, what is decided but not sent, and the bodies for it.
//!
//! A delivery is decided from the applied state and sent only after a quorum has answered a read-index round that
//! began after the decision: a leader that was replaced meanwhile delivers nothing that was acknowledged elsewhere.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_protocol::frame::{Deliver, Delivery as DeliveredMessage};
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_store::ids::Index;

use super::body::{Body, cut_message, routed};
use super::config::limits;
use super::reads::Read;
use crate::delivery::{Assignment, ConsumerKey, Delivery};
use crate::io::{SessionId, Ticket};
use crate::machine::{QueueId, VhostMachine};

#[derive(Debug)]
struct Outgoing {
    assignment: Assignment,
    proof: u64,
}

/// What stops the pump.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PumpStop {
    /// Nothing decided is left, or its proof is missing.
    Idle,
    /// The entry at this index is needed from the log.
    NeedEntry(Index),
    /// The spilled body of this message is needed.
    NeedSpilled(QueueId, u64),
    /// A body is not where it must be: the replica's state is damaged.
    Damaged(QueueId, u64),
}

/// One frame to a consumer.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) consumer: ConsumerKey,
    pub(crate) frame: Deliver,
    pub(crate) bytes: u64,
    /// Messages that count as acknowledged by being sent.
    pub(crate) settled: Vec<u64>,
}

/// A leadership in service.
pub(crate) struct Serving {
    pub(crate) delivery: Delivery,
    outbox: VecDeque<Outgoing>,
    proof_asked: u64,
    proof_done: u64,
    /// Entries read back from the log for deliveries, while they are needed.
    entries: BTreeMap<Index, Bytes>,
    spilled: BTreeMap<(QueueId, u64), Body>,
    pub(crate) loading: Option<Ticket>,
    /// Questions of this round, and those whose round a quorum has not answered yet.
    pub(crate) reads: Vec<Read>,
    asked: VecDeque<(u64, Read)>,
}

impl Serving {
    pub(crate) fn new(machine: &VhostMachine) -> Self {
        Self {
            delivery: Delivery::new(machine),
            outbox: VecDeque::new(),
            proof_asked: 0,
            proof_done: 0,
            entries: BTreeMap::new(),
            spilled: BTreeMap::new(),
            loading: None,
            reads: Vec::new(),
            asked: VecDeque::new(),
        }
    }

    /// Decides deliveries; returns the context of the read-index round to ask for, if anything was decided or asked.
    pub(crate) fn assign(&mut self, machine: &VhostMachine) -> Option<u64> {
        let room = limits::OUTBOX_MESSAGES.saturating_sub(self.outbox.len()).min(limits::ROUND_MESSAGES);
        let assignments = match room {
            0 => Vec::new(),
            room => self.delivery.assign(machine, room, limits::ROUND_BYTES),
        };
        if assignments.is_empty() && self.reads.is_empty() {
            return None;
        }
        self.proof_asked += 1;
        let proof = self.proof_asked;
        self.outbox.extend(assignments.into_iter().map(|assignment| Outgoing { assignment, proof }));
        self.asked.extend(self.reads.drain(..).map(|read| (proof, read)));
        Some(proof)
    }

    /// Nothing waits to be sent or answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.reads.is_empty() && self.asked.is_empty() && self.loading.is_none()
    }

    /// Questions that may be answered now.
    pub(crate) fn take_proved_reads(&mut self) -> Vec<Read> {
        let count = self.asked.partition_point(|(proof, _)| *proof <= self.proof_done);
        self.asked.drain(..count).map(|(_, read)| read).collect()
    }

    /// A quorum answered the round of this context, and so every earlier one.
    pub(crate) fn proved(&mut self, context: u64) {
        self.proof_done = self.proof_done.max(context);
    }

    pub(crate) fn put_entries(&mut self, entries: impl IntoIterator<Item = (Index, Bytes)>) {
        self.entries.extend(entries);
    }

    pub(crate) fn put_spilled(&mut self, bodies: impl IntoIterator<Item = ((QueueId, u64), Body)>) {
        self.spilled.extend(bodies);
    }

    /// Turns what is proved into frames, in order, until something is missing.
    pub(crate) fn pump(
        &mut self,
        machine: &VhostMachine,
        cached: impl Fn(Index) -> Option<Bytes>,
        out: &mut Vec<Outbound>,
    ) -> PumpStop {
        let mut open: Option<(Index, u32)> = None;
        // Entries read back stay until the outbox is empty; nothing below the one in use is needed again.
        let mut entry: Option<(Index, Bytes)> = None;
        while let Some(front) = self.outbox.front() {
            if front.proof > self.proof_done {
                return PumpStop::Idle;
            }
            let Assignment { consumer, queue, seq, redelivered, no_ack, .. } = front.assignment;
            // The consumer may have gone, and the message with it to another one; or it was deleted.
            let Some(now) =
                machine.message_at(queue, seq).filter(|_| self.delivery.stands(&front.assignment))
            else {
                self.outbox.pop_front();
                continue;
            };
            // Between decision and now the body may have moved from the log to the state store.
            let slot = now;
            let message;
            let mut routing = None;
            if slot.spilled {
                let Some(body) = self.spilled.remove(&(queue, seq)) else {
                    return PumpStop::NeedSpilled(queue, seq);
                };
                routing = Some((body.exchange, body.key));
                message = body.message;
                open = None;
            } else {
                if entry.as_ref().is_none_or(|(index, _)| *index != slot.index) {
                    let data = cached(slot.index).or_else(|| self.entries.get(&slot.index).cloned());
                    let Some(data) = data else { return PumpStop::NeedEntry(slot.index) };
                    entry = Some((slot.index, data));
                    // Entries read back are needed in ascending order, mostly once.
                    if self.entries.len() > 1 {
                        self.entries = self.entries.split_off(&slot.index);
                    }
                }
                let Some((_, data)) = &entry else { return PumpStop::NeedEntry(slot.index) };
                let Some(cut) = cut_message(data, &slot) else { return PumpStop::Damaged(queue, seq) };
                message = cut;
                let batch = (slot.index, slot.batch_offset);
                let continues = open == Some(batch)
                    && out.last().is_some_and(|last: &Outbound| {
                        last.consumer == consumer && last.bytes < limits::CHUNK_BYTES as u64 / 2
                    });
                if !continues {
                    let Some((exchange, key)) = routed(data, &slot) else {
                        return PumpStop::Damaged(queue, seq);
                    };
                    routing = Some((exchange.to_owned(), key.to_owned()));
                    open = Some(batch);
                }
            }
            self.outbox.pop_front();
            if let Some((exchange, key)) = routing {
                let (Ok(exchange), Ok(key)) = (ExchangeName::new(&exchange), RoutingKey::new(&key)) else {
                    return PumpStop::Damaged(queue, seq);
                };
                let frame = Deliver { consumer: consumer.consumer, exchange, key, messages: Vec::new() };
                out.push(Outbound { consumer, frame, bytes: 64, settled: Vec::new() });
            }
            let last = out.last_mut().expect("a frame was opened above");
            last.bytes += message.len() as u64 + 13;
            if no_ack {
                last.settled.push(seq);
            }
            last.frame.messages.push(DeliveredMessage { seq, redelivered, message });
        }
        self.entries.clear();
        PumpStop::Idle
    }

    pub(crate) fn detach_session(
        &mut self,
        session: SessionId,
    ) -> Vec<(ConsumerKey, crate::delivery::Settlement)> {
        self.delivery.detach_session(session)
    }
}
