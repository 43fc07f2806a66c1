//! `quorate cluster explain`: one broker's decision, for people.

use serde_json::{Value, json};

use super::cluster::text;
use crate::admin::Admin;
use crate::console::Console;
use crate::exit::{Failure, Status};

/// Asks, and shows every group or the one named.
///
/// # Errors
/// Nobody answers, or there is no such group.
pub(super) fn explain(admin: &Admin, only: Option<&str>, console: &mut Console) -> Result<Status, Failure> {
    let mut answer = admin.get_any("/api/v1/explain")?;
    if let Some(name) = only {
        let groups: Vec<Value> =
            list(&answer, "groups").iter().filter(|group| group["vhost"] == name).cloned().collect();
        if groups.is_empty() {
            let known: Vec<String> =
                list(&answer, "groups").iter().map(|group| text(group, "vhost")).collect();
            return Err(Failure::usage(format!(
                "there is no group `{name}` here; there are: {}",
                known.join(", ")
            )));
        }
        answer["groups"] = json!(groups);
    }
    let status = list(&answer, "groups").iter().map(status_of).max_by_key(|status| gravity(*status));
    let status = status.unwrap_or(Status::Unknown);
    if console.is_json() {
        console.json(&answer)?;
        return Ok(status);
    }
    for group in list(&answer, "groups") {
        show(&answer, group, console)?;
    }
    let mut commands: Vec<String> = Vec::new();
    for command in list(&answer, "groups").iter().flat_map(|group| texts(group, "next")) {
        if !commands.iter().any(|known| known == command) {
            commands.push(command.to_owned());
        }
    }
    console.next(&commands)?;
    Ok(status)
}

fn show(answer: &Value, group: &Value, console: &mut Console) -> Result<(), Failure> {
    let word = format!("{} {}", text(group, "vhost"), text(group, "verdict").to_uppercase());
    let line =
        format!("row {}, {} (seen by {})", text(group, "row"), text(group, "summary"), text(answer, "name"));
    console.verdict(status_of(group), &word, line)?;
    console.line(format_args!("  {}", text(group, "reason")))?;
    for note in texts(group, "notes") {
        console.line(format_args!("  note: {note}"))?;
    }
    let header = [
        "broker",
        "state",
        "trusted",
        "log ends",
        "epochs",
        "voters in its log",
        "runs",
        "wait-for",
        "recovery",
    ];
    console.table(&header, list(group, "members").iter().map(row).collect())?;
    console.line("  rows tried before, and why they do not hold:")?;
    for earlier in list(group, "earlier") {
        console.line(format_args!("    {}  {}", text(earlier, "row"), text(earlier, "why_not")))?;
    }
    Ok(())
}

fn row(member: &Value) -> Vec<String> {
    let holds = &member["holds"];
    let state = if member["panicked"].is_null() { text(member, "state") } else { "panicked".to_owned() };
    let state = if member["state"] == "damaged" {
        format!("{state}: {}", text(member, "state_detail"))
    } else {
        state
    };
    let epochs: Vec<String> = list(holds, "lineage")
        .iter()
        .map(|epoch| match epoch["cause"].as_str() {
            None | Some("founding") => text(epoch, "epoch"),
            Some(cause) => format!("{} {cause}", text(epoch, "epoch")),
        })
        .collect();
    let runs = match (holds["active"] == true, holds["was_active"] == true) {
        (true, _) => "active",
        (false, true) => "was active",
        (false, false) => "-",
    };
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        text(member, "name"),
        state,
        text(holds, "trusted"),
        text(holds, "position"),
        or_none(epochs.join(", ")),
        or_none(texts(holds, "voters").join(", ")),
        runs.to_owned(),
        text(member, "wait_for"),
        text(member, "recovery"),
    ]
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    list(value, field).iter().filter_map(Value::as_str).collect()
}

/// How good a group's verdict is.
fn status_of(group: &Value) -> Status {
    match group["verdict"].as_str().unwrap_or_default() {
        "form" | "restore" | "resume" | "join" => Status::Done,
        "wait" => Status::Warning,
        "" => Status::Unknown,
        _ => Status::Refused,
    }
}

fn gravity(status: Status) -> u8 {
    match status {
        Status::Done => 0,
        Status::Warning => 1,
        Status::Unknown => 2,
        Status::Usage | Status::Refused => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_group_is_what_counts() {
        let verdicts = [("resume", Status::Done), ("wait", Status::Warning), ("held", Status::Refused)];
        for (verdict, status) in verdicts {
            assert_eq!(status_of(&json!({ "verdict": verdict })), status);
        }
        assert!(gravity(Status::Refused) > gravity(Status::Warning));
        assert!(gravity(Status::Warning) > gravity(Status::Done));
    }

    #[test]
    fn a_row_shows_what_was_decided_by() {
        let member = json!({
            "name": "a", "state": "dirty", "panicked": null, "wait_for": 3, "recovery": "automatic",
            "holds": {
                "trusted": true, "position": "2.5.9", "voters": ["a", "b"], "active": false, "was_active": true,
                "lineage": [{ "epoch": 1, "cause": "founding" }, { "epoch": 2, "cause": "override" }],
            },
        });
        let shown = row(&member);
        assert_eq!(
            shown,
            ["a", "dirty", "yes", "2.5.9", "1, 2 override", "a, b", "was active", "3", "automatic"]
        );
        let empty =
            json!({ "name": "b", "state": "empty", "wait_for": 3, "recovery": "manual", "holds": null });
        assert_eq!(row(&empty), ["b", "empty", "-", "-", "-", "-", "-", "3", "manual"]);
    }
}
