//! Groups that begin, and the stamp's picture of them.

use bytes::Bytes;
use quorate_store::ids::{GroupId, Incarnation, Index, Position, StoreId, Term};
use quorate_store::log::SyncedPoint;
use quorate_store::stamp::{GroupStamp, RecoveryMode, Stamp, StampMember, StampState};

use uuid::Uuid;

use super::Node;
use super::config::{FIRST_VHOST, SYSTEM_NAME};
use super::configuration::Configuration;
use super::group::{Group, Machine};
use super::lineage::Lineage;
use super::startup::Beginning;
use crate::controls::Controls;
use crate::formation::{Facts, Founder, FoundingValue};
use crate::io::PeerKey;
use crate::machine::{Command, Founding, Member, Place, SystemMachine};
use crate::peer::Admission;
use crate::replica::Replica;

/// A founder as the stamp remembers it.
pub(crate) fn stamp_member(founder: &Founder) -> StampMember {
    StampMember {
        store_id: founder.store,
        raft_id: founder.raft_id,
        name: founder.name.clone(),
        cluster_address: founder.cluster_address.clone(),
        client_address: founder.client_address.clone(),
        admin_address: founder.admin_address.clone(),
        voter: true,
        incarnation: Incarnation(0),
    }
}

/// The first command of `system`: the same on every founder.
fn found_command(value: &FoundingValue) -> Command {
    let members = value
        .founders
        .iter()
        .map(|founder| Member {
            store: founder.store,
            raft_id: founder.raft_id,
            name: founder.name.clone(),
            cluster_address: founder.cluster_address.clone(),
            client_address: founder.client_address.clone(),
            admin_address: founder.admin_address.clone(),
            incarnation: Incarnation(0),
            run: None,
        })
        .collect();
    let places = value.union.iter().map(place_of).collect();
    Command::Found(Founding { cluster: value.cluster_id, name: value.cluster_name.clone(), members, places })
}

/// A place is taken by the store that answered there; the others wait for whoever comes from there.
fn place_of(place: &crate::formation::Place) -> Place {
    match place {
        crate::formation::Place::Store(store) => Place { address: String::new(), store: Some(*store) },
        crate::formation::Place::Address(address) => Place { address: address.clone(), store: None },
    }
}

impl Node {
    /// `system` and the first virtual host, as every founder begins them. A founder whose process ended in the middle
    /// begins them again: it has acknowledged nothing.
    pub(super) fn make_founded_groups(&mut self, value: &FoundingValue) {
        let voters = value.founders.iter().map(|founder| founder.raft_id.0).collect();
        let configuration = Configuration::of(voters, std::collections::BTreeSet::new());
        for founder in &value.founders {
            self.peers.route(founder.raft_id, founder.store);
            if founder.store != self.own.store {
                self.dial(&founder.cluster_address);
            }
        }
        for (id, name) in [(GroupId::SYSTEM, SYSTEM_NAME), FIRST_VHOST] {
            // What was given up to be filled again is not made from nothing: that would vote.
            if self.groups.contains_key(id) || self.refilling.contains(&id) || self.is_deleted(id) {
                continue;
            }
            // Without `system` nobody here knows whether the virtual host still is one.
            if id != GroupId::SYSTEM && self.refilling.contains(&GroupId::SYSTEM) {
                continue;
            }
            let lineage = Lineage::founded(value.cluster_id, id);
            let space = self.new_space();
            let mut group = Box::new(Group::new(id, name.to_owned(), lineage, space));
            group.configuration = configuration.clone();
            if let Machine::System(machine) = &mut group.machine {
                let mut data = Vec::new();
                found_command(value).encode(&mut data);
                machine.apply(Index(1), &Bytes::from(data));
            }
            self.make_group(group);
        }
    }

    /// Groups of virtual hosts that `system` knows and this broker has nothing of.
    pub(super) fn make_missing_vhosts(&mut self) {
        let Some(system) = self.system() else { return };
        let known = system.vhosts().map(|(name, group)| (group, name.to_string()));
        let (here, missing): (Vec<_>, Vec<_>) = known
            // What is being filled again comes with an admission.
            .filter(|(group, _)| !self.refilling.contains(group))
            .partition(|(group, _)| self.groups.contains_key(*group));
        for (id, name) in here {
            self.name_group(id, name);
        }
        let facts = self.facts();
        for (id, name) in missing {
            let known = facts.reference(id).and_then(|reference| Lineage::from_stamp(&reference.lineage));
            let lineage = known.unwrap_or_else(|| self.first_lineage(id));
            self.make_bare_group(id, name, lineage);
        }
    }

