//! Small worlds of one broker.

mod safety;

use quorate_store::ids::{GroupId, Incarnation, RaftId, RunId, StoreId};
use quorate_store::panic::PanicFound;
use quorate_store::stamp::{Stamp, StampState};
use uuid::Uuid;

use super::Node;
use super::config::NodeConfig;
use super::members::ailments;
use super::peers::{Linked, Peers, Unlinked};
use crate::admin::{AdminReply, AdminRequest, Status};
use crate::formation::InitialStatus;
use crate::formation::samples;
use crate::formation::status::RecoveryMode;
use crate::io::{AdminId, Found, FoundStamp, Input, Output, PeerIdentity, PeerKey, Tick};
use crate::peer::PeerMessage;
use crate::replica::Timing;

fn run(store: u128, run: u128) -> PeerIdentity {
    PeerIdentity {
        key: PeerKey { store: StoreId(Uuid::from_u128(store)), run: RunId(Uuid::from_u128(run)) },
        name: "b".into(),
        cluster_address: format!("h:{run}"),
        client_address: String::new(),
        admin_address: String::new(),
        transient: false,
    }
}

#[test]
fn a_copy_counts_for_nothing_while_the_run_that_was_there_first_is_linked() {
    let mut peers = Peers::default();
    let (original, copy) = (run(1, 1), run(1, 2));
    assert_eq!(peers.linked(original.clone()), Linked::Gained);
    assert_eq!(peers.linked(copy.clone()), Linked::Rival);
    assert!(peers.counts(original.key));
    assert!(!peers.counts(copy.key));
    assert_eq!(peers.key(original.key.store), Some(original.key));
    // The copy goes: nothing has happened to the original.
    assert_eq!(peers.unlinked(copy.key), Unlinked::Rival);
    assert_eq!(peers.unlinked(copy.key), Unlinked::Unknown);
    assert!(peers.is_linked(original.key.store));
    assert!(peers.take_rival(original.key.store).is_none());
}

#[test]
fn a_restarted_broker_takes_its_place_once_its_former_run_is_gone() {
    let mut peers = Peers::default();
    let (before, after) = (run(1, 1), run(1, 2));
    peers.linked(before.clone());
    assert_eq!(peers.linked(after.clone()), Linked::Rival);
    assert_eq!(peers.unlinked(before.key), Unlinked::Lost(before));
    let (identity, status) = peers.take_rival(after.key.store).expect("it waits");
    assert_eq!((identity.key, status), (after.key, None));
    assert_eq!(peers.linked(identity), Linked::Gained);
    assert!(peers.counts(after.key));
}

#[test]
fn of_several_copies_none_is_forgotten() {
    let mut peers = Peers::default();
    let all = [1, 2, 3].map(|number| run(1, number));
    let expected = [Linked::Gained, Linked::Rival, Linked::Rival];
    assert_eq!(all.clone().map(|one| peers.linked(one)), expected);
    assert_eq!(peers.all_reached().collect::<Vec<_>>(), all.clone().map(|one| one.key), "all are told");
    assert_eq!(peers.rivalled(), [all[0].key]);
    peers.unlinked(all[2].key);
    assert_eq!(peers.rivalled(), [all[0].key], "there is one left");
    peers.unlinked(all[0].key);
    let (second, _) = peers.take_rival(all[0].key.store).expect("it waits");
    assert_eq!((second.key, peers.linked(second)), (all[1].key, Linked::Gained));
    assert_eq!((peers.rivalled(), peers.take_rival(all[0].key.store).is_none()), (Vec::new(), true));
}

#[test]
fn who_was_started_over_another_members_store_is_in_nobodys_way() {
    let mut peers = Peers::default();
    let status = |peer: &PeerIdentity, name: &str| InitialStatus {
        key: peer.key,
        name: name.into(),
        ..samples::dirty(1)
    };
    let (own, copy) = (run(1, 1), run(1, 2));
    let store = samples::store(1);
    let [own, copy] = [own, copy].map(|one| PeerIdentity { key: PeerKey { store, ..one.key }, ..one });
    peers.linked(own.clone());
    peers.set_status(own.key, status(&own, "a"));
    assert_eq!(peers.linked(copy.clone()), Linked::Rival);
    assert_eq!(peers.rivalled(), [own.key], "it may be any copy");
    assert!(peers.set_status(copy.key, status(&copy, "b")), "this is news");
    assert_eq!(peers.rivalled(), []);
    assert!(!peers.counts(copy.key));
    peers.set_status(copy.key, status(&copy, "a"));
    assert_eq!(peers.rivalled(), [own.key]);
}

