//! The product's own recovery over a state, and the oracle's word on what it found.

use std::path::Path;
use std::sync::Arc;

use quorate_core::io::{Found, FoundStamp};
use quorate_store::files::Files;
use quorate_store::ids::StoreId;
use quorate_store::log::{self, LOG_DIRECTORY, LogReader};
use quorate_store::quarantine::{self, Image};
use quorate_store::stamp::{Stamp, StampFile, StampFound, StampState};

use super::expected::{Expected, GroupLog, Kept, Logs};
use crate::sim::dice::Dice;
use crate::sim::storage::{LogSizes, Medium, Opened, STORE_DIRECTORY, Storage, open_store};

/// What the product read from a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose store it is.
    pub store: StoreId,
    /// The stamp; none if the store is empty.
    pub stamp: Option<Arc<Stamp>>,
    /// Each group's log, every entry read; none if the store is damaged.
    pub logs: Option<Arc<Logs>>,
}

/// Lets the product open a store and compares what it found with what must be there.
///
/// # Errors
/// What is wrong.
pub fn judge(
    medium: &Medium,
    sizes: LogSizes,
    expected: &Expected,
    possible: &[Arc<Logs>],
    seed: u64,
) -> Result<Recovered, String> {
    let (storage, found) = match open_store(medium, sizes, "", &mut Dice::new(seed, "recovery")) {
        Opened::Open(storage, found) => (storage, found),
        Opened::Failed(why) => return Err(format!("the store does not open: {why}")),
    };
    let recovered = match &found.stamp {
        FoundStamp::Damaged { reason, .. } if !expected.spoiled => {
            return Err(format!("the store is called damaged: {reason}"));
        }
        FoundStamp::Damaged { .. } => Recovered { store: found.store, stamp: None, logs: None },
        FoundStamp::Transient => return Err("a store is called none".to_owned()),
        FoundStamp::Empty => {
            empty_is_right(medium, expected)?;
            let logs = Arc::new(read_everything(&storage, &found)?);
            if !logs.0.is_empty() {
                return Err("a log was found without a stamp".to_owned());
            }
            Recovered { store: found.store, stamp: None, logs: Some(logs) }
        }
        FoundStamp::Stamp(stamp) => {
            stamp_is_right(stamp, expected)?;
            let logs = read_everything(&storage, &found)?;
            let logs = possible.iter().find(|possible| ***possible == logs).cloned().ok_or_else(|| {
                format!(
                    "the log is none of the {} it can be: {}",
                    possible.len(),
                    difference(&logs, possible)
                )
            })?;
            clean_is_right(stamp, &storage, &found)?;
            Recovered { store: found.store, stamp: Some(Arc::new((**stamp).clone())), logs: Some(logs) }
        }
    };
    if let Some(store) = expected.store
        && !expected.spoiled
        && store != recovered.store
    {
        return Err(format!("store {store} is {} now", recovered.store));
    }
    let files: Arc<dyn Files> = Arc::new(medium.files.clone());
    let images = images(&files)?;
    for kept in &expected.images {
        image_is_right(&files, &images, kept)?;
    }
    Ok(recovered)
}

/// Reads every entry of an open store, through its checksum.
///
/// # Errors
/// What cannot be read.
pub fn read_everything(storage: &Storage, found: &Found) -> Result<Logs, String> {
    let mut logs = Logs::default();
    for group in &found.groups {
        let bounds = (group.first, group.last);
        let mut log = read_group(&storage.reader, group.group, bounds)?;
        (log.hard_state, log.epoch) = (group.hard_state, group.epoch);
        logs.0.insert(group.group, log);
    }
    Ok(logs)
}

/// Reads one group's entries.
///
/// # Errors
/// What cannot be read.
pub fn read_group(
    reader: &LogReader,
    group: quorate_store::ids::GroupId,
    (first, last): (quorate_store::ids::Index, quorate_store::ids::Index),
) -> Result<GroupLog, String> {
    let entries = if first > last {
        Vec::new()
    } else {
        let read = reader.read(group, first, last.next(), usize::MAX);
        read.map_err(|error| format!("what was opened cannot be read: {error}"))?
    };
    let compacted = quorate_store::ids::Index(first.0.saturating_sub(1));
    let entries = entries.into_iter().map(|entry| (entry.index, entry)).collect();
    Ok(GroupLog { compacted, last, entries, ..GroupLog::default() })
}

