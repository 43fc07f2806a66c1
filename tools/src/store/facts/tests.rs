use std::path::PathBuf;

use uuid::Uuid;

use std::fs;
use std::time::Duration;

use quorate_store::stamp::SLOT_NAMES;

use super::*;
use crate::exit::{Failure, Status};
use crate::store::limits::Budget;
use crate::store::look::{holder_in, look};
use crate::store::recover::recover;
use crate::store::sample_store::{ID, open_store, used};

fn read(dir: &Path) -> Result<Facts, Failure> {
    let look = look(dir, Budget::new(64 << 20, Duration::from_mins(1)))?;
    let recovered = recover(&look);
    Ok(Facts::of(&look, recovered.as_ref().map_err(String::as_str)))
}

/// Every file with its content.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(everything(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn read_unchanged(dir: &Path) -> Facts {
    let before = everything(dir);
    let facts = read(dir).unwrap();
    assert!(everything(dir) == before, "reading changed something");
    facts
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn a_used_store_says_everything_and_nothing_is_changed() {
    let store = used(StampState::Dirty);
    let facts = read_unchanged(store.path());
    assert_eq!((facts.state.as_str(), facts.damage.as_slice()), ("dirty", &[][..]));
    assert_eq!(facts.store_id, Some(ID.to_string()));
    assert_eq!(facts.cluster_id, Some(Uuid::from_u128(5).to_string()));
    assert_eq!((facts.incarnation, facts.sequence, facts.wait_for), (Some(4), Some(2), Some(3)));
    assert_eq!(facts.boot_id_same, Some(false));
    assert_eq!(facts.in_use_by, None);
    // The log goes further than the stamp, and the log counts.
    let end = Place { epoch: 1, term: 2, index: 5 };
    assert_eq!(facts.positions["/"], end);
    let group = &facts.groups[1];
    assert_eq!((group.log_position, group.stamp_position.unwrap().index), (Some(end), 3));
    assert_eq!((group.first, group.commit, group.term, group.vote), (Some(1), Some(4), Some(3), Some(1)));
    assert_eq!((group.policy.as_deref(), group.weakest.as_deref()), (Some("sync,sync"), Some("sync")));
    assert_eq!(group.lineage[0].why, "founded");
    assert_eq!(facts.members[0].cluster_address, "h:1");
    let json = serde_json::to_value(&facts).unwrap();
    assert_eq!(json["positions"]["/"]["index"], 5);
}

#[test]
fn ids_of_clean_stores() {
    let shutdown = Uuid::from_u128(11);
    let facts = read_unchanged(used(StampState::Clean { shutdown }).path());
    assert_eq!((facts.state.as_str(), facts.shutdown_id), ("clean", Some(shutdown.to_string())));
    let facts = read_unchanged(used(StampState::Recovered { recovery: shutdown }).path());
    assert_eq!((facts.state.as_str(), facts.recovery_id), ("clean", Some(shutdown.to_string())));
}

#[test]
fn an_empty_store_is_empty_and_no_store_is_an_error() {
    let temporary = tempfile::tempdir().unwrap();
    drop(open_store(temporary.path()));
    let facts = read_unchanged(temporary.path());
    assert_eq!((facts.state.as_str(), facts.store_id), ("empty", Some(ID.to_string())));
    let nothing = tempfile::tempdir().unwrap();
    fs::write(nothing.path().join("letter.txt"), "dear").unwrap();
    let failure = read(nothing.path()).unwrap_err();
    assert_eq!((failure.status, failure.code.as_str()), (Status::Unknown, "no-store"));
    assert!(read(Path::new("/no/such/directory")).unwrap_err().message.contains("does not exist"));
}

#[test]
fn whatever_is_rotten_is_named_and_the_rest_is_still_told() {
    let segment = "log/segment-0000000000000001";
    for (rotten, says) in [
        (&["store-id"][..], "store-id is unreadable"),
        (&["stamp.a", "stamp.b"], "the stamp is unreadable"),
        (&[segment], "damaged in segment 1"),
    ] {
        let store = used(StampState::Dirty);
        for name in rotten {
            flip(&store.path().join(name), 24);
        }
        let facts = read_unchanged(store.path());
        assert_eq!(facts.state, "damaged", "{rotten:?}");
        assert!(facts.damage.iter().any(|what| what.contains(says)), "{rotten:?}: {:?}", facts.damage);
        assert_eq!(facts.store_id, Some(ID.to_string()), "{rotten:?}");
        assert_eq!(facts.incarnation, Some(4), "{rotten:?}");
        // From the stamp if the log is gone, from the log if the stamp is.
        let index = if rotten == [segment] { 3 } else { 5 };
        let vhost = if rotten.len() == 2 { "group 1" } else { "/" };
        assert_eq!(facts.positions[vhost].index, index, "{rotten:?}");
    }
}

