//! The three column families and their names on disk.

use quorate_store::state::Family;
use rocksdb::{ColumnFamily, DB};

/// Every family, in the order of their names below. More would make each atomic flush dearer.
pub(crate) const ALL: [Family; 3] = [Family::Node, Family::State, Family::Body];

/// The name on disk. `Node` is the family that every RocksDB has, which is called `default`.
pub(crate) const fn name(family: Family) -> &'static str {
    match family {
        Family::Node => "default",
        Family::State => "state",
        Family::Body => "body",
    }
}

/// The engine's handle of a family.
pub(crate) fn handle(db: &DB, family: Family) -> &ColumnFamily {
    db.cf_handle(name(family))
        .expect("a store is only ever opened with all its families, and never drops one")
}
