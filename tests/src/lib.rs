//! Quorate's integration tests: simulated world, scenarios, real processes.

pub mod sim;
