//! The core with the smallest world around it: brokers whose disks are memory and never fail, whose links lose nothing,
//! and whose time passes when nothing else happens. Enough for a session, or a peer, to say anything to it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_core::Node;
use quorate_core::NodeConfig;
use quorate_core::admin::{AdminReply, AdminRequest, Status};
use quorate_core::formation::status::RecoveryMode;
use quorate_core::io::{AdminId, Found, FoundStamp, Input, Output, PeerIdentity, PeerKey, SessionId, Tick};
use quorate_core::peer::{LineageTag, PeerMessage};
use quorate_core::replica::Timing;
use quorate_protocol::frame::{ClientFrame, Hello, Login, ServerFrame};
use quorate_protocol::name::VhostName;
use quorate_protocol::version::CLIENT_VERSIONS;
use quorate_store::ids::{GroupId, Index, RunId, StoreId};
use quorate_store::model::StateModel;
use quorate_store::record::{Entry, Record};
use quorate_store::state::{Family, Pair, StateStore, ViewId};
use uuid::Uuid;

/// A world that has done so many rounds without rest does not come to one.
const ROUNDS_MAX: usize = 20_000;
/// Steps of time in which a broker must have founded its cluster and serve.
const STEPS_MAX: u64 = 4000;
/// Milliseconds of one step.
const STEP: u64 = 10;

/// A broker.
pub struct Broker {
    /// What decides.
    pub node: Node,
    /// Who it is.
    pub identity: PeerIdentity,
    /// Its state store.
    pub state: StateModel,
    /// What it wrote to its clients, oldest first.
    pub written: Vec<(SessionId, u16, ServerFrame)>,
    /// Bytes of frames that it gave back.
    pub released: u64,
    /// Sessions that it closed.
    pub closed: Vec<SessionId>,
    /// How it ended, if it did.
    pub exit: Option<(u8, String)>,
    log: BTreeMap<GroupId, BTreeMap<Index, Entry>>,
    views: BTreeMap<ViewId, ViewId>,
    replies: BTreeMap<AdminId, AdminReply>,
}

impl Broker {
    fn new(number: u128, peers: &[String], wait_for: u32) -> Self {
        let address = |port| format!("h{number}:{port}");
        let name = format!("b{number}");
        let config = NodeConfig {
            name: name.clone(),
            cluster_name: "fuzzed".to_owned(),
            peers: peers.to_vec(),
            wait_for,
            allow_small: true,
            recovery: RecoveryMode::Automatic,
            cluster_id_wanted: None,
            client_address: address(7420),
            cluster_address: address(7421),
            admin_address: address(7422),
            tick_zero_ms: 0,
            timing: Timing::new(100, 1000),
            stamp_interval_millis: 5000,
            safety_interval_millis: 30_000,
            unsynced_max_entries: 1000,
            unsynced_max_millis: 100,
            update_rate: 0,
            frame_limit: 1 << 20,
            message_limit: 1 << 20,
        };
        let key =
            PeerKey { store: StoreId(Uuid::from_u128(number)), run: RunId(Uuid::from_u128(number + 100)) };
        let found = Found {
            run: key.run,
            store: key.store,
            stamp: FoundStamp::Empty,
            groups: Vec::new(),
            log_bytes: 0,
            same_boot: false,
            panic: quorate_store::panic::PanicFound::None,
        };
        let identity = PeerIdentity {
            key,
            name,
            cluster_address: address(7421),
            client_address: address(7420),
            admin_address: address(7422),
            transient: false,
        };
        let seed = u64::try_from(number).unwrap_or(0);
        Self {
            node: Node::new(config, found, seed, Tick(0)),
            identity,
            state: StateModel::new(),
            written: Vec::new(),
            released: 0,
            closed: Vec::new(),
            exit: None,
            log: BTreeMap::new(),
            views: BTreeMap::new(),
            replies: BTreeMap::new(),
        }
    }

