//! A process of a service that registers with Apache Dubbo, by interface and by application.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::child::Child;
use crate::daemon::find_java;
use crate::distribution::Distribution;
use crate::ports::Port;
use crate::{Error, Result};

/// The program, which Java compiles when it starts it.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/java/Provider.java");

/// How long a start or an order may take, the compiler included. A start takes 4 s on an idle machine.
const BOUND: Duration = Duration::from_secs(180);

/// Dubbo takes every address that looks like a loopback one for a mistake, and then listens on all. This is 127.0.0.1.
const LOOPBACK: &str = "2130706433";

/// The host that a provider registers.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

/// A process that provides `com.acme.Payments` of the group blue in version 1.0.0 with the weight 100. Dropping it kills
/// it: its session has to expire.
pub struct Provider {
    /// The process.
    pub process: Child,
    port: Port,
    /// Where the process gets orders, and where Dubbo keeps files of its user.
    folder: TempDir,
    rules: usize,
}

impl Provider {
    /// Starts a process of this application and waits until it is registered. `secret` is the value of a parameter of its
    /// URLs.
    ///
    /// # Errors
    ///
    /// If Dubbo cannot be fetched, or the process does not register.
    pub async fn start(
        connect: &str,
        session: Duration,
        application: &str,
        secret: &str,
    ) -> Result<Provider> {
        let jars = Distribution::dubbo().jars().await?;
        let folder = tempfile::Builder::new().prefix("zkbridge-dubbo-").tempdir();
        let folder = folder.map_err(Error::attempt("create a temporary directory"))?;
        let port = Port::reserve()?;
        let mut java = Command::new(find_java()?);
        java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg(format!("-Duser.home={}", folder.path().display()))
            .arg(format!("-DDUBBO_IP_TO_BIND={LOOPBACK}"))
            .arg(format!("-DDUBBO_IP_TO_REGISTRY={HOST}"));
        java.arg("-cp").arg(jars.classpath()?).arg(PROGRAM);
        java.args([connect, &session.as_millis().to_string(), application, secret])
            .arg(port.number().to_string())
            .arg(folder.path());
        let mut process = Child::start(&java)?;
        process.line("registered Payments", BOUND).await?;
        Ok(Provider {
            process,
            port,
            folder,
            rules: 0,
        })
    }

    /// The address that it registers, and does not listen on.
    pub fn address(&self) -> SocketAddr {
        (HOST, self.port.number()).into()
    }

    /// Lets it provide `com.acme.Refunds`, too, and waits until it does.
    ///
    /// # Errors
    ///
    /// If it does not in time.
    pub async fn provide_more(&mut self) -> Result<()> {
        self.order("more", "")?;
        self.process.line("registered Refunds", BOUND).await.map(drop)
    }

    /// Lets it override these parameters, such as `weight=50`, of all providers of its first interface, as an
    /// administrator does, and waits until the rule is registered.
    ///
    /// # Errors
    ///
    /// If it is not in time.
    pub async fn override_with(&mut self, parameters: &str) -> Result<()> {
        self.rules += 1;
        self.order(&format!("rule-{}", self.rules), parameters)?;
        let done = format!("registered rule {}", self.rules);
        self.process.line(&done, BOUND).await.map(drop)
    }

    /// Gives the process a file. It is complete when it has its name.
    fn order(&self, name: &str, text: &str) -> Result<()> {
        let (staged, file) = (self.folder.path().join("staged"), self.folder.path().join(name));
        std::fs::write(&staged, text).map_err(Error::io("write", &staged))?;
        std::fs::rename(&staged, &file).map_err(Error::io("rename to", &file))
    }
}
