//! Which bytes of a store's files mean something, by the documented formats and apart from the product's own reader.
//!
//! A change of a byte that means something has to be noticed. One of a byte that only fills up is no case: where a reader
//! looks at the filling, it is changed, too, and not counted.

use std::ops::Range;
use std::path::Path;

/// A file's bytes that mean something.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Each bit of these is a case of its own: stamps, identities, records, segment headers.
    pub heads: Vec<Range<usize>>,
    /// Everything else that is read and verified.
    pub bodies: Vec<Range<usize>>,
    /// Means nothing, and yet is looked at: where a text ends.
    pub fillings: Vec<Range<usize>>,
    /// Where a record, or the file's content, begins or ends.
    pub borders: Vec<usize>,
}

impl Layout {
    /// Whether this byte means something.
    pub fn means(&self, at: usize) -> bool {
        self.heads.iter().chain(&self.bodies).any(|range| range.contains(&at))
    }
}

const HEADER: usize = 68;
const FIRST_BATCH: usize = 4096;
const BATCH_HEADER: usize = 24;
const FOOTER: usize = 32;
const RECORD_HEADER: usize = 36;
const ALIGNMENT: usize = 512;

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at.checked_add(N)?)?);
    Some(u64::from_le_bytes(wide))
}

/// Of a segment: the header's first 68 bytes, and each batch with its records.
fn segment(bytes: &[u8]) -> Layout {
    let mut layout = Layout { borders: vec![0, HEADER, FIRST_BATCH], ..Layout::default() };
    layout.heads.push(0..HEADER);
    let mut at = FIRST_BATCH;
    let mut sequence = None;
    while bytes.get(at..at + 4) == Some(b"QBAT") {
        // Behind the last batch may lie what the file held when it was another segment.
        let counted = number::<8>(bytes, at + 8);
        if sequence.is_some() && sequence != counted {
            break;
        }
        sequence = counted.map(|counted| counted + 1);
        let length = usize::try_from(number::<8>(bytes, at + 16).unwrap_or(0)).unwrap_or(0);
        let end = at + length;
        if length < BATCH_HEADER + FOOTER || bytes.get(end - FOOTER..end - FOOTER + 4) != Some(b"QEND") {
            break;
        }
        layout.bodies.push(at..end);
        let mut record = at + BATCH_HEADER;
        while record < end - FOOTER {
            layout.borders.push(record);
            let payload = usize::try_from(number::<4>(bytes, record).unwrap_or(0)).unwrap_or(0);
            record += RECORD_HEADER + payload;
        }
        layout.borders.extend([at, end - FOOTER, end]);
        at = end.next_multiple_of(ALIGNMENT);
    }
    layout
}

/// Of any file of a store or an image; none of what nobody reads.
pub fn layout(path: &Path, bytes: &[u8]) -> Option<Layout> {
    let name = path.file_name()?.to_str()?;
    let text = || {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Layout {
            heads: std::iter::once(0..end).collect(),
            fillings: std::iter::once(end..bytes.len()).filter(|filling| !filling.is_empty()).collect(),
            borders: lines.chain([0, bytes.len()]).collect(),
            ..Layout::default()
        }
    };
    match name {
        // Only the stamps have a filling.
        "store-id" | "image" | "stamp.a" | "stamp.b" => Some(text()),
        "model" => Some(Layout {
            bodies: std::iter::once(0..bytes.len()).collect(),
            borders: vec![0, bytes.len()],
            ..Layout::default()
        }),
        _ if name.starts_with("segment-") => Some(segment(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spares_and_locks_are_no_part_of_a_store() {
        assert!(layout(Path::new("/data/store/lock"), b"1\n").is_none());
        assert!(layout(Path::new("/data/store/log/spare-0000000000000001"), &[0; 512]).is_none());
    }

    #[test]
    fn what_fills_a_stamp_up_means_nothing() {
        let layout = layout(Path::new("/data/store/stamp.a"), b"one\ntwo\n\0\0\0\0").expect("a stamp");
        assert_eq!((layout.heads.first(), layout.fillings.first()), (Some(&(0..8)), Some(&(8..12))));
        assert_eq!(layout.borders, [4, 8, 0, 12]);
        assert!(layout.means(7) && !layout.means(8));
    }

    #[test]
    fn what_fills_a_segment_up_means_nothing() {
        let mut bytes = vec![0; 8192];
        bytes[4096..4100].copy_from_slice(b"QBAT");
        bytes[4112..4120].copy_from_slice(&100_u64.to_le_bytes());
        bytes[4096 + 24..4096 + 28].copy_from_slice(&8_u32.to_le_bytes());
        bytes[4096 + 68..4096 + 72].copy_from_slice(b"QEND");
        let layout = segment(&bytes);
        assert_eq!((layout.heads.first(), layout.bodies.first()), (Some(&(0..68)), Some(&(4096..4196))));
        assert_eq!(layout.borders, [0, 68, 4096, 4120, 4096, 4164, 4196]);
    }
}