#[test]
fn one_rotten_stamp_of_two_is_a_note_and_a_missing_part_is_damage() {
    let store = used(StampState::Dirty);
    flip(&store.path().join("stamp.a"), 24);
    let facts = read_unchanged(store.path());
    assert_eq!((facts.state.as_str(), facts.damage.len(), facts.notes.len()), ("dirty", 0, 1));
    fs::remove_file(store.path().join("stamp.a")).unwrap();
    fs::remove_file(store.path().join("stamp.b")).unwrap();
    let facts = read_unchanged(store.path());
    assert_eq!(facts.state, "damaged");
    assert!(facts.damage[0].contains("a log and no stamp"), "{:?}", facts.damage);
}

#[test]
fn a_store_of_a_later_version_is_left_alone_and_said_to_be_one() {
    let store = used(StampState::Dirty);
    for name in SLOT_NAMES {
        let body = "quorate-stamp 9\n";
        let content = format!("{body}crc32 = {:08x}\n", crc32fast::hash(body.as_bytes()));
        fs::write(store.path().join(name), content).unwrap();
    }
    let facts = read_unchanged(store.path());
    assert_eq!(facts.state, "other-format");
    assert!(facts.unread.as_deref().unwrap().contains("format 9"), "{facts:?}");
}

#[test]
fn whoever_has_the_store_is_named() {
    let store = used(StampState::Dirty);
    let open = open_store(store.path());
    // By this process itself, which is no reason to warn of another one.
    assert_eq!(read_unchanged(store.path()).in_use_by, None);
    drop(open);
    assert_eq!(read_unchanged(store.path()).in_use_by, None);
    let table = "1: POSIX  ADVISORY  WRITE 5 fe:00:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 6 fe:00:77 0 EOF\n";
    assert_eq!((holder_in(table, 77), holder_in(table, 78)), (Some(6), None));
}

#[test]
fn facts_are_sealed_and_whatever_was_changed_is_noticed() {
    let store = used(StampState::Dirty);
    let facts = read_unchanged(store.path());
    let text = seal(&facts).to_string();
    assert!(text.len() < 8 << 10, "{} bytes", text.len());
    assert_eq!(parse(text.as_bytes()).unwrap(), facts);
    // However it is laid out.
    let pretty = serde_json::to_string_pretty(&seal(&facts)).unwrap();
    assert_eq!(parse(pretty.as_bytes()).unwrap(), facts);
    for (from, to, says) in [
        ("\"index\":5", "\"index\":6", "checksum"),
        ("\"state\":\"dirty\"", "\"state\":\"clean\"", "checksum"),
        ("\"facts_format\":2", "\"facts_format\":9", "facts_format 9"),
        ("{", "", "no facts document"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    for end in 0..text.len() {
        assert!(parse(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

/// Each value of a document, replaced by what should not be there.
fn forged(value: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::{Value, json};
    let strange = [
        Value::Null,
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("\u{1b}[2J\n"),
        json!("9".repeat(4000)),
        json!([]),
        json!({}),
        json!([[], {}]),
    ];
    let mut all: Vec<Value> = strange.into_iter().filter(|one| one != value).collect();
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                all.extend(forged(member).into_iter().map(|member| {
                    let mut whole = members.clone();
                    whole.insert(key.clone(), member);
                    whole.into()
                }));
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                all.extend(forged(item).into_iter().map(|item| {
                    let mut whole = items.clone();
                    whole[at] = item;
                    whole.into()
                }));
            }
        }
        _ => {}
    }
    all
}

#[test]
fn facts_of_any_values_under_a_fitting_checksum_are_read_or_refused() {
    let temporary = used(StampState::Dirty);
    let whole = serde_json::to_value(read(temporary.path()).unwrap()).unwrap();
    let file = temporary.path().join("forged.facts");
    let reading =
        crate::store::confined::Reading { memory: 1 << 20, time: Duration::from_mins(1), program: None };
    let mut believed = 0;
    for value in forged(&whole) {
        // What cannot be facts at all has no checksum of facts.
        let sealed = match serde_json::from_value::<Facts>(value.clone()) {
            Ok(facts) => seal(&facts),
            Err(_) => value,
        };
        fs::write(&file, sealed.to_string()).unwrap();
        let subjects = [0, 1].map(|number| crate::store::subject::Subject::load(&file, number, &reading));
        believed += usize::from(subjects[0].facts.unread.is_none());
        let judgement = crate::store::inspect::judge(&subjects);
        assert!(!judgement.summary.is_empty());
    }
    assert!(believed > 100, "{believed}");
}

#[test]
fn what_brokers_would_say_is_read_or_refused_whatever_it_is() {
    use quorate_core::formation::InitialStatus;
    let temporary = used(StampState::Dirty);
    let facts = read(temporary.path()).unwrap();
    let bytes = base64::decode(facts.status.as_deref().unwrap()).unwrap();
    for at in 0..bytes.len() {
        let _ = InitialStatus::decode(&bytes[..at]);
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = wrong;
            let _ = InitialStatus::decode(&changed);
        }
    }
}
