use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use quorate_core::admin::{
    AdminReply, AdminRequest, AuditPage, Author, Explanation, GroupAct, GroupReport, GroupStatusView,
    GroupVerdict, MemberAct, MemberReport, MemberShutdown, MemberStatus, Metrics, NodeStatus, PanicView,
    SafetyView, ShutdownReport, Status, VerdictWord,
};
use quorate_core::controls::{AuditRecord, Controls};
use quorate_core::formation::status::{GroupStatus, RecoveryMode, StoreState, VoterRef};
use quorate_core::formation::{Facts, InitialStatus};
use quorate_core::io::{Input, PeerKey};
use quorate_core::machine::SafetyNumbers;
use quorate_store::ids::{
    ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term,
};
use quorate_store::panic::{PanicCause, PanicRecord};
use quorate_store::stamp::{Durability, EpochCause, EpochEntry, StampIdentity};
use serde_json::{Value, json};
use uuid::Uuid;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::inbox::{Arrival, Arrivals, Inbox};

fn sample_status() -> Status {
    Status {
        verdict: VerdictWord::Active,
        row: "J1".into(),
        reason: "led".into(),
        missing: vec!["b3".into()],
        next: vec!["quorate cluster explain".into()],
        notes: vec!["b2 is missing".into()],
        name: "b1".into(),
        store_id: StoreId(Uuid::from_u128(1)),
        state: "dirty",
        cluster_name: "quorate".into(),
        cluster_id: Some(ClusterId(Uuid::from_u128(2))),
        epoch: Epoch(1),
        transient: false,
        wait_for: 2,
        members: vec![MemberStatus {
            name: "b1".into(),
            store_id: StoreId(Uuid::from_u128(1)),
            incarnation: Incarnation(3),
            address: "h:1".into(),
            client_address: "h:2".into(),
            admin_address: "h:3".into(),
            state: "dirty",
            present: true,
            voter: true,
            drained: false,
            change: None,
            panicked: None,
            needs_operator: None,
        }],
        permitted_nodes: vec!["b1".into()],
        quarantine_bytes: 4,
        log_bytes: 5,
        space_low: false,
        safety: SafetyView { number: 0xAB, renewals: 3, panic: None },
        groups: vec![group(0, "system", "replica", false), group(1, "/", "leader", true)],
    }
}

fn group(number: u32, vhost: &str, role: &'static str, quorum: bool) -> GroupStatusView {
    GroupStatusView {
        group: GroupId(number),
        vhost: vhost.into(),
        leader: Some("b1".into()),
        leader_client_address: Some("h:2".into()),
        epoch: Epoch(1),
        term: Term(6),
        commit: Index(7),
        applied: Index(7),
        quorum,
        role,
        own_lag: 10,
        digest: 0xabc,
        updating: None,
        required_nodes: 0,
        needed_voters: 2,
        in_force: None,
        designated_primary: None,
        durability: Controls::default().policy(),
        durability_here: Controls::default().policy(),
        durability_weakest: Durability::Sync,
        loss_window: "nothing".into(),
        may_lack: None,
        gate: None,
        nodes: vec![NodeStatus {
            name: "b1".into(),
            role: "leader",
            matched: Some(Index(7)),
            lag: Some(0),
            priority: 1,
        }],
        verdict: (number > 0).then(|| GroupVerdict {
            verdict: VerdictWord::Active,
            row: "J1".into(),
            reason: "led".into(),
            missing: Vec::new(),
            next: vec!["quorate queue list".into()],
        }),
    }
}

