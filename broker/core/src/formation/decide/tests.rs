//! The table: every combination of three members against an oracle, then row by row.

use std::collections::BTreeSet;

use quorate_store::ids::{Epoch, GroupId, Incarnation, RaftId, Term};
use uuid::Uuid;

use super::super::facts::Facts;
use super::super::forming::{Ballot, FormingState, Founder, FoundingValue, Place};
use super::super::samples::*;
use super::super::status::{InitialStatus, RecordedRun, RecoveryMode, StoreState, VoterRef};
use super::{Decision, Row, TABLE, Verdict, decide, decide_group};

const REFUSED: Verdict = Verdict::Refuse { exit_status: 3 };

fn outcome(facts: &Facts) -> (Row, Verdict) {
    let decision = decide(facts);
    (decision.row, decision.verdict)
}

/// What may have become of one of three brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Absent,
    Empty,
    Dirty,
    Untrusted,
    CleanOne,
    CleanTwo,
    Damaged,
    Ran,
    Active,
    Foreign,
    ForeignActive,
}

use Kind::*;

const KINDS: [Kind; 11] =
    [Absent, Empty, Dirty, Untrusted, CleanOne, CleanTwo, Damaged, Ran, Active, Foreign, ForeignActive];

impl Kind {
    fn is_foreign(self) -> bool {
        matches!(self, Foreign | ForeignActive)
    }

    /// Of the cluster, and holding all it acknowledged.
    fn is_able(self) -> bool {
        matches!(self, Dirty | CleanOne | CleanTwo | Ran | Active)
    }

    fn belongs(self) -> bool {
        self.is_able() || self == Untrusted
    }

    fn status(self, number: u128) -> Option<InitialStatus> {
        let at = |mut status: InitialStatus, index: u64| {
            status.groups[0].position = position(2, index);
            status
        };
        Some(match self {
            Absent => return None,
            Empty => empty(number),
            Dirty => dirty(number),
            Untrusted => at(untrusted(number), 30),
            CleanOne => at(clean(number, 1), 10),
            CleanTwo => at(clean(number, 2), 10),
            Damaged => damaged(number),
            Ran => ran(number),
            Active => active(number),
            Foreign => foreign(dirty(number)),
            ForeignActive => foreign(active(number)),
        })
    }
}

/// The same broker with a store of the other cluster.
fn foreign(mut status: InitialStatus) -> InitialStatus {
    let other = |id: &mut quorate_store::ids::StoreId| id.0 = Uuid::from_u128(id.0.as_u128() + 100);
    status.cluster_id = Some(OTHER_CLUSTER);
    other(&mut status.key.store);
    for group in &mut status.groups {
        group.voters.iter_mut().for_each(|voter| other(&mut voter.store));
        group.active.iter_mut().for_each(|active| other(&mut active.leader));
    }
    status
}

/// The rows as a reader of the specification applies them to three brokers, the first being the own one.
fn expected(kinds: [Kind; 3], wait_for: usize, manual: bool) -> (Row, Verdict) {
    let own = kinds[0];
    if own == Damaged {
        return (Row::R2, Verdict::NeedsOperator);
    }
    let any = |test: &dyn Fn(Kind) -> bool| kinds.iter().any(|kind| test(*kind));
    let able = kinds.iter().filter(|kind| kind.is_able()).count();
    let foreign_active = any(&|kind| kind == ForeignActive);
    let foreign = any(&Kind::is_foreign);
    if own.belongs() {
        let running = any(&|kind| matches!(kind, Ran | Active));
        if foreign && !running {
            if foreign_active {
                return (Row::R3, REFUSED);
            }
            if able < 2 {
                return (Row::R3, Verdict::Wait);
            }
        }
        return within(kinds.map(|kind| if kind.is_foreign() { Absent } else { kind }), wait_for, manual);
    }
    // An empty store chooses its cluster: an active one before one that can stand alone before any.
    let ours = any(&Kind::belongs);
    let ours_active = any(&|kind| kind == Active);
    if ours && foreign {
        if ours_active == foreign_active {
            return (Row::R3, Verdict::Wait);
        }
        if foreign_active {
            return (Row::J1, Verdict::Join);
        }
        return within(kinds.map(|kind| if kind.is_foreign() { Absent } else { kind }), wait_for, manual);
    }
    let as_ours = |kind| match kind {
        Foreign => Dirty,
        // Takes part in an active group, so it ran.
        ForeignActive => Active,
        other => other,
    };
    within(kinds.map(as_ours), wait_for, manual)
}

