//! The secret that brokers share: read from a file, never printed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::config::read_bounded;

/// Enough for any generated secret; a longer file is the wrong file.
const SECRET_BYTES_MAX: u64 = 4096;
/// Shorter ones can be guessed from one observed handshake.
const SECRET_BYTES_MIN: usize = 16;

/// Bytes that only the cluster's brokers know.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Reads the file; white space around the secret does not count. The error is a line for people.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = read_bounded(path, SECRET_BYTES_MAX)
            .map_err(|error| format!("--cluster-secret-file {}: {error}", path.display()))?;
        let secret = text.trim();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "--cluster-secret-file {}: {} bytes are too few, at least {SECRET_BYTES_MIN}; `openssl rand -base64 32` makes a good one",
                path.display(),
                secret.len()
            ));
        }
        Ok(Self(secret.as_bytes().into()))
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
