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
            Self::MemberAdded { .. } => "HA-1003",
            Self::MemberRemoved { .. } => "HA-1004",
            Self::ContactGained { .. } => "HA-1005",
            Self::ContactLost { .. } => "HA-1006",
            Self::QuorumLost { .. } => "HA-1009",
            Self::RoleChanged { .. } => "HA-1010",
            Self::Diverged { .. } => "HA-1014",
            _ => return None,
        })
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        match self {
            Self::ContactLost { .. }
            | Self::QuorumLost { .. }
            | Self::Diverged { .. }
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
            Self::MemberAdded { vhost, member, voter } => {
                let role = if *voter { "voter" } else { "learner" };
                format!("{member} added to the group of virtual host {vhost} as {role}")
            }
            Self::MemberRemoved { vhost, member } => {
                format!("{member} removed from the group of virtual host {vhost}")
            }
            Self::ContactGained { member, .. } => format!("contact with {member} gained"),
            Self::ContactLost { member, .. } => format!("contact with {member} lost"),
            Self::QuorumLost { vhost, present, needed } => {
                format!("quorum of virtual host {vhost} lost: {present} of {needed} needed voters in contact")
            }
            Self::RoleChanged { vhost, old, new, term } => {
                format!(
                    "role in the group of virtual host {vhost} changed from {old} to {new} in term {term}"
                )
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
