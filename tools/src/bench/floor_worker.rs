//! The floor in a thread of its own: whoever waits for it can be interrupted, and it then ends and leaves no files.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use super::floor::Floor;
use super::measure::Measured;
use super::plan::Limit;

/// A floor, or none.
pub struct FloorWorker {
    state: State,
    stop: Arc<AtomicBool>,
}

enum State {
    /// There is none, or it has failed.
    None,
    Rests(Floor),
    /// Also if nobody waits for it any more.
    Works(JoinHandle<(Floor, io::Result<Measured>)>),
}

impl FloorWorker {
    /// At rest.
    pub fn new(floor: Option<Floor>) -> Self {
        Self { state: floor.map_or(State::None, State::Rests), stop: Arc::default() }
    }

    /// As [`Floor::run`]; none if there is no floor. If this future is dropped, the work goes on until [`Self::end`].
    ///
    /// # Errors
    /// The disk.
    pub async fn run(&mut self, size: usize, window: usize, limit: Limit) -> io::Result<Option<Measured>> {
        let mut floor = match std::mem::replace(&mut self.state, State::None) {
            State::Rests(floor) => floor,
            other => {
                self.state = other;
                return Ok(None);
            }
        };
        let stop = Arc::clone(&self.stop);
        self.state = State::Works(tokio::task::spawn_blocking(move || {
            let measured = floor.run(size, window, limit, &stop);
            (floor, measured)
        }));
        let State::Works(work) = &mut self.state else { return Ok(None) };
        let (floor, measured) = work.await.map_err(io::Error::other)?;
        self.state = State::Rests(floor);
        measured.map(Some)
    }

    /// Ends what is under way after the batch that is being written, and removes the files.
    pub async fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let State::Works(work) = &mut self.state {
            // If it panicked, that was said already.
            let _ = work.await;
        }
        self.state = State::None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_no_more_ends_it_and_its_files_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = FloorWorker::new(Some(Floor::new(directory.path()).unwrap()));
        let measured = worker.run(16, 1, Limit::Messages(3)).await.unwrap().unwrap();
        assert_eq!(measured.messages, 3);
        let forever = worker.run(16, 1, Limit::Time(Duration::MAX));
        assert!(tokio::time::timeout(Duration::from_millis(5), forever).await.is_err());
        worker.end().await;
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(worker.run(16, 1, Limit::Messages(3)).await.unwrap().is_none());
    }
}
