//! De-duplication: which numbers of which producer were stored or refused.
//!
//! A producer numbers its messages and tells with each batch the first number it has not had settled. Numbers from that one
//! on must come without gaps; otherwise a batch that overtook another (which was lost with a leader, or refused for now)
//! would make the other's numbers look stored when they come again.
//!
//! ```text
//!  1 ──────── known_from ─────────────────────────── next ────────>
//!  forgotten      │ stored, or remembered as refused    │ not judged yet
//! ```
//!
//! What its process has settled it never sends again. Another process may that begins again under the same id, and must not
//! take for stored what was refused, nor what was given up before it was judged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{NumberRange, ProducerId};
use quorate_store::ids::Index;

use super::codec::{DecodeError, Reader, Writer};
use super::digest::Digest;
use super::limits::{MAX_PRODUCERS, MAX_REFUSED_RANGES, MAX_SEQUENCE, MAX_SETTLED_REFUSED_RANGES};

const FORMAT: u8 = 2;
/// Does not say from where on refusals are known.
const FORMAT_WITHOUT_FLOOR: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Producer {
    next: u64,
    /// What was refused below this is forgotten.
    known_from: u64,
    /// First number to last number and reason; disjoint.
    refused: BTreeMap<u64, (u64, FaultCode)>,
    used: Index,
}

/// How a batch stands before anything of it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Stored before.
    pub(crate) duplicates: Vec<NumberRange>,
    /// Refused before, for good; or used before, and forgotten what came of it.
    pub(crate) refused: Vec<(NumberRange, FaultCode)>,
    /// Not seen before.
    pub(crate) new: Option<NumberRange>,
}

/// All remembered producers of a vhost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    by_use: BTreeSet<(Index, ProducerId)>,
    dirty: BTreeSet<ProducerId>,
}

impl Producers {
    /// The first number not judged yet, if the producer is remembered.
    pub(crate) fn next(&self, id: ProducerId) -> Option<u64> {
        self.known.get(&id).map(|producer| producer.next)
    }

    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// Divides a batch's numbers into what was judged before and what is new; none if the batch overtook another.
    pub(crate) fn judge(
        &self,
        id: ProducerId,
        numbers: NumberRange,
        first_unsettled: u64,
    ) -> Option<Judgement> {
        let (first, last) = (numbers.first(), numbers.last());
        let settled = first_unsettled.min(first);
        let known = self.known.get(&id);
        let next = known.map_or(settled, |producer| producer.next.max(settled));
        if first > next {
            return None;
        }
        let mut judgement = Judgement { new: NumberRange::new(next, last), ..Judgement::default() };
        let Some(before) = NumberRange::new(first, last.min(next.saturating_sub(1))) else {
            return Some(judgement);
        };
        let mut at = Some(before.first());
        let known_from = known.map_or(0, |producer| producer.known_from);
        if let Some(forgotten) = below(before.first(), known_from.min(before.last() + 1)) {
            judgement.refused.push((forgotten, FaultCode::OutcomeForgotten));
            at = Some(known_from).filter(|from| *from <= before.last());
        }
        for (&from, &(to, code)) in known.map(|producer| &producer.refused).into_iter().flatten() {
            let Some(start) = at else { break };
            let Some(refused) = NumberRange::new(from.max(start), to.min(before.last())) else { continue };
            judgement.duplicates.extend(below(start, refused.first()));
            judgement.refused.push((refused, code));
            at = refused.last().checked_add(1).filter(|&next| next <= before.last());
        }
        judgement.duplicates.extend(at.and_then(|start| NumberRange::new(start, before.last())));
        Some(judgement)
    }

    /// Whether one more refused range can be remembered; otherwise the refusal must be for now only.
    pub(crate) fn can_refuse(
        &self,
        id: ProducerId,
        first_unsettled: u64,
        refused: NumberRange,
        code: FaultCode,
    ) -> bool {
        let Some(producer) = self.known.get(&id) else { return true };
        let kept = || producer.refused.values().filter(|&&(last, _)| last >= first_unsettled).count();
        producer.extends_last(refused, code) || kept() < MAX_REFUSED_RANGES
    }

