//! What changes the controls, what really changed by it, and how both are told.

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, Index, RaftId};
use quorate_store::stamp::{Durability, DurabilityPolicy};

use super::{DESIGNATED, Forced, ForcedKind, MAX_TEXT_BYTES, Primary};
use crate::admin::Author;

/// One change of one control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whom the group prefers as its leader.
    Priority {
        /// Whose.
        node: RaftId,
        /// Its name when this was decided, for the audit.
        name: String,
        /// 0 never, 1 normal, 2 high, 3 highest.
        priority: u8,
    },
    /// How many voters must have met the policy before a confirm or a delivery; 0: a majority.
    RequiredNodes(u32),
    /// What leader and replicas do before they acknowledge.
    Durability(DurabilityPolicy),
    /// `system`: who may join, by store id, name or cluster address; nobody named: everybody may.
    PermittedNodes(BTreeSet<String>),
    /// An operator had leadership moved: nothing stays set by it.
    Transfer {
        /// To whom.
        to: RaftId,
        /// Its name when this was decided, for the audit.
        name: String,
        /// The name of the leader that decided this, for the audit.
        from: String,
    },
    /// `system`: a virtual host and its group go, with all that they hold. Nothing stays set by it.
    DeleteVhost {
        /// Its group: a virtual host that has the name later has another one.
        group: GroupId,
        /// Its name when this was decided, for the audit.
        name: String,
        /// The messages that it held when this was decided, for the audit.
        messages: u64,
    },
    /// `system`: who of two voters may go on alone, with a number above all that were known.
    Primary {
        /// Who; none: nobody any more.
        primary: Option<Primary>,
        /// The number.
        number: u64,
    },
    /// A forced epoch's leader took a part of the lease, or an operator set anew what is left of it.
    Lease {
        /// What is left beyond that, in milliseconds.
        left_ms: u64,
        /// By an operator's word.
        set: bool,
    },
    /// The forced epoch has ended: a majority of the former voters has everything.
    Restored,
}

/// One change that made a difference, with what was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A node's election priority.
    Priority {
        /// Whose.
        name: String,
        /// Before.
        before: u8,
        /// Now.
        after: u8,
    },
    /// How many voters a confirm needs; 0: a majority.
    RequiredNodes {
        /// Before.
        before: u32,
        /// Now.
        after: u32,
    },
    /// The durability policy.
    Durability {
        /// Before.
        before: DurabilityPolicy,
        /// Now.
        after: DurabilityPolicy,
    },
    /// Who may join; nobody named: everybody may.
    PermittedNodes {
        /// Before.
        before: BTreeSet<String>,
        /// Now.
        after: BTreeSet<String>,
    },
    /// Another node is to lead.
    Leader {
        /// Who led when this was decided.
        before: String,
        /// Which.
        after: String,
    },
    /// A virtual host is gone.
    VhostDeleted {
        /// Its group.
        group: GroupId,
        /// Its name.
        name: String,
        /// The messages that it held.
        messages: u64,
    },
    /// Who of two may go on alone.
    Primary {
        /// Before.
        before: Option<String>,
        /// Now.
        after: Option<String>,
        /// With this number.
        number: u64,
    },
    /// What is left of an override's lease, by an operator's word.
    Lease {
        /// Before, in milliseconds.
        before: u64,
        /// Now.
        after: u64,
    },
    /// A forced epoch began.
    Forced {
        /// What it is.
        forced: Box<Forced>,
        /// How many voters a confirm needed before; 0: a majority.
        before: u32,
    },
    /// A forced epoch has ended.
    Restored {
        /// What it was.
        forced: Box<Forced>,
        /// How many voters a confirm needs now; 0: a majority.
        after: u32,
    },
}

impl Changed {
    /// What was changed, its value before, its value after: as people read it.
    pub fn texts(&self) -> (String, String, String) {
        match self {
            Self::Priority { name, before, after } => {
                (format!("priority of {name}"), before.to_string(), after.to_string())
            }
            Self::RequiredNodes { before, after } => {
                ("required nodes".into(), before.to_string(), after.to_string())
            }
            Self::Durability { before, after } => {
                ("durability".into(), policy_text(*before), policy_text(*after))
            }
            Self::PermittedNodes { before, after } => {
                ("permitted nodes".into(), list_text(before), list_text(after))
            }
            Self::Leader { before, after } => ("leader".into(), before.clone(), after.clone()),
            Self::VhostDeleted { group, name, messages } => {
                let before = format!("group {group}, {messages} messages");
                (format!("virtual host {name}"), before, "deleted".into())
            }
            Self::Primary { before, after, number } => {
                let told = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
                (DESIGNATED.into(), told(before), format!("{} (number {number})", told(after)))
            }
            Self::Lease { before, after } => {
                ("lease of the override".into(), duration_text(*before), duration_text(*after))
            }
            Self::Forced { forced, .. } => {
                ("voters".into(), forced.former.len().to_string(), forced_text(forced))
            }
            Self::Restored { forced, .. } => {
                ("voters".into(), forced_text(forced), "as they were: a majority has everything".into())
            }
        }
    }
}

/// An operator's act on one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Wall clock of the leader that took it, milliseconds since 1970: for people.
    pub at_ms: u64,
    /// Who.
    pub author: Author,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// What, in order.
    pub changes: Vec<Change>,
}

/// One change as the audit keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Where in the group's log it was decided.
    pub index: Index,
    /// When, milliseconds since 1970, by the leader's clock.
    pub at_ms: u64,
    /// Who.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// What was changed.
    pub what: String,
    /// Its value before.
    pub before: String,
    /// Its value after.
    pub after: String,
}

/// A policy as it is typed: `leader,replicas`.
pub fn policy_text(policy: DurabilityPolicy) -> String {
    format!("{},{}", durability_text(policy.leader), durability_text(policy.replicas))
}

/// A policy from how it is typed; none if it is none.
pub fn policy_from_text(text: &str) -> Option<DurabilityPolicy> {
    let (leader, replicas) = text.split_once(',')?;
    let all = [Durability::NoSync, Durability::WriteNoSync, Durability::Sync];
    let one = |text: &str| all.into_iter().find(|durability| durability_text(*durability) == text.trim());
    Some(DurabilityPolicy { leader: one(leader)?, replicas: one(replicas)? })
}

/// One side of a policy as it is typed.
pub fn durability_text(durability: Durability) -> &'static str {
    match durability {
        Durability::NoSync => "no-sync",
        Durability::WriteNoSync => "write-no-sync",
        Durability::Sync => "sync",
    }
}

/// The audit keeps no more of a text than this: a list of permitted nodes can be long.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn forced_text(forced: &Forced) -> String {
    let nodes = forced.nodes.len();
    match forced.kind {
        ForcedKind::Override { lease_ms } => {
            format!("{nodes} by an override for {}", duration_text(lease_ms))
        }
        ForcedKind::Solo { number } => format!("1: the designated primary alone (number {number})"),
        ForcedKind::TakeOver { number } => format!("1 by a take-over (number {number})"),
    }
}

/// A duration as people read it: the largest two units.
pub fn duration_text(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if !millis.is_multiple_of(1000) => format!("{millis} ms"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn list_text(list: &BTreeSet<String>) -> String {
    if list.is_empty() {
        return "everybody".to_owned();
    }
    list.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}
