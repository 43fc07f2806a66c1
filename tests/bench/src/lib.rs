//! What a message costs.
//!
//! ```text
//!   work: one piece of the way of a message, the same at each run ──> meter ──> allocations, counted here
//!     │ cluster: whole cores in memory                                  └─────> instructions, counted by callgrind
//!     │ void: a disk that keeps nothing                                              │
//!     └── program `counts`: one piece per process  <── scripts/bench-check ──────────┘ ──> tests/bench/counts.tsv
//! ```
//!
//! Instructions and allocations are the same whatever else the machine does; times are not, and are measured by the
//! criterion benchmarks: those of whole cores and of appends to peers here, the others in the packages that they
//! measure.

pub mod cluster;
pub mod messages;
pub mod meter;
pub mod void;
pub mod work;
