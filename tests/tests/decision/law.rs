//! The start-up decision once more, from its specification alone, as sets and quantifiers over the plain model.
//!
//! Nothing here is shared with the product's table, neither code nor shape: everything that the rules speak of is a set
//! that is computed first, and the rules are one list of *(row, does it hold, who does what)*. Each rule is preceded by
//! the sentence that it renders.

use quorate_core::formation::Verdict;

use crate::model::{Cause, FORK_RANK, Known, Line, Member, Set, State, World};

/// Exit status 3.
const REFUSE: Verdict = Verdict::Refuse { exit_status: 3 };

/// Row and verdict for the member with this index.
pub(crate) fn law(world: &World, me: u8) -> (&'static str, Verdict) {
    let own = world.at(me);
    let transient = world.those(|m| m.state == State::Transient);
    let persistent = world.those(|m| m.state != State::Transient);
    let (kin, others) = if transient.has(me) { (transient, persistent) } else { (persistent, transient) };
    let active = world.those(|m| m.active);

    // Before all: a panicked broker stays panicked. Nobody counts it.
    if own.panicked {
        return ("S1", Verdict::NeedsOperator);
    }
    // Transient and persistent meet: whoever meets an active cluster of the other kind is refused (unless the own kind
    // is active too: two active clusters leave each other alone); with none active, the transient ones are.
    let refused = if active.some() { !kin.and(active).some() } else { transient.has(me) };
    if others.some() && refused {
        return ("R1", REFUSE);
    }
    // A store that is damaged beyond trust needs the operator; the others decide without it.
    if own.state == State::Damaged {
        return ("R2", Verdict::NeedsOperator);
    }

    // The same store twice, and both answer (whoever does not is not linked any more): the one that an active cluster
    // acknowledged stays, the other is held; none acknowledged: both are.
    let held = world.those(|m| shared(world, m) && !(active.some() && m.acknowledged));
    let sound = kin.and(world.those(|m| m.state != State::Damaged && !m.panicked));

    // A store of another cluster id.
    let clusters = [0, 1].map(|cluster| Side::of(world, sound.without(held), cluster));
    let chosen = match (&clusters[0], &clusters[1]) {
        (None, None) => None,
        (Some(side), None) | (None, Some(side)) => Some(side),
        (Some(left), Some(right)) => {
            // A forming store is of the side with its id: it stands beside a store beyond forming of that id. An empty
            // one is of either.
            let mine = [left, right].into_iter().find(|side| {
                // Started with `--cluster-id`, an empty one is of that side alone.
                side.members.has(me)
                    || Some(side.cluster) == own.cluster
                    || (!own.belongs() && own.wanted == Some(side.cluster))
            });
            let theirs = mine.map(|mine| if mine.cluster == left.cluster { right } else { left });
            let standing = |side: &Side| (side.active.some(), side.can_restore());
            match (mine, theirs) {
                // A wrong directory never takes good brokers down: who is of a cluster that is active, or that was in
                // this run and is present without quorum, is neither newcomer nor forming and goes on.
                (Some(mine), _) if mine.active.or(mine.ran).some() => Some(mine),
                // A newcomer to an active cluster is refused.
                (Some(_), Some(theirs)) if theirs.active.some() => return ("R3", REFUSE),
                // The side that can go on by itself does, even if both can.
                (Some(mine), _) if mine.can_restore() => Some(mine),
                // The odd one, or neither side can: they wait and say so.
                (Some(_), _) => return ("R3", Verdict::Wait),
                // Without a cluster: with the only one that is active, else with the only one that can go on.
                (None, _) => match (standing(left), standing(right)) {
                    ((true, _), (false, _)) => Some(left),
                    ((false, _), (true, _)) => Some(right),
                    ((false, true), (false, false)) => Some(left),
                    ((false, false), (false, true)) => Some(right),
                    _ => return ("R3", Verdict::Wait),
                },
            }
        }
    };
    if held.has(me) {
        return ("R4", Verdict::Held);
    }

    let bare = sound.without(held).and(world.those(|m| !m.belongs()));
    match chosen {
        Some(side) => side.rule(world, bare.or(side.members), me),
        None => found(world, bare, me),
    }
}

/// Another run answers with the same store id.
fn shared(world: &World, m: &Member) -> bool {
    world.those(|other| other.store() == m.store() && other.state != State::Damaged).len() > 1
}

/// A peer of its cluster recorded this store as later than it is.
fn rolled_back(world: &World, m: &Member) -> bool {
    let recorded = |peer: &Member| peer.belongs() && peer.cluster == m.cluster && !peer.rolled_back;
    m.rolled_back && world.members.iter().any(|peer| recorded(peer) && peer.store() != m.store())
}

