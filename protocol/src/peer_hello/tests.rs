use proptest::prelude::*;

use super::*;

fn hello(store: u128, run: u128) -> PeerHello {
    let address = |port: u16| Address::new(&format!("127.0.0.1:{port}")).unwrap();
    PeerHello {
        cluster_name: ClusterName::new("quorate").unwrap(),
        store_id: Uuid::from_u128(store),
        run_id: Uuid::from_u128(run),
        name: BrokerName::new(&format!("broker-{store}")).unwrap(),
        cluster_address: address(1),
        client_address: address(2),
        admin_address: address(3),
        transient: store == 7,
    }
}

fn config(store: u128, secret: &'static str) -> PeerConfig {
    PeerConfig::new(hello(store, store + 100), PeerSecret::new(secret))
}

/// Runs a handshake to its end: what the dialer and the acceptor make of it.
fn run(dialing: PeerConfig, accepting: PeerConfig) -> (Progress, Progress) {
    let (mut dialer, first) = PeerDialer::new(dialing, &[1; 32]);
    let mut acceptor = PeerAcceptor::new(accepting, [2; 32]);
    let mut ends = (Progress::Pending, Progress::Pending);
    let mut to_acceptor = Some(first);
    while let Some(frame) = to_acceptor.take() {
        let reaction = acceptor.handle(frame);
        ends.1 = reaction.progress;
        if let Some(answer) = reaction.send {
            let reaction = dialer.handle(answer);
            ends.0 = reaction.progress;
            to_acceptor = reaction.send;
        }
    }
    ends
}

fn failure(progress: Progress) -> HandshakeError {
    match progress {
        Progress::Failed(error) => error,
        other => panic!("the handshake should have failed: {other:?}"),
    }
}

/// Both ends fail with this code, one of them by its own judgement; gives the judge's text.
fn both_fail(ends: (Progress, Progress), code: FaultCode) -> String {
    let (dialed, accepted) = (failure(ends.0), failure(ends.1));
    assert_eq!((dialed.code, accepted.code), (code, code));
    assert_ne!(dialed.by_peer, accepted.by_peer, "one end judges, the other is told");
    assert_eq!(dialed.text, accepted.text);
    dialed.text
}

#[test]
fn brokers_with_the_same_secret_link_and_so_do_brokers_without() {
    for secret in ["s3cret", ""] {
        let (dialed, accepted) = run(config(1, secret), config(7, secret));
        assert_eq!(dialed, Progress::Linked(Box::new(PeerLink { peer: hello(7, 107), version: 1 })));
        assert_eq!(accepted, Progress::Linked(Box::new(PeerLink { peer: hello(1, 101), version: 1 })));
    }
}

#[test]
fn a_wrong_secret_is_noticed_by_the_dialer_and_told() {
    let text = both_fail(run(config(1, "right"), config(2, "wrong")), FaultCode::PeerSecretWrong);
    assert!(text.contains("broker-1") && text.contains("broker-2"), "{text}");
}

#[test]
fn one_side_without_a_secret_is_named() {
    let text = both_fail(run(config(1, "s"), config(2, "")), FaultCode::PeerSecretMissing);
    assert!(text.contains("broker-2 has none"), "{text}");
    let text = both_fail(run(config(1, ""), config(2, "s")), FaultCode::PeerSecretMissing);
    assert!(text.contains("broker-1 has none"), "{text}");
}

#[test]
fn another_cluster_name_is_refused_naming_both() {
    let mut other = config(2, "s");
    other.hello.cluster_name = ClusterName::new("staging").unwrap();
    let text = both_fail(run(config(1, "s"), other), FaultCode::PeerClusterName);
    assert!(text.contains("staging") && text.contains("quorate"), "{text}");
}

#[test]
fn versions_are_negotiated_or_both_named() {
    let speaking = |store, min, max| {
        let versions = VersionRange::new(min, max).unwrap();
        PeerConfig { versions, ..config(store, "s") }
    };
    let (dialed, accepted) = run(speaking(1, 1, 3), speaking(2, 2, 9));
    let version = |progress| match progress {
        Progress::Linked(link) => link.version,
        other => panic!("{other:?}"),
    };
    assert_eq!((version(dialed), version(accepted)), (3, 3));
    let text = both_fail(run(speaking(1, 4, 4), speaking(2, 2, 3)), FaultCode::UnsupportedVersion);
    assert!(text.contains("versions 2 to 3") && text.contains("dialed it 4"), "{text}");
}

#[test]
fn versions_are_compared_before_anything_else_is_read() {
    let mut payload = BytesMut::from(&PEER_MAGIC[..]);
    payload.extend_from_slice(&[9, 0, 9, 0]);
    payload.extend_from_slice(b"nothing that version 1 could read");
    let reaction = PeerAcceptor::new(config(1, ""), [0; 32]).handle(PeerFrame::Hello(payload.freeze()));
    assert_eq!(failure(reaction.progress).code, FaultCode::UnsupportedVersion);
}

#[test]
fn an_acceptor_that_chooses_a_version_nobody_offered_is_refused() {
    let (mut dialer, first) = PeerDialer::new(config(1, ""), &[1; 32]);
    let Some(PeerFrame::HelloOk(answer)) = PeerAcceptor::new(config(2, ""), [2; 32]).handle(first).send
    else {
        panic!("no answer");
    };
    let mut answer = BytesMut::from(&answer[..]);
    answer[4] = 9;
    let reaction = dialer.handle(PeerFrame::HelloOk(answer.freeze()));
    assert_eq!(failure(reaction.progress).code, FaultCode::UnsupportedVersion);
}

