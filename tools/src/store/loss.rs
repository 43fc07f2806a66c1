//! What one store holds and another does not, entry by entry: exact, where both directories are there.

use std::collections::BTreeMap;

use quorate_core::formation::lineage::{Relation, relation};
use quorate_core::machine::{Queue, QueueId, SlotView};
use quorate_core::node::offline::{Body, StoredGroup};
use quorate_protocol::message::{Message, property};
use quorate_store::ids::{GroupId, Index};
use quorate_store::record::{Entry, EntryKind};
use quorate_store::state::Family;
use serde::{Deserialize, Serialize};

use super::limits::LISTED;
use super::subject::OpenSubject;

/// Bytes of log read at a time.
const STEP: usize = 1 << 20;

/// What a store holds beyond the last entry that it has in common with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surplus {
    /// The store that holds it.
    pub path: String,
    /// The virtual host.
    pub vhost: String,
    /// The last entry that both have; none if their logs do not overlap, and nothing can be compared.
    pub common: Option<u64>,
    /// Where the log of the store that holds it ends.
    pub to: u64,
    /// Entries only there.
    pub entries: u64,
    /// Messages only there that are not consumed.
    pub messages: u64,
    /// Where they are.
    pub queues: Vec<QueueSurplus>,
    /// Both stores know other entries to be committed after what they have in common, in the same epochs: two histories.
    pub is_apart: bool,
}

/// Of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSurplus {
    /// Its name.
    pub queue: String,
    /// Messages.
    pub messages: u64,
    /// First and last position of each run of them, at most 1000 runs.
    pub positions: Vec<(u64, u64)>,
    /// Their message ids, of those that have one, at most 1000.
    pub message_ids: Vec<String>,
}

/// What `other` holds that `base` does not, for each group of `other` that is not at the same place with the same
/// content; `path` names `other`.
///
/// # Errors
/// A log could not be read; the text says where.
pub fn surplus(base: &OpenSubject, other: &OpenSubject, path: &str) -> Result<Vec<Surplus>, String> {
    let mut found = Vec::new();
    for there in &other.store.groups {
        let here = base.store.groups.iter().find(|group| group.group == there.group);
        if here.is_some_and(|here| here.end == there.end && here.digest() == there.digest()) {
            continue;
        }
        let common = match here {
            None => Some(Index(0)),
            Some(here) => last_common(base, here, other, there)?,
        };
        let mut surplus = of_group(other, there, common, path)?;
        surplus.is_apart = here.zip(common).is_some_and(|(here, common)| are_apart(here, there, common));
        if surplus.entries > 0 || surplus.common.is_none() {
            found.push(surplus);
        }
    }
    Ok(found)
}

/// After this entry the logs differ, and what differs is known to be committed in both.
fn are_apart(here: &StoredGroup, there: &StoredGroup, common: Index) -> bool {
    common < here.committed.min(there.committed) && relation(&here.lineage, &there.lineage) == Relation::Same
}

/// The last index up to which both logs are the same; none if they share no index.
fn last_common(
    base: &OpenSubject,
    here: &StoredGroup,
    other: &OpenSubject,
    there: &StoredGroup,
) -> Result<Option<Index>, String> {
    let last = here.end.index.min(there.end.index);
    let mut next = here.first.max(there.first);
    if next > last {
        return Ok(None);
    }
    // A group's log begins at its second entry; the first is its founding.
    let whole = here.first == there.first && here.first <= Index(2);
    let mut equal = whole.then(|| Index(here.first.0.saturating_sub(1)));
    while next <= last {
        let one = read(base, here.group, next, last.next())?;
        let two = read(other, there.group, next, last.next())?;
        if one.is_empty() || two.is_empty() {
            return Err(format!("entry {next} of {} is missing", here.vhost));
        }
        for (one, two) in one.iter().zip(&two) {
            if one != two {
                // The first entry that can be compared differs: what came before has left the logs.
                return Ok(equal);
            }
            equal = Some(one.index);
            next = one.index.next();
        }
    }
    Ok(equal)
}

fn read(subject: &OpenSubject, group: GroupId, from: Index, to: Index) -> Result<Vec<Entry>, String> {
    if subject.look.budget.is_over() {
        return Err(format!("it took more than {:?}: give more with --time", subject.look.budget.time));
    }
    let Some((reader, _)) = &subject.look.log else { return Err("there is no log".to_owned()) };
    reader.read(group, from, to, STEP).map_err(|error| error.to_string())
}

/// What a store holds of a group after this entry; `path` names it.
///
/// # Errors
/// A log could not be read; the text says where.
pub fn beyond(
    store: &OpenSubject,
    group: &StoredGroup,
    common: Index,
    path: &str,
) -> Result<Surplus, String> {
    of_group(store, group, Some(common), path)
}

