//! The clients of the scenario: an operator that changes the configuration, and service instances that register.
//!
//! They are real clients with real sessions. Their versions of znodes come from ZooKeeper's answers and never from the
//! bridge.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bridge_core::number::{SessionId, Zxid};
use bridge_servers::Proxy;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, Stat};

use crate::expectation::Version;
use crate::verdict::Tree;

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());

/// Session timeout that outlasts the pauses of a busy machine.
pub(crate) const LASTING: Duration = Duration::from_secs(30);

/// Timeout of the session that expires in the scenario.
pub(crate) const SHORT: Duration = Duration::from_secs(3);

/// A client that creates, changes and deletes znodes.
pub(crate) struct Operator {
    client: Client,
}

impl Operator {
    pub(crate) async fn connect(cluster: &str) -> Result<Operator> {
        let client = connect(cluster, LASTING).await?;
        Ok(Operator { client })
    }

    pub(crate) async fn create(&self, path: &str, data: &str) -> Result<Version> {
        let created = self.client.create(path, data.as_bytes(), &PERSISTENT).await;
        let (stat, _) = created.with_context(|| format!("{path} cannot be created"))?;
        Ok(version(data, &stat))
    }

    pub(crate) async fn set(&self, path: &str, data: &str) -> Result<Version> {
        let set = self.client.set_data(path, data.as_bytes(), None).await;
        let stat = set.with_context(|| format!("{path} cannot be changed"))?;
        Ok(version(data, &stat))
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let deleted = self.client.delete(path, None).await;
        deleted.with_context(|| format!("{path} cannot be deleted"))
    }

    /// Reads all znodes under the roots.
    pub(crate) async fn tree(&self, roots: &[&str]) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut open: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
        while let Some(path) = open.pop() {
            let (data, stat) = match self.client.get_data(&path).await {
                Err(Error::NoNode) => continue,
                read => read.with_context(|| format!("{path} cannot be read"))?,
            };
            let names = match self.client.list_children(&path).await {
                Err(Error::NoNode) => continue,
                listed => listed.with_context(|| format!("{path} cannot be listed"))?,
            };
            open.extend(names.iter().map(|name| format!("{path}/{name}")));
            tree.insert(path, version(data, &stat));
        }
        Ok(tree)
    }
}

/// A process that registers as two instances of a service, as Apache Curator does.
pub(crate) struct ServiceProcess {
    network: Proxy,
    _client: Client,
}

impl ServiceProcess {
    /// Connects through a proxy of its own and registers `host` with each port below `parent`.
    pub(crate) async fn register(
        server: SocketAddr,
        parent: &str,
        (host, ports): (&str, [u16; 2]),
        timeout: Duration,
    ) -> Result<ServiceProcess> {
        let network = Proxy::start(server).await?;
        let client = connect(&network.addr().to_string(), timeout).await?;
        let (_, service) = parent.rsplit_once('/').context("a service has a parent")?;
        for port in ports {
            let id = Uuid::new_v4();
            let data = format!(
                r#"{{"name":"{service}","id":"{id}","address":"{host}","port":{port},"serviceType":"DYNAMIC"}}"#
            );
            let path = format!("{parent}/{id}");
            let created = client.create(&path, data.as_bytes(), &EPHEMERAL).await;
            created.with_context(|| format!("{path} cannot be registered"))?;
        }
        Ok(ServiceProcess {
            network,
            _client: client,
        })
    }

    /// Cuts the network, so that the session is not closed but expires.
    pub(crate) async fn lose_network(&self) -> Result<()> {
        Ok(self.network.cut().await?)
    }
}

/// A service instance: a session, its znode, and the network between it and ZooKeeper.
pub(crate) struct Instance {
    /// Its znode.
    pub(crate) path: String,
    /// Its znode at its creation.
    pub(crate) version: Version,
    network: Proxy,
    _client: Client,
}

impl Instance {
    /// Connects through a proxy of its own and registers.
    pub(crate) async fn register(
        server: SocketAddr,
        path: &str,
        data: &str,
        timeout: Duration,
    ) -> Result<Instance> {
        let network = Proxy::start(server).await?;
        let client = connect(&network.addr().to_string(), timeout).await?;
        let created = client.create(path, data.as_bytes(), &EPHEMERAL).await;
        let (stat, _) = created.with_context(|| format!("{path} cannot be registered"))?;
        Ok(Instance {
            path: path.to_owned(),
            version: version(data, &stat),
            network,
            _client: client,
        })
    }

    /// Cuts the network, so that the session is not closed but expires.
    pub(crate) async fn lose_network(&self) -> Result<()> {
        Ok(self.network.cut().await?)
    }
}

async fn connect(cluster: &str, timeout: Duration) -> Result<Client> {
    let connector = Client::connector().with_session_timeout(timeout);
    let connected = connector.connect(cluster).await;
    connected.with_context(|| format!("no session at ZooKeeper on {cluster}"))
}

fn version(data: impl Into<Vec<u8>>, stat: &Stat) -> Version {
    let zxid = |raw| Zxid::from_wire(raw).unwrap_or(Zxid::ZERO);
    Version {
        data: data.into(),
        czxid: zxid(stat.czxid),
        mzxid: zxid(stat.mzxid),
        version: stat.version,
        owner: SessionId(stat.ephemeral_owner.cast_unsigned()),
    }
}
