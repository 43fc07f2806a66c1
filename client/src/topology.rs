//! Queues, exchanges and bindings, as the application sees them.

use quorate_protocol::frame::{
    Bind, Binding, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, Done, ExchangeEntry,
    ExchangeKind, ListBindings, ListExchanges, ListQueues, PeekQueue, Peeked, PurgeQueue, QueueEntry,
    ServerFrame, Unbind,
};
use quorate_protocol::message as wire;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};

use crate::client::Client;
use crate::error::Error;
use crate::message::Message;

/// How a queue is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueOptions {
    /// The most messages it holds; a publisher's messages beyond it are held back and sent again. No limit by default.
    pub max_length: Option<u64>,
}

/// What is known of a queue after it was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The declaration created it.
    pub created: bool,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Consumers it has now.
    pub consumers: u32,
}

/// When a queue is to be left alone although it was to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// If it holds messages.
    pub if_empty: bool,
    /// If it has consumers.
    pub if_unused: bool,
}

/// A message seen in a queue without taking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeekedMessage {
    /// Its place in the queue.
    pub seq: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: String,
    /// The key it was published with.
    pub key: String,
    /// Body and properties.
    pub message: Message,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In order.
    pub entries: Vec<T>,
    /// More follow: ask again after the last one.
    pub more: bool,
}

/// Declarations made here are made again after a reconnect, before anything is published or consumed; see
/// [`ConnectionEvent::NotRestored`](crate::ConnectionEvent::NotRestored).
///
/// All requests fail as their code says if the broker refuses, with [`Error::TimedOut`] if no leader answered in time
/// (nothing was done), and with [`Error::UnknownOutcome`] if the connection ended in the middle of a deletion.
impl Client {
    /// Makes sure that a queue exists.
    pub async fn declare_queue(&self, queue: &str, options: QueueOptions) -> Result<QueueState, Error> {
        self.ask_for_queue(queue, false, options.max_length.unwrap_or(0)).await
    }

    /// Asks whether a queue exists, without creating it; it fails if there is none.
    pub async fn inspect_queue(&self, queue: &str) -> Result<QueueState, Error> {
        self.ask_for_queue(queue, true, 0).await
    }

    async fn ask_for_queue(&self, queue: &str, passive: bool, max_length: u64) -> Result<QueueState, Error> {
        let queue = QueueName::new(queue)?;
        let declare = DeclareQueue { request: 0, queue, passive, max_length, arguments: Vec::new() };
        match self.request(declare).await? {
            ServerFrame::QueueOk(ok) => {
                Ok(QueueState { created: ok.created, ready: ok.ready, consumers: ok.consumers })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a queue with its messages and bindings; gives how many messages that were.
    pub async fn delete_queue(&self, queue: &str, options: DeleteOptions) -> Result<u64, Error> {
        let DeleteOptions { if_empty, if_unused } = options;
        let queue = QueueName::new(queue)?;
        done(self.request(DeleteQueue { request: 0, queue, if_empty, if_unused }).await?)
    }

    /// Drops the messages of a queue that wait for a consumer; gives how many.
    pub async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        let queue = QueueName::new(queue)?;
        done(self.request(PurgeQueue { request: 0, queue }).await?)
    }

    /// A page of queues by name, after this one. A limit of 0 leaves the length to the broker.
    pub async fn list_queues(&self, after: Option<&str>, limit: u32) -> Result<Page<QueueEntry>, Error> {
        let after = after.map(QueueName::new).transpose()?;
        match self.request(ListQueues { request: 0, after, limit }).await? {
            ServerFrame::QueueList(list) => Ok(Page { entries: list.entries, more: list.more }),
            other => Err(unexpected(&other)),
        }
    }

    /// Looks at messages of a queue from this sequence on (0: from the oldest), without taking them.
    pub async fn peek_queue(&self, queue: &str, from: u64, limit: u32) -> Result<Page<PeekedMessage>, Error> {
        let queue = QueueName::new(queue)?;
        match self.request(PeekQueue { request: 0, queue, from_seq: from, limit }).await? {
            ServerFrame::PeekOk(ok) => {
                let entries = ok.messages.iter().map(peeked).collect::<Result<_, _>>()?;
                Ok(Page { entries, more: ok.more })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Makes sure that an exchange of this kind exists; says whether it is new.
    pub async fn declare_exchange(&self, exchange: &str, kind: ExchangeKind) -> Result<bool, Error> {
        let exchange = ExchangeName::new(exchange)?;
        let declare = DeclareExchange { request: 0, exchange, kind, passive: false };
        Ok(done(self.request(declare).await?)? > 0)
    }

    /// Deletes an exchange and its bindings; only if it has none, if so wanted.
    pub async fn delete_exchange(&self, exchange: &str, if_unused: bool) -> Result<u64, Error> {
        let exchange = ExchangeName::new(exchange)?;
        done(self.request(DeleteExchange { request: 0, exchange, if_unused }).await?)
    }

    /// A page of exchanges by name, after this one. A limit of 0 leaves the length to the broker.
    pub async fn list_exchanges(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ExchangeEntry>, Error> {
        let after = after.map(ExchangeName::new).transpose()?;
        match self.request(ListExchanges { request: 0, after, limit }).await? {
            ServerFrame::ExchangeList(list) => Ok(Page { entries: list.entries, more: list.more }),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes sure that what the exchange receives with a fitting key goes to the queue; says whether that is new.
    pub async fn bind(&self, exchange: &str, queue: &str, key: &str) -> Result<bool, Error> {
        let binding = binding(exchange, queue, key)?;
        Ok(done(self.request(Bind { request: 0, binding }).await?)? > 0)
    }

    /// Removes a binding.
    pub async fn unbind(&self, exchange: &str, queue: &str, key: &str) -> Result<(), Error> {
        let binding = binding(exchange, queue, key)?;
        done(self.request(Unbind { request: 0, binding }).await?).map(drop)
    }

    /// A page of bindings, of one exchange or of all, after this one. A limit of 0 leaves the length to the broker.
    pub async fn list_bindings(
        &self,
        exchange: Option<&str>,
        after: Option<&Binding>,
        limit: u32,
    ) -> Result<Page<Binding>, Error> {
        let exchange = exchange.map(ExchangeName::new).transpose()?;
        let list = ListBindings { request: 0, exchange, after: after.cloned(), limit };
        match self.request(list).await? {
            ServerFrame::BindingList(list) => Ok(Page { entries: list.entries, more: list.more }),
            other => Err(unexpected(&other)),
        }
    }
}

fn binding(exchange: &str, queue: &str, key: &str) -> Result<Binding, Error> {
    Ok(Binding {
        exchange: ExchangeName::new(exchange)?,
        queue: QueueName::new(queue)?,
        key: RoutingKey::new(key)?,
    })
}

fn done(frame: ServerFrame) -> Result<u64, Error> {
    match frame {
        ServerFrame::Done(Done { affected, .. }) => Ok(affected),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(frame: &ServerFrame) -> Error {
    Error::protocol(format!("an unexpected answer: {frame:?}"))
}

fn peeked(peeked: &Peeked) -> Result<PeekedMessage, Error> {
    let message = wire::Message::parse(&peeked.message)
        .map_err(|problem| Error::protocol(format!("a message in a queue: {problem}")))?;
    Ok(PeekedMessage {
        seq: peeked.seq,
        redelivered: peeked.redelivered,
        exchange: peeked.exchange.as_str().to_owned(),
        key: peeked.key.as_str().to_owned(),
        message: message.into(),
    })
}
