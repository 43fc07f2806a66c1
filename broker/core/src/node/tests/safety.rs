//! What a broker does about its safety number, and when it panics.

use quorate_store::ids::{Incarnation, RunId, StoreId};
use quorate_store::panic::{PanicCause, PanicFound, PanicRecord};
use quorate_store::stamp::StampIdentity;
use uuid::Uuid;

use super::{link, lone_node, lone_node_after, status, told};
use crate::admin::{AdminReply, AdminRequest, Author, VerdictWord};
use crate::formation::{InitialStatus, samples};
use crate::io::{AdminId, FoundStamp, Input, Output, SessionId, Tick, Ticket};
use crate::machine::SafetyNumbers;
use crate::node::Node;

/// What a broker asks for while it goes on over a disk that answers at once, until this time.
fn asks(node: &mut Node, from: u64, to: u64) -> Vec<Output> {
    let mut asked = Vec::new();
    for now in from..to {
        node.handle(Tick(now), Input::Tick);
        while let Some(output) = node.poll() {
            match &output {
                Output::WriteStamp { ticket, .. }
                | Output::WriteState { ticket, .. }
                | Output::Persist { ticket, .. }
                | Output::ClearPanic { ticket }
                | Output::LookAtStamp { ticket }
                | Output::Panic { ticket, .. } => {
                    node.handle(Tick(now), Input::Persisted { ticket: *ticket });
                }
                Output::Scan { ticket, .. } => {
                    let scanned = Input::Scanned { ticket: *ticket, pairs: Vec::new(), complete: true };
                    node.handle(Tick(now), scanned);
                }
                _ => {}
            }
            asked.push(output);
        }
    }
    asked
}

/// A broker that founded its cluster alone and leads it.
fn leading() -> Node {
    let mut node = lone_node(FoundStamp::Empty);
    node.handle(Tick(0), Input::PeerFailed { dialed: "b:7421".into(), refused: None });
    asks(&mut node, 0, 5000);
    assert_eq!(status(&mut node).verdict, VerdictWord::Active);
    node
}

fn foreign(incarnation: u64) -> Input {
    let run_id = RunId(Uuid::from_u128(77));
    Input::StampForeign {
        found: StampIdentity { incarnation: Incarnation(incarnation), run_id, safety_number: 5 },
    }
}

#[test]
fn the_leader_renews_the_safety_number_each_interval_and_each_number_is_stamped() {
    let mut node = leading();
    let before = status(&mut node).safety;
    let asked = asks(&mut node, 5000, 15_000);
    let after = status(&mut node).safety;
    // An interval is 1 s here.
    assert!((9..=10).contains(&(after.renewals - before.renewals)), "{before:?} {after:?}");
    let mut stamped: Vec<u64> = asked
        .iter()
        .filter_map(|output| match output {
            Output::WriteStamp { stamp, .. } => Some(stamp.safety_number),
            _ => None,
        })
        .collect();
    stamped.dedup();
    assert_eq!(stamped.last(), Some(&after.number));
    assert!((9..=11).contains(&stamped.len()), "each once: {stamped:?}");
    let looks = asked.iter().filter(|output| matches!(output, Output::LookAtStamp { .. })).count();
    assert!((9..=10).contains(&looks), "{looks}");
}

#[test]
fn whoever_finds_another_processs_stamp_does_nothing_more() {
    let mut node = leading();
    let session = SessionId(1);
    node.handle(Tick(5000), Input::SessionOpened { session, address: "c".into(), secure: true });
    asks(&mut node, 5000, 5001);
    node.handle(Tick(5001), foreign(9));
    let asked = asks(&mut node, 5001, 20_000);
    let Some(Output::Panic { record: Some(record), .. }) =
        asked.iter().find(|output| matches!(output, Output::Panic { .. }))
    else {
        panic!("{asked:?}")
    };
    assert_eq!((record.found_number, record.cause), (5, PanicCause::SecondWriter));
    assert_ne!(record.own.safety_number, 0);
    let codes = asked.iter().filter(|output| {
        matches!(output, Output::Event(event) if event.code() == Some("SAFE-2001") || event.text().contains("SAFE-2001"))
    });
    assert_eq!(codes.count(), 1, "said once");
    assert!(
        asked.iter().any(|output| matches!(output, Output::Close { session: closed } if *closed == session))
    );
    for output in &asked {
        let silent = matches!(
            output,
            Output::Panic { .. } | Output::Event(_) | Output::Write { .. } | Output::Close { .. }
        );
        assert!(silent, "{output:?}");
    }
    let shown = status(&mut node);
    assert_eq!((shown.verdict, shown.row.as_str()), (VerdictWord::Panicked, "S1"));
    assert!(shown.reason.contains("0000000000000005"), "both numbers: {}", shown.reason);
    assert!(shown.groups.iter().all(|group| !group.quorum && group.role == "waiting"));
    // Twice is once.
    node.handle(Tick(20_000), foreign(10));
    assert!(!asks(&mut node, 20_000, 20_100).iter().any(|output| matches!(output, Output::Panic { .. })));
    // It goes when it is told to, with nothing to write.
    node.handle(Tick(20_100), Input::Stop);
    assert!(
        asks(&mut node, 20_100, 20_101).iter().any(|output| matches!(output, Output::Exit { status: 0, .. }))
    );
}

