//! The controls of a group, set with the tool while brokers run: acceptance G and H5.

use std::time::{Duration, Instant};

use quorate_tests::process::status::post;
use quorate_tests::process::{Broker, Cluster, ClusterPlan, messages, wait_for};
use serde_json::{Value, json};

use crate::operator::quorate;
use crate::stream::{QUEUE, Stream, check_content};

fn set_priority(cluster: &mut Cluster, number: usize, priority: &str) {
    let name = cluster[number].name().to_owned();
    let set = ["group", "set", "--vhost", "/", "--node", &name, "--priority", priority, "--reason", "a test"];
    let (status, report) = quorate(cluster, &set);
    assert_eq!(status, 0, "{report}");
}

fn transfer(cluster: &mut Cluster, to: usize) -> (i32, Value) {
    let name = cluster[to].name().to_owned();
    quorate(cluster, &["--timeout", "20s", "group", "transfer", "--vhost", "/", "--to", &name])
}

/// All three, their logs equal, led by the one that is preferred: leadership does not move any more by itself.
pub(crate) fn three() -> Cluster {
    let mut cluster = ClusterPlan::of(3).quick().wait_for(2).prepare();
    cluster.start_all();
    cluster.wait_settled();
    cluster
}

/// A cluster whose one broker was away while another one led, which is dead now; and who is who: the one that has everything
/// and the one that lacks the end.
async fn one_lags(control: impl FnOnce(&mut Cluster, usize, usize)) -> (Cluster, usize, usize, u64) {
    let mut cluster = three();
    let leader = cluster.wait_active();
    let others = cluster.others(leader);
    let (ahead, behind) = (others[0], others[1]);
    control(&mut cluster, ahead, behind);
    let client = messages::connect_with_queue(&cluster.url(), QUEUE).await;
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, QUEUE, 0..100, 100).await).await;
    cluster[behind].kill();
    messages::confirmed(messages::publish(&publisher, QUEUE, 100..600, 100).await).await;
    cluster[leader].kill();
    client.close().await;
    cluster[behind].start();
    (cluster, ahead, behind, 600)
}

async fn holds(cluster: &Cluster, count: u64) {
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), (0..count).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_g1_the_most_recent_log_leads_whatever_the_priorities() {
    let (mut cluster, ahead, _, count) =
        one_lags(|cluster, _, behind| set_priority(cluster, behind, "3")).await;
    assert_eq!(cluster.wait_active(), ahead);
    holds(&cluster, count).await;
}

#[test]
fn acceptance_g2_of_equal_logs_the_highest_priority_leads() {
    for preferred in 0..3 {
        let mut cluster = three();
        set_priority(&mut cluster, preferred, "2");
        cluster.wait_equal();
        let leader = cluster.wait_active();
        if leader == preferred {
            let other = cluster.others(leader)[0];
            let (status, report) = transfer(&mut cluster, other);
            assert_eq!(status, 0, "{report}");
        }
        let leader = cluster.wait_equal();
        assert_ne!(leader, preferred);
        cluster[leader].kill();
        assert_eq!(cluster.wait_active(), preferred);
    }
}

