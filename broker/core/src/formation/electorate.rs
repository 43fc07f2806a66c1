//! Who may vote in a group by what is known, and why others may not: what the decision counts, for people and tools.

use quorate_store::ids::{GroupId, StoreId};

use super::assembly::Standing;
use super::company::Company;
use super::facts::Facts;
use super::lineage::{Relation, relation};
use super::rolled_back::rolled_back;
use super::status::VoterRef;

/// How the stores of one group stand to each other, as the decision counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Electorate {
    /// The recorded voters: of the latest configuration in the logs, committed or not.
    pub voters: Vec<VoterRef>,
    /// Those that are here and may vote: trusted and of the latest lineage.
    pub able: Vec<StoreId>,
    /// Those that are not here.
    pub missing: Vec<VoterRef>,
    /// Those that are here and may not vote, with the reason in words.
    pub hindered: Vec<(VoterRef, &'static str)>,
    /// How many are a majority.
    pub majority: usize,
    /// Two stores that each hold what the other does not, and no mark decides between them.
    pub forked: Option<(StoreId, StoreId)>,
    /// Stores of the latest history: the longest that no mark supersedes.
    pub latest: Vec<StoreId>,
    /// Stores that may lack something that they acknowledged.
    pub untrusted: Vec<StoreId>,
    /// Stores of which another one recorded a later life: they were rolled back, or copied before it.
    pub rolled_back: Vec<StoreId>,
}

impl Electorate {
    /// Of one group, by these facts.
    pub fn of(facts: &Facts, group: GroupId) -> Self {
        let company = Company::of(facts);
        let assembly = company.assembly(group);
        let standings = assembly.standings();
        let latest = assembly.history();
        let store = |standing: &Standing<'_>| standing.member.key.store;
        let hindered = assembly.voters().iter().filter(|voter| !assembly.missing().contains(voter));
        Self {
            voters: assembly.voters().to_vec(),
            able: assembly.able().map(|voter| voter.store).collect(),
            missing: assembly.missing().to_vec(),
            hindered: hindered
                .filter_map(|voter| Some((voter.clone(), assembly.hindrance(voter)?)))
                .collect(),
            majority: assembly.majority(),
            forked: assembly.rivals().map(|(one, other)| (store(one), store(other))),
            latest: standings
                .iter()
                .filter(|standing| relation(standing.lineage, latest) == Relation::Same)
                .map(store)
                .collect(),
            rolled_back: company
                .members()
                .iter()
                .filter(|member| rolled_back(member, company.witnesses()))
                .map(|member| member.key.store)
                .collect(),
            untrusted: standings.iter().filter(|standing| !standing.trusted).map(store).collect(),
        }
    }

    /// Whether a majority of the recorded voters is here and may vote: nothing confirmed can be missing (row C1).
    pub fn is_complete(&self) -> bool {
        !self.voters.is_empty() && self.forked.is_none() && self.able.len() >= self.majority
    }

    /// Whether each majority of the recorded voters has one that is here and may vote: the most recent of these holds
    /// everything that was ever confirmed, even if they are too few to go on by themselves.
    pub fn covers_every_majority(&self) -> bool {
        !self.voters.is_empty()
            && self.forked.is_none()
            && self.able.len().saturating_add(self.majority) > self.voters.len()
    }

    /// Whether those missing could be a majority by themselves, somewhere else.
    pub fn missing_could_go_on(&self) -> bool {
        !self.voters.is_empty() && self.missing.len() >= self.majority
    }
}
