//! The log's bytes. All integers are little-endian. `docs/internals/disk.md` has the same as tables; a change here is a
//! new format version there.

use bytes::Bytes;
use crc32fast::Hasher;
use uuid::Uuid;

use super::index::{Effect, Place};
use super::{LogError, MAX_BATCH_BYTES, MAX_ENTRY_BYTES, SyncedPoint};
use crate::ids::{Epoch, GroupId, Index, StoreId, Term};
use crate::record::{EntryKind, HardState};

/// The format this version writes, and the only one it reads.
pub const LOG_FORMAT: u32 = 2;
/// Where the first batch of a segment begins: the header has a page of its own.
pub(super) const FIRST_BATCH: u64 = 4096;
/// Batches begin at multiples of this, so that a sector with synced bytes is never written again.
pub(super) const ALIGNMENT: usize = 512;
/// Bytes before a record's payload.
pub(super) const RECORD_HEADER: usize = 36;
/// Bytes of a batch that are neither records nor padding.
pub(super) const BATCH_FRAME: usize = BATCH_HEADER + FOOTER;

const BATCH_HEADER: usize = 24;
const FOOTER: usize = 32;
const SEGMENT_MAGIC: [u8; 8] = *b"QRTELOG\n";
const BATCH_MAGIC: [u8; 4] = *b"QBAT";
const FOOTER_MAGIC: [u8; 4] = *b"QEND";
const HEADER_CRC: usize = 64;

const KIND_COMMAND: u8 = 0;
const KIND_MEMBERSHIP: u8 = 1;
const KIND_CONTROL: u8 = 2;
const KIND_HARD_STATE: u8 = 16;
const KIND_RESET: u8 = 17;
const KIND_REMOVE: u8 = 18;
const KIND_COMPACT: u8 = 19;
const KIND_BASE: u8 = 20;

/// A cursor over bytes from the disk: a read past the end is `None`, never a panic.
struct Cursor<'bytes>(&'bytes [u8]);

impl<'bytes> Cursor<'bytes> {
    fn take(&mut self, length: usize) -> Option<&'bytes [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

fn slice(bytes: &[u8], from: u64, length: usize) -> Option<&[u8]> {
    bytes.get(usize::try_from(from).ok()?..)?.get(..length)
}

/// The first page of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Counts segments from 1; never used again.
    pub(super) generation: u64,
    /// Unpredictable: goes into every checksum, so that no payload can be made to look like a record.
    pub(super) salt: u64,
    /// Whose log this is.
    pub(super) store: StoreId,
    /// Length of the file.
    pub(super) length: u64,
    /// Where the batches of the previous generation end; everything there was synced before this segment was made.
    pub(super) previous_end: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ALIGNMENT);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&LOG_FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for number in [self.generation, self.salt, self.length, self.previous_end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(self.store.0.as_bytes());
        assert_eq!(out.len(), HEADER_CRC, "the header's layout is fixed");
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.resize(usize::try_from(FIRST_BATCH).unwrap_or(ALIGNMENT), 0);
        out
    }

    /// `Err(text)` says what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let damaged = || HeaderFault::Damaged("the segment header is unreadable");
        let fields = bytes.get(..HEADER_CRC).ok_or_else(damaged)?;
        let crc = Cursor(bytes.get(HEADER_CRC..).unwrap_or_default()).u32().ok_or_else(damaged)?;
        let mut cursor = Cursor(fields);
        if cursor.array() != Some(SEGMENT_MAGIC) || crc != crc32fast::hash(fields) {
            return Err(damaged());
        }
        let format = cursor.u32().ok_or_else(damaged)?;
        if format != LOG_FORMAT && format != 0 {
            return Err(HeaderFault::OtherFormat(format));
        }
        if format == 0 || cursor.u32() != Some(0) {
            return Err(damaged());
        }
        let mut number = || cursor.u64().ok_or_else(damaged);
        let (generation, salt, length, previous_end) = (number()?, number()?, number()?, number()?);
        let store = StoreId(Uuid::from_bytes(cursor.array().ok_or_else(damaged)?));
        Ok(Self { generation, salt, store, length, previous_end })
    }
}

/// What is wrong with a segment header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged(&'static str),
    OtherFormat(u32),
}

