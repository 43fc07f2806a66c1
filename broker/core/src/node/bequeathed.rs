//! What a leadership that ends leaves to the next: entries that it proposed and that an operator waits for.
//!
//! Clients are dismissed and find out by themselves, by their producer's numbers. An operator's command has no such memory:
//! whoever asked is told what became of the entry, as soon as this broker's log says it.
//!
//! | This broker's log at the entry's index | The operator hears |
//! |---|---|
//! | the entry itself | what it did, as if this broker had led on |
//! | another entry | that nothing was changed, and who leads |
//! | is not known: a snapshot covers it, or the log is given up | that it may have been decided |

use quorate_store::ids::{Index, Term};

use super::Node;
use super::group::Group;
use super::origin::{InFlight, Origin};
use crate::admin::AdminReply;
use crate::io::{AdminId, Output};

impl Group {
    /// Keeps, of what this leadership proposed, the entries that operators wait for; returns whose commands never became
    /// part of any entry.
    fn bequeath(&mut self) -> Vec<AdminId> {
        for mut entry in std::mem::take(&mut self.in_flight) {
            if operators(&entry.origins).next().is_some() {
                for origin in &mut entry.origins {
                    if !matches!(origin, Origin::Admin(_)) {
                        *origin = Origin::Internal;
                    }
                }
                self.bequeathed.push(entry);
            }
        }
        let proposals = std::mem::take(&mut self.proposals);
        proposals
            .iter()
            .filter_map(|proposal| match proposal.origin {
                Origin::Admin(id) => Some(id),
                _ => None,
            })
            .collect()
    }

    /// Takes out what was proposed for an index up to this one.
    fn take_bequeathed(&mut self, index: Index) -> Vec<InFlight> {
        self.bequeathed.extract_if(.., |entry| entry.index <= index).collect()
    }
}

impl Node {
    /// A leadership ends: what operators wait for is left to the log.
    pub(super) fn bequeath(&mut self, group: &mut Group) {
        for id in group.bequeath() {
            self.answer_overtaken(group, id);
        }
    }

    /// An entry is applied that this leadership did not propose. Returns who waits for it, if an earlier one did.
    pub(super) fn bequeathed_to(&mut self, group: &mut Group, (term, index): (Term, Index)) -> Vec<Origin> {
        let mut origins = Vec::new();
        for entry in group.take_bequeathed(index) {
            if (entry.term, entry.index) == (term, index) {
                origins = entry.origins;
                continue;
            }
            for id in operators(&entry.origins) {
                self.answer_overtaken(group, id);
            }
        }
        origins
    }

    /// The log up to this index is not known entry by entry any more: what was in it cannot be said.
    pub(super) fn forget_bequeathed(&mut self, group: &mut Group, index: Index) {
        for entry in group.take_bequeathed(index) {
            for id in operators(&entry.origins) {
                let reply = self.undecided(group);
                self.emit(Output::AdminReply { id, reply });
            }
        }
    }

    fn answer_overtaken(&mut self, group: &Group, id: AdminId) {
        let reply = self.overtaken(group);
        self.emit(Output::AdminReply { id, reply });
    }

    /// What was asked of this broker never came to be, and will not: somebody else leads.
    pub(super) fn overtaken(&self, group: &Group) -> AdminReply {
        let text =
            format!("this broker does not lead virtual host {} any more: nothing is changed", group.vhost);
        self.elsewhere(group, "NOT_LEADER", text)
    }
}

fn operators(origins: &[Origin]) -> impl Iterator<Item = AdminId> {
    origins.iter().filter_map(|origin| match origin {
        Origin::Admin(id) => Some(*id),
        _ => None,
    })
}
