//! TLS for clients and operators: certificate and key from PEM files, exchanged while running.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{TlsFiles, read_bounded};

/// A chain of a dozen certificates is a few ten KiB.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The acceptor in force. New connections take the latest; open ones keep theirs.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    acceptor: Arc<RwLock<TlsAcceptor>>,
}

impl Tls {
    /// Reads the files. The error is a line for people.
    pub fn load(files: &TlsFiles) -> Result<Self, String> {
        let acceptor = Arc::new(RwLock::new(acceptor(files)?));
        Ok(Self { files: files.clone(), acceptor })
    }

    /// Reads the files again. On an error the old certificate stays in force.
    pub fn reload(&self) -> Result<(), String> {
        let fresh = acceptor(&self.files)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The flag that named the certificate.
    pub fn flag(&self) -> String {
        self.files.flag("cert")
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read_pem(flag: &str, path: &Path) -> Result<String, String> {
    read_bounded(path, PEM_BYTES_MAX).map_err(|error| format!("{flag} {}: {error}", path.display()))
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let (cert_flag, key_flag) = (files.flag("cert"), files.flag("key"));
    let certificate_path = files.certificate.display();
    let key_path = files.key.display();
    let chain = CertificateDer::pem_slice_iter(read_pem(&cert_flag, &files.certificate)?.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{cert_flag} {certificate_path}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{cert_flag} {certificate_path}: no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(read_pem(&key_flag, &files.key)?.as_bytes())
        .map_err(|error| format!("{key_flag} {key_path}: {error}"))?;
    // The provider is named here and nowhere taken from a process-wide default, which another crate could set.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("{cert_flag} {certificate_path} with {key_flag} {key_path}: {error}"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> TlsFiles {
        TlsFiles { flags: "--tls", certificate: directory.join("cert.pem"), key: directory.join("key.pem") }
    }

    fn write_certificate(files: &TlsFiles) {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.certificate, signed.cert.pem()).unwrap();
        std::fs::write(&files.key, signed.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_pair_is_loaded_and_a_broken_reload_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        write_certificate(&files);
        let tls = Tls::load(&files).unwrap();
        let before = Arc::as_ptr(tls.acceptor().config());
        std::fs::write(&files.key, "gone").unwrap();
        assert!(tls.reload().unwrap_err().contains("--tls-key"));
        assert_eq!(Arc::as_ptr(tls.acceptor().config()), before);
        write_certificate(&files);
        tls.reload().unwrap();
        assert_ne!(Arc::as_ptr(tls.acceptor().config()), before);
    }

    #[test]
    fn what_is_missing_or_does_not_belong_together_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        assert!(Tls::load(&files).err().unwrap().contains("cert.pem"));
        write_certificate(&files);
        std::fs::write(&files.certificate, "no pem").unwrap();
        assert!(Tls::load(&files).err().unwrap().contains("no certificate"));
        write_certificate(&files);
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        assert!(Tls::load(&files).is_err(), "a key of another certificate");
    }
}
