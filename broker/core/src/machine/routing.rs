//! Exchanges and bindings: from a message's exchange and key to queues.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use quorate_protocol::frame::{Binding, ExchangeKind};
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_protocol::pattern::Pattern;

use super::command::QueueId;
use super::digest::Digest;

/// An exchange as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeView<'a> {
    /// Its name.
    pub name: &'a ExchangeName,
    /// Its kind.
    pub kind: ExchangeKind,
    /// Bindings it has.
    pub bindings: u32,
}

#[derive(Clone, Debug)]
struct Targets {
    /// Parsed, in a topic exchange.
    pattern: Option<Pattern>,
    queues: BTreeSet<QueueId>,
}

#[derive(Clone, Debug)]
struct Exchange {
    kind: ExchangeKind,
    keys: BTreeMap<RoutingKey, Targets>,
    bindings: u32,
}

/// All exchanges of a vhost but the default one, which needs no record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    exchanges: BTreeMap<ExchangeName, Exchange>,
    bindings: BTreeSet<Binding>,
    /// Every binding once more, so that a deleted queue's are found.
    of_queue: BTreeMap<QueueName, BTreeSet<(ExchangeName, RoutingKey)>>,
    /// Changed since the last checkpoint.
    dirty_exchanges: BTreeSet<ExchangeName>,
    dirty_bindings: BTreeSet<Binding>,
}

impl Routing {
    pub(crate) fn exchange_count(&self) -> usize {
        self.exchanges.len()
    }

    pub(crate) fn binding_count(&self) -> usize {
        self.bindings.len()
    }

