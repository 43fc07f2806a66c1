//! The plain model as the statuses that brokers exchange.

use std::sync::LazyLock;

use quorate_core::formation::status::{
    Active, GroupStatus, InitialStatus, PeerRef, RecordedRun, RecoveryMode, StoreState, VoterRef,
};
use quorate_core::formation::{Ballot, Facts, FormingState, Founder, FoundingValue, Place};
use quorate_core::io::PeerKey;
use quorate_core::machine::SafetyNumbers;
use quorate_store::ids::{
    ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term,
};
use quorate_store::stamp::{EpochCause, EpochEntry, LeftOut};
use uuid::Uuid;

use crate::model::{Cause, FORK_RANK, Known, Line, Member, Origin, PLACES, Set, State, World};

const LETTERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn name(place: u8) -> String {
    LETTERS[usize::from(place)].to_owned()
}

fn address(place: u8) -> String {
    format!("{}:7421", name(place))
}

pub(crate) fn store(number: u8) -> StoreId {
    StoreId(Uuid::from_u128(0x50 + u128::from(number)))
}

pub(crate) fn cluster(number: u8) -> ClusterId {
    ClusterId(Uuid::from_u128(0xC0 + u128::from(number)))
}

fn run(member: &Member) -> RunId {
    RunId(Uuid::from_u128(0x700 + u128::from(member.store()) * 2 + u128::from(member.twin)))
}

fn epoch_id(cluster: u8, line: Line) -> Uuid {
    let last = line.epochs().last().copied().unwrap_or_default();
    Uuid::from_u128(0xE00 + u128::from(cluster) * 16 + u128::from(last))
}

/// The founding's epoch, and what began the one after it. A plain one recorded nothing of anybody, and ends where
/// nobody's log reaches.
fn lineage(cluster: u8, line: Line, world: &World) -> Vec<EpochEntry> {
    let beyond_all = Position { epoch: Epoch(u32::MAX), term: Term(u64::MAX), index: Index(u64::MAX) };
    let entry = |number: u32, id, fork, cause, left_out| EpochEntry {
        number: Epoch(number),
        id,
        fork,
        term: Term(u64::from(number)),
        cause,
        left_out,
        who: String::new(),
        when_ms: 0,
        why: String::new(),
    };
    let founding =
        entry(1, epoch_id(cluster, Line::Old), Position::default(), EpochCause::Founding, Vec::new());
    let origin = world.origin(line);
    let cause = match origin.cause {
        Cause::Plain => EpochCause::Founding,
        Cause::Forced => EpochCause::Override { sole: RaftId(1), lease_ms: 60_000 },
        Cause::Mark { alone, members } => EpochCause::Mark {
            recovery: recovery(line),
            alone,
            members: members.into(),
            sole: raft_id(origin.by),
        },
    };
    let fork = if origin.cause == Cause::Plain { beyond_all } else { position(Line::Old, FORK_RANK) };
    let left_out = (0..)
        .zip(origin.left_out)
        .filter(|(_, known)| *known != Known::NotLeftOut)
        .map(|(place, known)| LeftOut {
            store: store(place),
            name: name(place),
            voter: true,
            named: false,
            known: match known {
                Known::At(line, rank) => Some(quorate_store::stamp::Known {
                    incarnation: Incarnation(1),
                    position: position(line, rank),
                    tip: epoch_id(cluster, line),
                }),
                Known::Unknown | Known::NotLeftOut => None,
            },
        })
        .collect();
    if line == Line::Old {
        vec![founding]
    } else {
        vec![founding, entry(2, epoch_id(cluster, line), fork, cause, left_out)]
    }
}

fn recovery(line: Line) -> Uuid {
    Uuid::from_u128(0xF0 + line as u128)
}

fn raft_id(store: u8) -> RaftId {
    RaftId(u64::from(store) + 1)
}

fn position(line: Line, rank: u8) -> Position {
    let (epoch, term) = if line == Line::Old { (1, 1) } else { (2, 2) };
    Position { epoch: Epoch(epoch), term: Term(term), index: Index(term * 10 + u64::from(rank)) }
}

pub(crate) fn voters(set: Set) -> Vec<VoterRef> {
    set.each()
        .map(|number| VoterRef { store: store(number), name: name(number & 7), raft_id: raft_id(number) })
        .collect()
}

fn forming(id: Option<u8>, founders: Set) -> FormingState {
    let ballot = Ballot { round: 1, proposer: store(founders.each().next().unwrap_or(0)) };
    let accepted = id.map(|id| {
        let founders: Vec<Founder> = voters(founders)
            .into_iter()
            .map(|voter| Founder {
                store: voter.store,
                raft_id: voter.raft_id,
                cluster_address: format!("{}:7421", voter.name),
                client_address: format!("{}:7420", voter.name),
                admin_address: format!("{}:7422", voter.name),
                name: voter.name,
            })
            .collect();
        let union = founders.iter().map(|founder| Place::Store(founder.store)).collect();
        let value = FoundingValue {
            cluster_id: cluster(id),
            cluster_name: "quorate".into(),
            founders,
            union,
            small: false,
        };
        (ballot, value)
    });
    FormingState { promised: Some(ballot), accepted, decided: false }
}

