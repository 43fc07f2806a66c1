//! How the broker's process ends: acceptance H7.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use quorate_tests::process::{Broker, ClusterPlan, Ended, PATIENCE, Place, Snapshot, messages};

/// On ports that nobody else needs to know.
const ANY_PORTS: [&str; 6] =
    ["--listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

#[track_caller]
fn assert_ended(ended: &Ended, status: i32, words: &[&str]) {
    assert_eq!(ended.status, Some(status), "{}", ended.log);
    for word in words {
        assert!(ended.log.contains(word), "{word:?} is not in:\n{}", ended.log);
    }
}

#[test]
fn acceptance_h7_stopped_as_asked_is_0() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    assert_ended(&broker.terminate(), 0, &["SIGTERM"]);
    // Also while it waits.
    let mut cluster = ClusterPlan::of(3).prepare();
    cluster[0].start();
    assert_ended(&cluster[0].terminate(), 0, &["SIGTERM"]);
}

#[test]
fn a_broker_stopped_in_its_first_moments_ends_with_0() {
    let place = Place::new();
    // The broker cannot get beyond its configuration before this test lets it: that comes through a pipe.
    let pipe = place.path("broker.toml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.add_flags(&["--config", &pipe.display().to_string()]);
    broker.spawn();
    // Opens once the broker reads.
    let mut configuration = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    broker.ask_to_stop();
    configuration.write_all(b"log-level = \"info\"\n").unwrap();
    drop(configuration);
    assert_ended(&broker.wait_end(PATIENCE), 0, &["SIGTERM"]);
}

#[test]
fn acceptance_h7_usage_and_configuration_are_2() {
    let place = Place::new();
    for (flags, words) in [
        (&["--no-such-flag"][..], &["--no-such-flag"][..]),
        (&["--transient", "--data-dir", "x"], &["--transient", "--data-dir"]),
        (&["--cluster-wait-for", "0"], &["--cluster-wait-for"]),
        (&["--log-retain", "much"], &["--log-retain"]),
        (&["--listen", "0.0.0.0:0"], &["--listen", "--insecure"]),
        (&["--config", "/no/such/file.toml"], &["/no/such/file.toml"]),
    ] {
        assert_ended(&Broker::new(&place.path(""), "b", flags).run_to_end(), 2, words);
    }
    let config = place.path("broker.toml");
    fs::write(&config, "name = \"x\"\nno-such-key = 1\n").unwrap();
    let config = config.display().to_string();
    let ended = Broker::new(&place.path(""), "b", &["--config", &config]).run_to_end();
    assert_ended(&ended, 2, &["no-such-key", "line 2"]);
}

#[test]
fn acceptance_h7_a_port_in_use_is_2_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--cluster-listen", "--admin-listen"] {
        let place = Place::new();
        let mut flags = vec!["--cluster-wait-for", "1"];
        for other in ["--listen", "--cluster-listen", "--admin-listen"] {
            flags.extend([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        let data = place.path("data").display().to_string();
        flags.extend(["--data-dir", &data]);
        assert_ended(&Broker::new(&place.path(""), "b", &flags).run_to_end(), 2, &[flag, &address, "in use"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h7_a_second_broker_of_the_same_name_is_3() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster[0].start();
    cluster[1].start();
    cluster.wait_active();
    let client = messages::connect_with_queue(&cluster.url(), "q").await;
    let publisher = client.publisher().unwrap();

    let data = cluster.path("twin-data");
    let logs = cluster.path("twin");
    fs::create_dir(&logs).unwrap();
    let (data_flag, peers) = (data.display().to_string(), cluster.peers());
    let flags = ["--data-dir", &data_flag, "--cluster-peers", &peers, "--cluster-wait-for", "2"];
    let mut twin = Broker::new(&logs, "b1", &flags);
    twin.add_flags(&ANY_PORTS);
    assert_ended(&twin.run_to_end(), 3, &["b1", "name"]);
    assert_eq!(Snapshot::of(&data).without("lock").names(), ["store-id"]);
    // Those who were there first go on.
    messages::confirmed(messages::publish(&publisher, "q", 0..100, 100).await).await;
    assert!(cluster[0].is_running() && cluster[1].is_running());
    cluster.wait_active();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h7_transient_and_persistent_together_are_3() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster[0].start();
    cluster[1].start();
    cluster.wait_active();
    let client = messages::connect_with_queue(&cluster.url(), "q").await;
    let publisher = client.publisher().unwrap();
    let peers = cluster.peers();
    let flags = ["--transient", "--cluster-wait-for", "2", "--cluster-peers", &peers];
    let mut stranger = Broker::new(&cluster.path(""), "stranger", &flags);
    stranger.add_flags(&ANY_PORTS);
    assert_ended(&stranger.run_to_end(), 3, &["R1", "transient"]);
    messages::confirmed(messages::publish(&publisher, "q", 0..100, 100).await).await;
    cluster.wait_active();
}

/// Ends a text file as the stamp's files end.
fn seal(body: &str) -> String {
    format!("{body}crc32 = {:08x}\n", crc32fast::hash(body.as_bytes()))
}

#[test]
fn acceptance_h7_a_store_of_a_later_version_is_3_and_kept() {
    let place = Place::new();
    let data = place.path("b-data");
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    broker.terminate();
    for slot in ["stamp.a", "stamp.b"] {
        fs::write(data.join(slot), seal("quorate-stamp 99\nsomething = else\n")).unwrap();
    }
    let before = Snapshot::of(&data).without("lock");
    assert_ended(&broker.run_to_end(), 3, &["99", "version"]);
    assert_eq!(before.differences(&Snapshot::of(&data).without("lock")), [""; 0]);
}

#[test]
fn acceptance_h7_a_locked_store_is_4() {
    let place = Place::new();
    let mut first = Broker::single(&place.path(""), "b");
    first.start();
    first.wait_leading();
    let logs = place.path("other");
    fs::create_dir(&logs).unwrap();
    assert_ended(
        &Broker::single_on(&logs, "second", &place.path("b-data")).run_to_end(),
        4,
        &["lock", "--data-dir"],
    );
    first.wait_leading();
}

#[test]
fn acceptance_h7_an_unwritable_directory_is_5() {
    // Below a file nobody makes a directory, and below /proc not even root does.
    let place = Place::new();
    fs::write(place.path("file"), "in the way").unwrap();
    for data in [place.path("file").join("data"), Path::new("/proc/quorate-data").to_owned()] {
        let ended = Broker::single_on(&place.path(""), "b", &data).run_to_end();
        assert_ended(&ended, 5, &[&data.display().to_string()]);
    }
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "in the way");
}
