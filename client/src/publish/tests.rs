use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::Durability;

use super::*;

const WINDOW: Window =
    Window { messages: 1000, bytes: 1 << 20, batch_bytes: 1 << 10, linger: Duration::from_millis(1) };

fn outbox(window: Window) -> Outbox {
    Outbox::new(ProducerId(7), window, Limits::default())
}

fn receipt() -> Receipt {
    Receipt {
        number: 0,
        group: 1,
        epoch: 1,
        term: 2,
        index: 3,
        policy: Durability::default(),
        under_override: false,
        duplicate: false,
    }
}

fn range(first: u64, last: u64) -> NumberRange {
    NumberRange::new(first, last).unwrap()
}

fn full() -> Error {
    Error::failed(FaultCode::QueueFull, "")
}

fn push(outbox: &mut Outbox, key: &str, body: impl Into<Message>) -> Accepted {
    match outbox.push("", key, &body.into()) {
        Ok(accepted) => accepted,
        Err(NotAccepted::Full) => panic!("the window is full"),
        Err(NotAccepted::Error(error)) => panic!("{error}"),
    }
}

fn sent(outbox: &mut Outbox, now: Instant) -> Option<(u64, u64)> {
    match outbox.next(now) {
        Next::Publish(body) => Some((body.first(), body.last())),
        Next::Wait(_) | Next::Idle => None,
    }
}

fn waits(outbox: &mut Outbox, now: Instant) -> Instant {
    match outbox.next(now) {
        Next::Wait(until) => until,
        other => panic!("it should wait: {other:?}"),
    }
}

#[test]
fn neighbours_to_the_same_place_travel_together() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    for key in ["a", "a", "b", "b", "b", "a"] {
        push(&mut outbox, key, "x");
    }
    let mut keys = Vec::new();
    while let Next::Publish(body) = outbox.next(now) {
        keys.push((body.key().to_owned(), body.first(), body.count()));
        outbox.confirmed(body.numbers(), receipt(), now);
    }
    assert_eq!(keys, [("a".to_owned(), 1, 2), ("b".to_owned(), 3, 3), ("a".to_owned(), 6, 1)]);
}

#[test]
fn a_lone_message_goes_at_once_and_company_is_waited_for_only_while_others_are_unanswered() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    for number in 1..=2 {
        assert!(push(&mut outbox, "k", "x").announce);
        assert_eq!(sent(&mut outbox, now), Some((number, number)));
    }
    assert!(push(&mut outbox, "k", "x").announce);
    let until = waits(&mut outbox, now);
    assert_eq!(until, now + WINDOW.linger);
    assert!(!push(&mut outbox, "k", "x").announce, "the connection has its timer");
    assert_eq!(waits(&mut outbox, now), until, "more company does not make it wait longer");
    assert_eq!(sent(&mut outbox, until), Some((3, 4)));

    push(&mut outbox, "k", "x");
    waits(&mut outbox, until);
    outbox.confirmed(range(1, 3), receipt(), until);
    assert_eq!(sent(&mut outbox, until), Some((5, 5)), "an answer makes room for a small batch");

    push(&mut outbox, "k", "x");
    waits(&mut outbox, until);
    assert!(push(&mut outbox, "k", vec![0; WINDOW.batch_bytes]).announce, "a full batch waits for nothing");
    assert_eq!(sent(&mut outbox, until), Some((6, 6)));
    assert_eq!(sent(&mut outbox, until), Some((7, 7)));
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_full_window_takes_nothing_until_something_is_settled() {
    let mut outbox = outbox(Window { messages: 3, bytes: 100, ..WINDOW });
    let now = Instant::now();
    push(&mut outbox, "k", vec![0; 500]);
    assert!(matches!(outbox.push("", "k", &"x".into()), Err(NotAccepted::Full)), "bytes");
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    outbox.want_room(&Context::from_waker(&waker));
    outbox.want_room(&Context::from_waker(&waker));
    assert_eq!(sent(&mut outbox, now), Some((1, 1)));
    outbox.confirmed(range(1, 1), receipt(), now);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    for _ in 0..3 {
        push(&mut outbox, "k", "x");
    }
    assert!(matches!(outbox.push("", "k", &"x".into()), Err(NotAccepted::Full)), "messages");
}

