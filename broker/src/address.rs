//! `HOST:PORT` as people write it, and what can be told from the text alone.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A host (name, IPv4 or IPv6 address) and a port. Names are kept as names: they are resolved at each use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    /// 0 asks the system for a free one.
    pub port: u16,
}

/// Text that is not `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an address: write HOST:PORT, like 127.0.0.1:7420, [::1]:7420 or broker-1.example:7420")]
pub struct AddressError(String);

/// The longest host name that DNS allows.
const HOST_LENGTH_MAX: usize = 253;

impl HostPort {
    /// A host and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// True only if the text itself says so. A name other than `localhost` may resolve to anything, so it counts as
    /// reachable from elsewhere.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// "All interfaces": good for listening, useless as an address to dial.
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let trimmed = text.trim();
        let (host, port) = trimmed.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                let inner = inner.strip_suffix(']').ok_or_else(wrong)?;
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                inner
            }
            None => host,
        };
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"/@[]?#,".contains(c);
        let bare_ipv6 = !trimmed.starts_with('[') && host.contains(':');
        if host.is_empty() || host.len() > HOST_LENGTH_MAX || bare_ipv6 || !host.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A list of addresses: in flags and environment separated by commas, in the file an array or such a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList(pub Vec<HostPort>);

impl FromStr for AddressList {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for AddressList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> de::Visitor<'de> for List {
            type Value = AddressList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of addresses like [\"broker-1:7421\", \"broker-2:7421\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AddressList, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<AddressList, A::Error> {
                let mut list = Vec::new();
                while let Some(address) = sequence.next_element()? {
                    list.push(address);
                }
                Ok(AddressList(list))
            }
        }

        deserializer.deserialize_any(List)
    }
}

impl Serialize for AddressList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_back() {
        for (text, host, port) in [
            ("127.0.0.1:7420", "127.0.0.1", 7420),
            ("[::1]:0", "::1", 0),
            ("broker-1.example:65535", "broker-1.example", 65535),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "7420",
            "host",
            "host:",
            ":7420",
            "host:70000",
            "host:-1",
            "::1:7420",
            "[::1:7420",
            "a b:1",
            "http://h:1",
            "[host]:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_is_surely_loopback_counts_as_loopback() {
        for (text, loopback) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("localhost.example:1", false),
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn lists_are_split_at_commas() {
        let list: AddressList = "a:1, b:2,".parse().unwrap();
        assert_eq!(list.0, [HostPort::new("a", 1), HostPort::new("b", 2)]);
        assert!("a:1,b".parse::<AddressList>().is_err());
    }
}
