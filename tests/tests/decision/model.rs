//! A small plain model of what brokers tell each other: places, lists of epochs, ranks. No ids, no text.

use std::fmt;

/// Places that a cluster of four can have. A place is a broker's name and address.
pub(crate) const PLACES: u8 = 4;

/// A set of small numbers: of stores, of places, or of members by their index in a [`World`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Set(pub(crate) u16);

impl Set {
    pub(crate) const NONE: Self = Self(0);

    /// 0, 1, 2 .. of this many.
    pub(crate) const fn first(count: u8) -> Self {
        Self((1 << count) - 1)
    }

    pub(crate) const fn of(number: u8) -> Self {
        Self(1 << number)
    }

    pub(crate) const fn has(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) const fn some(self) -> bool {
        self.0 != 0
    }

    pub(crate) fn each(self) -> impl Iterator<Item = u8> {
        (0..16).filter(move |number| self.has(*number))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.each()).finish()
    }
}

/// What a store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    /// No store: started anew, or in a cluster earlier in this run (then [`Member::cluster`] says which).
    Transient,
    Empty,
    /// Accepted a founding with this cluster id, or promised only.
    Forming(Option<u8>),
    Dirty,
    /// Closed by the shutdown with this number.
    Clean(u8),
    /// Marked by an operator: the last epoch of its list is the mark's.
    Marked,
    Damaged,
}

/// A list of epochs: the founding's alone, or one of two that go on from it and are no part of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Line {
    Old,
    Main,
    Fork,
}

impl Line {
    /// Numbers of its epochs, oldest first.
    pub(crate) const fn epochs(self) -> &'static [u8] {
        match self {
            Self::Old => &[1],
            Self::Main => &[1, 2],
            Self::Fork => &[1, 3],
        }
    }

    /// This list goes on where the other one ends, or is the same.
    pub(crate) fn holds(self, other: Self) -> bool {
        self.epochs().starts_with(other.epochs())
    }

    /// It goes on.
    pub(crate) fn later_than(self, other: Self) -> bool {
        self != other && self.holds(other)
    }

    /// Neither goes on from the other.
    pub(crate) fn forks_from(self, other: Self) -> bool {
        !self.holds(other) && !other.holds(self)
    }
}

/// One run of one broker that is linked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member {
    /// Its name and address.
    pub(crate) place: u8,
    /// A new disk, or none: not the store that was recorded for the place.
    pub(crate) new_store: bool,
    /// Another run, or a copy, of the store that another member has.
    pub(crate) twin: bool,
    pub(crate) state: State,
    /// 0 or 1; for whoever is beyond forming.
    pub(crate) cluster: Option<u8>,
    pub(crate) line: Line,
    /// How far its log goes within its list.
    pub(crate) rank: u8,
    /// Stores that are voters by its log.
    pub(crate) voters: Set,
    pub(crate) trusted: bool,
    /// Its group is led now with a quorum.
    pub(crate) active: bool,
    /// Its group was active in this run.
    pub(crate) ran: bool,
    /// Another broker recorded this store as it is not: rolled back, or a copy.
    pub(crate) rolled_back: bool,
    /// An active member acknowledged this run.
    pub(crate) acknowledged: bool,
    /// It holds client entries in the last epoch of its list.
    pub(crate) client_entries: bool,
    /// It took a new incarnation after a forced epoch recorded the one before.
    pub(crate) restarted_since: bool,
    /// It panicked.
    pub(crate) panicked: bool,
    /// It holds the designated-primary number, and the other of two voters is silent.
    pub(crate) solo: bool,
    /// `--cluster-wait-for`.
    pub(crate) wait_for: u8,
    /// `--recovery manual`.
    pub(crate) manual: bool,
    /// `--allow-small-cluster`.
    pub(crate) allow_small: bool,
    /// `--cluster-id`.
    pub(crate) wanted: Option<u8>,
    /// `--cluster-peers`: places.
    pub(crate) peers: Set,
}

impl Member {
    /// Started for the first time at this place, in an ordinary cluster of four.
    pub(crate) const fn empty(place: u8) -> Self {
        Self {
            place,
            new_store: true,
            twin: false,
            state: State::Empty,
            cluster: None,
            line: Line::Old,
            rank: 0,
            voters: Set::NONE,
            trusted: true,
            active: false,
            ran: false,
            rolled_back: false,
            acknowledged: false,
            client_entries: false,
            restarted_since: false,
            panicked: false,
            solo: false,
            wait_for: 1,
            manual: false,
            allow_small: false,
            wanted: None,
            peers: Set::first(PLACES),
        }
    }

