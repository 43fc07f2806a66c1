//! Every state that a loss of power may leave, from the operations that a host's product really performed.
//!
//! ```text
//!   workload ── a simulated host, its medium recorded ──> recording: file operations, and what was said between them
//!                                                             │ replayed, one operation after the other
//!   expected <── the notes up to there                        ▼
//!      │                                                   states: everything, only the synced, torn, drawn, …
//!      └────────────> judge <── the product's own recovery ───┘
//! ```
//!
//! The oracle knows nothing of formats: it counts what was handed to the log and the stamp and what was reported
//! durable, and compares that with what the product reads.

pub mod expected;
pub mod judge;
pub mod offline;
pub mod states;
pub mod workload;
