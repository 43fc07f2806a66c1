//! Histories made by hand, each with what the checker has to say of it.
//!
//! A step is a letter, a message's number, and what else it needs: `p1` publishes message 1 of the first producer to the
//! first queue, `p1x` is of the second producer, `p1/r` goes to the second queue. `c` confirms (`c1@7` at index 7 of the
//! first epoch, `C1@7` of the second one), `r` refuses for good, `d1@5`
//! delivers at sequence 5 for the first time and `D1@5` marked as redelivered, `m` delivers a changed body, `a` sends an
//! acknowledgement, `s` confirms it, `R7` says that an operator went on from a store that ends at index 7, `!` that all
//! queues are empty.

use quorate_protocol::frame::ProducerId;

use super::{Checker, MessageName, body_of};

/// What is wrong with a history, as the checker puts it; no words: nothing is.
const SOUND: &str = "";
const LOST: &str = "is lost";
const TWICE: &str = "is in queue";
const SHARED: &str = "two messages with sequence";
const ORDER: &str = "order of";
const SETTLED: &str = "after its acknowledgement was confirmed";
const UNMARKED: &str = "not marked redelivered";
const REFUSED_DELIVERED: &str = "was refused for good, then delivered";
const REFUSED_CONFIRMED: &str = "was refused for good, then confirmed";
const ACCEPTED_REFUSED: &str = "was accepted, then refused for good";
const INVENTED: &str = "what nobody published";
const UNSENT: &str = "was confirmed and never sent";
const CHANGED: &str = "changed or misrouted";

const HISTORIES: [(&str, &str); 63] = [
    // Nothing happened, or nothing more than was promised.
    ("", SOUND),
    ("!", SOUND),
    ("p1 !", SOUND),
    ("p1 c1 d1@1 a1 s1 !", SOUND),
    ("p1 p2 p3 c1 c2 c3 d1@1 d2@2 d3@3 a1 a2 a3 s1 s2 s3 !", SOUND),
    // A confirm may come twice, late, or never; what was never confirmed may be there or not.
    ("p1 c1 c1 d1@1 a1 !", SOUND),
    ("p1 d1@1 a1 s1 c1 !", SOUND),
    ("p1 d1@1 a1 !", SOUND),
    ("p1 p2 c2 d2@1 a2 !", SOUND),
    // An acknowledgement that was sent may have been taken, though nobody said so.
    ("p1 c1 d1@1 a1 !", SOUND),
    ("p1 c1 d1@1 a1 D1@1 a1 s1 !", SOUND),
    // Given back, or its consumer gone: again, and marked.
    ("p1 c1 d1@1 D1@1 D1@1 a1 s1 !", SOUND),
    ("p1 c1 D1@1 a1 s1 !", SOUND),
    ("p1 p2 c1 c2 d1@1 d2@2 D1@1 a1 a2 !", SOUND),
    // Gaps in the sequences, and other publishers between.
    ("p1 p2 c1 c2 d1@7 d2@9 a1 a2 !", SOUND),
    ("p1 p1x p2 p2x c1 c1x c2 c2x d1x@1 d1@2 d2@3 d2x@4 a1 a2 a1x a2x !", SOUND),
    ("p1 p2/r c1 c2 d1@1 d2@1 a1 a2 !", CHANGED),
    ("p1 p2/r c1 c2 d1@1 d2@1/r a1 a2 !", SOUND),
    // Numbers that nobody saw do not stand in the way.
    ("p1 p2 p3 c1 c3 d3@2 d1@1 a1 a3 !", SOUND),
    ("p1 r1 !", SOUND),
    ("p1 r1 p2 c2 d2@1 a2 s2 !", SOUND),
    ("p1 r1 r1 !", SOUND),
    // An operator went on from an older store: what was confirmed beyond its end is void, and nothing else.
    ("p1 p2 c1@5 c2@6 R5 d1@1 a1 s1 !", SOUND),
    ("p1 p2 c1@5 c2@6 R5 d2@1 a2 !", LOST),
    ("p1 p2 c1@5 c2@6 R6 d1@1 a1 s1 !", LOST),
    // Told late, but of before; or told again.
    ("p1 p2 c1@5 R5 c2@6 d1@1 a1 !", SOUND),
    ("p1 p2 c1@5 R5 C2@6 d1@1 a1 !", LOST),
    // The place of one that is void goes to another one, and it comes again without a mark.
    ("p1 p2 c1@5 c2@6 d2@2 a2 s2 R5 C2@7 p3 C3@8 d1@1 d3@2 d2@3 a1 a2 a3 !", ORDER),
    ("p1 p2 c1@5 c2@6 d2@2 a2 s2 R5 C2@7 p3 C3@8 d1@1 d2@2 d3@3 a1 a2 a3 !", SOUND),
    // Told before the publishing of something began that is in the store; or not.
    ("p1 c1@1 d1@1 a1 s1 p2 c2@5 R5 D1@1 D2@2 a2 !", SETTLED),
    ("p1 c1@1 d1@1 a1 s1 p2 c2@6 R5 D1@1 !", SOUND),
    ("p1 c1@1 d1@1 p2 c2@5 R5 d1@1 a1 d2@2 a2 !", UNMARKED),
    ("p1 c1@1 d1@1 p2 c2@6 R5 d1@1 a1 !", SOUND),
    // Lost.
    ("p1 c1 !", LOST),
    ("p1 p2 c1 c2 d1@1 a1 s1 !", LOST),
    ("p1 c1 d1@1 !", LOST),
    ("p1 c1 d1@1 D1@1 !", LOST),
    ("p1 !  c1 !", LOST),
    ("p1 p1x c1x d1@1 a1 !", LOST),
    // Twice.
    ("p1 c1 d1@1 D1@2 a1 !", TWICE),
    ("p1 p2 c1 c2 d1@1 d2@2 D1@3 a1 a2 !", TWICE),
    ("p1 d1@4 D1@2 a1 !", TWICE),
    // One sequence for two.
    ("p1 p1x c1 c1x d1@1 d1x@1 a1 a1x !", SHARED),
    ("p1 p2 d1@1 d2@1", SHARED),
    // Out of order.
    ("p1 p2 c1 c2 d2@1 d1@2 a1 a2 !", ORDER),
    ("p1 p2 d1@9 d2@8", ORDER),
    ("p1 p2 p3 d1@1 d3@2 d2@3", ORDER),
    ("p1 p2 p3 d2@5 d3@6 d1@7", ORDER),
    ("p1x p2x d2x@1 d1x@2", ORDER),
    // After its acknowledgement was confirmed.
    ("p1 c1 d1@1 a1 s1 D1@1", SETTLED),
    ("p1 c1 s1 d1@1", SETTLED),
    ("p1 p2 c1 c2 d1@1 d2@2 a1 a2 s1 s2 D2@2", SETTLED),
    // Again, and not said so.
    ("p1 c1 d1@1 d1@1", UNMARKED),
    ("p1 c1 D1@1 d1@1", UNMARKED),
    ("p1 c1 d1@1 a1 d1@1", UNMARKED),
    // Refused for good.
    ("p1 r1 d1@1", REFUSED_DELIVERED),
    ("p1 r1 c1", REFUSED_CONFIRMED),
    ("p1 c1 r1", ACCEPTED_REFUSED),
    ("p1 d1@1 r1", ACCEPTED_REFUSED),
    // What nobody sent, or not so, or not there.
    ("d1@1", INVENTED),
    ("p1 c1 d1x@1", INVENTED),
    ("c1", UNSENT),
    ("p1 c1 m1@1", CHANGED),
];

