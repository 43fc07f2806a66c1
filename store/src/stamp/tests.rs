use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::files::Files;
use crate::files::crash::{CrashFiles, Fault, Operation};
use crate::ids::{Epoch, Index, Term};

fn any_position() -> impl Strategy<Value = Position> {
    (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(epoch, term, index)| Position {
        epoch: Epoch(epoch),
        term: Term(term),
        index: Index(index),
    })
}

fn any_uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn any_durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::NoSync), Just(Durability::WriteNoSync), Just(Durability::Sync)]
}

fn any_state() -> impl Strategy<Value = StampState> {
    prop_oneof![
        Just(StampState::Empty),
        Just(StampState::Forming),
        Just(StampState::Dirty),
        any_uuid().prop_map(|shutdown| StampState::Clean { shutdown }),
        any_uuid().prop_map(|recovery| StampState::Recovered { recovery }),
    ]
}

fn any_forming() -> impl Strategy<Value = FormingState> {
    let ballot = || (any::<u64>(), any_uuid()).prop_map(|(round, id)| Ballot { round, store: StoreId(id) });
    let accepted = option::of((ballot(), vec(any::<u8>(), 0..40).prop_map(Bytes::from)));
    (option::of(ballot()), accepted, any::<bool>()).prop_map(|(promised, accepted, decided)| FormingState {
        promised,
        accepted,
        decided,
    })
}

fn any_cause() -> impl Strategy<Value = EpochCause> {
    prop_oneof![
        Just(EpochCause::Founding),
        (any_uuid(), any::<bool>(), any::<u32>(), any::<u64>()).prop_map(
            |(recovery, alone, members, sole)| EpochCause::Mark {
                recovery,
                alone,
                members,
                sole: RaftId(sole)
            }
        ),
        (any::<u64>(), any::<u64>())
            .prop_map(|(sole, lease_ms)| EpochCause::Override { sole: RaftId(sole), lease_ms }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(sole, number)| EpochCause::Solo { sole: RaftId(sole), number }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(sole, number)| EpochCause::TakeOver { sole: RaftId(sole), number }),
    ]
}

fn any_left_out() -> impl Strategy<Value = LeftOut> {
    let known = (any::<u64>(), any_position(), any_uuid()).prop_map(|(incarnation, position, tip)| Known {
        incarnation: Incarnation(incarnation),
        position,
        tip,
    });
    let flags = (any::<bool>(), any::<bool>());
    (any_uuid(), any::<String>(), flags, option::of(known)).prop_map(
        |(store, name, (voter, named), known)| LeftOut { store: StoreId(store), name, voter, named, known },
    )
}

fn any_epoch() -> impl Strategy<Value = EpochEntry> {
    let forced = (any_cause(), vec(any_left_out(), 0..3), any::<u64>());
    let ids = (any::<u32>(), any_uuid(), any_position());
    (ids, forced, any::<String>(), any::<u64>(), any::<String>()).prop_map(
        |((number, id, fork), (cause, left_out, term), who, when_ms, why)| EpochEntry {
            number: Epoch(number),
            id,
            fork,
            term: Term(term),
            cause,
            left_out,
            who,
            when_ms,
            why,
        },
    )
}

fn any_witness() -> impl Strategy<Value = Witness> {
    let positions = vec((any::<u32>(), any_position()), 0..3);
    (any_uuid(), any::<u64>(), any_uuid(), positions).prop_map(|(store, incarnation, run, positions)| {
        Witness {
            store: StoreId(store),
            incarnation: Incarnation(incarnation),
            run: RunId(run),
            positions: positions.into_iter().map(|(group, position)| (GroupId(group), position)).collect(),
        }
    })
}

fn any_group() -> impl Strategy<Value = GroupStamp> {
    let policy = (any_durability(), any_durability(), any_durability());
    (any::<u32>(), any::<String>(), vec(any_epoch(), 0..3), any_position(), any_position(), policy).prop_map(
        |(group, vhost, lineage, position, synced, (leader, replicas, weakest))| GroupStamp {
            group: GroupId(group),
            vhost,
            lineage,
            position,
            synced,
            policy: DurabilityPolicy { leader, replicas },
            weakest,
        },
    )
}

