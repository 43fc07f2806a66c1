//! What a history says against the cluster.

use std::fmt;
use std::time::Duration;

use super::history::Event;
use crate::sim::checker::Checker;

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

/// Judges a history.
pub fn judge(events: &[(Duration, Event)]) -> Judgement {
    let mut checker = Checker::default();
    let mut judgement = Judgement::default();
    for (_, event) in events {
        take(event, &mut checker, &mut judgement);
    }
    judgement.delivered = checker.delivered;
    judgement.settled = checker.settled;
    judgement.void = checker.void();
    judgement.violations = checker.violations().to_vec();
    judgement
}

fn take(event: &Event, checker: &mut Checker, judgement: &mut Judgement) {
    match event {
        Event::Publish { name, queue, body } => {
            checker.published(*name, queue, body.clone());
            judgement.published += 1;
        }
        // Nobody was ever given it: as good as refused.
        Event::Withdrawn(name) => {
            checker.refused(*name);
            judgement.published -= 1;
        }
        Event::Confirmed(name, place) => {
            checker.confirmed(*name, *place);
            judgement.confirmed += 1;
        }
        Event::Refused(name) => {
            checker.refused(*name);
            judgement.refused += 1;
        }
        Event::Unknown(_) | Event::AckUnknown(_) => judgement.unknown += 1,
        Event::Delivered { queue, seq, redelivered, body } => {
            judgement.redelivered += u64::from(*redelivered);
            checker.delivered(queue, *seq, *redelivered, body);
        }
        Event::AckSent(name) => checker.ack_sent(*name),
        Event::Settled(name) => checker.settled(*name),
        Event::Recovered(end) => checker.recovered(*end),
        Event::Note(_) => {}
        Event::Drained => checker.drained(),
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::frame::ProducerId;

    use super::*;
    use crate::sim::checker::body_of;

    #[test]
    fn a_history_is_judged_by_the_checker_and_counted() {
        let name = (ProducerId(1), 1);
        let publish = Event::Publish { name, queue: "q".to_owned(), body: body_of(name, 3) };
        let delivered =
            Event::Delivered { queue: "q".to_owned(), seq: 1, redelivered: true, body: body_of(name, 3) };
        let of = |events: &[Event]| {
            judge(&events.iter().map(|event| (Duration::ZERO, event.clone())).collect::<Vec<_>>())
        };
        let confirmed = Event::Confirmed(name, (1, 1, 6));
        let lost = of(&[publish.clone(), confirmed.clone(), Event::Drained]);
        assert_eq!((lost.published, lost.confirmed, lost.violations.len()), (1, 1, 1));
        let void = of(&[publish.clone(), confirmed, Event::Recovered((1, 1, 5)), Event::Drained]);
        assert_eq!((void.void, void.violations.len()), (1, 0));
        let given = of(&[publish.clone(), delivered.clone(), Event::AckSent(name), Event::Settled(name)]);
        assert_eq!((given.delivered, given.redelivered, given.settled, given.violations.len()), (1, 1, 1, 0));
        let withdrawn = of(&[publish, Event::Withdrawn(name), delivered]);
        assert_eq!((withdrawn.published, withdrawn.violations.len()), (0, 1));
    }
}
