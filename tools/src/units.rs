//! Sizes and times on the command line: `64MiB`, `128`, `5s`, `1m30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size or time that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a size.
    #[error("not a size: write a whole number and a unit, like 128, 1KiB or 64MiB")]
    Size,
    /// Not a time.
    #[error("not a time: write a whole number and a unit, like 100ms, 5s, 2m or 1m30s")]
    Span,
    /// A number without the unit that gives it meaning.
    #[error("no unit: write {0}ms or {0}s")]
    NoUnit(String),
    /// Larger than can be kept.
    #[error("too large")]
    TooLarge,
}

const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Largest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (digits, unit) = number(text.trim()).ok_or(UnitError::Size)?;
        let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit.trim()).ok_or(UnitError::Size)?;
        let count: u64 = digits.parse().map_err(|_| UnitError::TooLarge)?;
        count.checked_mul(*factor).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            SIZES.iter().rev().take(4).find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((unit, factor)) => write!(f, "{} {unit}", self.0 / factor),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text.trim();
        let mut millis = 0_u64;
        let mut units = TIMES.iter();
        if rest.is_empty() {
            return Err(UnitError::Span);
        }
        while !rest.is_empty() {
            let (digits, after) = number(rest).ok_or(UnitError::Span)?;
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, next) = after.split_at_checked(end).ok_or(UnitError::Span)?;
            if unit.is_empty() && digits.parse() != Ok(0_u64) {
                return Err(UnitError::NoUnit(digits.to_owned()));
            }
            let name = if unit.is_empty() { "ms" } else { unit.trim() };
            // Each unit may only be followed by smaller ones: `5s3m` is more likely a slip than a wish.
            let (_, factor) = units.find(|(unit, _)| *unit == name).ok_or(UnitError::Span)?;
            let count: u64 = digits.parse().map_err(|_| UnitError::TooLarge)?;
            let part = count.checked_mul(*factor).ok_or(UnitError::TooLarge)?;
            millis = millis.checked_add(part).ok_or(UnitError::TooLarge)?;
            rest = next;
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// A length of time with three digits or so, for tables.
pub fn short_time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1_000.0 {
        format!("{micros:.0} µs")
    } else if micros < 100_000.0 {
        format!("{:.2} ms", micros / 1e3)
    } else if micros < 10_000_000.0 {
        format!("{:.0} ms", micros / 1e3)
    } else {
        format!("{:.1} s", micros / 1e6)
    }
}

/// A number with thin gaps between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A positive number, rounded, with thin gaps between thousands.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is not negative, and what is too large becomes the largest"
)]
pub fn rounded(number: f64) -> String {
    grouped(number.max(0.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("128", 128),
            ("0", 0),
            ("1KiB", 1024),
            ("16 KiB", 16_384),
            ("2MiB", 2 << 20),
            ("3kB", 3000),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "KiB", "-1", "1kib", "1.5MiB", "12345678901234567890TiB", "1 2"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(16_384).to_string(), "16 KiB");
        assert_eq!(Size(128).to_string(), "128 B");
        assert_eq!(Size(1025).to_string(), "1025 B");
    }

    #[test]
    fn times() {
        for (text, millis) in
            [("5s", 5000), ("100ms", 100), ("1m30s", 90_000), ("2h", 7_200_000), ("0", 0), ("0s", 0)]
        {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "5 parsecs", "5s3m", "5s5s", "-5s", "1.5s", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("5".parse::<Span>().unwrap_err().to_string(), "no unit: write 5ms or 5s");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(12), "12");
        assert_eq!(
            (rounded(1234.5).as_str(), rounded(-1.0).as_str(), rounded(f64::NAN).as_str()),
            ("1 235", "0", "0")
        );
        assert_eq!(short_time(Duration::from_micros(250)), "250 µs");
        assert_eq!(short_time(Duration::from_micros(2_500)), "2.50 ms");
    }
}
