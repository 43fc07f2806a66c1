//! Transactions: everything is looked at first, then all of it is done, or nothing.
//!
//! A transaction has one number of a producer of its own, in the same windows as published messages: what is remembered
//! of the number is true of the whole. Whatever is refused here is remembered, also what could be done later: a copy of
//! the frame that arrives late finds it so, and a client that was told so can rely on it.
//!
//! | Of the number is remembered | A transaction | Its resolution |
//! |---|---|---|
//! | nothing | is looked at, and committed or refused | is refused for ever: rolled back |
//! | committed | is a duplicate | is a duplicate |
//! | refused | is refused again, for the same reason | is refused, for the same reason |
//! | a lower one is not settled | is refused as out of order | is refused as out of order |

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{NumberRange, ProducerId};
use quorate_protocol::publish::PublishBody;
use quorate_protocol::transaction::TransactionBody;
use quorate_store::ids::Index;

use super::codec::{DecodeError, Reader, Writer};
use super::command::{QueueId, read_ranges, write_ranges};
use super::limits::{MAX_COPIES_PER_BATCH, MAX_LIVE_MESSAGES, MAX_SEQUENCE};
use super::outcome::{Committed, Outcome};
use super::publish::slot;
use super::queue::Queue;
use super::vhost::{Applied, Failure, VhostMachine, no_queue_numbered};

/// Bytes of the command before the transaction's.
const BEFORE_BODY: usize = 4;

/// A transaction as it is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number, and what it publishes.
    pub body: TransactionBody,
    /// The messages that it takes out of queues; takes effect first.
    pub settled: Vec<Taken>,
}

/// Messages that a transaction takes out of a queue, acknowledged or dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which queue.
    pub queue: QueueId,
    /// Which sequences, ascending.
    pub ranges: Vec<NumberRange>,
}

impl Transaction {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let settled = self.settled.iter().map(|taken| 8 + taken.ranges.len() * 16);
        BEFORE_BODY + self.body.length() + 4 + settled.sum::<usize>()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.count(self.body.length());
        self.body.write(&mut out.0);
        out.count(self.settled.len());
        for taken in &self.settled {
            out.u32(taken.queue.0);
            write_ranges(out, &taken.ranges);
        }
    }

    pub(super) fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let body = TransactionBody::parse(from.bytes()?).map_err(|_| DecodeError::Value("transaction"))?;
        let mut settled = Vec::new();
        for _ in 0..from.count(8)? {
            let queue = QueueId(from.u32()?);
            settled.push(Taken { queue, ranges: read_ranges(from)? });
        }
        Ok(Self { body, settled })
    }
}

/// What a transaction comes to, once nothing speaks against it.
#[derive(Debug, Default)]
struct Effects {
    /// Messages taken out of each queue.
    freed: BTreeMap<QueueId, u64>,
    /// The queues that each batch goes to.
    routes: Vec<BTreeSet<QueueId>>,
}

impl VhostMachine {
    /// Applies a transaction whose command's payload begins at `offset` of the data of the entry at `index`.
    pub(super) fn transaction(&mut self, index: Index, offset: usize, transaction: &Transaction) -> Applied {
        let Transaction { body, settled } = transaction;
        let (producer, number, unsettled) = (body.producer(), body.number(), body.first_unsettled());
        if let Some(known) = self.known_transaction(producer, number, unsettled)? {
            return Ok(known);
        }
        let begins = offset.saturating_add(BEFORE_BODY);
        let fits = u32::try_from(begins.saturating_add(body.length())).is_ok();
        let looked_at = if fits { self.look_at(body, settled) } else { Err(too_large()) };
        let refused = looked_at.as_ref().err().map(|(code, _)| (NumberRange::one(number), *code));
        self.producers.record(producer, unsettled, number + 1, refused, index);
        let effects = looked_at?;
        let begins = u32::try_from(begins).expect("the end of the transaction fits 32 bits");
        let mut done = Committed { published: body.messages(), ..Committed::default() };
        for taken in settled {
            if let Ok(Outcome::Settled { messages, .. }) = self.kill(taken.queue, &taken.ranges) {
                done.settled += messages;
            }
        }
        for (batch, queues) in body.batches().iter().zip(effects.routes) {
            let offset = begins.checked_add(batch.offset).expect("the end of the transaction fits 32 bits");
            for queue in queues {
                self.store(queue, batch.body.spans().map(|span| slot(index, offset, span)));
            }
        }
        Ok(Outcome::Committed(done))
    }

