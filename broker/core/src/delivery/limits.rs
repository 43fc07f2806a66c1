//! Every limit of delivery.

/// How far ahead of the next message the bound is asked for. After a fail-over at most so many messages that were
/// never delivered are marked as perhaps delivered.
pub const EXPOSE_AHEAD: u64 = 4_096;
/// Consumers of one queue.
pub const MAX_CONSUMERS: usize = 10_000;
/// Messages that one consumer gets in a row while others of the queue wait: fewer frames for the same messages.
pub(crate) const MAX_RUN: u64 = 32;

const _: () = assert!(MAX_RUN < EXPOSE_AHEAD / 2, "asking ahead must come before the bound is reached");
