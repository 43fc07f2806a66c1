//! `/api/v1/groups/…`, `/api/v1/members/permit`, `/api/v1/audit`: the controls of a group, and who changed what.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use quorate_core::admin::{
    AdminReply, AdminRequest, AuditPage, Author, ForceAct, ForceKind, GroupAct, GroupReport, GroupRequest,
    Setting,
};
use quorate_core::controls::policy_from_text;
use quorate_store::stamp::DurabilityPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::{ApiError, ask_status, failed, unexpected};
use super::status_json::GroupsJson;
use super::{AdminState, COMMAND_TIMEOUT, QUESTION_TIMEOUT};
use crate::wall_time;

/// How long a transfer may take if nobody says.
const TRANSFER_MILLIS: u64 = 30_000;
/// For how long clients are served by an override if nobody says.
const LEASE_MILLIS: u64 = 4 * 3_600_000;
/// Until a forced act is answered: it may wait for others to say where their logs end.
const FORCE_TIMEOUT: Duration = Duration::from_secs(25);
/// Beyond what a transfer may take, until it is answered.
const TRANSFER_SLACK: Duration = Duration::from_secs(25);

/// A node's election priority.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NodePriority")]
struct Priority {
    node: String,
    priority: u64,
}

/// What may be set; what is absent stays. No virtual host: the group `system`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GroupSettings")]
pub(super) struct Set {
    vhost: Option<String>,
    #[serde(default)]
    priorities: Vec<Priority>,
    required_nodes: Option<u64>,
    /// `system` only: which of two voters may go on alone; empty: none.
    designated_primary: Option<String>,
    /// Leader's and replicas', like `sync,no-sync`: each of sync, write-no-sync, no-sync.
    durability: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Fewer voters than a majority go on, for so long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    vhost: String,
    /// Which, by their brokers' names. Asked of one of them.
    nodes: Vec<String>,
    /// For how long clients are served; 4 hours if it is not said.
    lease_ms: Option<u64>,
    /// The cluster's id.
    confirm: String,
    reason: String,
}

/// One of two voters goes on, in every group. Asked of that one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TakeOver {
    /// Its broker's name.
    node: String,
    /// Your word that the other one is stopped, and is not started where it cannot reach this one.
    other_is_stopped: bool,
    /// The cluster's id.
    confirm: String,
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    /// `system` is the cluster's own.
    vhost: String,
    to: String,
    timeout_ms: Option<u64>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Permit {
    /// Names, store ids or cluster addresses; none: everybody.
    nodes: BTreeSet<String>,
    #[serde(default)]
    reason: String,
}

/// One change, as the audit keeps it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
struct AuditJson {
    vhost: String,
    index: u64,
    at_ms: u64,
    time: String,
    who: String,
    address: String,
    reason: String,
    what: String,
    before: String,
    after: String,
}

/// Changes of all groups of this broker.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Audit")]
pub(super) struct AuditsJson {
    records: Vec<AuditJson>,
}

/// What became of a change.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GroupChange")]
pub(super) struct ReportJson {
    vhost: String,
    /// This request made it so; if not, it was so before.
    changed: bool,
    detail: String,
}

type Answered = Result<(StatusCode, ReportJson), ApiError>;

pub(super) async fn list(state: AdminState) -> Result<GroupsJson, ApiError> {
    Ok(GroupsJson::from(ask_status(&state).await?))
}

pub(super) async fn set(state: AdminState, author: Author, body: Set) -> Answered {
    let Set { vhost, priorities, required_nodes, designated_primary, durability, reason } = body;
    let durability = durability.map(|text| policy(&text)).transpose()?;
    let mut named = BTreeSet::new();
    if let Some(twice) = priorities.iter().find(|one| !named.insert(one.node.as_str())) {
        let text = format!("priorities name {} twice: nothing was changed", twice.node);
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid", text, &["quorate group set --help"]));
    }
    let priorities =
        priorities.into_iter().map(|Priority { node, priority }| Setting::Priority { node, priority });
    let primary = designated_primary.map(|name| Setting::Primary(Some(name).filter(|name| !name.is_empty())));
    let settings = priorities
        .chain(required_nodes.map(Setting::RequiredNodes))
        .chain(durability.map(Setting::Durability))
        .chain(primary)
        .collect();
    let request = GroupRequest { vhost, act: GroupAct::Set(settings), author, reason };
    ask(&state, request, COMMAND_TIMEOUT).await
}

fn policy(text: &str) -> Result<DurabilityPolicy, ApiError> {
    policy_from_text(text).ok_or_else(|| {
        let text = format!(
            "{text:?} is no durability policy: the leader's and the replicas', each of sync, write-no-sync and no-sync, like sync,no-sync"
        );
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", text, &["quorate group set --help"])
    })
}

