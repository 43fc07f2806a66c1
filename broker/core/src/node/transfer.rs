//! Updates by snapshot: the node's side of [`super::source`] and [`super::sink`].

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, Index, RaftId, StoreId, Term};
use quorate_store::record::Entry;
use quorate_store::state::{Family, Pair, StateBatch};

use super::config::limits;
use super::group::{Group, Machine};
use super::meta::{Meta, Space};
use super::sink::{Sink, SinkStage};
use super::source::{Source, SourceNeed};
use super::{LoadFor, Node, ScanFor, Then};
use crate::event::{Event, Level};
use crate::io::{Output, PeerKey};
use crate::machine::{Queue, SystemMachine, VhostMachine};
use crate::peer::{LineageTag, PeerMessage, SnapshotOffer, SnapshotPair};
use crate::replica::Offer;

/// A transfer whose receiver says nothing for so long is given up, in milliseconds.
const IDLE_MILLIS: u64 = 30_000;

impl Node {
    /// Raft needs a snapshot for this node: begin to make one.
    pub(super) fn snapshot_wanted(&mut self, group: &mut Group, to: RaftId) {
        // One that was cut off is not kept for its receiver while another one waits.
        let cut = group.sources.current.as_ref().is_some_and(|source| !self.peers.is_linked(source.to_store));
        if cut && group.sources.current.as_ref().is_some_and(|source| source.to != to) {
            self.close_source(group);
        }
        if group.sources.current.is_some() || group.checkpoint_running {
            return;
        }
        // Raft asks again.
        if !self.may_checkpoint(group) {
            return;
        }
        let Some(store) = self.peers.store_of(to).filter(|store| self.peers.is_linked(*store)) else {
            return;
        };
        let transfer = self.next_transfer;
        self.next_transfer += 1;
        let view = self.view();
        let place = (group.applied, group.applied_term);
        let configuration = group.configuration.clone();
        let mut source =
            Source::new(transfer, group.space, (to, store), view, place, configuration, self.now);
        source.estimate = group.machine.vhost().map_or(0, |machine| machine.queues().map(Queue::bytes).sum());
        group.sources.current = Some(source);
        group.checkpoint_running = true;
        let index = group.applied;
        let batch = group.checkpoint();
        let ticket = self.ticket();
        self.after(ticket, Then::Checkpointed(group.id, index));
        self.after(ticket, Then::SourceReady(group.id, transfer));
        self.emit(Output::WriteState { ticket, batch, flush: true, open_view: Some(view) });
    }

    pub(super) fn source_ready(&mut self, id: GroupId, transfer: u64) {
        self.with_group(id, |node, group| {
            let Some(source) = group.sources.current.as_mut().filter(|source| source.transfer == transfer)
            else {
                return;
            };
            source.ready = true;
            source.last_used = node.now;
            let offer = Offer {
                to: source.to,
                index: source.index,
                term: source.term,
                conf_state: source.configuration.to_raft(),
            };
            let (vhost, to) = (group.vhost.clone(), source.to_store);
            let progress = format!("snapshot at {} ready to be sent", source.index);
            if let Some(replica) = &mut group.replica {
                replica.set_offer(Some(offer));
            }
            let member = node.name_of(to);
            node.event(Event::Update { vhost, member, progress });
        });
    }

    /// Raft sends the snapshot: the receiver is offered it, and pulls.
    pub(super) fn offer_snapshot(&mut self, group: &mut Group, to: RaftId, term: u64) {
        let Some(source) = group.sources.current.as_ref().filter(|source| source.to == to && source.ready)
        else {
            if let Some(replica) = &mut group.replica {
                replica.report_snapshot(to, false);
            }
            return;
        };
        let offer = SnapshotOffer {
            transfer: source.transfer,
            from: self.raft_id.unwrap_or_default(),
            to,
            term: Term(term),
            index: source.index,
            index_term: source.term,
            voters: source.configuration.voters.iter().copied().collect(),
            learners: source.configuration.learners.iter().copied().collect(),
            peak: source.configuration.peak,
            gone: source.configuration.gone.iter().copied().collect(),
            estimate: source.estimate,
        };
        let message = PeerMessage::SnapshotOffer { group: group.id, lineage: group.lineage.tag(), offer };
        if !self.send_raft(group, to, message, None)
            && let Some(replica) = &mut group.replica
        {
            replica.report_snapshot(to, false);
        }
    }

