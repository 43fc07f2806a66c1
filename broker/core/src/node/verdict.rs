//! The verdict that is shown: of each group what the table says and whether it is so by now; of the broker, its worst
//! group's. `system` comes first: while it does not go on, no other group has a verdict of its own.

use std::collections::BTreeMap;

use quorate_protocol::fault::FaultCode;
use quorate_store::ids::GroupId;

use super::group::Group;
use super::{Node, Phase};
use crate::admin::{GroupVerdict, VerdictWord};
use crate::formation::{Decision, Row, Verdict, decide_group};

/// Nothing is asked of anybody but patience.
const WAIT_ACTIVE: &str = "quorate cluster wait-active";

/// One word for a verdict of the table, before it is known what became of it.
pub(crate) fn verdict_word(verdict: Verdict) -> VerdictWord {
    match verdict {
        Verdict::Form | Verdict::Restore | Verdict::Resume => VerdictWord::Active,
        Verdict::Join => VerdictWord::Joining,
        Verdict::Wait => VerdictWord::Waiting,
        Verdict::NeedsOperator => VerdictWord::NeedsOperator,
        Verdict::Held => VerdictWord::Held,
        Verdict::Refuse { .. } => VerdictWord::Refused,
    }
}

impl GroupVerdict {
    fn of(word: VerdictWord, row: &str, reason: impl Into<String>) -> Self {
        Self {
            verdict: word,
            row: row.to_owned(),
            reason: reason.into(),
            missing: Vec::new(),
            next: Vec::new(),
        }
    }

    fn decided(decision: &Decision) -> Self {
        let word = match decision.row {
            Row::S1 => VerdictWord::Panicked,
            _ => verdict_word(decision.verdict),
        };
        let shown = Self::of(word, decision.row.label(), decision.reason.clone());
        Self { missing: decision.missing.clone(), next: decision.next.clone(), ..shown }
    }

    /// Who is active is led with a quorum, and votes.
    fn become_of(mut self, is_led: bool, votes: bool) -> Self {
        if self.verdict == VerdictWord::Active && !is_led {
            self.verdict = VerdictWord::Waiting;
            if self.next.is_empty() {
                self.next.push(WAIT_ACTIVE.to_owned());
            }
        } else if self.verdict == VerdictWord::Active && !votes {
            self.verdict = VerdictWord::Joining;
            self.reason.push_str("; this broker is updated, and does not vote yet");
        }
        self
    }
}

/// How bad a verdict is.
fn severity(verdict: VerdictWord) -> u8 {
    match verdict {
        VerdictWord::Active => 0,
        VerdictWord::Joining => 1,
        VerdictWord::Waiting | VerdictWord::ShuttingDown => 2,
        VerdictWord::NeedsOperator | VerdictWord::Held | VerdictWord::Panicked | VerdictWord::Refused => 3,
    }
}

impl Node {
    /// The broker's verdict, and that of each group.
    pub(super) fn shown_verdicts(&self) -> (GroupVerdict, BTreeMap<GroupId, GroupVerdict>) {
        let system = self.system_verdict();
        let mut worst = system.clone();
        let mut groups = BTreeMap::from([(GroupId::SYSTEM, system.clone())]);
        if matches!(system.verdict, VerdictWord::Active | VerdictWord::Joining) {
            let facts = self.facts();
            for id in facts.groups().into_iter().filter(|id| *id != GroupId::SYSTEM) {
                let held = self.groups.get(id);
                let decided = GroupVerdict::decided(&decide_group(&facts, id));
                let mut shown = decided.become_of(held.is_some_and(|group| self.is_led(group)), {
                    held.is_some_and(|group| self.is_voter(group))
                });
                let vhost = held.map(|group| format!("virtual host {}", group.vhost));
                if let Some(vhost) = vhost.filter(|vhost| !shown.reason.contains(vhost.as_str())) {
                    shown.reason = format!("{vhost}: {}", shown.reason);
                }
                if severity(shown.verdict) > severity(worst.verdict) {
                    worst = shown.clone();
                }
                groups.insert(id, shown);
            }
        }
        (worst, groups)
    }

    /// What a client is told of a group that takes part in nothing yet: code, text, and after how many milliseconds it may
    /// ask again.
    pub(super) fn not_begun(&self, group: &Group) -> (FaultCode, String, u32) {
        let vhost = &group.vhost;
        let decision = decide_group(&self.facts(), group.id);
        let (code, retry) = match decision.verdict {
            Verdict::Form | Verdict::Restore | Verdict::Resume => {
                return (FaultCode::NotReady, format!("virtual host {vhost} is being made"), 50);
            }
            Verdict::Join | Verdict::Wait => (FaultCode::Waiting, 200),
            Verdict::NeedsOperator | Verdict::Held | Verdict::Refuse { .. } => {
                (FaultCode::NeedsOperator, 200)
            }
        };
        let name = &self.config.name;
        let mut text =
            format!("broker {name}, virtual host {vhost}: row {}: {}", decision.row, decision.reason);
        if let Some(next) = decision.next.first() {
            text.push_str("; next: ");
            text.push_str(next);
        }
        (code, text, retry)
    }

    fn system_verdict(&self) -> GroupVerdict {
        if matches!(self.phase, Phase::Stopping) {
            return GroupVerdict::of(VerdictWord::ShuttingDown, "-", "this broker is stopping");
        }
        if self.is_closing() {
            let reason = "the cluster is shut down on an operator's command";
            return GroupVerdict::of(VerdictWord::ShuttingDown, "-", reason);
        }
        let Some(decision) = &self.decision else {
            let shown = GroupVerdict::of(VerdictWord::Waiting, "-", "reading its store");
            return GroupVerdict { next: vec![WAIT_ACTIVE.to_owned()], ..shown };
        };
        if let Some((problem, next)) = self.keeping_problem() {
            let shown = GroupVerdict::of(VerdictWord::NeedsOperator, decision.row.label(), problem);
            return GroupVerdict { next: vec![next], ..shown };
        }
        let system = self.groups.get(GroupId::SYSTEM);
        let is_led = system.is_some_and(|group| self.is_led(group));
        let votes = system.is_none_or(|group| self.is_voter(group));
        GroupVerdict::decided(decision).become_of(is_led, votes)
    }

    fn is_led(&self, group: &Group) -> bool {
        self.active_leader(group).is_some()
    }

    /// Whether this broker is one of the group's voters, as far as its own number is known.
    fn is_voter(&self, group: &Group) -> bool {
        self.raft_id.is_none_or(|own| group.configuration.voters.contains(&own.0))
    }
}
