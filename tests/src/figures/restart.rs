//! How long one broker takes to come back.

use std::time::Instant;

use super::{Plan, first_message, seconds};
use crate::process::{Broker, Place};

/// Stops a broker in order, starts it again, and measures from the start of its process to the first message that is
/// consumed. There is no bound; gives true.
///
/// # Panics
/// The broker does not work.
pub async fn measure(plan: &Plan) -> bool {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b1");
    broker.start();
    broker.wait_leading();
    plan.fill(&format!("quorate://{}", broker.client_address())).await;
    println!("{} messages of {} bytes, one broker, stopped by SIGTERM", plan.messages, plan.size);
    for round in 1..=plan.rounds {
        broker.terminate();
        let began = Instant::now();
        broker.spawn();
        broker.wait_ports();
        let ports = began.elapsed();
        let (client, at) = first_message(&format!("quorate://{}", broker.client_address())).await;
        client.close().await;
        println!(
            "  round {round}: ports open after {}, first message after {}",
            seconds(ports),
            seconds(at.duration_since(began))
        );
    }
    true
}
