//! Checks that every connection of the bridge to the servers passes a proxy, so that every fault of the network
//! reaches it. It looks at the sockets of the bridge's process from outside, as the kernel lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bridge_servers::{Proxy, ZooKeeper};
use tokio::time::{Instant, sleep};

/// Between two looks. A connection that the bridge follows is much longer.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The TCP sockets of the machine, by their kind of address.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The process of a bridge, which changes with each start.
#[derive(Clone, Debug, Default)]
pub struct Process(Arc<AtomicU32>);

impl Process {
    /// This one runs now; `None`: none does.
    pub fn is(&self, id: Option<u32>) {
        self.0.store(id.unwrap_or_default(), Ordering::Relaxed);
    }

    fn id(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }
}

/// Knows which ports the bridge may connect to.
#[derive(Clone, Debug)]
pub struct ProxyCheck {
    process: Process,
    /// The ports of the servers themselves, with their names.
    servers: BTreeMap<u16, String>,
    /// Those of the proxies before them.
    proxies: BTreeSet<u16>,
}

impl ProxyCheck {
    /// Of a process before these servers and proxies.
    pub fn new(process: Process, zookeeper: &ZooKeeper, proxies: &[Proxy]) -> ProxyCheck {
        let mut servers = BTreeMap::new();
        for server in 0..zookeeper.count() {
            let (client, quorum) = (
                zookeeper.client_port(server),
                zookeeper.quorum_addr(server).port(),
            );
            servers.insert(client, format!("the client port of server {server}"));
            servers.insert(quorum, format!("the quorum port of server {server}"));
        }
        ProxyCheck {
            process,
            servers,
            proxies: proxies.iter().map(|proxy| proxy.addr().port()).collect(),
        }
    }

    /// How many connections the process has to proxies.
    ///
    /// # Errors
    ///
    /// If it has one to a server itself, or its sockets cannot be read.
    pub fn look(&self) -> Result<usize> {
        let Some(process) = self.process.id() else {
            return Ok(0);
        };
        let own = sockets(process)?;
        let mut peers = Vec::new();
        for table in TABLES {
            peers.extend(peers_of(&read(Path::new(table))?, &own));
        }
        if let Some(name) = peers.iter().find_map(|port| self.servers.get(port)) {
            bail!(
                "the bridge is connected to {name} itself, past the proxy before it, so that no fault of the network \
                 reaches it"
            );
        }
        Ok(peers.iter().filter(|port| self.proxies.contains(port)).count())
    }

    /// Looks until the deadline. Returns at how many looks there was a connection to a proxy.
    ///
    /// # Errors
    ///
    /// As [`ProxyCheck::look`].
    pub async fn watch(&self, deadline: Instant) -> Result<u64> {
        let mut connected = 0;
        while Instant::now() < deadline {
            connected += u64::from(self.look()? > 0);
            sleep(LOOK_PAUSE).await;
        }
        Ok(connected)
    }
}

/// A file of the kernel; empty if there is none: a machine without IPv6 has no table of it.
fn read(file: &Path) -> Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("read {}", file.display())),
    }
}

/// The inodes of the sockets that a process has open; none of a process that has ended.
fn sockets(process: u32) -> Result<BTreeSet<u64>> {
    let folder = PathBuf::from(format!("/proc/{process}/fd"));
    let files = match std::fs::read_dir(&folder) {
        // Nobody may look at a process that has ended and was not waited for.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(BTreeSet::new());
        }
        files => files.with_context(|| format!("list {}", folder.display()))?,
    };
    // A file that is closed meanwhile has no target any more.
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let inode = |target: PathBuf| {
        let name = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        name.parse().ok()
    };
    Ok(targets.filter_map(inode).collect())
}

/// The remote ports of those sockets in a table whose inodes these are.
fn peers_of(table: &str, own: &BTreeSet<u64>) -> Vec<u16> {
    // `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, addresses as `0100007F:1F90`.
    let peer = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode: u64 = fields.get(9)?.parse().ok()?;
        let (_, port) = fields.get(2)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        own.contains(&inode).then_some(port)
    };
    table.lines().filter_map(peer).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use bridge_servers::{Child, eventually};

    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    /// Opens a connection to its argument, and keeps it.
    const CONNECT: &str = "exec 3<>/dev/tcp/127.0.0.1/$0; echo connected; read -r _ <&3";

    /// The answer of a check for a process that is connected to this port.
    async fn seen(process: &Process, port: u16, proxy_check: &ProxyCheck) -> Result<usize> {
        let mut child = Child::start(Command::new("bash").args(["-c", CONNECT, &port.to_string()])).unwrap();
        child.line("connected", BOUND).await.unwrap();
        process.is(Some(child.id()));
        let looked = proxy_check.look();
        child.kill().await.unwrap();
        looked
    }

    #[tokio::test]
    async fn a_connection_past_the_proxies_is_noticed_and_one_through_them_is_not() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let proxy = Proxy::start(target).await.unwrap();
        let process = Process::default();
        let proxy_check = ProxyCheck {
            process: process.clone(),
            servers: BTreeMap::from([(target.port(), "the quorum port of server 0".to_owned())]),
            proxies: BTreeSet::from([proxy.addr().port()]),
        };
        assert_eq!(proxy_check.look().unwrap(), 0, "no process runs");
        assert_eq!(
            seen(&process, proxy.addr().port(), &proxy_check).await.unwrap(),
            1
        );
        // The negative control.
        let caught = seen(&process, target.port(), &proxy_check).await.unwrap_err();
        assert!(
            caught.to_string().contains("the quorum port of server 0 itself"),
            "{caught}"
        );
        let ended = eventually("the end of a process", BOUND, || async {
            proxy_check.look().ok()
        });
        assert_eq!(ended.await.unwrap(), 0);
    }

    #[test]
    fn only_sockets_of_the_process_count_in_the_table_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7001 1 0 100 0\n\
             1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 7002 1 0 20 4\n\
             2: 0100007F:9C41 0100007F:1F91 01 00000000:00000000 00:00000000 00000000     0        0 7003 1 0 20 4\n";
        assert_eq!(peers_of(table, &BTreeSet::from([7_002])), [8_080]);
        assert_eq!(peers_of(table, &BTreeSet::from([7_001, 7_003])), [0, 8_081]);
        assert_eq!(peers_of(table, &BTreeSet::new()), [0; 0]);
    }
}
