//! What the core reports: typed records that become log lines, counters and server-sent events at the edge.

use std::collections::BTreeMap;

use quorate_store::ids::{GroupId, Index, Position, Term};

use crate::io::PeerKey;

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
        /// Messages in them that are alive, by queue.
        queues: BTreeMap<String, u64>,
        /// How many of them were not known to be committed here, so that their messages are not counted.
        uncounted: u64,
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
            _ => return None,
        })
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        match self {
            Self::ContactLost { .. }
            | Self::QuorumLost { .. }
            | Self::Diverged { .. }
            | Self::IntruderRefused { .. }
            | Self::SpaceLow { low: true }
            | Self::Refused { .. } => Level::Warn,
            Self::Checkpoint { .. } => Level::Debug,
            Self::Note { level, .. } => *level,
            _ => Level::Info,
        }
    }

    /// The line for people, without its code.
    pub fn text(&self) -> String {
        match self {
            Self::Verdict { row, verdict, reason, next } => {
                let mut line = format!("{verdict} (row {row}): {reason}");
                if !next.is_empty() {
                    line.push_str("; next: ");
                    line.push_str(&next.join(" | "));
                }
                line
            }
            Self::NodeCreated { vhost } => format!("node of virtual host {vhost} created"),
            Self::NodeDeleted { vhost } => format!("node of virtual host {vhost} deleted"),
            Self::MemberAdded { vhost, member, voter } => {
                let role = if *voter { "voter" } else { "learner" };
                format!("{member} added to the group of virtual host {vhost} as {role}")
            }
            Self::MemberRemoved { vhost, member } => {
                format!("{member} removed from the group of virtual host {vhost}")
            }
            Self::ContactGained { member, .. } => format!("contact with {member} gained"),
            Self::ContactLost { member, .. } => format!("contact with {member} lost"),
            Self::TransferRequested { vhost, to, who } => {
                format!("transfer of virtual host {vhost} to {to} requested by {who}")
            }
            Self::IntruderRefused { member, address, why } => {
                format!("{member} at {address} refused as an intruder: {why}")
            }
            Self::QuorumLost { vhost, present, needed } => {
                format!("quorum of virtual host {vhost} lost: {present} of {needed} needed voters in contact")
            }
            Self::RoleChanged { vhost, old, new, term } => {
                format!(
                    "role in the group of virtual host {vhost} changed from {old} to {new} in term {term}"
                )
            }
            Self::RequiredNodesChanged { vhost, before, after } => {
                let word =
                    |count: &u32| if *count == 0 { "a majority".to_owned() } else { count.to_string() };
                let (before, after) = (word(before), word(after));
                format!("required nodes of virtual host {vhost} changed from {before} to {after}")
            }
            Self::PriorityChanged { vhost, member, before, after } => {
                format!("priority of {member} in virtual host {vhost} changed from {before} to {after}")
            }
            Self::DesignatedPrimaryChanged { vhost, before, after } => {
                let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
                let (before, after) = (word(before), word(after));
                format!("designated primary of virtual host {vhost} changed from {before} to {after}")
            }
            Self::AttributeUpdated { vhost, attribute, before, after } => {
                format!("{attribute} of virtual host {vhost} changed from {before} to {after}")
            }
            Self::Diverged { vhost, fork, entries, queues, uncounted, loss } => {
                let told: Vec<_> = queues.iter().map(|(queue, count)| format!("{queue}: {count}")).collect();
                let counted = match (told.is_empty(), *uncounted) {
                    (false, _) => format!("messages by queue: {}", told.join(", ")),
                    (true, 0) => "no message of them is alive".to_owned(),
                    (true, _) => "no message of them is counted".to_owned(),
                };
                let rest = match *uncounted {
                    0 => String::new(),
                    rest => format!(
                        "; {rest} of the entries were not known to be committed here, their messages are not counted"
                    ),
                };
                format!(
                    "{entries} diverged entries of virtual host {vhost} after {fork} are given up and kept in quarantine as \
                     loss {loss}; {counted}{rest}; next: quorate loss show {loss} --store DIR"
                )
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
        }
    }
}
