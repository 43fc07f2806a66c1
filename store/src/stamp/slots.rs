//! The two files that hold the stamp, `stamp.a` and `stamp.b`.
//!
//! Two files rather than two places in one: `cat` shows each, and no write can touch the other's blocks. Each is
//! rewritten in place, so that a full disk does not stop a state change; only its first content comes by rename.

use std::path::PathBuf;
use std::sync::Arc;

use super::{MAX_STAMP_BYTES, Stamp, StampError, StampIdentity};
use crate::files::{FileError, Files, create_whole, read_whole};
use crate::ids::Incarnation;

/// The files' names, in the order in which equal slots are rewritten.
pub const SLOT_NAMES: [&str; 2] = ["stamp.a", "stamp.b"];

/// A slot's file is filled up with NUL bytes to a multiple of this, which `cat` does not show.
const PADDING: usize = 4096;

/// What the two slots say.
#[derive(Debug, PartialEq, Eq)]
pub enum StampFound {
    /// No slot exists.
    Absent,
    /// The readable slot with the higher sequence.
    Stamp(Box<Stamp>),
    /// Slots exist, and none is readable. Never to be taken for empty.
    Damaged {
        /// What is wrong with each.
        reason: String,
        /// The highest that could be made out.
        incarnation: Option<Incarnation>,
    },
}

/// Writes the stamp; knows what it wrote last.
pub struct StampFile {
    files: Arc<dyn Files>,
    dir: PathBuf,
    slots: [Slot; 2],
    sequence: u64,
    stopped: Option<&'static str>,
    outrun: Option<StampIdentity>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// The file as it was read or written last; none if it does not exist.
    raw: Option<Vec<u8>>,
    /// Its sequence if it is readable.
    sequence: Option<u64>,
    /// Why it is not readable.
    damage: Option<String>,
    /// Written by this process.
    written: bool,
}

impl StampFile {
    /// Reads both slots. Writes nothing.
    pub fn open(files: Arc<dyn Files>, dir: PathBuf) -> Result<(Self, StampFound), StampError> {
        let mut slots = [Slot::default(), Slot::default()];
        let mut newest: Option<Stamp> = None;
        let mut incarnation = None;
        for (slot, name) in slots.iter_mut().zip(SLOT_NAMES) {
            slot.raw = read_slot(files.as_ref(), &dir.join(name))?;
            let Some(raw) = &slot.raw else { continue };
            match Stamp::decode(content(raw)) {
                Ok(stamp) => {
                    slot.sequence = Some(stamp.sequence);
                    if newest.as_ref().is_none_or(|newest| newest.sequence < stamp.sequence) {
                        newest = Some(stamp);
                    }
                }
                Err(StampError::Damaged(what)) => {
                    slot.damage = Some(format!("{name}: {what}"));
                    incarnation = incarnation.max(make_out_incarnation(raw));
                }
                Err(error) => return Err(error),
            }
        }
        let damage: Vec<&str> = slots.iter().filter_map(|slot| slot.damage.as_deref()).collect();
        let found = match newest {
            Some(stamp) => StampFound::Stamp(Box::new(stamp)),
            None if damage.is_empty() => StampFound::Absent,
            None => StampFound::Damaged { reason: damage.join("; "), incarnation },
        };
        let sequence = slots.iter().filter_map(|slot| slot.sequence).max().unwrap_or(0);
        let stopped =
            matches!(found, StampFound::Damaged { .. }).then_some("both slots were found unreadable");
        Ok((Self { files, dir, slots, sequence, stopped, outrun: None }, found))
    }

    /// What is wrong with a slot whose twin is readable; the next write repairs it.
    pub fn damage(&self) -> Option<&str> {
        self.slots.iter().find_map(|slot| slot.damage.as_deref())
    }

    /// Counted up at each write; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes both slots, one after the other, each synced; the sequence is filled in and returned. The slots are
    /// read back first. After any error every further write fails.
    ///
    /// # Errors
    /// [`StampError::Foreign`] if a slot holds the stamp of another process, [`StampError::Changed`] if it is anything
    /// else than what was written last; nothing was written then. An earlier incarnation's stamp is written over: see
    /// [`StampFile::take_outrun`].
    pub fn write(&mut self, mut stamp: Stamp) -> Result<u64, StampError> {
        if let Some(why) = self.stopped {
            return Err(StampError::Stopped(why));
        }
        stamp.sequence = self
            .sequence
            .checked_add(1)
            .filter(|next| *next < u64::MAX)
            .ok_or(StampError::Stopped("there is no sequence after the one found"))?;
        let encoded = stamp.encode()?;
        self.stopped = Some("an earlier write failed");
        self.read_back()?;
        // The worse slot goes first, so that one whole slot stays whatever happens.
        let first = usize::from(self.slots[1].sequence < self.slots[0].sequence);
        for number in [first, 1 - first] {
            self.write_slot(number, &encoded, stamp.sequence)?;
        }
        self.sequence = stamp.sequence;
        self.stopped = None;
        Ok(stamp.sequence)
    }

