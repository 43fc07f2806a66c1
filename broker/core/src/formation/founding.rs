//! Founding a cluster: one decree of Paxos, so that races and interruptions end in one cluster or none.
//!
//! The acceptors are the possible members, as far as they are there; each writes what it promised and accepted into
//! its stamp before it answers. A ballot that finds accepted values among its promises takes over the one of the
//! highest ballot. Decided is what a majority of the *value's* union accepted (Lamport, *Paxos Made Simple*, 2001).
//!
//! The machine holds every answer back until what it says is durable: [`FoundingAction::Send`] may be performed at
//! once, and [`FoundingAction::Persist`] is answered by [`Founding::persisted`], in order. There is at most one
//! `Persist` under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_store::ids::{ClusterId, StoreId};
use uuid::{Builder, Uuid};

use crate::io::Tick;

use super::forming::{Ballot, FormingState, FoundingValue, Place};
pub use super::founding_message::FoundingMessage;
use super::limits::{FOUNDING_ATTEMPT_MS, FOUNDING_RETRY_MAX_MS, FOUNDING_STAGGER_MS, LEARN_RETRY_MAX_MS};
use super::plan::FoundingPlan;

/// Something to do for the founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingAction {
    /// Write this into the stamp, both slots synced, then call [`Founding::persisted`].
    Persist(FormingState),
    /// Send to the broker with this store; dropped if it is not linked.
    Send {
        /// To whom.
        to: StoreId,
        /// What.
        message: FoundingMessage,
    },
    /// This is the founding value, and the own stamp says so durably. Said once in a process, at once if the stamp
    /// held it from the start; to be acted on under the verdict `FORM`. A broker that is not among the founders waits
    /// for the cluster to become active and joins it (row J1).
    Decided(FoundingValue),
}

/// One broker's part in the founding: acceptor always, proposer while it has a plan.
///
/// Feed it only while the store is empty or forming; afterwards it only answers with the decision.
#[derive(Debug)]
pub struct Founding {
    own: StoreId,
    state: FormingState,
    /// Changes made to `state`, changes handed out to be written, and changes known to be durable.
    changes: u64,
    writing: u64,
    durable: u64,
    /// Answers that wait until that many changes are durable.
    held: VecDeque<(u64, StoreId, FoundingMessage)>,
    /// The decision is announced once this many changes are durable.
    announce_after: Option<u64>,
    plan: Option<FoundingPlan>,
    phase: Phase,
    /// The highest round seen anywhere.
    highest_round: u64,
    /// Ballots of this proposer that failed, for the back-off.
    failures: u32,
    telling: Option<Telling>,
    actions: VecDeque<FoundingAction>,
    /// The wall clock at tick zero, in milliseconds since 1970.
    tick_zero_ms: u64,
}

/// When a cluster was founded, by the wall clock of the broker that proposed it, in milliseconds since 1970: its id says
/// so. Only for people. None for an id that was not made here.
pub fn founded_ms(cluster: ClusterId) -> Option<u64> {
    let stamped = cluster.0.get_version_num() == 7;
    let leading = u64::try_from(cluster.0.as_u128() >> 80).ok();
    leading.filter(|_| stamped)
}

/// Where the proposer is.
#[derive(Debug)]
enum Phase {
    /// No plan, or decided.
    Idle,
    /// The next ballot begins then.
    Waiting { until: Tick },
    /// Collecting promises.
    Preparing { ballot: Ballot, promises: BTreeMap<StoreId, Option<(Ballot, FoundingValue)>>, until: Tick },
    /// Collecting acceptances.
    Accepting { ballot: Ballot, value: FoundingValue, accepted: BTreeSet<StoreId>, until: Tick },
}

/// The decider tells the founders again until each has answered.
#[derive(Debug)]
struct Telling {
    pending: BTreeSet<StoreId>,
    next: Tick,
    wait_ms: u64,
}

impl Founding {
    /// The machine of the broker with store `own`, with what its stamp holds (the default for an empty store).
    pub fn new(own: StoreId, state: FormingState) -> Self {
        let highest_round = state.promised.map_or(0, |ballot| ballot.round);
        let announce_after = state.decided.then_some(0);
        let mut founding = Self {
            own,
            state,
            changes: 0,
            writing: 0,
            durable: 0,
            held: VecDeque::new(),
            announce_after,
            plan: None,
            phase: Phase::Idle,
            highest_round,
            failures: 0,
            telling: None,
            actions: VecDeque::new(),
            tick_zero_ms: 0,
        };
        founding.release();
        founding
    }

    /// Says what the wall clock showed at tick zero, in milliseconds since 1970, for the ids of new clusters.
    #[must_use]
    pub fn with_wall_clock(self, tick_zero_ms: u64) -> Self {
        Self { tick_zero_ms, ..self }
    }

