//! A report read back. Whatever the file is, it costs no more memory than a few times its bounded length.

use std::fmt::{self, Debug};
use std::fs::File;
use std::io::{BufReader, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::Difference;
use crate::bench::account::Account;
use crate::bench::plan::{MOST_CELLS, Mode};
use crate::bench::report::{FORMAT, SCHEMA};
use crate::exit::{Failure, Status};
use crate::units::Size;

/// Longest file that is read: a round of a cell has some ten KiB, most of it histograms.
const MOST_BYTES: u64 = 128 << 20;
/// As many as the command measures.
const MOST_ROUNDS: usize = 1000;
const MOST_ARGUMENTS: usize = 2000;
/// What is repeated of a text.
const MOST_LETTERS: usize = 200;

/// Elements of which there are no more than `N`.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounded<T, const N: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    if elements.len() == N {
                        return Err(A::Error::custom(format_args!("a list of more than {N}")));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Elements::<T, N>(PhantomData)).map(Self)
    }
}

/// What is used of a report.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Found {
    format: String,
    schema: u32,
    /// Of the program that wrote it.
    pub version: String,
    /// When.
    pub time_unix_ms: u64,
    /// What was asked for.
    pub arguments: Arguments,
    /// How many brokers the costs are of.
    pub brokers: u64,
    /// What became of the messages.
    pub messages: Account,
    incomplete: Option<Incomplete>,
    /// What was measured.
    pub cells: Bounded<Cell, MOST_CELLS>,
}

/// Why not all was measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Incomplete {
    message: String,
}

/// The arguments that matter.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Arguments {
    mode: Mode,
    sizes: Bounded<u64, MOST_ARGUMENTS>,
    windows: Bounded<u64, MOST_ARGUMENTS>,
    rates: Bounded<u64, MOST_ARGUMENTS>,
    seconds: Option<f64>,
    messages: Option<u64>,
    publishers: u64,
    consumers: u64,
    queues: u64,
    together: bool,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Cell {
    size: u64,
    window: u64,
    rate: Option<u64>,
    /// All rounds.
    pub rounds: Bounded<Round, MOST_ROUNDS>,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Round {
    /// Publishing.
    pub publish: Option<Box<Measured>>,
    /// Its cost.
    pub publish_cost: Option<Box<Cost>>,
    /// Consuming.
    pub consume: Option<Box<Measured>>,
    /// Its cost.
    pub consume_cost: Option<Box<Cost>>,
}

/// What is compared of a phase.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Measured {
    /// Messages a second.
    pub rate: f64,
    /// Half took no longer; 0 if there was none.
    pub p50_us: f64,
    /// 99 of 100; 0 if there was none.
    pub p99_us: f64,
}

/// What is compared of its cost.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Cost {
    /// Processor time of the brokers.
    pub broker_cpu_us_per_message: Option<f64>,
    /// Syncs of their logs.
    pub syncs_per_message: Option<f64>,
    /// Bytes appended to their logs.
    pub log_bytes_per_payload_byte: Option<f64>,
    /// Bytes written to storage.
    pub disk_bytes_per_payload_byte: Option<f64>,
}

impl Cell {
    /// What names it: size, window, rate.
    pub fn key(&self) -> (u64, u64, Option<u64>) {
        (self.size, self.window, self.rate)
    }
}

impl Found {
    /// Why not all of it was measured; none if all was.
    pub fn incomplete(&self) -> Option<String> {
        self.incomplete.as_ref().map(|why| why.message.chars().take(MOST_LETTERS).collect())
    }

    /// The rounds of the cell that has the fewest.
    pub fn fewest_rounds(&self) -> usize {
        self.cells.0.iter().map(|cell| cell.rounds.0.len()).min().unwrap_or(0)
    }

    /// Reads a report.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io(path.display(), &error))?;
        let mut text = BufReader::new(file.take(MOST_BYTES));
        Self::parse(&mut text).map_err(|problem| match problem {
            Problem::Io(error) => Failure::io(path.display(), &error),
            Problem::Not(mut why) => {
                if text.get_ref().limit() == 0 {
                    why = format!("it is longer than {}", Size(MOST_BYTES));
                }
                let text = format!("{}: not a report of `quorate bench -o json`: {why}", path.display());
                Failure::new(Status::Refused, "not-a-report", text)
            }
        })
    }

    fn parse(text: impl Read) -> Result<Self, Problem> {
        let found: Self = serde_json::from_reader(text).map_err(|error| {
            if error.is_io() { Problem::Io(error.into()) } else { Problem::Not(error.to_string()) }
        })?;
        if found.format != FORMAT {
            return Err(Problem::Not("its format has another name".to_owned()));
        }
        if found.schema != SCHEMA {
            let schema = found.schema;
            return Err(Problem::Not(format!("its schema is {schema}, this program reads {SCHEMA}")));
        }
        Ok(found)
    }
}

