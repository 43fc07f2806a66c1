//! What keeps a leader from serving clients, although it leads.

use quorate_protocol::fault::FaultCode;
use quorate_store::stamp::EpochCause;

use super::Node;
use super::group::Group;
use crate::event::Event;
use crate::replica::Replica;

/// Why a leader does not serve clients. The first that holds, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It only hands on what nobody else has.
    NeverLeads,
    /// An operator's mark asks for so many members that are up to date.
    Marked { there: usize, needed: usize },
    /// An override's lease is over, or the leader has not taken the next part of it yet.
    Unleased { over: bool },
    /// Fewer voters are in contact than a confirm needs.
    Apart { there: usize, needed: usize, majority: bool },
}

impl Gate {
    pub(super) fn code(self) -> FaultCode {
        match self {
            Self::NeverLeads => FaultCode::NotReady,
            Self::Marked { .. } => FaultCode::Waiting,
            Self::Unleased { .. } | Self::Apart { .. } => FaultCode::NoQuorum,
        }
    }

    /// When a client may ask again, in milliseconds.
    pub(super) fn retry_millis(self) -> u32 {
        match self {
            Self::NeverLeads | Self::Unleased { over: false } => 50,
            Self::Marked { .. } | Self::Unleased { over: true } => 200,
            Self::Apart { majority, .. } => {
                if majority {
                    50
                } else {
                    200
                }
            }
        }
    }

    /// For clients and operators.
    pub(super) fn told(self, vhost: &str) -> String {
        match self {
            Self::NeverLeads => format!(
                "virtual host {vhost} is led by a broker of priority 0 until another one has all of its log: it serves nobody"
            ),
            Self::Marked { there, needed } => format!(
                "virtual host {vhost} goes on from a store that an operator marked: {there} of {needed} members hold it, \
                 clients are served once all {needed} do"
            ),
            Self::Unleased { over: true } => format!(
                "virtual host {vhost} goes on by an override whose lease is over: no client is served until a majority of its \
                 former voters has everything"
            ),
            Self::Unleased { over: false } => format!(
                "virtual host {vhost} goes on by an override, and its leader is about to take a part of the lease"
            ),
            Self::Apart { there, needed, majority: true } => {
                format!(
                    "virtual host {vhost} has no quorum: {there} of {needed} needed voters are in contact with its leader"
                )
            }
            Self::Apart { there, needed, majority: false } => format!(
                "virtual host {vhost} needs {needed} nodes for a confirm, as an operator set: {there} are in contact with its \
                 leader"
            ),
        }
    }
}

impl Node {
    /// How many voters must have met the policy before a client is told anything.
    pub(super) fn needed_voters(group: &Group) -> usize {
        if let Some(in_force) = group.controls.in_force() {
            return in_force.needed().max(group.configuration.majority());
        }
        let required = usize::try_from(group.controls.required_nodes()).unwrap_or(usize::MAX);
        required.min(group.configuration.voters.len()).max(group.configuration.majority())
    }

    /// What keeps this leader from serving clients now. None: nothing.
    pub(super) fn gate(&self, group: &Group) -> Option<Gate> {
        let own = group.replica.as_ref().map(Replica::id)?;
        if Self::never_leads(group, own) {
            return Some(Gate::NeverLeads);
        }
        if let Some(EpochCause::Mark { alone: false, members, .. }) =
            group.lineage.entries().last().map(|epoch| epoch.cause)
            && group.configuration.peak < members
        {
            let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
            return Some(Gate::Marked { there: count(group.configuration.peak), needed: count(members) });
        }
        if self.is_unleased(group) {
            let over = group.controls.in_force().and_then(|in_force| in_force.lease_left_ms) == Some(0);
            return Some(Gate::Unleased { over });
        }
        let (there, needed) = (self.voters_in_contact(group), Self::needed_voters(group));
        let majority = needed == group.configuration.majority();
        (there < needed).then_some(Gate::Apart { there, needed, majority })
    }

    /// A leader begins to serve, refuses who comes, or dismisses its clients. A link that is made again at once dismisses
    /// nobody: what they are told waits for the others anyway.
    pub(super) fn mind_gate(&mut self, group: &mut Group) {
        if !group.leads_surely() {
            return;
        }
        let Some(gate) = self.gate(group) else {
            group.gated_since = None;
            group.loss_told = false;
            if group.serving.is_none() {
                Self::leadership_won(group);
                // What it has to deliver begins with the next round.
                self.groups.touch(group.id);
            }
            return;
        };
        let since = *group.gated_since.get_or_insert(self.now);
        let patience = match gate {
            Gate::Apart { .. } => self.config.timing.election_millis() / 2,
            Gate::NeverLeads | Gate::Marked { .. } | Gate::Unleased { .. } => 0,
        };
        if self.now.since(since) < patience {
            return;
        }
        let lost = match gate {
            Gate::Apart { there, needed, .. } => Some((there, needed)),
            Gate::Unleased { over: true } => {
                let former = group.controls.in_force().map_or(0, |in_force| in_force.forced.former.len());
                Some((self.voters_in_contact(group), former / 2 + 1))
            }
            Gate::NeverLeads | Gate::Marked { .. } | Gate::Unleased { over: false } => None,
        };
        if let Some((there, needed)) = lost
            && !std::mem::replace(&mut group.loss_told, true)
        {
            self.event(Event::QuorumLost { vhost: group.vhost.clone(), present: there, needed });
        }
        if group.serving.is_some() {
            self.stop_serving(group, gate.code(), &gate.told(&group.vhost), "");
        }
    }
}
