//! Requests and their answers: numbered, sent in order, kept until answered, asked again after a reconnect where that
//! is harmless.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use quorate_protocol::fault::{Blame, FaultCode};
use quorate_protocol::frame::{ClientFrame, Failed, Frame, ServerFrame};

use super::commits::Commit;
use super::{Ended, Output, Session};
use crate::consume::Settlement;
use crate::error::Error;
use crate::limits;

/// Wait before a request refused for a passing reason is asked again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// Something the application asked for.
#[derive(Debug)]
pub(super) struct Asked<R> {
    /// Its request number is set when it is sent.
    frame: ClientFrame,
    reply: R,
    deadline: Instant,
    not_before: Option<Instant>,
    /// What was said to it the last time.
    refused: Option<Error>,
}

/// Why a request was sent.
pub(super) enum Purpose<R> {
    /// The application wants it.
    Asked(Asked<R>),
    /// It is declared again after a reconnect.
    Restore(ClientFrame),
    /// A consumer is started.
    Consume(u32),
    /// A consumer is stopped; somebody may wait for it.
    Cancel(u32, Option<R>),
    /// Deliveries are settled.
    Settle(u32, Settlement),
    /// A transaction is committed, or resolved.
    Commit(Box<Commit<R>>),
    /// Nobody waits for the answer any more.
    Abandoned,
}

pub(super) struct Requests<R> {
    next: u32,
    in_flight: BTreeMap<u32, (&'static str, Purpose<R>)>,
    waiting: VecDeque<Asked<R>>,
}

impl<R> Requests<R> {
    pub(super) fn new() -> Self {
        Self { next: 1, in_flight: BTreeMap::new(), waiting: VecDeque::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let in_flight = self.in_flight.values().filter_map(|(_, purpose)| match purpose {
            Purpose::Asked(asked) => Some(asked.deadline),
            _ => None,
        });
        let waiting =
            self.waiting.iter().map(|asked| asked.not_before.unwrap_or(asked.deadline).min(asked.deadline));
        in_flight.chain(waiting).min()
    }
}

impl<R> Session<R> {
    /// The application asks for something.
    pub(crate) fn request(&mut self, frame: ClientFrame, reply: R, now: Instant) {
        let deadline = now + self.request_timeout;
        self.requests.waiting.push_back(Asked { frame, reply, deadline, not_before: None, refused: None });
    }

    /// Numbers a request and sends it.
    pub(super) fn send_request(&mut self, mut frame: ClientFrame, purpose: Purpose<R>) {
        // A number in use would mean four billion requests without an answer.
        while self.requests.next == 0 || self.requests.in_flight.contains_key(&self.requests.next) {
            self.requests.next = self.requests.next.wrapping_add(1);
        }
        let number = self.requests.next;
        self.requests.next = number.wrapping_add(1);
        set_number(&mut frame, number);
        self.send(&frame);
        self.requests.in_flight.insert(number, (frame.kind_name(), purpose));
    }

    pub(super) fn requests_have_room(&self) -> bool {
        self.requests.in_flight.len() < limits::REQUESTS_IN_FLIGHT
    }

    pub(super) fn send_requests(&mut self, now: Instant) {
        let mut later = VecDeque::new();
        while self.requests_have_room() {
            let Some(asked) = self.requests.waiting.pop_front() else { break };
            if asked.not_before.is_some_and(|at| at > now) {
                later.push_back(asked);
            } else {
                self.send_request(asked.frame.clone(), Purpose::Asked(asked));
            }
        }
        later.append(&mut self.requests.waiting);
        self.requests.waiting = later;
    }

    /// An answer to a request, whichever it is.
    pub(super) fn answer(&mut self, frame: ServerFrame, now: Instant) -> Result<(), Ended> {
        let number = request_number(&frame);
        let Some((kind, purpose)) = self.requests.in_flight.remove(&number) else {
            let text = format!("{} for request {number}, which was never made", frame.kind_name());
            return Err(Error::protocol(text).into());
        };
        if !answers(kind, &frame) {
            // Whoever waits must not wait for ever: the request counts as unanswered.
            self.requests.in_flight.insert(number, (kind, purpose));
            return Err(Error::protocol(format!("{} answers {kind}", frame.kind_name())).into());
        }
        let result = match frame {
            ServerFrame::Failed(failed) => Err(failed),
            frame => Ok(frame),
        };
        match purpose {
            Purpose::Asked(asked) => self.answer_asked(asked, result, now),
            Purpose::Restore(frame) => self.restored(frame, result.err(), now),
            Purpose::Consume(consumer) => self.consume_answered(consumer, result, now),
            Purpose::Cancel(consumer, reply) => self.cancel_answered(consumer, reply, result),
            Purpose::Settle(consumer, settlement) => self.settle_answered(consumer, &settlement, &result)?,
            Purpose::Commit(commit) => self.commit_answered(*commit, result, now),
            Purpose::Abandoned => {}
        }
        Ok(())
    }