#[test]
fn what_no_broker_takes_is_refused_before_it_is_numbered() {
    let mut outbox = outbox(WINDOW);
    for (exchange, key) in [("a\n", "k"), ("", "k\u{0}"), (&*"x".repeat(256), "k")] {
        assert!(matches!(
            outbox.push(exchange, key, &"x".into()),
            Err(NotAccepted::Error(Error::Invalid(_)))
        ));
    }
    outbox.begin_session(Limits::new(u32::MAX, 3));
    let refused = outbox.push("", "k", &"four".into());
    assert!(matches!(refused, Err(NotAccepted::Error(Error::MessageTooLarge { length: 4, limit: 3 }))));
    assert_eq!(push(&mut outbox, "k", "x").number, 1);
}

#[test]
fn a_new_session_gets_everything_unsettled_again_in_order() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    for key in ["a", "b", "c", "d"] {
        push(&mut outbox, key, "x");
    }
    for number in 1..=3 {
        assert_eq!(sent(&mut outbox, now), Some((number, number)));
    }
    outbox.confirmed(range(2, 2), receipt(), now);
    outbox.begin_session(Limits::default());
    // 2 is settled, but leaving it out would be a gap.
    for number in 1..=3 {
        assert_eq!(sent(&mut outbox, now), Some((number, number)));
    }
    let now = waits(&mut outbox, now);
    assert_eq!(sent(&mut outbox, now), Some((4, 4)));
    outbox.confirmed(range(1, 3), receipt(), now);
    outbox.begin_session(Limits::default());
    assert_eq!(sent(&mut outbox, now), Some((4, 4)));
}

#[test]
fn a_refusal_for_now_holds_everything_behind_it_and_is_tried_again_from_there() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    let confirms: Vec<Accepted> =
        ["a", "b", "c", "d"].iter().map(|key| push(&mut outbox, key, "x")).collect();
    for _ in 0..3 {
        assert!(sent(&mut outbox, now).is_some());
    }
    assert!(outbox.refused_for_now(range(2, 2), full(), now), "a wait begins");
    assert_eq!(waits(&mut outbox, now), now + limits::REFUSAL_GATHER, "3 will be refused too");
    assert!(!outbox.refused_for_now(range(3, 3), full(), now));
    outbox.confirmed(range(1, 1), receipt(), now);
    let again = waits(&mut outbox, now);
    assert_eq!(again, now + limits::REFUSAL_RETRY_MIN);
    for number in 2..=3 {
        assert_eq!(sent(&mut outbox, again), Some((number, number)));
    }
    let again = waits(&mut outbox, again);
    assert_eq!(sent(&mut outbox, again), Some((4, 4)));
    assert!(confirms[1].outcome.get(2).is_none(), "nobody was told that it failed");
    assert!(!outbox.refused_for_now(range(2, 4), full(), again), "this is known");
    assert_eq!(waits(&mut outbox, again), again + 2 * limits::REFUSAL_RETRY_MIN, "the wait grows");
    outbox.retry_now();
    assert_eq!(sent(&mut outbox, again), Some((2, 2)), "unless the broker says that it is over");
}

#[test]
fn a_batch_refused_in_the_middle_is_sent_again_from_there() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    for _ in 0..5 {
        push(&mut outbox, "k", "x");
    }
    assert_eq!(sent(&mut outbox, now), Some((1, 5)));
    outbox.refused_for_now(range(3, 5), full(), now);
    outbox.confirmed(range(1, 2), receipt(), now);
    let again = waits(&mut outbox, now);
    assert_eq!(sent(&mut outbox, again), Some((3, 5)));
}

