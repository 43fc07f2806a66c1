//! A client that works in transactions: it takes messages from its queue, and publishes others to several queues, all of
//! it together or not at all.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    ClientFrame, Commit, Committed, Credit, Deliver, Failed, NumberRange, ProducerId, Resolve, ServerFrame,
};
use quorate_protocol::limits::Limits;
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::transaction::{TransactionBody, TransactionBuilder, TransactionSettlement};

use super::checker::{Checker, MessageName, body_of};
use super::client::ClientAction;
use super::dice::Dice;
use super::schedule::{MILLI, Micros};

/// A queue that nobody declares.
const NOWHERE: &str = "nowhere";
/// The first request number; lower ones are the client's own.
const REQUESTS: u32 = 10;

/// A transaction without an outcome.
#[derive(Debug)]
struct Pending {
    number: u64,
    body: TransactionBody,
    /// Deliveries that it settles.
    acks: BTreeMap<u64, MessageName>,
    /// In the checker's book.
    group: usize,
    /// The request under way.
    request: u32,
    /// Some copy was sent and not answered.
    in_doubt: bool,
    /// The request under way asks what became of it.
    asks: bool,
}

/// Commits transactions and keeps each until its outcome is known.
#[derive(Debug)]
pub struct Transactor {
    producer: ProducerId,
    /// Where it publishes to.
    targets: Vec<String>,
    /// Begins no more transactions that publish once so many messages were published.
    pub stop_at: u64,
    /// In a hundred ticks it begins so many transactions.
    pub rate: u64,
    /// Gives up so many of a hundred that it does not know the outcome of and might send again.
    pub gives_up: u64,
    /// So many of a hundred cannot be done.
    pub impossible: u64,
    /// What was delivered on this connection and is in no transaction.
    held: BTreeMap<u64, MessageName>,
    credit: u32,
    next_message: u64,
    next_number: u64,
    next_request: u32,
    pending: VecDeque<Pending>,
    resend_at: Option<Micros>,
    window: usize,
    /// Numbers of which it was told that nothing happened, since an operator last forced anything: what was refused in a
    /// history that is left behind may be in the one that goes on.
    undone: Vec<u64>,
    /// How often that was.
    recoveries: usize,
    /// Asks about one of these again, as another process under its id would.
    asked_again: Option<(u32, u64)>,
    /// Outcomes: committed, recognised as committed before, refused, rolled back.
    pub told: [u64; 4],
}

impl Transactor {
    /// One of this name that publishes `count` messages, or a few more, to these queues.
    pub fn new(producer: u128, targets: &[String], count: u64, dice: &mut Dice) -> Self {
        Self {
            producer: ProducerId(producer),
            targets: targets.to_vec(),
            stop_at: count + 1,
            rate: dice.between(10, 60),
            gives_up: 30,
            impossible: 5,
            held: BTreeMap::new(),
            credit: u32::try_from(dice.between(1, 30)).expect("few"),
            next_message: 1,
            next_number: 1,
            next_request: REQUESTS,
            pending: VecDeque::new(),
            resend_at: None,
            window: dice.index(3) + 1,
            undone: Vec::new(),
            recoveries: 0,
            asked_again: None,
            told: [0; 4],
        }
    }

    /// Every transaction has its outcome.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Everything was published, and every transaction has its outcome.
    pub fn is_done(&self) -> bool {
        self.is_settled() && self.next_message >= self.stop_at
    }

    /// What its consumer begins with.
    pub fn credit(&self) -> u32 {
        self.credit
    }

    /// Publishes no more.
    pub fn stop(&mut self) {
        self.stop_at = self.stop_at.min(self.next_message);
    }

    /// The connection is gone: what was delivered by it comes again, what was sent by it is in doubt.
    pub fn apart(&mut self, now: Micros) {
        self.held.clear();
        self.asked_again = None;
        self.resend_at = Some(now);
        for pending in &mut self.pending {
            pending.in_doubt = true;
            pending.request = 0;
        }
    }

