//! Inputs as files: one directory for each target, each file named by what is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where the corpora are: `tests/corpus` of this repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

/// The name of an input: the first 16 hexadecimal digits of its SHA-256.
pub fn name_of(input: &[u8]) -> String {
    let mut name = String::new();
    for byte in Sha256::digest(input).iter().take(8) {
        write!(name, "{byte:02x}").expect("a string has room");
    }
    name
}

/// Whether a file's name says what is in it. Other names are those of inputs that found a defect.
pub fn is_hash(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Every input in a directory, by name; none if there is no directory.
///
/// # Errors
/// A file cannot be read.
pub fn read(dir: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut inputs = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(inputs),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        inputs.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(inputs)
}

/// Writes an input under the name that says what is in it.
///
/// # Errors
/// The file cannot be written.
pub fn write(dir: &Path, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let path = dir.join(name_of(input));
    fs::write(&path, input)?;
    Ok(path)
}
