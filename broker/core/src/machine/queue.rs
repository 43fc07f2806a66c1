//! One queue: its definition and its live messages in sequence order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_protocol::frame::NumberRange;
use quorate_protocol::name::QueueName;
use quorate_store::ids::Index;

use super::chunk::{Chunk, Death, SlotView};
use super::codec::{DecodeError, Reader, Writer};
use super::command::{QueueDefinition, QueueId, read_name};
use super::digest::Digest;
use super::limits::{CHUNK_SLOTS, MAX_SEQUENCE};

const FORMAT: u8 = 1;

/// A queue of a vhost. Sequences start at 1 and are never used again; the entries they point to never go down, so
/// the oldest message is the one that holds the log back.
#[derive(Clone, Debug)]
pub struct Queue {
    id: QueueId,
    name: QueueName,
    definition: QueueDefinition,
    next_seq: u64,
    exposed_to: u64,
    purges: u64,
    chunks: BTreeMap<u64, Chunk>,
    live: u64,
    bytes: u64,
    /// Every live message below has its body in the state store. Local, as all that follows.
    unspilled_from: u64,
    /// Bodies that go out with the next checkpoint.
    spilling: BTreeMap<u64, Bytes>,
    /// Bodies in the state store whose messages died.
    dead_bodies: Vec<u64>,
    dirty: BTreeSet<u64>,
    /// Records of chunks that are no more.
    gone: BTreeSet<u64>,
    pub(crate) header_dirty: bool,
}

/// What a checkpoint has to write about one queue's messages.
#[derive(Debug, Default)]
pub(crate) struct QueueChanges {
    pub(crate) gone: BTreeSet<u64>,
    pub(crate) chunks: Vec<(u64, Bytes)>,
    pub(crate) dead_bodies: Vec<u64>,
    pub(crate) new_bodies: BTreeMap<u64, Bytes>,
}

impl Queue {
    pub(crate) fn new(id: QueueId, name: QueueName, definition: QueueDefinition) -> Self {
        Self {
            id,
            name,
            definition,
            next_seq: 1,
            exposed_to: 0,
            purges: 0,
            chunks: BTreeMap::new(),
            live: 0,
            bytes: 0,
            unspilled_from: 1,
            spilling: BTreeMap::new(),
            dead_bodies: Vec::new(),
            dirty: BTreeSet::new(),
            gone: BTreeSet::new(),
            header_dirty: true,
        }
    }

    /// Its number.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// What it was declared with.
    pub fn definition(&self) -> &QueueDefinition {
        &self.definition
    }

    /// Live messages: ready or unacknowledged.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Bytes of its live messages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sequence that the next message gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Sequences below this may have been delivered.
    pub fn exposed_to(&self) -> u64 {
        self.exposed_to
    }

    /// How often it was purged: each time messages may go without a settlement.
    pub fn purges(&self) -> u64 {
        self.purges
    }

    /// The oldest live message.
    pub fn first_live(&self) -> Option<u64> {
        self.live_from(0).next().map(|(seq, _)| seq)
    }

    /// The live message at `seq`.
    pub fn message_at(&self, seq: u64) -> Option<SlotView> {
        self.chunks.get(&chunk_of(seq))?.view(place_of(seq))
    }

