//! [`InitialStatus`] as bytes, for the peer link and for `facts` files. Little-endian; a version first.
//!
//! A newer version may only append: what follows the fields known here is skipped, so that old and new brokers
//! understand each other during a rolling upgrade.

use quorate_store::ids::{Epoch, GroupId, Incarnation, RaftId, Term};

use crate::io::PeerKey;
use crate::machine::{SAFETY_NUMBERS, SafetyNumbers};

use super::forming::FormingState;
use super::limits::{ADDRESS_BYTES, EPOCHS, GROUPS, MEMBERS, NAME_BYTES, REASON_BYTES, STATUS_BYTES};
use super::lineage_wire::{read_epoch, write_epoch};
use super::status::{
    Active, GroupStatus, InitialStatus, PeerRef, RecordedRun, RecoveryMode, StoreState, VoterRef,
};
use super::wire::{DecodeError, Reader, Writer};

/// The version written here.
const VERSION: u16 = 5;
/// The oldest version read here; it knows no safety number. Version 3 knows no deleted groups, version 4 no rivals.
const OLDEST: u16 = 2;

impl InitialStatus {
    /// The bytes that [`Self::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(VERSION);
        out.uuid(self.key.store.0);
        out.uuid(self.key.run.0);
        out.text(&self.name, NAME_BYTES);
        out.text(&self.cluster_name, NAME_BYTES);
        out.text(&self.cluster_address, ADDRESS_BYTES);
        out.text(&self.client_address, ADDRESS_BYTES);
        out.text(&self.admin_address, ADDRESS_BYTES);
        write_state(&mut out, &self.state);
        out.option(self.cluster_id.as_ref(), |out, id| out.uuid(id.0));
        out.option(self.cluster_id_wanted.as_ref(), |out, id| out.uuid(id.0));
        out.option(self.founded_ms.as_ref(), |out, millis| out.u64(*millis));
        out.option(self.messages.as_ref(), |out, count| out.u64(*count));
        out.u64(self.incarnation.0);
        out.option(self.stamped_run.as_ref(), |out, run| out.uuid(run.0));
        out.list(&self.recorded, |out, recorded| {
            out.uuid(recorded.store.0);
            out.u64(recorded.incarnation.0);
            out.option(recorded.run.as_ref(), |out, run| out.uuid(run.0));
            out.list(&recorded.positions, |out, (group, position)| {
                out.u32(group.0);
                out.position(*position);
            });
        });
        out.list(&self.groups, write_group);
        out.u32(self.wait_for);
        out.flag(self.allow_small);
        out.flag(self.recovery == RecoveryMode::Manual);
        out.list(&self.peers, |out, peer| {
            out.text(&peer.text, ADDRESS_BYTES);
            out.option(peer.resolved.as_ref(), |out, store| out.uuid(store.0));
        });
        out.list(&self.possible_members, |out, store| out.uuid(store.0));
        out.option(self.panicked.as_ref(), |out, cause| out.text(cause, REASON_BYTES));
        out.u64(self.safety.renewals());
        out.list(&self.safety.recent().collect::<Vec<_>>(), |out, number| out.u64(*number));
        out.list(&self.deleted, |out, (first, last)| {
            out.u32(first.0);
            out.u32(last.0);
        });
        out.list(&self.rivalled, |out, key| {
            out.uuid(key.store.0);
            out.uuid(key.run.0);
        });
        out.finish()
    }

    /// Reads a status from anyone, hostile or not: bounded, never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new("status", bytes, STATUS_BYTES)?;
        let version = from.u16("status: version")?;
        if version < OLDEST {
            return Err(DecodeError::Unknown { what: "status: version", found: u64::from(version) });
        }
        let status = Self {
            key: PeerKey { store: from.store("status: store id")?, run: from.run("status: run id")? },
            name: from.text("status: name", NAME_BYTES)?,
            cluster_name: from.text("status: cluster name", NAME_BYTES)?,
            cluster_address: from.text("status: cluster address", ADDRESS_BYTES)?,
            client_address: from.text("status: client address", ADDRESS_BYTES)?,
            admin_address: from.text("status: admin address", ADDRESS_BYTES)?,
            state: read_state(&mut from)?,
            cluster_id: from.option("status: cluster id", |from| from.cluster("status: cluster id"))?,
            cluster_id_wanted: from
                .option("status: wanted cluster id", |from| from.cluster("status: wanted cluster id"))?,
            founded_ms: from.option("status: founded", |from| from.u64("status: founded"))?,
            messages: from.option("status: messages", |from| from.u64("status: messages"))?,
            incarnation: Incarnation(from.u64("status: incarnation")?),
            stamped_run: from.option("status: stamped run", |from| from.run("status: stamped run"))?,
            recorded: from.list("status: recorded runs", MEMBERS, |from| {
                Ok(RecordedRun {
                    store: from.store("recorded run: store id")?,
                    incarnation: Incarnation(from.u64("recorded run: incarnation")?),
                    run: from.option("recorded run: run id", |from| from.run("recorded run: run id"))?,
                    positions: from.list("recorded run: positions", GROUPS, |from| {
                        let group = GroupId(from.u32("recorded position: group")?);
                        Ok((group, from.position("recorded position")?))
                    })?,
                })
            })?,
            groups: from.list("status: groups", GROUPS, read_group)?,
            wait_for: from.u32("status: wait-for")?,
            allow_small: from.flag("status: allow-small-cluster")?,
            recovery: if from.flag("status: recovery mode")? {
                RecoveryMode::Manual
            } else {
                RecoveryMode::Automatic
            },
            peers: from.list("status: peers", MEMBERS, |from| {
                Ok(PeerRef {
                    text: from.text("peer: address", ADDRESS_BYTES)?,
                    resolved: from.option("peer: store id", |from| from.store("peer: store id"))?,
                })
            })?,
            possible_members: from
                .list("status: possible members", MEMBERS, |from| from.store("possible member: store id"))?,
            panicked: from.option("status: panic", |from| from.text("status: panic", REASON_BYTES))?,
            safety: if version >= 3 { read_safety(&mut from)? } else { SafetyNumbers::default() },
            deleted: if version >= 4 { read_deleted(&mut from)? } else { Vec::new() },
            rivalled: if version >= 5 { read_rivalled(&mut from)? } else { Vec::new() },
        };
        if version <= VERSION {
            from.end("status")?;
        }
        Ok(status)
    }
}