/// One step of a history.
struct Step<'a> {
    act: char,
    name: MessageName,
    seq: u64,
    queue: &'a str,
}

impl<'a> Step<'a> {
    fn read(text: &'a str) -> Self {
        let (text, queue) = text.split_once('/').unwrap_or((text, "q"));
        let (text, seq) = text.split_once('@').unwrap_or((text, "0"));
        let act = text.chars().next().expect("a step has a letter");
        let number = text[1..].trim_end_matches('x');
        let producer = ProducerId(if text.ends_with('x') { 2 } else { 1 });
        Self {
            act,
            name: (producer, number.parse().unwrap_or(0)),
            seq: seq.parse().expect("a sequence is a number"),
            queue,
        }
    }

    fn play(&self, checker: &mut Checker) {
        let body = body_of(self.name, 3);
        match self.act {
            'p' => checker.published(self.name, self.queue, body),
            'c' => checker.confirmed(self.name, (1, 1, self.seq)),
            'C' => checker.confirmed(self.name, (2, 9, self.seq)),
            'R' => checker.recovered((1, 1, self.name.1)),
            'r' => checker.refused(self.name),
            'd' | 'D' => drop(checker.delivered(self.queue, self.seq, self.act == 'D', &body)),
            'm' => drop(checker.delivered(self.queue, self.seq, false, &body_of(self.name, 4))),
            'a' => checker.ack_sent(self.name),
            's' => checker.settled(self.name),
            '!' => checker.drained(),
            other => panic!("no such step: {other}"),
        }
    }
}

#[test]
fn every_history_is_judged_as_it_is() {
    for (history, wrong) in HISTORIES {
        let mut checker = Checker::default();
        history.split_whitespace().for_each(|step| Step::read(step).play(&mut checker));
        let said = checker.violations();
        if wrong == SOUND {
            assert!(said.is_empty(), "{history}: {said:?}");
        } else {
            assert!(said.iter().any(|text| text.contains(wrong)), "{history}: {wrong:?} not in {said:?}");
        }
    }
}

#[test]
fn what_is_void_is_counted_as_such_and_not_as_confirmed() {
    for (history, confirmed, void) in
        [("p1 p2 c1@5 c2@6", 2, 0), ("p1 p2 c1@5 c2@6 R5", 1, 1), ("p1 p2 c1@5 c2@6 R5 C2@9", 2, 0)]
    {
        let mut checker = Checker::default();
        history.split_whitespace().for_each(|step| Step::read(step).play(&mut checker));
        assert_eq!((checker.confirmed, checker.void()), (confirmed, void), "{history}");
    }
}

#[test]
fn whoever_says_too_much_is_heard_in_part() {
    let mut checker = Checker::default();
    (1..100).for_each(|number| checker.confirmed((ProducerId(1), number), (1, 1, number)));
    assert_eq!(checker.violations().len(), super::VIOLATIONS_MAX);
}
