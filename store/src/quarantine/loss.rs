//! What images in quarantine hold that their cluster does not have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{QUARANTINE_DIRECTORY, list};
use crate::files::{FileError, Files};
use crate::identity::read_store_id;
use crate::ids::{GroupId, Position, StoreId};

/// A history that a store gave up, in the first image that was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Names it to operators, everywhere alike: see [`loss_id`].
    pub id: String,
    /// The group.
    pub group: GroupId,
    /// Its virtual host; `system` for group 0.
    pub vhost: String,
    /// What the image's log holds after this, the cluster does not have.
    pub fork: Position,
    /// The image's number.
    pub image: u64,
    /// The image's directory: a store of that moment.
    pub directory: PathBuf,
    /// Bytes of the image.
    pub bytes: u64,
    /// When it was given up: wall clock, milliseconds since 1970.
    pub when_ms: u64,
}

/// As brokers and tools show it to programs.
impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, group, vhost, fork, image, directory, bytes, when_ms } = self;
        let mut fields = serializer.serialize_struct("Loss", 8)?;
        fields.serialize_field("id", id)?;
        fields.serialize_field("group", &group.0)?;
        fields.serialize_field("vhost", vhost)?;
        fields.serialize_field("fork", &fork.to_string())?;
        fields.serialize_field("image", image)?;
        fields.serialize_field("directory", &directory.display().to_string())?;
        fields.serialize_field("bytes", bytes)?;
        fields.serialize_field("when_ms", when_ms)?;
        fields.end()
    }
}

/// A loss is known by whose it is, of which group, and where its history left the cluster's.
pub fn loss_id(store: StoreId, group: GroupId, fork: Position) -> String {
    let store = store.to_string();
    let begin = store.split('-').next().unwrap_or_default();
    format!("{begin}-{group}-{fork}")
}

/// The losses that a store's quarantine holds, oldest first. Of several images of one loss, as a process leaves them that
/// is ended meanwhile, it is the first: it was made before anything was replaced. Damaged images are left out; the list of
/// images names them. Changes nothing, and reads records only.
///
/// # Errors
/// Those of the medium.
pub fn losses(files: &dyn Files, store: &Path) -> Result<Vec<Loss>, FileError> {
    let Ok(Some(id)) = read_store_id(files, store) else { return Ok(Vec::new()) };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for image in list(files, store)?.into_iter().flatten() {
        let (Some(diverged), Some(group)) = (image.note.diverged, image.note.groups.first().copied()) else {
            continue;
        };
        let loss = loss_id(id, group, diverged.fork);
        if seen.insert(loss.clone()) {
            found.push(Loss {
                id: loss,
                group,
                vhost: diverged.vhost,
                fork: diverged.fork,
                image: image.number,
                directory: store.join(QUARANTINE_DIRECTORY).join(&image.name),
                bytes: image.bytes,
                when_ms: image.note.when_ms,
            });
        }
    }
    Ok(found)
}
