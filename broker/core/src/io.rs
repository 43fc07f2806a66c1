//! The core's whole contract with the world: what it is told ([`Input`]) and what it asks for ([`Output`]).
//!
//! Effects carry what they wait for: an output with `after: Some(..)` may be performed only once that ticket is written,
//! or durable. Neither driver nor simulator can get the order wrong by accident.

use std::fmt;

use bytes::Bytes;
use quorate_protocol::frame::{ClientFrame, ServerFrame};
use quorate_store::ids::{GroupId, Incarnation, Index, RunId, StoreId};
use quorate_store::panic::{PanicFound, PanicRecord};
use quorate_store::quarantine::Divergence;
use quorate_store::record::{Batch, Entry};
use quorate_store::stamp::{Stamp, StampIdentity};
use quorate_store::state::{Family, Pair, StateBatch, ViewId};

use crate::admin::{AdminReply, AdminRequest};
use crate::event::Event;
use crate::peer::PeerMessage;

/// Monotonic time in milliseconds since an arbitrary start; never a wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    /// This time plus `millis`.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names one thing that the core asked the disk to do. Counts up from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How far a batch has to have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The operating system has it: it outlives the process.
    Written,
    /// The medium has it: it outlives a loss of power.
    Synced,
}

/// What an output waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// A batch of the log.
    pub ticket: Ticket,
    /// How far it has to have come.
    pub point: Point,
}

/// Names one client connection for the life of this process. Counts up; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names one admin request that awaits its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdminId(pub u64);

/// One life of one broker process, as its peers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// Its store.
    pub store: StoreId,
    /// Its process.
    pub run: RunId,
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store, self.run)
    }
}

/// Who a peer said it is in the handshake of its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Store and process.
    pub key: PeerKey,
    /// The broker's name.
    pub name: String,
    /// Where peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
    /// Without a store.
    pub transient: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed (see [`crate::Node::next_deadline`]).
    Tick,
    /// A client connected; its frames may follow. `secure` is true from loopback, over TLS, or with `--insecure`.
    SessionOpened {
        /// The new session.
        session: SessionId,
        /// The client's address, for listings.
        address: String,
        /// Whether a login without credentials is acceptable from there.
        secure: bool,
    },
    /// A client's frame. `cost` is given back with [`Output::Release`] once the frame no longer occupies memory.
    SessionFrame {
        /// Whose.
        session: SessionId,
        /// The frame, already decoded and within limits.
        frame: ClientFrame,
        /// Its channel.
        channel: u16,
        /// Bytes it holds.
        cost: u32,
    },
    /// Bytes of earlier [`Output::Write`]s left for the socket.
    SessionDrained {
        /// Whose.
        session: SessionId,
        /// How many bytes.
        bytes: u64,
    },
    /// The client is gone.
    SessionClosed {
        /// Which.
        session: SessionId,
    },
    /// The connection that we dialed to this peer is authenticated: messages can be sent to it.
    PeerLinked {
        /// Who answered.
        peer: PeerIdentity,
        /// The address text that was dialed, as configured or learned.
        dialed: String,
    },
    /// An attempt to link to this address failed. Told when the reason changes; the address is tried on.
    PeerFailed {
        /// The address text.
        dialed: String,
        /// Why the two brokers do not want each other, for people; none if nobody could be reached.
        refused: Option<String>,
    },
    /// A dialed address turned out to be ourselves.
    PeerIsSelf {
        /// The address text.
        dialed: String,
    },
    /// A link from or to this peer closed: it can be taken as evidence that the process is gone.
    PeerUnlinked {
        /// Which.
        peer: PeerKey,
    },
    /// A peer's message, in the order it was sent on its link.
    PeerMessage {
        /// The authenticated sender.
        from: PeerKey,
        /// What it says.
        message: PeerMessage,
    },
    /// The disk work of this ticket, and of every smaller log ticket, is durable.
    Persisted {
        /// Which.
        ticket: Ticket,
    },
    /// The operating system has the batch of this ticket, and of every smaller log ticket. May be left out if
    /// [`Input::Persisted`] follows.
    Written {
        /// Which.
        ticket: Ticket,
    },
    /// Another process has written its stamp into this store: seen before a write, which was not done, or by
    /// [`Output::LookAtStamp`]. No stamp is written any more.
    StampForeign {
        /// Whose stamp is there.
        found: StampIdentity,
    },
    /// An image asked for with [`Output::Quarantine`] could not be made, or the panic file not be written or removed; the
    /// store is as it was.
    NotKept {
        /// Which request.
        ticket: Ticket,
        /// Why, for people.
        why: String,
    },
    /// Log entries asked for with [`Output::Load`]; fewer than asked if `max_bytes` was reached.
    Loaded {
        /// Which request.
        ticket: Ticket,
        /// Consecutive entries from the asked index on.
        entries: Vec<Entry>,
    },
    /// Pairs asked for with [`Output::Scan`]; `complete` if the range holds no more.
    Scanned {
        /// Which request.
        ticket: Ticket,
        /// In key order.
        pairs: Vec<Pair>,
        /// Nothing follows in the range.
        complete: bool,
    },
    /// The oldest log segment is due to retire: up to these indexes the groups must let go of it
    /// (spill, checkpoint, then [`Output::Compact`]).
    SegmentDue {
        /// For each group with entries there, the highest index in it.
        up_to: Vec<(GroupId, Index)>,
    },
    /// The log is longer than it needs to be: what nothing alive keeps there may go (checkpoint, then
    /// [`Output::Compact`]).
    SegmentIdle {
        /// For each group with entries in the oldest segment, the highest index in it.
        up_to: Vec<(GroupId, Index)>,
    },
    /// How much room the store's disk has.
    Space {
        /// Publishing must stop (true) or may go on (false).
        low: bool,
    },
    /// Sizes for status and metrics.
    Usage {
        /// Bytes of log segments on disk.
        log_bytes: u64,
        /// Bytes in quarantine.
        quarantine_bytes: u64,
    },
    /// An operator asks.
    Admin {
        /// To be answered with [`Output::AdminReply`].
        id: AdminId,
        /// What.
        request: AdminRequest,
    },
    /// SIGTERM: hand over, make everything durable, then [`Output::Exit`].
    Stop,
}