/// No store present belongs to a cluster: rows F1, F2 and F3.
fn found(world: &World, counted: Set, me: u8) -> (&'static str, Verdict) {
    // A store started with `--cluster-id` never founds, it only joins.
    let founders = counted.and(world.those(|m| m.wanted.is_none()));
    let wait_for = world.of(counted).map(|m| u32::from(m.wait_for)).max().unwrap_or(0);
    // N applies to the first start too: fewer than the largest is row W1.
    if counted.len() < wait_for {
        return ("W1", Verdict::Wait);
    }
    // Possible members are the union of all founders' peer lists, each including itself; more than half must be here,
    // unless small clusters are allowed.
    let union = world.of(founders).fold(Set::NONE, |union, m| union.or(m.peers).or(Set::of(m.place)));
    let small = world.of(founders).all(|m| m.allow_small);
    let founding =
        founders.has(me) && founders.len() >= wait_for && (small || founders.len() * 2 > union.len());
    let row = if world.at(me).state == State::Transient { "F1" } else { "F2" };
    if founding { (row, Verdict::Form) } else { ("F3", Verdict::Wait) }
}

/// The stores of one cluster along one list of epochs.
#[derive(Clone, Copy)]
struct View {
    line: Line,
    /// Its recorded voters, by store.
    voters: Set,
    /// Those of them that are here.
    voters_here: Set,
    /// Trusted stores of this list that are recorded voters.
    sources: Set,
}

impl View {
    fn of(world: &World, members: Set, trusted: Set, line: Line) -> Self {
        let latest = members.and(world.those(|m| m.line == line));
        // Recorded voters are those of the latest configuration in the logs of the trusted stores of the list; if there
        // is none, of whoever has that list.
        let witnesses = if latest.and(trusted).some() { latest.and(trusted) } else { latest };
        let voters = world.of(witnesses).max_by_key(|m| m.rank).map_or(Set::NONE, |m| m.voters);
        let voters_here = members.and(world.those(|m| voters.has(m.store())));
        Self { line, voters, voters_here, sources: latest.and(trusted).and(voters_here) }
    }

    /// Row C1's sentence: the sources include a majority of the recorded voters.
    fn majority(self) -> bool {
        self.sources.len() * 2 > self.voters.len()
    }

    /// Row P1's sentence: two voters, one of them trusted and holding the designated-primary number, the other not seen.
    fn solo(self, world: &World) -> Set {
        let alone = self.voters.len() == 2 && self.voters_here.len() == 1;
        if alone { self.sources.and(world.those(|m| m.solo)) } else { Set::NONE }
    }
}

/// The stores of one cluster id that count, and what follows from their logs.
struct Side {
    cluster: u8,
    /// Those beyond forming, and forming ones beside them.
    members: Set,
    active: Set,
    /// Was active in this run.
    ran: Set,
    /// An epoch list fork that no mark supersedes, or a store beyond what a forced epoch recorded for it.
    forked: bool,
    trusted: Set,
    marked: Set,
    /// Along the latest list.
    latest: View,
    /// Along the latest list of those that were active in this run, if they go on with it.
    running: Option<View>,
}

impl Side {
    fn of(world: &World, counted: Set, cluster: u8) -> Option<Self> {
        let beyond = counted.and(world.those(|m| m.belongs() && m.cluster == Some(cluster)));
        if !beyond.some() {
            return None;
        }
        // Beside a store beyond forming of the same id, a forming store is dirty at position zero and trusted.
        let forming = counted.and(world.those(|m| m.state == State::Forming(Some(cluster))));
        let members = beyond.or(forming);
        let here = |holds: &dyn Fn(&Member) -> bool| members.and(world.those(holds));
        // One list is later than another only if the other is a prefix of it; what a mark superseded is not in the way.
        let superseded = |line: Line| {
            world.of(members).any(|m| m.line.forks_from(line) && supersedes(world, m.line, line))
        };
        let latest = here(&|m| {
            !superseded(m.line)
                && !world.of(members).any(|other| other.line.later_than(m.line) && !superseded(other.line))
        });
        let line = world.of(latest).map(|m| m.line).max().unwrap_or(Line::Old);
        // Marks on which nobody began hold nothing yet: several of them are row O1's.
        let marks = |one: &Member, other: &Member| one.state == State::Marked && other.state == State::Marked;
        let forked =
            world.of(latest).any(|m| world.of(latest).any(|other| m.line != other.line && !marks(m, other)))
                || world.of(members).any(|m| {
                    world.of(latest).any(|later| beyond_record(world, m, later.line) && !marks(m, later))
                });
        // Copies and rolled-back stores are never trusted.
        let trusted = here(&|m| m.trusted && !rolled_back(world, m));
        let view = |line| View::of(world, members, trusted, line);
        let ran = here(&|m| m.ran);
        Some(Self {
            cluster,
            members,
            active: here(&|m| m.active),
            ran,
            forked,
            trusted,
            marked: latest.and(world.those(|m| m.state == State::Marked)),
            latest: view(line),
            running: running(world, ran, forked, view(line), &view),
        })
    }

