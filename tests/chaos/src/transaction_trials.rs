//! Trials of sources that read transactions: one fault each on three servers, with the gaps that it may leave.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bridge_servers::{ZOOKEEPER_NEWEST, eventually};
use tokio::time::sleep;
use zookeeper_client::{Client, EnsembleUpdate};

use crate::bridge_absence;
use crate::capture::Capture;
use crate::failure_files;
use crate::round;
use crate::testbed::{KEPT, Testbed, TestbedOptions};
use crate::tree_admin::TreeAdmin;
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
    let options = TestbedOptions {
        version: ZOOKEEPER_NEWEST,
        servers: 3,
        width: 0,
        capture,
        reads_log: false,
    };
    let mut testbed = Box::pin(Testbed::open(options, program, "")).await?;
    testbed.bridge.ready().await?;
    let mut gaps = 0;
    for (trial, name) in TRIALS {
        let complaints = match Box::pin(judged(trial, &mut testbed, &mut gaps)).await {
            Ok(complaints) => complaints,
            Err(error) => vec![format!("{error:#}")],
        };
        if !complaints.is_empty() {
            let name = format!("trial-{}-{name}", capture.name());
            let folder = failure_files::keep(&testbed, kept, &name, &complaints)?;
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

async fn judged(trial: Trial, testbed: &mut Testbed, gaps: &mut usize) -> Result<Vec<String>> {
    inject(trial, testbed).await?;
    let (account, mut complaints) = round::accounted(testbed).await?;
    let account = account.context("a source that reads transactions has an account")?;
    let new = account.gaps - std::mem::replace(gaps, account.gaps);
    // These leaders have no more than 500 transactions for those who come back.
    let expected = usize::from(trial == Trial::LongAbsence && testbed.options.capture == Capture::Observer);
    if new != expected {
        complaints.push(format!("{new} gaps, expected {expected}: {account}"));
    }
    Ok(complaints)
}

async fn inject(trial: Trial, testbed: &mut Testbed) -> Result<()> {
    match trial {
        Trial::ShortAbsence => be_absent(testbed, bridge_absence::SHORT).await,
        Trial::LongAbsence => be_absent(testbed, bridge_absence::LONG).await,
        Trial::FrozenBridge => {
            testbed.bridge.pause()?;
            let connect = testbed.zookeeper.connect_string();
            let written = bridge_absence::write(&connect, KEPT, bridge_absence::SHORT).await;
            ensure!(
                written == bridge_absence::SHORT,
                "only {written} writes were taken"
            );
            sleep(FROZEN).await;
            testbed.bridge.resume()
        }
        Trial::StoppedLeader => {
            let leader = testbed.zookeeper.leader().await?;
            testbed.zookeeper.stop(leader).await?;
            testbed.zookeeper.leader().await?;
            let tree_admin = TreeAdmin::connect(&testbed.zookeeper.connect_string()).await?;
            tree_admin.mark(&testbed.roots[0], 1_000).await?;
            testbed.zookeeper.restart(leader).await?;
            Ok(())
        }
        Trial::OtherMembers => change_members(testbed).await,
    }
}

async fn be_absent(testbed: &mut Testbed, writes: usize) -> Result<()> {
    let written =
        bridge_absence::during_writes(&mut testbed.bridge, &testbed.zookeeper, KEPT, writes).await?;
    ensure!(written == writes, "only {written} of {writes} writes were taken");
    Ok(())
}

/// A follower leaves the ensemble and joins it again, while others write.
async fn change_members(testbed: &mut Testbed) -> Result<()> {
    let tree_admin = TreeAdmin::connect(&testbed.zookeeper.connect_string()).await?;
    let leader = testbed.zookeeper.leader().await?;
    let follower = (0..testbed.zookeeper.count())
        .find(|server| *server != leader)
        .context("there is a follower")?;
    let client = work::connect(&testbed.zookeeper.client_addr(leader).to_string()).await?;
    let id = (follower + 1).to_string();
    let line = member(&client, &id, testbed.zookeeper.client_port(follower)).await?;
    let (nobody, leavings, joinings): (&[&str], _, _) = (&[], [id.as_str()], [line.as_str()]);
    let leaving = EnsembleUpdate::Incremental {
        joinings: nobody.iter().copied(),
        leavings: leavings.iter().copied(),
    };
    client.update_ensemble(leaving, None).await?;
    tree_admin.mark(&testbed.roots[0], 1_001).await?;
    // The leader takes a member only once it is connected to it and up to date.
    let joined = eventually("the follower as a member again", BOUND, || async {
        let update = EnsembleUpdate::Incremental {
            joinings: joinings.iter().copied(),
            leavings: nobody.iter().copied(),
        };
        client.update_ensemble(update, None).await.is_ok()
    });
    joined.await?;
    tree_admin.mark(&testbed.roots[0], 1_002).await?;
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
