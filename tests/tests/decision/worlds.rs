//! Every world of a family, once for each that renaming its stores would make of it.

use crate::model::{Line, Member, Set, State, World};

/// Places that are alike, and what may be at each of them; `None` is nobody.
pub(crate) struct Class {
    pub(crate) places: Vec<u8>,
    pub(crate) choices: Vec<Option<Member>>,
}

/// All worlds of these classes. Within a class the choices ascend, as any other order is the same world with its stores
/// renamed.
pub(crate) fn each(classes: &[Class], visit: &mut dyn FnMut(&World)) {
    let places: Vec<(usize, u8)> = (0..)
        .zip(classes)
        .flat_map(|(class, one)| one.places.iter().map(move |place| (class, *place)))
        .collect();
    let mut world = World::plain(Vec::with_capacity(places.len()));
    fill(classes, &places, None, &mut world, visit);
}

fn fill(
    classes: &[Class],
    places: &[(usize, u8)],
    last: Option<(usize, usize)>,
    world: &mut World,
    visit: &mut dyn FnMut(&World),
) {
    let Some(((class, place), rest)) = places.split_first().map(|(first, rest)| (*first, rest)) else {
        visit(world);
        return;
    };
    let from = last.filter(|(before, _)| *before == class).map_or(0, |(_, choice)| choice);
    for (choice, member) in classes[class].choices.iter().enumerate().skip(from) {
        let here = member.map(|member| Member { place, ..member });
        world.members.extend(here);
        fill(classes, rest, Some((class, choice)), world, visit);
        if here.is_some() {
            world.members.pop();
        }
    }
}

/// A store beyond forming of this cluster, dirty.
pub(crate) fn dirty(cluster: u8, voters: Set, line: Line, rank: u8, trusted: bool) -> Member {
    Member {
        new_store: false,
        state: State::Dirty,
        cluster: Some(cluster),
        line,
        rank,
        voters,
        trusted,
        // The product holds every epoch of its own against a store until it can tell what is in it.
        client_entries: line != Line::Old,
        ..Member::empty(0)
    }
}

/// As [`dirty`] and trusted, closed by this shutdown.
pub(crate) fn clean(cluster: u8, voters: Set, line: Line, rank: u8, shutdown: u8) -> Member {
    Member { state: State::Clean(shutdown), ..dirty(cluster, voters, line, rank, true) }
}

/// Its stamp cannot be read.
pub(crate) fn damaged() -> Member {
    Member { new_store: false, state: State::Damaged, ..Member::empty(0) }
}

/// Accepted a founding of this cluster by these founders, or only promised.
pub(crate) fn forming(cluster: Option<u8>, founders: Set) -> Member {
    Member { new_store: false, state: State::Forming(cluster), voters: founders, ..Member::empty(0) }
}

/// Without a store, in no cluster during this run.
pub(crate) fn fresh() -> Member {
    Member { state: State::Transient, ..Member::empty(0) }
}

/// As [`dirty`], active in this run.
pub(crate) fn ran(member: Member) -> Member {
    Member { ran: true, ..member }
}

/// As [`ran`], and led now with a quorum.
pub(crate) fn active(member: Member) -> Member {
    Member { active: true, ran: true, acknowledged: true, ..member }
}

/// As [`ran`], without a store.
pub(crate) fn survivor(member: Member) -> Member {
    Member { state: State::Transient, ..ran(member) }
}

/// Voters at the first places, the others at the rest, each with these choices.
pub(crate) fn voters_and_others(
    voters: u8,
    at_voters: Vec<Option<Member>>,
    at_others: Vec<Option<Member>>,
) -> [Class; 2] {
    [
        Class { places: (0..voters).collect(), choices: at_voters },
        Class { places: (voters..4).collect(), choices: at_others },
    ]
}
