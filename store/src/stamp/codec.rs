//! The stamp's content as text, and back. The layout is frozen: a change is a new format version.

use bytes::Bytes;
use uuid::Uuid;

use super::lineage::{read_epoch, write_epoch};
use super::{
    Ballot, Durability, DurabilityPolicy, FormingState, GroupStamp, RecoveryMode, Stamp, StampError,
    StampMember, StampState, Witness,
};
use crate::ids::{ClusterId, GroupId, Incarnation, Position, RaftId, RunId, StoreId};
use crate::log::SyncedPoint;
use crate::text::{Reader, TextError, Writer};

/// The format this version writes, and the only one it reads.
pub const STAMP_FORMAT: u16 = 2;
/// Longest content of a slot, in bytes, without padding.
pub const MAX_STAMP_BYTES: usize = 1 << 20;
/// Most groups, members, possible members, witnessed stores and positions of one, epochs of one group, and stores left
/// out by one epoch.
pub const MAX_STAMP_ITEMS: usize = 4096;

const FIRST: &str = "quorate-stamp ";
const LAST: &str = "crc32 = ";

impl Stamp {
    /// The content of a slot: first line `quorate-stamp <format>`, then the fields, last line the CRC32 of all before.
    pub fn encode(&self) -> Result<Vec<u8>, StampError> {
        let mut out = Writer { text: format!("{FIRST}{STAMP_FORMAT}\n") };
        self.write(&mut out);
        let crc = crc32fast::hash(out.text.as_bytes());
        out.line("crc32", format_args!("{crc:08x}"));
        let most = self.longest_list();
        if out.text.len() > MAX_STAMP_BYTES || most > MAX_STAMP_ITEMS {
            return Err(StampError::TooLarge { bytes: out.text.len(), items: most });
        }
        Ok(out.text.into_bytes())
    }

    fn longest_list(&self) -> usize {
        let epochs = self.groups.iter().flat_map(|group| &group.lineage);
        [
            self.groups.len(),
            self.members.len(),
            self.possible_members.len(),
            self.witnessed.len(),
            self.refilling.len(),
        ]
        .into_iter()
        .chain(self.groups.iter().map(|group| group.lineage.len()))
        .chain(epochs.map(|epoch| epoch.left_out.len()))
        .chain(self.witnessed.iter().map(|witness| witness.positions.len()))
        .max()
        .unwrap_or(0)
    }

