//! A group's list of epochs, and how two of them compare: as lists, never by number.

use std::fmt;

use quorate_store::stamp::EpochEntry;

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
pub fn relation(one: &[EpochEntry], other: &[EpochEntry]) -> Relation {
    let shared = common(one, other);
    let same = shared == one.len() && shared == other.len();
    if same || (one.is_empty() && other.len() == 1) || (one.len() == 1 && other.is_empty()) {
        Relation::Same
    } else if shared == one.len() {
        Relation::Earlier
    } else if shared == other.len() {
        Relation::Later
    } else {
        Relation::Forked
    }
}

/// How many epochs, from the first, two lineages have in common. An epoch is known by its number and its random id;
/// what each side wrote beside them is only told.
pub fn common(one: &[EpochEntry], other: &[EpochEntry]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| (one.number, one.id) == (other.number, other.id)).count()
}

/// Whether two lineages end with the same epoch.
pub fn same_tip(one: &[EpochEntry], other: &[EpochEntry]) -> bool {
    let tip = |list: &[EpochEntry]| list.last().map(|epoch| (epoch.number, epoch.id));
    tip(one) == tip(other)
}

#[cfg(test)]
mod tests {
    use super::super::samples::epochs as list;
    use super::*;

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
