//! The schedule: faults one after the other, those that last meanwhile beside them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::deck::{Fault, Split, Tally};
use super::ground::{BROKERS, Ground, ON_SMALL_DISK, Standing};
use super::history::History;
use super::links::Rule;
use super::load::Load;
use super::recovery::recover;
use crate::process::PATIENCE;
use crate::process::patience::wait_within;
use crate::process::programs::quorate;
use crate::sim::dice::Dice;

/// How long things last, in milliseconds.
const PAUSE: (u64, u64) = (200, 6000);
const PARTITION: (u64, u64) = (500, 4000);
const DOWN: (u64, u64) = (50, 1500);
const BETWEEN_STARTS: u64 = 400;
const DISK_FULL: (u64, u64) = (2000, 4000);
const DELAY: (u64, u64) = (5, 60);
/// Between two looks at what has to be done meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// A cut in the middle of a frame needs a frame.
const FRAME_LIMIT: Duration = Duration::from_millis(1500);
/// The exit status of a broker whose store is full beyond its reserve.
const STATUS_IO: i32 = 5;
const FILLER: &str = "filler";
/// Attempts at a shutdown that leaves all stores clean.
const SHUTDOWNS_MAX: u32 = 3;

/// What ends something that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Start(usize),
    Thaw(usize),
    Heal,
    FreeDisk,
}

/// The schedule as it is carried out.
#[derive(Debug)]
pub struct Schedule {
    /// Where.
    pub ground: Ground,
    /// What came about.
    pub tally: Tally,
    history: History,
    dice: Dice,
    later: Vec<(Instant, Later)>,
}

impl Schedule {
    /// On this ground, with these dice.
    pub fn new(ground: Ground, history: &History, dice: Dice) -> Self {
        Self { ground, tally: Tally::default(), history: history.clone(), dice, later: Vec::new() }
    }

    /// All faults, spread over a time; longer if they take longer.
    ///
    /// # Panics
    /// A broker does what it must not.
    pub async fn perform(&mut self, deck: &[Fault], time: Duration, load: &mut Load) {
        let end = Instant::now() + time;
        for (number, fault) in deck.iter().enumerate() {
            let left = u32::try_from(deck.len() - number).unwrap_or(u32::MAX);
            let share = end.saturating_duration_since(Instant::now()) / left;
            let percent = u32::try_from(self.dice.below(200)).unwrap_or_default();
            self.advance(share * percent / 100);
            if self.perform_one(*fault, load).await {
                self.tally.count(*fault);
            }
        }
        self.settle();
    }

