//! The state machine of the group `system`: the cluster's identity, its members, its virtual hosts.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::name::VhostName;
use quorate_store::ids::{ClusterId, GroupId, Index, RaftId, StoreId};
use quorate_store::state::{Family, Pair, StateBatch, StateWrite};
use uuid::Uuid;

use super::asked::Asked;
use super::checkpoint::{MACHINE, META, RestoreError, key, split_key};
use super::codec::{DecodeError, Reader, Writer};
use super::command::{Command, CommandReader, Founding, Member, Place, read_name};
use super::digest::Digest;
use super::intents::{Intents, Leaving, Wanted};
use super::limits::{MAX_ADDRESS_BYTES, MAX_MEMBERS, MAX_PLACES, MAX_VHOSTS};
use super::outcome::Outcome;
use super::safety::SafetyNumbers;
use super::vhost::Applied;
use crate::controls::AuditRecord;

const FORMAT: u8 = 5;
/// The vhost that every cluster begins with, and its group.
const FIRST_VHOST: (&str, GroupId) = ("/", GroupId(1));

/// A store that was a member and never will be again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The name it had last.
    pub name: String,
    /// Its number inside Raft, which nobody is given again.
    pub raft_id: RaftId,
}

/// All that is replicated about the cluster itself. Small: every checkpoint writes it whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemMachine {
    cluster: Option<ClusterId>,
    name: String,
    members: BTreeMap<StoreId, Member>,
    /// Stores that were members and never will be again.
    retired: BTreeMap<StoreId, Retired>,
    intents: Intents,
    places: Vec<Place>,
    /// The last Raft id given.
    last_raft_id: u64,
    vhosts: BTreeMap<VhostName, GroupId>,
    /// The last group given.
    last_group: u32,
    /// The epochs that were forced, oldest first.
    forks: Vec<Fork>,
    safety: SafetyNumbers,
}

/// An operator forced an epoch: from here on groups get numbers that nobody who was left behind can have given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fork {
    /// The last group given before.
    last_group: u32,
    /// The epoch's id.
    epoch: Uuid,
}

impl Fork {
    /// So many numbers are left out for those who were left behind: more groups than they can have given.
    const SKIPPED: u32 = 1 << 16;

    /// The last number that is left out.
    fn skipped_to(self) -> u32 {
        self.last_group.saturating_add(Self::SKIPPED).min(u32::MAX - 1)
    }
}

impl SystemMachine {
    /// Before the cluster is founded.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the data of the entry at `index`: one outcome per command, in order.
    pub fn apply(&mut self, index: Index, data: &Bytes) -> Vec<Outcome> {
        self.apply_and_note(index, data, &mut |_| {})
    }

    /// As [`Self::apply`]; what operators asked for and is so by this entry is noted for the audit.
    pub(crate) fn apply_and_note(
        &mut self,
        index: Index,
        data: &Bytes,
        note: &mut impl FnMut(AuditRecord),
    ) -> Vec<Outcome> {
        CommandReader::new(data)
            .map(|located| {
                let applied = match located.command {
                    Ok(Command::Asked(asked)) => self.apply_asked(index, *asked, note),
                    Ok(command) => self.apply_command(command),
                    Err(error) => {
                        Err((FaultCode::MalformedFrame, format!("not a command of this release: {error}")))
                    }
                };
                applied.unwrap_or_else(|(code, text)| Outcome::Failed(code, text))
            })
            .collect()
    }

    fn apply_asked(&mut self, index: Index, asked: Asked, note: &mut impl FnMut(AuditRecord)) -> Applied {
        let Asked { at_ms, author, reason, command } = asked;
        let told = self.told(&command);
        let outcome = self.apply_command(command)?;
        if let Some([what, before, after]) = told.filter(|_| outcome.has_changed()) {
            note(AuditRecord { index, at_ms, author, reason, what, before, after });
        }
        Ok(outcome)
    }

