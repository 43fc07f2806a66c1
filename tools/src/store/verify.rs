//! Every byte that counts: the state store's tables, the log's entries, and each message where it should be.

use quorate_store::ids::Index;
use quorate_store::state::Family;

use super::look::Look;
use super::loss::Bodies;
use super::recover::after;
use super::subject::OpenSubject;

/// Bytes read at a time.
const STEP: usize = 4 << 20;
/// Messages between two words of progress.
const MESSAGES: u64 = 10_000;

/// How much was found sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries of the log.
    pub entries: u64,
    /// Bytes of keys and values in the state store.
    pub state_bytes: u64,
    /// Messages found where they should be.
    pub messages: u64,
}

fn in_time(look: &Look) -> Result<(), String> {
    if look.budget.is_over() {
        return Err(format!("it took more than {:?}: give more with --time", look.budget.time));
    }
    Ok(())
}

/// Reads every pair of every family; RocksDB checks each block's checksum, and its errors name file and offset.
///
/// # Errors
/// What is wrong, and where.
pub fn tables(look: &Look, checked: &mut Checked, mut progress: impl FnMut(u64)) -> Result<(), String> {
    let Some(state) = &look.state else { return Ok(()) };
    for family in [Family::Node, Family::State, Family::Body] {
        let mut from = bytes::Bytes::new();
        loop {
            in_time(look)?;
            let pairs = state.scan(family, &from, &[0xff; 64], STEP).map_err(|error| error.to_string())?;
            let Some((last, _)) = pairs.last() else { break };
            from = after(last);
            let bytes: usize = pairs.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
            checked.state_bytes =
                checked.state_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            progress(checked.state_bytes);
        }
    }
    Ok(())
}

/// Reads every entry of the log, each under its checksum, and looks for every message that is not consumed.
///
/// # Errors
/// What is wrong, and where.
pub fn contents(
    opened: &OpenSubject,
    checked: &mut Checked,
    mut progress: impl FnMut(u64),
) -> Result<(), String> {
    if let Some((reader, recovered)) = &opened.look.log {
        for group in &recovered.groups {
            let mut next = group.first;
            while next <= group.last {
                in_time(&opened.look)?;
                let entries = reader
                    .read(group.group, next, group.last.next(), STEP)
                    .map_err(|error| error.to_string())?;
                let Some(last) = entries.last() else {
                    return Err(format!("group {}: the log has no entry {next}", group.group));
                };
                next = Index(last.index.0.saturating_add(1));
                let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
                checked.entries = checked.entries.saturating_add(count);
            }
        }
    }
    for group in &opened.store.groups {
        let Some(machine) = group.machine() else { continue };
        let mut bodies = Bodies::new(opened, group);
        for queue in machine.queues() {
            for (seq, slot) in queue.live_from(0) {
                if bodies.get(queue.id(), seq, &slot)?.is_none() {
                    return Err(format!(
                        "virtual host {}, queue {}: message {seq} is neither in the log nor in the state store",
                        group.vhost,
                        queue.name()
                    ));
                }
                checked.messages = checked.messages.saturating_add(1);
                if checked.messages.is_multiple_of(MESSAGES) {
                    in_time(&opened.look)?;
                    progress(checked.messages);
                }
            }
        }
    }
    Ok(())
}