    /// What was last handed to [`FoundingAction::Persist`] or is about to be.
    pub fn state(&self) -> &FormingState {
        &self.state
    }

    /// The decision, once known (it may not be durable here yet).
    pub fn decision(&self) -> Option<&FoundingValue> {
        if self.state.decided { self.state.value() } else { None }
    }

    /// Proposes, or goes on proposing with newer facts, while the verdict is `FORM`. Cheap to call at every change.
    pub fn propose(&mut self, now: Tick, plan: FoundingPlan) {
        if self.state.decided {
            return;
        }
        if matches!(self.phase, Phase::Idle) {
            // Founders take turns, so that usually the first one is through before the second one begins.
            let turn = plan.founders.iter().take_while(|founder| founder.store != self.own).count();
            let delay = FOUNDING_STAGGER_MS.saturating_mul(u64::try_from(turn).unwrap_or(u64::MAX));
            self.phase = Phase::Waiting { until: now.plus(delay.min(FOUNDING_RETRY_MAX_MS)) };
        }
        self.plan = Some(plan);
    }

    /// Stops proposing: the verdict is no longer `FORM`. Goes on answering others.
    pub fn withdraw(&mut self) {
        self.plan = None;
        self.phase = Phase::Idle;
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Tick> {
        let proposer = match self.phase {
            Phase::Idle => None,
            Phase::Waiting { until } | Phase::Preparing { until, .. } | Phase::Accepting { until, .. } => {
                Some(until)
            }
        };
        let telling = self.telling.as_ref().map(|telling| telling.next);
        proposer.into_iter().chain(telling).min()
    }

    /// Time passed. `dice` gives random numbers: the new cluster's id and the back-off come from it.
    pub fn tick(&mut self, now: Tick, dice: &mut dyn FnMut() -> u64) {
        match self.phase {
            Phase::Waiting { until } if until <= now => self.begin_ballot(now),
            Phase::Preparing { until, .. } | Phase::Accepting { until, .. } if until <= now => {
                self.back_off(now, dice);
            }
            _ => {}
        }
        self.tell_again(now);
        self.drain_own(now, dice);
    }

    /// A peer's message; `from` is the authenticated sender's store.
    pub fn message(
        &mut self,
        now: Tick,
        from: StoreId,
        message: FoundingMessage,
        dice: &mut dyn FnMut() -> u64,
    ) {
        self.receive(now, from, message, dice);
        self.drain_own(now, dice);
    }

    /// The last [`FoundingAction::Persist`] is durable.
    pub fn persisted(&mut self, now: Tick, dice: &mut dyn FnMut() -> u64) {
        assert!(self.writing > self.durable, "persisted() answers a Persist that is under way");
        self.durable = self.writing;
        self.release();
        self.drain_own(now, dice);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<FoundingAction> {
        if self.writing == self.durable && self.changes > self.writing {
            self.writing = self.changes;
            return Some(FoundingAction::Persist(self.state.clone()));
        }
        self.actions.pop_front()
    }
}

/// The acceptor, and everything that waits for the disk.
impl Founding {
    fn receive(&mut self, now: Tick, from: StoreId, message: FoundingMessage, dice: &mut dyn FnMut() -> u64) {
        match message {
            FoundingMessage::Prepare { ballot } => {
                if !self.refer_to_decision(from) {
                    self.prepare(from, ballot);
                }
            }
            FoundingMessage::Accept { ballot, value } => {
                if !self.refer_to_decision(from) {
                    self.accept(from, ballot, value);
                }
            }
            FoundingMessage::Promise { ballot, accepted } => {
                self.see(ballot);
                if let Phase::Preparing { ballot: current, promises, .. } = &mut self.phase
                    && *current == ballot
                {
                    promises.insert(from, accepted);
                    self.choose_value(now, dice);
                }
            }
            FoundingMessage::Accepted { ballot } => self.count_acceptance(now, from, ballot),
            FoundingMessage::Refused { ballot, promised } => {
                self.see(promised);
                if self.current_ballot() == Some(ballot) {
                    self.back_off(now, dice);
                }
            }
            FoundingMessage::Learn { ballot, value } => {
                self.see(ballot);
                if !self.state.decided {
                    self.learn(ballot, value);
                }
                self.answer(from, FoundingMessage::Learned);
            }
            FoundingMessage::Learned => {
                if let Some(telling) = &mut self.telling {
                    telling.pending.remove(&from);
                }
            }
        }
    }

    fn prepare(&mut self, from: StoreId, ballot: Ballot) {
        self.see(ballot);
        match self.state.promised {
            Some(promised) if promised > ballot => {
                self.answer(from, FoundingMessage::Refused { ballot, promised });
            }
            promised => {
                if promised != Some(ballot) {
                    self.state.promised = Some(ballot);
                    self.changed();
                }
                let accepted = self.state.accepted.clone();
                self.answer(from, FoundingMessage::Promise { ballot, accepted });
            }
        }
    }

    fn accept(&mut self, from: StoreId, ballot: Ballot, value: FoundingValue) {
        self.see(ballot);
        match self.state.promised {
            Some(promised) if promised > ballot => {
                self.answer(from, FoundingMessage::Refused { ballot, promised });
            }
            _ => {
                if self.state.accepted.as_ref().is_none_or(|(accepted, _)| *accepted != ballot) {
                    self.state.promised = Some(ballot);
                    self.state.accepted = Some((ballot, value));
                    self.changed();
                }
                self.answer(from, FoundingMessage::Accepted { ballot });
            }
        }
    }

    /// Answers with the decision, if it is known. Whoever proposes now missed it.
    fn refer_to_decision(&mut self, from: StoreId) -> bool {
        let Some((ballot, value)) = self.state.accepted.clone().filter(|_| self.state.decided) else {
            return false;
        };
        self.answer(from, FoundingMessage::Learn { ballot, value });
        true
    }

    fn learn(&mut self, ballot: Ballot, value: FoundingValue) {
        self.state.promised = self.state.promised.max(Some(ballot));
        self.state.accepted = Some((ballot, value));
        self.state.decided = true;
        self.changed();
        self.announce_after = Some(self.changes);
        self.withdraw();
    }

    fn changed(&mut self) {
        self.changes += 1;
    }

    /// Says this once everything it may depend on is durable.
    fn answer(&mut self, to: StoreId, message: FoundingMessage) {
        self.held.push_back((self.changes, to, message));
        self.release();
    }

    /// Lets go of what is durable. Answers to oneself stay in `held` for [`Self::drain_own`].
    fn release(&mut self) {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|(after, to, _)| *after <= self.durable && *to != self.own);
        self.held.extend(waiting);
        self.actions.extend(ready.into_iter().map(|(_, to, message)| FoundingAction::Send { to, message }));
        if self.announce_after.is_some_and(|after| after <= self.durable) {
            self.announce_after = None;
            let value = self.state.value().expect("a decision has a value").clone();
            self.actions.push_back(FoundingAction::Decided(value));
        }
    }

    /// Hears what the own acceptor and proposer say to each other, as far as it is durable.
    fn drain_own(&mut self, now: Tick, dice: &mut dyn FnMut() -> u64) {
        let own = self.own;
        while let Some(at) = self.held.iter().position(|(after, to, _)| *to == own && *after <= self.durable)
        {
            let (_, _, message) = self.held.remove(at).expect("the position was just found");
            self.receive(now, own, message, dice);
        }
    }
}

/// The proposer.
impl Founding {
    fn see(&mut self, ballot: Ballot) {
        self.highest_round = self.highest_round.max(ballot.round);
    }

