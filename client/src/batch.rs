//! Consecutive messages of one publisher to one exchange with one key: a Publish frame, kept until it is settled.

use std::sync::Arc;

use quorate_protocol::frame::ProducerId;
use quorate_protocol::message as wire;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::{BatchError, PublishBody, PublishBuilder};

use crate::error::Error;
use crate::limits;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::receipt::Receipt;

/// A batch that still takes messages.
pub(crate) struct OpenBatch {
    exchange: ExchangeName,
    key: RoutingKey,
    builder: PublishBuilder,
    outcome: Arc<Outcome<Receipt>>,
    first: u64,
    message_bytes: usize,
}

impl OpenBatch {
    /// An empty batch whose first message will have the number `first`.
    pub(crate) fn new(
        producer: ProducerId,
        first: u64,
        first_unsettled: u64,
        exchange: ExchangeName,
        key: RoutingKey,
    ) -> Self {
        let builder = PublishBuilder::new(producer, first, first_unsettled, &exchange, &key);
        Self { exchange, key, builder, outcome: Outcome::new(), first, message_bytes: 0 }
    }

    pub(crate) fn is_for(&self, exchange: &str, key: &str) -> bool {
        self.exchange.as_str() == exchange && self.key.as_str() == key
    }

    /// The first message's number.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn length(&self) -> usize {
        self.builder.length()
    }

    /// Whether a message of this encoded length still goes in; an empty batch takes any.
    pub(crate) fn has_room(&self, length: usize, limit: usize) -> bool {
        let count = self.builder.count();
        count == 0 || (self.length() + length <= limit && count < limits::BATCH_MESSAGES)
    }

    pub(crate) fn push(&mut self, message: &Message, body_limit: u32) -> Result<u64, BatchError> {
        let number = self.builder.push(message.properties(), message.body(), body_limit)?;
        self.message_bytes += PublishBuilder::message_length(message.properties(), message.body());
        Ok(number)
    }

    pub(crate) fn outcome(&self) -> &Arc<Outcome<Receipt>> {
        &self.outcome
    }

    /// Closes the batch; nothing if it has no messages.
    pub(crate) fn seal(self) -> Option<Batch> {
        let Self { exchange, key, builder, outcome, first, message_bytes } = self;
        let body = builder.finish()?;
        let last = body.last();
        Some(Batch {
            exchange,
            key,
            body,
            outcome,
            unsettled: vec![(first, last)],
            last,
            message_bytes,
            on_its_way: false,
            refused: Vec::new(),
            reason: None,
            doubtful: Vec::new(),
            ever_sent: false,
        })
    }
}

/// A closed batch.
pub(crate) struct Batch {
    exchange: ExchangeName,
    key: RoutingKey,
    body: PublishBody,
    outcome: Arc<Outcome<Receipt>>,
    /// Inclusive ranges without an outcome, ascending.
    unsettled: Vec<(u64, u64)>,
    last: u64,
    message_bytes: usize,
    /// A copy was sent, and its answers count.
    on_its_way: bool,
    /// Of that copy: inclusive ranges refused for now.
    refused: Vec<(u64, u64)>,
    /// Why they, or those of an earlier copy, were refused.
    reason: Option<Error>,
    /// Inclusive ranges of which some copy got no answer: a broker may have it, whatever became of later copies. One
    /// may even arrive after them, on a connection that the client has left.
    doubtful: Vec<(u64, u64)>,
    ever_sent: bool,
}