fn any_member() -> impl Strategy<Value = StampMember> {
    (any_uuid(), any::<u64>(), any::<[String; 4]>(), any::<bool>(), any::<u64>()).prop_map(
        |(store, raft, [name, cluster_address, client_address, admin_address], voter, incarnation)| {
            StampMember {
                store_id: StoreId(store),
                raft_id: RaftId(raft),
                name,
                cluster_address,
                client_address,
                admin_address,
                voter,
                incarnation: Incarnation(incarnation),
            }
        },
    )
}

/// Stamps with anything in their fields.
pub(super) fn any_stamp() -> impl Strategy<Value = Stamp> {
    let ids = (any_uuid(), option::of(any_uuid()), any_uuid(), any::<u64>());
    let names = any::<[String; 3]>();
    let lists = (
        vec(any_group(), 0..3),
        vec(any_member(), 0..3),
        vec(any_uuid(), 0..3),
        vec(any_witness(), 0..3),
        vec(any::<u32>(), 0..3),
    );
    let numbers = any::<[u64; 5]>();
    (
        ids,
        names,
        any_state(),
        option::of(any_forming()),
        lists,
        any_position(),
        any::<u32>(),
        any::<bool>(),
        numbers,
    )
        .prop_map(|(ids, names, state, forming, lists, members_position, wait_for, manual, numbers)| {
            let [cluster_name, broker_name, boot_id] = names;
            let [sequence, safety_number, wall_clock_ms, generation, offset] = numbers;
            Stamp {
                sequence: sequence.min(u64::MAX - 1),
                store_id: StoreId(ids.0),
                cluster_id: ids.1.map(ClusterId),
                cluster_name,
                broker_name,
                incarnation: Incarnation(ids.3),
                run_id: RunId(ids.2),
                state,
                forming,
                groups: lists.0,
                members: lists.1,
                members_position,
                possible_members: lists.2.into_iter().map(StoreId).collect(),
                witnessed: lists.3,
                refilling: lists.4.into_iter().map(GroupId).collect(),
                wait_for,
                recovery: if manual { RecoveryMode::Manual } else { RecoveryMode::Automatic },
                boot_id,
                safety_number,
                wall_clock_ms,
                log_synced: SyncedPoint { generation, offset },
            }
        })
}

/// A founding, and an operator's mark that left out one store with known content and one without.
fn sample_lineage() -> Vec<EpochEntry> {
    let founding = EpochEntry {
        number: Epoch(1),
        id: Uuid::from_u128(6),
        fork: Position::default(),
        term: Term(1),
        cause: EpochCause::Founding,
        left_out: Vec::new(),
        who: "b1".into(),
        when_ms: 1,
        why: "founded \"here\"\n".into(),
    };
    let fork = Position { epoch: Epoch(1), term: Term(3), index: Index(800) };
    let left_out = |number: u128, known: Option<Known>| LeftOut {
        store: StoreId(Uuid::from_u128(number)),
        name: format!("b{number}"),
        voter: number == 2,
        named: false,
        known,
    };
    let known = Known { incarnation: Incarnation(2), position: fork, tip: founding.id };
    let mark = EpochEntry {
        number: Epoch(2),
        id: Uuid::from_u128(9),
        fork,
        term: Term(4),
        cause: EpochCause::Mark { recovery: Uuid::from_u128(10), alone: false, members: 2, sole: RaftId(1) },
        left_out: vec![left_out(2, Some(known)), left_out(3, None)],
        who: "operator".into(),
        when_ms: 2,
        why: "the others burnt".into(),
    };
    vec![founding, mark]
}

