//! Real brokers, real clients, real signals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod bench;
mod chaos;
mod codes;
mod controls;
mod durability;
mod events;
mod exits;
mod failover;
mod forced;
mod forming_again;
mod founding;
mod full_disk;
mod held_back;
mod hostile_stores;
mod inspecting;
mod joining;
mod kept_aside;
mod manual;
mod members;
mod memory;
mod operator;
mod panic;
mod queues;
mod recovery;
mod routes;
mod shrinking;
mod shutting_down;
mod stamps;
mod stream;
mod tokens;
mod tool;
mod transactions;
mod under_way;
mod updating;
mod versions;
mod vhosts;
mod waiting;
