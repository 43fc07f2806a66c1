use std::fmt::Write as _;

use quorate_core::event::Code;
use quorate_core::event::samples::one_of_each;
use serde_json::{Value as Json, json};

use super::*;

fn created(vhost: &str) -> Event {
    Event::NodeCreated { vhost: vhost.to_owned() }
}

fn numbers(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.sequence).collect()
}

#[test]
fn events_are_numbered_and_counted_and_others_are_not_kept() {
    let log = EventLog::beginning_after("b1", 100);
    log.record(&created("a"));
    log.record(&Event::Note { level: Level::Error, text: "no code".into() });
    log.record(&Event::Verdict {
        row: "J1",
        verdict: "active",
        reason: "led".into(),
        next: vec!["x".into()],
    });
    log.record(&created("b"));
    let page = log.after(0, 10);
    assert_eq!((numbers(&page), page.missed, page.last), (vec![101, 102, 103], Missed::Nothing, 103));
    let counts: Vec<_> = log.counts().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [("HA-1001", 2)]);
    assert_eq!(log.counts().count(), CODES.len(), "all codes from 0 on");
    let verdict: Json = serde_json::from_str(&page.records[1].json).unwrap();
    assert_eq!((&verdict["code"], &verdict["broker"]), (&json!("verdict"), &json!("b1")));
    assert_eq!(verdict["fields"], json!({"verdict": "active", "row": "J1", "reason": "led", "next": ["x"]}));
}

#[test]
fn whoever_asks_for_what_is_gone_is_told_how_much() {
    let log = EventLog::beginning_after("b1", 100);
    for _ in 0..KEPT_MAX + 10 {
        log.record(&created("a"));
    }
    let last = 100 + KEPT_MAX as u64 + 10;
    assert_eq!(log.last(), last);
    let ask = |after| log.after(after, 1);
    assert_eq!((numbers(&ask(110)), ask(110).missed), (vec![111], Missed::Nothing));
    assert_eq!((numbers(&ask(105)), ask(105).missed), (vec![111], Missed::Events(5)));
    assert_eq!((numbers(&ask(100)), ask(100).missed), (vec![111], Missed::Events(10)));
    assert_eq!((numbers(&ask(99)), ask(99).missed), (vec![111], Missed::Unknown), "an earlier process");
    assert_eq!(ask(last + 1).missed, Missed::Unknown, "another broker");
    assert_eq!((numbers(&ask(last)), ask(last).missed, ask(last).last), (vec![], Missed::Nothing, last));
    assert_eq!(ask(111).last, 112, "one page after the other");
}

#[test]
fn memory_is_bounded_by_bytes_too() {
    let events = EventLog::beginning_after("b1", 0);
    let long = "v".repeat(KEPT_BYTES_MAX / 8);
    for _ in 0..20 {
        events.record(&created(&long));
    }
    assert!(events.kept().bytes <= KEPT_BYTES_MAX && events.kept().records.len() < 8);
    let longer = "v".repeat(KEPT_BYTES_MAX);
    events.record(&created(&longer));
    assert_eq!(numbers(&events.after(0, 10)), [21], "the latest is kept");
}

/// Every code's line of the reference page.
fn lines() -> String {
    let mut lines = String::from("| code | level | text | where | when |\n|---|---|---|---|---|\n");
    for code in &CODES {
        let level = level_word(code.level);
        let Code { name, text, place, moment, .. } = code;
        let _ = writeln!(lines, "| {name} | {level} | `{text}` | {place} | {moment} |");
    }
    lines.push_str("\n```json\n");
    for (at, event) in one_of_each().iter().enumerate() {
        let sequence = 1_795_312_860_000 + at as u64;
        lines.push_str(&json(event, event.code().unwrap(), sequence, sequence, "b1"));
        lines.push('\n');
    }
    lines.push_str("```\n");
    lines
}

#[test]
fn the_reference_page_has_every_code_its_text_and_its_json() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/events.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- table -->\n", "<!-- end -->\n");
    let (before, rest) = page.split_once(begin).unwrap();
    let (told, after) = rest.split_once(end).unwrap();
    let expected = format!("\n{}\n", lines());
    if told != expected && std::env::var_os("QUORATE_UPDATE").is_some() {
        std::fs::write(path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(told, expected, "QUORATE_UPDATE=1 and this test once more write it");
}