/// The rows beyond R3, within one cluster.
fn within(kinds: [Kind; 3], wait_for: usize, manual: bool) -> (Row, Verdict) {
    let own = kinds[0];
    let count = |test: &dyn Fn(Kind) -> bool| kinds.iter().filter(|kind| test(**kind)).count();
    let able = count(&Kind::is_able);
    let has = |wanted: Kind| kinds.contains(&wanted);
    let or_join = |verdict| if own.is_able() { verdict } else { Verdict::Join };
    if has(Active) {
        return (Row::J1, or_join(Verdict::Resume));
    }
    if has(Ran) {
        return if able >= 2 { (Row::J2, or_join(Verdict::Resume)) } else { (Row::Q1, Verdict::Wait) };
    }
    if count(&|kind| !matches!(kind, Absent | Damaged)) < wait_for {
        return (Row::W1, Verdict::Wait);
    }
    if count(&Kind::belongs) == 0 {
        return if count(&|kind| kind == Empty) >= 2 {
            (Row::F2, Verdict::Form)
        } else {
            (Row::F3, Verdict::Wait)
        };
    }
    let clean = has(CleanOne) || has(CleanTwo);
    let missing = count(&|kind| kind == Absent);
    if manual {
        if (has(CleanOne) && has(CleanTwo)) || (clean && (has(Dirty) || has(Untrusted))) {
            return (Row::C3, Verdict::NeedsOperator);
        }
        if !clean && missing == 0 {
            return (Row::C2, Verdict::NeedsOperator);
        }
    }
    if able >= 2 && (clean || !manual) {
        return (Row::C1, or_join(Verdict::Restore));
    }
    if missing > 0 && able + missing >= 2 {
        (Row::W2, Verdict::Wait)
    } else {
        (Row::N1, Verdict::NeedsOperator)
    }
}

#[test]
fn every_combination_of_three_members_has_its_row() {
    let mut rows = BTreeSet::new();
    let mut tried = 0;
    for a in KINDS.into_iter().filter(|kind| *kind != Absent && !kind.is_foreign()) {
        for b in KINDS {
            for c in KINDS {
                for wait_for in [1, 2, 3] {
                    for manual in [false, true] {
                        let seen = [b.status(2), c.status(3)].into_iter().flatten();
                        let mut facts = facts(a.status(1).unwrap(), seen);
                        for status in facts.seen.iter_mut().chain([&mut facts.own]) {
                            status.wait_for = wait_for;
                            status.recovery =
                                if manual { RecoveryMode::Manual } else { RecoveryMode::Automatic };
                        }
                        let wanted = expected([a, b, c], usize::try_from(wait_for).unwrap(), manual);
                        let decision = decide(&facts);
                        assert_eq!(
                            (decision.row, decision.verdict),
                            wanted,
                            "{a:?} {b:?} {c:?}, wait for {wait_for}, manual {manual}: {}",
                            decision.reason
                        );
                        facts.seen.reverse();
                        assert_eq!(decide(&facts), decision, "the order of the peers matters");
                        rows.insert(decision.row);
                        tried += 1;
                    }
                }
            }
        }
    }
    assert_eq!(tried, 8 * 11 * 11 * 3 * 2);
    let special = [Row::S1, Row::R1, Row::R4, Row::R5, Row::P1, Row::F1, Row::X1, Row::O1];
    for row in Row::ALL {
        assert_ne!(rows.contains(&row), special.contains(&row), "{row} is shown here or by its own test");
    }
}

#[test]
fn brokers_that_see_the_same_facts_take_compatible_parts() {
    // Whatever three brokers are, no two of them go on by different plans.
    for a in KINDS {
        for b in KINDS {
            for c in KINDS {
                let all: Vec<InitialStatus> = [(a, 1), (b, 2), (c, 3)]
                    .into_iter()
                    .filter_map(|(kind, number)| kind.status(number))
                    .collect();
                let decisions: Vec<(InitialStatus, Decision)> = (0..all.len())
                    .map(|own| {
                        let others =
                            all.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, s)| s.clone());
                        (all[own].clone(), decide(&facts(all[own].clone(), others)))
                    })
                    .collect();
                let forms = decisions.iter().any(|(_, decision)| decision.verdict == Verdict::Form);
                let restores = decisions.iter().any(|(_, decision)| decision.verdict == Verdict::Restore);
                assert!(!(forms && restores), "{a:?} {b:?} {c:?} both form and restore");
                for (status, decision) in &decisions {
                    if matches!(decision.verdict, Verdict::Restore | Verdict::Resume) {
                        assert_eq!(decision.cluster_id, status.cluster_id, "{a:?} {b:?} {c:?}");
                        assert!(status.is_active(GroupId::SYSTEM) || status.groups[0].trusted);
                    }
                }
            }
        }
    }
}

#[test]
fn the_table_has_each_row_once_and_in_the_documented_order() {
    let order: Vec<Row> = TABLE.iter().map(|(row, _, _)| *row).collect();
    assert_eq!(order, Row::ALL);
    let labels: BTreeSet<&str> = Row::ALL.iter().map(|row| row.label()).collect();
    assert_eq!(labels.len(), Row::ALL.len());
    for row in Row::ALL {
        assert_eq!(row.to_string(), format!("{row:?}"));
    }
}

#[test]
fn the_operators_reference_lists_the_rows_of_the_table() {
    let page = include_str!("../../../../../docs/reference/rows.md");
    let listed: Vec<(String, String)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let label = cells.next()?.trim_matches('*').to_owned();
            (label.len() == 2 && label.ends_with(char::is_numeric)).then_some(())?;
            Some((label, cells.next()?.to_owned()))
        })
        .collect();
    let table: Vec<(String, String)> =
        Row::ALL.iter().map(|row| (row.label().to_owned(), row.summary().to_owned())).collect();
    assert_eq!(listed, table);
}

