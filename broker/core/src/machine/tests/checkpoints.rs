//! Checkpoints, restoring, spilling.

use proptest::prelude::*;

use super::model::{World, steps};
use super::*;

/// Everything that a restored machine must have in common with the one that was checkpointed.
fn assert_same(restored: &mut VhostMachine, machine: &mut VhostMachine) {
    assert_eq!(restored.digest(), machine.digest());
    assert_eq!(restored.live(), machine.live());
    for queue in machine.queues() {
        let other = restored.queue(queue.id()).unwrap();
        assert!(queue.live_from(0).eq(other.live_from(0)), "{}", queue.name());
        assert_eq!(queue.bytes(), other.bytes());
    }
    assert_eq!(restored.lowest_unspilled(), machine.lowest_unspilled());
}

/// The log must keep everything from the lowest body that only it has.
fn assert_lowest(machine: &mut VhostMachine) {
    let slots = machine.queues().flat_map(|queue| queue.live_from(0)).map(|(_, slot)| slot);
    let lowest = slots.filter(|slot| !slot.spilled).map(|slot| slot.index).min();
    assert_eq!(machine.lowest_unspilled(), lowest);
}

fn spill_up_to(replica: &mut Replica, up_to: Index, limit: usize) -> usize {
    let (mut resume, mut spilled) = (None, 0);
    loop {
        let (candidates, next) = replica.machine.spill_candidates(up_to, resume, limit);
        assert!(candidates.len() <= limit);
        for Candidate { queue, seq, slot } in candidates {
            assert!(slot.index <= up_to && !slot.spilled);
            let text = replica.text(&slot);
            assert!(replica.machine.mark_spilled(queue, seq, text.into()));
            assert!(!replica.machine.mark_spilled(queue, seq, Bytes::new()));
            spilled += 1;
        }
        if next.is_none() {
            return spilled;
        }
        assert_ne!(resume, next);
        resume = next;
    }
}

/// The spilled bodies that are kept are those of the live messages that say so.
fn assert_bodies(replica: &Replica, kept: &Kept) {
    let mut bodies = BTreeMap::new();
    for queue in replica.machine.queues() {
        for (seq, slot) in queue.live_from(0).filter(|(_, slot)| slot.spilled) {
            bodies.insert(body_key(GROUP, queue.id(), seq), Bytes::from(replica.text(&slot)));
        }
    }
    assert_eq!(kept.pairs(Family::Body), bodies.into_iter().collect::<Vec<_>>());
}

#[test]
fn an_idle_machine_writes_only_the_replicas_record_and_its_own() {
    let mut replica = Replica::new();
    replica.apply(&[declare("q", 0), batch(1, 1, 1, ("", "q"), 1000)]);
    assert_eq!(replica.machine.checkpoint(GROUP, Bytes::new()).writes.len(), 2 + 1 + 4 + 1);
    assert_eq!(replica.machine.checkpoint(GROUP, Bytes::new()).writes.len(), 2);
    replica.one(Command::Ack { queue: QueueId(1), ranges: vec![range(300, 300)] });
    let writes = replica.machine.checkpoint(GROUP, Bytes::new()).writes;
    assert_eq!(writes.len(), 2 + 1);
    replica.one(Command::Ack { queue: QueueId(1), ranges: vec![range(256, 511)] });
    let writes = replica.machine.checkpoint(GROUP, Bytes::new()).writes;
    assert!(matches!(&writes[2..], [StateWrite::Delete(Family::State, key)] if key[4] == 3), "{writes:?}");
}

#[test]
fn a_body_goes_out_with_the_slot_that_says_so_and_goes_when_it_dies() {
    let mut replica = Replica::new();
    let mut kept = Kept::default();
    replica.apply(&[declare("q", 0)]);
    let first = replica.next_index();
    replica.apply(&[batch(1, 1, 1, ("", "q"), 3)]);
    replica.apply(&[batch(1, 4, 4, ("", "q"), 1)]);
    let queue = replica.id("q");
    assert_eq!(replica.machine.lowest_unspilled(), Some(first));
    assert_eq!(spill_up_to(&mut replica, first, 2), 3);
    // Until the checkpoint is made, the bodies are those in the log.
    assert!(!replica.machine.message_at(queue, 1).unwrap().spilled);
    assert_eq!(replica.machine.lowest_unspilled(), Some(first));
    replica.one(Command::Ack { queue, ranges: vec![range(2, 2)] });
    kept.write(replica.machine.checkpoint(GROUP, Bytes::new()));
    assert!(replica.machine.message_at(queue, 1).unwrap().spilled);
    assert_eq!(replica.machine.lowest_unspilled(), Some(first.next()));
    assert_bodies(&replica, &kept);
    assert_eq!(kept.pairs(Family::Body).len(), 2);
    assert_same(&mut kept.restore().unwrap().1, &mut replica.machine);
    replica.one(Command::Ack { queue, ranges: vec![range(1, 1)] });
    assert_eq!(kept.pairs(Family::Body).len(), 2);
    kept.write(replica.machine.checkpoint(GROUP, Bytes::new()));
    assert_bodies(&replica, &kept);
    replica.one(Command::DeleteQueue { name: queue_name("q"), if_empty: false });
    assert_eq!(replica.machine.lowest_unspilled(), None);
    kept.write(replica.machine.checkpoint(GROUP, Bytes::new()));
    assert!(kept.pairs(Family::Body).is_empty());
    assert_eq!(kept.pairs(Family::State).len(), 3);
}

