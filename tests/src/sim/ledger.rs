//! What the brokers' logs hold, seen from outside: for the invariants of replication.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::frame::SyncPolicy;
use quorate_store::ids::{Epoch, GroupId, Index, Position, Term};
use quorate_store::record::{Batch, Entry, HardState, Record};
use uuid::Uuid;

use super::schedule::HostId;

/// One group's log as it is found at a start.
#[derive(Clone, Debug)]
pub struct FoundLog {
    /// Term and vote.
    pub hard_state: HardState,
    /// The first index whose entry is there.
    pub first: Index,
    /// The last epoch written.
    pub epoch: Epoch,
    /// The entries.
    pub entries: Vec<Entry>,
}

type Place = (GroupId, Index);
type Content = (Term, u64);

/// One broker's log.
#[derive(Clone, Debug, Default)]
struct Book {
    /// Everything handed to the log, durable or not.
    written: BTreeMap<Place, Content>,
    /// What the operating system has.
    appended: BTreeMap<Place, Content>,
    /// What is durable.
    durable: BTreeMap<Place, Content>,
    /// Everything up to here came by snapshot or founding.
    base: BTreeMap<GroupId, Index>,
    votes: BTreeMap<(GroupId, Term), u64>,
    /// The highest durable term.
    terms: BTreeMap<GroupId, Term>,
    /// Groups that leave the log for good, with their terms and votes; and those that did.
    removed: BTreeSet<GroupId>,
    gone: BTreeSet<GroupId>,
}

impl Book {
    /// The group is deleted: nobody asks for what was promised in it.
    fn forget(&mut self, group: GroupId) {
        self.gone.insert(group);
        self.terms.remove(&group);
        self.base.remove(&group);
        self.votes.retain(|(of, _), _| *of != group);
    }

    /// A durable term never falls, and a durable vote stays what it is.
    fn keeps_its_word(&self, group: GroupId, state: &HardState) -> Result<(), String> {
        if let Some(term) = self.terms.get(&group)
            && state.term < *term
        {
            return Err(format!(
                "goes back to term {} of group {group} and had synced term {term}",
                state.term
            ));
        }
        match self.votes.get(&(group, state.term)) {
            Some(vote) if *vote != state.vote => {
                Err(format!("voted for {vote} and {} in term {} of group {group}", state.vote, state.term))
            }
            _ => Ok(()),
        }
    }
}

/// All brokers' logs, what is known to be committed, and who led.
#[derive(Debug, Default)]
pub struct Ledger {
    books: BTreeMap<HostId, Book>,
    /// Of disks that are gone: what was acknowledged before may be confirmed after.
    lost: Vec<Book>,
    committed: BTreeMap<Place, (Content, HostId)>,
    checked: BTreeMap<(HostId, GroupId), Index>,
    digests: BTreeMap<Place, (u64, HostId)>,
    /// Logs of a history that an operator left behind, until they are of this epoch.
    behind: BTreeMap<(HostId, GroupId), Epoch>,
    /// The latest epoch that an operator began by giving up what was beyond it.
    latest: BTreeMap<GroupId, Epoch>,
    leaders: BTreeMap<(String, Uuid, Term), HostId>,
}

fn content_of(entry: &Entry) -> Content {
    let hash = entry
        .data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (entry.term, hash)
}

fn cut_above(map: &mut BTreeMap<Place, Content>, group: GroupId, last: Index) {
    let above: Vec<Place> =
        map.range((group, last.next())..(GroupId(group.0 + 1), Index(0))).map(|(place, _)| *place).collect();
    for place in above {
        map.remove(&place);
    }
}

fn take(map: &mut BTreeMap<Place, Content>, record: &Record) {
    match record {
        Record::Entry(group, _, entry) => {
            if map.contains_key(&(*group, entry.index)) {
                cut_above(map, *group, Index(entry.index.0 - 1));
            }
            map.insert((*group, entry.index), content_of(entry));
        }
        Record::Reset(group, _, _, _) | Record::Remove(group) => cut_above(map, *group, Index(0)),
        Record::HardState(..) => {}
    }
}

