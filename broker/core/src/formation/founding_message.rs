//! What brokers say to each other while they found a cluster.

use super::forming::{Ballot, FoundingValue, read_ballot, write_ballot};
use super::limits::FORMING_BYTES;
use super::wire::{DecodeError, Reader, Writer};

/// The version written here.
const VERSION: u16 = 1;

/// A message between proposer and acceptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingMessage {
    /// Proposer: promise not to accept a smaller ballot, and say what you accepted.
    Prepare {
        /// The proposer's ballot.
        ballot: Ballot,
    },
    /// Acceptor: promised, durably.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
        /// The value of the highest ballot accepted before.
        accepted: Option<(Ballot, FoundingValue)>,
    },
    /// Proposer: accept this.
    Accept {
        /// The proposer's ballot.
        ballot: Ballot,
        /// The value.
        value: FoundingValue,
    },
    /// Acceptor: accepted, durably.
    Accepted {
        /// The ballot accepted.
        ballot: Ballot,
    },
    /// Acceptor: a higher ballot was promised.
    Refused {
        /// The ballot refused.
        ballot: Ballot,
        /// The ballot promised.
        promised: Ballot,
    },
    /// This is decided.
    Learn {
        /// The ballot it was accepted with.
        ballot: Ballot,
        /// The value.
        value: FoundingValue,
    },
    /// The decision is known here, durably.
    Learned,
}

impl FoundingMessage {
    /// The bytes that [`Self::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(VERSION);
        match self {
            Self::Prepare { ballot } => {
                out.u8(0);
                write_ballot(&mut out, *ballot);
            }
            Self::Promise { ballot, accepted } => {
                out.u8(1);
                write_ballot(&mut out, *ballot);
                out.option(accepted.as_ref(), |out, (ballot, value)| {
                    write_ballot(out, *ballot);
                    value.write(out);
                });
            }
            Self::Accept { ballot, value } => {
                out.u8(2);
                write_ballot(&mut out, *ballot);
                value.write(&mut out);
            }
            Self::Accepted { ballot } => {
                out.u8(3);
                write_ballot(&mut out, *ballot);
            }
            Self::Refused { ballot, promised } => {
                out.u8(4);
                write_ballot(&mut out, *ballot);
                write_ballot(&mut out, *promised);
            }
            Self::Learn { ballot, value } => {
                out.u8(5);
                write_ballot(&mut out, *ballot);
                value.write(&mut out);
            }
            Self::Learned => out.u8(6),
        }
        out.finish()
    }

    /// Reads a message from anyone, hostile or not: bounded, never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new("founding message", bytes, FORMING_BYTES)?;
        let found = from.u16("founding message: version")?;
        if found != VERSION {
            return Err(DecodeError::Newer { what: "founding message", found, supported: VERSION });
        }
        let message = match from.u8("founding message: kind")? {
            0 => Self::Prepare { ballot: read_ballot(&mut from)? },
            1 => Self::Promise {
                ballot: read_ballot(&mut from)?,
                accepted: from.option("promise: accepted", |from| {
                    Ok((read_ballot(from)?, FoundingValue::read(from)?))
                })?,
            },
            2 => Self::Accept { ballot: read_ballot(&mut from)?, value: FoundingValue::read(&mut from)? },
            3 => Self::Accepted { ballot: read_ballot(&mut from)? },
            4 => Self::Refused { ballot: read_ballot(&mut from)?, promised: read_ballot(&mut from)? },
            5 => Self::Learn { ballot: read_ballot(&mut from)?, value: FoundingValue::read(&mut from)? },
            6 => Self::Learned,
            other => {
                return Err(DecodeError::Unknown { what: "founding message: kind", found: u64::from(other) });
            }
        };
        from.end("founding message")?;
        Ok(message)
    }
}
