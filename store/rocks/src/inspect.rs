//! Looking at a whole store, its state included.

use crate::reader::RocksReader;
use quorate_store::files::real::RealFiles;
use quorate_store::files::{FileError, Files};
use quorate_store::open::{Inspected, OpenError};
use quorate_store::state::{STATE_DIRECTORY, StateError};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a look at a store found.
pub struct StoreLook {
    /// Identity, stamp and log, and what is wrong with them.
    pub store: Inspected,
    /// The state store, if there is one and it can be trusted.
    pub state: Option<RocksReader>,
    /// Why the state cannot be trusted. It can be rebuilt from the log as far as that reaches, and from peers.
    pub state_damage: Option<String>,
}

/// Looks at the store in a directory, or at an image in quarantine: takes no lock, writes no byte, changes no name, needs
/// no permission to write. Memory is bounded: see [`quorate_store::open::inspect`]; the engine's cache has
/// [`crate::MINIMUM_MEMORY`].
///
/// # Errors
/// As [`quorate_store::open::inspect`]; [`OpenError::File`] also if the state store cannot be read.
pub fn inspect(dir: &Path) -> Result<StoreLook, OpenError> {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let store = quorate_store::open::inspect(&files, dir)?;
    let state_dir = dir.join(STATE_DIRECTORY);
    let unreadable = |text: String| -> OpenError {
        FileError::Io { operation: "read", path: state_dir.clone(), source: io::Error::other(text) }.into()
    };
    let nothing = RocksReader::is_unmade(&state_dir).map_err(|error| unreadable(error.to_string()))?;
    let (state, state_damage) = if nothing {
        (None, None)
    } else {
        match RocksReader::open(&state_dir) {
            Ok(reader) => (Some(reader), None),
            Err(StateError::Corrupt(what)) => (None, Some(what)),
            Err(error) => return Err(unreadable(error.to_string())),
        }
    };
    Ok(StoreLook { store, state, state_damage })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;
    use std::time::SystemTime;

    use bytes::Bytes;
    use quorate_store::ids::StoreId;
    use quorate_store::log::LogConfig;
    use quorate_store::open::{OpenOptions, open};
    use quorate_store::quarantine::{Act, Note, Parts, directory, keep_closed, list};
    use quorate_store::stamp::StampFound;
    use quorate_store::state::{Family, StateBatch, StateStore, StateWrite};
    use tempfile::TempDir;

    use super::*;
    use crate::{RocksConfig, RocksStore};

    /// Every name below a directory with its time and content.
    fn fingerprint(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let mut found = BTreeMap::from([(dir.to_owned(), (modified(dir), Vec::new()))]);
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(fingerprint(&path));
            } else {
                found.insert(path.clone(), (modified(&path), fs::read(&path).unwrap()));
            }
        }
        found
    }

    fn set_writable(dir: &Path, writable: bool) {
        use std::os::unix::fs::PermissionsExt;
        for path in fingerprint(dir).into_keys() {
            let mode = match (path.is_dir(), writable) {
                (true, false) => 0o555,
                (true, true) => 0o755,
                (false, false) => 0o444,
                (false, true) => 0o644,
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn put(key: &'static [u8], value: &'static [u8]) -> StateBatch {
        let (key, value) = (Bytes::from_static(key), Bytes::from_static(value));
        StateBatch { writes: vec![StateWrite::Put(Family::State, key, value)] }
    }

    #[test]
    fn a_look_changes_nothing_and_an_image_is_looked_at_like_a_store() {
        let temporary = TempDir::new().unwrap();
        let dir = temporary.path().join("data");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let id = StoreId(uuid::Uuid::from_u128(3));
        let log = LogConfig { segment_bytes: 16 << 10, ..LogConfig::new(id, 1) };
        let options = OpenOptions { process: 1, fresh_id: id, log, reserve_bytes: 4096 };
        let opened = open(&files, &dir, options).unwrap();
        let state_dir = dir.join(STATE_DIRECTORY);
        let mut state = RocksStore::open(&state_dir, RocksConfig::default()).unwrap();
        state.write(&put(b"a", b"1")).unwrap();
        state.flush().unwrap();
        drop(state);
        let note =
            Note { act: Act::Update, why: "a test".into(), groups: Vec::new(), diverged: None, when_ms: 1 };
        keep_closed(&files, &dir, opened.lock.as_ref(), note, Parts::Everything).unwrap();
        // What happens to the store afterwards, compactions among it, does not reach the image.
        let mut state = RocksStore::open(&state_dir, RocksConfig::default()).unwrap();
        state.write(&put(b"a", b"2")).unwrap();
        state.flush().unwrap();
        drop(state);

        set_writable(temporary.path(), false);
        let before = fingerprint(temporary.path());
        let look = inspect(&dir).unwrap();
        assert_eq!((look.store.id, &look.store.stamp), (Some(id), &StampFound::Absent));
        assert_eq!(look.state.unwrap().get(Family::State, b"a").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(list(&RealFiles, &dir).unwrap().len(), 1);
        let look = inspect(&directory(&RealFiles, &dir, 1).unwrap()).unwrap();
        assert_eq!((look.store.id, look.state_damage), (Some(id), None));
        assert_eq!(look.state.unwrap().get(Family::State, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert!(fingerprint(temporary.path()) == before, "looking changed something");
        set_writable(temporary.path(), true);

        fs::remove_file(state_dir.join("CURRENT")).unwrap();
        let look = inspect(&dir).unwrap();
        assert!(look.state.is_none() && look.state_damage.is_some() && look.store.damage.is_empty());
        fs::remove_dir_all(&state_dir).unwrap();
        let look = inspect(&dir).unwrap();
        assert!(look.state.is_none() && look.state_damage.is_none());
        drop(opened);
    }
}