/// A broker that waits for a second one.
fn sample_explanation() -> Explanation {
    let store = StoreId(Uuid::from_u128(1));
    let part = GroupStatus {
        group: GroupId::SYSTEM,
        vhost: "system".into(),
        lineage: vec![EpochEntry {
            number: Epoch(1),
            id: Uuid::from_u128(3),
            fork: Position::default(),
            term: Term(1),
            cause: EpochCause::Founding,
            left_out: Vec::new(),
            who: "founding".into(),
            when_ms: 0,
            why: "new".into(),
        }],
        client_epochs: Vec::new(),
        position: Position { epoch: Epoch(1), term: Term(6), index: Index(7) },
        term: Term(6),
        voters: [(1, "b1"), (2, "b2")]
            .map(|(number, name)| VoterRef {
                store: StoreId(Uuid::from_u128(number)),
                name: name.into(),
                raft_id: RaftId(1),
            })
            .to_vec(),
        learners: Vec::new(),
        trusted: true,
        active: None,
        was_active_this_run: false,
        designated: None,
        peer_silent: false,
    };
    let own = InitialStatus {
        key: PeerKey { store, run: RunId(Uuid::from_u128(4)) },
        name: "b1".into(),
        cluster_name: "quorate".into(),
        cluster_address: "h:1".into(),
        client_address: "h:2".into(),
        admin_address: "h:3".into(),
        state: StoreState::Dirty,
        cluster_id: Some(ClusterId(Uuid::from_u128(2))),
        cluster_id_wanted: None,
        founded_ms: None,
        messages: None,
        incarnation: Incarnation(3),
        stamped_run: None,
        recorded: Vec::new(),
        groups: vec![part],
        wait_for: 1,
        allow_small: false,
        recovery: RecoveryMode::Automatic,
        peers: Vec::new(),
        possible_members: Vec::new(),
        panicked: None,
        safety: SafetyNumbers::default(),
        deleted: Vec::new(),
        rivalled: Vec::new(),
    };
    Explanation::of(Facts { own, seen: Vec::new() })
}

mod document;

#[test]
fn an_explanation_has_the_row_the_facts_and_what_was_tried() {
    with_server(sample_status(), |address| {
        let (code, explained) = get(&format!("{address}/api/v1/explain"));
        assert_eq!(code, 200);
        let group = &explained["groups"][0];
        assert_eq!((&group["row"], &group["verdict"]), (&json!("W2"), &json!("wait")));
        assert_eq!(group["missing"], json!(["b2"]));
        let tried: Vec<&str> =
            group["earlier"].as_array().unwrap().iter().map(|row| row["row"].as_str().unwrap()).collect();
        assert_eq!(tried.first(), Some(&"S1"));
        assert_eq!(tried.last(), Some(&"C1"));
        let holds = &group["members"][0]["holds"];
        assert_eq!((&holds["position"], &holds["voters"]), (&json!("1.6.7"), &json!(["b1", "b2"])));
    });
}

fn sample_panic() -> SafetyView {
    let record = PanicRecord {
        cluster_id: Some(ClusterId(Uuid::from_u128(2))),
        store_id: StoreId(Uuid::from_u128(1)),
        own: StampIdentity {
            incarnation: Incarnation(3),
            run_id: RunId(Uuid::from_u128(4)),
            safety_number: 5,
        },
        cause: PanicCause::SecondWriter,
        found_number: 6,
        found: "somebody".into(),
        when_ms: 7,
    };
    let panic = PanicView {
        text: record.to_string(),
        record: Some(record),
        before_start: false,
        next: vec!["quorate cluster panic show".into()],
    };
    SafetyView { number: 5, renewals: 2, panic: Some(panic) }
}

