//! Transactions while the leader dies: acceptance H2, and F1 for what is committed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_client::{
    Client, ConnectionEvent, ConsumeOptions, Error, Events, FaultCode, Properties, QueueOptions, Receipt,
    Transactor,
};
use quorate_protocol::frame::{ClientFrame, Commit, Consume, NumberRange, ProducerId, Resolve, ServerFrame};
use quorate_protocol::limits::Limits;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_protocol::transaction::{TransactionBuilder, TransactionSettlement};
use quorate_protocol::version::VersionRange;
use quorate_tests::process::{ClusterPlan, PATIENCE, RawClient, messages};
use tokio::sync::watch;

const IN: &str = "in";
const OUT: &str = "out";
/// Messages of one transaction.
const TOGETHER: u64 = 5;

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it takes too long: {what}"))
}

async fn connect(url: &str) -> Client {
    let client = messages::connect_with_queue(url, OUT).await;
    client.declare_queue(IN, QueueOptions::default()).await.expect("the queue can be declared");
    client
}

/// Waits until the client has lost its connection and found another leader.
async fn connected_again(events: &mut Events) {
    in_time("another leader", async {
        loop {
            match events.next().await {
                Some(ConnectionEvent::Connected { .. }) => return,
                Some(_) => {}
                None => panic!("the client ended by itself"),
            }
        }
    })
    .await;
}

/// Commits the transaction of these numbers.
async fn commit(transactor: &mut Transactor, first: u64) -> Result<Receipt, Error> {
    let mut transaction = transactor.begin();
    for number in first..first + TOGETHER {
        transaction.publish("", OUT, messages::body(number, 100))?;
    }
    transaction.commit().await
}

/// Each transaction is whole or not there, and no message is there twice; gives the first numbers of those that are there.
fn whole(found: &[u64]) -> BTreeSet<u64> {
    let numbers: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(numbers.len(), found.len(), "nothing is there twice");
    let firsts: BTreeSet<u64> = found.iter().map(|number| number - number % TOGETHER).collect();
    assert_eq!(firsts.len() as u64 * TOGETHER, numbers.len() as u64, "nothing is there in half");
    for (first, rest) in found.iter().zip(1..).step_by(5) {
        assert_eq!(
            found[rest..rest + 4],
            [first + 1, first + 2, first + 3, first + 4],
            "one after the other"
        );
    }
    firsts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h2_an_open_transaction_is_rolled_back_and_done_again() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_settled();
    let client = connect(&cluster.url()).await;
    let mut events = client.events();
    let publisher = client.publisher().expect("a publisher");
    messages::confirmed(messages::publish(&publisher, IN, 0..10, 100).await).await;
    let mut consumer = client.consume(IN, ConsumeOptions::default()).await.expect("a consumer");
    let mut transactor = client.transactor().expect("a transactor");

    let mut transaction = transactor.begin();
    for _ in 0..5 {
        let delivery =
            in_time("a delivery", consumer.next()).await.expect("the consumer lives").expect("a delivery");
        transaction.publish("", OUT, delivery.message().clone()).expect("it is open");
        transaction.ack(&delivery).expect("it is open");
    }
    cluster[leader].kill();
    connected_again(&mut events).await;
    let told = transaction.publish("", OUT, "late").expect_err("it is told");
    assert!(matches!(told, Error::RolledBack(_)), "{told}");
    let error = transaction.commit().await.expect_err("it is rolled back");
    assert!(matches!(error, Error::RolledBack(_)), "{error}");
    assert!(error.is_retryable() && !error.is_outcome_unknown());
    assert_eq!(messages::held(&client, OUT).await.expect("the brokers say"), 0, "nothing of it happened");

    // All ten come again, those that were held marked; the application does it again.
    let mut transaction = transactor.begin();
    for number in 0..10 {
        let delivery =
            in_time("a delivery", consumer.next()).await.expect("the consumer lives").expect("a delivery");
        assert_eq!(messages::number(delivery.body()), number);
        assert!(number >= 5 || delivery.is_redelivered(), "{number}");
        transaction.publish("", OUT, delivery.message().clone()).expect("it is open");
        transaction.ack(&delivery).expect("it is open");
    }
    let receipt = in_time("the receipt", transaction.commit()).await.expect("it is committed");
    assert!(!receipt.duplicate);
    assert_eq!(messages::held(&client, IN).await.expect("the brokers say"), 0);
    let found = messages::drain(&client, OUT).await.expect("the queue can be read");
    assert_eq!(found, (0..10).collect::<Vec<_>>());
}

