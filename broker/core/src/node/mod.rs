//! One broker's deciding half: everything it does follows from what it is told.
//!
//! ```text
//!            ┌───────────────────────── Node ─────────────────────────┐
//!  Input ───>│ startup (recover, decide, begin) ── peers, membership   │
//!            │ sessions ─> proposals ─> round ─> replica (Raft) ─> log │───> Output
//!            │ committed ─> apply ─> machine ─> confirms, deliveries   │
//!            │ retire (spill, checkpoint), transfer (snapshots)        │
//!            └────────────────────────────────────────────────────────┘
//! ```
//!
//! A *round* is everything between two moments at which nothing is left to do: all inputs that were there, one log
//! batch, one sync. Nothing here waits, reads a clock, or rolls dice of its own.

mod admin;
mod apply;
mod bequeathed;
mod body;
pub mod config;
mod configuration;
mod controls;
mod deleted;
mod deliver;
mod done;
mod durability;
mod force_asks;
mod forced;
mod found;
mod gate;
mod group;
mod groups;
mod held;
mod in_force;
mod life;
mod lineage;
mod links;
mod marked;
mod members;
mod membership;
mod meta;
pub mod offline;
mod origin;
mod peers;
mod reads;
mod recovery;
mod rejoin;
mod requests;
mod retire;
mod round;
mod safety;
mod serving;
mod session;
mod shutdown;
mod sink;
mod source;
mod standing;
mod startup;
mod status;
mod steps;
mod stop;
#[cfg(test)]
mod tests;
mod transactions;
mod transfer;
mod verdict;
mod wishes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_store::ids::{ClusterId, GroupId, Incarnation, Index, RaftId, RunId, StoreId};
use quorate_store::record::Record;
use quorate_store::stamp::{EpochEntry, Stamp};
use quorate_store::state::ViewId;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use self::config::NodeConfig;
use self::done::{LoadFor, ScanFor, Then};
use self::group::Group;
use self::groups::Groups;
use self::peers::Peers;
use self::session::Session;
use self::startup::Phase;
use crate::admin::MetricSample;
use crate::event::{Event, Level};
use crate::formation::{Decision, Founding};
use crate::io::{Found, FoundStamp, Input, Output, PeerKey, SessionId, Tick, Ticket};

/// Things counted since the process began.
#[derive(Debug, Default)]
struct Counters {
    published: u64,
    refused: u64,
    duplicates: u64,
    under_override: u64,
    delivered: u64,
    redelivered: u64,
    acknowledged: u64,
    transactions: u64,
    transactions_refused: u64,
    elections: u64,
    log_batches: u64,
    rounds: u64,
    snapshots_sent: u64,
    snapshots_received: u64,
}