    fn request(&mut self) -> u32 {
        self.next_request += 1;
        self.next_request
    }

    /// Time passes, and the client is logged in.
    pub fn tick(&mut self, now: Micros, checker: &mut Checker, dice: &mut Dice, out: &mut Vec<ClientAction>) {
        if let Some(at) = self.resend_at {
            if now < at {
                return;
            }
            self.resend_at = None;
            self.send_again(dice, out);
        }
        if self.recoveries != checker.recoveries() {
            self.recoveries = checker.recoveries();
            self.undone.clear();
            self.asked_again = None;
        }
        self.ask_again(dice, out);
        if self.pending.len() >= self.window || !dice.chance(self.rate) {
            return;
        }
        let publishes = self.next_message < self.stop_at;
        if publishes || !self.held.is_empty() {
            self.begin(publishes, checker, dice, out);
        }
    }

    /// Asks for the outcome of what settles deliveries; the rest is sent again, or given up.
    fn send_again(&mut self, dice: &mut Dice, out: &mut Vec<ClientAction>) {
        for at in 0..self.pending.len() {
            if self.pending[at].request != 0 {
                continue;
            }
            let request = self.request();
            let first_unsettled = self.pending[0].number;
            let pending = &mut self.pending[at];
            pending.request = request;
            pending.asks |= !pending.acks.is_empty() || dice.chance(self.gives_up);
            let frame: ClientFrame = if pending.asks {
                Resolve { request, producer: self.producer, number: pending.number, first_unsettled }.into()
            } else {
                let transaction = pending.body.clone().with_first_unsettled(first_unsettled);
                Commit { request, settlements: Vec::new(), transaction }.into()
            };
            out.push(ClientAction::Send(frame));
        }
    }

    /// What was refused or rolled back stays so, whoever asks.
    fn ask_again(&mut self, dice: &mut Dice, out: &mut Vec<ClientAction>) {
        if self.undone.is_empty() || self.asked_again.is_some() || !dice.chance(2) {
            return;
        }
        let number = self.undone[dice.index(self.undone.len())];
        let request = self.request();
        self.asked_again = Some((request, number));
        let producer = self.producer;
        out.push(ClientAction::Send(Resolve { request, producer, number, first_unsettled: 1 }.into()));
    }

    /// The answer to that, if it is that.
    fn told_again(&mut self, request: u32) -> Option<u64> {
        self.asked_again.take_if(|asked| asked.0 == request).map(|(_, number)| number)
    }

    fn begin(
        &mut self,
        publishes: bool,
        checker: &mut Checker,
        dice: &mut Dice,
        out: &mut Vec<ClientAction>,
    ) {
        let impossible = dice.chance(self.impossible);
        let count = if publishes { dice.below(8) } else { 0 };
        let mut builder = TransactionBuilder::new(self.producer, self.next_number);
        let mut names = Vec::new();
        for place in 0..count {
            let lost = impossible && place + 1 == count;
            let queue = if lost { NOWHERE } else { self.targets[dice.index(self.targets.len())].as_str() };
            let name = (self.producer, self.next_message);
            self.next_message += 1;
            let body = body_of(name, usize::try_from(dice.below(100)).expect("few"));
            checker.published(name, queue, body.clone());
            names.push(name);
            let key = RoutingKey::new(queue).expect("a valid key");
            let message = (&Properties::NONE, &body[..]);
            builder
                .push(&ExchangeName::default(), &key, message, Limits::default(), 0)
                .expect("few messages");
        }
        let takes = if publishes && dice.chance(40) { 0 } else { dice.index(self.held.len() + 1) };
        let mut acks: BTreeMap<u64, MessageName> = BTreeMap::new();
        for _ in 0..takes {
            acks.extend(self.held.pop_first());
        }
        let mut seqs: Vec<u64> = acks.keys().copied().collect();
        if impossible && count == 0 {
            // Nobody was given this one.
            seqs.push(1 << 40);
        }
        for name in acks.values() {
            checker.ack_sent(*name);
        }
        let group = checker.transaction(names, acks.values().copied().collect());
        let ranges = NumberRange::collect(seqs);
        let settlements = if ranges.is_empty() {
            vec![]
        } else {
            vec![TransactionSettlement { consumer: 1, dropped: false, ranges }]
        };
        let body = builder.finish();
        let request = self.request();
        let first_unsettled = self.pending.front().map_or(self.next_number, |first| first.number);
        let transaction = body.clone().with_first_unsettled(first_unsettled);
        out.push(ClientAction::Send(Commit { request, settlements, transaction }.into()));
        let number = self.next_number;
        self.pending.push_back(Pending { number, body, acks, group, request, in_doubt: false, asks: false });
        self.next_number += 1;
    }

