//! A publisher that never pauses, and what became of each of its messages.

use std::time::{Duration, Instant};

use quorate_client::{Confirm, Publisher};
use quorate_tests::process::{PATIENCE, messages};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Where it publishes to.
pub(crate) const QUEUE: &str = "orders";

/// What became of one message.
pub(crate) struct Outcome {
    pub(crate) number: u64,
    pub(crate) confirmed: bool,
    /// Of the leader that confirmed it; 0 if none did.
    pub(crate) term: u64,
    pub(crate) at: Instant,
}

/// Publishes without a pause until it is stopped; another task notes the outcomes, in order.
pub(crate) struct Stream {
    publishing: JoinHandle<u64>,
    outcomes: JoinHandle<Vec<Outcome>>,
    stop: mpsc::Sender<()>,
    pub(crate) confirmed: tokio::sync::watch::Receiver<u64>,
}

impl Stream {
    pub(crate) fn start(publisher: Publisher) -> Self {
        let (stop, mut stopped) = mpsc::channel(1);
        let (confirms, mut pending) = mpsc::unbounded_channel::<(u64, Confirm)>();
        let (count, confirmed) = tokio::sync::watch::channel(0);
        let publishing = tokio::spawn(async move {
            let mut number = 0;
            while stopped.try_recv() == Err(mpsc::error::TryRecvError::Empty) {
                let publishing = publisher.publish("", QUEUE, messages::body(number, 200));
                let confirm = tokio::select! {
                    confirm = publishing => confirm,
                    _ = stopped.recv() => break,
                };
                match confirm {
                    Ok(confirm) => drop(confirms.send((number, confirm))),
                    Err(_) => break,
                }
                number += 1;
                // A stream, not a flood: the window need not be full for the test's purpose.
                if number % 256 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            number
        });
        let outcomes = tokio::spawn(async move {
            let mut outcomes = Vec::new();
            while let Some((number, confirm)) = pending.recv().await {
                let receipt = confirm.await;
                let confirmed = receipt.is_ok();
                let term = receipt.map_or(0, |receipt| receipt.term);
                outcomes.push(Outcome { number, confirmed, term, at: Instant::now() });
                if confirmed {
                    count.send_modify(|count| *count += 1);
                }
            }
            outcomes
        });
        Self { publishing, outcomes, stop, confirmed }
    }

    /// Waits until so many more are confirmed; gives how many that makes.
    pub(crate) async fn confirmed_more(&mut self, more: u64) -> u64 {
        let wanted = *self.confirmed.borrow() + more;
        let reached = tokio::time::timeout(PATIENCE, self.confirmed.wait_for(|count| *count >= wanted)).await;
        *reached
            .unwrap_or_else(|_| panic!("no {more} more confirms in {PATIENCE:?}"))
            .expect("the stream runs")
    }

    /// Stops publishing; gives how many were published and what became of each.
    pub(crate) async fn finish(self) -> (u64, Vec<Outcome>) {
        let _ = self.stop.send(()).await;
        let published = self.publishing.await.expect("publishing ended");
        let outcomes = tokio::time::timeout(PATIENCE, self.outcomes)
            .await
            .expect("every message has an outcome in time");
        (published, outcomes.expect("outcomes were noted"))
    }
}

/// Every confirmed message is there; none is there twice, or that was not published, or out of its order.
pub(crate) fn check_content(found: &[u64], published: u64, outcomes: &[Outcome]) {
    assert!(found.is_sorted_by(|one, other| one < other), "twice, or out of order");
    assert!(found.last().is_none_or(|last| *last < published), "more than was published");
    let lost: Vec<u64> = outcomes
        .iter()
        .filter(|outcome| outcome.confirmed && found.binary_search(&outcome.number).is_err())
        .map(|outcome| outcome.number)
        .collect();
    assert!(
        lost.is_empty(),
        "{} confirmed messages are missing: {:?}",
        lost.len(),
        &lost[..lost.len().min(20)]
    );
}
