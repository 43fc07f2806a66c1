//! Sets of numbers that mostly follow each other, kept as ranges.

/// A set of `u64` as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: Vec<(u64, u64)>,
    count: u64,
}

impl Ranges {
    /// Adds one number; says whether it was new.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        // In order is the rule: the last range grows, or a new one follows it.
        match self.ranges.last_mut() {
            None => self.ranges.push((number, number)),
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some((_, last)) if number > *last => self.ranges.push((number, number)),
            Some(_) => {
                if !self.insert_inside(number) {
                    return false;
                }
            }
        }
        self.count += 1;
        true
    }

    fn insert_inside(&mut self, number: u64) -> bool {
        let at = self.ranges.partition_point(|(first, _)| *first <= number);
        let before = at.checked_sub(1).and_then(|before| self.ranges.get(before)).copied();
        if before.is_some_and(|(_, last)| last >= number) {
            return false;
        }
        let joins_before = before.is_some_and(|(_, last)| last.checked_add(1) == Some(number));
        let joins_after = self.ranges.get(at).is_some_and(|(first, _)| number.checked_add(1) == Some(*first));
        match (joins_before, joins_after) {
            (true, true) => {
                let (_, last) = self.ranges.remove(at);
                if let Some(range) = self.ranges.get_mut(at - 1) {
                    range.1 = last;
                }
            }
            (true, false) => {
                if let Some(range) = self.ranges.get_mut(at - 1) {
                    range.1 = number;
                }
            }
            (false, true) => {
                if let Some(range) = self.ranges.get_mut(at) {
                    range.0 = number;
                }
            }
            (false, false) => self.ranges.insert(at, (number, number)),
        }
        true
    }

    /// How many numbers are in the set.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the set is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes at most this many ranges from the front.
    pub(crate) fn take(&mut self, most: usize) -> Self {
        if self.ranges.len() <= most {
            return std::mem::take(self);
        }
        let rest = self.ranges.split_off(most);
        let ranges = std::mem::replace(&mut self.ranges, rest);
        let count = ranges.iter().map(|(first, last)| last - first + 1).sum();
        self.count -= count;
        Self { ranges, count }
    }

    /// The ranges, first to last.
    pub(crate) fn as_slice(&self) -> &[(u64, u64)] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_make_the_same_set() {
        let mut in_order = Ranges::default();
        for number in [1, 2, 3, 5, 6, 9] {
            assert!(in_order.insert(number));
        }
        assert_eq!(in_order.as_slice(), [(1, 3), (5, 6), (9, 9)]);
        for order in [[9, 5, 1, 3, 2, 6], [6, 5, 3, 2, 1, 9], [2, 9, 6, 1, 5, 3], [3, 1, 9, 2, 6, 5]] {
            let mut ranges = Ranges::default();
            for number in order {
                assert!(ranges.insert(number));
            }
            assert_eq!(ranges, in_order, "{order:?}");
            for number in order {
                assert!(!ranges.insert(number), "{number} is there");
            }
            assert_eq!(ranges.count(), 6);
        }
        let mut ranges = in_order.clone();
        assert!(ranges.insert(4));
        assert_eq!(ranges.as_slice(), [(1, 6), (9, 9)]);
    }

    #[test]
    fn ends_of_the_number_line() {
        let mut ranges = Ranges::default();
        assert!(ranges.insert(u64::MAX));
        assert!(ranges.insert(0));
        assert!(!ranges.insert(u64::MAX));
        assert_eq!(ranges.as_slice(), [(0, 0), (u64::MAX, u64::MAX)]);
    }

    #[test]
    fn taken_in_pieces() {
        let mut ranges = Ranges::default();
        for number in [1, 2, 4, 6, 7, 8] {
            ranges.insert(number);
        }
        let front = ranges.take(2);
        assert_eq!((front.as_slice(), front.count()), (&[(1, 2), (4, 4)][..], 3));
        assert_eq!((ranges.as_slice(), ranges.count()), (&[(6, 8)][..], 3));
        assert_eq!(ranges.take(2).count(), 3);
        assert!(ranges.is_empty() && ranges.count() == 0);
    }
}
