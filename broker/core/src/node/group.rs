//! One group on this broker: its node, its state machine, and what is on the way between them and the disk.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_store::ids::{Epoch, GroupId, Incarnation, Index, Position, RaftId, Term};
use quorate_store::record::{Entry, EntryKind, HardState};
use quorate_store::state::StateBatch;
use uuid::Uuid;

use super::config::limits;
use super::configuration::Configuration;
use super::durability::Acknowledging;
use super::held::Held;
use super::lineage::Lineage;
use super::meta::{Meta, Space};
use super::origin::{InFlight, Origin, Proposal};
use super::recovery::RecoveredLog;
use super::serving::Serving;
use super::sink::Sink;
use super::source::Sources;
use super::steps::Parting;
use crate::control::Control;
use crate::controls::{Change, Controls};
use crate::io::Tick;
use crate::machine::{Command, CommandReader, Outcome, SystemMachine, VhostMachine};
use crate::replica::Replica;

/// What a group's entries mean.
pub(crate) enum Machine {
    /// The cluster's own metadata.
    System(Box<SystemMachine>),
    /// One virtual host.
    Vhost(Box<VhostMachine>),
}

impl Machine {
    pub(crate) fn new(group: GroupId) -> Self {
        if group == GroupId::SYSTEM { Self::System(Box::default()) } else { Self::Vhost(Box::default()) }
    }

    pub(crate) fn system(&self) -> Option<&SystemMachine> {
        match self {
            Self::System(machine) => Some(machine),
            Self::Vhost(_) => None,
        }
    }

    pub(crate) fn system_mut(&mut self) -> Option<&mut SystemMachine> {
        match self {
            Self::System(machine) => Some(machine),
            Self::Vhost(_) => None,
        }
    }

    pub(crate) fn vhost(&self) -> Option<&VhostMachine> {
        match self {
            Self::Vhost(machine) => Some(machine),
            Self::System(_) => None,
        }
    }

