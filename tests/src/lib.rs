//! Quorate's integration tests: simulated world, scenarios, real processes.

pub mod manual;
pub mod process;
pub mod sim;