/// A core that gives the same answers always.
fn answer(desk: &AdminDesk, arrivals: &mut Arrivals, status: &Status) {
    while let Some(arrival) = arrivals.blocking_recv() {
        let Arrival::Input(Input::Admin { id, request }, None) = arrival else { panic!("{arrival:?}") };
        let reply = match request {
            AdminRequest::Status => AdminReply::Status(Box::new(status.clone())),
            AdminRequest::Explain => AdminReply::Explain(Box::new(sample_explanation())),
            AdminRequest::Safety => AdminReply::Safety(Box::new(sample_panic())),
            AdminRequest::ClearPanic { confirm, reason, .. } if confirm == "id" => {
                AdminReply::Done { changed: reason != "again" }
            }
            AdminRequest::ClearPanic { .. } => AdminReply::Failed {
                code: "NOT_CONFIRMED",
                message: "no".into(),
                next: Vec::new(),
                leader_admin_address: None,
            },
            AdminRequest::Metrics => AdminReply::Metrics(Box::new(Metrics { samples: Vec::new() })),
            AdminRequest::CreateVhost { name, .. } if name == "new" => AdminReply::Done { changed: true },
            AdminRequest::CreateVhost { name, .. } if name == "old" => AdminReply::Done { changed: false },
            AdminRequest::CreateVhost { name, .. } if name == "elsewhere" => AdminReply::Failed {
                code: "NOT_LEADER",
                message: "ask b2".into(),
                next: vec!["quorate vhost create".into()],
                leader_admin_address: Some("h2:3".into()),
            },
            AdminRequest::CreateVhost { .. } => AdminReply::Failed {
                code: "NO_QUORUM",
                message: "alone".into(),
                next: Vec::new(),
                leader_admin_address: None,
            },
            AdminRequest::Member(request) if request.name == "nobody" => AdminReply::Failed {
                code: "MEMBER_NOT_FOUND",
                message: "no".into(),
                next: Vec::new(),
                leader_admin_address: None,
            },
            AdminRequest::Member(request) => AdminReply::Member(Box::new(MemberReport {
                name: request.name,
                store_id: Some(status.store_id),
                changed: true,
                complete: request.act == MemberAct::Add,
                detail: format!("{:?} {:?}", request.act, request.address),
            })),
            AdminRequest::Group(request) if request.vhost.as_deref() == Some("none") => AdminReply::Failed {
                code: "VHOST_NOT_FOUND",
                message: "no".into(),
                next: Vec::new(),
                leader_admin_address: None,
            },
            AdminRequest::Group(request) => AdminReply::Group(Box::new(GroupReport {
                vhost: request.vhost.unwrap_or_else(|| "system".into()),
                changed: true,
                messages: matches!(request.act, GroupAct::DeleteVhost { .. }).then_some(7),
                detail: format!("{:?} for {}: {}", request.act, request.author.who, request.reason),
            })),
            AdminRequest::Audit => AdminReply::Audit(vec![AuditPage {
                vhost: "/".into(),
                records: vec![AuditRecord {
                    index: Index(9),
                    at_ms: 1000,
                    author: Author::local("h:1"),
                    reason: "why".into(),
                    what: "required nodes".into(),
                    before: "0".into(),
                    after: "3".into(),
                }],
            }]),
            AdminRequest::Shutdown { .. } => AdminReply::ShutDown(Box::new(ShutdownReport {
                id: Uuid::from_u128(7),
                transient: false,
                members: vec![MemberShutdown {
                    name: "b1".into(),
                    store_id: status.store_id,
                    why_not_clean: Some("slow".into()),
                }],
            })),
        };
        desk.answer(id, reply);
    }
}

/// Serves the status on a free port of loopback; gives its address to `work`.
fn with_server(status: Status, work: impl FnOnce(&str) + Send + 'static) {
    with_server_within(server::Limits::default(), status, work);
}

fn with_server_within(limits: server::Limits, status: Status, work: impl FnOnce(&str) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (inbox, mut arrivals) = Inbox::new();
    let desk = AdminDesk::new(inbox);
    let core_desk = desk.clone();
    thread::spawn(move || answer(&core_desk, &mut arrivals, &status));
    let pulse = Arc::<Pulse>::default();
    pulse.beat();
    let state = AdminState::new(desk, Arc::default(), Arc::new(EventLog::new("b1")), pulse);
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (_open, closing) = oneshot::channel();
        tokio::spawn(server::serve_within(limits, listener, None, state, closing));
        tokio::task::spawn_blocking(move || work(&address)).await.unwrap();
    });
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn get(url: &str) -> (u16, Value) {
    let mut response = agent().get(url).call().unwrap();
    (response.status().as_u16(), response.body_mut().read_json().unwrap())
}

fn post(url: &str, kind: &str, body: &str) -> (u16, Value) {
    let mut response = agent().post(url).header("content-type", kind).send(body).unwrap();
    (response.status().as_u16(), response.body_mut().read_json().unwrap())
}

