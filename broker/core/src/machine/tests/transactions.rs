//! Transactions: all of it, or nothing, and remembered.

use proptest::prelude::*;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::limits::Limits;
use quorate_protocol::publish::PublishHeader;
use quorate_protocol::transaction::{TransactionBody, TransactionBuilder};

use super::*;

const PRODUCER: ProducerId = ProducerId(50);

/// Exchange, key and text.
type Message<'a> = (&'a str, &'a str, &'a str);

/// A transaction that publishes these texts, each to an exchange with a key.
pub(super) fn body(number: u64, first_unsettled: u64, messages: &[Message<'_>]) -> TransactionBody {
    let mut builder = TransactionBuilder::new(PRODUCER, number);
    for (exchange, key, text) in messages {
        let (exchange, key) = (exchange_name(exchange), RoutingKey::new(key).unwrap());
        builder.push(&exchange, &key, (&Properties::NONE, text.as_bytes()), Limits::default(), 0).unwrap();
    }
    builder.finish().with_first_unsettled(first_unsettled)
}

fn transaction(number: u64, messages: &[Message<'_>], settled: &[(QueueId, NumberRange)]) -> Command {
    let settled =
        settled.iter().map(|(queue, range)| Taken { queue: *queue, ranges: vec![*range] }).collect();
    Command::Transaction(Transaction { body: body(number, number, messages), settled })
}

fn resolve(number: u64) -> Command {
    Command::Resolve { producer: PRODUCER, number, first_unsettled: number }
}

fn committed(published: u64, settled: u64) -> Outcome {
    Outcome::Committed(Committed { duplicate: false, published, settled })
}

fn duplicate() -> Outcome {
    Outcome::Committed(Committed { duplicate: true, ..Committed::default() })
}

fn refused(outcome: Outcome) -> (FaultCode, String) {
    match outcome {
        Outcome::Failed(code, text) => (code, text),
        other => panic!("{other:?}"),
    }
}

fn texts(replica: &Replica, queue: &str) -> Vec<String> {
    replica.content(queue).into_iter().map(|(_, text)| text).collect()
}

/// Queues `a` with five messages, `b` with room for three, and an exchange that goes to both.
fn stage() -> (Replica, QueueId, QueueId) {
    let mut replica = Replica::new();
    replica.apply(&[
        declare("a", 0),
        declare("b", 3),
        declare_exchange("both", ExchangeKind::Fanout),
        Command::Bind(binding("both", "a", "")),
        Command::Bind(binding("both", "b", "")),
    ]);
    replica.publish(batch(1, 1, 1, ("", "a"), 5));
    let (a, b) = (replica.id("a"), replica.id("b"));
    (replica, a, b)
}

#[test]
fn everything_in_it_happens_in_its_order() {
    let (mut replica, a, _) = stage();
    let messages = [("", "b", "one"), ("both", "", "two"), ("", "b", "three"), ("", "a", "four")];
    let outcome = replica.one(transaction(1, &messages, &[(a, range(2, 4))]));
    assert_eq!(outcome, committed(4, 3));
    assert_eq!(texts(&replica, "a"), ["1/1", "1/5", "two", "four"]);
    assert_eq!(texts(&replica, "b"), ["one", "two", "three"]);
    assert_eq!(replica.machine.live(), 7);
}

#[test]
fn a_message_knows_where_it_was_published_to() {
    let (mut replica, _, b) = stage();
    // Other commands before it in the same entry.
    replica.apply(&[declare("c", 0), transaction(1, &[("", "a", "x"), ("both", "k", "y")], &[])]);
    let slot = replica.machine.message_at(b, 1).unwrap();
    let data = &replica.log[&slot.index];
    let header = PublishHeader::parse(&data[slot.batch_offset as usize..]).unwrap();
    assert_eq!((header.exchange, header.key), ("both", "k"));
    assert_eq!(replica.text(&slot), "y");
}

/// Exchange, key and text of each message; what is settled; code and a part of the text that it is refused with.
type Row<'a> = (&'a [Message<'a>], &'a [(QueueId, NumberRange)], FaultCode, &'a str);

#[test]
fn nothing_of_a_refused_one_happens() {
    let three = [("", "a", "x"), ("", "b", "x"), ("", "b", "x")];
    let four = [("", "b", "1"), ("", "b", "2"), ("both", "", "3"), ("", "b", "4")];
    let (_, a, b) = stage();
    let rows: [Row<'_>; 7] = [
        (&[("", "a", "x"), ("", "gone", "y")], &[], FaultCode::Unroutable, "messages 2 to 2"),
        (&[("", "a", "x"), ("gone", "", "y")], &[], FaultCode::ExchangeNotFound, "`gone`"),
        (&four, &[], FaultCode::QueueFull, "messages 4 to 4"),
        (&three, &[(a, range(5, 6))], FaultCode::DeliveryNotHeld, "5 to 6"),
        (&three, &[(b, range(1, 1))], FaultCode::DeliveryNotHeld, "`b`"),
        (&three, &[(a, range(1, u64::MAX))], FaultCode::DeliveryNotHeld, "only 5"),
        (&three, &[(QueueId(77), range(1, 1))], FaultCode::QueueNotFound, "77"),
    ];
    for (messages, settled, code, words) in rows {
        let (mut replica, ..) = stage();
        let before = replica.machine.digest();
        let first = refused(replica.one(transaction(1, messages, settled)));
        assert_eq!(first.0, code);
        assert!(first.1.contains(words), "{first:?}");
        assert_eq!(texts(&replica, "a").len(), 5, "{code}");
        assert_eq!(texts(&replica, "b").len(), 0, "{code}");
        assert_eq!(replica.machine.live(), 5);
        assert_ne!(replica.machine.digest(), before, "the refusal is remembered");
        // It stays refused, even if nothing is in the way any more.
        assert_eq!(refused(replica.one(transaction(1, &[], &[]))).0, code);
        assert_eq!(refused(replica.one(resolve(1))).0, code);
        assert_eq!(replica.one(transaction(2, &[("", "a", "next")], &[])), committed(1, 0));
    }
}

#[test]
fn settling_makes_room_for_what_is_published() {
    let (mut replica, _, b) = stage();
    replica.publish(batch(2, 1, 1, ("", "b"), 3));
    let full = replica.one(transaction(1, &[("", "b", "x")], &[]));
    assert_eq!(refused(full).0, FaultCode::QueueFull);
    let messages = [("", "b", "x"), ("", "b", "y")];
    assert_eq!(replica.one(transaction(2, &messages, &[(b, range(1, 2))])), committed(2, 2));
    assert_eq!(texts(&replica, "b"), ["2/3", "x", "y"]);
    let more = replica.one(transaction(3, &messages, &[(b, range(3, 3))]));
    assert_eq!(refused(more).0, FaultCode::QueueFull);
}

#[test]
fn one_that_came_before_is_recognised() {
    let (mut replica, a, _) = stage();
    let command = transaction(1, &[("", "a", "x")], &[(a, range(1, 1))]);
    assert_eq!(replica.one(command.clone()), committed(1, 1));
    let before = texts(&replica, "a");
    assert_eq!(replica.one(command.clone()), duplicate());
    assert_eq!(replica.one(resolve(1)), duplicate());
    replica.one(transaction(2, &[], &[]));
    assert_eq!(replica.one(command), duplicate());
    assert_eq!(texts(&replica, "a"), before);
}

#[test]
fn a_resolved_one_is_rolled_back_for_ever() {
    let (mut replica, a, _) = stage();
    assert_eq!(refused(replica.one(resolve(1))).0, FaultCode::TransactionRolledBack);
    let late = transaction(1, &[("", "a", "late")], &[(a, range(1, 1))]);
    assert_eq!(refused(replica.one(late.clone())).0, FaultCode::TransactionRolledBack);
    assert_eq!(replica.one(transaction(2, &[("", "a", "again")], &[])), committed(1, 0));
    // Whoever begins again under this id is told the same.
    assert_eq!(refused(replica.one(late)).0, FaultCode::TransactionRolledBack);
    assert_eq!(texts(&replica, "a"), ["1/1", "1/2", "1/3", "1/4", "1/5", "again"]);
}

#[test]
fn what_was_given_up_before_it_was_judged_is_not_committed() {
    let (mut replica, ..) = stage();
    replica.one(transaction(1, &[("", "a", "first")], &[]));
    replica.one(transaction(4, &[("", "a", "fourth")], &[]));
    for number in [2, 3] {
        assert_eq!(refused(replica.one(transaction(number, &[], &[]))).0, FaultCode::RefusedBefore);
    }
    assert_eq!(replica.one(transaction(4, &[], &[])), duplicate());
}

#[test]
fn one_that_overtook_another_is_refused_for_now() {
    let (mut replica, ..) = stage();
    let early = Transaction { body: body(3, 2, &[("", "a", "x")]), settled: Vec::new() };
    let before = replica.machine.digest();
    let outcome = replica.one(Command::Transaction(early.clone()));
    assert_eq!(refused(outcome).0, FaultCode::OutOfOrder);
    assert_eq!(replica.machine.digest(), before);
    assert_eq!(replica.one(transaction(2, &[], &[])), committed(0, 0));
    assert_eq!(replica.one(Command::Transaction(early)), committed(1, 0));
}

#[test]
fn numbers_that_cannot_be_change_nothing() {
    let (mut replica, ..) = stage();
    let before = replica.machine.digest();
    let rows = [(0, 0), (1, 0), (1, 2), (limits::MAX_SEQUENCE, 1), (u64::MAX, u64::MAX)];
    for (number, first_unsettled) in rows {
        let command = Command::Resolve { producer: PRODUCER, number, first_unsettled };
        refused(replica.one(command));
    }
    let most = Transaction { body: body(u64::MAX, 1, &[]), settled: Vec::new() };
    assert_eq!(refused(replica.one(Command::Transaction(most))).0, FaultCode::LimitReached);
    assert_eq!(replica.machine.digest(), before);
}

#[test]
fn too_many_copies_are_refused_whole() {
    let mut replica = Replica::new();
    replica.one(declare_exchange("all", ExchangeKind::Fanout));
    for number in 0..20 {
        let name = format!("q{number}");
        replica.apply(&[declare(&name, 0), Command::Bind(binding("all", &name, ""))]);
    }
    let messages = vec![("all", "", "x"); 60_000];
    let outcome = replica.one(transaction(1, &messages, &[]));
    assert_eq!(refused(outcome).0, FaultCode::MessageTooLarge);
    assert_eq!(replica.machine.live(), 0);
}

proptest! {
    /// Any transactions, twice each and in any mixture with resolutions: the second answer is that of the first, and what
    /// is in the queues is what the committed ones say.
    #[test]
    fn all_or_nothing(steps in prop::collection::vec((0..4_u8, 0..6_usize, 1..4_u64, any::<bool>()), 1..40)) {
        let mut replica = Replica::new();
        replica.apply(&[declare("a", 0), declare("b", 6)]);
        let (mut number, mut taken, mut expected) = (0, 0, Vec::new());
        for (kind, count, acks, repeats) in steps {
            number += 1;
            let names: Vec<String> = (0..count).map(|place| format!("{number}/{place}")).collect();
            let to = |place: usize| ["a", "b", "nowhere"][if kind == 3 && place == 4 { 2 } else { place % 2 }];
            let messages: Vec<_> =
                names.iter().enumerate().map(|(place, name)| ("", to(place), name.as_str())).collect();
            let settled = if kind == 1 { vec![(QueueId(1), range(taken + 1, taken + acks))] } else { vec![] };
            let command = if kind == 2 { resolve(number) } else { transaction(number, &messages, &settled) };
            let outcome = replica.one(command.clone());
            if let Outcome::Committed(done) = &outcome {
                prop_assert_eq!((done.duplicate, done.published), (false, count as u64));
                taken += done.settled;
                let to_a = |place: &usize| place.is_multiple_of(2);
                expected.extend((0..count).filter(to_a).map(|place| names[place].clone()));
            }
            if repeats {
                match (outcome, replica.one(command)) {
                    (Outcome::Committed(_), again) => prop_assert_eq!(again, duplicate()),
                    (first, again) => prop_assert_eq!(refused(first).0, refused(again).0),
                }
            }
        }
        let taken = usize::try_from(taken).unwrap();
        prop_assert_eq!(texts(&replica, "a"), expected[taken..].to_vec());
    }
}
