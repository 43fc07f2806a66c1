//! The state store in memory, with the durability rule of the real one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::files::{Files, create_whole, read_whole};
use crate::state::{Family, Pair, StateBatch, StateError, StateStore, StateWrite, ViewId};

type Pairs = BTreeMap<Bytes, Bytes>;

/// The families; clones share until one changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    node: Arc<Pairs>,
    state: Arc<Pairs>,
    body: Arc<Pairs>,
}

/// The file of a checkpoint.
const CHECKPOINT_NAME: &str = "model";

impl Content {
    /// Each family: how many pairs, then each with the lengths of key and value before it; last a CRC32 of all.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for pairs in [&self.node, &self.state, &self.body] {
            out.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
            for bytes in pairs.iter().flat_map(|(key, value)| [key, value]) {
                out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                out.extend_from_slice(bytes);
            }
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut rest, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut take = |length: u64| {
            let (taken, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = after;
            Some(taken)
        };
        let mut content = Self::default();
        for family in [Family::Node, Family::State, Family::Body] {
            let mut number = || Some(u64::from_le_bytes(take(8)?.try_into().ok()?));
            for _ in 0..number()? {
                let mut piece = || {
                    let length = u64::from_le_bytes(take(8)?.try_into().ok()?);
                    Some(Bytes::copy_from_slice(take(length)?))
                };
                let (key, value) = (piece()?, piece()?);
                content.family_mut(family).insert(key, value);
            }
        }
        rest.is_empty().then_some(content)
    }

    fn family(&self, family: Family) -> &Pairs {
        match family {
            Family::Node => &self.node,
            Family::State => &self.state,
            Family::Body => &self.body,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut Pairs {
        Arc::make_mut(match family {
            Family::Node => &mut self.node,
            Family::State => &mut self.state,
            Family::Body => &mut self.body,
        })
    }

    fn apply(&mut self, batch: &StateBatch) {
        for write in &batch.writes {
            match write {
                StateWrite::Put(family, key, value) => {
                    let replaced = self.family_mut(*family).insert(key.clone(), value.clone());
                    assert!(
                        *family != Family::Body || replaced.is_none(),
                        "a body's key is put at most once before it is deleted: {key:?}"
                    );
                }
                StateWrite::Delete(family, key) => {
                    self.family_mut(*family).remove(key);
                }
                StateWrite::DeleteRange(family, from, to) => {
                    self.family_mut(*family).retain(|key, _| !(from <= key && key < to));
                }
            }
        }
    }
}

/// A state store without a disk. [`StateModel::crash`] takes what was not flushed.
///
/// What it holds is in no file, so that it costs a simulation nothing; only [`StateStore::checkpoint`] writes one, if
/// it was told where ([`StateModel::on`]).
#[derive(Clone, Default)]
pub struct StateModel {
    files: Option<Arc<dyn Files>>,
    now: Content,
    durable: Content,
    unflushed: Vec<StateBatch>,
    views: BTreeMap<ViewId, Content>,
    next_view: u64,
}

impl std::fmt::Debug for StateModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Content { node, state, body } = &self.now;
        write!(f, "{} node, {} state, {} body keys", node.len(), state.len(), body.len())
    }
}

impl StateModel {
    /// An empty one, which can make no checkpoints.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that makes its checkpoints with these files.
    pub fn on(files: Arc<dyn Files>) -> Self {
        Self { files: Some(files), ..Self::default() }
    }

    /// The same content, whose checkpoints go elsewhere.
    #[must_use]
    pub fn moved_to(mut self, files: Arc<dyn Files>) -> Self {
        self.files = Some(files);
        self
    }

    /// What a checkpoint holds.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] if it is not what was written, [`StateError::Io`] if there is none.
    pub fn load(files: Arc<dyn Files>, dir: &Path) -> Result<Self, StateError> {
        let bytes = read_whole(files.as_ref(), &dir.join(CHECKPOINT_NAME), u64::MAX - 1)
            .map_err(|error| StateError::Io(error.to_string()))?
            .ok_or_else(|| StateError::Io(format!("there is no checkpoint in {}", dir.display())))?;
        let now = Content::decode(&bytes)
            .ok_or_else(|| StateError::Corrupt(format!("the checkpoint in {}", dir.display())))?;
        Ok(Self { files: Some(files), durable: now.clone(), now, ..Self::default() })
    }

    /// Power is lost: of the batches since the last flush the first `dice % (n + 1)` are found, whole; views are gone.
    pub fn crash(&mut self, dice: u64) {
        let count = self.unflushed.len() as u64;
        let kept = usize::try_from(dice % (count + 1)).unwrap_or(0);
        for batch in self.unflushed.drain(..).take(kept) {
            self.durable.apply(&batch);
        }
        self.now = self.durable.clone();
        self.views.clear();
    }
}