/// One broker's deciding half.
pub struct Node {
    config: NodeConfig,
    own: PeerKey,
    transient: bool,
    dice: ChaCha12Rng,
    now: Tick,
    outputs: VecDeque<Output>,
    /// Inputs were handled since the last round ended.
    dirty: bool,
    /// Something that brokers tell each other has changed: decide again, tell again.
    facts_changed: bool,
    tell: bool,
    next_ticket: u64,
    /// Records of this round, and the ticket of their batch once one is needed.
    records: Vec<Record>,
    round_ticket: Option<Ticket>,
    /// The round's batch is to be synced, and everything before it.
    must_sync: bool,
    /// When what is written and not synced is to be synced at the latest.
    next_sync: Option<Tick>,
    /// Everything up to this batch is being synced.
    sync_asked: Ticket,
    /// Groups that acknowledge otherwise once a stamp is durable.
    stamps_awaited: BTreeMap<Ticket, Vec<GroupId>>,
    /// Groups of which a former process may have acknowledged what the store does not hold, and why.
    lacking: BTreeMap<GroupId, &'static str>,
    /// Batches of the log that are not durable yet.
    log_tickets: BTreeSet<Ticket>,
    then: BTreeMap<Ticket, Vec<Then>>,
    loads: BTreeMap<Ticket, LoadFor>,
    scans: BTreeMap<Ticket, ScanFor>,
    phase: Phase,
    /// The stamp as last handed out, or as found.
    stamp: Option<Stamp>,
    stamp_changed: bool,
    damage: Option<String>,
    incarnation: Incarnation,
    cluster_id: Option<ClusterId>,
    raft_id: Option<RaftId>,
    founding: Founding,
    decision: Option<Decision>,
    told_status: Option<Vec<u8>>,
    told_at: Tick,
    peers: Peers,
    groups: Groups,
    /// Groups with records in batches of the log that are not durable yet.
    logging: BTreeSet<GroupId>,
    /// When some group is to ask for votes next.
    next_campaign: Option<Tick>,
    /// Whether this broker was drained in the last round.
    was_drained: bool,
    /// What leaders do about members may have changed for every group.
    review_all: bool,
    unmade: recovery::Unmade,
    next_space: u32,
    next_view: u64,
    next_transfer: u64,
    sessions: BTreeMap<SessionId, Session>,
    sessions_to_flush: bool,
    next_tick: Tick,
    next_stamp: Tick,
    next_membership: Tick,
    /// The life that the stamp says durably. What is told of a later one must never be heard by anybody before: the process
    /// may end, and the next one begin that very incarnation as another run.
    stamped_life: Option<(Incarnation, RunId)>,
    /// The groups that are being filled again, as the stamp says durably.
    stamped_refilling: BTreeSet<GroupId>,
    /// Until then somebody who was not heard yet is waited for; from the first decision on.
    patient_until: Option<Tick>,
    /// When to decide again though nothing has changed.
    decide_at: Option<Tick>,
    /// Newcomers whose admission is proposed or was told, so that it is not repeated at once.
    admissions: BTreeMap<StoreId, Tick>,
    space_low: bool,
    log_bytes: u64,
    quarantine_bytes: u64,
    counters: Counters,
    /// Received states wait for a checkpoint to end.
    sinks_waiting: bool,
    /// `system` came by snapshot: its virtual hosts may be new here.
    system_arrived: bool,
    stop: Option<stop::Stopping>,
    /// This life, and those of others that this broker remembers.
    life: life::Life,
    /// Groups in which this store must not vote until the cluster has filled it again; as in the stamp.
    refilling: BTreeSet<GroupId>,
    /// Groups that were filled again in this life.
    filled: BTreeSet<GroupId>,
    /// Groups that were free to go on when the store left its held state: that stands for this process, whatever its own
    /// stamp says since.
    cleared: BTreeSet<GroupId>,
    /// Groups that are being given up.
    rejoining: BTreeSet<GroupId>,
    /// Those of them that could not be kept aside, and when to try again; and why.
    unkept: BTreeMap<GroupId, Tick>,
    /// The group whose image for quarantine is being made.
    keeping: Option<GroupId>,
    /// Groups whose images come after that one.
    to_keep: BTreeSet<GroupId>,
    kept_aside_problem: Option<String>,
    /// What is left here of virtual hosts that were deleted.
    deleted: BTreeMap<GroupId, deleted::Deleted>,
    /// Takes no part any more: nothing is written but what closes the store.
    frozen: bool,
    /// The cluster is being shut down.
    closing: Option<shutdown::Closing>,
    askers: shutdown::Askers,
    /// Who is to be a member, and how far that is.
    steps: steps::Steps,
    /// Operators' commands about members that are not answered yet.
    wishes: Vec<wishes::Wish>,
    /// Operators' commands about groups that are not answered yet.
    asks: Vec<controls::Ask>,
    /// A forced act that is on its way.
    forcing: Option<forced::Force>,
    /// Since when the other one of two voters has not been linked.
    lonely_since: Option<Tick>,
    safety: safety::Safety,
    exited: bool,
}

