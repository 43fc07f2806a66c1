//! `quorate vhost`.

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
                                                       quorate --url h1:7420/billing queue list"
    )]
    Create {
        /// Its name
        name: String,
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
        VhostCommand::Create { name } => create(&name, &admin, console),
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

fn create(name: &str, admin: &Admin, console: &mut Console) -> Result<Status, Failure> {
    let (answer, earlier) = admin.post("/api/v1/vhosts", &json!({ "name": name }))?;
    if answer.status >= 300 {
        return Err(admin::refused(&answer));
    }
    let created = answer.body["created"] != false;
    if console.is_json() {
        console.json(&json!({ "name": name, "created": created }))?;
        return Ok(Status::Done);
    }
    let what = match (created, earlier) {
        (true, _) | (_, Earlier::Done) => "created",
        // An earlier try of ours got no answer: the virtual host may well be that try's.
        (false, Earlier::Unknown) => "exists, created before or by an unanswered try of this command",
        (false, Earlier::Nothing) => "exists already",
    };
    console.verdict(Status::Done, "OK", format_args!("virtual host {name} {what}"))?;
    Ok(Status::Done)
}
