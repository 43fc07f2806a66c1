//! Answers for operators.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_protocol::name::VhostName;
use quorate_store::ids::{GroupId, RaftId};
use quorate_store::stamp::Durability;

use super::Node;
use super::config::SYSTEM_NAME;
use super::controls::check_reason;
use super::gate::Gate;
use super::group::Group;
use super::members::{Ailment, ailments};
use super::origin::Origin;
use crate::admin::{
    AdminReply, AdminRequest, Author, Explanation, GroupStatusView, GroupVerdict, InForceView, MetricSample,
    Metrics, NodeStatus, Status, VerdictWord,
};
use crate::controls::{durability_text, policy_text};
use crate::io::{AdminId, Output};
use crate::loss_window::{Window, forced_loss_window, loss_window};
use crate::machine::{Asked, Command};
use crate::replica::Replica;

/// The cluster's own group, and all virtual hosts at once.
const RESERVED_NAMES: [&str; 2] = [SYSTEM_NAME, "*"];

impl Node {
    pub(super) fn admin(&mut self, id: AdminId, request: AdminRequest) {
        let reply = match request {
            AdminRequest::Status => AdminReply::Status(Box::new(self.status())),
            AdminRequest::Explain => AdminReply::Explain(Box::new(self.explanation())),
            AdminRequest::Metrics => AdminReply::Metrics(Box::new(self.metrics())),
            AdminRequest::Safety => AdminReply::Safety(Box::new(self.safety_view())),
            AdminRequest::ClearPanic { confirm, reason, author } => {
                match self.clear_panic(id, &confirm, &reason, &author) {
                    Ok(()) => return,
                    Err(reply) => reply,
                }
            }
            AdminRequest::CreateVhost { name, reason, author } => {
                match self.create_vhost(id, &name, (author, reason)) {
                    Ok(()) => return,
                    Err(reply) => reply,
                }
            }
            AdminRequest::Group(request) => match self.ask_group(id, request) {
                Ok(()) => return,
                Err(reply) => reply,
            },
            AdminRequest::Audit => AdminReply::Audit(self.audit()),
            AdminRequest::Member(request) => match self.ask_member(id, request) {
                Ok(()) => return,
                Err(reply) => reply,
            },
            AdminRequest::Shutdown { reason, author } => match self.ask_shutdown(id, &reason, &author) {
                Ok(()) => return,
                Err(reply) => reply,
            },
        };
        self.emit(Output::AdminReply { id, reply });
    }

    fn create_vhost(&mut self, id: AdminId, name: &str, word: (Author, String)) -> Result<(), AdminReply> {
        check_reason(&word.1)?;
        let name = VhostName::new(name).map_err(|error| AdminReply::Failed {
            code: "INVALID_NAME",
            message: format!("virtual host: {error}"),
            next: Vec::new(),
            leader_admin_address: None,
        })?;
        if RESERVED_NAMES.contains(&name.as_str()) || name.as_str().trim().is_empty() {
            return Err(AdminReply::Failed {
                code: "INVALID_NAME",
                message: format!(
                    "no virtual host may be called {:?}: commands mean something else by it, or nobody sees it",
                    name.as_str()
                ),
                next: vec!["quorate vhost create NAME".into()],
                leader_admin_address: None,
            });
        }
        self.require_system_leader()?;
        // It would begin as `system` is: without a lease, and served by nobody.
        let system = self.groups.get(GroupId::SYSTEM);
        if let Some(gate @ Gate::Unleased { .. }) = system.and_then(|system| self.gate(system)) {
            return Err(AdminReply::Failed {
                code: "NO_QUORUM",
                message: gate.told(SYSTEM_NAME),
                next: vec![super::force_asks::OVERRIDE.to_owned()],
                leader_admin_address: None,
            });
        }
        self.propose_asked(Command::CreateVhost { name }, word, Origin::Admin(id));
        Ok(())
    }

    /// Proposes in `system` what an operator asked for, with who did and why.
    pub(super) fn propose_asked(&mut self, command: Command, word: (Author, String), origin: Origin) {
        let (author, reason) = word;
        let asked = Asked { at_ms: self.wall_ms(), author, reason, command };
        let command = Command::Asked(Box::new(asked));
        self.with_group(GroupId::SYSTEM, |_, group| group.propose(command, origin));
    }

