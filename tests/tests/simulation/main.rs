//! Simulated clusters: scripted scenarios, one behaviour each, and a fixed set of seeds.

mod clients;
mod controls;
mod copies;
mod deleting;
mod durability;
mod failover;
mod forced;
mod forming;
mod founding;
mod marks;
mod members;
mod orders;
mod safety;
mod seeds;
mod sequences;
mod shutdown;
mod stage;
mod stopping;
mod stores;
mod transactions;
mod traps;
mod unknown;
mod updates;
