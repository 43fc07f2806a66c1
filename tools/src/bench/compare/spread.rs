//! The rule by which a number is called faster, slower or the same.
//!
//! A number is *slower* if every round of the new run is worse than every round of the old one, *faster* if every one
//! is better, and *the same* if the two ranges touch or the medians differ by less than a hundredth, which nobody cares
//! for and which happens to numbers that hardly scatter, such as bytes. No distribution is assumed, and no round is left out: a machine's
//! rounds have long tails and come in few, for which means and their errors are no good. If nothing has changed, n
//! rounds against n lie apart in a given direction by chance in n!·n!/(2n)! of all cases: 1 of 20 for three, 1 of 252
//! for five. How much it has changed is the ratio of the medians.

use serde::Serialize;

use super::ROUNDS_NEEDED;
use crate::bench::measure::median;

/// Medians that differ by less than this share are the same.
const NEGLIGIBLE: f64 = 0.01;

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better, as of a rate.
    Higher,
    /// Less is better, as of a latency or a cost.
    Lower,
}

/// What became of a number. Of a cost, faster means cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every new round is better than every old one.
    Faster,
    /// Every new round is worse than every old one.
    Slower,
    /// The ranges of the rounds touch, or the difference is negligible.
    Same,
    /// Too few rounds to tell.
    Unclear,
}

impl Verdict {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Unclear => "unclear",
        }
    }
}

/// A number over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many.
    pub rounds: usize,
}

/// A number on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Before.
    pub old: Spread,
    /// After.
    pub new: Spread,
    /// The new median by the old one; none if the old one is 0.
    pub ratio: Option<f64>,
    /// By the rule.
    pub verdict: Verdict,
    /// Slower, and the medians differ by more than the tolerance.
    pub beyond_tolerance: bool,
}

impl Spread {
    /// Of the rounds; none without any. What is no number is left out, and counts for nobody.
    fn of(rounds: &[f64]) -> Option<Self> {
        let values: Vec<f64> =
            rounds.iter().copied().filter(|value| value.is_finite() && *value >= 0.0).collect();
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        Some(Self { rounds: values.len(), median: median(values), least, most })
    }
}

impl Change {
    /// Of the rounds before and after; none if one side has none. The tolerance is a share: 0.1 for a tenth.
    pub fn of(old: &[f64], new: &[f64], better: Better, tolerance: f64) -> Option<Self> {
        let (old, new) = (Spread::of(old)?, Spread::of(new)?);
        let (worse, good) = match better {
            Better::Lower => (new.least > old.most, new.most < old.least),
            Better::Higher => (new.most < old.least, new.least > old.most),
        };
        let verdict = match (worse, good) {
            _ if old.rounds.min(new.rounds) < ROUNDS_NEEDED => Verdict::Unclear,
            _ if (new.median - old.median).abs() < NEGLIGIBLE * old.median => Verdict::Same,
            (true, _) => Verdict::Slower,
            (_, true) => Verdict::Faster,
            _ => Verdict::Same,
        };
        // Written so that a tenth is as much for a rate that falls as for a time that grows, and 0 divides nothing.
        let is_beyond = match better {
            Better::Lower => new.median > old.median * (1.0 + tolerance),
            Better::Higher => old.median > new.median * (1.0 + tolerance),
        };
        let ratio = Some(new.median / old.median).filter(|ratio| ratio.is_finite());
        Some(Self { old, new, ratio, verdict, beyond_tolerance: verdict == Verdict::Slower && is_beyond })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: &[f64], new: &[f64], better: Better) -> (Verdict, bool) {
        let change = Change::of(old, new, better, 0.1).unwrap();
        (change.verdict, change.beyond_tolerance)
    }

    #[test]
    fn ranges_that_touch_are_the_same_and_ranges_apart_are_a_change() {
        use Better::{Higher, Lower};
        let old = [10.0, 11.0, 12.0];
        for (new, lower, higher) in [
            ([10.0, 11.0, 12.0], (Verdict::Same, false), (Verdict::Same, false)),
            ([12.0, 20.0, 30.0], (Verdict::Same, false), (Verdict::Same, false)),
            ([12.01, 12.02, 12.03], (Verdict::Slower, false), (Verdict::Faster, false)),
            ([12.5, 13.0, 13.5], (Verdict::Slower, true), (Verdict::Faster, false)),
            ([9.7, 9.8, 9.9], (Verdict::Faster, false), (Verdict::Slower, true)),
            ([9.97, 9.98, 9.99], (Verdict::Faster, false), (Verdict::Slower, true)),
            ([0.0, 0.0, 0.0], (Verdict::Faster, false), (Verdict::Slower, true)),
        ] {
            assert_eq!(change(&old, &new, Lower), lower, "{new:?}");
            assert_eq!(change(&old, &new, Higher), higher, "{new:?}");
        }
        // Apart, but by nothing that matters.
        assert_eq!(change(&[1.0, 1.001, 1.002], &[1.008, 1.009, 1.01], Lower), (Verdict::Same, false));
        // One slow round of many does not make a change; nor does the order.
        assert_eq!(change(&[1.0, 1.1, 1.2, 9.0], &[1.3, 1.4, 1.5, 1.6], Lower), (Verdict::Same, false));
    }

    #[test]
    fn the_tolerance_is_as_strict_for_rates_as_for_times() {
        let [times, rates] = [([100.0; 3], [110.0; 3]), ([110.0; 3], [100.0; 3])];
        assert_eq!(change(&times.0, &times.1, Better::Lower), (Verdict::Slower, false));
        assert_eq!(change(&rates.0, &rates.1, Better::Higher), (Verdict::Slower, false));
        assert_eq!(change(&[100.0; 3], &[110.2; 3], Better::Lower), (Verdict::Slower, true));
        assert_eq!(change(&[110.2; 3], &[100.0; 3], Better::Higher), (Verdict::Slower, true));
    }

    #[test]
    fn with_too_few_rounds_nothing_is_said_and_zero_divides_nothing() {
        assert_eq!(change(&[1.0, 1.0], &[9.0, 9.0, 9.0], Better::Lower), (Verdict::Unclear, false));
        let from_nothing = Change::of(&[0.0; 3], &[1.0; 3], Better::Lower, 0.1).unwrap();
        assert_eq!((from_nothing.ratio, from_nothing.beyond_tolerance), (None, true));
        let nothing = Change::of(&[0.0; 3], &[0.0; 3], Better::Lower, 0.1).unwrap();
        assert_eq!((nothing.ratio, nothing.verdict), (None, Verdict::Same));
        assert_eq!(Change::of(&[], &[1.0], Better::Lower, 0.1), None);
        let odd = Change::of(&[-1.0, f64::NAN, 1.0, 1.0, 1.0], &[1.0; 3], Better::Lower, 0.1).unwrap();
        assert_eq!((odd.old.rounds, odd.verdict), (3, Verdict::Same));
    }
}
