//! What operators may ask the core, and the answers, as plain data. HTTP and JSON are the process's business.

mod group;

use quorate_store::ids::{ClusterId, Epoch, GroupId, Incarnation, Index, StoreId, Term};
use quorate_store::panic::PanicRecord;
use quorate_store::stamp::{Durability, DurabilityPolicy};
use uuid::Uuid;

pub use self::group::{AuditPage, ForceAct, ForceKind, GroupAct, GroupReport, GroupRequest, Setting};
use crate::formation::{Decision, Facts, decide_group};

/// Who wants something changed, as the process that serves the admin port knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author {
    /// The name of the token that was shown, or [`Author::LOCAL`].
    pub who: String,
    /// From where: host and port.
    pub address: String,
}

impl Author {
    /// What whoever shows no token is called; that is possible on loopback only.
    pub const LOCAL: &str = "local";

    /// Somebody on this machine, from this address, who showed no token.
    pub fn local(address: impl Into<String>) -> Self {
        Self { who: Self::LOCAL.to_owned(), address: address.into() }
    }
}

impl Author {
    /// From the text that [`Display`](std::fmt::Display) makes of one.
    pub fn from_text(text: &str) -> Self {
        let (who, address) = text.rsplit_once(FROM).unwrap_or((text, ""));
        Self { who: who.to_owned(), address: address.to_owned() }
    }
}

/// Between who and from where.
const FROM: &str = " from ";

impl std::fmt::Display for Author {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address.as_str() {
            "" => formatter.write_str(&self.who),
            address => write!(formatter, "{}{FROM}{address}", self.who),
        }
    }
}

/// An operator's question or command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    /// The whole status; also answered while waiting.
    Status,
    /// What the table decides now for every group, and by what facts; also answered while waiting.
    Explain,
    /// Counters and gauges for `/metrics`.
    Metrics,
    /// The safety number, and whether this broker panicked.
    Safety,
    /// Lets a panicked broker take part again; answered once the panic file is gone. The broker begins as after a start.
    ClearPanic {
        /// The cluster's id; the store's, if it belongs to no cluster.
        confirm: String,
        /// Why, for the log.
        reason: String,
        /// Who asks.
        author: Author,
    },
    /// Creates a virtual host; answered once it exists.
    CreateVhost {
        /// Its name.
        name: String,
        /// Why, for the audit; may be empty.
        reason: String,
        /// Who wants it.
        author: Author,
    },
    /// Shuts the whole cluster down; answered once every store is closed, by the broker that goes last.
    Shutdown {
        /// Why, for the log.
        reason: String,
        /// Who wants it.
        author: Author,
    },
    /// Changes who belongs to the cluster, or who leads; answered once it is so everywhere, or with how far it is.
    Member(MemberRequest),
    /// Changes the controls of one group; answered once it is so.
    Group(GroupRequest),
    /// What operators changed in every group that this broker has.
    Audit,
}

impl AdminRequest {
    /// Who wants something changed; none if it is a question.
    pub fn author(&self) -> Option<&Author> {
        match self {
            Self::Status | Self::Explain | Self::Metrics | Self::Safety | Self::Audit => None,
            Self::CreateVhost { author, .. }
            | Self::Shutdown { author, .. }
            | Self::ClearPanic { author, .. } => Some(author),
            Self::Member(request) => Some(&request.author),
            Self::Group(request) => Some(&request.author),
        }
    }
}

/// What is wanted of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRequest {
    /// What.
    pub act: MemberAct,
    /// The broker's name.
    pub name: String,
    /// With `Add`: the cluster address to look for it at.
    pub address: Option<String>,
    /// With `Replace`: the store that is to go, if whoever asks knows it. Asked again, no later one is meant.
    pub store: Option<StoreId>,
    /// Answered after so many milliseconds, however far it is then; 20 seconds at most.
    pub within_millis: u64,
    /// Why, for the audit; may be empty.
    pub reason: String,
    /// Who wants it.
    pub author: Author,
}

/// What may be wanted of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberAct {
    /// It becomes a voter, now or when it comes.
    Add,
    /// It leaves every group and the cluster; its store never comes back.
    Remove,
    /// Its lost store is retired; an empty one under its name takes its place.
    Replace,
    /// It hands its leaderships over and does not lead while another one can.
    Drain,
    /// It may lead again.
    Resume,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminReply {
    /// To [`AdminRequest::Status`].
    Status(Box<Status>),
    /// To [`AdminRequest::Explain`].
    Explain(Box<Explanation>),
    /// To [`AdminRequest::Metrics`].
    Metrics(Box<Metrics>),
    /// To [`AdminRequest::Safety`].
    Safety(Box<SafetyView>),
    /// To [`AdminRequest::Shutdown`].
    ShutDown(Box<ShutdownReport>),
    /// To [`AdminRequest::Member`].
    Member(Box<MemberReport>),
    /// To [`AdminRequest::Group`].
    Group(Box<GroupReport>),
    /// To [`AdminRequest::Audit`].
    Audit(Vec<AuditPage>),
    /// What a command asked for is so.
    Done {
        /// The command made it so; if not, it was so before.
        changed: bool,
    },
    /// A command was not carried out.
    Failed {
        /// Stable name of the reason.
        code: &'static str,
        /// For people.
        message: String,
        /// Commands to type next.
        next: Vec<String>,
        /// Where the leader is, if that is the reason.
        leader_admin_address: Option<String>,
    },
}

