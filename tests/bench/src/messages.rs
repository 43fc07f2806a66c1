//! Messages to work with: always the same ones.

use bytes::Bytes;
use quorate_core::machine::Command;
use quorate_protocol::frame::ProducerId;
use quorate_protocol::limits::MESSAGE_LIMIT_MAX;
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::{PublishBody, PublishBuilder};

/// The queue that they go to.
pub const QUEUE: &str = "orders";

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