    fn with_source(&mut self, transfer: u64, work: impl FnOnce(&mut Self, &mut Group)) -> bool {
        let id = self.groups.values().find_map(|group| {
            group.sources.current.as_ref().filter(|source| source.transfer == transfer).map(|_| group.id)
        });
        match id {
            Some(id) => {
                self.with_group(id, work);
                true
            }
            None => false,
        }
    }

    pub(super) fn snapshot_pulled(&mut self, from: PeerKey, transfer: u64, chunk: u64) {
        let now = self.now;
        let mut here = false;
        self.with_source(transfer, |node, group| {
            if let Some(source) = &mut group.sources.current
                && source.to_store == from.store
            {
                here = source.pull(chunk, now);
                if here {
                    node.drive_source(group);
                } else {
                    node.drop_source(group);
                }
            }
        });
        if !here {
            self.emit(Output::Send {
                to: from,
                message: PeerMessage::SnapshotGone { transfer },
                after: None,
            });
        }
    }

    fn drive_source(&mut self, group: &mut Group) {
        let (now, rate) = (self.now, self.config.update_rate);
        let Some(source) = &mut group.sources.current else { return };
        if source.is_pulled() && !source.may_send(now, rate) {
            return;
        }
        let (transfer, view, to_store) = (source.transfer, source.view, source.to_store);
        match source.next() {
            SourceNeed::Pull => {}
            SourceNeed::Scan { family, from, to } => {
                let ticket = self.ticket();
                self.scans.insert(ticket, ScanFor::Source(group.id, transfer));
                let max_bytes =
                    if family == Family::State { limits::CHUNK_BYTES / 16 } else { limits::CHUNK_BYTES };
                self.emit(Output::Scan { ticket, family, from, to, max_bytes, view: Some(view) });
            }
            SourceNeed::Load { from, to } => {
                let ticket = self.ticket();
                self.loads.insert(ticket, LoadFor::Source(group.id, transfer));
                self.emit(Output::Load { ticket, group: group.id, from, to, max_bytes: limits::CHUNK_BYTES });
            }
            SourceNeed::Send { chunk, pairs, last } => {
                source.spent(&pairs);
                if let Some(to) = self.peers.key(to_store) {
                    let message = PeerMessage::SnapshotChunk { transfer, chunk, pairs, last };
                    self.emit(Output::Send { to, message, after: None });
                }
            }
            SourceNeed::Broken => {
                self.note(Level::Error, format!("the state of virtual host {} cannot be sent", group.vhost));
                self.drop_source(group);
            }
        }
    }

    pub(super) fn source_loaded(&mut self, id: GroupId, transfer: u64, entries: Vec<Entry>) {
        self.with_group(id, |node, group| {
            if let Some(source) = group.sources.current.as_mut().filter(|source| source.transfer == transfer)
            {
                source.loaded(entries);
                node.drive_source(group);
            }
        });
    }

    pub(super) fn source_scanned(&mut self, id: GroupId, transfer: u64, pairs: Vec<Pair>, complete: bool) {
        self.with_group(id, |node, group| {
            if let Some(source) = group.sources.current.as_mut().filter(|source| source.transfer == transfer)
            {
                source.scanned(pairs, complete);
                node.drive_source(group);
            }
        });
    }

    pub(super) fn snapshot_done(&mut self, from: PeerKey, transfer: u64, installed: bool) {
        self.with_source(transfer, |node, group| {
            let Some(source) = group.sources.current.as_ref().filter(|source| source.to_store == from.store)
            else {
                return;
            };
            let (to, bytes, vhost) = (source.to, source.bytes, group.vhost.clone());
            if installed {
                node.counters.snapshots_sent += 1;
            }
            let progress =
                if installed { format!("snapshot sent, {bytes} bytes") } else { "snapshot given up".into() };
            let member = node.name_of(from.store);
            node.event(Event::Update { vhost, member, progress });
            if let Some(replica) = &mut group.replica {
                replica.report_snapshot(to, installed);
            }
            node.close_source(group);
        });
    }

    fn close_source(&mut self, group: &mut Group) {
        if let Some(source) = group.sources.current.take() {
            // A view that is not open yet is opened and closed in this order.
            self.emit(Output::CloseView { view: source.view });
        }
        if let Some(replica) = &mut group.replica {
            replica.set_offer(None);
        }
    }

    /// Ends a transfer from here; Raft tries again.
    pub(super) fn drop_source(&mut self, group: &mut Group) {
        let Some(source) = &group.sources.current else { return };
        let to = source.to;
        if let Some(replica) = &mut group.replica {
            replica.report_snapshot(to, false);
        }
        self.close_source(group);
    }

