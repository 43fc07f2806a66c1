//! Every bound of this module, in one place.

/// Longest name of a broker, a cluster or a virtual host, bytes.
pub const NAME_BYTES: usize = 255;
/// Longest `host:port` text, bytes: a DNS name of 253, a colon, five digits, and room.
pub const ADDRESS_BYTES: usize = 512;
/// Longest free text (what is damaged), bytes.
pub const REASON_BYTES: usize = 4096;
/// Most brokers in one list: voters, founders, peers, possible members.
pub const MEMBERS: usize = 256;
/// Most groups that one broker reports.
pub const GROUPS: usize = 4096;
/// Most epochs in one lineage.
pub const EPOCHS: usize = 4096;
/// Most stores that one epoch names as left out.
pub const LEFT_OUT: usize = 4096;
/// Largest encoded lineage of one group, bytes.
pub const LINEAGE_BYTES: usize = 4 * 1024 * 1024;
/// Largest encoded [`crate::formation::InitialStatus`], bytes.
pub const STATUS_BYTES: usize = 16 * 1024 * 1024;
/// Largest encoded [`crate::formation::FormingState`] or founding message, bytes.
pub const FORMING_BYTES: usize = 1024 * 1024;

/// First delay before a proposer begins a ballot, per place it takes among the founders, milliseconds.
pub const FOUNDING_STAGGER_MS: u64 = 150;
/// How long a ballot may take before its proposer gives up and tries a higher one, milliseconds.
pub const FOUNDING_ATTEMPT_MS: u64 = 1_000;
/// Longest wait between ballots, milliseconds.
pub const FOUNDING_RETRY_MAX_MS: u64 = 8_000;
/// Longest wait before the decision is told again to a founder that has not answered, milliseconds.
pub const LEARN_RETRY_MAX_MS: u64 = 8_000;

// One founding value with every list full fits its bound.
const _: () = assert!(MEMBERS * (2 * NAME_BYTES + 4 * ADDRESS_BYTES) < FORMING_BYTES);
const _: () = assert!(FOUNDING_ATTEMPT_MS <= FOUNDING_RETRY_MAX_MS);
