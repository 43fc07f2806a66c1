//! A group's list of epochs, and how two of them compare: as lists, never by number.

use std::fmt;

use quorate_store::ids::Epoch;
use uuid::Uuid;

/// One epoch as its list names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochRef {
    /// Its number.
    pub number: Epoch,
    /// Its random id.
    pub id: Uuid,
}

/// How one lineage stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same history.
    Same,
    /// The other one goes on where this one ends.
    Earlier,
    /// This one goes on where the other ends.
    Later,
    /// Both went on separately.
    Forked,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Earlier => "earlier",
            Self::Later => "later",
            Self::Forked => "forked",
        })
    }
}

/// Compares `one` with `other`. An empty list is a store that holds nothing of the group yet: it stands at the
/// founding, so beside a list of one epoch it is the same history at position zero.
pub fn relation(one: &[EpochRef], other: &[EpochRef]) -> Relation {
    if one == other || (one.is_empty() && other.len() == 1) || (one.len() == 1 && other.is_empty()) {
        Relation::Same
    } else if other.starts_with(one) {
        Relation::Earlier
    } else if one.starts_with(other) {
        Relation::Later
    } else {
        Relation::Forked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[u128]) -> Vec<EpochRef> {
        (1..)
            .zip(ids)
            .map(|(number, id)| EpochRef { number: Epoch(number), id: Uuid::from_u128(*id) })
            .collect()
    }

    #[test]
    fn lists_are_compared_by_prefix_and_never_by_number() {
        let cases: [(&[u128], &[u128], Relation); 9] = [
            (&[1], &[1], Relation::Same),
            (&[], &[], Relation::Same),
            (&[], &[1], Relation::Same),
            (&[1], &[], Relation::Same),
            (&[], &[1, 2], Relation::Earlier),
            (&[1], &[1, 2], Relation::Earlier),
            (&[1, 2], &[1], Relation::Later),
            (&[1, 2], &[1, 3], Relation::Forked),
            (&[1, 2, 3], &[1, 4], Relation::Forked),
        ];
        for (one, other, expected) in cases {
            assert_eq!(relation(&list(one), &list(other)), expected, "{one:?} to {other:?}");
        }
    }
}
