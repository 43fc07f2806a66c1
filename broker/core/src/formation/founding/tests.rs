//! The founding in a world that loses, doubles, delays and reorders messages and crashes brokers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_store::ids::StoreId;

use crate::io::Tick;

use super::super::facts::Facts;
use super::super::forming::{Ballot, FormingState, FoundingValue, Place};
use super::super::plan::FoundingPlan;
use super::super::samples::{address, empty, store};
use super::super::status::InitialStatus;
use super::{Founding, FoundingAction, FoundingMessage};

/// A small generator: the same seed, the same world.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }
}

struct Broker {
    number: u128,
    founding: Option<Founding>,
    /// What its stamp holds.
    durable: FormingState,
    /// A write that the disk has not finished.
    writing: Option<FormingState>,
    decided: Option<FoundingValue>,
}

struct World {
    now: Tick,
    dice: Dice,
    brokers: Vec<Broker>,
    /// Messages under way, encoded.
    network: Vec<(StoreId, StoreId, Vec<u8>)>,
    /// Out of 100: lost, doubled.
    loss: u64,
    doubling: u64,
    /// Every decision that any broker ever announced, or that the stamps together ever amounted to.
    decisions: Vec<FoundingValue>,
    /// What was ever accepted in a stamp, and by whom.
    accepted: BTreeMap<Ballot, (FoundingValue, BTreeSet<StoreId>)>,
}

impl World {
    fn new(seed: u64, members: u64) -> Self {
        let brokers = (1..=u128::from(members))
            .map(|number| Broker {
                number,
                founding: Some(Founding::new(store(number), FormingState::default())),
                durable: FormingState::default(),
                writing: None,
                decided: None,
            })
            .collect();
        let dice = Dice(seed | 1);
        Self {
            now: Tick(0),
            dice,
            brokers,
            network: Vec::new(),
            loss: 0,
            doubling: 0,
            decisions: Vec::new(),
            accepted: BTreeMap::new(),
        }
    }

    /// What broker `own` would propose if it saw exactly the brokers `seen`.
    fn plan(&self, own: u128, seen: &[u128]) -> Option<FoundingPlan> {
        let members = self.brokers.len();
        let status = |number: u128| {
            let mut status = empty(number);
            status.wait_for = 1;
            let resolved = |peer: u128| (peer == number || seen.contains(&peer)).then(|| store(peer));
            status.peers = (1..=u128::try_from(members).unwrap())
                .map(|peer| super::super::status::PeerRef { text: address(peer), resolved: resolved(peer) })
                .collect();
            status
        };
        let seen: Vec<InitialStatus> =
            seen.iter().filter(|peer| **peer != own).map(|peer| status(*peer)).collect();
        FoundingPlan::of(&Facts { own: status(own), seen }).ok()
    }

