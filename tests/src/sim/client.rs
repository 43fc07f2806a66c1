//! Clients: they connect to whoever leads, publish or consume, and begin anew when a connection ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bytes::Bytes;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    Ack, ClientFrame, Confirm, Consume, Credit, DeclareQueue, Deliver, Heartbeat, Hello, ListQueues, Login,
    MECHANISM_ANONYMOUS, Nack, NumberRange, ProducerId, PublishRefused, ServerFrame,
};
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey, VhostName};
use quorate_protocol::publish::PublishBuilder;
use quorate_protocol::version::CLIENT_VERSIONS;

use super::checker::{Checker, MessageName, body_of};
use super::dice::Dice;
use super::host::host_of;
use super::schedule::{HostId, MILLI, Micros};
use super::transactor::Transactor;

/// The virtual host that every cluster begins with.
pub const FIRST_VHOST: &str = "/";

/// What a client asks the world to do.
#[derive(Debug)]
pub enum ClientAction {
    /// Connect to this host.
    Connect(HostId),
    /// Send this on the connection.
    Send(ClientFrame),
    /// Close the connection.
    Hang,
}

/// How far a client's connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// None.
    Apart,
    /// On its way.
    Connecting,
    /// Hello or login is not answered yet.
    Greeting,
    /// Logged in; the queue is being declared.
    Declaring,
    /// At work.
    Open,
}

/// What a client is for.
#[derive(Debug)]
pub enum Work {
    /// Publishes.
    Publisher(Publisher),
    /// Consumes.
    Consumer(Consumer),
    /// Both at once.
    Transactor(Transactor),
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// How far its connection has come.
    pub stage: Stage,
    /// Its virtual host.
    pub vhost: String,
    /// Its queue.
    pub queue: String,
    /// What it is for.
    pub work: Work,
    /// Does not connect while true.
    pub resting: bool,
    /// Declares its queue before it works.
    pub declares: bool,
    /// Declares it with room for so many messages; 0: for all there are.
    pub max_length: u64,
    /// Connects to this host and no other.
    pub only: Option<HostId>,
    /// How it was refused last, with what code.
    pub last_refusal: Option<FaultCode>,
    /// What the broker said when it refused the login last.
    pub refused_login: String,
    /// Publishing is blocked, the broker says.
    pub blocked: bool,
    hosts: usize,
    target: Option<HostId>,
    retry_at: Micros,
    heard: Micros,
    said: Micros,
    silence: Micros,
    dice: Dice,
}

/// Publishes numbered messages and keeps each until it is settled.
#[derive(Debug)]
pub struct Publisher {
    /// Its name.
    pub producer: ProducerId,
    /// The number of the next message.
    pub next: u64,
    /// Publishes no new message from this number on.
    pub stop_at: u64,
    /// Batches that are not settled: first number and bodies.
    pub unsettled: VecDeque<(u64, Vec<Bytes>)>,
    /// Numbers of these that are settled all the same.
    settled: BTreeSet<u64>,
    /// In a hundred ticks it begins so many batches.
    pub rate: u64,
    /// The longest filler of a body.
    pub filler: u64,
    resend_at: Option<Micros>,
    window: usize,
    batch: u64,
}

/// Consumes and acknowledges.
#[derive(Debug)]
pub struct Consumer {
    /// Gives back so many of a hundred messages.
    pub requeue_percent: u64,
    /// Holds what it has without answering.
    pub holds: bool,
    /// Asks how much the queue holds, and says so.
    pub watches: bool,
    /// What the queue held when it was asked last: ready and unacknowledged.
    pub seen: Option<u64>,
    /// What was delivered on this connection and is not answered.
    pub held: BTreeMap<u64, MessageName>,
    /// Every delivery: sequence, number, marked redelivered.
    pub log: Vec<(u64, u64, bool)>,
    asked: BTreeMap<u32, Vec<MessageName>>,
    next_request: u32,
    credit: u32,
    last_fresh: u64,
}

impl Publisher {
    /// A publisher of this name that publishes `count` messages.
    pub fn new(producer: u128, count: u64, dice: &mut Dice) -> Self {
        Self {
            producer: ProducerId(producer),
            next: 1,
            stop_at: count + 1,
            unsettled: VecDeque::new(),
            settled: BTreeSet::new(),
            rate: dice.between(10, 80),
            filler: [16, 200, 2000][dice.index(3)],
            resend_at: None,
            window: dice.index(16) + 1,
            batch: dice.between(1, 12),
        }
    }

