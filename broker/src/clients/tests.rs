use bytes::BytesMut;
use quorate_core::io::Input;
use quorate_protocol::codec::{ClientDecoder, encode, encoded_length};
use quorate_protocol::frame::{ClientFrame, Close, Heartbeat, Hello, LoginOk, Nack, NumberRange};
use quorate_protocol::name::VhostName;
use quorate_protocol::version::CLIENT_VERSIONS;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::writing::DRAINED_STEP;
use super::*;
use crate::config::TlsFiles;
use crate::inbox::{Arrival, Arrivals};

/// A listener with nobody behind it but the test.
struct Bench {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    arrivals: Arrivals,
}

fn bench(tls: Option<Tls>) -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (inbox, arrivals) = Inbox::new();
    let clients = Clients {
        inbox,
        counters: Arc::default(),
        limits: Limits::default(),
        tls,
        insecure: false,
        places: Places::default(),
    };
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(clients.serve(listener));
        address
    });
    Bench { runtime, address, arrivals }
}

impl Bench {
    fn connect(&mut self) -> (TcpStream, SessionId, SessionOutlet) {
        let stream = self.runtime.block_on(TcpStream::connect(self.address)).unwrap();
        match self.arrivals.blocking_recv().unwrap() {
            Arrival::SessionOpened { session, secure: true, outlet, .. } => (stream, session, outlet),
            other => panic!("{other:?}"),
        }
    }

