//! The operational log's table: what each code says, where, and when. Texts and field names are a contract with scripts.

use std::collections::BTreeMap;

use super::Level;

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its name, as logs, counters and the event stream have it.
    pub name: &'static str,
    /// How loud.
    pub level: Level,
    /// What is said; each `{field}` stands for the field's text.
    pub text: &'static str,
    /// The event's fields, in the order in which the text has them; those that the text leaves out are last.
    pub fields: &'static [&'static str],
    /// On which broker.
    pub place: &'static str,
    /// When.
    pub moment: &'static str,
}

/// What a field of an event holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
    /// A number of nodes, of which 0 means a majority.
    Nodes(u32),
    /// A broker's name, if there is one.
    Name(Option<String>),
    /// How many, by name.
    Counts(BTreeMap<String, u64>),
}

impl Value {
    /// As a text has it.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Nodes(0) => "a majority".to_owned(),
            Self::Nodes(number) => number.to_string(),
            Self::Name(name) => name.clone().unwrap_or_else(|| "nobody".to_owned()),
            Self::Counts(counts) if counts.is_empty() => "none".to_owned(),
            Self::Counts(counts) => {
                let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
                each.join(", ")
            }
        }
    }
}

/// An event's fields, in the table's order.
pub type Fields = Vec<(&'static str, Value)>;

/// Every code, in order.
pub const CODES: [Code; 18] = [
    Code {
        name: "HA-1001",
        level: Level::Info,
        text: "node of virtual host {vhost} created",
        fields: &["vhost"],
        place: "the broker whose node it is",
        moment: "its store holds the node's first record",
    },
    Code {
        name: "HA-1002",
        level: Level::Info,
        text: "node of virtual host {vhost} deleted",
        fields: &["vhost"],
        place: "the broker whose node it was",
        moment: "the virtual host was deleted, and the node is gone for good",
    },
    Code {
        name: "HA-1003",
        level: Level::Info,
        text: "{member} added to the group of virtual host {vhost} as {role}",
        fields: &["member", "vhost", "role"],
        place: "every member of the group",
        moment: "the change is committed; `role` is `learner` until it is filled, then `voter`",
    },
    Code {
        name: "HA-1004",
        level: Level::Info,
        text: "{member} removed from the group of virtual host {vhost}",
        fields: &["member", "vhost"],
        place: "every member of the group",
        moment: "the change is committed",
    },
    Code {
        name: "HA-1005",
        level: Level::Info,
        text: "contact with {member} gained",
        fields: &["member", "store_id", "run_id"],
        place: "each of the two brokers",
        moment: "they are linked, the first time or again",
    },
    Code {
        name: "HA-1006",
        level: Level::Warn,
        text: "contact with {member} lost",
        fields: &["member", "store_id", "run_id"],
        place: "each of the two brokers that lives",
        moment: "the link ended; never before there was one",
    },
    Code {
        name: "HA-1007",
        level: Level::Info,
        text: "transfer of virtual host {vhost} to {to} requested by {who}",
        fields: &["vhost", "to", "who"],
        place: "the leader",
        moment: "an operator asks for it",
    },
    Code {
        name: "HA-1008",
        level: Level::Warn,
        text: "{member} at {address} refused as an intruder: {why}",
        fields: &["member", "address", "why"],
        place: "the leader of `system`",
        moment: "a broker wants to join that may not, once for each link to it",
    },
    Code {
        name: "HA-1009",
        level: Level::Warn,
        text: "quorum of virtual host {vhost} lost: {present} of {needed} needed voters in contact",
        fields: &["vhost", "present", "needed"],
        place: "the leader that lost it, and whoever follows nobody",
        moment: "no more than two election timeouts after it was lost",
    },
    Code {
        name: "HA-1010",
        level: Level::Info,
        text: "role in the group of virtual host {vhost} changed from {old} to {new} in term {term}",
        fields: &["vhost", "old", "new", "term"],
        place: "the broker whose node it is",
        moment: "the role changed: `leader`, `replica`, `learner`, `waiting`",
    },
    Code {
        name: "HA-1011",
        level: Level::Info,
        text: "required nodes of virtual host {vhost} changed from {before} to {after}",
        fields: &["vhost", "before", "after"],
        place: "every member of the group",
        moment: "the change is applied; 0 is a majority",
    },
    Code {
        name: "HA-1012",
        level: Level::Info,
        text: "priority of {member} in virtual host {vhost} changed from {before} to {after}",
        fields: &["member", "vhost", "before", "after"],
        place: "every member of the group",
        moment: "the change is applied",
    },
    Code {
        name: "HA-1013",
        level: Level::Info,
        text: "designated primary of virtual host {vhost} changed from {before} to {after}",
        fields: &["vhost", "before", "after"],
        place: "every member of the group; of a take-over, the one that takes over",
        moment: "the change is applied; `null` is nobody",
    },
    Code {
        name: "HA-1014",
        level: Level::Warn,
        text: "{entries} diverged entries of virtual host {vhost} after {fork} are given up and kept in quarantine as loss \
               {loss}; live messages by queue: {queues}; next: quorate loss show {loss} --store DIR",
        fields: &["entries", "vhost", "fork", "loss", "queues"],
        place: "the broker that gives them up",
        moment: "they are given up. Messages count whether or not they were confirmed",
    },
    Code {
        name: "HA-1015",
        level: Level::Info,
        text: "{attribute} of virtual host {vhost} changed from {before} to {after}",
        fields: &["attribute", "vhost", "before", "after"],
        place: "every member of the group",
        moment: "the change of another attribute is applied",
    },
    Code {
        name: "SAFE-2001",
        level: Level::Error,
        text: "this broker panicked: {why}; it votes for nobody, acknowledges nothing and serves no client until an operator \
               clears that; its data is kept; next: {next}",
        fields: &["why", "next"],
        place: "the broker that panicked",
        moment: "it found somebody outside the cluster writing, and once at each start until that is cleared",
    },
    Code {
        name: "SAFE-2002",
        level: Level::Error,
        text: "store {store_id} is in use twice, and {member} counts for nothing: {why}",
        fields: &["store_id", "member", "why"],
        place: "the broker that is held, and every member that is linked to both",
        moment: "another process with the same store is met, once for each link to it",
    },
    Code {
        name: "SAFE-2003",
        level: Level::Error,
        text: "store {store_id} of {member} is an older copy of itself: {why}; it is filled again before it counts",
        fields: &["store_id", "member", "why"],
        place: "the broker whose store it is, and whoever was told of its life and knows a later one",
        moment: "it is found out; once in each life of the process, where its own broker says so",
    },
];

impl Code {
    /// The row of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CODES.iter().find(|code| code.name == name)
    }

    /// The text with the fields in their places.
    pub fn fill(&self, fields: &[(&'static str, Value)]) -> String {
        let mut text = String::with_capacity(self.text.len() * 2);
        let mut rest = self.text;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let (name, behind) = after.split_once('}').expect("the table closes its braces");
            let (_, value) =
                fields.iter().find(|(field, _)| *field == name).expect("the table names the event's fields");
            text.push_str(&value.text());
            rest = behind;
        }
        text.push_str(rest);
        text
    }
}
