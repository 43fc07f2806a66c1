//! Which address to try next, and when. Pure: time and chance are arguments.
//!
//! Every address has a back-off of its own, so that one that answers quickly is asked often although another one is
//! dead. Attempts overlap: the next address is tried when the attempts before it have ended or, if one of them hangs,
//! a moment later.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::limits;

/// First wait before an address is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(15);
/// Longest wait before an address is tried again, unless a broker asks for a longer one.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The next address is tried this long after the last one, while that one has not answered.
const STAGGER: Duration = Duration::from_millis(50);
/// Most addresses known from redirects only.
const LEARNED: usize = 16;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Try this address now; report with [`Dialer::failed`] or [`Dialer::connected`].
    Dial(Address),
    /// Nothing to do before this time, unless an attempt ends.
    WaitUntil(Instant),
    /// Every address is being tried: wait for an attempt to end.
    WaitForAttempt,
}

/// Plans the attempts to reach a leader.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// In order of preference.
    candidates: Vec<Candidate>,
    last_started: Option<Instant>,
    redirects: usize,
}

#[derive(Debug)]
struct Candidate {
    address: Address,
    configured: bool,
    in_flight: bool,
    due: Option<Instant>,
    backoff: Duration,
    last_failed: Option<Instant>,
}

impl Candidate {
    fn new(address: Address, configured: bool) -> Self {
        Self { address, configured, in_flight: false, due: None, backoff: BACKOFF_MIN, last_failed: None }
    }
}

impl Dialer {
    /// A plan over the configured addresses, in their order.
    pub(crate) fn new(addresses: &[Address]) -> Self {
        let mut dialer = Self { candidates: Vec::new(), last_started: None, redirects: 0 };
        for address in addresses {
            if dialer.position(address).is_none() {
                dialer.candidates.push(Candidate::new(address.clone(), true));
            }
        }
        dialer
    }

    fn position(&self, address: &Address) -> Option<usize> {
        self.candidates.iter().position(|candidate| candidate.address == *address)
    }

    /// The addresses that the application gave.
    pub(crate) fn configured(&self) -> impl Iterator<Item = &Address> {
        self.candidates.iter().filter(|candidate| candidate.configured).map(|candidate| &candidate.address)
    }

    /// The next thing to do. Every [`Step::Dial`] counts as begun.
    pub(crate) fn next(&mut self, now: Instant) -> Step {
        let in_flight = self.candidates.iter().any(|candidate| candidate.in_flight);
        let not_before = match self.last_started {
            Some(started) if in_flight => started + STAGGER,
            _ => now,
        };
        let due = |candidate: &Candidate| candidate.due.map_or(not_before, |due| due.max(not_before));
        // Of those due now the one that has waited longest, those never tried before all others; if none is, the
        // earliest.
        let mut best: Option<(usize, (Instant, Option<Instant>))> = None;
        for (position, candidate) in self.candidates.iter().enumerate() {
            if candidate.in_flight {
                continue;
            }
            let order = (due(candidate).max(now), candidate.due);
            if best.is_none_or(|(_, best_order)| order < best_order) {
                best = Some((position, order));
            }
        }
        match best {
            None => Step::WaitForAttempt,
            Some((_, (at, _))) if at > now => Step::WaitUntil(at),
            Some((position, _)) => match self.candidates.get_mut(position) {
                Some(candidate) => {
                    candidate.in_flight = true;
                    self.last_started = Some(now);
                    Step::Dial(candidate.address.clone())
                }
                None => Step::WaitForAttempt,
            },
        }
    }