#[test]
fn the_status_has_the_promised_shape() {
    with_server(sample_status(), |address| {
        let (code, status) = get(&format!("{address}/api/v1/status"));
        assert_eq!(code, 200);
        let member = json!({"name": "b1", "store_id": "00000000-0000-0000-0000-000000000001", "incarnation": 3, "address": "h:1",
            "client_address": "h:2", "admin_address": "h:3", "state": "dirty", "present": true, "voter": true, "drained": false, "change": null, "panicked": null, "needs_operator": null});
        let group = |number: u32, vhost: &str, role: &str, quorum: bool| {
            let shown = |text: &str| if number > 0 { json!(text) } else { Value::Null };
            let next: &[&str] = if number > 0 { &["quorate queue list"] } else { &[] };
            json!({"verdict": shown("active"), "row": shown("J1"), "reason": shown("led"), "missing": [], "next": next,
                "group": number, "vhost": vhost, "leader": "b1", "leader_client_address": "h:2", "epoch": 1, "term": 6,
                "commit": 7, "applied": 7, "quorum": quorum, "role": role, "own_lag": 10, "digest": "0000000000000abc",
                "updating": null, "required_nodes": 0, "needed_voters": 2, "gate": null, "durability": "sync,sync",
                "durability_here": "sync,sync", "durability_weakest": "sync", "loss_window": "nothing", "may_lack": null,
                "in_force": null, "designated_primary": null,
                "nodes": [{"name": "b1", "role": "leader", "match": 7, "lag": 0, "priority": 1}]})
        };
        assert_eq!(
            status,
            json!({"verdict": "active", "row": "J1", "reason": "led", "missing": ["b3"], "state": "dirty", "next": ["quorate cluster explain"],
                "notes": ["b2 is missing"], "name": "b1",
                "store_id": "00000000-0000-0000-0000-000000000001", "cluster_name": "quorate",
                "cluster_id": "00000000-0000-0000-0000-000000000002", "epoch": 1, "kind": "persistent", "wait_for": 2,
                "insecure": false, "space_low": false, "members": [member], "permitted_nodes": ["b1"],
                "quarantine_bytes": 4, "log_bytes": 5,
                "safety_number": "00000000000000ab", "safety_renewals": 3, "panic": null,
                "groups": [group(0, "system", "replica", false), group(1, "/", "leader", true)]})
        );
        assert_eq!(get(&format!("{address}/api/v1/members")).1, json!({"members": [member]}));
        assert_eq!(
            get(&format!("{address}/api/v1/vhosts")).1,
            json!({"vhosts": [{"name": "/", "group": 1, "leader": "b1", "quorum": true}]})
        );
    });
}

#[test]
fn a_broker_without_a_store_keeps_no_loss() {
    with_server(sample_status(), |address| {
        let (code, body) = get(&format!("{address}/api/v1/losses?limit=5"));
        assert_eq!((code, &body["losses"], &body["more"]), (200, &json!([]), &json!(false)), "{body}");
        assert_eq!((&body["name"], &body["data_dir"]), (&json!("b1"), &Value::Null));
        assert_eq!(get(&format!("{address}/api/v1/losses?after=x")).0, 400);
        assert_eq!(get(&format!("{address}/api/v1/losses?more=1")).0, 400);
    });
}

#[test]
fn a_page_whose_name_leads_here_is_refused_and_health_is_not() {
    with_server(sample_status(), |address| {
        let asked = |path: &str, host: &str| {
            let mut response = agent().get(format!("{address}{path}")).header("host", host).call().unwrap();
            (response.status().as_u16(), response.body_mut().read_json::<Value>().unwrap())
        };
        for path in ["/api/v1/status", "/api/v1/openapi.json", "/nothing"] {
            let (code, body) = asked(path, "evil.example:7422");
            assert_eq!((code, &body["code"]), (403, &json!("unknown-host")), "{body}");
            assert!(body["message"].as_str().unwrap().contains("evil.example"), "{body}");
        }
        assert_eq!(asked("/api/v1/status", "localhost:7422").0, 200);
        assert_eq!(asked("/health/live", "balancer.example").0, 200);
    });
}

