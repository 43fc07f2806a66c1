//! Transactions, as the application sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use quorate_protocol::frame::{NumberRange, ProducerId, ServerFrame};
use quorate_protocol::limits::{TRANSACTION_RANGES_MAX, TRANSACTION_SETTLEMENTS_MAX};
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::transaction::{TransactionBuilder, TransactionError, TransactionSettlement};

use crate::client::Shared;
use crate::consumer::Acker;
use crate::driver::Command;
use crate::error::Error;
use crate::message::Message;
use crate::receipt::Receipt;
use crate::session::{Commit, Numbers, Settles, lost_while_open};

/// Begins transactions, one after the other.
///
/// Several at a time need several of these. A transaction belongs to one virtual host.
///
/// ```no_run
/// # async fn example() -> Result<(), quorate_client::Error> {
/// use quorate_client::{Client, ConsumeOptions, Error};
///
/// let client = Client::connect("quorate://127.0.0.1:7420,127.0.0.1:7430,127.0.0.1:7440").await?;
/// let mut orders = client.consume("orders", ConsumeOptions::default()).await?;
/// let mut transactor = client.transactor()?;
/// while let Some(order) = orders.next().await {
///     let order = order?;
///     let mut transaction = transactor.begin();
///     transaction.publish("", "invoices", order.message().clone())?;
///     transaction.publish("", "shipments", order.message().clone())?;
///     transaction.ack(&order)?;
///     match transaction.commit().await {
///         Ok(receipt) => println!("safe: {receipt}"),
///         Err(Error::RolledBack(why)) => println!("nothing happened, the order comes again: {why}"),
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Transactor {
    shared: Arc<Shared>,
    producer: ProducerId,
    numbers: Arc<Numbers>,
}

impl Transactor {
    pub(crate) fn new(shared: Arc<Shared>, producer: ProducerId) -> Self {
        Self { shared, producer, numbers: Arc::default() }
    }

    /// The number by which brokers know this transactor.
    pub fn id(&self) -> u128 {
        self.producer.0
    }

    /// Begins a transaction. It is open until it is committed, rolled back or dropped; if the connection ends meanwhile it
    /// is rolled back, and says so.
    pub fn begin(&mut self) -> Transaction<'_> {
        let losses = self.shared.losses();
        let builder = TransactionBuilder::new(self.producer, 1);
        Transaction { transactor: self, builder, settles: BTreeMap::new(), losses }
    }
}

impl fmt::Debug for Transactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactor")
            .field("id", &self.producer)
            .field("last", &self.numbers.last())
            .finish_non_exhaustive()
    }
}

/// Whose delivery, and which.
type Place = (u32, u64);

/// What is published and settled together: all of it, or nothing.
///
/// Nothing leaves this process before [`commit`](Self::commit). Dropped without it, the transaction is rolled back.
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction<'a> {
    transactor: &'a mut Transactor,
    builder: TransactionBuilder,
    /// Whether it is dropped, and the consumer's generation.
    settles: BTreeMap<Place, (bool, u64)>,
    losses: u64,
}

