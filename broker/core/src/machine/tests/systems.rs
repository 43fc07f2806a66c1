//! The group `system`.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::name::VhostName;
use quorate_store::ids::{ClusterId, Incarnation, RaftId, RunId, StoreId};
use uuid::Uuid;

use super::*;
use crate::admin::Author;
use crate::controls::AuditRecord;

pub(crate) fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

pub(crate) fn member(number: u64, name: &str) -> Member {
    Member {
        store: store(number.into()),
        raft_id: RaftId(number),
        name: name.to_owned(),
        cluster_address: format!("{name}:7421"),
        client_address: format!("{name}:7420"),
        admin_address: String::new(),
        incarnation: Incarnation(1),
        run: Some(RunId(Uuid::from_u128(99))),
    }
}

pub(crate) fn founding(names: &[&str]) -> Founding {
    let members: Vec<_> = names.iter().zip(1..).map(|(name, number)| member(number, name)).collect();
    let mut places: Vec<_> = members
        .iter()
        .map(|member| Place { address: member.cluster_address.clone(), store: Some(member.store) })
        .collect();
    places.push(Place { address: "late:7421".to_owned(), store: None });
    Founding { cluster: ClusterId(Uuid::from_u128(5)), name: "quorate".to_owned(), members, places }
}

#[allow(clippy::needless_pass_by_value, reason = "commands are made where they are applied")]
fn apply(machine: &mut SystemMachine, command: Command) -> Outcome {
    let mut data = Vec::new();
    command.encode(&mut data);
    let mut outcomes = machine.apply(Index(1), &data.into());
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

fn founded() -> SystemMachine {
    let mut machine = SystemMachine::new();
    assert_eq!(apply(&mut machine, Command::Found(founding(&["a", "b"]))), Outcome::Done { affected: 1 });
    machine
}

fn code(outcome: Outcome) -> FaultCode {
    match outcome {
        Outcome::Failed(code, _) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn founding_happens_once_and_first() {
    let mut machine = SystemMachine::new();
    let create = Command::CreateVhost { name: VhostName::new("v").unwrap() };
    assert_eq!(code(apply(&mut machine, create)), FaultCode::Waiting);
    let mut same_numbers = founding(&["a", "b"]);
    same_numbers.members[1].raft_id = RaftId(1);
    assert_eq!(code(apply(&mut machine, Command::Found(same_numbers))), FaultCode::MalformedFrame);
    assert_eq!(machine, SystemMachine::new());
    let mut machine = founded();
    assert_eq!(machine.vhost_group("/"), Some(GroupId(1)));
    assert_eq!(apply(&mut machine, Command::Found(founding(&["a", "b"]))), Outcome::Done { affected: 0 });
    let other = Founding { cluster: ClusterId(Uuid::from_u128(6)), ..founding(&["a"]) };
    assert_eq!(code(apply(&mut machine, Command::Found(other))), FaultCode::DeclarationDiffers);
}

#[test]
fn raft_ids_are_given_once() {
    let mut machine = founded();
    let add = |number, name: &str| Command::AddMember { member: member(number, name), place: None };
    assert_eq!(apply(&mut machine, add(10, "c")), Outcome::MemberAdded(RaftId(3)));
    assert_eq!(apply(&mut machine, add(10, "c")), Outcome::MemberAdded(RaftId(3)));
    assert_eq!(
        apply(&mut machine, Command::RemoveMember { store: store(10) }),
        Outcome::Done { affected: 1 }
    );
    assert_eq!(
        apply(&mut machine, Command::RemoveMember { store: store(10) }),
        Outcome::Done { affected: 0 }
    );
    assert!(machine.is_retired(store(10)));
    assert_eq!(code(apply(&mut machine, add(10, "c"))), FaultCode::PeerRefused);
    assert_eq!(apply(&mut machine, add(11, "c")), Outcome::MemberAdded(RaftId(4)));
    // Not under the name of one that has no vote itself.
    assert_eq!(code(apply(&mut machine, add(12, "c"))), FaultCode::DeclarationDiffers);
    assert_eq!(machine.member_numbered(RaftId(4)).unwrap().store, store(11));
}

#[test]
fn one_empty_store_stands_in_for_a_voter_and_takes_its_place_when_that_is_replaced() {
    let mut machine = founded();
    let add = |number, place| Command::AddMember { member: member(number, "a"), place };
    // It does not get a place of the founding by that.
    assert_eq!(code(apply(&mut machine, add(10, Some(2)))), FaultCode::PeerRefused);
    assert_eq!(apply(&mut machine, add(10, None)), Outcome::MemberAdded(RaftId(3)));
    assert!(!machine.may_vote(store(10)));
    assert_eq!(code(apply(&mut machine, add(11, None))), FaultCode::DeclarationDiffers);
    let holder = machine.named("a").expect("the voter").clone();
    assert_eq!(holder.store, store(1));
    assert_eq!(machine.stand_in(&holder).map(|member| member.store), Some(store(10)));
    // Both keep telling where they are.
    let moved = |number, raft_id: RaftId| {
        let member = member(number, "a");
        Command::UpdateMember(Member { raft_id, cluster_address: "x:1".into(), ..member })
    };
    assert_eq!(apply(&mut machine, moved(1, RaftId(1))), Outcome::Done { affected: 1 });
    assert_eq!(apply(&mut machine, moved(10, RaftId(3))), Outcome::Done { affected: 1 });
    // Replaced, it may vote at once; removed, it would not.
    for (replaced, votes) in [(true, true), (false, false)] {
        let mut machine = machine.clone();
        apply(&mut machine, Command::LeaveMember { store: store(1), replaced });
        apply(&mut machine, Command::RemoveMember { store: store(1) });
        assert_eq!(machine.may_vote(store(10)), votes);
        assert_eq!(machine.named("a").map(|member| member.store), Some(store(10)));
    }
}

#[test]
fn a_copy_does_not_overwrite_what_is_known_of_a_life() {
    let mut machine = founded();
    let (recorded, other) = (RunId(Uuid::from_u128(99)), RunId(Uuid::from_u128(100)));
    let told = |incarnation, run| {
        Command::UpdateMember(Member {
            incarnation: Incarnation(incarnation),
            run: Some(run),
            cluster_address: "x:1".into(),
            ..member(1, "a")
        })
    };
    // (what is told, whether it is taken, the run that is known afterwards)
    let cases = [
        ("the very life", 1, recorded, true, recorded),
        ("another run of the same incarnation", 1, other, false, recorded),
        ("an earlier life", 0, other, false, recorded),
        ("a later life", 2, other, true, other),
    ];
    for (name, incarnation, run, is_taken, known) in cases {
        let mut machine = machine.clone();
        let outcome = apply(&mut machine, told(incarnation, run));
        assert_eq!(matches!(outcome, Outcome::Done { .. }), is_taken, "{name}: {outcome:?}");
        assert_eq!(machine.member(store(1)).unwrap().run, Some(known), "{name}");
    }
    // One that never said which run it is says so later.
    let silent = Member { incarnation: Incarnation(2), run: None, ..member(1, "a") };
    apply(&mut machine, Command::UpdateMember(silent));
    apply(&mut machine, told(2, other));
    assert_eq!(machine.member(store(1)).unwrap().run, Some(other));
}

#[test]
fn only_a_replaced_store_is_given_up_for_an_empty_one() {
    let permit = || Command::PermitMember { name: "a".to_owned(), address: "a:7421".to_owned() };
    for (replaced, gives_up) in [(true, Some(store(1))), (false, None)] {
        let mut machine = founded();
        apply(&mut machine, Command::LeaveMember { store: store(1), replaced });
        apply(&mut machine, Command::RemoveMember { store: store(1) });
        // Named again, by hand: what was decided on the store before stays.
        assert_eq!(apply(&mut machine, permit()), Outcome::Done { affected: 1 });
        assert_eq!(apply(&mut machine, permit()), Outcome::Done { affected: 0 });
        let wanted = Wanted { address: "a:7421".to_owned(), replaces: gives_up };
        assert_eq!(machine.intents().wanted.get("a"), Some(&wanted));
    }
}

#[test]
fn a_place_is_taken_by_one_store() {
    let mut machine = founded();
    let add =
        |number, name: &str, place| Command::AddMember { member: member(number, name), place: Some(place) };
    assert_eq!(code(apply(&mut machine, add(10, "c", 0))), FaultCode::PeerRefused);
    assert_eq!(code(apply(&mut machine, add(10, "c", 3))), FaultCode::PeerRefused);
    assert_eq!(apply(&mut machine, add(10, "c", 2)), Outcome::MemberAdded(RaftId(3)));
    assert_eq!(machine.places()[2].store, Some(store(10)));
    assert_eq!(code(apply(&mut machine, add(11, "d", 2))), FaultCode::PeerRefused);
}

#[test]
fn a_member_changes_all_but_its_number_and_never_goes_back() {
    let mut machine = founded();
    let moved = Member {
        cluster_address: "x:1".to_owned(),
        incarnation: Incarnation(2),
        raft_id: RaftId(9),
        ..member(1, "a")
    };
    assert_eq!(apply(&mut machine, Command::UpdateMember(moved.clone())), Outcome::Done { affected: 1 });
    assert_eq!(machine.member(store(1)).unwrap(), &Member { raft_id: RaftId(1), ..moved });
    assert_eq!(code(apply(&mut machine, Command::UpdateMember(member(1, "a")))), FaultCode::PeerRefused);
    assert_eq!(code(apply(&mut machine, Command::UpdateMember(member(77, "z")))), FaultCode::PeerRefused);
    let taken = Member { incarnation: Incarnation(3), ..member(1, "b") };
    assert_eq!(code(apply(&mut machine, Command::UpdateMember(taken))), FaultCode::DeclarationDiffers);
}

#[test]
fn groups_are_given_once() {
    let mut machine = founded();
    let name = VhostName::new("v").unwrap();
    let create = Command::CreateVhost { name: name.clone() };
    assert_eq!(
        apply(&mut machine, create.clone()),
        Outcome::VhostCreated { group: GroupId(2), created: true }
    );
    assert_eq!(
        apply(&mut machine, create.clone()),
        Outcome::VhostCreated { group: GroupId(2), created: false }
    );
    assert!(!machine.is_deleted(GroupId(2)) && machine.deleted_groups().is_empty());
    assert!(machine.delete_vhost(GroupId(2)) && !machine.delete_vhost(GroupId(2)));
    assert_eq!(machine.vhost_group(name.as_str()), None);
    assert_eq!(apply(&mut machine, create), Outcome::VhostCreated { group: GroupId(3), created: true });
    assert!(!machine.delete_vhost(GroupId(2)), "the name has another group now");
    assert_eq!(machine.vhost_group(name.as_str()), Some(GroupId(3)));
}

#[test]
fn a_group_that_was_given_and_has_no_name_is_deleted_and_no_other_one_is() {
    let mut machine = founded();
    for name in ["a", "b", "c", "d", "e"] {
        apply(&mut machine, Command::CreateVhost { name: VhostName::new(name).unwrap() });
    }
    for group in [1, 3, 4, 6] {
        assert!(machine.delete_vhost(GroupId(group)));
    }
    let ranges = machine.deleted_groups();
    assert_eq!(ranges, [(1, 1), (3, 4), (6, 6)].map(|(first, last)| (GroupId(first), GroupId(last))));
    for group in (0..9).map(GroupId) {
        let listed = ranges.iter().any(|(first, last)| (*first..=*last).contains(&group));
        assert_eq!(machine.is_deleted(group), listed, "{group}");
    }
    // `system`, what was never given, and everything before the founding.
    assert!(!machine.is_deleted(GroupId(0)) && !machine.is_deleted(GroupId(7)));
    assert!(!SystemMachine::new().is_deleted(GroupId(1)) && SystemMachine::new().deleted_groups().is_empty());
}

#[test]
fn numbers_that_others_may_have_given_before_a_forced_epoch_are_never_given() {
    let mut machine = founded();
    let create = |machine: &mut SystemMachine, name: &str| match apply(
        machine,
        Command::CreateVhost { name: VhostName::new(name).unwrap() },
    ) {
        Outcome::VhostCreated { group, created: true } => group.0,
        other => panic!("{other:?}"),
    };
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(create(&mut machine, "a"), 2);
    // As whoever is left behind goes on.
    let mut other = machine.clone();
    machine.begin_epoch(first);
    assert_eq!(create(&mut other, "b"), 3);
    assert!(machine.is_deleted(GroupId(3)) && machine.is_left_behind(GroupId(3)));
    assert!(!machine.is_left_behind(GroupId(2)), "both know it");
    assert!(
        machine.delete_vhost(GroupId(2)) && !machine.is_left_behind(GroupId(2)),
        "an operator deleted it"
    );
    let after = 3 + (1 << 16);
    assert_eq!(create(&mut machine, "b"), after);
    assert!(!machine.is_left_behind(GroupId(after)));
    // Two epochs with nothing given in between: whoever stayed with the first one may have given something.
    let mut other = machine.clone();
    machine.begin_epoch(second);
    assert_eq!(create(&mut other, "c"), after + 1);
    machine.begin_epoch(Uuid::from_u128(3));
    let last = after + (2 << 16) + 1;
    assert_eq!(create(&mut machine, "c"), last);
    assert!(machine.is_left_behind(GroupId(after + 1)) && machine.is_left_behind(GroupId(last - 1)));
    let epochs = [1, 2, after, last].map(|group| machine.epoch_of(GroupId(group)));
    assert_eq!(epochs, [None, None, Some(first), Some(Uuid::from_u128(3))]);
}

#[test]
fn however_many_epochs_are_forced_the_numbers_end_and_are_not_given_twice() {
    let mut machine = founded();
    for epoch in 0..70_000 {
        machine.begin_epoch(Uuid::from_u128(epoch));
    }
    let create = Command::CreateVhost { name: VhostName::new("late").unwrap() };
    assert!(matches!(apply(&mut machine, create), Outcome::Failed(FaultCode::LimitReached, _)));
    let mut kept = Kept::default();
    kept.write(machine.clone().checkpoint(GroupId::SYSTEM, Bytes::new()));
    let restored = SystemMachine::restore(GroupId::SYSTEM, kept.pairs(Family::State)).unwrap().1;
    assert_eq!(restored, machine);
}

#[test]
fn a_checkpoint_gives_an_equal_machine() {
    let mut machine = founded();
    machine.begin_epoch(Uuid::from_u128(7));
    apply(&mut machine, Command::AddMember { member: member(10, "c"), place: Some(2) });
    apply(&mut machine, Command::RemoveMember { store: store(2) });
    apply(&mut machine, Command::CreateVhost { name: VhostName::new("v").unwrap() });
    for machine in [machine, SystemMachine::new()] {
        let mut kept = Kept::default();
        kept.write(machine.clone().checkpoint(GroupId::SYSTEM, Bytes::from_static(b"meta")));
        let (meta, restored) = SystemMachine::restore(GroupId::SYSTEM, kept.pairs(Family::State)).unwrap();
        assert_eq!((&meta[..], &restored), (&b"meta"[..], &machine));
        assert_eq!(restored.digest(), machine.digest());
        // Every cut of the record is noticed.
        let (key, record) = kept.pairs(Family::State).remove(1);
        for length in 0..record.len() {
            let cut = [(meta_key(GroupId::SYSTEM), Bytes::new()), (key.clone(), record.slice(..length))];
            assert!(SystemMachine::restore(GroupId::SYSTEM, cut).is_err());
        }
    }
    let empty = SystemMachine::restore(GroupId::SYSTEM, []);
    assert_eq!(empty.unwrap_err(), RestoreError::Missing { group: GroupId::SYSTEM, kind: 0 });
}

#[test]
fn a_permitted_name_may_vote_whether_it_comes_before_or_after() {
    let mut machine = founded();
    let permit = |name: &str| Command::PermitMember { name: name.to_owned(), address: String::new() };
    let add = |number, name: &str| Command::AddMember { member: member(number, name), place: None };
    assert_eq!(apply(&mut machine, permit("c")), Outcome::Done { affected: 1 });
    assert_eq!(apply(&mut machine, permit("c")), Outcome::Done { affected: 0 });
    apply(&mut machine, add(10, "c"));
    apply(&mut machine, add(11, "d"));
    assert_eq!((machine.may_vote(store(10)), machine.may_vote(store(11))), (true, false));
    assert_eq!(apply(&mut machine, permit("d")), Outcome::Done { affected: 1 });
    assert_eq!(apply(&mut machine, permit("d")), Outcome::Done { affected: 0 });
    assert!(machine.may_vote(store(11)));
    assert_eq!(code(apply(&mut machine, permit(""))), FaultCode::InvalidName);
    // Taken back before anybody used it.
    apply(&mut machine, permit("e"));
    let forget = Command::ForgetMember { name: "e".to_owned() };
    assert_eq!(apply(&mut machine, forget.clone()), Outcome::Done { affected: 1 });
    assert_eq!(apply(&mut machine, forget), Outcome::Done { affected: 0 });
    apply(&mut machine, add(12, "e"));
    assert!(!machine.may_vote(store(12)));
}

#[test]
fn one_member_leaves_at_a_time_and_its_store_never_comes_back() {
    let mut machine = founded();
    let leave = |number, replaced| Command::LeaveMember { store: store(number), replaced };
    assert_eq!(apply(&mut machine, leave(1, true)), Outcome::Done { affected: 1 });
    assert_eq!(apply(&mut machine, leave(1, true)), Outcome::Done { affected: 0 });
    assert_eq!(machine.leaving_id(), Some(RaftId(1)));
    assert_eq!(code(apply(&mut machine, leave(2, false))), FaultCode::DeclarationDiffers);
    assert_eq!(code(apply(&mut machine, leave(77, false))), FaultCode::DeclarationDiffers);
    let permit = Command::PermitMember { name: "a".to_owned(), address: String::new() };
    assert_eq!(code(apply(&mut machine, permit)), FaultCode::DeclarationDiffers);
    apply(&mut machine, Command::DrainMember { store: store(1), drained: true });
    apply(&mut machine, Command::RemoveMember { store: store(1) });
    assert_eq!(machine.leaving_id(), None);
    assert_eq!(
        machine.retired().next().map(|(id, retired)| (id, retired.name.as_str())),
        Some((store(1), "a"))
    );
    // Whoever comes under its name takes its place, with a number of its own, and is not drained.
    let again = Command::AddMember { member: member(10, "a"), place: None };
    assert_eq!(apply(&mut machine, again), Outcome::MemberAdded(RaftId(3)));
    assert!(machine.may_vote(store(10)));
    assert!(machine.intents().drained.is_empty());
    let back = Command::AddMember { member: member(1, "z"), place: None };
    assert_eq!(code(apply(&mut machine, back)), FaultCode::PeerRefused);
}

#[test]
fn what_operators_want_survives_a_checkpoint() {
    let mut machine = founded();
    for command in [
        Command::PermitMember { name: "c".to_owned(), address: "c:7421".to_owned() },
        Command::AddMember { member: member(10, "c"), place: None },
        Command::PermitMember { name: "d".to_owned(), address: "d:7421".to_owned() },
        Command::DrainMember { store: store(2), drained: true },
        Command::LeaveMember { store: store(10), replaced: false },
        Command::RemoveMember { store: store(10) },
        Command::LeaveMember { store: store(1), replaced: true },
    ] {
        assert!(!matches!(apply(&mut machine, command), Outcome::Failed(..)));
    }
    let batch = machine.checkpoint(GroupId::SYSTEM, Bytes::from_static(b"meta"));
    let pairs = batch.writes.into_iter().filter_map(|write| match write {
        StateWrite::Put(_, key, value) => Some((key, value)),
        _ => None,
    });
    let (_, restored) = SystemMachine::restore(GroupId::SYSTEM, pairs).unwrap();
    assert_eq!((restored.digest(), &restored), (machine.digest(), &machine));
}

/// Applies what an operator asked for; the outcome, and what the audit has of it: what, before, after.
fn asked(machine: &mut SystemMachine, command: Command) -> (Outcome, Vec<[String; 3]>) {
    let author = Author { who: "anna".to_owned(), address: "h9:1".to_owned() };
    let (at_ms, reason) = (12, "why".to_owned());
    let asked = Asked { at_ms, author: author.clone(), reason: reason.clone(), command };
    let mut data = Vec::new();
    Command::Asked(Box::new(asked)).encode(&mut data);
    let mut noted = Vec::new();
    let mut outcomes = machine.apply_and_note(Index(7), &data.into(), &mut |record: AuditRecord| {
        assert_eq!((record.index, record.at_ms), (Index(7), at_ms));
        assert_eq!((&record.author, &record.reason), (&author, &reason));
        noted.push([record.what, record.before, record.after]);
    });
    (outcomes.remove(0), noted)
}

#[test]
fn the_audit_has_what_operators_changed_and_only_that() {
    let mut machine = founded();
    let permit = |address: &str| Command::PermitMember { name: "c".to_owned(), address: address.to_owned() };
    let drain = |drained| Command::DrainMember { store: store(2), drained };
    let leave = |replaced| Command::LeaveMember { store: store(1), replaced };
    let vhost = || Command::CreateVhost { name: VhostName::new("orders").unwrap() };
    let forget = || Command::ForgetMember { name: "c".to_owned() };
    let gone = format!("store {}", store(1));
    for (command, expected) in [
        (permit(""), Some(["member c", "no voter", "voter"])),
        (permit(""), None),
        (permit("c:1"), Some(["member c", "waited for", "voter, looked for at c:1"])),
        (forget(), Some(["member c", "waited for", "not waited for"])),
        (forget(), None),
        (drain(true), Some(["member b", "may lead", "drained"])),
        (drain(true), None),
        (drain(false), Some(["member b", "drained", "may lead"])),
        (Command::DrainMember { store: store(9), drained: true }, None),
        (leave(true), Some(["member a", &gone, "replaced by another store"])),
        (leave(false), None),
        (vhost(), Some(["virtual host orders", "none", "created"])),
        (vhost(), None),
    ] {
        let mut plain = machine.clone();
        let (outcome, noted) = asked(&mut machine, command.clone());
        assert_eq!(outcome, apply(&mut plain, command.clone()), "{command:?}");
        assert_eq!(plain, machine, "{command:?}");
        let expected: Vec<_> = expected.into_iter().map(|texts| texts.map(str::to_owned)).collect();
        assert_eq!(noted, expected, "{command:?}");
    }
}

#[test]
fn nothing_but_members_and_virtual_hosts_is_asked_for() {
    let mut machine = founded();
    let drain = Command::DrainMember { store: store(2), drained: true };
    let author = Author::local("h9:1");
    let wrap = |command| {
        Command::Asked(Box::new(Asked { at_ms: 1, author: author.clone(), reason: String::new(), command }))
    };
    for command in
        [wrap(drain), Command::RemoveMember { store: store(2) }, Command::RenewSafety { number: 1 }]
    {
        let before = machine.clone();
        let (outcome, noted) = asked(&mut machine, command);
        assert_eq!(code(outcome), FaultCode::MalformedFrame);
        assert_eq!((noted, &machine), (Vec::new(), &before));
    }
}