#[test]
fn the_lowest_entry_is_that_of_whichever_queue_needs_it() {
    let mut replica = Replica::new();
    replica.apply(&[declare("a", 0), declare("b", 0)]);
    for number in 1..=3 {
        replica.apply(&[batch(1, number, number, ("", "a"), 1)]);
        replica.apply(&[batch(2, number, number, ("", "b"), 1)]);
    }
    assert_eq!(replica.machine.lowest_unspilled(), Some(Index(2)));
    // Of `a` only the last is left, of `b` all: now `b` holds the log back.
    replica.one(Command::Ack { queue: replica.id("a"), ranges: vec![range(1, 2)] });
    assert_eq!(replica.machine.lowest_unspilled(), Some(Index(3)));
    assert_lowest(&mut replica.machine);
    replica.one(Command::PurgeQueue { name: queue_name("b"), except: vec![] });
    assert_eq!(replica.machine.lowest_unspilled(), Some(Index(6)));
}

#[test]
fn the_search_for_bodies_is_bounded_and_goes_on() {
    let mut replica = Replica::new();
    replica.apply(&[declare("a", 0), declare("b", 0)]);
    replica.apply(&[batch(1, 1, 1, ("", "a"), 20_000), batch(2, 1, 1, ("", "b"), 2)]);
    let up_to = replica.next_index();
    let (first, resume) = replica.machine.spill_candidates(up_to, None, usize::MAX);
    assert!(first.len() < 20_000 && resume.is_some());
    assert_eq!(spill_up_to(&mut replica, up_to, 1_000), 20_002);
    assert_eq!(replica.machine.spill_candidates(Index(0), None, 10), (Vec::new(), None));
}

#[test]
fn exported_records_need_no_log() {
    let mut replica = Replica::new();
    let mut kept = Kept::default();
    replica.apply(&[declare("q", 0), batch(1, 1, 1, ("", "q"), 300)]);
    kept.write(replica.machine.checkpoint(GROUP, Bytes::from_static(b"meta")));
    let mut bodies = Vec::new();
    let mut copy = Kept::default();
    for (key, value) in kept.pairs(Family::State) {
        let exported = export_state(&key, value).unwrap();
        bodies.extend(exported.unspilled);
        copy.0.insert((Family::State, key), exported.value);
    }
    let expected: Vec<_> = replica.machine.queue_named("q").unwrap().live_from(0).collect();
    assert!(bodies.iter().map(|&(_, seq, slot)| (seq, slot)).eq(expected));
    let (meta, mut restored) = copy.restore().unwrap();
    assert_eq!((&meta[..], restored.lowest_unspilled()), (&b"meta"[..], None));
    assert_eq!(restored.digest(), replica.machine.digest());
}

