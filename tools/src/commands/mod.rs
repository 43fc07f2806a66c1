//! One file for each group of commands.

pub mod bench;
pub mod binding;
pub mod cluster;
pub mod completion;
pub mod consume;
pub mod exchange;
pub mod group;
pub mod loss;
pub mod member;
pub mod publish;
pub mod queue;
pub mod sandbox;
pub mod store;
pub mod vhost;

mod bench_compare;
mod bodies;
mod cluster_events;
mod cluster_explain;
mod cluster_panic;
mod cluster_view;
mod consumption;
mod lines;
mod loss_recover;
mod outcome;
mod records;
mod sink;
