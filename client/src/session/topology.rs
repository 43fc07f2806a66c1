//! What this client declared and still wants: declared again on every new connection, before anybody publishes or
//! consumes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use quorate_protocol::frame::{
    Bind, Binding, ClientFrame, DeclareExchange, DeclareQueue, ExchangeKind, Failed,
};
use quorate_protocol::name::{ExchangeName, QueueName};

use super::requests::{Purpose, is_passing};
use super::{Link, Session};
use crate::error::Error;
use crate::event::ConnectionEvent;

/// Wait before something refused for a passing reason is declared again.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Topology {
    exchanges: BTreeMap<ExchangeName, ExchangeKind>,
    queues: BTreeMap<QueueName, DeclareQueue>,
    bindings: BTreeSet<Binding>,
    /// Of the present connection: what is still to be declared, bindings last.
    to_restore: VecDeque<ClientFrame>,
    unanswered: usize,
    /// All declarations are answered; what is unanswered are bindings.
    binding: bool,
    retry_at: Option<Instant>,
}

impl Topology {
    /// A request succeeded.
    pub(super) fn learn(&mut self, frame: &ClientFrame) {
        match frame {
            ClientFrame::DeclareQueue(declare) if !declare.passive => {
                self.queues.insert(declare.queue.clone(), declare.clone());
            }
            ClientFrame::DeleteQueue(delete) => {
                self.queues.remove(&delete.queue);
                self.bindings.retain(|binding| binding.queue != delete.queue);
            }
            ClientFrame::DeclareExchange(declare) if !declare.passive => {
                self.exchanges.insert(declare.exchange.clone(), declare.kind);
            }
            ClientFrame::DeleteExchange(delete) => {
                self.exchanges.remove(&delete.exchange);
                self.bindings.retain(|binding| binding.exchange != delete.exchange);
            }
            ClientFrame::Bind(bind) => {
                self.bindings.insert(bind.binding.clone());
            }
            ClientFrame::Unbind(unbind) => {
                self.bindings.remove(&unbind.binding);
            }
            _ => {}
        }
    }

    /// A new connection: everything is to be declared.
    pub(super) fn begin_restoring(&mut self) {
        self.unanswered = 0;
        self.binding = false;
        self.retry_at = None;
        self.to_restore.clear();
        let exchanges = self.exchanges.iter().map(|(exchange, kind)| {
            DeclareExchange { request: 0, exchange: exchange.clone(), kind: *kind, passive: false }.into()
        });
        let queues = self.queues.values().cloned().map(ClientFrame::from);
        let bindings =
            self.bindings.iter().map(|binding| Bind { request: 0, binding: binding.clone() }.into());
        self.to_restore.extend(exchanges.chain(queues).chain(bindings));
    }

    /// When something is to be declared again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

impl<R> Session<R> {
    /// Declares what is left; when nothing is, the connection is up.
    pub(super) fn go_on_restoring(&mut self, now: Instant) {
        if !matches!(self.link, Link::Restoring(_)) || self.topology.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.topology.retry_at = None;
        while self.requests_have_room() {
            // A binding needs its two ends: they are answered first.
            if matches!(self.topology.to_restore.front(), Some(ClientFrame::Bind(_))) {
                self.topology.binding |= self.topology.unanswered == 0;
                if !self.topology.binding {
                    break;
                }
            }
            let Some(frame) = self.topology.to_restore.pop_front() else { break };
            self.topology.unanswered += 1;
            self.send_request(frame.clone(), Purpose::Restore(frame));
        }
        if self.topology.to_restore.is_empty() && self.topology.unanswered == 0 {
            self.up();
        }
    }

    pub(super) fn restored(&mut self, frame: ClientFrame, failed: Option<Failed>, now: Instant) {
        self.topology.unanswered = self.topology.unanswered.saturating_sub(1);
        match failed {
            Some(failed) if is_passing(failed.code) => {
                self.topology.retry_at = Some(now + RETRY);
                self.topology.to_restore.push_front(frame);
            }
            Some(failed) => {
                let error = Error::failed(failed.code, &failed.text);
                self.event(ConnectionEvent::NotRestored { what: name_of(&frame), error });
            }
            None => {}
        }
        self.go_on_restoring(now);
    }
}

fn name_of(frame: &ClientFrame) -> String {
    match frame {
        ClientFrame::DeclareQueue(declare) => format!("queue '{}'", declare.queue),
        ClientFrame::DeclareExchange(declare) => format!("exchange '{}'", declare.exchange),
        ClientFrame::Bind(bind) => {
            let Binding { exchange, queue, key } = &bind.binding;
            format!("binding of queue '{queue}' to exchange '{exchange}' with key '{key}'")
        }
        other => format!("{other:?}"),
    }
}
