//! Log lines that would repeat: at most one a minute for each subject.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_mins(1);
/// Subjects can be named by strangers; a table of them must not grow without end.
const SUBJECTS_MAX: usize = 1024;

/// Remembers what was said lately.
#[derive(Debug, Default)]
pub struct Rarely(Mutex<HashMap<String, Instant>>);

impl Rarely {
    /// Logs a warning, unless one about the same subject was logged within the last minute.
    pub fn warn(&self, subject: &str, line: impl FnOnce() -> String) {
        if self.is_due(subject, Instant::now()) {
            tracing::warn!("{}", line());
        }
    }

    fn is_due(&self, subject: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, when| now.duration_since(*when) < INTERVAL);
        if said.contains_key(subject) || said.len() >= SUBJECTS_MAX {
            return false;
        }
        said.insert(subject.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_due_once_a_minute() {
        let rarely = Rarely::default();
        let start = Instant::now();
        assert!(rarely.is_due("a", start));
        assert!(!rarely.is_due("a", start + Duration::from_secs(59)));
        assert!(rarely.is_due("b", start));
        assert!(rarely.is_due("a", start + Duration::from_mins(1)));
    }

    #[test]
    fn subjects_are_bounded() {
        let rarely = Rarely::default();
        let start = Instant::now();
        for number in 0..2000 {
            rarely.is_due(&number.to_string(), start);
        }
        assert_eq!(rarely.0.lock().unwrap().len(), SUBJECTS_MAX);
    }
}
