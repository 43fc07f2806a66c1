//! What a history says against the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::history::{Event, Place};
use crate::sim::checker::{Checker, Left, MessageName, name_in};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What must not have been.
    pub violations: Vec<String>,
    /// Messages published.
    pub published: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Messages and acknowledgements of which nobody was told what became of them.
    pub unknown: u64,
    /// Deliveries, and those marked redelivered.
    pub delivered: u64,
    /// Those marked redelivered.
    pub redelivered: u64,
    /// Confirmed acknowledgements.
    pub settled: u64,
    /// Confirms that an operator's recovery made void, and that were not given again.
    pub void: u64,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} published, {} confirmed ({} of them void by the recovery), {} refused, {} unknown, {} delivered \
             ({} of them marked redelivered), {} settled",
            self.published,
            self.confirmed,
            self.void,
            self.refused,
            self.unknown,
            self.delivered,
            self.redelivered,
            self.settled
        )
    }
}

/// What was told of one message, and after how many other events.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    confirmed: Option<Place>,
    settled: Option<usize>,
    delivered: Option<usize>,
    void: bool,
}

/// Judges a history of at most one recovery.
///
/// An operator went on from a store whose log ends at a place. What is certain to be in it:
///
/// - every entry confirmed at or before that place (epoch, term, index): whoever has the last entry of a term has all
///   that was committed before it;
/// - everything else that clients were told before the publishing of a message began that was confirmed at or before that
///   place: a delivery, or the confirm of an acknowledgement.
///
/// All that was told of the rest is void.
pub fn judge(events: &[(Duration, Event)]) -> Judgement {
    let mut judging = Judging { certain_until: certain_until(events), ..Judging::default() };
    for (number, (_, event)) in events.iter().enumerate() {
        judging.take(number, event);
    }
    let Judging { checker, mut judgement, told, .. } = judging;
    judgement.delivered = checker.delivered;
    judgement.settled = checker.settled;
    judgement.void = told.values().filter(|told| told.void).count() as u64;
    judgement.violations = checker.violations().to_vec();
    judgement
}

/// Events before this one are in the store that an operator went on from.
fn certain_until(events: &[(Duration, Event)]) -> usize {
    let end = events.iter().find_map(|(_, event)| match event {
        Event::Recovered(end) => Some(*end),
        _ => None,
    });
    let Some(end) = end else { return usize::MAX };
    let mut begun = BTreeMap::new();
    let mut until = 0;
    for (number, (_, event)) in events.iter().enumerate() {
        match event {
            Event::Publish { name, .. } => drop(begun.insert(*name, number)),
            Event::Confirmed(name, place) if *place <= end => {
                until = until.max(begun.get(name).copied().unwrap_or_default());
            }
            _ => {}
        }
    }
    until
}

#[derive(Default)]
struct Judging {
    checker: Checker,
    judgement: Judgement,
    told: BTreeMap<MessageName, Told>,
    certain_until: usize,
    /// The end of the store that was gone on from.
    end: Option<Place>,
}

impl Judging {
    fn take(&mut self, number: usize, event: &Event) {
        match event {
            Event::Publish { name, queue, body } => {
                self.checker.published(*name, queue, body.clone());
                self.told.insert(*name, Told::default());
                self.judgement.published += 1;
            }
            // Nobody was ever given it: as good as refused.
            Event::Withdrawn(name) => {
                self.checker.refused(*name);
                self.judgement.published -= 1;
            }
            Event::Confirmed(name, place) => self.confirmed(*name, *place),
            Event::Refused(name) => {
                self.checker.refused(*name);
                self.judgement.refused += 1;
            }
            Event::Unknown(_) | Event::AckUnknown(_) => self.judgement.unknown += 1,
            Event::Delivered { queue, seq, redelivered, body } => {
                self.judgement.redelivered += u64::from(*redelivered);
                self.checker.delivered(queue, *seq, *redelivered, body);
                if let Some(told) = name_in(body).and_then(|name| self.told.get_mut(&name)) {
                    told.delivered.get_or_insert(number);
                }
            }
            Event::AckSent(name) => self.checker.ack_sent(*name),
            Event::Settled(name) => {
                self.checker.settled(*name);
                if let Some(told) = self.told.get_mut(name) {
                    told.settled.get_or_insert(number);
                }
            }
            Event::Recovered(end) => self.recovered(*end),
            Event::Note(_) => {}
            Event::Drained => self.checker.drained(),
        }
    }

    fn confirmed(&mut self, name: MessageName, place: Place) {
        self.judgement.confirmed += 1;
        // Told before the recovery, noted after it.
        let void = self.end.is_some_and(|end| place > end && place.0 <= end.0);
        if let Some(told) = self.told.get_mut(&name) {
            told.confirmed = Some(place);
            told.void = void;
        }
        if !void {
            self.checker.confirmed(name);
        }
    }