    pub(crate) fn exchange(&self, name: &str) -> Option<ExchangeView<'_>> {
        self.exchanges.get_key_value(name).map(|(name, exchange)| exchange.view(name))
    }

    pub(crate) fn exchanges_after(
        &self,
        after: Option<&ExchangeName>,
    ) -> impl Iterator<Item = ExchangeView<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.exchanges.range::<ExchangeName, _>((from, Bound::Unbounded)).map(|(name, it)| it.view(name))
    }

    pub(crate) fn bindings_after(&self, after: Option<&Binding>) -> impl Iterator<Item = &Binding> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.bindings.range::<Binding, _>((from, Bound::Unbounded))
    }

    /// Makes an exchange that does not exist.
    pub(crate) fn insert_exchange(&mut self, name: ExchangeName, kind: ExchangeKind) {
        let exchange = Exchange { kind, keys: BTreeMap::new(), bindings: 0 };
        let before = self.exchanges.insert(name.clone(), exchange);
        assert!(before.is_none(), "an exchange is looked up before it is made");
        self.dirty_exchanges.insert(name);
    }

    /// Removes an exchange with its bindings; how many they were.
    pub(crate) fn remove_exchange(&mut self, name: &ExchangeName) -> u32 {
        let Some(exchange) = self.exchanges.remove(name) else { return 0 };
        let first = Binding { exchange: name.clone(), queue: lowest_queue(), key: RoutingKey::default() };
        let bindings: Vec<Binding> =
            self.bindings.range(first..).take_while(|binding| binding.exchange == *name).cloned().collect();
        for binding in bindings {
            self.forget_binding(binding);
        }
        self.dirty_exchanges.insert(name.clone());
        exchange.bindings
    }

    /// Whether the binding exists.
    pub(crate) fn is_bound(&self, binding: &Binding) -> bool {
        self.bindings.contains(binding)
    }

    /// Adds a binding from an exchange that exists to the queue that has this number; false if it was there. The
    /// error says why the key is no topic pattern.
    pub(crate) fn bind(&mut self, binding: Binding, queue: QueueId) -> Result<bool, String> {
        let exchange =
            self.exchanges.get_mut(&binding.exchange).expect("an exchange is looked up before it is bound");
        if !exchange.keys.contains_key(&binding.key) {
            let pattern = match exchange.kind {
                ExchangeKind::Topic => Some(parse_pattern(&binding.key)?),
                ExchangeKind::Direct | ExchangeKind::Fanout => None,
            };
            exchange.keys.insert(binding.key.clone(), Targets { pattern, queues: BTreeSet::new() });
        }
        let bound = exchange.keys.get_mut(&binding.key).expect("it was inserted just now");
        if !bound.queues.insert(queue) {
            return Ok(false);
        }
        exchange.bindings += 1;
        let of_queue = self.of_queue.entry(binding.queue.clone()).or_default();
        of_queue.insert((binding.exchange.clone(), binding.key.clone()));
        self.dirty_bindings.insert(binding.clone());
        self.bindings.insert(binding);
        Ok(true)
    }

    /// Removes a binding to the queue that has this number; false if there is none.
    pub(crate) fn unbind(&mut self, binding: Binding, queue: QueueId) -> bool {
        if !self.bindings.contains(&binding) {
            return false;
        }
        let exchange = self.exchanges.get_mut(&binding.exchange).expect("a binding's exchange exists");
        let bound = exchange.keys.get_mut(&binding.key).expect("a binding's key is known to its exchange");
        bound.queues.remove(&queue);
        if bound.queues.is_empty() {
            exchange.keys.remove(&binding.key);
        }
        exchange.bindings -= 1;
        self.forget_binding(binding);
        true
    }

    fn forget_binding(&mut self, binding: Binding) {
        self.bindings.remove(&binding);
        let of_queue = self.of_queue.get_mut(&binding.queue).expect("a binding's queue has it in its list");
        of_queue.remove(&(binding.exchange.clone(), binding.key.clone()));
        if of_queue.is_empty() {
            self.of_queue.remove(&binding.queue);
        }
        self.dirty_bindings.insert(binding);
    }

    /// Removes all bindings of a queue.
    pub(crate) fn remove_queue(&mut self, name: &QueueName, id: QueueId) {
        for (exchange, key) in self.of_queue.get(name).cloned().unwrap_or_default() {
            self.unbind(Binding { exchange, queue: name.clone(), key }, id);
        }
    }

    /// The queues a message goes to, each once; none if there is no such exchange.
    pub(crate) fn route(&self, exchange: &str, key: &str) -> Option<BTreeSet<QueueId>> {
        let exchange = self.exchanges.get(exchange)?;
        let all = |bound: &Targets| bound.queues.clone();
        Some(match exchange.kind {
            ExchangeKind::Direct => exchange.keys.get(key).map_or_else(BTreeSet::new, all),
            ExchangeKind::Fanout => exchange.keys.values().flat_map(all).collect(),
            ExchangeKind::Topic => exchange
                .keys
                .values()
                .filter(|bound| bound.pattern.as_ref().is_some_and(|pattern| pattern.matches(key)))
                .flat_map(all)
                .collect(),
        })
    }

    /// Exchanges changed since the last call, with their kind, or none if they are gone.
    pub(crate) fn take_dirty_exchanges(&mut self) -> Vec<(ExchangeName, Option<ExchangeKind>)> {
        let dirty = std::mem::take(&mut self.dirty_exchanges);
        dirty
            .into_iter()
            .map(|name| (self.exchange(name.as_str()).map(|it| it.kind), name))
            .map(swap)
            .collect()
    }

    /// Bindings changed since the last call, and whether they exist.
    pub(crate) fn take_dirty_bindings(&mut self) -> Vec<(Binding, bool)> {
        let dirty = std::mem::take(&mut self.dirty_bindings);
        dirty.into_iter().map(|binding| (self.is_bound(&binding), binding)).map(swap).collect()
    }

    /// What was restored is not dirty.
    pub(crate) fn forget_dirty(&mut self) {
        self.dirty_exchanges.clear();
        self.dirty_bindings.clear();
    }

    pub(crate) fn digest(&self, digest: &mut Digest) {
        digest.word(self.exchanges.len() as u64);
        for (name, exchange) in &self.exchanges {
            digest.bytes(name.as_str().as_bytes());
            digest.word(u64::from(exchange.kind.number()));
        }
        digest.word(self.bindings.len() as u64);
        for binding in &self.bindings {
            digest.bytes(binding.exchange.as_str().as_bytes());
            digest.bytes(binding.queue.as_str().as_bytes());
            digest.bytes(binding.key.as_str().as_bytes());
        }
    }
}

impl Exchange {
    fn view<'a>(&self, name: &'a ExchangeName) -> ExchangeView<'a> {
        ExchangeView { name, kind: self.kind, bindings: self.bindings }
    }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// No queue's name comes before it: control characters are in none.
fn lowest_queue() -> QueueName {
    QueueName::new(" ").expect("a space is a name")
}

fn parse_pattern(key: &RoutingKey) -> Result<Pattern, String> {
    Pattern::parse(key).map_err(|error| format!("`{key}` is not a topic pattern: {error}"))
}