    /// Live messages from `from` on, in order; dead chunks cost nothing.
    pub fn live_from(&self, from: u64) -> impl Iterator<Item = (u64, SlotView)> + '_ {
        let first = chunk_of(from);
        self.chunks.range(first..).flat_map(move |(&number, chunk)| {
            let place = if number == first { place_of(from) } else { 0 };
            chunk.live_from(place).map(move |(place, view)| (seq_of(number, place), view))
        })
    }

    /// The entry of the newest live message.
    pub(crate) fn last_index(&self) -> Option<Index> {
        let (_, chunk) = self.chunks.last_key_value()?;
        chunk.live_from(0).last().map(|(_, view)| view.index)
    }

    /// How many more messages the queue may hold.
    pub(crate) fn room(&self) -> u64 {
        self.room_without(0)
    }

    /// How many more it may hold once so many of its messages are gone.
    pub(crate) fn room_without(&self, gone: u64) -> u64 {
        let sequences = MAX_SEQUENCE.saturating_sub(self.next_seq);
        match self.definition.max_length {
            0 => sequences,
            limit => limit.saturating_sub(self.live.saturating_sub(gone)).min(sequences),
        }
    }

    pub(crate) fn push(&mut self, view: SlotView) {
        assert!(self.next_seq < MAX_SEQUENCE, "room is checked before a message is stored");
        let seq = self.next_seq;
        let number = chunk_of(seq);
        let chunk = self.chunks.entry(number).or_default();
        chunk.push(place_of(seq), view);
        if !chunk.dirty {
            chunk.dirty = true;
            self.dirty.insert(number);
        }
        self.next_seq += 1;
        self.live += 1;
        self.bytes += u64::from(view.length);
        self.header_dirty = true;
    }

    /// Removes every live message in `first..=last`; how many there were.
    pub(crate) fn kill(&mut self, range: NumberRange) -> u64 {
        let mut killed = 0;
        for (number, places) in self.live_in(range) {
            for place in places {
                killed += u64::from(self.kill_one(number, place));
            }
        }
        killed
    }

    fn kill_one(&mut self, number: u64, place: u8) -> bool {
        let Some(chunk) = self.chunks.get_mut(&number) else { return false };
        let Some(Death { length, spilled, spilling }) = chunk.kill(place) else { return false };
        if chunk.is_dead() {
            if chunk.stored {
                self.gone.insert(number);
            }
            self.dirty.remove(&number);
            self.chunks.remove(&number);
        } else if !chunk.dirty {
            chunk.dirty = true;
            self.dirty.insert(number);
        }
        let seq = seq_of(number, place);
        if spilling {
            self.spilling.remove(&seq);
        }
        if spilled {
            self.dead_bodies.push(seq);
        }
        self.live -= 1;
        self.bytes -= u64::from(length);
        true
    }

    /// Removes all messages but those in `except`; how many there were.
    pub(crate) fn purge(&mut self, except: &[NumberRange]) -> u64 {
        self.purges += 1;
        self.header_dirty = true;
        let mut except = except.to_vec();
        except.sort_unstable();
        let mut killed = 0;
        let mut from = 0;
        for kept in except {
            let gap = kept.first().checked_sub(1).and_then(|last| NumberRange::new(from, last));
            killed += gap.map_or(0, |gap| self.kill(gap));
            from = from.max(kept.last().saturating_add(1));
        }
        killed + NumberRange::new(from, u64::MAX).map_or(0, |rest| self.kill(rest))
    }

    /// Counts a return of every live message in `first..=last`; how many there were.
    pub(crate) fn count_returns(&mut self, range: NumberRange) -> u64 {
        let mut counted = 0;
        for (number, places) in self.live_in(range) {
            let Some(chunk) = self.chunks.get_mut(&number) else { continue };
            for place in places {
                counted += u64::from(chunk.count_return(place));
            }
            chunk.dirty = true;
            self.dirty.insert(number);
        }
        counted
    }

    /// Raises the bound; false if it was there already.
    pub(crate) fn expose(&mut self, to: u64) -> bool {
        let to = to.min(MAX_SEQUENCE);
        if to <= self.exposed_to {
            return false;
        }
        self.exposed_to = to;
        self.header_dirty = true;
        true
    }

    fn live_in(&self, range: NumberRange) -> Vec<(u64, Vec<u8>)> {
        let (first, last) = (range.first(), range.last());
        let (from, to) = (chunk_of(first), chunk_of(last));
        self.chunks
            .range(from..=to)
            .map(|(&number, chunk)| {
                let low = if number == from { place_of(first) } else { 0 };
                let high = if number == to { place_of(last) } else { u8::MAX };
                (number, chunk.live_in(low, high))
            })
            .filter(|(_, places)| !places.is_empty())
            .collect()
    }

    /// The entry of the oldest live message whose body only the log has. Amortised: what was passed once is not
    /// looked at again.
    pub(crate) fn lowest_unspilled(&mut self) -> Option<Index> {
        let found = self.live_from(self.unspilled_from).find(|(_, view)| !view.spilled);
        self.unspilled_from = found.map_or(self.next_seq, |(seq, _)| seq);
        found.map(|(_, view)| view.index)
    }

    /// Live messages from `from` on with a body that has to be spilled before entries up to `up_to` can go. Looks at
    /// `search` slots at most; the second value is where to go on, none at the end.
    pub(crate) fn spill_candidates(
        &self,
        from: u64,
        up_to: Index,
        search: &mut usize,
        limit: usize,
    ) -> (Vec<(u64, SlotView)>, Option<u64>) {
        let mut found = Vec::new();
        for (seq, view) in self.live_from(from.max(self.unspilled_from)) {
            if view.index > up_to {
                break;
            }
            if found.len() >= limit || *search == 0 {
                return (found, Some(seq));
            }
            *search -= 1;
            let waits = self.chunks.get(&chunk_of(seq)).is_some_and(|chunk| chunk.needs_spill(place_of(seq)));
            if waits {
                found.push((seq, view));
            }
        }
        (found, None)
    }

    /// The body of `seq` goes out with the next checkpoint; false if the message died or was spilled before.
    pub(crate) fn mark_spilled(&mut self, seq: u64, body: Bytes) -> bool {
        let number = chunk_of(seq);
        let Some(chunk) = self.chunks.get_mut(&number) else { return false };
        if !chunk.begin_spill(place_of(seq)) {
            return false;
        }
        chunk.dirty = true;
        self.dirty.insert(number);
        self.spilling.insert(seq, body);
        true
    }

    /// Everything a checkpoint has to write; from here on it counts as written.
    pub(crate) fn take_changes(&mut self) -> QueueChanges {
        let new_bodies = std::mem::take(&mut self.spilling);
        for &seq in new_bodies.keys() {
            if let Some(chunk) = self.chunks.get_mut(&chunk_of(seq)) {
                chunk.end_spill(place_of(seq));
            }
        }
        let mut chunks = Vec::with_capacity(self.dirty.len());
        for number in std::mem::take(&mut self.dirty) {
            let chunk = self.chunks.get_mut(&number).expect("a chunk that goes leaves the dirty set");
            chunk.dirty = false;
            chunk.stored = true;
            chunks.push((number, chunk.encode()));
        }
        self.header_dirty = false;
        QueueChanges {
            gone: std::mem::take(&mut self.gone),
            chunks,
            dead_bodies: std::mem::take(&mut self.dead_bodies),
            new_bodies,
        }
    }

    /// Sequences whose bodies are in the state store, for a queue that is deleted.
    pub(crate) fn into_stored_bodies(mut self) -> Vec<u64> {
        self.purge(&[]);
        self.dead_bodies
    }

    /// Whether anything about the messages changed since the last checkpoint.
    pub(crate) fn has_changes(&self) -> bool {
        self.header_dirty
            || !self.dirty.is_empty()
            || !self.gone.is_empty()
            || !self.dead_bodies.is_empty()
            || !self.spilling.is_empty()
    }

    pub(crate) fn encode_header(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(FORMAT);
        out.string(self.name.as_str());
        self.definition.write(&mut out);
        out.u64(self.next_seq);
        out.u64(self.exposed_to);
        out.u64(self.purges);
        out.into_bytes()
    }

    pub(crate) fn decode_header(id: QueueId, record: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(record);
        if reader.u8()? != FORMAT {
            return Err(DecodeError::Value("queue format"));
        }
        let name = read_name(&mut reader, QueueName::new)?;
        let definition = QueueDefinition::read(&mut reader)?;
        let mut queue = Self::new(id, name, definition);
        queue.next_seq = reader.u64()?;
        queue.exposed_to = reader.u64()?;
        queue.purges = reader.u64()?;
        queue.header_dirty = false;
        reader.finish()?;
        if queue.next_seq == 0 || queue.next_seq > MAX_SEQUENCE {
            return Err(DecodeError::Value("next sequence"));
        }
        if queue.exposed_to > MAX_SEQUENCE || queue.purges > MAX_SEQUENCE {
            return Err(DecodeError::Value("queue bound"));
        }
        Ok(queue)
    }

    /// Takes in a chunk's record; chunks come in ascending order.
    pub(crate) fn restore_chunk(&mut self, number: u64, record: Bytes) -> Result<(), DecodeError> {
        let chunk = Chunk::decode(record)?;
        if number > chunk_of(self.next_seq) {
            return Err(DecodeError::Value("chunk number"));
        }
        let mut index = self.last_index();
        for (place, view) in chunk.live_from(0) {
            let seq = seq_of(number, place);
            if seq == 0 || seq >= self.next_seq {
                return Err(DecodeError::Value("slot sequence"));
            }
            if index.is_some_and(|before| before > view.index) {
                return Err(DecodeError::Value("slot index"));
            }
            index = Some(view.index);
            self.live += 1;
            self.bytes = self.bytes.saturating_add(u64::from(view.length));
        }
        self.chunks.insert(number, chunk);
        Ok(())
    }

    /// Bytes of memory that its chunks take, about.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let node = size_of::<(u64, Chunk)>() * 2;
        self.chunks.values().map(|chunk| node + chunk.slot_memory()).sum()
    }

    pub(crate) fn digest(&self, digest: &mut Digest) {
        digest.word(u64::from(self.id.0));
        digest.bytes(&self.encode_header());
        digest.word(self.live);
        digest.word(self.bytes);
        for (&number, chunk) in &self.chunks {
            chunk.digest(number, digest);
        }
    }
}

fn chunk_of(seq: u64) -> u64 {
    seq / CHUNK_SLOTS
}

fn place_of(seq: u64) -> u8 {
    u8::try_from(seq % CHUNK_SLOTS).expect("a remainder of 256 is a byte")
}

fn seq_of(number: u64, place: u8) -> u64 {
    number * CHUNK_SLOTS + u64::from(place)
}