#[test]
fn a_panic_is_cleared_by_the_clusters_id_and_the_broker_begins_again() {
    let mut node = leading();
    let clear = |node: &mut Node, confirm: String| {
        let request = AdminRequest::ClearPanic {
            confirm,
            reason: "copy stopped".into(),
            author: Author::local("a test"),
        };
        node.handle(Tick(6000), Input::Admin { id: AdminId(9), request });
        let asked = asks(node, 6000, 6001);
        let reply = asked.iter().find_map(|output| match output {
            Output::AdminReply { reply, .. } => Some(reply.clone()),
            _ => None,
        });
        (reply, asked.iter().any(|output| matches!(output, Output::Restart { .. })))
    };
    let cluster = node.cluster_id.expect("it belongs to one").to_string();
    assert_eq!(clear(&mut node, cluster.clone()), (Some(AdminReply::Done { changed: false }), false));
    node.handle(Tick(5000), foreign(9));
    let (reply, restarts) = clear(&mut node, "another".into());
    assert!(
        matches!(reply, Some(AdminReply::Failed { code: "NOT_CONFIRMED", .. })) && !restarts,
        "{reply:?}"
    );
    assert_eq!(clear(&mut node, cluster), (Some(AdminReply::Done { changed: true }), true));
}

#[test]
fn a_panic_that_cannot_be_kept_stays_while_the_process_does_and_one_that_cannot_be_removed_stays() {
    let mut node = leading();
    node.handle(Tick(5000), foreign(9));
    let not_kept = |node: &mut Node, wanted: fn(&Output) -> Option<Ticket>| {
        let mut asked = Vec::new();
        while let Some(output) = node.poll() {
            if let Some(ticket) = wanted(&output) {
                node.handle(Tick(5000), Input::NotKept { ticket, why: "the disk is full".into() });
            }
            asked.push(output);
        }
        asked
    };
    let asked = not_kept(&mut node, |output| match output {
        Output::Panic { ticket, .. } => Some(*ticket),
        _ => None,
    });
    assert!(
        asked
            .iter()
            .any(|output| matches!(output, Output::Event(event) if event.text().contains("disk is full")))
    );
    assert_eq!(status(&mut node).verdict, VerdictWord::Panicked);
    let confirm = node.cluster_id.expect("it belongs to one").to_string();
    let request =
        AdminRequest::ClearPanic { confirm, reason: String::new(), author: Author::local("a test") };
    node.handle(Tick(5000), Input::Admin { id: AdminId(9), request });
    let asked = not_kept(&mut node, |output| match output {
        Output::ClearPanic { ticket } => Some(*ticket),
        _ => None,
    });
    assert!(asked.iter().any(|output| matches!(
        output,
        Output::AdminReply { reply: AdminReply::Failed { code: "STORE_FAILED", .. }, .. }
    )));
    assert!(!asked.iter().any(|output| matches!(output, Output::Restart { .. })));
    assert_eq!(status(&mut node).verdict, VerdictWord::Panicked);
}

/// A held broker may write nothing, not even that.
#[test]
fn whoever_is_held_keeps_no_panic_file() {
    let mut node = lone_node(FoundStamp::Empty);
    asks(&mut node, 0, 10);
    node.handle(Tick(10), foreign(9));
    let asked = asks(&mut node, 10, 20);
    assert!(asked.iter().any(|output| matches!(output, Output::Panic { record: None, .. })), "{asked:?}");
    assert_eq!(status(&mut node).verdict, VerdictWord::Panicked);
}

#[test]
fn a_panic_found_at_the_start_holds_whatever_file_says_it() {
    for (panic, says) in [
        (PanicFound::Damaged("checksum mismatch".into()), "cannot be read: checksum mismatch"),
        (PanicFound::Panic(Box::new(panic_record())), "0000000000000002"),
    ] {
        let mut node = lone_node_after(FoundStamp::Empty, panic);
        node.handle(Tick(0), Input::PeerFailed { dialed: "b:7421".into(), refused: None });
        let asked = asks(&mut node, 0, 5000);
        assert!(
            asked.iter().all(|output| matches!(
                output,
                Output::Event(_) | Output::Dial { .. } | Output::LookAtStamp { .. }
            )),
            "{asked:?}"
        );
        let shown = status(&mut node);
        assert_eq!((shown.verdict, shown.row.as_str()), (VerdictWord::Panicked, "S1"));
        assert!(shown.reason.contains(says), "{}", shown.reason);
    }
}

fn panic_record() -> PanicRecord {
    PanicRecord {
        cluster_id: None,
        store_id: StoreId(Uuid::from_u128(1)),
        own: StampIdentity {
            incarnation: Incarnation(1),
            run_id: RunId(Uuid::from_u128(1)),
            safety_number: 1,
        },
        cause: PanicCause::TwoHistories,
        found_number: 2,
        found: "b".into(),
        when_ms: 0,
    }
}

/// A renewed number alone is no news to anybody's decision; another history's is.
#[test]
fn a_renewed_safety_number_of_a_peer_changes_no_fact() {
    let mut node = lone_node(FoundStamp::Empty);
    let mut peer = samples::active(2);
    peer.safety.renew(1);
    link(&mut node, &peer);
    told(&mut node, &peer);
    while node.poll().is_some() {}
    let news = |node: &mut Node, peer: &InitialStatus| {
        node.facts_changed = false;
        told(node, peer);
        std::mem::take(&mut node.facts_changed)
    };
    peer.safety.renew(2);
    peer.groups[0].position.index.0 += 1;
    assert!(!news(&mut node, &peer));
    peer.groups[0].term.0 += 1;
    assert!(news(&mut node, &peer));
    let mut other = SafetyNumbers::default();
    other.renew(1);
    other.renew(3);
    peer.safety = other;
    assert!(news(&mut node, &peer), "another history");
}
