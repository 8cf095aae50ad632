//! Free loopback ports, never fixed ones.
//!
//! A port is chosen at random below the range from which the kernel takes ports for outgoing connections, and is
//! locked among the test processes of the machine for as long as its server may restart on it. So a server that is
//! killed finds its port free again at the restart.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use crate::machine::try_lock;
use crate::{Error, Result};

/// The ports handed out. Below Linux's range for outgoing connections, which begins at 32768; enough for a hundred
/// ensembles at a time; few enough that their lock files are no litter.
const RANGE: RangeInclusive<u16> = 20_000..=23_999;

/// One free loopback port that no other test is given until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A free port, starting the search at a random place.
    ///
    /// # Errors
    ///
    /// [`Error::NoFreePort`].
    ///
    /// # Panics
    ///
    /// Never: the range of ports is not empty.
    pub fn reserve() -> Result<Self> {
        let random = RandomState::new().hash_one("a port");
        let start = usize::try_from(random % RANGE.len() as u64).expect("a remainder of a count of ports");
        for number in RANGE.cycle().skip(start).take(RANGE.len()) {
            if let Some(port) = Self::claim(number)? {
                return Ok(port);
            }
        }
        Err(Error::NoFreePort {
            low: *RANGE.start(),
            high: *RANGE.end(),
        })
    }

    /// The port, unless a test or any other program has it.
    fn claim(number: u16) -> Result<Option<Self>> {
        let Some(lock) = try_lock(&format!("port-{number}"))? else {
            return Ok(None);
        };
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        Ok(free.then_some(Self { number, _lock: lock }))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address, on 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
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
