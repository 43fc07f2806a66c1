//! Two of three stores are lost for good, and the operator goes on from the third, as the page on recovery says.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::ground::{BROKERS, Ground};
use super::history::{Event, History};
use super::load::Load;
use crate::process::patience::wait_within;
use crate::process::programs::quorate;
use crate::sim::checker::Place;
use crate::sim::dice::Dice;

/// Confirms that the store that will be left misses, if it is to miss some.
const BEHIND: u64 = 200;
const BEHIND_LIMIT: Duration = Duration::from_secs(30);

/// All brokers active before, and afterwards.
///
/// # Panics
/// The tool or a broker does anything else than the page says.
pub async fn recover(ground: &mut Ground, load: &mut Load, history: &History, dice: &mut Dice) {
    let left = dice.index(BROKERS);
    let lost: Vec<usize> = (0..BROKERS).filter(|number| *number != left).collect();
    if dice.chance(50) {
        // The one that will be left misses what the others confirm.
        ground.kill(&[left]);
        let wanted = history.confirmed() + BEHIND;
        wait_within(BEHIND_LIMIT, "confirms without the one that will be left", || {
            ground.assert_nobody_ended();
            let confirmed = history.confirmed();
            if confirmed >= wanted { Ok(()) } else { Err(format!("{confirmed} of {wanted}")) }
        });
        ground.kill(&lost);
    } else {
        ground.kill(&[0, 1, 2]);
    }
    load.stop_consumers().await;
    for number in &lost {
        fs::remove_dir_all(ground.data(*number)).expect("a store can be lost");
    }
    ground.note(format!("the stores of all but b{} are lost", left + 1));

    let directory = ground.data(left).display().to_string();
    let (status, report) = quorate(&["store", "inspect", &directory]);
    assert_eq!(status, 2, "one of three is no safe set: {report:#}");
    let store = &report["stores"][0];
    let end = place(&store["positions"]["/"]);
    assert_bounded(&report["loss"], end);
    let id = report["cluster_id"].as_str().expect("the cluster's id");
    let mark = ["store", "mark-clean", &directory, "--alone", "--reason", "two disks are lost"];
    let (status, refused) = quorate(&[&mark[..], &["--yes"]].concat());
    assert_eq!((status, &refused["code"]), (2, &"others-could-start".into()), "{refused:#}");
    let (status, marked) = quorate(&[&mark[..], &["--force", "--confirm", id]].concat());
    assert_eq!(status, 0, "{marked:#}");
    history.note(Event::Recovered(end));

    load.start_consumers();
    ground.start(left);
    ground.wait_active_of(&[left]);
    for number in &lost {
        // Empty, they must not found a cluster of their own before they meet the one that is left.
        ground.join_only(*number, id);
        ground.start(*number);
    }
    for number in &lost {
        let name = format!("b{}", number + 1);
        let words = ["--admin", &ground.admin(left), "member", "replace", "--name", &name, "--yes"];
        let (status, report) = quorate(&words);
        assert_eq!((status, &report["complete"]), (0, &true.into()), "{name}: {report:#}");
    }
    ground.wait_active();
    ground.note("recovered, and filled again".to_owned());
}

fn place(value: &Value) -> Place {
    let number = |key: &str| value[key].as_u64().unwrap_or_else(|| panic!("a place in the log: {value}"));
    (u32::try_from(number("epoch")).expect("an epoch"), number("term"), number("index"))
}

/// What the tool says of the loss, compared with what it was: the judge demands everything up to the log's end, and the
/// tool promises no more than that.
fn assert_bounded(loss: &Value, (_, _, index): Place) {
    assert_eq!(loss["confirmed"], "unknown", "two of three were a majority: {loss:#}");
    let reason = loss["reason"].as_str().expect("a reason");
    let known = reason.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("what is known").0;
    let promised = known.split(", ").find_map(|group| group.strip_prefix("/ ")).expect("the virtual host");
    let promised: u64 = promised.parse().expect("an index");
    assert!(promised <= index, "{promised} is promised, the log ends at {index}: {loss:#}");
}
