//! The session's dealings with transactions that are being committed.
//!
//! ```text
//!                 Commit                     Committed
//!   waiting ────────────────────> in flight ───────────> committed
//!      │  ^                          │   │      Failed
//!      │  └── publishes only ────────┤   └─────────────> refused; in doubt: ask
//!      │       the connection ended  │
//!      │                             │ settles deliveries as well: they belong to that connection
//!      v                             v
//!    in doubt: ask ── Resolve ──> in flight ──> committed, or rolled back for ever
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{self, Failed, ProducerId, Resolve, ServerFrame};
use quorate_protocol::transaction::{TransactionBody, TransactionSettlement};
use quorate_protocol::version::TRANSACTIONS_SINCE;

use super::requests::{Purpose, RETRY};
use super::{Output, Session, Speaker};
use crate::error::Error;

/// What a transaction settles of one consumer's deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Settles {
    pub(crate) wire: TransactionSettlement,
    /// The consumer's session that they were delivered on.
    pub(crate) generation: u64,
    pub(crate) count: u32,
}

/// The numbers of one transactor. One is given when the transaction is first sent: what never leaves uses none up, so
/// that whoever begins again counts as the process before did.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    /// The number given last; 0 before the first one.
    pub(crate) fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn give(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A transaction that the application wants committed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Without its number.
    pub(crate) body: TransactionBody,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) settles: Vec<Settles>,
    /// Connections lost before it was begun.
    pub(crate) losses: u64,
}

impl Wanted {
    /// How many bytes its frame takes.
    fn length(&self) -> usize {
        let settles: usize = self.settles.iter().map(|settles| settles.wire.length()).sum();
        8 + settles + self.body.length()
    }
}

/// A transaction on its way.
pub(super) struct Commit<R> {
    wanted: Wanted,
    reply: R,
    /// Given when it is first sent.
    number: Option<u64>,
    /// A copy was sent and not answered: a broker may have it.
    in_doubt: bool,
    /// To be resolved, not to be sent again.
    asks: bool,
    /// What was said to the last copy.
    refused: Option<Error>,
    not_before: Option<Instant>,
}

pub(super) struct Commits<R> {
    waiting: VecDeque<Commit<R>>,
    /// Numbers whose outcome is not known.
    unsettled: BTreeSet<(ProducerId, u64)>,
}

impl<R> Commits<R> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), unsettled: BTreeSet::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|commit| commit.not_before).min()
    }

    /// The lowest number of this producer without an outcome; it has one at `number` or below.
    fn first_unsettled(&self, producer: ProducerId, number: u64) -> u64 {
        let first = self.unsettled.range((producer, 0)..=(producer, number)).next();
        first.map_or(number, |(_, first)| *first)
    }
}

impl<R> Session<R> {
    /// The application commits a transaction.
    pub(crate) fn commit(&mut self, wanted: Wanted, reply: R) {
        if wanted.losses != self.losses() {
            self.answer_commit(reply, Err(lost_while_open()));
            return;
        }
        self.commits.waiting.push_back(Commit {
            wanted,
            reply,
            number: None,
            in_doubt: false,
            asks: false,
            refused: None,
            not_before: None,
        });
    }

    pub(super) fn send_commits(&mut self, now: Instant) {
        let mut later = VecDeque::new();
        while self.requests_have_room() {
            let Some(commit) = self.commits.waiting.pop_front() else { break };
            if commit.not_before.is_some_and(|at| at > now) {
                later.push_back(commit);
            } else {
                self.send_commit(commit);
            }
        }
        later.append(&mut self.commits.waiting);
        self.commits.waiting = later;
    }

    fn send_commit(&mut self, mut commit: Commit<R>) {
        if !commit.asks
            && let Err(error) = self.may_send(&commit.wanted)
        {
            if !commit.in_doubt {
                return self.conclude_commit(commit, Err(error));
            }
            commit.refused = Some(error);
            commit.asks = true;
        }
        if commit.asks && self.version < TRANSACTIONS_SINCE {
            let error = Error::unknown_outcome(&no_transactions(self.version));
            return self.conclude_commit(commit, Err(error));
        }
        let producer = commit.wanted.body.producer();
        let number = *commit.number.get_or_insert_with(|| commit.wanted.numbers.give());
        self.commits.unsettled.insert((producer, number));
        let first_unsettled = self.commits.first_unsettled(producer, number);
        let frame = if commit.asks {
            Resolve { request: 0, producer, number, first_unsettled }.into()
        } else {
            let settlements = commit.wanted.settles.iter().map(|settles| settles.wire.clone()).collect();
            let transaction = commit.wanted.body.clone().numbered(number, first_unsettled);
            frame::Commit { request: 0, settlements, transaction }.into()
        };
        self.send_request(frame, Purpose::Commit(Box::new(commit)));
    }