    /// Goes on by itself: by C1, or by O1.
    fn can_restore(&self) -> bool {
        !self.forked && (self.latest.majority() || self.marked.len() == 1)
    }

    /// The rows for one cluster, in their order. `counted` are its members and whoever belongs to none.
    fn rule(&self, world: &World, counted: Set, me: u8) -> (&'static str, Verdict) {
        use Verdict::{Join, NeedsOperator, Restore, Resume, Wait};
        let own = world.at(me);
        let everybody = counted;
        let View { voters, voters_here, sources, line } = self.latest;

        // Epochs that the list, with which the others go on, lacks are dropped if they hold no client entry, else the
        // store is forked; unless the operator judged it with a mark.
        let left = |line: Line| {
            let judged = supersedes(world, line, own.line) && !beyond_record(world, own, line);
            self.members.has(me) && !line.holds(own.line) && own.client_entries && !judged
        };

        // Some member is active: same list, trusted and a voter of the configuration resumes as voter at once; empty,
        // untrusted, of an earlier list, or not in the configuration joins as non-voter. Whoever may lack what it
        // acknowledged may follow somebody who leads no more: its word is not enough.
        let led = self.active.and(world.those(|m| m.trusted));
        if led.some() {
            let line = world.of(led).map(|m| m.line).max().unwrap_or(Line::Old);
            let voters = world.of(led).max_by_key(|m| m.rank).map_or(Set::NONE, |m| m.voters);
            let resumes = own.line == line && self.trusted.has(me) && voters.has(own.store());
            // Whoever goes on keeps to that.
            let verdict = match (left(line), self.members.has(me) && resumes) {
                _ if own.active => Resume,
                (true, _) => NeedsOperator,
                (false, true) => Resume,
                (false, false) => Join,
            };
            return ("J1", verdict);
        }

        // Wait-for: the largest of those present. M is the smaller of it and the number of recorded voters, for a marked
        // store those before the mark.
        let wait_for = world.of(counted).map(|m| u32::from(m.wait_for)).max().unwrap_or(0);
        let marks = || world.of(self.marked).map(|m| world.origin(m.line).cause);
        let before = marks().filter_map(|mark| match mark {
            Cause::Mark { alone: false, members } => Some(u32::from(members)),
            _ => None,
        });
        let recorded = before.chain([voters.len()]).max().unwrap_or(0);
        // Not applied with a store marked alone, nor when the latest epoch is an override, solo or take-over.
        let waived = world.origin(line).cause == Cause::Forced
            || marks().any(|mark| matches!(mark, Cause::Mark { alone: true, .. }));

        // Any recorded voter here that says manual makes all act so.
        let manual = voters_here.and(world.those(|m| m.manual)).some();
        let clean = self.members.and(world.those(|m| matches!(m.state, State::Clean(_))));
        let shutdowns = |number| clean.and(world.those(|m| m.state == State::Clean(number))).some();
        let stale = |m: &Member| {
            clean.some()
                && !matches!(m.state, State::Clean(_) | State::Marked)
                && world.of(clean).all(|c| m.line.later_than(c.line) || (m.line == c.line && m.rank > c.rank))
        };
        let dirty_later = world.of(self.members.and(world.those(|m| m.state == State::Dirty))).any(stale);
        let clean_source =
            self.trusted.and(clean.or(self.marked)).and(world.those(|m| m.line == line)).some();

        // A recorded voter whose name is answered by a damaged or an empty store counts as answered.
        let answered = world.those(|m| m.state == State::Damaged).or(counted.without(self.members));
        let missing_of = |view: &View| {
            let here = world.of(view.voters_here).fold(Set::NONE, |set, m| set.or(Set::of(m.store())));
            let named = world.of(answered).fold(Set::NONE, |set, m| set.or(Set::of(m.place)));
            view.voters.without(here).without(named).len()
        };
        let could_of = |view: &View| (view.sources.len() + missing_of(view)) * 2 > view.voters.len();
        let missing = missing_of(&self.latest);
        let could = could_of(&self.latest);

        // Transient stores do not come back: a restarted one is new.
        let gone = own.state == State::Transient && !could;
        let running = self.running.map_or(Set::NONE, |running| running.sources);
        let ran = self.running.is_some();
        let goes_on = self.running.is_some_and(View::majority) && !gone;
        let forked_from_it = self.running.is_some_and(|running| left(running.line));
        let solo = match self.running {
            Some(running) => running.solo(world),
            None if self.forked => Set::NONE,
            None => self.latest.solo(world),
        };

        let hopeless = self.running.as_ref().is_some_and(|running| !could_of(running));
        let rules: [(&str, bool, Set, Verdict, Verdict); 15] = [
            // None active, but a process that was active in this run is here: trusted recorded voters of the same list
            // resume as voters at once, in either mode and whatever the wait-for; the others are updated by them, or
            // are forked from them.
            ("J2", goes_on && forked_from_it, everybody, NeedsOperator, NeedsOperator),
            ("J2", goes_on, running, Resume, Join),
            // The designated primary goes on alone, before it waits for a majority: or a surviving one never would.
            ("P1", solo.some(), solo, Restore, Join),
            // No majority of them yet: wait. If restarts took the majority of a transient cluster's voters, the survivor
            // needs the operator, and nobody founds anew while it is seen.
            ("F1", ran && gone, self.ran, NeedsOperator, Wait),
            // If nobody who is missing could make it one, waiting changes nothing.
            ("Q1", ran && hopeless, everybody, NeedsOperator, NeedsOperator),
            ("Q1", ran, everybody, Wait, Wait),
            // Fewer than M members seen.
            ("W1", !waived && counted.len() < wait_for.min(recorded), everybody, Wait, Wait),
            // Forks, and stores beyond what a forced epoch recorded for them.
            ("X1", self.forked, everybody, NeedsOperator, NeedsOperator),
            // Marked by an operator, in the latest list: two of them; exactly one, from which all restore.
            ("O1", self.marked.len() > 1, everybody, NeedsOperator, NeedsOperator),
            ("O1", self.marked.len() == 1, self.marked, Restore, Join),
            // Manual: clean stores with different shutdown ids, or a dirty one later than every clean one.
            (
                "C3",
                manual && ((shutdowns(1) && shutdowns(2)) || dirty_later),
                everybody,
                NeedsOperator,
                NeedsOperator,
            ),
            // Manual: no clean store among the trusted of the latest list, and no recorded voter is missing.
            ("C2", manual && !clean_source && missing == 0, everybody, NeedsOperator, NeedsOperator),
            // A majority of the recorded voters: they restore, the others are updated. Manual: only with a clean store.
            ("C1", self.latest.majority() && (clean_source || !manual), sources, Restore, Join),
            // Recorded voters are missing whose arrival could make it so.
            ("W2", missing > 0 && could, everybody, Wait, Wait),
            ("N1", true, everybody, NeedsOperator, NeedsOperator),
        ];
        let (row, _, who, inside, outside) =
            rules.into_iter().find(|(_, holds, ..)| *holds).expect("the last rule always holds");
        (row, if who.has(me) { inside } else { outside })
    }
}

