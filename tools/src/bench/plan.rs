//! What a run is to do: its arguments, checked, as they are written into its report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::floor::LARGEST_BATCH;
use super::mark::{MARK_BYTES, Marks};
use super::schedule::Schedule;
use crate::units::{Size, grouped};

/// Most publishers, consumers and queues, each.
pub const MOST: u16 = 1000;
/// Most messages a second in sum that may be asked for.
pub const MOST_RATE: u64 = 10_000_000;
/// Most bytes on their way at one time, over all publishers: they are in this process's memory.
const MOST_BYTES: u64 = 1 << 30;
/// What a message takes beside its body, generously.
const BESIDE: u64 = 1 << 10;
/// Most cells of a round: as many as a report may have that is compared.
pub const MOST_CELLS: usize = 2000;

/// What is in a list twice.
fn twice<T: PartialEq + Copy>(list: &[T]) -> Option<T> {
    list.iter()
        .enumerate()
        .find(|(place, value)| list.iter().take(*place).any(|other| other == *value))
        .map(|(_, value)| *value)
}

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Publish, and wait for confirms.
    Publish,
    /// Consume filled queues, and acknowledge.
    Consume,
    /// Publish, then consume, or both at the same time.
    Both,
}

impl Mode {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
            Self::Both => "both",
        }
    }
}

/// When a cell has measured enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After so long.
    Time(Duration),
    /// After so many messages.
    Messages(u64),
}

impl Limit {
    /// Whether it has.
    pub fn is_reached(self, messages: u64, elapsed: Duration) -> bool {
        match self {
            Self::Time(limit) => elapsed >= limit,
            Self::Messages(limit) => messages >= limit,
        }
    }

    /// How many of `window` messages may still be begun.
    pub fn room(self, messages: u64, window: usize) -> usize {
        match self {
            Self::Time(_) => window,
            Self::Messages(limit) => {
                usize::try_from(limit.saturating_sub(messages)).unwrap_or(usize::MAX).min(window)
            }
        }
    }

    /// The part of one of several publishers: as even as it can be.
    pub fn part(self, number: usize, publishers: usize) -> Self {
        match self {
            Self::Time(_) => self,
            Self::Messages(all) => {
                let (number, publishers) = (number as u64, publishers.max(1) as u64);
                Self::Messages(all / publishers + u64::from(number < all % publishers))
            }
        }
    }
}

/// The arguments of a run. What two runs must have in common to be compared is what [`super::compare`] says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What is done.
    pub mode: Mode,
    /// Bytes of each body.
    pub sizes: Vec<u64>,
    /// Messages on their way of each publisher, and unsettled at each consumer, at one time.
    pub windows: Vec<usize>,
    /// Open loop: messages a second, in sum over the publishers. Empty: closed loop.
    pub rates: Vec<u64>,
    /// How long each cell takes; none if it ends after so many messages.
    pub seconds: Option<f64>,
    /// How many messages each cell has, in sum.
    pub messages: Option<u64>,
    /// Connections that publish. Of `consume` those that fill the queues.
    pub publishers: usize,
    /// Connections that consume.
    pub consumers: usize,
    /// Queues.
    pub queues: usize,
    /// Publish and consume at the same time.
    pub together: bool,
    /// How often everything is measured.
    pub rounds: u16,
    /// Publishing before anything is measured.
    pub warm_up_seconds: f64,
    /// Where the floor is measured.
    pub floor_dir: Option<String>,
    /// How long to wait without progress.
    pub timeout_seconds: f64,
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Bytes of each body.
    pub size: u64,
    /// Messages on their way.
    pub window: usize,
    /// Messages a second that are wanted; none in a closed loop.
    pub rate: Option<u64>,
}

impl Plan {
    /// When a cell has measured enough.
    pub fn limit(&self) -> Limit {
        match (self.messages, self.seconds) {
            (Some(messages), _) => Limit::Messages(messages),
            (None, seconds) => {
                let time = Duration::try_from_secs_f64(seconds.unwrap_or(5.0));
                Limit::Time(time.unwrap_or(Duration::MAX))
            }
        }
    }

    /// Every cell of a round: by size, then window, then rate.
    pub fn points(&self) -> Vec<Point> {
        let rates: Vec<Option<u64>> =
            if self.rates.is_empty() { vec![None] } else { self.rates.iter().copied().map(Some).collect() };
        let mut points = Vec::new();
        for &size in &self.sizes {
            for &window in &self.windows {
                points.extend(rates.iter().map(|&rate| Point { size, window, rate }));
            }
        }
        points
    }

