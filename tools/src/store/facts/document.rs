//! The document that `quorate store facts` prints.

use std::collections::BTreeMap;

use quorate_store::ids::Position;
use quorate_store::stamp::{Durability, DurabilityPolicy, EpochEntry, GroupStamp, StampMember};
use serde::{Deserialize, Serialize};

/// What a store says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of this document.
    pub facts_format: u32,
    /// The directory, as it was named.
    pub path: String,
    /// When they were taken: milliseconds since 1970.
    pub taken_at_ms: u64,
    /// empty, forming, dirty, clean, damaged, or newer-format.
    pub state: String,
    /// What is wrong; empty if nothing is.
    pub damage: Vec<String>,
    /// What was noticed and is no damage, like a torn tail that nothing acknowledged.
    pub notes: Vec<String>,
    /// The process that has the store, if one has.
    pub in_use_by: Option<u32>,
    /// Whose store it is.
    pub store_id: Option<String>,
    /// The cluster it belongs to.
    pub cluster_id: Option<String>,
    /// The cluster's name.
    pub cluster_name: Option<String>,
    /// The broker's name.
    pub broker_name: Option<String>,
    /// Counted up each time the broker left a held state; of a damaged stamp the highest that can be made out.
    pub incarnation: Option<u64>,
    /// The process that wrote the incarnation.
    pub run_id: Option<String>,
    /// Of a store closed by an administrative shutdown.
    pub shutdown_id: Option<String>,
    /// Of a store marked clean by an operator.
    pub recovery_id: Option<String>,
    /// Counted up at each rewrite of the stamp.
    pub sequence: Option<u64>,
    /// Where each group's log ends, by virtual host; from the log if it is readable, else from the stamp.
    pub positions: BTreeMap<String, Place>,
    /// Each group, as stamp and log have it.
    pub groups: Vec<GroupFacts>,
    /// Membership last known.
    pub members: Vec<MemberFacts>,
    /// Position in `system` of the change that made `members`.
    pub members_position: Option<Place>,
    /// Stores that may become voters without an operator's act.
    pub possible_members: Vec<String>,
    /// A founding that this store took part in.
    pub founding: Option<FoundingFacts>,
    /// Initial members before going active.
    pub wait_for: Option<u32>,
    /// automatic or manual.
    pub recovery: Option<String>,
    /// The kernel's boot id in the stamp.
    pub boot_id: Option<String>,
    /// Whether this machine has not been booted since.
    pub boot_id_same: Option<bool>,
    /// The safety number last agreed.
    pub safety_number: Option<u64>,
    /// When the stamp was written: milliseconds since 1970.
    pub stamped_at_ms: Option<u64>,
    /// Where the last whole batch of the log ends: segment and byte.
    pub log_end: Option<String>,
    /// Up to where the stamp says that the log was synced.
    pub log_synced: Option<String>,
    /// Bytes of the log's segments.
    pub log_bytes: Option<u64>,
    /// Bytes in quarantine.
    pub quarantine_bytes: u64,
    /// Queues in all virtual hosts; none if the store could not be recovered.
    pub queues: Option<u64>,
    /// Messages in all virtual hosts.
    pub messages: Option<u64>,
    /// Why the recovery that a broker would make could not be made; none if it could.
    pub unread: Option<String>,
    /// What its broker would tell its peers, in the brokers' own encoding, as Base64.
    pub status: Option<String>,
}

/// A place in a group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Number of the latest epoch.
    pub epoch: u32,
    /// Term of the last entry.
    pub term: u64,
    /// Index of the last entry.
    pub index: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch.0, term: position.term.0, index: position.index.0 }
    }
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupFacts {
    /// Its number.
    pub group: u32,
    /// Its virtual host; `system` for group 0.
    pub vhost: String,
    /// Where its log ends.
    pub log_position: Option<Place>,
    /// The first index in the log.
    pub first: Option<u64>,
    /// The highest index known to be committed; may lag.
    pub commit: Option<u64>,
    /// The latest term seen, and whom this node voted for in it (0 is nobody).
    pub term: Option<u64>,
    /// See `term`.
    pub vote: Option<u64>,
    /// Where the stamp says that the log ended.
    pub stamp_position: Option<Place>,
    /// Up to where the stamp says that it was synced.
    pub stamp_synced: Option<Place>,
    /// Leader's and replicas' durability, like `sync,sync`.
    pub policy: Option<String>,
    /// The weakest that was acknowledged under since everything was synced.
    pub weakest: Option<String>,
    /// Every epoch, oldest first.
    pub lineage: Vec<EpochFacts>,
    /// Queues, with everything in the log applied, committed or not.
    pub queues: Option<u64>,
    /// Messages, likewise.
    pub messages: Option<u64>,
    /// A fingerprint of everything replicated, likewise: equal in stores that hold the same. Sixteen hex digits.
    pub digest: Option<String>,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochFacts {
    /// Its number.
    pub number: u32,
    /// Its random id.
    pub id: String,
    /// Where the previous one was left.
    pub fork: Place,
    /// Who forced it.
    pub who: String,
    /// Milliseconds since 1970.
    pub when_ms: u64,
    /// The reason given.
    pub why: String,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// Its broker's name.
    pub name: String,
    /// Its store.
    pub store_id: String,
    /// Its number inside Raft.
    pub raft_id: u64,
    /// Where peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
    /// Voter, or learner.
    pub voter: bool,
    /// The incarnation last acknowledged.
    pub incarnation: u64,
}

/// A founding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingFacts {
    /// Highest ballot promised: round and proposer.
    pub promised: Option<(u64, String)>,
    /// Highest ballot accepted.
    pub accepted: Option<(u64, String)>,
    /// The accepted value is known to be decided.
    pub decided: bool,
}

impl From<&GroupStamp> for GroupFacts {
    fn from(stamp: &GroupStamp) -> Self {
        Self {
            group: stamp.group.0,
            vhost: stamp.vhost.clone(),
            stamp_position: Some(stamp.position.into()),
            stamp_synced: Some(stamp.synced.into()),
            policy: Some(policy(stamp.policy)),
            weakest: Some(durability(stamp.weakest).to_owned()),
            lineage: stamp.lineage.iter().map(EpochFacts::from).collect(),
            ..Self::default()
        }
    }
}

impl From<&EpochEntry> for EpochFacts {
    fn from(entry: &EpochEntry) -> Self {
        Self {
            number: entry.number.0,
            id: entry.id.to_string(),
            fork: entry.fork.into(),
            who: entry.who.clone(),
            when_ms: entry.when_ms,
            why: entry.why.clone(),
        }
    }
}

impl From<&StampMember> for MemberFacts {
    fn from(member: &StampMember) -> Self {
        Self {
            name: member.name.clone(),
            store_id: member.store_id.to_string(),
            raft_id: member.raft_id.0,
            cluster_address: member.cluster_address.clone(),
            client_address: member.client_address.clone(),
            admin_address: member.admin_address.clone(),
            voter: member.voter,
            incarnation: member.incarnation.0,
        }
    }
}

fn policy(policy: DurabilityPolicy) -> String {
    format!("{},{}", durability(policy.leader), durability(policy.replicas))
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::NoSync => "no-sync",
        Durability::WriteNoSync => "write-no-sync",
        Durability::Sync => "sync",
    }
}