    /// Commands that change the cluster go through the leader of `system`.
    pub(super) fn require_system_leader(&self) -> Result<(), AdminReply> {
        self.require_leader(GroupId::SYSTEM)
    }

    /// Commands that change a group go through its leader.
    pub(super) fn require_leader(&self, id: GroupId) -> Result<(), AdminReply> {
        if let Some(panic) = self.safety.panic() {
            return Err(AdminReply::Failed {
                code: "PANICKED",
                message: format!("this broker panicked: {panic}"),
                next: vec!["quorate cluster panic show".into()],
                leader_admin_address: None,
            });
        }
        let group = self.groups.get(id);
        if group.is_some_and(Group::leads_surely) {
            return Ok(());
        }
        let leader = group.and_then(|group| self.active_leader(group));
        let address = leader
            .and_then(|leader| self.peers.get(leader.leader))
            .map(|peer| peer.identity.admin_address.clone());
        let what = match group.filter(|_| id != GroupId::SYSTEM) {
            Some(group) => format!("virtual host {}", group.vhost),
            None => "the group `system`".to_owned(),
        };
        let (code, message) = match address {
            Some(_) => ("NOT_LEADER", format!("this broker does not lead {what}")),
            None => (
                "NO_QUORUM",
                format!("nobody is known to lead {what}, and without a leader nothing is changed"),
            ),
        };
        Err(AdminReply::Failed {
            code,
            message,
            next: vec!["quorate cluster status".into()],
            leader_admin_address: address,
        })
    }

    fn status(&self) -> Status {
        let (worst, mut verdicts) = self.shown_verdicts();
        let GroupVerdict { verdict, row, reason, missing, mut next } = worst;
        let members = self.member_statuses();
        let mut notes = self.notes();
        for Ailment { note, commands } in ailments(&members).filter(|_| verdict == VerdictWord::Active) {
            notes.push(note);
            next.extend(commands);
        }
        let system = self.groups.get(GroupId::SYSTEM);
        Status {
            verdict,
            row,
            reason,
            missing,
            next,
            notes,
            name: self.config.name.clone(),
            store_id: self.own.store,
            state: self.state_word(self.own.store),
            cluster_name: self.config.cluster_name.clone(),
            cluster_id: self.cluster_id,
            epoch: system.map(|group| group.lineage.tag().epoch).unwrap_or_default(),
            transient: self.transient,
            wait_for: self
                .peers
                .statuses()
                .map(|status| status.wait_for)
                .fold(self.config.wait_for, u32::max),
            members,
            permitted_nodes: system
                .map(|group| group.controls.permitted().iter().cloned().collect())
                .unwrap_or_default(),
            quarantine_bytes: self.quarantine_bytes,
            log_bytes: self.log_bytes,
            space_low: self.space_low,
            safety: self.safety_view(),
            groups: self
                .groups
                .values()
                .map(|group| self.group_view(group, verdicts.remove(&group.id)))
                .collect(),
        }
    }