impl Node {
    /// A broker over what the driver found on the medium. `seed` is all its randomness.
    pub fn new(config: NodeConfig, found: Found, seed: u64, now: Tick) -> Self {
        let transient = matches!(found.stamp, FoundStamp::Transient);
        let own = PeerKey { store: found.store, run: found.run };
        let (stamp, damage, incarnation) = match &found.stamp {
            FoundStamp::Transient | FoundStamp::Empty => (None, None, Incarnation(0)),
            FoundStamp::Stamp(stamp) => (Some((**stamp).clone()), None, stamp.incarnation),
            FoundStamp::Damaged { reason, incarnation } => {
                (None, Some(reason.clone()), incarnation.unwrap_or_default())
            }
        };
        let stamped_life = stamp.as_ref().map(|stamp| (stamp.incarnation, stamp.run_id));
        let refilling: BTreeSet<GroupId> =
            stamp.iter().flat_map(|stamp: &Stamp| stamp.refilling.iter().copied()).collect();
        let lacking = stamp.iter().flat_map(|stamp| durability::lacking(stamp, found.same_boot)).collect();
        let witnessed = stamp.clone().map(|stamp| stamp.witnessed).unwrap_or_default();
        let founding = Founding::new(own.store, startup::forming_of(stamp.as_ref()))
            .with_wall_clock(config.tick_zero_ms);
        let mut node = Self {
            own,
            transient,
            dice: ChaCha12Rng::seed_from_u64(seed),
            now,
            outputs: VecDeque::new(),
            dirty: true,
            facts_changed: true,
            tell: true,
            next_ticket: 1,
            records: Vec::new(),
            round_ticket: None,
            must_sync: false,
            next_sync: None,
            sync_asked: Ticket(0),
            stamps_awaited: BTreeMap::new(),
            lacking,
            log_tickets: BTreeSet::new(),
            then: BTreeMap::new(),
            loads: BTreeMap::new(),
            scans: BTreeMap::new(),
            phase: Phase::Deciding,
            cluster_id: stamp.as_ref().and_then(|stamp| stamp.cluster_id),
            raft_id: stamp.as_ref().and_then(|stamp| startup::raft_id_in(stamp, own.store)),
            stamp,
            stamp_changed: false,
            damage,
            incarnation,
            founding,
            decision: None,
            told_status: None,
            told_at: now,
            peers: Peers::default(),
            groups: Groups::default(),
            logging: BTreeSet::new(),
            next_campaign: None,
            was_drained: false,
            review_all: true,
            unmade: recovery::Unmade::default(),
            next_space: 1,
            next_view: 1,
            next_transfer: 1,
            sessions: BTreeMap::new(),
            sessions_to_flush: false,
            next_tick: now.plus(config.timing.tick_millis),
            next_stamp: now.plus(config.stamp_interval_millis),
            next_membership: now,
            stamped_life,
            patient_until: None,
            decide_at: None,
            admissions: BTreeMap::new(),
            space_low: false,
            log_bytes: found.log_bytes,
            quarantine_bytes: 0,
            counters: Counters::default(),
            sinks_waiting: false,
            system_arrived: false,
            stop: None,
            life: life::Life::remembering(&witnessed),
            stamped_refilling: refilling.clone(),
            refilling,
            filled: BTreeSet::new(),
            cleared: BTreeSet::new(),
            rejoining: BTreeSet::new(),
            unkept: BTreeMap::new(),
            keeping: None,
            to_keep: BTreeSet::new(),
            kept_aside_problem: None,
            deleted: BTreeMap::new(),
            frozen: false,
            closing: None,
            askers: shutdown::Askers::default(),
            steps: steps::Steps::default(),
            wishes: Vec::new(),
            asks: Vec::new(),
            forcing: None,
            lonely_since: None,
            safety: safety::Safety::found(found.panic.clone()),
            exited: false,
            config,
        };
        node.peers.resolve(&node.config.cluster_address.clone(), own.store);
        node.start(found);
        node
    }

    /// Something happened. Call [`Self::poll`] until it is empty afterwards; several inputs may come before.
    pub fn handle(&mut self, now: Tick, input: Input) {
        self.now = self.now.max(now);
        self.dirty = true;
        if self.exited {
            return;
        }
        match input {
            Input::Tick => {}
            Input::SessionOpened { session, address, secure } => {
                self.session_opened(session, address, secure);
            }
            Input::SessionFrame { session, frame, channel, cost } => {
                self.session_frame(session, channel, frame, cost);
            }
            Input::SessionDrained { session, bytes } => self.session_drained(session, bytes),
            Input::SessionClosed { session } => self.session_closed(session),
            Input::PeerLinked { peer, dialed } => self.peer_linked(peer, &dialed),
            Input::PeerFailed { dialed, refused } => {
                self.facts_changed |= self.peers.failed(&dialed, refused);
            }
            Input::PeerIsSelf { dialed } => {
                self.facts_changed = true;
                let own = self.own.store;
                self.peers.tried(&dialed);
                self.peers.resolve(&dialed, own);
            }
            Input::PeerUnlinked { peer } => self.peer_unlinked(peer),
            Input::PeerMessage { from, message } => self.peer_message(from, message),
            Input::Written { ticket } => self.written(ticket),
            Input::Persisted { ticket } => self.persisted(ticket),
            Input::StampForeign { found } => self.stamp_foreign(found),
            Input::NotKept { ticket, why } => self.not_kept(ticket, why),
            Input::Loaded { ticket, entries } => self.loaded(ticket, entries),
            Input::Scanned { ticket, pairs, complete } => self.scanned(ticket, pairs, complete),
            Input::SegmentDue { up_to } => self.segment_due(up_to),
            Input::SegmentIdle { up_to } => self.segment_idle(up_to),
            Input::Space { low } => self.space_changed(low),
            Input::Usage { log_bytes, quarantine_bytes } => {
                self.log_bytes = log_bytes;
                self.quarantine_bytes = quarantine_bytes;
            }
            Input::Admin { id, request } => self.admin(id, request),
            Input::Stop => self.begin_stop(),
        }
    }

