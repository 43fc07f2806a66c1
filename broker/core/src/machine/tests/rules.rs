//! One test for each rule.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::publish::PublishHeader;

use super::*;

fn failed(outcome: Outcome) -> FaultCode {
    match outcome {
        Outcome::Failed(code, text) => {
            assert!(!text.is_empty());
            code
        }
        other => panic!("{other:?}"),
    }
}

fn with_queue(name: &str, max_length: u64) -> Replica {
    let mut replica = Replica::new();
    replica.one(declare(name, max_length));
    replica
}

#[test]
fn every_command_comes_back_from_its_bytes() {
    let member = systems::member(1, "a");
    let definition = QueueDefinition {
        max_length: 9,
        arguments: BTreeMap::from([("x".to_owned(), Bytes::from_static(b"\0y"))]),
    };
    let ranges = vec![range(1, 5), range(9, 9)];
    let queue = QueueId(3);
    let vhost = quorate_protocol::name::VhostName::new("v").unwrap();
    let commands = [
        batch(1, 2, 1, ("", "q"), 3),
        Command::DeclareQueue { name: queue_name("q"), definition },
        Command::DeleteQueue { name: queue_name("q"), if_empty: true },
        Command::PurgeQueue { name: queue_name("q"), except: ranges.clone() },
        declare_exchange("e", ExchangeKind::Topic),
        Command::DeleteExchange { name: exchange_name("e"), if_unused: false },
        Command::Bind(binding("e", "q", "a.#")),
        Command::Unbind(binding("e", "q", "")),
        Command::Ack { queue, ranges: ranges.clone() },
        Command::Drop { queue, ranges: Vec::new() },
        Command::Returned { queue, ranges: ranges.clone() },
        Command::Expose { queue, to: 4096 },
        Command::Transaction(Transaction {
            body: transactions::body(7, 5, &[("", "q", "x"), ("e", "k", "y")]),
            settled: vec![
                Taken { queue, ranges: ranges.clone() },
                Taken { queue: QueueId(9), ranges: vec![] },
            ],
        }),
        Command::Resolve { producer: ProducerId(8), number: 4, first_unsettled: 2 },
        Command::Found(systems::founding(&["a", "b"])),
        Command::AddMember { member: member.clone(), place: Some(2) },
        Command::AddMember { member: member.clone(), place: None },
        Command::UpdateMember(member.clone()),
        Command::RemoveMember { store: member.store },
        Command::CreateVhost { name: vhost },
    ];
    let mut data = Vec::new();
    for command in &commands {
        command.encode(&mut data);
    }
    let data = Bytes::from(data);
    let read: Vec<_> = CommandReader::new(&data).collect();
    assert_eq!(read.len(), commands.len());
    for (located, command) in read.iter().zip(&commands) {
        assert_eq!(located.command.as_ref(), Ok(command));
    }
    // The offset is that of the payload: a publish body lies there byte for byte.
    let Command::Publish(body) = &commands[0] else { panic!() };
    assert_eq!(data.slice(read[0].offset..read[0].offset + body.len()), *body);
}

#[test]
fn a_slot_points_at_the_message_and_at_its_batch() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[batch(1, 1, 1, ("", "q"), 2), batch(2, 5, 5, ("", "q"), 1)]);
    assert_eq!(replica.content("q"), [(1, "1/1".into()), (2, "1/2".into()), (3, "2/5".into())]);
    let slot = replica.machine.message_at(replica.id("q"), 3).unwrap();
    let data = &replica.log[&slot.index];
    let header = PublishHeader::parse(&data[slot.batch_offset as usize..]).unwrap();
    assert_eq!((header.exchange, header.key, header.first), ("", "q", 5));
}

