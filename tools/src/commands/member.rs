//! `quorate member`.

use std::time::Instant;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cluster::{ask, members};
use crate::admin::{self, Admin, Earlier};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// What to do with the members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// The members: which vote, which are drained, and what is still to come
    #[command(after_help = "Example:\n  quorate member list -o json")]
    List,
    /// Let a broker become a voter, now or when it comes
    #[command(
        after_help = "Examples:\n  quorate member add --name b4\n  quorate member add --name b4 --address h4:7421\n\n\
        Start it with an empty data directory and --cluster-peers that lead to the cluster.\n\
        Exit status: 0 it votes in every group, 1 not yet within --timeout (it goes on), 2 refused, 3 nobody answers."
    )]
    Add {
        /// The broker's name
        #[arg(long)]
        name: String,
        /// Cluster address to look for it at
        #[arg(long)]
        address: Option<String>,
        /// Why, for the audit
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take a broker out of every group and out of the cluster, for good
    #[command(after_help = "Example:\n  quorate member remove --name b3\n\n\
        Its data directory may be deleted once the command has ended with status 0, not before.\n\
        Exit status: 0 it is gone, 1 not yet within --timeout (it goes on), 2 refused, 3 nobody answers.")]
    Remove(Confirmed),
    /// Retire a member's lost store; an empty one under its name takes its place
    #[command(after_help = "Example:\n  quorate member replace --name b3\n\n\
        The new store may be started before or after this.\n\
        Exit status: 0 done, 1 not yet within --timeout (it goes on), 2 refused, 3 nobody answers.")]
    Replace(Confirmed),
    /// Hand a broker's leaderships over, and let it lead no more until resumed; it votes on
    #[command(after_help = "Example:\n  quorate member drain --name b1 --reason 'new kernel'")]
    Drain(Named),
    /// Let a drained broker lead again
    #[command(after_help = "Example:\n  quorate member resume --name b1")]
    Resume(Named),
    /// Say who may join: nobody else is let in, by whatever name
    #[command(
        after_help = "Examples:\n  quorate member permit --node b1 --node b2 --node b3 --node h4:7421\n  \
        quorate member permit --everybody\n\n\
        A broker that is not permitted ends with status 3, and the brokers that are here go on.\n\
        Exit status: 0 it is so, 2 refused: a member is not in the list, 3 nobody answers."
    )]
    Permit {
        /// A name, store id or cluster address; may be given again. Every member there is has to be among them
        #[arg(long = "node", value_name = "NAME", required_unless_present = "everybody")]
        nodes: Vec<String>,
        /// There is no list
        #[arg(long, conflicts_with = "nodes")]
        everybody: bool,
        /// Why, for the audit
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Which member.
#[derive(Debug, Args)]
pub struct Named {
    /// The broker's name
    #[arg(long)]
    name: String,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

/// Which member, for good.
#[derive(Debug, Args)]
pub struct Confirmed {
    /// The broker's name
    #[arg(long)]
    name: String,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

/// Carries it out.
///
/// # Errors
/// As the brokers say.
pub fn run(command: MemberCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let admin = Admin::new(settings)?;
    match command {
        MemberCommand::List => {
            let (view, _) = ask(&admin)?;
            members(&view, console)
        }
        MemberCommand::Add { name, address, reason } => {
            let body = json!({ "name": name, "address": address, "reason": reason });
            change("add", body, settings, console)
        }
        MemberCommand::Remove(Confirmed { name, yes, reason }) => {
            console
                .confirm(&format!("Remove {name} from the cluster? Its store is never taken back."), yes)?;
            change("remove", json!({ "name": name, "reason": reason }), settings, console)
        }
        MemberCommand::Replace(Confirmed { name, yes, reason }) => {
            console.confirm(&format!("Retire the store of {name}? It is never taken back."), yes)?;
            // The one that has the name now: asked again, no store that has come in its place by then is meant.
            let (view, _) = ask(&admin)?;
            let store = replaced_store(view.members(), &name);
            let body = json!({ "name": name, "store_id": store, "reason": reason });
            change("replace", body, settings, console)
        }
        MemberCommand::Drain(Named { name, reason }) => {
            change("drain", json!({ "name": name, "reason": reason }), settings, console)
        }
        MemberCommand::Resume(Named { name, reason }) => {
            change("resume", json!({ "name": name, "reason": reason }), settings, console)
        }
        MemberCommand::Permit { nodes, everybody: _, reason } => {
            permit(&admin, &json!({ "nodes": nodes, "reason": reason }), console)
        }
    }
}

/// The store that is to go: the one of this name that votes; else, after an override, the one that is away. What is here
/// without a vote only waits to take its place. None if that does not tell: the broker, which has the member's record, then
/// goes by the name.
fn replaced_store(members: &[Value], name: &str) -> Value {
    let only = |fits: fn(&Value) -> bool| {
        let mut of_name = members.iter().filter(|member| member["name"] == name && fits(member));
        of_name.next().filter(|_| of_name.next().is_none())
    };
    let voter = only(|member| member["voter"] == true);
    let store = voter.or_else(|| only(|member| member["voter"] != true && member["present"] != true));
    store.map_or(Value::Null, |member| member["store_id"].clone())
}

fn permit(admin: &Admin, body: &Value, console: &mut Console) -> Result<Status, Failure> {
    let (answer, _) = admin.post("/api/v1/members/permit", body)?;
    if answer.status >= 300 {
        return Err(admin::refused(&answer));
    }
    if console.is_json() {
        console.json(&answer.body)?;
        return Ok(Status::Done);
    }
    let word = if answer.body["changed"] == true { "DONE" } else { "NOTHING TO DO" };
    console.verdict(Status::Done, word, answer.body["detail"].as_str().unwrap_or_default())?;
    Ok(Status::Done)
}

/// Asks until it is so in every group or the time is over; whoever leads goes on with it in any case.
fn change(act: &str, mut body: Value, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let deadline = Instant::now() + settings.timeout;
    // Brokers answer by then; that answer is worth waiting for.
    let patient = Admin::new(&Settings { timeout: settings.timeout * 2, ..settings.clone() })?;
    let mut changed = Some(false);
    let answer = loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        body["timeout_ms"] = json!(u64::try_from(left).unwrap_or(u64::MAX));
        let (answer, earlier) = patient.post(&format!("/api/v1/members/{act}"), &body)?;
        if answer.status >= 300 {
            return Err(admin::refused(&answer));
        }
        changed = match (earlier, answer.body["changed"] == true || changed == Some(true)) {
            (_, true) | (Earlier::Done, _) => Some(true),
            // What is so already may be so by that try.
            (Earlier::Unknown, _) => None,
            (Earlier::Nothing, _) => changed,
        };
        if answer.body["complete"] == true || Instant::now() >= deadline {
            break answer;
        }
    };
    let complete = answer.body["complete"] == true;
    let status = if complete { Status::Done } else { Status::Warning };
    if console.is_json() {
        let mut value = answer.body;
        value["changed"] = json!(changed);
        console.json(&value)?;
        return Ok(status);
    }
    let word = match (complete, changed) {
        (true, Some(true) | None) => "DONE",
        (true, Some(false)) => "NOTHING TO DO",
        (false, _) => "UNDER WAY",
    };
    console.verdict(status, word, answer.body["detail"].as_str().unwrap_or_default())?;
    if !complete {
        console.next(&["quorate member list".to_owned()])?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_that_is_replaced_votes_or_is_away_and_never_is_the_one_that_waits() {
        let member = |id: &str, voter: bool, present: bool| json!({ "name": "b2", "store_id": id, "voter": voter, "present": present });
        let other = json!({ "name": "b1", "store_id": "other", "voter": true, "present": true });
        let (old, new) = (member("old", false, false), member("new", false, true));
        for (members, store, why) in [
            (vec![member("old", true, false), new.clone()], json!("old"), "the voter"),
            (vec![member("old", true, true)], json!("old"), "a voter that is damaged is here"),
            (vec![member("old", true, false), member("new", false, false)], json!("old"), "both away"),
            (vec![old.clone(), new.clone()], json!("old"), "after an override"),
            (vec![new.clone(), old.clone()], json!("old"), "in whatever order"),
            (vec![old.clone()], json!("old"), "nobody waits"),
            (vec![new.clone()], Value::Null, "only the one that waits is known"),
            (vec![new.clone(), member("newer", false, true)], Value::Null, "two that wait"),
            (vec![old.clone(), member("older", false, false)], Value::Null, "two that are away"),
            (vec![], Value::Null, "nobody"),
        ] {
            let mut members = members;
            members.push(other.clone());
            assert_eq!(replaced_store(&members, "b2"), store, "{why}");
        }
    }
}
