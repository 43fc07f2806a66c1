//! `quorate group`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, Subcommand};
use quorate_core::controls::duration_text;
use serde_json::{Value, json};

use super::cluster::text;
use crate::admin::{self, Admin, Answer, Silent};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::units::Span;

/// What to do with the replication groups, one for each virtual host, and `system`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Who leads each group, how far the others are, and what is set
    #[command(
        after_help = "Examples:\n  quorate group status\n  quorate group status --vhost orders -o json\n\n\
        Exit status: 0 every group is led and serves, 1 some group does not, 3 nobody answers."
    )]
    Status {
        /// Only this virtual host
        #[arg(long)]
        vhost: Option<String>,
    },
    /// Set whom a group prefers as its leader, how many nodes a confirm needs, and who of two goes on alone
    #[command(after_help = "Examples:\n  quorate group set --vhost / --node b2 --priority 3\n  \
        quorate group set --vhost '*' --node b3 --priority 0 --reason 'slow disk'\n  \
        quorate group set --vhost orders --required-nodes 3\n  \
        quorate group set --designated-primary b1 --reason 'main site'\n  \
        quorate group set --vhost '*' --required-nodes 1 --nodes b3 --lease 2h \\\n    \
        --confirm 0198c0de-0000-7000-8000-000000000001 --reason 'b1 and b2 are under water'\n\n\
        Among nodes whose logs are equally recent the one of the highest priority becomes leader when one is elected; a\n\
        running leader stays, but one that is given priority 0 hands over. Effective at once, in every log, in the audit.\n\
        With --nodes fewer voters than a majority go on, when no majority is there: what they confirm is marked, and can be\n\
        missing if the others go on without them, so those must not be started where they cannot reach them. That ends by\n\
        itself once a majority has everything; --lease is for how long clients are served at most; --required-nodes 0 ends\n\
        it sooner.\n\
        Exit status: 0 it is so, 1 not known in time, 2 refused, 3 nobody answers.")]
    Set(SetArguments),
    /// Go on with one of two voters, whose other one is lost
    #[command(after_help = "Example:\n  \
        quorate group take-over --node b2 --confirm 0198c0de-0000-7000-8000-000000000001 \\\n    \
        --other-is-stopped --reason 'b1 burnt'\n\n\
        The node goes on with every virtual host that has no quorum, and is the designated primary from then on, if there\n\
        was one. What only the other one confirmed is not there; when it is back it gives way, and that is kept in its\n\
        quarantine (quorate loss). Nothing keeps it from serving where it cannot reach this one: stop it first.\n\
        Exit status: 0 it goes on, 1 not known in time, 2 refused, 3 nobody answers.")]
    TakeOver(TakeOverArguments),
    /// Have another node lead, under load, without losing a confirmed message
    #[command(after_help = "Examples:\n  quorate group transfer --vhost / --to b2\n  \
        quorate --timeout 60s group transfer --vhost orders --to b1 --reason 'new kernel on b2'\n\n\
        The node catches up first; --timeout is how long it may take.\n\
        Exit status: 0 it leads, 2 refused or not in time, 3 nobody answers.")]
    Transfer(TransferArguments),
    /// Who changed what, when and why
    #[command(after_help = "Example:\n  quorate group audit -o json")]
    Audit,
}

/// What to set.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// The virtual host; '*' for all of them, and `system` where that has the setting
    #[arg(long, required_unless_present = "designated_primary")]
    vhost: Option<String>,
    /// Whose priority
    #[arg(long, requires = "priority")]
    node: Option<String>,
    /// 0 never leads, 1 normal, 2 high, 3 highest
    #[arg(long, requires = "node")]
    priority: Option<u64>,
    /// How many nodes must have a message before its confirm and its delivery; 0: a majority
    #[arg(long, value_name = "K")]
    required_nodes: Option<u64>,
    /// Fewer than a majority: which, by name; as many as --required-nodes
    #[arg(long, value_delimiter = ',', value_name = "B,…", requires_all = ["required_nodes", "confirm"])]
    nodes: Vec<String>,
    /// For how long these serve clients
    #[arg(long, requires = "nodes", default_value = "4h")]
    lease: Span,
    /// The cluster's id, for --nodes
    #[arg(long, requires = "nodes", value_name = "CLUSTER")]
    confirm: Option<String>,
    /// Which of two voters goes on alone if the other one is gone; `none`: neither. For the whole cluster
    #[arg(long, value_name = "B", conflicts_with_all = ["node", "required_nodes"])]
    designated_primary: Option<String>,
    /// What leader and replicas do before they acknowledge, each of sync, write-no-sync, no-sync: as `sync,no-sync`
    #[arg(long, value_name = "LEADER,REPLICAS")]
    durability: Option<String>,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

