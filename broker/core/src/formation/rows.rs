//! The labelled rows of the start-up decision, as a type.

use std::fmt;

/// A row of the decision table. Labels appear in logs, in `quorate cluster status|explain`, in the operator's
/// reference and in tests; they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
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
    pub const ALL: [Self; 18] = [
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::J1,
        Self::J2,
        Self::Q1,
        Self::W1,
        Self::F1,
        Self::F2,
        Self::F3,
        Self::X1,
        Self::C3,
        Self::C2,
        Self::C1,
        Self::W2,
        Self::N1,
    ];

    /// The label as people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
            Self::J1 => "J1",
            Self::J2 => "J2",
            Self::Q1 => "Q1",
            Self::W1 => "W1",
            Self::F1 => "F1",
            Self::F2 => "F2",
            Self::F3 => "F3",
            Self::X1 => "X1",
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
            Self::R1 => "transient and persistent brokers meet",
            Self::R2 => "this broker's store is damaged",
            Self::R3 => "a store of another cluster",
            Self::R4 => "the same store id twice",
            Self::R5 => "the same broker name twice",
            Self::J1 => "the group is active",
            Self::J2 => "the group was active in this run, and a majority of its voters is here",
            Self::Q1 => "the group was active in this run, and no majority of its voters is here",
            Self::W1 => "fewer members than this start waits for",
            Self::F1 => "transient brokers that were in no cluster",
            Self::F2 => "empty and forming stores, and the founding rule holds",
            Self::F3 => "no store belongs to a cluster, and none can be founded yet",
            Self::X1 => "two histories of one group",
            Self::C3 => "manual recovery: the clean stores disagree, or a dirty one is later",
            Self::C2 => "manual recovery: every voter is here and none is clean",
            Self::C1 => "a majority of trusted voters is here",
            Self::W2 => "voters are missing whose arrival could complete a majority",
            Self::N1 => "nobody missing could complete a majority of trusted voters",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
