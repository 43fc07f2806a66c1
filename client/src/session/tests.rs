//! The session against a broker that is nothing but its frames.

mod transactions;

use bytes::{Bytes, BytesMut};
use quorate_protocol::codec::BrokerDecoder;
use quorate_protocol::frame::{
    Bind, Binding, Blocked, CancelOk, Confirm, ConsumeOk, DeclareExchange, DeclareQueue, Deliver, Delivery,
    Done, Durability, ExchangeKind, Failed, NumberRange, PublishRefused, PurgeQueue, QueueOk, Settled,
    Unblocked,
};
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_protocol::version::CLIENT_VERSIONS;

use super::*;
use crate::consume::{Mailbox, Verdict};
use crate::message::Message;
use crate::publish::{NotAccepted, Window};

const HEARTBEAT: Duration = Duration::from_millis(500);

struct World {
    session: Session<u32>,
    decoder: BrokerDecoder,
    buffer: BytesMut,
    now: Instant,
    version: u16,
    numbers: Arc<Numbers>,
}

impl World {
    fn new() -> Self {
        Self {
            session: Session::new(Duration::from_secs(30)),
            decoder: BrokerDecoder::new(Limits::default()),
            buffer: BytesMut::new(),
            now: Instant::now(),
            version: CLIENT_VERSIONS.max(),
            numbers: Arc::default(),
        }
    }

    fn connect(&mut self) {
        self.decoder = BrokerDecoder::new(Limits::default());
        self.decoder.logged_in();
        self.buffer.clear();
        let established = Established {
            address: "h1".parse().unwrap(),
            leader: "b1".to_owned(),
            version: self.version,
            limits: Limits::default(),
            heartbeat: Some(HEARTBEAT),
            watch: true,
        };
        self.session.connected(established, self.now);
    }

    fn up() -> Self {
        let mut world = Self::new();
        world.connect();
        world
    }

    fn disconnect(&mut self) {
        self.session.disconnected(Error::protocol("cut"), self.now);
    }

    /// What the client says now.
    fn says(&mut self) -> Vec<ClientFrame> {
        self.session.gather(self.now);
        for piece in self.session.out().take() {
            self.buffer.extend_from_slice(&piece);
        }
        let mut frames = Vec::new();
        while let Some((channel, frame)) = self.decoder.decode(&mut self.buffer).unwrap() {
            assert_eq!(channel, 0);
            frames.push(frame);
        }
        frames
    }

    fn says_one(&mut self) -> ClientFrame {
        let mut frames = self.says();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    fn hears(&mut self, frame: impl Into<ServerFrame>) {
        self.session.handle(frame.into(), self.now).unwrap();
    }

    fn rejects(&mut self, frame: impl Into<ServerFrame>) -> Error {
        self.session.handle(frame.into(), self.now).unwrap_err().error
    }

    fn answers(&mut self) -> Vec<(u32, Result<ServerFrame, Error>)> {
        let mut answers = Vec::new();
        while let Some(output) = self.session.poll_output() {
            if let Output::Answer(reply, result) = output {
                answers.push((reply, result));
            }
        }
        answers
    }

    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(output) = self.session.poll_output() {
            if let Output::Event(event) = output {
                events.push(format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned());
            }
        }
        events
    }

    fn publisher(&mut self) -> Arc<Mutex<Outbox>> {
        let window =
            Window { messages: 100, bytes: 1 << 20, batch_bytes: 1 << 10, linger: Duration::from_millis(1) };
        let producer = ProducerId(1 + self.session.publishers.len() as u128);
        let outbox = Arc::new(Mutex::new(Outbox::new(producer, window, Limits::default())));
        self.session.notice(Notice::NewPublisher(Arc::clone(&outbox)), self.now);
        outbox
    }