    fn group_view(&self, group: &Group, verdict: Option<GroupVerdict>) -> GroupStatusView {
        let replica = group.replica.as_ref();
        let leader = self.active_leader(group).map(|active| active.leader);
        let commit = replica.map_or(group.applied, |replica| replica.commit().max(group.applied));
        let last = replica.map_or(group.applied, Replica::last);
        let mut nodes = Vec::new();
        for (id, voter) in group
            .configuration
            .voters
            .iter()
            .map(|id| (RaftId(*id), true))
            .chain(group.configuration.learners.iter().map(|id| (RaftId(*id), false)))
        {
            let store = if self.raft_id == Some(id) { Some(self.own.store) } else { self.peers.store_of(id) };
            let reachable = store.is_some_and(|store| store == self.own.store || self.peers.is_linked(store));
            let matched = replica.and_then(|replica| replica.matched(id));
            let role = if store.is_some() && store == leader {
                "leader"
            } else if !reachable {
                "unreachable"
            } else if !voter {
                "learner"
            } else if leader.is_none() {
                "waiting"
            } else {
                "replica"
            };
            nodes.push(NodeStatus {
                name: store.map_or_else(|| format!("node {id}"), |store| self.name_of(store)),
                role,
                matched,
                lag: matched.map(|matched| last.0.saturating_sub(matched.0)),
                priority: u32::from(group.controls.priority(id)),
            });
        }
        let leader_name = leader.map(|store| self.name_of(store));
        let leader_client_address = leader.map(|store| {
            if store == self.own.store {
                self.config.client_address.clone()
            } else {
                self.peers.get(store).map(|peer| peer.identity.client_address.clone()).unwrap_or_default()
            }
        });
        let gate = self.gate_here(group).map(|gate| gate.told(&group.vhost));
        let (durability_here, durability_weakest) = group.durability_said();
        let window =
            Window { entries: self.config.unsynced_max_entries, millis: self.config.unsynced_max_millis };
        let in_force = self.in_force_view(group);
        let policy = group.controls.policy();
        GroupStatusView {
            group: group.id,
            vhost: group.vhost.clone(),
            leader: leader_name,
            leader_client_address,
            epoch: group.lineage.tag().epoch,
            term: replica.map(Replica::term).unwrap_or_default(),
            commit,
            applied: group.applied,
            quorum: leader.is_some() && gate.is_none(),
            role: Self::role_word(group),
            own_lag: commit.0.saturating_sub(group.applied.0),
            digest: group.machine.digest(),
            updating: group.sink.as_ref().map(|sink| sink.bytes),
            required_nodes: group.controls.required_nodes(),
            needed_voters: Self::needed_voters(group),
            durability: policy,
            durability_here,
            durability_weakest,
            loss_window: match &in_force {
                Some(forced) => forced_loss_window(&forced.nodes, policy, window),
                None => loss_window(policy, window),
            },
            may_lack: group.acknowledging.lacks,
            gate,
            in_force,
            designated_primary: group
                .controls
                .primary()
                .map(|(primary, number)| (primary.name.clone(), number)),
            nodes,
            verdict,
        }
    }

    /// What keeps clients of a virtual host waiting that this broker leads; who follows does not know.
    fn gate_here(&self, group: &Group) -> Option<Gate> {
        let leads = group.id != GroupId::SYSTEM && group.leads_surely();
        self.gate(group).filter(|_| leads)
    }

    fn in_force_view(&self, group: &Group) -> Option<InForceView> {
        let in_force = group.controls.in_force()?;
        let forced = &in_force.forced;
        let name = |id: &u64| match self.voter_ref(RaftId(*id)) {
            Some(voter) => voter.name,
            None => format!("node {id}"),
        };
        let names = |ids: &BTreeSet<u64>| ids.iter().map(name).collect::<BTreeSet<_>>().into_iter().collect();
        Some(InForceView {
            kind: forced.kind.word(),
            nodes: names(&forced.nodes),
            former: names(&forced.former),
            number: forced.kind.cause(forced.sole).number(),
            lease_left_ms: self.lease_left(group),
            since_ms: forced.at_ms,
            who: forced.author.to_string(),
            reason: forced.reason.clone(),
        })
    }

