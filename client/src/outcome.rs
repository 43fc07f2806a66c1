//! What became of a run of numbers: shared by everybody who waits for one of them, allocated once per batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::Error;

/// The outcomes of a batch of messages, or of a frame of settlements.
pub(crate) struct Outcome<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Inclusive ranges with what became of them. Nearly always one.
    settled: Vec<(u64, u64, Result<T, Error>)>,
    waiting: Vec<(u64, Waker)>,
}

impl<T: Copy> Outcome<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { settled: Vec::new(), waiting: Vec::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds this lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what became of these numbers and wakes who waits for them. Of two answers the first one counts.
    pub(crate) fn settle(&self, first: u64, last: u64, result: Result<T, Error>) {
        let awake = {
            let mut state = self.lock();
            state.settled.push((first, last, result));
            if state.waiting.iter().all(|(number, _)| (first..=last).contains(number)) {
                std::mem::take(&mut state.waiting)
            } else {
                let (awake, waiting) = std::mem::take(&mut state.waiting)
                    .into_iter()
                    .partition(|(number, _)| (first..=last).contains(number));
                state.waiting = waiting;
                awake
            }
        };
        for (_, waker) in awake {
            waker.wake();
        }
    }

    /// What became of this number, if that is known.
    pub(crate) fn get(&self, number: u64) -> Option<Result<T, Error>> {
        self.lock().find(number)
    }

    /// As [`Self::get`], and wakes the task when it becomes known. `slot` is the caller's own memory between calls.
    pub(crate) fn poll(&self, number: u64, slot: &mut usize, cx: &Context<'_>) -> Poll<Result<T, Error>> {
        let mut state = self.lock();
        if let Some(result) = state.find(number) {
            return Poll::Ready(result);
        }
        match state.waiting.get_mut(*slot) {
            Some((waiting, waker)) if *waiting == number => waker.clone_from(cx.waker()),
            _ => {
                *slot = state.waiting.len();
                state.waiting.push((number, cx.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl<T: Copy> State<T> {
    fn find(&self, number: u64) -> Option<Result<T, Error>> {
        let (_, _, result) =
            self.settled.iter().find(|(first, last, _)| (*first..=*last).contains(&number))?;
        Some(match result {
            Ok(value) => Ok(*value),
            Err(error) => Err(error.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_who_waits_for_a_settled_number_is_woken() {
        let outcome = Outcome::<u8>::new();
        let counts: Vec<Arc<Count>> = (0..4).map(|_| Arc::new(Count::default())).collect();
        for (number, count) in (0u64..).zip(&counts) {
            let waker = Waker::from(Arc::clone(count));
            let mut slot = usize::MAX;
            assert!(outcome.poll(number, &mut slot, &Context::from_waker(&waker)).is_pending());
            assert!(outcome.poll(number, &mut slot, &Context::from_waker(&waker)).is_pending());
        }
        outcome.settle(1, 2, Ok(7));
        let woken: Vec<usize> = counts.iter().map(|count| count.0.load(Ordering::SeqCst)).collect();
        assert_eq!(woken, [0, 1, 1, 0]);
        outcome.settle(0, 3, Err(Error::Closed));
        assert_eq!(outcome.get(1).unwrap().unwrap(), 7, "the first answer counts");
        assert!(outcome.get(3).unwrap().is_err());
        assert!(outcome.get(4).is_none());
        let woken: Vec<usize> = counts.iter().map(|count| count.0.load(Ordering::SeqCst)).collect();
        assert_eq!(woken, [1, 1, 1, 1]);
    }
}
