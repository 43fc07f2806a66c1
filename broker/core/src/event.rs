//! What the core reports: typed records that become log lines, counters and server-sent events at the edge.

use std::collections::BTreeMap;

pub use codes::{CODES, Code, Fields, Value};
use quorate_store::ids::{GroupId, Index, Position, StoreId, Term};

use crate::io::PeerKey;

mod codes;
pub mod samples;

/// How loud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warn,
    /// Something failed.
    Error,
}

/// Something that happened, on the broker where it happened, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The decision of formation changed.
    Verdict {
        /// Row label.
        row: &'static str,
        /// Verdict word.
        verdict: &'static str,
        /// For people.
        reason: String,
        /// Commands to type next.
        next: Vec<String>,
    },
    /// HA-1001: a node of a group was created on this broker.
    NodeCreated {
        /// Virtual host.
        vhost: String,
    },
    /// HA-1002: this broker's node of a group is gone for good.
    NodeDeleted {
        /// Virtual host.
        vhost: String,
    },
    /// HA-1003: a member was added to the group.
    MemberAdded {
        /// Virtual host.
        vhost: String,
        /// The member's name.
        member: String,
        /// Voter, or learner at first.
        voter: bool,
    },
    /// HA-1004: a member was removed from the group.
    MemberRemoved {
        /// Virtual host.
        vhost: String,
        /// The member's name.
        member: String,
    },
    /// HA-1005: contact with a peer was gained (again).
    ContactGained {
        /// The peer's name.
        member: String,
        /// The peer.
        peer: PeerKey,
    },
    /// HA-1006: contact with a peer was lost.
    ContactLost {
        /// The peer's name.
        member: String,
        /// The peer.
        peer: PeerKey,
    },
    /// HA-1007: an operator wants another node to lead, as seen by the leader.
    TransferRequested {
        /// Virtual host.
        vhost: String,
        /// Who is to lead.
        to: String,
        /// Who asked.
        who: String,
    },
    /// HA-1008: a broker that may not join was refused.
    IntruderRefused {
        /// Its name.
        member: String,
        /// Where it said peers reach it.
        address: String,
        /// Which rule kept it out.
        why: String,
    },
    /// HA-1009: the group lost its quorum, as seen by this broker which led it or follows nobody.
    QuorumLost {
        /// Virtual host.
        vhost: String,
        /// Voters in contact.
        present: usize,
        /// Voters needed.
        needed: usize,
    },
    /// HA-1010: the role of this broker's node changed.
    RoleChanged {
        /// Virtual host.
        vhost: String,
        /// Before.
        old: &'static str,
        /// Now.
        new: &'static str,
        /// In this term.
        term: Term,
    },
    /// HA-1011: how many nodes a confirm needs changed.
    RequiredNodesChanged {
        /// Virtual host.
        vhost: String,
        /// Before; 0 is a majority.
        before: u32,
        /// Now.
        after: u32,
    },
    /// HA-1012: a node's election priority changed.
    PriorityChanged {
        /// Virtual host.
        vhost: String,
        /// Whose.
        member: String,
        /// Before.
        before: u8,
        /// Now.
        after: u8,
    },
    /// HA-1013: which of two nodes may go on alone changed.
    DesignatedPrimaryChanged {
        /// Virtual host.
        vhost: String,
        /// Before, if there was one.
        before: Option<String>,
        /// Now, if there is one.
        after: Option<String>,
    },
    /// HA-1014: entries that only this broker has are given up, since the group's history went on elsewhere.
    Diverged {
        /// Virtual host.
        vhost: String,
        /// Where the histories part.
        fork: Position,
        /// How many entries.
        entries: u64,
        /// Messages in them that are alive, by queue, whether or not they were confirmed.
        queues: BTreeMap<String, u64>,
        /// By what name `quorate loss` knows them.
        loss: String,
    },
    /// HA-1015: another attribute of a group or of the cluster changed.
    AttributeUpdated {
        /// Virtual host.
        vhost: String,
        /// Which attribute.
        attribute: &'static str,
        /// Before.
        before: String,
        /// Now.
        after: String,
    },
    /// SAFE-2001: this broker found somebody outside the cluster writing, and takes no part any more.
    Panicked {
        /// The two numbers and the likely cause.
        text: String,
        /// Commands to type next.
        next: Vec<String>,
    },
    /// SAFE-2002: two processes say that they have the same store.
    StoreTwice {
        /// The store.
        store: StoreId,
        /// The broker that counts for nothing.
        member: String,
        /// What was seen, and what to do.
        why: String,
    },
    /// SAFE-2003: a store lacks what it acknowledged: it is an older copy of itself.
    OlderCopy {
        /// The store.
        store: StoreId,
        /// Its broker.
        member: String,
        /// By what that is known.
        why: String,
    },
    /// An update of a member by snapshot began, went on or ended.
    Update {
        /// Virtual host.
        vhost: String,
        /// Whom (on the source) or from whom (on the updated).
        member: String,
        /// What happened, for people.
        progress: String,
    },
    /// A group's state was written to the state store up to an index.
    Checkpoint {
        /// The group.
        group: GroupId,
        /// Applied and durable up to here.
        applied: Index,
    },
    /// Publishing was stopped or allowed again for lack of room.
    SpaceLow {
        /// Stopped?
        low: bool,
    },
    /// A peer or a client broke the rules, or was refused.
    Refused {
        /// Who, as far as known.
        who: String,
        /// Why and what to do.
        why: String,
    },
    /// Anything else worth a line.
    Note {
        /// How loud.
        level: Level,
        /// The line.
        text: String,
    },
}

