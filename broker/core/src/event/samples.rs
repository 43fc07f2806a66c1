//! One event of each code, to test with and for the reference page.

use std::collections::BTreeMap;

use quorate_store::ids::{Epoch, Index, Position, RunId, StoreId, Term};
use uuid::Uuid;

use super::Event;
use crate::io::PeerKey;

/// One event of each code, in the table's order.
pub fn one_of_each() -> Vec<Event> {
    let vhost = || "orders".to_owned();
    let member = || "b2".to_owned();
    let peer = PeerKey { store: StoreId(Uuid::from_u128(2)), run: RunId(Uuid::from_u128(3)) };
    vec![
        Event::NodeCreated { vhost: vhost() },
        Event::NodeDeleted { vhost: vhost() },
        Event::MemberAdded { vhost: vhost(), member: member(), voter: true },
        Event::MemberRemoved { vhost: vhost(), member: member() },
        Event::ContactGained { member: member(), peer },
        Event::ContactLost { member: member(), peer },
        Event::TransferRequested { vhost: vhost(), to: member(), who: "ann from 127.0.0.1:40000".to_owned() },
        Event::IntruderRefused {
            member: "b9".to_owned(),
            address: "h9:7421".to_owned(),
            why: "the list of permitted nodes names neither its name nor its store nor its address"
                .to_owned(),
        },
        Event::QuorumLost { vhost: vhost(), present: 1, needed: 2 },
        Event::RoleChanged { vhost: vhost(), old: "replica", new: "leader", term: Term(7) },
        Event::RequiredNodesChanged { vhost: vhost(), before: 0, after: 3 },
        Event::PriorityChanged { vhost: vhost(), member: member(), before: 1, after: 3 },
        Event::DesignatedPrimaryChanged { vhost: vhost(), before: None, after: Some(member()) },
        Event::Diverged {
            vhost: vhost(),
            fork: Position { epoch: Epoch(1), term: Term(4), index: Index(90_210) },
            entries: 12,
            queues: BTreeMap::from([("new".to_owned(), 3), ("paid".to_owned(), 5)]),
            loss: "66c01d2e-1-1.4.90210".to_owned(),
        },
        Event::AttributeUpdated {
            vhost: vhost(),
            attribute: "durability",
            before: "sync,sync".to_owned(),
            after: "sync,no-sync".to_owned(),
        },
        Event::Panicked {
            text: "its safety number is 49ac01feb2d03c11, and the process with run 00000000-0000-0000-0000-000000000004 and \
                   incarnation 7, which wrote the stamp of this very store, has 5be0a7d11290ffe3; likely cause: the directory is \
                   mounted twice, or the lock was removed or does not work on this file system"
                .to_owned(),
            next: vec![
                "quorate cluster panic show".to_owned(),
                "quorate cluster panic clear --confirm 0198c0de-0000-7000-8000-000000000001".to_owned(),
            ],
        },
        Event::StoreTwice {
            store: peer.store,
            member: member(),
            why: "another process with it is linked already; if this one is of a copy of the data directory, stop it".to_owned(),
        },
        Event::OlderCopy {
            store: peer.store,
            member: member(),
            why: "it tells incarnation 4, and incarnation 7 with all that it acknowledged is known here".to_owned(),
        },
    ]
}
