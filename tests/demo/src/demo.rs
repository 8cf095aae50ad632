//! The demo from start to end: start the servers and the bridge, run the scenario, compare, stop everything.
//!
//! ```text
//! clients ──▶ ZooKeeper ──▶ bridge (a process of its own) ──▶ Kafka ──▶ topic reader
//!    │                         └──▶ a receiver in the place of Slack
//!    └── expectations, from ZooKeeper's answers ──▶ verdict ◀── records ──┘
//! ```
//!
//! Expectations never come from the bridge; its `/readyz` only says when to begin. After the end no process is left, and
//! nothing on the disk but, after a failure, the logs.

use std::future::Future;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bridge_servers::{Distribution, KAFKA_NEWEST, Kafka, ZOOKEEPER_NEWEST, ZooKeeper};
use tokio::pin;
use tokio::time::{MissedTickBehavior, interval};

use crate::consumer::TopicReader;
use crate::scenario::{ROOTS, Run, Scenario, print};
use crate::screen::{Screen, TICK};
use crate::servers::{PARTITIONS, Servers, TOPIC};
use crate::slack::SlackReceiver;

const NEXT_STEPS: &str = "  \
  zkbridge watch HOST:2181 /services      changes as they happen, without a file
  zkbridge init --output zkbridge.toml    a commented configuration to edit
  zkbridge check --config zkbridge.toml   what is wrong; --connect tries it out
  zkbridge run --config zkbridge.toml     the bridge
  README.md and docs/                     what a record promises, how to run it";

/// The result of a demo that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    /// The records match what was done.
    Agreed,
    /// They do not; the table shows where.
    Differed,
}

/// A demo whose scenario has ended and whose servers still run.
pub(crate) struct Demo {
    screen: Screen,
    /// Keeps the sessions of its clients open.
    scenario: Scenario,
    reader: TopicReader,
    servers: Servers,
    outcome: Agreement,
}

/// Runs the whole scenario with this `zkbridge` program. Cancel safe: dropping it stops everything.
///
/// # Errors
///
/// If a server cannot be fetched or started, or a step of the scenario fails. The error names the folder of the logs.
pub(crate) async fn play(bridge: PathBuf) -> Result<Demo> {
    let mut screen = Screen::stdout();
    let mut servers = start_servers(&mut screen, bridge).await?;
    match play_on(&mut screen, &mut servers).await {
        Ok((reader, scenario, outcome)) => Ok(Demo {
            screen,
            scenario,
            reader,
            servers,
            outcome,
        }),
        Err(error) => {
            screen.end_wait();
            Err(with_logs(error, servers))
        }
    }
}

async fn start_servers(screen: &mut Screen, bridge: PathBuf) -> Result<Servers> {
    screen.heading("ZooKeeper, Kafka and the bridge between them, on this machine only");
    for distribution in [
        Distribution::zookeeper(ZOOKEEPER_NEWEST),
        Distribution::kafka(KAFKA_NEWEST),
    ] {
        if !distribution.is_cached() {
            let what = format!("fetching {}, once", distribution.title());
            shown(screen, &what, distribution.fetch()).await?;
        }
    }
    let what = format!("starting ZooKeeper {ZOOKEEPER_NEWEST}");
    let zookeeper = shown(screen, &what, ZooKeeper::start()).await?;
    let what = format!("starting Kafka {KAFKA_NEWEST}");
    // Only the bridge may create the topic: with the configured number of partitions.
    let kafka = Kafka::builder().property("auto.create.topics.enable", "false");
    let kafka = shown(screen, &what, kafka.start()).await?;
    let slack = SlackReceiver::start().await?;
    Servers::prepare(bridge, zookeeper, kafka, slack, &ROOTS)
}

async fn play_on(screen: &mut Screen, servers: &mut Servers) -> Result<(TopicReader, Scenario, Agreement)> {
    let mut scenario = Scenario::prepare(servers).await?;
    servers.start_bridge()?;
    shown(screen, "starting the bridge", servers.bridge_ready()).await?;
    let brokers = servers.brokers();
    let seated = TopicReader::connect(&brokers, TOPIC, PARTITIONS);
    let mut reader = shown(screen, "a Kafka consumer takes its connect", seated).await?;
    let mut run = Run {
        screen,
        servers,
        reader: &mut reader,
        scenario: &mut scenario,
    };
    let verdict = run.all().await?;
    screen.heading("What was done and what arrived");
    screen.table(&verdict);
    let outcome = if verdict.agrees() {
        Agreement::Agreed
    } else {
        Agreement::Differed
    };
    Ok((reader, scenario, outcome))
}

