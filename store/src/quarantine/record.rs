//! What an image says of itself.

use std::path::Path;

use super::QuarantineError;
use crate::files::{FileError, Files, create_whole, read_whole};
use crate::ids::{GroupId, Position};
use crate::text::{Reader, TextError, Writer};

/// The record's file name in an image.
pub const RECORD_NAME: &str = "image";
/// The format this version writes, and the only one it reads.
pub const RECORD_FORMAT: u16 = 2;
/// Most groups in a record.
pub const MAX_RECORD_GROUPS: usize = 4096;

const FIRST: &str = "quorate-image ";
const LAST: &str = "crc32 = ";
/// Longest reason, in bytes.
const MAX_WHY_BYTES: usize = 64 << 10;
const MAX_BYTES: u64 = 1 << 20;

/// By what act an image came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// An operator was about to change the stamp: a mark, or its undoing.
    Mark,
    /// A full copy from the group's leader was about to replace what is here.
    Update,
    /// An operator put another image in this one's place.
    Restore,
    /// What is here was not understood.
    Damage,
}

impl Act {
    pub(super) const ALL: [Self; 4] = [Self::Mark, Self::Update, Self::Restore, Self::Damage];

    /// The word in the record and in the directory's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Update => "update",
            Self::Restore => "restore",
            Self::Damage => "damage",
        }
    }
}

/// Where the history of an image's first group left that of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The virtual host; `system` for group 0.
    pub vhost: String,
    /// The last entry that both have: what the image's log holds after it, the cluster does not.
    pub fork: Position,
}

/// What whoever makes an image says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// By what act.
    pub act: Act,
    /// Why, for people.
    pub why: String,
    /// The groups that the act is about, none being all; an image may hold more.
    pub groups: Vec<GroupId>,
    /// What of it the cluster does not have, if that is known to be anything.
    pub diverged: Option<Divergence>,
    /// Wall-clock time, milliseconds since 1970; shown, never decided on.
    pub when_ms: u64,
}

impl Note {
    pub(super) fn check(&self) -> Result<(), QuarantineError> {
        if self.groups.len() > MAX_RECORD_GROUPS {
            return Err(QuarantineError::TooLarge { what: "too many groups" });
        }
        let vhost = self.diverged.as_ref().map_or(0, |diverged| diverged.vhost.len());
        if self.why.len() > MAX_WHY_BYTES || vhost > MAX_WHY_BYTES {
            return Err(QuarantineError::TooLarge { what: "the reason is above 64 KiB" });
        }
        Ok(())
    }
}

/// An image in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Names it to operators; above those of all images that were there when it was made.
    pub number: u64,
    /// Its directory in the quarantine's.
    pub name: String,
    /// What was said when it was made.
    pub note: Note,
    /// Bytes of its files, without this record.
    pub bytes: u64,
}

/// Writes the record durably: with it the image is one.
pub(super) fn write(files: &dyn Files, dir: &Path, image: &Image) -> Result<(), FileError> {
    create_whole(files, dir, RECORD_NAME, encode(image).as_bytes())
}

pub(super) fn read(files: &dyn Files, dir: &Path, number: u64, name: &str) -> Result<Image, QuarantineError> {
    let damaged = |what: String| QuarantineError::Damaged { name: name.to_owned(), what };
    let content = read_whole(files, &dir.join(RECORD_NAME), MAX_BYTES)?
        .ok_or_else(|| damaged("it has no record".to_owned()))?;
    let image = decode(&content, name).map_err(|TextError(what)| damaged(what))?;
    if image.number != number {
        return Err(damaged(format!("it is image {} by its record", image.number)));
    }
    Ok(image)
}

fn encode(image: &Image) -> String {
    let mut out = Writer { text: format!("{FIRST}{RECORD_FORMAT}\n") };
    out.line("number", image.number);
    out.line("act", image.note.act.word());
    out.quoted("why", &image.note.why);
    out.line("when_ms", image.note.when_ms);
    out.line("groups", image.note.groups.len());
    for group in &image.note.groups {
        out.line("group", group);
    }
    out.optional("fork", image.note.diverged.as_ref().map(|diverged| diverged.fork));
    if let Some(diverged) = &image.note.diverged {
        out.quoted("vhost", &diverged.vhost);
    }
    out.line("bytes", image.bytes);
    let crc = crc32fast::hash(out.text.as_bytes());
    out.line("crc32", format_args!("{crc:08x}"));
    out.text
}

fn decode(content: &[u8], name: &str) -> Result<Image, TextError> {
    let wrong = |what: &str| TextError(what.to_owned());
    let text = str::from_utf8(content).map_err(|_| wrong("not text"))?;
    let (body, crc) = text.rsplit_once(LAST).ok_or_else(|| wrong("no checksum"))?;
    if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(wrong("checksum mismatch"));
    }
    let (first, fields) = body.split_once('\n').ok_or_else(|| wrong("no first line"))?;
    let format = first.strip_prefix(FIRST).ok_or_else(|| wrong("not an image's record"))?;
    if format != RECORD_FORMAT.to_string() {
        return Err(TextError(format!("format {format}, this version reads {RECORD_FORMAT}")));
    }
    let mut reader = Reader::new(fields);
    let number = reader.parsed("number")?;
    let act = reader.value("act")?;
    let act = Act::ALL.into_iter().find(|known| known.word() == act);
    let act = act.ok_or_else(|| reader.wrong("unknown act"))?;
    let (why, when_ms) = (reader.quoted("why")?, reader.parsed("when_ms")?);
    let count = reader.count("groups", MAX_RECORD_GROUPS)?;
    let groups =
        (0..count).map(|_| Ok(GroupId(reader.parsed("group")?))).collect::<Result<_, TextError>>()?;
    let diverged = match reader.optional("fork")? {
        None => None,
        Some(fork) => Some(Divergence { vhost: reader.quoted("vhost")?, fork }),
    };
    let bytes = reader.parsed("bytes")?;
    reader.end()?;
    let note = Note { act, why, groups, diverged, when_ms };
    let image = Image { number, name: name.to_owned(), note, bytes };
    if encode(&image).as_bytes() != content {
        return Err(wrong("not in canonical form"));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Index, Term};

    fn image() -> Image {
        let note = Note {
            act: Act::Update,
            why: "the leader's lineage is \"later\"\n".into(),
            groups: vec![GroupId(1), GroupId(7)],
            diverged: Some(Divergence {
                vhost: "billing".into(),
                fork: Position { epoch: Epoch(1), term: Term(4), index: Index(90) },
            }),
            when_ms: 5,
        };
        Image { number: 12, name: "000012-update".into(), note, bytes: 4096 }
    }

    #[test]
    fn a_record_is_read_as_written_and_every_flipped_bit_is_noticed() {
        let content = encode(&image());
        assert_eq!(decode(content.as_bytes(), "000012-update"), Ok(image()));
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, "x").is_err(), "bit {bit}");
        }
        for end in 0..content.len() {
            assert!(decode(&content.as_bytes()[..end], "x").is_err(), "cut at {end}");
        }
    }
}