fn read_deleted(from: &mut Reader<'_>) -> Result<Vec<(GroupId, GroupId)>, DecodeError> {
    from.list("status: deleted groups", GROUPS, |from| {
        Ok((GroupId(from.u32("first deleted group")?), GroupId(from.u32("last deleted group")?)))
    })
}

fn read_rivalled(from: &mut Reader<'_>) -> Result<Vec<PeerKey>, DecodeError> {
    from.list("status: rivalled processes", MEMBERS, |from| {
        Ok(PeerKey { store: from.store("rivalled: store id")?, run: from.run("rivalled: run id")? })
    })
}

fn read_safety(from: &mut Reader<'_>) -> Result<SafetyNumbers, DecodeError> {
    let renewals = from.u64("status: safety renewals")?;
    let recent = from.list("status: safety numbers", SAFETY_NUMBERS, |from| from.u64("safety number"))?;
    SafetyNumbers::new(renewals, recent)
        .ok_or(DecodeError::Unknown { what: "status: safety renewals", found: renewals })
}

fn write_state(out: &mut Writer, state: &StoreState) {
    match state {
        StoreState::Transient { was_active } => {
            out.u8(0);
            out.flag(*was_active);
        }
        StoreState::Empty => out.u8(1),
        StoreState::Forming(forming) => {
            out.u8(2);
            forming.write(out);
        }
        StoreState::Dirty => out.u8(3),
        StoreState::Clean { shutdown } => {
            out.u8(4);
            out.uuid(*shutdown);
        }
        StoreState::Recovered { recovery } => {
            out.u8(5);
            out.uuid(*recovery);
        }
        StoreState::Damaged { reason } => {
            out.u8(6);
            out.text(reason, REASON_BYTES);
        }
    }
}

