//! Finds the process that listens at an address, from `/proc`, so that a message can name it.
//!
//! Never fails: what cannot be read (another user's process, another system, another network namespace) is not found.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use bridge_console::text::escaped;

/// The tables of TCP sockets.
const TABLES: [&str; 2] = ["net/tcp", "net/tcp6"];

/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// The most open files of all processes that are looked at: no start waits long for a message.
const FILES_MAX: usize = 200_000;

/// The longest name that is shown.
const NAME_CHARS_MAX: usize = 200;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningProcess {
    id: u32,
    /// The program: its arguments may hold secrets.
    program: String,
}

impl fmt::Display for ListeningProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} ({}) listens there",
            self.id,
            escaped(&self.program)
        )
    }
}

/// The process that keeps this address from being bound; `None` if that cannot be found out.
pub fn listening_process(address: SocketAddr) -> Option<ListeningProcess> {
    find(Path::new("/proc"), address)
}

fn find(proc: &Path, address: SocketAddr) -> Option<ListeningProcess> {
    let tables = TABLES
        .iter()
        .filter_map(|table| fs::read_to_string(proc.join(table)).ok());
    let sockets: Vec<String> = tables
        .flat_map(|table| {
            table
                .lines()
                .filter_map(|line| socket(line, address))
                .collect::<Vec<_>>()
        })
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let mut files = 0;
    for entry in fs::read_dir(proc).ok()?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // That of another user is not readable.
        for file in fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            files += 1;
            if files > FILES_MAX {
                return None;
            }
            let to = fs::read_link(file.path()).unwrap_or_default();
            if to
                .to_str()
                .is_some_and(|to| sockets.iter().any(|socket| socket == to))
            {
                let program = program(&entry.path());
                return Some(ListeningProcess { id, program });
            }
        }
    }
    None
}

/// The name of the link to a socket of a table that listens where the address would.
fn socket(line: &str, wanted: SocketAddr) -> Option<String> {
    let mut columns = line.split_whitespace().skip(1);
    let (local, _, state) = (columns.next()?, columns.next()?, columns.next()?);
    if state != LISTEN {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != wanted.port() {
        return None;
    }
    let (ip, wanted) = (address(ip)?, wanted.ip().to_canonical());
    if !(ip.is_unspecified() || wanted.is_unspecified() || ip == wanted) {
        return None;
    }
    // tx_queue:rx_queue, tr:tm->when, retrnsmt, uid and timeout are between.
    let inode: u64 = columns.nth(5)?.parse().ok()?;
    Some(format!("socket:[{inode}]"))
}

/// An address as the kernel writes it: words of 32 bits in the byte order of the machine.
fn address(digits: &str) -> Option<IpAddr> {
    let mut words = Vec::new();
    for at in (0..digits.len()).step_by(8) {
        let word = u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?;
        words.extend(word.to_ne_bytes());
    }
    match words.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(words).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()),
        _ => None,
    }
}

/// The path of the program as it was started, or its short name.
fn program(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = match first.is_empty() {
        true => fs::read(process.join("comm")).unwrap_or_default(),
        false => first.to_vec(),
    };
    let name = String::from_utf8_lossy(&name);
    name.trim().chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found_by_each_address_that_it_takes() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else {
                // A machine without IPv6.
                assert!(bound.starts_with('['), "{bound}");
                continue;
            };
            let address = listener.local_addr().unwrap();
            let found = listening_process(address).unwrap();
            assert_eq!(found.id, std::process::id(), "{bound}");
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            assert_eq!(listening_process(any), Some(found), "{bound}");
            drop(listener);
            assert_eq!(listening_process(address), None, "{bound}");
        }
    }

    #[test]
    fn a_socket_counts_where_it_listens_at_the_port_and_at_the_address_or_all() {
        let line = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0"
            )
        };
        let word = |ip: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(ip.octets()));
        let local = word(Ipv4Addr::LOCALHOST);
        let wanted: SocketAddr = "127.0.0.1:9641".parse().unwrap();
        let at = |ip: &str, port: u16| format!("{ip}:{port:04X}");
        let found = Some("socket:[4711]".to_owned());
        assert_eq!(socket(&line(&at(&local, 9641), LISTEN), wanted), found);
        assert_eq!(socket(&line(&at("00000000", 9641), LISTEN), wanted), found);
        assert_eq!(socket(&line(&at(&"0".repeat(32), 9641), LISTEN), wanted), found);
        let other = word(Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(socket(&line(&at(&other, 9641), LISTEN), wanted), None);
        assert_eq!(socket(&line(&at(&local, 9642), LISTEN), wanted), None);
        assert_eq!(socket(&line(&at(&local, 9641), "01"), wanted), None);
        for odd in [
            "",
            "sl local_address rem_address st",
            "0: x:y z 0A",
            &line("é0000000:25A9", LISTEN),
        ] {
            assert_eq!(socket(odd, wanted), None, "{odd}");
        }
    }
}
