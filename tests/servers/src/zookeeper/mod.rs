//! A real ZooKeeper: one server or an ensemble of three, on free loopback ports and temporary data.

mod builder;
mod four_letter;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

pub use builder::ZooKeeperBuilder;
pub use four_letter::Mode;
use server::Server;

use crate::daemon::Java;
use crate::patience::eventually;
use crate::{Error, Result};

/// How long a server or an election may take. A server takes 0.3 s on an idle machine, an election 1 s.
const SERVE_BOUND: Duration = Duration::from_secs(60);

/// Running ZooKeeper servers, numbered from 0. Dropping this stops all of them and removes their data.
#[derive(Debug)]
pub struct ZooKeeper {
    version: String,
    java: Java,
    servers: Vec<Server>,
    // Last, so that the servers are dead before their data go.
    home: TempDir,
}

impl ZooKeeper {
    /// One server of the newest line.
    ///
    /// # Errors
    ///
    /// As [`ZooKeeperBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Chooses version, number of servers and properties.
    pub fn builder() -> ZooKeeperBuilder {
        ZooKeeperBuilder::default()
    }

    /// The version that runs.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many servers there are, running or not.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// All servers as clients name them: `127.0.0.1:12345,127.0.0.1:12346`.
    pub fn connect_string(&self) -> String {
        let addresses: Vec<String> = self
            .servers
            .iter()
            .map(|server| server.client_addr().to_string())
            .collect();
        addresses.join(",")
    }

    /// The same for encrypted connections; empty unless started [`ZooKeeperBuilder::encrypted`].
    pub fn secure_connect_string(&self) -> String {
        let addresses = self.servers.iter().filter_map(Server::secure_addr);
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        addresses.join(",")
    }

    /// The client port of server `i`; it never changes.
    pub fn client_port(&self, i: usize) -> u16 {
        self.client_addr(i).port()
    }

    /// The client address of server `i`, for instance as the target of a [`crate::Proxy`].
    pub fn client_addr(&self, i: usize) -> SocketAddr {
        self.servers[i].client_addr()
    }

    /// The quorum address of server `i`. Only a leader listens on it.
    pub fn quorum_addr(&self, i: usize) -> SocketAddr {
        self.servers[i].quorum_addr()
    }

    /// The `dataDir` of server `i`; snapshots and transaction logs are in `version-2` under it.
    pub fn data_dir(&self, i: usize) -> PathBuf {
        self.servers[i].data_dir()
    }

    /// The directory of all servers, removed on drop.
    pub fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    /// The log file of server `i`.
    pub fn log(&self, i: usize) -> PathBuf {
        self.servers[i].daemon().log()
    }

    /// The process id of server `i`, while it runs.
    pub fn process_id(&self, i: usize) -> Option<u32> {
        self.servers[i].daemon().process_id()
    }

    /// Whether the process of server `i` runs; a paused one does.
    pub fn is_running(&self, i: usize) -> bool {
        self.servers[i].daemon().is_running()
    }

    /// SIGSTOP to server `i`: its connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self, i: usize) -> Result<()> {
        self.servers[i].daemon().pause()
    }

    /// SIGCONT to server `i`.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self, i: usize) -> Result<()> {
        self.servers[i].daemon().resume()
    }

    /// Kills server `i` with SIGKILL and waits for its end. Does nothing if it does not run.
    pub fn kill(&self, i: usize) {
        self.servers[i].daemon().kill();
    }

    /// Ends server `i` with SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not run, or had to be killed.
    pub async fn stop(&self, i: usize) -> Result<()> {
        self.servers[i].daemon().stop().await
    }

    /// Starts server `i` again on its ports and data, and does not wait for it: alone, one of three never serves.
    ///
    /// # Errors
    ///
    /// If the process cannot be made.
    pub fn launch(&self, i: usize) -> Result<()> {
        self.servers[i].daemon().launch()
    }

    /// Starts server `i` again on its ports and data, killing it first if it runs, and waits until it serves.
    ///
    /// # Errors
    ///
    /// If it does not serve in time: of three, two must run.
    pub async fn restart(&self, i: usize) -> Result<()> {
        self.kill(i);
        self.launch(i)?;
        self.servers[i].serves(SERVE_BOUND).await
    }

    /// Waits until all running servers serve.
    ///
    /// # Errors
    ///
    /// Names the first that does not, with the end of its log.
    pub async fn serves(&self) -> Result<()> {
        for server in self.servers.iter().filter(|server| server.daemon().is_running()) {
            server.serves(SERVE_BOUND).await?;
        }
        Ok(())
    }

    /// The current mode of server `i`; `None` if it does not serve.
    pub async fn mode(&self, i: usize) -> Option<Mode> {
        self.servers[i].mode().await
    }

    /// The number of the leader, waiting for an election under way.
    ///
    /// # Errors
    ///
    /// If none is elected in time.
    pub async fn leader(&self) -> Result<usize> {
        eventually("a leader", SERVE_BOUND, || self.find(Mode::Leader)).await
    }

    /// The number of some follower, waiting for one.
    ///
    /// # Errors
    ///
    /// If there is none in time.
    pub async fn follower(&self) -> Result<usize> {
        eventually("a follower", SERVE_BOUND, || self.find(Mode::Follower)).await
    }

    async fn find(&self, wanted: Mode) -> Option<usize> {
        for (i, server) in self.servers.iter().enumerate() {
            if server.mode().await == Some(wanted) {
                return Some(i);
            }
        }
        None
    }

    /// Asks server `i` a four-letter word, such as `srvr`, `wchs` or `mntr`.
    ///
    /// # Errors
    ///
    /// If it does not answer in time.
    pub async fn four_letter(&self, i: usize, word: &str) -> Result<String> {
        four_letter::ask(self.client_addr(i), word).await
    }

    /// Runs a main class of the server's own jars, such as `org.apache.zookeeper.server.PurgeTxnLog`, to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`] if it fails, with its output.
    pub async fn tool(&self, main: &str, arguments: &[&str]) -> Result<String, Error> {
        self.java.run(main, arguments).await
    }
}