fn read_state(from: &mut Reader<'_>) -> Result<StoreState, DecodeError> {
    Ok(match from.u8("status: state")? {
        0 => StoreState::Transient { was_active: from.flag("state: was active")? },
        1 => StoreState::Empty,
        2 => StoreState::Forming(FormingState::read(from)?),
        3 => StoreState::Dirty,
        4 => StoreState::Clean { shutdown: from.uuid("state: shutdown id")? },
        5 => StoreState::Recovered { recovery: from.uuid("state: recovery id")? },
        6 => StoreState::Damaged { reason: from.text("state: damage", REASON_BYTES)? },
        other => return Err(DecodeError::Unknown { what: "status: state", found: u64::from(other) }),
    })
}

fn write_group(out: &mut Writer, group: &GroupStatus) {
    out.u32(group.group.0);
    out.text(&group.vhost, NAME_BYTES);
    out.list(&group.lineage, write_epoch);
    out.list(&group.client_epochs, |out, epoch| out.u32(epoch.0));
    out.position(group.position);
    out.u64(group.term.0);
    out.list(&group.voters, write_voter);
    out.list(&group.learners, write_voter);
    out.flag(group.trusted);
    out.option(group.active.as_ref(), |out, active| {
        out.uuid(active.leader.0);
        out.u64(active.term.0);
    });
    out.flag(group.was_active_this_run);
    out.option(group.designated.as_ref(), |out, number| out.u64(*number));
    out.flag(group.peer_silent);
}

fn read_group(from: &mut Reader<'_>) -> Result<GroupStatus, DecodeError> {
    Ok(GroupStatus {
        group: GroupId(from.u32("group: id")?),
        vhost: from.text("group: virtual host", NAME_BYTES)?,
        lineage: from.list("group: lineage", EPOCHS, read_epoch)?,
        client_epochs: from
            .list("group: client epochs", EPOCHS, |from| Ok(Epoch(from.u32("client epoch: number")?)))?,
        position: from.position("group: position")?,
        term: Term(from.u64("group: term")?),
        voters: from.list("group: voters", MEMBERS, read_voter)?,
        learners: from.list("group: learners", MEMBERS, read_voter)?,
        trusted: from.flag("group: trusted")?,
        active: from.option("group: active", |from| {
            Ok(Active { leader: from.store("active: leader")?, term: Term(from.u64("active: term")?) })
        })?,
        was_active_this_run: from.flag("group: was active")?,
        designated: from.option("group: designated", |from| from.u64("group: designated"))?,
        peer_silent: from.flag("group: peer is silent")?,
    })
}

fn write_voter(out: &mut Writer, voter: &VoterRef) {
    out.uuid(voter.store.0);
    out.text(&voter.name, NAME_BYTES);
    out.u64(voter.raft_id.0);
}