    fn persist(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Entry(group, _, entry) => {
                    let log = self.log.entry(group).or_default();
                    log.split_off(&entry.index);
                    log.insert(entry.index, entry);
                }
                Record::Reset(group, ..) | Record::Remove(group) => {
                    self.log.remove(&group);
                }
                Record::HardState(..) => {}
            }
        }
    }

    fn load(&self, group: GroupId, from: Index, to: Index, max_bytes: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (index, entry) in self.log.get(&group).into_iter().flat_map(|log| log.range(from..)) {
            if *index >= to || (bytes >= max_bytes && !entries.is_empty()) {
                break;
            }
            bytes += entry.data.len();
            entries.push(entry.clone());
        }
        entries
    }

    fn scan(
        &self,
        family: Family,
        range: (&Bytes, &Bytes),
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> (Vec<Pair>, bool) {
        let view = view.and_then(|view| self.views.get(&view).copied());
        let all = self.state.scan(family, range.0, range.1, usize::MAX, view).unwrap_or_default();
        let mut bytes = 0;
        let fits = all
            .iter()
            .take_while(|(key, value)| {
                let fits = bytes < max_bytes;
                bytes += key.len() + value.len();
                fits
            })
            .count();
        let complete = fits == all.len();
        (all.into_iter().take(fits).collect(), complete)
    }

    /// Everything of a group in its state store.
    pub fn pairs_of(&self, group: GroupId) -> Vec<Pair> {
        let (from, to) = quorate_core::machine::group_keys(group);
        self.state.scan(Family::State, &from, &to, usize::MAX, None).unwrap_or_default()
    }

    /// The term of the last entry of a group's log, and its index.
    pub fn last_entry(&self, group: GroupId) -> Option<Entry> {
        self.log.get(&group)?.last_key_value().map(|(_, entry)| entry.clone())
    }
}

/// Brokers that are linked with each other.
pub struct World {
    /// The brokers.
    pub brokers: Vec<Broker>,
    /// What they said to each other, oldest first; only if it is to be kept.
    pub said: Option<Vec<PeerMessage>>,
    /// The lineage of each group, as its replicas tell it each other.
    pub lineages: BTreeMap<GroupId, LineageTag>,
    now: u64,
    inputs: VecDeque<(usize, Input)>,
    next_admin: u64,
}

/// The virtual host that every new cluster has.
const VHOST: &str = "/";

impl World {
    /// So many brokers that found a cluster together, and serve; always the same ones.
    ///
    /// # Panics
    /// They do not.
    pub fn new(count: u32, keep_said: bool) -> Self {
        let peers: Vec<String> = if count > 1 {
            (1..=count).map(|number| format!("h{number}:7421")).collect()
        } else {
            Vec::new()
        };
        let brokers = (1..=count).map(|number| Broker::new(number.into(), &peers, count)).collect();
        let mut world = Self {
            brokers,
            said: keep_said.then(Vec::new),
            lineages: BTreeMap::new(),
            now: 0,
            inputs: VecDeque::new(),
            next_admin: 0,
        };
        for one in 0..world.brokers.len() {
            for other in (0..world.brokers.len()).filter(|other| *other != one) {
                let peer = world.brokers[other].identity.clone();
                let dialed = peer.cluster_address.clone();
                world.inputs.push_back((one, Input::PeerLinked { peer, dialed }));
            }
        }
        for _ in 0..STEPS_MAX {
            world.pass(STEP);
            if world.leader().is_some()
                && world.brokers.iter().all(|broker| broker.last_entry(GroupId(1)).is_some())
            {
                return world;
            }
        }
        panic!("no cluster after {} ms", STEPS_MAX * STEP);
    }

    /// Which broker leads the virtual host and serves, as it says itself.
    pub fn leader(&mut self) -> Option<usize> {
        (0..self.brokers.len()).find(|number| {
            self.status(*number).is_some_and(|status| {
                status
                    .groups
                    .iter()
                    .any(|group| group.vhost == VHOST && group.role == "leader" && group.quorum)
            })
        })
    }

    /// What a broker says of itself.
    pub fn status(&mut self, number: usize) -> Option<Status> {
        match self.ask(number, AdminRequest::Status)? {
            AdminReply::Status(status) => Some(*status),
            _ => None,
        }
    }

    /// Asks as an operator; none if there is no answer yet.
    pub fn ask(&mut self, number: usize, request: AdminRequest) -> Option<AdminReply> {
        self.next_admin += 1;
        let id = AdminId(self.next_admin);
        self.give(number, Input::Admin { id, request });
        self.brokers.get_mut(number)?.replies.remove(&id)
    }

