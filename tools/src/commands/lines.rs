//! Lines of a file or of standard input, read ahead of the publisher by a few pieces and no more.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use tokio::sync::mpsc;

use crate::exit::Failure;

/// Longest line, in bytes: beyond what any broker takes as a message unless configured otherwise.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// A piece is handed over when it has so many bytes or lines, or when there is nothing more to read at once.
const PIECE_BYTES: usize = 256 << 10;
const PIECE_LINES: usize = 4096;
/// Pieces read ahead.
const PIECES: usize = 4;

type Piece = Result<Vec<Vec<u8>>, Failure>;

/// Messages to publish, one after the other.
pub(super) enum Source {
    /// From a thread that reads.
    Lines { pieces: mpsc::Receiver<Piece>, taken: VecDeque<Vec<u8>> },
    /// The same body so many times more.
    Repeated { body: Vec<u8>, left: u64 },
}

impl Source {
    /// Lines of a file; `-` is standard input.
    pub(super) fn lines(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let input: Box<dyn Read + Send> = if name == "-" {
            Box::new(io::stdin())
        } else {
            let file =
                File::open(path).map_err(|error| Failure::usage(format!("--lines {name}: {error}")))?;
            Box::new(file)
        };
        Ok(Self::reading(name, input))
    }

    fn reading(name: String, input: Box<dyn Read + Send>) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        thread::spawn(move || {
            let end = read(BufReader::with_capacity(PIECE_BYTES, input), &sender);
            if let Err(error) = end {
                // Without a receiver nobody wants to know.
                let _ = sender.blocking_send(Err(Failure::io(format_args!("cannot read {name}"), &error)));
            }
        });
        Self::Lines { pieces, taken: VecDeque::new() }
    }

    /// The next body; none at the end. May be dropped and called again without losing one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Repeated { left: 0, .. } => Ok(None),
            Self::Repeated { body, left } => {
                *left -= 1;
                Ok(Some(body.clone()))
            }
            Self::Lines { pieces, taken } => loop {
                if let Some(line) = taken.pop_front() {
                    return Ok(Some(line));
                }
                match pieces.recv().await {
                    Some(piece) => *taken = piece?.into(),
                    None => return Ok(None),
                }
            },
        }
    }
}

/// A last line without its newline counts; an empty line is an empty message.
fn read<R: Read>(mut input: BufReader<R>, sender: &mpsc::Sender<Piece>) -> io::Result<()> {
    let mut piece = Vec::new();
    let mut bytes = 0;
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read > 0 {
            if line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 == LINE_BYTES_MAX {
                return Err(io::Error::other(format!("a line has more than {LINE_BYTES_MAX} bytes")));
            }
            bytes += line.len();
            piece.push(line);
        }
        let full = bytes >= PIECE_BYTES || piece.len() >= PIECE_LINES;
        if (full || read == 0 || input.buffer().is_empty()) && !piece.is_empty() {
            bytes = 0;
            if sender.blocking_send(Ok(std::mem::take(&mut piece))).is_err() {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &'static [u8]) -> Vec<Vec<u8>> {
        let mut source = Source::reading("test".into(), Box::new(text));
        let mut lines = Vec::new();
        while let Some(line) = source.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_bytes_between_newlines() {
        assert_eq!(all(b"a\n\nb\r\n\xff").await, [&b"a"[..], b"", b"b\r", b"\xff"]);
        assert_eq!(all(b"").await, Vec::<Vec<u8>>::new());
        assert_eq!(all(b"x\n").await, [b"x"]);
    }

    #[tokio::test]
    async fn a_body_is_repeated() {
        let mut source = Source::Repeated { body: b"x".to_vec(), left: 2 };
        assert!(source.next().await.unwrap().is_some() && source.next().await.unwrap().is_some());
        assert!(source.next().await.unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_not_there_is_a_usage_error() {
        let Err(failure) = Source::lines(Path::new("/no/such/file")) else { panic!("opened") };
        assert_eq!(failure.status.code(), 64);
        assert!(failure.message.contains("/no/such/file"));
    }
}
