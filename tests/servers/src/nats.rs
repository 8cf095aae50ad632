//! Real NATS servers with JetStream: one, or a cluster, on free loopback ports and temporary data.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::daemon::{Daemon, Home, Program};
use crate::distribution::{Distribution, NATS_NEWEST};
use crate::machine::Turn;
use crate::ports::Port;
use crate::{Error, Proxy, Result};

const PROGRAM: &str = "nats-server";

/// How long a start may take. It takes 0.1 s on an idle machine.
const SERVE_BOUND: Duration = Duration::from_secs(60);

/// How often new ports are tried when some other program took one of ours.
const PORT_ATTEMPTS: usize = 3;

/// The line that the server logs when it takes connections.
const SERVING: &str = "Server is ready";

/// Describes the NATS to start.
#[derive(Debug, Clone)]
pub struct NatsBuilder {
    version: String,
    servers: usize,
    lines: String,
    domain: Option<String>,
    behind_proxy: bool,
}

/// Running NATS servers. Dropping this stops them and removes their data.
#[derive(Debug)]
pub struct Nats {
    servers: Vec<Server>,
    proxy: Option<Proxy>,
    // Last, so that the servers are dead before their data go.
    home: TempDir,
}

#[derive(Debug)]
struct Server {
    daemon: Daemon,
    ports: Ports,
}

#[derive(Debug)]
struct Ports {
    client: Port,
    route: Port,
}

impl Default for NatsBuilder {
    fn default() -> Self {
        Self {
            version: NATS_NEWEST.to_owned(),
            servers: 1,
            lines: String::new(),
            domain: None,
            behind_proxy: false,
        }
    }
}

impl NatsBuilder {
    /// Any released version of the line 2.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// So many servers as one cluster.
    #[must_use]
    pub fn cluster(mut self, servers: usize) -> Self {
        self.servers = servers;
        self
    }

    /// Lines of the configuration of every server: `max_payload: 8MB`, `authorization { … }`, `tls { … }`.
    #[must_use]
    pub fn lines(mut self, lines: &str) -> Self {
        self.lines.push_str(lines);
        self.lines.push('\n');
        self
    }

    /// The JetStream domain of the servers.
    #[must_use]
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.to_owned());
        self
    }

    /// Puts a [`Proxy`] before the first server, at [`Nats::proxied_url`].
    #[must_use]
    pub fn behind_proxy(mut self) -> Self {
        self.behind_proxy = true;
        self
    }

    /// Fetches the distribution if need be, starts the servers and waits until each takes connections. A cluster may
    /// then still be choosing its leaders.
    ///
    /// # Errors
    ///
    /// If the distribution cannot be fetched, or a server does not serve in time; with the end of its log.
    pub async fn start(&self) -> Result<Nats> {
        let distribution = Distribution::nats(&self.version);
        let program = Program {
            path: distribution.program(PROGRAM).await?,
            arguments: vec![OsString::from("-c")],
        };
        let _turn = Turn::take().await?;
        for _ in 1..PORT_ATTEMPTS {
            match self.start_once(distribution.title(), &program).await {
                Err(error) if error.is_port_clash() => tracing::warn!(%error, "trying other ports"),
                outcome => return outcome,
            }
        }
        self.start_once(distribution.title(), &program).await
    }

    async fn start_once(&self, title: &str, program: &Program) -> Result<Nats> {
        let home = tempfile::Builder::new().prefix("zkbridge-nats-").tempdir();
        let home = home.map_err(Error::attempt("create a temporary directory"))?;
        let ports: Vec<Ports> = (0..self.servers)
            .map(|_| Ports::reserve())
            .collect::<Result<_>>()?;
        let routes: Vec<String> = ports
            .iter()
            .map(|ports| format!("nats-route://{}", ports.route.addr()))
            .collect();
        let mut servers = Vec::new();
        for (at, ports) in ports.into_iter().enumerate() {
            let place = home.path().join(format!("server-{at}"));
            std::fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
            let configuration = place.join("nats.conf");
            let text = self.configure(at, &ports, &routes, &place);
            std::fs::write(&configuration, text).map_err(Error::io("write", &configuration))?;
            let place = Home {
                litter: home.path(),
                home: &place,
                configuration: &configuration,
            };
            let daemon = Daemon::new(format!("{title} {at}"), program.clone(), place);
            servers.push(Server { daemon, ports });
        }
        let proxy = match servers.first() {
            Some(first) if self.behind_proxy => Some(Proxy::start(first.ports.client.addr()).await?),
            _ => None,
        };
        let started = Nats { servers, proxy, home };
        for server in &started.servers {
            server.daemon.launch()?;
        }
        for at in 0..self.servers {
            started.serves(at).await?;
        }
        Ok(started)
    }

    fn configure(&self, at: usize, ports: &Ports, routes: &[String], place: &Path) -> String {
        let domain = self.domain.as_ref().map(|domain| format!(", domain: {domain}"));
        let mut text = format!(
            "server_name: server-{at}\nlisten: {}\njetstream {{ store_dir: {:?}{} }}\n{}",
            ports.client.addr(),
            place.join("data"),
            domain.unwrap_or_default(),
            self.lines
        );
        if self.servers > 1 {
            text.push_str(&format!(
                "cluster {{ name: tests, listen: {}, routes: [{}] }}\n",
                ports.route.addr(),
                routes.join(", ")
            ));
        }
        text
    }
}

