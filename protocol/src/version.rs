//! Which protocol version two ends speak: the highest that both know.

use std::fmt;

use thiserror::Error;

use crate::wire::{Field, Malformed, Problem, Reader, Sink};

/// The client protocol's versions that this crate speaks.
pub const CLIENT_VERSIONS: VersionRange = VersionRange { min: 1, max: 2 };
/// From this version of the client protocol on there are transactions.
pub const TRANSACTIONS_SINCE: u16 = 2;
/// The peer link's versions that this crate speaks.
pub const PEER_VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// Versions from `min` to `max`, both included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    min: u16,
    max: u16,
}

impl VersionRange {
    /// The versions from `min` to `max`; none if `max` is smaller.
    pub const fn new(min: u16, max: u16) -> Option<Self> {
        if min <= max { Some(Self { min, max }) } else { None }
    }

    /// The lowest version.
    pub fn min(self) -> u16 {
        self.min
    }

    /// The highest version.
    pub fn max(self) -> u16 {
        self.max
    }

    /// Whether `version` is one of them.
    pub fn contains(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The highest version in both ranges; `self` is ours.
    pub fn negotiate(self, theirs: Self) -> Result<u16, NoCommonVersion> {
        let highest = self.max.min(theirs.max);
        if self.contains(highest) && theirs.contains(highest) {
            Ok(highest)
        } else {
            Err(NoCommonVersion { ours: self, theirs })
        }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// The two ends cannot talk; one of them must be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no common protocol version: this end speaks {ours}, the other end {theirs}; upgrade the older one")]
pub struct NoCommonVersion {
    /// What this end speaks.
    pub ours: VersionRange,
    /// What the other end speaks.
    pub theirs: VersionRange,
}

impl Field for VersionRange {
    const MINIMUM: usize = 4;
    fn put(&self, sink: &mut impl Sink) {
        self.min.put(sink);
        self.max.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let min = u16::get(reader)?;
        let max = u16::get(reader)?;
        Self::new(min, max).ok_or_else(|| Problem::Value(max.into()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(min: u16, max: u16) -> VersionRange {
        VersionRange::new(min, max).unwrap()
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let table = [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (2, 5), Some(3)),
            ((2, 5), (1, 3), Some(3)),
            ((1, 9), (4, 4), Some(4)),
            ((1, 1), (2, 2), None),
            ((3, 4), (1, 2), None),
        ];
        for (ours, theirs, expected) in table {
            let negotiated = versions(ours.0, ours.1).negotiate(versions(theirs.0, theirs.1));
            assert_eq!(negotiated.ok(), expected, "{ours:?} with {theirs:?}");
        }
        assert_eq!(VersionRange::new(2, 1), None);
    }

    #[test]
    fn a_refusal_names_both_versions() {
        let text = versions(2, 3).negotiate(versions(4, 4)).unwrap_err().to_string();
        assert!(text.contains("2 to 3") && text.contains("end 4"), "{text}");
    }
}
