//! The bridge under test: a program with a configuration, killed and started again. Its log is kept.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_servers::{Child, eventually, is_at_rest, status_of};
use serde_json::Value;

use crate::proxy_check::Process;

/// How long a start may take on a busy machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long an answer to a request may take.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// One configured bridge, running or not.
pub struct Bridge {
    program: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    process: Process,
    /// The logs of earlier runs.
    logged: Vec<String>,
}

impl Bridge {
    /// Writes the configuration into a folder of its own; nothing runs yet.
    pub fn configured(program: &Path, folder: PathBuf, configuration: &str) -> Result<Bridge> {
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let file = folder.join("zkbridge.toml");
        std::fs::write(&file, configuration).with_context(|| format!("write {}", file.display()))?;
        Ok(Bridge {
            program: program.to_owned(),
            folder,
            child: None,
            process: Process::default(),
            logged: Vec::new(),
        })
    }

    /// Starts it, unless it runs, and does not wait.
    pub fn launch(&mut self) -> Result<()> {
        if self.child.as_mut().is_some_and(|child| child.ended().is_none()) {
            return Ok(());
        }
        self.keep_log("it ended by itself");
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ZKBRIDGE_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.folder)
            .args(["run", "--log-format", "json"]);
        let child = Child::start(&command)?;
        self.process.is(Some(child.id()));
        self.child = Some(child);
        Ok(())
    }

    /// Its process, also of later starts.
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until it has ended by itself.
    pub async fn until_ended(&mut self, bound: Duration) -> Result<()> {
        let child = self.child.as_mut().context("the bridge was not started")?;
        child.wait(bound).await.context("the bridge goes on")?;
        Ok(())
    }

    /// Fails if it has ended unexpectedly.
    pub fn check_running(&mut self) -> Result<()> {
        let ended = self.child.as_mut().and_then(Child::ended);
        ensure!(ended.is_none(), "the bridge ended by itself: {ended:?}");
        Ok(())
    }

    fn keep_log(&mut self, how: &str) {
        self.process.is(None);
        if let Some(child) = self.child.take() {
            self.logged
                .extend(child.lines().into_iter().map(|line| line.text));
            self.logged.push(format!("--- {how}"));
        }
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            child.kill().await?;
        }
        self.keep_log("killed");
        Ok(())
    }

    /// SIGTERM, and SIGKILL if it does not end within the bound.
    pub async fn terminate(&mut self, bound: Duration) -> Result<()> {
        if let Some(child) = &mut self.child {
            child.terminate()?;
            // With destinations that are down it may well wait for longer; that is no fault of it.
            if child.wait(bound).await.is_err() {
                child.kill().await?;
            }
        }
        self.keep_log("terminated");
        Ok(())
    }

    /// SIGSTOP.
    pub fn pause(&mut self) -> Result<()> {
        match &mut self.child {
            Some(child) => Ok(child.pause()?),
            None => Ok(()),
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        match &mut self.child {
            Some(child) => Ok(child.resume()?),
            None => Ok(()),
        }
    }

    /// Waits until it listens, and says where.
    async fn address(&mut self) -> Result<SocketAddr> {
        let child = self.child.as_mut().context("the bridge was not started")?;
        let address = child.until("the bridge's address", START_BOUND, |lines| {
            let mut logged = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok());
            logged.find_map(|line| line["address"].as_str()?.parse().ok())
        });
        Ok(address.await?)
    }

    /// Whether every source is live with nothing waiting, and every sink is at its tail.
    pub async fn is_at_rest(&mut self) -> Result<bool> {
        self.check_running()?;
        let address = self.address().await?;
        let status = tokio::time::timeout(ANSWER_BOUND, status_of(address)).await;
        Ok(status.ok().flatten().is_some_and(|status| is_at_rest(&status)))
    }

    /// Its status, for the report of a failure.
    pub async fn status(&mut self) -> Value {
        match self.address().await {
            Ok(address) => status_of(address).await.unwrap_or_default(),
            Err(error) => Value::from(error.to_string()),
        }
    }

    /// Waits until all sources are live.
    pub async fn ready(&mut self) -> Result<()> {
        let address = self.address().await?;
        let ready = eventually("the bridge to be ready", START_BOUND, || async {
            status_of(address)
                .await
                .is_some_and(|status| status["ready"] == true)
        });
        Ok(ready.await?)
    }

    /// All that it ever logged.
    pub fn log(&self) -> Vec<String> {
        let mut log = self.logged.clone();
        if let Some(child) = &self.child {
            log.extend(child.lines().into_iter().map(|line| line.text));
        }
        log
    }
}
