//! What a confirm guaranteed.

use std::fmt;

use quorate_protocol::frame::{Committed, Confirm, Durability};

/// The broker's word that a message, or a whole transaction, is safe, and how safe.
///
/// Position (epoch, term, index) and group say where the message is in the replicated log, so that an operator can
/// later tell whether a store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The publisher's number for the message, or the transactor's for the transaction.
    pub number: u64,
    /// The replication group that holds it.
    pub group: u32,
    /// The latest epoch of the group's lineage.
    pub epoch: u32,
    /// The leader's term.
    pub term: u64,
    /// The log entry that holds it; for a duplicate, an entry at or after it.
    pub index: u64,
    /// What leader and replicas had done before it was confirmed.
    pub policy: Durability,
    /// Given while an operator's override was in force: brokers that did not see it can restore without it.
    pub under_override: bool,
    /// It had been accepted before and was sent again, as after a fail-over; there is no second copy.
    pub duplicate: bool,
}

impl Receipt {
    pub(crate) fn new(confirm: &Confirm) -> Self {
        Self {
            number: 0,
            group: confirm.group,
            epoch: confirm.epoch,
            term: confirm.term,
            index: confirm.index,
            policy: confirm.durability,
            under_override: confirm.under_override,
            duplicate: confirm.duplicate,
        }
    }

    /// For this transaction.
    pub(crate) fn of_transaction(committed: &Committed, number: u64) -> Self {
        Self {
            number,
            group: committed.group,
            epoch: committed.epoch,
            term: committed.term,
            index: committed.index,
            policy: committed.durability,
            under_override: committed.under_override,
            duplicate: committed.duplicate,
        }
    }

    /// The same receipt, for this message of the batch.
    pub(crate) fn for_number(self, number: u64) -> Self {
        Self { number, ..self }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} at {}.{}.{}", self.group, self.epoch, self.term, self.index)?;
        if self.policy != Durability::default() {
            write!(f, ", by {}", self.policy)?;
        }
        f.write_str(if self.duplicate { ", sent before" } else { "" })?;
        f.write_str(if self.under_override { ", under an override" } else { "" })
    }
}
