//! The broker's own recovery over a store that is only looked at: the core is asked, so that inspector and broker
//! cannot disagree.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_core::Node;
use quorate_core::formation::InitialStatus;
use quorate_core::formation::status::{RecoveryMode, StoreState};
use quorate_core::io::{Found, FoundGroup, FoundStamp, Input, Output, Tick};
use quorate_core::node::config::NodeConfig;
use quorate_core::node::offline::StoredGroup;
use quorate_core::replica::Timing;
use quorate_store::ids::{GroupId, Index, RunId, StoreId};
use quorate_store::log::{LogError, RecoveredGroup};
use quorate_store::panic::PanicFound;
use quorate_store::record::Entry;
use quorate_store::stamp::{self, Stamp};
use quorate_store::state::{Family, Pair, StateError};
use uuid::Uuid;

use super::look::Look;

/// A store as its broker would find it.
pub struct RecoveredStore {
    /// What the broker would tell its peers.
    pub status: InitialStatus,
    /// What it holds.
    pub groups: Vec<StoredGroup>,
}

/// Why a store was not recovered though it may be sound.
type Unread = String;

/// Runs the recovery. Damage is part of the status.
///
/// # Errors
/// The store could not be read: no permission, another version, more than the budget.
pub fn recover(look: &Look) -> Result<RecoveredStore, Unread> {
    if let Some(why) = &look.unread {
        return Err(why.clone());
    }
    // The core treats what passed all checksums as its own work. A store made by a hostile hand ends here, with a row.
    catch_unwind(AssertUnwindSafe(|| Recovering { look, taken: 0 }.run())).unwrap_or_else(|_| {
        Err("its content contradicts itself, though all checksums are right: it was not written by a broker"
            .to_owned())
    })
}

struct Recovering<'a> {
    look: &'a Look,
    /// Bytes handed to the core and kept there.
    taken: u64,
}

enum Trouble {
    Damage(String),
    Unread(Unread),
}

impl Recovering<'_> {
    fn run(mut self) -> Result<RecoveredStore, Unread> {
        let mut node = self.node(None);
        loop {
            if let Some(status) = node.initial_status() {
                return Ok(RecoveredStore { status, groups: node.into_stored_groups() });
            }
            match self.answer(&mut node) {
                Ok(()) => {}
                Err(Trouble::Damage(reason)) => node = self.node(Some(reason)),
                Err(Trouble::Unread(why)) => return Err(why),
            }
        }
    }

    /// A node over what was found, or over nothing that could be trusted.
    fn node(&self, damage: Option<String>) -> Node {
        let look = self.look;
        let stamp = look.stamp.as_deref();
        let store = look.id().unwrap_or(StoreId(Uuid::nil()));
        let damage = damage.or_else(|| (!look.damage.is_empty()).then(|| look.damage.join("; ")));
        let (found_stamp, groups, log_bytes) = match (damage, stamp, &look.log) {
            (Some(reason), ..) => {
                let incarnation = stamp.map(|stamp| stamp.incarnation).or(look.incarnation);
                (FoundStamp::Damaged { reason, incarnation }, Vec::new(), 0)
            }
            (None, None, _) => (FoundStamp::Empty, Vec::new(), 0),
            (None, Some(stamp), log) => {
                let (groups, bytes) = log.as_ref().map_or((Vec::new(), 0), |(_, recovered)| {
                    (recovered.groups.iter().cloned().map(found_group).collect(), recovered.log_bytes)
                });
                (FoundStamp::Stamp(Box::new(stamp.clone())), groups, bytes)
            }
        };
        // No process speaks for it; each subject gets a run of its own later.
        let run = RunId(Uuid::nil());
        // That its broker panicked is no part of what the store holds: a note says so.
        let same_boot = look.is_same_boot();
        let panic = PanicFound::None;
        let found = Found { run, store, stamp: found_stamp, groups, log_bytes, same_boot, panic };
        Node::new(config(stamp, store), found, 0, Tick(0))
    }

    /// Answers what the recovery asks for next, and nothing else.
    fn answer(&mut self, node: &mut Node) -> Result<(), Trouble> {
        if self.look.budget.is_over() {
            let text =
                format!("it could not be read within {:?}: give more with --time", self.look.budget.time);
            return Err(Trouble::Unread(text));
        }
        while let Some(output) = node.poll() {
            let input = match output {
                Output::Scan { ticket, family, from, to, max_bytes, view: None } => {
                    let (pairs, complete) = self.scan(family, &from, &to, max_bytes)?;
                    Input::Scanned { ticket, pairs, complete }
                }
                Output::Load { ticket, group, from, to, max_bytes } => {
                    let entries = self.load(group, from, to, max_bytes)?;
                    Input::Loaded { ticket, entries }
                }
                // Dials, notes, whatever a start would do: this is none.
                _ => continue,
            };
            node.handle(Tick(0), input);
            return Ok(());
        }
        Err(Trouble::Unread("its recovery does not come to an end".to_owned()))
    }

    fn scan(
        &mut self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), Trouble> {
        let Some(state) = &self.look.state else { return Ok((Vec::new(), true)) };
        let trouble = |error| match error {
            StateError::Corrupt(what) => Trouble::Damage(what),
            error => Trouble::Unread(error.to_string()),
        };
        let pairs = state.scan(family, from, to, max_bytes).map_err(trouble)?;
        let bytes = pairs.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum::<usize>();
        self.take(bytes)?;
        let complete = match pairs.last() {
            None => true,
            Some(_) if bytes < max_bytes => true,
            Some((last, _)) => state.scan(family, &after(last), to, 1).map_err(trouble)?.is_empty(),
        };
        Ok((pairs, complete))
    }

    fn load(
        &mut self,
        group: GroupId,
        from: Index,
        to: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Trouble> {
        let Some((reader, recovered)) = &self.look.log else { return Ok(Vec::new()) };
        let entries = match reader.read(group, from, to, max_bytes) {
            Ok(entries) => entries,
            Err(LogError::File(error)) => return Err(Trouble::Unread(error.to_string())),
            Err(error) => return Err(Trouble::Damage(error.to_string())),
        };
        let committed = recovered
            .groups
            .iter()
            .find(|found| found.group == group)
            .map_or(Index(0), |found| found.hard_state.commit);
        // Only what is not known to be committed is kept as it is.
        let kept = entries.iter().filter(|entry| entry.index > committed).map(|entry| entry.data.len()).sum();
        self.take(kept)?;
        Ok(entries)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.taken = self.taken.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let limit = self.look.budget.memory;
        if self.taken <= limit {
            return Ok(());
        }
        Err(Trouble::Unread(format!("its state takes more than {limit} bytes: give more with --memory")))
    }
}