#[test]
fn declaring_again_is_done_only_with_the_same_definition() {
    let mut replica = with_queue("q", 5);
    let queue = replica.id("q");
    assert_eq!(replica.one(declare("q", 5)), Outcome::QueueDeclared { queue, created: false });
    assert_eq!(failed(replica.one(declare("q", 6))), FaultCode::DeclarationDiffers);
    assert_eq!(replica.one(declare_exchange("e", ExchangeKind::Direct)), Outcome::Done { affected: 1 });
    assert_eq!(replica.one(declare_exchange("e", ExchangeKind::Direct)), Outcome::Done { affected: 0 });
    let differs = replica.one(declare_exchange("e", ExchangeKind::Topic));
    assert_eq!(failed(differs), FaultCode::DeclarationDiffers);
    for name in ["", "quorate.x"] {
        assert_eq!(
            failed(replica.one(declare_exchange(name, ExchangeKind::Direct))),
            FaultCode::ReservedName
        );
    }
}

#[test]
fn queue_numbers_and_sequences_are_never_used_again() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[batch(1, 1, 1, ("", "q"), 3)]);
    let queue = replica.id("q");
    replica.one(Command::Ack { queue, ranges: vec![range(1, 3)] });
    replica.apply(&[batch(1, 4, 4, ("", "q"), 1)]);
    assert_eq!(replica.content("q"), [(4, "1/4".into())]);
    let gone = replica.one(Command::DeleteQueue { name: queue_name("q"), if_empty: false });
    assert_eq!(gone, Outcome::Removed { messages: 1 });
    replica.one(declare("q", 0));
    assert!(replica.id("q") > queue);
    assert_eq!(failed(replica.one(Command::Ack { queue, ranges: vec![] })), FaultCode::QueueNotFound);
    assert_eq!(replica.machine.live(), 0);
}

#[test]
fn a_queue_that_must_be_empty_is_not_deleted_while_it_is_not() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[batch(1, 1, 1, ("", "q"), 1)]);
    let delete = Command::DeleteQueue { name: queue_name("q"), if_empty: true };
    assert_eq!(failed(replica.one(delete.clone())), FaultCode::QueueNotEmpty);
    replica.one(Command::Drop { queue: replica.id("q"), ranges: vec![range(0, u64::MAX)] });
    assert_eq!(replica.one(delete.clone()), Outcome::Removed { messages: 0 });
    assert_eq!(failed(replica.one(delete)), FaultCode::QueueNotFound);
}

#[test]
fn unroutable_messages_are_refused_for_good_and_again() {
    let mut replica = with_queue("q", 0);
    replica.one(declare_exchange("e", ExchangeKind::Direct));
    for (to, code) in [
        (("", "missing"), FaultCode::Unroutable),
        (("missing", "q"), FaultCode::ExchangeNotFound),
        (("e", "q"), FaultCode::Unroutable),
    ] {
        let first = replica.machine.producer_next(ProducerId(1)).unwrap_or(1);
        let refused = vec![(range(first, first + 1), code)];
        assert_eq!(replica.publish(batch(1, first, 1, to, 2)).refused, refused);
        // The queue exists by now, but the answer to these numbers stays what it was.
        assert_eq!(replica.publish(batch(1, first, 1, ("", "q"), 2)).refused, refused);
        assert!(!code.is_retryable());
    }
    assert!(replica.content("q").is_empty());
}

#[test]
fn a_full_queue_refuses_for_now_and_nothing_overtakes() {
    let mut replica = with_queue("q", 3);
    let published = replica.publish(batch(1, 1, 1, ("", "q"), 5));
    assert_eq!(published.confirmed, [range(1, 3)]);
    assert_eq!(published.refused, [(range(4, 5), FaultCode::QueueFull)]);
    assert_eq!(published.full, Some(replica.id("q")));
    assert!(FaultCode::QueueFull.is_retryable() && FaultCode::OutOfOrder.is_retryable());
    replica.one(Command::Ack { queue: replica.id("q"), ranges: vec![range(1, 1)] });
    // There is room now, but 4 was refused: 6 may not come before it.
    let overtaking = replica.publish(batch(1, 6, 4, ("", "q"), 1));
    assert_eq!(overtaking.refused, [(range(6, 6), FaultCode::OutOfOrder)]);
    let again = replica.publish(batch(1, 3, 3, ("", "q"), 2));
    assert_eq!((again.duplicates, again.confirmed), (vec![range(3, 3)], vec![range(4, 4)]));
    // The publisher gave 5 up: it says so by having settled it.
    replica.one(Command::Ack { queue: replica.id("q"), ranges: vec![range(2, 3)] });
    assert_eq!(replica.publish(batch(1, 6, 6, ("", "q"), 1)).confirmed, [range(6, 6)]);
    let late = replica.publish(batch(1, 5, 5, ("", "q"), 1));
    assert_eq!(late.refused, [(range(5, 5), FaultCode::RefusedBefore)], "it was never stored");
}

