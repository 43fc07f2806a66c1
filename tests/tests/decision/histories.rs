//! The safety theorem over small histories: whoever is let elect holds every confirmed entry.
//!
//! *Confirmed* is "acknowledged by a majority of the voters of the leader's configuration". Stores end by process death
//! or by power loss; under `no-sync` the latter takes the tail of the log and the store is not trusted any more. The
//! product decides who takes part after every start; votes are Raft's. Configurations change by one voter at a time.

use quorate_core::formation::status::Active;
use quorate_core::formation::{Facts, InitialStatus, Verdict, decide};
use quorate_store::ids::{Epoch, Index, Position, Term};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::facts::{status, store, turn, voters};
use crate::model::{Line, Set, World};
use crate::worlds::dirty;

/// One log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    term: u32,
    /// A change of voters, or a client's.
    voters: Option<Set>,
    /// Tells entries apart that could be mistaken for each other.
    number: u32,
}

/// What a process does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Not running.
    Down,
    /// Held by its decision.
    Waits,
    /// Receives, its acknowledgements do not count.
    Learner,
    Voter,
}

#[derive(Clone, Debug)]
struct Node {
    log: Vec<Entry>,
    term: u32,
    part: Part,
    trusted: bool,
    ran: bool,
    /// Entries that a power loss does not take.
    synced: usize,
    /// Follows the leader of its term up to here.
    acknowledged: usize,
}

impl Node {
    fn voters(&self) -> Set {
        self.log.iter().rev().find_map(|entry| entry.voters).unwrap_or(Set::NONE)
    }

    fn recency(&self) -> (u32, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }
}

/// How many times the interesting things happened.
#[derive(Debug, Default)]
struct Seen {
    confirmed: usize,
    elections: usize,
    restores: usize,
    lost: usize,
}

struct History {
    random: ChaCha8Rng,
    nodes: Vec<Node>,
    leader: Option<usize>,
    /// Entries that were confirmed, from the log's start.
    confirmed: Vec<Entry>,
    /// Which of the nodes' policies is `no-sync`.
    careless: bool,
    /// Stores say that they are trusted whatever happened: to see the check fail.
    boast: bool,
    number: u32,
    seen: Seen,
}

const NODES: usize = 4;

fn small(at: usize) -> u8 {
    u8::try_from(at).expect("there are few nodes")
}

