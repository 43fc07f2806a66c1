//! Every code of the operational log, provoked with real brokers: its text, once, where it happens, and nowhere else.
//! Acceptance H4.

use quorate_core::event::CODES;
use quorate_tests::process::status::get;
use quorate_tests::process::{Broker, Cluster, ClusterPlan, wait_for};
use serde_json::Value;

use crate::operator::quorate;

/// Codes that other tests provoke: the code, the file, and the test in it.
const ELSEWHERE: [(&str, &str, &str); 5] = [
    ("HA-1013", include_str!("forced.rs"), "designated primary of virtual host"),
    ("HA-1014", include_str!("recovery.rs"), "HA-1014"),
    ("SAFE-2001", include_str!("panic.rs"), "wait_log(\"SAFE-2001\")"),
    ("SAFE-2002", include_str!("panic.rs"), "wait_log(\"SAFE-2002\")"),
    ("SAFE-2003", include_str!("../simulation/copies.rs"), "Event::OlderCopy"),
];

/// Something to be told: its code, its text, and by whom.
type Told = (&'static str, String, Vec<usize>);

/// What this broker told of a code since it began, in its own order.
fn texts(broker: &Broker, code: &str) -> Result<Vec<String>, String> {
    let (_, page) = get(&broker.admin_address(), &format!("/api/v1/events?after=0&limit=1000&code={code}"))?;
    let page: Value = serde_json::from_str(&page).map_err(|error| error.to_string())?;
    let events = page["events"].as_array().ok_or("no events")?;
    Ok(events.iter().filter_map(|event| event["text"].as_str()).map(str::to_owned).collect())
}

/// Each is told by these brokers just once, and by none of the others.
fn expect(cluster: &Cluster, running: &[usize], told: &[Told]) {
    wait_for("everything is told where it happened", || {
        for (code, text, by) in told {
            for number in running {
                let all = texts(&cluster[*number], code)?;
                let times = all.iter().filter(|said| *said == text).count();
                assert!(times <= 1, "{code} {text:?}: {times} times by b{}", number + 1);
                if (times == 1) != by.contains(number) {
                    return Err(format!("{code} {text:?}: {times} times by b{}: {all:?}", number + 1));
                }
            }
        }
        Ok(())
    });
}

fn done(cluster: &mut Cluster, arguments: &[&str]) -> Value {
    let (status, answer) = quorate(cluster, arguments);
    assert_eq!(status, 0, "{arguments:?}: {answer}");
    answer
}

/// Who leads this group, by its own word.
fn leader_of(cluster: &Cluster, vhost: &str) -> usize {
    let leads = |number: &usize| cluster[*number].status().is_ok_and(|status| status.role(vhost) == "leader");
    wait_for("a leader", || (0..cluster.size()).find(leads).ok_or_else(|| vhost.to_owned()))
}

#[test]
fn every_code_is_provoked_here_or_in_a_test_that_is_named() {
    let here = include_str!("codes.rs");
    for code in &CODES {
        let elsewhere = ELSEWHERE.iter().find(|(name, ..)| *name == code.name);
        let provoked = here.contains(&format!("\"{}\",", code.name)) && elsewhere.is_none();
        let named = elsewhere.is_some_and(|(_, file, words)| file.contains(words));
        assert_eq!(u8::from(provoked) + u8::from(named), 1, "{}", code.name);
    }
}

#[test]
fn acceptance_h4_every_code_has_its_text_once_on_the_brokers_where_it_happens() {
    let mut cluster = ClusterPlan::of(3).start();
    cluster.wait_active();
    let all = [0, 1, 2];
    let in_vhost = |code: &'static str, text: &str| (code, text.to_owned(), all.to_vec());
    // Founding: nodes, and contact from each to each.
    expect(
        &cluster,
        &all,
        &[
            in_vhost("HA-1001", "node of virtual host system created"),
            in_vhost("HA-1001", "node of virtual host / created"),
            ("HA-1005", "contact with b1 gained".into(), vec![1, 2]),
            ("HA-1005", "contact with b2 gained".into(), vec![0, 2]),
            ("HA-1005", "contact with b3 gained".into(), vec![0, 1]),
        ],
    );
    done(&mut cluster, &["vhost", "create", "orders"]);
    done(&mut cluster, &["group", "set", "--vhost", "/", "--node", "b2", "--priority", "3"]);
    done(&mut cluster, &["group", "set", "--vhost", "/", "--required-nodes", "3"]);
    done(&mut cluster, &["group", "set", "--vhost", "/", "--required-nodes", "0"]);
    let permit = ["member", "permit", "--node", "b1", "--node", "b2", "--node", "b3", "--node", "b4"];
    done(&mut cluster, &permit);
    expect(
        &cluster,
        &all,
        &[
            in_vhost("HA-1001", "node of virtual host orders created"),
            in_vhost("HA-1012", "priority of b2 in virtual host / changed from 1 to 3"),
            in_vhost("HA-1011", "required nodes of virtual host / changed from a majority to 3"),
            in_vhost("HA-1011", "required nodes of virtual host / changed from 3 to a majority"),
            in_vhost(
                "HA-1015",
                "permitted nodes of virtual host system changed from everybody to b1,b2,b3,b4",
            ),
        ],
    );

    // Leadership of `orders` goes to somebody else, who says so; whoever had it was asked.
    let from = leader_of(&cluster, "orders");
    let to = cluster.others(from)[0];
    let name = cluster[to].name().to_owned();
    done(&mut cluster, &["group", "transfer", "--vhost", "orders", "--to", &name]);
    let status = cluster[to].wait_until("leads", |status| status.role("orders") == "leader");
    let term = status.group("orders").unwrap()["term"].as_u64().unwrap();
    let asked = texts(&cluster[from], "HA-1007").unwrap();
    let start = format!("transfer of virtual host orders to {name} requested by local from 127.0.0.1:");
    assert!(asked.len() == 1 && asked[0].starts_with(&start), "{asked:?}");
    let led =
        format!("role in the group of virtual host orders changed from waiting to leader in term {term}");
    expect(&cluster, &all, &[("HA-1007", asked[0].clone(), vec![from]), ("HA-1010", led, vec![to])]);
    let (_, audit) = quorate(&mut cluster, &["group", "audit"]);
    let from_to = |record: &&Value| {
        record["what"] == "leader" && record["before"] == cluster[from].name() && record["after"] == *name
    };
    assert_eq!(audit["records"].as_array().unwrap().iter().filter(from_to).count(), 1, "{audit:#}");

    // A stranger is refused, and a fourth member comes and goes.
    let peers = cluster.peers();
    let other = |name: &str| {
        let mut broker = Broker::single_on(&cluster.path(""), name, &cluster.path(&format!("{name}-data")));
        broker.set_flag("--cluster-peers", &peers);
        broker.set_flag("--cluster-wait-for", "2");
        broker
    };
    let mut intruder = other("b9");
    let mut fourth = other("b4");
    assert_eq!(intruder.run_to_end().status, Some(3));
    let system = leader_of(&cluster, "system");
    let refused = texts(&cluster[system], "HA-1008").unwrap();
    let why = "refused as an intruder: the list of permitted nodes names neither its name nor its store nor its address";
    assert!(
        refused.len() == 1 && refused[0].starts_with("b9 at ") && refused[0].ends_with(why),
        "{refused:?}"
    );
    expect(&cluster, &all, &[("HA-1008", refused[0].clone(), vec![system])]);
    fourth.start();
    done(&mut cluster, &["member", "add", "--name", "b4"]);
    done(&mut cluster, &["member", "remove", "--name", "b4", "--yes"]);
    let roles = ["learner", "voter"].into_iter().flat_map(|role| {
        ["system", "/", "orders"].map(|vhost| {
            in_vhost("HA-1003", &format!("b4 added to the group of virtual host {vhost} as {role}"))
        })
    });
    let mut told: Vec<Told> = roles.collect();
    told.extend(
        ["system", "/", "orders"]
            .map(|vhost| in_vhost("HA-1004", &format!("b4 removed from the group of virtual host {vhost}"))),
    );
    expect(&cluster, &all, &told);

    done(&mut cluster, &["vhost", "delete", "orders", "--confirm", "orders"]);
    expect(&cluster, &all, &[in_vhost("HA-1002", "node of virtual host orders deleted")]);

    loses_its_quorum(&mut cluster);
}

/// Two of three are killed: the last one loses contact with both, and each quorum once.
fn loses_its_quorum(cluster: &mut Cluster) {
    let left = leader_of(cluster, "/");
    let gone = cluster.others(left);
    for number in &gone {
        cluster[*number].kill();
    }
    let mut told: Vec<Told> = gone
        .iter()
        .map(|number| ("HA-1006", format!("contact with b{} lost", number + 1), vec![left]))
        .collect();
    told.push((
        "HA-1009",
        "quorum of virtual host / lost: 1 of 2 needed voters in contact".into(),
        vec![left],
    ));
    told.push((
        "HA-1009",
        "quorum of virtual host system lost: 1 of 2 needed voters in contact".into(),
        vec![left],
    ));
    expect(cluster, &[left], &told);
}
