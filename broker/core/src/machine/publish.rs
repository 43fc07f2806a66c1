//! Publishing: de-duplicate, route, store.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::NumberRange;
use quorate_protocol::publish::{MessageSpan, PublishBody};
use quorate_store::ids::Index;

use super::chunk::SlotView;
use super::command::QueueId;
use super::limits::{MAX_COPIES_PER_BATCH, MAX_LIVE_MESSAGES, MAX_SEQUENCE};
use super::outcome::{Outcome, Published};
use super::vhost::{Applied, VhostMachine};

impl VhostMachine {
    /// Applies a publish command whose body begins at `offset` of the data of the entry at `index`.
    pub(super) fn publish(&mut self, index: Index, offset: usize, body: Bytes) -> Applied {
        let end = offset.saturating_add(body.len());
        let batch = PublishBody::parse(body).map_err(|problem| (problem.fault(), problem.to_string()))?;
        let (producer, numbers) = (batch.producer(), batch.numbers());
        let refuse_all = |code| {
            let refused = vec![(numbers, code)];
            Ok(Outcome::Published(Published { producer, refused, ..Published::default() }))
        };
        let (Ok(offset), Ok(_)) = (u32::try_from(offset), u32::try_from(end)) else {
            return refuse_all(FaultCode::MessageTooLarge);
        };
        if numbers.last() >= MAX_SEQUENCE {
            return refuse_all(FaultCode::LimitReached);
        }
        let Some(judged) = self.producers.judge(producer, numbers, batch.first_unsettled()) else {
            return refuse_all(FaultCode::OutOfOrder);
        };
        let mut published = Published {
            producer,
            confirmed: Vec::new(),
            duplicates: judged.duplicates,
            refused: judged.refused,
            full: None,
        };
        let mut next = numbers.first();
        let mut refused_for_good = None;
        if let Some(new) = judged.new {
            let StoredBatch { stored, refusal, full } = self.store_batch(index, offset, &batch, new);
            published.confirmed.extend(stored);
            published.refused.extend(refusal);
            published.full = full;
            next = stored.map_or(new.first(), |stored| stored.last() + 1);
            refused_for_good = refusal.filter(|(_, code)| !code.is_retryable());
            if let Some((range, _)) = refused_for_good {
                next = range.last() + 1;
            }
        }
        let judged_any = next > numbers.first() || self.producers.next(producer).is_some();
        if judged_any {
            self.producers.record(producer, batch.first_unsettled(), next, refused_for_good, index);
        }
        Ok(Outcome::Published(published))
    }

    /// Stores as many of the numbers `new` of a batch as there is room for.
    fn store_batch(
        &mut self,
        index: Index,
        offset: u32,
        batch: &PublishBody,
        new: NumberRange,
    ) -> StoredBatch {
        let queues = match self.targets(batch, new) {
            Ok(queues) => queues,
            Err(code) => return StoredBatch { stored: None, refusal: Some((new, code)), full: None },
        };
        let (room, narrowest) = self.room(&queues);
        let room = room.min(new.count());
        let stored = room.checked_sub(1).and_then(|more| NumberRange::new(new.first(), new.first() + more));
        if stored.is_some() {
            let skip = usize::try_from(new.first() - batch.first()).expect("a batch's count fits");
            let take = usize::try_from(room).expect("at most a batch's count");
            for queue in queues {
                self.store(queue, batch.spans().skip(skip).take(take).map(|span| slot(index, offset, span)));
            }
        }
        let first_left = stored.map_or(new.first(), |stored| stored.last() + 1);
        let left = NumberRange::new(first_left, new.last());
        StoredBatch {
            stored,
            refusal: left.map(|left| (left, FaultCode::QueueFull)),
            full: narrowest.filter(|_| left.is_some()),
        }
    }

    /// The queues that a batch goes to, at least one.
    fn targets(&self, batch: &PublishBody, new: NumberRange) -> Result<BTreeSet<QueueId>, FaultCode> {
        let queues = self.route(batch.exchange(), batch.key());
        let refusal = match &queues {
            None => Some(FaultCode::ExchangeNotFound),
            Some(queues) if queues.is_empty() => Some(FaultCode::Unroutable),
            Some(queues) if new.count().saturating_mul(queues.len() as u64) > MAX_COPIES_PER_BATCH => {
                Some(FaultCode::MessageTooLarge)
            }
            Some(_) => None,
        };
        match (queues, refusal) {
            (Some(queues), None) => Ok(queues),
            (_, Some(code))
                if self.producers.can_refuse(batch.producer(), batch.first_unsettled(), new, code) =>
            {
                Err(code)
            }
            // Nothing can be remembered as refused before the producer has settled some of what was.
            _ => Err(FaultCode::Overloaded),
        }
    }

    /// Messages that fit into every one of these queues, and which queue allows no more; none: the virtual host.
    fn room(&self, queues: &BTreeSet<QueueId>) -> (u64, Option<QueueId>) {
        let of_vhost = MAX_LIVE_MESSAGES.saturating_sub(self.live()) / (queues.len() as u64).max(1);
        let rooms = queues.iter().filter_map(|id| self.queue(*id)).map(|queue| (queue.room(), queue.id()));
        match rooms.min() {
            Some((room, queue)) if room <= of_vhost => (room, Some(queue)),
            Some(_) => (of_vhost, None),
            None => (0, None),
        }
    }
}

/// What became of the new messages of a batch.
struct StoredBatch {
    stored: Option<NumberRange>,
    refusal: Option<(NumberRange, FaultCode)>,
    /// The queue that had no room for those refused.
    full: Option<QueueId>,
}

pub(super) fn slot(index: Index, offset: u32, span: MessageSpan) -> SlotView {
    SlotView {
        index,
        batch_offset: offset,
        message_offset: offset.checked_add(span.offset).expect("the end of the batch fits 32 bits"),
        length: span.length,
        returns: 0,
        spilled: false,
    }
}