    /// Whether it can be done, in bounded memory.
    ///
    /// # Errors
    /// Why not, and what to choose instead.
    pub fn check(&self) -> Result<(), String> {
        if self.together && self.mode != Mode::Both {
            return Err("--together goes with `bench both`".to_owned());
        }
        if self.mode == Mode::Consume && !self.rates.is_empty() {
            return Err(
                "--rate is that of publishing: it goes with `bench publish` and `bench both`".to_owned()
            );
        }
        if self.mode == Mode::Consume && self.floor_dir.is_some() {
            return Err("the floor is what publishing is compared with: --floor-dir goes with `bench publish` and `bench both`"
                .to_owned());
        }
        if !self.rates.is_empty() && self.floor_dir.is_some() {
            return Err(
                "the floor goes as fast as it can: --floor-dir and --rate exclude each other".to_owned()
            );
        }
        if let Some(small) = self.sizes.iter().find(|size| **size < MARK_BYTES as u64) {
            let size = Size(*small);
            return Err(format!(
                "--sizes {size}: a message carries its mark, so it has at least {MARK_BYTES} B"
            ));
        }
        for (flag, count) in [("--publishers", self.publishers), ("--consumers", self.consumers)] {
            let unused = flag == "--consumers" && self.mode == Mode::Publish;
            if count < self.queues && !unused {
                let queues = self.queues;
                return Err(format!(
                    "{flag} {count}: {queues} queues need {queues} or more, so that each is used"
                ));
            }
        }
        self.check_cells()?;
        self.check_memory()?;
        self.check_numbers()
    }

    fn check_cells(&self) -> Result<(), String> {
        let lists = [self.sizes.len(), self.windows.len(), self.rates.len().max(1)];
        let cells = lists.into_iter().fold(1, usize::saturating_mul);
        if cells > MOST_CELLS {
            return Err(format!(
                "{cells} cells: a run has at most {MOST_CELLS}; choose fewer --sizes, --windows or --rate"
            ));
        }
        let again = twice(&self.sizes).map(|size| format!("--sizes {}", Size(size)));
        let again = again.or_else(|| twice(&self.windows).map(|window| format!("--windows {window}")));
        let again = again.or_else(|| twice(&self.rates).map(|rate| format!("--rate {rate}")));
        again.map_or(Ok(()), |what| {
            Err(format!("{what} is there twice; --rounds measures everything several times"))
        })
    }

    /// Whether so many messages on their way of each publisher, or unsettled at each consumer, are not too many.
    pub fn fits(&self, window: usize) -> bool {
        self.too_much(window).is_none()
    }

    /// What such a window takes, what it may take, and for whom; none if that is not too much.
    fn too_much(&self, window: usize) -> Option<(u64, u64, &'static str)> {
        let largest = self.sizes.iter().copied().max().unwrap_or(0);
        let each = largest.saturating_add(BESIDE).saturating_mul(window as u64);
        let all = each.saturating_mul(self.publishers.max(self.consumers).max(1) as u64);
        let floor = each.saturating_mul(self.publishers as u64);
        if each > LARGEST_BATCH {
            Some((each, LARGEST_BATCH, "each"))
        } else if self.floor_dir.is_some() && floor > LARGEST_BATCH {
            Some((floor, LARGEST_BATCH, "the floor, which stands for all publishers"))
        } else if all > MOST_BYTES {
            Some((all, MOST_BYTES, "all publishers or consumers together"))
        } else {
            None
        }
    }

    fn check_memory(&self) -> Result<(), String> {
        let largest = self.sizes.iter().copied().max().unwrap_or(0);
        let widest = self.windows.iter().copied().max().unwrap_or(1);
        let Some((bytes, most, whose)) = self.too_much(widest) else { return Ok(()) };
        Err(format!(
            "a window of {widest} messages of {} takes {} MiB of {whose}, with what is beside the bodies; {} are allowed: \
             choose smaller --windows or --sizes",
            Size(largest),
            bytes.div_ceil(1 << 20),
            Size(most)
        ))
    }

