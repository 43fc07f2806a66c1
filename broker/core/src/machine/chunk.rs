//! 256 places of a queue, of which some hold a live message. A message of a batch costs four bytes and three bits,
//! wherever its body is; what all messages of a batch have in common is there once.

use bytes::Bytes;
use quorate_store::ids::Index;

use super::codec::{DecodeError, Reader, Writer};
use super::digest::Digest;
use super::limits::CHUNK_SLOTS;

/// Where a live message is and what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// The entry that brought it.
    pub index: Index,
    /// Where the publish body begins in the entry's data.
    pub batch_offset: u32,
    /// Where the message begins in the entry's data.
    pub message_offset: u32,
    /// Its bytes, properties and all.
    pub length: u32,
    /// How often it came back from a consumer; 255 is "255 or more".
    pub returns: u8,
    /// Its body is in the state store and must be read from there: the log may have let go of it.
    pub spilled: bool,
}

/// Bytes of one slot in a stored chunk, at most.
const STORED_SLOT: usize = 23;
const FORMAT: u8 = 2;

/// In a stored slot: it came in the batch of the slot before it.
const SAME_BATCH: u8 = 1;
/// In a stored slot: its body is in the state store.
const SPILLED: u8 = 2;
/// In a stored slot: it came back from a consumer.
const RETURNED: u8 = 4;

/// Between two messages of a batch: the length of the second.
const BETWEEN: u32 = 4;

/// One bit for each place.
#[derive(Clone, Copy, Debug, Default)]
struct Places([u64; 4]);

impl Places {
    fn bit(place: u8) -> (usize, u64) {
        (usize::from(place / 64), 1 << (place % 64))
    }

    fn has(&self, place: u8) -> bool {
        let (word, bit) = Self::bit(place);
        self.0[word] & bit != 0
    }

    fn add(&mut self, place: u8) {
        let (word, bit) = Self::bit(place);
        self.0[word] |= bit;
    }

    fn remove(&mut self, place: u8) {
        let (word, bit) = Self::bit(place);
        self.0[word] &= !bit;
    }

    /// In order, from `from` on.
    fn iter_from(self, from: u8) -> impl Iterator<Item = u8> {
        let mut words = self.0;
        let (word, bit) = Self::bit(from);
        words[..word].fill(0);
        words[word] &= !(bit - 1);
        let mut base = 0_u8;
        words.into_iter().flat_map(move |mut bits| {
            let first = base;
            base = base.wrapping_add(64);
            std::iter::from_fn(move || {
                let place = u8::try_from(bits.trailing_zeros()).ok().filter(|place| *place < 64)?;
                bits &= bits - 1;
                Some(first + place)
            })
        })
    }
}

/// Consecutive places whose messages lie one behind the other in one batch.
#[derive(Clone, Copy, Debug)]
struct Run {
    index: u64,
    batch_offset: u32,
    /// Where the last message ends in the entry's data.
    end: u32,
    first: u8,
    last: u8,
}

const _: () =
    assert!(size_of::<Run>() <= 24, "a message of its own batch costs at most 28 bytes and three bits");

/// What died with a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) length: u32,
    /// Its body is in the state store and must be deleted there.
    pub(crate) spilled: bool,
    /// Its body waits for the next checkpoint and must be forgotten.
    pub(crate) spilling: bool,
}

/// Slots from the first one used on; the tail chunk of a queue grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    /// Place of `offsets[0]`.
    start: u8,
    /// Where each message begins in its entry's data; at most `256 - start`. What is at places without a message means
    /// nothing.
    offsets: Vec<u32>,
    /// In ascending order.
    runs: Vec<Run>,
    alive: Places,
    /// Bodies that went to the state store with an earlier checkpoint.
    spilled: Places,
    /// Bodies that go to the state store with the next checkpoint.
    spilling: Places,
    /// Returns by place, once there are any.
    returns: Option<Box<[u8; 256]>>,
    live: u16,
    /// Changed since the last checkpoint.
    pub(crate) dirty: bool,
    /// Some checkpoint holds a record of it.
    pub(crate) stored: bool,
}

impl Chunk {
    pub(crate) fn is_dead(&self) -> bool {
        self.live == 0
    }

