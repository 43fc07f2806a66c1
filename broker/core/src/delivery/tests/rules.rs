//! One test for each rule.

use super::*;

const Q: QueueId = QueueId(1);

fn with_messages(count: u64) -> Leader {
    let mut leader = Leader::new(1);
    leader.publish(Q, count);
    leader
}

#[test]
fn nothing_is_given_beyond_the_bound() {
    let mut leader = with_messages(3);
    let key = consumer(1, 1);
    leader.delivery.attach(&leader.replica.machine, key, Q, credit(10)).unwrap();
    assert!(leader.assign(10).is_empty());
    assert_eq!(leader.delivery.take_expose_requests(&leader.replica.machine), [(Q, 1 + EXPOSE_AHEAD)]);
    // Asked for once, again only if told that it was lost.
    assert!(leader.delivery.take_expose_requests(&leader.replica.machine).is_empty());
    leader.delivery.expose_dropped(Q);
    assert_eq!(leader.expose(), 1);
    assert_eq!(leader.assign(10), [(1, 1, false), (1, 2, false), (1, 3, false)]);
    assert_eq!(leader.expose(), 0);
}

#[test]
fn the_bound_is_asked_for_when_half_is_left() {
    let mut leader = with_messages(EXPOSE_AHEAD);
    leader.attach(consumer(1, 1), Q, credit(u32::MAX));
    let half = usize::try_from(EXPOSE_AHEAD / 2).unwrap();
    assert_eq!(leader.assign(half).len(), half);
    assert!(leader.delivery.take_expose_requests(&leader.replica.machine).is_empty());
    leader.assign(1);
    let to = EXPOSE_AHEAD / 2 + 2 + EXPOSE_AHEAD;
    assert_eq!(leader.delivery.take_expose_requests(&leader.replica.machine), [(Q, to)]);
}

#[test]
fn no_bound_is_asked_for_without_consumers() {
    let mut leader = with_messages(5);
    assert_eq!(leader.expose(), 0);
    leader.attach(consumer(1, 1), Q, credit(0));
    leader.delivery.detach(consumer(1, 1));
    leader.replica.one(Command::Ack { queue: Q, ranges: vec![range(1, 5)] });
    leader.publish(Q, 5_000);
    assert_eq!(leader.expose(), 0);
}

#[test]
fn credit_is_used_up_and_given_again() {
    let mut leader = with_messages(4);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(1));
    assert_eq!(leader.assign(10), [(1, 1, false)]);
    leader.delivery.settle(key, &[range(1, 1)]).unwrap();
    assert!(leader.assign(10).is_empty());
    leader.delivery.add_credit(key, 2).unwrap();
    assert_eq!(leader.assign(10), [(1, 2, false), (1, 3, false)]);
    let too_high =
        leader.delivery.add_credit(key, 1).and_then(|()| leader.delivery.add_credit(key, u32::MAX));
    assert_eq!(too_high, Err(DeliveryError::CreditTooHigh(key)));
}

#[test]
fn a_paused_session_gets_nothing_until_it_is_resumed() {
    let mut leader = with_messages(3);
    leader.attach(consumer(1, 1), Q, credit(10));
    leader.attach(consumer(2, 2), Q, credit(1));
    leader.delivery.pause(SessionId(1));
    assert_eq!(leader.assign(10), [(2, 1, false)]);
    leader.delivery.resume(SessionId(1));
    assert_eq!(leader.assign(10), [(1, 2, false), (1, 3, false)]);
    leader.delivery.pause(SessionId(1));
    leader.delivery.detach_session(SessionId(1));
    leader.attach(consumer(1, 1), Q, credit(10));
    assert_eq!(leader.assign(10), [(1, 2, true), (1, 3, true)]);
}

#[test]
fn consumers_take_turns_and_none_without_credit_blocks() {
    let mut leader = Leader::new(1);
    for number in 1..=3 {
        leader.attach(consumer(1, number), Q, credit(if number == 2 { 1 } else { 100 }));
    }
    let mut turns = Vec::new();
    for _ in 0..6 {
        leader.publish(Q, 1);
        turns.extend(leader.assign(10).into_iter().map(|(key, ..)| key));
    }
    assert_eq!(turns, [1, 2, 3, 1, 3, 1]);
}

#[test]
fn messages_at_hand_are_shared_in_runs() {
    let mut leader = Leader::new(1);
    leader.attach(consumer(1, 1), Q, credit(1_000));
    leader.attach(consumer(1, 2), Q, credit(1_000));
    leader.publish(Q, 400);
    let given = leader.assign(usize::MAX);
    let first = given.iter().filter(|(key, ..)| *key == 1).count();
    assert!((180..=220).contains(&first), "{first}");
    let switches = given.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert!(switches < 40, "{switches}");
    assert!(given.iter().map(|(_, seq, _)| *seq).eq(1..=400));
}