    /// The broker says something.
    pub fn frame(
        &mut self,
        now: Micros,
        queue: &str,
        frame: ServerFrame,
        checker: &mut Checker,
        out: &mut Vec<ClientAction>,
    ) {
        match frame {
            ServerFrame::Deliver(deliver) => self.delivered(queue, deliver, checker),
            ServerFrame::Committed(committed) => self.committed(&committed, checker, out),
            ServerFrame::Failed(failed) => self.failed(now, &failed, checker),
            _ => {}
        }
    }

    fn delivered(&mut self, queue: &str, deliver: Deliver, checker: &mut Checker) {
        for delivery in deliver.messages {
            let name = checker.delivery(queue, &delivery);
            let Some(name) = name else { continue };
            if self.held.insert(delivery.seq, name).is_some() {
                checker
                    .violation(format!("queue {queue} gave {} to a transactor that holds it", delivery.seq));
            }
        }
    }

    fn take(&mut self, request: u32) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.request == request)?;
        self.pending.remove(at)
    }

    fn committed(&mut self, committed: &Committed, checker: &mut Checker, out: &mut Vec<ClientAction>) {
        if let Some(number) = self.told_again(committed.request) {
            checker.violation(format!(
                "transaction {number} was refused, and is committed when asked for again"
            ));
        }
        let Some(pending) = self.take(committed.request) else { return };
        if committed.duplicate && !pending.in_doubt {
            checker.violation(format!("transaction {} was sent once and is a duplicate", pending.number));
        }
        self.told[usize::from(committed.duplicate)] += 1;
        checker.transaction_committed(pending.group, (committed.epoch, committed.term, committed.index));
        let freed = u32::try_from(pending.acks.len()).expect("few");
        if !pending.in_doubt && freed > 0 {
            out.push(ClientAction::Send(Credit { consumer: 1, add: freed }.into()));
        }
    }

    fn failed(&mut self, now: Micros, failed: &Failed, checker: &mut Checker) {
        self.told_again(failed.request);
        let Some(at) = self.pending.iter().position(|pending| pending.request == failed.request) else {
            return;
        };
        let pending = &mut self.pending[at];
        let is_remembered = !matches!(
            failed.code,
            FaultCode::ShuttingDown | FaultCode::DiskLow | FaultCode::Overloaded | FaultCode::OutOfOrder
        );
        if pending.in_doubt && !(pending.asks && is_remembered) {
            // Another copy may have been taken, or may still be.
            pending.request = 0;
            pending.asks = true;
            self.resend_at.get_or_insert(now + 40 * MILLI);
            return;
        }
        let pending = self.pending.remove(at).expect("just seen");
        self.told[if failed.code == FaultCode::TransactionRolledBack { 3 } else { 2 }] += 1;
        checker.transaction_refused(pending.group);
        self.undone.push(pending.number);
        if !pending.in_doubt {
            self.held.extend(pending.acks);
        }
    }
}
