//! Moving the bytes of one connection, as the state of the network allows.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::frames::{Frames, Hearing, Sifted};
use super::hostile::Hostility;
use super::{Counts, Direction};

/// Small enough that a hold takes effect soon, large enough to be fast.
const CHUNK: usize = 16 * 1024;

/// The state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Open,
    Held,
    Dark,
    /// Only watch events of ZooKeeper are dropped.
    Deaf,
    /// Of ZooKeeper's answers only those to pings pass, and those that open a session.
    Silent,
    /// The bytes of this direction are dropped.
    OneWay(Direction),
    /// Every chunk takes so much longer.
    Slow(Duration),
    /// The server's answers are attacked, as this seed decides.
    Hostile(u64),
}

/// Blows after so many bytes in one direction.
#[derive(Debug, Default)]
pub(super) struct Fuse {
    armed: Mutex<Option<(Direction, u64)>>,
}

impl Fuse {
    pub(super) fn arm(&self, direction: Direction, bytes: u64) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some((direction, bytes));
    }

    /// The number of `wanted` bytes that may pass, and whether the fuse blows after them.
    fn pass(&self, direction: Direction, wanted: usize) -> (usize, Blown) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        match *armed {
            Some((guarded, left)) if guarded == direction => {
                let passed = usize::try_from(left).map_or(wanted, |left| left.min(wanted));
                let left = left - passed as u64;
                *armed = (left > 0).then_some((guarded, left));
                (passed, if left == 0 { Blown::Yes } else { Blown::No })
            }
            _ => (wanted, Blown::No),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Blown {
    Yes,
    No,
}

/// The state of the network for a connection.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// Among all connections of the proxy.
    number: u64,
    flow: watch::Receiver<Flow>,
    fuse: Arc<Fuse>,
    counts: Arc<Counts>,
}

impl Lane {
    pub(super) fn new(
        number: u64,
        flow: &watch::Sender<Flow>,
        fuse: &Arc<Fuse>,
        counts: &Arc<Counts>,
    ) -> Self {
        Self {
            number,
            flow: flow.subscribe(),
            fuse: Arc::clone(fuse),
            counts: Arc::clone(counts),
        }
    }

    /// A connection during a blackout never reaches the server; returns when the client gives up.
    pub(super) async fn swallow_if_dark(&mut self, client: &mut TcpStream) -> io::Result<bool> {
        if *self.flow.borrow_and_update() != Flow::Dark {
            return Ok(false);
        }
        tokio::io::copy(client, &mut tokio::io::sink()).await?;
        Ok(true)
    }

    /// Moves bytes both ways until both sides have closed, or one fails.
    pub(super) async fn exchange(self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let back = self.clone();
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let requests = self.pump(Direction::ToServer, client_read, server_write);
        let replies = back.pump(Direction::ToClient, server_read, client_write);
        tokio::try_join!(requests, replies).map(drop)
    }

    async fn pump(mut self, way: Direction, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut frames = Frames::default();
        let mut hostility = None;
        loop {
            self.not_held().await?;
            let read = tokio::select! {
                biased;
                _ = self.flow.changed() => continue,
                read = from.read(&mut chunk) => read?,
            };
            // A hold may have come with the bytes.
            let flow = self.not_held().await?;
            let is_lost = flow == Flow::Dark || flow == Flow::OneWay(way);
            match (flow, read) {
                (_, 0) if is_lost => return std::future::pending().await,
                _ if is_lost => {}
                (_, 0) => return to.shutdown().await,
                (Flow::Hostile(seed), read) if way == Direction::ToClient => {
                    let hostility = hostility.get_or_insert_with(|| Hostility::new(seed, self.number));
                    hostility
                        .send(&chunk[..read], &mut to, &self.counts.attacks)
                        .await?;
                }
                (flow, read) => {
                    if let Flow::Slow(delay) = flow {
                        tokio::time::sleep(delay).await;
                    }
                    let sifted = sift(&mut frames, way, flow, &chunk[..read]);
                    self.counts.unheard.fetch_add(sifted.events, Ordering::Relaxed);
                    self.forward(way, &sifted.bytes, &mut to).await?;
                }
            }
        }
    }

    async fn not_held(&mut self) -> io::Result<Flow> {
        let flow = self.flow.wait_for(|flow| *flow != Flow::Held).await;
        flow.map(|flow| *flow)
            .map_err(|_| io::ErrorKind::ConnectionReset.into())
    }

    async fn forward(&self, way: Direction, bytes: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        let (passed, blown) = self.fuse.pass(way, bytes.len());
        to.write_all(&bytes[..passed]).await?;
        self.counts.bytes(way).fetch_add(passed as u64, Ordering::Relaxed);
        match blown {
            Blown::Yes => Err(io::ErrorKind::ConnectionReset.into()),
            Blown::No => Ok(()),
        }
    }
}

/// Only servers send events.
fn sift(frames: &mut Frames, way: Direction, flow: Flow, bytes: &[u8]) -> Sifted {
    let hearing = match (way, flow) {
        (Direction::ToClient, Flow::Deaf) => Hearing::Deaf,
        (Direction::ToClient, Flow::Silent) => Hearing::PingsAlone,
        _ => Hearing::Sound,
    };
    frames.sift(bytes, hearing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuse_passes_exactly_its_bytes_and_blows_once() {
        let fuse = Fuse::default();
        fuse.arm(Direction::ToClient, 10);
        assert_eq!(fuse.pass(Direction::ToServer, 100), (100, Blown::No));
        assert_eq!(fuse.pass(Direction::ToClient, 6), (6, Blown::No));
        assert_eq!(fuse.pass(Direction::ToClient, 6), (4, Blown::Yes));
        assert_eq!(fuse.pass(Direction::ToClient, 6), (6, Blown::No));
    }
}