/// A broker with this stamp that lists one peer, and may found alone.
fn lone_node(stamp: FoundStamp) -> Node {
    lone_node_after(stamp, PanicFound::None)
}

/// The same after this.
fn lone_node_after(stamp: FoundStamp, panic: PanicFound) -> Node {
    let config = NodeConfig {
        name: "a".into(),
        cluster_name: "quorate".into(),
        peers: vec!["a:7421".into(), "b:7421".into()],
        wait_for: 1,
        allow_small: true,
        recovery: RecoveryMode::Automatic,
        cluster_id_wanted: None,
        client_address: "a:7420".into(),
        cluster_address: "a:7421".into(),
        admin_address: "a:7422".into(),
        tick_zero_ms: 0,
        timing: Timing::new(100, 1000),
        stamp_interval_millis: 5000,
        safety_interval_millis: 1000,
        unsynced_max_entries: 1000,
        unsynced_max_millis: 100,
        update_rate: 0,
        frame_limit: 1 << 20,
        message_limit: 1 << 20,
    };
    let key = samples::empty(1).key;
    let found = Found {
        run: key.run,
        store: key.store,
        stamp,
        groups: Vec::new(),
        log_bytes: 0,
        same_boot: true,
        panic,
    };
    Node::new(config, found, 1, Tick(0))
}

/// Lets everything happen that happens without an answer, for this long; true if something was to be written.
fn writes(node: &mut Node, from: u64, millis: u64) -> bool {
    let mut wrote = false;
    for now in from..from + millis {
        node.handle(Tick(now), Input::Tick);
        while let Some(output) = node.poll() {
            wrote |= matches!(output, Output::WriteStamp { .. });
        }
    }
    wrote
}

fn status(node: &mut Node) -> Status {
    node.handle(Tick(0), Input::Admin { id: AdminId(1), request: AdminRequest::Status });
    let mut reply = None;
    while let Some(output) = node.poll() {
        if let Output::AdminReply { reply: AdminReply::Status(status), .. } = output {
            reply = Some(*status);
        }
    }
    reply.expect("a status is answered at once")
}

fn link(node: &mut Node, peer: &InitialStatus) {
    let identity = PeerIdentity {
        key: peer.key,
        name: peer.name.clone(),
        cluster_address: peer.cluster_address.clone(),
        client_address: peer.client_address.clone(),
        admin_address: peer.admin_address.clone(),
        transient: peer.is_transient(),
    };
    node.handle(Tick(0), Input::PeerLinked { peer: identity, dialed: peer.cluster_address.clone() });
}

fn told(node: &mut Node, peer: &InitialStatus) {
    let message = PeerMessage::Status(Box::new(peer.clone()));
    node.handle(Tick(0), Input::PeerMessage { from: peer.key, message });
}

#[test]
fn a_broker_goes_on_all_by_itself_only_after_it_has_looked_around() {
    let mut node = lone_node(FoundStamp::Empty);
    assert!(!writes(&mut node, 0, 5000), "nobody has answered yet, and nobody has failed to");
    assert!(status(&mut node).notes.iter().any(|note| note == "b:7421 was not tried yet"));
    node.handle(Tick(5000), Input::PeerFailed { dialed: "b:7421".into(), refused: None });
    assert!(writes(&mut node, 5000, 5000), "now it founds");

    // A link is no answer yet: what the peer says is.
    let mut node = lone_node(FoundStamp::Empty);
    let peer = samples::active(2);
    link(&mut node, &peer);
    assert!(!writes(&mut node, 0, 5000));
    told(&mut node, &peer);
    assert!(!writes(&mut node, 5000, 5000), "it joins the cluster that it met");
    assert_eq!(status(&mut node).row, "J1");

    // It was not to be reached before, and dialed this broker itself.
    let mut node = lone_node(FoundStamp::Empty);
    node.handle(Tick(0), Input::PeerFailed { dialed: "b:7421".into(), refused: None });
    link(&mut node, &peer);
    assert!(!writes(&mut node, 0, 5000));
    told(&mut node, &peer);
    assert!(!writes(&mut node, 5000, 5000), "it joins the cluster that it met");

    // It went before it said anything.
    let mut node = lone_node(FoundStamp::Empty);
    link(&mut node, &peer);
    node.handle(Tick(0), Input::PeerUnlinked { peer: peer.key });
    assert!(writes(&mut node, 0, 5000));
}

