//! What becomes of transactions, answer by answer and connection by connection.

use quorate_protocol::frame::Committed;
use quorate_protocol::message::Properties;
use quorate_protocol::transaction::{TransactionBuilder, TransactionSettlement};

use super::*;

fn wanted(world: &World, settles: &[(u32, u64, u64)]) -> Commit {
    let mut builder = TransactionBuilder::new(ProducerId(9), 1);
    let key = RoutingKey::new("q").unwrap();
    let message = (&Properties::NONE, &b"x"[..]);
    builder.push(&ExchangeName::default(), &key, message, Limits::default(), 0).unwrap();
    let settles = settles
        .iter()
        .map(|&(consumer, generation, seq)| Settles {
            wire: TransactionSettlement { consumer, dropped: false, ranges: vec![NumberRange::one(seq)] },
            generation,
            count: 1,
        })
        .collect();
    let losses = world.session.losses_shared().load(Ordering::Relaxed);
    Commit { body: builder.finish(), numbers: Arc::clone(&world.numbers), settles, losses }
}

fn committed(request: u32, duplicate: bool) -> Committed {
    let durability = Durability::default();
    Committed { request, group: 1, epoch: 2, term: 3, index: 4, durability, under_override: false, duplicate }
}

/// The request of the one Commit, or of the one Resolve, that is said now, with its number and first unsettled one.
fn commit(world: &mut World) -> (u32, u64, u64) {
    match world.says_one() {
        ClientFrame::Commit(it) => (it.request, it.transaction.number(), it.transaction.first_unsettled()),
        other => panic!("{other:?}"),
    }
}

fn resolve(world: &mut World) -> (u32, u64, u64) {
    match world.says_one() {
        ClientFrame::Resolve(it) => (it.request, it.number, it.first_unsettled),
        other => panic!("{other:?}"),
    }
}

/// Whether it was committed before.
fn outcome(world: &mut World) -> Result<bool, Error> {
    let mut answers = world.answers();
    assert_eq!(answers.len(), 1, "{answers:?}");
    match answers.remove(0).1? {
        ServerFrame::Committed(committed) => Ok(committed.duplicate),
        other => panic!("{other:?}"),
    }
}

fn reconnect(world: &mut World) {
    world.disconnect();
    world.connect();
}

/// A world with a consumer that holds three deliveries.
fn with_deliveries() -> (World, Arc<Mutex<Mailbox>>) {
    let mut world = World::up();
    let mailbox = world.consumer(1, 4);
    let ClientFrame::Consume(consume) = world.says_one() else { panic!("consume") };
    world.hears(ConsumeOk { request: consume.request });
    world.hears(deliver(1, &[1, 2, 3]));
    world.answers();
    (world, mailbox)
}

#[test]
fn a_commit_gets_its_answer() {
    let mut world = World::up();
    let (first, second) = (wanted(&world, &[]), wanted(&world, &[]));
    world.session.commit(first, 1);
    let (request, ..) = commit(&mut world);
    assert!(!world.session.is_idle());
    world.hears(committed(request, false));
    assert!(!outcome(&mut world).unwrap());
    world.session.commit(second, 2);
    let (request, number, first_unsettled) = commit(&mut world);
    assert_eq!((number, first_unsettled), (2, 2));
    world.hears(failed(request, FaultCode::Unroutable));
    assert_eq!(outcome(&mut world).unwrap_err().code(), Some(FaultCode::Unroutable));
    assert!(world.session.is_idle());
}

#[test]
fn what_settles_frees_credit_when_it_is_committed_and_not_before() {
    let (mut world, _mailbox) = with_deliveries();
    let refused = wanted(&world, &[(1, 0, 1), (1, 0, 2)]);
    world.session.commit(refused, 2);
    let (request, ..) = commit(&mut world);
    world.hears(failed(request, FaultCode::QueueFull));
    assert!(world.says().is_empty());
    outcome(&mut world).unwrap_err();
    let again = wanted(&world, &[(1, 0, 1), (1, 0, 2)]);
    world.session.commit(again, 3);
    let (request, ..) = commit(&mut world);
    world.hears(committed(request, false));
    let ClientFrame::Credit(credit) = world.says_one() else { panic!("credit") };
    assert_eq!((credit.consumer, credit.add), (1, 2));
}

#[test]
fn what_was_open_when_the_connection_ended_is_rolled_back() {
    let mut world = World::up();
    let open = wanted(&world, &[]);
    reconnect(&mut world);
    world.session.commit(open, 1);
    assert!(world.says().is_empty());
    assert!(matches!(outcome(&mut world), Err(Error::RolledBack(_))));
}

