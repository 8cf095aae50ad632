//! How the bridge captures, and what that needs of the servers and of its configuration.

use anyhow::{Context, Result};
use bridge_servers::{Proxy, ZooKeeper, ZooKeeperBuilder};

/// The smallest spool that a source accepts: it is full as often as it can be.
const SPOOL: &str = "16 MiB";

/// The value of `capture`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// With a watch.
    #[default]
    Watch,
    /// As an observer of the leader.
    Observer,
    /// From the logs of all servers.
    Txnlog,
}

impl Capture {
    /// The one of this name.
    ///
    /// # Errors
    ///
    /// Names the ones that there are.
    pub fn named(name: &str) -> Result<Capture> {
        [Capture::Watch, Capture::Observer, Capture::Txnlog]
            .into_iter()
            .find(|capture| capture.name() == name)
            .with_context(|| format!("capture is {name:?}: there are watch, observer and txnlog"))
    }

    /// As in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Capture::Watch => "watch",
            Capture::Observer => "observer",
            Capture::Txnlog => "txnlog",
        }
    }

    /// Whether it reads transactions, and so has to lose none.
    pub fn is_lossless(self) -> bool {
        self != Capture::Watch
    }

    /// Servers with what it needs: only a quorum has a port for observers. Access control lists do not apply to sources
    /// that read transactions, and the trial that changes the members needs to be allowed to.
    pub(crate) fn prepare(self, servers: ZooKeeperBuilder, count: usize) -> ZooKeeperBuilder {
        if !self.is_lossless() {
            return servers;
        }
        let servers = servers
            .property("reconfigEnabled", "true")
            .system_property("zookeeper.skipACL", "yes");
        match (self, count) {
            (Capture::Observer, 1) => servers.quorum(),
            _ => servers,
        }
    }

    /// Proxies before all ports that it connects to: one for each client port in the order of the servers, and for each
    /// quorum port.
    pub(crate) async fn proxies(self, zookeeper: &ZooKeeper) -> Result<Vec<Proxy>> {
        let servers = 0..zookeeper.count();
        let mut targets: Vec<_> = servers
            .clone()
            .map(|server| zookeeper.client_addr(server))
            .collect();
        if self == Capture::Observer {
            targets.extend(servers.map(|server| zookeeper.quorum_addr(server)));
        }
        let mut proxies = Vec::new();
        for target in targets {
            proxies.push(Proxy::start(target).await?);
        }
        Ok(proxies)
    }

    /// The servers that the source connects to, and its further lines. The ensemble's own addresses lead past the
    /// proxies.
    pub(crate) fn source(self, zookeeper: &ZooKeeper, proxies: &[Proxy]) -> (String, String) {
        let addresses: Vec<String> = proxies.iter().map(|proxy| proxy.addr().to_string()).collect();
        let (clients, quorums) = addresses.split_at(zookeeper.count());
        let connect = clients.join(",");
        let lines = match self {
            Capture::Watch => return (connect, String::new()),
            Capture::Observer => {
                format!("[source.observer]\nservers = {quorums:?}\ndiscover = false\nspool = \"{SPOOL}\"\n")
            }
            Capture::Txnlog => {
                let servers = 0..zookeeper.count();
                let folders: Vec<_> = servers.map(|server| zookeeper.data_dir(server)).collect();
                format!("[source.txnlog]\ndirectories = {folders:?}\n")
            }
        };
        let mode = self.name();
        (
            connect,
            format!("capture = \"{mode}\"\nacls = \"list\"\n{lines}bypasses_acls = true\n"),
        )
    }
}
