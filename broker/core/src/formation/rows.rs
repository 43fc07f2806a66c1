//! The labelled rows of the start-up decision, as a type.

use std::fmt;

/// A row of the decision table. Labels appear in logs, in `quorate cluster status|explain`, in the operator's
/// reference and in tests; they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// The broker panicked, and stays so.
    S1,
    /// Transient and persistent brokers meet.
    R1,
    /// The own store is damaged beyond trust.
    R2,
    /// A store of another cluster.
    R3,
    /// The same store id twice.
    R4,
    /// The same broker name twice.
    R5,
    /// The group is active.
    J1,
    /// The group was active in this run and a majority is there to go on.
    J2,
    /// The group was active in this run and no majority is there.
    Q1,
    /// The designated primary of two goes on alone.
    P1,
    /// Fewer members than the start waits for.
    W1,
    /// Transient brokers found a cluster.
    F1,
    /// Empty and forming stores found a cluster.
    F2,
    /// Nothing to restore, and a founding is not possible yet.
    F3,
    /// Two histories of one group.
    X1,
    /// An operator marked a store.
    O1,
    /// Manual mode: clean stores disagree, or a dirty one is later.
    C3,
    /// Manual mode: everyone is there and nobody is clean.
    C2,
    /// A majority of trusted voters is there.
    C1,
    /// Voters are missing whose arrival could complete a majority.
    W2,
    /// Only an operator can say how to go on.
    N1,
}

impl Row {
    /// Every row, in the order of the table.
    pub const ALL: [Self; 21] = [
        Self::S1,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::J1,
        Self::J2,
        Self::Q1,
        Self::P1,
        Self::W1,
        Self::F1,
        Self::F2,
        Self::F3,
        Self::X1,
        Self::O1,
        Self::C3,
        Self::C2,
        Self::C1,
        Self::W2,
        Self::N1,
    ];

    /// The label as people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
            Self::J1 => "J1",
            Self::J2 => "J2",
            Self::Q1 => "Q1",
            Self::P1 => "P1",
            Self::W1 => "W1",
            Self::F1 => "F1",
            Self::F2 => "F2",
            Self::F3 => "F3",
            Self::X1 => "X1",
            Self::O1 => "O1",
            Self::C3 => "C3",
            Self::C2 => "C2",
            Self::C1 => "C1",
            Self::W2 => "W2",
            Self::N1 => "N1",
        }
    }

    /// When the row applies, in one line for people.
    pub fn summary(self) -> &'static str {
        match self {
            Self::S1 => "this broker panicked",
            Self::R1 => "transient and persistent brokers meet",
            Self::R2 => "this broker's store is damaged",
            Self::R3 => "a store of another cluster",
            Self::R4 => "the same store id twice",
            Self::R5 => "the same broker name twice",
            Self::J1 => "the group is active",
            Self::J2 => "the group was active in this run, and a majority of its voters is here",
            Self::Q1 => "the group was active in this run, and no majority of its voters is here",
            Self::P1 => "the designated primary of two voters is here, and the other voter is gone",
            Self::W1 => "fewer members than this start waits for",
            Self::F1 => "transient brokers that were in no cluster",
            Self::F2 => "empty and forming stores, and the founding rule holds",
            Self::F3 => "no store belongs to a cluster, and none can be founded yet",
            Self::X1 => "two histories of one group, and no mark decides between them",
            Self::O1 => "an operator marked a store",
            Self::C3 => "manual recovery: the clean stores disagree, or a dirty one is later",
            Self::C2 => "manual recovery: every voter is here and none is clean",
            Self::C1 => "a majority of trusted voters is here",
            Self::W2 => "voters are missing whose arrival could complete a majority",
            Self::N1 => "nobody missing could complete a majority of trusted voters",
        }
    }

    /// Why the row does not hold, in one line for people, where a later one decided.
    pub fn why_not(self) -> &'static str {
        match self {
            Self::S1 => "this broker did not panic",
            Self::R1 => "no broker of the other kind is in the way",
            Self::R2 => "this broker's store is sound",
            Self::R3 => "no other cluster is in the way",
            Self::R4 => "nobody else here uses this store",
            Self::R5 => "nobody here has a better claim to this broker's name",
            Self::J1 => "nobody here is part of a quorum",
            Self::J2 => {
                "no process here took part while it was active, or not a majority of its voters is here"
            }
            Self::Q1 => "no process here took part while it was active, or a later history left it behind",
            Self::P1 => "no designated primary is here without the other of two voters",
            Self::W1 => "enough members are here, or an operator's act says not to wait",
            Self::F1 => "this broker has a store, or some broker here belongs to a cluster",
            Self::F2 => "some store here belongs to a cluster, or the founding rule does not hold",
            Self::F3 => "some store here belongs to a cluster",
            Self::X1 => "no two histories here forked, or a mark decides between them",
            Self::O1 => "no store here is marked",
            Self::C3 => "recovery is automatic, or the clean stores agree and none here is later",
            Self::C2 => "recovery is automatic, or a store here is clean, or a voter is missing",
            Self::C1 => "no majority of trusted voters is here, or recovery is manual and no store is clean",
            Self::W2 => "nobody who is missing could complete a majority of trusted voters",
            Self::N1 => "an earlier row holds",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