    /// Takes note of a batch judged at `index`: numbers below `next` are judged, `refused` ones for good.
    pub(crate) fn record(
        &mut self,
        id: ProducerId,
        first_unsettled: u64,
        next: u64,
        refused: Option<(NumberRange, FaultCode)>,
        index: Index,
    ) {
        let producer = self.known.entry(id).or_insert(Producer {
            next: first_unsettled,
            known_from: first_unsettled,
            ..Producer::default()
        });
        self.by_use.remove(&(producer.used, id));
        producer.used = index;
        // Its process has given these up, and they were never judged.
        if let Some(given_up) = below(producer.next, first_unsettled) {
            producer.refuse(given_up, FaultCode::RefusedBefore);
        }
        producer.next = producer.next.max(next).max(first_unsettled);
        if let Some((range, code)) = refused {
            producer.refuse(range, code);
        }
        producer.forget(first_unsettled);
        self.by_use.insert((index, id));
        self.dirty.insert(id);
        if self.known.len() > MAX_PRODUCERS {
            let (_, forgotten) =
                self.by_use.pop_first().expect("every known producer is in the order of use");
            self.known.remove(&forgotten);
            self.dirty.insert(forgotten);
        }
    }

    /// Producers changed since the last call with their records, or none if they are forgotten.
    pub(crate) fn take_dirty(&mut self) -> Vec<(ProducerId, Option<Bytes>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|id| (id, self.known.get(&id).map(Producer::encode))).collect()
    }

    pub(crate) fn restore(&mut self, id: ProducerId, record: Bytes) -> Result<(), DecodeError> {
        let producer = Producer::decode(record)?;
        if self.known.len() >= MAX_PRODUCERS {
            return Err(DecodeError::Value("producers"));
        }
        self.by_use.insert((producer.used, id));
        self.known.insert(id, producer);
        Ok(())
    }

    pub(crate) fn digest(&self, digest: &mut Digest) {
        digest.word(self.known.len() as u64);
        for (&id, producer) in &self.known {
            digest.bytes(&id.0.to_le_bytes());
            digest.bytes(&producer.encode());
        }
    }
}

/// From `start` to just below `end`, if that is a number at least.
fn below(start: u64, end: u64) -> Option<NumberRange> {
    end.checked_sub(1).and_then(|last| NumberRange::new(start, last))
}

impl Producer {
    /// Whether the last refused range goes on with this one.
    fn extends_last(&self, range: NumberRange, code: FaultCode) -> bool {
        let last = self.refused.last_key_value().map(|(_, &(last, code))| (last.checked_add(1), code));
        last == Some((Some(range.first()), code))
    }

    /// Refuses what is above all that it refused before.
    fn refuse(&mut self, range: NumberRange, code: FaultCode) {
        let extends = self.extends_last(range, code);
        match self.refused.last_entry() {
            Some(mut before) if extends => before.get_mut().0 = range.last(),
            _ => drop(self.refused.insert(range.first(), (range.last(), code))),
        }
    }

    /// Forgets the lowest of too many ranges that its process has settled.
    fn forget(&mut self, first_unsettled: u64) {
        while self.refused.len() > MAX_SETTLED_REFUSED_RANGES {
            let Some(lowest) = self.refused.first_entry() else { return };
            let last = lowest.get().0;
            if last >= first_unsettled {
                return;
            }
            lowest.remove();
            self.known_from = self.known_from.max(last + 1);
        }
    }

    fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(FORMAT);
        out.u64(self.next);
        out.u64(self.known_from);
        out.u64(self.used.0);
        out.count(self.refused.len());
        for (&first, &(last, code)) in &self.refused {
            out.u64(first);
            out.u64(last);
            out.u16(code.number());
        }
        out.into_bytes()
    }

    fn decode(record: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(record);
        let format = reader.u8()?;
        if ![FORMAT, FORMAT_WITHOUT_FLOOR].contains(&format) {
            return Err(DecodeError::Value("producer format"));
        }
        let next = reader.u64()?;
        let known_from = if format == FORMAT { reader.u64()? } else { 0 };
        let mut producer = Self { next, known_from, used: Index(reader.u64()?), refused: BTreeMap::new() };
        if producer.next > MAX_SEQUENCE || producer.known_from > producer.next {
            return Err(DecodeError::Value("producer number"));
        }
        let mut above = 0;
        for _ in 0..reader.count(18)? {
            let (first, last) = (reader.u64()?, reader.u64()?);
            if first < above || last < first || last >= producer.next {
                return Err(DecodeError::Value("refused range"));
            }
            above = last + 1;
            producer.refused.insert(first, (last, FaultCode::from_number(reader.u16()?)));
        }
        reader.finish()?;
        Ok(producer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_so_is_one_of_the_first_format() {
        let refused = BTreeMap::from([(3, (4, FaultCode::Unroutable))]);
        let producer = Producer { next: 9, known_from: 2, refused, used: Index(70) };
        assert_eq!(Producer::decode(producer.encode()), Ok(producer.clone()));
        let mut first = producer.encode().to_vec();
        first[0] = FORMAT_WITHOUT_FLOOR;
        first.drain(9..17);
        assert_eq!(Producer::decode(first.into()), Ok(Producer { known_from: 0, ..producer }));
    }
}