#[test]
fn what_only_publishes_is_sent_again_under_its_number() {
    let mut world = World::up();
    let (first, second) = (wanted(&world, &[]), wanted(&world, &[]));
    world.session.commit(first, 1);
    world.session.commit(second, 2);
    assert_eq!(world.says().len(), 2);
    reconnect(&mut world);
    let frames = world.says();
    let [ClientFrame::Commit(first), ClientFrame::Commit(second)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((first.transaction.number(), second.transaction.number()), (1, 2));
    assert_eq!(second.transaction.first_unsettled(), 1);
    world.hears(committed(first.request, true));
    assert!(outcome(&mut world).unwrap(), "recognised");
    world.hears(committed(second.request, false));
    assert!(!outcome(&mut world).unwrap(), "it had not arrived");
}

#[test]
fn what_settles_deliveries_of_a_lost_connection_is_resolved() {
    for is_committed in [true, false] {
        let (mut world, _mailbox) = with_deliveries();
        let settles = wanted(&world, &[(1, 0, 1)]);
        world.session.commit(settles, 2);
        commit(&mut world);
        reconnect(&mut world);
        let frames = world.says();
        let [ClientFrame::Resolve(resolve), ClientFrame::Consume(_)] = &frames[..] else {
            panic!("{frames:?}")
        };
        let request = resolve.request;
        if is_committed {
            world.hears(committed(request, true));
            assert!(outcome(&mut world).unwrap());
        } else {
            world.hears(failed(request, FaultCode::TransactionRolledBack));
            assert!(matches!(outcome(&mut world), Err(Error::RolledBack(_))));
        }
    }
}

#[test]
fn a_refusal_of_one_in_doubt_is_believed_only_if_it_is_remembered() {
    let mut world = World::up();
    let one = wanted(&world, &[]);
    world.session.commit(one, 1);
    commit(&mut world);
    reconnect(&mut world);
    let (request, ..) = commit(&mut world);
    world.hears(failed(request, FaultCode::DiskLow));
    assert!(world.answers().is_empty(), "the first copy may be committed");
    let (request, number, _) = resolve(&mut world);
    assert_eq!(number, 1);
    // The question is not remembered either: asked again, by the next connection too.
    world.hears(failed(request, FaultCode::ShuttingDown));
    assert!(world.says().is_empty());
    world.now = world.session.next_deadline().unwrap();
    world.session.tick(world.now).unwrap();
    resolve(&mut world);
    reconnect(&mut world);
    let (request, ..) = resolve(&mut world);
    world.hears(failed(request, FaultCode::TransactionRolledBack));
    // As it is remembered, with the reason.
    let error = outcome(&mut world).unwrap_err();
    assert!(matches!(error, Error::RolledBack(_)), "{error}");
    assert!(error.to_string().contains("nearly full"), "{error}");
}

#[test]
fn a_consumer_that_was_lost_takes_its_deliveries_transaction_with_it() {
    let (mut world, mailbox) = with_deliveries();
    let settles = wanted(&world, &[(1, 0, 1)]);
    lock_mailbox(&mailbox).lose_session();
    world.session.commit(settles, 2);
    assert!(world.says().is_empty());
    assert!(matches!(outcome(&mut world), Err(Error::RolledBack(_))));
}

#[test]
fn what_never_left_uses_no_number_up() {
    let mut world = World::up();
    let open = wanted(&world, &[]);
    reconnect(&mut world);
    world.session.commit(open, 1);
    outcome(&mut world).unwrap_err();
    let first = wanted(&world, &[]);
    world.session.commit(first, 2);
    let (request, number, _) = commit(&mut world);
    assert_eq!(number, 1);
    // Refused, it has one.
    world.hears(failed(request, FaultCode::DiskLow));
    outcome(&mut world).unwrap_err();
    let second = wanted(&world, &[]);
    world.session.commit(second, 3);
    assert_eq!(commit(&mut world).1, 2);
    assert_eq!(world.numbers.last(), 2);
}

#[test]
fn an_older_broker_is_not_asked() {
    let mut world = World::new();
    world.version = 1;
    world.connect();
    let one = wanted(&world, &[]);
    world.session.commit(one, 1);
    assert!(world.says().is_empty());
    assert_eq!(outcome(&mut world).unwrap_err().code(), Some(FaultCode::UnsupportedVersion));
}

#[test]
fn the_end_of_the_client_says_what_can_be_said() {
    let mut world = World::new();
    let waiting = wanted(&world, &[]);
    world.session.commit(waiting, 1);
    world.session.end(&Error::Closed);
    assert!(matches!(outcome(&mut world), Err(Error::Closed)), "it was never sent");
    let mut world = World::up();
    let sent = wanted(&world, &[]);
    world.session.commit(sent, 1);
    commit(&mut world);
    world.session.end(&Error::Closed);
    assert!(outcome(&mut world).unwrap_err().is_outcome_unknown());
    let mut world = World::up();
    let cut = wanted(&world, &[]);
    world.session.commit(cut, 1);
    commit(&mut world);
    world.disconnect();
    world.session.end(&Error::Closed);
    assert!(outcome(&mut world).unwrap_err().is_outcome_unknown());
}