    fn publish(&mut self, outbox: &Arc<Mutex<Outbox>>, key: &str) {
        let mut locked = lock_outbox(outbox);
        let speaker = Speaker::Publisher(locked.producer());
        match locked.push("", key, &Message::from("x")) {
            Ok(accepted) if accepted.announce => self.session.notice(Notice::Speaker(speaker), self.now),
            Ok(_) => {}
            Err(NotAccepted::Full) => panic!("full"),
            Err(NotAccepted::Error(error)) => panic!("{error}"),
        }
    }

    fn consumer(&mut self, reply: u32, credit: u32) -> Arc<Mutex<Mailbox>> {
        let mailbox = Arc::new(Mutex::new(Mailbox::new(credit, false, None, Duration::from_millis(1))));
        let wanted = Wanted { queue: queue("q"), no_ack: false, exclusive: false };
        self.session.consume(wanted, Arc::clone(&mailbox), reply, self.now);
        mailbox
    }

    fn settle(
        &mut self,
        mailbox: &Arc<Mutex<Mailbox>>,
        generation: u64,
        seq: u64,
    ) -> Arc<crate::outcome::Outcome<()>> {
        let mut locked = lock_mailbox(mailbox);
        let (outcome, announce) = locked.settle(generation, seq, Verdict::Ack).unwrap();
        if announce {
            self.session.notice(Notice::Speaker(Speaker::Consumer(locked.number())), self.now);
        }
        outcome
    }
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn declare(name: &str) -> DeclareQueue {
    DeclareQueue { request: 0, queue: queue(name), passive: false, max_length: 0, arguments: Vec::new() }
}

fn queue_ok(request: u32) -> QueueOk {
    QueueOk { request, created: true, ready: 0, consumers: 0 }
}

fn failed(request: u32, code: FaultCode) -> Failed {
    Failed { request, code, text: String::new() }
}

fn confirm(first: u64, last: u64) -> Confirm {
    Confirm {
        producer: ProducerId(1),
        ranges: vec![NumberRange::new(first, last).unwrap()],
        group: 1,
        epoch: 1,
        term: 1,
        index: 1,
        durability: Durability::default(),
        under_override: false,
        duplicate: false,
    }
}

fn deliver(consumer: u32, seqs: &[u64]) -> Deliver {
    let messages = seqs
        .iter()
        .map(|seq| Delivery { seq: *seq, redelivered: false, message: Bytes::from_static(b"\0\0body") })
        .collect();
    Deliver { consumer, exchange: ExchangeName::default(), key: RoutingKey::default(), messages }
}

fn numbers(frames: &[ClientFrame]) -> Vec<(u64, u64)> {
    frames
        .iter()
        .map(|frame| match frame {
            ClientFrame::Publish(body) => (body.first(), body.last()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_request_is_answered_to_whoever_asked() {
    let mut world = World::up();
    world.session.request(declare("a").into(), 10, world.now);
    world.session.request(declare("b").into(), 11, world.now);
    let frames = world.says();
    let requests: Vec<u32> = frames
        .iter()
        .map(|frame| match frame {
            ClientFrame::DeclareQueue(declare) => declare.request,
            other => panic!("{other:?}"),
        })
        .collect();
    world.hears(failed(requests[1], FaultCode::DeclarationDiffers));
    world.hears(queue_ok(requests[0]));
    let answers = world.answers();
    assert_eq!(answers[0].0, 11);
    assert_eq!(answers[0].1.as_ref().unwrap_err().code(), Some(FaultCode::DeclarationDiffers));
    assert!(matches!(answers[1], (10, Ok(ServerFrame::QueueOk(_)))));
    assert!(world.session.is_idle());
}

#[test]
fn requests_without_a_connection_wait_for_one_and_not_for_ever() {
    let mut world = World::new();
    world.session.request(declare("a").into(), 1, world.now);
    assert!(world.says().is_empty());
    world.now += Duration::from_secs(29);
    world.session.request(declare("b").into(), 2, world.now);
    world.now += Duration::from_secs(1);
    assert!(world.session.next_deadline().is_some_and(|at| at <= world.now));
    world.session.tick(world.now).unwrap();
    assert!(matches!(world.answers()[..], [(1, Err(Error::TimedOut(_)))]));
    world.connect();
    assert!(matches!(world.says_one(), ClientFrame::DeclareQueue(declare) if declare.queue == queue("b")));
}

#[test]
fn a_request_cut_off_is_asked_again_only_if_that_is_harmless() {
    let mut world = World::up();
    world.session.request(declare("a").into(), 1, world.now);
    world.session.request(PurgeQueue { request: 0, queue: queue("a") }.into(), 2, world.now);
    assert_eq!(world.says().len(), 2);
    world.disconnect();
    let answers = world.answers();
    assert!(matches!(&answers[..], [(2, Err(error))] if error.is_outcome_unknown()), "{answers:?}");
    world.connect();
    assert!(matches!(world.says_one(), ClientFrame::DeclareQueue(_)));
}

#[test]
fn a_passing_refusal_of_a_request_is_not_the_callers_business() {
    let mut world = World::up();
    world.session.request(declare("a").into(), 1, world.now);
    assert!(matches!(world.says_one(), ClientFrame::DeclareQueue(_)));
    world.hears(failed(1, FaultCode::NotReady));
    assert!(world.says().is_empty());
    world.now = world.session.next_deadline().unwrap();
    world.session.tick(world.now).unwrap();
    let ClientFrame::DeclareQueue(again) = world.says_one() else { panic!("the same request") };
    world.hears(failed(again.request, FaultCode::QueueInUse));
    assert_eq!(world.answers().len(), 1);
}

#[test]
fn what_was_declared_is_restored_before_anything_else_is_said() {
    let mut world = World::up();
    let binding = Binding {
        exchange: ExchangeName::new("x").unwrap(),
        queue: queue("a"),
        key: RoutingKey::new("k").unwrap(),
    };
    let exchange = ExchangeName::new("x").unwrap();
    let declare_exchange =
        DeclareExchange { request: 0, exchange, kind: ExchangeKind::Fanout, passive: false };
    let passive = DeclareQueue { passive: true, ..declare("p") };
    world.session.request(declare("a").into(), 1, world.now);
    world.session.request(declare_exchange.into(), 2, world.now);
    world.session.request(Bind { request: 0, binding }.into(), 3, world.now);
    world.session.request(passive.into(), 4, world.now);
    assert_eq!(world.says().len(), 4);
    world.hears(queue_ok(1));
    world.hears(Done { request: 2, affected: 1 });
    world.hears(Done { request: 3, affected: 1 });
    world.hears(queue_ok(4));
    let outbox = world.publisher();
    world.publish(&outbox, "a");
    assert_eq!(numbers(&world.says()), [(1, 1)]);
    let mailbox = world.consumer(5, 10);
    assert!(matches!(world.says_one(), ClientFrame::Consume(_)));
    world.hears(ConsumeOk { request: 5 });

    world.disconnect();
    world.connect();
    let frames = world.says();
    assert!(
        matches!(&frames[..], [ClientFrame::DeclareExchange(x), ClientFrame::DeclareQueue(q)] if (x.request, q.request) == (6, 7)),
        "{frames:?}"
    );
    world.hears(Done { request: 6, affected: 0 });
    assert!(world.says().is_empty(), "a binding needs both its ends");
    world.hears(failed(7, FaultCode::NotReady));
    assert!(world.says().is_empty());
    world.now = world.session.next_deadline().unwrap();
    world.session.tick(world.now).unwrap();
    assert!(matches!(world.says_one(), ClientFrame::DeclareQueue(_)), "refused for a moment");
    world.hears(queue_ok(8));
    assert!(matches!(world.says_one(), ClientFrame::Bind(_)));
    world.events();
    world.hears(failed(9, FaultCode::LimitReached));
    assert_eq!(world.events(), ["NotRestored"]);
    let frames = world.says();
    assert!(matches!(&frames[..], [ClientFrame::Consume(_), ClientFrame::Publish(_)]), "{frames:?}");
    assert_eq!(lock_mailbox(&mailbox).generation().load(Ordering::Relaxed), 1);
}

#[test]
fn publishers_resend_after_a_reconnect_and_take_turns() {
    let mut world = World::up();
    let first = world.publisher();
    let second = world.publisher();
    for key in ["a", "b", "c"] {
        world.publish(&first, key);
    }
    world.publish(&second, "z");
    let frames = world.says();
    let producers: Vec<u128> = frames
        .iter()
        .map(|frame| match frame {
            ClientFrame::Publish(body) => body.producer().0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(producers, [1, 2, 1]);
    world.hears(confirm(1, 1));
    assert_eq!(numbers(&world.says()), [(3, 3)]);
    world.disconnect();
    world.publish(&first, "d");
    assert!(world.says().is_empty());
    world.connect();
    let mut frames = world.says();
    world.now = world.session.next_deadline().unwrap();
    world.session.tick(world.now).unwrap();
    frames.extend(world.says());
    let of_first: Vec<(u64, u64)> = frames
        .iter()
        .filter_map(|frame| match frame {
            ClientFrame::Publish(body) if body.producer().0 == 1 => Some((body.first(), body.last())),
            _ => None,
        })
        .collect();
    assert_eq!(of_first, [(2, 2), (3, 3), (4, 4)]);
}

#[test]
fn a_blocked_broker_is_sent_nothing_until_it_says_so() {
    let mut world = World::up();
    let outbox = world.publisher();
    world.events();
    world.hears(Blocked { code: FaultCode::DiskLow, text: String::new() });
    world.publish(&outbox, "a");
    world.session.tick(world.now + Duration::from_millis(1)).unwrap();
    assert!(world.says().is_empty());
    world.hears(Unblocked {});
    assert_eq!(numbers(&world.says()), [(1, 1)]);
    assert_eq!(world.events(), ["Blocked", "Unblocked"]);

    // What was sent before is refused, and comes again when the broker says so.
    world.hears(Blocked { code: FaultCode::DiskLow, text: String::new() });
    world.hears(PublishRefused {
        producer: ProducerId(1),
        range: NumberRange::one(1),
        code: FaultCode::DiskLow,
        retryable: true,
        text: String::new(),
    });
    assert!(world.says().is_empty());
    world.hears(Unblocked {});
    assert_eq!(numbers(&world.says()), [(1, 1)]);
    assert_eq!(world.events(), ["Blocked", "Held", "Unblocked"]);
}

#[test]
fn a_dropped_publisher_still_gets_its_messages_through() {
    let mut world = World::up();
    let outbox = world.publisher();
    world.publish(&outbox, "a");
    world.session.notice(Notice::PublisherGone(ProducerId(1)), world.now);
    world.disconnect();
    world.connect();
    assert_eq!(numbers(&world.says()), [(1, 1)]);
    assert!(!world.session.is_idle());
    world.hears(confirm(1, 1));
    assert!(world.session.is_idle() && world.session.publishers.is_empty());
    world.hears(confirm(1, 1));
}

#[test]
fn acks_are_settled_by_their_answer() {
    let mut world = World::up();
    let mailbox = world.consumer(1, 4);
    let ClientFrame::Consume(consume) = world.says_one() else { panic!("consume") };
    assert_eq!((consume.consumer, consume.credit), (1, 4));
    world.hears(ConsumeOk { request: consume.request });
    assert!(matches!(world.answers()[..], [(1, Ok(_))]));
    world.hears(deliver(1, &[1, 2, 3]));
    let outcome = world.settle(&mailbox, 0, 1);
    world.settle(&mailbox, 0, 2);
    let frames = world.says();
    let [ClientFrame::Ack(ack), ClientFrame::Credit(credit)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((ack.ranges.as_slice(), credit.add), (&[NumberRange::new(1, 2).unwrap()][..], 2));
    assert!(outcome.get(1).is_none());
    world.hears(Settled { request: ack.request, settled: 2 });
    assert!(outcome.get(1).unwrap().is_ok());

    let outcome = world.settle(&mailbox, 0, 3);
    let ClientFrame::Ack(ack) = &world.says()[0] else { panic!("ack") };
    world.hears(Settled { request: ack.request, settled: 0 });
    assert!(outcome.get(3).unwrap().unwrap_err().is_outcome_unknown(), "the broker did not hold it");
}

#[test]
fn an_ack_without_an_answer_may_be_redelivered() {
    let mut world = World::up();
    let mailbox = world.consumer(1, 100);
    assert!(matches!(world.says_one(), ClientFrame::Consume(_)));
    world.hears(ConsumeOk { request: 1 });
    world.hears(deliver(1, &[1, 2]));
    let sent = world.settle(&mailbox, 0, 1);
    assert_eq!(world.says().len(), 2);
    let unsent = world.settle(&mailbox, 0, 2);
    world.disconnect();
    assert!(sent.get(1).unwrap().unwrap_err().is_outcome_unknown());
    assert!(matches!(unsent.get(2), Some(Err(Error::WillBeRedelivered))));
}

#[test]
fn a_consumer_outlives_refusals_that_pass_but_not_the_queue() {
    let mut world = World::up();
    let mailbox = world.consumer(1, 10);
    world.says();
    world.hears(failed(1, FaultCode::ExclusiveConsumer));
    assert_eq!(world.answers()[0].1.as_ref().unwrap_err().code(), Some(FaultCode::ExclusiveConsumer));
    assert!(world.session.consumers.is_empty());
    drop(mailbox);

    let mailbox = world.consumer(2, 10);
    world.says();
    world.hears(ConsumeOk { request: 2 });
    world.disconnect();
    world.connect();
    world.says();
    // The broker has not yet noticed that the last connection has ended.
    world.hears(failed(3, FaultCode::ExclusiveConsumer));
    assert!(world.says().is_empty());
    world.now = world.session.timers.first().unwrap().0;
    world.session.tick(world.now).unwrap();
    assert!(matches!(world.says_one(), ClientFrame::Consume(_)));
    world.hears(ConsumeOk { request: 4 });
    world.hears(quorate_protocol::frame::ConsumerClosed {
        consumer: 2,
        code: FaultCode::QueueDeleted,
        text: String::new(),
    });
    assert!(world.session.consumers.is_empty());
    let mut locked = lock_mailbox(&mailbox);
    let waker = std::task::Waker::noop();
    let ended = locked.poll_arrived(&mut VecDeque::new(), &std::task::Context::from_waker(waker));
    assert!(matches!(ended, std::task::Poll::Ready(Err(Some(Error::ConsumerClosed { .. })))));
}

#[test]
fn cancelling_sends_the_last_acks_first() {
    let mut world = World::up();
    let mailbox = world.consumer(1, 1000);
    world.says();
    world.hears(ConsumeOk { request: 1 });
    world.hears(deliver(1, &[1, 2, 3]));
    for seq in 1..=3 {
        world.settle(&mailbox, 0, seq);
        if seq < 3 {
            world.says();
        }
    }
    world.answers();
    world.session.cancel(1, Some(9), world.now);
    let frames = world.says();
    let [ClientFrame::Ack(_), ClientFrame::Credit(_), ClientFrame::Cancel(cancel)] = &frames[..] else {
        panic!("{frames:?}")
    };
    world.hears(deliver(1, &[4]));
    world.hears(CancelOk { request: cancel.request });
    assert!(matches!(world.answers()[..], [(9, Ok(_))]));
    world.hears(deliver(1, &[5]));
    assert!(world.session.consumers.is_empty());
}

#[test]
fn a_consumer_that_cannot_begin_is_given_up() {
    let mut world = World::new();
    world.consumer(1, 10);
    world.now += Duration::from_secs(30);
    world.session.tick(world.now).unwrap();
    assert!(matches!(world.answers()[..], [(1, Err(Error::TimedOut(_)))]));
    world.connect();
    assert!(world.says().is_empty());
}

#[test]
fn a_consumer_abandoned_before_it_was_asked_for_is_never_asked_for() {
    let mut world = World::up();
    let mailbox = Arc::new(Mutex::new(Mailbox::new(1, false, None, Duration::ZERO)));
    assert_eq!(lock_mailbox(&mailbox).abandon(), None);
    let wanted = Wanted { queue: queue("q"), no_ack: false, exclusive: false };
    world.session.consume(wanted, mailbox, 1, world.now);
    assert!(world.says().is_empty());
    assert!(matches!(world.answers()[..], [(1, Err(Error::Closed))]));
}

#[test]
fn heartbeats_are_sent_and_a_silent_broker_is_noticed() {
    let mut world = World::up();
    let begin = world.now;
    let (mut steps, mut sent) = (0, 0);
    let mut last_heard = begin;
    let ended = loop {
        steps += 1;
        assert!(steps < 1000, "it is not noticed");
        world.now = world.session.next_deadline().unwrap();
        if let Err(ended) = world.session.tick(world.now) {
            break ended;
        }
        sent += world.says().iter().filter(|frame| matches!(frame, ClientFrame::Heartbeat(_))).count();
        if world.now < begin + 4 * HEARTBEAT {
            last_heard = world.now;
            world.session.received(world.now);
        }
    };
    assert!(ended.error.is_retryable(), "{}", ended.error);
    let silent = world.now - last_heard;
    assert!(silent >= 2 * HEARTBEAT && silent < 3 * HEARTBEAT, "{silent:?}");
    assert!(sent >= 8, "{sent}");
}

#[test]
fn a_client_that_slept_reads_before_it_judges() {
    let mut world = World::up();
    world.now += 10 * HEARTBEAT;
    world.session.tick(world.now).unwrap();
    world.session.received(world.now);
    world.now += HEARTBEAT;
    world.session.tick(world.now).unwrap();
}

#[test]
fn a_broker_that_breaks_the_protocol_is_left() {
    let mut world = World::up();
    world.consumer(1, 2);
    world.says();
    let outbox = world.publisher();
    world.publish(&outbox, "a");
    world.session.request(declare("a").into(), 2, world.now);
    let hostile: Vec<ServerFrame> = vec![
        queue_ok(99).into(),
        Settled { request: 1, settled: 1 }.into(),
        ConsumeOk { request: 0 }.into(),
        deliver(1, &[1]).into(),
        confirm(1, 1).into(),
        confirm(5, u64::MAX).into(),
        quorate_protocol::frame::LoginOk {
            session: 1,
            vhost: quorate_protocol::name::VhostName::new("/").unwrap(),
            leader_name: String::new(),
            heartbeat_ms: 0,
        }
        .into(),
    ];
    for frame in hostile {
        let text = format!("{frame:?}");
        let error = world.rejects(frame);
        assert_eq!(error.blame(), quorate_protocol::fault::Blame::Peer, "{text}: {error}");
    }
    world.hears(ConsumeOk { request: 1 });
    world.hears(deliver(1, &[1, 2]));
    assert!(matches!(world.rejects(deliver(1, &[3])), Error::Protocol(_)), "more than its credit");
    world.says();
    let mut bad = deliver(1, &[]);
    bad.messages.push(Delivery { seq: 1, redelivered: false, message: Bytes::from_static(b"\xff\xff") });
    assert!(matches!(world.rejects(bad), Error::Protocol(_)), "no message at all");
}

#[test]
fn the_end_is_told_to_everybody() {
    let mut world = World::up();
    let outbox = world.publisher();
    world.publish(&outbox, "a");
    world.consumer(1, 10);
    world.session.request(declare("a").into(), 2, world.now);
    world.says();
    world.session.request(declare("b").into(), 3, world.now);
    world.session.end(&Error::Closed);
    let mut answers = world.answers();
    answers.sort_by_key(|(reply, _)| *reply);
    assert!(matches!(answers[0], (1, Err(Error::Closed))));
    assert!(matches!(&answers[1], (2, Err(error)) if error.is_outcome_unknown()));
    assert!(matches!(answers[2], (3, Err(Error::Closed))));
    assert!(lock_outbox(&outbox).is_idle());
}