#[test]
fn r1_the_kinds_never_mix() {
    // None active: the transient one has nothing to lose.
    assert_eq!(outcome(&facts(transient(1), [dirty(2)])), (Row::R1, REFUSED));
    assert_eq!(outcome(&facts(transient(1), [empty(2)])), (Row::R1, REFUSED));
    // The persistent ones go on without it.
    assert_eq!(outcome(&facts(dirty(1), [dirty(2), transient(3)])), (Row::W1, Verdict::Wait));
    let decision = decide(&facts(dirty(1), [dirty(2), dirty(3), transient(4)]));
    assert_eq!(decision.row, Row::C1);
    assert!(decision.notes.iter().any(|note| note.contains("d:7421") && note.contains("transient")));
    // Whoever meets an active cluster of the other kind is refused, of either kind; the cluster goes on.
    assert_eq!(outcome(&facts(transient(1), [active(2)])), (Row::R1, REFUSED));
    let running = InitialStatus { state: StoreState::Transient { was_active: true }, ..active(2) };
    assert_eq!(outcome(&facts(empty(1), [running.clone()])), (Row::R1, REFUSED));
    assert_eq!(outcome(&facts(running.clone(), [empty(1)])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(dirty(1), [active(3), running])), (Row::J1, Verdict::Resume));
}