#[test]
fn a_message_for_several_queues_is_refused_if_one_is_full() {
    let mut replica = with_queue("full", 1);
    replica.apply(&[
        declare("q", 0),
        declare_exchange("e", ExchangeKind::Fanout),
        Command::Bind(binding("e", "q", "")),
        Command::Bind(binding("e", "full", "x")),
    ]);
    let published = replica.publish(batch(1, 1, 1, ("e", "any"), 2));
    assert_eq!(published.confirmed, [range(1, 1)]);
    assert_eq!(replica.content("q"), [(1, "1/1".into())]);
    assert_eq!(replica.content("full"), [(1, "1/1".into())]);
}

#[test]
fn numbers_seen_before_are_duplicates_and_stored_once() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[batch(1, 1, 1, ("", "q"), 3)]);
    let again = replica.publish(batch(1, 2, 1, ("", "q"), 3));
    assert_eq!((again.duplicates, again.confirmed), (vec![range(2, 3)], vec![range(4, 4)]));
    // Another producer's numbers are its own.
    assert_eq!(replica.publish(batch(2, 1, 1, ("", "q"), 1)).confirmed, [range(1, 1)]);
    assert_eq!(replica.content("q").len(), 5);
}

#[test]
fn what_overtakes_an_unsettled_number_is_refused_even_from_an_unknown_producer() {
    let mut replica = with_queue("q", 0);
    assert_eq!(replica.publish(batch(1, 5, 4, ("", "q"), 1)).refused, [(range(5, 5), FaultCode::OutOfOrder)]);
    assert_eq!(replica.machine.producer_next(ProducerId(1)), None);
    assert_eq!(replica.publish(batch(1, 4, 4, ("", "q"), 1)).confirmed, [range(4, 4)]);
    assert_eq!(replica.publish(batch(1, 5, 4, ("", "q"), 1)).confirmed, [range(5, 5)]);
}

#[test]
fn refusals_lie_between_duplicates_also_for_whoever_begins_again() {
    let mut replica = with_queue("q", 0);
    for (first, key) in [(1, "q"), (2, "none"), (3, "q"), (4, "none"), (5, "none")] {
        replica.apply(&[batch(1, first, 1, ("", key), 1)]);
    }
    let again = replica.publish(batch(1, 1, 1, ("", "q"), 6));
    assert_eq!(again.duplicates, [range(1, 1), range(3, 3)]);
    let code = FaultCode::Unroutable;
    assert_eq!(again.refused, [(range(2, 2), code), (range(4, 5), code)]);
    assert_eq!(again.confirmed, [range(6, 6)]);
    replica.apply(&[batch(1, 7, 7, ("", "q"), 1)]);
    assert_eq!(replica.publish(batch(1, 2, 2, ("", "q"), 1)).refused, [(range(2, 2), code)]);
    // Nobody remembers what was below the first number that was ever heard of.
    replica.apply(&[batch(2, 5, 5, ("", "q"), 1)]);
    let before = replica.publish(batch(2, 1, 1, ("", "q"), 6));
    assert_eq!(before.refused, [(range(1, 4), FaultCode::OutcomeForgotten)]);
    assert_eq!((before.duplicates, before.confirmed), (vec![range(5, 5)], vec![range(6, 6)]));
}