    /// Reads what [`Stamp::encode`] wrote. Any other bytes are [`StampError::Damaged`], or [`StampError::OtherFormat`]
    /// if they are a stamp of another format, whole by its checksum.
    pub fn decode(content: &[u8]) -> Result<Self, StampError> {
        let damaged = |what: &str| StampError::Damaged(what.to_owned());
        if content.len() > MAX_STAMP_BYTES {
            return Err(damaged("longer than a stamp can be"));
        }
        let text = str::from_utf8(content).map_err(|_| damaged("not text"))?;
        let body_end = text.strip_suffix('\n').and_then(|text| Some(text.rfind('\n')? + 1));
        let (body, last) = text.split_at(body_end.ok_or_else(|| damaged("no last line"))?);
        let crc = last.strip_prefix(LAST).ok_or_else(|| damaged("no checksum"))?;
        if crc.trim_end_matches('\n') != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return Err(damaged("checksum mismatch"));
        }
        let (first, fields) = body.split_once('\n').ok_or_else(|| damaged("no first line"))?;
        let format = first.strip_prefix(FIRST).ok_or_else(|| damaged("not a stamp"))?;
        match format.parse::<u16>() {
            Ok(STAMP_FORMAT) => {}
            Ok(found) if found > 0 => {
                return Err(StampError::OtherFormat { found, supported: STAMP_FORMAT });
            }
            _ => return Err(damaged("no format version")),
        }
        let mut reader = Reader::new(fields);
        let stamp = Self::read(&mut reader)?;
        reader.end()?;
        if stamp.sequence == u64::MAX {
            // It is counted up at each write: none has come this far by being written.
            return Err(damaged("no stamp can follow this sequence"));
        }
        // One content has one encoding: nothing that a checksum happens to fit is taken for what it is not.
        if stamp.encode()? != content {
            return Err(damaged("not in canonical form"));
        }
        Ok(stamp)
    }

    fn write(&self, out: &mut Writer) {
        out.line("sequence", self.sequence);
        out.line("store_id", self.store_id);
        out.optional("cluster_id", self.cluster_id);
        out.quoted("cluster_name", &self.cluster_name);
        out.quoted("broker_name", &self.broker_name);
        out.line("incarnation", self.incarnation);
        out.line("run_id", self.run_id);
        match self.state {
            StampState::Empty => out.line("state", "empty"),
            StampState::Forming => out.line("state", "forming"),
            StampState::Dirty => out.line("state", "dirty"),
            StampState::Clean { shutdown } => out.line("state", format_args!("clean {shutdown}")),
            StampState::Recovered { recovery } => out.line("state", format_args!("recovered {recovery}")),
        }
        write_forming(out, self.forming.as_ref());
        out.line("groups", self.groups.len());
        self.groups.iter().for_each(|group| write_group(out, group));
        out.line("members_position", self.members_position);
        out.line("members", self.members.len());
        self.members.iter().for_each(|member| write_member(out, member));
        out.line("possible_members", self.possible_members.len());
        self.possible_members.iter().for_each(|store| out.line("possible_member", store));
        out.line("witnessed", self.witnessed.len());
        self.witnessed.iter().for_each(|witness| write_witness(out, witness));
        out.line("refilling", self.refilling.len());
        self.refilling.iter().for_each(|group| out.line("refilling.group", group));
        out.line("wait_for", self.wait_for);
        out.line("recovery", recovery_word(self.recovery));
        out.quoted("boot_id", &self.boot_id);
        out.line("safety_number", self.safety_number);
        out.line("wall_clock_ms", self.wall_clock_ms);
        out.line("log_synced.generation", self.log_synced.generation);
        out.line("log_synced.offset", self.log_synced.offset);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, TextError> {
        Ok(Self {
            sequence: reader.parsed("sequence")?,
            store_id: StoreId(reader.parsed("store_id")?),
            cluster_id: reader.optional("cluster_id")?.map(ClusterId),
            cluster_name: reader.quoted("cluster_name")?,
            broker_name: reader.quoted("broker_name")?,
            incarnation: Incarnation(reader.parsed("incarnation")?),
            run_id: RunId(reader.parsed("run_id")?),
            state: read_state(reader)?,
            forming: read_forming(reader)?,
            groups: read_many(reader, "groups", read_group)?,
            members_position: read_position(reader, "members_position")?,
            members: read_many(reader, "members", read_member)?,
            possible_members: read_many(reader, "possible_members", |reader| {
                Ok(StoreId(reader.parsed("possible_member")?))
            })?,
            witnessed: read_many(reader, "witnessed", read_witness)?,
            refilling: read_many(reader, "refilling", |reader| {
                Ok(GroupId(reader.parsed("refilling.group")?))
            })?,
            wait_for: reader.parsed("wait_for")?,
            recovery: read_recovery(reader)?,
            boot_id: reader.quoted("boot_id")?,
            safety_number: reader.parsed("safety_number")?,
            wall_clock_ms: reader.parsed("wall_clock_ms")?,
            log_synced: SyncedPoint {
                generation: reader.parsed("log_synced.generation")?,
                offset: reader.parsed("log_synced.offset")?,
            },
        })
    }
}