impl Ports {
    fn reserve() -> Result<Self> {
        Ok(Self {
            client: Port::reserve()?,
            route: Port::reserve()?,
        })
    }
}

impl Nats {
    /// One server of the newest version.
    ///
    /// # Errors
    ///
    /// As [`NatsBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Chooses version, number, lines of the configuration and a proxy.
    pub fn builder() -> NatsBuilder {
        NatsBuilder::default()
    }

    /// The addresses of all servers; never through the proxy.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = (0..self.servers.len()).map(|at| self.url(at)).collect();
        urls.join(",")
    }

    /// The address of one server, counted from 0.
    pub fn url(&self, at: usize) -> String {
        format!("nats://{}", self.addr(at))
    }

    /// The same without a scheme.
    pub fn addr(&self, at: usize) -> SocketAddr {
        self.servers[at].ports.client.addr()
    }

    /// The name of a server, as in the information about a stream's leader.
    pub fn name(&self, at: usize) -> String {
        format!("server-{at}")
    }

    /// The address of the first server behind the proxy.
    ///
    /// # Panics
    ///
    /// If it was not built [`NatsBuilder::behind_proxy`].
    pub fn proxied_url(&self) -> String {
        format!("nats://{}", self.proxy().addr())
    }

    /// The proxy before the first server.
    ///
    /// # Panics
    ///
    /// If it was not built [`NatsBuilder::behind_proxy`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy
            .as_ref()
            .expect("a proxy exists if the builder has `behind_proxy()`")
    }

    /// The directory of all servers, removed on drop.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A server's log file.
    pub fn log(&self, at: usize) -> PathBuf {
        self.servers[at].daemon.log()
    }

    /// Whether a server's process runs; a paused one does.
    pub fn is_running(&self, at: usize) -> bool {
        self.servers[at].daemon.is_running()
    }

    /// The process id of a server, while it runs.
    pub fn process_id(&self, at: usize) -> Option<u32> {
        self.servers[at].daemon.process_id()
    }

    /// SIGSTOP: the connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self, at: usize) -> Result<()> {
        self.servers[at].daemon.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self, at: usize) -> Result<()> {
        self.servers[at].daemon.resume()
    }

    /// Kills a server with SIGKILL and waits for its end. Does nothing if it does not run.
    pub fn kill(&self, at: usize) {
        self.servers[at].daemon.kill();
    }

    /// Ends a server with SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not run, or had to be killed.
    pub async fn stop(&self, at: usize) -> Result<()> {
        self.servers[at].daemon.stop().await
    }

    /// Starts a server again on its ports and data, killing it first if it runs, and waits until it serves.
    ///
    /// # Errors
    ///
    /// If it does not serve in time.
    pub async fn restart(&self, at: usize) -> Result<()> {
        self.kill(at);
        self.servers[at].daemon.launch()?;
        self.serves(at).await
    }

    async fn serves(&self, at: usize) -> Result<()> {
        let server = &self.servers[at];
        let addr = self.addr(at);
        let serves =
            || async { server.daemon.run_log().contains(SERVING) && TcpStream::connect(addr).await.is_ok() };
        server.daemon.ready(SERVE_BOUND, serves).await
    }
}
