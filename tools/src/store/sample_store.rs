//! A small store on disk for tests: `system`, of which it holds nothing, and `/` with five entries.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::control::{Control, Shutdown};
use quorate_core::io::PeerKey;
use quorate_core::machine::VhostMachine;
use quorate_store::files::Files;
use quorate_store::files::real::RealFiles;
use quorate_store::ids::{
    ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, RunId, StoreId, Term,
};
use quorate_store::log::{self, LogConfig};
use quorate_store::open::{OpenOptions, OpenStore, open};
use quorate_store::record::{Batch, Entry, EntryKind, HardState, Record};
use quorate_store::stamp::{
    Durability, DurabilityPolicy, EpochCause, EpochEntry, GroupStamp, RecoveryMode, Stamp, StampMember,
    StampState,
};
use quorate_store::state::{Family, STATE_DIRECTORY, StateStore, StateWrite};
use quorate_store_rocks::{RocksConfig, RocksStore};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const ID: StoreId = StoreId(Uuid::from_u128(1));

/// Opens it as a broker would, making it first.
pub(crate) fn open_store(dir: &Path) -> OpenStore {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let log = LogConfig { segment_bytes: 64 << 10, ..LogConfig::new(ID, 99) };
    open(&files, dir, OpenOptions { process: std::process::id(), fresh_id: ID, log, reserve_bytes: 4096 })
        .unwrap()
}

/// Its stamp, but for what the log tells.
pub(crate) fn stamp(state: StampState) -> Stamp {
    let position = Position { epoch: Epoch(1), term: Term(2), index: Index(3) };
    let sync = DurabilityPolicy { leader: Durability::Sync, replicas: Durability::Sync };
    let epoch = EpochEntry {
        number: Epoch(1),
        id: Uuid::from_u128(7),
        fork: Position::default(),
        term: Term(1),
        cause: EpochCause::Founding,
        left_out: Vec::new(),
        who: "b1".into(),
        when_ms: 1,
        why: "founded".into(),
    };
    let group = |number: u32, vhost: &str| GroupStamp {
        group: GroupId(number),
        vhost: vhost.into(),
        lineage: vec![epoch.clone()],
        position,
        synced: position,
        policy: sync,
        weakest: Durability::Sync,
    };
    Stamp {
        sequence: 0,
        store_id: ID,
        cluster_id: Some(ClusterId(Uuid::from_u128(5))),
        cluster_name: "test".into(),
        broker_name: "b1".into(),
        incarnation: Incarnation(4),
        run_id: RunId(Uuid::from_u128(6)),
        state,
        forming: None,
        groups: vec![group(0, "system"), group(1, "/")],
        members: vec![StampMember {
            store_id: ID,
            raft_id: RaftId(1),
            name: "b1".into(),
            cluster_address: "h:1".into(),
            client_address: "h:2".into(),
            admin_address: "h:3".into(),
            voter: true,
            incarnation: Incarnation(4),
        }],
        members_position: position,
        possible_members: vec![ID],
        witnessed: Vec::new(),
        refilling: Vec::new(),
        wait_for: 3,
        recovery: RecoveryMode::Automatic,
        boot_id: "another boot".into(),
        safety_number: 9,
        wall_clock_ms: 10,
        log_synced: log::SyncedPoint::default(),
    }
}

/// The first state of group 1, at the beginning of its log.
fn write_state(dir: &Path) {
    let space = GroupId(1);
    // Version, applied index and term, nobody votes, learns or is gone, the most voters, the last epoch with clients' work.
    // Then no priorities, no more nodes required than a majority, to sync on both sides, everybody permitted, nobody
    // designated, no number, nothing in force, no audit.
    let mut meta = vec![4];
    meta.extend_from_slice(&[0; 8 + 8 + 4 + 4 + 4 + 4 + 4]);
    meta.extend_from_slice(&[0; 4 + 4]);
    meta.extend_from_slice(&[2, 2]);
    meta.extend_from_slice(&[0; 4 + 8 + 2 + 8 + 1 + 4]);
    let mut batch = VhostMachine::new().checkpoint(space, meta.into());
    let mut key = b"space/".to_vec();
    key.extend_from_slice(&1_u32.to_be_bytes());
    let value = Bytes::copy_from_slice(&space.0.to_be_bytes());
    batch.writes.push(StateWrite::Put(Family::Node, key.into(), value));
    let mut state = RocksStore::open(&dir.join(STATE_DIRECTORY), RocksConfig::default()).unwrap();
    state.write(&batch).unwrap();
    state.flush().unwrap();
}

/// A store in use, as a broker leaves it: stamped, with entries in the log beyond what the stamp says.
pub(crate) fn used(state: StampState) -> TempDir {
    let temporary = tempfile::tempdir().unwrap();
    let mut store = open_store(temporary.path());
    store.stamp_file.write(stamp(StampState::Dirty)).unwrap();
    let mut log = store.log.take().unwrap();
    let entry = |index: u64| {
        let data = Bytes::from_static(b"data");
        Record::Entry(
            GroupId(1),
            Epoch(1),
            Entry { term: Term(2), index: Index(index), kind: EntryKind::Command, data },
        )
    };
    let hard_state = HardState { term: Term(3), vote: 1, commit: Index(4) };
    let mut records: Vec<Record> = (1..=5).map(entry).collect();
    if let (StampState::Clean { shutdown }, Some(Record::Entry(_, _, last))) = (state, records.last_mut()) {
        let life = PeerKey { store: ID, run: stamp(state).run_id };
        let control = Shutdown { id: shutdown, initiator: ID, participants: vec![life] };
        (last.kind, last.data) = (EntryKind::Control, Control::Shutdown(control).encode());
    }
    write_state(temporary.path());
    records.push(Record::HardState(GroupId(1), Epoch(1), hard_state));
    log.writer.append(&[&Batch { records }]).unwrap();
    log.writer.sync().unwrap();
    store.stamp_file.write(Stamp { log_synced: log.writer.synced_point(), ..stamp(state) }).unwrap();
    temporary
}
