//! Messages of peers that we have no link to yet.
//!
//! Two brokers that meet dial each other, and one of them is faster. What it says first must not be lost because the
//! core does not take messages of somebody it cannot answer.

use std::collections::{HashMap, VecDeque};

use quorate_core::io::PeerKey;
use quorate_core::peer::PeerMessage;

/// Messages kept for one peer. What is missing beyond them comes again: Raft repeats, and a new link tells all anew.
const MESSAGES_MAX: usize = 256;
/// Peers that are kept for. More strangers than this are forgotten.
const PEERS_MAX: usize = 256;

/// The latest messages of each peer without a link.
#[derive(Debug, Default)]
pub struct Stash(HashMap<PeerKey, VecDeque<PeerMessage>>);

impl Stash {
    /// Keeps a message. Entries are not kept: they are large, and sent again.
    pub fn put(&mut self, from: PeerKey, message: PeerMessage) {
        match &message {
            PeerMessage::Raft { message, .. } if !message.entries.is_empty() => return,
            PeerMessage::SnapshotChunk { .. } => return,
            _ => {}
        }
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&from) {
            return;
        }
        let kept = self.0.entry(from).or_default();
        if kept.len() >= MESSAGES_MAX {
            kept.pop_front();
        }
        kept.push_back(message);
    }

    /// Takes what was kept, in order.
    pub fn take(&mut self, from: PeerKey) -> VecDeque<PeerMessage> {
        self.0.remove(&from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use quorate_store::ids::{RunId, StoreId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_latest_messages_are_kept_in_order() {
        let peer = PeerKey { store: StoreId(Uuid::nil()), run: RunId(Uuid::nil()) };
        let mut stash = Stash::default();
        for transfer in 0..300 {
            stash.put(peer, PeerMessage::SnapshotGone { transfer });
        }
        let chunk = PeerMessage::SnapshotChunk { transfer: 1, chunk: 0, pairs: Vec::new(), last: true };
        stash.put(peer, chunk);
        let kept = stash.take(peer);
        assert_eq!(kept.len(), MESSAGES_MAX);
        assert_eq!(kept.front(), Some(&PeerMessage::SnapshotGone { transfer: 44 }));
        assert_eq!(kept.back(), Some(&PeerMessage::SnapshotGone { transfer: 299 }));
        assert!(stash.take(peer).is_empty());
    }
}
