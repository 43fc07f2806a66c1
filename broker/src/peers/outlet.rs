//! The core's end of a link to a peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quorate_core::peer::PeerMessage;
use tokio::sync::{Notify, mpsc};

/// Bytes that may wait for one peer. A peer that is further behind gets a fresh link, and what it missed from the log.
const QUEUE_BYTES: usize = 64 << 20;

/// Takes messages for one peer, in order.
#[derive(Clone, Debug)]
pub struct LinkOutlet {
    messages: mpsc::UnboundedSender<Queued>,
    shared: Arc<LinkShared>,
}

/// A message and what it counts for.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) message: PeerMessage,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct LinkShared {
    queued: AtomicUsize,
    pub(super) stop: Notify,
}

impl LinkShared {
    pub(super) fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The queue ran over; the link is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

impl LinkOutlet {
    pub(super) fn new() -> (Self, Arc<LinkShared>, mpsc::UnboundedReceiver<Queued>) {
        let (messages, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(LinkShared::default());
        (Self { messages, shared: Arc::clone(&shared) }, shared, receiver)
    }

    /// Sends a message after those before it. Nothing happens if the link has ended: the core hears of that.
    pub fn send(&self, message: PeerMessage) -> Result<(), Overflow> {
        let bytes = size(&message);
        let before = self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
        // An empty queue takes a message of any size.
        if before > 0 && before.saturating_add(bytes) > QUEUE_BYTES {
            self.stop();
            return Err(Overflow);
        }
        let _ = self.messages.send(Queued { message, bytes });
        Ok(())
    }

    /// Something was not given to the system yet, and the link has not ended.
    pub fn is_waiting(&self) -> bool {
        !self.messages.is_closed() && self.shared.queued.load(Ordering::Relaxed) > 0
    }

    /// Ends the link now.
    pub fn stop(&self) {
        self.shared.stop.notify_one();
    }
}

/// About how many bytes a message holds.
fn size(message: &PeerMessage) -> usize {
    const FIXED: usize = 256;
    match message {
        PeerMessage::Raft { message, .. } => {
            FIXED + message.entries.iter().map(|entry| entry.data.len() + 32).sum::<usize>()
        }
        PeerMessage::SnapshotChunk { pairs, .. } => {
            FIXED + pairs.iter().map(|pair| pair.key.len() + pair.value.len() + 16).sum::<usize>()
        }
        _ => FIXED,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_core::peer::SnapshotPair;
    use quorate_store::state::Family;

    use super::*;

    fn chunk(bytes: usize) -> PeerMessage {
        let pair =
            SnapshotPair { family: Family::State, key: Bytes::new(), value: Bytes::from(vec![0; bytes]) };
        PeerMessage::SnapshotChunk { transfer: 1, chunk: 0, pairs: vec![pair], last: true }
    }

    #[test]
    fn a_queue_that_runs_over_ends_the_link() {
        let (outlet, shared, mut queue) = LinkOutlet::new();
        assert_eq!(outlet.send(chunk(QUEUE_BYTES + 1)), Ok(()), "an empty queue takes everything");
        let first = queue.try_recv().unwrap();
        shared.written(first.bytes);
        assert_eq!(outlet.send(chunk(QUEUE_BYTES / 2)), Ok(()));
        assert_eq!(outlet.send(chunk(QUEUE_BYTES / 2)), Err(Overflow));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // Returns only because the link was told to stop.
        runtime.block_on(shared.stop.notified());
    }
}
