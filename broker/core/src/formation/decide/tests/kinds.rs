//! What may have become of a broker, for tests that try every combination.

use crate::formation::samples::*;
use crate::formation::status::InitialStatus;

/// What may have become of one of three brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Absent,
    Empty,
    Dirty,
    Untrusted,
    CleanOne,
    CleanTwo,
    Damaged,
    Ran,
    Active,
    Foreign,
    ForeignActive,
}

use Kind::*;

pub(super) const KINDS: [Kind; 11] =
    [Absent, Empty, Dirty, Untrusted, CleanOne, CleanTwo, Damaged, Ran, Active, Foreign, ForeignActive];

impl Kind {
    pub(super) fn is_foreign(self) -> bool {
        matches!(self, Foreign | ForeignActive)
    }

    /// Of the cluster, and holding all it acknowledged.
    pub(super) fn is_able(self) -> bool {
        matches!(self, Dirty | CleanOne | CleanTwo | Ran | Active)
    }

    pub(super) fn belongs(self) -> bool {
        self.is_able() || self == Untrusted
    }

    pub(super) fn status(self, number: u128) -> Option<InitialStatus> {
        let at = |mut status: InitialStatus, index: u64| {
            status.groups[0].position = position(2, index);
            status
        };
        Some(match self {
            Absent => return None,
            Empty => empty(number),
            Dirty => dirty(number),
            Untrusted => at(untrusted(number), 30),
            CleanOne => at(clean(number, 1), 10),
            CleanTwo => at(clean(number, 2), 10),
            Damaged => damaged(number),
            Ran => ran(number),
            Active => active(number),
            Foreign => foreign(dirty(number)),
            ForeignActive => foreign(active(number)),
        })
    }
}
