//! Simulated time: what is due when, and what it is.

use std::collections::BTreeMap;

use quorate_core::io::Ticket;
use quorate_store::ids::{GroupId, Index};

/// Microseconds since the run began.
pub type Micros = u64;

/// A millisecond.
pub const MILLI: Micros = 1000;
/// A second.
pub const SECOND: Micros = 1_000_000;

/// A host's number.
pub type HostId = usize;
/// A link's number.
pub type LinkId = u64;
/// A client connection's number.
pub type ConnectionId = u64;
/// A client's number.
pub type ClientId = usize;

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Happening {
    /// To the process on a host, if it is still in that life.
    Process {
        /// Where.
        host: HostId,
        /// In which life of the host.
        life: u64,
        /// What.
        step: ProcessStep,
    },
    /// The first message on a link is due.
    LinkArrival(LinkId),
    /// Look whether a link still works.
    LinkCheck(LinkId),
    /// The handshake of a dialed connection is done.
    LinkUp {
        /// Who dialed, in which life.
        from: (HostId, u64),
        /// Who answered, in which life.
        to: (HostId, u64),
    },
    /// A client's connection is made, or is not.
    Connected(ConnectionId),
    /// The first frame from the client is due.
    FrameUp(ConnectionId),
    /// The first frame to the client is due.
    FrameDown(ConnectionId),
    /// A client looks around.
    ClientTick(ClientId),
    /// The next fault of the plan.
    Fault(usize),
    /// A fault's effect ends.
    Relief(Relief),
    /// A host's process is started, if it is not running in some life after this one.
    Start {
        /// Which host.
        host: HostId,
        /// The life that ended.
        after: u64,
    },
    /// Look at every broker's status.
    Survey,
    /// An operator looks after the broker whose store is lost.
    Operator,
}

/// What happens to a process.
#[derive(Clone, Debug)]
pub enum ProcessStep {
    /// Take what arrived, and perform what follows.
    Round,
    /// The core wanted to be woken at this time.
    Wake,
    /// The log's write is synced.
    LogSynced,
    /// The stamp is written.
    StampWritten,
    /// The state store's work is done.
    StateDone,
    /// Entries are read.
    Loaded {
        /// Which request.
        ticket: Ticket,
        /// Of which group.
        group: GroupId,
        /// From here.
        from: Index,
        /// To here, not included.
        to: Index,
        /// About so many bytes.
        max_bytes: usize,
    },
    /// Try to reach this address.
    Dial {
        /// Of which host.
        address: String,
        /// How long to wait before the next attempt.
        pause: Micros,
    },
}

/// The end of a fault.
#[derive(Clone, Debug)]
pub enum Relief {
    /// This direction of the network works again.
    Heal(HostId, HostId),
    /// The process goes on.
    Resume(HostId, u64),
    /// The disk is as fast as before.
    FastDisk(HostId),
    /// The disk has room again.
    Space(HostId, u64),
    /// The disk takes whatever is written again.
    Room(HostId),
    /// The clock goes as it should.
    Clock(HostId),
    /// This way is as fast as before.
    FastLink(HostId, HostId),
    /// An operator lets the drained broker lead again.
    Undrain,
    /// This process must have found out by now, by its own clock, that another one writes to its store.
    FoundOut {
        /// Where.
        host: HostId,
        /// In which life of the host.
        life: u64,
        /// When its clock shows this.
        by: Micros,
    },
    /// An operator takes a control back.
    Uncontrol,
    /// An operator deletes the virtual host that was created.
    DeleteVhost,
    /// An operator goes on from this store; all start again later.
    MarkBlindly(HostId, Micros),
}

/// What is due, in order.
#[derive(Debug, Default)]
pub struct Schedule {
    now: Micros,
    next: u64,
    due: BTreeMap<(Micros, u64), Happening>,
}

impl Schedule {
    /// The present.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Something will happen in so many microseconds.
    pub fn after(&mut self, delay: Micros, happening: Happening) {
        self.at(self.now.saturating_add(delay), happening);
    }

    /// Something will happen at this time, or now if that is past.
    pub fn at(&mut self, time: Micros, happening: Happening) {
        self.next += 1;
        self.due.insert((time.max(self.now), self.next), happening);
    }

    /// The next thing that happens, not later than `until`; time moves there.
    pub fn next(&mut self, until: Micros) -> Option<Happening> {
        let (time, _) = *self.due.first_key_value()?.0;
        if time > until {
            self.now = self.now.max(until);
            return None;
        }
        self.now = time;
        self.due.pop_first().map(|(_, happening)| happening)
    }
}