#[test]
fn a_refused_link_is_in_the_status_until_there_is_one() {
    let mut node = lone_node(FoundStamp::Empty);
    let why = "broker b is of cluster `other`, broker a of `quorate`\n";
    node.handle(Tick(0), Input::PeerFailed { dialed: "b:7421".into(), refused: Some(why.into()) });
    let shown = status(&mut node).notes;
    assert!(
        shown.contains(&format!("the peer at b:7421 is not linked: {}", why.replace('\n', " "))),
        "{shown:?}"
    );
    link(&mut node, &samples::empty(2));
    assert!(!status(&mut node).notes.iter().any(|note| note.contains("not linked")));
}

#[test]
fn refusals_are_bounded_and_the_last_word_of_an_address_counts() {
    let mut peers = Peers::default();
    for number in 0..100 {
        peers.failed(&format!("h{number}:1"), Some("x".repeat(10_000)));
    }
    assert_eq!(peers.refusals().count(), 16);
    assert!(peers.refusals().all(|(_, why)| why.chars().count() <= 301));
    assert!(!peers.failed("h0:1", Some("x".repeat(10_000))), "no news");
    assert!(peers.failed("h0:1", None), "nobody is there to refuse any more");
    assert_eq!(peers.refusals().count(), 15);
}

#[test]
fn a_damaged_broker_shows_all_members_that_it_hears_of() {
    let mut node = lone_node(FoundStamp::Damaged { reason: "both slots".into(), incarnation: None });
    let peer = samples::active(2);
    link(&mut node, &peer);
    told(&mut node, &peer);
    let members = status(&mut node).members;
    let shown: Vec<_> = members
        .iter()
        .map(|member| (member.name.as_str(), member.state, member.present, member.voter))
        .collect();
    assert_eq!(
        shown,
        [("a", "damaged", true, true), ("b", "dirty", true, true), ("c", "unknown", false, true)]
    );
    assert_eq!(members[1].client_address, "b:7420");
    // What the cluster's status says of such members.
    let notes: Vec<String> = ailments(&members).map(|ailment| ailment.note).collect();
    assert_eq!(notes, ["the store of the voter a is damaged; it does not count", "the voter c is missing"]);
    assert!(
        ailments(&members).all(|ailment| ailment.commands.iter().any(|next| next.contains("member replace")))
    );
}

/// Lets a broker go on over a disk that holds nothing but the stamp. Ends before the first stamp that says dirty is
/// written, if it is to; gives that one, and whether the first state of a group was written.
fn lives(node: &mut Node, from: u64, millis: u64, ends_at_dirty: bool) -> (Option<Stamp>, bool) {
    let mut made = false;
    for now in from..from + millis {
        node.handle(Tick(now), Input::Tick);
        while let Some(output) = node.poll() {
            let done = match output {
                Output::WriteStamp { stamp, .. } if ends_at_dirty && stamp.state == StampState::Dirty => {
                    return (Some(*stamp), made);
                }
                Output::WriteStamp { ticket, .. } => Input::Persisted { ticket },
                Output::Scan { ticket, .. } => Input::Scanned { ticket, pairs: Vec::new(), complete: true },
                Output::WriteState { .. } => {
                    made = true;
                    continue;
                }
                _ => continue,
            };
            node.handle(Tick(now), done);
        }
    }
    (None, made)
}

/// As [`lives`], all by itself.
fn goes_on(node: &mut Node, ends_at_dirty: bool) -> (Option<Stamp>, bool) {
    node.handle(Tick(0), Input::PeerFailed { dialed: "b:7421".into(), refused: None });
    lives(node, 0, 2000, ends_at_dirty)
}

#[test]
fn nobody_goes_on_beside_a_few_while_another_one_is_about_to_say_what_it_is() {
    let (dirty, _) = goes_on(&mut lone_node(FoundStamp::Empty), true);
    let dirty = dirty.expect("it founds");
    let stamp = || FoundStamp::Stamp(Box::new(dirty.clone()));
    let begins = |node: &mut Node, from| lives(node, from, 1900, false).1;

    // Somebody else is here at once, and the configured peer has not ended its handshake: its word is waited for, also by
    // a store that was founded by one and could decide that again all alone.
    let mut node = lone_node(stamp());
    let newcomer = samples::empty(3);
    link(&mut node, &newcomer);
    told(&mut node, &newcomer);
    assert!(!begins(&mut node, 0));
    // Not for ever, though nothing more happens: a host without power answers nothing at all.
    assert!(begins(&mut node, 1900));

    // Linked is no word yet; with it, what it says counts, and nothing more is waited for.
    let mut node = lone_node(stamp());
    link(&mut node, &newcomer);
    told(&mut node, &newcomer);
    let peer = samples::empty(2);
    link(&mut node, &peer);
    assert!(!begins(&mut node, 0));
    told(&mut node, &peer);
    assert!(lives(&mut node, 1900, 50, false).1);
}