/// The checksum of one segment's content: begins with the segment's salt and generation, so that nothing of another
/// generation, and nothing made up, fits.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    base: Hasher,
}

impl Seal {
    pub(super) fn new(generation: u64, salt: u64) -> Self {
        let mut base = Hasher::new();
        base.update(&salt.to_le_bytes());
        base.update(&generation.to_le_bytes());
        Self { base }
    }

    /// Bound to a place in the segment, too.
    fn at(&self, offset: u64) -> Hasher {
        let mut hasher = self.base.clone();
        hasher.update(&offset.to_le_bytes());
        hasher
    }

    fn record(&self, length: &[u8], rest: &[u8], payload: &[u8]) -> u32 {
        let mut hasher = self.base.clone();
        hasher.update(length);
        hasher.update(rest);
        hasher.update(payload);
        hasher.finalize()
    }

    fn batch_header(&self, offset: u64, fields: &[u8]) -> u32 {
        let mut hasher = self.at(offset);
        hasher.update(fields);
        hasher.finalize()
    }
}

#[cfg(test)]
impl Seal {
    /// The head of a batch that says that it has this length, under a checksum that fits.
    pub(super) fn batch_of_length(&self, offset: u64, sequence: u64, length: u64) -> [u8; BATCH_HEADER] {
        let mut header = [0; BATCH_HEADER];
        header[0..4].copy_from_slice(&BATCH_MAGIC);
        header[8..16].copy_from_slice(&sequence.to_le_bytes());
        header[16..24].copy_from_slice(&length.to_le_bytes());
        let crc = self.batch_header(offset, &header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// A record as it is laid out, before its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordHead {
    kind: u8,
    group: GroupId,
    epoch: Epoch,
    term: Term,
    index: Index,
}

/// A payload of at least this many bytes stays where it is; smaller ones are cheaper to copy than to write apart.
const APART: usize = 4096;

/// The bytes of a batch, in pieces: large payloads are not copied.
#[derive(Debug, Default)]
pub(super) struct BatchBytes {
    /// Everything else, in order.
    laid: Vec<u8>,
    /// Before which of those bytes each payload goes.
    apart: Vec<(usize, Bytes)>,
    apart_bytes: usize,
}

impl BatchBytes {
    pub(super) fn clear(&mut self) {
        self.laid.clear();
        self.apart.clear();
        self.apart_bytes = 0;
    }

    pub(super) fn length(&self) -> usize {
        self.laid.len() + self.apart_bytes
    }

    /// Adds zeros.
    pub(super) fn pad(&mut self, count: usize) {
        self.laid.resize(self.laid.len() + count, 0);
    }

    fn push(&mut self, payload: &Bytes) {
        if payload.len() < APART {
            self.laid.extend_from_slice(payload);
        } else {
            self.apart.push((self.laid.len(), payload.clone()));
            self.apart_bytes += payload.len();
        }
    }

    /// What is to be written, in order.
    pub(super) fn pieces(&self) -> Vec<&[u8]> {
        let mut pieces = Vec::with_capacity(2 * self.apart.len() + 1);
        let mut from = 0;
        for (at, payload) in &self.apart {
            pieces.extend([&self.laid[from..*at], payload]);
            from = *at;
        }
        pieces.push(&self.laid[from..]);
        pieces
    }

    /// Room that is kept for the next batch.
    pub(super) fn shrink_to(&mut self, most: usize) {
        self.clear();
        self.laid.shrink_to(most);
    }
}

/// Lays out one batch.
pub(super) struct BatchBuilder<'buffer> {
    seal: &'buffer Seal,
    buffer: &'buffer mut BatchBytes,
    offset: u64,
    count: u32,
    heads: Hasher,
}

impl<'buffer> BatchBuilder<'buffer> {
    /// Begins a batch at a place of the segment; the buffer's old content goes.
    pub(super) fn new(seal: &'buffer Seal, buffer: &'buffer mut BatchBytes, offset: u64) -> Self {
        buffer.clear();
        buffer.pad(BATCH_HEADER);
        Self { seal, buffer, offset, count: 0, heads: seal.at(offset) }
    }

