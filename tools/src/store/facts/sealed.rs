//! Facts as a file: one JSON document with a version and a checksum over everything else in it, however it is laid out.

use serde::Deserialize;
use serde_json::Value;

use super::FACTS_FORMAT;
use super::document::Facts;

/// The member that holds the checksum, as eight hex digits.
const CHECKSUM: &str = "crc32";

/// The facts as the document to keep.
pub fn seal(facts: &Facts) -> Value {
    let mut value = serde_json::to_value(facts).expect("facts have text keys only");
    let crc = checksum(value.clone());
    value[CHECKSUM] = crc.into();
    value
}

/// The checksum of a document, its own left out. Members in the order of their names, no blanks.
fn checksum(mut value: Value) -> String {
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
    let wrong = |error| format!("it is no facts document: {error}");
    // Only what is known is kept: a document of any content as a tree takes many times its length in memory.
    let seal: Seal = serde_json::from_slice(bytes).map_err(wrong)?;
    let Some(format) = seal.facts_format else {
        return Err("it is no facts document: facts_format is missing".to_owned());
    };
    if format != u64::from(FACTS_FORMAT) {
        return Err(format!(
            "it has facts_format {format}, this version reads {FACTS_FORMAT}: take the facts again with this version"
        ));
    }
    let facts: Facts = serde_json::from_slice(bytes).map_err(wrong)?;
    let value = serde_json::to_value(&facts).map_err(wrong)?;
    if seal.crc32 != Some(checksum(value)) {
        return Err("its checksum is wrong: it was changed since it was written".to_owned());
    }
    Ok(facts)
}

/// What says how to read the rest, and whether it is whole.
#[derive(Deserialize)]
struct Seal {
    facts_format: Option<u64>,
    crc32: Option<String>,
}