    fn current_ballot(&self) -> Option<Ballot> {
        match self.phase {
            Phase::Preparing { ballot, .. } | Phase::Accepting { ballot, .. } => Some(ballot),
            Phase::Idle | Phase::Waiting { .. } => None,
        }
    }

    fn begin_ballot(&mut self, now: Tick) {
        let Some(round) = self.highest_round.checked_add(1) else {
            // Somebody claims the last round there is: nothing can be proposed any more.
            self.phase = Phase::Idle;
            return;
        };
        self.highest_round = round;
        let ballot = Ballot { round, proposer: self.own };
        // Promised here durably before anybody hears of it: a proposer that crashes never uses a ballot twice.
        self.state.promised = Some(ballot);
        self.changed();
        self.phase = Phase::Preparing { ballot, promises: BTreeMap::new(), until: self.attempt_until(now) };
        self.send_to_acceptors(&FoundingMessage::Prepare { ballot });
    }

    /// An attempt may take longer after each failure, so that slow disks and links get through.
    fn attempt_until(&self, now: Tick) -> Tick {
        let attempts = u64::from(self.failures).saturating_add(1);
        now.plus(FOUNDING_ATTEMPT_MS.saturating_mul(attempts).min(FOUNDING_RETRY_MAX_MS))
    }

    /// Waits longer after each failure, by chance within a factor of two, so that duels end.
    fn back_off(&mut self, now: Tick, dice: &mut dyn FnMut() -> u64) {
        self.failures = self.failures.saturating_add(1);
        let growth = 1u64.checked_shl(self.failures.min(16)).unwrap_or(u64::MAX);
        let span = FOUNDING_STAGGER_MS.saturating_mul(growth).min(FOUNDING_RETRY_MAX_MS);
        let chance = dice().checked_rem(span / 2).unwrap_or(0);
        self.phase = Phase::Waiting { until: now.plus(span / 2 + chance) };
    }

