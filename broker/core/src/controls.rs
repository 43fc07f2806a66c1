//! What operators set for a group while it runs: replicated in its log, kept beside its configuration.
//!
//! A change is one [`Act`] in an entry of the kind `Control`: who, when, why, what. Applying it notes what was before and
//! what is after, in the order of the log, so that every broker has the same [`Controls`] and the same audit.

mod forced;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{BufMut, BytesMut};
use quorate_store::ids::{GroupId, Index, RaftId};
use quorate_store::stamp::{Durability, DurabilityPolicy};

use crate::admin::Author;
use crate::codec::{CodecError, Reader, put_count, put_text};

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
            Self::Leader { after } => ("leader".into(), String::new(), after.clone()),
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
        let [what, before, after] = [what, before, after].map(shortened);
        if self.audit.len() >= MAX_AUDIT {
            self.audit.pop_front();
        }
        self.audit.push_back(AuditRecord { index, at_ms, author, reason, what, before, after });
    }

    /// A forced epoch begins with this entry, the only one that is not decided by a majority.
    pub(crate) fn force(&mut self, index: Index, forced: Forced) -> Changed {
        self.restore(forced.sole);
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
            Change::Transfer { name, .. } => Some(Changed::Leader { after: name }),
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

    /// A marked store goes on alone, whatever was set for it: it is the only one who can lead.
    pub(crate) fn restore(&mut self, sole: RaftId) {
        self.priorities.remove(&sole.0);
        self.in_force = None;
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_count(out, self.priorities.len());
        for (node, priority) in &self.priorities {
            out.put_u64_le(*node);
            out.put_u8(*priority);
        }
        out.put_u32_le(self.required);
        put_policy(out, self.policy);
        put_list(out, &self.permitted);
        put_primary(out, self.primary.as_ref());
        out.put_u64_le(self.number);
        out.put_u8(u8::from(self.in_force.is_some()));
        if let Some(in_force) = &self.in_force {
            in_force.encode(out);
        }
        put_count(out, self.audit.len());
        for record in &self.audit {
            out.put_u64_le(record.index.0);
            out.put_u64_le(record.at_ms);
            put_author(out, &record.author);
            for text in [&record.reason, &record.what, &record.before, &record.after] {
                put_text(out, text);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let mut controls = Self::default();
        for _ in 0..reader.count(9, "priorities")? {
            let node = reader.u64("raft id")?;
            controls.priorities.insert(node, reader.u8("priority")?);
        }
        controls.required = reader.u32("required nodes")?;
        controls.policy = read_policy(reader)?;
        controls.permitted = read_list(reader)?;
        controls.primary = read_primary(reader)?;
        controls.number = reader.u64("designated number")?;
        if reader.u8("forced epoch")? != 0 {
            controls.in_force = Some(InForce::decode(reader)?);
        }
        for _ in 0..reader.count(16, "audit")? {
            controls.audit.push_back(AuditRecord {
                index: Index(reader.u64("index")?),
                at_ms: reader.u64("time")?,
                author: read_author(reader)?,
                reason: reader.text("reason")?,
                what: reader.text("what")?,
                before: reader.text("before")?,
                after: reader.text("after")?,
            });
        }
        Ok(controls)
    }
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
fn shortened(mut text: String) -> String {
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

const PRIORITY: u8 = 1;
const REQUIRED_NODES: u8 = 2;
const DURABILITY: u8 = 3;
const PERMITTED_NODES: u8 = 4;
const TRANSFER: u8 = 5;
const DELETE_VHOST: u8 = 6;
const PRIMARY: u8 = 7;
const LEASE: u8 = 8;
const RESTORED: u8 = 9;

impl Act {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.at_ms);
        put_author(out, &self.author);
        put_text(out, &self.reason);
        put_count(out, self.changes.len());
        for change in &self.changes {
            match change {
                Change::Priority { node, name, priority } => {
                    out.put_u8(PRIORITY);
                    out.put_u64_le(node.0);
                    put_text(out, name);
                    out.put_u8(*priority);
                }
                Change::RequiredNodes(required) => {
                    out.put_u8(REQUIRED_NODES);
                    out.put_u32_le(*required);
                }
                Change::Durability(policy) => {
                    out.put_u8(DURABILITY);
                    put_policy(out, *policy);
                }
                Change::PermittedNodes(permitted) => {
                    out.put_u8(PERMITTED_NODES);
                    put_list(out, permitted);
                }
                Change::Transfer { to, name } => {
                    out.put_u8(TRANSFER);
                    out.put_u64_le(to.0);
                    put_text(out, name);
                }
                Change::DeleteVhost { group, name, messages } => {
                    out.put_u8(DELETE_VHOST);
                    out.put_u32_le(group.0);
                    put_text(out, name);
                    out.put_u64_le(*messages);
                }
                Change::Primary { primary, number } => {
                    out.put_u8(PRIMARY);
                    put_primary(out, primary.as_ref());
                    out.put_u64_le(*number);
                }
                Change::Lease { left_ms, set } => {
                    out.put_u8(LEASE);
                    out.put_u64_le(*left_ms);
                    out.put_u8(u8::from(*set));
                }
                Change::Restored => out.put_u8(RESTORED),
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let at_ms = reader.u64("time")?;
        let author = read_author(reader)?;
        let reason = reader.text("reason")?;
        let count = reader.count(1, "changes")?;
        if count > MAX_CHANGES {
            return Err(CodecError::Unknown("number of changes"));
        }
        let changes = (0..count).map(|_| read_change(reader)).collect::<Result<_, _>>()?;
        Ok(Self { at_ms, author, reason, changes })
    }
}

fn read_change(reader: &mut Reader) -> Result<Change, CodecError> {
    Ok(match reader.u8("change")? {
        PRIORITY => Change::Priority {
            node: RaftId(reader.u64("raft id")?),
            name: reader.text("name")?,
            priority: reader.u8("priority")?,
        },
        REQUIRED_NODES => Change::RequiredNodes(reader.u32("required nodes")?),
        DURABILITY => Change::Durability(read_policy(reader)?),
        PERMITTED_NODES => Change::PermittedNodes(read_list(reader)?),
        TRANSFER => Change::Transfer { to: RaftId(reader.u64("raft id")?), name: reader.text("name")? },
        DELETE_VHOST => Change::DeleteVhost {
            group: GroupId(reader.u32("group")?),
            name: reader.text("name")?,
            messages: reader.u64("messages")?,
        },
        PRIMARY => Change::Primary { primary: read_primary(reader)?, number: reader.u64("number")? },
        LEASE => Change::Lease { left_ms: reader.u64("lease")?, set: reader.u8("set")? != 0 },
        RESTORED => Change::Restored,
        _ => return Err(CodecError::Unknown("change")),
    })
}

fn put_primary(out: &mut BytesMut, primary: Option<&Primary>) {
    out.put_u64_le(primary.map_or(0, |primary| primary.node.0));
    put_text(out, primary.map_or("", |primary| &primary.name));
}

fn read_primary(reader: &mut Reader) -> Result<Option<Primary>, CodecError> {
    let (node, name) = (RaftId(reader.u64("raft id")?), reader.text("name")?);
    Ok((node != RaftId(0)).then_some(Primary { node, name }))
}

fn put_author(out: &mut BytesMut, author: &Author) {
    put_text(out, &author.who);
    put_text(out, &author.address);
}

fn read_author(reader: &mut Reader) -> Result<Author, CodecError> {
    Ok(Author { who: reader.text("who")?, address: reader.text("address")? })
}

fn put_policy(out: &mut BytesMut, policy: DurabilityPolicy) {
    out.put_u8(policy.leader as u8);
    out.put_u8(policy.replicas as u8);
}

fn read_policy(reader: &mut Reader) -> Result<DurabilityPolicy, CodecError> {
    let mut one = || match reader.u8("durability")? {
        0 => Ok(Durability::NoSync),
        1 => Ok(Durability::WriteNoSync),
        2 => Ok(Durability::Sync),
        _ => Err(CodecError::Unknown("durability")),
    };
    Ok(DurabilityPolicy { leader: one()?, replicas: one()? })
}

fn put_list(out: &mut BytesMut, list: &BTreeSet<String>) {
    put_count(out, list.len());
    for text in list {
        put_text(out, text);
    }
}

fn read_list(reader: &mut Reader) -> Result<BTreeSet<String>, CodecError> {
    (0..reader.count(2, "names")?).map(|_| reader.text("name")).collect()
}

#[cfg(test)]
mod tests;
