//! Statuses to test with: three voters `a`, `b`, `c` of one cluster, and what may have become of them.

use quorate_store::ids::{
    ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term,
};
use quorate_store::stamp::{EpochCause, EpochEntry, Known, LeftOut};
use uuid::Uuid;

use crate::io::PeerKey;
use crate::machine::SafetyNumbers;

use super::facts::Facts;
use super::status::{Active, GroupStatus, InitialStatus, PeerRef, RecoveryMode, StoreState, VoterRef};

pub(crate) const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(0xC1));
pub(crate) const OTHER_CLUSTER: ClusterId = ClusterId(Uuid::from_u128(0xC2));
/// A group beside `system`.
pub(crate) const ORDERS: GroupId = GroupId(1);
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

pub(crate) fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

pub(crate) fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

pub(crate) fn name(number: u128) -> String {
    let at = usize::try_from(number).unwrap() - 1;
    NAMES[at].to_owned()
}

pub(crate) fn address(number: u128) -> String {
    format!("{}:7421", name(number))
}

pub(crate) fn position(term: u64, index: u64) -> Position {
    Position { epoch: Epoch(1), term: Term(term), index: Index(index) }
}

/// A lineage of epochs with these ids; every one after the first was forced by an override that left nobody out.
pub(crate) fn epochs(ids: &[u128]) -> Vec<EpochEntry> {
    (1..)
        .zip(ids)
        .map(|(number, id)| EpochEntry {
            number: Epoch(number),
            id: Uuid::from_u128(*id),
            fork: if number == 1 { Position::default() } else { position(2, 20) },
            term: Term(u64::from(number)),
            cause: if number == 1 {
                EpochCause::Founding
            } else {
                EpochCause::Override { sole: RaftId(1), lease_ms: 60_000 }
            },
            left_out: Vec::new(),
            who: "test".into(),
            when_ms: 0,
            why: "test".into(),
        })
        .collect()
}

pub(crate) fn voters(numbers: &[u128]) -> Vec<VoterRef> {
    numbers
        .iter()
        .map(|number| VoterRef {
            store: store(*number),
            name: name(*number),
            raft_id: RaftId(u64::try_from(*number).unwrap()),
        })
        .collect()
}

/// An empty broker with this number, `--cluster-wait-for 3`, that lists `a`, `b` and `c` and reached none of them.
pub(crate) fn empty(number: u128) -> InitialStatus {
    InitialStatus {
        key: PeerKey { store: store(number), run: run(number) },
        name: name(number),
        cluster_name: "quorate".into(),
        cluster_address: address(number),
        client_address: format!("{}:7420", name(number)),
        admin_address: format!("{}:7422", name(number)),
        state: StoreState::Empty,
        cluster_id: None,
        cluster_id_wanted: None,
        founded_ms: None,
        messages: None,
        incarnation: Incarnation(0),
        stamped_run: None,
        recorded: Vec::new(),
        groups: Vec::new(),
        wait_for: 3,
        allow_small: false,
        recovery: RecoveryMode::Automatic,
        peers: [1, 2, 3]
            .into_iter()
            .map(|peer| PeerRef { text: address(peer), resolved: (peer == number).then(|| store(number)) })
            .collect(),
        possible_members: Vec::new(),
        panicked: None,
        safety: SafetyNumbers::default(),
        deleted: Vec::new(),
        rivalled: Vec::new(),
    }
}

pub(crate) fn group(group: GroupId, vhost: &str) -> GroupStatus {
    GroupStatus {
        group,
        vhost: vhost.into(),
        lineage: epochs(&[1]),
        client_epochs: vec![Epoch(1)],
        position: position(2, 20),
        term: Term(2),
        voters: voters(&[1, 2, 3]),
        learners: Vec::new(),
        trusted: true,
        active: None,
        was_active_this_run: false,
        designated: None,
        peer_silent: false,
    }
}

/// A dirty, trusted store of [`CLUSTER`] with the voters `a`, `b`, `c`.
pub(crate) fn dirty(number: u128) -> InitialStatus {
    InitialStatus {
        state: StoreState::Dirty,
        cluster_id: Some(CLUSTER),
        incarnation: Incarnation(1),
        stamped_run: Some(run(1000 + number)),
        groups: vec![group(GroupId::SYSTEM, "system")],
        ..empty(number)
    }
}

/// As [`dirty`], closed by this shutdown.
pub(crate) fn clean(number: u128, shutdown: u128) -> InitialStatus {
    InitialStatus { state: StoreState::Clean { shutdown: Uuid::from_u128(shutdown) }, ..dirty(number) }
}

/// As [`dirty`], after losing what it may have acknowledged.
pub(crate) fn untrusted(number: u128) -> InitialStatus {
    let mut status = dirty(number);
    for group in &mut status.groups {
        group.trusted = false;
    }
    status
}

