//! What a message asks of the allocator is no more than was accepted: the half of `scripts/bench-check` that needs no
//! tool and no certain compiler, and so is part of the gate.

use std::collections::BTreeMap;

use quorate_bench::work;

/// Work to messages, allocations and bytes. Line by line as `scripts/bench-check` writes it.
fn accepted() -> BTreeMap<String, [u64; 3]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.tsv");
    let text = std::fs::read_to_string(path).expect("`make bench-accept` writes it");
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        let numbers: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
        let [messages, _, calls, bytes] = numbers?[..] else { return None };
        Some((name, [messages, calls, bytes]))
    };
    text.lines()
        .filter(|text| !text.starts_with('#'))
        .map(|text| line(text).unwrap_or_else(|| panic!("not a line of counts: {text}")))
        .collect()
}

/// One percent, and what a first use of something may cost once.
fn most(accepted: u64, once: u64) -> u64 {
    accepted + accepted / 100 + once
}

#[test]
fn no_message_asks_for_more_than_was_accepted() {
    let mut accepted = accepted();
    let mut more = Vec::new();
    for work in work::ALL {
        let name = work.name;
        let Some([messages, calls, bytes]) = accepted.remove(name) else {
            more.push(format!("{name}: nobody has accepted what it costs"));
            continue;
        };
        let measured = (work.run)();
        let now = measured.allocations;
        if measured.messages != messages {
            more.push(format!("{name}: {} messages, {messages} accepted", measured.messages));
        }
        if now.calls > most(calls, 1) || now.bytes > most(bytes, 64) {
            more.push(format!(
                "{name}: {} allocations of {} bytes for {messages} messages; {calls} of {bytes} were accepted",
                now.calls, now.bytes
            ));
        }
    }
    more.extend(accepted.into_keys().map(|name| format!("{name}: is not counted any more")));
    assert!(
        more.is_empty(),
        "{}\nIf it is meant: `make bench-accept`, and commit tests/bench/counts.tsv with the reason.",
        more.join("\n")
    );
}

#[test]
fn the_same_work_costs_the_same_twice() {
    for work in work::ALL {
        let (first, second) = ((work.run)(), (work.run)());
        assert_eq!(first.messages, second.messages, "{}", work.name);
        let (first, second) = (first.allocations, second.allocations);
        // The first of both may be the first to use something.
        assert!(
            second.calls <= first.calls && second.bytes <= first.bytes,
            "{}: {first:?}, {second:?}",
            work.name
        );
    }
}