impl Ledger {
    /// A broker hands a batch to its log.
    pub fn written(&mut self, host: HostId, batch: &Batch) -> Result<(), String> {
        let book = self.books.entry(host).or_default();
        let mut result = Ok(());
        for record in &batch.records {
            take(&mut book.written, record);
            match record {
                Record::Remove(group) => drop(book.removed.insert(*group)),
                // What is given up to be filled again keeps them.
                Record::HardState(group, ..) | Record::Reset(group, ..) => drop(book.removed.remove(group)),
                Record::Entry(..) => {}
            }
            if let Record::Entry(group, epoch, _) | Record::Reset(group, epoch, _, _) = record
                && self.behind.get(&(host, *group)).is_some_and(|behind| epoch >= behind)
            {
                self.behind.remove(&(host, *group));
            }
            let sound = match record {
                Record::HardState(group, _, state) => book.keeps_its_word(*group, state),
                Record::Reset(group, _, term, index) => match self.committed.get(&(*group, *index)) {
                    Some(((known, _), first)) if known != term => Err(format!(
                        "begins its log of group {group} anew after {index} in term {term}, which host {first} has \
                         committed in term {known}"
                    )),
                    _ => Ok(()),
                },
                Record::Entry(..) | Record::Remove(_) => Ok(()),
            };
            result = result.and(sound.map_err(|text| format!("host {host} {text}")));
        }
        result
    }

    /// The operating system has a batch.
    pub fn appended(&mut self, host: HostId, batch: &Batch) {
        let book = self.books.entry(host).or_default();
        batch.records.iter().for_each(|record| take(&mut book.appended, record));
    }

    /// A batch is durable.
    pub fn durable(&mut self, host: HostId, batch: &Batch) {
        let book = self.books.entry(host).or_default();
        for record in &batch.records {
            take(&mut book.durable, record);
            match record {
                Record::HardState(group, _, state) => {
                    let term = book.terms.entry(*group).or_default();
                    *term = state.term.max(*term);
                    if state.vote != 0 {
                        book.votes.insert((*group, state.term), state.vote);
                    }
                }
                Record::Reset(group, _, _, index) => {
                    book.base.insert(*group, *index);
                }
                Record::Remove(group) if book.removed.contains(group) => book.forget(*group),
                Record::Remove(_) | Record::Entry(..) => {}
            }
        }
    }

    /// Whether some broker took this group away for good: whoever has not heard of that may still confirm there.
    pub fn is_removed(&self, group: GroupId) -> bool {
        self.books.values().any(|book| book.gone.contains(&group))
    }