    /// Ends a transaction that is not committed.
    pub(super) fn resolve(
        &mut self,
        index: Index,
        producer: ProducerId,
        number: u64,
        first_unsettled: u64,
    ) -> Applied {
        if number == 0 || first_unsettled == 0 || first_unsettled > number {
            return Err((FaultCode::MalformedFrame, format!("transaction {number} cannot be")));
        }
        if let Some(known) = self.known_transaction(producer, number, first_unsettled)? {
            return Ok(known);
        }
        let code = FaultCode::TransactionRolledBack;
        self.producers.record(
            producer,
            first_unsettled,
            number + 1,
            Some((NumberRange::one(number), code)),
            index,
        );
        Err((code, format!("transaction {number} was not committed, and is rolled back: begin it again")))
    }

    /// What is remembered of a transaction; none if it is new, and can be remembered whatever comes of it.
    fn known_transaction(
        &self,
        producer: ProducerId,
        number: u64,
        first_unsettled: u64,
    ) -> Result<Option<Outcome>, Failure> {
        if number >= MAX_SEQUENCE {
            return Err((
                FaultCode::LimitReached,
                "transactions of this producer have no numbers left".into(),
            ));
        }
        let numbers = NumberRange::one(number);
        let Some(judged) = self.producers.judge(producer, numbers, first_unsettled) else {
            let text = format!("transaction {number} came before one with a lower number");
            return Err((FaultCode::OutOfOrder, text));
        };
        if let Some((_, code)) = judged.refused.first() {
            return Err((*code, format!("transaction {number} was refused before: {}", code.text())));
        }
        if judged.new.is_none() {
            return Ok(Some(Outcome::Committed(Committed { duplicate: true, ..Committed::default() })));
        }
        let code = FaultCode::TransactionRolledBack;
        if self.producers.can_refuse(producer, first_unsettled, numbers, code) {
            Ok(None)
        } else {
            let text = "too many transactions of this producer are not settled".to_owned();
            Err((FaultCode::Overloaded, text))
        }
    }

    /// Looks whether all of it can be done.
    fn look_at(&self, body: &TransactionBody, settled: &[Taken]) -> Result<Effects, Failure> {
        let mut effects = Effects::default();
        for taken in settled {
            let queue = self.queue(taken.queue).ok_or_else(|| no_queue_numbered(taken.queue))?;
            for range in &taken.ranges {
                let inside = queue.live_from(range.first()).take_while(|(seq, _)| *seq <= range.last());
                let here = inside.count() as u64;
                if here != range.count() {
                    let text = format!(
                        "of deliveries {} to {} of queue `{}` only {here} are still there",
                        range.first(),
                        range.last(),
                        queue.name()
                    );
                    return Err((FaultCode::DeliveryNotHeld, text));
                }
                *effects.freed.entry(taken.queue).or_default() += here;
            }
        }
        let mut needed: BTreeMap<QueueId, u64> = BTreeMap::new();
        let mut copies = 0_u64;
        for batch in body.batches() {
            let queues = self.targets_of(&batch.body)?;
            let count = u64::from(batch.body.count());
            copies = copies.saturating_add(count.saturating_mul(queues.len() as u64));
            if copies > MAX_COPIES_PER_BATCH {
                let text = format!(
                    "{}: the transaction makes more than {MAX_COPIES_PER_BATCH} copies of its messages",
                    named(&batch.body)
                );
                return Err((FaultCode::MessageTooLarge, text));
            }
            for id in &queues {
                let needed = needed.entry(*id).or_default();
                *needed += count;
                let freed = effects.freed.get(id).copied().unwrap_or(0);
                let queue = self.queue(*id);
                let room = queue.map_or(0, |queue| queue.room_without(freed));
                if *needed > room {
                    let name = queue.map(Queue::name).map(ToString::to_string).unwrap_or_default();
                    let text =
                        format!("{}: queue {name} has room for {room} of {needed}", named(&batch.body));
                    return Err((FaultCode::QueueFull, text));
                }
            }
            effects.routes.push(queues);
        }
        let freed: u64 = effects.freed.values().sum();
        if self.live().saturating_sub(freed).saturating_add(copies) > MAX_LIVE_MESSAGES {
            return Err((FaultCode::QueueFull, "the virtual host has no room for the messages".into()));
        }
        Ok(effects)
    }

    /// The queues that a batch goes to, at least one.
    fn targets_of(&self, batch: &PublishBody) -> Result<BTreeSet<QueueId>, Failure> {
        let code = match self.route(batch.exchange(), batch.key()) {
            Some(queues) if !queues.is_empty() => return Ok(queues),
            Some(_) => FaultCode::Unroutable,
            None => FaultCode::ExchangeNotFound,
        };
        Err((code, format!("{}: {}", named(batch), code.text())))
    }
}

/// Which messages of a transaction, for people.
fn named(batch: &PublishBody) -> String {
    let (exchange, key) = (batch.exchange(), batch.key());
    format!("messages {} to {} to exchange `{exchange}` with key `{key}`", batch.first(), batch.last())
}

fn too_large() -> Failure {
    (FaultCode::MessageTooLarge, "the transaction does not fit its entry".to_owned())
}
