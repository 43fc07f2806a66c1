//! Questions: lists, looks, passive declarations. Answered from the applied state, after a quorum has said that this
//! broker still leads.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    Binding, BindingList, ClientFrame, DeclareQueue, Done, ExchangeEntry, ExchangeList, Failed, PeekOk,
    PeekQueue, Peeked, QueueEntry, QueueList, QueueOk, ServerFrame,
};
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_store::record::Entry;
use quorate_store::state::{Family, Pair};

use super::body::Body;
use super::config::limits;
use super::group::Group;
use super::serving::Serving;
use super::session::Peek;
use super::{LoadFor, Node, ScanFor};
use crate::io::{Output, SessionId};
use crate::machine::{VhostMachine, body_key, parse_body_key};

/// A question about the present state: answered after a quorum has said that this broker still leads.
#[derive(Debug)]
pub(crate) struct Read {
    pub(super) session: SessionId,
    pub(super) channel: u16,
    pub(super) frame: ClientFrame,
}

impl Node {
    /// Answers a question whose read-index round a quorum has answered.
    pub(super) fn answer_read(&mut self, group: &mut Group, read: Read) {
        let Read { session, channel, frame } = read;
        let (Some(serving), Some(machine)) = (&group.serving, group.machine.vhost()) else { return };
        match frame {
            ClientFrame::DeclareQueue(declare) => {
                let frame = passive_queue(serving, machine, &declare);
                self.write(session, channel, frame);
            }
            ClientFrame::DeclareExchange(declare) => {
                let request = declare.request;
                if machine.exchange(declare.exchange.as_str()).is_some() {
                    self.write(session, channel, Done { request, affected: 0 });
                } else {
                    let text = format!("there is no exchange {}", declare.exchange);
                    self.write(session, channel, Failed { request, code: FaultCode::ExchangeNotFound, text });
                }
            }
            ClientFrame::ListQueues(list) => {
                let page = page(list.limit);
                let leader = self.config.name.clone();
                let mut entries: Vec<_> = machine
                    .queues_after(list.after.as_ref())
                    .take(page + 1)
                    .map(|queue| {
                        let counts = serving.delivery.counts(machine, queue.id());
                        QueueEntry {
                            queue: queue.name().clone(),
                            ready: counts.ready,
                            unacknowledged: counts.unacknowledged,
                            consumers: counts.consumers,
                            bytes: queue.bytes(),
                            leader: leader.clone(),
                        }
                    })
                    .collect();
                let more = cut(&mut entries, page);
                self.write(session, channel, QueueList { request: list.request, entries, more });
            }
            ClientFrame::ListExchanges(list) => {
                let page = page(list.limit);
                let mut entries: Vec<_> = machine
                    .exchanges_after(list.after.as_ref())
                    .take(page + 1)
                    .map(|view| ExchangeEntry {
                        exchange: view.name.clone(),
                        kind: view.kind,
                        bindings: view.bindings,
                    })
                    .collect();
                let more = cut(&mut entries, page);
                self.write(session, channel, ExchangeList { request: list.request, entries, more });
            }
            ClientFrame::ListBindings(list) => {
                let page = page(list.limit);
                let mut entries: Vec<Binding> = machine
                    .bindings_after(list.after.as_ref())
                    .filter(|binding| list.exchange.as_ref().is_none_or(|name| *name == binding.exchange))
                    .take(page + 1)
                    .cloned()
                    .collect();
                let more = cut(&mut entries, page);
                self.write(session, channel, BindingList { request: list.request, entries, more });
            }
            ClientFrame::PeekQueue(peek) => {
                match begin_peek(group, serving, machine, (session, channel), &peek) {
                    Ok(peek) => self.drive_peek(group, peek),
                    Err(failed) => self.write(session, channel, failed),
                }
            }
            _ => {}
        }
    }

