//! Ports that are known before anybody listens on them, and that nobody else gets meanwhile.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1, kept for a broker for as long as this lives.
///
/// It is bound and does not listen: with `SO_REUSEADDR`, which listeners set as a rule, another socket may bind it too
/// and listen, while the kernel gives it to nobody who asks for any port.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    /// A free port.
    ///
    /// # Panics
    /// The system has none.
    pub fn any() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port on loopback");
        let bound = socket.local_addr().expect("the address of a bound socket");
        Self { address: bound.as_socket().expect("an IPv4 address"), _socket: socket }
    }

    /// As flags and clients take it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}
