//! Sources that read transactions beside one that watches, on a server that is an ensemble of one: the highest rate, a
//! start with a tree, and a connection that is lost for a few hundred writes.

use std::time::Instant;

use anyhow::{Context, Result};
use bridge_servers::Proxy;

use super::sustained::{self, DELIVERED};
use super::{OTHERS, in_turn, start};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, Stage};
use crate::subject::{Linger, Orders, Running, START_BOUND, Subject, TransactionSource};
use crate::topic::{Watch, versions};
use crate::tree;
use crate::writer::flat_out;

/// Writes at the highest rate.
pub const SUSTAINED: &str = "every change: sustained";
/// A connection that is lost and restored.
pub const BACK: &str = "every change: back after missed writes";
/// The time from the restored network to the last durable message.
pub const SECONDS: &str = "all in the topic after the network is back, s";

/// The subjects of the highest rate and of a start.
const SUBJECTS: [Subject; 4] = [
    Subject::Pipeline,
    Subject::Bridge,
    Subject::BridgeObserver,
    Subject::BridgeTxnlog,
];

/// Those with a connection that can be lost.
const CONNECTED: [Subject; 2] = [Subject::Bridge, Subject::BridgeObserver];

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start_quorum(HEAP).await?;
    Box::pin(sustained::beside(&stage, SUSTAINED, &SUBJECTS, settings, figures)).await?;
    for repetition in 0..settings.sizes.repetitions {
        for subject in in_turn(&CONNECTED, settings, repetition) {
            let measures = Box::pin(back(&stage, settings, subject)).await;
            let measures = measures.with_context(|| format!("{BACK}, {subject}"))?;
            figures.add(BACK, repetition, subject, measures);
        }
    }
    drop(stage);
    for leaves in &settings.sizes.start_trees {
        let stage = Stage::start_quorum(start::heap(*leaves)).await?;
        let name = format!("every change: start, {leaves} znodes");
        Box::pin(start::beside(
            &stage, *leaves, &name, &SUBJECTS, settings, figures,
        ))
        .await?;
    }
    Ok(())
}

/// The connection is lost, a few hundred writes pass, and the connection is restored.
async fn back(stage: &Stage, settings: &Settings, subject: Subject) -> Result<Measures> {
    let source = stage.transactions().context("the server has a quorum port")?;
    let target = match subject {
        Subject::BridgeObserver => source.quorum,
        _ => stage.server(),
    };
    let proxy = Proxy::start(target).await?;
    let topic = stage.topic().await?;
    let orders = Orders {
        server: if subject == Subject::BridgeObserver {
            stage.server()
        } else {
            proxy.addr()
        },
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger: Linger::Millis(5),
        transactions: Some(TransactionSource {
            quorum: proxy.addr(),
            ..source
        }),
    };
    let mut running = Running::start(subject, settings, &orders)?.context("this subject has no process")?;
    running.ready().await?;
    let before = topic.end().await?;
    let idle = stage.costs(Some(&running))?;
    proxy.cut().await?;
    let (writes, bytes) = (settings.sizes.missed_writes, settings.sizes.value_bytes);
    let paths = tree::flat(settings.sizes.written_znodes);
    flat_out(stage.server(), paths, writes, bytes).await?;
    proxy.restore().await?;
    let restored = Instant::now();
    running.ready().await?;
    let rest = topic
        .rest(1, settings.sizes.quiet, START_BOUND, Watch::Closely)
        .await?;
    let spent = stage.costs(Some(&running))?.since(&idle);
    let (delivered, _) = versions(&topic.read().await?, &before);
    running.end().await?;
    topic.remove().await?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let delivered = 100.0 * delivered as f64 / writes as f64;
    Ok(Measures::from([
        (SECONDS, rest.at.saturating_duration_since(restored).as_secs_f64()),
        (DELIVERED, delivered),
        (OTHERS, spent.others_percent()),
    ]))
}
