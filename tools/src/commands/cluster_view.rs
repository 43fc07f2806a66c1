//! What brokers say about their cluster, judged: which answer to believe, and how good it is.

use serde_json::Value;

use crate::exit::Status;

/// A broker's `/api/v1/status`.
#[derive(Clone, Debug)]
pub(super) struct View(pub(super) Value);

impl View {
    fn text<'a>(value: &'a Value, field: &str) -> &'a str {
        value[field].as_str().unwrap_or_default()
    }

    fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
        value[field].as_array().map_or(&[], Vec::as_slice)
    }

    pub(super) fn verdict(&self) -> &str {
        Self::text(&self.0, "verdict")
    }

    pub(super) fn reason(&self) -> &str {
        Self::text(&self.0, "reason")
    }

    pub(super) fn members(&self) -> &[Value] {
        Self::list(&self.0, "members")
    }

    pub(super) fn groups(&self) -> &[Value] {
        Self::list(&self.0, "groups")
    }

    pub(super) fn next(&self) -> Vec<String> {
        Self::list(&self.0, "next").iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    }

    /// Groups that nobody leads with a quorum.
    pub(super) fn unled(&self) -> Vec<&str> {
        let unled = |group: &&Value| group["quorum"] != true || group["leader"].is_null();
        self.groups().iter().filter(unled).map(|group| Self::text(group, "vhost")).collect()
    }

    /// Groups in which fewer than a majority go on, by an operator's word or as the designated primary.
    pub(super) fn forced(&self) -> Vec<&str> {
        let forced = |group: &&Value| group["in_force"].is_object();
        self.groups().iter().filter(forced).map(|group| Self::text(group, "vhost")).collect()
    }

    /// Voters that are not there.
    pub(super) fn absent(&self) -> Vec<&str> {
        let absent = |member: &&Value| member["voter"] == true && member["present"] != true;
        self.members().iter().filter(absent).map(|member| Self::text(member, "name")).collect()
    }

    /// Voters that are there, but whose store is damaged: they do not count.
    pub(super) fn damaged(&self) -> Vec<&str> {
        let damaged = |member: &&Value| {
            member["voter"] == true && member["present"] == true && member["state"] == "damaged"
        };
        self.members().iter().filter(damaged).map(|member| Self::text(member, "name")).collect()
    }

    /// Voters that are there, but whose brokers panicked: they do not count.
    pub(super) fn panicked(&self) -> Vec<&str> {
        let panicked = |member: &&Value| {
            member["voter"] == true && member["present"] == true && member["panicked"].is_string()
        };
        self.members().iter().filter(panicked).map(|member| Self::text(member, "name")).collect()
    }

    /// Voters that are there, and wait for an operator in a group that goes on without them.
    pub(super) fn asking(&self) -> Vec<&str> {
        let asking = |member: &&Value| {
            member["voter"] == true && member["present"] == true && member["needs_operator"].is_string()
        };
        self.members().iter().filter(asking).map(|member| Self::text(member, "name")).collect()
    }

    /// What the broker noticed besides its verdict.
    pub(super) fn notes(&self) -> Vec<&str> {
        Self::list(&self.0, "notes").iter().filter_map(Value::as_str).collect()
    }

    /// Active, and every group is led with a quorum, a virtual host among them.
    pub(super) fn is_serving(&self) -> bool {
        self.verdict() == "active" && self.groups().len() > 1 && self.unled().is_empty()
    }

    /// Whether every member is there and votes, in every group.
    pub(super) fn is_complete(&self, members: usize) -> bool {
        let voters =
            self.members().iter().filter(|member| member["voter"] == true && member["present"] == true);
        self.is_serving() && self.asking().is_empty() && voters.count() >= members
    }

    pub(super) fn status(&self) -> Status {
        match self.verdict() {
            "active"
                if self.unled().is_empty()
                    && self.forced().is_empty()
                    && self.absent().is_empty()
                    && self.damaged().is_empty()
                    && self.panicked().is_empty()
                    && self.asking().is_empty()
                    && self.0["space_low"] != true =>
            {
                Status::Done
            }
            "active" | "waiting" | "joining" | "shutting-down" => Status::Warning,
            "" => Status::Unknown,
            _ => Status::Refused,
        }
    }

    /// How much this broker can know of the whole: a leader knows more than a follower, and who serves more than who
    /// waits.
    fn weight(&self) -> usize {
        let led = self.groups().iter().filter(|group| group["quorum"] == true).count();
        let leads =
            self.groups().iter().filter(|group| group["role"] == "leader" && group["quorum"] == true).count();
        match self.verdict() {
            "active" => 1_000_000 + 1_000 * leads + led,
            "joining" => 2,
            _ => 1,
        }
    }
}

