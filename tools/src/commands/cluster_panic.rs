//! `quorate cluster panic`: which brokers found somebody outside the cluster writing, and letting one take part again.

use clap::Subcommand;
use serde_json::{Value, json};

use super::cluster::text;
use crate::admin::{self, Admin, Answer, Silent};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// What to do about panics.
#[derive(Debug, Subcommand)]
pub enum PanicCommand {
    /// Which brokers panicked, with the two safety numbers and the likely cause
    #[command(after_help = "Examples:\n  quorate cluster panic show\n  \
        quorate --admin h1:7422,h2:7422,h3:7422 cluster panic show -o json\n\n\
        All brokers of --admin are asked: a panic is local to each.\n\
        Exit status: 0 none of them panicked, 2 some did, 3 nobody answers.")]
    Show,
    /// Let a panicked broker take part again: it begins as after a start
    #[command(after_help = "Example:\n  \
        quorate --admin h2:7422 cluster panic clear --confirm 0198c0de-0000-7000-8000-000000000001 --reason 'copy stopped'\n\n\
        Find the cause first: a second process on the directory must be stopped, and of two histories one chosen.\n\
        The one panicked broker of --admin is cleared; if there are several, give one.\n\
        Exit status: 0 cleared, or none is panicked; 2 refused; 3 nobody answers.")]
    Clear {
        /// The cluster's id, as `quorate cluster status` shows it
        #[arg(long, value_name = "CLUSTER-ID")]
        confirm: String,
        /// Why; it is written to the broker's log
        #[arg(long, default_value = "")]
        reason: String,
    },
}

const PATH: &str = "/api/v1/cluster/panic";

/// Carries it out.
///
/// # Errors
/// As the brokers say; or nobody answers.
pub(super) fn run(
    command: &PanicCommand,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    match command {
        PanicCommand::Show => show(settings, console),
        PanicCommand::Clear { confirm, reason } => clear(settings, confirm, reason, console),
    }
}

/// What each broker that answers says, and who does not.
fn ask(admin: &Admin) -> Result<(Vec<Answer>, Vec<Silent>), Failure> {
    let (mut answers, mut silent, mut refusal) = (Vec::new(), Vec::new(), None);
    for asked in admin.get_all(PATH) {
        match asked {
            Ok(answer) if answer.status == 200 => answers.push(answer),
            Ok(answer) => refusal = Some(admin::refused(&answer)),
            Err(one) => silent.push(one),
        }
    }
    if answers.is_empty() {
        return Err(refusal.unwrap_or_else(|| admin::unreachable(&silent)));
    }
    Ok((answers, silent))
}

fn show(settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let (answers, silent) = ask(&Admin::new(settings)?)?;
    let panicked: Vec<&Answer> = answers.iter().filter(|answer| answer.body["panicked"] == true).collect();
    let status = if panicked.is_empty() { Status::Done } else { Status::Refused };
    if console.is_json() {
        let brokers: Vec<Value> = answers
            .iter()
            .map(|answer| {
                let mut broker = answer.body.clone();
                broker["admin_address"] = json!(answer.address);
                broker
            })
            .collect();
        let unreachable: Vec<Value> =
            silent.iter().map(|one| json!({ "address": one.address, "error": one.error })).collect();
        console.json(&json!({ "brokers": brokers, "unreachable": unreachable }))?;
        return Ok(status);
    }
    let word = if panicked.is_empty() { "NO PANIC" } else { "PANICKED" };
    let of = answers.len();
    console.verdict(status, word, format_args!("{} of {of} brokers panicked", panicked.len()))?;
    for answer in &panicked {
        console.line(format_args!("  {}: {}", answer.address, text(&answer.body, "message")))?;
    }
    let fields = ["safety_number", "renewals", "own_number", "found_number", "cause"];
    let rows = answers.iter().map(|answer| {
        let mut row = vec![answer.address.clone(), text(&answer.body, "panicked")];
        row.extend(fields.iter().map(|field| text(&answer.body, field)));
        row
    });
    let header = ["broker", "panicked", "number now", "renewals", "own", "found", "cause"];
    console.table(&header, rows.collect())?;
    for one in &silent {
        console.line(format_args!("  {} does not answer: {}", one.address, one.error))?;
    }
    let next = panicked.iter().filter_map(|answer| {
        let commands = answer.body["next"].as_array()?;
        let clear = commands.iter().filter_map(Value::as_str).find(|next| next.contains("clear"))?;
        Some(clear.replacen("quorate", &format!("quorate --admin {}", answer.address), 1))
    });
    console.next(&next.collect::<Vec<_>>())?;
    Ok(status)
}

fn clear(settings: &Settings, confirm: &str, reason: &str, console: &mut Console) -> Result<Status, Failure> {
    let (answers, silent) = ask(&Admin::new(settings)?)?;
    let panicked: Vec<&Answer> = answers.iter().filter(|answer| answer.body["panicked"] == true).collect();
    let answer = match panicked.as_slice() {
        [] if silent.is_empty() => {
            return done(console, &json!({ "cleared": false }), "no broker that was asked is panicked");
        }
        [] => return Err(admin::unreachable(&silent)),
        [one] => {
            // That one and nobody else, whoever answers first.
            let admin = Admin::new(&Settings { admin: vec![one.address.clone()], ..settings.clone() })?;
            let asked = json!({ "confirm": confirm, "reason": reason });
            admin.post_once(&format!("{PATH}/clear"), &asked)?
        }
        several => {
            let addresses: Vec<&str> = several.iter().map(|answer| answer.address.as_str()).collect();
            let text = format!(
                "{} brokers panicked ({}): one after the other, each by its own --admin",
                several.len(),
                addresses.join(", ")
            );
            return Err(Failure::new(Status::Refused, "several", text).next("quorate cluster panic show"));
        }
    };
    if answer.status >= 300 {
        return Err(Failure { status: Status::Refused, ..admin::refused(&answer) });
    }
    let text = format!("{} begins as after a start, by what its store holds", answer.address);
    let mut body = answer.body;
    body["admin_address"] = json!(answer.address);
    done(console, &body, &text)
}

fn done(console: &mut Console, body: &Value, text: &str) -> Result<Status, Failure> {
    if console.is_json() {
        console.json(body)?;
    } else {
        let word = if body["cleared"] == true { "CLEARED" } else { "NO PANIC" };
        console.verdict(Status::Done, word, text)?;
        console.next(&["quorate cluster status".to_owned()])?;
    }
    Ok(Status::Done)
}
