//! The Quorate client library.
//!
//! ```text
//!   application tasks                     one task per client
//!
//!   Publisher ──push──> publish::Outbox <──┐
//!   Consumer  <─take─── consume::Mailbox <─┼── session::Session <── driver::Driver <── socket
//!   Client    ──ask───> commands ──────────┘    (pure: decides)      (does; decides nothing)
//!
//!   dialer::Dialer  which address next, and when (pure)
//!   handshake       hello, login, refusals (pure)
//!   transport, tls  TCP, TLS, one attempt
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate_client::Error> {
//! use quorate_client::{Client, ConsumeOptions, QueueOptions};
//!
//! let client = Client::connect("quorate://127.0.0.1:7420,127.0.0.1:7430,127.0.0.1:7440").await?;
//! client.declare_queue("greetings", QueueOptions::default()).await?;
//!
//! let publisher = client.publisher()?;
//! let receipt = publisher.publish("", "greetings", "hello").await?.await?;
//! println!("safe: {receipt}");
//!
//! let mut consumer = client.consume("greetings", ConsumeOptions::default()).await?;
//! while let Some(delivery) = consumer.next().await {
//!     let delivery = delivery?;
//!     println!("{}", String::from_utf8_lossy(delivery.body()));
//!     delivery.ack().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`Client`], [`Publisher`] and [`Confirm`], [`Consumer`] and [`Delivery`], [`Transaction`],
//! [`ConnectionEvent`], [`Error`]. Runnable examples are in the `examples` package.

mod address;
mod batch;
mod client;
mod consume;
mod consumer;
mod dialer;
mod driver;
mod error;
mod event;
mod handshake;
mod limits;
mod message;
mod options;
mod outcome;
mod publish;
mod publisher;
mod ranges;
mod receipt;
mod session;
mod signal;
mod tls;
mod topology;
mod transactor;
mod transport;
mod url;

pub use address::Address;
pub use client::Client;
pub use consumer::{Acker, ConsumeOptions, Consumer, Delivery, Settled};
pub use error::Error;
pub use event::{ConnectionEvent, Events};
pub use message::Message;
pub use options::{Options, Tls};
pub use publisher::{Confirm, Publisher};
pub use receipt::Receipt;
pub use topology::{DeleteOptions, Page, PeekedMessage, QueueOptions, QueueState};
pub use transactor::{Transaction, Transactor};

pub use quorate_protocol::fault::{Blame, FaultCode};
pub use quorate_protocol::frame::{Binding, Durability, ExchangeEntry, ExchangeKind, QueueEntry, SyncPolicy};
pub use quorate_protocol::message::{Properties, property};