#[test]
fn of_too_many_settled_refusals_the_lowest_are_forgotten_and_not_taken_for_stored() {
    let mut replica = with_queue("q", 0);
    let kept = limits::MAX_SETTLED_REFUSED_RANGES as u64;
    for number in 1..=kept + 2 {
        let (stored, refused) = (2 * number - 1, 2 * number);
        replica.apply(&[batch(1, stored, stored, ("", "q"), 1), batch(1, refused, stored, ("", "none"), 1)]);
    }
    let again = replica.publish(batch(1, 1, 1, ("", "q"), 8));
    assert_eq!(
        again.refused,
        [
            (range(1, 4), FaultCode::OutcomeForgotten),
            (range(6, 6), FaultCode::Unroutable),
            (range(8, 8), FaultCode::Unroutable)
        ]
    );
    assert_eq!(again.duplicates, [range(5, 5), range(7, 7)]);
}

#[test]
fn too_many_refusals_in_the_window_are_for_now() {
    let mut replica = with_queue("q", 0);
    let limit = limits::MAX_REFUSED_RANGES as u64;
    // Alternating, so that no two can be remembered as one.
    for number in 1..=limit {
        replica.apply(&[batch(1, 2 * number - 1, 1, ("", "none"), 1), batch(1, 2 * number, 1, ("", "q"), 1)]);
    }
    let next = 2 * limit + 1;
    let refused = replica.publish(batch(1, next, 1, ("", "none"), 1)).refused;
    assert_eq!(refused, [(range(next, next), FaultCode::Overloaded)]);
    assert!(FaultCode::Overloaded.is_retryable());
    let settled = replica.publish(batch(1, next, 3, ("", "none"), 1)).refused;
    assert_eq!(settled, [(range(next, next), FaultCode::Unroutable)]);
}

#[test]
fn the_producer_unused_for_longest_is_forgotten() {
    let mut replica = with_queue("q", 0);
    let most = limits::MAX_PRODUCERS as u64;
    let publish = |producer: u64, number| encoded(&batch(producer.into(), number, number, ("", "q"), 1));
    for producer in 1..=most {
        replica.machine.apply(Index(10 + producer), &publish(producer, 1));
    }
    replica.machine.apply(Index(11 + most), &publish(1, 2));
    replica.machine.apply(Index(11 + most), &publish(most + 1, 1));
    assert_eq!(replica.machine.producer_count(), limits::MAX_PRODUCERS);
    assert_eq!(replica.machine.producer_next(ProducerId(1)), Some(3));
    assert_eq!(replica.machine.producer_next(ProducerId(2)), None);
}

fn encoded(command: &Command) -> Bytes {
    let mut data = Vec::new();
    command.encode(&mut data);
    data.into()
}

#[test]
fn settled_messages_are_gone_and_returns_are_counted() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[batch(1, 1, 1, ("", "q"), 600)]);
    let queue = replica.id("q");
    let ack = Command::Ack { queue, ranges: vec![range(2, 300), range(250, 310), range(700, 900)] };
    assert_eq!(replica.one(ack), Outcome::Settled { queue, messages: 309 });
    let drop = Command::Drop { queue, ranges: vec![range(1, 1), range(1, 1)] };
    assert_eq!(replica.one(drop), Outcome::Settled { queue, messages: 1 });
    let state = replica.machine.queue(queue).unwrap();
    assert_eq!((state.live(), state.first_live(), state.next_seq()), (290, Some(311), 601));
    let left: u64 = replica.content("q").iter().map(|(_, text)| text.len() as u64 + 2).sum();
    assert_eq!(state.bytes(), left);
    for _ in 0..300 {
        replica.one(Command::Returned { queue, ranges: vec![range(305, 311)] });
    }
    assert_eq!(replica.machine.message_at(queue, 311).unwrap().returns, 255);
    assert_eq!(replica.machine.message_at(queue, 312).unwrap().returns, 0);
    assert_eq!(replica.machine.message_at(queue, 310), None);
}

#[test]
fn a_purge_leaves_what_is_held() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[batch(1, 1, 1, ("", "q"), 10)]);
    let purge =
        Command::PurgeQueue { name: queue_name("q"), except: vec![range(7, 8), range(2, 3), range(3, 3)] };
    assert_eq!(replica.one(purge), Outcome::Removed { messages: 6 });
    let left: Vec<u64> = replica.content("q").iter().map(|&(seq, _)| seq).collect();
    assert_eq!(left, [2, 3, 7, 8]);
    assert_eq!(replica.machine.queue_named("q").unwrap().purges(), 1);
    assert_eq!(replica.machine.live(), 4);
}

