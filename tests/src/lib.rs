//! Quorate's integration tests: simulated world, scenarios, real processes.

pub mod process;
pub mod sim;