    pub(crate) fn vhost_mut(&mut self) -> Option<&mut VhostMachine> {
        match self {
            Self::Vhost(machine) => Some(machine),
            Self::System(_) => None,
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        match self {
            Self::System(machine) => machine.digest(),
            Self::Vhost(machine) => machine.digest(),
        }
    }

    fn checkpoint(&mut self, space: Space, meta: Bytes) -> StateBatch {
        match self {
            Self::System(machine) => machine.checkpoint(space.prefix(), meta),
            Self::Vhost(machine) => machine.checkpoint(space.prefix(), meta),
        }
    }
}

/// How far a checkpoint has come.
#[derive(Debug, Default)]
pub(crate) struct Retirement {
    /// The log may be cut up to here once everything below is spilled and checkpointed.
    pub(crate) wanted: Option<Index>,
    /// The log may be cut up to here as soon as nothing there is alive.
    pub(crate) idle: Option<Index>,
    /// Where the search for messages to spill goes on.
    pub(crate) resume: Option<crate::machine::Resume>,
    /// A load, a write or a checkpoint is on its way.
    pub(crate) busy: bool,
}

/// One group.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) vhost: String,
    pub(crate) lineage: Lineage,
    pub(crate) space: Space,
    pub(crate) machine: Machine,
    pub(crate) configuration: Configuration,
    pub(crate) controls: Controls,
    /// What acknowledgements take by the durability policy.
    pub(crate) acknowledging: Acknowledging,
    pub(crate) applied: Index,
    pub(crate) applied_term: Term,
    /// Durable in the state store up to here.
    pub(crate) checkpointed: Index,
    /// Bytes of entries applied since the last checkpoint began.
    pub(crate) bytes_since_checkpoint: u64,
    pub(crate) checkpoint_running: bool,
    pub(crate) retirement: Retirement,
    /// The log as found, until the node starts.
    pub(crate) recovered: Option<RecoveredLog>,
    /// Where the log of a marked store ended, until the mark's own entry is durable in it.
    pub(crate) marked_at: Option<Position>,
    /// None while the group is recovered or made.
    pub(crate) replica: Option<Replica>,
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) in_flight: VecDeque<InFlight>,
    /// What earlier leaderships of this broker proposed, and operators still wait for.
    pub(crate) bequeathed: Vec<InFlight>,
    pub(crate) serving: Option<Serving>,
    pub(crate) sources: Sources,
    pub(crate) sink: Option<Sink>,
    /// Leader only: learners, with the index that each must reach before it votes.
    pub(crate) learners: BTreeMap<RaftId, Index>,
    /// Leader only: in which life each store that has to be filled again was taken out of the configuration.
    pub(crate) taken_out: BTreeMap<RaftId, Incarnation>,
    /// Leader only: when a store that was filled again was told so.
    pub(crate) told_filled: BTreeMap<RaftId, Tick>,
    /// Leader only: how far it is with a member that leaves.
    pub(crate) parting: Option<Parting>,
    /// Leader only: when it was elected, and who was here then and is preferred to it.
    pub(crate) elected_at: Tick,
    pub(crate) rivals: Vec<RaftId>,
    /// Leader only: answers and proofs that wait for more voters than a majority.
    pub(crate) held: Held,
    /// The highest number of a designated primary in its log, committed or not.
    pub(crate) seen_number: u64,
    /// Leader only, in an override: until when the part of the lease that it took lasts.
    pub(crate) lease_until: Tick,
    /// Leader only, in a forced epoch: when it was told of last, and when something was proposed about it last.
    pub(crate) force_told_at: Tick,
    pub(crate) force_asked_at: Tick,
    /// Leader only: since when something keeps it from serving clients.
    pub(crate) gated_since: Option<Tick>,
    /// Leader only: that too few voters are in contact was told, and has not changed.
    pub(crate) loss_told: bool,
    /// What the last round saw, to notice changes.
    pub(crate) seen_role: &'static str,
    pub(crate) seen_term: Term,
    pub(crate) seen_active: bool,
    /// Led since its quorum was last reported lost.
    pub(crate) had_quorum: bool,
    pub(crate) was_active: bool,
    /// Until then those with whom it was active are awaited, though the group goes on elsewhere.
    pub(crate) leaves_at: Option<Tick>,
    /// Leader only: ticks in which there was nothing to do, and where the log ended in them.
    pub(crate) idle_ticks: usize,
    pub(crate) idle_at: Index,
    /// When to ask for votes because the leader's connection closed.
    pub(crate) campaign_at: Option<Tick>,
    /// Until when such asking is repeated.
    pub(crate) campaign_until: Tick,
    /// The last entry applied ends the log, by this shutdown.
    pub(crate) ended: Option<Uuid>,
    /// Leader only: the term in which it proposed to end the log. Nothing else is proposed in it.
    pub(crate) ended_term: Option<Term>,
    /// What is here may lack what was acknowledged: it is to be given up as soon as the cluster can fill it again.
    pub(crate) stale: bool,
    /// While it is being given up: what its node had promised.
    pub(crate) kept_hard_state: HardState,
    /// While it is being given up: what it holds after this, the cluster does not have.
    pub(crate) diverged: Option<Position>,
    /// The latest epoch of which it holds work of clients; 0 for none.
    pub(crate) client_epoch: Epoch,
}

