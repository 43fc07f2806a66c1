//! `quorate store mark-clean` and `quorate store unmark`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use quorate_store::files::{FileError, FileLock};
use quorate_store::ids::GroupId;
use serde::Serialize;
use uuid::Uuid;

use super::Effort;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::store::confined::Invocation;
use crate::store::inspect::quoted;
use crate::store::limits::STORES;
use crate::store::mark::{Ground, MarkOptions, Plan, Refused, judge};
use crate::store::mark_write::{self, Act, MarkError};
use crate::store::subject::{OpenSubject, Subject};
use crate::store::unmark::{self, Unmarked};

/// Longest reason, in bytes.
const REASON_BYTES: usize = 1000;

/// Which store, and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate store mark-clean /var/lib/quorate --against b1.facts c1.facts --reason 'fire in room 2, INC-889'
  quorate store mark-clean /mnt/a1 --against /mnt/b1 --alone --yes --reason 'b and c are lost'
  quorate store unmark /var/lib/quorate

Makes the cluster go on from this store: a new epoch in every group, this store its only voter; where the stores given
show that some groups go on by themselves, only in those that do not. Every other store
joins it and is updated; what only those hold is put aside and reported. Give the stores that can still be read with
--against: what is known of them is recorded, and what would be lost is said first (see `quorate store inspect`).
One stamp is written, under the store's lock; the old one is kept, and `quorate store unmark` puts it back as long as no
broker has started from the mark.
Never marked: a store in use, damaged, empty, or unreadable. Refused unless --force --confirm CLUSTER-ID: when another
is later or marked, when those given could simply start, when those not given could start by themselves.
Exit status: 0 marked, 2 refused, 64 no answer.")]
pub struct MarkArguments {
    /// The data directory to go on from
    dir: PathBuf,
    /// The other stores of the cluster: directories, or files made with `quorate store facts`
    #[arg(long, num_args = 1.., value_name = "DIR|FACTS")]
    against: Vec<PathBuf>,
    /// Serve clients at once, without waiting for other members; confirms then rest on fewer copies
    #[arg(long)]
    alone: bool,
    /// Go on in spite of a refusal that may be overridden; recorded
    #[arg(long, requires = "confirm")]
    force: bool,
    /// The cluster's id, as the answer to --force
    #[arg(long, value_name = "CLUSTER-ID", requires = "force")]
    confirm: Option<String>,
    /// Why; kept in the store and in the cluster
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// How much it may take.
    #[command(flatten)]
    effort: Effort,
}

/// Which store.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate store unmark /var/lib/quorate

Takes back `quorate store mark-clean`, as long as no broker has started from it: the stamp from before is put back. If a
broker did start, and joined a cluster that is active without it, virtual hosts that wait for an operator may have the
mark still: it is taken back in those. A store that was closed by an administrative shutdown becomes dirty, as if its
process had been killed.
Exit status: 0 done, 2 refused, 64 no answer.")]
pub struct UnmarkArguments {
    /// The data directory
    dir: PathBuf,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Marked<'a> {
    path: String,
    recovery_id: String,
    /// The virtual hosts that go on from it; `system` is one of them unless it goes on by itself.
    vhosts: Vec<String>,
    members_awaited: u32,
    alone: bool,
    overridden: Vec<&'static str>,
    warnings: &'a [String],
    next: Vec<String>,
}

fn refused(refused: Refused) -> Failure {
    let Refused { ground, reason, next } = refused;
    let text = if ground.is_overridable() {
        format!("{reason} (--force --confirm CLUSTER-ID goes on in spite of it)")
    } else {
        reason
    };
    let status = if ground == Ground::NotConfirmed { Status::Usage } else { Status::Refused };
    next.into_iter().fold(Failure::new(status, ground.name(), text), Failure::next)
}

fn failed(error: &MarkError, dir: &Path) -> Failure {
    let failure = Failure::new(Status::Refused, "io", error.to_string());
    if !matches!(error, MarkError::Unfinished(_)) {
        return failure;
    }
    let dir = quoted(&dir.display().to_string());
    failure.next(format!("quorate store inspect {dir}")).next(format!("quorate store unmark {dir}"))
}