#[test]
fn what_comes_first_again_says_what_is_settled_by_now() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    for key in ["a", "b", "c"] {
        push(&mut outbox, key, "x");
    }
    for _ in 0..2 {
        assert!(sent(&mut outbox, now).is_some());
    }
    let now = waits(&mut outbox, now);
    assert_eq!(sent(&mut outbox, now), Some((3, 3)));
    outbox.confirmed(range(1, 2), receipt(), now);
    outbox.begin_session(Limits::default());
    let Next::Publish(body) = outbox.next(now) else { panic!("3 is unsettled") };
    assert_eq!((body.first(), body.first_unsettled()), (3, 3), "or a broker that forgot 1 and 2 sees a gap");
}

#[test]
fn answers_that_never_come_do_not_hold_for_ever() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    for key in ["a", "b"] {
        push(&mut outbox, key, "x");
        assert!(sent(&mut outbox, now).is_some());
    }
    outbox.refused_for_now(range(1, 1), full(), now);
    let until = waits(&mut outbox, now);
    assert_eq!(sent(&mut outbox, until), Some((1, 1)));
    assert_eq!(sent(&mut outbox, until), Some((2, 2)));
}

#[test]
fn a_refusal_for_good_fails_its_messages_only() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    let confirms: Vec<Accepted> = (0..3).map(|_| push(&mut outbox, "k", "x")).collect();
    assert_eq!(sent(&mut outbox, now), Some((1, 3)));
    assert!(outbox.failed(range(2, 2), Error::failed(FaultCode::Unroutable, ""), now));
    assert!(outbox.confirmed(range(1, 3), receipt(), now));
    let results: Vec<_> = confirms.iter().map(|it| it.outcome.get(it.number).unwrap()).collect();
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().code(), Some(FaultCode::Unroutable));
    assert!(outbox.is_idle());
}

#[test]
fn a_broker_cannot_answer_for_what_it_was_never_sent() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    push(&mut outbox, "a", "x");
    assert!(!outbox.confirmed(range(1, 1), receipt(), now), "still open");
    assert!(sent(&mut outbox, now).is_some());
    let waiting = push(&mut outbox, "b", "x");
    assert!(!outbox.confirmed(range(1, 2), receipt(), now));
    assert!(!outbox.failed(range(1, u64::MAX), Error::Closed, now));
    assert!(waiting.outcome.get(2).is_none());
    assert!(outbox.confirmed(range(1, 1), receipt(), now));
}

#[test]
fn at_the_end_what_was_sent_is_unknown_and_what_was_not_has_failed() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    let first = push(&mut outbox, "a", "x");
    assert!(sent(&mut outbox, now).is_some());
    let second = push(&mut outbox, "b", "x");
    outbox.end(&Error::Closed);
    assert!(first.outcome.get(1).unwrap().unwrap_err().is_outcome_unknown());
    assert!(matches!(second.outcome.get(2).unwrap(), Err(Error::Closed)));
    assert!(matches!(outbox.push("", "k", &"x".into()), Err(NotAccepted::Error(Error::Closed))));
    assert!(outbox.is_idle());
}

fn code(accepted: &Accepted) -> Option<FaultCode> {
    accepted.outcome.get(accepted.number).expect("it has an outcome").unwrap_err().code()
}

fn is_unknown(accepted: &Accepted) -> bool {
    accepted
        .outcome
        .get(accepted.number)
        .expect("it has an outcome")
        .is_err_and(|error| error.is_outcome_unknown())
}