#[test]
fn bytes_and_messages_of_one_call_are_limited() {
    let mut leader = with_messages(10);
    leader.attach(consumer(1, 1), Q, credit(100));
    assert_eq!(leader.delivery.assign(&leader.replica.machine, 100, 1).len(), 1);
    assert_eq!(leader.assign(4).len(), 4);
    assert_eq!(leader.assign(0).len(), 0);
    assert_eq!(leader.assign(100).len(), 5);
}

#[test]
fn queues_take_turns_from_call_to_call() {
    let mut leader = Leader::new(3);
    for number in 1..=3 {
        leader.attach(consumer(1, number), QueueId(number), credit(100));
        leader.publish(QueueId(number), 10);
    }
    let order: Vec<_> = (0..6).flat_map(|_| leader.assign(1)).map(|(key, seq, _)| (key, seq)).collect();
    assert_eq!(order, [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]);
}

#[test]
fn a_requeued_message_comes_again_at_its_old_place_and_marked() {
    let mut leader = with_messages(5);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(3));
    assert_eq!(leader.assign(10).len(), 3);
    let back = leader.delivery.requeue(key, &[range(2, 2), range(9, 9)]).unwrap();
    assert_eq!(back, Settlement { queue: Q, ranges: vec![range(2, 2)] });
    leader.delivery.add_credit(key, 2).unwrap();
    assert_eq!(leader.assign(10), [(1, 2, true), (1, 4, false)]);
    assert_eq!(leader.counts(Q), (1, 4, 1));
}

#[test]
fn what_a_gone_consumer_held_goes_to_another() {
    let mut leader = with_messages(4);
    leader.attach(consumer(1, 1), Q, credit(2));
    leader.attach(consumer(1, 2), Q, credit(0));
    leader.attach(consumer(2, 3), Q, credit(0));
    assert_eq!(leader.assign(10), [(1, 1, false), (1, 2, false)]);
    leader.delivery.settle(consumer(1, 1), &[range(1, 1)]).unwrap();
    let gone = leader.delivery.detach_session(SessionId(1));
    let kept: Vec<_> =
        gone.iter().map(|(key, settlement)| (key.consumer, settlement.ranges.clone())).collect();
    assert_eq!(kept, [(1, vec![range(2, 2)]), (2, vec![])]);
    leader.delivery.add_credit(consumer(2, 3), 9).unwrap();
    // 1 is on its way out and is not given again.
    assert_eq!(leader.assign(10), [(3, 2, true), (3, 3, false), (3, 4, false)]);
    let late = leader.delivery.settle(consumer(1, 1), &[range(2, 2)]);
    assert_eq!(late, Err(DeliveryError::NoConsumer(consumer(1, 1))));
}

#[test]
fn a_late_ack_of_a_message_that_another_holds_does_nothing() {
    let mut leader = with_messages(1);
    leader.attach(consumer(1, 1), Q, credit(1));
    leader.attach(consumer(1, 2), Q, credit(1));
    assert_eq!(leader.assign(1), [(1, 1, false)]);
    leader.delivery.requeue(consumer(1, 1), &[range(0, u64::MAX)]).unwrap();
    assert_eq!(leader.assign(1), [(2, 1, true)]);
    let late = leader.delivery.settle(consumer(1, 1), &[range(1, 1)]).unwrap();
    assert!(late.ranges.is_empty());
    assert!(leader.delivery.holds(consumer(1, 2), 1));
}

#[test]
fn a_settling_message_is_neither_ready_nor_given_until_it_is_gone() {
    let mut leader = with_messages(2);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(1));
    leader.assign(1);
    let settled = leader.delivery.settle(key, &[range(1, 2), range(1, 1)]).unwrap();
    assert_eq!(settled.ranges, [range(1, 1)]);
    assert_eq!(leader.counts(Q), (1, 1, 1));
    assert!(leader.delivery.settle(key, &[range(1, 1)]).unwrap().ranges.is_empty());
    leader.apply(Command::Ack { queue: Q, ranges: settled.ranges });
    assert_eq!(leader.counts(Q), (1, 0, 1));
}