#[test]
fn keys_of_bodies_come_back_and_lie_within_their_group() {
    let key = body_key(GROUP, QueueId(3), 258);
    assert_eq!(&key[..], [0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(parse_body_key(GROUP, &key), Some((QueueId(3), 258)));
    assert_eq!(parse_body_key(GroupId(8), &key), None);
    assert_eq!(parse_body_key(GROUP, &key[..15]), None);
    let (from, to) = group_keys(GROUP);
    assert!(from <= key && key < to && to <= body_key(GroupId(8), QueueId(0), 0));
}

#[test]
fn records_out_of_place_are_refused() {
    let mut replica = Replica::new();
    let mut kept = Kept::default();
    replica.apply(&[
        declare("q", 0),
        declare_exchange("e", ExchangeKind::Direct),
        Command::Bind(binding("e", "q", "k")),
        batch(1, 1, 1, ("", "q"), 1),
    ]);
    kept.write(replica.machine.checkpoint(GROUP, Bytes::new()));
    let pairs = kept.pairs(Family::State);
    assert_eq!(pairs.len(), 7);
    for left_out in 0..pairs.len() {
        let mut rest = pairs.clone();
        let (key, _) = rest.remove(left_out);
        // A chunk or a producer that is lost cannot be missed; all the others can.
        let restored = VhostMachine::restore(GROUP, rest);
        assert_eq!(restored.is_ok(), matches!(key[4], 3 | 5 | 6), "kind {}", key[4]);
    }
    assert!(VhostMachine::restore(GroupId(8), pairs).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_restored_machine_goes_on_as_the_one_it_was(
        steps in steps(),
        more in steps(),
        every in 1..20_usize,
        spills in any::<u64>(),
    ) {
        let mut world = World::new();
        let mut kept = Kept::default();
        for (number, step) in steps.iter().enumerate() {
            world.step(step);
            if number % 3 == 0 {
                assert_lowest(&mut world.replica.machine);
            }
            if spills >> (number % 64) & 1 == 1 {
                let up_to = Index(world.replica.next_index().0.saturating_sub(3));
                spill_up_to(&mut world.replica, up_to, 40);
            }
            if number % every == 0 {
                kept.write(world.replica.machine.checkpoint(GROUP, number.to_le_bytes().to_vec().into()));
                assert_bodies(&world.replica, &kept);
                let (meta, mut restored) = kept.restore().unwrap();
                prop_assert_eq!(&meta[..], number.to_le_bytes());
                assert_same(&mut restored, &mut world.replica.machine);
            }
        }
        kept.write(world.replica.machine.checkpoint(GROUP, Bytes::new()));
        world.replica.machine = kept.restore().unwrap().1;
        world.check();
        for step in &more {
            world.step(step);
        }
        world.check();
        kept.write(world.replica.machine.checkpoint(GROUP, Bytes::new()));
        assert_bodies(&world.replica, &kept);
        assert_same(&mut kept.restore().unwrap().1, &mut world.replica.machine);
    }

    /// A crash takes whole batches from the end: the log from the checkpoint on, applied again, gives the same.
    #[test]
    fn the_log_after_a_checkpoint_gives_the_same_again(steps in steps(), at in 0..40_usize) {
        let mut world = World::new();
        let mut kept = Kept::default();
        let mut applied = Index(0);
        kept.write(world.replica.machine.checkpoint(GROUP, Bytes::new()));
        for (number, step) in steps.iter().enumerate() {
            world.step(step);
            if number == at {
                applied = Index(world.replica.next_index().0 - 1);
                kept.write(world.replica.machine.checkpoint(GROUP, Bytes::new()));
            }
        }
        let (_, mut again) = kept.restore().unwrap();
        for (index, data) in world.replica.log.range(applied.next()..) {
            again.apply(*index, data);
        }
        assert_same(&mut again, &mut world.replica.machine);
    }

    #[test]
    fn damaged_checkpoints_never_panic(
        steps in steps(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        more in prop::collection::vec((0..5_u32, 0..600_u64, any::<u64>()), 0..3),
    ) {
        let mut world = World::new();
        let mut kept = Kept::default();
        for step in &steps {
            world.step(step);
        }
        kept.write(world.replica.machine.checkpoint(GROUP, Bytes::from_static(b"m")));
        let mut pairs = kept.pairs(Family::State);
        for (pair, at, bits, in_key) in damage {
            let number = pair.index(pairs.len());
            let (key, value) = pairs[number].clone();
            let mut bytes = if in_key { key.to_vec() } else { value.to_vec() };
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            pairs[number] = if in_key { (bytes.into(), value) } else { (key, bytes.into()) };
        }
        for (key, value) in &pairs {
            let _ = export_state(key, value.clone());
        }
        let Ok((_, mut machine)) = VhostMachine::restore(GROUP, pairs) else { return Ok(()) };
        machine.lowest_unspilled();
        machine.checkpoint(GROUP, Bytes::new());
        let index = Index(u64::MAX);
        for (queue, first, more) in more {
            let ranges = vec![range(first, first.saturating_add(more))];
            let mut data = Vec::new();
            Command::Ack { queue: QueueId(queue), ranges }.encode(&mut data);
            batch(1, 1, 1, ("", "q0"), 3).encode(&mut data);
            machine.apply(index, &data.into());
        }
        let live: u64 = machine.queues().map(Queue::live).sum();
        prop_assert_eq!(machine.live(), live);
    }
}
