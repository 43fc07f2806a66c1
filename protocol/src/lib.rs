//! The language Quorate speaks on the wire. Pure: bytes in, values out; no sockets, clocks, threads or randomness.
//!
//! ```text
//!             client link                                   peer link
//!   BytesMut -> codec::Decoder -> frame::ClientFrame    peer_frame::PeerDecoder -> peer_frame::PeerFrame
//!                                 frame::ServerFrame                                  |
//!              codec::encode  <-      |                  peer_hello::PeerDialer, PeerAcceptor
//!                                 publish::PublishBody (one batch, one piece of bytes from socket to log)
//!                                     |
//!                                 message::Message     name::*   fault::FaultCode   limits::*
//! ```
//!
//! Reading order: [`limits`], [`name`], [`fault`], [`frame`], [`publish`] and [`message`], [`codec`], then
//! [`version`], [`pattern`], and for brokers among themselves [`peer_frame`] and [`peer_hello`]. The page
//! `docs/internals/wire.md` says the same to the byte, for people who write a client in another language.

pub mod codec;
pub mod fault;
pub mod frame;
pub mod limits;
pub mod message;
pub mod name;
pub mod pattern;
pub mod peer_frame;
pub mod peer_hello;
pub mod publish;
pub mod transaction;
pub mod version;
mod wire;

pub use wire::{Malformed, Problem};
