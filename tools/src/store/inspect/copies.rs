//! Stores with the same id: one is a copy of the other, or both are copies.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::StoreId;

use super::latest::{Standing, compare};
use crate::store::subject::Subject;

/// What there is of copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    /// These do not count: another one stands for them.
    pub(super) aside: BTreeSet<usize>,
    /// These hold the same.
    pub(super) same: Vec<Vec<usize>>,
    /// Two of one store went on separately: none of them can be chosen.
    pub(super) is_torn: bool,
    pub(super) remarks: Vec<(usize, String)>,
    pub(super) why: Vec<String>,
}

/// How one of them stands to the one that stands for the store.
enum Kin {
    Same,
    Older,
    Separate(String),
}

/// Sorts them out: for each store id one that counts, the one with the latest life and log.
pub(super) fn sort_out(subjects: &[Subject]) -> Family {
    let mut by_store: BTreeMap<StoreId, Vec<usize>> = BTreeMap::new();
    for (number, subject) in subjects.iter().enumerate() {
        if let Some(status) = &subject.status {
            by_store.entry(status.key.store).or_default().push(number);
        }
    }
    let mut family = Family::default();
    for (store, numbers) in by_store.into_iter().filter(|(_, numbers)| numbers.len() > 1) {
        family.one_store(subjects, store, &numbers);
    }
    family
}

impl Family {
    fn one_store(&mut self, subjects: &[Subject], store: StoreId, numbers: &[usize]) {
        // Ties go to the one that was named first.
        let rank = |number: &usize| {
            let subject = subjects.get(*number)?;
            let status = subject.status.as_ref()?;
            let positions: Vec<_> = status.groups.iter().map(|group| group.position).collect();
            Some((status.belongs(), status.incarnation, positions, subject.facts.sequence))
        };
        let best = numbers.iter().copied().rev().max_by_key(rank);
        let Some((head, first)) = best.and_then(|best| Some((best, subjects.get(best)?))) else { return };
        let paths: Vec<&str> =
            numbers.iter().filter_map(|number| subjects.get(*number)).map(|one| one.path.as_str()).collect();
        self.why.push(format!("{} are copies of one store, {store}", paths.join(", ")));
        let mut same = vec![head];
        for number in numbers.iter().copied().filter(|number| *number != head) {
            let Some(subject) = subjects.get(number) else { continue };
            self.aside.insert(number);
            let remark = match kin(subject, first) {
                Kin::Same => {
                    same.push(number);
                    format!("copy of {}: it holds the same, use one of them", first.path)
                }
                Kin::Older => format!("rolled back: an older copy of {}, never to be started", first.path),
                Kin::Separate(how) => {
                    self.is_torn = true;
                    self.why.push(format!(
                        "{} and {} were both written to after one was copied from the other: {how}",
                        first.path, subject.path
                    ));
                    format!("copy of {} that went on separately", first.path)
                }
            };
            self.remarks.push((number, remark));
        }
        if same.len() > 1 {
            same.sort_unstable();
            self.same.push(same);
        }
    }
}

/// `head` has the later life, or the later log.
fn kin(subject: &Subject, head: &Subject) -> Kin {
    let (Some(mine), Some(theirs)) = (Standing::of(0, subject), Standing::of(1, head)) else {
        return Kin::Separate("one of them cannot be read".to_owned());
    };
    let comparison = compare(&theirs, &mine);
    if !comparison.is_at_least() {
        return Kin::Separate("each holds something that the other lacks".to_owned());
    }
    if !comparison.different.is_empty() {
        return Kin::Separate("they end at the same positions and hold different content".to_owned());
    }
    let run = |subject: &Subject| (subject.facts.incarnation, subject.facts.run_id.clone());
    if run(subject) == run(head) {
        return if comparison.is_level() && subject.facts.sequence == head.facts.sequence {
            Kin::Same
        } else {
            Kin::Older
        };
    }
    if subject.facts.incarnation < head.facts.incarnation {
        return Kin::Older;
    }
    Kin::Separate("both were started since".to_owned())
}