impl Group {
    pub(crate) fn new(id: GroupId, vhost: String, lineage: Lineage, space: Space) -> Self {
        Self {
            id,
            vhost,
            lineage,
            space,
            machine: Machine::new(id),
            configuration: Configuration::default(),
            controls: Controls::default(),
            acknowledging: Acknowledging::default(),
            applied: Index::default(),
            applied_term: Term::default(),
            checkpointed: Index::default(),
            bytes_since_checkpoint: 0,
            checkpoint_running: false,
            retirement: Retirement::default(),
            recovered: None,
            marked_at: None,
            replica: None,
            proposals: Vec::new(),
            in_flight: VecDeque::new(),
            bequeathed: Vec::new(),
            serving: None,
            sources: Sources::default(),
            sink: None,
            learners: BTreeMap::new(),
            taken_out: BTreeMap::new(),
            told_filled: BTreeMap::new(),
            parting: None,
            elected_at: Tick::default(),
            rivals: Vec::new(),
            held: Held::default(),
            seen_number: 0,
            lease_until: Tick::default(),
            force_told_at: Tick::default(),
            force_asked_at: Tick::default(),
            gated_since: None,
            loss_told: false,
            seen_role: "waiting",
            seen_term: Term::default(),
            seen_active: false,
            had_quorum: false,
            was_active: false,
            leaves_at: None,
            idle_ticks: 0,
            idle_at: Index::default(),
            campaign_at: None,
            campaign_until: Tick::default(),
            ended: None,
            ended_term: None,
            stale: false,
            kept_hard_state: HardState::default(),
            diverged: None,
            client_epoch: Epoch(0),
        }
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta {
            applied: self.applied,
            applied_term: self.applied_term,
            configuration: self.configuration.clone(),
            client_epoch: self.client_epoch,
            controls: self.controls.clone(),
        }
    }

    /// Nothing of the group is here yet.
    pub(crate) fn is_bare(&self) -> bool {
        self.applied == Index(0)
            && self.recovered.is_none()
            && self.sink.is_none()
            && self.replica.as_ref().is_none_or(|replica| replica.last() == Index(0))
    }

    /// An operator's mark begins with this log, and has not yet.
    pub(crate) fn awaits_mark(&self) -> bool {
        self.recovered.as_ref().is_some_and(|recovered| recovered.marked)
    }

    /// Notes in which epoch clients worked last, and the highest designated number: of every entry that comes into the log,
    /// since others may know it to be committed before this broker does.
    pub(crate) fn note_client_work(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Control && self.id == GroupId::SYSTEM {
            let control = Control::decode(entry.data.clone());
            self.seen_number = self.seen_number.max(control.map_or(0, |control| control.number()));
        }
        let epoch = self.lineage.epoch_at(entry.index);
        if entry.data.is_empty() || epoch <= self.client_epoch {
            return;
        }
        let is_work = match entry.kind {
            EntryKind::Command => is_client_work(&entry.data),
            EntryKind::Control => deletes_vhost(&entry.data),
            EntryKind::Membership => false,
        };
        if is_work {
            self.client_epoch = epoch;
        }
    }

    /// The state at the applied index, what changed since the last call. The medium has the log up to there: a message's
    /// body is nowhere else.
    pub(crate) fn checkpoint(&mut self) -> StateBatch {
        let synced = self.replica.as_ref().map_or(self.applied, Replica::synced);
        assert!(
            synced >= self.applied,
            "group {}: a checkpoint at {} is ahead of the log, synced up to {synced}",
            self.id,
            self.applied
        );
        self.bytes_since_checkpoint = 0;
        let meta = self.meta().encode();
        self.machine.checkpoint(self.space, meta)
    }