/// Who goes on.
#[derive(Debug, Args)]
pub struct TakeOverArguments {
    /// The broker that goes on
    #[arg(long)]
    node: String,
    /// The cluster's id
    #[arg(long, value_name = "CLUSTER")]
    confirm: String,
    /// Your word that the other one is stopped, and will not be started where it cannot reach this one
    #[arg(long)]
    other_is_stopped: bool,
    /// Why, for the audit
    #[arg(long)]
    reason: String,
}

/// Whom to hand over to.
#[derive(Debug, Args)]
pub struct TransferArguments {
    /// The virtual host; '*' for all of them, and `system`
    #[arg(long)]
    vhost: String,
    /// The broker that is to lead
    #[arg(long)]
    to: String,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

/// What a user types for every group.
const ALL: &str = "*";
/// The cluster's own group.
pub(super) const SYSTEM: &str = "system";
/// What a user types for no designated primary.
const NOBODY: &str = "none";

/// Carries it out.
///
/// # Errors
/// As the brokers say.
pub fn run(command: GroupCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let admin = Admin::new(settings)?;
    match command {
        GroupCommand::Status { vhost } => status(&admin, vhost.as_deref(), console),
        GroupCommand::Set(arguments) => set(&admin, &arguments, console),
        GroupCommand::Transfer(arguments) => {
            let millis = u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX);
            let body = json!({ "to": arguments.to, "timeout_ms": millis, "reason": arguments.reason });
            let patient = Admin::new(&Settings { timeout: settings.timeout * 2, ..settings.clone() })?;
            let vhosts = vhosts(&admin, &arguments.vhost, true)?;
            change(&patient, "transfer", (&vhosts, arguments.vhost == ALL), &body, console)
        }
        GroupCommand::TakeOver(arguments) => {
            let TakeOverArguments { node, confirm, other_is_stopped, reason } = arguments;
            let body = json!({
                "node": node, "confirm": confirm, "other_is_stopped": other_is_stopped, "reason": reason,
            });
            let (answer, _) = admin.post("/api/v1/groups/take-over", &body)?;
            told(vec![answer], console)
        }
        GroupCommand::Audit => audit(&admin, console),
    }
}

fn set(admin: &Admin, arguments: &SetArguments, console: &mut Console) -> Result<Status, Failure> {
    if let Some(node) = &arguments.designated_primary {
        let node = Some(node.as_str()).filter(|node| *node != NOBODY).unwrap_or_default();
        let body = json!({ "designated_primary": node, "reason": arguments.reason });
        return change(admin, "set", (&[None], false), &body, console);
    }
    let vhost = arguments.vhost.as_deref().unwrap_or(ALL);
    if let Some(confirm) = arguments.confirm.as_ref().filter(|_| !arguments.nodes.is_empty()) {
        return go_on(admin, arguments, vhost, confirm, console);
    }
    let mut body = json!({ "reason": arguments.reason });
    if let (Some(node), Some(priority)) = (&arguments.node, arguments.priority) {
        body["priorities"] = json!([{ "node": node, "priority": priority }]);
    }
    if let Some(required) = arguments.required_nodes {
        body["required_nodes"] = json!(required);
    }
    if let Some(policy) = &arguments.durability {
        body["durability"] = json!(policy);
    }
    if body.as_object().is_some_and(|fields| fields.len() == 1) {
        let text = "nothing is to be set: --node with --priority, --required-nodes, --durability, or --designated-primary";
        return Err(Failure::new(Status::Usage, "usage", text).next("quorate group set --help"));
    }
    let with_system = arguments.required_nodes.is_none() && arguments.durability.is_none();
    let vhosts = vhosts(admin, vhost, with_system)?;
    change(admin, "set", (&vhosts, vhost == ALL), &body, console)
}

/// Fewer than a majority go on.
fn go_on(
    admin: &Admin,
    arguments: &SetArguments,
    vhost: &str,
    confirm: &str,
    console: &mut Console,
) -> Result<Status, Failure> {
    let named = u64::try_from(arguments.nodes.len()).unwrap_or(u64::MAX);
    if arguments.required_nodes != Some(named) {
        let text = format!("--nodes names {named} nodes, and --required-nodes says another number");
        return Err(Failure::new(Status::Usage, "usage", text).next("quorate group set --help"));
    }
    let lease = u64::try_from(arguments.lease.0.as_millis()).unwrap_or(u64::MAX);
    let body = json!({
        "nodes": arguments.nodes, "lease_ms": lease, "confirm": confirm, "reason": arguments.reason,
    });
    let mut vhosts = vhosts(admin, vhost, false)?;
    // What knows of the virtual hosts began with the first of them, and is to last as long.
    let system = Some(SYSTEM.to_owned());
    if !vhosts.contains(&system) && system_is_overridden(admin)? {
        vhosts.push(system);
    }
    change(admin, "override", (&vhosts, vhost == ALL), &body, console)
}