fn read_voter(from: &mut Reader<'_>) -> Result<VoterRef, DecodeError> {
    Ok(VoterRef {
        store: from.store("voter: store id")?,
        name: from.text("voter: name", NAME_BYTES)?,
        raft_id: RaftId(from.u64("voter: raft id")?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use quorate_store::ids::{ClusterId, Index, Position, RunId, StoreId};
    use quorate_store::stamp::{EpochCause, EpochEntry, Known, LeftOut};
    use uuid::Uuid;

    use super::super::forming::{Ballot, Founder, FoundingValue, Place};
    use super::super::founding::FoundingMessage;
    use super::*;

    fn uuid() -> impl Strategy<Value = Uuid> {
        any::<u128>().prop_map(Uuid::from_u128)
    }

    fn store() -> impl Strategy<Value = StoreId> {
        uuid().prop_map(StoreId)
    }

    fn ballot() -> impl Strategy<Value = Ballot> {
        (any::<u64>(), store()).prop_map(|(round, proposer)| Ballot { round, proposer })
    }

    fn value() -> impl Strategy<Value = FoundingValue> {
        let founder =
            (store(), any::<u64>(), ".{0,20}", ".{0,20}").prop_map(|(store, raft_id, name, address)| {
                Founder {
                    store,
                    raft_id: RaftId(raft_id),
                    name,
                    cluster_address: address.clone(),
                    client_address: format!("{address}0"),
                    admin_address: format!("{address}2"),
                }
            });
        let place = prop_oneof![store().prop_map(Place::Store), ".{0,20}".prop_map(Place::Address)];
        (uuid(), ".{0,20}", vec(founder, 0..4), vec(place, 0..4), any::<bool>()).prop_map(
            |(id, cluster_name, founders, union, small)| FoundingValue {
                cluster_id: ClusterId(id),
                cluster_name,
                founders,
                union,
                small,
            },
        )
    }

    fn forming() -> impl Strategy<Value = FormingState> {
        (option::of(ballot()), option::of((ballot(), value())), any::<bool>()).prop_map(
            |(promised, accepted, decided)| FormingState {
                promised,
                decided: decided && accepted.is_some(),
                accepted,
            },
        )
    }

    fn state() -> impl Strategy<Value = StoreState> {
        prop_oneof![
            any::<bool>().prop_map(|was_active| StoreState::Transient { was_active }),
            Just(StoreState::Empty),
            forming().prop_map(StoreState::Forming),
            Just(StoreState::Dirty),
            uuid().prop_map(|shutdown| StoreState::Clean { shutdown }),
            uuid().prop_map(|recovery| StoreState::Recovered { recovery }),
            ".{0,40}".prop_map(|reason| StoreState::Damaged { reason }),
        ]
    }

    fn voter() -> impl Strategy<Value = VoterRef> {
        (store(), ".{0,20}", any::<u64>()).prop_map(|(store, name, raft_id)| VoterRef {
            store,
            name,
            raft_id: RaftId(raft_id),
        })
    }

    fn position() -> impl Strategy<Value = Position> {
        (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(epoch, term, index)| Position {
            epoch: Epoch(epoch),
            term: Term(term),
            index: Index(index),
        })
    }

    fn epoch() -> impl Strategy<Value = EpochEntry> {
        let cause = prop_oneof![
            Just(EpochCause::Founding),
            (uuid(), any::<bool>(), any::<u32>(), any::<u64>()).prop_map(
                |(recovery, alone, members, sole)| {
                    EpochCause::Mark { recovery, alone, members, sole: RaftId(sole) }
                }
            ),
            (any::<u64>(), any::<u64>())
                .prop_map(|(sole, lease_ms)| EpochCause::Override { sole: RaftId(sole), lease_ms }),
            (any::<u64>(), any::<u64>())
                .prop_map(|(sole, number)| EpochCause::Solo { sole: RaftId(sole), number }),
            (any::<u64>(), any::<u64>())
                .prop_map(|(sole, number)| EpochCause::TakeOver { sole: RaftId(sole), number }),
        ];
        let known = (any::<u64>(), position(), uuid()).prop_map(|(incarnation, position, tip)| Known {
            incarnation: Incarnation(incarnation),
            position,
            tip,
        });
        let left_out = (store(), ".{0,20}", (any::<bool>(), any::<bool>()), option::of(known))
            .prop_map(|(store, name, (voter, named), known)| LeftOut { store, name, voter, named, known });
        let numbers = (any::<u32>(), uuid(), position(), any::<u64>(), any::<u64>());
        (numbers, cause, vec(left_out, 0..3), ".{0,20}", ".{0,20}").prop_map(
            |((number, id, fork, term, when_ms), cause, left_out, who, why)| EpochEntry {
                number: Epoch(number),
                id,
                fork,
                term: Term(term),
                cause,
                left_out,
                who,
                when_ms,
                why,
            },
        )
    }

    fn group() -> impl Strategy<Value = GroupStatus> {
        let active = (store(), any::<u64>()).prop_map(|(leader, term)| Active { leader, term: Term(term) });
        let history = (vec(epoch(), 0..3), vec(any::<u32>().prop_map(Epoch), 0..3));
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        (
            (any::<u32>(), ".{0,20}", history, position(), any::<u64>()),
            (vec(voter(), 0..4), vec(voter(), 0..3), flags, option::of(active), option::of(any::<u64>())),
        )
            .prop_map(
                |((group, vhost, history, position, term), (voters, learners, flags, active, designated))| {
                    let (lineage, client_epochs) = history;
                    let (trusted, was_active_this_run, peer_silent) = flags;
                    GroupStatus {
                        group: GroupId(group),
                        vhost,
                        lineage,
                        client_epochs,
                        position,
                        term: Term(term),
                        voters,
                        learners,
                        trusted,
                        active,
                        was_active_this_run,
                        designated,
                        peer_silent,
                    }
                },
            )
    }

    fn status() -> impl Strategy<Value = InitialStatus> {
        let positions = vec((any::<u32>().prop_map(GroupId), position()), 0..3);
        let recorded = (store(), any::<u64>(), option::of(uuid()), positions).prop_map(
            |(store, incarnation, run, positions)| RecordedRun {
                store,
                incarnation: Incarnation(incarnation),
                run: run.map(RunId),
                positions,
            },
        );
        let peer = (".{0,20}", option::of(store())).prop_map(|(text, resolved)| PeerRef { text, resolved });
        let ids = (store(), uuid(), option::of(uuid()), option::of(uuid()), option::of(uuid()));
        let texts = (".{0,20}", ".{0,20}", ".{0,20}");
        let numbers = (option::of(any::<u64>()), option::of(any::<u64>()), any::<u64>(), any::<u32>());
        let safety = vec(any::<u64>(), 0..12).prop_map(|numbers| {
            let mut safety = SafetyNumbers::default();
            for number in numbers {
                safety.renew(number);
            }
            safety
        });
        let members = (vec(store(), 0..4), option::of(".{0,40}"), safety);
        let lists = (vec(recorded, 0..4), vec(group(), 0..3), vec(peer, 0..4), members);
        let rival = (store(), uuid()).prop_map(|(store, run)| PeerKey { store, run: RunId(run) });
        let later = (vec((any::<u32>(), any::<u32>()), 0..4), vec(rival, 0..3));
        (ids, texts, state(), numbers, lists, later, any::<bool>(), any::<bool>()).prop_map(
            |(ids, texts, state, numbers, lists, (deleted, rivalled), allow_small, manual)| {
                let (store, run, cluster, wanted, stamped) = ids;
                let (name, cluster_name, address) = texts;
                let (founded_ms, messages, incarnation, wait_for) = numbers;
                let (recorded, groups, peers, (possible_members, panicked, safety)) = lists;
                InitialStatus {
                    key: PeerKey { store, run: RunId(run) },
                    name,
                    cluster_name,
                    cluster_address: address.clone(),
                    client_address: format!("{address}0"),
                    admin_address: format!("{address}2"),
                    state,
                    cluster_id: cluster.map(ClusterId),
                    cluster_id_wanted: wanted.map(ClusterId),
                    founded_ms,
                    messages,
                    incarnation: Incarnation(incarnation),
                    stamped_run: stamped.map(RunId),
                    recorded,
                    groups,
                    wait_for,
                    allow_small,
                    recovery: if manual { RecoveryMode::Manual } else { RecoveryMode::Automatic },
                    peers,
                    possible_members,
                    panicked,
                    safety,
                    deleted: deleted.into_iter().map(|(a, b)| (GroupId(a), GroupId(b))).collect(),
                    rivalled,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(status in status()) {
            prop_assert_eq!(InitialStatus::decode(&status.encode()), Ok(status));
        }

        #[test]
        fn every_cut_and_every_surplus_is_an_error(status in status(), cut in any::<prop::sample::Index>()) {
            let mut bytes = status.encode();
            prop_assert!(InitialStatus::decode(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert_eq!(
                InitialStatus::decode(&bytes),
                Err(DecodeError::Long { what: "status", extra: 1 })
            );
        }

        #[test]
        fn a_newer_version_may_append(status in status(), surplus in vec(any::<u8>(), 0..20)) {
            let mut bytes = status.encode();
            bytes[0] = u8::try_from(VERSION + 1).unwrap();
            bytes.extend(surplus);
            prop_assert_eq!(InitialStatus::decode(&bytes), Ok(status));
        }

        #[test]
        fn foreign_bytes_are_errors_and_never_panics(
            mut bytes in vec(any::<u8>(), 0..400),
            status in status(),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let _ = InitialStatus::decode(&bytes);
            let _ = FoundingMessage::decode(&bytes);
            let _ = FoundingValue::from_bytes(&bytes);
            bytes.splice(0..0, [2, 0]);
            let _ = InitialStatus::decode(&bytes);
            let _ = FoundingMessage::decode(&bytes);
            let _ = FoundingValue::from_bytes(&bytes);
            let mut bytes = status.encode();
            // Behind the version: a newer one reads the same.
            let at = 2 + at.index(bytes.len() - 2);
            bytes[at] ^= flip;
            if let Ok(other) = InitialStatus::decode(&bytes) {
                prop_assert_ne!(other, status);
            }
        }

        #[test]
        fn founding_messages_are_read_as_written(
            ballot in ballot(),
            promised in ballot(),
            value in value(),
            accepted in option::of((ballot(), value())),
        ) {
            for message in [
                FoundingMessage::Prepare { ballot },
                FoundingMessage::Promise { ballot, accepted },
                FoundingMessage::Accept { ballot, value: value.clone() },
                FoundingMessage::Accepted { ballot },
                FoundingMessage::Refused { ballot, promised },
                FoundingMessage::Learn { ballot, value: value.clone() },
                FoundingMessage::Learned,
            ] {
                prop_assert_eq!(FoundingMessage::decode(&message.encode()), Ok(message));
            }
            prop_assert_eq!(FoundingValue::from_bytes(&value.to_bytes()), Ok(value));
        }

        #[test]
        fn the_forming_state_survives_the_stamp(state in forming()) {
            let stamped = quorate_store::stamp::FormingState::from(&state);
            prop_assert_eq!(FormingState::try_from(&stamped), Ok(state));
        }
    }

    #[test]
    fn a_newer_value_in_the_stamp_names_both_versions() {
        let value = FoundingValue {
            cluster_id: ClusterId(Uuid::nil()),
            cluster_name: "quorate".into(),
            founders: Vec::new(),
            union: Vec::new(),
            small: false,
        };
        let mut bytes = value.to_bytes();
        bytes[0] = 9;
        let error = FoundingValue::from_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains('9') && error.contains("up to 1"), "{error}");
    }

    #[test]
    fn announced_lengths_are_never_trusted() {
        let mut out = Writer::default();
        out.u16(VERSION);
        out.uuid(Uuid::nil());
        out.uuid(Uuid::nil());
        out.u32(u32::MAX);
        let error = InitialStatus::decode(&out.finish()).unwrap_err();
        assert!(matches!(error, DecodeError::Limit { what: "status: name", .. }), "{error}");
    }
}
