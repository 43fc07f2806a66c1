//! One run: faults, then health, then a count.

use std::fmt;
use std::time::{Duration, Instant};

use quorate_client::{Client, QueueOptions};

use super::deck::{Fault, deck};
use super::faults::Schedule;
use super::ground::Ground;
use super::history::{Event, History};
use super::judge::judge;
use super::load::{CLIENTS, Load, NOWHERE, connect, queue};
use crate::process::messages::held;
use crate::process::patience::wait_within;
use crate::sim::dice::Dice;

/// The environment's names for the seed, and for how long there are faults.
const SEED_VARIABLE: &str = "QUORATE_CHAOS_SEED";
const SECONDS_VARIABLE: &str = "QUORATE_CHAOS_SECONDS";
/// Otherwise.
const SEED: u64 = 1;
const SECONDS: u64 = 65;
/// Faults need somebody who is hit by them.
const BEFORE_FAULTS: u64 = 200;
/// Once nothing is wrong any more, so many more messages are confirmed within this time.
const LIVE: u64 = 500;
const LIVE_LIMIT: Duration = Duration::from_secs(30);
/// How long what was published may be without an outcome then, and how long consumers may take for what there is.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
const DRAIN_LIMIT: Duration = Duration::from_mins(2);
/// With fewer confirms nothing was tried.
const CONFIRMED_MIN: u64 = 1000;

/// Which schedule, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// How long there are faults.
    pub time: Duration,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SEED_VARIABLE}={} {SECONDS_VARIABLE}={} cargo nextest run --release -p quorate-tests --test processes \
             --no-capture chaos",
            self.seed,
            self.time.as_secs()
        )
    }
}

impl Plan {
    /// As the environment wants it.
    ///
    /// # Panics
    /// It wants what is no number.
    pub fn from_environment() -> Self {
        let number = |name: &str, otherwise: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
            Err(_) => otherwise,
        };
        Self {
            seed: number(SEED_VARIABLE, SEED),
            time: Duration::from_secs(number(SECONDS_VARIABLE, SECONDS)),
        }
    }

    /// Plays it.
    ///
    /// # Panics
    /// Something was not as it has to be, or too little was tried.
    pub async fn play(self) {
        println!("{self}");
        let history = History::default();
        let mut ground = Ground::prepare(&history, &self.to_string()).await;
        ground.mend();
        ground.wait_active();
        let url = ground.url();
        let client = connect(&url).await.expect("an active cluster takes clients");
        for number in 0..CLIENTS {
            client.declare_queue(&queue(number), QueueOptions::default()).await.expect("a queue");
        }
        let mut load = Load::start(&url, &history, self.seed);
        confirm_more(&mut ground, &history, BEFORE_FAULTS);

        let mut dice = Dice::new(self.seed, "chaos");
        let deck = deck(&mut dice, self.time);
        let mut schedule = Schedule::new(ground, &history, dice);
        let begun = Instant::now();
        schedule.perform(&deck, self.time, &mut load).await;
        let faults = begun.elapsed();
        let Schedule { mut ground, tally, .. } = schedule;

        ground.note("mended".to_owned());
        let mended = Instant::now();
        confirm_more(&mut ground, &history, LIVE);
        let live = mended.elapsed();
        ground.wait_active();
        load.finish_publishing(SETTLE_LIMIT).await;
        client.declare_queue(NOWHERE, QueueOptions::default()).await.expect("a queue");
        drain(&mut ground, &mut load, &client, &history).await;
        ground.terminate_all();
        ground.mend();
        ground.wait_active();
        drain(&mut ground, &mut load, &client, &history).await;
        client.close().await;
        ground.terminate_all();

        let judgement = judge(&history.events());
        println!(
            "chaos: seed {}, faults for {:.1} s: {tally}; {} connections between brokers; {judgement}; longest gap \
             between confirms {:.1} s, {LIVE} more {:.1} s after the last fault",
            self.seed,
            faults.as_secs_f64(),
            ground.links.connections(),
            history.longest_gap().as_secs_f64(),
            live.as_secs_f64()
        );
        if let Err(why) = &ground.disk {
            println!("chaos: a full disk was NOT tried, no small file system can be mounted here: {why}");
        }
        assert!(judgement.violations.is_empty(), "{:#?}", judgement.violations);
        let missing = tally.missing(self.time, |fault| fault != Fault::FullDisk || ground.disk.is_ok());
        assert!(missing.is_empty(), "VOID, this run says nothing: {missing:?}");
        let confirmed = judgement.confirmed;
        assert!(confirmed >= CONFIRMED_MIN, "VOID, this run says nothing: {confirmed} confirms");
    }
}

/// Waits until so many more messages are confirmed.
fn confirm_more(ground: &mut Ground, history: &History, more: u64) {
    let wanted = history.confirmed() + more;
    wait_within(LIVE_LIMIT, "confirms", || {
        ground.assert_nobody_ended();
        let confirmed = history.confirmed();
        if confirmed >= wanted { Ok(()) } else { Err(format!("{confirmed} of {wanted} confirms")) }
    });
}

/// Has consumers take everything, until there is nothing.
async fn drain(ground: &mut Ground, load: &mut Load, client: &Client, history: &History) {
    load.drain();
    let queues: Vec<String> = (0..CLIENTS).map(queue).chain([NOWHERE.to_owned()]).collect();
    let end = Instant::now() + DRAIN_LIMIT;
    loop {
        ground.assert_nobody_ended();
        let mut left = Vec::new();
        for queue in &queues {
            match held(client, queue).await {
                Ok(0) => {}
                answer => left.push((queue.clone(), answer)),
            }
        }
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "waited {DRAIN_LIMIT:?} for empty queues: {left:?}");
    }
    history.note(Event::Drained);
    load.stop_consumers().await;
}