pub(super) fn take_lock(dir: &Path) -> Result<Box<dyn FileLock>, Failure> {
    if !dir.is_dir() {
        return Err(Failure::new(Status::Refused, "no-store", format!("{} is no directory", dir.display())));
    }
    mark_write::lock(dir).map_err(|error| match error {
        FileError::Locked { holder, .. } => {
            let who = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let text = format!("{} is in use by {who}: stop it first; nothing overrides this", dir.display());
            Failure::new(Status::Refused, Ground::InUse.name(), text)
        }
        error => Failure::new(Status::Refused, "io", error.to_string()),
    })
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Marks it.
///
/// # Errors
/// It was refused, nobody confirmed it, or the disk failed.
pub(super) fn mark(
    arguments: &MarkArguments,
    invocation: Invocation<'_>,
    console: &mut Console,
) -> Result<Status, Failure> {
    let reading = arguments.effort.reading(invocation);
    let reason = arguments.reason.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES {
        return Err(Failure::usage(format!("--reason takes 1 to {REASON_BYTES} bytes of text")));
    }
    if arguments.against.len() >= STORES {
        return Err(Failure::usage(format!("more than {STORES} stores at once")));
    }
    // A directory in which there is no store gets no lock file either.
    let first = Subject::load(&arguments.dir, 0, &reading);
    let others: Vec<Subject> =
        (1..).zip(&arguments.against).map(|(number, path)| Subject::load(path, number, &reading)).collect();
    if let Some(other) = others.iter().find(|other| other.status.is_none()) {
        let why = other.facts.unread.clone().unwrap_or_default();
        let text = format!("--against {}: it could not be read: {why}", other.path);
        return Err(Failure::new(Status::Refused, Ground::Unreadable.name(), text)
            .next("quorate store inspect DIR…    (leave it out if nothing can be read)"));
    }
    let options =
        MarkOptions { alone: arguments.alone, force: arguments.force, confirm: arguments.confirm.clone() };
    judge(&first, &others, &options).map_err(refused)?;
    let lock = take_lock(&arguments.dir)?;
    // Again, now that nobody else can change it.
    let target = Subject::load(&arguments.dir, 0, &reading);
    let plan = judge(&target, &others, &options).map_err(refused)?;
    for warning in &plan.warnings {
        console.note(format_args!("  {warning}"));
    }
    let vhosts: Vec<String> = plan.groups.iter().map(|mark| vhost_of(&target, mark.group)).collect();
    let question = format!(
        "Go on from {} in {} and leave behind what every other store holds of that?",
        target.path,
        vhosts.join(", ")
    );
    console.confirm(&question, arguments.yes || arguments.force)?;
    let recovery = Uuid::new_v4();
    write(arguments, lock.as_ref(), &plan, recovery, reason)?;
    let next = vec![
        format!("quorated --name {} --data-dir {} …", quoted(target.name()), quoted(&target.path)),
        format!(
            "quorate store unmark {}    (as long as no broker has started from it)",
            quoted(&target.path)
        ),
    ];
    let marked = Marked {
        path: target.path.clone(),
        recovery_id: recovery.to_string(),
        vhosts,
        members_awaited: plan.members,
        alone: plan.alone,
        overridden: plan.overridden.iter().map(|ground| ground.name()).collect(),
        warnings: &plan.warnings,
        next,
    };
    if console.is_json() {
        console.json(&marked)?;
        return Ok(Status::Done);
    }
    let waits = match plan.members {
        0 => "it serves clients at once".to_owned(),
        members => format!("it serves clients once {members} members are present and up to date"),
    };
    console.verdict(
        Status::Done,
        "MARKED",
        format_args!("{}, recovery id {recovery}; {waits}{}", target.path, only(&marked.vhosts, &target)),
    )?;
    console.next(&marked.next)?;
    Ok(Status::Done)
}

fn vhost_of(target: &Subject, group: GroupId) -> String {
    let part = target.status.as_ref().and_then(|status| status.group(group));
    part.map_or_else(|| format!("group {group}"), |part| part.vhost.clone())
}

/// Says so if only some of what the store holds is marked.
fn only(vhosts: &[String], target: &Subject) -> String {
    let held = target.status.as_ref().map_or(0, |status| status.groups.len());
    if vhosts.len() == held {
        return String::new();
    }
    format!("; marked in {} alone: the rest goes on by itself", vhosts.join(", "))
}

fn write(
    arguments: &MarkArguments,
    lock: &dyn FileLock,
    plan: &Plan,
    recovery: Uuid,
    reason: &str,
) -> Result<(), Failure> {
    let opened = OpenSubject::open(&arguments.dir, arguments.effort.budget())?;
    let who = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let who: String = who.unwrap_or_else(|_| "an operator".to_owned()).chars().take(64).collect();
    let why = if plan.overridden.is_empty() {
        reason.to_owned()
    } else {
        let names: Vec<&str> = plan.overridden.iter().map(|ground| ground.name()).collect();
        format!("{reason} (forced in spite of: {})", names.join(", "))
    };
    let act = Act { recovery, who, when_ms: now_ms(), why };
    mark_write::mark(&opened, lock, plan, &act).map_err(|error| failed(&error, &arguments.dir))
}

/// Takes a mark back.
///
/// # Errors
/// There is nothing to take back, nobody confirmed it, or the disk failed.
pub(super) fn unmark(
    arguments: &UnmarkArguments,
    invocation: Invocation<'_>,
    console: &mut Console,
) -> Result<Status, Failure> {
    let dir = &arguments.dir;
    let subject = Subject::load(dir, 0, &Effort::default().reading(invocation));
    if subject.facts.store_id.is_none() {
        let why = subject.facts.unread.unwrap_or_else(|| "it has no store id".to_owned());
        return Err(Failure::new(Status::Refused, "no-store", format!("{}: {why}", dir.display())));
    }
    let lock = take_lock(dir)?;
    console.confirm(&format!("Take back that {} is clean?", dir.display()), arguments.yes)?;
    let budget = Effort::default().for_reading_all();
    let unmarked = unmark::unmark(dir, lock.as_ref(), budget, now_ms()).map_err(|error| match error {
        MarkError::State(text) => Failure::new(Status::Refused, "not-marked", text)
            .next(format!("quorate store inspect {}", quoted(&dir.display().to_string()))),
        error => failed(&error, dir),
    })?;
    let text = match unmarked {
        Unmarked::Mark(id) => format!("the mark {id} was taken back: the store is as it was before"),
        Unmarked::Shutdown(id) => format!("the store was clean by shutdown {id} and is dirty now"),
        Unmarked::Left(marks) => {
            let marks: Vec<String> =
                marks.iter().map(|(id, vhosts)| format!("{id} in {}", vhosts.join(", "))).collect();
            format!("nothing was begun on the mark {}: taken back there", marks.join(", or "))
        }
    };
    if console.is_json() {
        console.json(&serde_json::json!({ "unmarked": dir.display().to_string(), "was": text }))?;
    } else {
        console.verdict(Status::Done, "UNMARKED", text)?;
    }
    Ok(Status::Done)
}