/// Something to do.
#[derive(Debug)]
pub enum Output {
    /// Append to the log. Up to [`Point::Synced`]: sync as well, everything appended before included, and answer
    /// [`Input::Persisted`]. Up to [`Point::Written`]: answer [`Input::Written`]; a later batch, or an empty one, has it
    /// synced. Log tickets come to either point in order.
    Persist {
        /// Names it.
        ticket: Ticket,
        /// What to append.
        batch: Batch,
        /// How far to bring it.
        point: Point,
    },
    /// Write both slots of the stamp, each synced; answer [`Input::Persisted`].
    WriteStamp {
        /// Names it.
        ticket: Ticket,
        /// The new content (the driver fills in what only it knows: boot id, wall clock, sequence).
        stamp: Box<Stamp>,
    },
    /// See whether the stamp on the medium is still the one that was written last; answer [`Input::StampForeign`] if it is
    /// another process's, else [`Input::Persisted`].
    LookAtStamp {
        /// Names it.
        ticket: Ticket,
    },
    /// Nothing that was asked for before, and is not done yet, may happen any more: no message that waits for a ticket is
    /// sent, nothing is written to log, state and stamp. Then keep the panic file; answer [`Input::Persisted`] or
    /// [`Input::NotKept`].
    Panic {
        /// Names it.
        ticket: Ticket,
        /// What the file says; none: there is to be no file.
        record: Option<Box<PanicRecord>>,
    },
    /// Remove the panic file durably; answer [`Input::Persisted`] or [`Input::NotKept`].
    ClearPanic {
        /// Names it.
        ticket: Ticket,
    },
    /// End this life of the broker and begin the next one, in the same process, from what the store holds.
    Restart {
        /// For people.
        reason: String,
    },
    /// Write to the state store, flush if asked; answer [`Input::Persisted`] (after the flush, if asked).
    WriteState {
        /// Names it.
        ticket: Ticket,
        /// What.
        batch: StateBatch,
        /// Make it, and everything before it, durable.
        flush: bool,
        /// Open this view right after the write.
        open_view: Option<ViewId>,
    },
    /// Keep an image of the whole store, as it is after everything asked before, in quarantine; answer
    /// [`Input::Persisted`], or [`Input::NotKept`].
    Quarantine {
        /// Names it.
        ticket: Ticket,
        /// Why, for people.
        reason: String,
        /// Because of which groups.
        groups: Vec<GroupId>,
        /// What of it the cluster does not have, if that is known to be anything.
        diverged: Option<Divergence>,
        /// What the stamp of the image says.
        stamp: Box<Stamp>,
    },
    /// Read consecutive entries; answer [`Input::Loaded`].
    Load {
        /// Names it.
        ticket: Ticket,
        /// Which group's log.
        group: GroupId,
        /// First index.
        from: Index,
        /// First index no longer wanted.
        to: Index,
        /// Stop at about this many bytes; at least one entry comes.
        max_bytes: usize,
    },
    /// Read pairs of the state store; answer [`Input::Scanned`].
    Scan {
        /// Names it.
        ticket: Ticket,
        /// Column family.
        family: Family,
        /// First key.
        from: Bytes,
        /// First key no longer wanted.
        to: Bytes,
        /// Stop at about this many bytes.
        max_bytes: usize,
        /// From this view; the latest state if none.
        view: Option<ViewId>,
    },
    /// The view is not needed any more.
    CloseView {
        /// Which.
        view: ViewId,
    },
    /// Everything of this group up to and including `index` may leave the log.
    Compact {
        /// Which group.
        group: GroupId,
        /// Up to here.
        index: Index,
    },
    /// Dial this address until it answers, again when it closes. Idempotent.
    Dial {
        /// `host:port`.
        address: String,
    },
    /// Send to a linked peer, after `after` is durable. Dropped if the link is gone.
    Send {
        /// To whom.
        to: PeerKey,
        /// What.
        message: PeerMessage,
        /// Not before this.
        after: Option<After>,
    },
    /// Write a frame to a client.
    Write {
        /// To whom.
        session: SessionId,
        /// On which channel.
        channel: u16,
        /// What.
        frame: ServerFrame,
    },
    /// Memory of an earlier frame of this session is free again.
    Release {
        /// Whose.
        session: SessionId,
        /// Bytes.
        cost: u32,
    },
    /// Close a client's connection after what was written before is flushed.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Answer to [`Input::Admin`].
    AdminReply {
        /// Which.
        id: AdminId,
        /// The answer.
        reply: AdminReply,
    },
    /// Something worth a log line, a counter, an event for listeners.
    Event(Event),
    /// Set the whole store aside, into its quarantine, and begin again with an empty one. Nothing is open then.
    BeginAnew {
        /// For people.
        reason: String,
    },
    /// End the process with this status.
    Exit {
        /// interfaces: 0, 3, 5, 70.
        status: u8,
        /// For the last log line.
        reason: String,
    },
}

