//! Families of worlds. Each is complete in what it names; what it leaves out is said with it.
//!
//! Left out everywhere, because it cannot be:
//! - an empty store is never a recorded voter: under a voter's name it is another store;
//! - two logs of one list that go equally far have the same configuration;
//! - active members share list of epochs and configuration: one leader leads them.

use crate::compare::Comparison;
use crate::model::{Cause, FORK_RANK, Known, Line, Member, Origin, Set, State, World};
use crate::worlds::{
    Class, active, clean, damaged, dirty, each, forming, fresh, ran, survivor, voters_and_others,
};

/// With these settings at every member.
fn set(world: &World, wait_for: u8, manual: bool) -> World {
    let mut world = world.clone();
    for member in &mut world.members {
        member.wait_for = wait_for;
        member.manual = manual;
    }
    world
}

fn belonging(world: &World) -> bool {
    world.members.iter().any(Member::belongs)
}

/// One cluster after a total outage: every state, list and rank at every member, every wait-for, both modes.
#[test]
fn stores_of_one_cluster() {
    let mut comparison = Comparison::default();
    for count in 1..=4 {
        let voters = Set::first(count);
        let mut choices = vec![None, Some(Member::empty(0)), Some(damaged()), Some(forming(Some(0), voters))];
        for (line, rank) in [
            (Line::Old, 0),
            (Line::Old, 2),
            (Line::Main, 0),
            (Line::Main, 1),
            (Line::Main, 2),
            (Line::Fork, 1),
        ] {
            choices.extend([
                Some(dirty(0, voters, line, rank, true)),
                Some(dirty(0, voters, line, rank, false)),
                Some(clean(0, voters, line, rank, 1)),
                Some(clean(0, voters, line, rank, 2)),
            ]);
        }
        each(&voters_and_others(count, choices.clone(), choices), &mut |world| {
            if belonging(world) {
                // More than the number of voters is the same as that number.
                for wait_for in 1..=count {
                    for manual in [false, true] {
                        comparison.check(&set(world, wait_for, manual));
                    }
                }
            }
        });
    }
    comparison.finish("stores of one cluster", &["R2", "W1", "X1", "C3", "C2", "C1", "W2", "N1"]);
}

/// Stores of two clusters, at rest, running, and active.
#[test]
fn stores_of_two_clusters() {
    let mut comparison = Comparison::default();
    for left in 1..=3 {
        for right in 1..=3_u8 {
            let voters = [Set::first(left), Set(Set::first(right).0 << (4 - right))];
            let mut choices = vec![None, Some(Member::empty(0)), Some(damaged())];
            for cluster in [0, 1] {
                let voters = voters[usize::from(cluster)];
                let main = dirty(cluster, voters, Line::Main, 1, true);
                choices.extend([
                    Some(forming(Some(cluster), voters)),
                    Some(main),
                    Some(dirty(cluster, voters, Line::Main, 2, false)),
                    Some(clean(cluster, voters, Line::Old, 1, 1)),
                    Some(active(main)),
                    Some(ran(main)),
                ]);
            }
            // Places alike: voters of one, of both, of the other, of none.
            let kinds = [(true, false), (true, true), (false, true), (false, false)];
            let classes: Vec<Class> = kinds
                .iter()
                .map(|kind| Class {
                    places: (0..4)
                        .filter(|place| (voters[0].has(*place), voters[1].has(*place)) == *kind)
                        .collect(),
                    choices: choices.clone(),
                })
                .collect();
            each(&classes, &mut |world| {
                if belonging(world) {
                    for wait_for in [1, 3] {
                        comparison.check(&set(world, wait_for, false));
                    }
                }
            });
        }
    }
    comparison.finish("stores of two clusters", &["R3", "J1", "J2", "Q1", "W1", "C1", "W2"]);
}

/// Members that are active, or were in this run, beside stores at rest.
#[test]
fn running_and_resting() {
    let mut comparison = Comparison::default();
    for count in 1..=4 {
        let voters = Set::first(count);
        for led in [Line::Old, Line::Main] {
            let mut choices =
                vec![None, Some(Member::empty(0)), Some(damaged()), Some(forming(Some(0), voters))];
            for (line, rank) in [(Line::Old, 1), (Line::Main, 0), (Line::Main, 2), (Line::Fork, 1)] {
                for trusted in [true, false] {
                    let member = dirty(0, voters, line, rank, trusted);
                    choices.extend([Some(member), Some(ran(member))]);
                    if line == led {
                        choices.push(Some(active(member)));
                    }
                }
                choices.push(Some(clean(0, voters, line, rank, 1)));
            }
            each(&voters_and_others(count, choices.clone(), choices), &mut |world| {
                if world.members.iter().any(|member| member.ran) {
                    for (wait_for, manual) in [(1, false), (4, true)] {
                        comparison.check(&set(world, wait_for, manual));
                    }
                }
            });
        }
    }
    comparison.finish("running and resting", &["J1", "J2", "Q1"]);
}