#[test]
fn the_bound_only_rises() {
    let mut replica = with_queue("q", 0);
    let queue = replica.id("q");
    replica.machine.take_touched();
    assert_eq!(replica.one(Command::Expose { queue, to: 100 }), Outcome::Done { affected: 1 });
    assert_eq!(replica.machine.take_touched(), [queue].into());
    assert_eq!(replica.one(Command::Expose { queue, to: 50 }), Outcome::Done { affected: 0 });
    assert_eq!(replica.machine.queue(queue).unwrap().exposed_to(), 100);
    assert!(replica.machine.take_touched().is_empty());
}

#[test]
fn exchanges_route_by_kind() {
    let mut replica = Replica::new();
    replica.apply(&[declare("a", 0), declare("b", 0), declare("c", 0)]);
    for (exchange, kind) in
        [("d", ExchangeKind::Direct), ("f", ExchangeKind::Fanout), ("t", ExchangeKind::Topic)]
    {
        replica.apply(&[
            declare_exchange(exchange, kind),
            Command::Bind(binding(exchange, "a", "x.y")),
            Command::Bind(binding(exchange, "b", "*.y")),
            Command::Bind(binding(exchange, "b", "#")),
        ]);
    }
    let id = |name| replica.id(name);
    let route = |exchange, key| replica.machine.route(exchange, key);
    assert_eq!(route("d", "x.y"), Some([id("a")].into()));
    assert_eq!(route("d", "z"), Some([].into()));
    assert_eq!(route("f", "z"), Some([id("a"), id("b")].into()));
    assert_eq!(route("t", "x.y"), Some([id("a"), id("b")].into()));
    assert_eq!(route("t", "z"), Some([id("b")].into()));
    assert_eq!(route("", "c"), Some([id("c")].into()));
    assert_eq!(route("none", "c"), None);
}

#[test]
fn bindings_go_with_their_queue_and_with_their_exchange() {
    let mut replica = Replica::new();
    replica.apply(&[
        declare("a", 0),
        declare("b", 0),
        declare_exchange("d", ExchangeKind::Direct),
        declare_exchange("t", ExchangeKind::Topic),
    ]);
    let all =
        [binding("d", "a", "k"), binding("d", "b", "k"), binding("t", "a", "k"), binding("t", "b", "k")];
    for binding in &all {
        assert_eq!(replica.one(Command::Bind(binding.clone())), Outcome::Done { affected: 1 });
        assert_eq!(replica.one(Command::Bind(binding.clone())), Outcome::Done { affected: 0 });
    }
    assert!(replica.machine.bindings_after(None).eq(all.iter()));
    assert!(replica.machine.bindings_after(Some(&all[1])).eq(all[2..].iter()));
    assert_eq!(replica.machine.exchange("d").unwrap().bindings, 2);
    let unused = Command::DeleteExchange { name: exchange_name("d"), if_unused: true };
    assert_eq!(failed(replica.one(unused.clone())), FaultCode::ExchangeInUse);
    replica.one(Command::DeleteQueue { name: queue_name("a"), if_empty: false });
    assert!(replica.machine.bindings_after(None).eq([&all[1], &all[3]]));
    let delete = Command::DeleteExchange { name: exchange_name("t"), if_unused: false };
    assert_eq!(replica.one(delete), Outcome::Done { affected: 1 });
    assert_eq!(replica.one(Command::Unbind(all[1].clone())), Outcome::Done { affected: 1 });
    assert_eq!(failed(replica.one(Command::Unbind(all[1].clone()))), FaultCode::BindingNotFound);
    assert_eq!(replica.one(unused), Outcome::Done { affected: 0 });
    // A queue of the old name does not get the old bindings.
    replica.apply(&[declare("a", 0), declare_exchange("t", ExchangeKind::Topic)]);
    assert_eq!(replica.machine.route("t", "k"), Some([].into()));
}

