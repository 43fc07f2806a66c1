//! Message bodies that left the log: the keys under which the state store keeps them.

use bytes::Bytes;
use quorate_store::ids::GroupId;

use super::command::QueueId;

/// The key of a body in [`quorate_store::state::Family::Body`]: group, queue and sequence, big-endian, so that a
/// queue's bodies are in order.
pub fn body_key(group: GroupId, queue: QueueId, seq: u64) -> Bytes {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.extend_from_slice(&queue.0.to_be_bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    Bytes::from(key)
}

/// Queue and sequence of a body's key; none if it is not one of this group.
pub fn parse_body_key(group: GroupId, key: &[u8]) -> Option<(QueueId, u64)> {
    let rest = key.strip_prefix(&group.0.to_be_bytes())?;
    let (queue, seq) = rest.split_first_chunk::<4>()?;
    let seq = <[u8; 8]>::try_from(seq).ok()?;
    Some((QueueId(u32::from_be_bytes(*queue)), u64::from_be_bytes(seq)))
}

/// All keys of a group, in either family: the first, and the first that is no longer one.
pub fn group_keys(group: GroupId) -> (Bytes, Bytes) {
    let from = Bytes::copy_from_slice(&group.0.to_be_bytes());
    let to = match group.0.checked_add(1) {
        Some(next) => Bytes::copy_from_slice(&next.to_be_bytes()),
        None => Bytes::from_static(&[0xff; 32]),
    };
    (from, to)
}
