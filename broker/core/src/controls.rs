//! What operators set for a group while it runs: replicated in its log, kept beside its configuration.
//!
//! A change is one [`Act`] in an entry of the kind `Control`: who, when, why, what. Applying it notes what was before and
//! what is after, in the order of the log, so that every broker has the same [`Controls`] and the same audit.

mod change;
mod codec;
mod forced;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_store::ids::{Index, RaftId};
use quorate_store::stamp::{Durability, DurabilityPolicy};

use crate::admin::Author;

use change::shortened;
pub use change::{
    Act, AuditRecord, Change, Changed, durability_text, duration_text, policy_from_text, policy_text,
};
pub use forced::{Forced, ForcedKind, InForce, Primary};

/// A node that never serves clients.
pub const PRIORITY_NEVER: u8 = 0;
/// What a node has that nobody set another priority for.
pub const PRIORITY_NORMAL: u8 = 1;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 3;
/// Changes in one act.
pub const MAX_CHANGES: usize = 64;
/// Names, store ids and addresses in the list of permitted nodes.
pub const MAX_PERMITTED: usize = 256;
/// Longest text of an act, in bytes.
pub const MAX_TEXT_BYTES: usize = 1000;
/// What the audit calls who of two may go on alone.
const DESIGNATED: &str = "designated primary";
/// Acts that a group remembers; older ones are forgotten first.
pub const MAX_AUDIT: usize = 1000;

/// The controls of one group as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controls {
    /// Those that are not normal.
    priorities: BTreeMap<u64, u8>,
    required: u32,
    policy: DurabilityPolicy,
    permitted: BTreeSet<String>,
    primary: Option<Primary>,
    /// The highest number that a designated primary had.
    number: u64,
    in_force: Option<InForce>,
    audit: VecDeque<AuditRecord>,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            priorities: BTreeMap::new(),
            required: 0,
            policy: DurabilityPolicy { leader: Durability::Sync, replicas: Durability::Sync },
            permitted: BTreeSet::new(),
            primary: None,
            number: 0,
            in_force: None,
            audit: VecDeque::new(),
        }
    }
}

impl Controls {
    /// What a group that is made now begins with, by the controls of `system`: as nothing is set, and in the epoch that is in
    /// force. Its first voters are as few, so that its confirms are marked as those of the others are.
    pub(crate) fn for_new_group(&self) -> Self {
        Self { in_force: self.in_force.clone(), ..Self::default() }
    }

    /// A node's election priority.
    pub fn priority(&self, node: RaftId) -> u8 {
        self.priorities.get(&node.0).copied().unwrap_or(PRIORITY_NORMAL)
    }

    /// How many voters a confirm needs, as set; 0: a majority.
    pub fn required_nodes(&self) -> u32 {
        self.required
    }

    /// The durability policy.
    pub fn policy(&self) -> DurabilityPolicy {
        self.policy
    }

    /// Who may join; empty: everybody.
    pub fn permitted(&self) -> &BTreeSet<String> {
        &self.permitted
    }

