//! Processes of a service that register with Apache Curator, the library that most registries use.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::child::Child;
use crate::daemon::find_java;
use crate::distribution::Distribution;

/// The program, which Java compiles when it starts it.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/java/Registrar.java");

/// How long a start may take, the compiler included.
const START_BOUND: Duration = Duration::from_secs(120);

/// A process that registers instances or queues for an election. Dropping it kills it: its session has to expire.
pub struct Registrar {
    /// The process.
    pub process: Child,
}

impl Registrar {
    /// Registers `host` with each port as an instance of a service below `base`.
    ///
    /// # Errors
    ///
    /// If Curator cannot be fetched, or the process does not register.
    pub async fn register(
        connect: &str,
        session: Duration,
        (base, service, host): (&str, &str, &str),
        ports: &[&str],
    ) -> Result<Registrar> {
        let arguments = [&["register", base, service, host], ports].concat();
        Registrar::start(connect, session, &arguments, "registered").await
    }

    /// Queues for the election of a leader latch.
    ///
    /// # Errors
    ///
    /// If Curator cannot be fetched, or the process does not queue.
    pub async fn queue(connect: &str, session: Duration, path: &str, id: &str) -> Result<Registrar> {
        Registrar::start(connect, session, &["latch", path, id], "queued").await
    }

    async fn start(connect: &str, session: Duration, arguments: &[&str], ready: &str) -> Result<Registrar> {
        let jars = Distribution::curator().jars().await?;
        let mut java = Command::new(find_java()?);
        java.arg("-cp").arg(jars.classpath()?).arg(Path::new(PROGRAM));
        java.args([connect, &session.as_millis().to_string()])
            .args(arguments);
        let mut process = Child::start(&java)?;
        process.line(ready, START_BOUND).await?;
        Ok(Registrar { process })
    }
}
