//! The first moments of a group that was forced to go on from one store, by an operator's mark or while the broker ran: its
//! log becomes the group's history.

use bytes::Bytes;
use quorate_store::ids::{Index, RaftId, StoreId, Term};
use quorate_store::record::{Entry, EntryKind};
use quorate_store::stamp::{EpochCause, EpochEntry, LeftOut, StampMember};
use uuid::Uuid;

use super::configuration::Configuration;
use super::group::Group;
use super::recovery::RecoveredLog;
use crate::admin::Author;
use crate::control::Control;
use crate::controls::{Act, Change, Changed, Forced, ForcedKind};

/// Runs of entries of one term, for the log's window.
type Terms = Vec<(Index, Term)>;

impl Group {
    /// The epoch's first entry, at the end of the log as it is, and the runs of terms with it. Everything before it
    /// counts as committed from here on, and this store is the only voter. Written again, the same, if the process ends
    /// before it is durable: the log's last epoch shows that.
    pub(crate) fn begin_marked(&mut self, seen: Term, members: &[StampMember]) -> Option<(Entry, Terms)> {
        let epoch = self.lineage.entries().last()?;
        let sole = epoch.cause.sole()?;
        let control = match epoch.cause {
            EpochCause::Mark { recovery, sole, .. } => Control::Recovery { recovery, sole },
            cause => Control::Forced(forced(epoch, ForcedKind::of(cause)?, sole, members)),
        };
        let term =
            Term(epoch.term.0.max(seen.0.saturating_add(1)).max(self.applied_term.0.saturating_add(1)));
        let index = self.applied.next();
        let data = control.encode();
        let terms = vec![(self.applied, self.applied_term), (index, term)];
        self.configuration = Configuration::sole(sole.0);
        self.replay_control_state(index, control);
        self.applied = index;
        self.applied_term = term;
        Some((Entry { term, index, kind: EntryKind::Control, data }, terms))
    }

    /// What the recovery of an earlier run finds in the log about the group's controls.
    pub(crate) fn replay_act(&mut self, entry: &Entry) {
        if let Ok(control) = Control::decode(entry.data.clone()) {
            self.replay_control_state(entry.index, control);
        }
    }

    fn replay_control_state(&mut self, index: Index, control: Control) {
        match control {
            Control::Act(act) => {
                self.apply_act(index, act);
            }
            Control::Recovery { recovery, .. } => {
                self.begin_epoch(recovery);
                self.controls.restore();
            }
            Control::Forced(forced) => {
                self.begin_epoch(forced.id);
                self.controls.force(index, forced);
            }
            Control::Shutdown(_) => {}
        }
    }

    fn begin_epoch(&mut self, id: Uuid) {
        if let Some(system) = self.machine.system_mut() {
            system.begin_epoch(id);
        }
    }

    /// Applies an operator's act to the controls, and to the machine where it changes that; what really changed. Of two
    /// who delete the same virtual host the first one does.
    pub(crate) fn apply_act(&mut self, at: Index, mut act: Act) -> Vec<Changed> {
        act.changes.retain(|change| match change {
            Change::DeleteVhost { group, .. } => {
                self.machine.system_mut().is_some_and(|system| system.delete_vhost(*group))
            }
            _ => true,
        });
        self.controls.apply(at, &act)
    }

    /// What the recovery of an earlier run of such a group finds in the log.
    pub(crate) fn replay_control(configuration: &mut Configuration, data: &Bytes) {
        if let Some(sole) = Control::decode(data.clone()).ok().and_then(|control| control.sole()) {
            *configuration = Configuration::sole(sole.0);
        }
    }
}

/// A forced epoch's first entry says all that its stamp says, by the numbers that the group knows its voters by.
fn forced(epoch: &EpochEntry, kind: ForcedKind, sole: RaftId, members: &[StampMember]) -> Forced {
    let number = |store: StoreId| {
        members.iter().find(|member| member.store_id == store).map(|member| member.raft_id.0)
    };
    let of = |chosen: &dyn Fn(&LeftOut) -> bool| {
        let others = epoch.left_out.iter().filter(|left| chosen(left)).filter_map(|left| number(left.store));
        others.chain([sole.0]).collect()
    };
    let name = members.iter().find(|member| member.raft_id == sole).map(|member| member.name.clone());
    Forced {
        id: epoch.id,
        kind,
        sole,
        name: name.unwrap_or_default(),
        nodes: of(&|left| left.named),
        former: of(&|left| left.voter),
        at_ms: epoch.when_ms,
        author: Author::from_text(&epoch.who),
        reason: epoch.why.clone(),
    }
}

impl RecoveredLog {
    /// Whether the last epoch of this lineage was begun by a mark, and its first entry is not in the log yet.
    pub(crate) fn awaits_mark(group: &Group, log_epoch: quorate_store::ids::Epoch) -> bool {
        group
            .lineage
            .entries()
            .last()
            .is_some_and(|epoch| epoch.cause.sole().is_some() && log_epoch < epoch.number)
    }
}