#[test]
fn an_assignment_stands_until_it_is_settled_or_replaced() {
    let mut leader = with_messages(1);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(5));
    let first = leader.delivery.assign(&leader.replica.machine, 1, 1)[0];
    assert!(leader.delivery.stands(&first));
    leader.delivery.detach(key);
    leader.attach(key, Q, ConsumerOptions { credit: 5, no_ack: true, exclusive: false });
    assert!(!leader.delivery.stands(&first));
    let second = leader.delivery.assign(&leader.replica.machine, 1, 1)[0];
    assert!(second.no_ack && second.redelivered);
    // The consumer holds the message, but not by the first assignment.
    assert!(
        leader.delivery.holds(key, 1) && !leader.delivery.stands(&first) && leader.delivery.stands(&second)
    );
    leader.delivery.settle(key, &[range(1, 1)]).unwrap();
    assert!(!leader.delivery.stands(&second));
}

#[test]
fn exclusive_means_alone() {
    let mut leader = with_messages(1);
    let exclusive = ConsumerOptions { exclusive: true, ..credit(1) };
    leader.attach(consumer(1, 1), Q, exclusive);
    let mut attach = |key, options| leader.delivery.attach(&leader.replica.machine, key, Q, options);
    assert_eq!(attach(consumer(1, 2), credit(1)), Err(DeliveryError::Exclusive(Q)));
    assert_eq!(attach(consumer(1, 1), credit(1)), Err(DeliveryError::Exists(consumer(1, 1))));
    leader.delivery.detach(consumer(1, 1));
    leader.attach(consumer(1, 2), Q, credit(1));
    let late = leader.delivery.attach(&leader.replica.machine, consumer(1, 3), Q, exclusive);
    assert_eq!(late, Err(DeliveryError::Exclusive(Q)));
    let missing = leader.delivery.attach(&leader.replica.machine, consumer(1, 4), QueueId(9), credit(1));
    assert_eq!(missing, Err(DeliveryError::NoQueue(QueueId(9))));
}

#[test]
fn after_a_fail_over_what_may_have_been_delivered_is_marked() {
    let mut leader = with_messages(EXPOSE_AHEAD + 10);
    leader.attach(consumer(1, 1), Q, credit(2));
    leader.assign(2);
    leader.apply(Command::Ack { queue: Q, ranges: vec![range(1, 1)] });
    leader.fail_over();
    leader.attach(consumer(2, 2), Q, credit(u32::MAX));
    let given = leader.assign(usize::MAX);
    assert!(given.iter().map(|(_, seq, _)| *seq).eq(2..=EXPOSE_AHEAD));
    assert!(given.iter().all(|(.., redelivered)| *redelivered));
    leader.expose();
    // Above the bound nobody can have got it.
    assert!(leader.assign(usize::MAX).iter().all(|(.., redelivered)| !redelivered));
}

#[test]
fn a_counted_return_marks_for_ever() {
    let mut leader = with_messages(1);
    leader.apply(Command::Returned { queue: Q, ranges: vec![range(1, 1)] });
    leader.attach(consumer(1, 1), Q, credit(1));
    assert_eq!(leader.assign(1), [(1, 1, true)]);
}

#[test]
fn consumers_of_a_deleted_queue_are_closed() {
    let mut leader = with_messages(2);
    leader.attach(consumer(1, 1), Q, credit(1));
    leader.assign(1);
    let closed = leader.apply(Command::DeleteQueue { name: queue_name("q0"), if_empty: false });
    assert_eq!(closed, [consumer(1, 1)]);
    assert_eq!(leader.delivery.settle(consumer(1, 1), &[]), Err(DeliveryError::NoConsumer(consumer(1, 1))));
    assert_eq!(leader.delivery.queue_of(consumer(1, 1)), None);
    assert_eq!(leader.counts(Q), (0, 0, 0));
    assert!(leader.assign(1).is_empty());
}

#[test]
fn a_purge_leaves_what_is_held_or_forgets_it() {
    let mut leader = with_messages(6);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(3));
    leader.assign(3);
    leader.delivery.settle(key, &[range(1, 1)]).unwrap();
    leader.delivery.requeue(key, &[range(2, 2)]).unwrap();
    let except = leader.delivery.unacknowledged(Q);
    assert_eq!(except, [range(1, 1), range(3, 3)]);
    leader.apply(Command::PurgeQueue { name: queue_name("q0"), except });
    assert_eq!(leader.counts(Q), (0, 2, 1));
    leader.apply(Command::PurgeQueue { name: queue_name("q0"), except: vec![range(1, 1)] });
    assert!(!leader.delivery.holds(key, 3));
    leader.apply(Command::Ack { queue: Q, ranges: vec![range(1, 1)] });
    assert_eq!(leader.counts(Q), (0, 0, 1));
    leader.delivery.add_credit(key, 1).unwrap();
    leader.publish(Q, 1);
    assert_eq!(leader.assign(9), [(1, 7, false)]);
}