pub(super) async fn transfer(state: AdminState, author: Author, body: Transfer) -> Answered {
    let Transfer { vhost, to, timeout_ms, reason } = body;
    let within_millis = timeout_ms.unwrap_or(TRANSFER_MILLIS);
    let act = GroupAct::Transfer { to, within_millis };
    let patience = Duration::from_millis(within_millis.min(600_000)) + TRANSFER_SLACK;
    ask(&state, GroupRequest { vhost: Some(vhost), act, author, reason }, patience).await
}

pub(super) async fn go_on(state: AdminState, author: Author, body: Override) -> Answered {
    let Override { vhost, nodes, lease_ms, confirm, reason } = body;
    let kind = ForceKind::Override { nodes, lease_millis: lease_ms.unwrap_or(LEASE_MILLIS) };
    let act = GroupAct::Force(ForceAct { kind, confirm });
    ask(&state, GroupRequest { vhost: Some(vhost), act, author, reason }, FORCE_TIMEOUT).await
}

pub(super) async fn take_over(state: AdminState, author: Author, body: TakeOver) -> Answered {
    let TakeOver { node, other_is_stopped, confirm, reason } = body;
    let act = GroupAct::Force(ForceAct { kind: ForceKind::TakeOver { node, other_is_stopped }, confirm });
    ask(&state, GroupRequest { vhost: None, act, author, reason }, FORCE_TIMEOUT).await
}

pub(super) async fn permit(state: AdminState, author: Author, body: Permit) -> Answered {
    let Permit { nodes, reason } = body;
    let act = GroupAct::Set(vec![Setting::PermittedNodes(nodes)]);
    ask(&state, GroupRequest { vhost: None, act, author, reason }, COMMAND_TIMEOUT).await
}

/// Which virtual host goes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteVhost {
    name: String,
    /// The name again.
    confirm: String,
    /// The number of its group, if it is known: then no virtual host that has had the name since is meant.
    group: Option<u32>,
    /// For the audit: at most 1,000 bytes without control characters.
    #[serde(default)]
    reason: String,
}

/// It is gone.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct VhostDeleted {
    name: String,
    /// This request made it so; if not, that group was deleted before.
    deleted: bool,
    /// The messages that went with it, as the leader of `system` had counted them.
    messages: Option<u64>,
}

pub(super) async fn delete_vhost(
    state: AdminState,
    author: Author,
    body: DeleteVhost,
) -> Result<(StatusCode, VhostDeleted), ApiError> {
    let DeleteVhost { name, confirm, group, reason } = body;
    let act = GroupAct::DeleteVhost { name: name.clone(), confirm, group };
    let report = asked(&state, GroupRequest { vhost: None, act, author, reason }, COMMAND_TIMEOUT).await?;
    Ok((StatusCode::OK, VhostDeleted { name, deleted: report.changed, messages: report.messages }))
}

async fn asked(
    state: &AdminState,
    request: GroupRequest,
    patience: Duration,
) -> Result<GroupReport, ApiError> {
    match state.desk.ask(AdminRequest::Group(request), patience).await? {
        AdminReply::Group(report) => Ok(*report),
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

async fn ask(state: &AdminState, request: GroupRequest, patience: Duration) -> Answered {
    let GroupReport { vhost, changed, detail, .. } = asked(state, request, patience).await?;
    Ok((StatusCode::OK, ReportJson { vhost, changed, detail }))
}

/// The newest last, of all groups that this broker has.
pub(super) async fn audit(state: AdminState) -> Result<AuditsJson, ApiError> {
    match state.desk.ask(AdminRequest::Audit, QUESTION_TIMEOUT).await? {
        AdminReply::Audit(pages) => {
            let mut records: Vec<AuditJson> = pages.into_iter().flat_map(audit_json).collect();
            records.sort_by(|a, b| (a.at_ms, &a.vhost, a.index).cmp(&(b.at_ms, &b.vhost, b.index)));
            Ok(AuditsJson { records })
        }
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

fn audit_json(page: AuditPage) -> impl Iterator<Item = AuditJson> {
    let vhost = page.vhost;
    page.records.into_iter().map(move |record| AuditJson {
        vhost: vhost.clone(),
        index: record.index.0,
        at_ms: record.at_ms,
        time: wall_time::rfc3339(record.at_ms),
        who: record.author.who,
        address: record.author.address,
        reason: record.reason,
        what: record.what,
        before: record.before,
        after: record.after,
    })
}
