//! Virtual hosts deleted with the tool while brokers run, are away, and are killed. Acceptance H4: HA-1002.

use quorate_client::Error;
use quorate_tests::process::status::{get, post};
use quorate_tests::process::{Cluster, ClusterPlan, messages, wait_for};
use serde_json::{Value, json};

use crate::operator::quorate;

const VHOST: &str = "orders";
const QUEUE: &str = "q";
const CODE: &str = "HA-1002";
const TEXT: &str = "node of virtual host orders deleted";

fn told(cluster: &Cluster, number: usize) -> usize {
    cluster[number].log_text().lines().filter(|line| line.contains(CODE) && line.contains(TEXT)).count()
}

fn create(cluster: &mut Cluster) {
    let (status, created) = quorate(cluster, &["vhost", "create", VHOST]);
    assert_eq!((status, &created["created"]), (0, &json!(true)), "{created}");
    wait_for("everybody has it", || {
        let has = |number: usize| Ok(groups(cluster, number)?.iter().any(|(vhost, _)| vhost == VHOST));
        let all = (0..cluster.size()).map(has).collect::<Result<Vec<bool>, String>>()?;
        if all.iter().all(|has| *has) { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

fn groups(cluster: &Cluster, number: usize) -> Result<Vec<(String, u64)>, String> {
    let status = cluster[number].status()?;
    let groups = status.0["groups"].as_array().cloned().unwrap_or_default();
    let named =
        |group: &Value| (group["vhost"].as_str().unwrap().to_owned(), group["commit"].as_u64().unwrap());
    Ok(groups.iter().map(named).collect())
}

fn wait_gone(cluster: &Cluster, numbers: &[usize]) {
    wait_for("nobody has it", || {
        for number in numbers {
            let groups = groups(cluster, *number)?;
            if groups.iter().any(|(vhost, _)| vhost == VHOST) || told(cluster, *number) == 0 {
                return Err(format!("b{}: {groups:?}", number + 1));
            }
        }
        Ok(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_h4_deleted_with_the_tool_it_is_gone_from_every_broker_once_and_does_not_come_back() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster.start_all();
    cluster.wait_active();
    create(&mut cluster);
    let url = format!("{}/{VHOST}", cluster.url());
    let (client, publisher) = messages::connect_and_publish(&url, QUEUE, 0..100, 100).await;
    // Whoever is away has all of it on its disk.
    let away = 2;
    cluster[away].kill();
    // Whoever leads `system` counts what it has applied.
    wait_for("both have everything", || {
        let (one, other) = (cluster[0].status()?, cluster[1].status()?);
        let led = one.leader(VHOST).is_some() && one.leader(VHOST) == other.leader(VHOST);
        let equal = led && one.digest(VHOST).is_some() && one.digest(VHOST) == other.digest(VHOST);
        if equal { Ok(()) } else { Err(format!("{:?}, {:?}", one.group(VHOST), other.group(VHOST))) }
    });
    let (status, refused) = quorate(&mut cluster, &["vhost", "delete", VHOST]);
    assert_eq!(status, 64, "nobody is here to answer: {refused}");
    let (status, refused) = quorate(&mut cluster, &["vhost", "delete", VHOST, "--confirm", "other"]);
    assert_eq!((status, &refused["code"]), (2, &json!("NOT_CONFIRMED")), "{refused}");
    let delete = ["vhost", "delete", VHOST, "--confirm", VHOST, "--reason", "a test"];
    let (status, deleted) = quorate(&mut cluster, &delete);
    assert_eq!(status, 0, "{deleted}");
    assert_eq!((&deleted["deleted"], &deleted["messages"]), (&json!(true), &json!(100)), "{deleted}");
    wait_gone(&cluster, &[0, 1]);
    // Its client is told so, for good.
    let ended = publisher.publish("", QUEUE, vec![1]).await;
    let error = match ended {
        Ok(confirm) => confirm.await.err(),
        Err(error) => Some(error),
    };
    let error: Error = error.expect("nothing takes it");
    assert!(!error.is_retryable() && error.to_string().contains("VHOST_NOT_FOUND"), "{error}");
    client.close().await;
    // Who was away hears of it when it is back, and takes its own away.
    cluster[away].start();
    wait_gone(&cluster, &[0, 1, 2]);
    cluster.wait_active();
    assert_eq!([0, 1, 2].map(|number| told(&cluster, number)), [1, 1, 1]);
    for number in 0..3 {
        let (_, metrics) = get(&cluster[number].admin_address(), "/metrics").unwrap();
        assert!(metrics.contains("quorate_events_total{code=\"HA-1002\"} 1\n"), "{metrics}");
    }
    let (_, audit) = quorate(&mut cluster, &["group", "audit"]);
    let records = audit["records"].as_array().or(audit.as_array()).cloned().unwrap_or_default();
    let noted: Vec<&Value> =
        records.iter().filter(|record| record["what"] == "virtual host orders").collect();
    let [created, record] = noted[..] else { panic!("created and deleted: {audit:#}") };
    assert_eq!((&created["before"], &created["after"]), (&json!("none"), &json!("created")));
    assert_eq!((&record["vhost"], &record["reason"]), (&json!("system"), &json!("a test")), "{record}");
    assert_eq!((&record["before"], &record["after"]), (&json!("group 2, 100 messages"), &json!("deleted")));
    // Nobody brings it back, and nobody says it again.
    for number in 0..3 {
        cluster[number].kill();
    }
    cluster.start_all();
    cluster.wait_active();
    for number in 0..3 {
        assert_eq!((told(&cluster, number), groups(&cluster, number).unwrap().len()), (0, 2));
    }
    let (status, again) = quorate(&mut cluster, &delete);
    assert_eq!((status, &again["code"]), (2, &json!("VHOST_NOT_FOUND")), "{again}");
    // Under its name there may be another one.
    create(&mut cluster);
    let client = messages::connect_with_queue(&url, QUEUE).await;
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), Vec::<u64>::new());
    client.close().await;
}

#[test]
fn of_two_operators_at_once_one_deletes_and_both_are_told_that_it_is_gone() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_active();
    create(&mut cluster);
    let (_, view) = get(&cluster[leader].admin_address(), "/api/v1/vhosts").unwrap();
    let view: Value = serde_json::from_str(&view).unwrap();
    let known = view["vhosts"].as_array().unwrap().iter().find(|vhost| vhost["name"] == VHOST).unwrap();
    let body = json!({"name": VHOST, "confirm": VHOST, "group": known["group"], "reason": "at once"});
    let admins: Vec<String> = (0..3).map(|number| cluster[number].admin_address()).collect();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let ask = |_| {
            scope.spawn(|| {
                // The one of the three that leads `system` answers.
                let answers =
                    admins.iter().filter_map(|admin| post(admin, "/api/v1/vhosts/delete", &body).ok());
                let mut done = answers.filter(|(status, _)| *status == 200);
                serde_json::from_str::<Value>(&done.next().expect("one of them leads").1).unwrap()
            })
        };
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let deleted = answers.iter().filter(|answer| answer["deleted"] == true).count();
    assert_eq!(deleted, 1, "{answers:?}");
    wait_gone(&cluster, &[0, 1, 2]);
    assert_eq!([0, 1, 2].map(|number| told(&cluster, number)), [1, 1, 1]);
}