    /// A broker starts, and this is what its logs hold.
    pub fn restarted(&mut self, host: HostId, found: &BTreeMap<GroupId, FoundLog>) -> Result<(), String> {
        // What it says of its commits is compared from the beginning again.
        self.checked.retain(|(of, _), _| *of != host);
        // It may be a copy from before an operator gave up what is in it.
        for (group, log) in found {
            if let Some(latest) = self.latest.get(group).filter(|latest| log.epoch < **latest) {
                self.behind.insert((host, *group), *latest);
            }
        }
        let book = self.books.entry(host).or_default();
        for group in std::mem::take(&mut book.removed).into_iter().filter(|group| !found.contains_key(group))
        {
            book.forget(group);
            cut_above(&mut book.durable, group, Index(0));
        }
        for (group, term) in &book.terms {
            let found = found.get(group).map_or(Term(0), |log| log.hard_state.term);
            if found < *term {
                return Err(format!(
                    "host {host} is in term {found} of group {group} and had synced term {term}"
                ));
            }
        }
        let mut now = BTreeMap::new();
        for (group, log) in found {
            let FoundLog { hard_state, .. } = log;
            book.terms.insert(*group, hard_state.term);
            if hard_state.vote != 0 {
                book.votes.insert((*group, hard_state.term), hard_state.vote);
            }
            now.extend(log.entries.iter().map(|entry| ((*group, entry.index), content_of(entry))));
        }
        for (place, content) in &book.durable {
            if book.written.get(place) != Some(content) {
                // What was on its way would have replaced it; either may be found.
                continue;
            }
            let first = found.get(&place.0).map_or(Index(0), |log| log.first);
            if place.1 < first {
                // It left the log in good order, and still counts as held.
                now.insert(*place, *content);
            } else if now.get(place) != Some(content) {
                return Err(format!(
                    "host {host} lost entry {} of group {}, which was synced",
                    place.1, place.0
                ));
            }
        }
        // What a weaker policy let it acknowledge, and the power took, may be confirmed after that.
        let gone = |map: &BTreeMap<Place, Content>| -> BTreeMap<Place, Content> {
            let held = |place: &Place| {
                now.contains_key(place) || book.base.get(&place.0).is_some_and(|base| *base >= place.1)
            };
            map.iter().filter(|(place, _)| !held(place)).map(|(place, content)| (*place, *content)).collect()
        };
        let (written, appended) = (gone(&book.written), gone(&book.appended));
        if !written.is_empty() {
            self.lost.push(Book { written, appended, ..Book::default() });
        }
        // What is found was synced when it was opened; what was on its way and is not found never was.
        book.written = now.clone();
        book.appended = now.clone();
        book.durable = now;
        Ok(())
    }

    /// A broker tells another one that it has its vote: that is durable, or a later term is, and then nobody gets another
    /// one in this.
    pub fn voted(&self, host: HostId, group: GroupId, term: Term, candidate: u64) -> Result<(), String> {
        let book = self.books.get(&host);
        let synced = book.and_then(|book| book.votes.get(&(group, term)));
        let is_over = book.and_then(|book| book.terms.get(&group)).is_some_and(|latest| *latest > term);
        if synced == Some(&candidate) || (synced.is_none() && is_over) {
            return Ok(());
        }
        Err(format!(
            "host {host} gave {candidate} its vote in term {term} of group {group}, and has synced {}",
            synced.map_or("none".to_owned(), |other| format!("one for {other}"))
        ))
    }

    /// A confirm names this place: on how many logs has it come as far as this policy asks of a replica, and has it on that
    /// of this host, which leads, as far as it asks of a leader?
    pub fn copies(
        &self,
        host: HostId,
        place: (GroupId, Term, Index),
        leader: SyncPolicy,
        replicas: SyncPolicy,
    ) -> (usize, bool) {
        let (group, term, index) = place;
        let has = |book: &Book, policy: SyncPolicy| {
            let map = match policy {
                SyncPolicy::Sync => &book.durable,
                SyncPolicy::WriteNoSync => &book.appended,
                SyncPolicy::NoSync => &book.written,
            };
            map.get(&(group, index)).is_some_and(|(found, _)| *found == term)
                || book.base.get(&group).is_some_and(|base| *base >= index)
        };
        let own = self.books.get(&host);
        let others = self.books.iter().filter(|(other, _)| **other != host).map(|(_, book)| book);
        let copies = others.chain(&self.lost).filter(|book| has(book, replicas)).count();
        let leads = own.is_some_and(|book| has(book, leader));
        (copies + usize::from(leads), leads)
    }

    /// A broker's node knows that its log is committed up to here. What the first broker to know has at an index is
    /// kept for good: whatever logs let go of later, nobody may ever have anything else there.
    pub fn committed(&mut self, host: HostId, group: GroupId, commit: Index) -> Result<(), String> {
        let Some(book) = self.books.get(&host).filter(|_| !self.behind.contains_key(&(host, group))) else {
            return Ok(());
        };
        let checked = self.checked.entry((host, group)).or_default();
        let from = checked.next();
        *checked = commit;
        if from > commit {
            // After a restart it may know less than before.
            return Ok(());
        }
        for (place, content) in book.written.range((group, from)..=(group, commit)) {
            let (known, first) = self.committed.entry(*place).or_insert((*content, host));
            if known != content {
                return Err(format!(
                    "entry {} of group {group} is committed on host {first} in term {} and on host {host} in term {} with \
                     different content",
                    place.1, known.0, content.0
                ));
            }
        }
        Ok(())
    }