#[test]
fn health_answers_follow_the_roles() {
    with_server(sample_status(), |address| {
        for (path, expected) in [
            ("/health/startup", 200),
            ("/health/live", 200),
            ("/health/ready", 200),
            ("/health/leader", 200),
            ("/health/leader?vhost=/", 200),
            ("/health/leader?vhost=system", 503),
            ("/health/leader?vhost=none", 503),
            ("/health/replica?vhost=system", 200),
            ("/health/replica?vhost=system&max_lag=10", 200),
            ("/health/replica?vhost=system&max_lag=9", 503),
            ("/health/replica?vhost=/", 503),
            ("/health/replica?max_lag=many", 400),
        ] {
            let (code, body) = get(&format!("{address}{path}"));
            assert_eq!(code, expected, "{path}: {body}");
            if code != 200 {
                let keys: BTreeSet<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(keys, BTreeSet::from(["code", "message", "next"]), "{path}");
            }
        }
    });
}

#[test]
fn only_an_active_broker_in_its_role_is_ready() {
    assert_eq!(health::why_not_ready(&sample_status()), None);
    for verdict in [
        VerdictWord::Waiting,
        VerdictWord::Joining,
        VerdictWord::NeedsOperator,
        VerdictWord::Held,
        VerdictWord::Panicked,
    ] {
        assert!(health::why_not_ready(&Status { verdict, ..sample_status() }).is_some());
    }
    let changed = |change: fn(&mut GroupStatusView)| {
        let mut status = sample_status();
        status.groups.iter_mut().for_each(change);
        health::why_not_ready(&status)
    };
    assert!(changed(|group| group.quorum = false).unwrap().contains("no quorum"));
    assert!(changed(|group| group.own_lag = 10_001).unwrap().contains("behind"));
    assert!(changed(|group| group.leader = None).unwrap().contains("no leader"));
    assert!(changed(|group| group.updating = Some(1)).unwrap().contains("updated"));
    assert!(changed(|group| group.role = "learner").unwrap().contains("learner"));
}

#[test]
fn a_panicked_broker_says_so_in_health_and_is_cleared_by_confirmation_only() {
    let status = Status { verdict: VerdictWord::Panicked, ..sample_status() };
    with_server(status, |address| {
        let (code, body) = get(&format!("{address}/health/ready"));
        assert_eq!((code, &body["code"]), (503, &json!("panicked")));
        assert_eq!(get(&format!("{address}/health/live")).0, 200);
        let (code, body) = get(&format!("{address}/api/v1/cluster/panic"));
        assert_eq!((code, &body["panicked"], &body["cause"]), (200, &json!(true), &json!("second-writer")));
        assert_eq!(
            (&body["own_number"], &body["found_number"]),
            (&json!("0000000000000005"), &json!("0000000000000006"))
        );
        let url = format!("{address}/api/v1/cluster/panic/clear");
        let clear = |body: Value| post(&url, "application/json", &body.to_string());
        assert_eq!(clear(json!({"confirm": "id"})), (200, json!({"cleared": true})));
        assert_eq!(clear(json!({"confirm": "id", "reason": "again"})), (200, json!({"cleared": false})));
        assert_eq!(clear(json!({"confirm": "other"})).0, 400);
        assert_eq!(clear(json!({"confirm": "id", "reason": "\n"})).0, 400);
        assert_eq!(clear(json!({"reason": "none"})).0, 400);
        assert_eq!(get(&url).0, 405);
    });
}

