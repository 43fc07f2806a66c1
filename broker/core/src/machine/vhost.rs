//! The state machine of one virtual host: declarations, publishes and settlements, in log order.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{Binding, ExchangeKind, NumberRange, ProducerId};
use quorate_protocol::name::{ExchangeName, QueueName};
use quorate_store::ids::Index;

use super::chunk::SlotView;
use super::command::{Command, CommandReader, QueueDefinition, QueueId};
use super::digest::Digest;
use super::limits::{
    MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_BINDINGS, MAX_EXCHANGES, MAX_QUEUES, SPILL_SEARCH,
};
use super::outcome::Outcome;
use super::producer::Producers;
use super::queue::Queue;
use super::routing::{ExchangeView, Routing};

/// A message whose body has to leave the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its queue.
    pub queue: QueueId,
    /// Its sequence there.
    pub seq: u64,
    /// Where it is.
    pub slot: SlotView,
}

/// Where a search for bodies to spill goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    queue: QueueId,
    seq: u64,
}

/// All that is replicated of one virtual host, and what this replica did about storing it.
#[derive(Clone, Debug)]
pub struct VhostMachine {
    pub(super) queues: BTreeMap<QueueId, Queue>,
    pub(super) names: BTreeMap<QueueName, QueueId>,
    pub(super) routing: Routing,
    pub(super) producers: Producers,
    /// The number that the next queue gets.
    pub(super) next_queue: u32,
    /// Live messages of all queues.
    pub(super) live: u64,
    /// Deleted since the last checkpoint and stored by one before, with their stored bodies.
    pub(super) deleted: Vec<(QueueId, Vec<u64>)>,
    /// Queues that a checkpoint has a record of.
    pub(super) stored_queues: BTreeSet<QueueId>,
    touched: BTreeSet<QueueId>,
    /// For each queue with bodies that only the log has: an entry at or below the lowest of them.
    unspilled: BTreeMap<QueueId, Index>,
    by_unspilled: BTreeSet<(Index, QueueId)>,
    applied: Index,
}

impl Default for VhostMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl VhostMachine {
    /// A virtual host with nothing in it.
    pub fn new() -> Self {
        Self {
            queues: BTreeMap::new(),
            names: BTreeMap::new(),
            routing: Routing::default(),
            producers: Producers::default(),
            next_queue: 1,
            live: 0,
            deleted: Vec::new(),
            stored_queues: BTreeSet::new(),
            touched: BTreeSet::new(),
            unspilled: BTreeMap::new(),
            by_unspilled: BTreeSet::new(),
            applied: Index(0),
        }
    }

    /// Applies the data of the entry at `index`: one outcome per command, in order. Bytes that are no command have an
    /// outcome as well.
    ///
    /// # Panics
    /// If `index` is below that of an entry applied before.
    pub fn apply(&mut self, index: Index, data: &Bytes) -> Vec<Outcome> {
        assert!(index >= self.applied, "entry {index} is applied after entry {}", self.applied);
        self.applied = index;
        CommandReader::new(data)
            .map(|located| match located.command {
                Ok(command) => self
                    .apply_command(index, located.offset, command)
                    .unwrap_or_else(|(code, text)| Outcome::Failed(code, text)),
                Err(error) => Outcome::Failed(
                    FaultCode::MalformedFrame,
                    format!("not a command of this release: {error}"),
                ),
            })
            .collect()
    }

