//! Small worlds of one broker.

use quorate_store::ids::{RunId, StoreId};
use uuid::Uuid;

use super::peers::{Linked, Peers};
use crate::io::{PeerIdentity, PeerKey};

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
    assert_eq!(peers.unlinked(copy.key), None);
    assert!(peers.is_linked(original.key.store));
    assert!(peers.take_rival(original.key.store).is_none());
}

#[test]
fn a_restarted_broker_takes_its_place_once_its_former_run_is_gone() {
    let mut peers = Peers::default();
    let (before, after) = (run(1, 1), run(1, 2));
    peers.linked(before.clone());
    assert_eq!(peers.linked(after.clone()), Linked::Rival);
    assert_eq!(peers.unlinked(before.key), Some(before));
    let (identity, status) = peers.take_rival(after.key.store).expect("it waits");
    assert_eq!((identity.key, status), (after.key, None));
    assert_eq!(peers.linked(identity), Linked::Gained);
    assert!(peers.counts(after.key));
}
