//! Where consumed bodies go, before they are acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::console::Console;
use crate::exit::Failure;

/// A file, standard output, or the list `messages` of the result's JSON document.
pub(super) enum Sink {
    File { file: File, path: PathBuf },
    Output,
    Document { first: bool },
}

impl Sink {
    /// What `--output` names; `-` is standard output. A file is appended to: what an earlier run wrote there is gone
    /// from the queue, and must not be lost by running again.
    pub(super) fn open(output: Option<&Path>, console: &mut Console) -> Result<Self, Failure> {
        match output {
            None if console.is_json() => {
                console.raw(b"{\"messages\":[")?;
                Ok(Self::Document { first: true })
            }
            None => Ok(Self::Output),
            Some(path) if path == Path::new("-") => Ok(Self::Output),
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let file =
                    file.map_err(|error| Failure::usage(format!("--output {}: {error}", path.display())))?;
                Ok(Self::File { file, path: path.to_path_buf() })
            }
        }
    }

    /// Whether records are JSON whatever was asked for.
    pub(super) fn is_document(&self) -> bool {
        matches!(self, Self::Document { .. })
    }

    /// Whether standard output is taken by bodies.
    pub(super) fn is_output(&self) -> bool {
        matches!(self, Self::Output)
    }

    /// Writes records, each with its newline; handed to the system when this returns.
    pub(super) fn write(&mut self, records: &[u8], console: &mut Console) -> Result<(), Failure> {
        match self {
            Self::File { file, path } => file
                .write_all(records)
                .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error)),
            Self::Output => console.stream(records),
            Self::Document { first } => {
                records.split_inclusive(|byte| *byte == b'\n').try_for_each(|record| {
                    if !std::mem::take(first) {
                        console.stream(b",")?;
                    }
                    console.stream(record.trim_ascii_end())
                })
            }
        }
    }

    /// Nothing more comes. A file is synced.
    pub(super) fn close(self) -> Result<(), Failure> {
        match self {
            Self::File { file, path } => match file.sync_data() {
                // A pipe or a device has nothing to sync.
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                    Err(Failure::io(format_args!("cannot sync {}", path.display()), &error))
                }
                _ => Ok(()),
            },
            Self::Output | Self::Document { .. } => Ok(()),
        }
    }
}