    fn answer_asked(&mut self, mut asked: Asked<R>, result: Result<ServerFrame, Failed>, now: Instant) {
        match result {
            Err(failed) if is_passing(failed.code) && now + RETRY < asked.deadline => {
                asked.refused = Some(Error::failed(failed.code, &failed.text));
                asked.not_before = Some(now + RETRY);
                self.requests.waiting.push_back(asked);
            }
            Err(failed) => {
                let error = Error::failed(failed.code, &failed.text);
                self.outputs.push_back(Output::Answer(asked.reply, Err(error)));
            }
            Ok(frame) => {
                self.topology.learn(&asked.frame);
                self.outputs.push_back(Output::Answer(asked.reply, Ok(frame)));
            }
        }
    }

    pub(super) fn expire_requests(&mut self, now: Instant) {
        if self.requests.is_idle() {
            return;
        }
        let waiting = std::mem::take(&mut self.requests.waiting).into_iter();
        let (expired, waiting): (VecDeque<_>, VecDeque<_>) = waiting.partition(|asked| asked.deadline <= now);
        self.requests.waiting = waiting;
        for asked in expired {
            let waited = match asked.refused {
                Some(error) => error,
                None => Error::TimedOut("no broker answered; the request was not sent again".into()),
            };
            self.outputs.push_back(Output::Answer(asked.reply, Err(waited)));
        }
        for (kind, purpose) in self.requests.in_flight.values_mut() {
            if !matches!(purpose, Purpose::Asked(asked) if asked.deadline <= now) {
                continue;
            }
            if let Purpose::Asked(asked) = std::mem::replace(purpose, Purpose::Abandoned) {
                let error = Error::UnknownOutcome(format!("{kind} was sent and not answered in time").into());
                self.outputs.push_back(Output::Answer(asked.reply, Err(error)));
            }
        }
    }

    /// The connection ended: what is harmless is asked again, of the rest nobody knows.
    pub(super) fn forget_in_flight(&mut self, error: &Error, now: Instant) {
        let mut again = VecDeque::new();
        for (_, (kind, purpose)) in std::mem::take(&mut self.requests.in_flight) {
            match purpose {
                Purpose::Asked(asked) if may_repeat(&asked.frame) => again.push_back(asked),
                Purpose::Asked(asked) => {
                    let text =
                        format!("{kind} was sent and not answered before the connection ended: {error}");
                    let unknown = Error::UnknownOutcome(text.into());
                    self.outputs.push_back(Output::Answer(asked.reply, Err(unknown)));
                }
                Purpose::Settle(_, settlement) => {
                    let text = "settled and not answered before the connection ended; it may be redelivered";
                    settlement.resolve(&Err(Error::UnknownOutcome(text.into())));
                }
                Purpose::Cancel(consumer, reply) => {
                    // No connection, no consumer: that is what was asked for.
                    let done = quorate_protocol::frame::CancelOk { request: 0 };
                    self.cancel_answered(consumer, reply, Ok(done.into()));
                }
                Purpose::Commit(commit) => self.commit_cut(*commit),
                Purpose::Restore(_) | Purpose::Consume(_) | Purpose::Abandoned => {}
            }
        }
        self.sort_commits();
        again.append(&mut self.requests.waiting);
        self.requests.waiting = again;
        self.expire_requests(now);
    }

