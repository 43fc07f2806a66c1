//! What operators may ask of one group, and the answers.

use std::collections::BTreeSet;

use quorate_store::stamp::DurabilityPolicy;

use super::Author;
use crate::controls::AuditRecord;

/// Something wanted of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRequest {
    /// Which virtual host's; none: the group `system`.
    pub vhost: Option<String>,
    /// What.
    pub act: GroupAct,
    /// Who wants it.
    pub author: Author,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
}

/// What may be wanted of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAct {
    /// These settings, all or none.
    Set(Vec<Setting>),
    /// This broker leads it.
    Transfer {
        /// The broker's name.
        to: String,
        /// How long it may take, in milliseconds.
        within_millis: u64,
    },
    /// `system` only: this virtual host goes, with everything in it.
    DeleteVhost {
        /// Its name.
        name: String,
        /// Its name again, as whoever asks confirmed it.
        confirm: String,
        /// Its group, if whoever asks knows it: no virtual host that has the name since then is meant.
        group: Option<u32>,
    },
    /// It goes on with fewer than a majority.
    Force(ForceAct),
}

/// Something that is forced: clients may lose by it what others confirmed, or will confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForceAct {
    /// What.
    pub kind: ForceKind,
    /// The cluster's id, as a confirmation.
    pub confirm: String,
}

/// What may be forced on a running broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForceKind {
    /// These voters, fewer than a majority, go on.
    Override {
        /// Their brokers' names.
        nodes: Vec<String>,
        /// For how long clients are served, in milliseconds.
        lease_millis: u64,
    },
    /// This one of two voters goes on, in every group.
    TakeOver {
        /// Its broker's name.
        node: String,
        /// The operator's word that the other one is stopped, and is not started where it cannot reach this one.
        other_is_stopped: bool,
    },
}

/// One setting as it was asked for: nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A node's election priority.
    Priority {
        /// The broker's name.
        node: String,
        /// 0 never, 1 normal, 2 high, 3 highest.
        priority: u64,
    },
    /// How many nodes must have met the policy before a confirm; 0: a majority.
    RequiredNodes(u64),
    /// `system` only: which of two voters may go on alone; nobody named: none may.
    Primary(Option<String>),
    /// Virtual hosts only: what leader and replicas do before they acknowledge.
    Durability(DurabilityPolicy),
    /// `system` only: who may join, by name, store id or cluster address; nobody named: everybody may.
    PermittedNodes(BTreeSet<String>),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// The virtual host; `system` for that group.
    pub vhost: String,
    /// This request made it so; if not, it was so before.
    pub changed: bool,
    /// For people.
    pub detail: String,
    /// Of a virtual host that was deleted: the messages that went with it.
    pub messages: Option<u64>,
}

/// A group's audit, or the end of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The virtual host; `system` for that group.
    pub vhost: String,
    /// Oldest first.
    pub records: Vec<AuditRecord>,
}