    pub(super) fn drop_transfers_with(&mut self, group: &mut Group, key: PeerKey) {
        if let Some(source) = &group.sources.current
            && source.to_store == key.store
            && let Some(replica) = &mut group.replica
        {
            // The view stays for a while: the same process goes on where it was cut off. Raft asks again.
            replica.report_snapshot(source.to, false);
        }
        if let Some(sink) = &mut group.sink
            && sink.from == key
            && sink.is_receiving()
        {
            sink.stage = SinkStage::Receiving { cut_at: Some(self.now) };
        }
    }

    /// A leader sends entries: if the transfer was cut off, or is that of a leader before this one, which does not go on
    /// with it, the log is the shorter way.
    pub(super) fn entries_instead(&mut self, group: &mut Group, from: StoreId, term: Term) {
        let is_now = group.replica.as_ref().is_some_and(|replica| term >= replica.term());
        let is_over = |sink: &Sink| {
            let of_another = sink.from.store != from && sink.is_receiving();
            sink.cut_at().is_some() || (of_another && is_now)
        };
        if group.sink.as_ref().is_some_and(is_over) {
            self.drop_sink(group);
        }
    }

    /// Ends every transfer of a group that is given up.
    pub(super) fn drop_transfers(&mut self, group: &mut Group) {
        self.drop_source(group);
        self.drop_sink(group);
    }

    fn drop_sink(&mut self, group: &mut Group) {
        let Some(sink) = group.sink.take() else { return };
        let batch = StateBatch { writes: sink.space.wipe().into() };
        let ticket = self.ticket();
        self.emit(Output::WriteState { ticket, batch, flush: false, open_view: None });
    }

    pub(super) fn snapshot_offered(
        &mut self,
        from: PeerKey,
        id: GroupId,
        lineage: LineageTag,
        offer: SnapshotOffer,
    ) {
        self.peers.route(offer.from, from.store);
        self.with_group(id, |node, group| {
            let Some(replica) = &group.replica else { return };
            if group.lineage.tag() != lineage || offer.to != replica.id() || offer.term < replica.term() {
                return;
            }
            if replica.has(offer.index, offer.index_term) || offer.index <= group.applied {
                // Everything up to there is here: the leader only has to go on from there.
                let message = PeerMessage::SnapshotDone { transfer: offer.transfer, installed: true };
                node.emit(Output::Send { to: from, message, after: None });
                return;
            }
            match &mut group.sink {
                Some(sink) if sink.from == from && sink.offer.transfer == offer.transfer => {
                    let was_cut = sink.cut_at().is_some();
                    if was_cut {
                        sink.stage = SinkStage::Receiving { cut_at: None };
                    }
                    if was_cut && !sink.is_writing() {
                        let (transfer, chunk) = (offer.transfer, sink.next_chunk);
                        let progress = format!(
                            "going on with the snapshot at {}, {} bytes are here",
                            offer.index, sink.bytes
                        );
                        let message = PeerMessage::SnapshotPull { transfer, chunk };
                        node.emit(Output::Send { to: from, message, after: None });
                        let (vhost, member) = (group.vhost.clone(), node.name_of(from.store));
                        node.event(Event::Update { vhost, member, progress });
                    }
                    return;
                }
                Some(sink) if !sink.is_receiving() => return,
                _ => {}
            }
            node.drop_sink(group);
            let space = node.new_space();
            let mut writes = vec![Space::used_below(node.next_space)];
            writes.extend(space.wipe());
            let ticket = node.ticket();
            node.emit(Output::WriteState {
                ticket,
                batch: StateBatch { writes },
                flush: false,
                open_view: None,
            });
            let vhost = group.vhost.clone();
            let member = node.name_of(from.store);
            let progress = format!("receiving a snapshot at {}", offer.index);
            node.event(Event::Update { vhost, member, progress });
            let transfer = offer.transfer;
            group.sink = Some(Sink::new(from, offer, space));
            let message = PeerMessage::SnapshotPull { transfer, chunk: 0 };
            node.emit(Output::Send { to: from, message, after: None });
        });
    }

    fn with_sink(&mut self, from: PeerKey, transfer: u64, work: impl FnOnce(&mut Self, &mut Group)) {
        let id = self.groups.values().find_map(|group| {
            let sink = group.sink.as_ref()?;
            (sink.from == from && sink.offer.transfer == transfer).then_some(group.id)
        });
        if let Some(id) = id {
            self.with_group(id, work);
        }
    }

