//! `quorate store inspect`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use quorate_core::formation::InitialStatus;
use serde::Serialize;

use super::Effort;
use super::compare::beyond;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::store::confined::{Invocation, Reading};
use crate::store::facts::{MemberFacts, Place};
use crate::store::inspect::{GroupDecision, Judgement, LossBound, Verdict, judge};
use crate::store::limits::STORES;
use crate::store::loss::Surplus;
use crate::store::subject::Subject;
use crate::units::grouped;

/// Ids of messages shown to people; JSON has them all.
const IDS_SHOWN: usize = 5;

/// Which stores.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate store inspect /var/lib/quorate
  quorate store inspect /mnt/a1 /mnt/b1 c1.facts
  quorate store inspect a1.facts b1.facts c1.facts -o json

Give every store of the cluster that can still be read: directories, copies of them, images in quarantine, or files made
with `quorate store facts`. Says whether they belong to the same cluster, which of them together are safe, which is the
latest and why, what would be lost, and what to type next. It asks the rules that a broker starts by.
Nothing is changed and no permission to write is needed. What only a divergent copy holds is listed exactly where both
are directories.
Exit status: 0 safe together, 1 safe, but not all of those given count, or no store belongs to a cluster, 2 not safe,
ambiguous, forked or of different clusters, 3 nothing could be read.")]
pub struct InspectArguments {
    /// Data directories, or files made with `quorate store facts`
    #[arg(required = true, value_name = "DIR|FACTS")]
    paths: Vec<PathBuf>,
    /// How much it may take.
    #[command(flatten)]
    effort: Effort,
}

/// What programs read.
#[derive(Debug, Serialize)]
struct Report<'a> {
    verdict: Verdict,
    summary: &'a str,
    same_cluster: bool,
    cluster_id: Option<String>,
    latest: Option<&'a str>,
    ties: Vec<Vec<&'a str>>,
    safe: Vec<&'a str>,
    stores: Vec<Row<'a>>,
    groups: Vec<GroupRow<'a>>,
    why: &'a [String],
    loss: Option<Loss<'a>>,
    next: &'a [String],
}

/// One store.
#[derive(Debug, Serialize)]
struct Row<'a> {
    path: &'a str,
    name: &'a str,
    state: &'a str,
    cluster_id: Option<&'a str>,
    store_id: Option<&'a str>,
    incarnation: Option<u64>,
    shutdown_id: Option<&'a str>,
    recovery_id: Option<&'a str>,
    sequence: Option<u64>,
    positions: &'a BTreeMap<String, Place>,
    members: &'a [MemberFacts],
    queues: Option<u64>,
    messages: Option<u64>,
    damage: &'a [String],
    boot_id_same: Option<bool>,
    in_use_by: Option<u32>,
    may_vote: bool,
    remarks: &'a [String],
}

/// One group's decision.
#[derive(Debug, Serialize)]
struct GroupRow<'a> {
    vhost: &'a str,
    row: &'static str,
    reason: &'a str,
    voters: Vec<&'a str>,
    majority: usize,
    missing: Vec<&'a str>,
}

/// What would be lost if the cluster went on from the latest store.
#[derive(Debug, Serialize)]
struct Loss<'a> {
    #[serde(flatten)]
    bound: &'a LossBound,
    /// What others hold beyond it.
    only_elsewhere: Vec<Surplus>,
    /// Stores that could not be compared entry by entry, and why.
    not_compared: Vec<(String, String)>,
}

/// Inspects them.
///
/// # Errors
/// Too many stores.
pub(super) fn run(
    arguments: &InspectArguments,
    invocation: Invocation<'_>,
    console: &mut Console,
) -> Result<Status, Failure> {
    let reading = arguments.effort.reading(invocation);
    if arguments.paths.len() > STORES {
        return Err(Failure::usage(format!("more than {STORES} stores at once")));
    }
    let mut subjects = Vec::new();
    for (number, path) in arguments.paths.iter().enumerate() {
        console.progress(format_args!("reading {}", path.display()));
        subjects.push(Subject::load(path, number, &reading));
    }
    let mut judgement = judge(&subjects);
    console.progress("comparing");
    let (found, not_compared) =
        if judgement.loss.is_some() { compare(&judgement, &subjects, &reading) } else { Compared::default() };
    judgement.compared(&subjects, &found);
    let only_elsewhere = found.into_iter().map(|(_, surplus)| surplus).collect();
    let loss = judgement.loss.as_ref().map(|bound| Loss { bound, only_elsewhere, not_compared });
    if console.is_json() {
        console.json(&report(&judgement, &subjects, loss))?;
    } else {
        show(&judgement, &subjects, loss.as_ref(), console)?;
    }
    Ok(judgement.status)
}

