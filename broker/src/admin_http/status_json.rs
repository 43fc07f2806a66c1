//! The JSON of `/api/v1/status`, `/api/v1/members` and `/api/v1/vhosts`: field names are a contract with scripts.

use quorate_core::admin::{GroupStatusView, InForceView, MemberStatus, NodeStatus, Status};
use quorate_core::controls::{durability_text, policy_text};
use quorate_store::ids::GroupId;
use schemars::JsonSchema;
use serde::Serialize;

use super::panic::number;
use crate::wall_time;

/// What `quorate cluster status -o json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Status")]
pub(super) struct StatusJson {
    /// Of the worst group.
    #[schemars(extend("enum" = ["active", "waiting", "joining", "needs-operator", "refused", "held", "panicked", "shutting-down"]))]
    verdict: &'static str,
    /// The row of the decision table.
    row: String,
    reason: String,
    /// Who is waited for: brokers' names, and addresses at which nobody is known yet.
    missing: Vec<String>,
    /// Commands to type next.
    next: Vec<String>,
    /// What else was noticed: brokers that do not count and why, voters that are not well, refused links.
    notes: Vec<String>,
    name: String,
    store_id: String,
    /// Of this broker's store.
    #[schemars(extend("enum" = ["empty", "forming", "dirty", "clean", "damaged", "transient"]))]
    state: &'static str,
    cluster_name: String,
    cluster_id: Option<String>,
    epoch: u32,
    #[schemars(extend("enum" = ["persistent", "transient"]))]
    kind: &'static str,
    wait_for: u32,
    /// Plain text and unauthenticated peers are permitted off loopback.
    insecure: bool,
    /// Publishing is refused for lack of room.
    space_low: bool,
    members: Vec<MemberJson>,
    /// Who may join; empty: everybody.
    permitted_nodes: Vec<String>,
    quarantine_bytes: u64,
    log_bytes: u64,
    /// The cluster's safety number; none before the first.
    safety_number: Option<String>,
    safety_renewals: u64,
    /// Why this broker panicked, if it did.
    panic: Option<String>,
    groups: Vec<GroupJson>,
}

/// One member.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Member")]
pub(super) struct MemberJson {
    name: String,
    store_id: String,
    incarnation: u64,
    address: String,
    client_address: String,
    admin_address: String,
    #[schemars(extend("enum" = ["empty", "forming", "dirty", "clean", "damaged", "transient", "unknown"]))]
    state: &'static str,
    present: bool,
    voter: bool,
    /// Not to lead while another one can.
    drained: bool,
    /// What an operator wants of it and is not so yet.
    change: Option<String>,
    /// Why it panicked, if it did.
    panicked: Option<String>,
    /// Of another broker than the one that answers: why it takes no part in a group that goes on before an operator decides.
    needs_operator: Option<String>,
}

/// One group.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Group")]
pub(super) struct GroupJson {
    group: u32,
    vhost: String,
    leader: Option<String>,
    leader_client_address: Option<String>,
    epoch: u32,
    term: u64,
    commit: u64,
    applied: u64,
    quorum: bool,
    #[schemars(extend("enum" = ["leader", "replica", "learner", "waiting"]))]
    role: &'static str,
    own_lag: u64,
    /// Text, because JavaScript's numbers do not hold 64 bits.
    digest: String,
    /// Bytes of a snapshot received so far.
    updating: Option<u64>,
    /// As set; 0: a majority.
    required_nodes: u32,
    /// How many voters a confirm needs now.
    needed_voters: usize,
    /// Leader's and replicas', as decided.
    durability: String,
    /// What this broker acknowledges by, as its stamp says: a weaker policy holds once it is said there.
    durability_here: String,
    /// The weakest that this broker may have acknowledged by since everything was synced.
    #[schemars(extend("enum" = ["no-sync", "write-no-sync", "sync"]))]
    durability_weakest: &'static str,
    /// What the policy permits to be lost.
    loss_window: String,
    /// Why this store may lack what it acknowledged; null: it does not.
    may_lack: Option<&'static str>,
    /// On the leader: why it serves no clients.
    gate: Option<String>,
    /// The forced epoch that has not ended.
    in_force: Option<InForceJson>,
    /// `system`: which of two voters may go on alone.
    designated_primary: Option<PrimaryJson>,
    nodes: Vec<NodeJson>,
    /// None: as the broker's.
    verdict: Option<&'static str>,
    row: Option<String>,
    reason: Option<String>,
    missing: Vec<String>,
    next: Vec<String>,
}

/// Fewer voters than a majority go on, until a majority of the former ones has everything.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InForce")]
struct InForceJson {
    #[schemars(extend("enum" = ["override", "solo", "take-over"]))]
    kind: &'static str,
    /// Who goes on with it.
    nodes: Vec<String>,
    /// The voters before.
    former: Vec<String>,
    /// The designated number, for a solo run and a take-over.
    number: Option<u64>,
    /// For an override: how long clients can still be served; exact on the leader.
    lease_left_ms: Option<u64>,
    since_ms: u64,
    since: String,
    who: String,
    reason: String,
}

impl From<InForceView> for InForceJson {
    fn from(view: InForceView) -> Self {
        let InForceView { kind, nodes, former, number, lease_left_ms, since_ms, who, reason } = view;
        let since = wall_time::rfc3339(since_ms);
        Self { kind, nodes, former, number, lease_left_ms, since_ms, since, who, reason }
    }
}