    fn apply_command(&mut self, command: Command) -> Applied {
        if let Command::Found(founding) = command {
            return self.found(founding);
        }
        if self.cluster.is_none() {
            return Err((FaultCode::Waiting, "the cluster is not founded yet".to_owned()));
        }
        match command {
            Command::AddMember { member, place } => self.add_member(member, place),
            Command::UpdateMember(member) => self.update_member(member),
            Command::RemoveMember { store } => Ok(self.remove_member(store)),
            Command::PermitMember { name, address } => self.permit_member(name, address),
            Command::ForgetMember { name } => {
                Ok(Outcome::Done { affected: self.intents.wanted.remove(&name).is_some().into() })
            }
            Command::LeaveMember { store, replaced } => self.leave_member(Leaving { store, replaced }),
            Command::DrainMember { store, drained } => self.drain_member(store, drained),
            Command::CreateVhost { name } => self.create_vhost(name),
            Command::RenewSafety { number } => {
                self.safety.renew(number);
                Ok(Outcome::Done { affected: 1 })
            }
            _ => Err((FaultCode::MalformedFrame, "a command for a virtual host's group".to_owned())),
        }
    }

    fn found(&mut self, founding: Founding) -> Applied {
        match self.cluster {
            Some(cluster) if cluster == founding.cluster => return Ok(Outcome::Done { affected: 0 }),
            Some(cluster) => {
                return Err((
                    FaultCode::DeclarationDiffers,
                    format!("the cluster {cluster} is founded already"),
                ));
            }
            None => {}
        }
        if founding.members.len() > MAX_MEMBERS || founding.places.len() > MAX_PLACES {
            return Err((FaultCode::LimitReached, format!("a cluster has at most {MAX_MEMBERS} members")));
        }
        let mut founded = Self { cluster: Some(founding.cluster), ..Self::default() };
        check_text(&founding.name)?;
        for place in &founding.places {
            check_text(&place.address)?;
        }
        for member in founding.members {
            founded.check_new(&member)?;
            if member.raft_id.0 == 0 || founded.members.values().any(|other| other.raft_id == member.raft_id)
            {
                return Err((
                    FaultCode::MalformedFrame,
                    "the founders' Raft ids are 0 or not distinct".to_owned(),
                ));
            }
            founded.last_raft_id = founded.last_raft_id.max(member.raft_id.0);
            founded.members.insert(member.store, member);
        }
        founded.name = founding.name;
        founded.places = founding.places;
        let (name, group) = FIRST_VHOST;
        founded.vhosts.insert(VhostName::new(name).expect("a slash is a name"), group);
        founded.last_group = group.0;
        *self = founded;
        Ok(Outcome::Done { affected: 1 })
    }

    /// Whether a store can become a member.
    fn check_new(&self, member: &Member) -> Result<(), (FaultCode, String)> {
        if self.is_retired(member.store) {
            let text =
                format!("store {} was removed from the cluster: start with an empty one", member.store);
            return Err((FaultCode::PeerRefused, text));
        }
        if self.members.contains_key(&member.store) {
            return Err((
                FaultCode::DeclarationDiffers,
                format!("store {} is a member already", member.store),
            ));
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err((FaultCode::LimitReached, format!("the cluster has {MAX_MEMBERS} members")));
        }
        self.check_member(member)
    }

    /// Whether what a member says about itself is acceptable.
    fn check_member(&self, member: &Member) -> Result<(), (FaultCode, String)> {
        for text in [&member.name, &member.cluster_address, &member.client_address, &member.admin_address] {
            check_text(text)?;
        }
        if self.members.get(&member.store).is_some_and(|known| known.name == member.name) {
            return Ok(());
        }
        let mut others = self.members.values().filter(|other| other.name == member.name);
        match (others.next(), others.next()) {
            (None, _) => Ok(()),
            // Beside a voter that lost its disk, perhaps: until an operator says so it has no vote.
            (Some(holder), None) if self.may_vote(holder.store) && !self.may_vote(member.store) => Ok(()),
            (Some(other), _) => {
                let text =
                    format!("the name `{}` is that of store {}: choose another", member.name, other.store);
                Err((FaultCode::DeclarationDiffers, text))
            }
        }
    }

