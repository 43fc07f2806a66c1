//! The handshake of a peer link, as two state machines without I/O.
//!
//! ```text
//! dialer                                   acceptor
//!   | Hello{versions, who I am, nonce}  ->    |
//!   |    <-  HelloOk{version, who I am, nonce, proof}
//!   | Auth{proof}                       ->    |
//!   |    <-  AuthOk                           |
//! ```
//!
//! Both prove with HMAC-SHA256 that they know the cluster's secret and saw the same bytes; the nonces make a
//! recorded handshake worthless. Each proof begins with its role, so neither can be sent back as the other. The
//! proofs say who opened the link, not that nobody rewrites what follows: where that matters, use TLS below.

use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

use crate::fault::FaultCode;
use crate::name::{Address, BrokerName, ClusterName};
use crate::peer_frame::{PeerFrame, PeerRefused};
use crate::version::{PEER_VERSIONS, VersionRange};
use crate::wire::{Field, Malformed, Problem, Reader, Sink, announce, fields};

/// The first four bytes of the payloads of Hello and HelloOk.
pub const PEER_MAGIC: [u8; 4] = *b"QRTP";
const ACCEPTOR_ROLE: &[u8] = b"quorate-peer-acceptor";
const DIALER_ROLE: &[u8] = b"quorate-peer-dialer";
const PROOF_LENGTH: usize = 32;

/// Random bytes that the caller draws anew for every handshake.
pub type Nonce = [u8; 32];

fields! {
    /// What a broker says about itself.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PeerHello {
        /// Members agree on it.
        pub cluster_name: ClusterName,
        /// The broker's store; drawn anew at every start if it has none.
        pub store_id: Uuid,
        /// The broker's process.
        pub run_id: Uuid,
        /// The broker's name.
        pub name: BrokerName,
        /// Where peers reach it.
        pub cluster_address: Address,
        /// Where clients reach it.
        pub client_address: Address,
        /// Where operators reach it.
        pub admin_address: Address,
        /// It has no store.
        pub transient: bool,
    }
}

/// The cluster's shared secret; never shown.
#[derive(Clone)]
pub struct PeerSecret(Bytes);

impl PeerSecret {
    /// The secret; none if it is empty, which would be no secret.
    pub fn new(secret: impl Into<Bytes>) -> Option<Self> {
        let secret = secret.into();
        (!secret.is_empty()).then_some(Self(secret))
    }
}

impl std::fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerSecret(..)")
    }
}

/// What one end brings to a handshake.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Who it is.
    pub hello: PeerHello,
    /// The versions it speaks: [`PEER_VERSIONS`], or less in tests.
    pub versions: VersionRange,
    /// The cluster's secret, if there is one.
    pub secret: Option<PeerSecret>,
}

impl PeerConfig {
    /// This broker, with every version that this crate speaks.
    pub fn new(hello: PeerHello, secret: Option<PeerSecret>) -> Self {
        Self { hello, versions: PEER_VERSIONS, secret }
    }

    fn proof(&self, role: &[u8], transcript: &[u8]) -> Hmac<Sha256> {
        let key = self.secret.as_ref().map_or(&[][..], |secret| &secret.0);
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
        mac.update(role);
        mac.update(transcript);
        mac
    }

    fn prove(&self, role: &[u8], transcript: &[u8]) -> [u8; PROOF_LENGTH] {
        self.proof(role, transcript).finalize().into_bytes().into()
    }

    /// Checks a proof in constant time.
    fn verify(&self, role: &[u8], transcript: &[u8], proof: &[u8]) -> bool {
        self.proof(role, transcript).verify_slice(proof).is_ok()
    }

    fn check_cluster(&self, peer: &PeerHello) -> Result<(), HandshakeError> {
        if peer.cluster_name == self.hello.cluster_name {
            return Ok(());
        }
        let (ours, theirs) = (&self.hello.cluster_name, &peer.cluster_name);
        let text =
            format!("broker {} is of cluster `{theirs}`, broker {} of `{ours}`", peer.name, self.hello.name);
        Err(HandshakeError::here(
            FaultCode::PeerClusterName,
            format!("{text}: give both the same --cluster-name"),
        ))
    }

    fn check_secrets(&self, peer: &PeerHello, peer_has_secret: bool) -> Result<(), HandshakeError> {
        let (with, without) = match (self.secret.is_some(), peer_has_secret) {
            (true, false) => (&self.hello.name, &peer.name),
            (false, true) => (&peer.name, &self.hello.name),
            _ => return Ok(()),
        };
        let text = format!("broker {with} has a cluster secret, broker {without} has none");
        Err(HandshakeError::here(
            FaultCode::PeerSecretMissing,
            format!("{text}: give it --cluster-secret-file"),
        ))
    }

