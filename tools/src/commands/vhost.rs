//! `quorate vhost`.

use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::admin::{self, Admin, Earlier};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// What to do with virtual hosts.
#[derive(Debug, Subcommand)]
pub enum VhostCommand {
    /// List all virtual hosts with their leaders
    #[command(after_help = "Example:\n  quorate vhost list")]
    List,
    /// Create a virtual host
    #[command(
        visible_alias = "declare",
        after_help = "Example:\n  quorate vhost create billing\n  \
            quorate --url h1:7420/billing queue list\n\n\
            Answers once every broker that is asked sees it led; what takes it longer than 10 s is said.\n\
            Exit status: 0 it exists, 1 not known in time, 2 refused, 3 nobody answers."
    )]
    Create {
        /// Its name
        name: String,
        /// Why, for the audit
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Delete a virtual host with its queues, exchanges, bindings and messages
    #[command(after_help = "Examples:\n  quorate vhost delete billing --reason 'moved to h9'\n  \
        quorate vhost delete billing --confirm billing\n\n\
        Its clients are dismissed with VHOST_NOT_FOUND. Every broker takes away what it holds of it, one that is not there\n\
        when it comes back; nothing is kept in quarantine. A virtual host created under the name later is another one.\n\
        Exit status: 0 deleted, by this command or before it; 1 not known in time; 2 refused, 3 nobody answers.")]
    Delete {
        /// Its name
        name: String,
        /// Its name again: the answer to the question that is asked otherwise
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Why, for the audit
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Carries it out.
///
/// # Errors
/// As the brokers say.
pub fn run(command: VhostCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let admin = Admin::new(settings)?;
    match command {
        VhostCommand::List => list(&admin, console),
        VhostCommand::Create { name, reason } => create(&name, &reason, &admin, settings.timeout, console),
        VhostCommand::Delete { name, confirm, yes, reason } => {
            delete(&admin, &name, (confirm, yes), &reason, console)
        }
    }
}

fn list(admin: &Admin, console: &mut Console) -> Result<Status, Failure> {
    let body = admin.get_any("/api/v1/vhosts")?;
    let vhosts = body.get("vhosts").and_then(Value::as_array).cloned().unwrap_or_default();
    let unled = vhosts.iter().filter(|vhost| vhost["quorum"] != true).count();
    let status = if unled == 0 { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(&vhosts)?;
        return Ok(status);
    }
    let word = status.word();
    console.verdict(status, word, format_args!("{} virtual hosts, {unled} without quorum", vhosts.len()))?;
    let rows = vhosts.iter().map(|vhost| {
        let text = |field: &str| vhost[field].as_str().unwrap_or("-").to_owned();
        vec![text("name"), text("leader"), if vhost["quorum"] == true { "yes" } else { "no" }.to_owned()]
    });
    if !vhosts.is_empty() {
        console.table(&["vhost", "leader", "quorum"], rows.collect())?;
    }
    Ok(status)
}

/// It is decided when the cluster's group says so; brokers make it, and elect its leader, a moment later.
const LED_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Waits until every broker that answers shows the virtual host with a quorum; false if one does not by then.
fn await_led(name: &str, admin: &Admin, timeout: Duration) -> bool {
    let deadline = Instant::now() + LED_WITHIN.min(timeout);
    let is_led = |list: &Value| {
        let vhosts = list["vhosts"].as_array().into_iter().flatten();
        vhosts.filter(|vhost| vhost["name"] == name).any(|vhost| vhost["quorum"] == true)
    };
    loop {
        let answers = admin.get_all("/api/v1/vhosts");
        let mut heard = answers.iter().flatten().peekable();
        if heard.peek().is_some() && heard.all(|answer| answer.status < 300 && is_led(&answer.body)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

fn create(
    name: &str,
    reason: &str,
    admin: &Admin,
    timeout: Duration,
    console: &mut Console,
) -> Result<Status, Failure> {
    let (answer, earlier) = admin.post("/api/v1/vhosts", &json!({ "name": name, "reason": reason }))?;
    if answer.status >= 300 {
        return Err(admin::refused(&answer));
    }
    let created = answer.body["created"] != false;
    let led = await_led(name, admin, timeout);
    if console.is_json() {
        console.json(&json!({ "name": name, "created": created, "led": led }))?;
        return Ok(Status::Done);
    }
    let what = match (created, earlier) {
        (true, _) | (_, Earlier::Done) => "created",
        // An earlier try of ours got no answer: the virtual host may well be that try's.
        (false, Earlier::Unknown) => "exists, created before or by an unanswered try of this command",
        (false, Earlier::Nothing) => "exists already",
    };
    let so_far = if led { "" } else { "; it is not led everywhere yet" };
    console.verdict(Status::Done, "OK", format_args!("virtual host {name} {what}{so_far}"))?;
    if !led {
        console.next(&["quorate cluster explain".to_owned()])?;
    }
    Ok(Status::Done)
}

fn delete(
    admin: &Admin,
    name: &str,
    (confirm, yes): (Option<String>, bool),
    reason: &str,
    console: &mut Console,
) -> Result<Status, Failure> {
    let known = admin.get_any("/api/v1/vhosts")?;
    let found = known["vhosts"].as_array().into_iter().flatten().find(|vhost| vhost["name"] == name);
    // A try that is repeated means this very one, whatever has its name by then. Whoever answered may not know it yet.
    let group = found.map_or(Value::Null, |vhost| vhost["group"].clone());
    if confirm.is_none() {
        let question = format!(
            "Delete virtual host {name} with its queues, exchanges, bindings and messages, on every broker and for good?"
        );
        console.confirm(&question, yes)?;
    }
    let confirm = confirm.unwrap_or_else(|| name.to_owned());
    let body = json!({ "name": name, "confirm": confirm, "group": group, "reason": reason });
    let (answer, earlier) = admin.post("/api/v1/vhosts/delete", &body)?;
    if answer.status >= 300 {
        return Err(admin::refused(&answer));
    }
    let deleted = answer.body["deleted"] == true;
    if console.is_json() {
        console.json(&answer.body)?;
        return Ok(Status::Done);
    }
    let messages = match (deleted, answer.body["messages"].as_u64()) {
        (true, Some(messages)) => format!("deleted, and {messages} messages with it"),
        (true, None) => "deleted".to_owned(),
        (false, _) if earlier == Earlier::Nothing => "was deleted before".to_owned(),
        (false, _) => "deleted by an earlier try of this command, or before it".to_owned(),
    };
    console.verdict(Status::Done, "OK", format_args!("virtual host {name} {messages}"))?;
    Ok(Status::Done)
}
