//! The rounds of a run: floor and cluster in turn, cell by cell.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_client::Client;

use super::account::Account;
use super::consuming::{self, Consumed, Consuming};
use super::cost::Meter;
use super::crew::{Crew, Queues};
use super::floor::Floor;
use super::floor_worker::FloorWorker;
use super::ledger::Ledger;
use super::measure::Measured;
use super::plan::{Limit, Mode, Plan, Point};
use super::publishing;
use super::report::{Cell, Round};
use crate::console::Console;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::units::Size;

/// What is in the queues before `bench consume` measures, at most.
const PREFILL_MESSAGES: u64 = 50_000;
const PREFILL_BYTES: u64 = 256 << 20;
/// With how many messages on their way queues are filled, over all publishers.
const PREFILL_WINDOW: usize = 1024;
/// What is published to warm up.
const WARM_UP: Point = Point { size: 128, window: 64, rate: None };

/// One run.
pub struct Run<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    crew: Crew,
    queues: Queues,
    meter: Meter,
    floor: FloorWorker,
    epoch: Instant,
    points: Vec<Point>,
    /// What was measured so far, of each point.
    rounds: Vec<Vec<Round>>,
    /// A round of which only the first half is measured, and its point's place.
    half: Option<(usize, Round)>,
}

impl<'a> Run<'a> {
    /// With all connections there.
    pub fn new(
        plan: &'a Plan,
        settings: &'a Settings,
        crew: Crew,
        control: Client,
        meter: Meter,
        floor: Option<Floor>,
    ) -> Self {
        let queues = Queues::new(control, plan.queues);
        let floor = FloorWorker::new(floor);
        let points = plan.points();
        let rounds = vec![Vec::new(); points.len()];
        let epoch = Instant::now();
        Self { plan, settings, crew, queues, meter, floor, epoch, points, rounds, half: None }
    }

    /// Measures every cell in every round.
    ///
    /// # Errors
    /// A client has ended, the cluster does not make queues, or the floor's disk fails.
    pub async fn all(&mut self, console: &mut Console) -> Result<(), Failure> {
        if self.plan.warm_up_seconds > 0.0 {
            console.progress("warming up");
            let limit =
                Plan { messages: None, seconds: Some(self.plan.warm_up_seconds), ..self.plan.clone() }
                    .limit();
            self.queues.renew().await?;
            self.publish_at(WARM_UP, limit, &self.ledger()).await?;
        }
        let points = self.points.clone();
        for number in 1..=self.plan.rounds {
            for (place, point) in points.iter().enumerate() {
                let (rounds, cell, cells) = (self.plan.rounds, place + 1, points.len());
                let Point { size, window, .. } = *point;
                let size = Size(size);
                console.progress(format_args!(
                    "round {number} of {rounds}, cell {cell} of {cells}: {size}, window {window}"
                ));
                // Who comes first alternates, so that neither always finds the disk as the other left it.
                let round = self.cell(place, *point, number % 2 == 1).await?;
                self.half = None;
                self.rounds.get_mut(place).into_iter().for_each(|rounds| rounds.push(round.clone()));
            }
        }
        Ok(())
    }

    /// What was measured so far; without the cells of which nothing was.
    pub fn cells(&mut self) -> Vec<Cell> {
        if let Some((place, round)) = self.half.take() {
            self.rounds.get_mut(place).into_iter().for_each(|rounds| rounds.push(round.clone()));
        }
        let cells = self.points.iter().zip(std::mem::take(&mut self.rounds));
        let measured = cells.filter(|(_, rounds)| !rounds.is_empty());
        measured.map(|(point, rounds)| Cell::new(*point, rounds)).collect()
    }

    /// Ends the floor, deletes the queues and ends the connections, whatever was under way.
    ///
    /// # Errors
    /// The queues are still there.
    pub async fn clean_up(&mut self) -> Result<(), Failure> {
        self.floor.end().await;
        let deleted = self.queues.delete().await;
        self.crew.close().await;
        deleted
    }

    /// The queues there are now.
    pub fn queues(&self) -> &[String] {
        self.queues.names()
    }

    fn ledger(&self) -> Arc<Ledger> {
        Arc::new(Ledger::new(self.crew.publishers.len()))
    }

    async fn cell(&mut self, place: usize, point: Point, floor_first: bool) -> Result<Round, Failure> {
        let floor = if floor_first { self.floor(point).await? } else { None };
        self.queues.renew().await?;
        let mut round = match self.plan.mode {
            Mode::Publish => self.publish(point, &self.ledger()).await?,
            Mode::Consume => self.consume_filled(point).await?,
            Mode::Both if self.plan.together => self.together(point).await?,
            Mode::Both => {
                let ledger = self.ledger();
                let mut round = self.publish(point, &ledger).await?;
                ledger.close();
                self.half = Some((place, round.clone()));
                self.consume(point, &ledger, &mut round).await?;
                round
            }
        };
        round.floor = if floor_first { floor } else { self.floor(point).await? };
        Ok(round)
    }

