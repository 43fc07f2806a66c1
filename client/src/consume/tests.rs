use std::task::Wake;

use quorate_protocol::fault::FaultCode;

use super::*;

struct Deaf;

impl Wake for Deaf {
    fn wake(self: Arc<Self>) {}
}

fn mailbox(credit: u32, no_ack: bool) -> Mailbox {
    let mut mailbox = Mailbox::new(credit, no_ack, None, Duration::from_millis(1));
    mailbox.register(1);
    mailbox
}

fn ranges(settlement: &Settlement) -> Vec<(u64, u64)> {
    settlement.ranges.iter().map(|range| (range.first(), range.last())).collect()
}

#[test]
fn settlements_travel_as_ranges_and_give_their_credit_back() {
    let mut mailbox = mailbox(100, false);
    let now = Instant::now();
    for seq in [1, 2, 3, 7] {
        mailbox.settle(0, seq, Verdict::Ack).unwrap();
    }
    mailbox.settle(0, 4, Verdict::Drop).unwrap();
    let (outcome, _) = mailbox.settle(0, 5, Verdict::Requeue).unwrap();
    let next = mailbox.next(now, false);
    let shown: Vec<_> = next.settlements.iter().map(|it| (it.verdict, ranges(it), it.count)).collect();
    assert_eq!(
        shown,
        [
            (Verdict::Ack, vec![(1, 3), (7, 7)], 4),
            (Verdict::Drop, vec![(4, 4)], 1),
            (Verdict::Requeue, vec![(5, 5)], 1)
        ]
    );
    assert_eq!(next.credit, 6);
    assert!(!mailbox.is_idle());
    for settlement in &next.settlements {
        assert!(outcome.get(settlement.ranges[0].first()).is_none());
        settlement.resolve(&Ok(()));
        mailbox.answered(settlement.count);
    }
    assert!(outcome.get(5).unwrap().is_ok() && mailbox.is_idle());
}

#[test]
fn few_settlements_wait_for_company_only_while_others_are_unanswered() {
    let mut mailbox = mailbox(100, false);
    let now = Instant::now();
    for seq in 1..=2 {
        assert!(mailbox.settle(0, seq, Verdict::Ack).unwrap().1);
        assert_eq!(mailbox.next(now, false).settlements.len(), 1);
    }
    mailbox.settle(0, 3, Verdict::Ack).unwrap();
    let next = mailbox.next(now, false);
    assert_eq!((next.settlements.len(), next.wait), (0, Some(now + Duration::from_millis(1))));
    assert!(!mailbox.settle(0, 4, Verdict::Ack).unwrap().1, "the connection has its timer");
    assert_eq!(mailbox.next(now, true).settlements.len(), 1, "unless everything is to go");
    for seq in 5..54 {
        mailbox.settle(0, seq, Verdict::Ack).unwrap();
    }
    assert!(mailbox.next(now, false).settlements.is_empty());
    assert!(mailbox.settle(0, 54, Verdict::Ack).unwrap().1, "half the credit is used up");
    assert_eq!(mailbox.next(now, false).credit, 50);
}

#[test]
fn a_small_credit_never_starves() {
    let mut mailbox = mailbox(1, false);
    let now = Instant::now();
    for seq in 1..10 {
        assert!(mailbox.settle(0, seq, Verdict::Ack).unwrap().1);
        assert_eq!(mailbox.next(now, false).credit, 1);
    }
}

#[test]
fn without_acks_credit_follows_what_was_taken() {
    let mut mailbox = mailbox(10, true);
    let now = Instant::now();
    assert!(!mailbox.took(0, 4));
    assert_eq!(mailbox.next(now, false).credit, 0);
    assert!(mailbox.took(0, 1));
    assert_eq!(mailbox.next(now, false).credit, 5);
    mailbox.lose_session();
    assert!(!mailbox.took(0, 9), "taken from an earlier connection");
    assert_eq!(mailbox.next(now, true).credit, 0);
}

#[test]
fn what_belongs_to_an_earlier_connection_is_gone() {
    let mut mailbox = mailbox(10, false);
    let message = || Item { seq: 1, redelivered: false, message: Message::from("x") };
    mailbox.deliver(ExchangeName::default(), RoutingKey::default(), vec![message()]);
    let (outcome, _) = mailbox.settle(0, 1, Verdict::Ack).unwrap();
    mailbox.lose_session();
    assert!(matches!(outcome.get(1), Some(Err(Error::WillBeRedelivered))));
    assert!(matches!(mailbox.settle(0, 2, Verdict::Ack), Err(Error::WillBeRedelivered)));
    let waker = Waker::from(Arc::new(Deaf));
    let cx = Context::from_waker(&waker);
    let mut taken = VecDeque::new();
    assert!(mailbox.poll_arrived(&mut taken, &cx).is_pending(), "it comes again");
    assert!(mailbox.next(Instant::now(), true).settlements.is_empty());
    mailbox.deliver(ExchangeName::default(), RoutingKey::default(), vec![message()]);
    assert!(matches!(mailbox.poll_arrived(&mut taken, &cx), Poll::Ready(Ok(()))));
    assert_eq!(taken[0].generation, 1);
    mailbox.end(Some(Error::Closed));
    assert!(matches!(mailbox.poll_arrived(&mut taken, &cx), Poll::Ready(Err(Some(Error::Closed)))));
    assert!(matches!(mailbox.poll_arrived(&mut taken, &cx), Poll::Ready(Err(None))), "told once");
    assert!(
        matches!(mailbox.settle(1, 1, Verdict::Ack), Err(Error::WillBeRedelivered)),
        "to another consumer"
    );
}

#[test]
fn what_was_delivered_from_a_deleted_queue_does_not_come_again() {
    let mut mailbox = mailbox(10, false);
    let (unsent, _) = mailbox.settle(0, 1, Verdict::Ack).unwrap();
    mailbox.end(Some(Error::consumer_closed(FaultCode::QueueDeleted, "deleted")));
    let code = |error: &Error| error.code();
    assert_eq!(unsent.get(1).unwrap().as_ref().map_err(code), Err(Some(FaultCode::QueueDeleted)));
    for generation in [0, 1] {
        let Err(error) = mailbox.settle(generation, 2, Verdict::Ack) else { panic!("it has ended") };
        assert_eq!(error.code(), Some(FaultCode::QueueDeleted));
    }
    assert_eq!(mailbox.fate().code(), Some(FaultCode::QueueDeleted));
}

#[test]
fn a_limit_bounds_the_credit_of_all_sessions_together() {
    let mut mailbox = Mailbox::new(4, false, Some(6), Duration::from_millis(1));
    mailbox.register(1);
    let now = Instant::now();
    assert_eq!(mailbox.begin(), 4);
    for seq in 1..=3 {
        mailbox.settle(0, seq, Verdict::Ack).unwrap();
    }
    assert_eq!(mailbox.next(now, true).credit, 2, "6 in all");
    mailbox.answered(3);
    mailbox.settle(0, 4, Verdict::Requeue).unwrap();
    assert_eq!(mailbox.next(now, true).credit, 1, "what goes back does not count");
    mailbox.answered(0);
    mailbox.settle(0, 5, Verdict::Ack).unwrap();
    assert_eq!(mailbox.next(now, true).credit, 0);
    mailbox.lose_session();
    assert_eq!(mailbox.begin(), 3, "nobody answered for 5");
    mailbox.take_back();
    assert_eq!(mailbox.begin(), 3, "the broker refused it");
}
