//! What operators want of the membership, until it is so: replicated, so that whoever leads goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::StoreId;

use super::codec::{DecodeError, Reader, Writer};

/// A member that is on its way out of every group, and at last out of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Its store.
    pub store: StoreId,
    /// Another store comes under its name.
    pub replaced: bool,
}

/// A broker that becomes a voter when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where to look for it, or empty.
    pub address: String,
    /// The store whose place it takes, if it was named by replacing a member: what is left of that one is given up.
    pub replaces: Option<StoreId>,
}

/// What is wanted. One member leaves at a time: the next one is judged by what the last one left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// By their names.
    pub(crate) wanted: BTreeMap<String, Wanted>,
    /// Members that may vote because an operator named them.
    pub(crate) named: BTreeSet<StoreId>,
    /// On its way out.
    pub(crate) leaving: Option<Leaving>,
    /// Members that do not lead.
    pub(crate) drained: BTreeSet<StoreId>,
}

impl Intents {
    /// A store is gone for good.
    pub(crate) fn forget(&mut self, store: StoreId) {
        self.named.remove(&store);
        self.drained.remove(&store);
        self.leaving = self.leaving.filter(|leaving| leaving.store != store);
    }

    /// A member of this name is here: if it was waited for, it may vote.
    pub(crate) fn arrived(&mut self, name: &str, store: StoreId) {
        if self.wanted.remove(name).is_some() {
            self.named.insert(store);
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.count(self.wanted.len());
        for (name, wanted) in &self.wanted {
            out.string(name);
            out.string(&wanted.address);
            out.bool(wanted.replaces.is_some());
            if let Some(store) = wanted.replaces {
                out.uuid(store.0);
            }
        }
        for stores in [&self.named, &self.drained] {
            out.count(stores.len());
            for store in stores {
                out.uuid(store.0);
            }
        }
        out.bool(self.leaving.is_some());
        if let Some(leaving) = self.leaving {
            out.uuid(leaving.store.0);
            out.bool(leaving.replaced);
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut intents = Self::default();
        for _ in 0..reader.count(4)? {
            let name = reader.string()?;
            let address = reader.string()?;
            let is_replacing = reader.bool("replaces present")?;
            let replaces = is_replacing.then(|| reader.uuid().map(StoreId)).transpose()?;
            intents.wanted.insert(name, Wanted { address, replaces });
        }
        for stores in [&mut intents.named, &mut intents.drained] {
            for _ in 0..reader.count(16)? {
                stores.insert(StoreId(reader.uuid()?));
            }
        }
        if reader.bool("leaving present")? {
            let store = StoreId(reader.uuid()?);
            intents.leaving = Some(Leaving { store, replaced: reader.bool("replaced")? });
        }
        Ok(intents)
    }
}