/// The answer of whoever knows most; the first of equals. What keeps a group's clients waiting its leader alone knows: where
/// that one answered, too, its word is taken.
pub(super) fn best(views: Vec<View>) -> Option<View> {
    let led: Vec<Value> = views
        .iter()
        .filter(|view| view.verdict() == "active")
        .flat_map(View::groups)
        .filter(|group| group["role"] == "leader")
        .cloned()
        .collect();
    let mut best = views.into_iter().rev().max_by_key(View::weight)?;
    let groups = best.0.get_mut("groups").and_then(Value::as_array_mut);
    for group in groups.into_iter().flatten().filter_map(Value::as_object_mut) {
        let term = |group: &Value| group["term"].as_u64();
        let known = group.get("term").and_then(Value::as_u64);
        let leaders = led.iter().filter(|leader| {
            let is_its = |field: &&str| leader.get(*field) == group.get(*field);
            ["group", "vhost"].iter().all(is_its) && term(leader) >= known
        });
        // A leader of an earlier term may not know yet that it is none any more.
        if let Some(leader) = leaders.max_by_key(|leader| term(leader)) {
            for field in ["leader", "term", "quorum"] {
                group.insert(field.to_owned(), leader[field].clone());
            }
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(verdict: &str, role: &str, quorum: bool, present: bool) -> View {
        View(json!({
            "verdict": verdict, "name": role,
            "members": [{"name": "b1", "voter": true, "present": true}, {"name": "b2", "voter": true, "present": present}],
            "groups": [
                {"vhost": "system", "leader": "b1", "term": 2, "quorum": true, "role": role,
                 "nodes": [{"role": "leader"}, {"role": "replica"}]},
                {"vhost": "/", "leader": "b1", "term": 2, "quorum": quorum, "role": role,
                 "nodes": [{"role": "leader"}, {"role": if present { "replica" } else { "learner" }}]},
            ],
        }))
    }

    #[test]
    fn verdicts_become_exit_statuses() {
        assert_eq!(view("active", "leader", true, true).status(), Status::Done);
        assert_eq!(view("active", "leader", true, false).status(), Status::Warning);
        assert_eq!(view("active", "leader", false, true).status(), Status::Warning);
        assert_eq!(view("waiting", "waiting", false, true).status(), Status::Warning);
        for verdict in ["needs-operator", "refused", "held", "panicked"] {
            assert_eq!(view(verdict, "waiting", false, true).status(), Status::Refused, "{verdict}");
        }
        assert_eq!(View(json!({})).status(), Status::Unknown);
    }

    #[test]
    fn a_damaged_voter_is_a_warning_and_named() {
        let mut view = view("active", "leader", true, true);
        view.0["members"][1]["state"] = "damaged".into();
        assert_eq!(view.status(), Status::Warning);
        assert_eq!(view.damaged(), ["b2"]);
        assert!(view.is_serving(), "it still serves");
        // Whoever is no voter takes nothing away.
        view.0["members"][1]["voter"] = false.into();
        assert_eq!(view.status(), Status::Done);
    }

    #[test]
    fn a_panicked_voter_is_a_warning_and_named() {
        let mut view = view("active", "leader", true, true);
        view.0["members"][1]["panicked"] = "two numbers".into();
        assert_eq!((view.status(), view.panicked()), (Status::Warning, vec!["b2"]));
        assert!(view.is_serving(), "it still serves");
    }

    #[test]
    fn a_voter_that_waits_for_an_operator_is_a_warning_and_named() {
        let mut view = view("active", "leader", true, true);
        assert!(view.is_complete(2));
        view.0["members"][1]["needs_operator"] = "row J1: forked".into();
        assert_eq!((view.status(), view.asking()), (Status::Warning, vec!["b2"]));
        assert!(view.is_serving() && !view.is_complete(2));
    }

    #[test]
    fn the_leaders_word_counts_most() {
        let views = vec![
            view("waiting", "waiting", false, true),
            view("active", "replica", true, true),
            view("active", "leader", true, true),
        ];
        assert_eq!(best(views).unwrap().0["name"], "leader");
        assert_eq!(
            best(vec![view("waiting", "one", false, true), view("waiting", "two", false, true)]).unwrap().0["name"],
            "one"
        );
    }

    #[test]
    fn what_keeps_clients_waiting_is_heard_from_the_leader_of_the_group() {
        let led = |system: &str, vhost: &str, quorum: bool| {
            let mut view = view("active", system, quorum, true);
            view.0["groups"][1]["role"] = vhost.into();
            view
        };
        let of_system = led("leader", "replica", true);
        assert!(best(vec![of_system.clone()]).unwrap().is_serving(), "it does not know");
        for views in [
            vec![of_system.clone(), led("replica", "leader", false)],
            vec![led("replica", "leader", false), of_system.clone()],
        ] {
            assert_eq!(best(views).unwrap().unled(), ["/"]);
        }
        // Of an earlier leadership its word is an old one, of a later one it is news to whoever follows.
        let of_term = |term: u64, name: &str, quorum: bool| {
            let mut view = led("replica", "leader", quorum);
            view.0["groups"][1]["term"] = term.into();
            view.0["groups"][1]["leader"] = name.into();
            view
        };
        assert!(best(vec![of_system.clone(), of_term(1, "b2", false)]).unwrap().is_serving());
        let (earlier, later) = (of_term(1, "b2", true), of_term(3, "b3", false));
        let best_of = best(vec![of_system.clone(), later, earlier]).unwrap();
        assert_eq!((best_of.unled(), &best_of.groups()[1]["leader"]), (vec!["/"], &json!("b3")));
        // Of another virtual host that has the name.
        let mut other = of_term(3, "b3", false);
        other.0["groups"][1]["group"] = 7.into();
        assert!(best(vec![of_system, other]).unwrap().is_serving());
    }

    #[test]
    fn what_is_no_brokers_answer_is_no_reason_to_fall() {
        for answer in
            [json!([]), json!("ok"), json!(true), json!({"groups": 1}), json!({"groups": [1, "a", []]})]
        {
            let best = best(vec![View(answer.clone())]).unwrap();
            assert_eq!(best.status(), Status::Unknown, "{answer}");
        }
    }

    #[test]
    fn serving_and_complete() {
        assert!(view("active", "leader", true, false).is_serving());
        assert!(!view("active", "leader", false, true).is_serving());
        assert!(view("active", "leader", true, true).is_complete(2));
        assert!(!view("active", "leader", true, false).is_complete(2));
    }
}
