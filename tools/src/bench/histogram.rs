//! Histograms as text that other tools read: HdrHistogram's format V2, its compressed envelope, in Base64 ("HISTFAAA…").
//!
//! The envelope is zlib's, with stored blocks: every inflater takes it, and the counts are small already, since runs of
//! zeros are written as one number. So no compressor is needed here.

use hdrhistogram::Histogram;

use crate::base64;

const COOKIE: u32 = 0x1c84_9313;
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
/// Most bytes of a stored block.
const BLOCK: usize = 65_535;

/// The histogram in Base64.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let stored = zlib(&plain(histogram));
    let mut bytes = Vec::with_capacity(stored.len() + 8);
    bytes.extend_from_slice(&COMPRESSED_COOKIE.to_be_bytes());
    bytes.extend_from_slice(&length(stored.len()).to_be_bytes());
    bytes.extend_from_slice(&stored);
    base64::encode(&bytes)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a histogram has some ten thousand counts")
}

/// Header and counts, uncompressed.
fn plain(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut counts = Vec::new();
    let mut zeros: i64 = 0;
    let last = histogram.lowest_equivalent(histogram.max());
    for step in
        histogram.iter_all().take_while(|step| histogram.lowest_equivalent(step.value_iterated_to()) <= last)
    {
        match i64::try_from(step.count_at_value()).unwrap_or(i64::MAX) {
            0 => zeros += 1,
            count => {
                skip(&mut counts, &mut zeros);
                number(&mut counts, count);
            }
        }
    }
    skip(&mut counts, &mut zeros);
    let mut bytes = Vec::with_capacity(40 + counts.len());
    bytes.extend_from_slice(&COOKIE.to_be_bytes());
    bytes.extend_from_slice(&length(counts.len()).to_be_bytes());
    // The normalizing index offset.
    bytes.extend_from_slice(&0_u32.to_be_bytes());
    bytes.extend_from_slice(&u32::from(histogram.sigfig()).to_be_bytes());
    bytes.extend_from_slice(&histogram.low().to_be_bytes());
    bytes.extend_from_slice(&histogram.high().to_be_bytes());
    // The ratio of integers to doubles.
    bytes.extend_from_slice(&1.0_f64.to_be_bytes());
    bytes.extend_from_slice(&counts);
    bytes
}

/// Several zeros are one negative number.
fn skip(bytes: &mut Vec<u8>, zeros: &mut i64) {
    match std::mem::take(zeros) {
        0 => {}
        1 => number(bytes, 0),
        many => number(bytes, -many),
    }
}

/// Zig-zag, then seven bits a byte, the lowest first; a ninth byte has eight.
fn number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    for _ in 0..8 {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
    let [low, ..] = rest.to_le_bytes();
    bytes.push(low);
}

/// RFC 1950 and 1951, nothing compressed.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    let mut blocks = data.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let count = u16::try_from(block.len()).expect("a block is no longer than this");
        bytes.push(u8::from(blocks.peek().is_none()));
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&(!count).to_le_bytes());
        bytes.extend_from_slice(block);
    }
    bytes.extend_from_slice(&adler32(data).to_be_bytes());
    bytes
}

fn adler32(data: &[u8]) -> u32 {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in data {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    (high << 16) | low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a number written by [`number`]; gives the rest, too.
    fn read(bytes: &[u8]) -> (i64, &[u8]) {
        let (mut value, mut shift) = (0_u64, 0);
        for (place, byte) in bytes.iter().enumerate() {
            let bits = if place == 8 { *byte } else { byte & 0x7f };
            value |= u64::from(bits) << shift;
            shift += 7;
            if place == 8 || byte & 0x80 == 0 {
                return ((value >> 1).cast_signed() ^ -(value & 1).cast_signed(), &bytes[place + 1..]);
            }
        }
        panic!("cut off: {bytes:?}");
    }

    #[test]
    fn numbers() {
        for value in [0, 1, -1, 63, 64, -64, -65, 300, 1 << 40, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            assert_eq!(read(&bytes), (value, &[][..]), "{bytes:?}");
        }
        let mut bytes = Vec::new();
        number(&mut bytes, -65);
        assert_eq!(bytes, [0x81, 0x01]);
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        let twice = zlib(&vec![7; BLOCK + 1]);
        assert_eq!(twice.len(), 2 + 5 + BLOCK + 5 + 1 + 4);
        assert_eq!((twice[2], twice[2 + 5 + BLOCK]), (0, 1));
    }

    #[test]
    fn the_counts_are_those_of_the_histogram() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).unwrap();
        histogram.record_n(3, 5).unwrap();
        histogram.record(4).unwrap();
        histogram.record(6).unwrap();
        histogram.record(500_000).unwrap();
        let text = encode(&histogram);
        assert!(text.starts_with("HISTFAAA"), "{text}");
        let bytes = base64::decode(&text).unwrap();
        let inner = &bytes[8 + 2 + 5..bytes.len() - 4];
        assert_eq!((&inner[..4], inner[15]), (&COOKIE.to_be_bytes()[..], 3));
        let mut rest = &inner[40..];
        assert_eq!(rest.len(), usize::from(inner[7]));
        let mut numbers = Vec::new();
        while !rest.is_empty() {
            let (value, after) = read(rest);
            numbers.push(value);
            rest = after;
        }
        // Places 0 to 2, 5 and those from 7 on are empty; 500,000 >> 8 is 1953, so it is at 9 · 1024 + (1953 - 1024).
        assert_eq!(numbers, [-3, 5, 1, 0, 1, -(10_145 - 7), 1]);
    }

    #[test]
    fn an_empty_one_is_written_too() {
        let text = encode(&Histogram::<u64>::new_with_bounds(1, 1000, 3).unwrap());
        assert!(text.starts_with("HISTFAAA") && text.len() < 100, "{text}");
    }
}
