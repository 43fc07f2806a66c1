//! Where counting begins and ends.

use quorate_fuzz::allocator::{Allocations, allocations};

/// What one piece of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Messages it was done for.
    pub messages: u64,
    /// What it asked of the allocator.
    pub allocations: Allocations,
}

/// Does the work and counts its allocations. Callgrind counts instructions between entry and exit of this function, by
/// its name: see `scripts/bench-check`.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) -> Allocations {
    let before = allocations();
    work();
    let after = allocations();
    Allocations { calls: after.calls - before.calls, bytes: after.bytes - before.bytes }
}

/// As [`counted`], with the number of messages.
pub fn measure(messages: u64, mut work: impl FnMut()) -> Measured {
    Measured { messages, allocations: counted(&mut work) }
}
