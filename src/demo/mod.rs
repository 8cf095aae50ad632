//! `zkbridge demo`: a small story on a real ZooKeeper and a real Kafka, and the proof that all of it arrived.
//!
//! ```text
//! cast ──▶ ZooKeeper ──▶ bridge (a process of its own) ──▶ Kafka ──▶ audience
//!   └── expectations, from ZooKeeper's answers ──▶ verdict ◀── records ──┘
//! ```
//!
//! The story never takes the bridge's word for anything but that it is ready. It leaves nothing running and nothing on
//! the disk but, after a failure, the logs.

mod audience;
mod cast;
mod expectation;
#[cfg(test)]
mod samples;
mod screen;
mod stage;
mod story;
mod verdict;

use std::future::Future;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bridge_servers::{Distribution, KAFKA_NEWEST, Kafka, ZOOKEEPER_NEWEST, ZooKeeper};
use tokio::pin;
use tokio::time::{MissedTickBehavior, interval};

use audience::Audience;
use screen::{BEAT, Screen};
use stage::{PARTITIONS, Stage, TOPIC};
use story::{ROOTS, Story, Telling, print};

const NEXT_STEPS: &str = "  \
  zkbridge watch HOST:2181 /services      changes as they happen, without a file
  zkbridge init --output zkbridge.toml    a commented configuration to edit
  zkbridge check --config zkbridge.toml   what is wrong; --connect tries it out
  zkbridge run --config zkbridge.toml     the bridge
  README.md and docs/                     what a record promises, how to run it";

/// How the demo ended, where nothing went wrong with the demo itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// What arrived is what was done.
    Agreed,
    /// It is not; the table says where.
    Differed,
}

/// A demo whose story is over and whose servers still run.
pub struct Performance {
    screen: Screen,
    /// Its sessions live as long as the demo.
    story: Story,
    audience: Audience,
    stage: Stage,
    outcome: Outcome,
}

/// Plays the whole story. Dropped at any moment, it leaves nothing running.
///
/// # Errors
///
/// If a server cannot be fetched or started, or the story cannot be played on; with what to do, and where the logs are.
pub async fn play() -> Result<Performance> {
    let mut screen = Screen::stdout();
    let mut stage = set_stage(&mut screen).await?;
    match play_on(&mut screen, &mut stage).await {
        Ok((audience, story, outcome)) => Ok(Performance {
            screen,
            story,
            audience,
            stage,
            outcome,
        }),
        Err(error) => {
            screen.end_wait();
            Err(with_logs(error, stage))
        }
    }
}

async fn set_stage(screen: &mut Screen) -> Result<Stage> {
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
    // The bridge makes its topic, with the partitions that it was told; nobody else shall.
    let kafka = Kafka::builder().property("auto.create.topics.enable", "false");
    let kafka = shown(screen, &what, kafka.start()).await?;
    Stage::set(zookeeper, kafka, &ROOTS)
}

async fn play_on(screen: &mut Screen, stage: &mut Stage) -> Result<(Audience, Story, Outcome)> {
    let mut story = Story::prepare(stage).await?;
    stage.start_bridge()?;
    shown(screen, "starting the bridge", stage.bridge_ready()).await?;
    let brokers = stage.brokers();
    let seated = Audience::seat(&brokers, TOPIC, PARTITIONS);
    let mut audience = shown(screen, "a Kafka consumer takes its seat", seated).await?;
    let mut telling = Telling {
        screen,
        stage,
        audience: &mut audience,
        story: &mut story,
    };
    let verdict = telling.tell().await?;
    screen.heading("What was done and what arrived");
    screen.table(&verdict);
    let outcome = if verdict.agrees() {
        Outcome::Agreed
    } else {
        Outcome::Differed
    };
    Ok((audience, story, outcome))
}

impl Performance {
    /// Prints where everything is, and every further record. Never ends by itself but with an error. Cancel safe.
    ///
    /// # Errors
    ///
    /// If the bridge ends, or the topic cannot be read.
    pub async fn keep(&mut self) -> Result<()> {
        self.print_addresses();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                shown = self.audience.next() => {
                    print(&mut self.screen, &shown?);
                    self.audience.forget();
                }
                _ = beat.tick() => if let Some(ended) = self.stage.bridge_ended() {
                    anyhow::bail!("{ended}");
                }
            }
        }
    }

    /// Stops everything after [`Performance::keep`] failed, and says where the logs are.
    pub fn fail(self, error: anyhow::Error) -> anyhow::Error {
        with_logs(error, self.stage)
    }

    fn print_addresses(&mut self) {
        let stage = &self.stage;
        let rows = [
            ("ZooKeeper", stage.connect_string()),
            ("Kafka", format!("{}, topic {TOPIC}", stage.brokers())),
            ("bridge", format!("{}/status /metrics /readyz", stage.http())),
            ("configuration", stage.configuration().display().to_string()),
            ("its log", stage.bridge_log().display().to_string()),
        ];
        let (connect, roots) = (stage.connect_string(), ROOTS.join(" "));
        let watch = format!("  {} watch {connect} {roots}", program());
        self.screen.heading("It goes on until Ctrl-C");
        for (name, place) in rows {
            self.screen.line(&format!("  {name:14} {place}"));
        }
        self.screen.heading("In another terminal, for instance");
        self.screen.line(&watch);
        self.screen.line("");
    }

    /// Stops everything, the bridge in good order, and says what could be next.
    ///
    /// # Errors
    ///
    /// If the bridge does not end as it should.
    pub async fn end(self) -> Result<()> {
        let Performance {
            mut screen,
            story,
            audience,
            mut stage,
            outcome,
        } = self;
        screen.heading("The end");
        drop((story, audience));
        if let Err(error) = shown(&mut screen, "stopping the bridge", stage.end_bridge()).await {
            return Err(with_logs(error, stage));
        }
        if outcome == Outcome::Differed {
            let logs = stage.keep_logs()?;
            screen.done("Kafka and ZooKeeper are stopped");
            let logs = logs.display();
            anyhow::bail!("what arrived is not what was done: see the table; the logs are in {logs}");
        }
        drop(stage);
        screen.done("Kafka and ZooKeeper are stopped, their data are gone");
        screen.heading("What was done and what arrived agree. Next, with your own ZooKeeper:");
        screen.line(NEXT_STEPS);
        let program = program();
        if program.contains('/') {
            screen.line(&format!("\nzkbridge is {program} here."));
        }
        Ok(())
    }
}

/// How this program was called, and can be called again.
fn program() -> String {
    let called = std::env::args().next();
    called.unwrap_or_else(|| "zkbridge".to_owned())
}

/// The error, and where the logs were put.
fn with_logs(error: anyhow::Error, stage: Stage) -> anyhow::Error {
    match stage.keep_logs() {
        Ok(folder) => {
            let folder: PathBuf = folder;
            error.context(format!("the demo failed; the logs are in {}", folder.display()))
        }
        Err(lost) => error.context(format!("the demo failed; {lost:#}")),
    }
}

/// Awaits something and shows for how long.
async fn shown<T, E>(screen: &mut Screen, what: &str, action: impl Future<Output = Result<T, E>>) -> Result<T>
where
    Result<T, E>: Context<T, E>,
{
    screen.wait(what);
    let mut beat = interval(BEAT);
    pin!(action);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut action => break done,
            _ = beat.tick() => screen.beat(),
        }
    };
    screen.end_wait();
    done.with_context(|| format!("{what} failed"))
}
