//! What a logged-in client asks for.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    Ack, Binding, BindingList, CancelOk, ClientFrame, Consume, ConsumeOk, DeclareExchange, DeclareQueue, DeleteQueue,
    Done, ExchangeEntry, ExchangeList, Failed, Frame as _, Nack, NumberRange, PeekOk, Peeked, PublishRefused,
    QueueEntry, QueueList, QueueOk, Settled,
};
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::PublishBody;
use quorate_store::state::{Family, Pair};

use super::body::Body;
use super::config::limits;
use super::group::Group;
use super::origin::Origin;
use super::session::Peek;
use super::{LoadFor, Node, ScanFor};
use crate::delivery::{ConsumerKey, ConsumerOptions};
use crate::io::{Output, SessionId};
use crate::machine::{Command, QueueDefinition, body_key, parse_body_key};

/// A question about the present state: answered after a quorum has said that this broker still leads.
#[derive(Debug)]
pub(crate) struct Read {
    session: SessionId,
    channel: u16,
    frame: ClientFrame,
}

impl Node {
    pub(super) fn request(
        &mut self,
        group: &mut Group,
        session: SessionId,
        channel: u16,
        frame: ClientFrame,
        cost: u32,
    ) {
        match frame {
            ClientFrame::Publish(body) => self.publish(group, session, channel, body, cost),
            ClientFrame::DeclareQueue(declare) if !declare.passive => {
                self.declare_queue(group, session, channel, declare);
            }
            ClientFrame::DeclareExchange(declare) if !declare.passive => {
                let DeclareExchange { request, exchange: name, kind, .. } = declare;
                let command = Command::DeclareExchange { name, kind };
                propose_request(group, session, channel, request, command);
            }
            ClientFrame::DeleteQueue(delete) => self.delete_queue(group, session, channel, delete),
            ClientFrame::PurgeQueue(purge) => {
                // What consumers hold is theirs; only ready messages go.
                let except = match (&group.serving, group.machine.vhost()) {
                    (Some(serving), Some(machine)) => machine
                        .queue_named(purge.queue.as_str())
                        .map(|queue| serving.delivery.unacknowledged(queue.id()))
                        .unwrap_or_default(),
                    _ => Vec::new(),
                };
                let command = Command::PurgeQueue { name: purge.queue, except };
                propose_request(group, session, channel, purge.request, command);
            }
            ClientFrame::DeleteExchange(delete) => {
                let command = Command::DeleteExchange { name: delete.exchange, if_unused: delete.if_unused };
                propose_request(group, session, channel, delete.request, command);
            }
            ClientFrame::Bind(bind) => {
                propose_request(group, session, channel, bind.request, Command::Bind(bind.binding));
            }
            ClientFrame::Unbind(unbind) => {
                propose_request(group, session, channel, unbind.request, Command::Unbind(unbind.binding));
            }
            ClientFrame::Consume(consume) => self.consume(group, session, channel, &consume),
            ClientFrame::Credit(credit) => {
                let key = ConsumerKey { session, channel, consumer: credit.consumer };
                let result = match &mut group.serving {
                    Some(serving) => serving.delivery.add_credit(key, credit.add),
                    None => Ok(()),
                };
                if let Err(error) = result
                    && error.fault() != FaultCode::ConsumerNotFound
                {
                    self.close_session(session, error.fault(), error.to_string(), String::new());
                }
            }
            ClientFrame::Cancel(cancel) => {
                let key = ConsumerKey { session, channel, consumer: cancel.consumer };
                let settlement = group.serving.as_mut().and_then(|serving| serving.delivery.detach(key));
                if let Some(settlement) = settlement
                    && !settlement.ranges.is_empty()
                {
                    let command = Command::Returned { queue: settlement.queue, ranges: settlement.ranges };
                    group.propose(command, Origin::Internal);
                }
                self.write(session, channel, CancelOk { request: cancel.request });
            }
            ClientFrame::Ack(Ack { request, consumer, ranges }) => {
                let key = ConsumerKey { session, channel, consumer };
                self.settle(group, key, request, &ranges, true);
            }
            ClientFrame::Nack(Nack { request, consumer, requeue, ranges }) => {
                let key = ConsumerKey { session, channel, consumer };
                if requeue {
                    self.requeue(group, key, request, &ranges);
                } else {
                    self.settle(group, key, request, &ranges, false);
                }
            }
            frame @ (ClientFrame::DeclareQueue(_)
            | ClientFrame::DeclareExchange(_)
            | ClientFrame::ListQueues(_)
            | ClientFrame::ListExchanges(_)
            | ClientFrame::ListBindings(_)
            | ClientFrame::PeekQueue(_)) => {
                if let Some(serving) = &mut group.serving {
                    serving.reads.push(Read { session, channel, frame });
                }
            }
            frame @ (ClientFrame::Hello(_) | ClientFrame::Login(_)) => {
                let text = format!("{} is not expected after the login", frame.kind_name());
                self.close_session(session, FaultCode::UnexpectedFrame, text, String::new());
            }
            ClientFrame::Heartbeat(_) | ClientFrame::Close(_) => {}
        }
    }