#[test]
fn r2_damage_is_held_and_named() {
    let decision = decide(&facts(damaged(1), [active(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::R2, Verdict::NeedsOperator));
    assert!(decision.reason.contains("both slots fail"), "{}", decision.reason);
    assert!(decision.next.contains(&"quorate member replace --name a".to_owned()));
    // A stamp in use that names no cluster contradicts itself: never empty.
    let nameless = InitialStatus { cluster_id: None, ..dirty(1) };
    assert_eq!(outcome(&facts(nameless, [dirty(2), dirty(3)])), (Row::R2, Verdict::NeedsOperator));
}

#[test]
fn r3_says_who_is_foreign_and_what_is_known_of_it() {
    let mut own = dirty(1);
    own.founded_ms = Some(2_000);
    own.messages = Some(0);
    let mut other = foreign(active(2));
    other.founded_ms = Some(1_000);
    other.messages = Some(17);
    let decision = decide(&facts(own, [other]));
    assert_eq!((decision.row, decision.verdict), (Row::R3, REFUSED));
    for part in ["b at b:7421", "this store's cluster was founded later", "b holds 17 messages"] {
        assert!(decision.reason.contains(part), "{part} not in {}", decision.reason);
    }
    // An empty store between two clusters is told how to choose.
    let decision = decide(&facts(empty(4), [dirty(1), foreign(dirty(2))]));
    assert_eq!((decision.row, decision.verdict), (Row::R3, Verdict::Wait));
    assert_eq!(decision.next.len(), 2);
    // A broker of another cluster name does not count.
    let stranger = InitialStatus { cluster_name: "elsewhere".into(), ..empty(3) };
    assert_eq!(outcome(&facts(empty(1), [empty(2), stranger])), (Row::W1, Verdict::Wait));
}

#[test]
fn r3_both_sides_go_on_if_both_can() {
    let decision = decide(&facts(dirty(1), [dirty(2), foreign(dirty(2)), foreign(dirty(3))]));
    assert_eq!(decision.row, Row::W1, "N = 3 of the own cluster, and only 2 are here");
    let mut all = facts(dirty(1), [dirty(2), foreign(dirty(2)), foreign(dirty(3))]);
    for status in all.seen.iter_mut().chain([&mut all.own]) {
        status.wait_for = 2;
    }
    assert_eq!(outcome(&all), (Row::C1, Verdict::Restore));
    let mut others = Facts { own: all.seen[1].clone(), seen: all.seen.clone() };
    others.seen.push(all.own.clone());
    assert_eq!(outcome(&others), (Row::C1, Verdict::Restore));
}

#[test]
fn r4_the_acknowledged_run_stays_and_the_other_is_held() {
    let mut copy = dirty(1);
    copy.key.run = run(99);
    // None active: both held, and neither counts for the others.
    assert_eq!(outcome(&facts(dirty(1), [copy.clone(), dirty(2)])), (Row::R4, Verdict::Held));
    assert_eq!(outcome(&facts(copy.clone(), [dirty(1), dirty(2)])), (Row::R4, Verdict::Held));
    assert_eq!(outcome(&facts(dirty(2), [dirty(1), copy.clone()])), (Row::W1, Verdict::Wait));
    // An active cluster acknowledged one of them.
    let mut witness = active(2);
    witness.recorded = vec![RecordedRun {
        store: store(1),
        incarnation: Incarnation(1),
        run: Some(run(1)),
        positions: Vec::new(),
    }];
    let mut known = ran(1);
    known.groups[0].was_active_this_run = false;
    assert_eq!(outcome(&facts(known.clone(), [copy.clone(), witness.clone()])), (Row::J1, Verdict::Resume));
    let held = decide(&facts(copy, [known, witness]));
    assert_eq!((held.row, held.verdict), (Row::R4, Verdict::Held));
    assert!(held.reason.contains("SAFE-2002"), "{}", held.reason);
}

#[test]
fn r5_the_weaker_claim_to_a_name_is_refused() {
    let named = |mut status: InitialStatus, name: &str| {
        status.name = name.into();
        status
    };
    // Recorded before new, whatever the store id.
    assert_eq!(outcome(&facts(named(empty(4), "a"), [dirty(1), dirty(2)])), (Row::R5, REFUSED));
    let low =
        named(InitialStatus { key: crate::io::PeerKey { store: store(0), run: run(0) }, ..empty(4) }, "b");
    assert_eq!(outcome(&facts(low.clone(), [active(1), active(2)])), (Row::R5, REFUSED));
    assert_eq!(outcome(&facts(active(2), [active(1), low])), (Row::J1, Verdict::Resume));
    // Two new ones: the greater store id.
    assert_eq!(outcome(&facts(empty(1), [named(empty(2), "a")])), (Row::W1, Verdict::Wait));
    assert_eq!(outcome(&facts(named(empty(2), "a"), [empty(1)])), (Row::R5, REFUSED));
}

#[test]
fn j1_an_empty_store_under_a_recorded_name_is_updated_and_named() {
    let mut fresh = empty(4);
    fresh.name = "c".into();
    let decision = decide(&facts(fresh, [active(1), active(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::Join));
    assert_eq!(decision.next, ["quorate member replace --name c"]);
    assert!(decision.reason.contains(&store(3).to_string()), "{}", decision.reason);
}

#[test]
fn j1_lineages_decide_who_resumes() {
    let with = |ids: &[u128], number: u128| {
        let mut status = dirty(number);
        let part = &mut status.groups[0];
        part.lineage = epochs(ids);
        part.client_epochs = part.lineage.iter().map(|epoch| epoch.number).collect();
        status
    };
    let mut leader = active(1);
    leader.groups[0].lineage = epochs(&[1, 2]);
    assert_eq!(outcome(&facts(with(&[1, 2], 2), [leader.clone()])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(with(&[1], 2), [leader.clone()])), (Row::J1, Verdict::Join));
    for forked in [&[1, 3][..], &[1, 2, 3], &[4]] {
        let decision = decide(&facts(with(forked, 2), [leader.clone()]));
        assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::NeedsOperator), "{forked:?}");
        assert!(decision.reason.contains("forked"), "{}", decision.reason);
    }
    // Not a voter of the active configuration.
    assert_eq!(outcome(&facts(with(&[1, 2], 4), [leader])), (Row::J1, Verdict::Join));
}

#[test]
fn j1_the_word_of_the_highest_term_counts() {
    // b still believes in a leadership of which c was no voter; a leads a later one of which it is.
    let mut old = active(2);
    old.groups[0].voters = voters(&[1, 2]);
    let mut new = active(1);
    new.groups[0].active.as_mut().unwrap().term = Term(9);
    assert_eq!(outcome(&facts(dirty(3), [old.clone(), new.clone()])), (Row::J1, Verdict::Resume));
    new.groups[0].voters = voters(&[1, 2]);
    old.groups[0].voters = voters(&[1, 2, 3]);
    assert_eq!(outcome(&facts(dirty(3), [old, new])), (Row::J1, Verdict::Join));
}

#[test]
fn an_older_copy_of_a_store_is_not_trusted() {
    let record = |incarnation, run_id: Option<u128>| {
        vec![RecordedRun {
            store: store(1),
            incarnation: Incarnation(incarnation),
            run: run_id.map(run),
            positions: Vec::new(),
        }]
    };
    // The stamp of `dirty(1)` says incarnation 1 and run 1001.
    for (recorded, trusted) in [
        (record(0, Some(7)), true),
        (record(1, None), true),
        (record(1, Some(1001)), true),
        (record(1, Some(7)), false),
        (record(2, None), false),
    ] {
        let mut witness = active(2);
        witness.recorded = recorded.clone();
        let decision = decide(&facts(dirty(1), [witness]));
        let wanted = if trusted { Verdict::Resume } else { Verdict::Join };
        assert_eq!((decision.row, decision.verdict), (Row::J1, wanted), "{recorded:?}");
        assert_eq!(decision.reason.contains("SAFE-2003"), !trusted);
        // Nor does it help to restore.
        let mut witness = dirty(2);
        witness.recorded = recorded;
        let mut all = facts(dirty(1), [witness]);
        all.own.wait_for = 2;
        all.seen[0].wait_for = 2;
        assert_eq!(decide(&all).row, if trusted { Row::C1 } else { Row::W2 });
    }
}

fn forming(number: u128, founders: &[u128], cluster: quorate_store::ids::ClusterId) -> InitialStatus {
    let value = FoundingValue {
        cluster_id: cluster,
        cluster_name: "quorate".into(),
        founders: founders
            .iter()
            .map(|founder| Founder {
                store: store(*founder),
                raft_id: RaftId(u64::try_from(*founder).unwrap()),
                name: name(*founder),
                cluster_address: address(*founder),
                client_address: String::new(),
                admin_address: String::new(),
            })
            .collect(),
        union: founders.iter().map(|founder| Place::Store(store(*founder))).collect(),
        small: false,
    };
    let ballot = Ballot { round: 1, proposer: store(1) };
    let state = FormingState { promised: Some(ballot), accepted: Some((ballot, value)), decided: false };
    InitialStatus { state: StoreState::Forming(state), ..empty(number) }
}

#[test]
fn a_forming_store_beside_its_cluster_is_trusted_at_position_zero() {
    let c = || forming(3, &[1, 2, 3], CLUSTER);
    assert_eq!(outcome(&facts(c(), [active(1), active(2)])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(c(), [dirty(1), untrusted(2)])), (Row::C1, Verdict::Restore));
    assert_eq!(outcome(&facts(dirty(1), [untrusted(2), c()])), (Row::C1, Verdict::Restore));
    // Of another founding it counts as empty, never as foreign.
    let other = || forming(3, &[1, 2, 3], OTHER_CLUSTER);
    assert_eq!(outcome(&facts(other(), [active(1), active(2)])), (Row::J1, Verdict::Join));
    assert_eq!(outcome(&facts(other(), [dirty(1), dirty(2)])), (Row::C1, Verdict::Join));
    assert_eq!(outcome(&facts(dirty(1), [untrusted(2), other()])), (Row::N1, Verdict::NeedsOperator));
    // Among themselves the founding goes on, even if one of them already knows the decision.
    assert_eq!(outcome(&facts(c(), [forming(1, &[1, 2, 3], CLUSTER), empty(2)])), (Row::F2, Verdict::Form));
    // After a forced epoch it is of an earlier history.
    let mut forced = active(1);
    forced.groups[0].lineage = epochs(&[1, 2]);
    assert_eq!(outcome(&facts(c(), [forced])), (Row::J1, Verdict::Join));
}

#[test]
fn c1_never_takes_its_identity_from_an_empty_store() {
    // Two of three voters clean, one absent, and an empty fourth with the lowest or the highest store id.
    for id in [0, 200] {
        let mut fourth = empty(4);
        fourth.key.store = store(id);
        let decision = decide(&facts(clean(1, 1), [clean(2, 1), fourth.clone()]));
        assert_eq!((decision.row, decision.verdict), (Row::C1, Verdict::Restore));
        assert_eq!(decision.cluster_id, Some(CLUSTER));
        assert_eq!(outcome(&facts(fourth, [clean(1, 1), clean(2, 1)])), (Row::C1, Verdict::Join));
    }
}

#[test]
fn c1_goes_by_the_latest_configuration_in_the_logs() {
    // a and b know that c was removed and d and e were added; one of them is not enough then.
    let mut a = dirty(1);
    a.groups[0].voters = voters(&[1, 2, 4, 5]);
    a.groups[0].position = position(3, 40);
    let mut all = facts(a, [dirty(2), dirty(3)]);
    all.own.wait_for = 3;
    let decision = decide(&all);
    assert_eq!((decision.row, decision.verdict), (Row::W2, Verdict::Wait));
    assert_eq!(decision.missing, ["d", "e"]);
    assert!(decision.reason.contains("any 1 of those missing"), "{}", decision.reason);
    // c is not among the voters: it would be updated.
    let mut all = facts(dirty(3), [all.own, dirty(2), dirty(4)]);
    all.seen[0].wait_for = 1;
    assert_eq!(outcome(&all), (Row::C1, Verdict::Join));
}

#[test]
fn x1_two_histories_are_never_chosen_between() {
    let mut b = dirty(2);
    b.groups[0].lineage = epochs(&[1, 2]);
    let mut c = dirty(3);
    c.groups[0].lineage = epochs(&[1, 3]);
    let decision = decide(&facts(dirty(1), [b.clone(), c]));
    assert_eq!((decision.row, decision.verdict), (Row::X1, Verdict::NeedsOperator));
    assert!(decision.reason.contains("of b and c"), "{}", decision.reason);
    // An earlier history beside a later one is no fork: it is updated.
    assert_eq!(outcome(&facts(dirty(1), [b.clone(), empty(3)])), (Row::N1, Verdict::NeedsOperator));
    b.groups[0].voters = voters(&[2]);
    assert_eq!(outcome(&facts(b.clone(), [dirty(1), dirty(3)])), (Row::C1, Verdict::Restore));
    assert_eq!(outcome(&facts(dirty(1), [b, dirty(3)])), (Row::C1, Verdict::Join));
}

#[test]
fn one_recorded_voter_says_manual_for_all() {
    let manual = |mut status: InitialStatus| {
        status.recovery = RecoveryMode::Manual;
        status
    };
    assert_eq!(decide(&facts(dirty(1), [dirty(2), manual(dirty(3))])).row, Row::C2);
    // One that is no voter has no say.
    assert_eq!(decide(&facts(dirty(1), [dirty(2), dirty(3), manual(empty(4))])).row, Row::C1);
    // All clean by one shutdown goes on in either mode.
    assert_eq!(decide(&facts(clean(1, 1), [clean(2, 1), manual(clean(3, 1))])).row, Row::C1);
    let decision = decide(&facts(manual(clean(1, 1)), [clean(2, 2), clean(3, 2)]));
    assert_eq!(decision.row, Row::C3);
    for id in [Uuid::from_u128(1), Uuid::from_u128(2)] {
        assert!(decision.reason.contains(&id.to_string()), "{}", decision.reason);
    }
    // Automatic: the later one is a source only if a majority proves it.
    assert_eq!(decide(&facts(clean(1, 1), [clean(2, 2), clean(3, 2)])).row, Row::C1);
}

#[test]
fn w1_counts_to_the_smaller_of_n_and_the_recorded_voters() {
    let decision = decide(&facts(dirty(1), [dirty(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::W1, Verdict::Wait));
    assert_eq!(decision.missing, ["c"]);
    assert_eq!(decision.next, ["quorated … --name c", "quorated … --cluster-wait-for 2"]);
    assert!(decision.reason.contains("2 of 3"), "{}", decision.reason);
    // The largest N counts, with a note; but never more than there are voters.
    let mut all = facts(dirty(1), [dirty(2)]);
    all.own.wait_for = 1;
    let decision = decide(&all);
    assert_eq!(decision.row, Row::W1);
    assert!(decision.notes.iter().any(|note| note.contains("--cluster-wait-for differs")), "{decision:?}");
    let mut all = facts(dirty(1), [dirty(2), dirty(3)]);
    all.own.wait_for = 5;
    assert_eq!(decide(&all).row, Row::C1);
    // Nothing recorded yet: N itself, and the addresses that do not answer.
    let decision = decide(&facts(empty(1), [empty(3)]));
    assert_eq!((decision.row, decision.missing), (Row::W1, vec!["b:7421".to_owned()]));
}

#[test]
fn f3_names_the_rule_that_is_not_met() {
    let alone = |allow_small| {
        let mut all = facts(empty(1), []);
        all.own.wait_for = 1;
        all.own.allow_small = allow_small;
        decide(&all)
    };
    let decision = alone(false);
    assert_eq!((decision.row, decision.verdict), (Row::F3, Verdict::Wait));
    let starts = ["quorated … --cluster-advertise b:7421", "quorated … --cluster-advertise c:7421"];
    assert_eq!(decision.next, [starts[0], starts[1], "quorated … --allow-small-cluster"]);
    assert_eq!(decision.missing, ["b:7421", "c:7421"]);
    assert_eq!((alone(true).row, alone(true).verdict), (Row::F2, Verdict::Form));
    // A store started for a certain cluster never founds, and the others found without it.
    let mut waiting = empty(1);
    waiting.cluster_id_wanted = Some(CLUSTER);
    let decision = decide(&facts(waiting.clone(), [empty(2), empty(3)]));
    assert_eq!((decision.row, decision.verdict), (Row::F3, Verdict::Wait));
    assert!(decision.reason.contains("--cluster-id"), "{}", decision.reason);
    assert_eq!(outcome(&facts(waiting.clone(), [active(2)])), (Row::J1, Verdict::Join));
    assert_eq!(outcome(&facts(waiting.clone(), [foreign(active(2)), empty(3)])).0, Row::W1);
    let mut all = facts(empty(2), [waiting, empty(3)]);
    assert_eq!(decide(&all).row, Row::F3, "2 of the 3 waited for may found");
    for status in all.seen.iter_mut().chain([&mut all.own]) {
        status.wait_for = 2;
    }
    assert_eq!(outcome(&all), (Row::F2, Verdict::Form));
}

#[test]
fn f1_transient_brokers_found_unless_one_kept_data() {
    assert_eq!(outcome(&facts(transient(1), [transient(2), transient(3)])), (Row::F1, Verdict::Form));
    assert_eq!(outcome(&facts(transient(1), [transient(2)])), (Row::W1, Verdict::Wait));
    // b and c restarted, with new stores under their old names: nobody founds beside a.
    let restarted = |number: u128, id: u128| {
        let mut status = transient(number);
        status.key.store = store(id);
        status
    };
    let fresh = [restarted(2, 12), restarted(3, 13)];
    let decision = decide(&facts(survivor(1), fresh.clone()));
    assert_eq!((decision.row, decision.verdict), (Row::F1, Verdict::NeedsOperator));
    assert!(decision.next[0].contains("--required-nodes 1"), "{:?}", decision.next);
    let all = facts(fresh[0].clone(), [survivor(1), fresh[1].clone()]);
    assert_eq!(outcome(&all), (Row::F1, Verdict::Wait));
    // Only b restarted: c may be on the other side of a cut link, so a waits for it.
    let [b, _] = fresh;
    assert_eq!(outcome(&facts(survivor(1), [b.clone()])), (Row::Q1, Verdict::Wait));
    assert_eq!(outcome(&facts(b.clone(), [survivor(1)])), (Row::Q1, Verdict::Wait));
    // With c the two go on, and b joins them.
    assert_eq!(outcome(&facts(survivor(1), [survivor(3), b.clone()])), (Row::J2, Verdict::Resume));
    assert_eq!(outcome(&facts(b, [survivor(1), survivor(3)])), (Row::J2, Verdict::Join));
}

#[test]
fn f1_the_survivor_of_two_is_told_of_take_over() {
    let mut own = survivor(1);
    own.groups[0].voters = voters(&[1, 2]);
    let mut fresh = transient(2);
    fresh.key.store = store(12);
    let decision = decide(&facts(own, [fresh]));
    assert_eq!(decision.row, Row::F1);
    assert!(decision.next[0].contains("take-over --node a"), "{:?}", decision.next);
}

#[test]
fn w2_and_n1_tell_what_each_voter_lacks() {
    let decision = decide(&facts(dirty(1), [untrusted(2), damaged(3), empty(4)]));
    assert_eq!((decision.row, decision.verdict), (Row::N1, Verdict::NeedsOperator));
    for part in ["b may lack what it acknowledged", "c lost its store", "that of b"] {
        assert!(decision.reason.contains(part), "{part} not in {}", decision.reason);
    }
    assert_eq!(decision.next, ["quorate store inspect DIR…", "quorate store mark-clean DIR --reason TEXT"]);
    // A missing voter whose name an empty store answers is not waited for.
    let mut answered = empty(4);
    answered.name = "c".into();
    assert_eq!(decide(&facts(dirty(1), [untrusted(2), answered])).row, Row::N1);
    assert_eq!(decide(&facts(dirty(1), [untrusted(2), empty(4)])).row, Row::W2);
}

/// The same brokers with a virtual host of their own.
fn with_orders(mut status: InitialStatus) -> InitialStatus {
    let mut orders = status.groups[0].clone();
    orders.group = ORDERS;
    orders.vhost = "orders".into();
    status.groups.push(orders);
    status
}

#[test]
fn a_group_waits_alone() {
    let mut b = with_orders(dirty(2));
    b.groups[1].trusted = false;
    let mut c = with_orders(dirty(3));
    c.groups[1].trusted = false;
    let all = facts(with_orders(dirty(1)), [b, c]);
    assert_eq!(all.groups(), [GroupId::SYSTEM, ORDERS]);
    assert_eq!(outcome(&all), (Row::C1, Verdict::Restore));
    let decision = decide_group(&all, ORDERS);
    assert_eq!((decision.row, decision.verdict), (Row::N1, Verdict::NeedsOperator));
    assert!(decision.reason.contains("virtual host orders"), "{}", decision.reason);
    // Without system no group goes on.
    let all = facts(with_orders(dirty(1)), [with_orders(dirty(2))]);
    assert_eq!(decide_group(&all, ORDERS).row, Row::W1);
    // But one that is active is joined or resumed whatever system does.
    let mut runs = with_orders(ran(2));
    runs.groups[1].active = active(2).groups[0].active;
    let all = facts(with_orders(ran(1)), [runs]);
    assert_eq!(decide(&all).row, Row::J2);
    assert_eq!(decide_group(&all, ORDERS).row, Row::J1);
}

#[test]
fn a_group_that_a_store_never_held_counts_at_position_zero() {
    // c ended before it heard that the virtual host was created: it acknowledged nothing of it.
    let all = facts(with_orders(dirty(1)), [dirty(3), empty(2)]);
    let decision = decide_group(&all, ORDERS);
    assert_eq!((decision.row, decision.verdict), (Row::C1, Verdict::Restore));
    // A store that may have lost its past may have lost the group.
    let all = facts(with_orders(dirty(1)), [untrusted(3), with_orders(dirty(2))]);
    assert_eq!(decide_group(&all, ORDERS).verdict, Verdict::Restore);
    let all = facts(with_orders(dirty(1)), [untrusted(3), dirty(2)]);
    assert_eq!(decide_group(&all, ORDERS).row, Row::C1);
    let mut all = facts(with_orders(untrusted(1)), [dirty(2), dirty(3)]);
    all.own.groups[1].trusted = true;
    all.seen[1].groups[0].trusted = false;
    all.seen[0].groups[0].trusted = true;
    assert_eq!(decide(&all).row, Row::N1, "system decides first");
}

#[test]
fn a_single_broker_restores_itself() {
    let alone = |mut status: InitialStatus| {
        status.wait_for = 1;
        status.groups[0].voters = vec![VoterRef { store: store(1), name: "a".into(), raft_id: RaftId(1) }];
        facts(status, [])
    };
    assert_eq!(outcome(&alone(dirty(1))), (Row::C1, Verdict::Restore));
    assert_eq!(outcome(&alone(ran(1))), (Row::J2, Verdict::Resume));
    assert_eq!(outcome(&alone(untrusted(1))), (Row::N1, Verdict::NeedsOperator));
}

/// What people are told holds no trace of the program's own notation.
fn assert_plain(decision: &Decision) {
    for text in std::iter::once(&decision.reason).chain(&decision.next).chain(&decision.notes) {
        assert!(!text.is_empty(), "{decision:?}");
        for artefact in ["(\"", "Some(", "None", "{", "}", "[", "Id(", "  ", "()"] {
            assert!(!text.contains(artefact), "{artefact} in: {text}");
        }
    }
}

#[test]
fn every_row_that_holds_a_broker_says_why_in_plain_words_and_what_next() {
    let manual = |mut status: InitialStatus| {
        status.recovery = RecoveryMode::Manual;
        status
    };
    let mut all = Vec::new();
    for a in KINDS.into_iter().filter(|kind| *kind != Absent) {
        for b in KINDS {
            for c in KINDS {
                for wait_for in [1, 2, 3, 9] {
                    let seen = [b.status(2), c.status(3)].into_iter().flatten();
                    let mut facts = facts(a.status(1).unwrap(), seen);
                    for status in facts.seen.iter_mut().chain([&mut facts.own]) {
                        status.wait_for = wait_for;
                    }
                    all.push(facts.clone());
                    facts.own = manual(facts.own);
                    all.push(facts);
                }
            }
        }
    }
    let mut copy = dirty(1);
    copy.key.run = run(99);
    let mut forked = [dirty(1), dirty(2)];
    forked[0].groups[0].lineage = epochs(&[1, 2]);
    forked[1].groups[0].lineage = epochs(&[1, 3]);
    let [one, two] = forked;
    let namesake = InitialStatus { name: "a".into(), ..empty(2) };
    let running = InitialStatus { state: StoreState::Transient { was_active: true }, ..active(2) };
    let wanting = InitialStatus { cluster_id_wanted: Some(CLUSTER), ..empty(1) };
    let founded = |mut status: InitialStatus, at| {
        status.founded_ms = Some(at);
        status.messages = Some(at);
        status
    };
    let restarted =
        [(4, "b"), (5, "c")].map(|(number, name)| InitialStatus { name: name.into(), ..transient(number) });
    let mut lonely = empty(1);
    lonely.peers.truncate(1);
    lonely.wait_for = 2;
    all.extend([
        facts(transient(1), [dirty(2)]),
        facts(empty(1), [running]),
        facts(dirty(1), [copy]),
        facts(namesake, [empty(1)]),
        facts(one.clone(), [two, dirty(3)]),
        facts(one, [active(2)]),
        facts(wanting, []),
        facts(survivor(1), restarted.clone()),
        facts(restarted[0].clone(), [survivor(1), restarted[1].clone()]),
        facts(survivor(1), []),
        facts(founded(dirty(1), 1), [founded(foreign(active(2)), 2)]),
        facts(founded(dirty(1), 2), [founded(foreign(dirty(2)), 1)]),
        facts(empty(1), [dirty(2), foreign(dirty(3))]),
        facts(lonely, []),
        facts(empty(4), [active(1), active(2), active(3)]),
    ]);
    let mut panicked = dirty(1);
    panicked.panicked = Some("another process writes to this store".into());
    let mut primary = ran(1);
    primary.groups[0].voters = voters(&[1, 2]);
    primary.groups[0].designated = Some(1);
    primary.groups[0].peer_silent = true;
    let mark = |number, id| marked(dirty(number), id, false, &[unknown(&dirty(3))]);
    let mut served = begun(mark(1, 8));
    served.groups[0].client_epochs.push(Epoch(2));
    all.extend([
        facts(panicked.clone(), [dirty(2)]),
        facts(dirty(1), [panicked]),
        facts(primary.clone(), [empty(4)]),
        facts(empty(4), [primary]),
        facts(mark(1, 8), []),
        facts(mark(1, 8), [dirty(2), dirty(3)]),
        facts(dirty(3), [mark(1, 8), dirty(2)]),
        facts(dirty(3), [mark(1, 8), mark(2, 9)]),
        facts(begun(mark(1, 8)), [dirty(2)]),
        facts(mark(1, 8), [active(2)]),
        facts(begun(mark(1, 8)), [active(2)]),
        facts(served, [active(2)]),
    ]);
    let mut held = BTreeSet::new();
    for facts in &all {
        let decision = decide(facts);
        assert_plain(&decision);
        match decision.verdict {
            Verdict::Wait | Verdict::NeedsOperator | Verdict::Held | Verdict::Refuse { .. } => {
                assert!(!decision.next.is_empty(), "{decision:?}");
                held.insert(decision.row);
            }
            Verdict::Join => assert!(decision.reason.contains("updated"), "{}", decision.reason),
            Verdict::Form | Verdict::Restore | Verdict::Resume => {}
        }
    }
    let go_on = [Row::J2, Row::P1, Row::F2, Row::C1];
    for row in Row::ALL {
        assert_ne!(held.contains(&row), go_on.contains(&row), "{row}");
    }
}

#[test]
fn q1_and_w1_name_what_to_start() {
    let decision = decide(&facts(ran(1), []));
    assert_eq!(decision.row, Row::Q1);
    assert_eq!(decision.next, ["quorated … --name b", "quorated … --name c"]);
    let decision = decide(&facts(empty(1), [empty(2)]));
    assert_eq!(decision.row, Row::W1);
    assert_eq!(decision.next, ["quorated … --cluster-advertise c:7421", "quorated … --cluster-wait-for 2"]);
    // One of three cannot found by a smaller number alone.
    let decision = decide(&facts(empty(1), []));
    assert_eq!(
        decision.next.last().map(String::as_str),
        Some("quorated … --cluster-wait-for 1 --allow-small-cluster")
    );
}
