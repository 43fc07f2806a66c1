use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::codec::Reader;

fn act(changes: Vec<Change>) -> Act {
    let author = Author { who: "anna".into(), address: "127.0.0.1:1".into() };
    Act { at_ms: 7, author, reason: "a test".into(), changes }
}

fn priority(node: u64, priority: u8) -> Change {
    Change::Priority { node: RaftId(node), name: format!("b{node}"), priority }
}

fn every_change() -> Vec<Change> {
    let weak = DurabilityPolicy { leader: Durability::Sync, replicas: Durability::NoSync };
    vec![
        priority(2, 3),
        Change::RequiredNodes(3),
        Change::Durability(weak),
        Change::PermittedNodes(BTreeSet::from(["b1".to_owned(), "h2:1".to_owned()])),
        Change::Transfer { to: RaftId(3), name: "b3".into(), from: "b1".into() },
        primary(2, 5),
        Change::Lease { left_ms: 5000, set: true },
    ]
}

fn primary(node: u64, number: u64) -> Change {
    let primary = Primary { node: RaftId(node), name: format!("b{node}") };
    Change::Primary { primary: Some(primary), number }
}

fn forced(kind: ForcedKind) -> Forced {
    Forced {
        id: uuid::Uuid::from_u128(8),
        kind,
        sole: RaftId(1),
        name: "b1".into(),
        nodes: BTreeSet::from([1, 3]),
        former: BTreeSet::from([1, 2, 3, 4, 5]),
        at_ms: 9,
        author: Author { who: "anna".into(), address: String::new() },
        reason: "fire".into(),
    }
}

#[test]
fn a_transfer_of_an_earlier_version_is_read_and_names_nobody_before() {
    let encoded = |act: &Act| {
        let mut out = BytesMut::new();
        act.encode(&mut out);
        out
    };
    let transfer = Change::Transfer { to: RaftId(3), name: "b3".into(), from: String::new() };
    let (now, tag_at) = (act(vec![transfer]), encoded(&act(Vec::new())).len());
    let mut old = encoded(&now);
    assert_eq!(old[tag_at], 10);
    old[tag_at] = 5;
    let mut nobody = BytesMut::new();
    crate::codec::put_text(&mut nobody, "");
    old.truncate(old.len() - nobody.len());
    assert_eq!(Act::decode(&mut Reader::new(old.freeze())), Ok(now));
}

#[test]
fn an_act_and_the_controls_survive_their_encodings() {
    let mut controls = Controls::default();
    controls.force(Index(8), forced(ForcedKind::Override { lease_ms: 60_000 }));
    let act = act(every_change());
    assert_eq!(controls.apply(Index(9), &act).len(), 7);
    let mut out = BytesMut::new();
    act.encode(&mut out);
    assert_eq!(Act::decode(&mut Reader::new(out.freeze())), Ok(act));
    let mut out = BytesMut::new();
    controls.encode(&mut out);
    let whole = out.freeze();
    assert_eq!(Controls::decode(&mut Reader::new(whole.clone())), Ok(controls));
    for length in 0..whole.len() {
        assert!(Controls::decode(&mut Reader::new(whole.slice(..length))).is_err(), "cut at {length}");
    }
}

#[test]
fn a_lease_is_taken_in_parts_and_what_was_forced_ends_once() {
    let mut controls = Controls::default();
    assert!(controls.apply(Index(1), &act(vec![Change::Restored])).is_empty(), "nothing was forced");
    controls.force(Index(2), forced(ForcedKind::Override { lease_ms: 3_000_000 }));
    let mut parts = 0;
    while let Some(left) = controls.in_force().unwrap().lease_left_ms.filter(|left| *left > 0) {
        let part = controls.in_force().unwrap().next_part_ms();
        assert!((1..=60_000).contains(&part), "{part} of {left}");
        let taken = Change::Lease { left_ms: left - part, set: false };
        assert!(controls.apply(Index(3), &act(vec![taken])).is_empty(), "the audit is for operators' acts");
        parts += 1;
    }
    assert_eq!((parts, controls.in_force().unwrap().next_part_ms()), (50, 0));
    assert_eq!(controls.in_force().unwrap().needed(), 2);
    assert_eq!(controls.apply(Index(4), &act(vec![Change::Restored, Change::Restored])).len(), 1);
    assert_eq!(controls.in_force(), None);
    assert!(
        controls.apply(Index(5), &act(vec![Change::Lease { left_ms: 1, set: true }])).is_empty(),
        "there is no lease"
    );
}