    fn drive_peek(&mut self, group: &Group, mut peek: Peek) {
        while let Some((_, slot, _)) = peek.wanted.front().copied() {
            if peek.bytes >= limits::PEEK_BYTES {
                peek.more = true;
                break;
            }
            if slot.spilled {
                let (seq, ..) = peek.wanted[0];
                let key = body_key(group.space.prefix(), peek.queue, seq);
                let mut to = key.to_vec();
                to.push(0);
                let ticket = self.ticket();
                self.scans.insert(ticket, ScanFor::Peek(peek));
                self.emit(Output::Scan {
                    ticket,
                    family: Family::Body,
                    from: key,
                    to: to.into(),
                    max_bytes: limits::CHUNK_BYTES,
                    view: None,
                });
                return;
            }
            let Some(data) = group.replica.as_ref().and_then(|replica| replica.cached(slot.index)) else {
                let ticket = self.ticket();
                self.loads.insert(ticket, LoadFor::Peek(peek));
                let (from, to) = (slot.index, slot.index.next());
                self.emit(Output::Load { ticket, group: group.id, from, to, max_bytes: limits::CHUNK_BYTES });
                return;
            };
            peek_take(&mut peek, Body::cut(&data, &slot));
        }
        let (session, channel) = (peek.session, peek.channel);
        let frame = PeekOk { request: peek.request, messages: peek.found, more: peek.more };
        self.write(session, channel, frame);
    }

    pub(super) fn peek_loaded(&mut self, mut peek: Peek, entries: &[Entry]) {
        let Some((_, slot, _)) = peek.wanted.front().copied() else { return };
        let body = entries.first().filter(|entry| entry.index == slot.index);
        peek_take(&mut peek, body.and_then(|entry| Body::cut(&entry.data, &slot)));
        self.with_group(peek.group, |node, group| node.drive_peek(group, peek));
    }

    pub(super) fn peek_scanned(&mut self, mut peek: Peek, pairs: Vec<Pair>) {
        let body = pairs.into_iter().next().and_then(|(_, value)| Body::decode(value).ok());
        peek_take(&mut peek, body);
        self.with_group(peek.group, |node, group| node.drive_peek(group, peek));
    }

    /// Spilled bodies by their keys.
    pub(super) fn spilled_bodies(
        group: &Group,
        pairs: Vec<Pair>,
    ) -> impl Iterator<Item = ((crate::machine::QueueId, u64), Body)> {
        let prefix = group.space.prefix();
        pairs
            .into_iter()
            .filter_map(move |(key, value)| Some((parse_body_key(prefix, &key)?, Body::decode(value).ok()?)))
    }
}

/// Takes the first wanted message; one that died meanwhile is left out.
fn peek_take(peek: &mut Peek, body: Option<Body>) {
    let Some((seq, _, redelivered)) = peek.wanted.pop_front() else { return };
    let Some(body) = body else { return };
    let (Ok(exchange), Ok(key)) = (ExchangeName::new(&body.exchange), RoutingKey::new(&body.key)) else {
        return;
    };
    peek.bytes += body.message.len() + body.exchange.len() + body.key.len() + 32;
    peek.found.push(Peeked { seq, redelivered, exchange, key, message: body.message });
}

/// Whether a queue exists, and how it stands.
fn passive_queue(serving: &Serving, machine: &VhostMachine, declare: &DeclareQueue) -> ServerFrame {
    let request = declare.request;
    if let Some(queue) = machine.queue_named(declare.queue.as_str()) {
        let counts = serving.delivery.counts(machine, queue.id());
        return QueueOk { request, created: false, ready: counts.ready, consumers: counts.consumers }.into();
    }
    let text = format!("there is no queue {}", declare.queue);
    Failed { request, code: FaultCode::QueueNotFound, text }.into()
}

/// Which messages to look at.
fn begin_peek(
    group: &Group,
    serving: &Serving,
    machine: &VhostMachine,
    (session, channel): (SessionId, u16),
    peek: &PeekQueue,
) -> Result<Peek, Failed> {
    let request = peek.request;
    let Some(queue) = machine.queue_named(peek.queue.as_str()) else {
        let text = format!("there is no queue {}", peek.queue);
        return Err(Failed { request, code: FaultCode::QueueNotFound, text });
    };
    let page = page(peek.limit);
    let mut wanted: Vec<_> = queue
        .live_from(peek.from_seq)
        .take(page + 1)
        .map(|(seq, slot)| (seq, slot, serving.delivery.may_be_redelivered(queue.id(), seq)))
        .collect();
    let more = cut(&mut wanted, page);
    let (group, queue, wanted) = (group.id, queue.id(), wanted.into());
    Ok(Peek { group, session, channel, request, queue, wanted, found: Vec::new(), bytes: 0, more })
}

fn page(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => limits::PAGE,
        Ok(asked) => asked.min(limits::PAGE),
    }
}

fn cut<T>(entries: &mut Vec<T>, page: usize) -> bool {
    let more = entries.len() > page;
    entries.truncate(page);
    more
}