impl Transaction<'_> {
    /// Publishes a message if the transaction is committed. Messages of one transaction stay in their order.
    ///
    /// # Errors
    /// A name is not one; [`Error::MessageTooLarge`]; [`Error::TransactionFull`]: the transaction is as it was, and may be
    /// committed; [`Error::RolledBack`].
    pub fn publish(&mut self, exchange: &str, key: &str, message: impl Into<Message>) -> Result<(), Error> {
        self.require_open()?;
        let message = message.into();
        let (exchange, key) = (ExchangeName::new(exchange)?, RoutingKey::new(key)?);
        let limits = self.transactor.shared.signal.limits();
        let content = (message.properties(), &message.body()[..]);
        let reserved = settles_length(self.settles.len());
        self.builder.push(&exchange, &key, content, limits, reserved).map_err(|error| match error {
            TransactionError::TooLarge { length, limit } => Error::MessageTooLarge { length, limit },
            TransactionError::Full { .. } => Error::TransactionFull(error.to_string().into()),
        })
    }

    /// Acknowledges a delivery, or what [settles](crate::Delivery::into_parts) it, if the transaction is committed.
    /// Otherwise it stays with its consumer as it is.
    ///
    /// # Errors
    /// [`Error::WillBeRedelivered`] if its connection or consumer has ended; [`Error::ConsumerClosed`] or [`Error::Failed`] if
    /// its queue is no more; it was consumed without acks, with another client, or is
    /// rejected already; [`Error::TransactionFull`]; [`Error::RolledBack`].
    pub fn ack(&mut self, delivery: &impl AsRef<Acker>) -> Result<(), Error> {
        self.settle(delivery.as_ref(), false)
    }

    /// Drops a delivery for good if the transaction is committed. Giving one back is no part of a transaction: nothing
    /// depends on when that happens.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn reject(&mut self, delivery: &impl AsRef<Acker>) -> Result<(), Error> {
        self.settle(delivery.as_ref(), true)
    }

    fn settle(&mut self, acker: &Acker, dropped: bool) -> Result<(), Error> {
        self.require_open()?;
        let (consumer, generation, seq) = acker.place(&self.transactor.shared)?;
        if let Some((before, _)) = self.settles.get(&(consumer, seq)) {
            return if *before == dropped {
                Ok(())
            } else {
                let text = format!("delivery {seq} is in the transaction already, to be settled otherwise");
                Err(Error::Invalid(text.into()))
            };
        }
        let frame = self.transactor.shared.signal.limits().message_frame();
        let limit = usize::try_from(frame).unwrap_or(usize::MAX);
        let count = self.settles.len() + 1;
        if count > TRANSACTION_RANGES_MAX || self.builder.length() + settles_length(count) > limit {
            let text = format!("{} deliveries and {} bytes are in it", count - 1, self.builder.length());
            return Err(Error::TransactionFull(text.into()));
        }
        self.settles.insert((consumer, seq), (dropped, generation));
        Ok(())
    }

    fn require_open(&self) -> Result<(), Error> {
        if self.losses == self.transactor.shared.losses() { Ok(()) } else { Err(lost_while_open()) }
    }

    /// Commits it: resolves when all of it is safe, with its receipt. The receipt says whether it was recognised as
    /// committed before.
    ///
    /// If the connection ends before the answer, one that only publishes is sent again under its number until it is
    /// answered; of one that also settles deliveries, which came by that connection, the broker is asked what became of it,
    /// and it is rolled back unless it was committed. Dropped before it resolves, this goes on, and nobody hears of it.
    ///
    /// # Errors
    /// [`Error::RolledBack`] and [`Error::Failed`]: nothing of it happened; deliveries in it are as before, or come again
    /// if their connection has ended. [`Error::Failed`] says which message or delivery was refused, and why.
    /// [`Error::UnknownOutcome`] only if the client was closed before an answer came.
    pub async fn commit(self) -> Result<Receipt, Error> {
        let Self { transactor, builder, settles, losses } = self;
        let numbers = Arc::clone(&transactor.numbers);
        let wanted = Commit { body: builder.finish(), settles: gather(settles), losses, numbers };
        match transactor.shared.ask(|reply| Command::Commit(Box::new(wanted), reply)).await? {
            // What was committed before this one was sent before it, and nothing is begun while this one is waited for.
            ServerFrame::Committed(committed) => {
                Ok(Receipt::of_transaction(&committed, transactor.numbers.last()))
            }
            other => Err(Error::protocol(format!("a commit was answered by {other:?}"))),
        }
    }

    /// Forgets it: nothing of it happens. Deliveries in it are unsettled, as before.
    pub fn rollback(self) {}
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("messages", &self.builder.messages())
            .field("deliveries", &self.settles.len())
            .finish_non_exhaustive()
    }
}

/// Bytes that this many settlements take at most: each in a list of its own, as far as there may be lists.
fn settles_length(count: usize) -> usize {
    8 + count.min(TRANSACTION_SETTLEMENTS_MAX) * 9 + count * 16
}

/// As few lists as possible: one for each consumer and verdict, with consecutive sequences joined.
fn gather(settles: BTreeMap<Place, (bool, u64)>) -> Vec<Settles> {
    let mut lists: BTreeMap<(u32, bool, u64), Vec<u64>> = BTreeMap::new();
    for ((consumer, seq), (dropped, generation)) in settles {
        lists.entry((consumer, dropped, generation)).or_default().push(seq);
    }
    let list = |((consumer, dropped, generation), seqs): ((u32, bool, u64), Vec<u64>)| {
        let count = u32::try_from(seqs.len()).expect("a transaction has few deliveries");
        let ranges = NumberRange::collect(seqs);
        Settles { wire: TransactionSettlement { consumer, dropped, ranges }, generation, count }
    };
    lists.into_iter().map(list).collect()
}