#[test]
fn virtual_hosts_are_made_by_post_with_json_only() {
    with_server(sample_status(), |address| {
        let url = format!("{address}/api/v1/vhosts");
        let create = |name| post(&url, "application/json", &json!({ "name": name }).to_string());
        assert_eq!(create("new"), (201, json!({"name": "new", "created": true})));
        assert_eq!(create("old"), (200, json!({"name": "old", "created": false})));
        let (code, body) = post(&url, "application/json", "{\"name\":\"elsewhere\"}");
        assert_eq!(code, 421);
        assert_eq!(
            body,
            json!({"code": "NOT_LEADER", "message": "ask b2", "next": ["quorate vhost create"], "leader_admin_address": "h2:3"})
        );
        assert_eq!(post(&url, "application/json", "{\"name\":\"x\"}").0, 503);
        assert_eq!(post(&url, "text/plain", "{\"name\":\"new\"}").0, 415);
        assert_eq!(post(&url, "application/json", "{\"nam\":\"new\"}").0, 400);
        assert_eq!(post(&url, "application/json", "{").0, 400);
        assert_eq!(post(&format!("{address}/api/v1/status"), "application/json", "{}").0, 405);
        assert_eq!(get(&format!("{address}/api/v1/nothing")).0, 404);
    });
}

