//! The store's id, written once and kept for ever. An id that cannot be read is damage; only a directory without any
//! piece of a store is new.

use std::path::Path;

use thiserror::Error;
use uuid::Uuid;

use crate::files::{FileError, Files, create_whole, read_whole};
use crate::ids::StoreId;

/// The lock file's name in the store's directory; it holds the process id of whoever has the lock.
pub const LOCK_NAME: &str = "lock";
/// The store id's file name in the store's directory.
pub const STORE_ID_NAME: &str = "store-id";
/// The format this version writes, and the newest it reads.
pub const STORE_ID_FORMAT: u16 = 1;

const MAX_BYTES: u64 = 4096;

/// Why the store id could not be read or written.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file is there and is no store id.
    #[error("{STORE_ID_NAME} is unreadable: {0}")]
    Damaged(&'static str),
    /// Written by a later version of this software: start that one.
    #[error(
        "{STORE_ID_NAME} has format {found}, this version reads up to {STORE_ID_FORMAT}: use the version that wrote it"
    )]
    Newer {
        /// The file's format.
        found: u16,
    },
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads the store id; none if there is no such file.
pub fn read_store_id(files: &dyn Files, dir: &Path) -> Result<Option<StoreId>, IdentityError> {
    match read_whole(files, &dir.join(STORE_ID_NAME), MAX_BYTES)? {
        Some(content) => decode(&content).map(Some),
        None => Ok(None),
    }
}

/// Writes the store id of a new store, durably.
pub fn create_store_id(files: &dyn Files, dir: &Path, id: StoreId) -> Result<(), FileError> {
    create_whole(files, dir, STORE_ID_NAME, encode(id).as_bytes())
}

fn encode(id: StoreId) -> String {
    let body = format!("quorate-store {STORE_ID_FORMAT}\nstore_id = {id}\n");
    format!("{body}crc32 = {:08x}\n", crc32fast::hash(body.as_bytes()))
}

fn decode(content: &[u8]) -> Result<StoreId, IdentityError> {
    let damaged = IdentityError::Damaged;
    let text = str::from_utf8(content).map_err(|_| damaged("not text"))?;
    let (body, crc) = text.rsplit_once("crc32 = ").ok_or(damaged("no checksum"))?;
    if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(damaged("checksum mismatch"));
    }
    let (first, rest) = body.split_once('\n').ok_or(damaged("no first line"))?;
    let format = first.strip_prefix("quorate-store ").and_then(|format| format.parse().ok());
    match format.ok_or(damaged("no format version"))? {
        found if found > STORE_ID_FORMAT => return Err(IdentityError::Newer { found }),
        STORE_ID_FORMAT => {}
        _ => return Err(damaged("unknown format")),
    }
    let id = rest.strip_prefix("store_id = ").and_then(|rest| Uuid::try_parse(rest.trim_end()).ok());
    let id = StoreId(id.ok_or(damaged("no id"))?);
    if encode(id).as_bytes() != content {
        return Err(damaged("not in canonical form"));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::crash::CrashFiles;

    const ID: StoreId = StoreId(Uuid::from_u128(42));

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let content = encode(ID);
        assert_eq!(decode(content.as_bytes()).unwrap(), ID);
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped), Err(IdentityError::Damaged(_))), "bit {bit}");
        }
        for end in 0..content.len() {
            assert!(
                matches!(decode(&content.as_bytes()[..end]), Err(IdentityError::Damaged(_))),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn a_later_format_is_told_apart() {
        let body = "quorate-store 2\nsomething = else\n";
        let content = format!("{body}crc32 = {:08x}\n", crc32fast::hash(body.as_bytes()));
        assert!(matches!(decode(content.as_bytes()), Err(IdentityError::Newer { found: 2 })));
    }

    #[test]
    fn a_cut_at_any_step_leaves_the_id_or_nothing() {
        let dir = Path::new("/store");
        for cut in 1..=6 {
            for seed in 0..30 {
                let disk = CrashFiles::new();
                disk.create_dir(dir).unwrap();
                disk.cut_power_at(cut);
                let written = create_store_id(&disk, dir, ID).is_ok();
                disk.crash(seed);
                let found = read_store_id(&disk, dir).unwrap();
                assert!(
                    found == Some(ID) || (found.is_none() && !written),
                    "cut {cut} seed {seed}: {found:?}"
                );
                create_store_id(&disk, dir, ID).unwrap();
            }
        }
    }
}