fn of_group(
    other: &OpenSubject,
    there: &StoredGroup,
    common: Option<Index>,
    path: &str,
) -> Result<Surplus, String> {
    let mut surplus = Surplus {
        path: path.to_owned(),
        vhost: there.vhost.clone(),
        common: common.map(|index| index.0),
        to: there.end.index.0,
        entries: 0,
        messages: 0,
        queues: Vec::new(),
        is_apart: false,
    };
    let Some(common) = common else { return Ok(surplus) };
    surplus.entries = there.end.index.0.saturating_sub(common.0);
    let Some(machine) = there.machine() else { return Ok(surplus) };
    let mut bodies = Bodies::new(other, there);
    for queue in machine.queues() {
        let mut of_queue = QueueSurplus { queue: queue.name().to_string(), ..QueueSurplus::default() };
        for (seq, slot) in queue.live_from(0).filter(|(_, slot)| slot.index > common) {
            of_queue.messages = of_queue.messages.saturating_add(1);
            let runs = of_queue.positions.len();
            match of_queue.positions.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(seq) => *last = seq,
                _ if runs < LISTED => of_queue.positions.push((seq, seq)),
                _ => {}
            }
            if of_queue.message_ids.len() < LISTED
                && let Some(id) = bodies.get(queue.id(), seq, &slot)?.and_then(|body| message_id(&body))
            {
                of_queue.message_ids.push(id);
            }
        }
        if of_queue.messages > 0 {
            surplus.messages = surplus.messages.saturating_add(of_queue.messages);
            surplus.queues.push(of_queue);
        }
    }
    Ok(surplus)
}

fn message_id(body: &Body) -> Option<String> {
    let message = Message::parse(&body.message).ok()?;
    message.properties().get(property::MESSAGE_ID).map(|id| String::from_utf8_lossy(id).into_owned())
}

/// Messages of a group, from its log or from the state store.
pub struct Bodies<'a> {
    subject: &'a OpenSubject,
    group: &'a StoredGroup,
    /// Entries read last: messages of one batch come one after the other.
    recent: BTreeMap<Index, Entry>,
}

impl<'a> Bodies<'a> {
    /// Of this group.
    pub fn new(subject: &'a OpenSubject, group: &'a StoredGroup) -> Self {
        Self { subject, group, recent: BTreeMap::new() }
    }

    /// The message in this slot; none if it is gone from where the slot says that it is, which only damage can bring
    /// about.
    ///
    /// # Errors
    /// Log or state store could not be read.
    pub fn get(&mut self, queue: QueueId, seq: u64, slot: &SlotView) -> Result<Option<Body>, String> {
        if slot.spilled {
            let Some(state) = &self.subject.look.state else { return Ok(None) };
            let key = self.group.body_key(queue, seq);
            let value = state.get(Family::Body, &key).map_err(|error| error.to_string())?;
            return Ok(value.and_then(|value| Body::decode(value).ok()));
        }
        if !self.recent.contains_key(&slot.index) {
            let to = self.group.end.index.next();
            let entries = read(self.subject, self.group.group, slot.index, to)?;
            self.recent = entries
                .into_iter()
                .filter(|entry| entry.kind == EntryKind::Command)
                .map(|entry| (entry.index, entry))
                .collect();
        }
        Ok(self.recent.get(&slot.index).and_then(|entry| Body::cut(&entry.data, slot)))
    }
}

/// A message that a stored queue holds.
pub struct Saved {
    /// Its place in the queue.
    pub seq: u64,
    /// What the queue knows of it.
    pub slot: SlotView,
    /// A consumer may have had it.
    pub maybe_delivered: bool,
    /// What it says; none if it is not where it should be, or not readable.
    pub content: Option<Content>,
}

/// What a message says.
pub struct Content {
    /// As it was routed.
    pub body: Body,
    /// Its properties and its own body.
    pub message: Message,
}

/// The messages of a queue that came after this entry, in the queue's order, each read when it is asked for.
pub fn saved<'a>(
    subject: &'a OpenSubject,
    group: &'a StoredGroup,
    queue: &'a Queue,
    after: Index,
) -> impl Iterator<Item = Saved> + 'a {
    let mut bodies = Bodies::new(subject, group);
    queue.live_from(0).filter(move |(_, slot)| slot.index > after).map(move |(seq, slot)| {
        let body = bodies.get(queue.id(), seq, &slot).ok().flatten();
        let content = body.and_then(|body| {
            let message = Message::parse(&body.message).ok()?;
            Some(Content { body, message })
        });
        Saved { seq, slot, maybe_delivered: slot.returns > 0 || seq < queue.exposed_to(), content }
    })
}
