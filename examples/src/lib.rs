//! Runnable examples of the Quorate client.
//!
//! | example | shows |
//! |---|---|
//! | `hello` | one message there and back, and what its receipt guarantees |
//! | `work_queue` | several workers share a queue; what a worker drops another one gets |
//! | `fan_out` | a topic exchange copies each message to every queue whose pattern fits |
//! | `idempotent_publish` | publishing through fail-overs: nothing lost, nothing twice |
//! | `transactions` | messages taken from one queue and published to others, together or not at all |
//!
//! Run one with `cargo run -p quorate-examples --example hello`. Each takes the URL of a cluster as its first argument,
//! or from `QUORATE_URL`, or else uses a broker on this machine.

/// The cluster to talk to: first argument, `QUORATE_URL`, or a broker on this machine.
pub fn url() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("QUORATE_URL").ok())
        .unwrap_or_else(|| "quorate://127.0.0.1:7420".to_owned())
}