#[test]
fn what_was_refused_each_time_and_what_waited_behind_it_ends_as_refused() {
    let mut outbox = outbox(WINDOW);
    let mut now = Instant::now();
    let full_queue = push(&mut outbox, "a", "x");
    let behind = push(&mut outbox, "b", "x");
    for _ in 0..3 {
        assert!(sent(&mut outbox, now).is_some() && sent(&mut outbox, now).is_some());
        outbox.refused_for_now(range(1, 1), full(), now);
        outbox.refused_for_now(range(2, 2), Error::failed(FaultCode::OutOfOrder, ""), now);
        now = waits(&mut outbox, now);
    }
    let never_sent = push(&mut outbox, "c", "x");
    outbox.end(&Error::Closed);
    for accepted in [full_queue, behind, never_sent] {
        assert_eq!(code(&accepted), Some(FaultCode::QueueFull), "{}", accepted.number);
    }
}

#[test]
fn a_copy_that_got_no_answer_leaves_a_doubt_that_no_refusal_takes_away() {
    for answered_before in [false, true] {
        let mut outbox = outbox(WINDOW);
        let mut now = Instant::now();
        let doubtful = push(&mut outbox, "a", "x");
        if answered_before {
            assert!(sent(&mut outbox, now).is_some());
            outbox.refused_for_now(range(1, 1), full(), now);
            now = waits(&mut outbox, now);
        }
        assert!(sent(&mut outbox, now).is_some(), "this copy gets no answer");
        outbox.begin_session(Limits::default());
        assert!(sent(&mut outbox, now).is_some());
        outbox.refused_for_now(range(1, 1), full(), now);
        outbox.end(&Error::Closed);
        assert!(is_unknown(&doubtful));
    }
}

#[test]
fn a_lost_connection_does_not_make_a_refusal_doubtful() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    let confirms: Vec<Accepted> = (0..4).map(|_| push(&mut outbox, "a", "x")).collect();
    assert_eq!(sent(&mut outbox, now), Some((1, 4)));
    outbox.refused_for_now(range(3, 4), full(), now);
    // Nothing was said of 1 and 2 before the connection ended.
    outbox.begin_session(Limits::default());
    outbox.end(&Error::Closed);
    assert!(is_unknown(&confirms[0]) && is_unknown(&confirms[1]));
    assert_eq!(confirms[2..].iter().map(code).collect::<Vec<_>>(), [Some(FaultCode::QueueFull); 2]);
}

#[test]
fn after_a_withdrawal_only_answers_are_waited_for() {
    let mut outbox = outbox(WINDOW);
    let now = Instant::now();
    let confirms: Vec<Accepted> =
        ["a", "b", "c", "d"].iter().map(|key| push(&mut outbox, key, "x")).collect();
    for _ in 0..3 {
        assert!(sent(&mut outbox, now).is_some());
    }
    outbox.withdraw();
    assert!(matches!(confirms[3].outcome.get(4), Some(Err(Error::TimedOut(_)))), "it was never sent");
    assert!(matches!(outbox.push("", "a", &"x".into()), Err(NotAccepted::Error(Error::TimedOut(_)))));
    assert!(matches!(outbox.next(now), Next::Idle));
    outbox.confirmed(range(1, 1), receipt(), now);
    outbox.refused_for_now(range(2, 2), full(), now);
    assert!(confirms[0].outcome.get(1).unwrap().is_ok());
    assert_eq!(code(&confirms[1]), Some(FaultCode::QueueFull));
    assert!(confirms[2].outcome.get(3).is_none() && !outbox.is_idle());
    outbox.begin_session(Limits::default());
    assert!(is_unknown(&confirms[2]) && outbox.is_idle());
    outbox.end(&Error::Closed);
}

#[test]
fn a_blocked_broker_is_the_reason_of_what_was_never_sent() {
    let mut outbox = outbox(WINDOW);
    let waiting = push(&mut outbox, "a", "x");
    outbox.blocked(Error::failed(FaultCode::DiskLow, ""));
    outbox.withdraw();
    assert_eq!(code(&waiting), Some(FaultCode::DiskLow));
}

