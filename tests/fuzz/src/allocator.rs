//! An allocator that counts what the current thread holds and asks for, so that a target can say how much a decoder took,
//! and a benchmark what a message costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes held by this thread; below zero if it freed what another one allocated.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static ASKED: Cell<Allocations> = const { Cell::new(Allocations { calls: 0, bytes: 0 }) };
}

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How often, growing something included.
    pub calls: u64,
    /// Bytes; of something that grew, those that were added.
    pub bytes: u64,
}

/// What the current thread has asked for since it began.
pub fn allocations() -> Allocations {
    ASKED.get()
}

fn asked(bytes: usize) {
    let _ = ASKED.try_with(|asked| {
        let Allocations { calls, bytes: before } = asked.get();
        asked.set(Allocations { calls: calls.wrapping_add(1), bytes: before.wrapping_add(bytes as u64) });
    });
}

fn count(bytes: isize) {
    // A thread that ends may allocate after its cells are gone.
    let _ = HELD.try_with(|held| {
        let now = held.get().wrapping_add(bytes);
        held.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[expect(unsafe_code, reason = "the only door to the allocator; each call is passed on as it came")]
// SAFETY: every method passes its arguments to the system's allocator unchanged and returns what that returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        asked(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        asked(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        asked(size.saturating_sub(layout.size()));
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does something, and says how many bytes more than before this thread held at the worst moment of it.
pub fn peak_of<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    let outer = PEAK.replace(before);
    let done = act();
    let peak = PEAK.get();
    PEAK.set(outer.max(peak));
    (done, usize::try_from(peak - before).unwrap_or(0))
}

/// How much a piece of code may hold for what it was given.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// For each byte that it was given: a value in memory is wider than on the wire.
    pub each: usize,
    /// Besides.
    pub fixed: usize,
}

impl Allowance {
    /// Does something with `received` bytes.
    ///
    /// # Panics
    /// It held more than allowed.
    pub fn check<T>(self, received: usize, what: &str, act: impl FnOnce() -> T) -> T {
        let (done, peak) = peak_of(act);
        let allowed = received.saturating_mul(self.each).saturating_add(self.fixed);
        assert!(peak <= allowed, "{what} held {peak} bytes for {received} received: more than {allowed}");
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Allowance = Allowance { each: 1, fixed: 1000 };

    #[test]
    fn the_worst_moment_counts() {
        let (kept, peak) = peak_of(|| {
            drop(vec![0_u8; 100_000]);
            vec![0_u8; 10]
        });
        assert_eq!(kept.len(), 10);
        assert!((100_000..101_000).contains(&peak), "{peak}");
        assert_eq!(SMALL.check(10, "little", || vec![1_u8; 900]).len(), 900);
    }

    #[test]
    fn what_is_asked_for_counts_even_if_it_is_given_back() {
        let before = allocations();
        let mut grown = Vec::<u8>::with_capacity(100);
        grown.reserve_exact(300);
        drop((grown, vec![0_u8; 50], Vec::<u8>::new()));
        let after = allocations();
        assert_eq!((after.calls - before.calls, after.bytes - before.bytes), (3, 350));
    }

    #[test]
    #[should_panic(expected = "more than 1010")]
    fn more_than_allowed_is_found() {
        SMALL.check(10, "much", || vec![1_u8; 2000]);
    }
}