/// An ordinary stamp of a broker in use.
pub(crate) fn sample() -> Stamp {
    let store = |number: u128| StoreId(Uuid::from_u128(number));
    let member = |number: u64| StampMember {
        store_id: store(u128::from(number)),
        raft_id: RaftId(number),
        name: format!("b{number}"),
        cluster_address: format!("h{number}:7421"),
        client_address: format!("h{number}:7420"),
        admin_address: format!("h{number}:7422"),
        voter: number < 3,
        incarnation: Incarnation(number),
    };
    let position = Position { epoch: Epoch(2), term: Term(4), index: Index(900) };
    Stamp {
        sequence: 0,
        store_id: store(1),
        cluster_id: Some(ClusterId(Uuid::from_u128(77))),
        cluster_name: "quorate".into(),
        broker_name: "b1".into(),
        incarnation: Incarnation(3),
        run_id: RunId(Uuid::from_u128(5)),
        state: StampState::Dirty,
        forming: Some(FormingState {
            promised: Some(Ballot { round: 2, store: store(2) }),
            accepted: Some((Ballot { round: 1, store: store(1) }, Bytes::from_static(b"value"))),
            decided: true,
        }),
        groups: vec![GroupStamp {
            group: GroupId(1),
            vhost: "/".into(),
            lineage: sample_lineage(),
            position,
            synced: position,
            policy: DurabilityPolicy { leader: Durability::Sync, replicas: Durability::WriteNoSync },
            weakest: Durability::Sync,
        }],
        members: (1..=3).map(member).collect(),
        members_position: position,
        possible_members: vec![store(1), store(2)],
        witnessed: vec![Witness {
            store: store(2),
            incarnation: Incarnation(2),
            run: RunId(Uuid::from_u128(8)),
            positions: vec![(GroupId(0), Position::default()), (GroupId(1), position)],
        }],
        refilling: vec![GroupId(1)],
        wait_for: 2,
        recovery: RecoveryMode::Automatic,
        boot_id: "a6f8".into(),
        safety_number: 12,
        wall_clock_ms: 1_700_000_000_000,
        log_synced: SyncedPoint { generation: 2, offset: 8192 },
    }
}

const DIR: &str = "/store";

fn open(disk: &CrashFiles) -> (StampFile, StampFound) {
    StampFile::open(Arc::new(disk.clone()), PathBuf::from(DIR)).unwrap()
}

fn disk() -> CrashFiles {
    let disk = CrashFiles::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    disk
}

/// The name in the readable stamp; none if there is no stamp. Never damage.
fn name_in(disk: &CrashFiles) -> Option<String> {
    match open(disk).1 {
        StampFound::Absent => None,
        StampFound::Stamp(stamp) => Some(stamp.broker_name.clone()),
        found @ StampFound::Damaged { .. } => panic!("{found:?}"),
    }
}

fn named(name: &str) -> Stamp {
    // Of different lengths, over several sectors, so that old and new mix in every way.
    Stamp { broker_name: name.into(), cluster_name: name.repeat(900), ..sample() }
}

/// At every operation of three writes the power is cut, with many endings each: old or new, never a third.
#[test]
fn a_cut_at_every_step_leaves_the_old_or_the_new() {
    let names = ["one", "second", "3"];
    let mut states = 0;
    for cut in 1.. {
        let disk = disk();
        let (mut stamp, _) = open(&disk);
        disk.cut_power_at(cut);
        let mut written = None;
        let mut trying = None;
        for name in names {
            trying = Some(name.to_owned());
            if stamp.write(named(name)).is_err() {
                break;
            }
            written.clone_from(&trying);
        }
        if !disk.is_off() {
            assert!(cut > 20, "only {cut} operations");
            break;
        }
        for seed in 0..40 {
            let disk = disk.fork();
            disk.crash(seed);
            let found = name_in(&disk);
            assert!(found == written || found == trying, "cut {cut} seed {seed}: {found:?}, not {written:?}");
            // It can be written again, and cut again while that happens.
            disk.cut_power_at(seed % 5 + 1);
            if open(&disk).0.write(named("later")).is_err() {
                disk.crash(seed);
            }
            let again = name_in(&disk);
            assert!(again == found || again.as_deref() == Some("later"), "cut {cut} seed {seed}: {again:?}");
            states += 1;
        }
    }
    assert!(states >= 800, "only {states} states");
}

