//! What a peer's message shows of the two logs: one of them was put back, or they are of two histories.

use quorate_store::ids::Index;
use raft::eraftpb::MessageType;

use super::Replica;
use super::wire::RaftMessage;

impl Replica {
    /// Whether this message of the present leader shows that this node acknowledged more than its log has: a heartbeat
    /// names no commit beyond what its receiver acknowledged. The log was put back to an earlier time.
    pub(crate) fn lacks_acknowledged(&self, message: &RaftMessage) -> bool {
        message.kind() == Some(MessageType::MsgHeartbeat)
            && self.is_of_leader(message)
            && message.commit > self.raw.raft.raft_log.last_index()
    }

    /// Where the log of the present leader has another entry than this node, which knows its own to be committed: a leader
    /// has all that was committed before it, so they are of two histories. raft-rs takes it for granted that there are
    /// none, and would acknowledge what is not there.
    pub(crate) fn differs_committed(&self, message: &RaftMessage) -> Option<Index> {
        // A leader that is none any more may hold what was never committed: raft-rs tells it so.
        if message.kind() != Some(MessageType::MsgAppend) || !self.is_of_leader(message) {
            return None;
        }
        let log = &self.raw.raft.raft_log;
        let entries = message.entries.iter().map(|entry| (entry.index.0, entry.term.0));
        std::iter::once((message.index, message.log_term))
            .chain(entries)
            .take_while(|(index, _)| *index <= log.committed)
            .find(|(index, term)| log.term(*index).is_ok_and(|known| known != 0 && known != *term))
            .map(|(index, _)| Index(index))
    }

    /// A message that only a peer can send that lost or made up what was agreed; raft-rs would stop the process.
    pub(super) fn contradicts(&self, message: &RaftMessage) -> bool {
        let last = self.raw.raft.raft_log.last_index();
        match message.kind() {
            Some(MessageType::MsgHeartbeat) => message.commit > last,
            Some(MessageType::MsgAppendResponse) => !message.reject && message.index > last,
            _ => self.differs_committed(message).is_some(),
        }
    }

    fn is_of_leader(&self, message: &RaftMessage) -> bool {
        message.to == self.id.0 && message.term >= self.raw.raft.term
    }
}