/// What the member tells the others, except what depends on who they are.
pub(crate) fn status(member: &Member, world: &World) -> InitialStatus {
    let place = member.place;
    let group = member.cluster.filter(|_| member.belongs()).map(|cluster| GroupStatus {
        group: GroupId::SYSTEM,
        vhost: "system".into(),
        lineage: lineage(cluster, member.line, world),
        position: position(member.line, member.rank),
        term: Term(3),
        voters: voters(member.voters),
        learners: Vec::new(),
        trusted: member.trusted,
        active: member.active.then(|| Active { leader: store(member.store()), term: Term(3) }),
        was_active_this_run: member.ran,
        client_epochs: if member.client_entries { vec![Epoch(1), Epoch(2)] } else { Vec::new() },
        designated: member.solo.then_some(1),
        peer_silent: member.solo,
    });
    InitialStatus {
        key: PeerKey { store: store(member.store()), run: run(member) },
        name: name(place),
        cluster_name: "quorate".into(),
        cluster_address: address(place),
        client_address: format!("{}:7420", name(place)),
        admin_address: format!("{}:7422", name(place)),
        state: match member.state {
            State::Transient => StoreState::Transient { was_active: member.ran },
            State::Empty => StoreState::Empty,
            State::Forming(id) => StoreState::Forming(forming(id, member.voters)),
            State::Dirty => StoreState::Dirty,
            State::Clean(shutdown) => StoreState::Clean { shutdown: Uuid::from_u128(shutdown.into()) },
            State::Marked => StoreState::Recovered { recovery: recovery(member.line) },
            State::Damaged => StoreState::Damaged { reason: "both slots fail their checks".into() },
        },
        cluster_id: member.cluster.filter(|_| member.belongs()).map(cluster),
        cluster_id_wanted: member.wanted.map(cluster),
        founded_ms: None,
        messages: None,
        incarnation: Incarnation(u64::from(member.belongs()) + u64::from(member.restarted_since)),
        stamped_run: member.belongs().then(|| {
            // Alive since: this run. Else the one before.
            if member.ran { run(member) } else { RunId(Uuid::from_u128(0x900 + u128::from(member.store()))) }
        }),
        recorded: Vec::new(),
        groups: group.into_iter().collect(),
        wait_for: member.wait_for.into(),
        allow_small: member.allow_small,
        recovery: if member.manual { RecoveryMode::Manual } else { RecoveryMode::Automatic },
        peers: member
            .peers
            .or(Set::of(place))
            .each()
            .map(|peer| PeerRef {
                text: address(peer),
                resolved: (peer == place).then(|| store(member.store())),
            })
            .collect(),
        possible_members: Vec::new(),
        panicked: member.panicked.then(|| "two stores of one id were active".to_owned()),
        safety: SafetyNumbers::default(),
        deleted: Vec::new(),
        rivalled: Vec::new(),
    }
}

/// Everything as the first member sees it; [`turn`] makes it another's view.
pub(crate) fn facts(world: &World) -> Facts {
    facts_from(world, world.members.iter().map(|member| Clone::clone(&*cached(member, world))).collect())
}

fn cached(member: &Member, world: &World) -> std::rc::Rc<InitialStatus> {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;
    thread_local! {
        static KNOWN: RefCell<HashMap<(Member, Origin, Origin), Rc<InitialStatus>>> = RefCell::default();
    }
    let key = (*member, world.main, world.fork);
    KNOWN.with_borrow_mut(|known| {
        Rc::clone(known.entry(key).or_insert_with(|| Rc::new(status(member, world))))
    })
}

/// By place: the address as it is configured.
static ADDRESSES: LazyLock<Vec<String>> = LazyLock::new(|| (0..8).map(address).collect());

fn facts_from(world: &World, mut statuses: Vec<InitialStatus>) -> Facts {
    // Everyone reached everyone: addresses are resolved to the store that answered there.
    for status in &mut statuses {
        for peer in &mut status.peers {
            let place = (0..)
                .zip(ADDRESSES.iter())
                .find(|(_, text)| **text == peer.text)
                .map_or(PLACES, |(place, _)| place);
            if let Some(there) = world.members.iter().find(|member| member.place == place && !member.twin) {
                peer.resolved = Some(store(there.store()));
            }
        }
    }
    // Whoever is active recorded the runs that were acknowledged; whoever is not rolled back recorded who is.
    let recorded: Vec<RecordedRun> = world
        .members
        .iter()
        .filter(|member| member.acknowledged)
        .map(|member| RecordedRun {
            store: store(member.store()),
            incarnation: Incarnation(1),
            run: Some(run(member)),
            positions: Vec::new(),
        })
        .collect();
    let later: Vec<RecordedRun> = world
        .members
        .iter()
        .filter(|member| member.rolled_back)
        .map(|member| RecordedRun {
            store: store(member.store()),
            incarnation: Incarnation(2),
            run: None,
            positions: Vec::new(),
        })
        .collect();
    for (member, status) in world.members.iter().zip(&mut statuses) {
        if member.active {
            status.recorded.extend(recorded.iter().cloned());
        }
        if member.belongs() && !member.rolled_back {
            status.recorded.extend(later.iter().cloned());
        }
    }
    let own = statuses.remove(0);
    Facts { own, seen: statuses }
}

/// The same facts as the next member sees them.
pub(crate) fn turn(facts: &mut Facts, next: usize) {
    if let Some(status) = facts.seen.get_mut(next) {
        std::mem::swap(&mut facts.own, status);
    }
}