    fn wrong_secret(&self, peer: &PeerHello) -> HandshakeError {
        let text = format!("brokers {} and {} have different cluster secrets", self.hello.name, peer.name);
        HandshakeError::here(
            FaultCode::PeerSecretWrong,
            format!("{text}: compare their --cluster-secret-file"),
        )
    }
}

/// The other end of an authenticated link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLink {
    /// Who it is.
    pub peer: PeerHello,
    /// The version both speak.
    pub version: u16,
}

/// Why two brokers do not link.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{text} ({code})", if *.by_peer { "refused by the other broker: " } else { "" })]
pub struct HandshakeError {
    /// Why.
    pub code: FaultCode,
    /// For people: what, and what to do next.
    pub text: String,
    /// The other end says so; else this end does.
    pub by_peer: bool,
}

impl HandshakeError {
    fn here(code: FaultCode, text: String) -> Self {
        Self { code, text, by_peer: false }
    }
}

impl From<Malformed> for HandshakeError {
    fn from(problem: Malformed) -> Self {
        Self::here(problem.fault(), format!("the other broker's handshake cannot be read: {problem}"))
    }
}

/// Where a handshake stands after a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Wait for the next frame.
    Pending,
    /// Done: the link is authenticated. The decoder may now be told so.
    Linked(Box<PeerLink>),
    /// Over: close the connection after sending.
    Failed(HandshakeError),
}

/// What to do after a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// Send this first.
    pub send: Option<PeerFrame>,
    /// Then this holds.
    pub progress: Progress,
}

impl Reaction {
    fn pending(send: PeerFrame) -> Self {
        Self { send: Some(send), progress: Progress::Pending }
    }

    fn linked(send: Option<PeerFrame>, link: PeerLink) -> Self {
        Self { send, progress: Progress::Linked(Box::new(link)) }
    }

    fn failed(error: HandshakeError) -> Self {
        let refused = PeerRefused { code: error.code, text: error.text.clone() };
        let send = (!error.by_peer).then_some(PeerFrame::Refused(refused));
        Self { send, progress: Progress::Failed(error) }
    }
}

/// Frames that neither side may send at this point.
fn unexpected(frame: PeerFrame) -> HandshakeError {
    match frame {
        PeerFrame::Refused(PeerRefused { code, text }) => HandshakeError { code, text, by_peer: true },
        other => {
            let text = format!("{} is not allowed at this point of the handshake", other.kind_name());
            HandshakeError::here(FaultCode::UnexpectedFrame, text)
        }
    }
}

/// The side that opened the connection and will send messages on it.
#[derive(Debug)]
pub struct PeerDialer {
    config: PeerConfig,
    hello: Bytes,
    state: DialerState,
}

#[derive(Debug)]
enum DialerState {
    AwaitsHelloOk,
    AwaitsAuthOk(PeerLink),
    Over,
}

impl PeerDialer {
    /// Begins a handshake with a fresh nonce; the frame is to be sent.
    pub fn new(config: PeerConfig, nonce: &Nonce) -> (Self, PeerFrame) {
        let mut payload = BytesMut::new();
        PEER_MAGIC.put(&mut payload);
        config.versions.put(&mut payload);
        config.secret.is_some().put(&mut payload);
        config.hello.put(&mut payload);
        nonce.put(&mut payload);
        let hello = payload.freeze();
        let dialer = Self { config, hello: hello.clone(), state: DialerState::AwaitsHelloOk };
        (dialer, PeerFrame::Hello(hello))
    }

    /// The acceptor sent a frame.
    pub fn handle(&mut self, frame: PeerFrame) -> Reaction {
        match (std::mem::replace(&mut self.state, DialerState::Over), frame) {
            (DialerState::AwaitsHelloOk, PeerFrame::HelloOk(payload)) => match self.hello_ok(&payload) {
                Ok((link, proof)) => {
                    self.state = DialerState::AwaitsAuthOk(link);
                    Reaction::pending(PeerFrame::Auth(proof))
                }
                Err(error) => Reaction::failed(error),
            },
            (DialerState::AwaitsAuthOk(link), PeerFrame::AuthOk) => Reaction::linked(None, link),
            (_, frame) => Reaction::failed(unexpected(frame)),
        }
    }