    fn publish(&mut self, group: &mut Group, session: SessionId, channel: u16, body: PublishBody, cost: u32) {
        let numbers = body.numbers();
        let producer = body.producer();
        if body.largest_body() > self.config.message_limit {
            self.emit(Output::Release { session, cost });
            let text = format!(
                "a message has {} bytes, the limit is {}",
                body.largest_body(),
                self.config.message_limit
            );
            // Ending the session keeps a gap in the numbers from being taken for something stored.
            self.close_session(session, FaultCode::MessageTooLarge, text, String::new());
            return;
        }
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let code = if self.space_low {
            known.expect_again(channel, producer, numbers.first());
            FaultCode::DiskLow
        } else if known.follows(channel, producer, numbers.first(), numbers.last()) {
            let origin = Origin::Publish { session, channel, numbers, cost };
            group.propose(Command::Publish(body.into_bytes()), origin);
            return;
        } else {
            FaultCode::OutOfOrder
        };
        self.emit(Output::Release { session, cost });
        let text = code.text().to_owned();
        let frame = PublishRefused { producer, range: numbers, code, retryable: true, text };
        self.write(session, channel, frame);
    }

    fn declare_queue(&mut self, group: &mut Group, session: SessionId, channel: u16, declare: DeclareQueue) {
        if let Some(argument) = declare.arguments.first() {
            let text = format!("queue {}: argument {:?} is not known", declare.queue, argument.name);
            let frame = Failed { request: declare.request, code: FaultCode::UnknownArgument, text };
            self.write(session, channel, frame);
            return;
        }
        let definition = QueueDefinition { max_length: declare.max_length, ..QueueDefinition::default() };
        let command = Command::DeclareQueue { name: declare.queue, definition };
        propose_request(group, session, channel, declare.request, command);
    }

    fn delete_queue(&mut self, group: &mut Group, session: SessionId, channel: u16, delete: DeleteQueue) {
        if delete.if_unused
            && let (Some(serving), Some(machine)) = (&group.serving, group.machine.vhost())
            && let Some(queue) = machine.queue_named(delete.queue.as_str())
        {
            let consumers = serving.delivery.counts(machine, queue.id()).consumers;
            if consumers > 0 {
                let text = format!("queue {} has {consumers} consumers", delete.queue);
                let frame = Failed { request: delete.request, code: FaultCode::QueueInUse, text };
                self.write(session, channel, frame);
                return;
            }
        }
        let command = Command::DeleteQueue { name: delete.queue, if_empty: delete.if_empty };
        propose_request(group, session, channel, delete.request, command);
    }

    fn consume(&mut self, group: &mut Group, session: SessionId, channel: u16, consume: &Consume) {
        let (Some(serving), Some(machine)) = (&mut group.serving, group.machine.vhost()) else { return };
        let key = ConsumerKey { session, channel, consumer: consume.consumer };
        let options =
            ConsumerOptions { credit: consume.credit, no_ack: consume.no_ack, exclusive: consume.exclusive };
        let result = match machine.queue_named(consume.queue.as_str()) {
            None => Err((FaultCode::QueueNotFound, format!("there is no queue {}", consume.queue))),
            Some(queue) => serving
                .delivery
                .attach(machine, key, queue.id(), options)
                .map_err(|error| (error.fault(), error.to_string())),
        };
        let request = consume.request;
        match result {
            Ok(()) => self.write(session, channel, ConsumeOk { request }),
            Err((code, text)) => self.write(session, channel, Failed { request, code, text }),
        }
    }