impl Event {
    /// The stable operational code, where there is one.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::NodeCreated { .. } => "HA-1001",
            Self::NodeDeleted { .. } => "HA-1002",
            Self::MemberAdded { .. } => "HA-1003",
            Self::MemberRemoved { .. } => "HA-1004",
            Self::ContactGained { .. } => "HA-1005",
            Self::ContactLost { .. } => "HA-1006",
            Self::TransferRequested { .. } => "HA-1007",
            Self::IntruderRefused { .. } => "HA-1008",
            Self::QuorumLost { .. } => "HA-1009",
            Self::RoleChanged { .. } => "HA-1010",
            Self::RequiredNodesChanged { .. } => "HA-1011",
            Self::PriorityChanged { .. } => "HA-1012",
            Self::DesignatedPrimaryChanged { .. } => "HA-1013",
            Self::Diverged { .. } => "HA-1014",
            Self::AttributeUpdated { .. } => "HA-1015",
            Self::Panicked { .. } => "SAFE-2001",
            Self::StoreTwice { .. } => "SAFE-2002",
            Self::OlderCopy { .. } => "SAFE-2003",
            _ => return None,
        })
    }

    /// The table's row of its code.
    fn row(&self) -> Option<&'static Code> {
        self.code().map(|name| Code::find(name).expect("every code is in the table"))
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        if let Some(row) = self.row() {
            return row.level;
        }
        match self {
            Self::SpaceLow { low: true } | Self::Refused { .. } => Level::Warn,
            Self::Checkpoint { .. } => Level::Debug,
            Self::Note { level, .. } => *level,
            _ => Level::Info,
        }
    }

    /// What is told about an event with a code, by name, in the order of the table; nothing about others.
    pub fn fields(&self) -> Fields {
        let text = |name, text: &str| (name, Value::Text(text.to_owned()));
        let number = |name, number| (name, Value::Number(number));
        match self {
            Self::NodeCreated { vhost } | Self::NodeDeleted { vhost } => vec![text("vhost", vhost)],
            Self::MemberAdded { vhost, member, voter } => {
                let role = if *voter { "voter" } else { "learner" };
                vec![text("member", member), text("vhost", vhost), text("role", role)]
            }
            Self::MemberRemoved { vhost, member } => vec![text("member", member), text("vhost", vhost)],
            Self::ContactGained { member, peer } | Self::ContactLost { member, peer } => vec![
                text("member", member),
                text("store_id", &peer.store.to_string()),
                text("run_id", &peer.run.to_string()),
            ],
            Self::TransferRequested { vhost, to, who } => {
                vec![text("vhost", vhost), text("to", to), text("who", who)]
            }
            Self::IntruderRefused { member, address, why } => {
                vec![text("member", member), text("address", address), text("why", why)]
            }
            Self::QuorumLost { vhost, present, needed } => {
                vec![
                    text("vhost", vhost),
                    number("present", *present as u64),
                    number("needed", *needed as u64),
                ]
            }
            Self::RoleChanged { vhost, old, new, term } => {
                vec![text("vhost", vhost), text("old", old), text("new", new), number("term", term.0)]
            }
            Self::RequiredNodesChanged { vhost, before, after } => {
                vec![text("vhost", vhost), ("before", Value::Nodes(*before)), ("after", Value::Nodes(*after))]
            }
            Self::PriorityChanged { vhost, member, before, after } => vec![
                text("member", member),
                text("vhost", vhost),
                number("before", u64::from(*before)),
                number("after", u64::from(*after)),
            ],
            Self::DesignatedPrimaryChanged { vhost, before, after } => vec![
                text("vhost", vhost),
                ("before", Value::Name(before.clone())),
                ("after", Value::Name(after.clone())),
            ],
            Self::Diverged { vhost, fork, entries, queues, loss } => vec![
                number("entries", *entries),
                text("vhost", vhost),
                text("fork", &fork.to_string()),
                text("loss", loss),
                ("queues", Value::Counts(queues.clone())),
            ],
            Self::AttributeUpdated { vhost, attribute, before, after } => vec![
                text("attribute", attribute),
                text("vhost", vhost),
                text("before", before),
                text("after", after),
            ],
            Self::Panicked { text: why, next } => {
                vec![text("why", why), text("next", &next.join(" | "))]
            }
            Self::StoreTwice { store, member, why } | Self::OlderCopy { store, member, why } => {
                vec![text("store_id", &store.to_string()), text("member", member), text("why", why)]
            }
            _ => Fields::new(),
        }
    }

    /// The virtual host it is about, if it is about one.
    pub fn vhost(&self) -> Option<&str> {
        match self {
            Self::NodeCreated { vhost }
            | Self::NodeDeleted { vhost }
            | Self::MemberAdded { vhost, .. }
            | Self::MemberRemoved { vhost, .. }
            | Self::TransferRequested { vhost, .. }
            | Self::QuorumLost { vhost, .. }
            | Self::RoleChanged { vhost, .. }
            | Self::RequiredNodesChanged { vhost, .. }
            | Self::PriorityChanged { vhost, .. }
            | Self::DesignatedPrimaryChanged { vhost, .. }
            | Self::Diverged { vhost, .. }
            | Self::AttributeUpdated { vhost, .. }
            | Self::Update { vhost, .. } => Some(vhost),
            _ => None,
        }
    }

    /// The line for people, without its code.
    pub fn text(&self) -> String {
        if let Some(row) = self.row() {
            return row.fill(&self.fields());
        }
        match self {
            Self::Verdict { row, verdict, reason, next } => {
                let mut line = format!("{verdict} (row {row}): {reason}");
                if !next.is_empty() {
                    line.push_str("; next: ");
                    line.push_str(&next.join(" | "));
                }
                line
            }
            Self::Update { vhost, member, progress } => {
                format!("update of virtual host {vhost}, {member}: {progress}")
            }
            Self::Checkpoint { group, applied } => format!("group {group} checkpointed at {applied}"),
            Self::SpaceLow { low: true } => {
                "disk nearly full: publishing is refused until space returns".into()
            }
            Self::SpaceLow { low: false } => "space has returned: publishing goes on".into(),
            Self::Refused { who, why } => format!("refused {who}: {why}"),
            Self::Note { text, .. } => text.clone(),
            // Those with a code have their text from the table.
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