/// Commits one transaction after the other until it is told to stop; the receipts.
async fn committing(
    mut transactor: Transactor,
    numbers: Arc<AtomicU64>,
    stop: watch::Receiver<bool>,
    count: watch::Sender<u64>,
) -> Vec<(u64, Receipt)> {
    let mut receipts = Vec::new();
    while !*stop.borrow() {
        let first = numbers.fetch_add(TOGETHER, Ordering::Relaxed);
        let receipt = loop {
            match in_time("a receipt", commit(&mut transactor, first)).await {
                // The connection ended before this one was handed over: nothing of it happened.
                Err(Error::RolledBack(_)) => {}
                told => break told.expect("one that only publishes is sent again until it is committed"),
            }
        };
        receipts.push((first, receipt));
        count.send_modify(|count| *count += 1);
    }
    receipts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f1_and_h2_what_is_committed_outlives_the_leader_and_is_there_once() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_settled();
    let client = connect(&cluster.url()).await;
    let numbers = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = watch::channel(false);
    let (count, mut committed) = watch::channel(0);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let transactor = client.transactor().expect("a transactor");
            tokio::spawn(committing(transactor, Arc::clone(&numbers), stopped.clone(), count.clone()))
        })
        .collect();
    in_time("receipts", committed.wait_for(|count| *count >= 200)).await.expect("they go on");
    // At once after a receipt, with others under way.
    cluster[leader].kill();
    let then = *committed.borrow();
    in_time("more receipts", committed.wait_for(|count| *count >= then + 200)).await.expect("they go on");
    stop.send(true).expect("they listen");
    let mut receipts = Vec::new();
    for task in tasks {
        receipts.extend(task.await.expect("it ends by itself"));
    }
    let terms: BTreeSet<u64> = receipts.iter().map(|(_, receipt)| receipt.term).collect();
    assert!(terms.len() >= 2, "two leaders committed: {terms:?}");
    let duplicates = receipts.iter().filter(|(_, receipt)| receipt.duplicate).count();
    println!("{} transactions committed, {duplicates} of them recognised when sent again", receipts.len());
    let found = messages::drain(&client, OUT).await.expect("the queue can be read");
    let there = whole(&found);
    let told: BTreeSet<u64> = receipts.iter().map(|(first, _)| *first).collect();
    assert_eq!(there, told, "what is committed is there, and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h2_sent_again_under_its_name_a_transaction_is_recognised() {
    async fn refused(transactor: &mut Transactor) {
        let mut transaction = transactor.begin();
        transaction.publish("", "nowhere", "lost").expect("there is room");
        let error = in_time("a refusal", transaction.commit()).await.expect_err("there was no such queue");
        assert_eq!(error.code(), Some(FaultCode::Unroutable), "{error}");
    }
    // One of them is refused.
    let number = |round: u64| round + 1 + u64::from(round > 4);
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_settled();
    let client = connect(&cluster.url()).await;
    let mut transactor = client.transactor_named(7);
    for round in 0..10 {
        let receipt =
            in_time("a receipt", commit(&mut transactor, round * TOGETHER)).await.expect("committed");
        assert_eq!((receipt.number, receipt.duplicate), (number(round), false));
        if round == 4 {
            refused(&mut transactor).await;
        }
    }
    // A process that does not know how far it came begins again, with another leader.
    drop(client);
    cluster[leader].kill();
    let client = connect(&cluster.url()).await;
    let mut transactor = client.transactor_named(7);
    for round in 0..12 {
        let receipt =
            in_time("a receipt", commit(&mut transactor, round * TOGETHER)).await.expect("committed");
        assert_eq!((receipt.number, receipt.duplicate), (number(round), round < 10));
        // It is not taken for committed, though a process settled it long ago and the queue is there by now.
        if round == 4 {
            let queue = QueueOptions::default();
            client.declare_queue("nowhere", queue).await.expect("it is declared");
            refused(&mut transactor).await;
        }
    }
    let found = messages::drain(&client, OUT).await.expect("the queue can be read");
    assert_eq!(found, (0..12 * TOGETHER).collect::<Vec<_>>());
}

