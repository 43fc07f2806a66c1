//! Ports for brokers that must come back on the same ones.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Ports that nobody listens on, asked of the kernel by binding them, all at once so that none is given twice.
///
/// Preferred are those below the range that the kernel gives to outgoing connections: while a broker is down, no
/// connection of somebody else can take one of them.
///
/// # Errors
/// The kernel has none.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let listener = below_outgoing()?.map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)?;
        ports.push(listener.local_addr()?.port());
        held.push(listener);
    }
    Ok(ports)
}

/// Where the kernel's outgoing ports begin.
fn lowest_outgoing() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_ascii_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768)
}

fn below_outgoing() -> io::Result<Option<TcpListener>> {
    const LOWEST: u16 = 10_000;
    let width = lowest_outgoing().saturating_sub(LOWEST);
    if width == 0 {
        return Ok(None);
    }
    for _ in 0..64 {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let port = LOWEST + u16::from_le_bytes(random) % width;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(Some(listener));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_can_be_listened_on() {
        let mut ports = free_ports(9).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
        // One of them may have been taken by another program meanwhile, not most.
        let free =
            ports.iter().filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, **port)).is_ok()).count();
        assert!(free >= 7, "{ports:?}");
    }
}