#[test]
fn a_recorded_auth_does_not_fit_another_nonce() {
    let (mut dialer, hello) = PeerDialer::new(config(1, "s"), &[1; 32]);
    let mut acceptor = PeerAcceptor::new(config(2, "s"), [2; 32]);
    let answer = acceptor.handle(hello.clone()).send.unwrap();
    let auth = dialer.handle(answer).send.unwrap();
    assert!(matches!(acceptor.handle(auth.clone()).progress, Progress::Linked(_)));

    let mut same_nonce = PeerAcceptor::new(config(2, "s"), [2; 32]);
    same_nonce.handle(hello.clone());
    assert!(
        matches!(same_nonce.handle(auth.clone()).progress, Progress::Linked(_)),
        "the replay itself is right"
    );

    let mut fresh = PeerAcceptor::new(config(2, "s"), [3; 32]);
    fresh.handle(hello);
    assert_eq!(failure(fresh.handle(auth).progress).code, FaultCode::PeerSecretWrong);
}

#[test]
fn a_recorded_answer_does_not_fit_another_nonce() {
    let (_, hello) = PeerDialer::new(config(1, "s"), &[1; 32]);
    let answer = PeerAcceptor::new(config(2, "s"), [2; 32]).handle(hello).send.unwrap();
    let (mut fresh, _) = PeerDialer::new(config(1, "s"), &[9; 32]);
    assert_eq!(failure(fresh.handle(answer).progress).code, FaultCode::PeerSecretWrong);
}

#[test]
fn a_proof_cannot_be_sent_back() {
    let (mut dialer, hello) = PeerDialer::new(config(1, "s"), &[1; 32]);
    let mut acceptor = PeerAcceptor::new(config(2, "s"), [2; 32]);
    let answer = acceptor.handle(hello).send.unwrap();
    let PeerFrame::HelloOk(payload) = answer.clone() else { panic!("{answer:?}") };
    let reflected = PeerFrame::Auth(payload.slice(payload.len() - PROOF_LENGTH..));
    assert_eq!(failure(acceptor.handle(reflected).progress).code, FaultCode::PeerSecretWrong);
    assert!(matches!(dialer.handle(answer).send, Some(PeerFrame::Auth(_))));
}

#[test]
fn a_broker_recognises_itself_but_not_a_copy_of_its_store() {
    let ends = run(config(1, "s"), config(1, "s"));
    both_fail(ends, FaultCode::PeerIsSelf);
    let copy = PeerConfig::new(hello(1, 999), PeerSecret::new("s"));
    assert!(matches!(run(config(1, "s"), copy), (Progress::Linked(_), Progress::Linked(_))));
}

#[test]
fn frames_out_of_order_end_the_handshake_for_good() {
    let mut acceptor = PeerAcceptor::new(config(2, ""), [2; 32]);
    let (mut dialer, hello) = PeerDialer::new(config(1, ""), &[1; 32]);
    let early = acceptor.handle(PeerFrame::Auth(Bytes::from_static(&[0; 32])));
    assert_eq!(failure(early.progress).code, FaultCode::UnexpectedFrame);
    assert_eq!(failure(acceptor.handle(hello).progress).code, FaultCode::UnexpectedFrame);
    let message = dialer.handle(PeerFrame::Message(Bytes::new()));
    assert_eq!(failure(message.progress).code, FaultCode::UnexpectedFrame);
}

#[test]
fn an_empty_secret_is_none_and_a_secret_does_not_show() {
    assert!(PeerSecret::new("").is_none());
    assert!(!format!("{:?}", config(1, "hunter2")).contains("hunter2"));
}

proptest! {
    #[test]
    fn one_changed_byte_never_links(at: prop::sample::Index, flip in 1_u8.., in_answer: bool) {
        let (mut dialer, hello) = PeerDialer::new(config(1, "s"), &[1; 32]);
        let mut acceptor = PeerAcceptor::new(config(2, "s"), [2; 32]);
        let damage = |bytes: &Bytes| {
            let mut bytes = BytesMut::from(&bytes[..]);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            bytes.freeze()
        };
        let PeerFrame::Hello(payload) = hello.clone() else { panic!("{hello:?}") };
        let sent = if in_answer { hello } else { PeerFrame::Hello(damage(&payload)) };
        let Some(PeerFrame::HelloOk(answer)) = acceptor.handle(sent).send else { return Ok(()) };
        let answer = if in_answer { damage(&answer) } else { answer };
        let reaction = dialer.handle(PeerFrame::HelloOk(answer));
        prop_assert!(matches!(reaction.progress, Progress::Failed(_)), "{:?}", reaction);
    }

    #[test]
    fn random_payloads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), magic: bool) {
        let mut payload = if magic { b"QRTP\x01\x00\x01\x00".to_vec() } else { Vec::new() };
        payload.extend_from_slice(&bytes);
        let payload = Bytes::from(payload);
        PeerAcceptor::new(config(2, "s"), [2; 32]).handle(PeerFrame::Hello(payload.clone()));
        PeerDialer::new(config(1, "s"), &[1; 32]).0.handle(PeerFrame::HelloOk(payload));
    }
}
