//! `quorate group`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cluster::text;
use crate::admin::{self, Admin, Silent};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

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
    /// Set whom a group prefers as its leader, and how many nodes a confirm needs
    #[command(after_help = "Examples:\n  quorate group set --vhost / --node b2 --priority 3\n  \
        quorate group set --vhost '*' --node b3 --priority 0 --reason 'slow disk'\n  \
        quorate group set --vhost orders --required-nodes 3\n\n\
        Among nodes whose logs are equally recent the one of the highest priority becomes leader when one is elected; a\n\
        running leader stays, but one that is given priority 0 hands over. Effective at once, in every log, in the audit.\n\
        Exit status: 0 it is so, 1 not known in time, 2 refused, 3 nobody answers.")]
    Set(SetArguments),
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
    #[arg(long)]
    vhost: String,
    /// Whose priority
    #[arg(long, requires = "priority")]
    node: Option<String>,
    /// 0 never leads, 1 normal, 2 high, 3 highest
    #[arg(long, requires = "node")]
    priority: Option<u64>,
    /// How many nodes must have a message before its confirm and its delivery; 0: a majority
    #[arg(long, value_name = "K")]
    required_nodes: Option<u64>,
    /// Why, for the audit
    #[arg(long, default_value = "")]
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
            change(&patient, "transfer", &vhosts, &body, console)
        }
        GroupCommand::Audit => audit(&admin, console),
    }
}

fn set(admin: &Admin, arguments: &SetArguments, console: &mut Console) -> Result<Status, Failure> {
    let mut body = json!({ "reason": arguments.reason });
    if let (Some(node), Some(priority)) = (&arguments.node, arguments.priority) {
        body["priorities"] = json!([{ "node": node, "priority": priority }]);
    }
    if let Some(required) = arguments.required_nodes {
        body["required_nodes"] = json!(required);
    }
    if body.as_object().is_some_and(|fields| fields.len() == 1) {
        let text = "nothing is to be set: --node with --priority, or --required-nodes";
        return Err(Failure::new(Status::Usage, "usage", text).next("quorate group set --help"));
    }
    let vhosts = vhosts(admin, &arguments.vhost, arguments.required_nodes.is_none())?;
    change(admin, "set", &vhosts, &body, console)
}

/// The virtual hosts meant, none for `system`.
fn vhosts(admin: &Admin, asked: &str, with_system: bool) -> Result<Vec<Option<String>>, Failure> {
    if asked != ALL {
        return Ok(vec![Some(asked.to_owned())]);
    }
    let body = admin.get_any("/api/v1/vhosts")?;
    let known = body["vhosts"].as_array().cloned().unwrap_or_default();
    let names = known.iter().filter_map(|vhost| vhost["name"].as_str()).map(|name| Some(name.to_owned()));
    Ok(with_system.then_some(None).into_iter().chain(names).collect())
}

/// Asks for it in one group after the other; the first refusal ends it.
fn change(
    admin: &Admin,
    act: &str,
    vhosts: &[Option<String>],
    body: &Value,
    console: &mut Console,
) -> Result<Status, Failure> {
    let mut done = Vec::new();
    for vhost in vhosts {
        let mut body = body.clone();
        body["vhost"] = json!(vhost);
        let (answer, _) = admin.post(&format!("/api/v1/groups/{act}"), &body)?;
        let leads = answer.body["code"] == "MEMBER_LEADS";
        if leads && vhosts.len() > 1 {
            continue;
        }
        if answer.status >= 300 {
            return Err(admin::refused(&answer));
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
        let knows = |group: &Value| (group["role"] == "leader", group["term"].as_u64());
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
        let needs = format!("{} of {}", text(group, "needed_voters"), voters(group));
        console.line(format_args!(
            "  {}: led by {}, term {}, epoch {}, a confirm needs {needs}",
            text(group, "vhost"),
            text(group, "leader"),
            text(group, "term"),
            text(group, "epoch"),
        ))?;
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
