//! Configures and starts a ZooKeeper.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::server::{Plan, Ports, Server};
use super::{SERVE_BOUND, ZooKeeper};
use crate::daemon::Java;
use crate::distribution::{Distribution, ZOOKEEPER_NEWEST};
use crate::machine::Turn;
use crate::{Error, Result};

/// Enough for trees of a hundred thousand small znodes.
const HEAP: &str = "256m";

/// How often new ports are tried when some other program took one of ours.
const PORT_ATTEMPTS: usize = 3;

/// The default `zoo.cfg`. Ticks are short so that expiry and elections are quick; sync and init
/// limits are 4 s and 10 s, which a machine busy with other tests still keeps.
const DEFAULTS: [(&str, &str); 9] = [
    ("tickTime", "250"),
    ("initLimit", "40"),
    ("syncLimit", "16"),
    ("minSessionTimeout", "500"),
    ("maxSessionTimeout", "600000"),
    ("maxClientCnxns", "0"),
    ("admin.enableServer", "false"),
    ("4lw.commands.whitelist", "*"),
    // In KiB. The default would write 64 MiB at every start.
    ("preAllocSize", "64"),
];

/// The default system properties.
const SYSTEM_DEFAULTS: [(&str, &str); 2] = [
    // The logging library of old lines is not there to be managed.
    ("zookeeper.jmx.log4j.disable", "true"),
    // Old lines read the list from here alone.
    ("zookeeper.4lw.commands.whitelist", "*"),
];

/// Describes the ZooKeeper to start.
#[derive(Debug, Clone)]
pub struct ZooKeeperBuilder {
    version: String,
    servers: usize,
    heap: String,
    properties: BTreeMap<String, String>,
    system_properties: BTreeMap<String, String>,
    is_secure: bool,
    is_lasting: bool,
    is_quorum: bool,
    has_admin: bool,
}

impl Default for ZooKeeperBuilder {
    fn default() -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let this = Self {
            version: ZOOKEEPER_NEWEST.to_owned(),
            servers: 1,
            heap: HEAP.to_owned(),
            properties: DEFAULTS.iter().map(owned).collect(),
            system_properties: SYSTEM_DEFAULTS.iter().map(owned).collect(),
            is_secure: false,
            is_lasting: false,
            is_quorum: false,
            has_admin: false,
        };
        // Tests kill processes, not machines: written data survive that without an fsync.
        this.property("forceSync", "no")
    }
}

impl ZooKeeperBuilder {
    /// Any released version; [`crate::ZOOKEEPER_LINES`] has the newest of each line.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// How many servers: 1 standalone, or an ensemble of 3 (or more).
    #[must_use]
    pub fn servers(mut self, count: usize) -> Self {
        self.servers = count;
        self
    }

    /// A single server is an ensemble of one, with a quorum port (3.5 and newer).
    #[must_use]
    pub fn quorum(mut self) -> Self {
        self.is_quorum = true;
        self.property("standaloneEnabled", "false")
    }

    /// A single server with its AdminServer at this port (3.6 and newer).
    #[must_use]
    pub fn admin_server(mut self, port: u16) -> Self {
        self.has_admin = true;
        self.property("admin.enableServer", "true")
            .property("admin.serverAddress", "127.0.0.1")
            .property("admin.serverPort", &port.to_string())
    }

    /// The memory of each server's tree, as Java's `-Xmx` takes it; "256m" if nothing is said.
    #[must_use]
    pub fn heap(mut self, size: &str) -> Self {
        size.clone_into(&mut self.heap);
        self
    }

    /// A line of `zoo.cfg`, instead of the default of that name.
    #[must_use]
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A Java system property, such as `jute.maxbuffer` or `zookeeper.extendedTypesEnabled`.
    #[must_use]
    pub fn system_property(mut self, key: &str, value: &str) -> Self {
        self.system_properties.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Beside the usual port one for encrypted connections, at [`ZooKeeper::secure_connect_string`].
    ///
    /// Two PEM files: the servers' own certificate with its key, and the authorities of the certificates that clients
    /// must have.
    #[must_use]
    pub fn encrypted(mut self, identity: &Path, authorities: &Path) -> Self {
        self.is_secure = true;
        self.property(
            "serverCnxnFactory",
            "org.apache.zookeeper.server.NettyServerCnxnFactory",
        )
        .property("ssl.keyStore.type", "PEM")
        .property("ssl.keyStore.location", &identity.display().to_string())
        .property("ssl.trustStore.type", "PEM")
        .property("ssl.trustStore.location", &authorities.display().to_string())
        .property("ssl.clientAuth", "need")
    }

    /// Every transaction is forced to the disk before it is acknowledged, as in production and unlike the default.
    #[must_use]
    pub fn force_sync(self) -> Self {
        self.property("forceSync", "yes")
    }

    /// With Java's own flags, as in production: tests take those of a quick start, with which a server is slower for
    /// good.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    /// Fetches the distribution if need be, starts the servers and waits until all serve.
    ///
    /// # Errors
    ///
    /// If the distribution cannot be fetched, or a server does not serve in time; with the end of its log.
    pub async fn start(&self) -> Result<ZooKeeper> {
        let distribution = match self.has_admin {
            true => Distribution::zookeeper_with_admin(&self.version),
            false => Distribution::zookeeper(&self.version),
        };
        let mut java = Java::new(&distribution.jars().await?, &self.heap)?;
        java.options.extend(
            self.system_properties
                .iter()
                .map(|(key, value)| format!("-D{key}={value}")),
        );
        if self.is_lasting {
            java = java.with_its_own_flags();
        }
        let _turn = Turn::take().await?;
        for _ in 1..PORT_ATTEMPTS {
            match self.start_once(distribution.title(), &java).await {
                Err(error) if error.is_port_clash() => tracing::warn!(%error, "trying other ports"),
                outcome => return outcome,
            }
        }
        self.start_once(distribution.title(), &java).await
    }

    async fn start_once(&self, title: &str, java: &Java) -> Result<ZooKeeper> {
        let home = tempfile::Builder::new().prefix("zkbridge-zookeeper-").tempdir();
        let home = home.map_err(Error::attempt("create a temporary directory"))?;
        let ports: Vec<Ports> = (0..self.servers)
            .map(|_| Ports::reserve(self.is_secure))
            .collect::<Result<_>>()?;
        let configuration = self.configure(&ports);
        let plan = Plan {
            title,
            java,
            home: home.path(),
            configuration: &configuration,
        };
        let numbered = (1..).zip(ports);
        let servers = numbered
            .map(|(id, ports)| Server::prepare(&plan, id, ports))
            .collect::<Result<_>>()?;
        let started = ZooKeeper {
            version: self.version.clone(),
            java: java.clone(),
            servers,
            home,
        };
        started.launch_all().await?;
        Ok(started)
    }

    /// The part of `zoo.cfg` that all servers share.
    fn configure(&self, ports: &[Ports]) -> String {
        let mut lines = String::new();
        for (key, value) in &self.properties {
            let _ = writeln!(lines, "{key}={value}");
        }
        if ports.len() > 1 || self.is_quorum {
            lines.extend((1..).zip(ports).map(|(id, ports)| ports.peer_line(id)));
        }
        lines
    }
}

impl ZooKeeper {
    async fn launch_all(&self) -> Result<()> {
        for server in &self.servers {
            server.daemon().launch()?;
        }
        for server in &self.servers {
            server.serves(SERVE_BOUND).await?;
        }
        Ok(())
    }
}