    fn hello_ok(&self, payload: &Bytes) -> Result<(PeerLink, Bytes), HandshakeError> {
        let mut reader = Reader::new(payload.clone());
        read_magic(&mut reader)?;
        let version = u16::get(&mut reader)?;
        if !self.config.versions.contains(version) {
            let text =
                format!("the other broker chose version {version}, not one of {}", self.config.versions);
            return Err(HandshakeError::here(FaultCode::UnsupportedVersion, text));
        }
        let peer_has_secret = bool::get(&mut reader)?;
        let peer = PeerHello::get(&mut reader)?;
        Nonce::get(&mut reader)?;
        let proof: [u8; PROOF_LENGTH] = reader.array()?;
        reader.finish()?;
        self.config.check_cluster(&peer)?;
        self.config.check_secrets(&peer, peer_has_secret)?;
        let transcript = transcript(&self.hello, payload);
        if !self.config.verify(ACCEPTOR_ROLE, &transcript, &proof) {
            return Err(self.config.wrong_secret(&peer));
        }
        // Only now: an unproved answer must not make us take a stranger's address for our own.
        let own = &self.config.hello;
        if peer.store_id == own.store_id && peer.run_id == own.run_id {
            let text = format!("broker {} reached itself", own.name);
            return Err(HandshakeError::here(FaultCode::PeerIsSelf, text));
        }
        let proof = self.config.prove(DIALER_ROLE, &transcript);
        Ok((PeerLink { peer, version }, Bytes::copy_from_slice(&proof)))
    }
}

/// The side that was dialed and will receive messages.
#[derive(Debug)]
pub struct PeerAcceptor {
    config: PeerConfig,
    nonce: Nonce,
    state: AcceptorState,
}

#[derive(Debug)]
enum AcceptorState {
    AwaitsHello,
    AwaitsAuth { link: PeerLink, transcript: Bytes },
    Over,
}

impl PeerAcceptor {
    /// Waits for a dialer, with a fresh nonce.
    pub fn new(config: PeerConfig, nonce: Nonce) -> Self {
        Self { config, nonce, state: AcceptorState::AwaitsHello }
    }

    /// The dialer sent a frame.
    pub fn handle(&mut self, frame: PeerFrame) -> Reaction {
        match (std::mem::replace(&mut self.state, AcceptorState::Over), frame) {
            (AcceptorState::AwaitsHello, PeerFrame::Hello(payload)) => match self.hello(&payload) {
                Ok((link, transcript, answer)) => {
                    self.state = AcceptorState::AwaitsAuth { link, transcript };
                    Reaction::pending(PeerFrame::HelloOk(answer))
                }
                Err(error) => Reaction::failed(error),
            },
            (AcceptorState::AwaitsAuth { link, transcript }, PeerFrame::Auth(proof)) => {
                if self.config.verify(DIALER_ROLE, &transcript, &proof) {
                    Reaction::linked(Some(PeerFrame::AuthOk), link)
                } else {
                    Reaction::failed(self.config.wrong_secret(&link.peer))
                }
            }
            (_, frame) => Reaction::failed(unexpected(frame)),
        }
    }

    fn hello(&self, payload: &Bytes) -> Result<(PeerLink, Bytes, Bytes), HandshakeError> {
        let mut reader = Reader::new(payload.clone());
        read_magic(&mut reader)?;
        // Magic and versions stay where they are in every version: nothing else is read before they fit.
        let versions = VersionRange::get(&mut reader)?;
        let version = self.config.versions.negotiate(versions).map_err(|problem| {
            let text = format!("broker {} speaks peer versions {}", self.config.hello.name, problem.ours);
            let text = format!("{text}, the one that dialed it {}: upgrade the older one", problem.theirs);
            HandshakeError::here(FaultCode::UnsupportedVersion, text)
        })?;
        let peer_has_secret = bool::get(&mut reader)?;
        let peer = PeerHello::get(&mut reader)?;
        Nonce::get(&mut reader)?;
        // What a later version adds is under the proof, though this version does not read it.
        reader.take_rest();
        self.config.check_cluster(&peer)?;
        self.config.check_secrets(&peer, peer_has_secret)?;
        let mut answer = BytesMut::new();
        PEER_MAGIC.put(&mut answer);
        version.put(&mut answer);
        self.config.secret.is_some().put(&mut answer);
        self.config.hello.put(&mut answer);
        self.nonce.put(&mut answer);
        // The proof is over everything before it, so its place is filled last.
        let unproved = answer.len();
        [0; PROOF_LENGTH].put(&mut answer);
        let transcript = transcript(payload, &answer);
        answer.truncate(unproved);
        self.config.prove(ACCEPTOR_ROLE, &transcript).put(&mut answer);
        Ok((PeerLink { peer, version }, transcript, answer.freeze()))
    }
}

fn read_magic(reader: &mut Reader) -> Result<(), Malformed> {
    if <[u8; 4]>::get(reader) == Ok(PEER_MAGIC) { Ok(()) } else { Err(Problem::Magic.into()) }
}

/// What both proofs are about: each payload with its length, the proof at HelloOk's end left out.
fn transcript(hello: &[u8], hello_ok: &[u8]) -> Bytes {
    let unproved = hello_ok.get(..hello_ok.len().saturating_sub(PROOF_LENGTH)).unwrap_or_default();
    let mut transcript = BytesMut::new();
    for part in [hello, unproved] {
        announce(part.len()).put(&mut transcript);
        transcript.put(part);
    }
    transcript.freeze()
}

#[cfg(test)]
mod tests;