    /// Adds a live slot at `place`, which is above every place used so far.
    pub(crate) fn push(&mut self, place: u8, view: SlotView) {
        if self.offsets.is_empty() {
            self.start = place;
        }
        let at = usize::from(place.checked_sub(self.start).expect("places are given in ascending order"));
        assert!(at >= self.offsets.len(), "place {place} of a chunk was used before");
        self.offsets.resize(at, 0);
        self.offsets.push(view.message_offset);
        let end = view.message_offset.checked_add(view.length).expect("the end of a message fits 32 bits");
        let continued = self.runs.last_mut().filter(|run| {
            run.last.checked_add(1) == Some(place)
                && (run.index, run.batch_offset) == (view.index.0, view.batch_offset)
                && run.end.checked_add(BETWEEN) == Some(view.message_offset)
        });
        if let Some(run) = continued {
            (run.last, run.end) = (place, end);
        } else {
            let (index, batch_offset) = (view.index.0, view.batch_offset);
            self.runs.push(Run { index, batch_offset, end, first: place, last: place });
        }
        self.alive.add(place);
        if view.spilled {
            self.spilled.add(place);
        }
        if view.returns > 0 {
            self.returns_mut()[usize::from(place)] = view.returns;
        }
        self.live += 1;
        if place == u8::MAX {
            // It grows no more.
            self.offsets.shrink_to_fit();
            self.runs.shrink_to_fit();
        }
    }

    fn returns_mut(&mut self) -> &mut [u8; 256] {
        self.returns.get_or_insert_with(|| Box::new([0; 256]))
    }

    fn offset(&self, place: u8) -> u32 {
        let at = usize::from(place.checked_sub(self.start).expect("nothing is alive before the start"));
        *self.offsets.get(at).expect("what is alive has an offset")
    }

    /// The slot at a place of this run, which is alive.
    fn view_in(&self, run: &Run, place: u8) -> SlotView {
        let message_offset = self.offset(place);
        let end = if place < run.last { self.offset(place + 1) - BETWEEN } else { run.end };
        SlotView {
            index: Index(run.index),
            batch_offset: run.batch_offset,
            message_offset,
            length: end - message_offset,
            returns: self.returns.as_ref().map_or(0, |returns| returns[usize::from(place)]),
            spilled: self.spilled.has(place),
        }
    }

    pub(crate) fn view(&self, place: u8) -> Option<SlotView> {
        if !self.alive.has(place) {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= place);
        let run = after.checked_sub(1).and_then(|at| self.runs.get(at)).expect("what is alive is in a run");
        Some(self.view_in(run, place))
    }

