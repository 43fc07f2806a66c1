//! From a fresh connection to a login, or to a refusal. Pure.

use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    ClientFrame, Frame, Hello, Login, MECHANISM_ANONYMOUS, MECHANISM_PLAIN, Refused, ServerFrame,
};
use quorate_protocol::limits::{Limits, SECRET_LENGTH_MAX, TEXT_LENGTH_MAX};
use quorate_protocol::name::VhostName;
use quorate_protocol::version::CLIENT_VERSIONS;

use crate::address::Address;
use crate::error::Error;
use crate::options::Options;

/// What the client introduces itself with. Checked once, before the first connection.
#[derive(Clone)]
pub(crate) struct Credentials {
    hello: Hello,
    login: Login,
}

impl Credentials {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let vhost = VhostName::new(&options.vhost)
            .map_err(|error| Error::Invalid(format!("virtual host '{}': {error}", options.vhost).into()))?;
        let user = options.user.clone().unwrap_or_default();
        for (what, length, limit) in [
            ("user name", user.len(), TEXT_LENGTH_MAX),
            ("secret", options.secret.len(), SECRET_LENGTH_MAX),
            ("client name", options.name.len(), TEXT_LENGTH_MAX),
        ] {
            if length > limit {
                return Err(Error::Invalid(
                    format!("the {what} has {length} bytes, at most {limit} are allowed").into(),
                ));
            }
        }
        let library = concat!("quorate-client/", env!("CARGO_PKG_VERSION"));
        let client_name =
            if options.name.is_empty() { library.to_owned() } else { format!("{} {library}", options.name) };
        let mechanism = if options.user.is_some() { MECHANISM_PLAIN } else { MECHANISM_ANONYMOUS };
        let login = Login {
            vhost,
            mechanism: mechanism.to_owned(),
            user,
            secret: Bytes::from(options.secret.clone()),
            heartbeat_ms: milliseconds(options.heartbeat),
        };
        Ok(Self { hello: Hello { versions: CLIENT_VERSIONS, client_name }, login })
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// What a successful handshake agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Established {
    pub(crate) address: Address,
    pub(crate) leader: String,
    pub(crate) version: u16,
    pub(crate) limits: Limits,
    /// Each side says something at least this often; none if the broker does not want it.
    pub(crate) heartbeat: Option<Duration>,
    /// A silent broker is taken for dead.
    pub(crate) watch: bool,
}

/// An attempt that did not lead to a login.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) leader: Option<Address>,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, leader: None, retry_after: None }
    }
}

/// What to do after a frame.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this and go on.
    Send(Box<ClientFrame>),
    /// Wait for the next frame.
    Wait,
    /// Logged in.
    Done(Established),
}

/// The client's side of one handshake.
pub(crate) struct Handshake {
    address: Address,
    login: Login,
    /// After HelloOk.
    agreed: Option<(u16, Limits)>,
}

impl Handshake {
    /// Begins a handshake; gives the first frame.
    pub(crate) fn new(credentials: &Credentials, address: Address) -> (Self, ClientFrame) {
        let handshake = Self { address, login: credentials.login.clone(), agreed: None };
        (handshake, credentials.hello.clone().into())
    }

    /// The broker answered.
    pub(crate) fn handle(&mut self, frame: ServerFrame) -> Result<Step, Refusal> {
        match (frame, self.agreed) {
            (ServerFrame::HelloOk(hello), None) => {
                if !CLIENT_VERSIONS.contains(hello.version) {
                    let text =
                        format!("it wants version {}, this client speaks {CLIENT_VERSIONS}", hello.version);
                    return Err(Error::refused(&self.address, FaultCode::UnsupportedVersion, &text).into());
                }
                self.agreed = Some((hello.version, Limits::new(hello.frame_limit, hello.message_limit)));
                Ok(Step::Send(Box::new(self.login.clone().into())))
            }
            (ServerFrame::LoginOk(login), Some((version, limits))) => {
                if login.vhost != self.login.vhost {
                    let text =
                        format!("a login to '{}' was answered for '{}'", self.login.vhost, login.vhost);
                    return Err(Error::protocol(text).into());
                }
                let heartbeat = Duration::from_millis(login.heartbeat_ms.into());
                Ok(Step::Done(Established {
                    address: self.address.clone(),
                    leader: login.leader_name,
                    version,
                    limits,
                    heartbeat: Some(heartbeat).filter(|heartbeat| !heartbeat.is_zero()),
                    watch: self.login.heartbeat_ms > 0,
                }))
            }
            (ServerFrame::Refused(refused), _) => Err(self.refused(&refused)),
            (ServerFrame::Close(close), _) => {
                let code = close.code.unwrap_or(FaultCode::ShuttingDown);
                let error = Error::refused(&self.address, code, &close.text);
                Err(Refusal { error, leader: close.leader_address.parse().ok(), retry_after: None })
            }
            (ServerFrame::Heartbeat(_), Some(_)) => Ok(Step::Wait),
            (other, _) => Err(Error::protocol(format!("{} during the handshake", other.kind_name())).into()),
        }
    }

