//! Where questions of operators wait for the core's answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::admin::{AdminReply, AdminRequest};
use quorate_core::io::{AdminId, Input};
use tokio::sync::oneshot;

use crate::inbox::Inbox;

/// More than this many at once are refused: each costs the core thread some work.
const PENDING_MAX: usize = 256;

/// Sends questions to the core and hands out its answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdminDesk {
    inbox: Inbox,
    pending: Arc<Mutex<HashMap<AdminId, oneshot::Sender<AdminReply>>>>,
    next: Arc<AtomicU64>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Too many questions at once.
    Busy,
    /// The core did not answer in time.
    Timeout,
    /// The broker is stopping.
    Stopping,
}

impl AdminDesk {
    /// A desk in front of this inbox.
    pub fn new(inbox: Inbox) -> Self {
        Self { inbox, pending: Arc::default(), next: Arc::new(AtomicU64::new(1)) }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<AdminId, oneshot::Sender<AdminReply>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the core and waits for its answer.
    pub async fn ask(&self, request: AdminRequest, timeout: Duration) -> Result<AdminReply, NoAnswer> {
        let (sender, receiver) = oneshot::channel();
        let id = AdminId(self.next.fetch_add(1, Ordering::Relaxed));
        {
            let mut pending = self.pending();
            // Askers that hung up are gone before they can fill the desk.
            pending.retain(|_, asker| !asker.is_closed());
            if pending.len() >= PENDING_MAX {
                return Err(NoAnswer::Busy);
            }
            pending.insert(id, sender);
        }
        self.inbox.input(Input::Admin { id, request });
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(NoAnswer::Stopping),
            Err(_) => {
                self.pending().remove(&id);
                Err(NoAnswer::Timeout)
            }
        }
    }

    /// The core answered.
    pub fn answer(&self, id: AdminId, reply: AdminReply) {
        if let Some(asker) = self.pending().remove(&id) {
            // Whoever asked may have hung up.
            let _ = asker.send(reply);
        }
    }
}