/// How far a change of membership has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The member.
    pub name: String,
    /// Its store, if one is known; the retired one of a member that is gone.
    pub store_id: Option<StoreId>,
    /// This command decided it; if not, it was decided before.
    pub changed: bool,
    /// It is so in every group. If not it goes on by itself.
    pub complete: bool,
    /// For people.
    pub detail: String,
}

/// What the decision table says now, and what it says that by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What this broker knows of itself and of the peers linked now.
    pub facts: Facts,
    /// Every group, `system` first.
    pub groups: Vec<GroupExplanation>,
}

impl Explanation {
    /// Decides every group by these facts.
    pub fn of(facts: Facts) -> Self {
        let groups = facts
            .groups()
            .into_iter()
            .map(|group| {
                let held = facts.seen.iter().chain([&facts.own]).find_map(|member| member.group(group));
                let vhost = if group == GroupId::SYSTEM {
                    Some("system")
                } else {
                    held.map(|part| part.vhost.as_str())
                };
                GroupExplanation {
                    group,
                    vhost: vhost.unwrap_or_default().to_owned(),
                    decision: decide_group(&facts, group),
                }
            })
            .collect();
        Self { facts, groups }
    }
}

/// One group's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupExplanation {
    /// Which.
    pub group: GroupId,
    /// Its virtual host; `system` for group 0.
    pub vhost: String,
    /// What the table decides.
    pub decision: Decision,
}

/// How an administrative shutdown ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Its id, in every clean stamp.
    pub id: Uuid,
    /// There are no stores to be clean.
    pub transient: bool,
    /// Every member that the cluster knows.
    pub members: Vec<MemberShutdown>,
}

/// What became of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberShutdown {
    /// Its name.
    pub name: String,
    /// Its store.
    pub store_id: StoreId,
    /// None: its store is clean.
    pub why_not_clean: Option<String>,
}

/// One word for the whole broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictWord {
    /// Serves or follows.
    Active,
    /// Waits for members or a quorum.
    Waiting,
    /// Is being updated, does not vote yet.
    Joining,
    /// Needs a person.
    NeedsOperator,
    /// Was refused by the cluster.
    Refused,
    /// Held: the same store runs twice.
    Held,
    /// Found somebody outside the cluster writing, and takes no part until an operator clears that.
    Panicked,
    /// Stopping.
    ShuttingDown,
}

impl VerdictWord {
    /// As it appears in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Joining => "joining",
            Self::NeedsOperator => "needs-operator",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Panicked => "panicked",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// What `quorate cluster status` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The verdict: that of the worst group, as are row, reason and what to type next.
    pub verdict: VerdictWord,
    /// The row of the decision table.
    pub row: String,
    /// For people.
    pub reason: String,
    /// Who is waited for: brokers' names, and addresses at which nobody is known yet.
    pub missing: Vec<String>,
    /// Commands to type next.
    pub next: Vec<String>,
    /// What else was noticed: brokers that do not count and why, members that are not well, settings that differ.
    pub notes: Vec<String>,
    /// This broker's name.
    pub name: String,
    /// This broker's store.
    pub store_id: StoreId,
    /// What state that is in: empty, forming, dirty, clean, damaged, transient.
    pub state: &'static str,
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster, once there is one.
    pub cluster_id: Option<ClusterId>,
    /// The latest epoch of `system`.
    pub epoch: Epoch,
    /// Without stores.
    pub transient: bool,
    /// N in force.
    pub wait_for: u32,
    /// Known members, present or not.
    pub members: Vec<MemberStatus>,
    /// Who may join, by name, store id or cluster address; empty: everybody.
    pub permitted_nodes: Vec<String>,
    /// Bytes in quarantine.
    pub quarantine_bytes: u64,
    /// Bytes of log segments.
    pub log_bytes: u64,
    /// Publishing is refused for lack of room.
    pub space_low: bool,
    /// The cluster's safety number, and this broker's panic.
    pub safety: SafetyView,
    /// The groups.
    pub groups: Vec<GroupStatusView>,
}

/// The cluster's safety number as this broker knows it, and what came of comparing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyView {
    /// In force; 0 before the first.
    pub number: u64,
    /// How often it was renewed.
    pub renewals: u64,
    /// This broker panicked.
    pub panic: Option<PanicView>,
}

