//! Where data goes that an update replaces or that is not understood: nothing is deleted at start-up.

/// The quarantine's directory in the store's.
pub const QUARANTINE_DIRECTORY: &str = "quarantine";