    /// Lets every broker that has a plan propose; each sees itself and, if they run, a random set of others.
    fn propose(&mut self, everyone: bool) {
        for at in 0..self.brokers.len() {
            let running: Vec<u128> =
                self.brokers.iter().filter(|broker| broker.founding.is_some()).map(|b| b.number).collect();
            let seen: Vec<u128> =
                running.into_iter().filter(|_| everyone || self.dice.below(4) > 0).collect();
            let plan = self.plan(self.brokers[at].number, &seen);
            let now = self.now;
            if let Some(founding) = &mut self.brokers[at].founding {
                match plan {
                    Some(plan) => founding.propose(now, plan),
                    None => founding.withdraw(),
                }
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        for broker in &mut self.brokers {
            let Some(founding) = &mut broker.founding else { continue };
            while let Some(action) = founding.poll() {
                match action {
                    FoundingAction::Persist(state) => {
                        assert!(broker.writing.is_none(), "one write at a time");
                        broker.writing = Some(state);
                    }
                    FoundingAction::Send { to, message } => {
                        assert_ne!(to, store(broker.number), "nothing is sent to oneself");
                        self.network.push((store(broker.number), to, message.encode()));
                    }
                    FoundingAction::Decided(value) => {
                        assert!(broker.durable.decided, "announced before it is durable");
                        assert_eq!(broker.durable.value(), Some(&value));
                        broker.decided = Some(value.clone());
                        self.decisions.push(value);
                    }
                }
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let first = self.decisions.first();
        assert!(self.decisions.iter().all(|value| Some(value) == first), "two clusters were founded");
        self.decisions.truncate(1);
    }

    /// A stamp was written: notes what it accepts, and whether that decides.
    fn written(&mut self, at: usize, state: FormingState) {
        let broker = &mut self.brokers[at];
        assert!(state.promised >= broker.durable.promised, "a promise was taken back");
        broker.durable = state;
        if let Some((ballot, value)) = broker.durable.accepted.clone() {
            let (known, stores) =
                self.accepted.entry(ballot).or_insert_with(|| (value.clone(), BTreeSet::new()));
            assert_eq!(*known, value, "one ballot has two values");
            if !broker.durable.decided {
                stores.insert(store(broker.number));
            }
            let filled = |place: &&Place| match place {
                Place::Store(store) => stores.contains(store),
                Place::Address(text) => self
                    .brokers
                    .iter()
                    .any(|b| address(b.number) == *text && stores.contains(&store(b.number))),
            };
            if value.union.iter().filter(filled).count() >= value.majority() {
                self.decisions.push(value);
            }
        }
        self.check();
    }

    fn finish_write(&mut self, at: usize) {
        let now = self.now;
        let Some(state) = self.brokers[at].writing.take() else { return };
        self.written(at, state);
        if let Some(founding) = &mut self.brokers[at].founding {
            founding.persisted(now, &mut || self.dice.next());
        }
        self.drain();
    }

    fn crash(&mut self, at: usize) {
        let finished = self.dice.below(2) == 0;
        if let Some(state) = self.brokers[at].writing.take().filter(|_| finished) {
            // The write reached the disk, and nobody was told.
            self.written(at, state);
        }
        let broker = &mut self.brokers[at];
        broker.founding = None;
        broker.decided = None;
    }

    fn restart(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if broker.founding.is_none() {
            // Through the stamp's own form.
            let stamped = quorate_store::stamp::FormingState::from(&broker.durable);
            let state = FormingState::try_from(&stamped).unwrap();
            assert_eq!(state, broker.durable);
            broker.founding = Some(Founding::new(store(broker.number), state));
        }
        self.drain();
    }

    fn deliver(&mut self, at: usize) {
        let (from, to, bytes) = self.network.swap_remove(at);
        if self.dice.below(100) < self.loss {
            return;
        }
        if self.dice.below(100) < self.doubling {
            self.network.push((from, to, bytes.clone()));
        }
        let now = self.now;
        let receiver = self.brokers.iter_mut().find(|broker| store(broker.number) == to);
        if let Some(founding) = receiver.and_then(|broker| broker.founding.as_mut()) {
            let message = FoundingMessage::decode(&bytes).unwrap();
            founding.message(now, from, message, &mut || self.dice.next());
        }
        self.drain();
    }

    fn pass_time(&mut self, millis: u64) {
        self.now = self.now.plus(millis);
        let now = self.now;
        for broker in &mut self.brokers {
            if let Some(founding) = &mut broker.founding {
                founding.tick(now, &mut || self.dice.next());
            }
        }
        self.drain();
    }

    /// One thing happens.
    fn step(&mut self, crashes: bool) {
        let broker = usize::try_from(self.dice.below(u64::try_from(self.brokers.len()).unwrap())).unwrap();
        match self.dice.below(20) {
            0..10 if !self.network.is_empty() => {
                let count = u64::try_from(self.network.len()).unwrap();
                let at = usize::try_from(self.dice.below(count)).unwrap();
                self.deliver(at);
            }
            10..15 => self.finish_write(broker),
            15 => {
                let millis = self.dice.below(700);
                self.pass_time(millis);
            }
            16 => self.propose(false),
            17 if crashes => self.crash(broker),
            _ => self.restart(broker),
        }
    }

    /// The noise stops: everyone runs and sees everyone, messages arrive, disks finish.
    fn settle(&mut self) {
        (self.loss, self.doubling) = (0, 0);
        for at in 0..self.brokers.len() {
            self.restart(at);
        }
        for _ in 0..20_000 {
            if self.brokers.iter().all(|broker| broker.decided.is_some()) {
                return;
            }
            self.propose(true);
            for at in 0..self.brokers.len() {
                self.finish_write(at);
            }
            while !self.network.is_empty() {
                self.deliver(0);
                for at in 0..self.brokers.len() {
                    self.finish_write(at);
                }
            }
            self.pass_time(10);
        }
        panic!("no decision 200 s after the noise stopped");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// At most one value is ever decided, whatever happens; and one is, once the noise stops.
    #[test]
    fn one_cluster_or_none(
        seed in any::<u64>(),
        members in 1u64..=5,
        noise in 0usize..2_000,
        loss in 0u64..40,
        doubling in 0u64..40,
        crashes in any::<bool>(),
    ) {
        let mut world = World::new(seed, members);
        (world.loss, world.doubling) = (loss, doubling);
        for _ in 0..noise {
            world.step(crashes);
        }
        world.settle();
    }
}

/// Delivers, writes and ticks without noise until `done`.
fn run_until(world: &mut World, done: impl Fn(&World) -> bool) {
    for _ in 0..1_000 {
        if done(world) {
            return;
        }
        for at in 0..world.brokers.len() {
            world.finish_write(at);
        }
        if world.network.is_empty() {
            world.pass_time(10);
        } else {
            world.deliver(0);
        }
    }
    panic!("not done");
}

#[test]
fn a_majority_of_the_possible_members_founds_without_the_rest() {
    let mut world = World::new(7, 3);
    world.brokers[2].founding = None;
    let plan = world.plan(1, &[1, 2]).unwrap();
    assert_eq!((plan.founders.len(), plan.union.len(), plan.small), (2, 3, false));
    for at in 0..2 {
        let plan = world.plan(u128::try_from(at).unwrap() + 1, &[1, 2]).unwrap();
        world.brokers[at].founding.as_mut().unwrap().propose(Tick(0), plan);
    }
    run_until(&mut world, |world| world.brokers[..2].iter().all(|broker| broker.decided.is_some()));
    let value = world.decisions[0].clone();
    assert_eq!(value.founders.len(), 2);
    assert_eq!(value.founder(store(1)).unwrap().raft_id.0, 1);
    assert_eq!(value.majority(), 2);
    // The third asks by proposing, and hears the decision that it has no part in.
    world.restart(2);
    let plan = world.plan(3, &[1, 2, 3]).unwrap();
    let now = world.now;
    world.brokers[2].founding.as_mut().unwrap().propose(now, plan);
    run_until(&mut world, |world| world.brokers[2].decided.is_some());
    assert_eq!(world.brokers[2].decided, Some(value));
}

#[test]
fn nothing_is_sent_before_it_is_durable() {
    let mut world = World::new(7, 2);
    let plan = world.plan(1, &[1, 2]).unwrap();
    world.brokers[0].founding.as_mut().unwrap().propose(Tick(0), plan);
    world.pass_time(0);
    // Its own promise first.
    assert!(world.network.is_empty());
    assert!(world.brokers[0].writing.is_some());
    world.finish_write(0);
    assert_eq!(world.network.len(), 1);
    // The other one's promise after its write.
    world.deliver(0);
    assert!(world.network.is_empty());
    world.finish_write(1);
    assert_eq!(world.network.len(), 1);
}

#[test]
fn an_accepted_value_is_taken_over_after_a_crash_of_its_proposer() {
    let mut world = World::new(7, 3);
    for number in 1..=3u128 {
        let plan = world.plan(number, &[1, 2, 3]).unwrap();
        let at = usize::try_from(number).unwrap() - 1;
        world.brokers[at].founding.as_mut().unwrap().propose(Tick(0), plan);
    }
    run_until(&mut world, |world| world.brokers[1].durable.accepted.is_some());
    let accepted = world.brokers[1].durable.value().cloned();
    world.crash(0);
    world.network.clear();
    run_until(&mut world, |world| world.brokers[1].decided.is_some());
    assert_eq!(world.brokers[1].decided, accepted);
}

#[test]
fn members_present_are_enough_for_a_small_cluster() {
    let mut own = empty(1);
    own.wait_for = 1;
    own.allow_small = true;
    let facts = Facts { own, seen: Vec::new() };
    let plan = facts.founding_plan().unwrap();
    assert!(plan.small);
    let mut dice = Dice(5);
    let mut founding = Founding::new(store(1), FormingState::default());
    founding.propose(Tick(0), plan);
    founding.tick(Tick(0), &mut || dice.next());
    let mut decided = None;
    while let Some(action) = founding.poll() {
        match action {
            FoundingAction::Persist(_) => founding.persisted(Tick(1), &mut || dice.next()),
            FoundingAction::Decided(value) => decided = Some(value),
            FoundingAction::Send { .. } => panic!("there is nobody to send to"),
        }
    }
    let value = decided.unwrap();
    assert_eq!((value.founders.len(), value.union.len(), value.majority()), (1, 3, 1));
    assert_eq!(founding.next_deadline(), None);
}

#[test]
fn the_decision_is_told_until_every_founder_answered() {
    let mut world = World::new(7, 2);
    for number in 1..=2u128 {
        let plan = world.plan(number, &[1, 2]).unwrap();
        world.brokers[usize::try_from(number).unwrap() - 1].founding.as_mut().unwrap().propose(Tick(0), plan);
    }
    let is_learn = |bytes: &[u8]| matches!(FoundingMessage::decode(bytes), Ok(FoundingMessage::Learn { .. }));
    run_until(&mut world, |world| world.network.iter().any(|(_, _, bytes)| is_learn(bytes)));
    // Lost, more than once.
    for _ in 0..3 {
        world.network.clear();
        assert!(world.brokers[0].founding.as_ref().unwrap().next_deadline().is_some());
        world.pass_time(10_000);
        world.finish_write(0);
        assert!(world.network.iter().any(|(_, _, bytes)| is_learn(bytes)));
    }
    run_until(&mut world, |world| world.brokers.iter().all(|broker| broker.decided.is_some()));
    run_until(&mut world, |world| {
        world.brokers.iter().all(|b| b.founding.as_ref().unwrap().next_deadline().is_none())
    });
}

#[test]
fn places_are_counted_once_and_recognised_by_who_answers() {
    let statuses: BTreeMap<u128, InitialStatus> = (1..=3)
        .map(|number| {
            let mut status = empty(number);
            status.wait_for = 2;
            (number, status)
        })
        .collect();
    let plan = |own: u128, seen: u128, own_reached: bool, seen_reached: bool| {
        let (mut own, mut seen) = (statuses[&own].clone(), statuses[&seen].clone());
        if own_reached {
            own.peers.iter_mut().find(|peer| peer.text == address(3)).unwrap().resolved = Some(store(3));
        }
        if seen_reached {
            seen.peers.iter_mut().find(|peer| peer.text == address(3)).unwrap().resolved = Some(store(30));
        }
        FoundingPlan::of(&Facts { own, seen: vec![seen] })
    };
    // c is an address to one and a store to the other: one place.
    assert_eq!(plan(1, 2, false, false).unwrap().union.len(), 3);
    assert_eq!(plan(1, 2, true, false).unwrap().union.len(), 3);
    // Two stores answer at one address: they are two, and two founders are no longer most.
    assert!(plan(1, 2, true, true).is_err());
    let value = plan(1, 2, false, false).unwrap().value(super::ClusterId(super::Uuid::from_u128(1)));
    let later = plan(1, 2, true, false).unwrap();
    // c answered where the value has an address.
    let stores = [store(1), store(3)].into();
    assert_eq!(super::count(&value, &stores, &later), 2);
    assert_eq!(super::count(&value, &[store(9)].into(), &later), 0);
}

#[test]
fn a_cluster_id_tells_when_it_was_founded() {
    let founding = Founding::new(store(1), FormingState::default()).with_wall_clock(1_700_000_000_000);
    let mut rolled = 0;
    let id = founding.new_cluster_id(Tick(250), &mut || {
        rolled += 1;
        rolled
    });
    assert_eq!(super::founded_ms(id), Some(1_700_000_000_250));
    let other = founding.new_cluster_id(Tick(250), &mut || 77);
    assert_ne!(id, other, "two founders at the same time");
    assert_eq!(super::founded_ms(quorate_store::ids::ClusterId(uuid::Uuid::from_u128(5))), None);
}
