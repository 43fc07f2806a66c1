use std::collections::BTreeSet;

use super::samples::one_of_each;
use super::*;

#[test]
fn every_code_is_there_once_and_in_order() {
    let names: Vec<&str> = CODES.iter().map(|code| code.name).collect();
    let sorted: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names, sorted.into_iter().collect::<Vec<_>>());
    let sampled: Vec<&str> = one_of_each().iter().filter_map(Event::code).collect();
    assert_eq!(sampled, names, "one sample of each code");
}

#[test]
fn an_event_has_the_fields_of_the_table_and_its_text_uses_no_others() {
    for event in one_of_each() {
        let code = event.row().unwrap();
        let fields: Vec<&str> = event.fields().iter().map(|(name, _)| *name).collect();
        assert_eq!(fields, code.fields, "{}", code.name);
        let used: Vec<&str> =
            code.text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert!(used.iter().all(|name| fields.contains(name)), "{}: {used:?}", code.name);
        let text = event.text();
        assert!(!text.contains(['{', '}']) && !text.contains("  "), "{}: {text}", code.name);
        assert_eq!(event.level(), code.level);
        let vhost =
            event.fields().into_iter().find(|(name, _)| *name == "vhost").map(|(_, vhost)| vhost.text());
        assert_eq!(event.vhost(), vhost.as_deref(), "{}", code.name);
    }
}

#[test]
fn what_is_not_there_has_a_word() {
    let changed = Event::RequiredNodesChanged { vhost: "/".into(), before: 0, after: 2 };
    assert_eq!(changed.text(), "required nodes of virtual host / changed from a majority to 2");
    let primary =
        Event::DesignatedPrimaryChanged { vhost: "/".into(), before: Some("b1".into()), after: None };
    assert_eq!(primary.text(), "designated primary of virtual host / changed from b1 to nobody");
    assert_eq!(Value::Counts(BTreeMap::new()).text(), "none");
    // What came from elsewhere is not taken for a place in the text.
    let odd = Event::NodeCreated { vhost: "{vhost}".into() };
    assert_eq!(odd.text(), "node of virtual host {vhost} created");
}