fn difference(found: &Logs, possible: &[Arc<Logs>]) -> String {
    let Some(nearest) = possible.last() else { return String::new() };
    let show = |log: Option<&GroupLog>| {
        log.map_or("nothing".to_owned(), |log| {
            format!("{}..={} {:?} {}", log.compacted.next(), log.last, log.hard_state, log.epoch)
        })
    };
    let groups = nearest.0.keys().chain(found.0.keys()).filter(|id| nearest.0.get(id) != found.0.get(id));
    let told = groups.map(|id| {
        let (wanted, found) = (nearest.0.get(id), found.0.get(id));
        let entries = |log: Option<&GroupLog>| log.map(|log| log.entries.clone()).unwrap_or_default();
        let altered = entries(wanted)
            .into_iter()
            .find(|(index, entry)| entries(found).get(index).is_some_and(|other| other != entry));
        let altered = altered.map_or(String::new(), |(index, _)| format!(", entry {index} altered"));
        format!("group {id}: {} instead of {}{altered}", show(found), show(wanted))
    });
    told.collect::<Vec<_>>().join("; ")
}

fn empty_is_right(medium: &Medium, expected: &Expected) -> Result<(), String> {
    if expected.spoiled {
        // Given up whole, or not at all: everything is in an image before the first piece goes.
        let files: Arc<dyn Files> = Arc::new(medium.files.clone());
        let kept = Kept { name: "-damage".to_owned(), logs: Arc::clone(&expected.logs), stamp: None };
        return image_is_right(&files, &images(&files)?, &kept);
    }
    match &expected.stamp {
        Some(stamp) => Err(format!("the store is called empty and was {:?}", stamp.state)),
        None => Ok(()),
    }
}

fn stamp_is_right(found: &Stamp, expected: &Expected) -> Result<(), String> {
    let possible = [&expected.stamp, &expected.next_stamp, &expected.stray];
    if possible.into_iter().flatten().any(|stamp| **stamp == *found) {
        return Ok(());
    }
    let sequences: Vec<_> = possible.into_iter().flatten().map(|stamp| stamp.sequence).collect();
    Err(format!("stamp {} ({:?}) is none of those written: {sequences:?}", found.sequence, found.state))
}

/// A closed store was not written after its stamp.
fn clean_is_right(stamp: &Stamp, storage: &Storage, found: &Found) -> Result<(), String> {
    if !matches!(stamp.state, StampState::Clean { .. } | StampState::Recovered { .. }) {
        return Ok(());
    }
    let end = storage.writer.synced_point();
    if end != stamp.log_synced {
        return Err(format!("the store is clean at {} and its log goes on to {end}", stamp.log_synced));
    }
    for group in &stamp.groups {
        let last = found.groups.iter().find(|found| found.group == group.group).map(|found| found.last);
        if last != Some(group.position.index) {
            return Err(format!(
                "the store is clean with group {} at {} and its log ends at {last:?}",
                group.group, group.position
            ));
        }
    }
    Ok(())
}

fn images(files: &Arc<dyn Files>) -> Result<Vec<Image>, String> {
    let listed = quarantine::list(files.as_ref(), Path::new(STORE_DIRECTORY));
    let listed = listed.map_err(|error| format!("the quarantine cannot be listed: {error}"))?;
    listed.into_iter().map(|image| image.map_err(|error| format!("half an image: {error}"))).collect()
}

fn image_is_right(files: &Arc<dyn Files>, images: &[Image], kept: &Kept) -> Result<(), String> {
    let Some(image) = images.iter().find(|image| image.name.ends_with(&kept.name)) else {
        return Err(format!("image {} is gone", kept.name));
    };
    let store = Path::new(STORE_DIRECTORY);
    let dir =
        quarantine::directory(files.as_ref(), store, image.number).map_err(|error| error.to_string())?;
    let wrong = |what: &str| format!("image {}: {what}", image.name);
    if image.name.ends_with("-mark") {
        let opened = StampFile::open(Arc::clone(files), dir).map_err(|error| wrong(&error.to_string()))?;
        return match (opened.1, &kept.stamp) {
            (StampFound::Stamp(found), Some(stamp)) if *found == **stamp => Ok(()),
            _ => Err(wrong("another stamp than the one it was made of")),
        };
    }
    let id = quorate_store::identity::read_store_id(files.as_ref(), &dir)
        .map_err(|error| wrong(&error.to_string()))?
        .ok_or_else(|| wrong("no store id"))?;
    let (reader, recovered) = log::inspect(files.as_ref(), &dir.join(LOG_DIRECTORY), id, None)
        .map_err(|error| wrong(&error.to_string()))?;
    let mut logs = Logs::default();
    for group in recovered.groups {
        let mut log = read_group(&reader, group.group, (group.first, group.last))?;
        (log.hard_state, log.epoch) = (group.hard_state, group.epoch);
        logs.0.insert(group.group, log);
    }
    if logs == *kept.logs {
        return Ok(());
    }
    Err(wrong(&difference(&logs, std::slice::from_ref(&kept.logs))))
}
