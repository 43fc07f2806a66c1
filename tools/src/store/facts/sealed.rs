//! Facts as a file: one JSON document with a version and a checksum over everything else in it, however it is laid out.

use serde_json::Value;

use super::FACTS_FORMAT;
use super::document::Facts;

/// The member that holds the checksum, as eight hex digits.
const CHECKSUM: &str = "crc32";

/// The facts as the document to keep.
pub fn seal(facts: &Facts) -> Value {
    let mut value = serde_json::to_value(facts).expect("facts have text keys only");
    let crc = checksum(&value);
    value[CHECKSUM] = crc.into();
    value
}

/// The checksum of a document, its own left out. Members in the order of their names, no blanks.
fn checksum(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.remove(CHECKSUM);
    }
    format!("{:08x}", crc32fast::hash(value.to_string().as_bytes()))
}

/// Reads a document that [`seal`] made; the error says what is wrong with it.
///
/// # Errors
/// It is no facts document, one of another version, or it was changed.
pub fn parse(bytes: &[u8]) -> Result<Facts, String> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no facts document: {error}"))?;
    let Some(format) = value.get("facts_format").and_then(Value::as_u64) else {
        return Err("it is no facts document: facts_format is missing".to_owned());
    };
    if format != u64::from(FACTS_FORMAT) {
        return Err(format!(
            "it has facts_format {format}, this version reads {FACTS_FORMAT}: take the facts again with this version"
        ));
    }
    if value.get(CHECKSUM).and_then(Value::as_str) != Some(checksum(&value).as_str()) {
        return Err("its checksum is wrong: it was changed since it was written".to_owned());
    }
    serde_json::from_value(value).map_err(|error| format!("it is no facts document: {error}"))
}
