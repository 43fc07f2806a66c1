//! The founding rule, and what a founding would propose by what is known now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_store::ids::{ClusterId, RaftId, StoreId};

use super::company::Company;
use super::facts::Facts;
use super::forming::{Founder, FoundingValue, Place};
use super::limits::MEMBERS;
use super::status::{InitialStatus, StoreState};

/// Who would found the cluster, and among how many possible members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingPlan {
    /// The configured cluster name.
    pub cluster_name: String,
    /// The members present that may found, ascending by store id; they are the acceptors too.
    pub founders: Vec<Founder>,
    /// The union of their peer lists, each including oneself.
    pub union: Vec<Place>,
    /// Every founder has `--allow-small-cluster`: a majority of the members present decides.
    pub small: bool,
    /// Which store answers at an address, as far as the founders agree on it.
    pub answering: BTreeMap<String, StoreId>,
}

/// Why no founding is possible yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// This broker only joins the cluster of `--cluster-id`.
    OnlyJoins(ClusterId),
    /// This broker's store is not empty.
    NotEmpty,
    /// Fewer founders than `--cluster-wait-for`.
    TooFew {
        /// Brokers that may found.
        present: usize,
        /// How many are waited for.
        wait_for: usize,
        /// Addresses at which nobody who may found answers.
        missing: Vec<String>,
    },
    /// The founders are not more than half of all possible members.
    NotMostOfUnion {
        /// Brokers that may found.
        present: usize,
        /// All possible members.
        union: usize,
        /// Addresses at which nobody who may found answers.
        missing: Vec<String>,
    },
    /// More possible members than [`MEMBERS`].
    TooMany {
        /// All possible members.
        union: usize,
    },
}

impl Unmet {
    /// The addresses at which nobody who may found answers.
    pub fn missing(&self) -> &[String] {
        match self {
            Self::TooFew { missing, .. } | Self::NotMostOfUnion { missing, .. } => missing,
            Self::OnlyJoins(_) | Self::NotEmpty | Self::TooMany { .. } => &[],
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyJoins(id) => {
                write!(
                    f,
                    "this broker was started with --cluster-id {id}: it only joins that cluster, and no member of it is here"
                )
            }
            Self::NotEmpty => f.write_str("this broker already belongs to a cluster"),
            Self::TooFew { present, wait_for, .. } => {
                write!(
                    f,
                    "{present} of the {wait_for} brokers that --cluster-wait-for asks for may found a cluster"
                )
            }
            Self::NotMostOfUnion { present, union, .. } => write!(
                f,
                "{present} brokers are not more than half of the {union} possible members that --cluster-peers list"
            ),
            Self::TooMany { union } => {
                write!(
                    f,
                    "--cluster-peers list {union} possible members in all, more than the limit of {MEMBERS}"
                )
            }
        }
    }
}

impl FoundingPlan {
    /// Applies the founding rule.
    pub fn of(facts: &Facts) -> Result<Self, Unmet> {
        Self::of_company(&Company::of(facts))
    }

    pub(crate) fn of_company(company: &Company<'_>) -> Result<Self, Unmet> {
        let own = company.own();
        if let Some(wanted) = own.cluster_id_wanted {
            return Err(Unmet::OnlyJoins(wanted));
        }
        let founding: Vec<&InitialStatus> =
            company.members().iter().copied().filter(|member| may_found(member)).collect();
        if !founding.iter().any(|member| member.key == own.key) {
            return Err(Unmet::NotEmpty);
        }
        let answering = answering(&founding);
        let union = union(&founding, &answering);
        let small = founding.iter().all(|member| member.allow_small);
        let missing = || absent(&founding, &answering);
        let wait_for = company.wait_for();
        if founding.len() < wait_for {
            return Err(Unmet::TooFew { present: founding.len(), wait_for, missing: missing() });
        }
        if union.len() > MEMBERS || founding.len() > MEMBERS {
            return Err(Unmet::TooMany { union: union.len() });
        }
        if !small && founding.len() <= union.len() / 2 {
            return Err(Unmet::NotMostOfUnion {
                present: founding.len(),
                union: union.len(),
                missing: missing(),
            });
        }
        let founders = (1..)
            .zip(&founding)
            .map(|(number, member)| Founder {
                store: member.key.store,
                raft_id: RaftId(number),
                name: member.name.clone(),
                cluster_address: member.cluster_address.clone(),
                client_address: member.client_address.clone(),
                admin_address: member.admin_address.clone(),
            })
            .collect();
        Ok(Self {
            cluster_name: own.cluster_name.clone(),
            founders,
            union: union.into_iter().collect(),
            small,
            answering,
        })
    }

    /// The value to propose when no earlier one has to be taken over.
    pub fn value(&self, cluster_id: ClusterId) -> FoundingValue {
        FoundingValue {
            cluster_id,
            cluster_name: self.cluster_name.clone(),
            founders: self.founders.clone(),
            union: self.union.clone(),
            small: self.small,
        }
    }
}

/// Whether a broker may found: it belongs to no cluster and does not wait for a certain one.
pub(crate) fn may_found(member: &InitialStatus) -> bool {
    let blank = match member.state {
        StoreState::Empty | StoreState::Forming(_) => true,
        StoreState::Transient { was_active } => !was_active && member.cluster_id.is_none(),
        StoreState::Dirty
        | StoreState::Clean { .. }
        | StoreState::Recovered { .. }
        | StoreState::Damaged { .. } => false,
    };
    blank && member.cluster_id_wanted.is_none()
}

/// Addresses at which exactly one store answers, whoever of the founders reached it. An address that means different
/// stores to different founders (a loopback address, say) names nobody for those who have not reached it.
fn answering(founding: &[&InitialStatus]) -> BTreeMap<String, StoreId> {
    let mut all: BTreeMap<&str, BTreeSet<StoreId>> = BTreeMap::new();
    for peer in founding.iter().flat_map(|member| &member.peers) {
        all.entry(&peer.text).or_default().extend(peer.resolved);
    }
    let single = |stores: BTreeSet<StoreId>| if stores.len() == 1 { stores.first().copied() } else { None };
    all.into_iter().filter_map(|(text, stores)| Some((text.to_owned(), single(stores)?))).collect()
}

fn union(founding: &[&InitialStatus], answering: &BTreeMap<String, StoreId>) -> BTreeSet<Place> {
    let mut union = BTreeSet::new();
    for member in founding {
        union.insert(Place::Store(member.key.store));
        for peer in &member.peers {
            let store = peer.resolved.or_else(|| answering.get(&peer.text).copied());
            union.insert(store.map_or_else(|| Place::Address(peer.text.clone()), Place::Store));
        }
    }
    union
}

/// The configured addresses at which no founder answers, for people.
fn absent(founding: &[&InitialStatus], answering: &BTreeMap<String, StoreId>) -> Vec<String> {
    let present: BTreeSet<StoreId> = founding.iter().map(|member| member.key.store).collect();
    let texts: BTreeSet<&str> = founding
        .iter()
        .flat_map(|member| &member.peers)
        .filter(|peer| {
            let store = peer.resolved.or_else(|| answering.get(&peer.text).copied());
            store.is_none_or(|store| !present.contains(&store))
        })
        .map(|peer| peer.text.as_str())
        .collect();
    texts.into_iter().map(str::to_owned).collect()
}