    /// Whether the broker of this connection can be asked to commit it.
    fn may_send(&self, wanted: &Wanted) -> Result<(), Error> {
        let limit = usize::try_from(self.limits.message_frame()).unwrap_or(usize::MAX);
        if self.version < TRANSACTIONS_SINCE {
            return Err(no_transactions(self.version));
        }
        if wanted.length() > limit || wanted.body.largest_body() > self.limits.message() {
            let text = format!("the transaction has {} bytes, the broker takes {limit}", wanted.length());
            return Err(Error::TransactionFull(text.into()));
        }
        let lives =
            |settles: &Settles| self.consumer_generation(settles.wire.consumer) == Some(settles.generation);
        if wanted.settles.iter().all(lives) {
            return Ok(());
        }
        let text = "a delivery in it belongs to a consumer that was lost, and will be redelivered";
        Err(Error::RolledBack(text.into()))
    }

    pub(super) fn commit_answered(
        &mut self,
        mut commit: Commit<R>,
        result: Result<ServerFrame, Failed>,
        now: Instant,
    ) {
        let failed = match result {
            Ok(frame) => return self.conclude_commit(commit, Ok(frame)),
            Err(failed) => failed,
        };
        let error = Error::failed(failed.code, &failed.text);
        if commit.asks {
            match failed.code {
                FaultCode::TransactionRolledBack => {
                    let why = commit.refused.take().map(|refused| format!("{}: {refused}", failed.text));
                    self.conclude_commit(commit, Err(Error::RolledBack(why.unwrap_or(failed.text).into())));
                }
                // Nothing is remembered of the question.
                FaultCode::ShuttingDown | FaultCode::Overloaded | FaultCode::OutOfOrder => {
                    commit.not_before = Some(now + RETRY);
                    self.commits.waiting.push_back(commit);
                }
                FaultCode::LimitReached
                | FaultCode::MalformedFrame
                | FaultCode::UnknownOutcome
                | FaultCode::OutcomeForgotten => {
                    self.conclude_commit(commit, Err(Error::unknown_outcome(&error)));
                }
                _ => self.conclude_commit(commit, Err(error)),
            }
        } else if commit.in_doubt {
            // Another copy may have been taken, or may still be: only its number can tell, and end it.
            commit.refused = Some(error);
            commit.asks = true;
            self.commits.waiting.push_back(commit);
        } else if failed.code == FaultCode::TransactionRolledBack {
            self.conclude_commit(commit, Err(Error::RolledBack(failed.text.into())));
        } else {
            self.conclude_commit(commit, Err(error));
        }
    }

    /// The connection ended before the answer.
    pub(super) fn commit_cut(&mut self, mut commit: Commit<R>) {
        commit.in_doubt = true;
        commit.asks |= !commit.wanted.settles.is_empty();
        commit.not_before = None;
        self.commits.waiting.push_back(commit);
    }

    /// What was cut comes before what was never sent.
    pub(super) fn sort_commits(&mut self) {
        let waiting = self.commits.waiting.make_contiguous();
        waiting.sort_by_key(|commit| (!commit.in_doubt, commit.number));
    }

    fn conclude_commit(&mut self, commit: Commit<R>, result: Result<ServerFrame, Error>) {
        let Commit { wanted, reply, number, .. } = commit;
        if let Some(number) = number {
            self.commits.unsettled.remove(&(wanted.body.producer(), number));
        }
        if result.is_ok() {
            for settles in &wanted.settles {
                let number = settles.wire.consumer;
                if self.settled_together(number, settles.generation, settles.count) {
                    self.wake(Speaker::Consumer(number));
                }
            }
        }
        self.answer_commit(reply, result);
    }

    fn answer_commit(&mut self, reply: R, result: Result<ServerFrame, Error>) {
        self.outputs.push_back(Output::Answer(reply, result));
    }

    /// There will be no connection any more; this one was sent.
    pub(super) fn end_commit(&mut self, commit: Commit<R>, error: &Error) {
        self.conclude_commit(commit, Err(Error::unknown_outcome(error)));
    }

    pub(super) fn end_commits(&mut self, error: &Error) {
        for commit in std::mem::take(&mut self.commits.waiting) {
            let error = if commit.in_doubt { Error::unknown_outcome(error) } else { error.clone() };
            self.conclude_commit(commit, Err(error));
        }
    }
}

/// The connection ended while the transaction was open.
pub(crate) fn lost_while_open() -> Error {
    Error::RolledBack("the connection ended while the transaction was open: begin it again".into())
}

fn no_transactions(version: u16) -> Error {
    let text = format!("the broker speaks version {version} of the protocol, which has no transactions");
    Error::failed(FaultCode::UnsupportedVersion, &text)
}
