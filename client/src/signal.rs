//! How other tasks tell the connection's task that there is something to do: once per batch, not once per message.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_protocol::limits::Limits;
use tokio::sync::Notify;

use crate::error::Error;
use crate::session::Notice;

#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Default)]
struct State {
    notices: Vec<Notice>,
    /// The connection's task has ended.
    ended: Option<Error>,
    limits: Limits,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a notice; or says why nobody will read it.
    pub(crate) fn tell(&self, notice: Notice) -> Result<(), Error> {
        {
            let mut state = self.lock();
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            state.notices.push(notice);
        }
        self.notify.notify_one();
        Ok(())
    }

    /// Takes all notices.
    pub(crate) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut self.lock().notices)
    }

    /// Waits until there is a notice, or there was one.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// No notice will be read any more. Gives those that were not.
    pub(crate) fn end(&self, error: &Error) -> Vec<Notice> {
        let mut state = self.lock();
        state.ended = Some(error.clone());
        std::mem::take(&mut state.notices)
    }

    /// Why the connection's task has ended, if it has.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.lock().ended.clone()
    }

    /// What the broker of the present or last connection takes.
    pub(crate) fn limits(&self) -> Limits {
        self.lock().limits
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
    }
}
