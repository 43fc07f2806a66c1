//! Logs of any content under checksums that fit: the checksums are no secret, so whoever made the directory may have made
//! them. Such a log is read or refused; nothing it says is counted with unchecked.

use super::super::format::{ALIGNMENT, BatchBuilder, BatchBytes, FIRST_BATCH, Seal, SegmentHeader};
use super::super::index::Effect;
use super::*;

const SALT: u64 = 0x5a17;
const LENGTH: u64 = 64 << 10;

/// Numbers near each other and near the ends, where sums go wrong.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..12_u64, 1 => (u64::MAX - 3)..=u64::MAX, 1 => any::<u64>()]
}

fn any_place() -> impl Strategy<Value = (Index, Term)> {
    (any_number(), any_number()).prop_map(|(index, term)| (Index(index), Term(term)))
}

fn any_hard_state() -> impl Strategy<Value = HardState> {
    (any_number(), any_number(), any_number()).prop_map(|(term, vote, commit)| HardState {
        term: Term(term),
        vote,
        commit: Index(commit),
    })
}

#[derive(Clone, Debug)]
enum Forged {
    Entry(GroupId, Epoch, Entry),
    Effect(Effect),
}

fn any_forged() -> impl Strategy<Value = Forged> {
    let group = || (0..3_u32).prop_map(GroupId);
    let epoch = || any::<u32>().prop_map(Epoch);
    let entry =
        (group(), epoch(), any_place(), 0..40_usize).prop_map(|(group, epoch, (index, term), size)| {
            let data = Bytes::from(vec![7; size]);
            Forged::Entry(group, epoch, Entry { term, index, kind: EntryKind::Command, data })
        });
    prop_oneof![
        6 => entry,
        1 => (group(), epoch(), any_hard_state()).prop_map(|(group, epoch, hard_state)| {
            Forged::Effect(Effect::HardState { group, epoch, hard_state })
        }),
        1 => (group(), epoch(), any_place()).prop_map(|(group, epoch, (index, term))| {
            Forged::Effect(Effect::Reset { group, epoch, term, index })
        }),
        1 => group().prop_map(|group| Forged::Effect(Effect::Remove { group })),
        1 => (group(), epoch(), any_place()).prop_map(|(group, epoch, (index, term))| {
            Forged::Effect(Effect::Compact { group, epoch, term, index })
        }),
        1 => (group(), epoch(), any_place(), any_place(), any_hard_state()).prop_map(
            |(group, epoch, compacted, last, hard_state)| {
                Forged::Effect(Effect::Base { group, epoch, compacted, last, hard_state })
            }
        ),
    ]
}

/// A segment with these batches, each complete and following the one before.
fn segment(header: SegmentHeader, batches: &[Vec<Forged>], synced: SyncedPoint) -> Vec<u8> {
    segment_from(1, header, batches, synced)
}

/// The same, the first batch with this sequence.
fn segment_from(first: u64, header: SegmentHeader, batches: &[Vec<Forged>], synced: SyncedPoint) -> Vec<u8> {
    let seal = Seal::new(header.generation, header.salt);
    let mut bytes = header.encode();
    let (mut previous, mut buffer) = (0, BatchBytes::default());
    for (batch, number) in batches.iter().zip(0..) {
        let mut builder = BatchBuilder::new(&seal, &mut buffer, bytes.len() as u64);
        for record in batch {
            match record {
                Forged::Entry(group, epoch, entry) => {
                    builder.entry(*group, *epoch, entry, 1).unwrap();
                }
                Forged::Effect(effect) => builder.effect(effect).unwrap(),
            }
        }
        previous = builder.finish(first + number, previous, synced);
        bytes.extend(buffer.pieces().concat());
    }
    bytes.resize(usize::try_from(LENGTH).unwrap(), 0);
    bytes
}

fn header() -> SegmentHeader {
    SegmentHeader { generation: 1, salt: SALT, store: config().store, length: LENGTH, previous_end: 0 }
}