    fn push(&mut self, head: RecordHead, payload: &Bytes) -> Result<(u32, u32), LogError> {
        let limit = MAX_ENTRY_BYTES;
        let too_large = || LogError::TooLarge { bytes: payload.len() as u64, limit: limit as u64 };
        let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
        if payload.len() > limit {
            return Err(too_large());
        }
        let at = self.offset.saturating_add(self.buffer.length() as u64);
        let place =
            u32::try_from(at).map_err(|_| LogError::TooLarge { bytes: at, limit: MAX_BATCH_BYTES as u64 })?;
        let mut bytes = [0; RECORD_HEADER];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8] = head.kind;
        bytes[12..16].copy_from_slice(&head.group.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&head.epoch.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&head.term.0.to_le_bytes());
        bytes[28..36].copy_from_slice(&head.index.0.to_le_bytes());
        let crc = self.seal.record(&bytes[0..4], &bytes[8..], payload);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.heads.update(&bytes);
        self.buffer.laid.extend_from_slice(&bytes);
        self.buffer.push(payload);
        self.count += 1;
        Ok((place, length))
    }

    /// Adds an entry and says where it will be, in a segment of this generation.
    pub(super) fn entry(
        &mut self,
        group: GroupId,
        epoch: Epoch,
        entry: &crate::record::Entry,
        segment: u32,
    ) -> Result<Place, LogError> {
        let head = RecordHead { kind: entry.kind as u8, group, epoch, term: entry.term, index: entry.index };
        let (offset, length) = self.push(head, &entry.data)?;
        Ok(Place { segment, offset, length })
    }

    /// Adds what is not an entry.
    pub(super) fn effect(&mut self, effect: &Effect) -> Result<(), LogError> {
        let zero =
            RecordHead { kind: 0, group: effect.group(), epoch: Epoch(0), term: Term(0), index: Index(0) };
        match *effect {
            Effect::Entry { .. } => unreachable!("entries carry data and go by `entry`"),
            Effect::HardState { epoch, hard_state, .. } => {
                let head = RecordHead {
                    kind: KIND_HARD_STATE,
                    epoch,
                    term: hard_state.term,
                    index: hard_state.commit,
                    ..zero
                };
                self.push(head, &Bytes::copy_from_slice(&hard_state.vote.to_le_bytes()))?;
            }
            Effect::Reset { epoch, term, index, .. } => {
                self.push(RecordHead { kind: KIND_RESET, epoch, term, index, ..zero }, &Bytes::new())?;
            }
            Effect::Remove { .. } => {
                self.push(RecordHead { kind: KIND_REMOVE, ..zero }, &Bytes::new())?;
            }
            Effect::Compact { epoch, term, index, .. } => {
                self.push(RecordHead { kind: KIND_COMPACT, epoch, term, index, ..zero }, &Bytes::new())?;
            }
            Effect::Base { epoch, compacted, last, hard_state, .. } => {
                let mut payload = [0; 40];
                let numbers = [last.0.0, last.1.0, hard_state.term.0, hard_state.vote, hard_state.commit.0];
                for (slot, number) in payload.chunks_exact_mut(8).zip(numbers) {
                    slot.copy_from_slice(&number.to_le_bytes());
                }
                let (index, term) = compacted;
                self.push(
                    RecordHead { kind: KIND_BASE, epoch, term, index, ..zero },
                    &Bytes::copy_from_slice(&payload),
                )?;
            }
        }
        Ok(())
    }

