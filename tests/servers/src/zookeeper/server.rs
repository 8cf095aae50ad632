//! One ZooKeeper server: its ports, its directory, its configuration and its process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;

use super::four_letter::{self, Mode};
use crate::daemon::{Daemon, Home, Java};
use crate::ports::Port;
use crate::{Error, Result};

const MAIN: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";

/// The ports of a server, kept through restarts.
#[derive(Debug)]
pub(super) struct Ports {
    client: Port,
    /// The port for encrypted connections, if there is one.
    secure: Option<Port>,
    quorum: Port,
    election: Port,
}

impl Ports {
    pub(super) fn reserve(is_secure: bool) -> Result<Self> {
        Ok(Self {
            client: Port::reserve()?,
            secure: is_secure.then(Port::reserve).transpose()?,
            quorum: Port::reserve()?,
            election: Port::reserve()?,
        })
    }

    /// The line by which the servers of an ensemble know each other; old and new lines understand this form.
    pub(super) fn peer_line(&self, id: usize) -> String {
        let (quorum, election) = (self.quorum.number(), self.election.number());
        format!("server.{id}=127.0.0.1:{quorum}:{election}\n")
    }
}

/// One server of a running ZooKeeper.
#[derive(Debug)]
pub(super) struct Server {
    daemon: Daemon,
    data: PathBuf,
    ports: Ports,
}

/// The common settings of all servers of an ensemble.
pub(super) struct Plan<'a> {
    pub(super) title: &'a str,
    pub(super) java: &'a Java,
    pub(super) home: &'a Path,
    /// The lines of `zoo.cfg` that do not depend on the server.
    pub(super) configuration: &'a str,
}

impl Server {
    /// Writes the files of server `id`, counted from 1 as ZooKeeper does.
    pub(super) fn prepare(plan: &Plan<'_>, id: usize, ports: Ports) -> Result<Self> {
        let home = plan.home.join(format!("server-{id}"));
        let data = home.join("data");
        std::fs::create_dir_all(&data).map_err(Error::io("create", &data))?;
        write(&data.join("myid"), &format!("{id}\n"))?;
        let configuration = home.join("zoo.cfg");
        write(&configuration, &configure(plan.configuration, &data, &ports))?;
        let place = Home {
            litter: plan.home,
            home: &home,
            configuration: &configuration,
        };
        let daemon = Daemon::new(
            format!("{} server {id}", plan.title),
            plan.java.program(MAIN),
            place,
        );
        Ok(Self { daemon, data, ports })
    }

    pub(super) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub(super) fn client_addr(&self) -> SocketAddr {
        self.ports.client.addr()
    }

    pub(super) fn secure_addr(&self) -> Option<SocketAddr> {
        self.ports.secure.as_ref().map(Port::addr)
    }

    pub(super) fn quorum_addr(&self) -> SocketAddr {
        self.ports.quorum.addr()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.data.clone()
    }

    pub(super) async fn mode(&self) -> Option<Mode> {
        let answer = four_letter::ask(self.client_addr(), "srvr").await.ok()?;
        four_letter::mode(&answer)
    }

    /// Waits until the server answers with a mode and accepts connections on its encrypted port, if it has one. It opens
    /// that port after the usual one.
    pub(super) async fn serves(&self, bound: Duration) -> Result<()> {
        self.daemon
            .ready(bound, || async {
                self.mode().await.is_some() && self.accepts_encrypted().await
            })
            .await
    }

    async fn accepts_encrypted(&self) -> bool {
        match self.secure_addr() {
            Some(address) => TcpStream::connect(address).await.is_ok(),
            None => true,
        }
    }
}

fn configure(common: &str, data: &Path, ports: &Ports) -> String {
    let (data, port) = (data.display(), ports.client.number());
    let secure = ports.secure.as_ref().map(|port| {
        let port = port.number();
        format!("secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\n")
    });
    let secure = secure.unwrap_or_default();
    format!("{common}dataDir={data}\nclientPort={port}\nclientPortAddress=127.0.0.1\n{secure}")
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io("write", path))
}