    /// How the lineage of a virtual host's group begins, by what is known of `system`.
    pub(super) fn first_lineage(&self, id: GroupId) -> Lineage {
        let known = self.system().and_then(|system| first_epoch(system, id));
        Lineage::begun_in(known.unwrap_or(self.cluster().0), id)
    }

    /// Groups that were given up to be filled again, and that are led elsewhere: known here from `system`, whoever leads
    /// that one. The leader of `system` admits others to such groups, never itself.
    pub(super) fn make_given_up(&mut self, facts: &Facts) {
        let Some(system) = self.system() else { return };
        let given_up: Vec<(GroupId, String, Lineage)> = system
            .vhosts()
            .filter(|(_, id)| self.refilling.contains(id) && !self.rejoining.contains(id))
            .filter(|(_, id)| !self.groups.contains_key(*id))
            .filter_map(|(name, id)| {
                let led = facts.reference(id).filter(|led| led.active.is_some())?;
                Some((id, name.to_string(), Lineage::from_stamp(&led.lineage)?))
            })
            .collect();
        for (id, name, lineage) in given_up {
            self.make_bare_group(id, name, lineage);
        }
    }

    /// `system` says whose group this is: a start that finds the group's log may not have known, if `system` was known up to
    /// before its creation then.
    fn name_group(&mut self, id: GroupId, name: String) {
        if let Some(group) = self.groups.get_mut(id).filter(|group| group.vhost != name) {
            group.vhost = name;
            self.stamp_changed = true;
            self.facts_changed = true;
        }
    }

    /// A virtual host was created through `system`'s log.
    pub(super) fn vhost_created(&mut self, id: GroupId, new: NewVhost) {
        // What a start found created and deleted in `system`'s log is not made again.
        if self.refilling.contains(&id) || self.is_deleted(id) {
            return;
        }
        let NewVhost { name, configuration, controls, lineage } = new;
        if self.groups.contains_key(id) {
            self.name_group(id, name);
            return;
        }
        if self.raft_id.is_none_or(|own| !configuration.contains(own.0)) {
            self.make_bare_group(id, name, lineage);
            return;
        }
        let space = self.new_space();
        let mut group = Box::new(Group::new(id, name, lineage, space));
        group.configuration = configuration;
        group.controls = controls;
        self.make_group(group);
    }

    /// The cluster made this broker a member.
    pub(super) fn admitted(&mut self, from: PeerKey, admission: Admission) {
        let by_member =
            self.peers.get(from.store).and_then(|peer| peer.status.as_ref()).is_some_and(|status| {
                status.cluster_id == Some(admission.cluster_id) && status.is_active(GroupId::SYSTEM)
            });
        if !by_member || admission.cluster_name != self.config.cluster_name {
            return;
        }
        match (&self.phase, self.cluster_id) {
            (super::Phase::Deciding, None) if self.damage.is_none() => {
                self.begin(Beginning::Admitted(Box::new(admission)));
            }
            (super::Phase::Running, Some(cluster)) if cluster == admission.cluster_id => {
                self.take_admission(admission);
            }
            _ => {}
        }
    }

    /// Follows in every group named; the leaders bring the content.
    pub(super) fn take_admission(&mut self, admission: Admission) {
        if self.raft_id.is_some_and(|own| own != admission.raft_id) && !self.groups.is_empty() {
            return;
        }
        self.raft_id = Some(admission.raft_id);
        for (store, raft_id, _, address) in &admission.members {
            self.peers.route(*raft_id, *store);
            if *store != self.own.store {
                self.dial(address);
            }
        }
        let first = !self.groups.contains_key(GroupId::SYSTEM) && !self.refilling.contains(&GroupId::SYSTEM);
        if first {
            self.distrust_earlier_votes(&admission);
        }
        for (id, vhost, lineage) in admission.groups {
            // Others come through the log of `system`.
            let wanted = first || (self.refilling.contains(&id) && !self.rejoining.contains(&id));
            if let Some(lineage) = Lineage::from_stamp(&lineage).filter(|_| wanted) {
                self.make_bare_group(id, vhost, lineage);
            }
        }
    }

    /// A voter with an empty store has forgotten what it acknowledged and for whom it voted: it is an older copy, from before
    /// it belonged to the cluster. It counts again once it is filled, whether or not anybody is here who remembers.
    fn distrust_earlier_votes(&mut self, admission: &Admission) {
        let facts = self.facts();
        let own = self.own.store;
        let votes = |id: GroupId| {
            facts.reference(id).is_some_and(|known| known.voters.iter().any(|voter| voter.store == own))
        };
        let all = votes(GroupId::SYSTEM);
        let forgotten: Vec<GroupId> =
            admission.groups.iter().map(|(id, ..)| *id).filter(|id| all || votes(*id)).collect();
        self.stamp_changed |= !forgotten.is_empty();
        self.refilling.extend(forgotten);
    }

