//! What a logged-in client asks for.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    Ack, CancelOk, ClientFrame, Consume, ConsumeOk, DeclareExchange, DeclareQueue, DeleteQueue, Failed,
    Frame as _, Nack, NumberRange, PublishRefused, Settled,
};
use quorate_protocol::publish::PublishBody;

use super::Node;
use super::group::Group;
use super::origin::Origin;
use super::reads::Read;
use crate::delivery::{ConsumerKey, ConsumerOptions};
use crate::io::{Output, SessionId};
use crate::machine::{Command, QueueDefinition};

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
            ClientFrame::Commit(commit) => self.commit(group, session, channel, commit, cost),
            ClientFrame::Resolve(resolve) => self.resolve(group, session, channel, resolve),
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
        let code = if self.closing.is_some() {
            known.expect_again(channel, producer, numbers.first());
            FaultCode::ShuttingDown
        } else if self.space_low {
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

    fn settle(
        &mut self,
        group: &mut Group,
        key: ConsumerKey,
        request: u32,
        ranges: &[NumberRange],
        ack: bool,
    ) {
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
}

fn propose_request(group: &mut Group, session: SessionId, channel: u16, request: u32, command: Command) {
    group.propose(command, Origin::Request { session, channel, request });
}
