//! TLS by rustls with the `ring` provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::options::Tls;

/// Where systems keep the bundle of authorities they trust.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A connector that trusts what the options say, and the name to expect if it is not the address's host.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) tls: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    /// Reads certificates and keys.
    pub(crate) fn new(options: &Tls) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string().into()))?
            .with_root_certificates(roots(options.ca.as_deref())?);
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => builder
                .with_client_auth_cert(read_certificates(certificates)?, read_key(key)?)
                .map_err(|error| unusable(certificates, &error))?,
        };
        let server_name = match &options.server_name {
            None => None,
            Some(name) => Some(parse_name(name)?),
        };
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), server_name })
    }

    /// The name that the certificate of this host must carry.
    pub(crate) fn name_for(&self, host: &str) -> Result<ServerName<'static>, Error> {
        self.server_name.clone().map_or_else(|| parse_name(host), Ok)
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::Tls(format!("'{name}' is no name that a certificate can carry").into()))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Error> {
    let path = match ca {
        Some(path) => path.to_owned(),
        None => SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            Error::Tls(
                "this system has no bundle of authorities where it is usually kept; give ca=FILE".into(),
            )
        })?,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(read_certificates(&path)?);
    if added == 0 {
        return Err(Error::Tls(format!("{} has no usable certificate", path.display()).into()));
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(path, &error))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("{}: {error}", path.display()).into())
}
