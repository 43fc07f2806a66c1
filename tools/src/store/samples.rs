//! Statuses for tests: three brokers, one virtual host.

use quorate_core::formation::InitialStatus;
use quorate_core::formation::status::{GroupStatus, RecoveryMode, StoreState, VoterRef};
use quorate_core::io::PeerKey;
use quorate_core::machine::SafetyNumbers;
use quorate_store::ids::{
    ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term,
};
use quorate_store::stamp::{EpochCause, EpochEntry};
use uuid::Uuid;

use super::facts::{Facts, GroupFacts};
use super::subject::Subject;

pub(crate) const CLUSTER: u128 = 500;

pub(crate) fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

pub(crate) fn group(number: u32, epochs: &[u128], index: u64) -> GroupStatus {
    let voters = (1..=3).map(|id| VoterRef {
        store: store(id),
        name: format!("b{id}"),
        raft_id: RaftId(u64::try_from(id).unwrap()),
    });
    let lineage = (1..)
        .zip(epochs)
        .map(|(number, id)| EpochEntry {
            number: Epoch(number),
            id: Uuid::from_u128(*id),
            fork: Position::default(),
            term: Term(1),
            cause: EpochCause::Founding,
            left_out: Vec::new(),
            who: String::new(),
            when_ms: 0,
            why: String::new(),
        })
        .collect();
    let epoch = Epoch(u32::try_from(epochs.len()).unwrap());
    GroupStatus {
        group: GroupId(number),
        vhost: if number == 0 { "system".into() } else { "/".into() },
        lineage,
        position: Position { epoch, term: Term(2), index: Index(index) },
        term: Term(2),
        voters: voters.collect(),
        learners: Vec::new(),
        trusted: true,
        active: None,
        was_active_this_run: false,
        client_epochs: Vec::new(),
        designated: None,
        peer_silent: false,
    }
}

/// The store of broker `number` of three, with its log of `/` ending here.
pub(crate) fn subject(number: u128, index: u64) -> Subject {
    let name = format!("b{number}");
    let mut facts = Facts::nothing(std::path::Path::new(&name), String::new());
    facts.unread = None;
    facts.state = "dirty".into();
    facts.broker_name = Some(name.clone());
    facts.incarnation = Some(1);
    facts.groups = vec![GroupFacts {
        group: 1,
        vhost: "/".into(),
        commit: Some(index),
        digest: Some(format!("{index}")),
        ..GroupFacts::default()
    }];
    let status = InitialStatus {
        key: PeerKey { store: store(number), run: RunId(Uuid::from_u128(900 + number)) },
        name: name.clone(),
        cluster_name: "test".into(),
        cluster_address: name.clone(),
        client_address: String::new(),
        admin_address: String::new(),
        state: StoreState::Dirty,
        cluster_id: Some(ClusterId(Uuid::from_u128(CLUSTER))),
        cluster_id_wanted: None,
        founded_ms: None,
        messages: None,
        incarnation: Incarnation(1),
        stamped_run: None,
        recorded: Vec::new(),
        groups: vec![group(0, &[10], 5), group(1, &[11], index)],
        wait_for: 3,
        allow_small: false,
        recovery: RecoveryMode::Automatic,
        peers: Vec::new(),
        possible_members: Vec::new(),
        panicked: None,
        safety: SafetyNumbers::default(),
        deleted: Vec::new(),
        rivalled: Vec::new(),
    };
    Subject {
        path: format!("/{name}"),
        directory: Some(format!("/{name}").into()),
        facts,
        status: Some(status),
    }
}

pub(crate) fn status(subject: &mut Subject) -> &mut InitialStatus {
    subject.status.as_mut().unwrap()
}
