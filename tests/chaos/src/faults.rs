//! Injects random faults: into the servers and their network, and at the same time into the bridge and Kafka. Each fault
//! begins, lasts and ends; which faults meet is left to chance.

use std::time::Duration;

use anyhow::Result;
use bridge_judge::truth::cut_torn_record;
use bridge_servers::{Direction, Kafka, Proxy, ZooKeeper};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::{Instant, sleep};

use crate::bridge::Bridge;
use crate::bridge_absence;
use crate::operation_counts::OperationCounts;
use crate::testbed::KEPT;

/// Session timeout of the bridge: short and long faults are measured by it.
pub const SESSION: Duration = Duration::from_secs(2);
/// A fault that a session survives, and one that it does not.
const SHORT_MS: std::ops::Range<u64> = 20..1_200;
const LONG_MS: std::ops::Range<u64> = 2_500..4_500;
/// Between two faults.
const PAUSE_MS: std::ops::Range<u64> = 200..4_000;
/// How long every chunk of bytes takes in a slow network.
const SLOW: Duration = Duration::from_millis(40);
/// Bytes after which a connection breaks in the middle of a message.
const BYTES_MAX: u64 = 20_000;
/// How long the bridge may take to end in order before it is killed.
const TERMINATE_BOUND: Duration = Duration::from_secs(4);

/// The faults of the servers and their network.
#[derive(Clone, Copy, Debug)]
enum EnsembleFault {
    KillServer,
    KillLeader,
    StopLeader,
    PauseServer,
    PauseLeader,
    KillAll,
    CutShort,
    CutLong,
    CutOne,
    DarkShort,
    DarkLong,
    DeafBridge,
    MuteBridge,
    Slow,
    Break,
}

const ENSEMBLE_FAULTS: [(EnsembleFault, &str); 15] = [
    (EnsembleFault::KillServer, "server killed"),
    (EnsembleFault::KillLeader, "leader killed"),
    (EnsembleFault::StopLeader, "leader stopped"),
    (EnsembleFault::PauseServer, "server frozen"),
    (EnsembleFault::PauseLeader, "leader frozen"),
    (EnsembleFault::KillAll, "all servers killed"),
    (EnsembleFault::CutShort, "network cut shortly"),
    (EnsembleFault::CutLong, "network cut beyond the session"),
    (EnsembleFault::CutOne, "way to one server cut"),
    (EnsembleFault::DarkShort, "network dark shortly"),
    (EnsembleFault::DarkLong, "network dark beyond the session"),
    (EnsembleFault::DeafBridge, "answers lost"),
    (EnsembleFault::MuteBridge, "requests lost"),
    (EnsembleFault::Slow, "network slow"),
    (EnsembleFault::Break, "connection broken inside a message"),
];

/// The faults of the bridge and its destination.
#[derive(Clone, Copy, Debug)]
enum BridgeFault {
    KillBridge,
    KillBridgeSoonAgain,
    TerminateBridge,
    FreezeBridgeShort,
    FreezeBridgeLong,
    KillKafka,
    FreezeKafka,
    CutKafka,
    DarkKafka,
    SlowKafka,
    AbsentShort,
    AbsentLong,
}

const BRIDGE_FAULTS: [(BridgeFault, &str); 12] = [
    (BridgeFault::KillBridge, "bridge killed"),
    (BridgeFault::KillBridgeSoonAgain, "bridge killed while it starts"),
    (BridgeFault::TerminateBridge, "bridge terminated"),
    (BridgeFault::FreezeBridgeShort, "bridge frozen shortly"),
    (BridgeFault::FreezeBridgeLong, "bridge frozen beyond the session"),
    (BridgeFault::KillKafka, "kafka killed"),
    (BridgeFault::FreezeKafka, "kafka frozen"),
    (BridgeFault::CutKafka, "way to kafka cut"),
    (BridgeFault::DarkKafka, "way to kafka dark"),
    (BridgeFault::SlowKafka, "way to kafka slow"),
    (BridgeFault::AbsentShort, "bridge absent for 400 writes"),
    (BridgeFault::AbsentLong, "bridge absent for 5000 writes"),
];