    /// The next thing to do, in the order in which things must be begun.
    pub fn poll(&mut self) -> Option<Output> {
        // A round may leave something for another one at once; nobody calls again just for that.
        while self.outputs.is_empty() && self.dirty {
            self.dirty = false;
            self.end_round();
        }
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Tick> {
        let mut next = self.next_tick;
        if self.frozen {
            return Some(next);
        }
        if let Some(deadline) = self.founding.next_deadline() {
            next = next.min(deadline);
        }
        let soonest = [self.next_campaign, self.next_sync].into_iter().flatten().min();
        Some(soonest.map_or(next, |at| next.min(at)))
    }

    /// How far each group that has a node here knows its log to be committed: for whoever watches from outside.
    pub fn commits(&self) -> impl Iterator<Item = (GroupId, Index)> {
        self.groups.values().filter_map(|group| Some((group.id, group.replica.as_ref()?.commit())))
    }

    /// How many vote in a group, as its node here knows: for whoever watches from outside.
    pub fn voters(&self, group: GroupId) -> usize {
        self.groups.get(group).map_or(0, |group| group.configuration.voters.len())
    }

    /// The epoch that a virtual host's group is in here: for whoever watches from outside.
    pub fn epoch(&self, vhost: &str) -> Option<EpochEntry> {
        let group = self.groups.values().find(|group| group.vhost == vhost)?;
        group.lineage.entries().last().cloned()
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn note(&mut self, level: Level, text: String) {
        self.event(Event::Note { level, text });
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// The ticket of this round's log batch, which is synced: something follows when it is durable.
    fn log_ticket(&mut self) -> Ticket {
        self.must_sync = true;
        self.round_batch()
    }

    /// The ticket of this round's log batch.
    fn round_batch(&mut self) -> Ticket {
        if let Some(ticket) = self.round_ticket {
            return ticket;
        }
        let ticket = self.ticket();
        self.round_ticket = Some(ticket);
        self.log_tickets.insert(ticket);
        ticket
    }

    fn roll(&mut self) -> u64 {
        self.dice.next_u64()
    }

    /// Works on a group with the rest of the node at hand; the round looks at it.
    fn with_group<T>(&mut self, id: GroupId, work: impl FnOnce(&mut Self, &mut Group) -> T) -> Option<T> {
        self.groups.touch(id);
        self.work_on(id, work)
    }

    /// The same for what a round does by itself: it looks at the group, again, only if there is something for it to do.
    fn visit<T>(&mut self, id: GroupId, work: impl FnOnce(&mut Self, &mut Group) -> T) -> Option<T> {
        self.work_on(id, |node, group| {
            let result = work(node, group);
            if group.has_work() {
                node.groups.touch(id);
            }
            result
        })
    }

    fn work_on<T>(&mut self, id: GroupId, work: impl FnOnce(&mut Self, &mut Group) -> T) -> Option<T> {
        let mut group = self.groups.take(id)?;
        let result = work(self, &mut group);
        self.groups.put(group);
        Some(result)
    }

    fn group_ids(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// `system`'s view of the members: its machine, once there is one.
    fn system(&self) -> Option<&crate::machine::SystemMachine> {
        self.groups.get(GroupId::SYSTEM).and_then(|group| group.machine.system())
    }

    /// The wall clock, in milliseconds since 1970: for what is told to people.
    fn wall_ms(&self) -> u64 {
        self.config.tick_zero_ms.saturating_add(self.now.0)
    }

    /// The name to show for a store.
    fn name_of(&self, store: StoreId) -> String {
        if store == self.own.store {
            return self.config.name.clone();
        }
        if let Some(member) = self.system().and_then(|system| system.member(store)) {
            return member.name.clone();
        }
        match self.peers.get(store) {
            Some(peer) => peer.identity.name.clone(),
            None => store.to_string(),
        }
    }

    fn view(&mut self) -> ViewId {
        let view = ViewId(self.next_view);
        self.next_view += 1;
        view
    }

    /// Ends the process; nothing is decided after this.
    fn exit(&mut self, status: u8, reason: String) {
        if !self.exited {
            self.exited = true;
            self.emit(Output::Exit { status, reason });
        }
    }

    /// Ends this life of the broker; the next one has an empty store.
    fn begin_anew(&mut self, reason: String) {
        if !self.exited {
            self.exited = true;
            self.emit(Output::BeginAnew { reason });
        }
    }

    fn sample(
        name: &'static str,
        help: &'static str,
        labels: Vec<(&'static str, String)>,
        value: u64,
    ) -> MetricSample {
        #[expect(clippy::cast_precision_loss, reason = "metrics are floating point by their format")]
        MetricSample { name, help, labels, value: value as f64 }
    }
}
