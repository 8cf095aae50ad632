//! 500 paths change during a lost connection: for how many paths does the topic stay wrong after the reconnect?

use std::time::Duration;

use anyhow::{Context, Result};
use bridge_servers::{Proxy, eventually};
use zookeeper_client::Client;

use super::in_turn;
use super::sustained::last_states;
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, Stage};
use crate::subject::{Linger, Orders, Running, Subject};
use crate::topic::{Topic, Watch};
use crate::tree::{self, PERSISTENT, ROOT};

/// The scenario's name.
pub const NAME: &str = "500 paths changed during a cut";
/// All wrong paths.
pub const WRONG: &str = "paths that stay wrong";
/// Deleted, but existing in the topic.
const GONE: &str = "of these, deleted";
/// Existing, but missing or different in the topic.
const OTHER: &str = "of these, recreated or set";

/// Number of paths that are deleted.
const DELETED: usize = 200;
/// Number of paths that are deleted and created again, half of them with the same version as before.
const RECREATED: usize = 200;
/// Number of paths that are set.
const SET: usize = 100;
/// Number of unchanged paths.
const SPARED: usize = 500;

const SUBJECTS: [Subject; 3] = [Subject::Pipeline, Subject::Curator, Subject::Bridge];

/// How long every subject may take to follow again: far longer than any backoff.
const AGAIN_BOUND: Duration = Duration::from_secs(60);
/// The factor of the usual quiet period after a cut.
const QUIET_TIMES: u32 = 2;
/// How often the marker znode is written.
const SIGN_PAUSE: Duration = Duration::from_millis(300);

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP).await?;
    for repetition in 0..settings.sizes.repetitions.min(1) {
        for subject in in_turn(&SUBJECTS, settings, repetition) {
            let measures = Box::pin(round(&stage, settings, subject)).await;
            let measures = measures.with_context(|| format!("{NAME}, {subject}"))?;
            figures.add(NAME, repetition, subject, measures);
        }
    }
    Ok(())
}

async fn round(stage: &Stage, settings: &Settings, subject: Subject) -> Result<Measures> {
    let client = stage.client();
    let paths = tree::flat(DELETED + RECREATED + SET + SPARED);
    let sign = format!("{ROOT}/sign");
    let planted = paths.iter().cloned().chain([sign.clone()]);
    tree::plant(client, planted, settings.sizes.value_bytes).await?;
    let topic = stage.topic().await?;
    let proxy = Proxy::start(stage.server()).await?;
    let orders = Orders {
        server: proxy.addr(),
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger: Linger::Millis(5),
        transactions: None,
    };
    let mut running = Running::start(subject, settings, &orders)?.context("this subject has no process")?;
    running.ready().await?;
    proxy.cut().await?;
    change(client, &paths).await?;
    proxy.restore().await?;
    follows_again(client, &topic, &sign).await?;
    let quiet = settings.sizes.quiet * QUIET_TIMES;
    topic.rest(1, quiet, AGAIN_BOUND, Watch::Loosely).await?;
    let measures = wrong(stage, &topic).await?;
    running.end().await?;
    tree::clear(client).await?;
    Ok(measures)
}

async fn change(client: &Client, paths: &[String]) -> Result<()> {
    let (gone, rest) = paths.split_at(DELETED);
    let (again, rest) = rest.split_at(RECREATED);
    let mut multi = client.new_multi_writer();
    for path in gone.iter().chain(again) {
        multi.add_delete(path, None)?;
    }
    multi.commit().await?;
    for (at, path) in again.iter().enumerate() {
        multi.add_create(path, b"again", &PERSISTENT)?;
        if at % 2 == 0 {
            multi.add_set_data(path, b"and set", None)?;
        }
    }
    for path in &rest[..SET] {
        multi.add_set_data(path, b"set", None)?;
    }
    multi.commit().await?;
    Ok(())
}

/// Writes a znode until the topic has it.
async fn follows_again(client: &Client, topic: &Topic, sign: &str) -> Result<()> {
    eventually("a subject to follow again", AGAIN_BOUND, || async {
        let stat = client.set_data(sign, b"sign", None).await.ok()?;
        tokio::time::sleep(SIGN_PAUSE).await;
        let records = topic.read().await.ok()?;
        let last = last_states(&records).get(sign).copied().flatten()?;
        (last.mzxid == stat.mzxid).then_some(())
    })
    .await?;
    Ok(())
}

/// Compares the fold of the topic with the tree.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn wrong(stage: &Stage, topic: &Topic) -> Result<Measures> {
    let records = topic.read().await?;
    let believed = last_states(&records);
    let tree = tree::read(stage.client()).await?;
    let gone = believed
        .iter()
        .filter(|(path, state)| state.is_some() && !tree.contains_key(**path));
    let other = tree
        .iter()
        .filter(|(path, state)| believed.get(path.as_str()) != Some(&Some(**state)));
    let (gone, other) = (gone.count() as f64, other.count() as f64);
    Ok(Measures::from([
        (WRONG, gone + other),
        (GONE, gone),
        (OTHER, other),
    ]))
}
