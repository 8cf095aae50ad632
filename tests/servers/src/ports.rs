//! Free loopback ports, never fixed ones.
//!
//! A port is chosen below the range from which the kernel takes ports for outgoing connections, and is locked among
//! the test processes of the machine for as long as its server may come back to it. So a server that is killed finds
//! its port free again at the restart.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::machine::try_lock;
use crate::{Error, Result};

/// The lowest port handed out: above what services commonly use.
const LOW: u16 = 12_000;

/// The highest, where the kernel does not tell its range: one below Linux's default range for outgoing connections.
const HIGH: u16 = 32_767;

/// One loopback port that is ours until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A free port, starting the search at a random place.
    pub(crate) fn reserve() -> Result<Self> {
        let high = highest();
        let count = u64::from(high - LOW) + 1;
        let start = RandomState::new().hash_one(std::process::id());
        for step in 0..count {
            let offset = start.wrapping_add(step) % count;
            let number = LOW + u16::try_from(offset).expect("the offset is below a count of ports");
            if let Some(port) = Self::claim(number)? {
                return Ok(port);
            }
        }
        Err(Error::NoFreePort { low: LOW, high })
    }

    /// The port, unless a test or any other program has it.
    fn claim(number: u16) -> Result<Option<Self>> {
        let Some(lock) = try_lock(&format!("port-{number}"))? else {
            return Ok(None);
        };
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        Ok(free.then_some(Self { number, _lock: lock }))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// One below the kernel's range for outgoing connections, if that leaves room.
fn highest() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = range
        .split_whitespace()
        .next()
        .and_then(|low| low.parse::<u16>().ok());
    match low {
        Some(low) if low > LOW + 1_000 => low - 1,
        _ => HIGH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_port_in_hand_is_not_handed_out_again() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        assert!(Port::claim(ports[0].number()).unwrap().is_none());
    }
}