    pub(super) fn blank_stamp(&self) -> Stamp {
        let forming = self.stamp.as_ref().and_then(|stamp| stamp.forming.clone());
        Stamp {
            sequence: 0,
            store_id: self.own.store,
            cluster_id: None,
            cluster_name: self.config.cluster_name.clone(),
            broker_name: self.config.name.clone(),
            incarnation: self.incarnation,
            run_id: self.own.run,
            state: StampState::Empty,
            forming,
            groups: Vec::new(),
            members: Vec::new(),
            members_position: Position::default(),
            possible_members: Vec::new(),
            witnessed: Vec::new(),
            refilling: Vec::new(),
            wait_for: self.config.wait_for,
            recovery: RecoveryMode::Automatic,
            boot_id: String::new(),
            safety_number: 0,
            wall_clock_ms: 0,
            log_synced: SyncedPoint::default(),
        }
    }

    /// Groups, positions and members as they are now.
    pub(super) fn fill_stamp(&self, stamp: &mut Stamp) {
        stamp.witnessed = self.life.witnessed().cloned().collect();
        stamp.refilling = self.refilling.iter().copied().collect();
        if !self.groups.is_empty() {
            let part = |group: &Group| group_stamp(group, self.is_strict(group));
            stamp.groups = self.groups.values().map(part).collect();
        }
        let Some(system) = self.groups.get(GroupId::SYSTEM) else { return };
        let Some(machine) = system.machine.system() else { return };
        if machine.cluster().is_none() {
            return;
        }
        stamp.members = machine
            .members()
            .map(|member| StampMember {
                store_id: member.store,
                raft_id: member.raft_id,
                name: member.name.clone(),
                cluster_address: member.cluster_address.clone(),
                client_address: member.client_address.clone(),
                admin_address: member.admin_address.clone(),
                voter: system.configuration.voters.contains(&member.raft_id.0),
                incarnation: member.incarnation,
            })
            .collect();
        stamp.members_position =
            Position { epoch: system.lineage.tag().epoch, term: system.applied_term, index: system.applied };
        stamp.possible_members =
            machine.places().iter().filter_map(|place| place.store).collect::<Vec<StoreId>>();
    }
}

fn group_stamp(group: &Group, strict: bool) -> GroupStamp {
    let epoch = group.lineage.tag().epoch;
    let applied = Position { epoch, term: group.applied_term, index: group.applied };
    let (position, synced) = match (&group.replica, group.marked_at) {
        // A mark is believed only where the log ends as the stamp says.
        (_, Some(end)) => (end, end),
        (Some(replica), None) => {
            let last = Position { epoch, term: replica.last_term(), index: replica.last() };
            (last, if replica.synced() == replica.last() { last } else { synced_of(group, replica) })
        }
        (None, None) => (applied, applied),
    };
    let (policy, weakest) = group.durability_to_say(strict);
    GroupStamp {
        group: group.id,
        vhost: group.vhost.clone(),
        lineage: group.lineage.entries().to_vec(),
        position,
        synced,
        policy,
        weakest,
    }
}

/// How the group of a virtual host begins, by `system` as it is at the entry that creates it: the same on every member.
#[derive(Debug)]
pub(crate) struct NewVhost {
    name: String,
    configuration: Configuration,
    controls: Controls,
    lineage: Lineage,
}

impl Group {
    /// `system`: how this virtual host's group begins now; none before the cluster is founded.
    pub(crate) fn new_vhost(&self, id: GroupId) -> Option<NewVhost> {
        let system = self.machine.system()?;
        Some(NewVhost {
            name: system.vhost_name(id),
            configuration: self.configuration.for_new_group(system.leaving_id()),
            controls: self.controls.for_new_group(),
            lineage: Lineage::begun_in(first_epoch(system, id)?, id),
        })
    }
}

/// The epoch of `system` in which the group was given.
fn first_epoch(system: &SystemMachine, id: GroupId) -> Option<Uuid> {
    system.epoch_of(id).or(system.cluster().map(|cluster| cluster.0))
}

/// Where what is durable ends if the log goes on behind it. Of an index before a log that is just beginning anew no term is
/// known: the state that came in its place is durable.
fn synced_of(group: &Group, replica: &Replica) -> Position {
    let (index, epoch) = (replica.synced(), group.lineage.tag().epoch);
    match replica.term_at(index) {
        Some(term) => Position { epoch, term, index },
        None if replica.begins_after(index) => {
            Position { epoch, term: group.applied_term, index: group.applied }
        }
        None => Position { epoch, term: Term(0), index },
    }
}
