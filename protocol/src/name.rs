//! The names clients give things, valid by construction: UTF-8, bounded, no control characters.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::NAME_LENGTH_MAX;

/// Exchanges whose names start with this belong to the broker.
pub const RESERVED_PREFIX: &str = "quorate.";

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Names of this kind have at least one byte.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`NAME_LENGTH_MAX`] bytes.
    #[error("a name has at most 255 bytes, this one has {0}")]
    TooLong(usize),
    /// A character of Unicode's category Cc, at this byte.
    #[error("a name must not contain control characters, this one does at byte {0}")]
    ControlCharacter(usize),
    /// Not UTF-8, from this byte on.
    #[error("a name must be UTF-8, this one is not at byte {0}")]
    NotUtf8(usize),
}

/// Checks that `bytes` are a name, possibly an empty one, and gives them as text.
pub fn check(bytes: &[u8], may_be_empty: bool) -> Result<&str, NameError> {
    if bytes.is_empty() && !may_be_empty {
        return Err(NameError::Empty);
    }
    if bytes.len() > NAME_LENGTH_MAX {
        return Err(NameError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|problem| NameError::NotUtf8(problem.valid_up_to()))?;
    match text.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, _)) => Err(NameError::ControlCharacter(at)),
        None => Ok(text),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, may_be_empty: $may_be_empty:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Whether a name of this kind may be empty.
            pub const MAY_BE_EMPTY: bool = $may_be_empty;

            /// The name `text`, if it is one.
            pub fn new(text: &str) -> Result<Self, NameError> {
                Self::from_bytes(text.as_bytes())
            }

            /// The name whose UTF-8 is `bytes`, if it is one.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
                check(bytes, Self::MAY_BE_EMPTY).map(|text| Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }
    };
}

name! {
    /// A virtual host's name; the default one is `/`.
    VhostName, may_be_empty: false
}
name! {
    /// A queue's name.
    QueueName, may_be_empty: false
}
name! {
    /// An exchange's name; the empty one is the default exchange, which routes to the queue named by the key.
    ExchangeName, may_be_empty: true
}
name! {
    /// What a publisher routes by, and what a binding matches it with (a pattern, if the exchange is of kind
    /// topic: see [`crate::pattern`]).
    RoutingKey, may_be_empty: true
}

name! {
    /// A broker's name, unique in its cluster.
    BrokerName, may_be_empty: false
}
name! {
    /// The name that all members of a cluster agree on.
    ClusterName, may_be_empty: false
}
name! {
    /// Where a broker is reached: `host:port`; empty if nowhere.
    Address, may_be_empty: true
}

impl ExchangeName {
    /// Whether this is the default exchange, which exists in every virtual host and cannot be declared or bound.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether only the broker may declare it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

impl Default for ExchangeName {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl Default for RoutingKey {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_clean_text() {
        assert_eq!(QueueName::new("orders.eu").unwrap().as_str(), "orders.eu");
        assert_eq!(QueueName::new(""), Err(NameError::Empty));
        assert_eq!(VhostName::new(""), Err(NameError::Empty));
        assert!(RoutingKey::new("").is_ok() && ExchangeName::new("").unwrap().is_default());
        assert!(QueueName::new(&"x".repeat(255)).is_ok());
        assert_eq!(QueueName::new(&"x".repeat(256)), Err(NameError::TooLong(256)));
        assert_eq!(QueueName::new("a\u{85}b"), Err(NameError::ControlCharacter(1)));
        assert_eq!(QueueName::new("tab\t"), Err(NameError::ControlCharacter(3)));
        assert_eq!(QueueName::from_bytes(b"ab\xff"), Err(NameError::NotUtf8(2)));
    }

    #[test]
    fn reserved_exchanges_are_known_by_prefix() {
        assert!(ExchangeName::new("quorate.events").unwrap().is_reserved());
        assert!(!ExchangeName::new("quorate").unwrap().is_reserved());
    }
}