    async fn floor(&mut self, point: Point) -> Result<Option<Measured>, Failure> {
        // The floor is what publishing is compared with.
        if self.plan.mode == Mode::Consume {
            return Ok(None);
        }
        let (limit, size) = (self.plan.limit(), usize::try_from(point.size).unwrap_or(usize::MAX));
        let window = point.window.saturating_mul(self.plan.publishers);
        let measured = self.floor.run(size, window, limit).await;
        measured.map_err(|error| Failure::io("the floor", &error))
    }

    async fn publish_at(
        &self,
        point: Point,
        limit: Limit,
        ledger: &Arc<Ledger>,
    ) -> Result<(Measured, Account), Failure> {
        let job = publishing::Job { point, limit, epoch: self.epoch, timeout: self.settings.timeout };
        publishing::publish(&self.crew.publishers, self.queues.names(), job, ledger).await
    }

    async fn publish(&self, point: Point, ledger: &Arc<Ledger>) -> Result<Round, Failure> {
        let before = self.meter.read().await;
        let (measured, messages) = self.publish_at(point, self.plan.limit(), ledger).await?;
        let cost =
            self.meter.cost(&before, &self.meter.read().await, measured.messages, bytes(&measured, point));
        Ok(Round { publish: Some(measured), publish_cost: Some(cost), messages, ..Round::default() })
    }

    async fn consume_filled(&self, point: Point) -> Result<Round, Failure> {
        let usual = PREFILL_MESSAGES.min(PREFILL_BYTES / point.size.max(1)).max(1);
        let limit = Limit::Messages(self.plan.messages.unwrap_or(usual));
        let ledger = self.ledger();
        let widest = (PREFILL_WINDOW / self.crew.publishers.len().max(1)).max(1);
        let halves = iter::successors(Some(widest), |window| Some(window / 2).filter(|half| *half > 0));
        let window = halves.into_iter().find(|window| self.plan.fits(*window)).unwrap_or(1);
        let filling = Point { window, ..point };
        let (_, messages) = self.publish_at(filling, limit, &ledger).await?;
        ledger.close();
        let mut round = Round { messages, ..Round::default() };
        self.consume(point, &ledger, &mut round).await?;
        Ok(round)
    }

    async fn start_consuming(
        &self,
        point: Point,
        end_to_end: bool,
        time: Option<Duration>,
        ledger: &Arc<Ledger>,
    ) -> Result<Consuming, Failure> {
        let job = consuming::Job {
            window: point.window,
            end_to_end,
            publishers: self.crew.publishers.len(),
            epoch: self.epoch,
            timeout: self.settings.timeout,
            time,
        };
        Consuming::start(&self.crew.consumers, self.queues.names(), job, ledger).await
    }

    async fn consume(&self, point: Point, ledger: &Arc<Ledger>, round: &mut Round) -> Result<(), Failure> {
        let before = self.meter.read().await;
        // What was published in some time may take longer to consume; what was only put there to be consumed need not go.
        let time = match (self.plan.mode, self.plan.limit()) {
            (Mode::Consume, Limit::Time(time)) => Some(time),
            _ => None,
        };
        let consuming = self.start_consuming(point, false, time, ledger).await?;
        let Consumed { measured, account, is_cut } = consuming.finish().await?;
        round.consume_cost = Some(self.meter.cost(
            &before,
            &self.meter.read().await,
            measured.messages,
            bytes(&measured, point),
        ));
        round.consume = Some(measured);
        round.messages = self.settled(round.messages.with(&account), is_cut, ledger).await;
        Ok(())
    }

    async fn together(&self, point: Point) -> Result<Round, Failure> {
        let ledger = self.ledger();
        let consuming = self.start_consuming(point, true, None, &ledger).await?;
        let before = self.meter.read().await;
        let (published, messages) = self.publish_at(point, self.plan.limit(), &ledger).await?;
        ledger.close();
        let Consumed { measured: consumed, account, is_cut } = consuming.finish().await?;
        let cost =
            self.meter.cost(&before, &self.meter.read().await, published.messages, bytes(&published, point));
        Ok(Round {
            publish: Some(published),
            publish_cost: Some(cost),
            consume: Some(consumed),
            messages: self.settled(messages.with(&account), is_cut, &ledger).await,
            ..Round::default()
        })
    }

    /// Tells what is lost from what only did not come in time.
    async fn settled(&self, account: Account, is_cut: bool, ledger: &Ledger) -> Account {
        let missing = ledger.missing();
        if missing == 0 {
            return Account { undelivered: Some(0), lost: Some(0), ..account };
        }
        // What went back to the queues when the consumers ended is among those, so that no loss is claimed that is none.
        match self.queues.ready().await {
            Ok(ready) => {
                let there = missing.min(ready);
                let (undelivered, left) = if is_cut { (0, Some(there)) } else { (there, None) };
                Account { undelivered: Some(undelivered), left, lost: Some(missing - there), ..account }
            }
            Err(_) => Account { undelivered: Some(missing), lost: None, ..account },
        }
    }
}

fn bytes(measured: &Measured, point: Point) -> u64 {
    measured.messages.saturating_mul(point.size)
}