/// Along which list those go on that were active in this run, if they do. Not if their lists fork from each other. And if
/// all of theirs were left behind by the latest one, only a majority of them does: it can elect at any moment, so nobody
/// may go on beside it.
fn running(world: &World, ran: Set, forked: bool, latest: View, view: &dyn Fn(Line) -> View) -> Option<View> {
    let line = world.of(ran).map(|m| m.line).max()?;
    let apart = |m: &Member| line.forks_from(m.line) || beyond_record(world, m, line);
    if world.of(ran).any(apart) {
        return None;
    }
    let behind = |m: &Member| latest.line.later_than(m.line) || supersedes(world, latest.line, m.line);
    let left_behind = !forked && world.of(ran).all(behind);
    Some(view(line)).filter(|view| view.majority() || !left_behind)
}

/// A mark that began the last epoch of `by` recorded stores with the list `of` as superseded.
fn supersedes(world: &World, by: Line, of: Line) -> bool {
    let origin = world.origin(by);
    matches!(origin.cause, Cause::Mark { .. })
        && origin.left_out.iter().any(|known| matches!(known, Known::At(line, _) if *line == of))
}

/// `later`'s last epoch, which `m`'s list lacks, left out `m`'s store, and `m` is beyond what was recorded of it, by
/// incarnation or by log; recorded as unknown: its log reaches beyond the fork.
fn beyond_record(world: &World, m: &Member, later: Line) -> bool {
    if m.new_store || m.line.holds(later) {
        return false;
    }
    match world.origin(later).left_out[usize::from(m.place)] {
        Known::NotLeftOut => false,
        Known::Unknown => m.line != Line::Old || m.rank > FORK_RANK,
        // Behind it, it lost something; that is not for this rule.
        Known::At(line, rank) => {
            m.restarted_since || !line.holds(m.line) || (m.line == line && m.rank > rank)
        }
    }
}
