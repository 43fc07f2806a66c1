//! A broker's client address, and the list of them that a client starts from.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::limits;

/// Host and port of a broker's client listener.
///
/// Parsed from `host`, `host:port`, `[v6]` or `[v6]:port`; the port is 7420 when none is given. A host name is
/// resolved again at each try.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The host name, or IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::url(format!("address '{text}': {why}; expected HOST or HOST:PORT"));
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(|| bad("no closing bracket"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad("what is in brackets is not an IPv6 address"));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(bad("unexpected text after the bracket")),
            }
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(bad("an IPv6 address needs brackets"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() {
            return Err(bad("no host"));
        }
        if host.len() > 255 {
            return Err(bad("the host is longer than 255 bytes"));
        }
        if !host.chars().all(|c| c.is_alphanumeric() || "-._:%".contains(c)) {
            return Err(bad("the host has a character that no host name has"));
        }
        let port = match port {
            None => limits::DEFAULT_PORT,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(bad("the port is not a number from 1 to 65535")),
            },
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_address() {
        for (text, host, port, shown) in [
            ("h1", "h1", 7420, "h1:7420"),
            ("h1.example:99", "h1.example", 99, "h1.example:99"),
            ("127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
            ("[::1]", "::1", 7420, "[::1]:7420"),
            ("[fe80::1]:8", "fe80::1", 8, "[fe80::1]:8"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address() {
        for text in
            ["", ":1", "h:0", "h:65536", "h:x", "::1", "[::1", "[::1]x", "[h]:1", "a b", "h/x", "h:-1"]
        {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