    /// Closes the batch and fills it up to the next aligned place. Returns its checksum, which the next one repeats.
    pub(super) fn finish(mut self, sequence: u64, previous: u32, synced: SyncedPoint) -> u32 {
        let length = (self.buffer.length() + FOOTER) as u64;
        let mut header = [0; BATCH_HEADER];
        header[0..4].copy_from_slice(&BATCH_MAGIC);
        header[8..16].copy_from_slice(&sequence.to_le_bytes());
        header[16..24].copy_from_slice(&length.to_le_bytes());
        let crc = self.seal.batch_header(self.offset, &header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        self.buffer.laid[..BATCH_HEADER].copy_from_slice(&header);

        let mut footer = [0; FOOTER];
        footer[0..4].copy_from_slice(&FOOTER_MAGIC);
        footer[8..12].copy_from_slice(&self.count.to_le_bytes());
        footer[12..16].copy_from_slice(&previous.to_le_bytes());
        footer[16..24].copy_from_slice(&synced.generation.to_le_bytes());
        footer[24..32].copy_from_slice(&synced.offset.to_le_bytes());
        self.heads.update(&header);
        self.heads.update(&footer[8..]);
        let crc = self.heads.finalize();
        footer[4..8].copy_from_slice(&crc.to_le_bytes());
        self.buffer.laid.extend_from_slice(&footer);
        let length = self.buffer.length();
        self.buffer.pad(length.next_multiple_of(ALIGNMENT) - length);
        crc
    }
}

/// A batch that passed every check.
#[derive(Debug)]
pub(super) struct FoundBatch {
    pub(super) sequence: u64,
    /// Where the next batch begins.
    pub(super) end: u64,
    pub(super) crc: u32,
    /// Checksum of the batch before it.
    pub(super) previous: u32,
    /// What was synced before this batch was written.
    pub(super) synced: SyncedPoint,
    pub(super) effects: Vec<Effect>,
}

/// Why there is no batch at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BatchFault {
    /// Nothing of this generation begins here.
    Nothing,
    /// A batch of this length was begun here, and is not whole.
    Torn { length: u64, what: &'static str },
}

/// Reads the batch at `offset` of a segment's bytes.
pub(super) fn read_batch(
    seal: &Seal,
    bytes: &[u8],
    offset: u64,
    segment: u32,
) -> Result<FoundBatch, BatchFault> {
    let header = slice(bytes, offset, BATCH_HEADER).ok_or(BatchFault::Nothing)?;
    let (sequence, length) = read_batch_header(seal, header, offset).ok_or(BatchFault::Nothing)?;
    let torn = |what| BatchFault::Torn { length, what };
    let whole = usize::try_from(length).ok().filter(|length| *length >= BATCH_FRAME);
    let whole = whole.and_then(|length| slice(bytes, offset, length));
    let whole = whole.ok_or(torn("it reaches beyond its segment"))?;
    let (records, footer) = whole.split_at(whole.len() - FOOTER);
    let mut records = Cursor(records.get(BATCH_HEADER..).unwrap_or_default());
    let mut heads = seal.at(offset);
    let mut effects = Vec::new();
    while !records.0.is_empty() {
        let at = length - FOOTER as u64 - records.0.len() as u64;
        let place = u32::try_from(offset.saturating_add(at)).map_err(|_| torn("it is beyond any segment"))?;
        let (head, effect) = read_record(seal, &mut records, Place { segment, offset: place, length: 0 })
            .ok_or(torn("a record fails its checksum"))?;
        heads.update(head);
        effects.push(effect);
    }
    let mut cursor = Cursor(footer);
    let magic = cursor.array();
    let read = || {
        let crc = cursor.u32()?;
        let (count, previous) = (cursor.u32()?, cursor.u32()?);
        let synced = SyncedPoint { generation: cursor.u64()?, offset: cursor.u64()? };
        Some((crc, count, previous, synced))
    };
    let (crc, count, previous, synced) =
        Some(read).and_then(|mut read| read()).ok_or(torn("it has no footer"))?;
    heads.update(header);
    heads.update(footer.get(8..).unwrap_or_default());
    if magic != Some(FOOTER_MAGIC) || crc != heads.finalize() || usize::try_from(count) != Ok(effects.len()) {
        return Err(torn("its footer fails its checksum"));
    }
    let end = offset.saturating_add(length).next_multiple_of(ALIGNMENT as u64);
    Ok(FoundBatch { sequence, end, crc, previous, synced, effects })
}

fn read_batch_header(seal: &Seal, header: &[u8], offset: u64) -> Option<(u64, u64)> {
    let mut cursor = Cursor(header);
    if cursor.array() != Some(BATCH_MAGIC) {
        return None;
    }
    let crc = cursor.u32()?;
    if crc != seal.batch_header(offset, cursor.0) {
        return None;
    }
    Some((cursor.u64()?, cursor.u64()?))
}

/// One record: its head's bytes and what it does. The place's length is filled in.
fn read_record<'bytes>(
    seal: &Seal,
    cursor: &mut Cursor<'bytes>,
    place: Place,
) -> Option<(&'bytes [u8], Effect)> {
    let head = cursor.take(RECORD_HEADER)?;
    let mut fields = Cursor(head);
    let (length, crc) = (fields.u32()?, fields.u32()?);
    let payload = cursor.take(usize::try_from(length).ok()?)?;
    if crc != seal.record(head.get(0..4)?, head.get(8..)?, payload) {
        return None;
    }
    let [kind, 0, 0, 0] = fields.array::<4>()? else { return None };
    let (group, epoch) = (GroupId(fields.u32()?), Epoch(fields.u32()?));
    let (term, index) = (Term(fields.u64()?), Index(fields.u64()?));
    let mut payload = Cursor(payload);
    let effect = match kind {
        KIND_COMMAND | KIND_MEMBERSHIP | KIND_CONTROL => {
            payload.0 = &[];
            Effect::Entry { group, epoch, term, index, place: Place { length, ..place } }
        }
        KIND_HARD_STATE => {
            let hard_state = HardState { term, vote: payload.u64()?, commit: index };
            Effect::HardState { group, epoch, hard_state }
        }
        KIND_RESET => Effect::Reset { group, epoch, term, index },
        KIND_REMOVE => Effect::Remove { group },
        KIND_COMPACT => Effect::Compact { group, epoch, term, index },
        KIND_BASE => {
            let last = (Index(payload.u64()?), Term(payload.u64()?));
            let (term_seen, vote, commit) = (payload.u64()?, payload.u64()?, payload.u64()?);
            let hard_state = HardState { term: Term(term_seen), vote, commit: Index(commit) };
            Effect::Base { group, epoch, compacted: (index, term), last, hard_state }
        }
        _ => return None,
    };
    payload.0.is_empty().then_some((head, effect))
}