impl Batch {
    /// The first number of the frame as it is sent now.
    pub(crate) fn first(&self) -> u64 {
        self.body.first()
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// The lowest number without an outcome; the number after the batch if there is none.
    pub(crate) fn first_unsettled(&self) -> u64 {
        self.unsettled.first().map_or(self.last.saturating_add(1), |(first, _)| *first)
    }

    /// On any session: whoever asks may have to be told that nobody knows.
    pub(crate) fn ever_sent(&self) -> bool {
        self.ever_sent
    }

    /// The frame's payload, shared, to be sent.
    pub(crate) fn send(&mut self) -> PublishBody {
        self.on_its_way = true;
        self.ever_sent = true;
        self.body.clone()
    }

    /// No answer to the copy that was sent counts any more: what has none by now is in doubt for ever.
    pub(crate) fn recall(&mut self) {
        if std::mem::take(&mut self.on_its_way) {
            let unanswered = without(&self.unsettled, &self.refused);
            self.doubtful.append(&mut without(&unanswered, &self.doubtful));
            self.refused.clear();
        }
    }

    /// These numbers of the copy on its way are refused for now. Says whether that concerns any without an outcome.
    pub(crate) fn refuse_for_now(&mut self, first: u64, last: u64, reason: &Error) -> bool {
        let concerned = within(&self.unsettled, &[(first, last)]);
        if !self.on_its_way || concerned.is_empty() {
            return false;
        }
        self.refused.append(&mut without(&concerned, &self.refused));
        self.reason = Some(reason.clone());
        true
    }

    /// Whether no answer is awaited.
    pub(crate) fn is_answered(&self) -> bool {
        !self.on_its_way || without(&self.unsettled, &self.refused).is_empty()
    }

    /// Nothing is sent any more: gives an outcome to whatever awaits no answer. That is `unsent` for what was never
    /// sent, the refusal for what was refused each time that it was sent, and an unknown outcome because of `cause`
    /// for the rest. Gives how many messages those were.
    pub(crate) fn conclude(&mut self, unsent: &Error, cause: &Error) -> usize {
        let concluded =
            if self.on_its_way { within(&self.unsettled, &self.refused) } else { self.unsettled.clone() };
        let in_doubt = within(&concluded, &self.doubtful);
        let mut count = 0;
        for (first, last) in in_doubt {
            count += self.settle(first, last, &Err(Error::unknown_outcome(cause)));
        }
        let known = if self.ever_sent { self.reason.as_ref().unwrap_or(cause) } else { unsent };
        let known = Err(known.clone());
        for (first, last) in concluded {
            count += self.settle(first, last, &known);
        }
        count
    }

    /// Says what became of these numbers, as far as they are in this batch and have no outcome yet. Gives how many
    /// those were.
    pub(crate) fn settle(&mut self, first: u64, last: u64, result: &Result<Receipt, Error>) -> usize {
        let mut count = 0;
        let mut rest = Vec::new();
        for (begin, end) in self.unsettled.drain(..) {
            let (from, to) = (begin.max(first), end.min(last));
            if from > to {
                rest.push((begin, end));
                continue;
            }
            if begin < from {
                rest.push((begin, from - 1));
            }
            if to < end {
                rest.push((to + 1, end));
            }
            count += usize::try_from(to - from + 1).unwrap_or(usize::MAX);
            self.outcome.settle(from, to, result.clone());
        }
        self.unsettled = rest;
        count
    }

    /// Makes the batch the first of those sent again: it leaves out what is settled at its beginning, and says what
    /// the publisher's lowest number without an outcome is now. A broker that has forgotten the publisher needs that
    /// to tell a gap from numbers that are settled.
    pub(crate) fn renew(&mut self, first_unsettled: u64) {
        let first = self.first_unsettled();
        let is_current = first <= self.body.first() && self.body.first_unsettled() == first_unsettled;
        if is_current || self.is_settled() {
            return;
        }
        let producer = self.body.producer();
        let mut builder = PublishBuilder::new(producer, first, first_unsettled, &self.exchange, &self.key);
        for message in self.body.messages().filter(|message| message.number >= first) {
            let parsed =
                wire::Message::parse(&message.bytes).expect("the batch was built from valid messages");
            let number = builder.push(parsed.properties(), parsed.body(), u32::MAX);
            assert_eq!(number, Ok(message.number), "messages keep their numbers");
        }
        self.body = builder.finish().expect("a batch with something unsettled has messages");
    }
}

/// What is both in `ranges` and in one of `others`. Ranges are inclusive; `ranges` are disjoint.
fn within(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let outside = without(ranges, others);
    without(ranges, &outside)
}

/// What is in `ranges` and in none of `others`. Ranges are inclusive; `ranges` are disjoint.
fn without(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = ranges.to_vec();
    for (first, last) in others.iter().copied() {
        left = left
            .into_iter()
            .flat_map(|(begin, end)| {
                let before = (begin < first).then(|| (begin, end.min(first.saturating_sub(1))));
                let after = (end > last).then(|| (begin.max(last.saturating_add(1)), end));
                [before, after]
            })
            .flatten()
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_without_and_within_others() {
        let ranges = [(1, 5), (8, 9)];
        assert_eq!(without(&ranges, &[]), ranges);
        assert_eq!(without(&ranges, &[(2, 3), (5, 8)]), [(1, 1), (4, 4), (9, 9)]);
        assert_eq!(without(&ranges, &[(0, u64::MAX)]), []);
        assert_eq!(within(&ranges, &[(5, 8), (20, 30)]), [(5, 5), (8, 8)]);
        assert_eq!(within(&ranges, &[(4, 5), (4, 8)]), [(4, 5), (8, 8)]);
    }

    fn batch(first: u64, bodies: &[&'static str]) -> Batch {
        let name = ExchangeName::new("x").unwrap();
        let mut open = OpenBatch::new(ProducerId(1), first, 1, name, RoutingKey::new("k").unwrap());
        for body in bodies {
            open.push(&Message::new(*body), u32::MAX).unwrap();
        }
        open.seal().unwrap()
    }

    #[test]
    fn settled_in_pieces_and_never_twice() {
        let mut batch = batch(10, &["a", "b", "c", "d", "e"]);
        let failed = Err(Error::Closed);
        assert_eq!(batch.settle(11, 12, &failed), 2);
        assert_eq!(batch.settle(0, 12, &failed), 1);
        assert_eq!(batch.first_unsettled(), 13);
        assert_eq!(batch.settle(1, 12, &failed), 0);
        assert!(!batch.is_settled());
        assert_eq!(batch.settle(13, u64::MAX, &failed), 2);
        assert!(batch.is_settled());
        assert_eq!(batch.first_unsettled(), 15);
    }

    #[test]
    fn renewed_batches_keep_their_numbers_and_bytes() {
        let mut batch = batch(10, &["a", "bb", "ccc", "d"]);
        batch.renew(3);
        assert_eq!((batch.body.first(), batch.body.first_unsettled()), (10, 3), "nothing is settled");
        batch.settle(10, 11, &Err(Error::Closed));
        batch.settle(13, 13, &Err(Error::Closed));
        batch.renew(3);
        let body = PublishBody::parse(batch.send().into_bytes()).unwrap();
        assert_eq!(body.first_unsettled(), 3);
        assert_eq!(
            (body.first(), body.last()),
            (12, 13),
            "a settled end stays, so that no number is left out"
        );
        assert_eq!((body.exchange(), body.key()), ("x", "k"));
        let messages: Vec<_> = body.messages().map(|it| wire::Message::parse(&it.bytes).unwrap()).collect();
        assert_eq!(messages.iter().map(|it| &it.body()[..]).collect::<Vec<_>>(), [&b"ccc"[..], b"d"]);
    }
}