/// One thing that happens between an outbox and a broker.
#[derive(Clone, Copy, Debug)]
enum Event {
    Publish {
        messages: u8,
        key: bool,
    },
    Send,
    /// The broker handles one frame; some of its messages are refused, for now or for good.
    Handle {
        refuse_from: Option<u8>,
        for_good: bool,
    },
    Answer,
    Disconnect,
    Time,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..6u8, any::<bool>()).prop_map(|(messages, key)| Event::Publish { messages, key }),
        4 => Just(Event::Send),
        4 => (prop::option::weighted(0.3, 0..6u8), any::<bool>())
            .prop_map(|(refuse_from, for_good)| Event::Handle { refuse_from, for_good }),
        4 => Just(Event::Answer),
        1 => Just(Event::Disconnect),
        2 => Just(Event::Time),
    ]
}

/// A broker that de-duplicates, refuses, and insists on numbers without gaps.
#[derive(Default)]
struct Broker {
    log: Vec<u64>,
    next: u64,
    refused: BTreeSet<u64>,
    /// Of the session: frames on their way in, answers on their way out, and the number waited for after a refusal.
    frames: VecDeque<PublishBody>,
    answers: VecDeque<Answer>,
    waits_for: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Confirm(u64, u64),
    Later(u64, u64),
    Never(u64, u64),
}

impl Broker {
    /// A frame of a connection that the client has left arrives after all.
    fn handle_late(&mut self, body: &PublishBody) {
        for number in body.first()..=body.last() {
            if number == self.next {
                self.next += 1;
                self.log.push(number);
            }
        }
    }

    fn handle(&mut self, refuse_from: Option<u8>, for_good: bool) {
        let Some(body) = self.frames.pop_front() else { return };
        if self.waits_for.is_some_and(|number| !body.numbers().contains(number)) {
            self.answers.push_back(Answer::Later(body.first(), body.last()));
            return;
        }
        self.waits_for = None;
        assert!(body.first() <= self.next, "a gap: {} after {}", body.first(), self.next);
        let refuse_from = refuse_from.map(|offset| body.first() + u64::from(offset));
        for number in body.first()..=body.last() {
            let refuse = refuse_from.is_some_and(|from| number >= from) && number >= self.next;
            if refuse && !for_good {
                self.waits_for = Some(number);
                self.answers.push_back(Answer::Later(number, body.last()));
                return;
            }
            if number >= self.next {
                self.next = number + 1;
                if refuse {
                    self.refused.insert(number);
                } else {
                    self.log.push(number);
                }
            } else {
                assert!(number >= body.first_unsettled(), "{number} was settled");
            }
            let refused = self.refused.contains(&number);
            self.answers.push_back(if refused {
                Answer::Never(number, number)
            } else {
                Answer::Confirm(number, number)
            });
        }
        self.refused.retain(|number| *number >= body.first_unsettled());
    }
}