/// Which of two voters may go on alone.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DesignatedPrimary")]
struct PrimaryJson {
    node: String,
    number: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Node")]
struct NodeJson {
    name: String,
    #[schemars(extend("enum" = ["leader", "replica", "learner", "waiting", "unreachable"]))]
    role: &'static str,
    #[serde(rename = "match")]
    matched: Option<u64>,
    lag: Option<u64>,
    priority: u32,
}

/// One virtual host.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Vhost")]
pub(super) struct VhostJson {
    name: String,
    group: u32,
    leader: Option<String>,
    quorum: bool,
}

impl StatusJson {
    /// The core's status, and what only the process knows.
    pub(super) fn new(status: Status, insecure: bool) -> Self {
        Self {
            verdict: status.verdict.word(),
            row: status.row,
            reason: status.reason,
            missing: status.missing,
            next: status.next,
            notes: status.notes,
            name: status.name,
            store_id: status.store_id.to_string(),
            state: status.state,
            cluster_name: status.cluster_name,
            cluster_id: status.cluster_id.map(|id| id.to_string()),
            epoch: status.epoch.0,
            kind: if status.transient { "transient" } else { "persistent" },
            wait_for: status.wait_for,
            insecure,
            space_low: status.space_low,
            members: status.members.into_iter().map(MemberJson::from).collect(),
            permitted_nodes: status.permitted_nodes,
            quarantine_bytes: status.quarantine_bytes,
            log_bytes: status.log_bytes,
            safety_number: number(status.safety.number),
            safety_renewals: status.safety.renewals,
            panic: status.safety.panic.map(|panic| panic.text),
            groups: status.groups.into_iter().map(GroupJson::from).collect(),
        }
    }
}

impl From<MemberStatus> for MemberJson {
    fn from(member: MemberStatus) -> Self {
        Self {
            name: member.name,
            store_id: member.store_id.to_string(),
            incarnation: member.incarnation.0,
            address: member.address,
            client_address: member.client_address,
            admin_address: member.admin_address,
            state: member.state,
            present: member.present,
            voter: member.voter,
            drained: member.drained,
            change: member.change,
            panicked: member.panicked,
            needs_operator: member.needs_operator.map(|need| need.reason),
        }
    }
}

impl From<GroupStatusView> for GroupJson {
    fn from(group: GroupStatusView) -> Self {
        let (mut verdict, mut row, mut reason, mut missing, mut next) = Default::default();
        if let Some(shown) = group.verdict {
            verdict = Some(shown.verdict.word());
            (row, reason) = (Some(shown.row), Some(shown.reason));
            (missing, next) = (shown.missing, shown.next);
        }
        Self {
            group: group.group.0,
            vhost: group.vhost,
            leader: group.leader,
            leader_client_address: group.leader_client_address,
            epoch: group.epoch.0,
            term: group.term.0,
            commit: group.commit.0,
            applied: group.applied.0,
            quorum: group.quorum,
            role: group.role,
            own_lag: group.own_lag,
            digest: format!("{:016x}", group.digest),
            updating: group.updating,
            required_nodes: group.required_nodes,
            needed_voters: group.needed_voters,
            in_force: group.in_force.map(InForceJson::from),
            designated_primary: group.designated_primary.map(|(node, number)| PrimaryJson { node, number }),
            durability: policy_text(group.durability),
            durability_here: policy_text(group.durability_here),
            durability_weakest: durability_text(group.durability_weakest),
            loss_window: group.loss_window,
            may_lack: group.may_lack,
            gate: group.gate,
            nodes: group.nodes.into_iter().map(NodeJson::from).collect(),
            verdict,
            row,
            reason,
            missing,
            next,
        }
    }
}

impl From<NodeStatus> for NodeJson {
    fn from(node: NodeStatus) -> Self {
        Self {
            name: node.name,
            role: node.role,
            matched: node.matched.map(|index| index.0),
            lag: node.lag,
            priority: node.priority,
        }
    }
}

/// The answer of `/api/v1/members`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Members")]
pub(super) struct MembersJson {
    members: Vec<MemberJson>,
}

impl From<Status> for MembersJson {
    fn from(status: Status) -> Self {
        Self { members: status.members.into_iter().map(MemberJson::from).collect() }
    }
}

/// The answer of `/api/v1/vhosts`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Vhosts")]
pub(super) struct VhostsJson {
    vhosts: Vec<VhostJson>,
}

impl From<Status> for VhostsJson {
    fn from(status: Status) -> Self {
        Self { vhosts: vhosts(status) }
    }
}

/// The answer of `/api/v1/groups`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Groups")]
pub(super) struct GroupsJson {
    groups: Vec<GroupJson>,
}

impl From<Status> for GroupsJson {
    fn from(status: Status) -> Self {
        Self { groups: status.groups.into_iter().map(GroupJson::from).collect() }
    }
}

/// The virtual hosts among the groups.
fn vhosts(status: Status) -> Vec<VhostJson> {
    status
        .groups
        .into_iter()
        .filter(|group| group.group != GroupId::SYSTEM)
        .map(|group| VhostJson {
            name: group.vhost,
            group: group.group.0,
            leader: group.leader,
            quorum: group.quorum,
        })
        .collect()
}
