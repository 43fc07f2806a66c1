//! The first moments of a group whose store an operator marked: its log becomes the group's history.

use bytes::Bytes;
use quorate_store::ids::{Index, Term};
use quorate_store::record::{Entry, EntryKind};
use quorate_store::stamp::EpochCause;

use super::configuration::Configuration;
use super::group::Group;
use super::recovery::RecoveredLog;
use crate::control::Control;
use crate::controls::{Act, Change, Changed};

/// Runs of entries of one term, for the log's window.
type Terms = Vec<(Index, Term)>;

impl Group {
    /// The epoch's first entry, at the end of the log as it is, and the runs of terms with it. Everything before it
    /// counts as committed from here on, and this store is the only voter. Written again, the same, if the process ends
    /// before it is durable: the log's last epoch shows that.
    pub(crate) fn begin_marked(&mut self, seen: Term) -> Option<(Entry, Terms)> {
        let epoch = self.lineage.entries().last()?;
        let EpochCause::Mark { recovery, sole, .. } = epoch.cause else { return None };
        let term =
            Term(epoch.term.0.max(seen.0.saturating_add(1)).max(self.applied_term.0.saturating_add(1)));
        let index = self.applied.next();
        let data = Control::Recovery { recovery, sole }.encode();
        let terms = vec![(self.applied, self.applied_term), (index, term)];
        self.configuration = Configuration::sole(sole.0);
        self.controls.restore(sole);
        self.applied = index;
        self.applied_term = term;
        Some((Entry { term, index, kind: EntryKind::Control, data }, terms))
    }

    /// What the recovery of an earlier run finds in the log about the group's controls.
    pub(crate) fn replay_act(&mut self, entry: &Entry) {
        match Control::decode(entry.data.clone()) {
            Ok(Control::Act(act)) => {
                self.apply_act(entry.index, act);
            }
            Ok(Control::Recovery { sole, .. }) => self.controls.restore(sole),
            Ok(Control::Shutdown(_)) | Err(_) => {}
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
        if let Ok(Control::Recovery { sole, .. }) = Control::decode(data.clone()) {
            *configuration = Configuration::sole(sole.0);
        }
    }
}

impl RecoveredLog {
    /// Whether the last epoch of this lineage was begun by a mark, and its first entry is not in the log yet.
    pub(crate) fn awaits_mark(group: &Group, log_epoch: quorate_store::ids::Epoch) -> bool {
        group
            .lineage
            .entries()
            .last()
            .is_some_and(|epoch| matches!(epoch.cause, EpochCause::Mark { .. }) && log_epoch < epoch.number)
    }
}