#[test]
fn one_rotten_slot_does_no_harm_and_two_are_damage() {
    let disk = disk();
    open(&disk).0.write(named("b1")).unwrap();
    let rot = |disk: &CrashFiles, name: &str| {
        let path = Path::new(DIR).join(name);
        let mut bytes = disk.content(&path).unwrap();
        bytes[30] ^= 4;
        disk.replace(&path, &bytes);
    };
    for name in SLOT_NAMES {
        let disk = disk.fork();
        rot(&disk, name);
        let (mut stamp, found) = open(&disk);
        assert!(matches!(found, StampFound::Stamp(_)));
        assert!(stamp.damage().unwrap().contains(name));
        assert_eq!(stamp.write(named("b2")).unwrap(), 2);
        assert_eq!(open(&disk).0.damage(), None, "not repaired");
    }
    for name in SLOT_NAMES {
        rot(&disk, name);
    }
    let before = disk.everything();
    let (mut stamp, found) = open(&disk);
    let StampFound::Damaged { reason, incarnation } = found else { panic!("{found:?}") };
    assert!(reason.contains("stamp.a") && reason.contains("stamp.b"), "{reason}");
    assert_eq!(incarnation, Some(Incarnation(3)));
    assert!(matches!(stamp.write(sample()), Err(StampError::Stopped(_))));
    assert_eq!(disk.everything(), before, "damage was written over");
}

#[test]
fn empty_and_zeroed_files_are_damage() {
    for bytes in [vec![], vec![0; 4096], vec![b'x'; 2 << 20]] {
        let disk = disk();
        disk.replace(&Path::new(DIR).join("stamp.a"), &bytes);
        assert!(matches!(open(&disk).1, StampFound::Damaged { incarnation: None, .. }));
    }
}

/// Nothing that was written has it, and counting it up would stop the broker at its next write.
#[test]
fn the_last_of_all_sequences_is_damage() {
    let encoded = Stamp { sequence: u64::MAX, ..sample() }.encode().unwrap();
    assert!(matches!(Stamp::decode(&encoded), Err(StampError::Damaged(_))));
    let disk = disk();
    disk.replace(&Path::new(DIR).join("stamp.a"), &encoded);
    let (mut stamp, found) = open(&disk);
    assert!(matches!(found, StampFound::Damaged { .. }), "{found:?}");
    assert!(matches!(stamp.write(sample()), Err(StampError::Stopped(_))));
    let last = Stamp { sequence: u64::MAX - 1, ..sample() }.encode().unwrap();
    disk.replace(&Path::new(DIR).join("stamp.a"), &last);
    let (mut stamp, found) = open(&disk);
    assert!(matches!(found, StampFound::Stamp(_)), "{found:?}");
    assert!(stamp.write(sample()).is_err(), "what cannot be read is not written");
}

/// This life's stamp.
fn of_life(incarnation: u64, run: u128, safety_number: u64) -> Stamp {
    let run_id = RunId(Uuid::from_u128(run));
    Stamp { incarnation: Incarnation(incarnation), run_id, safety_number, ..sample() }
}

/// What a process that wrote the life (5, run 1, number 7) makes of the stamp that it finds then.
#[test]
fn a_second_writer_is_noticed_before_anything_is_written() {
    let mine = of_life(5, 1, 7);
    for (theirs, foreign) in [
        (of_life(6, 2, 7), true),
        (of_life(6, 2, 8), true),
        (of_life(5, 2, 7), true),
        (of_life(5, 1, 6), true),
        (Stamp { wall_clock_ms: 1, ..of_life(5, 1, 7) }, false),
    ] {
        let disk = disk();
        let (mut one, _) = open(&disk);
        one.write(mine.clone()).unwrap();
        assert!(one.foreign().is_none());
        let (mut two, _) = open(&disk);
        two.write(theirs.clone()).unwrap();
        let before = disk.everything();
        let told = one.foreign();
        match one.write(mine.clone()) {
            Err(StampError::Foreign { slot: "stamp.a", found, remembered }) if foreign => {
                assert_eq!((found, remembered), (theirs.identity(), Some(mine.identity())));
                assert!(matches!(told, Some(StampError::Foreign { .. })));
            }
            Err(StampError::Changed { slot: "stamp.a" }) if !foreign => assert!(told.is_none()),
            other => panic!("{theirs:?}: {other:?}"),
        }
        assert!(matches!(one.write(mine.clone()), Err(StampError::Stopped(_))));
        assert_eq!(disk.everything(), before);
        assert_eq!(two.write(theirs).unwrap(), 3, "the sequence is counted on over restarts");
    }
}