    fn refused(&self, refused: &Refused) -> Refusal {
        Refusal {
            error: Error::refused(&self.address, refused.code, &refused.text),
            // An address that does not parse is no help; the others are tried.
            leader: refused.leader_address.parse().ok(),
            retry_after: Some(Duration::from_millis(refused.retry_after_ms.into()))
                .filter(|wait| !wait.is_zero()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::frame::{Heartbeat, HelloOk, LoginOk};

    use super::*;

    fn begin(options: &Options) -> (Handshake, ClientFrame) {
        Handshake::new(&Credentials::new(options).unwrap(), "h1".parse().unwrap())
    }

    fn hello_ok(version: u16) -> ServerFrame {
        HelloOk {
            version,
            server_name: "b1".to_owned(),
            cluster_name: "quorate".to_owned(),
            frame_limit: u32::MAX,
            message_limit: 1000,
            heartbeat_ms: 400,
        }
        .into()
    }

    fn login_ok(vhost: &str) -> ServerFrame {
        let vhost = VhostName::new(vhost).unwrap();
        LoginOk { session: 7, vhost, leader_name: "b1".to_owned(), heartbeat_ms: 400 }.into()
    }

    #[test]
    fn hello_then_login() {
        let options = Options::from_url("quorate://anna:secret@h1/orders?name=billing").unwrap();
        let (mut handshake, hello) = begin(&options);
        let ClientFrame::Hello(hello) = hello else { panic!("hello comes first") };
        assert!(hello.client_name.starts_with("billing quorate-client/"));
        let Step::Send(login) = handshake.handle(hello_ok(1)).unwrap() else { panic!("then login") };
        let ClientFrame::Login(login) = *login else { panic!("then login") };
        assert_eq!(
            (login.mechanism.as_str(), login.user.as_str(), &login.secret[..]),
            ("PLAIN", "anna", &b"secret"[..])
        );
        assert_eq!((login.vhost.as_str(), login.heartbeat_ms), ("orders", 500));
        assert!(matches!(handshake.handle(Heartbeat {}.into()), Ok(Step::Wait)));
        let Step::Done(established) = handshake.handle(login_ok("orders")).unwrap() else {
            panic!("then done")
        };
        assert_eq!(established.leader, "b1");
        assert_eq!(established.limits, Limits::new(u32::MAX, 1000), "an announced limit is bounded");
        assert_eq!((established.heartbeat, established.watch), (Some(Duration::from_millis(400)), true));
    }

    #[test]
    fn a_refusal_says_where_to_go_and_when_to_come_back() {
        let (mut handshake, _) = begin(&Options::from_url("h1").unwrap());
        handshake.handle(hello_ok(1)).unwrap();
        let refused = |leader: &str, retry_after_ms| Refused {
            code: FaultCode::NotLeader,
            text: "go there".to_owned(),
            leader_address: leader.to_owned(),
            retry_after_ms,
        };
        let refusal = handshake.handle(refused("h2:99", 0).into()).unwrap_err();
        assert_eq!((refusal.leader, refusal.retry_after), (Some("h2:99".parse().unwrap()), None));
        assert!(refusal.error.is_retryable());
        assert_eq!(refusal.error.code(), Some(FaultCode::NotLeader));
        let refusal = handshake.handle(refused("not an address", 30).into()).unwrap_err();
        assert_eq!((refusal.leader, refusal.retry_after), (None, Some(Duration::from_millis(30))));
    }

    #[test]
    fn a_broker_that_answers_out_of_turn_is_not_trusted() {
        let options = Options::from_url("h1").unwrap();
        let frames = [
            login_ok("/"),
            Heartbeat {}.into(),
            hello_ok(CLIENT_VERSIONS.max() + 1),
            quorate_protocol::frame::ConsumeOk { request: 1 }.into(),
        ];
        for frame in frames {
            let (mut handshake, _) = begin(&options);
            let refusal = handshake.handle(frame).unwrap_err();
            assert!(!refusal.error.is_retryable(), "{}", refusal.error);
        }
        let (mut handshake, _) = begin(&options);
        handshake.handle(hello_ok(1)).unwrap();
        assert!(handshake.handle(hello_ok(1)).is_err(), "a second hello");
        let (mut handshake, _) = begin(&options);
        handshake.handle(hello_ok(1)).unwrap();
        assert!(handshake.handle(login_ok("other")).is_err(), "another virtual host");
    }

    #[test]
    fn what_no_login_can_carry_is_refused_before_the_first_connection() {
        let options = Options::from_url("h1").unwrap();
        assert!(Credentials::new(&options.clone().vhost("a\u{1}")).is_err());
        assert!(Credentials::new(&options.clone().vhost("")).is_err());
        assert!(Credentials::new(&options.clone().credentials("u".repeat(1025), "")).is_err());
        assert!(Credentials::new(&options.clone().credentials("u", "s".repeat(1025))).is_err());
        assert!(Credentials::new(&options.name("n".repeat(1025))).is_err());
    }
}