/// Reads one entry's record from exactly its bytes; `None` if it is not whole, or not this entry.
pub(super) fn read_entry(
    seal: &Seal,
    bytes: &[u8],
    place: Place,
    group: GroupId,
    index: Index,
) -> Option<(Term, EntryKind)> {
    let mut cursor = Cursor(bytes);
    let (head, effect) = read_record(seal, &mut cursor, place)?;
    let kind = match *head.get(8)? {
        KIND_COMMAND => EntryKind::Command,
        KIND_MEMBERSHIP => EntryKind::Membership,
        KIND_CONTROL => EntryKind::Control,
        _ => return None,
    };
    match effect {
        Effect::Entry { group: found, index: at, term, place: whole, .. }
            if found == group && at == index && whole == place && cursor.0.is_empty() =>
        {
            Some((term, kind))
        }
        _ => None,
    }
}

const _: () = assert!(KIND_COMMAND == EntryKind::Command as u8);
const _: () = assert!(KIND_MEMBERSHIP == EntryKind::Membership as u8);
const _: () = assert!(KIND_CONTROL == EntryKind::Control as u8);
const _: () = assert!(FIRST_BATCH.is_multiple_of(ALIGNMENT as u64));

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Entry;

    fn batch() -> (Seal, Vec<u8>) {
        let seal = Seal::new(3, 0x1122_3344_5566_7788);
        let mut buffer = BatchBytes::default();
        let mut builder = BatchBuilder::new(&seal, &mut buffer, 4096);
        let entry = Entry {
            term: Term(2),
            index: Index(9),
            kind: EntryKind::Membership,
            data: Bytes::from_static(b"data"),
        };
        builder.entry(GroupId(1), Epoch(5), &entry, 3).unwrap();
        let hard_state = HardState { term: Term(2), vote: 7, commit: Index(8) };
        builder.effect(&Effect::HardState { group: GroupId(1), epoch: Epoch(5), hard_state }).unwrap();
        builder.finish(6, 0xaabb_ccdd, SyncedPoint { generation: 3, offset: 4096 });
        (seal, buffer.pieces().concat())
    }

    #[test]
    fn a_large_payload_is_not_copied_and_is_found_where_it_was_laid() {
        let seal = Seal::new(1, 5);
        let mut buffer = BatchBytes::default();
        let mut builder = BatchBuilder::new(&seal, &mut buffer, 8192);
        let payloads =
            [0, APART - 1, APART, 3 * APART + 1, 7, APART].map(|length| Bytes::from(vec![0x5a; length]));
        let places: Vec<Place> = (1..)
            .zip(&payloads)
            .map(|(index, data)| {
                let entry = Entry {
                    term: Term(1),
                    index: Index(index),
                    kind: EntryKind::Command,
                    data: data.clone(),
                };
                builder.entry(GroupId(1), Epoch(1), &entry, 1).unwrap()
            })
            .collect();
        builder.finish(1, 0, SyncedPoint::default());
        let pieces = buffer.pieces();
        for payload in payloads.iter().filter(|payload| payload.len() >= APART) {
            assert!(pieces.iter().any(|piece| piece.as_ptr() == payload.as_ptr()), "{} bytes", payload.len());
        }
        let bytes = pieces.concat();
        assert_eq!((bytes.len(), bytes.len() % ALIGNMENT), (buffer.length(), 0));
        for (place, payload) in places.iter().zip(&payloads) {
            let at = place.offset as usize - 8192 + RECORD_HEADER;
            assert_eq!(bytes[at..at + payload.len()], payload[..]);
        }
    }

    fn hex(bytes: &[u8]) -> String {
        let words = bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        words.map(|word| format!("{word:08x}")).collect::<Vec<_>>().join(" ")
    }

    /// The bytes on the disks of every cluster there is: this changes only with `LOG_FORMAT`.
    #[test]
    fn the_layout_is_frozen() {
        let page_words = include_str!("../../../docs/internals/disk.md").split_whitespace();
        let documented = page_words.collect::<Vec<_>>().join(" ");
        let header = SegmentHeader {
            generation: 3,
            salt: 0x1122_3344_5566_7788,
            store: StoreId(Uuid::from_u128(0xabcd)),
            length: 16384,
            previous_end: 8192,
        };
        let page = header.encode();
        assert!(documented.contains(&hex(&page[..68])), "{}", hex(&page[..68]));
        assert_eq!(page.len(), 4096);
        assert_eq!(SegmentHeader::decode(&page), Ok(header));
        let (seal, bytes) = batch();
        assert!(documented.contains(&hex(&bytes[..140])), "{}", hex(&bytes[..140]));
        assert!(bytes.len() == 512 && bytes[140..].iter().all(|byte| *byte == 0));
        let segment = [vec![0; 4096], bytes].concat();
        let found = read_batch(&seal, &segment, 4096, 3).unwrap();
        assert_eq!((found.sequence, found.end, found.previous), (6, 4608, 0xaabb_ccdd));
        assert_eq!(found.synced, SyncedPoint { generation: 3, offset: 4096 });
        assert_eq!(found.effects.len(), 2);
    }

    #[test]
    fn nothing_of_another_place_generation_or_salt_fits() {
        let (_, bytes) = batch();
        let segment = [vec![0; 4096], bytes.clone(), bytes].concat();
        let read = |generation, salt, offset| {
            read_batch(&Seal::new(generation, salt), &segment, offset, 3).map(|batch| batch.sequence)
        };
        assert_eq!(read(3, 0x1122_3344_5566_7788, 4096), Ok(6));
        assert_eq!(read(3, 0x1122_3344_5566_7788, 4608), Err(BatchFault::Nothing));
        assert_eq!(read(4, 0x1122_3344_5566_7788, 4096), Err(BatchFault::Nothing));
        assert_eq!(read(3, 0x1122_3344_5566_7789, 4096), Err(BatchFault::Nothing));
        assert_eq!(read(3, 0x1122_3344_5566_7788, u64::MAX), Err(BatchFault::Nothing));
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_noticed() {
        let (seal, bytes) = batch();
        let segment = [vec![0; 4096], bytes].concat();
        for bit in 4096 * 8..(4096 + 140) * 8 {
            let mut flipped = segment.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_batch(&seal, &flipped, 4096, 3).is_err(), "bit {bit}");
        }
        for end in 0..segment.len() - 372 {
            assert!(read_batch(&seal, &segment[..end], 4096, 3).is_err(), "cut at {end}");
        }
    }
}