/// Members without stores, alone and among persistent ones.
#[test]
fn transient_members() {
    let mut comparison = Comparison::default();
    for count in 1..=4 {
        let voters = Set::first(count);
        let mut choices = vec![None, Some(fresh()), Some(Member::empty(0)), Some(damaged())];
        for (line, rank) in [(Line::Old, 0), (Line::Old, 2), (Line::Main, 1)] {
            let member = dirty(0, voters, line, rank, true);
            choices.extend([Some(survivor(member)), Some(member)]);
            if line == Line::Old {
                choices.extend([Some(survivor(active(member))), Some(active(member))]);
            }
        }
        each(&voters_and_others(count, choices.clone(), choices), &mut |world| {
            if world.members.iter().any(|member| member.state == State::Transient) {
                for wait_for in 1..=4 {
                    comparison.check(&set(world, wait_for, false));
                }
            }
        });
    }
    comparison.finish("transient members", &["R1", "J1", "J2", "Q1", "F1", "F3"]);
}

/// A configuration change by one voter that only the longer logs hold.
#[test]
fn a_change_of_voters_under_way() {
    let mut comparison = Comparison::default();
    for count in 1..=3_u8 {
        // Growing from so many voters by one, and shrinking to as many.
        for (before, after) in
            [(Set::first(count), Set::first(count + 1)), (Set::first(count + 1), Set::first(count))]
        {
            let mut choices = vec![None, Some(Member::empty(0)), Some(damaged())];
            for (line, rank) in [(Line::Old, 1), (Line::Main, 0), (Line::Main, 1), (Line::Main, 2)] {
                let voters = if (line, rank) >= (Line::Main, 1) { after } else { before };
                choices.extend([
                    Some(dirty(0, voters, line, rank, true)),
                    Some(dirty(0, voters, line, rank, false)),
                    Some(ran(dirty(0, voters, line, rank, true))),
                    Some(clean(0, voters, line, rank, 1)),
                ]);
            }
            let class = |places: Vec<u8>| Class { places, choices: choices.clone() };
            let classes = [class((0..count).collect()), class(vec![count]), class((count + 1..4).collect())];
            each(&classes, &mut |world| {
                if belonging(world) {
                    for (wait_for, manual) in [(1, false), (4, false), (1, true)] {
                        comparison.check(&set(world, wait_for, manual));
                    }
                }
            });
        }
    }
    comparison.finish("a change of voters under way", &["J2", "W1", "C1", "W2", "N1"]);
}

/// Wait-for and recovery mode that differ from member to member.
#[test]
fn settings_that_differ() {
    let mut comparison = Comparison::default();
    for count in 1..=4 {
        let voters = Set::first(count);
        let states = [
            Member::empty(0),
            damaged(),
            dirty(0, voters, Line::Main, 1, true),
            dirty(0, voters, Line::Main, 2, false),
            clean(0, voters, Line::Main, 1, 1),
        ];
        let mut choices = vec![None];
        for state in states {
            for (wait_for, manual) in [(1, false), (3, false), (1, true), (4, true)] {
                choices.push(Some(Member { wait_for, manual, ..state }));
            }
        }
        each(&voters_and_others(count, choices.clone(), choices), &mut |world| {
            if belonging(world) {
                comparison.check(world);
            }
        });
    }
    comparison.finish("settings that differ", &["W1", "C3", "C2", "C1", "W2", "N1"]);
}

/// No store belongs to a cluster: every peer list at every member.
#[test]
fn founding_by_peer_lists() {
    let mut comparison = Comparison::default();
    let union = Set::first(4);
    for persistent in [true, false] {
        let classes: Vec<Class> = (0..4_u8)
            .map(|place| {
                let lists = (0..16).map(Set).filter(|list| list.has(place));
                let mut choices = vec![None];
                if persistent {
                    choices.push(Some(damaged()));
                }
                for peers in lists {
                    if persistent {
                        choices.push(Some(Member { peers, ..Member::empty(0) }));
                        choices.push(Some(Member { peers, ..forming(Some(0), union) }));
                    } else {
                        choices.push(Some(Member { peers, ..fresh() }));
                    }
                }
                Class { places: vec![place], choices }
            })
            .collect();
        each(&classes, &mut |world| {
            for wait_for in 1..=4 {
                comparison.check(&set(world, wait_for, false));
            }
        });
    }
    comparison.finish("founding by peer lists", &["R2", "F1", "F2", "F3"]);
}