pub(super) fn read_many<T>(
    reader: &mut Reader<'_>,
    key: &str,
    read: impl Fn(&mut Reader<'_>) -> Result<T, TextError>,
) -> Result<Vec<T>, TextError> {
    let count = reader.count(key, MAX_STAMP_ITEMS)?;
    (0..count).map(|_| read(reader)).collect()
}

fn read_state(reader: &mut Reader<'_>) -> Result<StampState, TextError> {
    let value = reader.value("state")?;
    let id = |id: &str| Uuid::try_parse(id).map_err(|_| reader.wrong("state has no valid id"));
    Ok(match value.split_once(' ') {
        None if value == "empty" => StampState::Empty,
        None if value == "forming" => StampState::Forming,
        None if value == "dirty" => StampState::Dirty,
        Some(("clean", shutdown)) => StampState::Clean { shutdown: id(shutdown)? },
        Some(("recovered", recovery)) => StampState::Recovered { recovery: id(recovery)? },
        _ => return Err(reader.wrong("unknown state")),
    })
}

fn write_forming(out: &mut Writer, forming: Option<&FormingState>) {
    let Some(forming) = forming else { return out.line("forming", "none") };
    out.line("forming", if forming.decided { "decided" } else { "open" });
    out.optional(
        "forming.promised",
        forming.promised.map(|ballot| format!("{} {}", ballot.round, ballot.store)),
    );
    let Some((ballot, value)) = &forming.accepted else { return out.line("forming.accepted", "none") };
    out.line("forming.accepted", format_args!("{} {}", ballot.round, ballot.store));
    out.line("forming.value", hex(value));
}

fn read_forming(reader: &mut Reader<'_>) -> Result<Option<FormingState>, TextError> {
    let decided = match reader.value("forming")? {
        "none" => return Ok(None),
        "open" => false,
        "decided" => true,
        _ => return Err(reader.wrong("unknown forming state")),
    };
    let promised = read_ballot(reader, "forming.promised")?;
    let accepted = match read_ballot(reader, "forming.accepted")? {
        None => None,
        Some(ballot) => {
            let value = unhex(reader.value("forming.value")?);
            Some((ballot, value.ok_or_else(|| reader.wrong("forming.value is not hexadecimal"))?))
        }
    };
    Ok(Some(FormingState { promised, accepted, decided }))
}

fn read_ballot(reader: &mut Reader<'_>, key: &str) -> Result<Option<Ballot>, TextError> {
    let value = reader.value(key)?;
    if value == "none" {
        return Ok(None);
    }
    let ballot = value.split_once(' ').and_then(|(round, store)| {
        Some(Ballot { round: round.parse().ok()?, store: StoreId(Uuid::try_parse(store).ok()?) })
    });
    ballot.map(Some).ok_or_else(|| reader.wrong(&format!("{key} is no ballot")))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn write_group(out: &mut Writer, group: &GroupStamp) {
    out.line("group", group.group);
    out.quoted("group.vhost", &group.vhost);
    out.line("group.position", group.position);
    out.line("group.synced", group.synced);
    out.line(
        "group.policy",
        format_args!("{},{}", durability_word(group.policy.leader), durability_word(group.policy.replicas)),
    );
    out.line("group.weakest", durability_word(group.weakest));
    out.line("group.epochs", group.lineage.len());
    group.lineage.iter().for_each(|epoch| write_epoch(out, epoch));
}

fn read_group(reader: &mut Reader<'_>) -> Result<GroupStamp, TextError> {
    Ok(GroupStamp {
        group: GroupId(reader.parsed("group")?),
        vhost: reader.quoted("group.vhost")?,
        position: read_position(reader, "group.position")?,
        synced: read_position(reader, "group.synced")?,
        policy: {
            let (leader, replicas) = reader.value("group.policy")?.split_once(',').unwrap_or_default();
            let durability =
                |word| read_durability(word).ok_or_else(|| reader.wrong("unknown durability policy"));
            DurabilityPolicy { leader: durability(leader)?, replicas: durability(replicas)? }
        },
        weakest: {
            let word = reader.value("group.weakest")?;
            read_durability(word).ok_or_else(|| reader.wrong("unknown durability policy"))?
        },
        lineage: read_many(reader, "group.epochs", read_epoch)?,
    })
}

fn write_member(out: &mut Writer, member: &StampMember) {
    out.quoted("member", &member.name);
    out.line("member.store_id", member.store_id);
    out.line("member.raft_id", member.raft_id);
    out.quoted("member.cluster_address", &member.cluster_address);
    out.quoted("member.client_address", &member.client_address);
    out.quoted("member.admin_address", &member.admin_address);
    out.line("member.voter", member.voter);
    out.line("member.incarnation", member.incarnation);
}

fn read_member(reader: &mut Reader<'_>) -> Result<StampMember, TextError> {
    Ok(StampMember {
        name: reader.quoted("member")?,
        store_id: StoreId(reader.parsed("member.store_id")?),
        raft_id: RaftId(reader.parsed("member.raft_id")?),
        cluster_address: reader.quoted("member.cluster_address")?,
        client_address: reader.quoted("member.client_address")?,
        admin_address: reader.quoted("member.admin_address")?,
        voter: reader.parsed("member.voter")?,
        incarnation: Incarnation(reader.parsed("member.incarnation")?),
    })
}

fn write_witness(out: &mut Writer, witness: &Witness) {
    out.line("witness", witness.store);
    out.line("witness.incarnation", witness.incarnation);
    out.line("witness.run_id", witness.run);
    out.line("witness.positions", witness.positions.len());
    for (group, position) in &witness.positions {
        out.line("witness.position", format_args!("{group} {position}"));
    }
}

fn read_witness(reader: &mut Reader<'_>) -> Result<Witness, TextError> {
    Ok(Witness {
        store: StoreId(reader.parsed("witness")?),
        incarnation: Incarnation(reader.parsed("witness.incarnation")?),
        run: RunId(reader.parsed("witness.run_id")?),
        positions: read_many(reader, "witness.positions", |reader| {
            let (group, position) = reader.value("witness.position")?.split_once(' ').unwrap_or_default();
            match (group.parse(), position.parse()) {
                (Ok(group), Ok(position)) => Ok((GroupId(group), position)),
                _ => Err(reader.wrong("witness.position is no group and position")),
            }
        })?,
    })
}

pub(super) fn read_position(reader: &mut Reader<'_>, key: &str) -> Result<Position, TextError> {
    reader.value(key)?.parse().map_err(|_| reader.wrong(&format!("{key} is no position")))
}

fn recovery_word(recovery: RecoveryMode) -> &'static str {
    match recovery {
        RecoveryMode::Automatic => "automatic",
        RecoveryMode::Manual => "manual",
    }
}

fn read_recovery(reader: &mut Reader<'_>) -> Result<RecoveryMode, TextError> {
    match reader.value("recovery")? {
        "automatic" => Ok(RecoveryMode::Automatic),
        "manual" => Ok(RecoveryMode::Manual),
        _ => Err(reader.wrong("unknown recovery mode")),
    }
}

fn durability_word(durability: Durability) -> &'static str {
    match durability {
        Durability::NoSync => "no-sync",
        Durability::WriteNoSync => "write-no-sync",
        Durability::Sync => "sync",
    }
}