    /// Lets time pass, and ends what is due.
    fn advance(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            while let Some(place) = self.later.iter().position(|(due, _)| *due <= now) {
                let (_, later) = self.later.swap_remove(place);
                self.end(later);
            }
            self.watch_over();
            if now >= end {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Nobody ends by itself, but for want of room.
    fn watch_over(&mut self) {
        let Some((number, status)) = self.ground.ended_by_itself() else { return };
        let full = self.later.iter().find(|(_, later)| *later == Later::FreeDisk).map(|(due, _)| *due);
        match full {
            Some(due) if number == ON_SMALL_DISK && status == Some(STATUS_IO) => {
                self.ground.note(format!("b{} ended for want of room", number + 1));
                self.later.push((due + LOOK, Later::Start(number)));
            }
            _ => panic!("b{} ended by itself with status {status:?}", number + 1),
        }
    }

    fn end(&mut self, later: Later) {
        match later {
            Later::Start(number) => self.ground.start(number),
            Later::Thaw(number) => self.ground.thaw(number),
            Later::Heal => {
                self.ground.note("heal".to_owned());
                self.ground.links.heal();
            }
            Later::FreeDisk => {
                if let Ok(disk) = &self.ground.disk {
                    std::fs::remove_file(disk.path().join(FILLER)).expect("the filler is there");
                    self.ground.note("the disk is free".to_owned());
                }
            }
        }
    }

    /// Ends everything that lasts.
    fn settle(&mut self) {
        for (_, later) in std::mem::take(&mut self.later) {
            self.end(later);
        }
        self.ground.mend();
    }

    fn is_under_way(&self, later: Later) -> bool {
        self.later.iter().any(|(_, other)| *other == later)
    }

    fn forget(&mut self, test: impl Fn(Later) -> bool) {
        self.later.retain(|(_, later)| !test(*later));
    }

    fn after(&mut self, (low, high): (u64, u64), later: Later) {
        let time = Duration::from_millis(self.dice.between(low, high));
        self.later.push((Instant::now() + time, later));
    }

    /// Whether it came about.
    async fn perform_one(&mut self, fault: Fault, load: &mut Load) -> bool {
        match fault {
            Fault::Kill => {
                let number = self.pick(|standing| standing != Standing::Down);
                self.kill(&[number]);
                true
            }
            Fault::KillAll => {
                for number in 0..BROKERS {
                    self.ground.start(number);
                }
                self.kill(&[0, 1, 2]);
                true
            }
            Fault::Pause => {
                let number = self.pick(|standing| standing == Standing::Running);
                self.ground.freeze(number);
                self.after(PAUSE, Later::Thaw(number));
                true
            }
            Fault::Partition(split) => self.partition(split),
            Fault::Terminate => {
                let number = self.pick(|standing| standing == Standing::Running);
                self.terminate(number);
                self.after(DOWN, Later::Start(number));
                true
            }
            Fault::Shutdown => self.shut_down(),
            Fault::FullDisk => self.fill_disk(),
            Fault::Recovery => {
                self.settle();
                self.ground.wait_active();
                recover(&mut self.ground, load, &self.history, &mut self.dice).await;
                true
            }
        }
    }

    /// One that is so, made so if none is: the leader half of the time.
    fn pick(&mut self, test: impl Fn(Standing) -> bool) -> usize {
        let leader = self.dice.chance(50);
        let any = self.dice.index(BROKERS);
        let leader = if leader { self.ground.leader() } else { None };
        let these = self.ground.all(&test);
        if let Some(number) = leader.filter(|number| these.contains(number)) {
            return number;
        }
        if these.is_empty() {
            self.forget(|later| later == Later::Start(any) || later == Later::Thaw(any));
            self.ground.thaw(any);
            self.ground.start(any);
            return any;
        }
        these[any % these.len()]
    }

    /// Kills these, and has them start again in an order and at times of their own.
    fn kill(&mut self, numbers: &[usize]) {
        self.forget(|later| matches!(later, Later::Start(of) | Later::Thaw(of) if numbers.contains(&of)));
        self.ground.kill(numbers);
        for number in numbers {
            let range = if numbers.len() > 1 { (0, BETWEEN_STARTS) } else { DOWN };
            self.after(range, Later::Start(*number));
        }
    }

    /// Stops as asked, also without room; but for the last of it, when nothing can be written at all.
    fn terminate(&mut self, number: usize) {
        let full = number == ON_SMALL_DISK && self.is_under_way(Later::FreeDisk);
        let status = self.ground.terminate(number);
        let expected = status == Some(0) || (full && status == Some(STATUS_IO));
        assert!(expected, "b{} was asked to stop, and ended with status {status:?}", number + 1);
    }

    fn partition(&mut self, split: Split) -> bool {
        self.forget(|later| later == Later::Heal);
        self.ground.links.heal();
        // A partition is of brokers that would speak: two of them at least.
        while self.ground.all(|standing| standing == Standing::Running).len() < 2 {
            let number = self.pick(|standing| standing != Standing::Running);
            self.forget(|later| later == Later::Start(number) || later == Later::Thaw(number));
            self.ground.thaw(number);
            self.ground.start(number);
        }
        let number = self.pick(|standing| standing == Standing::Running);
        let both = matches!(split, Split::Stall | Split::Cut);
        let rule = match split {
            Split::Stall => Rule::Stall,
            Split::Cut => Rule::Cut,
            Split::OneWay if self.dice.chance(50) => Rule::Stall,
            Split::OneWay => Rule::Vanish,
            Split::MiddleOfFrame => {
                Rule::MiddleOfFrame(u32::try_from(self.dice.below(1 << 20)).unwrap_or_default())
            }
            Split::Delay => Rule::Delay(Duration::from_millis(self.dice.between(DELAY.0, DELAY.1))),
        };
        self.ground.note(format!("{split:?} at b{}: {rule:?}", number + 1));
        let middles = self.ground.links.middles();
        for other in (0..BROKERS).filter(|other| *other != number) {
            self.ground.links.set(number, other, rule);
            if both {
                self.ground.links.set(other, number, rule);
            }
        }
        self.after(PARTITION, Later::Heal);
        split != Split::MiddleOfFrame || self.is_cut_within(middles)
    }

    /// Whether a frame was cut through soon.
    fn is_cut_within(&mut self, before: u64) -> bool {
        let limit = Instant::now() + FRAME_LIMIT;
        while self.ground.links.middles() == before && Instant::now() < limit {
            self.advance(LOOK);
        }
        self.ground.links.middles() > before
    }

    fn fill_disk(&mut self) -> bool {
        if self.is_under_way(Later::FreeDisk) {
            return false;
        }
        let Ok(disk) = &self.ground.disk else { return false };
        self.ground.note("the disk is filled".to_owned());
        disk.fill(FILLER);
        self.after(DISK_FULL, Later::FreeDisk);
        true
    }

    /// `quorate cluster shutdown`, and everybody started again, until it left all stores clean: a broker that is not
    /// linked at that moment is left out, as the report says, and asked to stop afterwards.
    fn shut_down(&mut self) -> bool {
        for _ in 0..SHUTDOWNS_MAX {
            self.settle();
            self.ground.wait_active();
            let (status, report) = self.ask_to_shut_down();
            let members = report["members"].as_array().expect("a report names the members");
            assert_eq!(members.len(), BROKERS, "{report:#}");
            let all_clean = members.iter().all(|member| member["clean"] == true);
            assert_eq!(status, i32::from(!all_clean), "{report:#}");
            for member in members {
                let name = member["name"].as_str().unwrap_or_default();
                let number = (0..BROKERS).find(|number| format!("b{}", number + 1) == name);
                let number = number.unwrap_or_else(|| panic!("{name} is no broker: {report:#}"));
                if member["clean"] == true {
                    self.ground.wait_stopped(number);
                } else {
                    self.terminate(number);
                }
            }
            for number in 0..BROKERS {
                self.after((0, BETWEEN_STARTS), Later::Start(number));
            }
            if all_clean {
                return true;
            }
        }
        false
    }

    fn ask_to_shut_down(&mut self) -> (i32, Value) {
        let at = self.dice.index(BROKERS);
        self.ground.note(format!("shutdown at b{}", at + 1));
        let admin = self.ground.admin(at);
        wait_within(PATIENCE, "a quorum to shut down by", || {
            let words = ["--admin", &admin, "cluster", "shutdown", "--reason", "chaos", "--yes"];
            match quorate(&words) {
                // Who led was killed just before.
                (_, value) if value["code"] == "NO_QUORUM" => Err(value.to_string()),
                answer => Ok(answer),
            }
        })
    }
}