/// What stores hold beyond which one; and which could not be compared, and why.
type Compared = (Vec<(usize, Surplus)>, Vec<(String, String)>);

/// What others hold beyond the latest store; without a latest one, what each store holds beyond each other one.
fn compare(judgement: &Judgement, subjects: &[Subject], reading: &Reading) -> Compared {
    let (mut all, mut not_compared) = Compared::default();
    let readable = |number: &usize| {
        subjects.get(*number).is_some_and(|one| one.status.as_ref().is_some_and(InitialStatus::belongs))
    };
    let members: Vec<usize> = (0..subjects.len()).filter(readable).collect();
    let bases = judgement.latest.map_or_else(|| members.clone(), |latest| vec![latest]);
    for base in bases {
        for number in members.iter().copied().filter(|number| *number != base) {
            let tied = judgement.ties.iter().any(|tie| tie.contains(&number) && tie.contains(&base));
            let (Some(one), Some(other), false) = (subjects.get(base), subjects.get(number), tied) else {
                continue;
            };
            let compared = match (&one.directory, &other.directory) {
                (Some(one), Some(directory)) => beyond(one, directory, &other.path, reading),
                _ => Err("only facts were given of it, or of the one to compare it with".to_owned()),
            };
            match compared {
                Ok(found) => all.extend(found.into_iter().map(|surplus| (base, surplus))),
                Err(why) => not_compared.push((other.path.clone(), why)),
            }
        }
    }
    (all, not_compared)
}

fn report<'a>(judgement: &'a Judgement, subjects: &'a [Subject], loss: Option<Loss<'a>>) -> Report<'a> {
    let path = |number: &usize| subjects.get(*number).map(|subject| subject.path.as_str());
    let row = |(number, (subject, remarks)): (usize, (&'a Subject, &'a Vec<String>))| {
        let facts = &subject.facts;
        Row {
            path: &subject.path,
            name: subject.name(),
            state: &facts.state,
            cluster_id: facts.cluster_id.as_deref(),
            store_id: facts.store_id.as_deref(),
            incarnation: facts.incarnation,
            shutdown_id: facts.shutdown_id.as_deref(),
            recovery_id: facts.recovery_id.as_deref(),
            sequence: facts.sequence,
            positions: &facts.positions,
            members: &facts.members,
            queues: facts.queues,
            messages: facts.messages,
            damage: &facts.damage,
            boot_id_same: facts.boot_id_same,
            in_use_by: facts.in_use_by,
            may_vote: judgement.safe.contains(&number),
            remarks,
        }
    };
    let group = |group: &'a GroupDecision| GroupRow {
        vhost: &group.vhost,
        row: group.decision.row.label(),
        reason: &group.decision.reason,
        voters: group.electorate.voters.iter().map(|voter| voter.name.as_str()).collect(),
        majority: group.electorate.majority,
        missing: group.electorate.missing.iter().map(|voter| voter.name.as_str()).collect(),
    };
    Report {
        verdict: judgement.verdict,
        summary: &judgement.summary,
        same_cluster: judgement.same_cluster,
        cluster_id: judgement.cluster_id.map(|id| id.to_string()),
        latest: judgement.latest.as_ref().and_then(path),
        ties: judgement.ties.iter().map(|tie| tie.iter().filter_map(path).collect()).collect(),
        safe: judgement.safe.iter().filter_map(path).collect(),
        stores: subjects.iter().zip(&judgement.remarks).enumerate().map(row).collect(),
        groups: judgement.decisions.iter().map(group).collect(),
        why: &judgement.why,
        loss,
        next: &judgement.next,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::SafeSet => "SAFE SET",
        Verdict::Marked => "MARKED",
        Verdict::NoSafeSet => "NO SAFE SET",
        Verdict::Ambiguous => "AMBIGUOUS",
        Verdict::Forked => "FORKED",
        Verdict::DifferentClusters => "DIFFERENT CLUSTERS",
        Verdict::Empty => "EMPTY",
        Verdict::Unknown => "UNKNOWN",
    }
}