/// No store belongs to a cluster: flags and wait-for that differ, foundings under way.
#[test]
fn founding_by_flags() {
    let mut comparison = Comparison::default();
    let states = [
        Member::empty(0),
        forming(None, Set::first(4)),
        forming(Some(0), Set::first(4)),
        forming(Some(1), Set::first(4)),
    ];
    let mut choices = vec![None, Some(damaged())];
    for state in states {
        for allow_small in [false, true] {
            for wanted in [None, Some(0)] {
                for wait_for in [1, 3] {
                    choices.push(Some(Member { wait_for, allow_small, wanted, ..state }));
                }
            }
        }
    }
    each(&[Class { places: (0..4).collect(), choices }], &mut |world| comparison.check(world));
    comparison.finish("founding by flags", &["F2", "F3"]);
}

/// The same store twice, copies, and stores rolled back.
#[test]
fn twins_and_copies() {
    let mut comparison = Comparison::default();
    for count in 1..=3 {
        let voters = Set::first(count);
        let mut choices = vec![None, Some(Member::empty(0))];
        for (line, rank) in [(Line::Old, 1), (Line::Main, 1), (Line::Main, 2)] {
            let member = dirty(0, voters, line, rank, true);
            choices.extend([Some(member), Some(Member { rolled_back: true, ..member })]);
            if line == Line::Main {
                choices.push(Some(active(member)));
                choices.push(Some(clean(0, voters, line, rank, 1)));
            }
        }
        each(&voters_and_others(count, choices.clone(), choices.clone()), &mut |world| {
            if !belonging(world) {
                return;
            }
            comparison.check(&set(world, 1, false));
            // The first member's store once more.
            let Some(first) = world.members.first().filter(|first| first.belongs()).copied() else { return };
            for acknowledged in [(true, false), (false, true), (false, false)] {
                // A cluster does not acknowledge another run of a member that is active in it.
                if first.active && !acknowledged.0 {
                    continue;
                }
                let mut world = set(world, 1, false);
                world.members[0].acknowledged = acknowledged.0;
                let twin =
                    Member { twin: true, acknowledged: acknowledged.1, active: false, ran: false, ..first };
                world.members.push(twin);
                comparison.check(&world);
            }
        });
    }
    comparison.finish("twins and copies", &["R4"]);
}

/// What began the epoch that the store at this place went on with alone, and what it recorded of the other voters.
fn forced(cause: Cause, by: u8, voters: Set, known: Known) -> Origin {
    let mut origin = Origin { cause, by, ..Origin::PLAIN };
    for place in voters.without(Set::of(by)).each() {
        origin.left_out[usize::from(place)] = known;
    }
    origin
}

/// Forced epochs and operator's marks: what they recorded of those left out, and who is there after them. The first
/// voter's store begins one history, the second one's the other.
#[test]
fn forced_epochs_and_marks() {
    let mut comparison = Comparison::default();
    for count in 2..=3 {
        let voters = Set::first(count);
        let causes = [
            Cause::Forced,
            Cause::Mark { alone: false, members: count },
            Cause::Mark { alone: true, members: 0 },
        ];
        let knowns = |other| [Known::Unknown, Known::At(Line::Old, FORK_RANK), Known::At(other, 1)];
        for main in causes {
            for left_by_main in knowns(Line::Fork) {
                for fork in causes {
                    for left_by_fork in knowns(Line::Main) {
                        // Only the later of two acts can know of the earlier one.
                        if left_by_main == Known::At(Line::Fork, 1)
                            && left_by_fork == Known::At(Line::Main, 1)
                        {
                            continue;
                        }
                        let main = forced(main, 0, voters, left_by_main);
                        let fork = forced(fork, 1, voters, left_by_fork);
                        for wait_for in [1, count] {
                            each(&after_forced_epochs(count, main, fork), &mut |world| {
                                if possible_after_forced(world) {
                                    comparison.check(&World { main, fork, ..set(world, wait_for, false) });
                                }
                            });
                        }
                    }
                }
            }
        }
    }
    comparison.finish("forced epochs and marks", &["X1", "O1", "J1", "W1", "C1", "W2", "N1"]);
}

