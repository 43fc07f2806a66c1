//! The broker process: flags, driver, connections, peers, admin HTTP. What anything means is decided in
//! `quorate-core`; here it is done.
//!
//! ```text
//!   flags, config ──> startup ──> open_store ──> Node (quorate-core)
//!                        │                          ▲ │
//!   clients ──┐          │                   handle │ │ poll
//!   peers ────┼──> inbox ┴──────────────────> driver (the one loop)
//!   admin ────┘     ▲                               │
//!                   │        ┌──────────────────────┼──────────────┬───────────────┐
//!                   └── storage (log, stamp, loads)  state_thread   clients, peers  admin_desk
//! ```
//!
//! Reading order: [`flags`] and [`config`], [`startup`], [`driver`] with [`inbox`] and [`order`], the threads
//! ([`log_thread`], [`stamp_thread`], [`load_pool`], [`state_thread`]), the sockets ([`clients`], [`peers`],
//! [`admin_http`]).

pub mod address;
pub mod admin_desk;
pub mod admin_http;
pub mod clients;
pub mod config;
pub mod counters;
pub mod driver;
pub mod event_log;
pub mod exit;
pub mod flags;
pub mod inbox;
pub mod keeper;
pub mod lazy_state;
pub mod load_pool;
pub mod log_thread;
pub mod log_worker;
pub mod logging;
pub mod memory_files;
pub mod open_store;
pub mod order;
pub mod peers;
pub mod pulse;
pub mod rarely;
pub mod ready_file;
pub mod room;
pub mod secret;
pub mod signals;
pub mod stamp_thread;
pub mod startup;
pub mod stash;
pub mod state_thread;
pub mod storage;
pub mod tls;
pub mod units;
pub mod wall_time;