fn show(
    judgement: &Judgement,
    subjects: &[Subject],
    loss: Option<&Loss<'_>>,
    console: &mut Console,
) -> Result<(), Failure> {
    console.verdict(judgement.status, word(judgement.verdict), &judgement.summary)?;
    let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let short = |value: Option<&str>| value.map_or_else(|| "-".to_owned(), |id| id.chars().take(8).collect());
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), grouped);
    let rows = subjects.iter().enumerate().map(|(place, subject)| {
        let facts = &subject.facts;
        let role = if judgement.latest == Some(place) { "latest" } else { "" };
        let vote = if judgement.safe.contains(&place) { "yes" } else { "no" };
        vec![
            subject.path.clone(),
            text(facts.broker_name.as_deref()),
            short(facts.store_id.as_deref()),
            short(facts.cluster_id.as_deref()),
            facts.state.clone(),
            number(facts.incarnation),
            number(facts.sequence),
            number(facts.queues),
            number(facts.messages),
            vote.to_owned(),
            role.to_owned(),
        ]
    });
    let header = [
        "path", "broker", "store", "cluster", "state", "incarn.", "sequence", "queues", "messages",
        "may vote", "",
    ];
    console.line("")?;
    console.table(&header, rows.collect())?;
    show_positions(subjects, console)?;
    let remarks: Vec<String> = subjects
        .iter()
        .zip(&judgement.remarks)
        .flat_map(|(subject, remarks)| remarks.iter().map(|remark| format!("{}: {remark}", subject.path)))
        .collect();
    section("stores", &remarks, console)?;
    section("why", &judgement.why, console)?;
    if let Some(loss) = loss {
        section("what would be lost", &told(loss), console)?;
    }
    console.line("")?;
    console.next(&judgement.next)
}

fn show_positions(subjects: &[Subject], console: &mut Console) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = subjects
        .iter()
        .flat_map(|subject| {
            subject.facts.positions.iter().map(|(vhost, place)| {
                vec![
                    vhost.clone(),
                    subject.path.clone(),
                    place.epoch.to_string(),
                    place.term.to_string(),
                    grouped(place.index),
                ]
            })
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut rows = rows;
    rows.sort();
    console.line("")?;
    console.table(&["group", "path", "epoch", "term", "index"], rows)
}

fn section(title: &str, lines: &[String], console: &mut Console) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    console.line(format_args!("\n{title}:"))?;
    lines.iter().try_for_each(|line| console.entry(format_args!("  {line}")))
}

/// The loss in words.
fn told(loss: &Loss<'_>) -> Vec<String> {
    let mut lines = vec![if loss.bound.confirmed == "none" {
        format!("nothing that was confirmed: {}", loss.bound.reason)
    } else {
        format!("unknown: {}", loss.bound.reason)
    }];
    for surplus in &loss.only_elsewhere {
        let Surplus { path, vhost, to, entries, messages, .. } = surplus;
        let Some(common) = surplus.common else {
            lines.push(format!("{path}, {vhost}: its log and that of the latest share no entry: unknown"));
            continue;
        };
        lines.push(format!(
            "{path} alone holds {} entries of {vhost} ({}..{to}), {} messages",
            grouped(*entries),
            common.saturating_add(1),
            grouped(*messages)
        ));
        for queue in &surplus.queues {
            let positions: Vec<String> = queue
                .positions
                .iter()
                .take(IDS_SHOWN)
                .map(
                    |(first, last)| {
                        if first == last { first.to_string() } else { format!("{first}..{last}") }
                    },
                )
                .collect();
            let ids: Vec<&str> = queue.message_ids.iter().take(IDS_SHOWN).map(String::as_str).collect();
            let ids = if ids.is_empty() { String::new() } else { format!(", ids {}", ids.join(", ")) };
            lines.push(format!(
                "  queue {}: {} messages at {}{ids}",
                queue.queue,
                grouped(queue.messages),
                positions.join(", ")
            ));
        }
    }
    for (path, why) in &loss.not_compared {
        lines.push(format!("{path} was not compared entry by entry: {why}"));
    }
    lines
}
