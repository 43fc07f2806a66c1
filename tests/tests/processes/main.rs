//! Real brokers, real clients, real signals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod exits;
mod failover;
mod founding;
mod full_disk;
mod inspecting;
mod joining;
mod memory;
mod queues;
mod routes;
mod tool;