    /// A broker's state at this applied index has this digest.
    pub fn digest(
        &mut self,
        host: HostId,
        group: GroupId,
        applied: Index,
        digest: u64,
    ) -> Result<(), String> {
        if self.behind.contains_key(&(host, group)) {
            return Ok(());
        }
        let (known, first) = *self.digests.entry((group, applied)).or_insert((digest, host));
        if known == digest {
            return Ok(());
        }
        Err(format!(
            "group {group} at {applied}: host {first} has digest {known:016x}, host {host} {digest:016x}"
        ))
    }

    /// A broker became leader. Whoever begins an epoch without the others, by an operator's word, does not know their terms:
    /// the epoch tells them apart.
    pub fn leads(&mut self, host: HostId, vhost: &str, epoch: Uuid, term: Term) -> Result<(), String> {
        let first = *self.leaders.entry((vhost.to_owned(), epoch, term)).or_insert(host);
        if first == host {
            Ok(())
        } else {
            Err(format!("hosts {first} and {host} both lead {vhost} in term {term}"))
        }
    }

    /// An operator has given up what is beyond these ends of a host's logs: nobody has to have it any more, others may have
    /// something else there, and what the other hosts have counts again once it is of the epoch after that.
    pub fn left_behind(&mut self, host: HostId, ends: &BTreeMap<GroupId, Position>, only: Option<GroupId>) {
        // Before its end it may have what was never committed, in the place of what was.
        let own = self.books.get(&host).map(|book| &book.written);
        let other = |(place, (content, _)): (&Place, &(Content, HostId))| {
            own.and_then(|own| own.get(place)).filter(|own| *own != content).map(|_| *place)
        };
        let others: Vec<Place> = self.committed.iter().filter_map(other).collect();
        let forks =
            |group: GroupId| others.iter().filter(|place| place.0 == group).map(|place| place.1).min();
        let forks: BTreeMap<GroupId, Index> =
            ends.keys().filter_map(|group| Some((*group, forks(*group)?))).collect();
        let kept = |(group, index): &Place| {
            only.is_some_and(|only| only != *group)
                || ends.get(group).is_some_and(|end| *index <= end.index)
                    && forks.get(group).is_none_or(|fork| index < fork)
        };
        self.committed.retain(|place, _| kept(place));
        self.digests.retain(|place, _| kept(place));
        self.lost.clear();
        let ends = || ends.iter().filter(|(group, _)| only.is_none_or(|only| only == **group));
        self.latest.extend(ends().map(|(group, end)| (*group, Epoch(end.epoch.0 + 1))));
        for other in self.books.keys().filter(|other| **other != host) {
            self.behind.extend(ends().map(|(group, end)| ((*other, *group), Epoch(end.epoch.0 + 1))));
        }
    }

    /// This host says that what it holds of the group is not the group's: it has counted all of that, to tell of it, and
    /// states of it are nobody else's until it begins anew.
    pub fn gives_up(&mut self, host: HostId, group: GroupId) {
        self.behind.entry((host, group)).or_default();
    }

    /// What this host holds is not its own, or was not: nothing of it counts.
    pub fn disown(&mut self, host: HostId) {
        self.books.remove(&host);
        self.checked.retain(|(of, _), _| *of != host);
    }

    /// The disk of this host was replaced.
    pub fn forget(&mut self, host: HostId) {
        self.lost.extend(self.books.remove(&host));
        self.checked.retain(|(of, _), _| *of != host);
    }
}