    /// With promises of a majority: goes on with the value of the highest accepted ballot, or with a new one.
    fn choose_value(&mut self, now: Tick, dice: &mut dyn FnMut() -> u64) {
        let (Phase::Preparing { ballot, promises, .. }, Some(plan)) = (&self.phase, &self.plan) else {
            return;
        };
        let promised: BTreeSet<StoreId> = promises.keys().copied().collect();
        let fresh = plan.value(ClusterId(Uuid::nil()));
        if count(&fresh, &promised, plan) < fresh.majority() {
            return;
        }
        let highest = promises.values().flatten().max_by_key(|(ballot, _)| *ballot);
        let value = match highest {
            // The earlier value may have another union: only a majority of that one knows that no third was decided.
            Some((_, value)) if count(value, &promised, plan) < value.majority() => return,
            Some((_, value)) => value.clone(),
            None => plan.value(self.new_cluster_id(now, dice)),
        };
        let (ballot, until) = (*ballot, self.attempt_until(now));
        let message = FoundingMessage::Accept { ballot, value: value.clone() };
        self.phase = Phase::Accepting { ballot, value, accepted: BTreeSet::new(), until };
        self.send_to_acceptors(&message);
    }

    /// Random, but for the time of the founding in its first bits.
    fn new_cluster_id(&self, now: Tick, dice: &mut dyn FnMut() -> u64) -> ClusterId {
        let mut random = [0; 10];
        for (byte, rolled) in random.iter_mut().zip(random_bytes(dice)) {
            *byte = rolled;
        }
        let millis = self.tick_zero_ms.saturating_add(now.0);
        ClusterId(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    fn count_acceptance(&mut self, now: Tick, from: StoreId, ballot: Ballot) {
        let Phase::Accepting { ballot: current, value, accepted, .. } = &mut self.phase else { return };
        let Some(plan) = &self.plan else { return };
        if *current != ballot {
            return;
        }
        accepted.insert(from);
        if count(value, accepted, plan) < value.majority() {
            return;
        }
        let value = value.clone();
        let others: BTreeSet<StoreId> = (value.founders.iter().map(|founder| founder.store))
            .chain(plan.founders.iter().map(|founder| founder.store))
            .filter(|store| *store != self.own)
            .collect();
        self.telling = Some(Telling { pending: others, next: now, wait_ms: FOUNDING_ATTEMPT_MS });
        self.learn(ballot, value);
        self.tell_again(now);
    }

    /// The decision stands whether or not the own stamp knows it yet: it is told at once, and again until answered.
    fn tell_again(&mut self, now: Tick) {
        let Some(telling) = &mut self.telling else { return };
        if telling.pending.is_empty() {
            self.telling = None;
            return;
        }
        if telling.next > now {
            return;
        }
        telling.next = now.plus(telling.wait_ms);
        telling.wait_ms = telling.wait_ms.saturating_mul(2).min(LEARN_RETRY_MAX_MS);
        let (ballot, value) = self.state.accepted.clone().expect("only a decider tells");
        for to in telling.pending.clone() {
            let message = FoundingMessage::Learn { ballot, value: value.clone() };
            self.actions.push_back(FoundingAction::Send { to, message });
        }
    }

    fn send_to_acceptors(&mut self, message: &FoundingMessage) {
        let acceptors: Vec<StoreId> =
            self.plan.iter().flat_map(|plan| &plan.founders).map(|founder| founder.store).collect();
        for acceptor in acceptors {
            self.answer(acceptor, message.clone());
        }
    }
}

/// How many acceptors of `value` are among `stores`. A place that was only an address when the value was proposed is
/// filled by the store that answers there now; each store fills one place.
fn count(value: &FoundingValue, stores: &BTreeSet<StoreId>, plan: &FoundingPlan) -> usize {
    if value.small {
        return value.founders.iter().filter(|founder| stores.contains(&founder.store)).count();
    }
    let mut filling: BTreeSet<StoreId> = BTreeSet::new();
    for place in &value.union {
        let store = match place {
            Place::Store(store) => Some(*store),
            Place::Address(address) => plan.answering.get(address).copied(),
        };
        filling.extend(store.filter(|store| stores.contains(store)));
    }
    filling.len()
}

fn random_bytes(dice: &mut dyn FnMut() -> u64) -> [u8; 16] {
    (u128::from(dice()) << 64 | u128::from(dice())).to_le_bytes()
}

#[cfg(test)]
mod tests;