    /// Everything was published and settled.
    pub fn is_done(&self) -> bool {
        self.unsettled.is_empty() && self.next >= self.stop_at
    }

    fn frame(&self, queue: &str, first: u64, bodies: &[Bytes]) -> ClientFrame {
        let unsettled = self.unsettled.front().map_or(first, |(first, _)| *first);
        let key = RoutingKey::new(queue).expect("a valid key");
        let exchange = ExchangeName::new("").expect("the default exchange");
        let mut builder = PublishBuilder::new(self.producer, first, unsettled, &exchange, &key);
        for body in bodies {
            builder.push(&Properties::NONE, body, 16 << 20).expect("a small message");
        }
        ClientFrame::Publish(builder.finish().expect("a batch with messages"))
    }

    fn tick(
        &mut self,
        now: Micros,
        queue: &str,
        checker: &mut Checker,
        dice: &mut Dice,
        out: &mut Vec<ClientAction>,
    ) {
        if let Some(at) = self.resend_at {
            if now < at {
                return;
            }
            self.resend_at = None;
            for (first, bodies) in &self.unsettled {
                out.push(ClientAction::Send(self.frame(queue, *first, bodies)));
            }
        }
        if self.unsettled.len() >= self.window || self.next >= self.stop_at || !dice.chance(self.rate) {
            return;
        }
        let count = dice.between(1, self.batch).min(self.stop_at - self.next);
        let first = self.next;
        self.next += count;
        let bodies: Vec<Bytes> = (first..first + count)
            .map(|number| {
                let name = (self.producer, number);
                let filler = usize::try_from(dice.below(self.filler + 1)).expect("a small message");
                let body = body_of(name, filler);
                checker.published(name, queue, body.clone());
                body
            })
            .collect();
        out.push(ClientAction::Send(self.frame(queue, first, &bodies)));
        self.unsettled.push_back((first, bodies));
    }

    /// A batch stays until the last of it is settled: of one that did not fit into its queue as a whole, a part is.
    fn settle(&mut self, range: NumberRange) {
        self.settled.extend(range.first()..=range.last());
        let settled = &self.settled;
        self.unsettled.retain(|(first, bodies)| {
            !(*first..first + bodies.len() as u64).all(|number| settled.contains(&number))
        });
        let first = self.unsettled.front().map_or(self.next, |(first, _)| *first);
        self.settled = self.settled.split_off(&first);
    }

    fn confirmed(&mut self, confirm: &Confirm, checker: &mut Checker) {
        let place = (confirm.epoch, confirm.term, confirm.index);
        for range in &confirm.ranges {
            for number in range.first()..=range.last() {
                checker.confirmed((confirm.producer, number), place);
            }
            self.settle(*range);
        }
    }

    fn refused(&mut self, now: Micros, refused: &PublishRefused, checker: &mut Checker) {
        if refused.retryable {
            self.resend_at = Some(now + 40 * MILLI);
            return;
        }
        for number in refused.range.first()..=refused.range.last() {
            checker.refused((refused.producer, number));
        }
        self.settle(refused.range);
    }
}

impl Consumer {
    /// A consumer with so much credit.
    pub fn new(credit: u32, requeue_percent: u64) -> Self {
        Self {
            requeue_percent,
            holds: false,
            watches: false,
            seen: None,
            held: BTreeMap::new(),
            log: Vec::new(),
            asked: BTreeMap::new(),
            next_request: 10,
            credit,
            last_fresh: 0,
        }
    }

    fn delivered(&mut self, queue: &str, deliver: Deliver, checker: &mut Checker) {
        for delivery in deliver.messages {
            let name = checker.delivery(queue, &delivery);
            if !delivery.redelivered {
                if delivery.seq <= self.last_fresh {
                    let (before, now) = (self.last_fresh, delivery.seq);
                    checker.violation(format!(
                        "queue {queue} delivered {now} after {before}, neither seen before"
                    ));
                }
                self.last_fresh = delivery.seq;
            }
            let Some(name) = name else { continue };
            self.log.push((delivery.seq, name.1, delivery.redelivered));
            if self.held.insert(delivery.seq, name).is_some() {
                checker.violation(format!("queue {queue} gave {} to a consumer that holds it", delivery.seq));
            }
        }
    }

