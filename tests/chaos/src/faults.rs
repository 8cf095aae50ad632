//! Faults at random: two hands shake at the same time, one the servers and the network before them, the other the
//! bridge and Kafka. Each fault is begun, lasts and is ended; how it ends up with others is left to chance.

use std::time::Duration;

use anyhow::Result;
use bridge_judge::truth::cut_torn_record;
use bridge_servers::{Direction, Kafka, Proxy, ZooKeeper};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::{Instant, sleep};

use crate::absence;
use crate::act::KEPT;
use crate::bridge::Bridge;
use crate::tally::Tally;

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
enum Outside {
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

const OUTSIDE: [(Outside, &str); 15] = [
    (Outside::KillServer, "server killed"),
    (Outside::KillLeader, "leader killed"),
    (Outside::StopLeader, "leader stopped"),
    (Outside::PauseServer, "server frozen"),
    (Outside::PauseLeader, "leader frozen"),
    (Outside::KillAll, "all servers killed"),
    (Outside::CutShort, "network cut shortly"),
    (Outside::CutLong, "network cut beyond the session"),
    (Outside::CutOne, "way to one server cut"),
    (Outside::DarkShort, "network dark shortly"),
    (Outside::DarkLong, "network dark beyond the session"),
    (Outside::DeafBridge, "answers lost"),
    (Outside::MuteBridge, "requests lost"),
    (Outside::Slow, "network slow"),
    (Outside::Break, "connection broken inside a message"),
];

/// The faults of the bridge and its destination.
#[derive(Clone, Copy, Debug)]
enum Inside {
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

const INSIDE: [(Inside, &str); 12] = [
    (Inside::KillBridge, "bridge killed"),
    (Inside::KillBridgeSoonAgain, "bridge killed while it starts"),
    (Inside::TerminateBridge, "bridge terminated"),
    (Inside::FreezeBridgeShort, "bridge frozen shortly"),
    (Inside::FreezeBridgeLong, "bridge frozen beyond the session"),
    (Inside::KillKafka, "kafka killed"),
    (Inside::FreezeKafka, "kafka frozen"),
    (Inside::CutKafka, "way to kafka cut"),
    (Inside::DarkKafka, "way to kafka dark"),
    (Inside::SlowKafka, "way to kafka slow"),
    (Inside::AbsentShort, "bridge absent for 400 writes"),
    (Inside::AbsentLong, "bridge absent for 5000 writes"),
];

/// What the faults of the bridge and its destination need besides the bridge.
pub struct Hand<'a> {
    pub kafka: &'a Kafka,
    pub zookeeper: &'a ZooKeeper,
    /// Whether the bridge is absent for many writes: a gap of a watch shows nothing of them.
    pub has_absences: bool,
}

fn within(random: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

/// Shakes the servers and their network until the deadline; everything serves again when this is done.
pub async fn shake_outside(
    zookeeper: &ZooKeeper,
    proxies: &[Proxy],
    random: &mut StdRng,
    deadline: Instant,
) -> Result<Tally> {
    let mut tally = Tally::default();
    while Instant::now() < deadline {
        let (fault, name) = *OUTSIDE.choose(random).expect("there are faults");
        // Alone, a server is its own leader, and the way to one is the way to all.
        let is_double = matches!(
            fault,
            Outside::KillLeader
                | Outside::StopLeader
                | Outside::PauseLeader
                | Outside::KillAll
                | Outside::CutOne
        );
        if zookeeper.count() == 1 && is_double {
            continue;
        }
        tally.count(name);
        befall_outside(fault, zookeeper, proxies, random).await?;
        sleep(within(random, PAUSE_MS)).await;
    }
    Ok(tally)
}

async fn befall_outside(
    fault: Outside,
    zookeeper: &ZooKeeper,
    proxies: &[Proxy],
    random: &mut StdRng,
) -> Result<()> {
    let server = random.random_range(0..zookeeper.count());
    let (short, long) = (within(random, SHORT_MS), within(random, LONG_MS));
    match fault {
        Outside::KillServer => kill(zookeeper, &[server], short).await?,
        Outside::KillLeader => kill(zookeeper, &[zookeeper.leader().await?], short).await?,
        Outside::StopLeader => {
            let leader = zookeeper.leader().await?;
            zookeeper.stop(leader).await?;
            sleep(short).await;
            zookeeper.launch(leader)?;
        }
        Outside::PauseServer => freeze(zookeeper, server, long).await?,
        Outside::PauseLeader => freeze(zookeeper, zookeeper.leader().await?, long).await?,
        Outside::KillAll => kill(zookeeper, &[0, 1, 2], short).await?,
        Outside::Break => {
            let way = *[Direction::ToServer, Direction::ToClient]
                .choose(random)
                .expect("two ways");
            for proxy in proxies {
                proxy.reset_after(way, random.random_range(0..BYTES_MAX)).await?;
            }
        }
        _ => {
            let is_hit = |at: usize| !matches!(fault, Outside::CutOne) || at % zookeeper.count() == server;
            let hit = proxies.iter().enumerate().filter(|(at, _)| is_hit(*at));
            let hit: Vec<&Proxy> = hit.map(|(_, proxy)| proxy).collect();
            for proxy in &hit {
                match fault {
                    Outside::CutShort | Outside::CutLong | Outside::CutOne => proxy.cut().await?,
                    Outside::DeafBridge => proxy.one_way(Direction::ToClient).await?,
                    Outside::MuteBridge => proxy.one_way(Direction::ToServer).await?,
                    Outside::Slow => proxy.slow(SLOW).await?,
                    _ => proxy.dark().await?,
                }
            }
            let is_short = matches!(fault, Outside::CutShort | Outside::DarkShort);
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

/// Shakes the bridge and Kafka until the deadline.
pub async fn shake_inside(
    bridge: &mut Bridge,
    hand: &Hand<'_>,
    random: &mut StdRng,
    deadline: Instant,
) -> Result<Tally> {
    let mut tally = Tally::default();
    while Instant::now() < deadline {
        let (fault, name) = *INSIDE.choose(random).expect("there are faults");
        if matches!(fault, Inside::AbsentShort | Inside::AbsentLong) && !hand.has_absences {
            continue;
        }
        tally.count(name);
        befall_inside(fault, bridge, hand, random).await?;
        bridge.check_running()?;
        sleep(within(random, PAUSE_MS)).await;
    }
    Ok(tally)
}

async fn befall_inside(
    fault: Inside,
    bridge: &mut Bridge,
    hand: &Hand<'_>,
    random: &mut StdRng,
) -> Result<()> {
    let Hand { kafka, zookeeper, .. } = *hand;
    let (short, long) = (within(random, SHORT_MS), within(random, LONG_MS));
    match fault {
        Inside::KillBridge => {
            bridge.kill().await?;
            sleep(short).await;
            bridge.launch()?;
        }
        Inside::KillBridgeSoonAgain => {
            for _ in 0..3 {
                bridge.kill().await?;
                bridge.launch()?;
                sleep(within(random, SHORT_MS)).await;
            }
        }
        Inside::TerminateBridge => {
            bridge.terminate(TERMINATE_BOUND).await?;
            sleep(short).await;
            bridge.launch()?;
        }
        Inside::FreezeBridgeShort | Inside::FreezeBridgeLong => {
            bridge.pause()?;
            let is_short = matches!(fault, Inside::FreezeBridgeShort);
            sleep(if is_short { short } else { long }).await;
            bridge.resume()?;
        }
        Inside::KillKafka => {
            kafka.kill();
            sleep(short).await;
            kafka.restart().await?;
        }
        Inside::FreezeKafka => {
            kafka.pause()?;
            sleep(long).await;
            kafka.resume()?;
        }
        Inside::CutKafka => lasting(kafka, kafka.proxy().cut(), short).await?,
        Inside::DarkKafka => lasting(kafka, kafka.proxy().dark(), long).await?,
        Inside::SlowKafka => lasting(kafka, kafka.proxy().slow(SLOW), long).await?,
        Inside::AbsentShort => drop(absence::pass(bridge, zookeeper, KEPT, absence::SHORT).await?),
        Inside::AbsentLong => drop(absence::pass(bridge, zookeeper, KEPT, absence::LONG).await?),
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
