//! Clients at work: publishers and consumers that go on whatever happens, and note what they were told.

use std::time::{Duration, Instant};

use quorate_client::{Client, Confirm, ConsumeOptions, Consumer, Delivery, Error, Options, Settled};
use quorate_protocol::frame::ProducerId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::history::{Event, History};
use crate::process::PATIENCE;
use crate::sim::checker::{MessageName, body_of, name_in};
use crate::sim::dice::Dice;

/// Publishers; and consumers, each with a queue of its own, so that what one consumer was told has one order.
pub const CLIENTS: usize = 4;
/// The queue that is not there: what is published to it is refused for good.
pub const NOWHERE: &str = "nowhere";
/// One message of so many goes there.
const NOWHERE_ONE_OF: u64 = 64;
/// Longest pause of a publisher between two messages, in milliseconds.
const PACE_MAX: u64 = 4;
/// Of a publisher without an outcome.
const WINDOW: usize = 256;
/// Bytes after the name in a small body, and in a large one.
const SMALL_MAX: usize = 400;
const LARGE_MAX: usize = 20_000;
/// How long the client that comes and goes stays, in milliseconds; likewise a consumer that leaves things unsettled.
const STAY: (u64, u64) = (4000, 9000);
/// How long it waits when it goes, for what has no outcome.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
/// Deliveries a consumer may hold.
const CREDIT: u32 = 200;

/// The queue of a consumer.
pub fn queue(number: usize) -> String {
    format!("q{number}")
}

/// What consumers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consuming {
    /// Take, acknowledge, give back, leave lying.
    Work,
    /// Take and acknowledge everything.
    Drain,
    /// Go.
    Stop,
}

/// All clients at work.
#[derive(Debug)]
pub struct Load {
    url: String,
    history: History,
    seed: u64,
    sittings: u64,
    publish: watch::Sender<bool>,
    publishers: Vec<JoinHandle<()>>,
    consume: watch::Sender<Consuming>,
    consumers: Vec<JoinHandle<()>>,
}

/// A client that finds its way back by itself.
///
/// # Errors
/// It finds no leader in time.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let options = Options::from_url(url)?.wait(PATIENCE).request_timeout(PATIENCE);
    Client::open(options.window(WINDOW, 64 << 20).close_timeout(CLOSE_TIMEOUT)).await
}

impl Load {
    /// Begins with everything.
    pub fn start(url: &str, history: &History, seed: u64) -> Self {
        let mut load = Self {
            url: url.to_owned(),
            history: history.clone(),
            seed,
            sittings: 0,
            publish: watch::Sender::new(true),
            publishers: Vec::new(),
            consume: watch::Sender::new(Consuming::Stop),
            consumers: Vec::new(),
        };
        for number in 0..CLIENTS {
            let publishing = Publishing {
                url: load.url.clone(),
                history: load.history.clone(),
                dice: Dice::new(seed, &format!("publisher {number}")),
                goes: number == 0,
                go_on: load.publish.subscribe(),
            };
            load.publishers.push(tokio::spawn(publishing.run()));
        }
        load.start_consumers();
        load
    }

    /// Begins with new consumers.
    pub fn start_consumers(&mut self) {
        self.sittings += 1;
        self.consume.send_replace(Consuming::Work);
        self.start_these((0..CLIENTS).map(queue).collect());
    }

    fn start_these(&mut self, queues: Vec<String>) {
        for queue in queues {
            let taking = Taking {
                url: self.url.clone(),
                history: self.history.clone(),
                dice: Dice::new(self.seed, &format!("consumer of {queue}, {}", self.sittings)),
                queue,
                orders: self.consume.subscribe(),
            };
            self.consumers.push(tokio::spawn(taking.run()));
        }
    }

    /// Ends the consumers; afterwards everything that they were told has been noted.
    ///
    /// # Panics
    /// They do not end.
    pub async fn stop_consumers(&mut self) {
        self.consume.send_replace(Consuming::Stop);
        for consumer in self.consumers.drain(..) {
            joined("a consumer's end", PATIENCE, consumer).await;
        }
    }

    /// Consumers that take everything that is there, also where nothing may be.
    pub fn drain(&mut self) {
        self.sittings += 1;
        let fresh = self.consumers.is_empty();
        self.consume.send_replace(Consuming::Drain);
        if fresh {
            self.start_these((0..CLIENTS).map(queue).collect());
        }
        self.start_these(vec![NOWHERE.to_owned()]);
    }

    /// No more messages; waits until each one has its outcome.
    ///
    /// # Panics
    /// One has none in time.
    pub async fn finish_publishing(&mut self, limit: Duration) {
        self.publish.send_replace(false);
        for publisher in self.publishers.drain(..) {
            joined("the outcome of every message", limit, publisher).await;
        }
    }
}

async fn joined(what: &str, limit: Duration, task: JoinHandle<()>) {
    let ended = tokio::time::timeout(limit, task).await;
    ended.unwrap_or_else(|_| panic!("waited {limit:?} for {what}")).expect("a client does not panic");
}

fn moment(dice: &mut Dice) -> tokio::time::Instant {
    (Instant::now() + Duration::from_millis(dice.between(STAY.0, STAY.1))).into()
}

struct Publishing {
    url: String,
    history: History,
    dice: Dice,
    /// It closes its client now and then, whatever is under way, and comes back as somebody else.
    goes: bool,
    go_on: watch::Receiver<bool>,
}

impl Publishing {
    async fn run(mut self) {
        let mut go_on = self.go_on.clone();
        while *go_on.borrow() {
            let client = tokio::select! {
                client = connect(&self.url) => client,
                _ = go_on.wait_for(|go_on| !go_on) => return,
            };
            if let Ok(client) = client {
                self.sitting(&client).await;
                client.close().await;
            }
        }
    }