#[test]
fn metrics_are_served_as_text() {
    with_server(sample_status(), |address| {
        let mut response = agent().get(format!("{address}/metrics")).call().unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = response.body_mut().read_to_string().unwrap();
        assert!(text.contains("\nquorate_core_rounds_total 0\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    });
}

#[test]
fn a_shutdown_is_reported_member_by_member() {
    with_server(sample_status(), |address| {
        let url = format!("{address}/api/v1/cluster/shutdown");
        let (code, report) = post(&url, "application/json", r#"{"reason": "kernel"}"#);
        assert_eq!(code, 200);
        let member = json!({"name": "b1", "store_id": "00000000-0000-0000-0000-000000000001", "clean": false,
            "stopped": false, "detail": "slow"});
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(report, json!({"shutdown_id": id, "transient": false, "members": [member]}));
        for reason in ["", "  ", "two\\nlines"] {
            let (code, error) = post(&url, "application/json", &format!(r#"{{"reason": "{reason}"}}"#));
            assert_eq!((code, error["code"].as_str()), (400, Some("invalid")), "{reason:?}");
        }
    });
}

#[test]
fn a_change_of_membership_says_whether_it_is_complete() {
    with_server(sample_status(), |address| {
        let address = address.to_owned();
        let post = |act: &str, body: Value| {
            let mut response =
                agent().post(format!("{address}/api/v1/members/{act}")).send_json(body).unwrap();
            let status = response.status().as_u16();
            (status, response.body_mut().read_json::<Value>().unwrap())
        };
        let (status, report) = post("add", json!({"name": "b4", "address": "h4:1"}));
        let id = Uuid::from_u128(1).to_string();
        let expected = json!({"name": "b4", "store_id": id, "changed": true, "complete": true, "detail": "Add Some(\"h4:1\")"});
        assert_eq!((status, report), (200, expected));
        for (act, word) in
            [("remove", "Remove"), ("replace", "Replace"), ("drain", "Drain"), ("resume", "Resume")]
        {
            let (status, report) = post(act, json!({"name": "b1"}));
            assert_eq!((status, &report["complete"]), (202, &json!(false)));
            assert_eq!(report["detail"], format!("{word} None"));
            assert_eq!(post(act, json!({"name": "nobody"})).0, 404);
            assert_eq!(post(act, json!({"name": ""})).0, 400);
            assert_eq!(post(act, json!({"name": "b1", "address": "h4:1"})).0, 400);
        }
    });
}

#[test]
fn the_controls_of_a_group_are_set_and_their_audit_is_read() {
    with_server(sample_status(), |address| {
        let address = address.to_owned();
        let send = |path: &str, body: Value| {
            post(&format!("{address}/api/v1/{path}"), "application/json", &body.to_string())
        };
        let (status, report) = send(
            "groups/set",
            json!({"vhost": "/", "priorities": [{"node": "b2", "priority": 3}], "required_nodes": 3, "durability": "sync,no-sync", "reason": "r"}),
        );
        assert_eq!((status, &report["vhost"], &report["changed"]), (200, &json!("/"), &json!(true)));
        let told = report["detail"].as_str().unwrap();
        assert!(told.contains("Priority { node: \"b2\", priority: 3 }, RequiredNodes(3), Durability(DurabilityPolicy { leader: Sync, replicas: NoSync })"), "{told}");
        assert!(told.ends_with("for local: r"), "{told}");
        assert_eq!(send("groups/set", json!({"vhost": "none", "required_nodes": 1})).0, 404);
        assert_eq!(send("groups/set", json!({"vhost": "/", "required_nodes": -1})).0, 400);
        assert_eq!(send("groups/set", json!({"vhost": "/", "durability": "sync"})).0, 400);
        assert_eq!(send("groups/set", json!({"vhost": "/", "colour": 1})).0, 400);
        let twice = json!([{"node": "b2", "priority": 3}, {"node": "b2", "priority": 1}]);
        let (status, refused) = send("groups/set", json!({"vhost": "/", "priorities": twice}));
        assert_eq!(
            (status, &refused["message"]),
            (400, &json!("priorities name b2 twice: nothing was changed"))
        );
        let (status, report) =
            send("groups/transfer", json!({"vhost": "system", "to": "b2", "timeout_ms": 50}));
        assert_eq!((status, &report["vhost"]), (200, &json!("system")));
        assert!(report["detail"].as_str().unwrap().contains("within_millis: 50"), "{report}");
        assert_eq!(send("groups/transfer", json!({"vhost": "/"})).0, 400, "to whom?");
        assert_eq!(send("groups/transfer", json!({"to": "b2"})).0, 400, "of which?");
        let (status, report) = send("members/permit", json!({"nodes": ["b1", "b1"]}));
        assert_eq!((status, &report["vhost"]), (200, &json!("system")));
        let (_, groups) = get(&format!("{address}/api/v1/groups"));
        let group = &groups["groups"][1];
        assert_eq!(
            (&group["required_nodes"], &group["needed_voters"], &group["gate"]),
            (&json!(0), &json!(2), &Value::Null)
        );
        let (_, audit) = get(&format!("{address}/api/v1/audit"));
        let record = json!({"vhost": "/", "index": 9, "at_ms": 1000, "time": "1970-01-01T00:00:01.000Z", "who": "local",
            "address": "h:1", "reason": "why", "what": "required nodes", "before": "0", "after": "3"});
        assert_eq!(audit["records"][0], record);
    });
}

/// What comes until the end of a connection on which this was sent.
fn sent(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // An end by reset is an end.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn whoever_does_not_finish_a_request_is_not_waited_for() {
    let limits = server::Limits { head: Duration::from_millis(100), ..server::Limits::default() };
    with_server_within(limits, sample_status(), |address| {
        let began = Instant::now();
        sent(address, b"GET /health/live HTTP/1.1\r\nHost:");
        // A connection on which nothing follows an answer ends as well.
        assert!(sent(address, b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200"));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

#[test]
fn a_head_or_body_that_is_too_large_is_refused() {
    with_server(sample_status(), |address| {
        let long = "x".repeat(64 << 10);
        let head = format!("GET /health/live HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n");
        assert!(sent(address, head.as_bytes()).starts_with("HTTP/1.1 431"), "a head");
        let many = "X: x\r\n".repeat(100);
        let head = format!("GET /health/live HTTP/1.1\r\nHost: h\r\n{many}\r\n");
        assert!(sent(address, head.as_bytes()).starts_with("HTTP/1.1 431"), "too many fields");
        let (status, error) =
            post(&format!("{address}/api/v1/vhosts"), "application/json", &"x".repeat(65 << 10));
        assert_eq!((status, &error["code"]), (413, &json!("too-large")));
    });
}

#[test]
fn more_connections_than_there_may_be_are_turned_away() {
    let limits = server::Limits { connections: 2, ..server::Limits::default() };
    with_server_within(limits, sample_status(), |address| {
        let ask = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n";
        let held: Vec<TcpStream> = (0..2)
            .map(|_| {
                let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
                stream.write_all(ask).unwrap();
                stream.read_exact(&mut [0; 12]).unwrap();
                stream
            })
            .collect();
        // Who has sent something already may be told by a reset.
        let answer = sent(address, b"");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"busy\""), "{answer}");
        drop(held);
    });
}
