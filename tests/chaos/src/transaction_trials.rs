//! Trials of sources that read transactions: one fault each on three servers, with the gaps that it may leave.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bridge_servers::{ZOOKEEPER_NEWEST, eventually};
use tokio::time::sleep;
use zookeeper_client::{Client, EnsembleUpdate};

use crate::absence;
use crate::act::{Act, Cast, KEPT};
use crate::capture::Capture;
use crate::gardener::Gardener;
use crate::remains;
use crate::round;
use crate::work;

/// How long the servers may take for a change of their members.
const BOUND: Duration = Duration::from_secs(60);

/// Longer than the leader waits for an acknowledgement of a ping, so that it gives the bridge up.
const FROZEN: Duration = Duration::from_secs(6);

/// A fault with its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    ShortAbsence,
    LongAbsence,
    FrozenBridge,
    StoppedLeader,
    OtherMembers,
}

const TRIALS: [(Trial, &str); 5] = [
    (Trial::ShortAbsence, "absence-of-400-transactions"),
    (Trial::FrozenBridge, "frozen-bridge"),
    (Trial::StoppedLeader, "stopped-leader"),
    (Trial::OtherMembers, "other-members"),
    (Trial::LongAbsence, "absence-of-5000-transactions"),
];

/// Plays every trial, one after the other on the same servers, and prints a line for each. Returns how many there were.
///
/// # Errors
///
/// If there is a gap or a complaint that is not expected, with the folder of the files; or if something cannot be started.
pub async fn play(capture: Capture, program: &Path, kept: &Path) -> Result<usize> {
    let cast = Cast {
        version: ZOOKEEPER_NEWEST,
        servers: 3,
        width: 0,
        capture,
        reads_log: false,
    };
    let mut act = Box::pin(Act::open(cast, program, "")).await?;
    act.bridge.ready().await?;
    let mut gaps = 0;
    for (trial, name) in TRIALS {
        let complaints = match Box::pin(judged(trial, &mut act, &mut gaps)).await {
            Ok(complaints) => complaints,
            Err(error) => vec![format!("{error:#}")],
        };
        if !complaints.is_empty() {
            let name = format!("trial-{}-{name}", capture.name());
            let folder = remains::keep(&act, kept, &name, &complaints)?;
            let shown: Vec<&str> = complaints.iter().take(20).map(String::as_str).collect();
            bail!(
                "{name}: {}\nall of it is kept in {}",
                shown.join("\n"),
                folder.display()
            );
        }
        println!(
            "trial {name} with capture = {:?}: the verdict is as expected",
            capture.name()
        );
    }
    Ok(TRIALS.len())
}

async fn judged(trial: Trial, act: &mut Act, gaps: &mut usize) -> Result<Vec<String>> {
    befall(trial, act).await?;
    let (account, mut complaints) = round::accounted(act).await?;
    let account = account.context("a source that reads transactions has an account")?;
    let new = account.gaps - std::mem::replace(gaps, account.gaps);
    // These leaders have no more than 500 transactions for those who come back.
    let expected = usize::from(trial == Trial::LongAbsence && act.cast.capture == Capture::Observer);
    if new != expected {
        complaints.push(format!("{new} gaps, expected {expected}: {account}"));
    }
    Ok(complaints)
}

async fn befall(trial: Trial, act: &mut Act) -> Result<()> {
    match trial {
        Trial::ShortAbsence => be_absent(act, absence::SHORT).await,
        Trial::LongAbsence => be_absent(act, absence::LONG).await,
        Trial::FrozenBridge => {
            act.bridge.pause()?;
            let connect = act.zookeeper.connect_string();
            let written = absence::write(&connect, KEPT, absence::SHORT).await;
            ensure!(written == absence::SHORT, "only {written} writes were taken");
            sleep(FROZEN).await;
            act.bridge.resume()
        }
        Trial::StoppedLeader => {
            let leader = act.zookeeper.leader().await?;
            act.zookeeper.stop(leader).await?;
            act.zookeeper.leader().await?;
            let gardener = Gardener::connect(&act.zookeeper.connect_string()).await?;
            gardener.mark(&act.roots[0], 1_000).await?;
            act.zookeeper.restart(leader).await?;
            Ok(())
        }
        Trial::OtherMembers => change_members(act).await,
    }
}

async fn be_absent(act: &mut Act, writes: usize) -> Result<()> {
    let written = absence::pass(&mut act.bridge, &act.zookeeper, KEPT, writes).await?;
    ensure!(written == writes, "only {written} of {writes} writes were taken");
    Ok(())
}

/// A follower leaves the ensemble and joins it again, while others write.
async fn change_members(act: &mut Act) -> Result<()> {
    let gardener = Gardener::connect(&act.zookeeper.connect_string()).await?;
    let leader = act.zookeeper.leader().await?;
    let follower = (0..act.zookeeper.count())
        .find(|server| *server != leader)
        .context("there is a follower")?;
    let client = work::connect(&act.zookeeper.client_addr(leader).to_string()).await?;
    let id = (follower + 1).to_string();
    let line = member(&client, &id, act.zookeeper.client_port(follower)).await?;
    let (nobody, leavings, joinings): (&[&str], _, _) = (&[], [id.as_str()], [line.as_str()]);
    let leaving = EnsembleUpdate::Incremental {
        joinings: nobody.iter().copied(),
        leavings: leavings.iter().copied(),
    };
    client.update_ensemble(leaving, None).await?;
    gardener.mark(&act.roots[0], 1_001).await?;
    // The leader takes a member only once it is connected to it and up to date.
    let joined = eventually("the follower as a member again", BOUND, || async {
        let update = EnsembleUpdate::Incremental {
            joinings: joinings.iter().copied(),
            leavings: nobody.iter().copied(),
        };
        client.update_ensemble(update, None).await.is_ok()
    });
    joined.await?;
    gardener.mark(&act.roots[0], 1_002).await?;
    Ok(())
}

/// The line of a member in the configuration of the ensemble, with its port for clients, which a member that joins needs.
async fn member(client: &Client, id: &str, client_port: u16) -> Result<String> {
    let (configuration, _) = client.get_config().await?;
    let text = String::from_utf8_lossy(&configuration).into_owned();
    let begin = format!("server.{id}=");
    let line = text.lines().find(|line| line.starts_with(&begin));
    let line = line.with_context(|| format!("no {begin} in {text:?}"))?;
    Ok(match line.contains(';') {
        true => line.to_owned(),
        false => format!("{line};127.0.0.1:{client_port}"),
    })
}
