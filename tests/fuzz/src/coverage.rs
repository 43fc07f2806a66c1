//! What the compiler tells of the code under test: which edges were taken, and what was compared with what.
//!
//! LLVM's instrumentation calls these functions by their names, and only where `tests/fuzz/instrumented` compiled the
//! code; elsewhere nobody calls them, and there is no coverage to speak of.

use std::cell::{Cell, RefCell};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

/// One module's counters.
static COUNTERS: Mutex<Vec<&'static [AtomicU8]>> = Mutex::new(Vec::new());

/// Comparisons kept of one run.
const COMPARISONS_MAX: usize = 512;

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static COMPARISONS: RefCell<Vec<Comparison>> = const { RefCell::new(Vec::new()) };
}

/// Two different values that were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How many bytes each has.
    pub bytes: usize,
    /// One.
    pub one: u64,
    /// The other.
    pub other: u64,
}

#[expect(unsafe_code, reason = "the name is LLVM's, and so are the pointers")]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const AtomicU8, stop: *const AtomicU8) {
    let length = (stop as usize).saturating_sub(start as usize);
    if start.is_null() || length == 0 {
        return;
    }
    // SAFETY: LLVM's contract: one counter for each byte from `start` up to `stop`, in a section that lives as long as the
    // process. `AtomicU8` has the layout of the byte that the instrumentation counts up.
    let counters = unsafe { std::slice::from_raw_parts(start, length) };
    if let Ok(mut all) = COUNTERS.lock() {
        all.push(counters);
    }
}

fn compared(bytes: usize, one: u64, other: u64) {
    if one == other {
        return;
    }
    let _ = LISTENING.try_with(|listening| {
        // What is noted below is compared, too.
        if !listening.replace(false) {
            return;
        }
        let _ = COMPARISONS.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < COMPARISONS_MAX
            {
                kept.push(Comparison { bytes, one, other });
            }
        });
        listening.set(true);
    });
}

macro_rules! comparisons {
    ($($name:ident $number:ty, $bytes:literal;)*) => {$(
        #[expect(unsafe_code, reason = "the name is LLVM's")]
        #[unsafe(no_mangle)]
        extern "C" fn $name(one: $number, other: $number) {
            compared($bytes, u64::from(one), u64::from(other));
        }
    )*};
}

comparisons! {
    __sanitizer_cov_trace_cmp1 u8, 1;
    __sanitizer_cov_trace_cmp2 u16, 2;
    __sanitizer_cov_trace_cmp4 u32, 4;
    __sanitizer_cov_trace_cmp8 u64, 8;
    __sanitizer_cov_trace_const_cmp1 u8, 1;
    __sanitizer_cov_trace_const_cmp2 u16, 2;
    __sanitizer_cov_trace_const_cmp4 u32, 4;
    __sanitizer_cov_trace_const_cmp8 u64, 8;
}

/// The values of a `match` are found by its edges.
#[expect(unsafe_code, reason = "the name is LLVM's")]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_switch(_value: u64, _cases: *const u64) {}

/// How many edges the compiler counts; 0 in a build without instrumentation.
pub fn edges() -> usize {
    COUNTERS.lock().map_or(0, |all| all.iter().map(|counters| counters.len()).sum())
}

/// What one run covered.
#[derive(Debug, Default)]
pub struct Trace {
    /// Edges with how often they were taken, in powers of two: one number each.
    pub features: Vec<u32>,
    /// What was compared and differed.
    pub comparisons: Vec<Comparison>,
}

/// Does something and says what it covered.
pub fn trace_of<T>(act: impl FnOnce() -> T) -> (T, Trace) {
    let all = COUNTERS.lock().map(|all| all.clone()).unwrap_or_default();
    for counter in all.iter().copied().flatten() {
        counter.store(0, Ordering::Relaxed);
    }
    COMPARISONS.with_borrow_mut(Vec::clear);
    LISTENING.set(!all.is_empty());
    let done = act();
    LISTENING.set(false);
    let mut trace = Trace { features: Vec::new(), comparisons: COMPARISONS.take() };
    for (edge, counter) in (0_u32..).zip(all.iter().copied().flatten()) {
        let times = counter.load(Ordering::Relaxed);
        if times > 0 {
            trace.features.push(edge << 3 | (8 - times.leading_zeros()).min(7));
        }
    }
    (done, trace)
}
