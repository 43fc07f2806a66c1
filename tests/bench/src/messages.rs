//! Messages to work with: always the same ones.

use bytes::Bytes;
use quorate_core::machine::Command;
use quorate_core::peer::{LineageTag, PeerMessage};
use quorate_core::replica::wire::RaftMessage;
use quorate_protocol::frame::ProducerId;
use quorate_protocol::limits::MESSAGE_LIMIT_MAX;
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::{PublishBody, PublishBuilder};
use quorate_store::ids::{Epoch, GroupId, Index, Term};
use quorate_store::record::{Entry, EntryKind};
use uuid::Uuid;

/// The queue that they go to.
pub const QUEUE: &str = "orders";

/// Their virtual host.
pub const GROUP: GroupId = GroupId(1);

/// A batch of `count` messages from number `first` on, each with a body of `size` bytes, to [`QUEUE`].
///
/// # Panics
/// If there are none, or more than a batch takes.
pub fn batch(first: u64, count: u64, size: usize) -> PublishBody {
    let exchange = ExchangeName::new("").expect("a name");
    let key = RoutingKey::new(QUEUE).expect("a key");
    let mut builder = PublishBuilder::new(ProducerId(7), first, first, &exchange, &key);
    let body = vec![0x5a; size];
    for _ in 0..count {
        builder.push(&Properties::NONE, &body, MESSAGE_LIMIT_MAX).expect("there is room");
    }
    builder.finish().expect("it has messages")
}

/// The data of an entry with this one command.
pub fn entry_data(command: &Command) -> Bytes {
    let mut out = Vec::new();
    command.encode(&mut out);
    out.into()
}

/// An entry of the log.
pub fn entry(index: u64, data: Bytes) -> Entry {
    Entry { term: Term(1), index: Index(index), kind: EntryKind::Command, data }
}

/// A leader's append to a follower of these entries, which come after entry number `previous`.
pub fn append(previous: u64, entries: Vec<Entry>) -> PeerMessage {
    let message = RaftMessage {
        kind: 1,
        to: 2,
        from: 1,
        term: 3,
        log_term: 3,
        index: previous,
        entries,
        commit: previous,
        commit_term: 3,
        request_snapshot: 0,
        reject: false,
        reject_hint: 0,
        context: Bytes::new(),
        priority: 0,
    };
    let lineage = LineageTag { epoch: Epoch(1), id: Uuid::from_u128(5) };
    PeerMessage::Raft { group: GROUP, lineage, message: Box::new(message) }
}
