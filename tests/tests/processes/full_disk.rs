//! A disk that is full: publishing waits, everything else goes on.

use quorate_client::{ConnectionEvent, ConsumeOptions, DeleteOptions, Events, FaultCode, QueueOptions};
use quorate_protocol::frame::ServerFrame;
use quorate_tests::process::full_disk::SmallDisk;
use quorate_tests::process::{Broker, ClusterPlan, PATIENCE, Place, RawClient, messages, wait_for};

use crate::operator::quorate;

/// Room for the log, the reserve, and the free space below which publishing stops.
const DISK_MEBIBYTES: u32 = 640;

fn small_disk(place: &Place) -> Option<SmallDisk> {
    SmallDisk::mount(&place.path("disk"), DISK_MEBIBYTES)
        .inspect_err(|why| println!("SKIPPED: a small file system cannot be mounted here: {why}"))
        .ok()
}

async fn blocked(events: &mut Events) -> String {
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            match events.next().await {
                Some(ConnectionEvent::Blocked { reason }) => return reason,
                Some(ConnectionEvent::Held { reason }) => return reason.to_string(),
                Some(_) => {}
                None => panic!("the client ended"),
            }
        }
    });
    told.await.expect("the client is told that publishing waits")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_basic_a_full_disk_stops_publishing_and_nothing_else() {
    let place = Place::new();
    let Some(disk) = small_disk(&place) else { return };
    let data = disk.path().join("data");
    let mut broker = Broker::single_on(&place.path(""), "b", &data);
    broker.start();
    broker.wait_leading();
    let url = format!("quorate://{}", broker.client_address());
    let client = messages::connect_with_queue(&url, "q").await;
    client.declare_queue("old", QueueOptions::default()).await.unwrap();
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, "q", 0..200, 1000).await).await;

    // What is kept for a full disk is there as soon as the store is in use.
    wait_for("the reserve", || std::fs::metadata(data.join("reserve")).map_err(|error| error.to_string()));
    let mut events = client.events();
    let filler = disk.fill("filler");
    broker.wait_log("publishing is refused");
    assert_eq!(broker.status().unwrap().0["space_low"], true);
    let mut waiting = messages::publish(&publisher, "q", 200..210, 1000).await;
    let reason = blocked(&mut events).await;
    assert!(reason.to_lowercase().contains("disk"), "{reason}");
    assert!(waiting[0].try_get().is_none(), "it waits, it is not lost");

    // Deleting and acknowledging make room: they are never refused for lack of it.
    client.delete_queue("old", DeleteOptions::default()).await.expect("a queue can be deleted");
    let mut consumer = client.consume("q", ConsumeOptions::default()).await.expect("a queue can be consumed");
    for expected in 0..100 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(messages::number(delivery.body()), expected);
        delivery.ack().await.expect("an ack is taken");
    }
    assert!(waiting[0].try_get().is_none(), "there is no room yet");
    // Still with the disk full: it stops as asked, and starts again.
    drop(consumer);
    let stopped = broker.terminate();
    assert_eq!(stopped.status, Some(0), "{}", stopped.log);
    drop(client);
    broker.start();
    broker.wait_leading();
    let url = format!("quorate://{}", broker.client_address());
    broker.wait_log("publishing is refused");
    // Who comes now is told at once.
    match RawClient::log_in(&broker.client_address()).receive() {
        Some(ServerFrame::Blocked(blocked)) => assert_eq!(blocked.code, FaultCode::DiskLow, "{blocked:?}"),
        other => panic!("a login to a full broker was followed by {other:?}"),
    }
    let client = messages::connect(&url).await;
    let publisher = client.publisher().unwrap();
    waiting = messages::publish(&publisher, "q", 300..310, 1000).await;
    let mut consumer = client.consume("q", ConsumeOptions::default()).await.expect("a queue can be consumed");
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(messages::number(delivery.body()), 100);
    delivery.ack().await.expect("an ack is taken");
    drop(consumer);
    assert!(waiting[0].try_get().is_none(), "there is no room yet");

    std::fs::remove_file(filler).expect("the filler is there");
    messages::confirmed(waiting).await;
    broker.wait_log("space has returned");
    let found = messages::drain(&client, "q").await.unwrap();
    assert!(found.starts_with(&(101..200).collect::<Vec<_>>()), "{found:?}");
    assert!(found.ends_with(&(300..310).collect::<Vec<_>>()), "{found:?}");
    messages::confirmed(messages::publish(&publisher, "q", 0..2000, 1000).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f10_a_replica_without_room_holds_nobody_up_and_a_leader_without_room_hands_over() {
    let place = Place::new();
    let Some(disk) = small_disk(&place) else { return };
    let mut cluster = ClusterPlan::of(3).quick().prepare();
    let (small, roomy) = (0, 1);
    cluster[small].set_flag("--data-dir", &disk.path().join("data").display().to_string());
    cluster.start_all();
    cluster.wait_settled();
    let lead = |cluster: &mut _, to: usize| {
        let name = format!("b{}", to + 1);
        let (status, report) =
            quorate(cluster, &["--timeout", "20s", "group", "transfer", "--vhost", "/", "--to", &name]);
        assert!(status == 0 || report["code"] == "MEMBER_LEADS", "{report}");
    };
    lead(&mut cluster, roomy);
    wait_for("the reserve", || {
        std::fs::metadata(disk.path().join("data/reserve")).map_err(|error| error.to_string())
    });
    let client = messages::connect_with_queue(&cluster.url(), "q").await;
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, "q", 0..200, 1000).await).await;
    let filler = disk.fill("filler");
    cluster[small].wait_log("publishing is refused");
    messages::confirmed(messages::publish(&publisher, "q", 200..400, 1000).await).await;

    // As leader it lets nobody publish, until another one leads.
    let mut events = client.events();
    lead(&mut cluster, small);
    let waiting = messages::publish(&publisher, "q", 400..410, 1000).await;
    blocked(&mut events).await;
    assert!(waiting[0].try_get().is_none(), "it waits, it is not lost");
    lead(&mut cluster, roomy);
    messages::confirmed(waiting).await;

    // Past its reserve it ends; the other two go on.
    let mut next = 410;
    let ended = loop {
        if let Some(ended) = cluster[small].poll_end() {
            break ended;
        }
        assert!(next < 2000, "its disk is full");
        messages::confirmed(messages::publish(&publisher, "q", next..next + 10, 500_000).await).await;
        next += 10;
    };
    assert_eq!(ended.status, Some(5), "{}", ended.log);
    messages::confirmed(messages::publish(&publisher, "q", next..next + 10, 1000).await).await;
    std::fs::remove_file(filler).expect("the filler is there");
    cluster[small].start();
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "q").await.unwrap(), (0..next + 10).collect::<Vec<_>>());
}
