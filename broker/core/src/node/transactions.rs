//! Transactions of clients: looked at, proposed as one command, answered.
//!
//! | A Commit is refused before it is proposed | because |
//! |---|---|
//! | the connection ends, UNEXPECTED_FRAME | its protocol version has no transactions |
//! | SHUTTING_DOWN | the cluster is being shut down |
//! | DISK_LOW | it publishes, and the disk is nearly full |
//! | MESSAGE_TOO_LARGE | a message is longer than this broker takes |
//! | CONSUMER_NOT_FOUND, DELIVERY_NOT_HELD | a delivery that it settles is not its consumer's |
//!
//! One whose number is remembered is not looked at: it gets the answer that it got.
//!
//! Everything else is for the machine to say, on every replica the same way. What it would settle is kept from being
//! given to anybody until then.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{Commit, Committed, Failed, Resolve, ServerFrame};
use quorate_protocol::transaction::{TransactionBody, TransactionSettlement};
use quorate_protocol::version::TRANSACTIONS_SINCE;
use quorate_store::ids::{Index, Term};

use super::Node;
use super::group::Group;
use super::origin::Origin;
use crate::delivery::{ConsumerKey, DeliveryError, Withheld};
use crate::io::{Output, SessionId};
use crate::machine::{Command, Outcome, Taken, Transaction};

impl Node {
    pub(super) fn commit(
        &mut self,
        group: &mut Group,
        session: SessionId,
        channel: u16,
        commit: Commit,
        cost: u32,
    ) {
        if !self.knows_transactions(session) {
            self.emit(Output::Release { session, cost });
            return;
        }
        let Commit { request, settlements, transaction: body } = commit;
        if self.closing.is_none() && is_known(group, &body) {
            // Whatever it settled is held by nobody any more: its number alone says what became of it.
            let (producer, number, first_unsettled) =
                (body.producer(), body.number(), body.first_unsettled());
            let command = Command::Resolve { producer, number, first_unsettled };
            let origin = Origin::Commit { session, channel, request, cost, withheld: Vec::new() };
            return group.propose(command, origin);
        }
        let refusal = self.transaction_refusal(&body);
        let withheld = match refusal {
            Some(refusal) => Err(refusal),
            None => withhold_all(group, session, channel, &settlements)
                .map_err(|error| (error.fault(), error.to_string())),
        };
        match withheld {
            Ok(withheld) => {
                let taken = |(withheld, settlement): (&Withheld, TransactionSettlement)| Taken {
                    queue: withheld.queue,
                    ranges: settlement.ranges,
                };
                let settled = withheld.iter().zip(settlements).map(taken).collect();
                let command = Command::Transaction(Transaction { body, settled });
                group.propose(command, Origin::Commit { session, channel, request, cost, withheld });
            }
            Err((code, text)) => {
                self.counters.transactions_refused += 1;
                self.emit(Output::Release { session, cost });
                self.write(session, channel, Failed { request, code, text });
            }
        }
    }

    pub(super) fn resolve(&mut self, group: &mut Group, session: SessionId, channel: u16, resolve: Resolve) {
        if !self.knows_transactions(session) {
            return;
        }
        let Resolve { request, producer, number, first_unsettled } = resolve;
        if self.closing.is_some() {
            let (code, text) = shutting_down();
            self.write(session, channel, Failed { request, code, text });
            return;
        }
        let command = Command::Resolve { producer, number, first_unsettled };
        let origin = Origin::Commit { session, channel, request, cost: 0, withheld: Vec::new() };
        group.propose(command, origin);
    }

    /// Whether the connection's version of the protocol has transactions; otherwise it ends.
    fn knows_transactions(&mut self, session: SessionId) -> bool {
        let Some(known) = self.sessions.get(&session) else { return false };
        if known.version >= TRANSACTIONS_SINCE {
            return true;
        }
        let text = format!(
            "transactions need version {TRANSACTIONS_SINCE} of the protocol, this connection speaks {}",
            known.version
        );
        self.close_session(session, FaultCode::UnexpectedFrame, text, String::new());
        false
    }