    async fn sitting(&mut self, client: &Client) {
        let Ok(publisher) = client.publisher() else { return };
        let producer = ProducerId(publisher.id());
        let (confirms, outcomes) = mpsc::unbounded_channel();
        let noting = tokio::spawn(note_outcomes(outcomes, self.history.clone()));
        let end = moment(&mut self.dice);
        for number in 1_u64.. {
            let name = (producer, number);
            let queue = self.queue();
            let body = body_of(name, self.filler());
            self.history.note(Event::Publish { name, queue: queue.clone(), body: body.clone() });
            let confirm = tokio::select! {
                confirm = publisher.publish("", &queue, body.to_vec()) => confirm.ok(),
                _ = self.go_on.wait_for(|go_on| !go_on) => None,
                () = tokio::time::sleep_until(end), if self.goes => None,
            };
            let Some(confirm) = confirm else {
                self.history.note(Event::Withdrawn(name));
                break;
            };
            assert_eq!(confirm.number(), number, "a publisher numbers its messages");
            // Whoever notes outcomes goes on for as long as there are any.
            let _ = confirms.send((name, confirm));
            tokio::time::sleep(Duration::from_millis(self.dice.below(PACE_MAX + 1))).await;
        }
        drop(confirms);
        if *self.go_on.borrow() {
            // At once: what is under way gets an unknown outcome.
            client.close().await;
        }
        noting.await.expect("outcomes are noted");
    }

    fn queue(&mut self) -> String {
        if self.dice.below(NOWHERE_ONE_OF) == 0 {
            NOWHERE.to_owned()
        } else {
            queue(self.dice.index(CLIENTS))
        }
    }

    fn filler(&mut self) -> usize {
        let most = if self.dice.chance(1) { LARGE_MAX } else { SMALL_MAX };
        self.dice.index(most)
    }
}

async fn note_outcomes(mut outcomes: mpsc::UnboundedReceiver<(MessageName, Confirm)>, history: History) {
    while let Some((name, confirm)) = outcomes.recv().await {
        history.note(match confirm.await {
            Ok(receipt) => Event::Confirmed(name, (receipt.epoch, receipt.term, receipt.index)),
            Err(error) if error.is_outcome_unknown() => Event::Unknown(name),
            // "All other errors say that it did not take effect."
            Err(_) => Event::Refused(name),
        });
    }
}

struct Taking {
    url: String,
    history: History,
    dice: Dice,
    queue: String,
    orders: watch::Receiver<Consuming>,
}

impl Taking {
    async fn run(mut self) {
        let (acks, settlements) = mpsc::unbounded_channel();
        let noting = tokio::spawn(note_settlements(settlements, self.history.clone()));
        let mut orders = self.orders.clone();
        while *orders.borrow() != Consuming::Stop {
            let client = tokio::select! {
                client = connect(&self.url) => client,
                _ = orders.wait_for(|orders| *orders == Consuming::Stop) => break,
            };
            if let Ok(client) = client {
                self.sittings(&client, &acks).await;
                client.close().await;
            }
        }
        drop(acks);
        noting.await.expect("settlements are noted");
    }

    async fn sittings(&mut self, client: &Client, acks: &mpsc::UnboundedSender<(MessageName, Settled)>) {
        loop {
            let options = ConsumeOptions { credit: CREDIT, ..ConsumeOptions::default() };
            let mut orders = self.orders.clone();
            let consumer = tokio::select! {
                consumer = client.consume(&self.queue, options) => consumer,
                _ = orders.wait_for(|orders| *orders == Consuming::Stop) => return,
            };
            let Ok(consumer) = consumer else { return };
            if !self.sitting(consumer, acks).await {
                return;
            }
        }
    }

    /// Consumes until it is time for another consumer (true), or this one cannot or should not go on.
    async fn sitting(
        &mut self,
        mut consumer: Consumer,
        acks: &mpsc::UnboundedSender<(MessageName, Settled)>,
    ) -> bool {
        let orders = *self.orders.borrow_and_update();
        let end = moment(&mut self.dice);
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery,
                _ = self.orders.changed() => return *self.orders.borrow() != Consuming::Stop,
                () = tokio::time::sleep_until(end), if orders == Consuming::Work => return true,
            };
            let Some(Ok(delivery)) = delivery else { return false };
            self.take(delivery, orders, acks);
        }
    }

    fn take(
        &mut self,
        delivery: Delivery,
        orders: Consuming,
        acks: &mpsc::UnboundedSender<(MessageName, Settled)>,
    ) {
        let body = bytes::Bytes::copy_from_slice(delivery.body());
        let name = name_in(&body);
        self.history.note(Event::Delivered {
            queue: self.queue.clone(),
            seq: delivery.seq(),
            redelivered: delivery.is_redelivered(),
            body,
        });
        let Some(name) = name else { return };
        if orders == Consuming::Work {
            match self.dice.below(100) {
                // Left lying, until the consumer ends.
                0 => return,
                1 | 2 => return drop(delivery.nack(true)),
                _ => {}
            }
        }
        self.history.note(Event::AckSent(name));
        // Whoever notes settlements goes on for as long as there are any.
        let _ = acks.send((name, delivery.ack()));
    }
}

async fn note_settlements(
    mut settlements: mpsc::UnboundedReceiver<(MessageName, Settled)>,
    history: History,
) {
    while let Some((name, settled)) = settlements.recv().await {
        let known = settled.await.is_ok();
        history.note(if known { Event::Settled(name) } else { Event::AckUnknown(name) });
    }
}
