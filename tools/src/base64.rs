//! Bodies that are not text, in JSON: standard Base64 (RFC 4648), with padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes as Base64.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = 0_u32;
        for position in 0..3 {
            word = (word << 8) | u32::from(group.get(position).copied().unwrap_or(0));
        }
        for position in 0..4 {
            if position > group.len() {
                text.push('=');
            } else {
                let index = usize::try_from((word >> (18 - 6 * position)) & 63).unwrap_or(0);
                text.push(char::from(ALPHABET[index]));
            }
        }
    }
    text
}

/// The bytes of Base64 with padding; none if the text is anything else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digit =
        |byte: u8| ALPHABET.iter().position(|known| *known == byte).and_then(|at| u32::try_from(at).ok());
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in body.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for position in 0..4 {
            word = (word << 6) | group.get(position).map_or(Some(0), |byte| digit(*byte))?;
        }
        // Bits that stand for nothing are zero, or two texts would mean the same.
        let [_, first, second, third] = word.to_be_bytes();
        let (kept, rest): (&[u8], &[u8]) = match group.len() {
            4 => (&[first, second, third], &[]),
            3 => (&[first, second], &[third]),
            2 => (&[first], &[second, third]),
            _ => return None,
        };
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(encode(&[0xff, 0xfe]), "//4=");
        for wrong in ["Z", "Zg", "Zg=", "Zh==", "Z===", "Zm9=", "Zm9vYg==Zg==", "Zm9v\n", "====", "Zm-v"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
