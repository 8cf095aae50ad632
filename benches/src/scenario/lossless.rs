//! Sources that read transactions beside one that watches, on a server that is an ensemble of one: the highest rate, a
//! steady rate, an absence of the bridge for a few hundred writes, and large trees ([`super::large`]).

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bridge_servers::{Direction, Proxy, eventually};

use super::sustained::{self, DELIVERED, percent};
use super::{OTHERS, in_turn, large, latency};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{COMMIT_LOG, HEAP, Spent, Stage};
use crate::subject::{Linger, Orders, Running, START_BOUND, Subject, TransactionSource};
use crate::topic::{Topic, TopicRecord, Watch, versions};
use crate::tree;
use crate::writer::flat_out;

/// Writes at the highest rate.
pub const SUSTAINED: &str = "every change: sustained";
/// Writes at a steady rate.
pub const LATENCY: &str = "every change: latency, linger 5 ms";
/// A bridge that is killed and started again.
pub const BACK: &str = "every change: back after missed writes";
/// The time from the start of the process to the last durable message.
pub const SECONDS: &str = "all in the topic after the start, s";
/// The time from the server's first byte to the last durable message.
pub const AFTER_ANSWER: &str = "all in the topic after the server's first answer, s";
/// Gaps in the topic.
pub const GAPS: &str = "gaps";

/// A part of the scenario, with servers of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum LosslessPart {
    Rate,
    Latency,
    Back,
    Large,
}

/// All parts.
pub(super) const PARTS: [LosslessPart; 4] = [
    LosslessPart::Rate,
    LosslessPart::Latency,
    LosslessPart::Back,
    LosslessPart::Large,
];

/// The subjects of the highest rate and of a start.
pub(super) const SUBJECTS: [Subject; 4] = [
    Subject::Pipeline,
    Subject::Bridge,
    Subject::BridgeObserver,
    Subject::BridgeTxnlog,
];

/// Those whose first packet from the server can be seen.
const CONNECTED: [Subject; 2] = [Subject::Bridge, Subject::BridgeObserver];

/// How long a bridge may take from its start to the server's first answer.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

pub(super) async fn run(part: LosslessPart, settings: &Settings, figures: &mut Figures) -> Result<()> {
    match part {
        LosslessPart::Rate => {
            let stage = Stage::start_quorum(HEAP, COMMIT_LOG).await?;
            Box::pin(sustained::beside(&stage, SUSTAINED, &SUBJECTS, settings, figures)).await
        }
        LosslessPart::Latency => {
            let stage = Stage::start_quorum(HEAP, COMMIT_LOG).await?;
            Box::pin(latency::beside(
                &stage,
                LATENCY,
                &SUBJECTS[1..],
                settings,
                figures,
            ))
            .await
        }
        LosslessPart::Back => {
            let stage = Stage::start_quorum(HEAP, COMMIT_LOG).await?;
            let paths = tree::flat(settings.sizes.written_znodes);
            tree::plant(stage.client(), paths.into_iter(), settings.sizes.value_bytes).await?;
            for repetition in 0..settings.sizes.repetitions {
                for subject in in_turn(&CONNECTED, settings, repetition) {
                    let measures = Box::pin(back(&stage, settings, subject)).await;
                    let measures = measures.with_context(|| format!("{BACK}, {subject}"))?;
                    figures.add(BACK, repetition, subject, measures);
                }
            }
            Ok(())
        }
        LosslessPart::Large => Box::pin(large::run(settings, figures)).await,
    }
}

/// A bridge, and a proxy through which it reaches the server first.
pub(super) async fn through_proxy(
    stage: &Stage,
    settings: &Settings,
    subject: Subject,
    topic: &Topic,
) -> Result<(Running, Proxy)> {
    let source = stage.transactions().context("the server has no quorum port")?;
    let is_observer = subject == Subject::BridgeObserver;
    let target = if is_observer {
        source.quorum
    } else {
        stage.server()
    };
    let proxy = Proxy::start(target).await?;
    let orders = Orders {
        server: if is_observer { stage.server() } else { proxy.addr() },
        bootstrap: &stage.bootstrap(),
        topic,
        linger: Linger::Millis(5),
        transactions: Some(TransactionSource {
            quorum: proxy.addr(),
            ..source
        }),
    };
    let mut running = Running::start(subject, settings, &orders)?.context("this subject has no process")?;
    running.ready().await?;
    Ok((running, proxy))
}

/// An absence of the bridge, and what came after it.
pub(super) struct Absence {
    /// When the bridge was started again.
    started: Instant,
    /// When the server answered it.
    pub(super) answered: Instant,
    /// When the last message was durable.
    pub(super) rest: Instant,
    /// The costs since the bridge was started again.
    pub(super) spent: Spent,
    /// The messages since it was killed.
    pub(super) records: Vec<TopicRecord>,
    /// Different versions among them.
    pub(super) delivered: usize,
}

/// Kills the bridge, writes, starts it again and waits until all is in the topic.
pub(super) async fn absence(
    stage: &Stage,
    settings: &Settings,
    (running, proxy, topic): (&mut Running, &Proxy, &Topic),
    paths: Vec<String>,
    writes: usize,
) -> Result<Absence> {
    running.kill().await?;
    let before = topic.end().await?;
    flat_out(stage.server(), paths, writes, settings.sizes.value_bytes).await?;
    let forwarded = proxy.forwarded(Direction::ToClient);
    let costs = stage.costs(None)?;
    let started = Instant::now();
    running.start_again()?;
    eventually("the server's first answer", ANSWER_BOUND, || async {
        proxy.forwarded(Direction::ToClient) > forwarded
    })
    .await?;
    let answered = Instant::now();
    // A watch delivers the last versions only.
    let least = match running.subject() {
        Subject::BridgeObserver => i64::try_from(writes)?,
        _ => 1,
    };
    let least = before.messages() + least;
    let rest = topic.rest(least, settings.sizes.quiet, START_BOUND, Watch::Closely);
    let rest = rest.await?.at;
    // All of its processor time is since the start.
    let spent = stage.costs(Some(running))?.since(&costs);
    let records = topic.read_after(&before).await?;
    let (delivered, _) = versions(&records, &before);
    Ok(Absence {
        started,
        answered,
        rest,
        spent,
        records,
        delivered,
    })
}

impl Absence {
    /// Gaps in the topic since.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn gaps(&self) -> f64 {
        self.records
            .iter()
            .filter(|record| record.op == "gap_begin")
            .count() as f64
    }
}

/// The bridge is killed, a few hundred writes pass, and it is started again.
async fn back(stage: &Stage, settings: &Settings, subject: Subject) -> Result<Measures> {
    let topic = stage.topic().await?;
    let (mut running, proxy) = through_proxy(stage, settings, subject, &topic).await?;
    let writes = settings.sizes.missed_writes;
    let paths = tree::flat(settings.sizes.written_znodes);
    let parts = (&mut running, &proxy, &topic);
    let absence = absence(stage, settings, parts, paths, writes).await?;
    running.end().await?;
    topic.remove().await?;
    let since = |moment| absence.rest.saturating_duration_since(moment).as_secs_f64();
    Ok(Measures::from([
        (SECONDS, since(absence.started)),
        (AFTER_ANSWER, since(absence.answered)),
        (DELIVERED, percent(absence.delivered, writes)),
        (GAPS, absence.gaps()),
        (OTHERS, absence.spent.others_percent()),
    ]))
}