impl History {
    fn new(seed: u64, boast: bool) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let first = Set::first(if random.next_u32() % 2 == 0 { 3 } else { 4 });
        let founding = Entry { term: 1, voters: Some(first), number: 0 };
        let node = Node {
            log: vec![founding],
            term: 1,
            part: Part::Waits,
            trusted: true,
            ran: false,
            synced: 1,
            acknowledged: 0,
        };
        let careless = boast || random.next_u32() % 2 == 0;
        Self {
            random,
            nodes: vec![node; NODES],
            leader: None,
            confirmed: vec![founding],
            careless,
            boast,
            number: 0,
            seen: Seen::default(),
        }
    }

    fn pick(&mut self, below: usize) -> usize {
        self.random.next_u32() as usize % below
    }

    fn those(&self, holds: impl Fn(&Node) -> bool) -> Set {
        (0..)
            .zip(&self.nodes)
            .filter(|(_, node)| holds(node))
            .fold(Set::NONE, |set, (at, _)| set.or(Set::of(at)))
    }

    /// The leader, if a majority follows it in its term.
    fn quorum(&self) -> Option<usize> {
        let leader = self.leader?;
        let (term, voters) = (self.nodes[leader].term, self.nodes[leader].voters());
        let following = self.those(|node| node.part == Part::Voter && node.term == term);
        (following.and(voters).len() * 2 > voters.len()).then_some(leader)
    }

    /// What the product says to everyone who runs, and what they do then.
    fn decide_all(&mut self) {
        let quorum = self.quorum();
        let statuses: Vec<(usize, InitialStatus)> = (0..NODES)
            .filter(|at| self.nodes[*at].part != Part::Down)
            .map(|at| (at, self.status(at, quorum)))
            .collect();
        let Some(((_, first), rest)) = statuses.split_first() else { return };
        let mut facts =
            Facts { own: first.clone(), seen: rest.iter().map(|(_, status)| status.clone()).collect() };
        for (turns, (at, _)) in statuses.iter().enumerate() {
            let verdict = decide(&facts).verdict;
            turn(&mut facts, turns);
            let node = &mut self.nodes[*at];
            // Who goes on keeps to that.
            if node.part == Part::Waits {
                node.part = match verdict {
                    Verdict::Restore | Verdict::Resume => Part::Voter,
                    Verdict::Join => Part::Learner,
                    _ => Part::Waits,
                };
                self.seen.restores += usize::from(verdict == Verdict::Restore);
            }
        }
    }

    fn status(&self, at: usize, quorum: Option<usize>) -> InitialStatus {
        let node = &self.nodes[at];
        let place = small(at);
        let mut member = dirty(0, Set::NONE, Line::Old, 0, self.boast || node.trusted);
        member.place = place;
        member.ran = node.ran;
        let mut status = status(&member, &World::plain(Vec::new()));
        let (term, index) = node.recency();
        let group = &mut status.groups[0];
        group.position = Position { epoch: Epoch(1), term: Term(term.into()), index: Index(index as u64) };
        group.voters = voters(node.voters());
        group.active = quorum
            .filter(|leader| node.term == self.nodes[*leader].term && node.part == Part::Voter)
            .map(|leader| Active { leader: store(small(leader)), term: Term(node.term.into()) });
        status
    }

    fn elect(&mut self, at: usize) {
        if self.nodes[at].part != Part::Voter {
            return;
        }
        let (voters, recency) = (self.nodes[at].voters(), self.nodes[at].recency());
        let term = self.nodes.iter().map(|node| node.term).max().unwrap_or(0) + 1;
        // Everyone reachable by chance votes for whoever is not behind.
        let chance = self.random.next_u32();
        let reach = (0..4)
            .filter(|bit| chance >> (bit * 2) & 3 != 0)
            .fold(Set::of(small(at)), |set, bit| set.or(Set::of(bit)));
        let given =
            self.those(|node| node.part == Part::Voter && node.recency() <= recency).and(voters).and(reach);
        for voter in given.each() {
            let node = &mut self.nodes[usize::from(voter)];
            node.term = term;
            node.acknowledged = 0;
        }
        if given.len() * 2 <= voters.len() || !given.has(small(at)) {
            return;
        }
        self.seen.elections += 1;
        if !self.nodes[at].log.starts_with(&self.confirmed) {
            self.seen.lost += 1;
        }
        self.leader = Some(at);
        for voter in given.each() {
            self.nodes[usize::from(voter)].ran = true;
        }
        self.append(None);
    }

    fn append(&mut self, voters: Option<Set>) {
        let Some(leader) = self.leader else { return };
        self.number += 1;
        let entry = Entry { term: self.nodes[leader].term, voters, number: self.number };
        let node = &mut self.nodes[leader];
        node.log.push(entry);
        node.acknowledged = node.log.len();
        self.sync(leader);
    }

    fn sync(&mut self, at: usize) {
        let chance = self.pick(3) == 0;
        let node = &mut self.nodes[at];
        if !self.careless || chance {
            node.synced = node.log.len();
        } else {
            node.synced = node.synced.min(node.log.len());
        }
    }

    /// The leader sends its log up to some entry.
    fn replicate(&mut self, to: usize) {
        let Some(leader) = self.leader else { return };
        let (term, log) = (self.nodes[leader].term, self.nodes[leader].log.clone());
        let upto = log.len() - self.pick(2).min(log.len());
        let node = &mut self.nodes[to];
        if leader == to || !matches!(node.part, Part::Voter | Part::Learner) || node.term > term {
            return;
        }
        node.term = term;
        let sent = &log[..upto];
        if !node.log.starts_with(sent) {
            let same = node.log.iter().zip(sent).take_while(|(left, right)| left == right).count();
            node.synced = node.synced.min(same);
            node.log = sent.to_vec();
        }
        node.acknowledged = upto;
        node.ran = true;
        self.sync(to);
    }

    /// The leader confirms what a majority of the voters of its configuration acknowledged in its term.
    fn confirm(&mut self) {
        let Some(leader) = self.leader else { return };
        let (term, voters) = (self.nodes[leader].term, self.nodes[leader].voters());
        for upto in (1..=self.nodes[leader].log.len()).rev() {
            let have =
                self.those(|node| node.part == Part::Voter && node.term == term && node.acknowledged >= upto);
            let entries = &self.nodes[leader].log[..upto];
            if entries[upto - 1].term == term && have.and(voters).len() * 2 > voters.len() {
                if upto > self.confirmed.len() {
                    self.confirmed = entries.to_vec();
                    self.seen.confirmed += 1;
                }
                return;
            }
        }
    }

    /// A learner that has everything up to an entry of the leader's term that is confirmed votes again.
    fn admit(&mut self, at: usize) {
        let Some(leader) = self.quorum() else { return };
        let (term, voters) = (self.nodes[leader].term, self.nodes[leader].voters());
        let confirmed = self.confirmed.clone();
        let node = &mut self.nodes[at];
        let caught_up =
            node.acknowledged >= confirmed.len() && node.term == term && node.log.starts_with(&confirmed);
        let fresh = confirmed.last().is_some_and(|entry| entry.term == term);
        if node.part == Part::Learner && caught_up && fresh && voters.has(small(at)) {
            node.part = Part::Voter;
            node.synced = node.log.len();
            node.trusted = true;
        }
    }

    /// One voter more or less, once the change before it is confirmed.
    fn change_voters(&mut self, at: usize) {
        let Some(leader) = self.quorum() else { return };
        let node = &self.nodes[leader];
        let settled = node
            .log
            .iter()
            .rposition(|entry| entry.voters.is_some())
            .is_some_and(|at| at < self.confirmed.len());
        let own_term = self.confirmed.last().is_some_and(|entry| entry.term == node.term);
        let (one, voters) = (Set::of(small(at)), node.voters());
        if !settled || !own_term || at == leader {
            return;
        }
        if voters.and(one).some() && voters.len() > 2 {
            self.append(Some(voters.without(one)));
        } else if !voters.and(one).some()
            && self.nodes[at].acknowledged >= self.confirmed.len()
            && self.nodes[at].trusted
        {
            self.append(Some(voters.or(one)));
        }
    }

    fn stop(&mut self, at: usize, power: bool) {
        let node = &mut self.nodes[at];
        if power && self.careless {
            node.trusted &= node.synced == node.log.len();
            node.log.truncate(node.synced);
        }
        // Under no-sync, a store that may have lost something cannot know that it did not.
        if self.careless && (power || node.part == Part::Learner) {
            node.trusted = false;
        }
        node.part = Part::Down;
        node.ran = false;
        node.acknowledged = 0;
        if self.leader == Some(at) {
            self.leader = None;
        }
    }

    fn step(&mut self) {
        let at = self.pick(NODES);
        match self.pick(80) {
            0..8 => {
                if self.quorum().is_none() || self.pick(8) == 0 {
                    self.elect(at);
                }
            }
            8..12 => self.append(None),
            12..40 => self.replicate(at),
            40..52 => self.confirm(),
            52..56 => self.admit(at),
            56..60 => self.change_voters(at),
            60..63 => {
                let power = self.pick(2) == 0;
                self.stop(at, power);
            }
            63 => {
                // Everything stops, by power or not.
                let power = self.pick(3) == 0;
                (0..NODES).for_each(|at| self.stop(at, power));
            }
            _ => {
                if self.nodes[at].part == Part::Down {
                    self.nodes[at].part = Part::Waits;
                }
                self.decide_all();
            }
        }
    }
}

fn play(histories: u64, boast: bool) -> Seen {
    let mut all = Seen::default();
    for seed in 0..histories {
        let mut history = History::new(seed, boast);
        for _ in 0..300 {
            history.step();
            assert!(
                history.seen.lost == 0 || boast,
                "seed {seed}: a leader without a confirmed entry: {:#?}",
                history.nodes
            );
        }
        all.confirmed += history.seen.confirmed;
        all.elections += history.seen.elections;
        all.restores += history.seen.restores;
        all.lost += history.seen.lost;
    }
    println!("{histories} histories: {all:?}");
    all
}

#[test]
fn whoever_is_elected_holds_every_confirmed_entry() {
    let seen = play(6000, false);
    assert!(seen.confirmed > 10_000 && seen.restores > 4000 && seen.elections > 10_000, "{seen:?}");
}

#[test]
fn the_check_of_histories_sees_a_loss() {
    assert!(play(1000, true).lost > 0, "stores that trust themselves wrongly must lose something here");
}