/// What the driver found on the medium before the core starts.
#[derive(Debug)]
pub struct Found {
    /// This process.
    pub run: RunId,
    /// The store's id (fresh for a transient broker).
    pub store: StoreId,
    /// The stamp, if the store has one beyond its store id.
    pub stamp: FoundStamp,
    /// Each group's log.
    pub groups: Vec<FoundGroup>,
    /// Bytes of log segments on disk.
    pub log_bytes: u64,
    /// The system has not been started since the stamp was written: what processes wrote is there, synced or not.
    pub same_boot: bool,
    /// Whether the broker panicked before.
    pub panic: PanicFound,
}

/// What the two slots of the stamp say.
#[derive(Debug)]
pub enum FoundStamp {
    /// No store: `--transient`.
    Transient,
    /// A store id and nothing else.
    Empty,
    /// Readable.
    Stamp(Box<Stamp>),
    /// Unreadable in both slots, or the log or state fails its checks inside the synced part. Never empty.
    Damaged {
        /// What was found where.
        reason: String,
        /// Counted up by what could be read.
        incarnation: Option<Incarnation>,
    },
}

/// One group's log as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundGroup {
    /// Which.
    pub group: GroupId,
    /// The last hard state.
    pub hard_state: quorate_store::record::HardState,
    /// The first index whose entry is in the log; one more than `last` if the log is empty.
    pub first: Index,
    /// The last index, or the place of the last reset.
    pub last: Index,
    /// `(first index, term)` of each run of entries of one term, ascending; starts at `first - 1` (the compaction or
    /// reset point) if its term is known.
    pub terms: Vec<(Index, quorate_store::ids::Term)>,
    /// The last epoch written.
    pub epoch: quorate_store::ids::Epoch,
}