    fn add_member(&mut self, member: Member, place: Option<u32>) -> Applied {
        if let Some(existing) = self.members.get(&member.store) {
            return Ok(Outcome::MemberAdded(existing.raft_id));
        }
        self.check_new(&member)?;
        if place.is_some() && self.named(&member.name).is_some() {
            let text = format!("the name `{}` has its place already", member.name);
            return Err((FaultCode::PeerRefused, text));
        }
        if let Some(number) = place {
            let place = usize::try_from(number).ok().and_then(|number| self.places.get_mut(number));
            let Some(place) = place else {
                return Err((FaultCode::PeerRefused, format!("there is no place number {number}")));
            };
            if place.store.is_some_and(|store| store != member.store) {
                return Err((
                    FaultCode::PeerRefused,
                    format!("place number {number} is taken by another store"),
                ));
            }
            place.store = Some(member.store);
        }
        let raft_id = RaftId(self.last_raft_id.checked_add(1).ok_or_else(no_numbers)?);
        self.last_raft_id = raft_id.0;
        self.intents.arrived(&member.name, member.store);
        self.members.insert(member.store, Member { raft_id, ..member });
        Ok(Outcome::MemberAdded(raft_id))
    }

    fn update_member(&mut self, member: Member) -> Applied {
        let Some(existing) = self.members.get(&member.store) else {
            return Err((FaultCode::PeerRefused, format!("store {} is not a member", member.store)));
        };
        if member.incarnation < existing.incarnation {
            let text = format!(
                "store {} is known with incarnation {}, this is {}: an older copy",
                member.store, existing.incarnation, member.incarnation
            );
            return Err((FaultCode::PeerRefused, text));
        }
        if member.incarnation == existing.incarnation && existing.run.is_some() && member.run != existing.run
        {
            let text = format!(
                "store {} is known with incarnation {} in another process: a copy",
                member.store, existing.incarnation
            );
            return Err((FaultCode::PeerRefused, text));
        }
        self.check_member(&member)?;
        let member = Member { raft_id: existing.raft_id, ..member };
        let changed = *existing != member;
        self.intents.arrived(&member.name, member.store);
        self.members.insert(member.store, member);
        Ok(Outcome::Done { affected: changed.into() })
    }

    fn remove_member(&mut self, store: StoreId) -> Outcome {
        let Some(member) = self.members.remove(&store) else {
            return Outcome::Done { affected: 0 };
        };
        if self.intents.leaving == Some(Leaving { store, replaced: true }) {
            if let Some(stand_in) = self.named(&member.name).map(|stand_in| stand_in.store) {
                self.intents.named.insert(stand_in);
            } else {
                let wanted = Wanted { address: String::new(), replaces: Some(store) };
                self.intents.wanted.insert(member.name.clone(), wanted);
            }
        }
        self.intents.forget(store);
        self.retired.insert(store, Retired { name: member.name, raft_id: member.raft_id });
        Outcome::Done { affected: 1 }
    }

    fn permit_member(&mut self, name: String, address: String) -> Applied {
        check_text(&name)?;
        check_text(&address)?;
        if name.is_empty() {
            return Err((FaultCode::InvalidName, "a broker's name is not empty".to_owned()));
        }
        if let Some(member) = self.named(&name) {
            let store = member.store;
            if self.is_leaving(store) {
                let text = format!("{name} is on its way out: add it again when it is gone");
                return Err((FaultCode::DeclarationDiffers, text));
            }
            let changed = !self.may_vote(store) && self.intents.named.insert(store);
            return Ok(Outcome::Done { affected: changed.into() });
        }
        if self.members.len() + self.intents.wanted.len() >= MAX_MEMBERS
            && !self.intents.wanted.contains_key(&name)
        {
            return Err((FaultCode::LimitReached, format!("the cluster has {MAX_MEMBERS} members")));
        }
        let before = self.intents.wanted.get(&name).cloned();
        let replaces = before.as_ref().and_then(|before| before.replaces);
        let wanted = Wanted { address, replaces };
        let changed = before.as_ref() != Some(&wanted);
        self.intents.wanted.insert(name, wanted);
        Ok(Outcome::Done { affected: changed.into() })
    }