/// As [`dirty`], in a process that was active.
pub(crate) fn ran(number: u128) -> InitialStatus {
    let mut status = dirty(number);
    status.stamped_run = Some(status.key.run);
    for group in &mut status.groups {
        group.was_active_this_run = true;
    }
    status
}

/// As [`ran`], led now by itself.
pub(crate) fn active(number: u128) -> InitialStatus {
    let mut status = ran(number);
    for group in &mut status.groups {
        group.active = Some(Active { leader: store(number), term: Term(3) });
    }
    status
}

pub(crate) fn damaged(number: u128) -> InitialStatus {
    let reason = "stamp: both slots fail their checks".to_owned();
    InitialStatus { state: StoreState::Damaged { reason }, ..empty(number) }
}

/// A transient broker that was in no cluster in this run.
pub(crate) fn transient(number: u128) -> InitialStatus {
    InitialStatus { state: StoreState::Transient { was_active: false }, ..empty(number) }
}

/// A transient broker that was active.
pub(crate) fn survivor(number: u128) -> InitialStatus {
    InitialStatus { state: StoreState::Transient { was_active: true }, ..ran(number) }
}

/// The same broker with a store of the other cluster.
pub(crate) fn foreign(mut status: InitialStatus) -> InitialStatus {
    let other = |id: &mut StoreId| id.0 = Uuid::from_u128(id.0.as_u128() + 100);
    status.cluster_id = Some(OTHER_CLUSTER);
    other(&mut status.key.store);
    for group in &mut status.groups {
        group.voters.iter_mut().for_each(|voter| other(&mut voter.store));
        group.active.iter_mut().for_each(|active| other(&mut active.leader));
    }
    status
}

/// The same broker with `--recovery manual`.
pub(crate) fn manual(mut status: InitialStatus) -> InitialStatus {
    status.recovery = RecoveryMode::Manual;
    status
}

/// What a mark records of a store as it stands now.
pub(crate) fn left_out(status: &InitialStatus) -> LeftOut {
    let part = &status.groups[0];
    let known = Known {
        incarnation: status.incarnation,
        position: part.position,
        tip: part.lineage.last().unwrap().id,
    };
    LeftOut { known: Some(known), ..unknown(status) }
}

/// What a mark records of a store that was not shown to it.
pub(crate) fn unknown(status: &InitialStatus) -> LeftOut {
    let voter = status.groups[0].voters.iter().any(|voter| voter.store == status.key.store);
    LeftOut { store: status.key.store, name: status.name.clone(), voter, named: false, known: None }
}

/// The same lineage with one epoch more, forced by `cause`.
pub(crate) fn forced(
    mut status: InitialStatus,
    id: u128,
    cause: EpochCause,
    left_out: &[LeftOut],
) -> InitialStatus {
    for group in &mut status.groups {
        let number = Epoch(group.lineage.last().unwrap().number.0 + 1);
        group.lineage.push(EpochEntry {
            number,
            id: Uuid::from_u128(id),
            fork: group.position,
            term: Term(group.term.0 + 1),
            cause,
            left_out: left_out.to_vec(),
            who: "ann".into(),
            when_ms: 0,
            why: "fire".into(),
        });
    }
    status
}

/// The store after `quorate store mark-clean`, not started yet.
pub(crate) fn marked(status: InitialStatus, id: u128, alone: bool, left_out: &[LeftOut]) -> InitialStatus {
    let recovery = Uuid::from_u128(id);
    let sole = status.groups[0].voters.iter().find(|voter| voter.store == status.key.store);
    let cause =
        EpochCause::Mark { recovery, alone, members: 3, sole: sole.map_or(RaftId(1), |voter| voter.raft_id) };
    let mut status = forced(status, id, cause, left_out);
    status.state = StoreState::Recovered { recovery };
    for group in &mut status.groups {
        group.trusted = true;
    }
    status
}

/// A marked store that went on alone and ended without being closed.
pub(crate) fn begun(mut status: InitialStatus) -> InitialStatus {
    status.state = StoreState::Dirty;
    status.incarnation.0 += 1;
    let own = status.key.store;
    for group in &mut status.groups {
        let last = group.lineage.last().unwrap();
        group.position =
            Position { epoch: last.number, term: last.term, index: Index(group.position.index.0 + 1) };
        group.voters.retain(|voter| voter.store == own);
    }
    status
}

/// Facts in which everyone reached everyone who is here.
pub(crate) fn facts(own: InitialStatus, seen: impl IntoIterator<Item = InitialStatus>) -> Facts {
    let mut own = own;
    let mut seen: Vec<InitialStatus> = seen.into_iter().collect();
    let here: Vec<(String, StoreId)> =
        seen.iter().chain([&own]).map(|status| (status.cluster_address.clone(), status.key.store)).collect();
    for status in seen.iter_mut().chain([&mut own]) {
        for peer in &mut status.peers {
            peer.resolved = here.iter().find(|(text, _)| *text == peer.text).map(|(_, store)| *store);
        }
    }
    Facts { own, seen }
}