fn system_is_overridden(admin: &Admin) -> Result<bool, Failure> {
    let groups = views(admin)?;
    Ok(groups.iter().any(|group| group["group"] == 0 && group["in_force"]["kind"] == "override"))
}

/// The virtual hosts meant, `system` perhaps among them.
fn vhosts(admin: &Admin, asked: &str, with_system: bool) -> Result<Vec<Option<String>>, Failure> {
    if asked != ALL {
        return Ok(vec![Some(asked.to_owned())]);
    }
    let body = admin.get_any("/api/v1/vhosts")?;
    let known = body["vhosts"].as_array().cloned().unwrap_or_default();
    let names = known.iter().filter_map(|vhost| vhost["name"].as_str()).map(|name| Some(name.to_owned()));
    Ok(with_system.then(|| Some(SYSTEM.to_owned())).into_iter().chain(names).collect())
}

/// Asks for it in one group after the other; the first refusal ends it. If all of them are meant, those where nothing is to
/// be done are in nobody's way.
fn change(
    admin: &Admin,
    act: &str,
    (vhosts, all): (&[Option<String>], bool),
    body: &Value,
    console: &mut Console,
) -> Result<Status, Failure> {
    let mut done = Vec::new();
    let mut passed_over = None;
    for vhost in vhosts {
        let mut body = body.clone();
        body["vhost"] = json!(vhost);
        let (answer, _) = admin.post(&format!("/api/v1/groups/{act}"), &body)?;
        let idle = ["MEMBER_LEADS", "GROUP_HAS_QUORUM"].iter().any(|code| answer.body["code"] == *code);
        if idle && all && vhosts.len() > 1 {
            passed_over = Some(answer);
            continue;
        }
        let refused = answer.status >= 300;
        done.push(answer);
        if refused {
            break;
        }
    }
    if done.is_empty() {
        done.extend(passed_over.filter(|answer| answer.body["code"] == "GROUP_HAS_QUORUM"));
    }
    told(done, console)
}

/// Says what was changed, or the first refusal, with what was changed before it.
fn told(answers: Vec<Answer>, console: &mut Console) -> Result<Status, Failure> {
    let mut done: Vec<Value> = Vec::new();
    for answer in answers {
        if answer.status >= 300 {
            let mut failure = admin::refused(&answer);
            for one in &done {
                let _ = write!(
                    failure.message,
                    "; done before that: {}: {}",
                    text(one, "vhost"),
                    text(one, "detail")
                );
            }
            return Err(failure);
        }
        done.push(answer.body);
    }
    if console.is_json() {
        console.json(&json!({ "groups": done }))?;
        return Ok(Status::Done);
    }
    let changed = done.iter().filter(|one| one["changed"] == true).count();
    let word = if changed > 0 { "DONE" } else { "NOTHING TO DO" };
    let told = match done.as_slice() {
        [one] => text(one, "detail"),
        all => format!("{changed} of {} groups changed", all.len()),
    };
    console.verdict(Status::Done, word, told)?;
    if done.len() > 1 {
        let rows = done.iter().map(|one| vec![text(one, "vhost"), text(one, "detail")]);
        console.table(&["vhost", "what"], rows.collect())?;
    }
    Ok(Status::Done)
}

/// What every broker that answers has in this list; a refusal by one is everybody's.
fn gathered(admin: &Admin, path: &str, list: &str) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut silent: Vec<Silent> = Vec::new();
    let mut answered = false;
    for answer in admin.get_all(path) {
        match answer {
            Ok(answer) if answer.status < 300 => {
                answered = true;
                found.extend(answer.body[list].as_array().into_iter().flatten().cloned());
            }
            Ok(answer) => return Err(admin::refused(&answer)),
            Err(one) => silent.push(one),
        }
    }
    if answered { Ok(found) } else { Err(admin::unreachable(&silent)) }
}

/// Of each group what its leader says, else what anybody does; `system` first.
fn views(admin: &Admin) -> Result<Vec<Value>, Failure> {
    let mut found: BTreeMap<(bool, String), Value> = BTreeMap::new();
    for group in gathered(admin, "/api/v1/groups", "groups")? {
        let key = (group["group"] != 0, text(&group, "vhost"));
        // Whoever is being filled knows no voters yet.
        let knows = |group: &Value| (group["role"] == "leader", voters(group) > 0, group["term"].as_u64());
        if found.get(&key).is_none_or(|known| knows(&group) > knows(known)) {
            found.insert(key, group);
        }
    }
    Ok(found.into_values().collect())
}