    fn input(&mut self) -> Input {
        match self.arrivals.blocking_recv().unwrap() {
            Arrival::Input(input, None) => input,
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, stream: &mut (impl AsyncWrite + Unpin), frame: impl Into<ClientFrame>) {
        let mut bytes = BytesMut::new();
        encode(&frame.into(), 0, &mut bytes);
        self.runtime.block_on(stream.write_all(&bytes)).unwrap();
    }

    /// The next frame, or none at the end of the connection.
    fn receive(&self, stream: &mut (impl AsyncRead + Unpin)) -> Option<ServerFrame> {
        let mut decoder = ClientDecoder::new(Limits::default());
        decoder.logged_in();
        let mut buffer = BytesMut::new();
        loop {
            if let Some((_, frame)) = decoder.decode(&mut buffer).unwrap() {
                return Some(frame);
            }
            if self.runtime.block_on(stream.read_buf(&mut buffer)).unwrap() == 0 {
                return None;
            }
        }
    }
}

fn hello() -> Hello {
    Hello { versions: CLIENT_VERSIONS, client_name: "test".to_owned() }
}

fn login_ok(session: SessionId) -> LoginOk {
    let vhost = VhostName::new("/").unwrap();
    LoginOk { session: session.0, vhost, leader_name: "b1".to_owned(), heartbeat_ms: 1000 }
}

/// A frame of about this many bytes.
fn large(bytes: usize) -> Nack {
    let range = NumberRange::one(1);
    Nack { request: 0, consumer: 1, requeue: true, ranges: vec![range; bytes / 16] }
}

#[test]
fn frames_go_both_ways_and_what_was_written_is_told() {
    let mut bench = bench(None);
    let (mut stream, session, outlet) = bench.connect();
    bench.send(&mut stream, hello());
    match bench.input() {
        Input::SessionFrame { session: whose, frame, channel: 0, cost } => {
            assert_eq!((whose, &frame), (session, &ClientFrame::from(hello())));
            assert_eq!(cost as usize, encoded_length(&frame));
            outlet.release(cost);
        }
        other => panic!("{other:?}"),
    }
    let frame = ServerFrame::from(login_ok(session));
    // As many as make a step; the core hears of it with the last one.
    let length = encoded_length(&frame) as u64;
    let frames = DRAINED_STEP.div_ceil(length);
    outlet.write(0, frame.clone());
    assert_eq!(bench.receive(&mut stream), Some(frame.clone()));
    for _ in 1..frames {
        outlet.write(0, frame.clone());
    }
    let mut rest = vec![0; usize::try_from((frames - 1) * length).unwrap()];
    bench.runtime.block_on(stream.read_exact(&mut rest)).unwrap();
    match bench.input() {
        Input::SessionDrained { session: whose, bytes } => {
            assert_eq!((whose, bytes), (session, frames * length));
        }
        other => panic!("{other:?}"),
    }
    drop(stream);
    assert!(matches!(bench.input(), Input::SessionClosed { session: whose } if whose == session));
}

#[test]
fn frames_are_short_before_the_login_and_long_after_it() {
    let mut bench = bench(None);
    let (mut stream, session, outlet) = bench.connect();
    outlet.write(0, login_ok(session).into());
    assert!(bench.receive(&mut stream).is_some());
    bench.send(&mut stream, large(100_000));
    assert!(matches!(bench.input(), Input::SessionFrame { .. }));

    let (mut stream, _, _outlet) = bench.connect();
    bench.send(&mut stream, large(100_000));
    match bench.receive(&mut stream) {
        Some(ServerFrame::Close(close)) => assert_eq!(close.code, Some(FaultCode::FrameTooLarge)),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.receive(&mut stream), None, "the connection closes");
}

#[test]
fn the_broker_closes_after_what_it_wrote() {
    let mut bench = bench(None);
    let (mut stream, session, outlet) = bench.connect();
    outlet.write(0, Heartbeat {}.into());
    outlet.close();
    outlet.write(0, Heartbeat {}.into());
    let mut bytes = Vec::new();
    bench.runtime.block_on(stream.read_to_end(&mut bytes)).unwrap();
    assert_eq!(bytes.len(), encoded_length(&ServerFrame::from(Heartbeat {})), "one frame, then the end");
    drop(stream);
    assert!(matches!(bench.input(), Input::SessionClosed { session: whose } if whose == session));
}

#[test]
fn a_session_that_used_its_share_is_read_again_when_some_is_given_back() {
    let mut bench = bench(None);
    let (stream, session, outlet) = bench.connect();
    outlet.write(0, login_ok(session).into());
    let frames = 12;
    let mut bytes = BytesMut::new();
    for _ in 0..frames {
        encode(&ClientFrame::from(large(1_000_000)), 0, &mut bytes);
    }
    let (_reader, mut writer) = stream.into_split();
    bench.runtime.spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut held = Vec::new();
    let mut seen = 0;
    while seen < frames {
        // Eight of a million bytes fit a share of 8 MiB; the ninth waits for a release.
        match bench.input() {
            // The reader waits: the client's own heartbeats are behind what is not read, so it is vouched for.
            Input::SessionFrame { frame: ClientFrame::Heartbeat(_), cost: 0, .. } => {
                assert_eq!(held.len(), 8, "a share was left");
                outlet.release(held.remove(0));
            }
            Input::SessionFrame { cost, .. } => {
                held.push(cost);
                assert!(held.len() <= 8, "more than the share was read");
                seen += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn half_a_frame_is_nobodys_input() {
    let mut bench = bench(None);
    let (mut stream, session, _outlet) = bench.connect();
    let mut bytes = BytesMut::new();
    encode(&ClientFrame::from(hello()), 0, &mut bytes);
    bench.runtime.block_on(stream.write_all(&bytes[..bytes.len() - 1])).unwrap();
    drop(stream);
    assert!(matches!(bench.input(), Input::SessionClosed { session: whose } if whose == session));
}

#[test]
fn frames_go_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        flags: "--tls",
        certificate: directory.path().join("cert.pem"),
        key: directory.path().join("key.pem"),
    };
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&files.certificate, signed.cert.pem()).unwrap();
    std::fs::write(&files.key, signed.signing_key.serialize_pem()).unwrap();
    let mut bench = bench(Some(Tls::load(&files).unwrap()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let mut stream = bench.runtime.block_on(async {
        let stream = TcpStream::connect(bench.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    });
    let Arrival::SessionOpened { outlet, .. } = bench.arrivals.blocking_recv().unwrap() else {
        panic!("no session")
    };
    bench.send(&mut stream, hello());
    assert!(matches!(bench.input(), Input::SessionFrame { .. }));
    let text = "x".repeat(1000);
    let close = Close { code: None, text, leader_address: String::new() };
    outlet.write(0, close.clone().into());
    assert_eq!(bench.receive(&mut stream), Some(close.into()));

    // Plain text on a TLS port is no session.
    let mut plain = bench.runtime.block_on(TcpStream::connect(bench.address)).unwrap();
    bench.send(&mut plain, hello());
    let mut rest = Vec::new();
    let _ = bench.runtime.block_on(plain.read_to_end(&mut rest));
    assert!(bench.arrivals.try_recv().is_err());
}