/// The servers on which the faults of the bridge and its destination act.
pub struct BridgeFaultTargets<'a> {
    pub kafka: &'a Kafka,
    pub zookeeper: &'a ZooKeeper,
    /// Whether the bridge is absent for many writes: a gap of a watch shows nothing of them.
    pub has_absences: bool,
}

fn within(random: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

/// Injects faults into the servers and their network until the deadline. Everything serves again when it returns.
pub async fn inject_ensemble_faults(
    zookeeper: &ZooKeeper,
    proxies: &[Proxy],
    random: &mut StdRng,
    deadline: Instant,
) -> Result<OperationCounts> {
    let mut counts = OperationCounts::default();
    while Instant::now() < deadline {
        let (fault, name) = *ENSEMBLE_FAULTS.choose(random).expect("there are faults");
        // Alone, a server is its own leader, and the way to one is the way to all.
        let is_double = matches!(
            fault,
            EnsembleFault::KillLeader
                | EnsembleFault::StopLeader
                | EnsembleFault::PauseLeader
                | EnsembleFault::KillAll
                | EnsembleFault::CutOne
        );
        if zookeeper.count() == 1 && is_double {
            continue;
        }
        counts.count(name);
        inject_ensemble_fault(fault, zookeeper, proxies, random).await?;
        sleep(within(random, PAUSE_MS)).await;
    }
    Ok(counts)
}

async fn inject_ensemble_fault(
    fault: EnsembleFault,
    zookeeper: &ZooKeeper,
    proxies: &[Proxy],
    random: &mut StdRng,
) -> Result<()> {
    let server = random.random_range(0..zookeeper.count());
    let (short, long) = (within(random, SHORT_MS), within(random, LONG_MS));
    match fault {
        EnsembleFault::KillServer => kill(zookeeper, &[server], short).await?,
        EnsembleFault::KillLeader => kill(zookeeper, &[zookeeper.leader().await?], short).await?,
        EnsembleFault::StopLeader => {
            let leader = zookeeper.leader().await?;
            zookeeper.stop(leader).await?;
            sleep(short).await;
            zookeeper.launch(leader)?;
        }
        EnsembleFault::PauseServer => freeze(zookeeper, server, long).await?,
        EnsembleFault::PauseLeader => freeze(zookeeper, zookeeper.leader().await?, long).await?,
        EnsembleFault::KillAll => kill(zookeeper, &[0, 1, 2], short).await?,
        EnsembleFault::Break => {
            let way = *[Direction::ToServer, Direction::ToClient]
                .choose(random)
                .expect("two ways");
            for proxy in proxies {
                proxy.reset_after(way, random.random_range(0..BYTES_MAX)).await?;
            }
        }
        _ => {
            let is_hit =
                |at: usize| !matches!(fault, EnsembleFault::CutOne) || at % zookeeper.count() == server;
            let hit = proxies.iter().enumerate().filter(|(at, _)| is_hit(*at));
            let hit: Vec<&Proxy> = hit.map(|(_, proxy)| proxy).collect();
            for proxy in &hit {
                match fault {
                    EnsembleFault::CutShort | EnsembleFault::CutLong | EnsembleFault::CutOne => {
                        proxy.cut().await?
                    }
                    EnsembleFault::DeafBridge => proxy.one_way(Direction::ToClient).await?,
                    EnsembleFault::MuteBridge => proxy.one_way(Direction::ToServer).await?,
                    EnsembleFault::Slow => proxy.slow(SLOW).await?,
                    _ => proxy.dark().await?,
                }
            }
            let is_short = matches!(fault, EnsembleFault::CutShort | EnsembleFault::DarkShort);
            sleep(if is_short { short } else { long }).await;
            for proxy in hit {
                proxy.restore().await?;
            }
        }
    }
    Ok(())
}

async fn kill(zookeeper: &ZooKeeper, servers: &[usize], lasting: Duration) -> Result<()> {
    for server in servers {
        zookeeper.kill(*server);
    }
    sleep(lasting).await;
    for server in servers {
        let data = zookeeper.data_dir(*server);
        if cut_torn_record(&data).map_err(anyhow::Error::msg)? {
            println!("server {server} was killed in the middle of a write: what it wrote of it is cut off");
        }
        zookeeper.launch(*server)?;
    }
    Ok(())
}

async fn freeze(zookeeper: &ZooKeeper, server: usize, lasting: Duration) -> Result<()> {
    zookeeper.launch(server)?;
    zookeeper.pause(server)?;
    sleep(lasting).await;
    zookeeper.resume(server)?;
    Ok(())
}

/// Injects faults into the bridge and Kafka until the deadline.
pub async fn inject_bridge_faults(
    bridge: &mut Bridge,
    targets: &BridgeFaultTargets<'_>,
    random: &mut StdRng,
    deadline: Instant,
) -> Result<OperationCounts> {
    let mut counts = OperationCounts::default();
    while Instant::now() < deadline {
        let (fault, name) = *BRIDGE_FAULTS.choose(random).expect("there are faults");
        if matches!(fault, BridgeFault::AbsentShort | BridgeFault::AbsentLong) && !targets.has_absences {
            continue;
        }
        counts.count(name);
        inject_bridge_fault(fault, bridge, targets, random).await?;
        bridge.check_running()?;
        sleep(within(random, PAUSE_MS)).await;
    }
    Ok(counts)
}

async fn inject_bridge_fault(
    fault: BridgeFault,
    bridge: &mut Bridge,
    targets: &BridgeFaultTargets<'_>,
    random: &mut StdRng,
) -> Result<()> {
    let BridgeFaultTargets { kafka, zookeeper, .. } = *targets;
    let (short, long) = (within(random, SHORT_MS), within(random, LONG_MS));
    match fault {
        BridgeFault::KillBridge => {
            bridge.kill().await?;
            sleep(short).await;
            bridge.launch()?;
        }
        BridgeFault::KillBridgeSoonAgain => {
            for _ in 0..3 {
                bridge.kill().await?;
                bridge.launch()?;
                sleep(within(random, SHORT_MS)).await;
            }
        }
        BridgeFault::TerminateBridge => {
            bridge.terminate(TERMINATE_BOUND).await?;
            sleep(short).await;
            bridge.launch()?;
        }
        BridgeFault::FreezeBridgeShort | BridgeFault::FreezeBridgeLong => {
            bridge.pause()?;
            let is_short = matches!(fault, BridgeFault::FreezeBridgeShort);
            sleep(if is_short { short } else { long }).await;
            bridge.resume()?;
        }
        BridgeFault::KillKafka => {
            kafka.kill();
            sleep(short).await;
            kafka.restart().await?;
        }
        BridgeFault::FreezeKafka => {
            kafka.pause()?;
            sleep(long).await;
            kafka.resume()?;
        }
        BridgeFault::CutKafka => lasting(kafka, kafka.proxy().cut(), short).await?,
        BridgeFault::DarkKafka => lasting(kafka, kafka.proxy().dark(), long).await?,
        BridgeFault::SlowKafka => lasting(kafka, kafka.proxy().slow(SLOW), long).await?,
        BridgeFault::AbsentShort => {
            bridge_absence::during_writes(bridge, zookeeper, KEPT, bridge_absence::SHORT).await?;
        }
        BridgeFault::AbsentLong => {
            bridge_absence::during_writes(bridge, zookeeper, KEPT, bridge_absence::LONG).await?;
        }
    }
    Ok(())
}

async fn lasting(
    kafka: &Kafka,
    fault: impl Future<Output = bridge_servers::Result<()>>,
    time: Duration,
) -> Result<()> {
    fault.await?;
    sleep(time).await;
    Ok(kafka.proxy().restore().await?)
}
