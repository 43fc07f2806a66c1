//! Sizes and times as people write them: `64MiB`, `4GiB`, `100ms`, `5s`, `1m30s`.
//!
//! A size without a unit is bytes. A time without a unit is refused, because every reader guesses a different one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size or time that could not be read; says what was read and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a size.
    #[error("{0:?} is not a size: write a whole number and a unit, like 64MiB, 4GiB, 512KiB or 1000B")]
    Size(String),
    /// Not a time.
    #[error("{0:?} is not a time: write a whole number and a unit, like 100ms, 5s, 2m or 1h")]
    Span(String),
    /// A number without unit where only a unit gives it meaning.
    #[error("{0:?} has no unit: write {0}ms or {0}s")]
    NoUnit(String),
    /// Larger than can be stored.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// Longest first where one unit's text ends with another's.
const SIZE_UNITS: [(&str, u64); 12] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("b", 1),
    ("", 1),
];

const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Splits leading digits off `text`.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Size(text.to_owned());
        let (digits, unit) = split_number(text.trim()).ok_or_else(wrong)?;
        let unit = unit.trim_start();
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = digits.parse().map_err(|_| UnitError::TooLarge(text.to_owned()))?;
        number.checked_mul(*factor).map(Self).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = &SIZE_UNITS[..4];
        match binary.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Span(text.to_owned());
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut millis = 0_u64;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let (digits, after) = split_number(rest).ok_or_else(wrong)?;
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, next) = after.split_at_checked(end).ok_or_else(wrong)?;
            let number: u64 = digits.parse().map_err(|_| UnitError::TooLarge(text.to_owned()))?;
            if unit.is_empty() {
                return Err(UnitError::NoUnit(text.trim().to_owned()));
            }
            let (_, factor) = SPAN_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
            // `5s3m` is more likely a slip than a wish.
            if *factor >= smallest {
                return Err(wrong());
            }
            smallest = *factor;
            millis = number
                .checked_mul(*factor)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(|| UnitError::TooLarge(text.to_owned()))?;
            rest = next;
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.millis();
        let (unit, factor) = SPAN_UNITS
            .iter()
            .find(|(_, factor)| millis != 0 && millis.is_multiple_of(*factor))
            .unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", millis / factor)
    }
}

impl Span {
    /// Whole milliseconds.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size like \"64MiB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
        u64::try_from(number).map(Size).map_err(|_| E::custom(UnitError::Size(number.to_string())))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with its unit like \"5s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Span, E> {
        Err(E::custom(UnitError::NoUnit(number.to_string())))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes, back) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("4GiB", 4 << 30, "4GiB"),
            ("4096MiB", 4 << 30, "4GiB"),
            ("10kB", 10_000, "10000B"),
            ("1000", 1000, "1000B"),
            ("1536B", 1536, "1536B"),
            ("0", 0, "0B"),
            ("2 KiB", 2048, "2KiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), back);
            assert_eq!(back.parse::<Size>().unwrap(), size);
        }
    }

    #[test]
    fn times_are_read_and_written_back() {
        for (text, millis, back) in [
            ("5s", 5000, "5s"),
            ("100ms", 100, "100ms"),
            ("1m30s", 90_000, "90s"),
            ("2h", 7_200_000, "2h"),
            ("0s", 0, "0ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.millis(), millis, "{text}");
            assert_eq!(span.to_string(), back);
            assert_eq!(back.parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for text in [
            "",
            "MiB",
            "-1",
            "64mib",
            "1.5GiB",
            "64MiB extra",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "s", "5", "5 parsecs", "5s3m", "5s5s", "-5s", "1.5s", "999999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("5".parse::<Span>().unwrap_err().to_string(), "\"5\" has no unit: write 5ms or 5s");
    }
}
