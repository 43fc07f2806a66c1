//! How clients find the leader: acceptance H1, H3.

use quorate_client::{Client, Error, FaultCode, Options};
use quorate_tests::process::{ClusterPlan, RawClient, messages};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h1_a_client_finds_the_leader_from_a_replica() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_active();
    let replicas = cluster.others(leader);
    let [one, other] = [cluster.client_address(replicas[0]), cluster.client_address(replicas[1])];
    let leads = cluster.client_address(leader);
    for addresses in [format!("{one},{leads}"), format!("{one},{other},{leads}"), one.clone()] {
        let (client, _publisher) =
            messages::connect_and_publish(&format!("quorate://{addresses}"), "h1", 0..1, 10).await;
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h3_a_replica_and_a_waiting_broker_refuse_distinctly() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_active();
    let replica = cluster.others(leader)[0];
    let refused = RawClient::connect(&cluster.client_address(replica)).try_log_in("/").unwrap_err();
    assert_eq!(refused.code, FaultCode::NotLeader, "{refused:?}");
    assert!(refused.code.is_retryable());
    assert_eq!(refused.leader_address, cluster.client_address(leader));
    assert!(refused.text.contains(cluster[leader].name()), "{refused:?}");

    // Who leads the cluster knows of no such virtual host, and asking again would not help.
    let status = cluster[leader].status().unwrap();
    let name = status.leader("system").expect("it is led");
    let knows = (0..3).find(|number| cluster[*number].name() == name).expect("it is one of the three");
    let refused = RawClient::connect(&cluster.client_address(knows)).try_log_in("nothing").unwrap_err();
    assert_eq!(refused.code, FaultCode::VhostNotFound, "{refused:?}");
    assert!(!refused.code.is_retryable());

    let mut waiting = ClusterPlan::of(3).prepare();
    waiting[0].start();
    waiting[0].wait_until("waits", |status| status.verdict() == "waiting");
    let refused = RawClient::connect(&waiting.client_address(0)).try_log_in("/").unwrap_err();
    assert_eq!(refused.code, FaultCode::Waiting, "{refused:?}");
    assert!(refused.code.is_retryable());
    assert!(refused.text.contains("1 of 3"), "{refused:?}");

    // The library says it too, when it has waited as long as it was told.
    let options = Options::from_url(&waiting.url()).unwrap().wait(Duration::from_secs(1));
    let error = Client::open(options).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)) && error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("WAITING"), "{error}");
}