fn read_durability(word: &str) -> Option<Durability> {
    match word {
        "no-sync" => Some(Durability::NoSync),
        "write-no-sync" => Some(Durability::WriteNoSync),
        "sync" => Some(Durability::Sync),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_stamp;
    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(stamp in any_stamp()) {
            prop_assert_eq!(Stamp::decode(&stamp.encode().unwrap()).unwrap(), stamp);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(matches!(Stamp::decode(&bytes), Err(StampError::Damaged(_))));
        }

        #[test]
        fn fields_with_a_fitting_checksum_are_read_without_harm(
            stamp in any_stamp(), line in any::<prop::sample::Index>(), junk in "[ -~]{0,30}"
        ) {
            let text = String::from_utf8(stamp.encode().unwrap()).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            lines.pop();
            let line = line.index(lines.len());
            lines[line] = &junk;
            let body = lines.join("\n") + "\n";
            let body = format!("{body}{LAST}{:08x}\n", crc32fast::hash(body.as_bytes()));
            if let Ok(read) = Stamp::decode(body.as_bytes()) {
                prop_assert_eq!(read.encode().unwrap(), body.into_bytes());
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let content = super::super::tests::sample().encode().unwrap();
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Stamp::decode(&flipped), Err(StampError::Damaged(_))), "bit {bit}");
        }
        for end in 0..content.len() {
            assert!(Stamp::decode(&content[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn another_format_is_told_apart() {
        for format in [1, 9] {
            let body = format!("quorate-stamp {format}\nwhatever = 1\n");
            let content = format!("{body}{LAST}{:08x}\n", crc32fast::hash(body.as_bytes()));
            let read = Stamp::decode(content.as_bytes());
            assert!(
                matches!(read, Err(StampError::OtherFormat { found, supported: 2 }) if found == format),
                "{read:?}"
            );
            // The same without a fitting checksum is rot, not another format.
            assert!(matches!(
                Stamp::decode(content.replace("whatever", "whatevfr").as_bytes()),
                Err(StampError::Damaged(_))
            ));
        }
    }

    #[test]
    fn too_much_is_refused_before_it_is_written() {
        let long = |change: fn(&mut Stamp)| {
            let mut stamp = super::super::tests::sample();
            change(&mut stamp);
            stamp
        };
        for (list, stamp) in [
            long(|stamp| stamp.possible_members = vec![stamp.store_id; MAX_STAMP_ITEMS + 1]),
            long(|stamp| stamp.witnessed = vec![stamp.witnessed[0].clone(); MAX_STAMP_ITEMS + 1]),
            long(|stamp| stamp.refilling = vec![GroupId(1); MAX_STAMP_ITEMS + 1]),
            long(|stamp| {
                let positions = &mut stamp.witnessed[0].positions;
                *positions = vec![positions[0]; MAX_STAMP_ITEMS + 1];
            }),
            long(|stamp| {
                let left_out = &mut stamp.groups[0].lineage[1].left_out;
                *left_out = vec![left_out[0].clone(); MAX_STAMP_ITEMS + 1];
            }),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(matches!(stamp.encode(), Err(StampError::TooLarge { items: 4097, .. })), "list {list}");
        }
    }
}