    fn metrics(&self) -> Metrics {
        let counters = &self.counters;
        let mut samples = vec![
            Self::sample("published_total", "Messages confirmed to publishers.", vec![], counters.published),
            Self::sample("publish_refused_total", "Messages refused.", vec![], counters.refused),
            Self::sample(
                "publish_duplicates_total",
                "Messages recognised as sent before.",
                vec![],
                counters.duplicates,
            ),
            Self::sample(
                "confirmed_under_override_total",
                "Messages confirmed by fewer voters than a majority, in a forced epoch.",
                vec![],
                counters.under_override,
            ),
            Self::sample("delivered_total", "Messages sent to consumers.", vec![], counters.delivered),
            Self::sample(
                "redelivered_total",
                "Of these, possibly sent before.",
                vec![],
                counters.redelivered,
            ),
            Self::sample(
                "acknowledged_total",
                "Messages acknowledged or rejected for good.",
                vec![],
                counters.acknowledged,
            ),
            Self::sample("transactions_total", "Transactions committed.", vec![], counters.transactions),
            Self::sample(
                "transactions_refused_total",
                "Transactions refused or rolled back: nothing of them took effect.",
                vec![],
                counters.transactions_refused,
            ),
            Self::sample(
                "elections_won_total",
                "Leaderships won by this broker.",
                vec![],
                counters.elections,
            ),
            Self::sample("log_batches_total", "Batches written to the log.", vec![], counters.log_batches),
            Self::sample("rounds_total", "Rounds of the core.", vec![], counters.rounds),
            Self::sample(
                "snapshots_sent_total",
                "Updates by snapshot given.",
                vec![],
                counters.snapshots_sent,
            ),
            Self::sample(
                "snapshots_received_total",
                "Updates by snapshot taken.",
                vec![],
                counters.snapshots_received,
            ),
            Self::sample("sessions", "Clients connected.", vec![], self.sessions.len() as u64),
            Self::sample(
                "space_low",
                "Publishing is refused for lack of room.",
                vec![],
                u64::from(self.space_low),
            ),
            Self::sample(
                "groups_awake",
                "Groups whose nodes here send or await heartbeats; the others have nothing to do.",
                vec![],
                self.groups.awake().len() as u64,
            ),
        ];
        for group in self.groups.values() {
            samples.extend(self.group_samples(group));
        }
        Metrics { samples }
    }

    /// Besides the facts that decide: why the own store is not trusted.
    fn explanation(&self) -> Explanation {
        let mut explanation = Explanation::of(self.facts());
        for explained in &mut explanation.groups {
            let group = self.groups.get(explained.group);
            if let Some(why) = group.and_then(|group| group.acknowledging.lacks) {
                let note = format!("{} may lack what it acknowledged: {why}", self.config.name);
                explained.decision.notes.push(note);
            }
        }
        explanation
    }

    /// The policy in force, what it permits to be lost, and how much of that there is now.
    fn durability_samples(&self, group: &Group) -> [MetricSample; 4] {
        let labels = || vec![("vhost", group.vhost.clone())];
        let policy = group.controls.policy();
        let (_, weakest) = group.durability_said();
        let named = [("policy", policy_text(policy)), ("weakest", durability_text(weakest).to_owned())];
        let weak = u64::from(policy.leader.min(policy.replicas) != Durability::Sync);
        let unsynced = group.replica.as_ref().map_or(0, Replica::unsynced_entries);
        [
            Self::sample(
                "durability",
                "The durability policy, and the weakest that this broker may have acknowledged by since all was synced.",
                labels().into_iter().chain(named).collect(),
                1,
            ),
            Self::sample(
                "loss_window_entries",
                "Entries that may be acknowledged and not synced, by the policy.",
                labels(),
                weak * self.config.unsynced_max_entries,
            ),
            MetricSample {
                name: "loss_window_seconds",
                help: "For how long they may be.",
                labels: labels(),
                value: Duration::from_millis(weak * self.config.unsynced_max_millis).as_secs_f64(),
            },
            Self::sample("unsynced_entries", "Entries that are not synced now.", labels(), unsynced),
        ]
    }

    fn group_samples(&self, group: &Group) -> Vec<MetricSample> {
        let labels = || vec![("vhost", group.vhost.clone())];
        let is_led = self.active_leader(group).is_some();
        let mut samples = vec![
            Self::sample("leader", "This broker leads the group.", labels(), u64::from(group.is_leader())),
            Self::sample(
                "quorum",
                "The group is led with a quorum.",
                labels(),
                u64::from(is_led && self.gate_here(group).is_none()),
            ),
            Self::sample(
                "forced",
                "An override, a solo run or a take-over of the group has not ended.",
                labels(),
                u64::from(group.controls.in_force().is_some()),
            ),
            Self::sample("applied_index", "Entries applied.", labels(), group.applied.0),
        ];
        samples.extend(self.durability_samples(group));
        if let Some(machine) = group.machine.vhost() {
            samples.push(Self::sample(
                "messages",
                "Messages not yet acknowledged.",
                labels(),
                machine.live(),
            ));
        }
        samples
    }
}
