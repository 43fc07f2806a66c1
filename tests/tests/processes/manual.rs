//! The operator's pages say what happens: each journey is made as the page describes it.

use std::collections::BTreeSet;
use std::fs;

use std::sync::Arc;

use quorate_store::files::real::RealFiles;
use quorate_store::ids::{Incarnation, RunId};
use quorate_store::stamp::{Stamp, StampFile};
use quorate_tests::manual::{Block, Site, blocks};
use quorate_tests::process::wait_for;
use uuid::Uuid;

const PAGES: [&str; 5] = [
    include_str!("../../../docs/operate/restart.md"),
    include_str!("../../../docs/operate/recovery.md"),
    include_str!("../../../docs/operate/safety.md"),
    include_str!("../../../docs/operate/groups.md"),
    include_str!("../../../docs/operate/overrides.md"),
];

/// The blocks of a journey, to be followed one after the other.
fn journey<const N: usize>(name: &str) -> [Block; N] {
    let all = PAGES.iter().flat_map(|page| blocks(page)).filter(|block| block.journey == name);
    let found: Vec<Block> = all.collect();
    found.try_into().unwrap_or_else(|found: Vec<_>| panic!("{name} has {} blocks, not {N}", found.len()))
}

/// One test for each journey, and one that no journey is without.
macro_rules! journeys {
    ($($name:literal $test:ident $make:ident)*) => {
        $(#[test] fn $test() { $make(journey($name)); })*

        #[test]
        fn every_journey_of_the_manual_is_made() {
            let tested: BTreeSet<String> = [$($name),*].map(ToOwned::to_owned).into();
            let told: BTreeSet<String> =
                PAGES.iter().flat_map(|page| blocks(page)).map(|block| block.journey).collect();
            assert_eq!(told, tested);
        }
    };
}

journeys! {
    "planned" manual_planned_stop_and_start planned
    "one-stopped" manual_one_broker_is_stopped one_stopped
    "power" manual_all_lost_power power
    "missing" manual_one_of_three_does_not_come_back missing
    "manual-recovery" manual_an_operator_decides_each_restart manual_recovery
    "two-lost" one_documented_sequence_of_three_commands_recovers_from_the_loss_of_two_of_three_stores two_lost
    "last-damaged" manual_the_last_disk_is_damaged last_damaged
    "wrong-directory" manual_a_wrong_directory wrong_directory
    "copied" manual_a_copied_directory copied
    "unmark" manual_a_mark_is_taken_back unmark
    "second-process" manual_a_second_process_was_on_the_store second_process
    "quarantine" manual_messages_are_taken_out_of_quarantine quarantine
    "transfer" manual_leadership_is_moved transfer
    "priority" manual_some_brokers_are_preferred priority
    "required" manual_three_nodes_are_required required
    "permit" manual_nobody_else_may_join permit
    "durability" manual_a_policy_is_weakened durability
    "override" manual_one_of_three_goes_on over_ride
    "designated" manual_the_designated_primary_goes_on_alone designated
    "take-over" manual_the_other_one_of_two_takes_over take_over
}

/// Three brokers with a thousand messages, confirmed.
fn site(settings: &str) -> Site {
    let site = Site::start(settings);
    site.prepare_with(0, "quorate queue declare orders && quorate publish --queue orders --count 1000");
    site.wait_equal();
    site
}

/// The same, led by b1.
fn led_by_the_first() -> Site {
    let mut site = site("");
    site.prepare_with(0, "quorate group transfer --vhost / --to b1 || true");
    site.wait_active();
    site
}

fn power_fails(site: &mut Site) {
    for number in 0..3 {
        site.broker(number).kill();
    }
}

fn lose(site: &Site, number: usize) {
    fs::remove_dir_all(site.data(number)).unwrap();
}

fn planned([shutdown, start]: [Block; 2]) {
    let mut site = site("");
    site.follow(&shutdown);
    for number in 0..3 {
        assert_eq!(site.broker(number).wait_end(quorate_tests::process::PATIENCE).status, Some(0));
    }
    site.follow(&start);
}

fn one_stopped([all]: [Block; 1]) {
    site("").follow(&all);
}

fn power([starts, explains]: [Block; 2]) {
    let mut site = site("");
    power_fails(&mut site);
    site.follow(&starts);
    site.follow(&explains);
}

fn missing([waits, goes_on, empty]: [Block; 3]) {
    let mut site = site("");
    power_fails(&mut site);
    for number in 0..2 {
        site.broker(number).start();
    }
    site.follow(&waits);
    site.follow(&goes_on);
    lose(&site, 2);
    site.follow(&empty);
}

fn manual_recovery([asks, marks, rest]: [Block; 3]) {
    let mut site = site("recovery = \"manual\"\n");
    power_fails(&mut site);
    for number in 0..3 {
        site.broker(number).start();
    }
    site.follow(&asks);
    site.follow(&marks);
    site.follow(&rest);
}

fn two_lost([go_on, refill]: [Block; 2]) {
    let mut site = site("");
    power_fails(&mut site);
    for number in 1..3 {
        lose(&site, number);
    }
    assert_eq!(go_on.steps.len(), 3, "the page promises three commands");
    site.follow(&go_on);
    site.follow(&refill);
}

fn last_damaged([look, save]: [Block; 2]) {
    let mut site = site("");
    // The first thousand messages are damaged, and others came after them: no torn tail.
    site.prepare_with(0, "quorate publish --queue orders --count 10");
    power_fails(&mut site);
    for number in 1..3 {
        lose(&site, number);
    }
    let segment = site.data(0).join("log").join("segment-0000000000000001");
    let mut content = fs::read(&segment).unwrap();
    content[8192] ^= 1;
    fs::write(&segment, content).unwrap();
    site.broker(0).start();
    site.follow(&look);
    site.follow(&save);
}

fn wrong_directory([all]: [Block; 1]) {
    let mut site = site("");
    site.broker(2).terminate();
    lose(&site, 2);
    // A broker of another cluster had this directory.
    let data = site.data(2);
    let place = quorate_tests::process::Place::new();
    let mut other = quorate_tests::process::Broker::single_on(&place.path(""), "b9", &data);
    other.start();
    other.wait_leading();
    other.terminate();
    site.follow(&all);
}

fn copied([all]: [Block; 1]) {
    let mut site = site("");
    site.broker(2).terminate();
    lose(&site, 2);
    // As a snapshot of the volume takes it: at one moment. A copy of files that are being written is no store.
    site.broker(0).freeze();
    site.prepare_with(0, "cp -r /var/lib/quorate host3-data");
    site.broker(0).thaw();
    site.broker(2).start();
    site.follow(&all);
}

fn unmark([all]: [Block; 1]) {
    let mut site = site("");
    power_fails(&mut site);
    site.prepare_with(
        0,
        "quorate store mark-clean /var/lib/quorate --alone --force --confirm CLUSTER-ID --reason 'too soon'",
    );
    site.follow(&all);
}

fn second_process([finds, clears]: [Block; 2]) {
    let mut site = site("safety-interval = \"500ms\"\n");
    // As a broker does that begins to take part: the next incarnation, another run.
    let data = site.data(1);
    let stamp = quorate_tests::process::directory::stamp(&data).unwrap();
    let other = Stamp {
        incarnation: Incarnation(stamp.incarnation.0 + 1),
        run_id: RunId(Uuid::from_u128(7)),
        ..stamp
    };
    // The broker may have written in between: then that one is read back, and this one is not written.
    let written = || {
        let (mut file, _) = StampFile::open(Arc::new(RealFiles), data.clone()).map_err(|e| e.to_string())?;
        file.write(other.clone()).map_err(|error| error.to_string())
    };
    wait_for("a stamp of another process", written);
    site.follow(&finds);
    site.follow(&clears);
}

fn quarantine([look, again, images]: [Block; 3]) {
    let mut site = site("");
    // b1 misses ten messages, and is marked all the same.
    site.broker(0).terminate();
    site.wait_active();
    site.prepare_with(1, "quorate publish --queue orders --count 10");
    for number in 1..3 {
        site.broker(number).kill();
    }
    site.prepare_with(
        0,
        "quorate store mark-clean /var/lib/quorate --alone --force --confirm CLUSTER-ID --reason 'wrong one'",
    );
    site.broker(0).start();
    site.wait_active();
    site.broker(1).start();
    site.wait_active();
    site.follow(&look);
    site.follow(&again);
    site.follow(&images);
}

fn transfer([all]: [Block; 1]) {
    led_by_the_first().follow(&all);
}

fn priority([set, refused]: [Block; 2]) {
    let mut site = site("");
    site.follow(&set);
    site.follow(&refused);
}

fn required([waits, goes_on]: [Block; 2]) {
    let mut site = led_by_the_first();
    site.follow(&waits);
    site.follow(&goes_on);
}

fn durability([all]: [Block; 1]) {
    led_by_the_first().follow(&all);
}

fn over_ride([goes_on, ends]: [Block; 2]) {
    let mut site = led_by_the_first();
    for number in 1..3 {
        site.broker(number).kill();
    }
    site.follow(&goes_on);
    site.follow(&ends);
}

/// Two brokers: the third is gone for good.
fn of_two() -> Site {
    let mut site = led_by_the_first();
    site.broker(2).terminate();
    site.prepare_with(0, "quorate member remove --name b3 --yes");
    site.wait_active();
    site
}

fn designated([all]: [Block; 1]) {
    of_two().follow(&all);
}

fn take_over([all]: [Block; 1]) {
    let mut site = of_two();
    site.broker(0).kill();
    site.follow(&all);
}

fn permit([list, audit]: [Block; 2]) {
    let mut site = site("");
    site.follow(&list);
    site.follow(&audit);
}