    /// Looks whether another process has written the stamp, and changes nothing. What else may be wrong with the slots
    /// is for the next write to say.
    pub fn foreign(&self) -> Option<StampError> {
        let looked = self.slots.iter().zip(SLOT_NAMES).map(|(slot, name)| self.look_at(slot, name));
        looked.filter_map(Result::err).find(|error| matches!(error, StampError::Foreign { .. }))
    }

    /// The earlier life of this store whose stamp the last write replaced, if there was one: its process runs still, and
    /// finds this one's stamp when it looks.
    pub fn take_outrun(&mut self) -> Option<StampIdentity> {
        self.outrun.take()
    }

    fn read_back(&mut self) -> Result<(), StampError> {
        let (mut wrong, mut outrun) = (None, None);
        for (slot, name) in self.slots.iter().zip(SLOT_NAMES) {
            match self.look_at(slot, name) {
                Ok(found) => outrun = outrun.or(found),
                // Somebody may be in the middle of writing: the other slot says who.
                Err(error @ StampError::Changed { .. }) => wrong = wrong.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        self.outrun = outrun.or(self.outrun);
        wrong.map_or(Ok(()), Err)
    }

    /// Compares a slot on the medium with what was read or written there last; the stamp of an earlier incarnation, if
    /// it holds that.
    fn look_at(&self, slot: &Slot, name: &'static str) -> Result<Option<StampIdentity>, StampError> {
        let raw = read_slot(self.files.as_ref(), &self.dir.join(name))?;
        if raw == slot.raw {
            return Ok(None);
        }
        let identity = |raw: &Option<Vec<u8>>| {
            let stamp = Stamp::decode(content(raw.as_ref()?)).ok()?;
            Some(stamp.identity())
        };
        // An unreadable slot tells nothing; its twin is what is remembered.
        let remembered =
            identity(&slot.raw).or_else(|| self.slots.iter().find_map(|slot| identity(&slot.raw)));
        match (identity(&raw), remembered) {
            (Some(found), Some(remembered)) if slot.written && found == remembered => {
                Err(StampError::Changed { slot: name })
            }
            (Some(found), Some(remembered)) if slot.written && found.incarnation < remembered.incarnation => {
                Ok(Some(found))
            }
            // Of what was only read, any change is another process's.
            (Some(found), remembered) => Err(StampError::Foreign { slot: name, found, remembered }),
            (None, _) => Err(StampError::Changed { slot: name }),
        }
    }

    fn write_slot(&mut self, number: usize, encoded: &[u8], sequence: u64) -> Result<(), StampError> {
        let (slot, name) = (&mut self.slots[number], SLOT_NAMES[number]);
        let old_length = slot.raw.as_ref().map_or(0, Vec::len);
        // Never shorter than before: then no byte of an older content is left behind.
        let length = encoded.len().max(old_length).next_multiple_of(PADDING);
        let mut raw = encoded.to_vec();
        raw.resize(length, 0);
        if slot.raw.is_some() {
            let file = self.files.open(&self.dir.join(name))?;
            file.write_at(0, &raw)?;
            file.sync_all()?;
        } else {
            create_whole(self.files.as_ref(), &self.dir, name, &raw)?;
        }
        *slot = Slot { raw: Some(raw), sequence: Some(sequence), damage: None, written: true };
        Ok(())
    }
}

/// Writes this stamp as it is, its sequence included, into both slots of a directory that has none: for images.
pub(crate) fn write_copy(files: &dyn Files, dir: &std::path::Path, stamp: &Stamp) -> Result<(), StampError> {
    let mut raw = stamp.encode()?;
    raw.resize(raw.len().next_multiple_of(PADDING), 0);
    for name in SLOT_NAMES {
        create_whole(files, dir, name, &raw)?;
    }
    Ok(())
}

fn read_slot(files: &dyn Files, path: &std::path::Path) -> Result<Option<Vec<u8>>, FileError> {
    let limit = MAX_STAMP_BYTES.next_multiple_of(PADDING);
    read_whole(files, path, u64::try_from(limit).unwrap_or(u64::MAX))
}

/// A slot's content without its padding.
fn content(raw: &[u8]) -> &[u8] {
    let end = raw.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    raw.get(..end).unwrap_or_default()
}

/// The incarnation in an unreadable slot, for counting up from it.
fn make_out_incarnation(raw: &[u8]) -> Option<Incarnation> {
    let text = String::from_utf8_lossy(raw);
    let value = text.lines().find_map(|line| line.strip_prefix("incarnation = "))?;
    value.parse().ok().map(Incarnation)
}