/// A panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicView {
    /// For people: the two numbers and the likely cause.
    pub text: String,
    /// The same for programs; none if the panic file cannot be read.
    pub record: Option<PanicRecord>,
    /// It panicked in an earlier process.
    pub before_start: bool,
    /// Commands to type next.
    pub next: Vec<String>,
}

/// One member as this broker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its store.
    pub store_id: StoreId,
    /// Its incarnation, as far as known.
    pub incarnation: Incarnation,
    /// Cluster address.
    pub address: String,
    /// Client address.
    pub client_address: String,
    /// Admin address.
    pub admin_address: String,
    /// empty, forming, dirty, clean, damaged, transient; `unknown` if never seen in this run.
    pub state: &'static str,
    /// Linked now (or this broker itself).
    pub present: bool,
    /// A voter of `system`.
    pub voter: bool,
    /// Not to lead.
    pub drained: bool,
    /// What an operator wants of it and is not so yet.
    pub change: Option<String>,
    /// Why it panicked, if it did.
    pub panicked: Option<String>,
    /// Of another broker: it takes no part in a group that goes on before an operator decides.
    pub needs_operator: Option<Need>,
}

/// What an operator is needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The row, and why in words.
    pub reason: String,
    /// Commands to type next.
    pub next: Vec<String>,
}

/// One group as this broker sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupStatusView {
    /// Its number.
    pub group: GroupId,
    /// Its virtual host; `system` for group 0.
    pub vhost: String,
    /// The leader's broker name.
    pub leader: Option<String>,
    /// The leader's client address.
    pub leader_client_address: Option<String>,
    /// Epoch.
    pub epoch: Epoch,
    /// Term.
    pub term: Term,
    /// Commit index.
    pub commit: Index,
    /// Applied index here.
    pub applied: Index,
    /// Led with a quorum now, as this broker knows it.
    pub quorum: bool,
    /// This broker's role: leader, replica, learner, waiting.
    pub role: &'static str,
    /// How many entries this broker's node is behind what it knows to be committed.
    pub own_lag: u64,
    /// Digest of the applied state at `applied`, for comparing members.
    pub digest: u64,
    /// Progress of an update by snapshot, if one is being received: bytes so far.
    pub updating: Option<u64>,
    /// How many voters must have met the policy before a confirm, as set; 0: a majority.
    pub required_nodes: u32,
    /// How many that makes now.
    pub needed_voters: usize,
    /// The durability policy as decided.
    pub durability: DurabilityPolicy,
    /// What this broker's stamp says that it acknowledges by: a weaker policy holds once it is said there.
    pub durability_here: DurabilityPolicy,
    /// The weakest it may have acknowledged by since everything was synced, as its stamp says.
    pub durability_weakest: Durability,
    /// What the policy permits to be lost.
    pub loss_window: String,
    /// Why this store may lack what it acknowledged of the group; none: it does not.
    pub may_lack: Option<&'static str>,
    /// On the leader: why it serves no clients, if it does not.
    pub gate: Option<String>,
    /// The forced epoch that has not ended.
    pub in_force: Option<InForceView>,
    /// `system`: which of two voters may go on alone, and with which number.
    pub designated_primary: Option<(String, u64)>,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// What the table says of it, and what became of that; none while `system` does not go on, whose verdict is for all.
    pub verdict: Option<GroupVerdict>,
}

/// A forced epoch that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForceView {
    /// `override`, `solo` or `take-over`.
    pub kind: &'static str,
    /// Who goes on with it.
    pub nodes: Vec<String>,
    /// The voters before.
    pub former: Vec<String>,
    /// The designated number, for a solo run and a take-over.
    pub number: Option<u64>,
    /// On the leader, for an override: for how long clients can still be served, in milliseconds.
    pub lease_left_ms: Option<u64>,
    /// When it began, milliseconds since 1970.
    pub since_ms: u64,
    /// Who began it.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// The verdict on one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupVerdict {
    /// In a word.
    pub verdict: VerdictWord,
    /// The row of the decision table.
    pub row: String,
    /// For people.
    pub reason: String,
    /// Who is waited for.
    pub missing: Vec<String>,
    /// Commands to type next.
    pub next: Vec<String>,
}

/// One node of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The broker's name.
    pub name: String,
    /// leader, replica, learner, waiting, unreachable.
    pub role: &'static str,
    /// Highest index known to be on it (from the leader), if known.
    pub matched: Option<Index>,
    /// Entries behind the leader's last, if known.
    pub lag: Option<u64>,
    /// Election priority.
    pub priority: u32,
}

/// Counters (since the process began) and gauges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// `(name, help, labels, value)`: counters end in `_total`.
    pub samples: Vec<MetricSample>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Metric name without the `quorate_` prefix.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Label pairs.
    pub labels: Vec<(&'static str, String)>,
    /// Value.
    pub value: f64,
}