#[test]
fn nobody_hears_of_a_life_before_it_is_durable() {
    let mut node = lone_node(FoundStamp::Empty);
    node.handle(Tick(0), Input::PeerFailed { dialed: "b:7421".into(), refused: None });
    let mut dirty = None;
    for now in 0..2000 {
        node.handle(Tick(now), Input::Tick);
        while let Some(output) = node.poll() {
            match output {
                Output::WriteStamp { ticket, stamp } if stamp.state == StampState::Dirty => {
                    dirty.get_or_insert((ticket, stamp.incarnation));
                }
                Output::WriteStamp { ticket, .. } => node.handle(Tick(now), Input::Persisted { ticket }),
                _ => {}
            }
        }
    }
    // Should the power fail now, the next process begins this very incarnation, as another run.
    let (ticket, begun) = dirty.expect("it begins");
    assert!(node.own_status().incarnation < begun);
    node.handle(Tick(2000), Input::Persisted { ticket });
    assert_eq!(node.own_status().incarnation, begun);
}

#[test]
fn killed_between_dirty_and_its_first_state_a_founder_goes_on_with_what_was_agreed() {
    let (dirty, made) = goes_on(&mut lone_node(FoundStamp::Empty), true);
    let dirty = dirty.expect("it says that it begins");
    assert!(!made, "and ends before its groups are made");

    let mut again = lone_node(FoundStamp::Stamp(Box::new(dirty.clone())));
    assert!(goes_on(&mut again, false).1, "its groups are made: {}", status(&mut again).reason);
    assert_eq!(status(&mut again).cluster_id, dirty.cluster_id);

    // Not so a store that was admitted: what it is comes from others.
    let admitted = Stamp { forming: None, ..dirty };
    assert!(!goes_on(&mut lone_node(FoundStamp::Stamp(Box::new(admitted))), false).1);
}

#[test]
fn only_what_names_this_life_says_that_a_group_is_filled_and_it_is_filled_once_in_a_life() {
    let mut node = lone_node(FoundStamp::Empty);
    assert!(goes_on(&mut node, false).1);
    let (group, own, life) = (GroupId::SYSTEM, node.raft_id.expect("it is a member"), node.incarnation);
    let filled = |node: &mut Node, id: RaftId, life: Incarnation| {
        node.with_group(group, |node, group| node.told_filled(group, id.0, life));
        !node.refilling.contains(&group)
    };
    node.refilling.insert(group);
    assert!(!filled(&mut node, own, Incarnation(life.0 - 1)), "left in the log by an earlier filling");
    assert!(!filled(&mut node, RaftId(own.0 + 1), life), "said of another one");
    node.with_group(group, |_, group| group.stale = true);
    assert!(!filled(&mut node, own, life), "what is here is still to be given up");
    node.with_group(group, |_, group| group.stale = false);
    assert!(filled(&mut node, own, life));

    node.rejoin(group);
    assert!(node.incarnation > life, "what was said of the first filling names another life than the second");
    assert!(!filled(&mut node, own, life));
}

#[test]
fn who_was_started_over_another_members_store_gives_way_to_that_member() {
    let original = samples::dirty(2);
    let mut copy = original.clone();
    copy.key.run = samples::run(9);
    (copy.name, copy.cluster_address) = (samples::name(3), samples::address(3));
    for told_before in [true, false] {
        let mut node = lone_node(FoundStamp::Empty);
        link(&mut node, &copy);
        if told_before {
            told(&mut node, &copy);
        }
        link(&mut node, &original);
        told(&mut node, &original);
        told(&mut node, &copy);
        assert!(node.peers.counts(original.key) && !node.peers.counts(copy.key));
        // Whoever is neither waits for its turn.
        let mut twin = original.clone();
        twin.key.run = samples::run(10);
        link(&mut node, &twin);
        told(&mut node, &twin);
        assert!(node.peers.counts(original.key) && !node.peers.counts(twin.key));
    }
}
