//! A lost and restored connection without changes: the time of the bridge's comparison, relative to the raw walk over the
//! same network. The bridge must write only the gap.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bridge_servers::Proxy;

use super::sustained::megabytes;
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP_OF_A_MILLION, Stage};
use crate::subject::{Held, Linger, Orders, Running, START_BOUND, Subject, held, walk};
use crate::{machine, tree};

/// The scenario's name.
pub const NAME: &str = "reconnect, nothing has changed";
/// The time from the armed watch to the end of the comparison, or of the raw walk.
pub const SECONDS: &str = "armed to live, s";
/// Records other than the two of the gap.
pub const RECORDS: &str = "records other than the gap's two";
/// Bytes written to the disk.
const WRITTEN: &str = "written to the disk, MB";
/// Processor time of the subject.
const CPU: &str = "CPU of the subject, s";

/// Poll interval for the bridge's status: long enough to cost nothing measurable.
const LOOK: Duration = Duration::from_millis(100);
/// The two records of a gap.
const OF_A_GAP: u64 = 2;

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP_OF_A_MILLION).await?;
    let leaves = settings.sizes.reconnect_tree;
    tree::plant(stage.client(), tree::large(leaves), settings.sizes.value_bytes).await?;
    let proxy = Proxy::start(stage.server()).await?;
    let topic = stage.topic().await?;
    let orders = Orders {
        server: proxy.addr(),
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger: Linger::Millis(5),
        transactions: None,
    };
    let mut bridge = Running::start(Subject::Bridge, settings, &orders)?.context("the bridge starts")?;
    bridge.ready().await?;
    walk(settings, proxy.addr()).await?;
    for repetition in 0..settings.sizes.repetitions {
        let floor = walk(settings, proxy.addr()).await?.as_secs_f64();
        figures.add(
            NAME,
            repetition,
            Subject::Walk,
            Measures::from([(SECONDS, floor)]),
        );
        let measures = Box::pin(round(&stage, &proxy, &mut bridge)).await?;
        figures.add(NAME, repetition, Subject::Bridge, measures);
    }
    bridge.end().await
}

async fn round(stage: &Stage, proxy: &Proxy, bridge: &mut Running) -> Result<Measures> {
    let before = held(bridge.child()).await?.context("the bridge answers")?;
    let costs = stage.costs(Some(bridge))?;
    let written = machine::bytes_written(bridge.id())?;
    proxy.reset_connections().await?;
    let after = compared(bridge, &before).await?;
    let spent = stage.costs(Some(bridge))?.since(&costs);
    let written = machine::bytes_written(bridge.id())? - written;
    let records = after.tail - before.tail;
    ensure!(
        records >= OF_A_GAP,
        "a gap has two records, and there are {records}"
    );
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(Measures::from([
        (SECONDS, armed_to_live(&after)?.as_secs_f64()),
        (RECORDS, (records - OF_A_GAP) as f64),
        (WRITTEN, megabytes(written)),
        (CPU, spent.subject.as_secs_f64()),
    ]))
}

/// Waits until the bridge has walked once more and is live again.
pub(super) async fn compared(bridge: &mut Running, before: &Held) -> Result<Held> {
    let began = Instant::now();
    loop {
        let now = held(bridge.child()).await?;
        if let Some(now) = now.filter(|now| now.walks > before.walks && now.state == "live") {
            return Ok(now);
        }
        ensure!(
            began.elapsed() < START_BOUND,
            "no comparison came to its end within {} s",
            START_BOUND.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// The bridge's own time for the comparison, without the pause before it reconnects.
fn armed_to_live(held: &Held) -> Result<Duration> {
    let moment = |text: &Option<String>| text.as_deref().and_then(millis_of_day);
    let (armed, live) = (moment(&held.armed_since), moment(&held.since));
    let (armed, live) = armed.zip(live).with_context(|| format!("no times in {held:?}"))?;
    // A round may begin before midnight and end after it.
    let day = 24 * 3_600 * 1_000;
    Ok(Duration::from_millis((live + day - armed) % day))
}

/// The time of day of `2026-11-22T13:40:00.123Z`.
fn millis_of_day(text: &str) -> Option<u64> {
    let time = text.split('T').nth(1)?.trim_end_matches('Z');
    let (seconds, millis) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = seconds.split(':').map(str::parse::<u64>);
    let mut next = || parts.next()?.ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let millis: u64 = millis.parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_across_midnight() {
        let held = |armed: &str, live: &str| Held {
            state: "live".to_owned(),
            armed_since: Some(armed.to_owned()),
            since: Some(live.to_owned()),
            walks: 1,
            tail: 1,
        };
        let check = |armed: &str, live: &str, expected: u64| {
            let took = armed_to_live(&held(armed, live)).expect("both are times");
            assert_eq!(took, Duration::from_millis(expected), "{armed} {live}");
        };
        check("2026-11-22T13:40:00.123Z", "2026-11-22T13:40:02.000Z", 1_877);
        check("2026-11-22T23:59:59.500Z", "2026-11-23T00:00:00.250Z", 750);
        assert!(armed_to_live(&held("x", "y")).is_err());
    }
}
