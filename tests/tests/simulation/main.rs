//! Simulated clusters: scripted scenarios, one behaviour each, and a fixed set of seeds.

mod clients;
mod copies;
mod failover;
mod forming;
mod marks;
mod members;
mod seeds;
mod shutdown;
mod stage;
mod stores;
mod updates;
