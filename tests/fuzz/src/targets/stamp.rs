//! The stamp: its text, and the two files of it in a store.
//!
//! The first byte of an input says how: bit 0, the CRC line is put right first, so that what is behind the checksum is
//! reached; bit 1, the second half is the other slot (else both are the same, else there is one).

use std::path::Path;
use std::sync::Arc;

use quorate_store::files::Files;
use quorate_store::files::crash::CrashFiles;
use quorate_store::ids::{Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term};
use quorate_store::log::SyncedPoint;
use quorate_store::stamp::{
    Ballot, Durability, DurabilityPolicy, EpochCause, EpochEntry, FormingState, GroupStamp, Known, LeftOut,
    RecoveryMode, SLOT_NAMES, Stamp, StampError, StampFile, StampFound, StampMember, StampState, Witness,
};
use uuid::Uuid;

use super::mode;
use crate::allocator::Allowance;
use crate::{Reached, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "stamp",
    run,
    seeds,
    length_max: 16 << 10,
    words: &[
        b"quorate-stamp 2\n",
        b"quorate-stamp 3\n",
        b"none",
        b"true",
        b"false",
        b"clean ",
        b"recovered ",
        b"forming",
        b"decided",
        b"sync",
        b"write-no-sync",
        b"no-sync",
        b"founding",
        b"take-over",
        b"4096",
        b"18446744073709551615",
        b"\\u{0}",
        b"\\\"",
        b" = ",
        b"crc32 = ",
        b"automatic",
        b"manual",
        b"mark ",
    ],
    text: true,
    smoke: 100_000,
};

/// A line in memory: a left-out store is the widest for its text.
const DECODE: Allowance = Allowance { each: 8, fixed: 64 << 10 };
const DIR: &str = "/store";
const CRC_LINE: &[u8] = b"crc32 = ";

/// The content with a last line that fits it.
fn sealed(content: &[u8]) -> Vec<u8> {
    let lines = content.strip_suffix(b"\n").unwrap_or(content);
    let last = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let body = if lines[last..].starts_with(CRC_LINE) { &content[..last] } else { content };
    let mut out = body.to_vec();
    out.extend_from_slice(format!("crc32 = {:08x}\n", crc32fast::hash(body)).as_bytes());
    out
}

fn run(input: &[u8]) -> Reached {
    let (mode, content) = mode(input);
    let fit = |content: &[u8]| if mode & 1 == 0 { sealed(content) } else { content.to_vec() };
    let halves = content.split_at(content.len() / 2);
    let slots = match mode >> 1 & 3 {
        0 => [Some(fit(content)), Some(fit(content))],
        1 => [Some(fit(halves.0)), Some(fit(halves.1))],
        2 => [None, Some(fit(content))],
        _ => [Some(fit(content)), None],
    };
    let mut readable: Vec<Stamp> = Vec::new();
    for slot in slots.iter().flatten() {
        match DECODE.check(slot.len(), "a stamp", || Stamp::decode(slot)) {
            Ok(stamp) => {
                let again = stamp.encode().expect("what was read is within the limits");
                assert_eq!(again, *slot, "a stamp has one form");
                readable.push(stamp);
            }
            Err(StampError::Damaged(_) | StampError::OtherFormat { .. }) => {}
            Err(error) => panic!("no answer about bytes: {error}"),
        }
    }
    let reached = Reached::accepted_if(!readable.is_empty());
    open(&slots, readable);
    reached
}

/// Opens a directory with these slots, and writes if that is permitted: then both are whole.
fn open(slots: &[Option<Vec<u8>>; 2], readable: Vec<Stamp>) {
    let disk = CrashFiles::new();
    disk.create_dir(Path::new(DIR)).expect("memory has room");
    for (name, slot) in SLOT_NAMES.iter().zip(slots) {
        let Some(slot) = slot else { continue };
        let mut padded = slot.clone();
        padded.resize(slot.len().next_multiple_of(4096), 0);
        disk.replace(&Path::new(DIR).join(name), &padded);
    }
    let before = disk.everything();
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let opened = StampFile::open(Arc::clone(&files), DIR.into());
    assert_eq!(disk.everything(), before, "opening changes nothing");
    let (mut file, found) = match opened {
        Ok(opened) => opened,
        Err(StampError::OtherFormat { .. }) => return,
        Err(error) => panic!("no answer about files: {error}"),
    };
    // NUL bytes at the end are padding, on disk: a slot may be readable there that was not as text.
    let newest =
        readable.into_iter().reduce(|one, other| if other.sequence > one.sequence { other } else { one });
    match (found, newest) {
        (StampFound::Stamp(found), newest) => {
            if let Some(newest) = newest {
                assert!(found.sequence >= newest.sequence, "the newer slot counts");
            }
            let Ok(sequence) = file.write(Stamp::clone(&found)) else { return };
            assert!(sequence > found.sequence, "sequences go up");
            let (_, again) = StampFile::open(files, DIR.into()).expect("what was written opens");
            assert_eq!(again, StampFound::Stamp(Box::new(Stamp { sequence, ..*found })));
        }
        (StampFound::Absent, newest) => assert_eq!(newest, None, "a readable stamp was overlooked"),
        (StampFound::Damaged { .. }, newest) => {
            assert_eq!(newest, None, "a readable stamp was called damage");
            assert!(file.write(sample()).is_err(), "damage is left as it is");
            assert_eq!(disk.everything(), before);
        }
    }
}

