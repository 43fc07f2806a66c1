//! The language Quorate speaks on the wire. Pure: bytes in, values out; no sockets, clocks, threads or randomness.
//!
//! Reading order: [`limits`], [`name`], [`fault`], [`frame`], [`publish`], [`message`], [`version`].

pub mod fault;
pub mod frame;
pub mod limits;
pub mod message;
pub mod name;
pub mod publish;
pub mod version;
mod wire;

pub use wire::{Malformed, Problem};
