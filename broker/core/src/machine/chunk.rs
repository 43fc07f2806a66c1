//! 256 places of a queue, of which some hold a live message. A message costs one slot of 24 bytes, wherever its
//! body is.

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

/// Bytes of one slot in a stored chunk.
const STORED_SLOT: usize = 23;
const FORMAT: u8 = 1;

const LIVE: u8 = 1;
/// The body went to the state store with an earlier checkpoint.
const SPILLED: u8 = 2;
/// The body goes to the state store with the next checkpoint.
const SPILLING: u8 = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    index: u64,
    batch_offset: u32,
    message_offset: u32,
    length: u32,
    returns: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Slot>() <= 24, "a live message costs at most 24 bytes in its chunk");

impl Slot {
    fn is_live(self) -> bool {
        self.flags & LIVE != 0
    }

    fn view(self) -> SlotView {
        SlotView {
            index: Index(self.index),
            batch_offset: self.batch_offset,
            message_offset: self.message_offset,
            length: self.length,
            returns: self.returns,
            spilled: self.flags & SPILLED != 0,
        }
    }
}

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
    /// Place of `slots[0]`.
    start: u8,
    /// At most `256 - start`.
    slots: Vec<Slot>,
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
        if self.slots.is_empty() {
            self.start = place;
        }
        let at = usize::from(place.checked_sub(self.start).expect("places are given in ascending order"));
        assert!(at >= self.slots.len(), "place {place} of a chunk was used before");
        self.slots.resize(at, Slot::default());
        let flags = if view.spilled { LIVE | SPILLED } else { LIVE };
        self.slots.push(Slot {
            index: view.index.0,
            batch_offset: view.batch_offset,
            message_offset: view.message_offset,
            length: view.length,
            returns: view.returns,
            flags,
        });
        self.live += 1;
    }

    fn slot(&self, place: u8) -> Option<Slot> {
        let at = usize::from(place.checked_sub(self.start)?);
        self.slots.get(at).copied().filter(|slot| slot.is_live())
    }

    fn slot_mut(&mut self, place: u8) -> Option<&mut Slot> {
        let at = usize::from(place.checked_sub(self.start)?);
        self.slots.get_mut(at).filter(|slot| slot.is_live())
    }

    pub(crate) fn view(&self, place: u8) -> Option<SlotView> {
        self.slot(place).map(Slot::view)
    }

    /// Live slots at `from` and above, in order.
    pub(crate) fn live_from(&self, from: u8) -> impl Iterator<Item = (u8, SlotView)> + '_ {
        let skip = usize::from(from.saturating_sub(self.start));
        (self.start..=u8::MAX)
            .zip(self.slots.iter())
            .skip(skip)
            .filter(|(_, slot)| slot.is_live())
            .map(|(place, slot)| (place, slot.view()))
    }

    /// Live places in `first..=last`, in order.
    pub(crate) fn live_in(&self, first: u8, last: u8) -> Vec<u8> {
        self.live_from(first).map(|(place, _)| place).take_while(|&place| place <= last).collect()
    }

    pub(crate) fn kill(&mut self, place: u8) -> Option<Death> {
        let slot = self.slot_mut(place)?;
        let death = Death {
            length: slot.length,
            spilled: slot.flags & SPILLED != 0,
            spilling: slot.flags & SPILLING != 0,
        };
        *slot = Slot::default();
        self.live -= 1;
        Some(death)
    }

    /// Counts one more return; false if nothing is alive there.
    pub(crate) fn count_return(&mut self, place: u8) -> bool {
        let Some(slot) = self.slot_mut(place) else { return false };
        slot.returns = slot.returns.saturating_add(1);
        true
    }

    /// The body is on its way to the state store; false if nothing is alive there or it was before.
    pub(crate) fn begin_spill(&mut self, place: u8) -> bool {
        match self.slot_mut(place) {
            Some(slot) if slot.flags & (SPILLED | SPILLING) == 0 => {
                slot.flags |= SPILLING;
                true
            }
            _ => false,
        }
    }

    /// The body has left for the state store.
    pub(crate) fn end_spill(&mut self, place: u8) {
        if let Some(slot) = self.slot_mut(place) {
            slot.flags = LIVE | SPILLED;
        }
    }

    /// A body that nothing has been done about yet.
    pub(crate) fn needs_spill(&self, place: u8) -> bool {
        self.slot(place).is_some_and(|slot| slot.flags & (SPILLED | SPILLING) == 0)
    }

    /// The record of a checkpoint: format, then each live slot with its place.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer(Vec::with_capacity(3 + usize::from(self.live) * STORED_SLOT));
        out.u8(FORMAT);
        out.u16(self.live);
        for (place, view) in self.live_from(0) {
            out.u8(place);
            out.u64(view.index.0);
            out.u32(view.batch_offset);
            out.u32(view.message_offset);
            out.u32(view.length);
            out.u8(view.returns);
            out.bool(view.spilled);
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
        self.slots.capacity() * size_of::<Slot>()
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
        for _ in 0..count {
            let place = reader.u8()?;
            if u16::from(place) < above {
                return Err(DecodeError::Value("chunk place"));
            }
            above = u16::from(place) + 1;
            let view = SlotView {
                index: Index(reader.u64()?),
                batch_offset: reader.u32()?,
                message_offset: reader.u32()?,
                length: reader.u32()?,
                returns: reader.u8()?,
                spilled: reader.bool("slot spilled")?,
            };
            chunk.push(place, view);
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
