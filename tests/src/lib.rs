//! Quorate's integration tests: simulated world, scenarios, real processes; and what is measured with them.

pub mod chaos;
pub mod corruption;
pub mod crash;
pub mod figures;
pub mod manual;
pub mod process;
pub mod sim;