    /// An attempt ended without a login. `retry_after` is what the broker asked for, `chance` is any random number.
    pub(crate) fn failed(
        &mut self,
        address: &Address,
        now: Instant,
        retry_after: Option<Duration>,
        chance: u32,
    ) {
        let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.address == *address)
        else {
            return;
        };
        candidate.in_flight = false;
        candidate.last_failed = Some(now);
        // Between half and all of the back-off, so that the clients of a dead leader do not come back as one.
        let jittered = candidate.backoff.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u32::MAX));
        let wait = match retry_after {
            Some(asked) if !asked.is_zero() => asked.min(limits::RETRY_AFTER_MAX),
            _ => jittered,
        };
        candidate.due = Some(now + wait);
        candidate.backoff = candidate.backoff.mul_f64(1.5).min(BACKOFF_MAX);
        let learned = !candidate.configured;
        if learned && candidate.backoff >= BACKOFF_MAX {
            // A hint that leads nowhere: brokers name the leader again when there is one.
            self.candidates.retain(|candidate| candidate.configured || candidate.address != *address);
        }
        self.redirects = self.redirects.saturating_sub(usize::from(wait >= BACKOFF_MAX / 4));
    }

    /// A broker named this address as the leader's: it is tried first, and at once if it was not tried yet.
    pub(crate) fn redirect(&mut self, address: &Address, now: Instant) {
        if self.redirects >= limits::REDIRECTS_PER_PASS && self.position(address).is_none() {
            return;
        }
        self.redirects += 1;
        let mut candidate = match self.position(address) {
            Some(position) => self.candidates.remove(position),
            None => Candidate::new(address.clone(), false),
        };
        candidate.due = match (candidate.due, candidate.last_failed) {
            (Some(due), Some(failed)) => Some(due.min((failed + BACKOFF_MIN).max(now))),
            _ => None,
        };
        self.candidates.insert(0, candidate);
        self.forget_surplus();
    }

    fn forget_surplus(&mut self) {
        let learned = self.candidates.iter().filter(|candidate| !candidate.configured).count();
        if learned > LEARNED {
            let oldest =
                self.candidates.iter().rposition(|candidate| !candidate.configured && !candidate.in_flight);
            if let Some(oldest) = oldest {
                self.candidates.remove(oldest);
            }
        }
    }

    /// Logged in at this address: other attempts are given up.
    pub(crate) fn connected(&mut self, address: &Address) {
        self.redirects = 0;
        self.last_started = None;
        for candidate in &mut self.candidates {
            candidate.in_flight = false;
        }
        if let Some(position) = self.position(address) {
            let candidate = self.candidates.remove(position);
            self.candidates.insert(0, candidate);
        }
    }

    /// The connection to this address ended: every other address is due at once, the hinted one first. So is this one
    /// if the connection lived for a while; else it may be refused again and again, and its back-off goes on.
    pub(crate) fn lost(
        &mut self,
        address: &Address,
        lived: Duration,
        hint: Option<&Address>,
        now: Instant,
        chance: u32,
    ) {
        self.redirects = 0;
        for candidate in &mut self.candidates {
            if candidate.address == *address && lived < BACKOFF_MAX {
                continue;
            }
            candidate.in_flight = false;
            candidate.due = None;
            candidate.last_failed = None;
            candidate.backoff = BACKOFF_MIN;
        }
        if lived < BACKOFF_MAX {
            self.failed(address, now, None, chance);
        }
        if let Some(hint) = hint {
            self.redirect(hint, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn dial(step: Step) -> String {
        match step {
            Step::Dial(address) => address.host().to_owned(),
            other => panic!("expected an attempt, got {other:?}"),
        }
    }

    fn three() -> (Dialer, Instant) {
        (Dialer::new(&[address("a"), address("b"), address("c"), address("a")]), Instant::now())
    }

    #[test]
    fn addresses_are_tried_in_order_and_a_hanging_one_does_not_delay() {
        let (mut dialer, start) = three();
        assert_eq!(dial(dialer.next(start)), "a");
        assert_eq!(dialer.next(start), Step::WaitUntil(start + STAGGER));
        let later = start + STAGGER;
        assert_eq!(dial(dialer.next(later)), "b");
        dialer.failed(&address("b"), later, None, 0);
        // "a" still hangs: "c" waits for its turn, not for the time-out of "a".
        let later = later + STAGGER;
        assert_eq!(dial(dialer.next(later)), "c");
    }

    #[test]
    fn a_refusal_moves_on_at_once() {
        let (mut dialer, start) = three();
        for host in ["a", "b", "c"] {
            assert_eq!(dial(dialer.next(start)), host);
            dialer.failed(&address(host), start, None, u32::MAX);
        }
        let Step::WaitUntil(at) = dialer.next(start) else { panic!("all of them wait") };
        assert_eq!(at, start + BACKOFF_MIN);
    }

    #[test]
    fn back_off_grows_to_a_second_and_starts_anew_after_a_connection() {
        let mut dialer = Dialer::new(&[address("a")]);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..20 {
            assert_eq!(dial(dialer.next(now)), "a");
            dialer.failed(&address("a"), now, None, u32::MAX);
            let Step::WaitUntil(at) = dialer.next(now) else { panic!("it waits") };
            waits.push(at - now);
            now = at;
        }
        assert_eq!(waits.first(), Some(&BACKOFF_MIN));
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&BACKOFF_MAX));
        dialer.connected(&address("a"));
        dialer.lost(&address("a"), BACKOFF_MAX, None, now, 0);
        assert_eq!(dial(dialer.next(now)), "a");
        dialer.failed(&address("a"), now, None, 0);
        assert_eq!(dialer.next(now), Step::WaitUntil(now + BACKOFF_MIN / 2), "jitter halves at most");
    }

    #[test]
    fn a_broker_says_when_to_come_back() {
        let mut dialer = Dialer::new(&[address("a")]);
        let now = Instant::now();
        assert_eq!(dial(dialer.next(now)), "a");
        dialer.failed(&address("a"), now, Some(Duration::from_hours(1)), 0);
        assert_eq!(dialer.next(now), Step::WaitUntil(now + limits::RETRY_AFTER_MAX));
    }

    #[test]
    fn a_redirect_is_followed_at_once_but_never_in_a_busy_loop() {
        let (mut dialer, now) = three();
        assert_eq!(dial(dialer.next(now)), "a");
        dialer.failed(&address("a"), now, None, 0);
        dialer.redirect(&address("c"), now);
        assert_eq!(dial(dialer.next(now)), "c");
        dialer.failed(&address("c"), now, None, 0);
        dialer.redirect(&address("d"), now);
        assert_eq!(dial(dialer.next(now)), "d", "an address no one configured");
        dialer.failed(&address("d"), now, None, 0);
        dialer.redirect(&address("c"), now);
        assert_eq!(dial(dialer.next(now)), "b", "'c' was just asked");
        dialer.failed(&address("b"), now, None, 0);
        let Step::WaitUntil(at) = dialer.next(now) else { panic!("all of them wait") };
        assert!(at > now && at <= now + BACKOFF_MIN);
    }

    #[test]
    fn learned_addresses_are_bounded_and_forgotten() {
        let (mut dialer, now) = three();
        for number in 0..100 {
            dialer.redirect(&address(&format!("x{number}")), now);
        }
        assert!(dialer.candidates.len() <= 3 + LEARNED);
        let learned: Vec<Address> =
            dialer.candidates.iter().filter(|it| !it.configured).map(|it| it.address.clone()).collect();
        assert!(!learned.is_empty());
        for address in learned {
            for _ in 0..20 {
                dialer.failed(&address, now, None, 0);
            }
        }
        assert_eq!(dialer.candidates.len(), 3);
    }

    #[test]
    fn after_a_loss_the_hint_comes_first_then_the_last_leader() {
        let (mut dialer, now) = three();
        dialer.connected(&address("b"));
        dialer.lost(&address("b"), BACKOFF_MAX, Some(&address("c")), now, 0);
        for host in ["c", "b", "a"] {
            assert_eq!(dial(dialer.next(now)), host);
            dialer.failed(&address(host), now, None, 0);
        }
    }

    #[test]
    fn a_broker_that_ends_every_connection_at_once_is_not_asked_in_a_busy_loop() {
        let mut dialer = Dialer::new(&[address("a"), address("b")]);
        let mut now = Instant::now();
        let (mut waited, mut lives) = (Duration::ZERO, 0);
        while lives < 12 {
            match dialer.next(now) {
                Step::Dial(host) if host == address("a") => {
                    dialer.connected(&host);
                    dialer.lost(&host, Duration::ZERO, None, now, u32::MAX);
                    lives += 1;
                }
                Step::Dial(host) => dialer.failed(&host, now, Some(limits::RETRY_AFTER_MAX), 0),
                Step::WaitUntil(at) => {
                    waited += at - now;
                    now = at;
                }
                Step::WaitForAttempt => panic!("nothing is in flight"),
            }
        }
        assert!(waited > Duration::from_secs(1), "{waited:?}");
    }
}