/// Reads such a log as the inspector does; whatever it claims to hold can be asked for.
fn read_all(bytes: &[u8]) -> Result<usize, LogError> {
    let disk = CrashFiles::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.replace(&Path::new(DIR).join(segment_name(1)), bytes);
    let (reader, recovered) = inspect(&disk, Path::new(DIR), config().store, None)?;
    let mut count = 0;
    for group in &recovered.groups {
        count += reader.read(group.group, group.first, Index(u64::MAX), 1 << 20)?.len();
        for index in [group.first, group.last, Index(0), Index(u64::MAX)] {
            let _ = reader.term(group.group, index);
            let _ = reader.read(group.group, index, index, 0);
        }
    }
    Ok(count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_records_under_fitting_checksums_are_read_or_refused(
        batches in proptest::collection::vec(proptest::collection::vec(any_forged(), 0..8), 1..6),
        synced in (0..3_u64, any_number())
    ) {
        let synced = SyncedPoint { generation: synced.0, offset: synced.1 };
        let read = read_all(&segment(header(), &batches, synced));
        prop_assert!(matches!(read, Ok(_) | Err(LogError::Damaged { .. })), "{:?}", read);
    }

    #[test]
    fn any_segment_header_under_a_fitting_checksum_is_read_or_refused(
        generation in any_number(), length in any_number(), previous_end in any_number()
    ) {
        let forged = SegmentHeader { generation, length, previous_end, ..header() };
        let read = read_all(&segment(forged, &[], SyncedPoint::default()));
        prop_assert!(matches!(read, Ok(0) | Err(LogError::Damaged { .. })), "{:?}", read);
    }

    #[test]
    fn any_length_of_a_batch_under_a_fitting_checksum_is_read_or_refused(length in prop_oneof![
        any::<u64>(), 0..200_u64, (u64::MAX - 5000)..=u64::MAX, (1_u64 << 63) - 5..(1 << 63) + 5, LENGTH - 9000..LENGTH
    ]) {
        let mut bytes = segment(header(), &[], SyncedPoint::default());
        let at = usize::try_from(FIRST_BATCH).unwrap();
        let head = Seal::new(1, SALT).batch_of_length(FIRST_BATCH, 1, length);
        bytes[at..at + head.len()].copy_from_slice(&head);
        // What looks like another one follows, as far as whatever looks for it may go.
        bytes.copy_within(at..at + ALIGNMENT, at + ALIGNMENT);
        let read = read_all(&bytes);
        prop_assert!(matches!(read, Ok(0) | Err(LogError::Damaged { .. })), "{:?}", read);
    }
}

#[test]
fn a_forged_log_that_keeps_the_rules_is_read() {
    let entry = |index| {
        let entry =
            Entry { term: Term(1), index: Index(index), kind: EntryKind::Command, data: Bytes::new() };
        Forged::Entry(G1, Epoch(1), entry)
    };
    let batches = [vec![entry(1), entry(2)], vec![entry(3)]];
    assert_eq!(read_all(&segment(header(), &batches, SyncedPoint::default())).unwrap(), 3);
}

/// A log may have come to the last number only by forgery; what is written after it could not be read again.
#[test]
fn nothing_is_written_after_the_last_number() {
    let entry = Entry { term: Term(1), index: Index(1), kind: EntryKind::Command, data: Bytes::new() };
    let batch = vec![Forged::Entry(G1, Epoch(1), entry)];
    let bytes = segment_from(u64::MAX - 1, header(), &[batch], SyncedPoint::default());
    let disk = CrashFiles::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.replace(&Path::new(DIR).join(segment_name(1)), &bytes);
    let (mut writer, _, recovered) = open_log(&disk, None).unwrap();
    assert_eq!(recovered.groups.len(), 1);
    let refused = writer.append(&[&Batch { records: entries(1, 2, 1, &[b"more"]) }]);
    assert!(matches!(refused, Err(LogError::Stopped(_))), "{refused:?}");
    open_log(&disk, None).expect("it still opens");
}