    fn leave_member(&mut self, leaving: Leaving) -> Applied {
        if !self.members.contains_key(&leaving.store) {
            let text = format!("store {} is not a member", leaving.store);
            return Err((FaultCode::DeclarationDiffers, text));
        }
        match self.intents.leaving {
            Some(present) if present == leaving => Ok(Outcome::Done { affected: 0 }),
            Some(present) => {
                let who = self.member(present.store).map(|member| member.name.as_str()).unwrap_or_default();
                let text = format!("{who} is on its way out: one member after the other");
                Err((FaultCode::DeclarationDiffers, text))
            }
            None => {
                self.intents.leaving = Some(leaving);
                Ok(Outcome::Done { affected: 1 })
            }
        }
    }

    fn drain_member(&mut self, store: StoreId, drained: bool) -> Applied {
        if !self.members.contains_key(&store) {
            return Err((FaultCode::DeclarationDiffers, format!("store {store} is not a member")));
        }
        let drains = &mut self.intents.drained;
        let changed = if drained { drains.insert(store) } else { drains.remove(&store) };
        Ok(Outcome::Done { affected: changed.into() })
    }

    fn create_vhost(&mut self, name: VhostName) -> Applied {
        if let Some(&group) = self.vhosts.get(&name) {
            return Ok(Outcome::VhostCreated { group, created: false });
        }
        if self.vhosts.len() >= MAX_VHOSTS {
            return Err((FaultCode::LimitReached, format!("the cluster has {MAX_VHOSTS} virtual hosts")));
        }
        // The last number is left out: keys of a group end where those of the next begin.
        let next = self.last_group.checked_add(1).filter(|&group| group < u32::MAX).ok_or_else(no_numbers)?;
        self.last_group = next;
        self.vhosts.insert(name, GroupId(next));
        Ok(Outcome::VhostCreated { group: GroupId(next), created: true })
    }

    /// Deletes a virtual host by its group, whose number nothing else is ever given; false if there is none.
    pub fn delete_vhost(&mut self, group: GroupId) -> bool {
        let before = self.vhosts.len();
        self.vhosts.retain(|_, known| *known != group);
        self.vhosts.len() != before
    }

    /// Whether this group was a virtual host's that was deleted.
    pub fn is_deleted(&self, group: GroupId) -> bool {
        self.was_given(group) && !self.vhosts.values().any(|known| *known == group)
    }

    /// An operator forces an epoch. The numbers of groups that others may have given since the log was forked, and that
    /// count for nothing, are never given here: to this history those groups are deleted.
    pub fn begin_epoch(&mut self, epoch: Uuid) {
        let fork = Fork { last_group: self.last_group, epoch };
        self.last_group = fork.skipped_to();
        self.forks.push(fork);
    }

    /// The forced epoch in which the group was given; none before the first one.
    pub fn epoch_of(&self, group: GroupId) -> Option<Uuid> {
        let forks = self.forks.iter().rev();
        forks.into_iter().find(|fork| fork.last_group < group.0).map(|fork| fork.epoch)
    }

    /// Whether this group is none of this history: only those whom an operator left behind can have made it.
    pub fn is_left_behind(&self, group: GroupId) -> bool {
        self.forks.iter().any(|fork| group.0 > fork.last_group && group.0 <= fork.skipped_to())
    }

    fn was_given(&self, group: GroupId) -> bool {
        self.cluster.is_some() && group.0 != 0 && group.0 <= self.last_group
    }

    /// The groups of all virtual hosts that were deleted, as ranges of numbers, ascending: one more at most than there
    /// are virtual hosts.
    pub fn deleted_groups(&self) -> Vec<(GroupId, GroupId)> {
        let mut live: Vec<u32> = self.vhosts.values().map(|group| group.0).collect();
        live.sort_unstable();
        let mut deleted = Vec::new();
        let mut first = 1;
        for group in live.into_iter().chain(self.last_group.checked_add(1)) {
            if first < group {
                deleted.push((GroupId(first), GroupId(group - 1)));
            }
            first = group + 1;
        }
        deleted
    }