    /// Why this broker takes no such transaction now, whatever the state of the virtual host.
    fn transaction_refusal(&self, body: &TransactionBody) -> Option<(FaultCode, String)> {
        let (largest, limit) = (body.largest_body(), self.config.message_limit);
        if self.closing.is_some() {
            Some(shutting_down())
        } else if self.space_low && body.messages() > 0 {
            Some((FaultCode::DiskLow, FaultCode::DiskLow.text().to_owned()))
        } else if largest > limit {
            let text = format!("a message of the transaction has {largest} bytes, the limit is {limit}");
            Some((FaultCode::MessageTooLarge, text))
        } else {
            None
        }
    }

    /// What a client hears of its transaction, or of one that it asked to be ended.
    pub(super) fn transaction_answer(
        &mut self,
        group: &mut Group,
        request: u32,
        outcome: Outcome,
        withheld: Vec<Withheld>,
        (term, index): (Term, Index),
    ) -> ServerFrame {
        let done = match outcome {
            // A duplicate took nothing out of the queues now: what it names is held by whoever it names.
            Outcome::Committed(done) => done,
            other => {
                give_back(group, withheld);
                self.counters.transactions_refused += 1;
                let (code, text) = match other {
                    Outcome::Failed(code, text) => (code, format!("virtual host {}: {text}", group.vhost)),
                    _ => (FaultCode::Internal, "a transaction came to something else".to_owned()),
                };
                return Failed { request, code, text }.into();
            }
        };
        if done.duplicate {
            give_back(group, withheld);
            self.counters.duplicates += 1;
        } else {
            if let Some(serving) = &mut group.serving {
                for withheld in &withheld {
                    serving.delivery.confirm_withheld(withheld);
                }
            }
            self.counters.transactions += 1;
            self.counters.published += done.published;
            self.counters.acknowledged += done.settled;
        }
        let under_override = group.controls.in_force().is_some();
        if under_override {
            self.counters.under_override += done.published;
        }
        Committed {
            request,
            group: group.id.0,
            epoch: group.lineage.tag().epoch.0,
            term: term.0,
            index: index.0,
            durability: group.receipt_policy(),
            under_override,
            duplicate: done.duplicate,
        }
        .into()
    }
}

/// Whether something is remembered of the transaction's number: then nothing that is said of it now changes that.
fn is_known(group: &Group, body: &TransactionBody) -> bool {
    let next = group.machine.vhost().and_then(|machine| machine.producer_next(body.producer()));
    next.is_some_and(|next| body.number() < next)
}

fn shutting_down() -> (FaultCode, String) {
    (FaultCode::ShuttingDown, FaultCode::ShuttingDown.text().to_owned())
}

/// Keeps what a transaction settles from everybody, all of it or, if something is not its consumer's, nothing.
fn withhold_all(
    group: &mut Group,
    session: SessionId,
    channel: u16,
    settlements: &[TransactionSettlement],
) -> Result<Vec<Withheld>, DeliveryError> {
    let mut withheld = Vec::with_capacity(settlements.len());
    for settlement in settlements {
        let key = ConsumerKey { session, channel, consumer: settlement.consumer };
        let Some(serving) = &mut group.serving else { return Err(DeliveryError::NoConsumer(key)) };
        match serving.delivery.withhold(key, &settlement.ranges) {
            Ok(taken) => withheld.push(taken),
            Err(error) => {
                give_back(group, withheld);
                return Err(error);
            }
        }
    }
    Ok(withheld)
}

/// Consumers hold again what a transaction would have settled.
fn give_back(group: &mut Group, withheld: Vec<Withheld>) {
    for withheld in withheld {
        let Some(serving) = &mut group.serving else { return };
        if let Some((queue, ranges)) = serving.delivery.give_back(withheld) {
            group.propose(Command::Returned { queue, ranges }, Origin::Internal);
        }
    }
}