    /// The number of its store.
    pub(crate) const fn store(&self) -> u8 {
        if self.new_store { self.place + 8 } else { self.place }
    }

    /// Beyond forming.
    pub(crate) const fn belongs(&self) -> bool {
        self.cluster.is_some() && !matches!(self.state, State::Damaged)
    }
}

/// What began an epoch after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cause {
    /// Nobody was left out of it.
    Plain,
    /// Override, solo or take-over.
    Forced,
    /// An operator's mark, which serves alone, or once this many members are there.
    Mark { alone: bool, members: u8 },
}

/// What a forced epoch recorded of a store that it left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Known {
    /// Nothing: it was not left out.
    NotLeftOut,
    /// *Unknown*.
    Unknown,
    /// Its log's list and how far it went.
    At(Line, u8),
}

/// How an epoch after the first came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    pub(crate) cause: Cause,
    /// The store that was marked, or the voter that was let go on.
    pub(crate) by: u8,
    /// What it recorded, by place.
    pub(crate) left_out: [Known; PLACES as usize],
}

impl Origin {
    pub(crate) const PLAIN: Self =
        Self { cause: Cause::Plain, by: 0, left_out: [Known::NotLeftOut; PLACES as usize] };
}

/// Where every epoch after the first forks from the first: entries of `Line::Old` above this rank are beyond it.
pub(crate) const FORK_RANK: u8 = 1;

/// Who is linked, in any order, seen by each of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) members: Vec<Member>,
    /// How the last epoch of `Line::Main` began.
    pub(crate) main: Origin,
    /// How the last epoch of `Line::Fork` began.
    pub(crate) fork: Origin,
}

impl World {
    pub(crate) const fn plain(members: Vec<Member>) -> Self {
        Self { members, main: Origin::PLAIN, fork: Origin::PLAIN }
    }

    /// How the last epoch of this list began.
    pub(crate) const fn origin(&self, line: Line) -> Origin {
        match line {
            Line::Old => Origin::PLAIN,
            Line::Main => self.main,
            Line::Fork => self.fork,
        }
    }

    /// The members, by index, of which this holds.
    pub(crate) fn those(&self, holds: impl Fn(&Member) -> bool) -> Set {
        let mut set = Set::NONE;
        for (index, member) in (0..).zip(&self.members) {
            if holds(member) {
                set = set.or(Set::of(index));
            }
        }
        set
    }

    pub(crate) fn at(&self, index: u8) -> &Member {
        &self.members[usize::from(index)]
    }

    pub(crate) fn of(&self, set: Set) -> impl Iterator<Item = &Member> {
        set.each().map(|index| self.at(index))
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = ["a", "b", "c", "d", "?"];
        let letter = |place: u8| letters[usize::from(place.min(4))];
        let stores = |set: Set| {
            let names: Vec<String> = set
                .each()
                .map(|store| if store < 8 { letter(store).into() } else { format!("{}'", letter(store - 8)) })
                .collect();
            names.join("")
        };
        for member in &self.members {
            let mut says = vec![format!("{:?}", member.state)];
            if let Some(cluster) = member.cluster {
                says.push(format!("cluster {cluster}"));
                says.push(format!("epochs {:?}", member.line.epochs()));
                says.push(format!("rank {}", member.rank));
                says.push(format!("voters {}", stores(member.voters)));
            }
            says.push(format!("wait-for {}", member.wait_for));
            for (holds, text) in [
                (member.cluster.is_some() && !member.trusted, "UNTRUSTED"),
                (member.active, "ACTIVE"),
                (member.ran, "was active in this run"),
                (member.twin, "twin"),
                (member.rolled_back, "ROLLED BACK"),
                (member.acknowledged, "acknowledged"),
                (member.client_entries, "client entries in its last epoch"),
                (member.restarted_since, "restarted since"),
                (member.panicked, "PANICKED"),
                (member.solo, "designated primary, peer silent"),
                (member.manual, "manual"),
                (member.allow_small, "allow-small"),
            ] {
                if holds {
                    says.push(text.into());
                }
            }
            if let Some(wanted) = member.wanted {
                says.push(format!("--cluster-id {wanted}"));
            }
            if member.peers != Set::first(PLACES) {
                says.push(format!("peers {}", stores(member.peers)));
            }
            let store = stores(Set::of(member.store()));
            writeln!(f, "  {store:<2} {}", says.join(", "))?;
        }
        for (number, origin) in [(2, self.main), (3, self.fork)] {
            if origin != Origin::PLAIN {
                writeln!(f, "  epoch {number}: {origin:?}")?;
            }
        }
        Ok(())
    }
}