#[test]
fn a_stamp_that_another_process_made_where_there_was_none_is_noticed() {
    let disk = disk();
    let (mut one, _) = open(&disk);
    open(&disk).0.write(of_life(1, 2, 0)).unwrap();
    assert!(matches!(one.write(of_life(1, 1, 0)), Err(StampError::Foreign { remembered: None, .. })));
}

/// Whoever waits, and has only read what is there, sees that its writer lives.
#[test]
fn a_stamp_that_goes_on_while_it_is_waited_beside_is_another_processs() {
    let disk = disk();
    let (mut one, _) = open(&disk);
    one.write(of_life(5, 1, 7)).unwrap();
    let (mut waiting, _) = open(&disk);
    assert!(waiting.foreign().is_none());
    one.write(of_life(5, 1, 7)).unwrap();
    assert!(waiting.foreign().is_some());
    let before = disk.everything();
    assert!(matches!(waiting.write(of_life(6, 2, 7)), Err(StampError::Foreign { .. })));
    assert_eq!(disk.everything(), before);
    one.write(of_life(5, 1, 8)).unwrap();
}

/// The later life writes over it, so that the earlier one finds out.
#[test]
fn the_stamp_of_an_earlier_life_is_written_over() {
    let disk = disk();
    let (mut earlier, _) = open(&disk);
    earlier.write(of_life(5, 1, 7)).unwrap();
    let (mut later, _) = open(&disk);
    later.write(of_life(6, 2, 7)).unwrap();
    // It had read back before that write.
    let late = of_life(5, 1, 7).encode().unwrap();
    disk.replace(&Path::new(DIR).join("stamp.b"), &late);
    assert!(later.foreign().is_none());
    later.write(of_life(6, 2, 7)).unwrap();
    assert_eq!(later.take_outrun(), Some(of_life(5, 1, 7).identity()));
    assert_eq!(later.take_outrun(), None);
    assert!(matches!(earlier.write(of_life(5, 1, 7)), Err(StampError::Foreign { .. })));
}

/// The other one is in the middle of it: the slot that can be read says who it is.
#[test]
fn half_a_stamp_of_another_process_beside_a_whole_one_is_that_processs() {
    for torn in [0, 1] {
        let disk = disk();
        let (mut one, _) = open(&disk);
        one.write(of_life(5, 1, 7)).unwrap();
        open(&disk).0.write(of_life(6, 2, 7)).unwrap();
        let path = Path::new(DIR).join(SLOT_NAMES[torn]);
        let half = disk.content(&path).unwrap()[..200].to_vec();
        disk.replace(&path, &half);
        assert!(one.foreign().is_some());
        assert!(matches!(one.write(of_life(5, 1, 7)), Err(StampError::Foreign { .. })), "slot {torn}");
    }
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let disk = disk();
    let (mut stamp, _) = open(&disk);
    stamp.write(named("b1")).unwrap();
    disk.fail_after(Operation::Sync, 1, Fault::Io);
    assert!(matches!(stamp.write(named("b2")), Err(StampError::File(_))));
    assert!(matches!(stamp.write(named("b2")), Err(StampError::Stopped(_))));
}

#[test]
fn a_full_disk_does_not_stop_a_change_of_state() {
    let disk = disk();
    let (mut stamp, _) = open(&disk);
    stamp.write(sample()).unwrap();
    disk.set_capacity(0);
    stamp.write(Stamp { state: StampState::Clean { shutdown: Uuid::from_u128(9) }, ..sample() }).unwrap();
}