proptest! {
    #[test]
    fn every_message_is_taken_once_and_in_order_whatever_happens(events in prop::collection::vec(event(), 1..200)) {
        let mut outbox = outbox(Window { messages: 10_000, ..WINDOW });
        let mut broker = Broker { next: 1, ..Broker::default() };
        let mut now = Instant::now();
        let mut published: Vec<Accepted> = Vec::new();
        let calm = [Event::Time, Event::Send, Event::Handle { refuse_from: None, for_good: false }, Event::Answer];
        let noise = events.len();
        for (step, event) in events.into_iter().chain(calm.into_iter().cycle().take(10_000)).enumerate() {
            if step > noise && outbox.is_idle() {
                break;
            }
            match event {
                Event::Publish { messages, key } => {
                    for _ in 0..messages {
                        published.push(push(&mut outbox, if key { "a" } else { "b" }, "x"));
                    }
                }
                Event::Send => {
                    if let Next::Publish(body) = outbox.next(now) {
                        broker.frames.push_back(body);
                    }
                }
                Event::Handle { refuse_from, for_good } => broker.handle(refuse_from, for_good),
                Event::Answer => match broker.answers.pop_front() {
                    Some(Answer::Confirm(first, last)) => {
                        prop_assert!(outbox.confirmed(range(first, last), receipt(), now));
                    }
                    Some(Answer::Later(first, last)) => {
                        outbox.refused_for_now(range(first, last), full(), now);
                    }
                    Some(Answer::Never(first, last)) => {
                        let error = Error::failed(FaultCode::Unroutable, "");
                        prop_assert!(outbox.failed(range(first, last), error, now));
                    }
                    None => {}
                },
                Event::Disconnect => {
                    broker.frames.clear();
                    broker.answers.clear();
                    broker.waits_for = None;
                    outbox.begin_session(Limits::default());
                }
                Event::Time => now += Duration::from_millis(300),
            }
        }
        prop_assert!(outbox.is_idle());
        let mut confirmed = Vec::new();
        for accepted in &published {
            if accepted.outcome.get(accepted.number).expect("every message has its outcome").is_ok() {
                confirmed.push(accepted.number);
            }
        }
        prop_assert_eq!(&confirmed, &broker.log);
    }
}

proptest! {
    #[test]
    fn what_ends_as_refused_is_in_no_broker_ever(
        events in prop::collection::vec(event(), 1..100),
        withdraw in any::<bool>(),
    ) {
        let mut outbox = outbox(Window { messages: 10_000, ..WINDOW });
        let mut broker = Broker { next: 1, ..Broker::default() };
        let mut now = Instant::now();
        let mut published: Vec<Accepted> = Vec::new();
        let mut late: Vec<PublishBody> = Vec::new();
        let calm = [Event::Handle { refuse_from: Some(1), for_good: false }, Event::Answer].into_iter().cycle();
        let last = events.len();
        for (step, event) in events.into_iter().chain(calm.take(if withdraw { 20 } else { 0 })).enumerate() {
            if step == last {
                outbox.withdraw();
            }
            match event {
                Event::Publish { messages, key } => {
                    for _ in 0..messages {
                        published.push(push(&mut outbox, if key { "a" } else { "b" }, "x"));
                    }
                }
                Event::Send => {
                    if let Next::Publish(body) = outbox.next(now) {
                        broker.frames.push_back(body);
                    }
                }
                Event::Handle { refuse_from, for_good } => broker.handle(refuse_from, for_good),
                Event::Answer => match broker.answers.pop_front() {
                    Some(Answer::Confirm(first, last)) => {
                        prop_assert!(outbox.confirmed(range(first, last), receipt(), now));
                    }
                    Some(Answer::Later(first, last)) => {
                        outbox.refused_for_now(range(first, last), full(), now);
                    }
                    Some(Answer::Never(first, last)) => {
                        let error = Error::failed(FaultCode::Unroutable, "");
                        prop_assert!(outbox.failed(range(first, last), error, now));
                    }
                    None => {}
                },
                Event::Disconnect => {
                    late.extend(broker.frames.drain(..));
                    broker.answers.clear();
                    broker.waits_for = None;
                    outbox.begin_session(Limits::default());
                }
                Event::Time => now += Duration::from_millis(300),
            }
        }
        outbox.end(&Error::Closed);
        prop_assert!(outbox.is_idle());
        let on_its_way: Vec<PublishBody> = broker.frames.drain(..).collect();
        late.iter().chain(&on_its_way).for_each(|body| broker.handle_late(body));
        for accepted in &published {
            let number = accepted.number;
            let stored = broker.log.contains(&number);
            match accepted.outcome.get(number).expect("every message has its outcome") {
                Ok(_) => prop_assert!(stored, "{number} was confirmed"),
                Err(error) if error.is_outcome_unknown() => {}
                Err(error) => prop_assert!(!stored, "{number}: {error}"),
            }
        }
    }
}