fn status(admin: &Admin, vhost: Option<&str>, console: &mut Console) -> Result<Status, Failure> {
    let mut groups = views(admin)?;
    if let Some(vhost) = vhost {
        groups.retain(|group| group["vhost"] == vhost);
        if groups.is_empty() {
            let text = format!("there is no virtual host {vhost:?}");
            return Err(Failure::new(Status::Refused, "VHOST_NOT_FOUND", text).next("quorate vhost list"));
        }
    }
    let idle = groups.iter().filter(|group| group["quorum"] != true).count();
    let status = if idle == 0 { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(&json!({ "groups": groups }))?;
        return Ok(status);
    }
    let told = format!("{} groups, {idle} without service", groups.len());
    console.verdict(status, status.word(), told)?;
    for group in &groups {
        let begins = format!("  {}: led by {}", text(group, "vhost"), text(group, "leader"));
        if voters(group) == 0 {
            console.line(format_args!(
                "{begins}; whoever answers is being filled, and knows neither its voters nor its policy yet"
            ))?;
            continue;
        }
        let needs = format!("{} of {}", text(group, "needed_voters"), voters(group));
        console.line(format_args!(
            "{begins}, term {}, epoch {}, a confirm needs {needs}",
            text(group, "term"),
            text(group, "epoch"),
        ))?;
        if let Some(primary) = group["designated_primary"]["node"].as_str() {
            let number = text(&group["designated_primary"], "number");
            let effect = if voters(group) == 2 {
                format!("goes on alone if the other one is gone (designated primary, number {number})")
            } else {
                format!("is the designated primary (number {number}): no effect but with two voters")
            };
            console.line(format_args!("    {primary} {effect}"))?;
        }
        if group["in_force"].is_object() {
            console.line(format_args!("    {}", in_force(&group["in_force"])))?;
        }
        console.line(format_args!(
            "    durability {}; may be lost: {}",
            text(group, "durability"),
            text(group, "loss_window"),
        ))?;
        if let Some(why) = group["may_lack"].as_str() {
            console.line(format_args!("    this broker's store may lack what it acknowledged: {why}"))?;
        }
        if let Some(gate) = group["gate"].as_str() {
            console.line(format_args!("    serves nobody: {gate}"))?;
        }
        let mut nodes = group["nodes"].as_array().cloned().unwrap_or_default();
        nodes.sort_by_key(|node| text(node, "name"));
        let rows = nodes
            .iter()
            .map(|node| ["name", "role", "priority", "match", "lag"].map(|of| text(node, of)).into());
        console.table(&["node", "role", "priority", "match", "lag"], rows.collect())?;
    }
    if idle > 0 {
        console.next(&["quorate cluster explain".to_owned()])?;
    }
    Ok(status)
}

/// A forced epoch that has not ended.
fn in_force(view: &Value) -> String {
    let names = |of: &str| {
        let names = view[of].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let lease = match view["lease_left_ms"].as_u64() {
        Some(left) => format!(", lease left {}", duration_text(left)),
        None => String::new(),
    };
    format!(
        "{}: {} of {} go on since {}{lease}, by {}: {}; what is confirmed is marked until a majority has everything",
        text(view, "kind"),
        names("nodes"),
        names("former"),
        text(view, "since"),
        text(view, "who"),
        text(view, "reason"),
    )
}

fn voters(group: &Value) -> usize {
    let nodes = group["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().filter(|node| node["role"] != "learner").count()
}

/// Of all brokers, since one may be a moment behind; each change once, oldest first.
fn records(admin: &Admin) -> Result<Vec<Value>, Failure> {
    let mut found: BTreeMap<(u64, String, u64, String), Value> = BTreeMap::new();
    for record in gathered(admin, "/api/v1/audit", "records")? {
        let number = |field: &str| record[field].as_u64().unwrap_or(0);
        let key = (number("at_ms"), text(&record, "vhost"), number("index"), text(&record, "what"));
        found.insert(key, record);
    }
    Ok(found.into_values().collect())
}

fn audit(admin: &Admin, console: &mut Console) -> Result<Status, Failure> {
    let records = records(admin)?;
    if console.is_json() {
        console.json(&json!({ "records": records }))?;
        return Ok(Status::Done);
    }
    console.verdict(Status::Done, "OK", format_args!("{} changes", records.len()))?;
    let rows = records.iter().map(|record| {
        let who = format!("{} {}", text(record, "who"), text(record, "address"));
        let change = format!("{} -> {}", text(record, "before"), text(record, "after"));
        vec![
            text(record, "time"),
            text(record, "vhost"),
            text(record, "what"),
            change,
            who,
            text(record, "reason"),
        ]
    });
    if !records.is_empty() {
        console.table(&["when", "vhost", "what", "change", "who", "why"], rows.collect())?;
    }
    Ok(Status::Done)
}
