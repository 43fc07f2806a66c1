//! Orders become invoices and shipments: all three change together, or nothing does.
//!
//! Run it against a cluster of three and kill the leader, or any broker, as often as you like while it runs:
//! `cargo run -p quorate-examples --example transactions quorate://h1:7420,h2:7420,h3:7420`

use anyhow::{Context, ensure};
use quorate_client::{Client, ConsumeOptions, Error, FaultCode, QueueOptions, Transactor};

const ORDERS: u64 = 500;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(&quorate_examples::url()).await?;
    for queue in ["orders", "invoices", "shipments"] {
        client.declare_queue(queue, QueueOptions::default()).await?;
        client.purge_queue(queue).await?;
    }
    let mut transactor = client.transactor()?;
    take_orders(&mut transactor).await?;
    refused(&mut transactor).await?;

    let mut orders = client.consume("orders", ConsumeOptions::default()).await?;
    let (mut done, mut again) = (0, 0);
    while done < ORDERS {
        let order = orders.next().await.context("the consumer ended")??;
        let name = String::from_utf8_lossy(order.body()).into_owned();
        // Nothing leaves this process before the commit. A `?` on the way out would roll it back.
        let mut transaction = transactor.begin();
        let filled = transaction
            .publish("", "invoices", format!("invoice for {name}"))
            .and_then(|()| transaction.publish("", "shipments", format!("parcel with {name}")))
            .and_then(|()| transaction.ack(&order));
        let outcome = match filled {
            Ok(()) => transaction.commit().await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(_) => done += 1,
            // The connection ended: nothing happened, and the order comes again.
            Err(Error::RolledBack(_) | Error::WillBeRedelivered) => again += 1,
            Err(error) => return Err(error.into()),
        }
    }
    println!("{done} orders done, {again} of them begun again after a fail-over");
    for (queue, expected) in [("orders", 0), ("invoices", ORDERS), ("shipments", ORDERS)] {
        let ready = client.inspect_queue(queue).await?.ready;
        println!("{ready} in {queue}");
        ensure!(ready == expected, "expected exactly {expected}");
    }
    client.close().await;
    Ok(())
}

/// A hundred orders at a time. One that only publishes is sent again by the client itself, until it is committed.
async fn take_orders(transactor: &mut Transactor) -> Result<(), Error> {
    for hundred in 0..ORDERS / 100 {
        loop {
            let mut transaction = transactor.begin();
            let mut orders = hundred * 100..hundred * 100 + 100;
            let filled =
                orders.try_for_each(|order| transaction.publish("", "orders", format!("order {order}")));
            let outcome = match filled {
                Ok(()) => transaction.commit().await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(receipt) => {
                    println!("a hundred orders are safe: {receipt}");
                    break;
                }
                Err(Error::RolledBack(why)) => println!("begun again: {why}"),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Where a part cannot be done, nothing is.
async fn refused(transactor: &mut Transactor) -> anyhow::Result<()> {
    let mut transaction = transactor.begin();
    transaction.publish("", "invoices", "an invoice that must not be")?;
    transaction.publish("", "no such queue", "x")?;
    match transaction.commit().await {
        Err(Error::Failed { code: FaultCode::Unroutable, text }) => {
            println!("refused, as it should be: {text}");
        }
        Err(Error::RolledBack(why)) => println!("a fail-over came first: {why}"),
        other => anyhow::bail!("a message without a queue was committed: {other:?}"),
    }
    Ok(())
}