    fn tick(&mut self, checker: &mut Checker, dice: &mut Dice, out: &mut Vec<ClientAction>) {
        if self.watches && dice.chance(20) {
            out.push(ClientAction::Send(ListQueues { request: 3, after: None, limit: 0 }.into()));
        }
        if self.held.is_empty() || self.holds {
            return;
        }
        let count = 1 + dice.index(self.held.len());
        let requeue = dice.chance(self.requeue_percent);
        let mut sequences = Vec::new();
        let mut names = Vec::new();
        for _ in 0..count {
            let Some((seq, name)) = self.held.pop_first() else { break };
            sequences.push(seq);
            names.push(name);
        }
        let ranges = NumberRange::collect(sequences);
        let request = self.next_request;
        self.next_request += 1;
        let given_back = u32::try_from(names.len()).expect("few");
        if requeue {
            let nack = Nack { request: 0, consumer: 1, requeue: true, ranges };
            out.push(ClientAction::Send(nack.into()));
        } else {
            for name in &names {
                checker.ack_sent(*name);
            }
            self.asked.insert(request, names);
            out.push(ClientAction::Send(Ack { request, consumer: 1, ranges }.into()));
        }
        out.push(ClientAction::Send(Credit { consumer: 1, add: given_back }.into()));
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Publisher(work) => write!(f, "publisher of {} to {}", work.unsettled.len(), self.queue)?,
            Work::Transactor(work) => write!(f, "transactor of {}: {work:?}", self.queue)?,
            Work::Consumer(work) => {
                write!(
                    f,
                    "consumer holding {} of {} and seeing {:?}",
                    work.held.len(),
                    self.queue,
                    work.seen
                )?;
            }
        }
        write!(f, ", {:?}, refused last by {:?}, blocked {}", self.stage, self.last_refusal, self.blocked)
    }
}

impl Client {
    /// A client that finds its broker among so many hosts.
    pub fn new(queue: &str, work: Work, hosts: usize, dice: Dice) -> Self {
        Self {
            stage: Stage::Apart,
            vhost: FIRST_VHOST.to_owned(),
            queue: queue.to_owned(),
            work,
            resting: false,
            declares: true,
            max_length: 0,
            only: None,
            last_refusal: None,
            refused_login: String::new(),
            blocked: false,
            hosts,
            target: None,
            retry_at: 0,
            heard: 0,
            said: 0,
            silence: 2000 * MILLI,
            dice,
        }
    }

    /// Its publishing half.
    pub fn publisher(&mut self) -> &mut Publisher {
        match &mut self.work {
            Work::Publisher(publisher) => publisher,
            _ => panic!("this client does not publish"),
        }
    }

    /// Its consuming half.
    pub fn consumer(&mut self) -> &mut Consumer {
        match &mut self.work {
            Work::Consumer(consumer) => consumer,
            _ => panic!("this client does not consume"),
        }
    }

    /// Its transacting half.
    pub fn transactor(&mut self) -> &mut Transactor {
        match &mut self.work {
            Work::Transactor(transactor) => transactor,
            _ => panic!("this client has no transactions"),
        }
    }

    fn send(&mut self, now: Micros, frame: impl Into<ClientFrame>, out: &mut Vec<ClientAction>) {
        self.said = now;
        out.push(ClientAction::Send(frame.into()));
    }

    /// Time passes.
    pub fn tick(&mut self, now: Micros, checker: &mut Checker, out: &mut Vec<ClientAction>) {
        match self.stage {
            Stage::Apart if self.resting || now < self.retry_at => {}
            Stage::Apart => {
                let told = self.only.or(self.target.take());
                let host = told.unwrap_or_else(|| self.dice.index(self.hosts));
                self.stage = Stage::Connecting;
                self.heard = now;
                out.push(ClientAction::Connect(host));
            }
            _ if now - self.heard > self.silence => {
                out.push(ClientAction::Hang);
                self.apart(now);
            }
            Stage::Connecting | Stage::Greeting | Stage::Declaring => {}
            Stage::Open => {
                let before = out.len();
                match &mut self.work {
                    Work::Publisher(_) if self.blocked => {}
                    Work::Publisher(work) => work.tick(now, &self.queue, checker, &mut self.dice, out),
                    Work::Consumer(work) => work.tick(checker, &mut self.dice, out),
                    Work::Transactor(work) => work.tick(now, checker, &mut self.dice, out),
                }
                if out.len() > before {
                    self.said = now;
                } else if now - self.said > self.silence / 5 {
                    self.send(now, Heartbeat {}, out);
                }
            }
        }
    }

    /// The connection is there.
    pub fn connected(&mut self, now: Micros, out: &mut Vec<ClientAction>) {
        self.stage = Stage::Greeting;
        self.heard = now;
        self.send(now, Hello { versions: CLIENT_VERSIONS, client_name: "simulated".to_owned() }, out);
    }