    pub(super) fn end_requests(&mut self, error: &Error) {
        self.requests.waiting.drain(..).for_each(|asked| {
            self.outputs.push_back(Output::Answer(asked.reply, Err(error.clone())));
        });
        for (_, (_, purpose)) in std::mem::take(&mut self.requests.in_flight) {
            match purpose {
                Purpose::Asked(asked) => {
                    let unknown = Error::unknown_outcome(error);
                    self.outputs.push_back(Output::Answer(asked.reply, Err(unknown)));
                }
                Purpose::Cancel(_, Some(reply)) => {
                    self.outputs.push_back(Output::Answer(reply, Err(error.clone())));
                }
                Purpose::Settle(_, settlement) => settlement.resolve(&Err(Error::unknown_outcome(error))),
                Purpose::Commit(commit) => self.end_commit(*commit, error),
                _ => {}
            }
        }
    }
}

/// Whether the same request is worth asking again without the application.
pub(super) fn is_passing(code: FaultCode) -> bool {
    code.is_retryable() && code.blame() == Blame::Environment && code != FaultCode::UnknownOutcome
}

/// Whether asking twice does what asking once does, and gets the same answer.
fn may_repeat(frame: &ClientFrame) -> bool {
    matches!(
        frame,
        ClientFrame::DeclareQueue(_)
            | ClientFrame::DeclareExchange(_)
            | ClientFrame::Bind(_)
            | ClientFrame::ListQueues(_)
            | ClientFrame::ListExchanges(_)
            | ClientFrame::ListBindings(_)
            | ClientFrame::PeekQueue(_)
    )
}

fn set_number(frame: &mut ClientFrame, number: u32) {
    let request = match frame {
        ClientFrame::DeclareQueue(it) => &mut it.request,
        ClientFrame::DeleteQueue(it) => &mut it.request,
        ClientFrame::PurgeQueue(it) => &mut it.request,
        ClientFrame::ListQueues(it) => &mut it.request,
        ClientFrame::PeekQueue(it) => &mut it.request,
        ClientFrame::DeclareExchange(it) => &mut it.request,
        ClientFrame::DeleteExchange(it) => &mut it.request,
        ClientFrame::ListExchanges(it) => &mut it.request,
        ClientFrame::Bind(it) => &mut it.request,
        ClientFrame::Unbind(it) => &mut it.request,
        ClientFrame::ListBindings(it) => &mut it.request,
        ClientFrame::Consume(it) => &mut it.request,
        ClientFrame::Cancel(it) => &mut it.request,
        ClientFrame::Ack(it) => &mut it.request,
        ClientFrame::Nack(it) => &mut it.request,
        ClientFrame::Commit(it) => &mut it.request,
        ClientFrame::Resolve(it) => &mut it.request,
        other => unreachable!("{} is no request", other.kind_name()),
    };
    *request = number;
}

/// The request that a frame answers; 0, which is never used, for a frame that answers none.
fn request_number(frame: &ServerFrame) -> u32 {
    match frame {
        ServerFrame::Failed(it) => it.request,
        ServerFrame::Done(it) => it.request,
        ServerFrame::QueueOk(it) => it.request,
        ServerFrame::QueueList(it) => it.request,
        ServerFrame::PeekOk(it) => it.request,
        ServerFrame::ExchangeList(it) => it.request,
        ServerFrame::BindingList(it) => it.request,
        ServerFrame::ConsumeOk(it) => it.request,
        ServerFrame::CancelOk(it) => it.request,
        ServerFrame::Settled(it) => it.request,
        ServerFrame::Committed(it) => it.request,
        _ => 0,
    }
}

/// Whether a frame may answer a request of this kind.
fn answers(request: &str, frame: &ServerFrame) -> bool {
    let expected = match frame {
        ServerFrame::Failed(_) => return true,
        ServerFrame::Done(_) => {
            ["DeleteQueue", "PurgeQueue", "DeclareExchange", "DeleteExchange", "Bind", "Unbind"].as_slice()
        }
        ServerFrame::QueueOk(_) => &["DeclareQueue"],
        ServerFrame::QueueList(_) => &["ListQueues"],
        ServerFrame::PeekOk(_) => &["PeekQueue"],
        ServerFrame::ExchangeList(_) => &["ListExchanges"],
        ServerFrame::BindingList(_) => &["ListBindings"],
        ServerFrame::ConsumeOk(_) => &["Consume"],
        ServerFrame::CancelOk(_) => &["Cancel"],
        ServerFrame::Settled(_) => &["Ack", "Nack"],
        ServerFrame::Committed(_) => &["Commit", "Resolve"],
        _ => &[],
    };
    expected.contains(&request)
}
