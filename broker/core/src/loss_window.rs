//! What a durability policy permits to be lost, in words: shown wherever the policy is.

use quorate_store::stamp::{Durability, DurabilityPolicy};

/// How much of a group one broker may acknowledge before it is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Entries of the group's log.
    pub entries: u64,
    /// Milliseconds.
    pub millis: u64,
}

/// What may be lost of what was confirmed, by what event.
pub fn loss_window(policy: DurabilityPolicy, window: Window) -> String {
    let Window { entries, millis } = window;
    let event = match policy.leader.min(policy.replicas) {
        Durability::Sync => return "nothing while a majority of the stores is left".to_owned(),
        Durability::WriteNoSync => "power",
        Durability::NoSync => "power or process",
    };
    let recent = format!("what was confirmed in the last {millis} ms or {entries} entries");
    let half = format!("a majority loses {event} at once, an operator decides, and");
    match (policy.leader, policy.replicas) {
        (Durability::Sync, _) => {
            format!("if {half} the last leader's store is lost too: {recent}")
        }
        (_, Durability::Sync) => {
            format!("if the leader loses {event}, and a majority of the stores is not left: {recent}")
        }
        _ => format!("if {half} goes on from what is left: {recent}"),
    }
}

/// As long as a forced epoch is in force: by whom the group goes on, fewer than a majority.
pub fn forced_loss_window(nodes: &[String], policy: DurabilityPolicy, window: Window) -> String {
    format!(
        "all that is confirmed until a majority of the former voters has it, if {} lose their stores or those left behind go on \
         without them; otherwise {}",
        nodes.join(", "),
        loss_window(policy, window)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_says_what_it_permits() {
        use Durability::{NoSync, Sync, WriteNoSync};
        let window = Window { entries: 1000, millis: 100 };
        let told = |leader, replicas| loss_window(DurabilityPolicy { leader, replicas }, window);
        assert_eq!(told(Sync, Sync), "nothing while a majority of the stores is left");
        assert_eq!(
            told(Sync, NoSync),
            "if a majority loses power or process at once, an operator decides, and the last leader's store is lost too: \
             what was confirmed in the last 100 ms or 1000 entries"
        );
        assert_eq!(
            told(WriteNoSync, WriteNoSync),
            "if a majority loses power at once, an operator decides, and goes on from what is left: what was confirmed in \
             the last 100 ms or 1000 entries"
        );
        assert!(
            told(NoSync, Sync).starts_with("if the leader loses power or process"),
            "{}",
            told(NoSync, Sync)
        );
        assert!(told(Sync, WriteNoSync).starts_with("if a majority loses power at once"));
        let strict = DurabilityPolicy { leader: Sync, replicas: Sync };
        let forced = forced_loss_window(&["b1".to_owned()], strict, window);
        assert!(
            forced.starts_with("all that is confirmed until") && forced.contains("if b1 lose"),
            "{forced}"
        );
    }
}