#[test]
fn only_what_exists_is_bound_and_only_patterns_to_topics() {
    let mut replica = with_queue("q", 0);
    replica.apply(&[declare_exchange("t", ExchangeKind::Topic), declare_exchange("d", ExchangeKind::Direct)]);
    let mut bind = |exchange, queue, key| replica.one(Command::Bind(binding(exchange, queue, key)));
    assert_eq!(failed(bind("", "q", "k")), FaultCode::ReservedName);
    assert_eq!(failed(bind("none", "q", "k")), FaultCode::ExchangeNotFound);
    assert_eq!(failed(bind("d", "none", "k")), FaultCode::QueueNotFound);
    assert_eq!(failed(bind("t", "q", "a*")), FaultCode::InvalidPattern);
    assert_eq!(bind("d", "q", "a*"), Outcome::Done { affected: 1 });
    // What could not be bound left nothing behind.
    assert_eq!(replica.machine.route("t", "a*"), Some([].into()));
}

#[test]
fn a_batch_that_would_make_too_many_copies_is_refused() {
    let mut replica = Replica::new();
    replica.one(declare_exchange("f", ExchangeKind::Fanout));
    let queues = limits::MAX_COPIES_PER_BATCH / 16_384 + 1;
    for queue in 0..queues {
        let name = format!("q{queue}");
        replica.apply(&[declare(&name, 0), Command::Bind(binding("f", &name, ""))]);
    }
    let refused = replica.publish(batch(1, 1, 1, ("f", ""), 16_384)).refused;
    assert_eq!(refused, [(range(1, 16_384), FaultCode::MessageTooLarge)]);
    assert_eq!(replica.publish(batch(1, 16_385, 16_385, ("f", ""), 2)).confirmed, [range(16_385, 16_386)]);
    assert_eq!(replica.machine.live(), 2 * queues);
}

#[test]
fn listings_go_on_after_a_name() {
    let mut replica = Replica::new();
    for name in ["b", "a", "c"] {
        replica.apply(&[declare(name, 0), declare_exchange(name, ExchangeKind::Fanout)]);
    }
    let names: Vec<_> =
        replica.machine.queues_after(Some(&queue_name("a"))).map(|queue| queue.name().as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    let names: Vec<_> =
        replica.machine.exchanges_after(None).map(|exchange| exchange.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn bytes_that_are_no_command_have_an_outcome_and_change_nothing() {
    let mut replica = with_queue("q", 0);
    let digest = replica.machine.digest();
    let mut data = vec![200, 1, 0, 0, 0, 9];
    declare("q", 0).encode(&mut data);
    Command::Found(systems::founding(&["a"])).encode(&mut data);
    Command::Publish(Bytes::from_static(b"no batch")).encode(&mut data);
    data.extend([1, 255, 255, 255, 255, 0]);
    let outcomes = replica.machine.apply(Index(9), &data.into());
    let code = |outcome| match outcome {
        Outcome::Failed(code, _) => Some(code),
        _ => None,
    };
    let codes: Vec<_> = outcomes.into_iter().map(code).collect();
    let malformed = Some(FaultCode::MalformedFrame);
    assert_eq!(codes, [malformed, None, malformed, malformed, malformed]);
    assert_eq!(replica.machine.digest(), digest);
}

#[test]
fn a_million_messages_cost_less_than_8_mib() {
    let mut replica = with_queue("q", 0);
    for first in (0..1_000_000_u64).step_by(10_000) {
        replica.machine.apply(Index(first + 5), &encoded(&batch(1, first + 1, first + 1, ("", "q"), 10_000)));
    }
    let queue = replica.machine.queue_named("q").unwrap();
    assert_eq!(queue.live(), 1_000_000);
    assert!(queue.memory() < 8 << 20, "{} bytes", queue.memory());
    let ack = Command::Ack { queue: QueueId(1), ranges: vec![range(1, 999_999)] };
    replica.machine.apply(Index(1_000_000), &encoded(&ack));
    assert!(replica.machine.queue_named("q").unwrap().memory() < 16 << 10);
}