    pub(super) fn snapshot_chunk(
        &mut self,
        from: PeerKey,
        transfer: u64,
        chunk: u64,
        pairs: Vec<SnapshotPair>,
        last: bool,
    ) {
        self.with_sink(from, transfer, |node, group| {
            let Some(sink) = &mut group.sink else { return };
            let Some(batch) = sink.take(chunk, pairs, last) else { return };
            if let Some(progress) = sink.progress(node.now) {
                let (vhost, member) = (group.vhost.clone(), node.name_of(from.store));
                node.event(Event::Update { vhost, member, progress });
            }
            let ticket = node.ticket();
            node.after(ticket, Then::SinkWritten(group.id, transfer));
            node.emit(Output::WriteState { ticket, batch, flush: false, open_view: None });
        });
    }

    pub(super) fn sink_written(&mut self, id: GroupId, transfer: u64) {
        self.with_group(id, |node, group| {
            let Some(sink) = group.sink.as_mut().filter(|sink| sink.offer.transfer == transfer) else {
                return;
            };
            sink.written = sink.next_chunk;
            if !sink.last_seen {
                let (to, chunk) = (sink.from, sink.next_chunk);
                node.emit(Output::Send {
                    to,
                    message: PeerMessage::SnapshotPull { transfer, chunk },
                    after: None,
                });
                return;
            }
            if group.checkpoint_running {
                // The old state is still being written; its space must not be wiped under it.
                node.sinks_waiting = true;
                return;
            }
            node.assign_sink(group);
        });
    }

    /// One write makes the received space the group's; the old one goes with it.
    fn assign_sink(&mut self, group: &mut Group) {
        let Some(sink) = &mut group.sink else { return };
        if !sink.is_receiving() || !sink.last_seen {
            return;
        }
        sink.stage = SinkStage::Assigning;
        let mut writes = vec![sink.space.assign(group.id)];
        writes.extend(group.space.wipe());
        let transfer = sink.offer.transfer;
        let ticket = self.ticket();
        self.after(ticket, Then::SinkAssigned(group.id, transfer));
        self.emit(Output::WriteState { ticket, batch: StateBatch { writes }, flush: true, open_view: None });
    }

    pub(super) fn sink_assigned(&mut self, id: GroupId, transfer: u64) {
        self.with_group(id, |node, group| {
            let Some(sink) = group.sink.as_mut().filter(|sink| sink.offer.transfer == transfer) else {
                return;
            };
            sink.stage = SinkStage::Restoring;
            group.space = sink.space;
            let (from, to) = (sink.space.from(), sink.space.to());
            node.scan_sink(id, transfer, from, to);
        });
    }

    fn scan_sink(&mut self, id: GroupId, transfer: u64, from: bytes::Bytes, to: bytes::Bytes) {
        let ticket = self.ticket();
        self.scans.insert(ticket, ScanFor::Sink(id, transfer));
        let max_bytes = limits::CHUNK_BYTES * 8;
        self.emit(Output::Scan { ticket, family: Family::State, from, to, max_bytes, view: None });
    }

    pub(super) fn sink_scanned(&mut self, id: GroupId, transfer: u64, pairs: Vec<Pair>, complete: bool) {
        self.with_group(id, |node, group| {
            let Some(sink) = group.sink.as_mut().filter(|sink| sink.offer.transfer == transfer) else {
                return;
            };
            let next = pairs.last().map(|(key, _)| {
                let mut next = key.to_vec();
                next.push(0);
                bytes::Bytes::from(next)
            });
            sink.pairs.extend(pairs);
            let to = sink.space.to();
            match next {
                Some(next) if !complete => node.scan_sink(id, transfer, next, to),
                _ => node.restore_sink(group),
            }
        });
    }