#[test]
fn numbers_only_rise_and_who_takes_over_is_designated_where_somebody_was() {
    let mut controls = Controls::default();
    controls.force(Index(1), forced(ForcedKind::TakeOver { number: 1 }));
    assert_eq!((controls.primary(), controls.number()), (None, 1), "nobody was designated");
    assert_eq!(controls.apply(Index(2), &act(vec![primary(2, 2)])).len(), 1);
    assert!(controls.apply(Index(3), &act(vec![primary(3, 2)])).is_empty(), "a late one");
    controls.force(Index(4), forced(ForcedKind::TakeOver { number: 7 }));
    let (holder, number) = controls.primary().unwrap();
    let after = holder.name.clone();
    assert_eq!((holder.node, number), (RaftId(1), 7));
    let told = controls.audit().last().map(|row| (row.what.as_str(), row.after.clone()));
    assert_eq!(told, Some(("designated primary", format!("{after} (number 7)"))));
    assert!(controls.designated_until(Index(4)).is_some() && controls.designated_until(Index(1)).is_none());
    assert!(controls.apply(Index(5), &act(vec![primary(1, 8)])).is_empty(), "it is already");
    assert_eq!(controls.number(), 8, "who holds it has seen the number in its log");
    // A marked store goes on by a person's word: nothing that was forced before is in force.
    controls.restore();
    assert_eq!(controls.in_force(), None);
}

#[test]
fn what_is_so_already_leaves_no_trace() {
    let mut controls = Controls::default();
    let normal =
        act(vec![priority(1, PRIORITY_NORMAL), Change::RequiredNodes(0), priority(1, PRIORITY_MAX + 1)]);
    assert!(controls.apply(Index(1), &normal).is_empty());
    assert_eq!(controls, Controls::default());
}

#[test]
fn the_audit_tells_who_when_what_before_and_after() {
    let mut controls = Controls::default();
    controls.apply(Index(4), &act(vec![priority(1, 2)]));
    controls.apply(Index(5), &act(vec![priority(1, 0)]));
    let last = controls.audit().next_back().unwrap();
    assert_eq!((last.index, last.at_ms, last.author.who.as_str()), (Index(5), 7, "anna"));
    assert_eq!((last.what.as_str(), last.before.as_str(), last.after.as_str()), ("priority of b1", "2", "0"));
    for index in 0..2 * MAX_AUDIT as u64 {
        controls
            .apply(Index(index), &act(vec![Change::RequiredNodes(u32::try_from(index % 2).unwrap() + 1)]));
    }
    assert_eq!(controls.audit().count(), MAX_AUDIT);
}

#[test]
fn however_long_a_list_is_the_audit_stays_small_and_the_same_after_a_checkpoint() {
    let mut controls = Controls::default();
    let long = (0..MAX_PERMITTED).map(|number| format!("{number:0>253}ä")).collect();
    controls.apply(Index(1), &act(vec![Change::PermittedNodes(long)]));
    let kept = controls.audit().next().unwrap();
    assert!(
        kept.after.len() <= MAX_TEXT_BYTES + 4 && kept.after.ends_with('…'),
        "{} bytes",
        kept.after.len()
    );
    let mut out = BytesMut::new();
    controls.encode(&mut out);
    assert_eq!(Controls::decode(&mut Reader::new(out.freeze())), Ok(controls));
}

#[test]
fn an_empty_list_permits_everybody() {
    let mut controls = Controls::default();
    assert!(controls.permits(["b9"]));
    controls.apply(Index(1), &act(every_change()));
    assert!(controls.permits(["b9", "b1"]) && controls.permits(["h2:1"]) && !controls.permits(["b9"]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Act::decode(&mut Reader::new(Bytes::from(bytes.clone())));
        let _ = Controls::decode(&mut Reader::new(Bytes::from(bytes)));
    }
}