#[derive(Debug)]
enum Problem {
    Io(std::io::Error),
    Not(String),
}

/// In what two runs differ that changes what is measured. Rounds, warm-up, floor and timeout do not, nor the version:
/// that is what one compares.
pub fn differences(old: &Arguments, new: &Arguments, brokers: [u64; 2]) -> Vec<Difference> {
    fn difference<T: PartialEq + Debug>(argument: &'static str, old: &T, new: &T) -> Option<Difference> {
        // Lists may be long.
        let text = |value: &T| format!("{value:?}").chars().take(120).collect();
        if old == new { None } else { Some(Difference { argument, old: text(old), new: text(new) }) }
    }
    let [old_brokers, new_brokers] = brokers;
    [
        difference("mode", &old.mode.name(), &new.mode.name()),
        difference("sizes", &old.sizes.0, &new.sizes.0),
        difference("windows", &old.windows.0, &new.windows.0),
        difference("rates", &old.rates.0, &new.rates.0),
        difference("seconds", &old.seconds, &new.seconds),
        difference("messages", &old.messages, &new.messages),
        difference("publishers", &old.publishers, &new.publishers),
        difference("consumers", &old.consumers, &new.consumers),
        difference("queues", &old.queues, &new.queues),
        difference("together", &old.together, &new.together),
        difference("brokers", &old_brokers, &new_brokers),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::report::tests::report;
    use super::*;

    /// A report as it is read back.
    pub(in crate::bench::compare) fn found() -> Found {
        Found::parse(serde_json::to_string(&report(None)).unwrap().as_bytes()).unwrap()
    }

    /// This text.
    pub(in crate::bench::compare) fn parsed(text: &str) -> Found {
        parse(text).unwrap()
    }

    fn parse(text: &str) -> Result<Found, Problem> {
        Found::parse(text.as_bytes())
    }

    fn why(text: &str) -> String {
        match parse(text).unwrap_err() {
            Problem::Not(why) => why,
            Problem::Io(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_report_is_read_back_and_differs_in_nothing_from_itself() {
        let found = found();
        assert_eq!((found.fewest_rounds(), found.cells.0[0].key()), (3, (1024, 64, None)));
        assert!((found.cells.0[0].rounds.0[1].publish.as_ref().unwrap().rate - 900.0).abs() < 1e-9);
        assert_eq!(differences(&found.arguments, &found.arguments, [3, 3]), []);
    }

    #[test]
    fn what_differs_is_named() {
        let old = found().arguments;
        let new = Arguments { publishers: 2, seconds: None, sizes: Bounded(vec![7; 1000]), ..old.clone() };
        let differences = differences(&old, &new, [3, 5]);
        let named: Vec<_> = differences.iter().map(|one| one.argument).collect();
        assert_eq!(named, ["sizes", "seconds", "publishers", "brokers"]);
        assert!(differences[0].new.len() <= 120);
    }

    #[test]
    fn what_is_no_report_is_said_and_never_taken() {
        let good = serde_json::to_string(&report(None)).unwrap();
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err(), "cut off at {end}");
        }
        assert!(why(&good.replace("quorate-bench", "x")).contains("another name"));
        assert!(why(&good.replace("\"schema\":1", "\"schema\":2")).contains("schema is 2"));
        assert!(why(&good.replace("\"rate\":900.0", "\"rate\":1e999")).contains("out of range"));
        assert!(why(&good.replace("\"size\":1024", "\"size\":-1")).contains("-1"));
        assert!(why("[]").contains("invalid length"));
        assert!(why(&"[".repeat(100_000)).contains("invalid type"));
        assert!(why(&format!("{{\"x\":{}", "[".repeat(100_000))).contains("EOF"));
    }

    #[test]
    fn a_list_without_end_is_not_kept() {
        let many = |count| format!("[{}0]", "0,".repeat(count));
        assert_eq!(serde_json::from_str::<Bounded<u8, 5>>(&many(4)).unwrap().0.len(), 5);
        let error = serde_json::from_str::<Bounded<u8, 5>>(&many(5)).unwrap_err();
        assert!(error.to_string().contains("more than 5"), "{error}");
    }

    /// Any byte of a report changed: it is read or refused, and what is read can be compared.
    #[test]
    fn a_damaged_report_never_panics() {
        let good = serde_json::to_string(&report(None)).unwrap().into_bytes();
        let sound = found();
        for place in 0..good.len() {
            for byte in [b'0', b'9', b'-', b'e', b'"', b'}', 0xff] {
                let mut damaged = good.clone();
                damaged[place] = byte;
                if let Ok(damaged) = Found::parse(&damaged[..]) {
                    let _ = super::super::compare(&sound, &damaged, ["a", "b"], 0.1, true);
                }
            }
        }
    }
}
