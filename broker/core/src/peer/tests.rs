use proptest::prelude::*;
use quorate_store::record::{Entry, EntryKind};

use super::*;

fn tag() -> LineageTag {
    LineageTag { epoch: Epoch(3), id: Uuid::from_u128(9) }
}

fn append(data: &[u8], index: u64) -> PeerMessage {
    let entry = |index: u64| Entry {
        term: Term(7),
        index: Index(index),
        kind: EntryKind::Command,
        data: Bytes::copy_from_slice(data),
    };
    let message = RaftMessage {
        kind: 1,
        to: 2,
        from: 1,
        term: 7,
        log_term: 6,
        index,
        entries: vec![entry(index + 1), entry(index + 2)],
        commit: index,
        commit_term: 0,
        request_snapshot: 0,
        reject: false,
        reject_hint: 0,
        context: Bytes::from_static(b"context"),
        priority: -1,
    };
    PeerMessage::Raft { group: GroupId(4), lineage: tag(), message: Box::new(message) }
}

fn closing(step: ClosingStep) -> PeerMessage {
    PeerMessage::Closing { shutdown: Uuid::from_u128(4), step }
}

fn samples() -> Vec<PeerMessage> {
    let offer = SnapshotOffer {
        transfer: 1,
        from: RaftId(1),
        to: RaftId(2),
        term: Term(3),
        index: Index(4),
        index_term: Term(2),
        voters: vec![1, 2, 3],
        learners: vec![4],
        peak: 3,
        gone: vec![5],
        estimate: 9,
    };
    let pair = |family, key: &'static [u8]| SnapshotPair {
        family,
        key: Bytes::from_static(key),
        value: Bytes::from_static(b"value"),
    };
    let admission = Admission {
        cluster_id: ClusterId(Uuid::from_u128(1)),
        cluster_name: "quorate".into(),
        raft_id: RaftId(4),
        groups: vec![
            (GroupId(0), "system".into(), Vec::new()),
            (GroupId(1), "/".into(), crate::formation::samples::epochs(&[1, 2])),
        ],
        members: vec![(StoreId(Uuid::from_u128(5)), RaftId(1), "a".into(), "h:1".into())],
    };
    vec![
        PeerMessage::Admit(Box::new(admission)),
        append(b"body", 10),
        PeerMessage::SnapshotOffer { group: GroupId(1), lineage: tag(), offer },
        PeerMessage::SnapshotPull { transfer: 1, chunk: 2 },
        PeerMessage::SnapshotChunk {
            transfer: 1,
            chunk: 2,
            pairs: vec![pair(Family::State, b"key"), pair(Family::Body, b"")],
            last: true,
        },
        PeerMessage::SnapshotGone { transfer: 8 },
        PeerMessage::SnapshotDone { transfer: 8, installed: true },
        PeerMessage::Life { incarnation: Incarnation(7) },
        PeerMessage::LifeAnswer(LifeAnswer::Noted { incarnation: Incarnation(7) }),
        PeerMessage::LifeAnswer(LifeAnswer::Stale {
            told: Incarnation(7),
            known: Incarnation(8),
            lacks: vec![(GroupId(1), Position { epoch: Epoch(1), term: Term(2), index: Index(3) })],
        }),
        closing(ClosingStep::Complete),
        closing(ClosingStep::Closed { why_not_clean: None }),
        closing(ClosingStep::Closed { why_not_clean: Some("slow".into()) }),
        closing(ClosingStep::Noted),
        PeerMessage::Departed { group: GroupId(1), store: StoreId(Uuid::from_u128(7)) },
        PeerMessage::Retired,
        PeerMessage::Replaced,
        PeerMessage::NotPermitted,
        PeerMessage::Sleep { group: GroupId(1), lineage: tag(), term: Term(3), end: Index(4) },
        append(&[7; 10_000], 10),
    ]
}

#[test]
fn what_is_written_is_read() {
    for message in samples() {
        assert_eq!(PeerMessage::decode(message.encode()), Ok(message));
    }
}

#[test]
fn a_message_cut_anywhere_or_with_bytes_left_over_is_refused() {
    for message in samples() {
        let bytes = message.encode();
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 600) {
            assert!(PeerMessage::decode(bytes.slice(..length)).is_err(), "{message:?} cut at {length}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(PeerMessage::decode(longer.into()).is_err(), "{message:?} with a byte left over");
    }
}

#[test]
fn a_flipped_bit_in_a_chunk_is_noticed() {
    let chunk = &samples()[4];
    let bytes = chunk.encode();
    // After kind, transfer, chunk number, flag and checksum come the pairs.
    for bit in 22 * 8..bytes.len() * 8 {
        let mut broken = bytes.to_vec();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(PeerMessage::decode(broken.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn an_append_with_a_gap_or_a_falling_term_is_not_sound() {
    let PeerMessage::Raft { message, .. } = append(&[], 10) else { unreachable!() };
    assert!(message.is_sound());
    let mut gap = message.clone();
    gap.entries[1].index = Index(13);
    assert!(!gap.is_sound());
    let mut falling = message.clone();
    falling.entries[1].term = Term(5);
    assert!(!falling.is_sound());
    let mut future = message.clone();
    future.entries[1].term = Term(8);
    assert!(!future.is_sound());
    let mut nowhere = message.clone();
    nowhere.log_term = 0;
    assert!(!nowhere.is_sound(), "raft-rs takes it for one that fits, wherever it is");
    let mut own = message.clone();
    own.term = 0;
    own.entries.clear();
    assert!(!own.is_sound(), "raft-rs takes it for one of its own");
    let mut end = message;
    end.entries.clear();
    end.index = u64::MAX;
    assert!(!end.is_sound());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = PeerMessage::decode(bytes.into());
    }

    #[test]
    fn appends_survive_the_wire(data in proptest::collection::vec(any::<u8>(), 0..300), index in 0..1_000_000_u64) {
        let message = append(&data, index);
        prop_assert_eq!(PeerMessage::decode(message.encode()), Ok(message));
    }
}