/// Who may be at each place once the first two went on separately.
fn after_forced_epochs(count: u8, main: Origin, fork: Origin) -> Vec<Class> {
    let voters = Set::first(count);
    let mut common = vec![None, Some(Member::empty(0)), Some(damaged())];
    for rank in [FORK_RANK, 2] {
        let member = dirty(0, voters, Line::Old, rank, true);
        common.extend([Some(member), Some(Member { restarted_since: true, ..member })]);
    }
    common.push(Some(dirty(0, voters, Line::Old, 2, false)));
    for (line, origin) in [(Line::Main, main), (Line::Fork, fork)] {
        let alone = matches!(origin.cause, Cause::Mark { .. });
        // A mark's only voter, until others were taken in.
        let before = if alone { Set::of(origin.by) } else { voters };
        for (rank, voters) in [(1, before), (2, voters)] {
            let member = dirty(0, voters, line, rank, true);
            for client_entries in [false, true] {
                common.push(Some(Member { client_entries, ..member }));
            }
        }
        common.push(Some(dirty(0, voters, line, 2, false)));
    }
    let running = dirty(0, voters, Line::Main, 2, true);
    common.push(Some(active(running)));
    let at = |place: u8, line: Line, origin: Origin| {
        let mut choices = common.clone();
        if matches!(origin.cause, Cause::Mark { .. }) {
            let marked = Member {
                state: State::Marked,
                client_entries: false,
                ..dirty(0, Set::of(place), line, 0, true)
            };
            choices.push(Some(marked));
        }
        Class { places: vec![place], choices }
    };
    let mut classes = vec![at(0, Line::Main, main), at(1, Line::Fork, fork)];
    if count > 2 {
        classes.push(Class { places: (2..count).collect(), choices: common });
    }
    classes
}

/// A marked store is the only one of its history: whoever begins on it is no longer marked. And whoever began a history
/// is in it, unless the other one is running and took it in.
fn possible_after_forced(world: &World) -> bool {
    let alone = |marked: &Member| {
        world.members.iter().all(|other| other.place == marked.place || other.line != marked.line)
    };
    let anybody = |line| world.members.iter().any(|member| member.cluster.is_some() && member.line == line);
    let own = |member: &Member| match (member.place, member.line) {
        (0, Line::Fork) => false,
        (1, Line::Main) => world.members.iter().any(|member| member.active),
        // Before its own act: it was rolled back.
        (0, Line::Old) => member.cluster.is_none() || !anybody(Line::Main),
        (1, Line::Old) => member.cluster.is_none() || !anybody(Line::Fork),
        _ => true,
    };
    world.members.iter().all(|member| own(member) && (member.state != State::Marked || alone(member)))
}

/// The designated primary of two.
#[test]
fn designated_primary() {
    let mut comparison = Comparison::default();
    let voters = Set::first(2);
    let mut choices = vec![None, Some(Member::empty(0)), Some(damaged())];
    for line in [Line::Old, Line::Main] {
        for trusted in [true, false] {
            let member = dirty(0, voters, line, 1, trusted);
            choices.extend([Some(member), Some(ran(member))]);
        }
    }
    each(&voters_and_others(2, choices.clone(), choices), &mut |world| {
        // The other voter is not seen: only one of the two is here.
        if world.those(|member| voters.has(member.store())).len() == 1 {
            for wait_for in [1, 2] {
                let mut world = set(world, wait_for, false);
                for member in &mut world.members {
                    member.solo = member.belongs() && voters.has(member.store());
                }
                comparison.check(&world);
            }
        }
    });
    comparison.finish("designated primary", &["P1"]);
}

/// One of the members panicked.
#[test]
fn a_panicked_member() {
    let mut comparison = Comparison::default();
    for count in 1..=3 {
        let voters = Set::first(count);
        let mut choices = vec![None, Some(Member::empty(0)), Some(damaged())];
        for (line, rank) in [(Line::Old, 1), (Line::Main, 1), (Line::Main, 2)] {
            let member = dirty(0, voters, line, rank, true);
            choices.extend([Some(member), Some(ran(member)), Some(Member { panicked: true, ..member })]);
            if line == Line::Main {
                choices.push(Some(active(member)));
            }
        }
        each(&voters_and_others(count, choices.clone(), choices), &mut |world| {
            if world.members.iter().any(|member| member.panicked) {
                for wait_for in [1, count] {
                    comparison.check(&set(world, wait_for, false));
                }
            }
        });
    }
    comparison.finish("a panicked member", &["S1", "J1", "J2", "Q1", "C1", "W2"]);
}