    /// Leads, and its first entry is committed and applied: it knows everything that was ever confirmed.
    pub(crate) fn leads_surely(&self) -> bool {
        self.replica
            .as_ref()
            .is_some_and(|replica| replica.leads_surely() && self.applied_term == replica.term())
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::is_leader)
    }

    pub(crate) fn propose(&mut self, command: Command, origin: Origin) {
        self.proposals.push(Proposal { command, origin });
    }

    /// Leader only: where its log ends, if there is nothing left to do for anybody.
    pub(crate) fn rests_at(&self) -> Option<Index> {
        let rests = self.proposals.is_empty()
            && self.in_flight.is_empty()
            && self.serving.as_ref().is_none_or(Serving::is_idle)
            && self.sources.current.is_none()
            && self.sink.is_none()
            && self.parting.is_none()
            && self.configuration.learners.is_empty()
            && self.campaign_at.is_none()
            && !self.stale;
        self.replica.as_ref().filter(|_| rests)?.rests_at()
    }

    /// There is something that the group's turn in a round would do.
    pub(crate) fn has_work(&self) -> bool {
        let Some(replica) = &self.replica else { return false };
        replica.has_ready() || (replica.is_leader() && !self.proposals.is_empty())
    }

    /// Packs what waits into entries and proposes them; what cannot be proposed now stays.
    pub(crate) fn flush_proposals(&mut self) {
        let Some(replica) = &mut self.replica else { return };
        if self.proposals.is_empty() || !replica.is_leader() || self.ended_term == Some(replica.term()) {
            return;
        }
        let mut datas = Vec::new();
        let mut origins: Vec<Vec<Origin>> = Vec::new();
        let mut taken: Vec<Vec<Proposal>> = Vec::new();
        let mut data = Vec::new();
        let mut pack: Vec<Proposal> = Vec::new();
        for proposal in std::mem::take(&mut self.proposals) {
            let size = proposal.size();
            if !pack.is_empty()
                && (size >= limits::LONE_COMMAND_BYTES || data.len() + size > limits::ENTRY_BYTES)
            {
                datas.push(Bytes::from(std::mem::take(&mut data)));
                taken.push(std::mem::take(&mut pack));
            }
            data.reserve(size);
            proposal.command.encode(&mut data);
            pack.push(proposal);
        }
        if !pack.is_empty() {
            datas.push(Bytes::from(data));
            taken.push(pack);
        }
        match replica.propose(datas) {
            Ok(first) => {
                origins.extend(
                    taken.into_iter().map(|pack| pack.into_iter().map(|proposal| proposal.origin).collect()),
                );
                let term = replica.term();
                for (offset, origins) in origins.into_iter().enumerate() {
                    self.in_flight.push_back(InFlight {
                        index: Index(first.0 + offset as u64),
                        term,
                        origins,
                    });
                }
            }
            Err(_) => self.proposals = taken.into_iter().flatten().collect(),
        }
    }

    /// Applies an entry's commands: one outcome for each, in order. What operators asked for of members and virtual hosts goes to
    /// the audit.
    pub(crate) fn apply_commands(&mut self, entry: &Entry) -> Vec<Outcome> {
        let Self { machine, controls, .. } = self;
        match machine {
            Machine::System(machine) => {
                machine.apply_and_note(entry.index, &entry.data, &mut |record| controls.record(record))
            }
            Machine::Vhost(machine) => machine.apply(entry.index, &entry.data),
        }
    }

    /// The origins of a committed entry, if this leadership proposed it.
    pub(crate) fn take_origins(&mut self, entry: &Entry) -> Vec<Origin> {
        while let Some(front) = self.in_flight.front() {
            if front.index > entry.index {
                break;
            }
            let front = self.in_flight.pop_front().expect("just seen");
            if front.index == entry.index && front.term == entry.term {
                return front.origins;
            }
        }
        Vec::new()
    }
}

/// Whether an operator deleted a virtual host by it: no history that knows it is dropped for one that does not.
fn deletes_vhost(data: &Bytes) -> bool {
    let Ok(Control::Act(act)) = Control::decode(data.clone()) else { return false };
    act.changes.iter().any(|change| matches!(change, Change::DeleteVhost { .. }))
}

/// Whether an entry of this data does anything that a client or an operator asked for. What brokers write by themselves,
/// about members, the safety number and what may be delivered, can be dropped with a history that holds nothing else.
fn is_client_work(data: &Bytes) -> bool {
    CommandReader::new(data).any(|located| {
        !matches!(
            located.command,
            Ok(Command::Expose { .. }
                | Command::Returned { .. }
                | Command::AddMember { .. }
                | Command::UpdateMember(_)
                | Command::RenewSafety { .. }
                | Command::Found(_))
        )
    })
}