fn position(index: u64) -> Position {
    Position { epoch: Epoch(1), term: Term(2), index: Index(index) }
}

/// A stamp with something in each of its lists.
fn sample() -> Stamp {
    let id = Uuid::from_u128;
    let left_out = LeftOut {
        store: StoreId(id(9)),
        name: "b\"9\"\n".to_owned(),
        voter: true,
        named: true,
        known: Some(Known { incarnation: Incarnation(4), position: position(5), tip: id(6) }),
    };
    let epoch = |number, cause, left_out| EpochEntry {
        number: Epoch(number),
        id: id(70 + u128::from(number)),
        fork: position(u64::from(number)),
        term: Term(3),
        cause,
        left_out,
        who: "operator".to_owned(),
        when_ms: 1,
        why: "disk \\ lost".to_owned(),
    };
    let mark = EpochCause::Mark { recovery: id(8), alone: true, members: 2, sole: RaftId(3) };
    let policy = DurabilityPolicy { leader: Durability::Sync, replicas: Durability::WriteNoSync };
    Stamp {
        sequence: 7,
        store_id: StoreId(id(1)),
        cluster_id: Some(quorate_store::ids::ClusterId(id(2))),
        cluster_name: "quorate".to_owned(),
        broker_name: "b1".to_owned(),
        incarnation: Incarnation(3),
        run_id: RunId(id(4)),
        state: StampState::Clean { shutdown: id(5) },
        forming: Some(FormingState {
            promised: Some(Ballot { round: 1, store: StoreId(id(1)) }),
            accepted: Some((Ballot { round: 1, store: StoreId(id(1)) }, bytes::Bytes::from_static(b"value"))),
            decided: true,
        }),
        groups: vec![GroupStamp {
            group: GroupId(1),
            vhost: "/".to_owned(),
            lineage: vec![epoch(1, EpochCause::Founding, Vec::new()), epoch(2, mark, vec![left_out])],
            position: position(9),
            synced: position(8),
            policy,
            weakest: Durability::NoSync,
        }],
        members: vec![StampMember {
            store_id: StoreId(id(1)),
            raft_id: RaftId(1),
            name: "b1".to_owned(),
            cluster_address: "h:1".to_owned(),
            client_address: "h:2".to_owned(),
            admin_address: String::new(),
            voter: true,
            incarnation: Incarnation(3),
        }],
        members_position: position(2),
        possible_members: vec![StoreId(id(1))],
        witnessed: vec![Witness {
            store: StoreId(id(2)),
            incarnation: Incarnation(2),
            run: RunId(id(3)),
            positions: vec![(GroupId(1), position(4))],
        }],
        refilling: vec![GroupId(2)],
        wait_for: 2,
        recovery: RecoveryMode::Manual,
        boot_id: "boot".to_owned(),
        safety_number: 11,
        wall_clock_ms: 12,
        log_synced: SyncedPoint { generation: 1, offset: 4096 },
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = sample();
    let empty = Stamp {
        cluster_id: None,
        state: StampState::Empty,
        forming: None,
        groups: Vec::new(),
        members: Vec::new(),
        possible_members: Vec::new(),
        witnessed: Vec::new(),
        refilling: Vec::new(),
        recovery: RecoveryMode::Automatic,
        ..whole.clone()
    };
    let recovered = Stamp { state: StampState::Recovered { recovery: Uuid::from_u128(8) }, ..empty.clone() };
    let forming =
        Stamp { state: StampState::Forming, forming: Some(FormingState::default()), ..empty.clone() };
    let mut seeds = Vec::new();
    for (mode, stamp) in [(0, &whole), (1, &whole), (4, &empty), (6, &recovered), (0, &forming)] {
        let text = stamp.encode().expect("a stamp within its limits");
        seeds.push([&[mode][..], &text].concat());
    }
    let (one, mut two) = (empty.encode().expect("within limits"), empty);
    two.sequence += 1;
    seeds.push([&[2][..], &one, &two.encode().expect("within limits")].concat());
    seeds
}
