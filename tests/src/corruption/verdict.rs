//! What the product makes of a store, and whether that may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use quorate_core::io::FoundStamp;
use quorate_store::files::Files;
use quorate_store::ids::StoreId;
use quorate_store::model::StateModel;
use quorate_store::open::inspect;
use quorate_store::quarantine::{self, Image};
use quorate_store::stamp::{Stamp, StampFound};
use quorate_store::state::{Family, Pair, STATE_DIRECTORY, StateStore};

use crate::crash::expected::Logs;
use crate::crash::judge::{read_everything, read_group};
use crate::crash::workload::SIZES;
use crate::sim::dice::Dice;
use crate::sim::storage::{Medium, Opened, STORE_DIRECTORY, open_store};

/// What is in a store or an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Whose it is.
    pub id: Option<StoreId>,
    /// The stamp.
    pub stamp: Option<Box<Stamp>>,
    /// Every entry.
    pub logs: Logs,
    /// The checkpoint of the state, if there is one.
    pub state: Vec<Vec<Pair>>,
    /// The image's record, if it is one.
    pub record: Option<Image>,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It opens, with this in it; what is odd about it and does no harm.
    Opened(Box<Content>, Vec<String>),
    /// It is called damaged, or refused, for this reason.
    Refused(String),
}

/// What a change of bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Damaged or refused, with a reason.
    Refused,
    /// The same content, and a note of what is wrong.
    Noted,
    /// The same content.
    Same,
    /// A batch that was never reported durable is left out.
    TailDropped,
}

/// Looks at a store or an image as a reader that writes nothing.
pub fn look(files: &Arc<dyn Files>, dir: &Path) -> Look {
    match try_look(files, dir) {
        Ok((content, notes)) => Look::Opened(Box::new(content), notes),
        Err(reason) => Look::Refused(reason),
    }
}

fn try_look(files: &Arc<dyn Files>, dir: &Path) -> Result<(Content, Vec<String>), String> {
    let found = inspect(files, dir).map_err(|error| error.to_string())?;
    if !found.damage.is_empty() {
        return Err(found.damage.join("; "));
    }
    let mut content = Content { id: found.id, ..Content::default() };
    if let StampFound::Stamp(stamp) = found.stamp {
        content.stamp = Some(stamp);
    }
    if let Some(log) = found.log {
        for group in log.recovered.groups {
            let mut read = read_group(&log.reader, group.group, (group.first, group.last))?;
            (read.hard_state, read.epoch) = (group.hard_state, group.epoch);
            content.logs.0.insert(group.group, read);
        }
    }
    let state = dir.join(STATE_DIRECTORY);
    if files.is_dir(&state).map_err(|error| error.to_string())? {
        let model = StateModel::load(Arc::clone(files), &state).map_err(|error| error.to_string())?;
        for family in [Family::Node, Family::State, Family::Body] {
            let pairs = model.scan(family, b"", &[0xff; 32], usize::MAX, None);
            content.state.push(pairs.map_err(|error| error.to_string())?);
        }
    }
    if dir != Path::new(STORE_DIRECTORY) {
        let listed = quarantine::list(files.as_ref(), Path::new(STORE_DIRECTORY));
        for image in listed.map_err(|error| error.to_string())? {
            let image = image.map_err(|error| error.to_string())?;
            if dir.ends_with(&image.name) {
                content.record = Some(image);
            }
        }
        if content.record.is_none() {
            return Err("the image is not listed".to_owned());
        }
    }
    Ok((content, found.notes))
}

/// Looks as a broker does that starts from it.
pub fn start(medium: &Medium) -> Look {
    let (storage, found) = match open_store(medium, SIZES, "", &mut Dice::new(1, "start")) {
        Opened::Open(storage, found) => (storage, found),
        Opened::Failed(why) => return Look::Refused(why),
    };
    let stamp = match &found.stamp {
        FoundStamp::Damaged { reason, .. } => return Look::Refused(reason.clone()),
        FoundStamp::Stamp(stamp) => Some(stamp.clone()),
        FoundStamp::Empty | FoundStamp::Transient => None,
    };
    match read_everything(&storage, &found) {
        Ok(logs) => {
            let content = Content { id: Some(found.store), stamp, logs, ..Content::default() };
            Look::Opened(Box::new(content), Vec::new())
        }
        Err(why) => Look::Refused(why),
    }
}

/// Compares with what was there before the change.
///
/// # Errors
/// The store opened with something else in it.
pub fn compare(golden: &Content, possible: &[Arc<Logs>], look: &Look) -> Result<Verdict, String> {
    let (content, notes) = match look {
        Look::Refused(_) => return Ok(Verdict::Refused),
        Look::Opened(content, notes) => (content, notes),
    };
    if **content == *golden {
        return Ok(if notes.is_empty() { Verdict::Same } else { Verdict::Noted });
    }
    let but_the_log = Content { logs: golden.logs.clone(), ..(**content).clone() };
    if but_the_log == *golden && possible.iter().any(|logs| **logs == content.logs) {
        return Ok(Verdict::TailDropped);
    }
    let mut what = Vec::new();
    if content.stamp != golden.stamp {
        what.push("another stamp");
    }
    if content.logs != golden.logs {
        what.push("another log");
    }
    if content.id != golden.id {
        what.push("another id");
    }
    if content.state != golden.state || content.record != golden.record {
        what.push("another image");
    }
    Err(format!("opened with {}", what.join(", ")))
}

/// Counts by verdict.
pub type Verdicts = BTreeMap<Verdict, u64>;