    /// The cluster's id; none before it is founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All members by store id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// A member by its store.
    pub fn member(&self, store: StoreId) -> Option<&Member> {
        self.members.get(&store)
    }

    /// The member of this name: of two, the one that may vote. The other one stands in for it.
    pub fn named(&self, name: &str) -> Option<&Member> {
        let of_name = self.members.values().filter(|member| member.name == name);
        of_name.max_by_key(|member| (self.may_vote(member.store), std::cmp::Reverse(member.raft_id)))
    }

    /// The empty store that came under this member's name while the member itself was gone, perhaps with its disk. It is
    /// filled, and has no vote until an operator replaces the member with it.
    pub fn stand_in(&self, member: &Member) -> Option<&Member> {
        let other = |other: &&Member| other.name == member.name && other.store != member.store;
        self.members.values().find(other).filter(|other| !self.may_vote(other.store))
    }

    /// A member by its Raft id.
    pub fn member_numbered(&self, raft_id: RaftId) -> Option<&Member> {
        self.members.values().find(|member| member.raft_id == raft_id)
    }

    /// The cluster's safety number, and those before it.
    pub fn safety(&self) -> &SafetyNumbers {
        &self.safety
    }

    /// The founding rule's union: who may become a voter without an operator.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether this store was a member once and never will be again.
    pub fn is_retired(&self, store: StoreId) -> bool {
        self.retired.contains_key(&store)
    }

    /// Stores that were members, with their last names.
    pub fn retired(&self) -> impl ExactSizeIterator<Item = (StoreId, &Retired)> {
        self.retired.iter().map(|(store, retired)| (*store, retired))
    }

    /// What operators want of the membership.
    pub fn intents(&self) -> &Intents {
        &self.intents
    }

    /// Whether this member may become a voter: it has a place of the founding rule's union, or an operator named it.
    pub fn may_vote(&self, store: StoreId) -> bool {
        self.intents.named.contains(&store) || self.places.iter().any(|place| place.store == Some(store))
    }

    fn is_leaving(&self, store: StoreId) -> bool {
        self.intents.leaving.is_some_and(|leaving| leaving.store == store)
    }

    /// The Raft id of the member that is on its way out.
    pub fn leaving_id(&self) -> Option<RaftId> {
        self.member(self.intents.leaving?.store).map(|member| member.raft_id)
    }

    /// All virtual hosts by name, with their groups.
    pub fn vhosts(&self) -> impl ExactSizeIterator<Item = (&VhostName, GroupId)> {
        self.vhosts.iter().map(|(name, &group)| (name, group))
    }

    /// The name of the virtual host of this group; empty if there is none.
    pub fn vhost_name(&self, group: GroupId) -> String {
        self.vhosts().find(|(_, other)| *other == group).map(|(name, _)| name.to_string()).unwrap_or_default()
    }

    /// The group of a virtual host.
    pub fn vhost_group(&self, name: &str) -> Option<GroupId> {
        self.vhosts.get(name).copied()
    }