    /// Queues whose messages changed by publishes, purges, deletion or exposure since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<QueueId> {
        std::mem::take(&mut self.touched)
    }

    fn apply_command(&mut self, index: Index, offset: usize, command: Command) -> Applied {
        match command {
            Command::Publish(body) => self.publish(index, offset, body),
            Command::DeclareQueue { name, definition } => self.declare_queue(name, definition),
            Command::DeleteQueue { name, if_empty } => self.delete_queue(&name, if_empty),
            Command::PurgeQueue { name, except } => self.purge_queue(&name, &except),
            Command::DeclareExchange { name, kind } => self.declare_exchange(name, kind),
            Command::DeleteExchange { name, if_unused } => self.delete_exchange(&name, if_unused),
            Command::Bind(binding) => self.bind(binding),
            Command::Unbind(binding) => self.unbind(binding),
            Command::Ack { queue, ranges } | Command::Drop { queue, ranges } => self.kill(queue, &ranges),
            Command::Returned { queue, ranges } => self.count_returns(queue, &ranges),
            Command::Expose { queue, to } => self.expose(queue, to),
            Command::Transaction(transaction) => self.transaction(index, offset, &transaction),
            Command::Resolve { producer, number, first_unsettled } => {
                self.resolve(index, producer, number, first_unsettled)
            }
            Command::Found(_)
            | Command::AddMember { .. }
            | Command::UpdateMember(_)
            | Command::RemoveMember { .. }
            | Command::PermitMember { .. }
            | Command::ForgetMember { .. }
            | Command::LeaveMember { .. }
            | Command::RenewSafety { .. }
            | Command::DrainMember { .. }
            | Command::Asked(_)
            | Command::CreateVhost { .. } => {
                Err((FaultCode::MalformedFrame, "a command for the group `system`".to_owned()))
            }
        }
    }

    fn declare_queue(&mut self, name: QueueName, definition: QueueDefinition) -> Applied {
        if let Some(queue) = self.queue_named(name.as_str()) {
            return if *queue.definition() == definition {
                Ok(Outcome::QueueDeclared { queue: queue.id(), created: false })
            } else {
                let text = format!(
                    "queue `{name}` exists with another definition: delete it first or declare the same"
                );
                Err((FaultCode::DeclarationDiffers, text))
            };
        }
        check_definition(&definition)?;
        if self.queues.len() >= MAX_QUEUES || self.next_queue == u32::MAX {
            return Err((FaultCode::LimitReached, format!("the vhost has {} queues", self.queues.len())));
        }
        let id = QueueId(self.next_queue);
        self.next_queue += 1;
        self.names.insert(name.clone(), id);
        self.queues.insert(id, Queue::new(id, name, definition));
        self.touched.insert(id);
        Ok(Outcome::QueueDeclared { queue: id, created: true })
    }

    fn delete_queue(&mut self, name: &QueueName, if_empty: bool) -> Applied {
        let id = self.require_queue(name)?;
        let messages = self.queues.get(&id).map_or(0, Queue::live);
        if if_empty && messages > 0 {
            return Err((FaultCode::QueueNotEmpty, format!("queue `{name}` holds {messages} messages")));
        }
        let queue = self.queues.remove(&id).expect("a named queue exists");
        self.names.remove(name);
        self.routing.remove_queue(name, id);
        self.live -= messages;
        if self.stored_queues.remove(&id) {
            self.deleted.push((id, queue.into_stored_bodies()));
        }
        self.touched.insert(id);
        Ok(Outcome::Removed { messages })
    }

    fn purge_queue(&mut self, name: &QueueName, except: &[NumberRange]) -> Applied {
        let id = self.require_queue(name)?;
        let queue = self.queues.get_mut(&id).expect("a named queue exists");
        let messages = queue.purge(except);
        self.live -= messages;
        self.touched.insert(id);
        Ok(Outcome::Removed { messages })
    }

    fn declare_exchange(&mut self, name: ExchangeName, kind: ExchangeKind) -> Applied {
        if let Some(existing) = self.exchange(name.as_str()) {
            return if existing.kind == kind {
                Ok(Outcome::Done { affected: 0 })
            } else {
                let text = format!(
                    "exchange `{name}` exists with another kind: delete it first or declare the same"
                );
                Err((FaultCode::DeclarationDiffers, text))
            };
        }
        if name.is_default() || name.is_reserved() {
            let text = format!("exchange `{name}` belongs to the broker: choose another name");
            return Err((FaultCode::ReservedName, text));
        }
        if self.routing.exchange_count() >= MAX_EXCHANGES {
            return Err((FaultCode::LimitReached, format!("the vhost has {MAX_EXCHANGES} exchanges")));
        }
        self.routing.insert_exchange(name, kind);
        Ok(Outcome::Done { affected: 1 })
    }

    fn delete_exchange(&mut self, name: &ExchangeName, if_unused: bool) -> Applied {
        let exchange = self.exchange(name.as_str()).ok_or_else(|| no_exchange(name))?;
        if if_unused && exchange.bindings > 0 {
            let text = format!("exchange `{name}` has {} bindings", exchange.bindings);
            return Err((FaultCode::ExchangeInUse, text));
        }
        Ok(Outcome::Done { affected: self.routing.remove_exchange(name).into() })
    }

    fn bind(&mut self, binding: Binding) -> Applied {
        if binding.exchange.is_default() {
            let text = "the default exchange routes by queue name and cannot be bound".to_owned();
            return Err((FaultCode::ReservedName, text));
        }
        if self.exchange(binding.exchange.as_str()).is_none() {
            return Err(no_exchange(&binding.exchange));
        }
        let queue = self.require_queue(&binding.queue)?;
        if self.routing.binding_count() >= MAX_BINDINGS && !self.routing.is_bound(&binding) {
            return Err((FaultCode::LimitReached, format!("the vhost has {MAX_BINDINGS} bindings")));
        }
        let new = self.routing.bind(binding, queue).map_err(|text| (FaultCode::InvalidPattern, text))?;
        Ok(Outcome::Done { affected: new.into() })
    }

    fn unbind(&mut self, binding: Binding) -> Applied {
        if self.exchange(binding.exchange.as_str()).is_none() {
            return Err(no_exchange(&binding.exchange));
        }
        let queue = self.require_queue(&binding.queue)?;
        let text = format!(
            "exchange `{}` has no binding to queue `{}` with key `{}`",
            binding.exchange, binding.queue, binding.key
        );
        if !self.routing.unbind(binding, queue) {
            return Err((FaultCode::BindingNotFound, text));
        }
        Ok(Outcome::Done { affected: 1 })
    }

    pub(super) fn kill(&mut self, id: QueueId, ranges: &[NumberRange]) -> Applied {
        let queue = self.queues.get_mut(&id).ok_or_else(|| no_queue_numbered(id))?;
        let messages = ranges.iter().map(|&range| queue.kill(range)).sum();
        self.live -= messages;
        Ok(Outcome::Settled { queue: id, messages })
    }

    fn count_returns(&mut self, id: QueueId, ranges: &[NumberRange]) -> Applied {
        let queue = self.queues.get_mut(&id).ok_or_else(|| no_queue_numbered(id))?;
        let messages = ranges.iter().map(|&range| queue.count_returns(range)).sum();
        Ok(Outcome::Settled { queue: id, messages })
    }

    fn expose(&mut self, id: QueueId, to: u64) -> Applied {
        let queue = self.queues.get_mut(&id).ok_or_else(|| no_queue_numbered(id))?;
        if queue.expose(to) {
            self.touched.insert(id);
            return Ok(Outcome::Done { affected: 1 });
        }
        Ok(Outcome::Done { affected: 0 })
    }

    fn require_queue(&self, name: &QueueName) -> Result<QueueId, Failure> {
        let missing =
            || (FaultCode::QueueNotFound, format!("queue `{name}` does not exist: declare it first"));
        self.names.get(name).copied().ok_or_else(missing)
    }

    /// Stores messages of one entry, at least one, in a queue that has room for them.
    pub(super) fn store(&mut self, id: QueueId, views: impl Iterator<Item = SlotView>) {
        let queue = self.queues.get_mut(&id).expect("routes lead to queues that exist");
        let before = queue.live();
        views.for_each(|view| queue.push(view));
        self.live += queue.live() - before;
        self.note_unspilled(id, self.applied);
        self.touched.insert(id);
    }

    pub(super) fn note_unspilled(&mut self, id: QueueId, index: Index) {
        if let Entry::Vacant(vacant) = self.unspilled.entry(id) {
            vacant.insert(index);
            self.by_unspilled.insert((index, id));
        }
    }

    /// Up to `limit` live messages whose entries are at or below `up_to` and whose bodies only the log has, ordered by
    /// queue and sequence. Bounded work: if the second value is some, call again with it, also after an empty answer.
    pub fn spill_candidates(
        &self,
        up_to: Index,
        resume: Option<Resume>,
        limit: usize,
    ) -> (Vec<Candidate>, Option<Resume>) {
        let Resume { queue: first, seq } = resume.unwrap_or(Resume { queue: QueueId(0), seq: 0 });
        let mut search = SPILL_SEARCH;
        let mut found = Vec::new();
        for (&queue, _) in self.unspilled.range(first..) {
            let from = if queue == first { seq } else { 0 };
            if search == 0 || found.len() >= limit {
                return (found, Some(Resume { queue, seq: from }));
            }
            search -= 1;
            let Some(messages) = self.queues.get(&queue) else { continue };
            let (more, rest) = messages.spill_candidates(from, up_to, &mut search, limit - found.len());
            found.extend(more.into_iter().map(|(seq, slot)| Candidate { queue, seq, slot }));
            if let Some(seq) = rest {
                return (found, Some(Resume { queue, seq }));
            }
        }
        (found, None)
    }

    /// Hands over the bytes to keep in the state store for a message; they go out with the next
    /// checkpoint, in the same batch as the slot that says so. False if the message died meanwhile or was spilled
    /// before: then nothing is kept.
    pub fn mark_spilled(&mut self, queue: QueueId, seq: u64, body: Bytes) -> bool {
        self.queues.get_mut(&queue).is_some_and(|queue| queue.mark_spilled(seq, body))
    }

    /// The lowest entry that holds a body which no checkpoint has taken out of the log; none if no entry does. The log
    /// may let go of everything below once the last checkpoint is flushed. Amortised work.
    pub fn lowest_unspilled(&mut self) -> Option<Index> {
        loop {
            let (bound, id) = *self.by_unspilled.first()?;
            let lowest = self.queues.get_mut(&id).and_then(Queue::lowest_unspilled);
            if lowest == Some(bound) {
                return lowest;
            }
            self.by_unspilled.remove(&(bound, id));
            self.unspilled.remove(&id);
            if let Some(lowest) = lowest {
                assert!(lowest > bound, "entries of a queue's messages never go down");
                self.note_unspilled(id, lowest);
            }
        }
    }

    /// Counts what was restored.
    pub(super) fn after_restore(&mut self) {
        self.live = self.queues.values().map(Queue::live).sum();
        let lowest = |queue: &mut Queue| queue.lowest_unspilled().map(|index| (queue.id(), index));
        let lowest: Vec<_> = self.queues.values_mut().filter_map(lowest).collect();
        for (id, index) in lowest {
            self.note_unspilled(id, index);
        }
        self.applied = self.queues.values().filter_map(Queue::last_index).max().unwrap_or_default();
    }

    /// A queue by number.
    pub fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id)
    }

    /// A queue by name.
    pub fn queue_named(&self, name: &str) -> Option<&Queue> {
        self.queues.get(self.names.get(name)?)
    }

    /// All queues by number.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    /// Queues in the order of their names, from the first above `after`.
    pub fn queues_after(&self, after: Option<&QueueName>) -> impl Iterator<Item = &Queue> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.names.range::<QueueName, _>((from, Bound::Unbounded)).filter_map(|(_, id)| self.queues.get(id))
    }

    /// An exchange by name; the default one is none.
    pub fn exchange(&self, name: &str) -> Option<ExchangeView<'_>> {
        self.routing.exchange(name)
    }

    /// Exchanges in the order of their names, from the first above `after`.
    pub fn exchanges_after(&self, after: Option<&ExchangeName>) -> impl Iterator<Item = ExchangeView<'_>> {
        self.routing.exchanges_after(after)
    }

    /// Bindings by exchange, queue and key, from the first above `after`.
    pub fn bindings_after(&self, after: Option<&Binding>) -> impl Iterator<Item = &Binding> {
        self.routing.bindings_after(after)
    }

    /// The queues a message would go to; none if there is no such exchange.
    pub fn route(&self, exchange: &str, key: &str) -> Option<BTreeSet<QueueId>> {
        if exchange.is_empty() {
            return Some(self.names.get(key).copied().into_iter().collect());
        }
        self.routing.route(exchange, key)
    }

    /// The live message at `seq` of a queue.
    pub fn message_at(&self, queue: QueueId, seq: u64) -> Option<SlotView> {
        self.queues.get(&queue)?.message_at(seq)
    }

    /// The first number of this producer not judged yet; none if it is not remembered.
    pub fn producer_next(&self, producer: ProducerId) -> Option<u64> {
        self.producers.next(producer)
    }

    /// Producers remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.count()
    }

    /// Live messages of all queues.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// A fingerprint of everything replicated: equal on replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        digest.word(u64::from(self.next_queue));
        digest.word(self.queues.len() as u64);
        self.queues.values().for_each(|queue| queue.digest(&mut digest));
        self.routing.digest(&mut digest);
        self.producers.digest(&mut digest);
        digest.finish()
    }
}

/// Why a command changes nothing.
pub(super) type Failure = (FaultCode, String);
/// What a command comes to.
pub(super) type Applied = Result<Outcome, Failure>;

fn no_exchange(name: &ExchangeName) -> Failure {
    (FaultCode::ExchangeNotFound, format!("exchange `{name}` does not exist: declare it first"))
}

pub(super) fn no_queue_numbered(id: QueueId) -> Failure {
    (FaultCode::QueueNotFound, format!("queue number {id} does not exist: it was deleted"))
}

fn check_definition(definition: &QueueDefinition) -> Result<(), Failure> {
    if definition.arguments.len() > MAX_ARGUMENTS {
        return Err((FaultCode::LimitReached, format!("a queue has at most {MAX_ARGUMENTS} arguments")));
    }
    let too_long = |length: usize| length > MAX_ARGUMENT_BYTES;
    if definition.arguments.iter().any(|(key, value)| too_long(key.len()) || too_long(value.len())) {
        let text = format!("a queue argument's key or value is longer than {MAX_ARGUMENT_BYTES} bytes");
        return Err((FaultCode::LimitReached, text));
    }
    Ok(())
}
