//! Messages from lines of JSON, as `consume --output-format json` and `store export` write them.

use clap::ValueEnum;
use quorate_client::Message;
use serde_json::Value;

use crate::base64;
use crate::exit::Failure;

/// What a line of `publish --lines` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum InputFormat {
    /// The body
    #[default]
    Raw,
    /// A JSON object with `body` or `body_base64`, and `headers`; its other members say where the message came from
    Json,
}

impl InputFormat {
    /// The message of line `number`, counting from 1.
    pub(super) fn message(self, line: Vec<u8>, number: u64) -> Result<Message, Failure> {
        match self {
            Self::Raw => Ok(Message::new(line)),
            Self::Json => {
                parse(&line).map_err(|what| Failure::usage(format!("--lines, line {number}: {what}")))
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Message, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let text = value.get("body").and_then(Value::as_str).map(|text| text.as_bytes().to_vec());
    let encoded = value.get("body_base64").and_then(Value::as_str);
    let body = match (text, encoded) {
        (Some(body), None) => body,
        (None, Some(encoded)) => base64::decode(encoded).ok_or("body_base64 is not Base64")?,
        _ => return Err("it needs exactly one of body and body_base64".to_owned()),
    };
    let message = Message::new(body);
    let Some(headers) = value.get("headers") else { return Ok(message) };
    let headers = headers.as_object().ok_or("headers is no object")?;
    let mut pairs = Vec::new();
    for (name, value) in headers {
        let bytes = match (value.as_str(), value.get("base64").and_then(Value::as_str)) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(encoded)) => {
                base64::decode(encoded).ok_or_else(|| format!("header {name} is not Base64"))?
            }
            (None, None) => return Err(format!("header {name} is neither text nor {{\"base64\": …}}")),
        };
        pairs.push((name.as_str(), bytes));
    }
    message.with_properties(pairs).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::bodies::Seen;
    use super::*;
    use quorate_client::Properties;

    #[test]
    fn what_is_written_can_be_read_again() {
        for body in [&b"text"[..], &[0xff, 0, 1]] {
            let properties = Properties::new([("message-id", &b"a-1"[..]), ("raw", &[0xfe, 0xff])]).unwrap();
            let seen =
                Seen { seq: 1, redelivered: false, exchange: "", key: "q", properties: &properties, body };
            let line = seen.json().to_string().into_bytes();
            let message = InputFormat::Json.message(line, 1).unwrap();
            assert_eq!(message.body().as_ref(), body);
            assert_eq!(message.property("message-id"), Some(&b"a-1"[..]));
            assert_eq!(message.property("raw"), Some(&[0xfe, 0xff][..]));
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, says) in [
            ("", "line 3"),
            ("{}", "exactly one of body"),
            (r#"{"body":"a","body_base64":"YQ=="}"#, "exactly one of body"),
            (r#"{"body_base64":"a"}"#, "not Base64"),
            (r#"{"body":"a","headers":{"n":1}}"#, "header n"),
            (r#"{"body":"a","headers":[]}"#, "no object"),
        ] {
            let failure = InputFormat::Json.message(line.into(), 3).unwrap_err();
            assert!(failure.status.code() == 64 && failure.message.contains(says), "{line}: {failure}");
        }
        assert_eq!(InputFormat::Raw.message(b"{".to_vec(), 1).unwrap().body().as_ref(), b"{");
    }
}
