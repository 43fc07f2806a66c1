//! What an operator asked for of members and virtual hosts, with who did and why: for the audit.

use super::codec::{DecodeError, Reader, Writer};
use super::command::Command;
use super::system::SystemMachine;
use crate::admin::Author;

/// A command of `system` as an operator gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Wall clock of the leader that took it, milliseconds since 1970: for people.
    pub at_ms: u64,
    /// Who.
    pub author: Author,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// What: one of those about members and virtual hosts.
    pub command: Command,
}

impl Asked {
    pub(super) fn write(&self, out: &mut Writer) {
        out.u64(self.at_ms);
        for text in [&self.author.who, &self.author.address, &self.reason] {
            out.string(text);
        }
        self.command.encode(&mut out.0);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let at_ms = reader.u64()?;
        let author = Author { who: reader.string()?, address: reader.string()? };
        let reason = reader.string()?;
        let (kind, payload) = (reader.u8()?, reader.bytes()?);
        // None of them holds another command.
        if !matches!(kind, 68 | 70..=73) {
            return Err(DecodeError::Value("kind of what was asked for"));
        }
        Ok(Self { at_ms, author, reason, command: Command::read(kind, payload)? })
    }
}

/// What of the cluster is changed, its value before, its value after: as people read it.
pub(super) type Texts = [String; 3];

impl SystemMachine {
    /// What the command changes, told before it is applied; none if operators do not ask for it.
    pub(super) fn told(&self, command: &Command) -> Option<Texts> {
        let name_of =
            |store| self.member(store).map_or_else(|| format!("{store}"), |member| member.name.clone());
        let told =
            |what: String, before: &str, after: &str| Some([what, before.to_owned(), after.to_owned()]);
        match command {
            Command::PermitMember { name, address } => {
                let after = match address.as_str() {
                    "" => "voter".to_owned(),
                    address => format!("voter, looked for at {address}"),
                };
                let waited_for = self.intents().wanted.contains_key(name);
                told(format!("member {name}"), if waited_for { "waited for" } else { "no voter" }, &after)
            }
            Command::ForgetMember { name } => told(format!("member {name}"), "waited for", "not waited for"),
            Command::LeaveMember { store, replaced } => {
                let after = if *replaced { "replaced by another store" } else { "removed" };
                told(format!("member {}", name_of(*store)), &format!("store {store}"), after)
            }
            Command::DrainMember { store, drained } => {
                let [before, after] =
                    if *drained { ["may lead", "drained"] } else { ["drained", "may lead"] };
                told(format!("member {}", name_of(*store)), before, after)
            }
            Command::CreateVhost { name } => told(format!("virtual host {name}"), "none", "created"),
            _ => None,
        }
    }
}