impl Demo {
    /// Prints all addresses, then every further record. Returns only with an error. Cancel safe.
    ///
    /// # Errors
    ///
    /// If the bridge ends or gives no link to its page, or the topic cannot be read.
    pub(crate) async fn keep(&mut self) -> Result<()> {
        self.print_addresses().await?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                shown = self.reader.next() => {
                    print(&mut self.screen, &shown?);
                    self.reader.forget();
                }
                _ = tick.tick() => if let Some(ended) = self.servers.bridge_ended() {
                    anyhow::bail!("{ended}");
                }
            }
        }
    }

    /// Stops everything after [`Demo::keep`] failed. Adds the folder of the logs to the error.
    pub(crate) fn fail(self, error: anyhow::Error) -> anyhow::Error {
        with_logs(error, self.servers)
    }

    async fn print_addresses(&mut self) -> Result<()> {
        let servers = &self.servers;
        let page = servers.page().await?;
        let rows = [
            ("ZooKeeper", servers.connect_string()),
            ("Kafka", format!("{}, topic {TOPIC}", servers.brokers())),
            ("bridge", format!("{}/status /metrics /readyz", servers.http())),
            ("its page", format!("{page} within a minute")),
            ("configuration", servers.configuration().display().to_string()),
            ("its log", servers.bridge_log().display().to_string()),
        ];
        let (connect, roots) = (servers.connect_string(), ROOTS.join(" "));
        let program = servers.bridge_program().display();
        let watch = format!("  {program} watch {connect} {roots}");
        let page = format!(
            "  {program} ui --config {}   another link to the page",
            servers.configuration().display()
        );
        self.screen.heading("It goes on until Ctrl-C");
        for (name, place) in rows {
            self.screen.line(&format!("  {name:14} {place}"));
        }
        self.screen.heading("In another terminal, for instance");
        self.screen.line(&page);
        self.screen.line(&watch);
        self.screen.line("");
        Ok(())
    }

    /// Stops everything, the bridge with SIGTERM, and prints what to try next.
    ///
    /// # Errors
    ///
    /// If the bridge ends with another code than its own or that of SIGTERM, or if what arrived is not what was done.
    pub(crate) async fn end(self) -> Result<()> {
        let Demo {
            mut screen,
            scenario,
            reader,
            mut servers,
            outcome,
        } = self;
        screen.heading("The end");
        drop((scenario, reader));
        if let Err(error) = shown(&mut screen, "stopping the bridge", servers.end_bridge()).await {
            return Err(with_logs(error, servers));
        }
        if outcome == Agreement::Differed {
            let logs = servers.keep_logs()?;
            screen.done("Kafka and ZooKeeper are stopped");
            let logs = logs.display();
            anyhow::bail!("what arrived is not what was done: see the table; the logs are in {logs}");
        }
        let program = servers.bridge_program().to_owned();
        drop(servers);
        screen.done("Kafka and ZooKeeper are stopped, their data are gone");
        screen.heading("What was done and what arrived agree. Next, with your own ZooKeeper:");
        screen.line(NEXT_STEPS);
        screen.line(&format!("\nzkbridge is {} here.", program.display()));
        Ok(())
    }
}

/// Adds the folder of the logs to the error.
fn with_logs(error: anyhow::Error, servers: Servers) -> anyhow::Error {
    match servers.keep_logs() {
        Ok(folder) => {
            let folder: PathBuf = folder;
            error.context(format!("the demo failed; the logs are in {}", folder.display()))
        }
        Err(lost) => error.context(format!("the demo failed; {lost:#}")),
    }
}

/// Awaits the action and shows how long it takes.
async fn shown<T, E>(screen: &mut Screen, what: &str, action: impl Future<Output = Result<T, E>>) -> Result<T>
where
    Result<T, E>: Context<T, E>,
{
    screen.wait(what);
    let mut tick = interval(TICK);
    pin!(action);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut action => break done,
            _ = tick.tick() => screen.tick(),
        }
    };
    screen.end_wait();
    done.with_context(|| format!("{what} failed"))
}