    /// Whether the marks of messages suffice.
    fn check_numbers(&self) -> Result<(), String> {
        let most = Marks::new(self.publishers).most().saturating_mul(self.publishers as u64);
        let rates = self.rates.iter().map(|rate| Schedule::new(*rate, self.limit(), self.publishers).total());
        match rates.chain(self.messages).max() {
            Some(wanted) if wanted > most => {
                Err(format!("{} messages: a cell has at most {}", grouped(wanted), grouped(most)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small run.
    pub(in crate::bench) fn plan() -> Plan {
        Plan {
            mode: Mode::Both,
            sizes: vec![128],
            windows: vec![64],
            rates: Vec::new(),
            seconds: Some(5.0),
            messages: None,
            publishers: 1,
            consumers: 1,
            queues: 1,
            together: false,
            rounds: 3,
            warm_up_seconds: 1.0,
            floor_dir: None,
            timeout_seconds: 30.0,
        }
    }

    #[test]
    fn limits() {
        let messages = Limit::Messages(10);
        assert!(!messages.is_reached(9, Duration::MAX) && messages.is_reached(10, Duration::ZERO));
        assert_eq!((messages.room(8, 4), messages.room(0, 4), messages.room(11, 4)), (2, 4, 0));
        let time = Limit::Time(Duration::from_secs(1));
        assert!(
            !time.is_reached(u64::MAX, Duration::from_millis(999))
                && time.is_reached(0, Duration::from_secs(1))
        );
        assert_eq!((time.room(u64::MAX, 4), time.part(1, 3)), (4, time));
        let parts: Vec<Limit> = (0..3).map(|number| messages.part(number, 3)).collect();
        assert_eq!(parts, [4, 3, 3].map(Limit::Messages));
    }

    #[test]
    fn a_window_fits_up_to_what_is_allowed() {
        for (size, widest) in [(1 << 10, 16_384), (1 << 20, 31), (16 << 20, 1)] {
            let plan = Plan { sizes: vec![8, size], ..plan() };
            assert_eq!((plan.fits(widest), plan.fits(widest + 1)), (true, false), "{size}");
            assert_eq!(Plan { windows: vec![widest], ..plan.clone() }.check(), Ok(()), "{size}");
            assert!(Plan { windows: vec![widest + 1], ..plan }.check().is_err(), "{size}");
        }
        let many = Plan { sizes: vec![16 << 10], publishers: 100, ..plan() };
        assert!(many.fits(64) && !many.fits(1024));
    }

    #[test]
    fn cells_are_in_order() {
        let plan = Plan { sizes: vec![8, 16], rates: vec![10, 20], ..plan() };
        let points: Vec<_> = plan.points().iter().map(|point| (point.size, point.rate)).collect();
        assert_eq!(points, [(8, Some(10)), (8, Some(20)), (16, Some(10)), (16, Some(20))]);
        assert_eq!(self::plan().points().len(), 1);
    }

    #[test]
    fn what_makes_no_sense_or_takes_too_much_is_refused() {
        let good = plan();
        assert_eq!(good.check(), Ok(()));
        let floor = Some("/d".to_owned());
        for (wrong, says) in [
            (Plan { mode: Mode::Publish, together: true, ..plan() }, "bench both"),
            (Plan { mode: Mode::Consume, rates: vec![1], ..plan() }, "--rate"),
            (Plan { mode: Mode::Consume, floor_dir: floor.clone(), ..plan() }, "--floor-dir"),
            (Plan { sizes: vec![8, 16, 8], ..plan() }, "--sizes 8 B is there twice"),
            (Plan { windows: vec![1, 1], ..plan() }, "--windows 1 is there twice"),
            (Plan { rates: vec![5, 5], ..plan() }, "--rate 5 is there twice"),
            (Plan { sizes: (8..108).collect(), windows: (1..22).collect(), ..plan() }, "2100 cells"),
            (Plan { rates: vec![1], floor_dir: floor.clone(), ..plan() }, "--floor-dir"),
            (Plan { sizes: vec![7], ..plan() }, "at least 8 B"),
            (Plan { queues: 2, consumers: 2, ..plan() }, "--publishers 1: 2 queues need 2"),
            (Plan { queues: 2, publishers: 2, ..plan() }, "--consumers 1: 2 queues need 2"),
            (Plan { sizes: vec![1 << 20], windows: vec![1024], ..plan() }, "choose smaller"),
            (Plan { sizes: vec![1 << 20], windows: vec![16], publishers: 100, ..plan() }, "all publishers"),
            (
                Plan { sizes: vec![1 << 20], windows: vec![16], publishers: 2, floor_dir: floor, ..plan() },
                "floor",
            ),
            (Plan { rates: vec![MOST_RATE], seconds: Some(1e6), ..plan() }, "at most"),
            (Plan { messages: Some(u64::MAX), ..plan() }, "at most"),
        ] {
            let text = wrong.check().unwrap_err();
            assert!(text.contains(says), "{says}: {text}");
        }
        let publish = Plan { mode: Mode::Publish, queues: 2, publishers: 2, consumers: 0, ..plan() };
        assert_eq!(publish.check(), Ok(()));
    }
}