/// Moves messages from one queue to the other, as many at a time as are here; gives how often it was rolled back.
async fn moving(client: Client, moved: watch::Sender<u64>, wanted: u64) -> u64 {
    let mut transactor = client.transactor().expect("a transactor");
    let options = ConsumeOptions { credit: 20, ..ConsumeOptions::default() };
    let mut consumer = client.consume(IN, options).await.expect("a consumer");
    let mut rolled_back = 0;
    let mut done = moved.subscribe();
    loop {
        let delivery = tokio::select! {
            delivery = consumer.next() => delivery.expect("the consumer lives").expect("a delivery"),
            _ = done.wait_for(|moved| *moved >= wanted) => return rolled_back,
        };
        let mut transaction = transactor.begin();
        let result = match transaction
            .publish("", OUT, delivery.message().clone())
            .and_then(|()| transaction.ack(&delivery))
        {
            Ok(()) => in_time("an outcome", transaction.commit()).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(_) => moved.send_modify(|moved| *moved += 1),
            Err(Error::RolledBack(_) | Error::WillBeRedelivered) => rolled_back += 1,
            Err(error) => panic!("message {}: {error}", messages::number(delivery.body())),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h2_messages_are_moved_once_whoever_leads() {
    const COUNT: u64 = 1500;
    let mut cluster = ClusterPlan::of(3).start();
    cluster.wait_equal();
    let client = connect(&cluster.url()).await;
    let publisher = client.publisher().expect("a publisher");
    messages::confirmed(messages::publish(&publisher, IN, 0..COUNT, 100).await).await;
    let (moved, mut progress) = watch::channel(0);
    let movers: Vec<_> = (0..4).map(|_| tokio::spawn(moving(client.clone(), moved.clone(), COUNT))).collect();
    for part in [COUNT / 4, COUNT / 2] {
        in_time("messages are moved", progress.wait_for(|moved| *moved >= part)).await.expect("they go on");
        let leader = cluster.wait_active();
        cluster[leader].kill();
        cluster.wait_active();
        cluster[leader].start();
    }
    in_time("all are moved", progress.wait_for(|moved| *moved >= COUNT)).await.expect("they go on");
    let mut rolled_back = 0;
    for mover in movers {
        rolled_back += mover.await.expect("it ends by itself");
    }
    println!("{COUNT} messages moved, {rolled_back} times rolled back");
    let mut found = messages::drain(&client, OUT).await.expect("the queue can be read");
    found.sort_unstable();
    assert_eq!(found, (0..COUNT).collect::<Vec<_>>(), "each of them, and none twice");
    assert_eq!(messages::held(&client, IN).await.expect("the brokers say"), 0);
}

/// A transaction that settles this and publishes one message.
fn raw(request: u32, number: u64, settlements: Vec<TransactionSettlement>) -> ClientFrame {
    let mut builder = TransactionBuilder::new(ProducerId(9), number);
    let key = RoutingKey::new(OUT).expect("a key");
    let message = (&Properties::NONE, &b"0 "[..]);
    builder.push(&ExchangeName::default(), &key, message, Limits::default(), 0).expect("there is room");
    Commit { request, settlements, transaction: builder.finish() }.into()
}

fn settles(consumer: u32, first: u64, last: u64) -> Vec<TransactionSettlement> {
    let ranges = vec![NumberRange::new(first, last).expect("a range")];
    vec![TransactionSettlement { consumer, dropped: false, ranges }]
}

/// So many answers to Commit and Resolve: the request, and whether it was committed before, or why it failed.
fn answers(client: &mut RawClient, count: usize) -> Vec<(u32, Result<bool, FaultCode>)> {
    let mut told = Vec::new();
    while told.len() < count {
        match client.receive() {
            Some(ServerFrame::Failed(failed)) => told.push((failed.request, Err(failed.code))),
            Some(ServerFrame::Committed(it)) => told.push((it.request, Ok(it.duplicate))),
            Some(_) => {}
            None => panic!("the broker closed"),
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_says_why_and_a_connection_of_the_first_version_has_none() {
    let mut cluster = ClusterPlan::of(1).start();
    cluster.wait_active();
    let client = connect(&cluster.url()).await;
    let publisher = client.publisher().expect("a publisher");
    messages::confirmed(messages::publish(&publisher, IN, 0..3, 100).await).await;
    let told = tokio::task::spawn_blocking(move || {
        let mut raw_client = RawClient::log_in(&cluster.client_address(0));
        let queue = QueueName::new(IN).expect("a name");
        let (no_ack, exclusive) = (false, false);
        raw_client.send(&Consume { request: 1, consumer: 1, queue, credit: 2, no_ack, exclusive }.into());
        // The second message is there, so the first one is as well; the third one is beyond the credit.
        let mut delivered = 0;
        while delivered < 2 {
            if let Some(ServerFrame::Deliver(deliver)) = raw_client.receive() {
                delivered += deliver.messages.len();
            }
        }
        raw_client.send(&raw(2, 1, settles(7, 1, 1)));
        raw_client.send(&raw(3, 2, settles(1, 1, 3)));
        raw_client.send(&raw(4, 3, [settles(1, 1, 1), settles(1, 1, 2)].concat()));
        raw_client
            .send(&Resolve { request: 5, producer: ProducerId(9), number: 4, first_unsettled: 0 }.into());
        raw_client.send(&raw(6, 5, settles(1, 1, 2)));
        let mut told = answers(&mut raw_client, 5);
        raw_client.send(&raw(7, 5, settles(1, 1, 2)));
        raw_client.send(&raw(8, 5, Vec::new()));
        told.extend(answers(&mut raw_client, 2));
        told.sort_unstable_by_key(|(request, _)| *request);

        let mut first = RawClient::connect(&cluster.client_address(0));
        first.versions = VersionRange::new(1, 1).expect("a range");
        first.try_log_in("/").expect("the first version goes on");
        first.send(&raw(1, 6, Vec::new()));
        let (code, text) = first.farewell().expect("it says why");
        assert_eq!(code, FaultCode::UnexpectedFrame, "{text}");
        (cluster, told)
    });
    let (_cluster, told) = told.await.expect("it ends by itself");
    let expected = [
        (2, Err(FaultCode::ConsumerNotFound)),
        (3, Err(FaultCode::DeliveryNotHeld)),
        (4, Err(FaultCode::DeliveryNotHeld)),
        (5, Err(FaultCode::MalformedFrame)),
        (6, Ok(false)),
        // By now nobody holds the deliveries: its number is enough.
        (7, Ok(true)),
        (8, Ok(true)),
    ];
    assert_eq!(told, expected);
    assert_eq!(messages::held(&client, IN).await.expect("the broker says"), 1);
    assert_eq!(messages::held(&client, OUT).await.expect("the broker says"), 1);
}
