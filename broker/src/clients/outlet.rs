//! The core's end of a client connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_protocol::frame::ServerFrame;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::budget::Budget;

/// Takes frames for one client, in order. How much may wait here is decided by the core, which is told what was
/// written.
#[derive(Clone, Debug)]
pub struct SessionOutlet {
    frames: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<SessionShared>,
}

#[derive(Debug)]
pub(super) enum Outgoing {
    Frame(u16, ServerFrame),
    /// Nothing follows.
    Close,
}

/// What the connection's task and the core's outlet both see.
#[derive(Debug)]
pub(super) struct SessionShared {
    pub(super) budget: Budget,
    logged_in: AtomicBool,
    pub(super) closing: Notify,
}

impl SessionShared {
    pub(super) fn is_logged_in(&self) -> bool {
        self.logged_in.load(Ordering::Acquire)
    }
}

impl SessionOutlet {
    pub(super) fn new(
        bytes: Arc<Semaphore>,
    ) -> (Self, Arc<SessionShared>, mpsc::UnboundedReceiver<Outgoing>) {
        let (frames, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(SessionShared {
            budget: Budget::new(bytes),
            logged_in: AtomicBool::new(false),
            closing: Notify::new(),
        });
        (Self { frames, shared: Arc::clone(&shared) }, shared, receiver)
    }

    /// Writes a frame after those before it. Nothing happens if the connection is gone: the core hears of that.
    pub fn write(&self, channel: u16, frame: ServerFrame) {
        if matches!(frame, ServerFrame::LoginOk(_)) {
            // Before the client can know, so that its next frame finds the limits after login.
            self.shared.logged_in.store(true, Ordering::Release);
        }
        let _ = self.frames.send(Outgoing::Frame(channel, frame));
    }

    /// Closes the connection after what was written before.
    pub fn close(&self) {
        let _ = self.frames.send(Outgoing::Close);
        self.shared.closing.notify_one();
    }

    /// Bytes of an earlier frame are free again.
    pub fn release(&self, cost: u32) {
        self.shared.budget.give_back(cost);
    }

    /// The connection is gone and the core knows.
    pub fn forget(&self) {
        self.shared.budget.close();
    }
}
