//! Controls in a checkpoint, and acts in the log. Reading is bounded.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use quorate_store::ids::{GroupId, Index, RaftId};
use quorate_store::stamp::{Durability, DurabilityPolicy};

use super::{Act, AuditRecord, Change, Controls, InForce, MAX_CHANGES, Primary};
use crate::admin::Author;
use crate::codec::{CodecError, Reader, put_count, put_text};

impl Controls {
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

const PRIORITY: u8 = 1;
const REQUIRED_NODES: u8 = 2;
const DURABILITY: u8 = 3;
const PERMITTED_NODES: u8 = 4;
/// As it was before it named the leader before; read, never written.
const TRANSFER_TO: u8 = 5;
const DELETE_VHOST: u8 = 6;
const PRIMARY: u8 = 7;
const LEASE: u8 = 8;
const RESTORED: u8 = 9;
const TRANSFER: u8 = 10;

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
                Change::Transfer { to, name, from } => {
                    out.put_u8(TRANSFER);
                    out.put_u64_le(to.0);
                    put_text(out, name);
                    put_text(out, from);
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
        TRANSFER_TO => Change::Transfer {
            to: RaftId(reader.u64("raft id")?),
            name: reader.text("name")?,
            from: String::new(),
        },
        TRANSFER => Change::Transfer {
            to: RaftId(reader.u64("raft id")?),
            name: reader.text("name")?,
            from: reader.text("name")?,
        },
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

pub(super) fn put_author(out: &mut BytesMut, author: &Author) {
    put_text(out, &author.who);
    put_text(out, &author.address);
}

pub(super) fn read_author(reader: &mut Reader) -> Result<Author, CodecError> {
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