    /// Live slots at `from` and above, in order.
    pub(crate) fn live_from(&self, from: u8) -> impl Iterator<Item = (u8, SlotView)> + '_ {
        let mut runs = self.runs.iter().peekable();
        self.alive.iter_from(from).map(move |place| {
            while runs.next_if(|run| run.last < place).is_some() {}
            let run = runs.peek().expect("what is alive is in a run");
            (place, self.view_in(run, place))
        })
    }

    /// Live places in `first..=last`, in order.
    pub(crate) fn live_in(&self, first: u8, last: u8) -> Vec<u8> {
        self.alive.iter_from(first).take_while(|&place| place <= last).collect()
    }

    pub(crate) fn kill(&mut self, place: u8) -> Option<Death> {
        let length = self.view(place)?.length;
        let death = Death { length, spilled: self.spilled.has(place), spilling: self.spilling.has(place) };
        self.alive.remove(place);
        self.live -= 1;
        Some(death)
    }

    /// Counts one more return; false if nothing is alive there.
    pub(crate) fn count_return(&mut self, place: u8) -> bool {
        if !self.alive.has(place) {
            return false;
        }
        let returns = &mut self.returns_mut()[usize::from(place)];
        *returns = returns.saturating_add(1);
        true
    }

    /// The body is on its way to the state store; false if nothing is alive there or it was before.
    pub(crate) fn begin_spill(&mut self, place: u8) -> bool {
        let begins = self.needs_spill(place);
        if begins {
            self.spilling.add(place);
        }
        begins
    }

    /// The body has left for the state store.
    pub(crate) fn end_spill(&mut self, place: u8) {
        if self.alive.has(place) {
            self.spilling.remove(place);
            self.spilled.add(place);
        }
    }

    /// A body that nothing has been done about yet.
    pub(crate) fn needs_spill(&self, place: u8) -> bool {
        self.alive.has(place) && !self.spilled.has(place) && !self.spilling.has(place)
    }

    /// The record of a checkpoint: format, then each live slot with its place.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer(Vec::with_capacity(3 + usize::from(self.live) * STORED_SLOT));
        out.u8(FORMAT);
        out.u16(self.live);
        let mut before = None;
        for (place, view) in self.live_from(0) {
            let batch = (view.index, view.batch_offset);
            let same = before.replace(batch) == Some(batch);
            let flag = |is: bool, flag: u8| if is { flag } else { 0 };
            out.u8(place);
            out.u8(flag(same, SAME_BATCH) | flag(view.spilled, SPILLED) | flag(view.returns > 0, RETURNED));
            if !same {
                out.u64(view.index.0);
                out.u32(view.batch_offset);
            }
            out.u32(view.message_offset);
            out.u32(view.length);
            if view.returns > 0 {
                out.u8(view.returns);
            }
        }
        out.into_bytes()
    }

    /// Every live body counts as being in the state store from here on; those that were not, in order.
    pub(crate) fn spill_all(&mut self) -> Vec<(u8, SlotView)> {
        let moved: Vec<_> = self.live_from(0).filter(|(_, view)| !view.spilled).collect();
        for &(place, _) in &moved {
            self.end_spill(place);
        }
        moved
    }

    #[cfg(test)]
    pub(crate) fn slot_memory(&self) -> usize {
        let returns = self.returns.as_ref().map_or(0, |returns| size_of_val(&**returns));
        self.offsets.capacity() * size_of::<u32>() + self.runs.capacity() * size_of::<Run>() + returns
    }

    /// Reads a record; the chunk is clean and stored.
    pub(crate) fn decode(record: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(record);
        if reader.u8()? != FORMAT {
            return Err(DecodeError::Value("chunk format"));
        }
        let count = reader.u16()?;
        if count == 0 || u64::from(count) > CHUNK_SLOTS {
            return Err(DecodeError::Value("chunk slots"));
        }
        let mut chunk = Self { stored: true, ..Self::default() };
        let mut above = 0_u16;
        let mut before = None;
        for _ in 0..count {
            let place = reader.u8()?;
            if u16::from(place) < above {
                return Err(DecodeError::Value("chunk place"));
            }
            above = u16::from(place) + 1;
            let flags = reader.u8()?;
            if flags & !(SAME_BATCH | SPILLED | RETURNED) != 0 {
                return Err(DecodeError::Value("slot flags"));
            }
            let batch = match (flags & SAME_BATCH != 0, before) {
                (true, None) => return Err(DecodeError::Value("slot batch")),
                (true, Some(batch)) => batch,
                (false, before) => {
                    let batch = (Index(reader.u64()?), reader.u32()?);
                    if before == Some(batch) {
                        return Err(DecodeError::Value("slot batch"));
                    }
                    batch
                }
            };
            before = Some(batch);
            let (index, batch_offset) = batch;
            let (message_offset, length) = (reader.u32()?, reader.u32()?);
            if message_offset.checked_add(length).is_none() {
                return Err(DecodeError::Value("slot length"));
            }
            let returns = if flags & RETURNED == 0 { 0 } else { reader.u8()? };
            if (returns > 0) != (flags & RETURNED != 0) {
                return Err(DecodeError::Value("slot returns"));
            }
            let spilled = flags & SPILLED != 0;
            chunk.push(place, SlotView { index, batch_offset, message_offset, length, returns, spilled });
        }
        reader.finish()?;
        Ok(chunk)
    }

    /// What is replicated of it: where a body is now is not.
    pub(crate) fn digest(&self, number: u64, digest: &mut Digest) {
        for (place, view) in self.live_from(0) {
            digest.word(number * CHUNK_SLOTS + u64::from(place));
            digest.word(view.index.0);
            digest.word(u64::from(view.batch_offset) << 32 | u64::from(view.message_offset));
            digest.word(u64::from(view.length) << 8 | u64::from(view.returns));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    /// A chunk as it is meant: each live place with its slot.
    #[derive(Default)]
    struct Model {
        slots: BTreeMap<u8, SlotView>,
        spilling: Vec<u8>,
    }

    fn compare(seed: u64, chunk: &Chunk, model: &Model) {
        let expected: Vec<_> = model.slots.iter().map(|(&place, &view)| (place, view)).collect();
        for from in [0, 1, 63, 64, 128, 200, 255] {
            let expected: Vec<_> = expected.iter().copied().filter(|(place, _)| *place >= from).collect();
            assert_eq!(chunk.live_from(from).collect::<Vec<_>>(), expected, "seed {seed}, from {from}");
        }
        for place in 0..=u8::MAX {
            let slot = model.slots.get(&place).copied();
            assert_eq!(chunk.view(place), slot, "seed {seed}, place {place}");
            let waits = slot.is_some_and(|slot| !slot.spilled) && !model.spilling.contains(&place);
            assert_eq!(chunk.needs_spill(place), waits, "seed {seed}, place {place}");
        }
        assert_eq!(chunk.is_dead(), expected.is_empty(), "seed {seed}");
    }

    /// Fills a chunk as batches do, with places left out, messages of other queues between, and batches of one.
    fn fill(dice: &mut ChaCha8Rng) -> (Chunk, Model) {
        let (mut chunk, mut model) = (Chunk::default(), Model::default());
        let mut place = dice.next_u32() % 40;
        let (mut index, mut offset) = (1, 100);
        while place < 256 {
            match dice.next_u32() % 12 {
                0 => place += dice.next_u32() % 70,
                1 => (index, offset) = (index + 1, 10),
                2 => offset += 33,
                _ => {
                    let at = u8::try_from(place).unwrap();
                    let view = SlotView {
                        index: Index(index),
                        batch_offset: 10,
                        message_offset: offset,
                        length: dice.next_u32() % 50,
                        returns: if dice.next_u32().is_multiple_of(9) { 3 } else { 0 },
                        spilled: dice.next_u32().is_multiple_of(5),
                    };
                    chunk.push(at, view);
                    model.slots.insert(at, view);
                    offset += view.length + BETWEEN;
                    place += 1;
                }
            }
        }
        (chunk, model)
    }

    #[test]
    fn it_is_what_a_map_of_slots_is() {
        for seed in 0..400 {
            let dice = &mut ChaCha8Rng::seed_from_u64(seed);
            let (mut chunk, mut model) = fill(dice);
            compare(seed, &chunk, &model);
            for _ in 0..200 {
                let place = u8::try_from(dice.next_u32() % 256).unwrap();
                let slot = model.slots.get_mut(&place);
                match dice.next_u32() % 4 {
                    0 => {
                        let death =
                            chunk.kill(place).map(|death| (death.length, death.spilled, death.spilling));
                        let spilling = model.spilling.contains(&place);
                        assert_eq!(
                            death,
                            slot.map(|slot| (slot.length, slot.spilled, spilling)),
                            "seed {seed}"
                        );
                        model.slots.remove(&place);
                        model.spilling.retain(|other| *other != place);
                    }
                    1 => {
                        assert_eq!(chunk.count_return(place), slot.is_some(), "seed {seed}");
                        if let Some(slot) = slot {
                            slot.returns = slot.returns.saturating_add(1);
                        }
                    }
                    2 => {
                        let begins =
                            slot.is_some_and(|slot| !slot.spilled) && !model.spilling.contains(&place);
                        assert_eq!(chunk.begin_spill(place), begins, "seed {seed}");
                        model.spilling.extend(begins.then_some(place));
                    }
                    _ => {
                        if model.spilling.contains(&place) {
                            chunk.end_spill(place);
                            if let Some(slot) = slot {
                                slot.spilled = true;
                            }
                            model.spilling.retain(|other| *other != place);
                        }
                    }
                }
            }
            compare(seed, &chunk, &model);
            if !chunk.is_dead() {
                let again = Chunk::decode(chunk.encode()).unwrap();
                model.spilling.clear();
                compare(seed, &again, &model);
                assert_eq!(again.encode(), chunk.encode(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_message_of_a_batch_costs_four_bytes() {
        let mut chunk = Chunk::default();
        for place in 0..=u8::MAX {
            let message_offset = 50 + u32::from(place) * 104;
            let (index, batch_offset) = (Index(7), 10);
            chunk.push(
                place,
                SlotView { index, batch_offset, message_offset, length: 100, returns: 0, spilled: false },
            );
        }
        assert!(chunk.slot_memory() <= 4 * 256 + size_of::<Run>(), "{} bytes", chunk.slot_memory());
    }
}