    fn settle(&mut self, group: &mut Group, key: ConsumerKey, request: u32, ranges: &[NumberRange], ack: bool) {
        let Some(serving) = &mut group.serving else { return };
        match serving.delivery.settle(key, ranges) {
            Ok(settlement) if settlement.ranges.is_empty() => self.settled_nothing(key, request),
            Ok(settlement) => {
                let (queue, ranges) = (settlement.queue, settlement.ranges);
                let origin = Origin::Settle { consumer: key, request, queue, ranges: ranges.clone() };
                let command =
                    if ack { Command::Ack { queue, ranges } } else { Command::Drop { queue, ranges } };
                group.propose(command, origin);
            }
            Err(error) => self.request_failed(key, request, error.fault(), error.to_string()),
        }
    }

    fn requeue(&mut self, group: &mut Group, key: ConsumerKey, request: u32, ranges: &[NumberRange]) {
        let Some(serving) = &mut group.serving else { return };
        match serving.delivery.requeue(key, ranges) {
            Ok(settlement) if settlement.ranges.is_empty() => self.settled_nothing(key, request),
            Ok(settlement) => {
                let origin =
                    Origin::Settle { consumer: key, request, queue: settlement.queue, ranges: Vec::new() };
                let command = Command::Returned { queue: settlement.queue, ranges: settlement.ranges };
                group.propose(command, origin);
            }
            Err(error) => self.request_failed(key, request, error.fault(), error.to_string()),
        }
    }

    fn settled_nothing(&mut self, key: ConsumerKey, request: u32) {
        if request != 0 {
            self.write(key.session, key.channel, Settled { request, settled: 0 });
        }
    }

    fn request_failed(&mut self, key: ConsumerKey, request: u32, code: FaultCode, text: String) {
        if request != 0 {
            self.write(key.session, key.channel, Failed { request, code, text });
        }
    }

    /// Answers a question whose read-index round a quorum has answered.
    pub(super) fn answer_read(&mut self, group: &mut Group, read: Read) {
        let Read { session, channel, frame } = read;
        let (Some(serving), Some(machine)) = (&group.serving, group.machine.vhost()) else { return };
        match frame {
            ClientFrame::DeclareQueue(declare) => {
                let request = declare.request;
                match machine.queue_named(declare.queue.as_str()) {
                    Some(queue) => {
                        let counts = serving.delivery.counts(machine, queue.id());
                        let (ready, consumers) = (counts.ready, counts.consumers);
                        self.write(session, channel, QueueOk { request, created: false, ready, consumers });
                    }
                    None => {
                        let text = format!("there is no queue {}", declare.queue);
                        self.write(session, channel, Failed { request, code: FaultCode::QueueNotFound, text });
                    }
                }
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
                let request = peek.request;
                let Some(queue) = machine.queue_named(peek.queue.as_str()) else {
                    let text = format!("there is no queue {}", peek.queue);
                    self.write(session, channel, Failed { request, code: FaultCode::QueueNotFound, text });
                    return;
                };
                let page = page(peek.limit);
                let mut wanted: Vec<_> = queue
                    .live_from(peek.from_seq)
                    .take(page + 1)
                    .map(|(seq, slot)| (seq, slot, serving.delivery.may_be_redelivered(queue.id(), seq)))
                    .collect();
                let more = cut(&mut wanted, page);
                let peek = Peek {
                    group: group.id,
                    session,
                    channel,
                    request,
                    queue: queue.id(),
                    wanted: wanted.into(),
                    found: Vec::new(),
                    bytes: 0,
                    more,
                };
                self.drive_peek(group, peek);
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

    pub(super) fn peek_loaded(&mut self, mut peek: Peek, entries: Vec<quorate_store::record::Entry>) {
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
        pairs.into_iter().filter_map(move |(key, value)| {
            Some((parse_body_key(prefix, &key)?, Body::decode(value).ok()?))
        })
    }
}

/// Takes the first wanted message; one that died meanwhile is left out.
fn peek_take(peek: &mut Peek, body: Option<Body>) {
    let Some((seq, _, redelivered)) = peek.wanted.pop_front() else { return };
    let Some(body) = body else { return };
    let (Ok(exchange), Ok(key)) = (ExchangeName::new(&body.exchange), RoutingKey::new(&body.key)) else { return };
    peek.bytes += body.message.len() + body.exchange.len() + body.key.len() + 32;
    peek.found.push(Peeked { seq, redelivered, exchange, key, message: body.message });
}

fn propose_request(group: &mut Group, session: SessionId, channel: u16, request: u32, command: Command) {
    let declared = match &command {
        Command::DeclareQueue { name, .. } => Some(name.as_str().to_owned()),
        _ => None,
    };
    group.propose(command, Origin::Request { session, channel, request, declared });
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
