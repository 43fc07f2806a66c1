//! What only the comparison of two logs shows: two histories that have the same epochs.

use super::{Judgement, LossBound, Verdict};
use crate::exit::Status;
use crate::store::loss::Surplus;
use crate::store::subject::Subject;

impl Judgement {
    /// Takes back that these stores can go on together, if some of them hold other entries where each knows which one is
    /// committed: a copy of a store voted on two sides. `found` is what they were found to hold beyond that of `base`.
    pub fn compared(&mut self, subjects: &[Subject], found: &[(usize, Surplus)]) {
        let apart: Vec<String> = found
            .iter()
            .filter(|(_, surplus)| surplus.is_apart)
            .filter_map(|(base, surplus)| {
                let Surplus { path, vhost, common, .. } = surplus;
                let (base, common) = (&subjects.get(*base)?.path, (*common)?);
                Some(format!(
                    "{path} and {base} have other entries of {vhost} after entry {common}, and each knows its own to be \
                     committed: some store, or a copy of it, voted in two histories with the same epochs"
                ))
            })
            .collect();
        // Of copies that differ at the same place it is known already that no choice can be made.
        if apart.is_empty() || !matches!(self.verdict, Verdict::SafeSet | Verdict::NoSafeSet) {
            return;
        }
        self.why.extend(apart);
        self.verdict = Verdict::Forked;
        self.status = Status::Refused;
        self.latest = None;
        self.safe.clear();
        self.loss = Some(LossBound {
            confirmed: "unknown",
            reason:
                "each side may hold confirmed messages that the other does not; what each holds is listed"
                    .to_owned(),
            not_given: Vec::new(),
        });
        self.summary = self.sentence(subjects);
        self.next = Self::exports(subjects);
        let cluster = self.cluster_id.map(|id| id.to_string()).unwrap_or_default();
        self.next.push(format!(
            "quorate store mark-clean CHOSEN --against OTHERS --force --confirm {cluster} --reason TEXT    (or start those of \
             one side alone)"
        ));
    }
}