    fn restore_sink(&mut self, group: &mut Group) {
        let Some(sink) = &mut group.sink else { return };
        let pairs = std::mem::take(&mut sink.pairs);
        let prefix = sink.space.prefix();
        let restored = if group.id == GroupId::SYSTEM {
            SystemMachine::restore(prefix, pairs)
                .map(|(meta, machine)| (meta, Machine::System(Box::new(machine))))
        } else {
            VhostMachine::restore(prefix, pairs)
                .map(|(meta, machine)| (meta, Machine::Vhost(Box::new(machine))))
        };
        let restored = restored.map_err(|error| error.to_string()).and_then(|(meta, machine)| {
            Ok((Meta::decode(meta).map_err(|error| error.to_string())?, machine))
        });
        match restored {
            Ok((meta, machine)) => {
                assert_eq!(meta.applied, sink.offer.index, "the state received is the state offered");
                sink.stage = SinkStage::Ready;
                // Until Raft takes the snapshot, entries below it may still be committed: they are the old machine's.
                sink.machine = Some(machine);
                sink.client_epoch = meta.client_epoch;
                sink.controls = meta.controls;
            }
            Err(error) => {
                // The old state is gone: going on would mean serving from nothing.
                let reason =
                    format!("the state received for virtual host {} is unreadable: {error}", group.vhost);
                self.exit(70, reason);
            }
        }
    }

    /// Called once a round: received states meet Raft, forgotten transfers end.
    pub(super) fn drive_transfers(&mut self, looked_at: &BTreeSet<GroupId>) {
        let mut waiting = false;
        for id in looked_at {
            self.visit(*id, |node, group| {
                if group
                    .sources
                    .current
                    .as_ref()
                    .is_some_and(|source| source.ready && node.now.since(source.last_used) > IDLE_MILLIS)
                {
                    node.drop_source(group);
                }
                if group.sources.current.is_some() {
                    node.drive_source(group);
                }
                let forgotten =
                    |sink: &Sink| sink.cut_at().is_some_and(|at| node.now.since(at) > IDLE_MILLIS);
                if group.sink.as_ref().is_some_and(forgotten) {
                    node.drop_sink(group);
                }
                if node.sinks_waiting && !group.checkpoint_running {
                    node.assign_sink(group);
                }
                // Each round goes on with it: what it may send grows with time, and what it waits for may be elsewhere.
                if group.sources.current.is_some() || group.sink.is_some() {
                    node.groups.touch(group.id);
                }
                let Some(sink) = &group.sink else { return };
                waiting |= sink.last_seen && sink.is_receiving();
                if sink.stage != SinkStage::Ready {
                    return;
                }
                let Some(replica) = &mut group.replica else { return };
                let Some(leader) = replica.leader().filter(|leader| *leader != replica.id()) else { return };
                let configuration = sink.configuration();
                let offer = Offer {
                    to: replica.id(),
                    index: sink.offer.index,
                    term: sink.offer.index_term,
                    conf_state: configuration.to_raft(),
                };
                // Raft's answer comes with the next turn of this round. If it does not take it now, asking again at
                // once would never end.
                node.dirty |= replica.step_snapshot(leader, &offer);
            });
        }
        self.sinks_waiting = waiting;
    }

    /// Raft took the snapshot: the machine that waits for it becomes the group's.
    pub(super) fn snapshot_installed(&mut self, group: &mut Group, index: Index, term: Term) {
        let Some(mut sink) = group.sink.take() else {
            self.exit(70, format!("group {}: a snapshot was installed that was never received", group.id));
            return;
        };
        assert_eq!(sink.stage, SinkStage::Ready, "Raft is told only of a state that is there");
        assert_eq!(index, sink.offer.index, "and only of that one");
        group.machine = sink.machine.take().expect("a state that is there has a machine");
        if let Some(machine) = group.machine.vhost_mut() {
            machine.take_touched();
        }
        group.configuration = sink.configuration();
        group.client_epoch = sink.client_epoch;
        group.controls = std::mem::take(&mut sink.controls);
        self.forget_bequeathed(group, index);
        group.acknowledging.decided(index);
        group.applied = index;
        group.applied_term = term;
        group.checkpointed = index;
        group.bytes_since_checkpoint = 0;
        group.retirement = super::group::Retirement::default();
        self.counters.snapshots_received += 1;
        self.stamp_changed = true;
        let vhost = group.vhost.clone();
        let member = self.name_of(sink.from.store);
        let progress = format!("snapshot at {index} installed, {} bytes", sink.bytes);
        self.event(Event::Update { vhost, member, progress });
        let message = PeerMessage::SnapshotDone { transfer: sink.offer.transfer, installed: true };
        self.emit(Output::Send { to: sink.from, message, after: None });
        if group.id == GroupId::SYSTEM {
            self.system_arrived = true;
        }
    }

    pub(super) fn snapshot_gone(&mut self, from: PeerKey, transfer: u64) {
        self.with_sink(from, transfer, |node, group| {
            if group.sink.as_ref().is_some_and(Sink::is_receiving) {
                node.drop_sink(group);
            }
        });
    }
}
