//! Every step by which the broker keeps something, failing in every way.
//!
//! ```text
//!   tests/matrix.rs ──> failpoint-child POINT ACTION DIR      one process for each cell of the matrix
//!                            │ workload: the broker's own threads, told what to do as the core would
//!                            ▼
//!                 log, stamp, state threads, keeper ──> FailFiles, FailState ──> the disk, RocksDB
//! ```
//!
//! There is no switch in the broker: its threads are given files that fail ([`files::FailFiles`]) through the seam that
//! they always have. The points have names of what is touched and how: [`points::POINTS`] lists them all.

pub mod files;
pub mod points;
pub mod state;
pub mod trigger;
pub mod workload;