#[test]
fn who_only_looks_is_told_what_may_be_redelivered() {
    let mut leader = with_messages(3);
    assert!(!leader.delivery.may_be_redelivered(Q, 1));
    leader.attach(consumer(1, 1), Q, credit(1));
    leader.assign(1);
    leader.delivery.detach(consumer(1, 1));
    assert!(leader.delivery.may_be_redelivered(Q, 1) && !leader.delivery.may_be_redelivered(Q, 2));
    leader.fail_over();
    assert!(leader.delivery.may_be_redelivered(Q, 3));
}

#[test]
fn what_a_transaction_settles_is_nobodys_until_it_is_decided() {
    let mut leader = with_messages(6);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(4));
    leader.assign(10);
    let withheld = leader.delivery.withhold(key, &[range(1, 2), range(4, 4)]).unwrap();
    assert_eq!(leader.counts(Q), (2, 4, 1));
    assert!(!leader.delivery.holds(key, 1) && leader.delivery.holds(key, 3));
    assert_eq!(leader.delivery.unacknowledged(Q), [range(1, 4)]);
    leader.replica.one(Command::Ack { queue: Q, ranges: vec![range(1, 2), range(4, 4)] });
    leader.delivery.confirm_withheld(&withheld);
    assert_eq!(leader.counts(Q), (2, 1, 1));
    leader.delivery.add_credit(key, 10).unwrap();
    assert_eq!(leader.assign(10), [(1, 5, false), (1, 6, false)]);
}

#[test]
fn what_a_refused_transaction_would_have_settled_is_held_as_before() {
    let mut leader = with_messages(4);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(4));
    leader.assign(10);
    let withheld = leader.delivery.withhold(key, &[range(1, 3)]).unwrap();
    assert_eq!(leader.delivery.give_back(withheld), None);
    assert_eq!(leader.counts(Q), (0, 4, 1));
    let all = leader.delivery.settle(key, &[range(1, 4)]).unwrap();
    assert_eq!(all.ranges, [range(1, 4)]);
}

#[test]
fn a_transaction_settles_all_that_it_names_or_nothing() {
    let mut leader = with_messages(5);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(4));
    leader.assign(10);
    leader.delivery.settle(key, &[range(2, 2)]).unwrap();
    let wrong = [
        vec![range(1, 3)],
        vec![range(1, 1), range(4, 5)],
        vec![range(1, 1), range(1, 1)],
        vec![range(3, u64::MAX)],
        vec![range(0, 1)],
    ];
    for ranges in wrong {
        let error = leader.delivery.withhold(key, &ranges).unwrap_err();
        assert_eq!(error.fault(), FaultCode::DeliveryNotHeld, "{ranges:?}");
    }
    assert_eq!(
        leader.delivery.withhold(consumer(1, 2), &[range(1, 1)]),
        Err(DeliveryError::NoConsumer(consumer(1, 2)))
    );
    assert!([1, 3, 4].into_iter().all(|seq| leader.delivery.holds(key, seq)));
    assert_eq!(leader.counts(Q), (1, 4, 1));
}

#[test]
fn what_was_withheld_from_a_consumer_that_is_gone_is_ready_again() {
    let mut leader = with_messages(3);
    let key = consumer(1, 1);
    leader.attach(key, Q, credit(3));
    leader.assign(10);
    let first = leader.delivery.withhold(key, &[range(1, 1)]).unwrap();
    let second = leader.delivery.withhold(key, &[range(2, 2)]).unwrap();
    leader.delivery.detach(key);
    assert_eq!(leader.delivery.give_back(first), Some((Q, vec![range(1, 1)])));
    // Another consumer of the same number is not the one that held it.
    leader.attach(key, Q, credit(1));
    assert_eq!(leader.assign(10), [(1, 1, true)]);
    assert_eq!(leader.delivery.give_back(second), Some((Q, vec![range(2, 2)])));
    leader.delivery.add_credit(key, 9).unwrap();
    assert_eq!(leader.assign(10), [(1, 2, true), (1, 3, true)]);
    // What a purge took meanwhile, or went with its queue, does not come back.
    let third = leader.delivery.withhold(key, &[range(3, 3)]).unwrap();
    leader.apply(Command::DeleteQueue { name: queue_name("q0"), if_empty: false });
    assert_eq!(leader.delivery.give_back(third), None);
}
