//! Messages as JSON: text as text, everything else as Base64.

use quorate_client::Properties;
use serde_json::{Map, Value, json};

use crate::base64;

/// Where a message was, and what it says.
pub(super) struct Seen<'a> {
    pub(super) seq: u64,
    pub(super) redelivered: bool,
    pub(super) exchange: &'a str,
    pub(super) key: &'a str,
    pub(super) properties: &'a Properties,
    pub(super) body: &'a [u8],
}

impl Seen<'_> {
    pub(super) fn json(&self) -> Value {
        let headers: Map<String, Value> =
            self.properties.iter().map(|(name, value)| (name.to_owned(), text_or_base64(value))).collect();
        let mut value = json!({
            "position": self.seq,
            "redelivered": self.redelivered,
            "exchange": self.exchange,
            "key": self.key,
            "headers": headers,
        });
        match std::str::from_utf8(self.body) {
            Ok(text) => value["body"] = text.into(),
            Err(_) => value["body_base64"] = base64::encode(self.body).into(),
        }
        value
    }
}

fn text_or_base64(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": base64::encode(bytes) }),
    }
}

/// The beginning of a body on one line of a table.
pub(super) fn excerpt(body: &[u8], limit: usize) -> String {
    let shown = body.get(..limit.min(body.len())).unwrap_or_default();
    let text: String =
        String::from_utf8_lossy(shown).chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if body.len() > limit { format!("{text}…") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_bytes_become_base64() {
        let properties = Properties::new([("type", &b"a"[..])]).unwrap();
        let mut seen = Seen {
            seq: 7,
            redelivered: true,
            exchange: "",
            key: "q",
            properties: &properties,
            body: b"hello",
        };
        let value = seen.json();
        assert_eq!((value["body"].as_str(), value["headers"]["type"].as_str()), (Some("hello"), Some("a")));
        assert_eq!((value["position"].as_u64(), value["redelivered"].as_bool()), (Some(7), Some(true)));
        seen.body = &[0xff, 0xfe];
        assert_eq!(seen.json()["body_base64"], "//4=");
        assert_eq!(seen.json().get("body"), None);
    }

    #[test]
    fn an_excerpt_is_one_line() {
        assert_eq!(excerpt(b"a\nb\x1b[2J", 80), "a·b·[2J");
        assert_eq!(excerpt(b"abcdef", 3), "abc…");
    }
}