impl StateStore for StateModel {
    fn write(&mut self, batch: &StateBatch) -> Result<(), StateError> {
        self.now.apply(batch);
        self.unflushed.push(batch.clone());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.durable = self.now.clone();
        self.unflushed.clear();
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.now.family(family).get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<Vec<Pair>, StateError> {
        let content = match view {
            Some(view) => self.views.get(&view).ok_or(StateError::NoView(view))?,
            None => &self.now,
        };
        let mut pairs = Vec::new();
        let mut bytes = 0;
        if from >= to {
            return Ok(pairs);
        }
        let range = content.family(family).range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        for (key, value) in range {
            if bytes >= max_bytes && !pairs.is_empty() {
                break;
            }
            bytes += key.len() + value.len();
            pairs.push((key.clone(), value.clone()));
        }
        Ok(pairs)
    }

    fn open_view(&mut self) -> Result<ViewId, StateError> {
        self.next_view += 1;
        let view = ViewId(self.next_view);
        self.views.insert(view, self.now.clone());
        Ok(view)
    }

    fn close_view(&mut self, view: ViewId) {
        self.views.remove(&view);
    }

    fn checkpoint(&mut self, dir: &Path) -> Result<(), StateError> {
        self.flush()?;
        let failed = |error: crate::files::FileError| StateError::Io(error.to_string());
        let Some(files) = &self.files else {
            return Err(StateError::Io("a model in memory has nowhere to put a checkpoint".to_owned()));
        };
        if files.is_dir(dir).map_err(failed)? {
            return Err(StateError::Io(format!("{} already exists", dir.display())));
        }
        files.create_dir(dir).map_err(failed)?;
        create_whole(files.as_ref(), dir, CHECKPOINT_NAME, &self.durable.encode()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> StateBatch {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        StateBatch { writes: vec![StateWrite::Put(Family::State, key, value)] }
    }

    fn keys(model: &StateModel) -> Vec<String> {
        let pairs = model.scan(Family::State, b"", b"z", usize::MAX, None).unwrap();
        pairs.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_crash_takes_unflushed_batches_from_the_end() {
        let mut model = StateModel::new();
        model.write(&put("a", "1")).unwrap();
        model.flush().unwrap();
        model.write(&put("b", "2")).unwrap();
        model.write(&put("c", "3")).unwrap();
        let after = |dice| {
            let mut model = model.clone();
            model.crash(dice);
            // What was found stays found.
            model.crash(0);
            keys(&model).join("")
        };
        assert_eq!([after(0), after(1), after(2), after(3)], ["a", "ab", "abc", "a"]);
        assert_eq!(keys(&model), ["a", "b", "c"]);
    }

    #[test]
    fn a_view_stays_as_it_was() {
        let mut model = StateModel::new();
        model.write(&put("a", "1")).unwrap();
        let view = model.open_view().unwrap();
        let from = Bytes::from_static(b"a");
        let gone = StateWrite::DeleteRange(Family::State, from, Bytes::from_static(b"b"));
        model.write(&StateBatch { writes: vec![gone] }).unwrap();
        assert!(keys(&model).is_empty());
        assert_eq!(model.scan(Family::State, b"a", b"b", 0, Some(view)).unwrap().len(), 1);
        model.close_view(view);
        assert!(matches!(model.scan(Family::State, b"a", b"b", 0, Some(view)), Err(StateError::NoView(_))));
    }

    #[test]
    fn a_scan_stops_at_its_limit_and_gives_at_least_one() {
        let mut model = StateModel::new();
        for key in ["a", "b", "c"] {
            model.write(&put(key, "value")).unwrap();
        }
        let count = |max_bytes| model.scan(Family::State, b"a", b"z", max_bytes, None).unwrap().len();
        assert_eq!([count(0), count(6), count(7), count(100)], [1, 1, 2, 3]);
        assert_eq!(model.scan(Family::State, b"z", b"a", 9, None).unwrap(), []);
        assert_eq!(model.get(Family::State, b"b").unwrap().unwrap(), "value");
        assert_eq!(model.get(Family::Node, b"b").unwrap(), None);
    }

    #[test]
    fn a_checkpoint_holds_what_is_there_then() {
        let files: Arc<dyn Files> = Arc::new(crate::files::crash::CrashFiles::new());
        let mut model = StateModel::on(Arc::clone(&files));
        model.write(&put("a", "1")).unwrap();
        let dir = Path::new("/above/state");
        model.checkpoint(dir).unwrap();
        assert!(matches!(model.checkpoint(dir), Err(StateError::Io(_))), "one was written over");
        model.write(&put("b", "2")).unwrap();
        assert_eq!(keys(&StateModel::load(Arc::clone(&files), dir).unwrap()), ["a"]);
        let path = dir.join(CHECKPOINT_NAME);
        files.open(&path).unwrap().write_at(3, b"x").unwrap();
        assert!(matches!(StateModel::load(Arc::clone(&files), dir), Err(StateError::Corrupt(_))));
        assert!(matches!(StateModel::load(files, Path::new("/above")), Err(StateError::Io(_))));
        assert!(matches!(StateModel::new().checkpoint(dir), Err(StateError::Io(_))));
    }
}
