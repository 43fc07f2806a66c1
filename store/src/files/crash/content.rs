//! What becomes of a file's bytes.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// What a medium writes as a whole, if it is not torn.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Arc<[u8]>),
    Length(usize),
}

/// Copies share bytes until one of them changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What reads see.
    pub(super) now: Arc<Vec<u8>>,
    /// What survives whatever happens.
    pub(super) durable: Arc<Vec<u8>>,
    /// What happened to `now` since `durable`, in order.
    pub(super) pending: Vec<Change>,
}

impl Content {
    /// A file that was always like this.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let bytes = Arc::new(bytes.to_vec());
        Self { now: Arc::clone(&bytes), durable: bytes, pending: Vec::new() }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: Arc<[u8]>) {
        put(Arc::make_mut(&mut self.now), offset, &bytes);
        self.pending.push(Change::Write(offset, bytes));
    }

    pub(super) fn set_length(&mut self, length: usize) {
        Arc::make_mut(&mut self.now).resize(length, 0);
        self.pending.push(Change::Length(length));
    }

    pub(super) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        for change in &pending {
            apply(durable, change);
        }
    }

    /// Everything that is not synced is there, or nothing of it.
    pub(super) fn settle(&mut self, keeps: bool) {
        if keeps {
            self.sync();
        }
        self.pending.clear();
        self.now.clone_from(&self.durable);
    }

    /// Of the last change, a write, the first so many bytes are there; of the others everything or nothing.
    pub(super) fn tear(&mut self, kept: usize, keeps: bool) {
        let last = self.pending.pop();
        self.settle(keeps);
        if let Some(Change::Write(offset, bytes)) = last {
            put(Arc::make_mut(&mut self.durable), offset, bytes.get(..kept).unwrap_or(&bytes));
        }
        self.now.clone_from(&self.durable);
    }

    /// What is found after power was lost.
    pub(super) fn lose(&mut self, dice: &mut ChaCha8Rng, others: &[Arc<Vec<u8>>]) {
        let pending = std::mem::take(&mut self.pending);
        match below(dice, 6) {
            0 => {}
            1 => {
                let durable = Arc::make_mut(&mut self.durable);
                for change in &pending {
                    apply(durable, change);
                }
            }
            2 => self.keep_prefix(dice, &pending),
            mode => self.keep_sectors(dice, &pending, mode == 5, others),
        }
        self.now.clone_from(&self.durable);
    }

    fn keep_prefix(&mut self, dice: &mut ChaCha8Rng, pending: &[Change]) {
        let kept = below(dice, pending.len() + 1);
        let durable = Arc::make_mut(&mut self.durable);
        for (number, change) in pending.iter().take(kept).enumerate() {
            match change {
                Change::Write(offset, bytes) if number + 1 == kept => {
                    let end = below(dice, bytes.len() + 1);
                    put(durable, *offset, &bytes[..end]);
                }
                change => apply(durable, change),
            }
        }
    }

    fn keep_sectors(
        &mut self,
        dice: &mut ChaCha8Rng,
        pending: &[Change],
        torn: bool,
        others: &[Arc<Vec<u8>>],
    ) {
        let durable = Arc::make_mut(&mut self.durable);
        let odds = dice.next_u64() % 100;
        let old_length = durable.len();
        let mut lengths = vec![old_length];
        let mut length = old_length;
        for change in pending {
            length = match change {
                Change::Write(offset, bytes) => length.max(offset + bytes.len()),
                Change::Length(length) => *length,
            };
            lengths.push(length);
        }
        let length = lengths[below(dice, lengths.len())];
        if length > old_length {
            let filler = filler(dice, length, others);
            durable.extend_from_slice(&filler[old_length..]);
        }
        for change in pending {
            let Change::Write(offset, bytes) = change else { continue };
            let mut at = *offset;
            let end = offset + bytes.len();
            while at < end {
                let stop = end.min((at / SECTOR + 1) * SECTOR);
                if dice.next_u64() % 100 < odds {
                    let mut piece = &bytes[at - offset..stop - offset];
                    if torn && dice.next_u64().is_multiple_of(2) {
                        piece = &piece[..below(dice, piece.len() + 1)];
                    }
                    let room = durable.len().max(length).saturating_sub(at);
                    put(durable, at, &piece[..piece.len().min(room)]);
                }
                at = stop;
            }
        }
        durable.resize(length, 0);
    }
}

/// What a file shows where it grew and nothing arrived.
fn filler(dice: &mut ChaCha8Rng, length: usize, others: &[Arc<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    match below(dice, 3) {
        0 => {}
        1 => dice.fill_bytes(&mut bytes),
        _ => {
            if let Some(other) = others.get(below(dice, others.len())) {
                let common = length.min(other.len());
                bytes[..common].copy_from_slice(&other[..common]);
            }
        }
    }
    bytes
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => put(content, *offset, bytes),
        Change::Length(length) => content.resize(*length, 0),
    }
}

pub(super) fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

pub(super) fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is within memory")
}

fn below(dice: &mut ChaCha8Rng, bound: usize) -> usize {
    match size(bound) {
        0 => 0,
        bound => position(dice.next_u64() % bound),
    }
}
