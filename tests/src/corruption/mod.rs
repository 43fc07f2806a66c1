//! A store whose bytes rot, move, vanish or come back from the past, one place after the other.
//!
//! ```text
//!   golden (written by the product) ──> layout (which bytes mean something, by the documented format)
//!         │                                │
//!         └──> cases: one change each <────┘ ──> read by the product ──> verdict: noticed, the same, or different
//! ```

pub mod cases;
pub mod golden;
pub mod layout;
pub mod verdict;