    /// The connection is gone, or did not come about.
    pub fn apart(&mut self, now: Micros) {
        self.stage = Stage::Apart;
        self.blocked = false;
        self.retry_at = now + self.dice.between(5, 60) * MILLI;
        match &mut self.work {
            Work::Publisher(work) => work.resend_at = Some(now),
            Work::Transactor(work) => work.apart(now),
            Work::Consumer(work) => {
                work.held.clear();
                work.asked.clear();
                work.last_fresh = 0;
            }
        }
    }

    /// The broker says something.
    pub fn frame(
        &mut self,
        now: Micros,
        frame: ServerFrame,
        checker: &mut Checker,
        out: &mut Vec<ClientAction>,
    ) {
        self.heard = now;
        match frame {
            ServerFrame::HelloOk(_) => {
                let login = Login {
                    vhost: VhostName::new(&self.vhost).expect("a valid name"),
                    mechanism: MECHANISM_ANONYMOUS.to_owned(),
                    user: String::new(),
                    secret: Bytes::new(),
                    heartbeat_ms: 500,
                };
                self.send(now, login, out);
            }
            ServerFrame::LoginOk(ok) => {
                self.silence = Micros::from(ok.heartbeat_ms) * 2 * MILLI;
                if self.declares {
                    self.stage = Stage::Declaring;
                    let queue = QueueName::new(&self.queue).expect("a valid name");
                    let declare = DeclareQueue {
                        request: 1,
                        queue,
                        passive: false,
                        max_length: self.max_length,
                        arguments: Vec::new(),
                    };
                    self.send(now, declare, out);
                } else {
                    self.open(now, out);
                }
            }
            ServerFrame::QueueOk(_) => self.open(now, out),
            ServerFrame::Refused(refused) => {
                self.last_refusal = Some(refused.code);
                self.refused_login.clone_from(&refused.text);
                self.target = host_of(&refused.leader_address);
            }
            ServerFrame::Close(close) => self.target = host_of(&close.leader_address),
            ServerFrame::Failed(failed) => {
                self.last_refusal = Some(failed.code);
                if let (Work::Transactor(work), Stage::Open) = (&mut self.work, self.stage)
                    && failed.request > 2
                {
                    return work.frame(now, &self.queue, failed.into(), checker, out);
                }
                out.push(ClientAction::Hang);
                self.apart(now);
            }
            ServerFrame::Blocked(blocked) => {
                self.last_refusal = Some(blocked.code);
                self.blocked = true;
            }
            ServerFrame::Unblocked(_) => self.blocked = false,
            frame => self.work_frame(now, frame, checker, out),
        }
    }

    fn work_frame(
        &mut self,
        now: Micros,
        frame: ServerFrame,
        checker: &mut Checker,
        out: &mut Vec<ClientAction>,
    ) {
        match (&mut self.work, frame) {
            (Work::Publisher(work), ServerFrame::Confirm(confirm)) => work.confirmed(&confirm, checker),
            (Work::Publisher(work), ServerFrame::PublishRefused(refused)) => {
                self.last_refusal = Some(refused.code);
                work.refused(now, &refused, checker);
            }
            (Work::Consumer(work), ServerFrame::Deliver(deliver)) => {
                work.delivered(&self.queue, deliver, checker);
            }
            (Work::Consumer(work), ServerFrame::Settled(settled)) => {
                let names = work.asked.remove(&settled.request).unwrap_or_default();
                if settled.settled == names.len() as u64 {
                    for name in names {
                        checker.settled(name);
                    }
                } else {
                    let count = names.len();
                    checker.violation(format!("an acknowledgement of {count} settled {}", settled.settled));
                }
            }
            (Work::Consumer(work), ServerFrame::QueueList(list)) => {
                let entry = list.entries.iter().find(|entry| entry.queue.as_str() == self.queue);
                work.seen = Some(entry.map_or(0, |entry| entry.ready + entry.unacknowledged));
            }
            (Work::Transactor(work), frame) => work.frame(now, &self.queue, frame, checker, out),
            _ => {}
        }
    }

    fn open(&mut self, now: Micros, out: &mut Vec<ClientAction>) {
        self.stage = Stage::Open;
        let credit = match &mut self.work {
            Work::Publisher(_) => return,
            Work::Consumer(work) => {
                work.seen = None;
                work.credit
            }
            Work::Transactor(work) => work.credit(),
        };
        let queue = QueueName::new(&self.queue).expect("a valid name");
        let consume = Consume { request: 2, consumer: 1, queue, credit, no_ack: false, exclusive: false };
        self.send(now, consume, out);
    }
}
