//! The JSON of `/api/v1/explain`: field names are a contract with scripts.

use quorate_core::admin::{Explanation, GroupExplanation};
use quorate_core::formation::decide::rows_before;
use quorate_core::formation::status::{GroupStatus, InitialStatus, RecoveryMode, StoreState, VoterRef};
use quorate_core::formation::{Facts, Row};
use quorate_store::ids::GroupId;
use quorate_store::stamp::EpochEntry;
use schemars::JsonSchema;
use serde::Serialize;

/// What `quorate cluster explain -o json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(super) struct ExplanationJson {
    name: String,
    store_id: String,
    cluster_name: String,
    cluster_id: Option<String>,
    groups: Vec<GroupJson>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GroupExplanation")]
struct GroupJson {
    group: u32,
    vhost: String,
    #[schemars(extend("enum" = ["form", "restore", "join", "resume", "wait", "needs-operator", "held", "refuse"]))]
    verdict: &'static str,
    row: &'static str,
    /// When that row applies.
    summary: &'static str,
    reason: String,
    missing: Vec<String>,
    next: Vec<String>,
    notes: Vec<String>,
    /// The rows tried before, in order, and why each of them does not hold.
    earlier: Vec<RowJson>,
    /// This broker first, then its peers by name.
    members: Vec<MemberJson>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EarlierRow")]
struct RowJson {
    row: &'static str,
    why_not: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemberFacts")]
struct MemberJson {
    name: String,
    store_id: String,
    address: String,
    /// The broker that answers.
    own: bool,
    #[schemars(extend("enum" = ["transient", "empty", "forming", "dirty", "clean", "marked", "damaged"]))]
    state: &'static str,
    /// Shutdown or recovery id of a clean store, or what is damaged.
    state_detail: Option<String>,
    panicked: Option<String>,
    cluster_id: Option<String>,
    incarnation: u64,
    wait_for: u32,
    #[schemars(extend("enum" = ["automatic", "manual"]))]
    recovery: &'static str,
    /// What it holds of the group; none if nothing.
    holds: Option<HoldsJson>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GroupFacts")]
struct HoldsJson {
    trusted: bool,
    /// Epoch, term and index where its log ends.
    position: String,
    term: u64,
    active: bool,
    /// Its process took part while the group was active.
    was_active: bool,
    voters: Vec<String>,
    learners: Vec<String>,
    lineage: Vec<EpochJson>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EpochFacts")]
struct EpochJson {
    epoch: u32,
    id: String,
    #[schemars(extend("enum" = ["founding", "mark", "override", "solo", "take-over"]))]
    cause: &'static str,
    /// Where the epoch before was left.
    fork: String,
    who: String,
    why: String,
    /// Names of the stores that had no say in it.
    left_out: Vec<String>,
}

impl From<Explanation> for ExplanationJson {
    fn from(explanation: Explanation) -> Self {
        let Explanation { facts, groups } = explanation;
        Self {
            name: facts.own.name.clone(),
            store_id: facts.own.key.store.to_string(),
            cluster_name: facts.own.cluster_name.clone(),
            cluster_id: facts.own.cluster_id.map(|id| id.to_string()),
            groups: groups.into_iter().map(|group| group_json(group, &facts)).collect(),
        }
    }
}

fn group_json(explanation: GroupExplanation, facts: &Facts) -> GroupJson {
    let GroupExplanation { group, vhost, decision } = explanation;
    let mut peers: Vec<&InitialStatus> = facts.seen.iter().collect();
    peers.sort_by_key(|peer| (&peer.name, peer.key));
    let members = std::iter::once((&facts.own, true)).chain(peers.into_iter().map(|peer| (peer, false)));
    let earlier = rows_before(group, decision.row);
    GroupJson {
        group: group.0,
        vhost,
        verdict: decision.verdict.word(),
        row: decision.row.label(),
        summary: decision.row.summary(),
        reason: decision.reason,
        missing: decision.missing,
        next: decision.next,
        notes: decision.notes,
        earlier: earlier.into_iter().map(RowJson::from).collect(),
        members: members.map(|(member, own)| member_json(member, own, group)).collect(),
    }
}

impl From<Row> for RowJson {
    fn from(row: Row) -> Self {
        Self { row: row.label(), why_not: row.why_not() }
    }
}

fn member_json(member: &InitialStatus, own: bool, group: GroupId) -> MemberJson {
    let (state, state_detail) = match &member.state {
        StoreState::Transient { .. } => ("transient", None),
        StoreState::Empty => ("empty", None),
        StoreState::Forming(_) => ("forming", None),
        StoreState::Dirty => ("dirty", None),
        StoreState::Clean { shutdown } => ("clean", Some(format!("shutdown {shutdown}"))),
        StoreState::Recovered { recovery } => ("marked", Some(format!("recovery {recovery}"))),
        StoreState::Damaged { reason } => ("damaged", Some(reason.clone())),
    };
    MemberJson {
        name: member.name.clone(),
        store_id: member.key.store.to_string(),
        address: member.cluster_address.clone(),
        own,
        state,
        state_detail,
        panicked: member.panicked.clone(),
        cluster_id: member.cluster_id.map(|id| id.to_string()),
        incarnation: member.incarnation.0,
        wait_for: member.wait_for,
        recovery: match member.recovery {
            RecoveryMode::Automatic => "automatic",
            RecoveryMode::Manual => "manual",
        },
        holds: member.group(group).map(HoldsJson::from),
    }
}

impl From<&GroupStatus> for HoldsJson {
    fn from(part: &GroupStatus) -> Self {
        let names = |members: &[VoterRef]| members.iter().map(|member| member.name.clone()).collect();
        Self {
            trusted: part.trusted,
            position: part.position.to_string(),
            term: part.term.0,
            active: part.active.is_some(),
            was_active: part.was_active_this_run,
            voters: names(&part.voters),
            learners: names(&part.learners),
            lineage: part.lineage.iter().map(EpochJson::from).collect(),
        }
    }
}

impl From<&EpochEntry> for EpochJson {
    fn from(epoch: &EpochEntry) -> Self {
        Self {
            epoch: epoch.number.0,
            id: epoch.id.to_string(),
            cause: epoch.cause.word(),
            fork: epoch.fork.to_string(),
            who: epoch.who.clone(),
            why: epoch.why.clone(),
            left_out: epoch.left_out.iter().map(|left| left.name.clone()).collect(),
        }
    }
}