    fn recovered(&mut self, end: Place) {
        self.end = Some(end);
        let until = self.certain_until;
        let certain = |at: Option<usize>| at.is_some_and(|at| at < until);
        for told in self.told.values_mut() {
            told.void = told.confirmed.is_some_and(|place| place > end);
        }
        let told = &self.told;
        self.checker.cut_back(|name| {
            let told = told.get(&name).copied().unwrap_or_default();
            Left {
                confirmed: !told.void,
                settled: certain(told.settled),
                delivered: certain(told.delivered),
                place: certain(told.delivered),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::frame::ProducerId;

    use super::*;
    use crate::sim::checker::body_of;

    /// Steps as the checker's own tests write them, and `c1@7`: confirmed at index 7 of epoch 1; `R7`: recovered up to
    /// there; a confirm with `n` before its index is of the epoch after it.
    fn said(history: &str) -> Judgement {
        let events: Vec<(Duration, Event)> =
            history.split_whitespace().map(|step| (Duration::ZERO, event(step))).collect();
        judge(&events)
    }

    fn event(step: &str) -> Event {
        let (word, at) = step.split_once('@').unwrap_or((step, "0"));
        let (act, number) = word.split_at(1);
        let number: u64 = number.parse().unwrap_or_default();
        let name = (ProducerId(1), number);
        let place = |text: &str| match text.strip_prefix('n') {
            Some(index) => (2, 9, index.parse().expect("an index")),
            None => (1, 1, text.parse().expect("an index")),
        };
        match act {
            "p" => Event::Publish { name, queue: "q".to_owned(), body: body_of(name, 3) },
            "c" => Event::Confirmed(name, place(at)),
            "w" => Event::Withdrawn(name),
            "r" => Event::Refused(name),
            "d" | "D" => Event::Delivered {
                queue: "q".to_owned(),
                seq: at.parse().expect("a sequence"),
                redelivered: act == "D",
                body: body_of(name, 3),
            },
            "a" => Event::AckSent(name),
            "s" => Event::Settled(name),
            "R" => Event::Recovered((1, 1, number)),
            "!" => Event::Drained,
            other => panic!("no such step: {other}"),
        }
    }

    #[test]
    fn what_the_last_store_cannot_have_is_void_and_nothing_else() {
        for (history, wrong) in [
            // The second one was confirmed beyond the store's end.
            ("p1 p2 c1@5 c2@6 R5 d1@1 a1 s1 !", ""),
            ("p1 p2 c1@5 c2@6 R5 d2@1 a2 !", "is lost"),
            ("p1 p2 c1@5 c2@6 R6 d1@1 a1 s1 !", "is lost"),
            // Told late, but of before.
            ("p1 p2 c1@5 R5 c2@6 d1@1 a1 !", ""),
            ("p1 p2 c1@5 R5 c2@n6 d1@1 a1 !", "is lost"),
            // Its place goes to another one, and it comes again without a mark.
            ("p1 p2 c1@5 c2@6 d2@2 a2 s2 R5 c2@n7 p3 c3@n8 d1@1 d3@2 d2@3 a1 a2 a3 !", "order of"),
            ("p1 p2 c1@5 c2@6 d2@2 a2 s2 R5 c2@n7 p3 c3@n8 d1@1 d2@2 d3@3 a1 a2 a3 !", ""),
            // An acknowledgement that was confirmed before the publishing of something that is in the store.
            ("p1 c1@1 d1@1 a1 s1 p2 c2@5 R5 D1@1 D2@2 a2 !", "after its acknowledgement was confirmed"),
            ("p1 c1@1 d1@1 a1 s1 p2 c2@6 R5 D1@1 !", ""),
            ("p1 c1@1 d1@1 p2 c2@5 R5 d1@1 a1 d2@2 a2 !", "not marked redelivered"),
            ("p1 c1@1 d1@1 p2 c2@6 R5 d1@1 a1 !", ""),
            ("p1 w1 d1@1", "was refused for good"),
        ] {
            let judgement = said(history);
            if wrong.is_empty() {
                assert_eq!(judgement.violations, [""; 0], "{history}");
            } else {
                let found = judgement.violations.iter().any(|text| text.contains(wrong));
                assert!(found, "{history}: {wrong:?} not in {:?}", judgement.violations);
            }
        }
        assert_eq!(said("p1 p2 c1@5 c2@6 R5").void, 1);
        assert_eq!(said("p1 p2 c1@5 c2@6 R5 c2@n9").void, 0);
    }
}