    /// A fingerprint of everything replicated.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        digest.bytes(&self.encode());
        digest.finish()
    }

    /// The whole state, with `meta`, the replica's own record.
    pub fn checkpoint(&mut self, group: GroupId, meta: Bytes) -> StateBatch {
        let put = |kind, value| StateWrite::Put(Family::State, key(group, kind, &[]), value);
        StateBatch { writes: vec![put(META, meta), put(MACHINE, self.encode())] }
    }

    /// The replica's record and the machine as the last checkpoint left them.
    pub fn restore(
        group: GroupId,
        pairs: impl IntoIterator<Item = Pair>,
    ) -> Result<(Bytes, Self), RestoreError> {
        let (mut meta, mut machine) = (None, None);
        for (key, value) in pairs {
            match split_key(group, &key)? {
                (META, []) => meta = Some(value),
                (MACHINE, []) => {
                    let record = |cause| RestoreError::Record { group, kind: MACHINE, cause };
                    machine = Some(Self::decode(value).map_err(record)?);
                }
                _ => return Err(RestoreError::Key { group, key: key.to_vec() }),
            }
        }
        let meta = meta.ok_or(RestoreError::Missing { group, kind: META })?;
        Ok((meta, machine.ok_or(RestoreError::Missing { group, kind: MACHINE })?))
    }

    fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(FORMAT);
        out.bool(self.cluster.is_some());
        if let Some(cluster) = self.cluster {
            out.uuid(cluster.0);
        }
        out.string(&self.name);
        out.count(self.members.len());
        self.members.values().for_each(|member| member.write(&mut out));
        out.count(self.retired.len());
        for (store, retired) in &self.retired {
            out.uuid(store.0);
            out.string(&retired.name);
            out.u64(retired.raft_id.0);
        }
        self.intents.write(&mut out);
        out.count(self.places.len());
        self.places.iter().for_each(|place| place.write(&mut out));
        out.u64(self.last_raft_id);
        out.count(self.vhosts.len());
        for (name, group) in &self.vhosts {
            out.string(name.as_str());
            out.u32(group.0);
        }
        out.u32(self.last_group);
        out.count(self.forks.len());
        for fork in &self.forks {
            out.u32(fork.last_group);
            out.uuid(fork.epoch);
        }
        self.safety.write(&mut out);
        out.into_bytes()
    }

    fn decode(record: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(record);
        if reader.u8()? != FORMAT {
            return Err(DecodeError::Value("system format"));
        }
        let mut machine = Self::default();
        if reader.bool("cluster present")? {
            machine.cluster = Some(ClusterId(reader.uuid()?));
        }
        machine.name = reader.string()?;
        for _ in 0..reader.count(41)? {
            let member = Member::read(&mut reader)?;
            if member.raft_id.0 == 0 || machine.members.insert(member.store, member).is_some() {
                return Err(DecodeError::Value("members"));
            }
        }
        for _ in 0..reader.count(26)? {
            let store = StoreId(reader.uuid()?);
            let retired = Retired { name: reader.string()?, raft_id: RaftId(reader.u64()?) };
            machine.retired.insert(store, retired);
        }
        machine.intents = Intents::read(&mut reader)?;
        for _ in 0..reader.count(3)? {
            machine.places.push(Place::read(&mut reader)?);
        }
        machine.last_raft_id = reader.u64()?;
        for _ in 0..reader.count(7)? {
            let name = read_name(&mut reader, VhostName::new)?;
            machine.vhosts.insert(name, GroupId(reader.u32()?));
        }
        machine.last_group = reader.u32()?;
        for _ in 0..reader.count(20)? {
            machine.forks.push(Fork { last_group: reader.u32()?, epoch: reader.uuid()? });
        }
        machine.safety = SafetyNumbers::read(&mut reader)?;
        reader.finish()?;
        if machine.members.values().any(|member| member.raft_id.0 > machine.last_raft_id) {
            return Err(DecodeError::Value("last Raft id"));
        }
        if machine.vhosts.values().any(|group| group.0 == 0 || group.0 > machine.last_group) {
            return Err(DecodeError::Value("last group"));
        }
        let last = machine.forks.iter().map(|fork| fork.last_group).chain([machine.last_group]);
        if !last.is_sorted_by(|one, next| one <= next) {
            return Err(DecodeError::Value("forks"));
        }
        Ok(machine)
    }
}

fn check_text(text: &str) -> Result<(), (FaultCode, String)> {
    if text.len() > MAX_ADDRESS_BYTES || text.chars().any(char::is_control) {
        let text =
            format!("a name or address is longer than {MAX_ADDRESS_BYTES} bytes or has control characters");
        return Err((FaultCode::InvalidName, text));
    }
    Ok(())
}

fn no_numbers() -> (FaultCode, String) {
    (FaultCode::LimitReached, "all numbers are used up".to_owned())
}