    /// Whether a broker that has any of these names may join.
    pub fn permits<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        self.permitted.is_empty() || names.into_iter().any(|name| self.permitted.contains(name))
    }

    /// `system`: who of two voters may go on alone, and with which number.
    pub fn primary(&self) -> Option<(&Primary, u64)> {
        self.primary.as_ref().map(|primary| (primary, self.number))
    }

    /// `system`: the highest number that was ever given to a designated primary.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The forced epoch that has not ended.
    pub fn in_force(&self) -> Option<&InForce> {
        self.in_force.as_ref()
    }

    /// The newest acts, oldest first.
    pub fn audit(&self) -> impl DoubleEndedIterator<Item = &AuditRecord> {
        self.audit.iter()
    }

    /// Applies an act decided at `index`; what really changed, in order. Values that no leader proposes change nothing.
    pub fn apply(&mut self, index: Index, act: &Act) -> Vec<Changed> {
        let mut all = Vec::new();
        for change in &act.changes {
            let Some(changed) = self.change(change) else { continue };
            self.note(index, &changed, act.at_ms, act.author.clone(), act.reason.clone());
            all.push(changed);
        }
        all
    }

    fn note(&mut self, index: Index, changed: &Changed, at_ms: u64, author: Author, reason: String) {
        let (what, before, after) = changed.texts();
        self.record(AuditRecord { index, at_ms, author, reason, what, before, after });
    }

    /// Keeps a change in the audit.
    pub(crate) fn record(&mut self, record: AuditRecord) {
        let AuditRecord { what, before, after, .. } = record;
        let [what, before, after] = [what, before, after].map(shortened);
        if self.audit.len() >= MAX_AUDIT {
            self.audit.pop_front();
        }
        self.audit.push_back(AuditRecord { what, before, after, ..record });
    }

    /// A forced epoch begins with this entry, the only one that is not decided by a majority.
    pub(crate) fn force(&mut self, index: Index, forced: Forced) -> Changed {
        let number = match forced.kind {
            ForcedKind::Solo { number } | ForcedKind::TakeOver { number } => Some(number),
            ForcedKind::Override { .. } => None,
        };
        self.number = self.number.max(number.unwrap_or_default());
        let (author, reason, at_ms) = (forced.author.clone(), forced.reason.clone(), forced.at_ms);
        let changed = Changed::Forced { forced: Box::new(forced.clone()), before: self.required };
        self.note(index, &changed, at_ms, author.clone(), reason.clone());
        // Whoever took over is the designated primary, where there was one.
        let holder = Primary { node: forced.sole, name: forced.name.clone() };
        if number.is_some() && self.primary.as_ref().is_some_and(|primary| *primary != holder) {
            let after = Some(holder.name.clone());
            let before = self.primary.replace(holder).map(|before| before.name);
            let designated = Changed::Primary { before, after, number: self.number };
            self.note(index, &designated, at_ms, author, reason);
        }
        self.in_force = Some(InForce::begun(forced));
        changed
    }

    /// Who was the designated primary before this entry took that away; none if it did not.
    pub(crate) fn designated_until(&self, index: Index) -> Option<&str> {
        let record =
            self.audit.iter().rev().find(|record| record.index == index && record.what == DESIGNATED)?;
        Some(&record.before)
    }

    /// None if it is so already.
    fn change(&mut self, change: &Change) -> Option<Changed> {
        match change.clone() {
            Change::Priority { node, name, priority } => {
                let before = self.priority(node);
                if before == priority || priority > PRIORITY_MAX {
                    return None;
                }
                if priority == PRIORITY_NORMAL {
                    self.priorities.remove(&node.0);
                } else {
                    self.priorities.insert(node.0, priority);
                }
                Some(Changed::Priority { name, before, after: priority })
            }
            Change::RequiredNodes(after) => {
                let before = std::mem::replace(&mut self.required, after);
                (before != after).then_some(Changed::RequiredNodes { before, after })
            }
            Change::Durability(after) => {
                let before = std::mem::replace(&mut self.policy, after);
                (before != after).then_some(Changed::Durability { before, after })
            }
            Change::PermittedNodes(after) => {
                let before = std::mem::replace(&mut self.permitted, after.clone());
                (before != after).then_some(Changed::PermittedNodes { before, after })
            }
            Change::Transfer { name, from, .. } => Some(Changed::Leader { before: from, after: name }),
            Change::DeleteVhost { group, name, messages } => {
                Some(Changed::VhostDeleted { group, name, messages })
            }
            Change::Primary { primary, number } => {
                // A late one of an earlier number says nothing any more.
                if number <= self.number {
                    return None;
                }
                // Whoever is designated again has seen this number in its log, and holds none below it.
                self.number = number;
                let before = std::mem::replace(&mut self.primary, primary.clone()).map(|before| before.name);
                let after = primary.map(|primary| primary.name);
                (before != after).then_some(Changed::Primary { before, after, number })
            }
            Change::Lease { left_ms, set } => {
                let lease = &mut self.in_force.as_mut()?.lease_left_ms;
                let before = lease.replace(left_ms)?;
                (set && before != left_ms).then_some(Changed::Lease { before, after: left_ms })
            }
            Change::Restored => {
                let forced = Box::new(self.in_force.take()?.forced);
                Some(Changed::Restored { forced, after: self.required })
            }
        }
    }

    /// A marked store goes on by a person's word: nothing that was forced before is in force.
    pub(crate) fn restore(&mut self) {
        self.in_force = None;
    }
}

#[cfg(test)]
mod tests;