#[test]
fn acceptance_g3_of_equal_priorities_the_highest_store_leads() {
    let mut cluster = three();
    let order = cluster.preferred();
    for _ in 0..3 {
        let leader = cluster.wait_equal();
        let expected = *order.iter().find(|number| **number != leader).unwrap();
        cluster[leader].kill();
        assert_eq!(cluster.wait_active(), expected, "of {order:?} without {leader}");
        cluster[leader].start();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_g4_what_only_a_node_of_priority_0_has_is_handed_on() {
    // It may have led before, after the first election of all.
    let mut before = 0;
    let never = |cluster: &mut Cluster, ahead: usize, _| {
        set_priority(cluster, ahead, "0");
        before = cluster[ahead].log_text().len();
    };
    let (mut cluster, ahead, behind, count) = one_lags(never).await;
    assert_eq!(cluster.wait_active(), behind);
    let log = cluster[ahead].log_text().split_off(before);
    let led = log.matches("role in the group of virtual host / changed from waiting to leader").count();
    assert_eq!(led, 1, "it led to hand over: {log}");
    holds(&cluster, count).await;
}

#[test]
fn acceptance_g5_where_only_nodes_of_priority_0_are_left_nobody_leads() {
    let mut cluster = three();
    let leader = cluster.wait_active();
    for other in cluster.others(leader) {
        set_priority(&mut cluster, other, "0");
    }
    // Everybody knows it: whoever does not know yet leads for a moment.
    cluster.wait_equal();
    cluster[leader].kill();
    let others = cluster.others(leader);
    let roles = |cluster: &Cluster| {
        let role = |other: &usize| cluster[*other].status().map(|status| status.role("/").to_owned());
        others.iter().map(role).collect::<Result<Vec<String>, String>>().unwrap()
    };
    wait_for("nobody leads", || match roles(&cluster) {
        roles if roles == ["waiting", "waiting"] => Ok(()),
        roles => Err(format!("{roles:?}")),
    });
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert_eq!(roles(&cluster), ["waiting", "waiting"], "nobody is elected");
    }
    cluster[leader].start();
    assert_eq!(cluster.wait_active(), leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_g6_who_is_not_permitted_is_refused_and_the_others_go_on() {
    let mut cluster = three();
    let leader = cluster.wait_active();
    let list = ["member", "permit", "--node", "b1", "--node", "b2", "--node", "b3"];
    assert_eq!(quorate(&mut cluster, &list).0, 0);
    let mut intruder = Broker::single_on(&cluster.path(""), "b4", &cluster.path("b4-data"));
    intruder.set_flag("--cluster-peers", &cluster.peers());
    intruder.set_flag("--cluster-wait-for", "2");
    let ended = intruder.run_to_end();
    assert_eq!(ended.status, Some(3), "{}", ended.log);
    assert!(
        ended.log.contains("permits certain nodes only") && ended.log.contains("member permit"),
        "{}",
        ended.log
    );
    let logs: String = (0..3).map(|number| cluster[number].log_text()).collect();
    assert_eq!(logs.matches("HA-1008").count(), 1, "{logs}");
    assert_eq!(cluster.wait_active(), leader, "the running group is as it was");
    let (client, _) = messages::connect_and_publish(&cluster.url(), QUEUE, 0..10, 10).await;
    client.close().await;
    // Permitted by its name, it joins.
    assert_eq!(quorate(&mut cluster, &[&list[..], &["--node", "b4"]].concat()).0, 0);
    intruder.start();
    intruder.wait_until("is let in", |status| status.verdict() == "active" || status.verdict() == "joining");
}

#[test]
fn acceptance_g7_the_list_is_changed_at_the_leader_names_every_member_and_has_no_order() {
    let mut cluster = three();
    // The cluster's own group may just be handed over, too.
    let leads = wait_for("a leader of system", || {
        let (_, view) = quorate(&mut cluster, &["group", "status"]);
        view["groups"][0]["leader"].as_str().map(str::to_owned).ok_or_else(|| view.to_string())
    });
    let replica = (0..3).find(|number| cluster[*number].name() != leads).unwrap();
    let body = json!({"nodes": ["b1", "b2", "b3"]});
    let (code, text) = post(&cluster[replica].admin_address(), "/api/v1/members/permit", &body).unwrap();
    assert!(code == 421 && text.contains("leader_admin_address"), "{code} {text}");
    let (status, refused) = quorate(&mut cluster, &["member", "permit", "--node", "b1", "--node", "b2"]);
    assert_eq!((status, &refused["code"]), (2, &json!("MEMBER_NEEDED")), "{refused}");
    let permit = |names: [&str; 3]| {
        let listed = names.into_iter().flat_map(|name| ["--node", name]);
        ["member", "permit"].into_iter().chain(listed).map(str::to_owned).collect::<Vec<_>>()
    };
    for (names, changed) in [(["b1", "b2", "b3"], true), (["b3", "b1", "b2"], false)] {
        let arguments = permit(names);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (status, report) = quorate(&mut cluster, &arguments);
        assert_eq!((status, &report["changed"]), (0, &json!(changed)), "{report}");
    }
    for number in 0..3 {
        let log = cluster[number].wait_log("HA-1015");
        assert_eq!(log.matches("HA-1015").count(), 1, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_g8_leadership_moves_to_and_fro_under_load() {
    let mut cluster = ClusterPlan::of(3).start();
    let client = messages::connect_with_queue(&cluster.url(), QUEUE).await;
    let mut stream = Stream::start(client.publisher().unwrap());
    stream.confirmed_more(2000).await;
    let first = cluster.wait_active();
    let second = cluster.others(first)[0];
    let mut moves = Vec::new();
    for to in [second, first, second, first, second, first] {
        let from = cluster.wait_active();
        let asked = Instant::now();
        let (status, report) = transfer(&mut cluster, to);
        assert_eq!(status, 0, "{report}");
        moves.push((asked, Instant::now()));
        stream.confirmed_more(500).await;
        assert_eq!(cluster.wait_active(), to);
        cluster[from].wait_log("HA-1007");
        let log = cluster[from].log_text();
        assert!(log.rfind("HA-1007") < log.rfind("HA-1010"), "first asked for, then done: {log}");
    }
    let (published, outcomes) = stream.finish().await;
    assert!(outcomes.iter().all(|outcome| outcome.confirmed));
    let gap = |began: Instant| {
        let times = outcomes.iter().map(|outcome| outcome.at);
        let near =
            times.filter(|at| *at + Duration::from_secs(1) > began && *at < began + Duration::from_secs(3));
        let near: Vec<Instant> = near.collect();
        near.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max().unwrap_or_default()
    };
    let gaps: Vec<Duration> = moves.iter().map(|(asked, _)| gap(*asked)).collect();
    println!("transfers: the longest time without a confirm around each: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(1)), "{gaps:?}");
    let found = messages::drain(&client, QUEUE).await.unwrap();
    check_content(&found, published, &outcomes);
    assert_eq!(found.len() as u64, published);
}

#[test]
fn acceptance_g9_a_transfer_that_makes_no_sense_is_refused() {
    let mut cluster = three();
    let leader = cluster.wait_active();
    let (status, refused) = transfer(&mut cluster, leader);
    assert_eq!((status, &refused["code"]), (2, &json!("MEMBER_LEADS")), "{refused}");
    let to = |name: &str| ["group", "transfer", "--vhost", "/", "--to", name].map(str::to_owned);
    for (name, code) in [("nobody", "MEMBER_NOT_FOUND"), ("", "MEMBER_NOT_FOUND")] {
        let arguments = to(name);
        let (status, refused) = quorate(&mut cluster, &arguments.each_ref().map(String::as_str));
        assert_eq!((status, &refused["code"]), (2, &json!(code)), "{refused}");
    }
    let other = cluster.others(leader)[0];
    let name = cluster[other].name().to_owned();
    cluster[other].kill();
    let arguments = to(&name);
    let (status, refused) = quorate(&mut cluster, &arguments.each_ref().map(String::as_str));
    assert_eq!((status, &refused["code"]), (2, &json!("MEMBER_AWAY")), "{refused}");
    assert_eq!(cluster.wait_active(), leader, "nothing has moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h5_three_required_of_three_really_wait() {
    let mut cluster = three();
    let client = messages::connect_with_queue(&cluster.url(), QUEUE).await;
    let mut stream = Stream::start(client.publisher().unwrap());
    stream.confirmed_more(1000).await;
    assert_eq!(quorate(&mut cluster, &["group", "set", "--vhost", "/", "--required-nodes", "3"]).0, 0);
    stream.confirmed_more(1000).await;
    let leader = cluster.wait_active();
    let away = cluster.others(leader)[0];
    cluster[away].kill();
    let log = cluster[leader].wait_log("HA-1009");
    assert!(log.contains("2 of 3 needed voters in contact"), "{log}");
    let confirmed = *stream.confirmed.borrow();
    let more =
        tokio::time::timeout(Duration::from_secs(3), stream.confirmed.wait_for(|now| *now > confirmed));
    assert!(more.await.is_err(), "nothing is confirmed with two of three");
    let (status, view) = quorate(&mut cluster, &["group", "status", "--vhost", "/"]);
    assert_eq!(status, 1, "{view}");
    assert!(view["groups"][0]["gate"].as_str().unwrap().contains("needs 3 nodes"), "{view}");
    // Effective at once, though nobody is served.
    let (status, report) = quorate(&mut cluster, &["group", "set", "--vhost", "/", "--required-nodes", "0"]);
    assert_eq!(status, 0, "{report}");
    stream.confirmed_more(1000).await;
    let (published, outcomes) = stream.finish().await;
    assert!(outcomes.iter().all(|outcome| outcome.confirmed));
    let found = messages::drain(&client, QUEUE).await.unwrap();
    check_content(&found, published, &outcomes);
}

#[test]
fn acceptance_h5_every_control_is_read_and_set_by_http_and_judged_by_the_broker() {
    let mut cluster = three();
    let leader = cluster.wait_active();
    let admin = cluster[leader].admin_address();
    let group = |cluster: &Cluster| cluster[leader].status().unwrap().group("/").unwrap().clone();
    let before = group(&cluster);
    assert_eq!((&before["required_nodes"], &before["needed_voters"]), (&json!(0), &json!(2)));
    assert!(before["nodes"].as_array().unwrap().iter().all(|node| node["priority"] == 1));
    let set = |body: Value| {
        let (code, text) = post(&admin, "/api/v1/groups/set", &body).unwrap();
        (code, serde_json::from_str::<Value>(&text).unwrap())
    };
    let nobody = ["b1", "b2", "b3"].map(|node| json!({"node": node, "priority": 0}));
    for (settings, code) in [
        (json!({"priorities": [{"node": "b1", "priority": 4}]}), "INVALID"),
        (json!({"required_nodes": 4}), "INVALID"),
        (json!({"required_nodes": 1}), "GROUP_HAS_QUORUM"),
        (json!({"priorities": [{"node": "b9", "priority": 1}]}), "MEMBER_NOT_FOUND"),
        (json!({"priorities": nobody}), "GROUP_NEEDS_LEADER"),
    ] {
        let mut body = settings;
        body["vhost"] = json!("/");
        let (status, refused) = set(body.clone());
        assert!((400..500).contains(&status) && refused["code"] == code, "{body}: {status} {refused}");
    }
    assert_eq!(group(&cluster)["nodes"], before["nodes"], "nothing has changed");
    let body = json!({"vhost": "/", "priorities": [{"node": "b1", "priority": 2}], "required_nodes": 3, "reason": "r"});
    assert_eq!(set(body).0, 200);
    let after = group(&cluster);
    assert_eq!((&after["required_nodes"], &after["needed_voters"]), (&json!(3), &json!(3)));
    let b1 = after["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "b1").unwrap().clone();
    assert_eq!(b1["priority"], 2);
    for number in 0..3 {
        let log = cluster[number].wait_log("HA-1012");
        assert!(
            log.contains("HA-1012") && log.contains("priority of b1 in virtual host / changed from 1 to 2"),
            "{log}"
        );
    }
    let (_, audit) = quorate(&mut cluster, &["group", "audit"]);
    let told: Vec<[&str; 4]> = audit["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| ["what", "before", "after", "reason"].map(|field| record[field].as_str().unwrap()))
        // Who leads first is by chance, and then moved to who is preferred.
        .filter(|[what, ..]| *what != "leader")
        .collect();
    assert_eq!(told, [["priority of b1", "1", "2", "r"], ["required nodes", "0", "3", "r"]]);
}
