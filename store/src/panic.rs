//! The panic file: a broker that found somebody outside the cluster writing stays panicked until an operator clears that,
//! whatever becomes of its process. It is no part of the stamp: whoever panics must not write that any more.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{FileError, FileResult, Files, create_whole, read_whole};
use crate::ids::{ClusterId, StoreId};
use crate::stamp::StampIdentity;
use crate::text::{Reader, TextError, Writer};

/// The file's name in the store's directory.
pub const PANIC_NAME: &str = "panic";
/// The format this version writes, and the only one it reads.
pub const PANIC_FORMAT: u16 = 1;
/// Longest text of a record's field, in bytes.
pub const MAX_PANIC_TEXT: usize = 1024;

const MAX_BYTES: u64 = 16 << 10;
const FIRST: &str = "quorate-panic ";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicCause {
    /// Another process wrote its stamp into this store.
    SecondWriter,
    /// Another history of the cluster was active at the same time, and this side may not go on.
    TwoHistories,
}

impl PanicCause {
    /// As files, JSON and commands spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::SecondWriter => "second-writer",
            Self::TwoHistories => "two-histories",
        }
    }

    fn of(word: &str) -> Result<Self, TextError> {
        let known = [Self::SecondWriter, Self::TwoHistories].into_iter().find(|cause| cause.word() == word);
        known.ok_or_else(|| TextError("unknown cause".to_owned()))
    }

    /// What to look for.
    pub fn likely(self) -> &'static str {
        match self {
            Self::SecondWriter => {
                "the directory is mounted twice, or the lock was removed or does not work on this file system"
            }
            Self::TwoHistories => {
                "brokers that could not see each other went on apart: after an operator's mark, or as copies of one store"
            }
        }
    }
}

/// Why a broker panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicRecord {
    /// The cluster it belonged to, if any.
    pub cluster_id: Option<ClusterId>,
    /// Its store.
    pub store_id: StoreId,
    /// Itself, as it wrote its stamp last; its safety number.
    pub own: StampIdentity,
    /// What was found.
    pub cause: PanicCause,
    /// The other side's safety number.
    pub found_number: u64,
    /// What the other side is, for people: at most [`MAX_PANIC_TEXT`] bytes.
    pub found: String,
    /// When, milliseconds since 1970.
    pub when_ms: u64,
}

impl fmt::Display for PanicRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its safety number is {:016x}, and {} has {:016x}; likely cause: {}",
            self.own.safety_number,
            self.found,
            self.found_number,
            self.cause.likely()
        )
    }
}

/// What the panic file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PanicFound {
    /// There is none.
    #[default]
    None,
    /// The broker panicked.
    Panic(Box<PanicRecord>),
    /// There is one, and it cannot be read: the broker counts as panicked.
    Damaged(String),
}

/// Writes and removes the panic file of one store.
#[derive(Clone)]
pub struct PanicFile {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl PanicFile {
    /// Of the store in this directory.
    pub fn new(files: Arc<dyn Files>, dir: PathBuf) -> Self {
        Self { files, dir }
    }

    /// See [`write()`].
    ///
    /// # Errors
    /// Those of the medium.
    pub fn write(&self, record: &PanicRecord) -> FileResult<()> {
        write(self.files.as_ref(), &self.dir, record)
    }

