//! What the decision tells people to type, in one place.

use quorate_store::ids::ClusterId;

/// Look at the stores, without changing anything.
pub(super) fn inspect() -> String {
    "quorate store inspect DIR…".to_owned()
}

/// Choose one store to go on from.
pub(super) fn mark_clean() -> String {
    "quorate store mark-clean DIR --reason TEXT".to_owned()
}

/// Choose one of two histories.
pub(super) fn mark_clean_against() -> String {
    "quorate store mark-clean DIR --against DIR… --reason TEXT".to_owned()
}

/// Take back an operator's mark that was not started from.
pub(super) fn unmark(name: &str) -> String {
    format!("quorate store unmark DIR (the directory of {name})")
}

/// Let a panicked broker take part again.
pub(super) fn clear_panic(cluster: Option<ClusterId>) -> String {
    let cluster = cluster.map_or_else(|| "CLUSTER-ID".to_owned(), |id| id.to_string());
    format!("quorate cluster panic clear --confirm {cluster}")
}

/// Save the messages of a store that will not be used again.
pub(super) fn export() -> String {
    "quorate store export DIR".to_owned()
}

/// Let a new store take the place of a lost one.
pub(super) fn replace(name: &str) -> String {
    format!("quorate member replace --name {name}")
}

/// At most this many brokers to start are named one by one.
const STARTS: usize = 5;

/// Start the brokers of these names, or with these cluster addresses where no name is known.
pub(super) fn start(missing: &[String]) -> Vec<String> {
    let one = |who: &String| {
        let flag = if who.contains(':') { "cluster-advertise" } else { "name" };
        format!("quorated … --{flag} {who}")
    };
    missing.iter().take(STARTS).map(one).collect()
}

/// Let the store of this broker be one process's again.
pub(super) fn stop_twin(name: &str) -> String {
    format!("kill PID (of one of the two processes that have the store of {name})")
}

/// Start the broker with a store of its own, or without one.
pub(super) fn kind(transient: bool) -> String {
    if transient { "quorated … --transient".to_owned() } else { "quorated … --data-dir DIR".to_owned() }
}

/// List other members.
pub(super) fn peers() -> String {
    "quorated … --cluster-peers HOST:PORT,…".to_owned()
}

/// Look at what the others say.
pub(super) fn status() -> String {
    "quorate --admin HOST:PORT,… cluster status".to_owned()
}

/// Start all members that are here with a smaller number to wait for.
pub(super) fn wait_for(members: usize) -> String {
    format!("quorated … --cluster-wait-for {members}")
}

/// Found with those who are here, though they are half of the possible members or fewer.
pub(super) fn found_small(members: usize) -> String {
    format!("quorated … --cluster-wait-for {members} --allow-small-cluster")
}

/// Permit founding by half of the possible members or fewer.
pub(super) fn allow_small() -> String {
    "quorated … --allow-small-cluster".to_owned()
}

/// Say which cluster an empty store is for.
pub(super) fn cluster_id(id: ClusterId) -> String {
    format!("quorated … --cluster-id {id}")
}

/// Give a broker its own name.
pub(super) fn name() -> String {
    "quorated … --name NAME".to_owned()
}

/// Give a broker a directory of its own.
pub(super) fn data_dir() -> String {
    "quorated … --data-dir DIR".to_owned()
}

/// Go on with the nodes that are left of every group.
pub(super) fn required_nodes(names: &[&str]) -> String {
    format!(
        "quorate group set --vhost '*' --required-nodes {} --nodes {} --confirm CLUSTER-ID --reason TEXT",
        names.len(),
        names.join(",")
    )
}

/// Go on with the one that is left of two.
pub(super) fn take_over(name: &str) -> String {
    format!("quorate group take-over --node {name} --confirm CLUSTER-ID --other-is-stopped --reason TEXT")
}
