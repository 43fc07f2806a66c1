//! How much memory clients may make the broker hold: a share for each session, and one for all together.
//!
//! A session that used its share up is not read any more; TCP then tells the client to wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one session's frames that the core may hold. One larger frame takes the whole share.
pub const SESSION_BYTES: usize = 8 << 20;
/// Bytes of all sessions' frames.
pub const GLOBAL_BYTES: usize = 256 << 20;

const _: () = assert!(SESSION_BYTES < GLOBAL_BYTES && SESSION_BYTES <= u32::MAX as usize);

/// One session's account.
#[derive(Debug)]
pub(super) struct Budget {
    own: Semaphore,
    all: Arc<Semaphore>,
    /// Bytes taken and not given back.
    taken: AtomicU64,
}

impl Budget {
    pub(super) fn new(all: Arc<Semaphore>) -> Self {
        Self { own: Semaphore::new(SESSION_BYTES), all, taken: AtomicU64::new(0) }
    }

    /// Waits for room for a frame of this many bytes and takes it; returns what [`Self::give_back`] must get.
    pub(super) async fn take(&self, bytes: usize) -> u32 {
        let cost = u32::try_from(bytes.min(SESSION_BYTES)).expect("the share of a session fits 32 bits");
        let own = self.own.acquire_many(cost).await.expect("never closed");
        let all = self.all.acquire_many(cost).await.expect("never closed");
        own.forget();
        all.forget();
        self.taken.fetch_add(cost.into(), Ordering::Relaxed);
        cost
    }

    /// The core does not hold the frame any more.
    pub(super) fn give_back(&self, cost: u32) {
        let cost = u64::from(cost);
        let update = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| Some(taken.saturating_sub(cost)));
        let taken = update.unwrap_or_else(|taken| taken);
        if cost > taken {
            tracing::error!("{cost} bytes were given back for a session that holds {taken}");
        }
        // Never more than was taken: the bounds hold whatever the bookkeeping elsewhere does.
        let cost = cost.min(taken);
        let permits = usize::try_from(cost).unwrap_or(usize::MAX);
        self.own.add_permits(permits);
        self.all.add_permits(permits);
    }

    /// The session is over: what it still held does not count against the others any more.
    pub(super) fn close(&self) {
        let left = self.taken.swap(0, Ordering::Relaxed);
        self.all.add_permits(usize::try_from(left).unwrap_or(usize::MAX));
    }

    /// Accounts for a partly arrived frame that has become long, before it is known whether the rest ever comes.
    pub(super) async fn hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.all).acquire_many_owned(bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_runs_out_and_comes_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let all = Arc::new(Semaphore::new(GLOBAL_BYTES));
            let budget = Budget::new(Arc::clone(&all));
            let small = budget.take(1000).await;
            assert_eq!(small, 1000);
            let waiting = budget.take(SESSION_BYTES);
            tokio::pin!(waiting);
            assert!(futures_poll_once(waiting.as_mut()).await.is_none(), "the share is used up");
            budget.give_back(small);
            let whole = waiting.await;
            assert_eq!(whole as usize, SESSION_BYTES);
            assert_eq!(all.available_permits(), GLOBAL_BYTES - SESSION_BYTES);
            budget.close();
            assert_eq!(all.available_permits(), GLOBAL_BYTES);
        });
    }

    async fn futures_poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[test]
    fn a_frame_larger_than_the_share_takes_all_of_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let budget = Budget::new(Arc::new(Semaphore::new(GLOBAL_BYTES)));
            assert_eq!(budget.take(SESSION_BYTES * 2).await as usize, SESSION_BYTES);
        });
    }

    #[test]
    fn giving_back_too_much_gives_nothing_away() {
        let all = Arc::new(Semaphore::new(GLOBAL_BYTES));
        Budget::new(Arc::clone(&all)).give_back(1);
        assert_eq!(all.available_permits(), GLOBAL_BYTES);
    }
}
