//! How admin ports are spoken to: plain or by TLS, with a token or without.

use std::fmt;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::exit::Failure;

/// Longest file of a token or of certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What whoever speaks to an admin port has in his hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approach {
    /// Certificates that are trusted, and that TLS is spoken; none: plain text.
    pub roots: Option<PathBuf>,
    /// The token that is shown.
    pub token: Option<Token>,
}

impl Approach {
    /// What an address begins with.
    pub fn scheme(&self) -> &'static str {
        if self.roots.is_some() { "https" } else { "http" }
    }

    /// The header's value that shows the token to this address; none without a token.
    ///
    /// # Errors
    /// It would go over a network in plain text.
    pub fn shown_to(&self, address: &str) -> Result<Option<String>, String> {
        let Some(Token(token)) = &self.token else { return Ok(None) };
        if self.roots.is_none() && !is_loopback(address) {
            return Err(
                "the token is not shown in plain text to another host: give --admin-tls-ca".to_owned()
            );
        }
        Ok(Some(format!("Bearer {token}")))
    }

    /// How TLS is spoken, if it is.
    ///
    /// # Errors
    /// The file of certificates cannot be read, or has none.
    pub fn tls(&self) -> Result<Option<TlsConfig>, Failure> {
        let Some(path) = &self.roots else { return Ok(None) };
        let wrong = |what: String| Failure::usage(format!("--admin-tls-ca {}: {what}", path.display()));
        let text = read(path).map_err(|error| wrong(error.to_string()))?;
        let roots = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(error.to_string()))?;
        if roots.is_empty() {
            return Err(wrong("no certificate in it".to_owned()));
        }
        let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let config = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        Ok(Some(config))
    }
}

/// What is shown to admin ports. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in this text: its only word, or the second of a broker's line `NAME TOKEN [read|admin]`.
    ///
    /// # Errors
    /// There is none, or it cannot stand in a header.
    pub fn new(text: &str, place: &str) -> Result<Self, Failure> {
        let mut lines = text.lines().map(|line| line.split_once('#').map_or(line, |(line, _)| line).trim());
        let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let mut words = line.split_whitespace();
        let alone = words.next();
        let Some(token) = words.next().or(alone) else {
            return Err(Failure::usage(format!("{place}: no token in it")));
        };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(format!(
                "{place}: a token has letters, digits and signs of ASCII only"
            )));
        }
        Ok(Self(token.to_owned()))
    }

    /// The token in a file.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let place = format!("--admin-token-file {}", path.display());
        let text = read(path).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        Self::new(&text, &place)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("this is no file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether `host:port` is on this machine whatever any name server says.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_alone_or_in_a_brokers_line() {
        let token =
            |text: &str| Token::new(text, "x").map(|Token(token)| token).map_err(|failure| failure.message);
        assert_eq!(token("abc\n").as_deref(), Ok("abc"));
        assert_eq!(token("# mine\nann abc read\nbob def").as_deref(), Ok("abc"));
        assert!(token("").unwrap_err().contains("no token") && token("ä").is_err());
    }

    #[test]
    fn a_token_is_shown_in_plain_text_on_this_machine_only() {
        let token = Some(Token::new("abc", "").unwrap());
        let plain = Approach { roots: None, token };
        for address in ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.9.9.9:1"] {
            assert_eq!(plain.shown_to(address), Ok(Some("Bearer abc".to_owned())), "{address}");
        }
        for address in ["h1:1", "10.0.0.1:1", "localhost.example:1", "[2001:db8::1]:1"] {
            assert!(plain.shown_to(address).is_err(), "{address}");
        }
        let secret = Approach { roots: Some("ca.pem".into()), ..plain };
        assert!(secret.shown_to("h1:1").is_ok());
        assert_eq!(Approach::default().shown_to("h1:1"), Ok(None));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, "no pem").unwrap();
        let tls = |path: PathBuf| Approach { roots: Some(path), token: None }.tls().map(|_| ());
        assert!(tls(path).unwrap_err().message.contains("no certificate"));
        assert!(tls("none.pem".into()).unwrap_err().message.contains("--admin-tls-ca none.pem"));
    }
}
