//! A throw-away cluster: real brokers on loopback, kept in one directory.
//!
//! ```text
//!   DIRECTORY/sandbox.json     who, which ports, which process
//!             b1/              the store
//!             b1.log           what the broker said
//!             b1.ready         written by the broker when its ports are open
//! ```

mod ports;
mod state;

pub use self::ports::free_ports;
pub use self::state::{Broker, State, usual_directory};