    /// See [`clear`].
    ///
    /// # Errors
    /// Those of the medium.
    pub fn clear(&self) -> FileResult<()> {
        clear(self.files.as_ref(), &self.dir)
    }
}

/// Reads the panic file.
///
/// # Errors
/// Those of the medium.
pub fn read(files: &dyn Files, dir: &Path) -> FileResult<PanicFound> {
    Ok(match read_whole(files, &dir.join(PANIC_NAME), MAX_BYTES)? {
        None => PanicFound::None,
        Some(content) => match decode(&content) {
            Ok(record) => PanicFound::Panic(Box::new(record)),
            Err(TextError(what)) => PanicFound::Damaged(what),
        },
    })
}

/// Writes the panic file durably, in the place of one that may be there.
///
/// # Errors
/// Those of the medium; the file is there whole, as it was before, or not at all.
pub fn write(files: &dyn Files, dir: &Path, record: &PanicRecord) -> FileResult<()> {
    create_whole(files, dir, PANIC_NAME, encode(record).as_bytes())
}

/// Removes the panic file durably; nothing happens if there is none.
///
/// # Errors
/// Those of the medium; it may be there or not.
pub fn clear(files: &dyn Files, dir: &Path) -> FileResult<()> {
    match files.remove(&dir.join(PANIC_NAME)) {
        Ok(()) | Err(FileError::NotFound { .. }) => files.sync_dir(dir),
        Err(error) => Err(error),
    }
}

fn encode(record: &PanicRecord) -> String {
    let mut out = Writer { text: format!("{FIRST}{PANIC_FORMAT}\n") };
    out.optional("cluster_id", record.cluster_id);
    out.line("store_id", record.store_id);
    out.line("incarnation", record.own.incarnation);
    out.line("run_id", record.own.run_id);
    out.line("cause", record.cause.word());
    out.line("own_number", record.own.safety_number);
    out.line("found_number", record.found_number);
    let mut found = record.found.clone();
    found.truncate(found.floor_char_boundary(MAX_PANIC_TEXT));
    out.quoted("found", &found);
    out.line("when_ms", record.when_ms);
    let crc = crc32fast::hash(out.text.as_bytes());
    out.line("crc32", format_args!("{crc:08x}"));
    out.text
}

fn decode(content: &[u8]) -> Result<PanicRecord, TextError> {
    let wrong = |what: &str| TextError(what.to_owned());
    if content.len() as u64 > MAX_BYTES {
        return Err(wrong("longer than a panic file can be"));
    }
    let text = str::from_utf8(content).map_err(|_| wrong("not text"))?;
    let (body, crc) = text.rsplit_once("crc32 = ").ok_or_else(|| wrong("no checksum"))?;
    if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(wrong("checksum mismatch"));
    }
    let (first, fields) = body.split_once('\n').ok_or_else(|| wrong("no first line"))?;
    if first != format!("{FIRST}{PANIC_FORMAT}") {
        return Err(TextError(format!("not of format {PANIC_FORMAT}: it begins with `{first}`")));
    }
    let mut reader = Reader::new(fields);
    let from = &mut reader;
    let cluster_id = from.optional("cluster_id")?.map(ClusterId);
    let store_id = StoreId(from.parsed("store_id")?);
    let incarnation = crate::ids::Incarnation(from.parsed("incarnation")?);
    let run_id = crate::ids::RunId(from.parsed("run_id")?);
    let cause = PanicCause::of(from.value("cause")?)?;
    let own = StampIdentity { incarnation, run_id, safety_number: from.parsed("own_number")? };
    let record = PanicRecord {
        cluster_id,
        store_id,
        own,
        cause,
        found_number: from.parsed("found_number")?,
        found: from.quoted("found")?,
        when_ms: from.parsed("when_ms")?,
    };
    reader.end()?;
    if encode(&record).as_bytes() != content {
        return Err(wrong("not in canonical form"));
    }
    Ok(record)
}

#[cfg(test)]
pub(crate) fn sample() -> PanicRecord {
    use uuid::Uuid;

    PanicRecord {
        cluster_id: Some(ClusterId(Uuid::from_u128(1))),
        store_id: StoreId(Uuid::from_u128(2)),
        own: StampIdentity {
            incarnation: crate::ids::Incarnation(3),
            run_id: crate::ids::RunId(Uuid::from_u128(4)),
            safety_number: 5,
        },
        cause: PanicCause::SecondWriter,
        found_number: 6,
        found: "another \"process\"\nof this store".to_owned(),
        when_ms: 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::crash::CrashFiles;

    const DIR: &str = "/store";

    fn disk() -> CrashFiles {
        let disk = CrashFiles::new();
        disk.create_dir(Path::new(DIR)).unwrap();
        disk
    }

    fn found(disk: &CrashFiles) -> PanicFound {
        read(disk, Path::new(DIR)).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_can_be_cleared() {
        let disk = disk();
        assert_eq!(found(&disk), PanicFound::None);
        clear(&disk, Path::new(DIR)).unwrap();
        for cause in [PanicCause::SecondWriter, PanicCause::TwoHistories] {
            let record = PanicRecord { cause, cluster_id: None, ..sample() };
            write(&disk, Path::new(DIR), &record).unwrap();
            disk.crash(1);
            assert_eq!(found(&disk), PanicFound::Panic(Box::new(record)));
        }
        clear(&disk, Path::new(DIR)).unwrap();
        disk.crash(2);
        assert_eq!(found(&disk), PanicFound::None);
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let disk = disk();
        let record = PanicRecord { found: "ä".repeat(MAX_PANIC_TEXT), ..sample() };
        write(&disk, Path::new(DIR), &record).unwrap();
        let PanicFound::Panic(read) = found(&disk) else { panic!("unreadable") };
        assert_eq!(read.found.len(), MAX_PANIC_TEXT);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_counts_as_panicked() {
        let content = encode(&sample());
        let disk = disk();
        let path = Path::new(DIR).join(PANIC_NAME);
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.replace(&path, &flipped);
            assert!(matches!(found(&disk), PanicFound::Damaged(_)), "bit {bit}");
        }
        for end in 0..content.len() {
            disk.replace(&path, &content.as_bytes()[..end]);
            assert!(matches!(found(&disk), PanicFound::Damaged(_)), "cut at {end}");
        }
        disk.replace(&path, &vec![b'x'; 1 << 20]);
        assert!(matches!(found(&disk), PanicFound::Damaged(_)));
    }

    #[test]
    fn a_cut_at_any_step_leaves_the_panic_or_none() {
        for cut in 1..=6 {
            for seed in 0..30 {
                let disk = disk();
                disk.cut_power_at(cut);
                let written = write(&disk, Path::new(DIR), &sample()).is_ok();
                disk.crash(seed);
                match found(&disk) {
                    PanicFound::None => assert!(!written, "cut {cut} seed {seed}"),
                    found => assert_eq!(found, PanicFound::Panic(Box::new(sample()))),
                }
                write(&disk, Path::new(DIR), &sample()).unwrap();
            }
        }
    }
}