/// The first key after this one.
pub fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len().saturating_add(1));
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

fn found_group(group: RecoveredGroup) -> FoundGroup {
    let RecoveredGroup { group, hard_state, first, last, terms, epoch } = group;
    FoundGroup { group, hard_state, first, last, terms, epoch }
}

/// The settings that the broker last had, as far as its stamp tells.
fn config(stamp: Option<&Stamp>, store: StoreId) -> NodeConfig {
    let own = stamp.and_then(|stamp| stamp.members.iter().find(|member| member.store_id == store));
    let limits = quorate_protocol::limits::Limits::default();
    NodeConfig {
        // Nothing is founded here.
        tick_zero_ms: 0,
        name: stamp.map(|stamp| stamp.broker_name.clone()).unwrap_or_default(),
        cluster_name: stamp.map(|stamp| stamp.cluster_name.clone()).unwrap_or_default(),
        peers: Vec::new(),
        wait_for: stamp.map_or(1, |stamp| stamp.wait_for),
        allow_small: false,
        recovery: match stamp.map(|stamp| stamp.recovery) {
            Some(stamp::RecoveryMode::Manual) => RecoveryMode::Manual,
            _ => RecoveryMode::Automatic,
        },
        cluster_id_wanted: None,
        client_address: own.map(|member| member.client_address.clone()).unwrap_or_default(),
        cluster_address: own.map(|member| member.cluster_address.clone()).unwrap_or_default(),
        admin_address: own.map(|member| member.admin_address.clone()).unwrap_or_default(),
        timing: Timing::new(100, 1000),
        stamp_interval_millis: 5000,
        safety_interval_millis: 30_000,
        unsynced_max_entries: 1000,
        unsynced_max_millis: 100,
        update_rate: 0,
        frame_limit: limits.frame(),
        message_limit: limits.message(),
    }
}

/// What a status says of damage.
pub fn damage_in(status: &InitialStatus) -> Option<&str> {
    if let StoreState::Damaged { reason } = &status.state { Some(reason) } else { None }
}