    /// Time passes, and everything happens that is due.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        self.settle();
        loop {
            let due = self
                .brokers
                .iter()
                .filter(|broker| broker.exit.is_none())
                .filter_map(|broker| broker.node.next_deadline())
                .map(|tick| tick.0)
                .min();
            // A deadline that stays where it is would stop the clock.
            match due {
                Some(due) if due < end => self.now = due.max(self.now + 1).min(end),
                _ => self.now = end,
            }
            for number in 0..self.brokers.len() {
                self.inputs.push_back((number, Input::Tick));
            }
            self.settle();
            if self.now >= end {
                return;
            }
        }
    }

    /// Something happens at a broker, with everything that follows at once.
    pub fn give(&mut self, number: usize, input: Input) {
        self.inputs.push_back((number, input));
        self.settle();
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while let Some((number, input)) = self.inputs.pop_front() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the brokers talk without an end");
            let now = Tick(self.now);
            let Some(broker) = self.brokers.get_mut(number).filter(|broker| broker.exit.is_none()) else {
                continue;
            };
            broker.node.handle(now, input);
            while let Some(output) = self.brokers[number].node.poll() {
                self.perform(number, output);
            }
        }
    }

    fn perform(&mut self, number: usize, output: Output) {
        let broker = &mut self.brokers[number];
        let answer = match output {
            Output::Persist { ticket, batch, .. } => {
                broker.persist(batch.records);
                Input::Persisted { ticket }
            }
            Output::WriteStamp { ticket, stamp } => {
                // Whatever the core asks for can be written.
                stamp.encode().expect("a stamp within its limits");
                Input::Persisted { ticket }
            }
            Output::WriteState { ticket, batch, open_view, .. } => {
                broker.state.write(&batch).expect("memory takes what the core writes");
                if let Some(view) = open_view {
                    let opened = broker.state.open_view().expect("memory has views");
                    broker.views.insert(view, opened);
                }
                Input::Persisted { ticket }
            }
            Output::Quarantine { ticket, .. } => Input::Persisted { ticket },
            Output::Load { ticket, group, from, to, max_bytes } => {
                Input::Loaded { ticket, entries: broker.load(group, from, to, max_bytes) }
            }
            Output::Scan { ticket, family, from, to, max_bytes, view } => {
                let (pairs, complete) = broker.scan(family, (&from, &to), max_bytes, view);
                Input::Scanned { ticket, pairs, complete }
            }
            Output::CloseView { view } => {
                if let Some(opened) = broker.views.remove(&view) {
                    broker.state.close_view(opened);
                }
                return;
            }
            Output::Compact { group, index } => {
                if let Some(log) = broker.log.get_mut(&group) {
                    *log = log.split_off(&index.next());
                }
                return;
            }
            Output::Send { to, message, .. } => {
                if let PeerMessage::Raft { group, lineage, .. } = &message {
                    self.lineages.insert(*group, *lineage);
                }
                if let Some(said) = &mut self.said {
                    said.push(message.clone());
                }
                let from = broker.identity.key;
                if let Some(receiver) = self.brokers.iter().position(|other| other.identity.key == to) {
                    self.inputs.push_back((receiver, Input::PeerMessage { from, message }));
                }
                return;
            }
            Output::Write { session, channel, frame } => {
                broker.written.push((session, channel, frame));
                return;
            }
            Output::Release { cost, .. } => {
                broker.released += u64::from(cost);
                return;
            }
            Output::Close { session } => {
                broker.closed.push(session);
                return;
            }
            Output::AdminReply { id, reply } => {
                broker.replies.insert(id, reply);
                return;
            }
            Output::Exit { status, reason } => {
                broker.exit = Some((status, reason));
                return;
            }
            Output::LookAtStamp { ticket } | Output::Panic { ticket, .. } | Output::ClearPanic { ticket } => {
                Input::Persisted { ticket }
            }
            Output::Restart { reason } | Output::BeginAnew { reason } => {
                broker.exit = Some((0, reason));
                return;
            }
            Output::Dial { .. } | Output::Event(_) => return,
        };
        self.inputs.push_back((number, answer));
    }

    /// A frame arrives on a session.
    pub fn frame(&mut self, number: usize, session: SessionId, channel: u16, frame: ClientFrame, cost: u32) {
        self.give(number, Input::SessionFrame { session, frame, channel, cost });
    }

    /// A client connects; with its login, if that is wanted.
    ///
    /// # Panics
    /// The login is refused.
    pub fn connect(&mut self, number: usize, session: SessionId, login: bool) {
        let address = "127.0.0.1:1".to_owned();
        self.give(number, Input::SessionOpened { session, address, secure: true });
        if !login {
            return;
        }
        let hello = Hello { versions: CLIENT_VERSIONS, client_name: "fuzz".to_owned() };
        self.frame(number, session, 0, hello.into(), 0);
        let login = Login {
            vhost: VhostName::new(VHOST).expect("a name"),
            mechanism: "ANONYMOUS".to_owned(),
            user: String::new(),
            secret: Bytes::new(),
            heartbeat_ms: 0,
        };
        self.frame(number, session, 0, login.into(), 0);
        let accepted =
            self.brokers[number].written.iter().any(|(_, _, frame)| matches!(frame, ServerFrame::LoginOk(_)));
        assert!(accepted, "the login is refused: {:?}", self.brokers[number].written);
    }
}
