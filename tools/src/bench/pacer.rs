//! Wakes publishers when their messages are due.
//!
//! The runtime's own timers go by the millisecond, which is as much as a confirm takes. This is a thread that sleeps
//! with the system's precision and wakes whoever's turn it is; the schedule itself says what is due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::schedule::Schedule;

/// It sleeps at least so long, so that it leaves the processor to the others at high rates.
const SHORTEST: Duration = Duration::from_micros(100);

/// The thread; ends when dropped.
pub struct Pacer {
    turns: Vec<Arc<Notify>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Wakes so many publishers by this schedule.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(schedule: Schedule, publishers: usize, began: Instant) -> io::Result<Self> {
        let turns: Vec<Arc<Notify>> = (0..publishers).map(|_| Arc::default()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (woken, stopped) = (turns.clone(), Arc::clone(&stop));
        let thread = thread::Builder::new().name("bench-pacer".to_owned());
        let thread = thread.spawn(move || wake(schedule, &woken, began, &stopped))?;
        Ok(Self { turns, stop, thread: Some(thread) })
    }

    /// What tells a publisher that something may be due for it.
    pub fn turn(&self, publisher: usize) -> Arc<Notify> {
        self.turns.get(publisher).cloned().unwrap_or_default()
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // If it panicked, that was said already.
            let _ = thread.join();
        }
    }
}

fn wake(schedule: Schedule, turns: &[Arc<Notify>], began: Instant, stop: &AtomicBool) {
    let mut woken = 0;
    while woken < schedule.total() && !stop.load(Ordering::Acquire) {
        let due = schedule.due_by(began.elapsed());
        // Each once is enough: a publisher sends all that is due.
        let each = (woken..due).take(turns.len());
        each.filter_map(|message| turns.get(schedule.publisher(message))).for_each(|turn| turn.notify_one());
        woken = due;
        let next = schedule.due(woken).saturating_sub(began.elapsed());
        thread::park_timeout(next.max(SHORTEST));
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Limit;
    use super::*;

    #[tokio::test]
    async fn everybody_is_woken_when_it_is_their_turn() {
        let began = Instant::now();
        let schedule = Schedule::new(1000, Limit::Messages(20), 4);
        let pacer = Pacer::start(schedule, 4, began).unwrap();
        for publisher in 0..4 {
            let (turn, mut number) = (pacer.turn(publisher), 0);
            while let Some(due) = schedule.due_of(publisher, number) {
                while began.elapsed() < due {
                    turn.notified().await;
                }
                number += 1;
            }
            assert_eq!(number, 5);
        }
    }
}
