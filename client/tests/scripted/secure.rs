//! TLS.

use std::path::Path;
use std::sync::Arc;

use quorate_client::{Blame, Client, Error, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::broker::{Broker, Peer, confirm};
use crate::{options, soon};

/// An authority in a file, and a broker's certificate from it.
fn authority(directory: &Path, name: &str) -> (Tls, TlsAcceptor) {
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let file = directory.join(name);
    std::fs::write(&file, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (Tls { ca: Some(file), ..Tls::default() }, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn messages_travel_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, acceptor) = authority(directory.path(), "ca.pem");
    let broker = Broker::new().await;
    let serve = async {
        let mut peer = Peer::new(acceptor.accept(broker.accept_stream().await).await.unwrap());
        peer.log_in(0).await;
        peer
    };
    let (client, peer) = tokio::join!(Client::open(options(&[&broker]).tls(tls)), serve);
    let (client, mut peer) = (client.unwrap(), peer);
    let publisher = client.publisher().unwrap();
    for length in [1, 1 << 20] {
        let pending = publisher.publish("", "q", vec![7; length]).await.unwrap();
        let body = peer.hears_publish().await;
        assert_eq!(usize::try_from(body.largest_body()).unwrap(), length);
        peer.say(confirm(&body)).await;
        assert!(soon("the confirm", pending).await.is_ok());
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, _) = authority(directory.path(), "ours.pem");
    let (_, acceptor) = authority(directory.path(), "theirs.pem");
    let broker = Broker::new().await;
    let (result, refused) =
        tokio::join!(soon("the connect", Client::open(options(&[&broker]).tls(tls))), async {
            acceptor.accept(broker.accept_stream().await).await.is_err()
        });
    let error = result.unwrap_err();
    assert!(refused && matches!(error, Error::Tls(_)) && error.blame() == Blame::Operator, "{error}");
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_said_before_anything_is_tried() {
    let broker = Broker::new().await;
    let directory = tempfile::tempdir().unwrap();
    let missing = Tls { ca: Some(directory.path().join("missing.pem")), ..Tls::default() };
    let error = Client::open(options(&[&broker]).tls(missing)).await.unwrap_err();
    assert!(matches!(error, Error::Tls(_)) && error.to_string().contains("missing.pem"), "{error}");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error =
        Client::open(options(&[&broker]).tls(Tls { ca: Some(empty), ..Tls::default() })).await.unwrap_err();
    assert!(matches!(error, Error::Tls(_)), "{error}");
}
