//! A faulty network: a TCP proxy that a test cuts, freezes and darkens at will.
//!
//! ```text
//! client ──▶ Proxy::addr() ──[flow]──▶ target        what the client sees
//!            flowing                                 the server
//!            hold()                                  a silent network; nothing is lost, `release` lets it go on
//!            dark()                                  a half-open connection; what is sent is lost
//!            one_way(direction)                      the same in one direction; the other way bytes pass
//!            deaf()                                  a watch that died in silence: events of ZooKeeper are lost
//!            silent()                                  a server that answers pings and no request
//!            slow(delay)                             every chunk takes so much longer; nothing is lost
//!            hostile(seed)                           answers that are cut, changed, endless or replaced
//!            cut()                                   connection reset, then connection refused
//!            reset_connections()                     connection reset, and the next attempt succeeds
//!            reset_after(direction, bytes)           a connection reset in the middle of a message
//! ```
//!
//! One task owns the listener and all connections; a method has taken effect when its future is done.

mod frames;
mod gate;
mod hostile;
mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::gate::{Gate, Order};
use self::hostile::Attacks;
use crate::ports::Port;
use crate::{Error, Result};

/// One way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client: requests.
    ToServer,
    /// From the server: replies and events.
    ToClient,
}

/// The bytes that have passed so far.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    unheard: AtomicU64,
    attacks: Attacks,
}

impl Counts {
    fn bytes(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

/// A TCP proxy on a free loopback port. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    orders: mpsc::Sender<(Order, oneshot::Sender<Result<()>>)>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before `target`, which need not listen yet.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let port = Port::reserve()?;
        let counts = Arc::new(Counts::default());
        let gate = Gate::open(port.addr(), target, Arc::clone(&counts)).await?;
        let (orders, obeyed) = mpsc::channel(1);
        let task = tokio::spawn(gate.run(obeyed));
        Ok(Self {
            port,
            orders,
            counts,
            task,
        })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// How many connections were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// How many bytes were ever forwarded that way.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.counts.bytes(direction).load(Ordering::Relaxed)
    }

    /// How many watch events of ZooKeeper were ever lost in [`Proxy::deaf`].
    pub fn unheard(&self) -> u64 {
        self.counts.unheard.load(Ordering::Relaxed)
    }

    /// Resets all connections and refuses new ones, until [`Proxy::restore`].
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn cut(&self) -> Result<()> {
        self.order(Order::Cut).await
    }

    /// Resets the present connections; new ones are served as before.
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn reset_connections(&self) -> Result<()> {
        self.order(Order::ResetConnections).await
    }

    /// Forwards nothing more, either way, and keeps the connections open, until [`Proxy::release`]. Nothing is lost.
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn hold(&self) -> Result<()> {
        self.order(Order::Hold).await
    }

    /// Ends a [`Proxy::hold`].
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn release(&self) -> Result<()> {
        self.restore().await
    }

    /// Takes connections and bytes, forwards none and answers nothing, until [`Proxy::restore`].
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn dark(&self) -> Result<()> {
        self.order(Order::Dark).await
    }

    /// Forwards everything but the watch events of ZooKeeper, which are lost, until [`Proxy::restore`]. Connections live
    /// on.
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn deaf(&self) -> Result<()> {
        self.order(Order::Deaf).await
    }

    /// Forwards of ZooKeeper's answers only those to pings, and those that open a session, until [`Proxy::restore`].
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn silent(&self) -> Result<()> {
        self.order(Order::Silent).await
    }

    /// Drops the bytes of one direction and forwards the other, until [`Proxy::restore`].
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn one_way(&self, lost: Direction) -> Result<()> {
        self.order(Order::OneWay(lost)).await
    }

    /// Delays every chunk, of 16 KiB at most, both ways, until [`Proxy::restore`]. Nothing is lost.
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn slow(&self, delay: Duration) -> Result<()> {
        self.order(Order::Slow(delay)).await
    }

    /// Attacks the server's answers on connections from now on, and on those that are open: each is cut, changed, repeated,
    /// dripped or replaced, as the seed decides, until [`Proxy::restore`].
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn hostile(&self, seed: u64) -> Result<()> {
        self.order(Order::Hostile(seed)).await
    }

    /// How often each kind of attack was ever made in [`Proxy::hostile`].
    pub fn attacks(&self) -> Vec<(String, u64)> {
        self.counts.attacks.counted()
    }

    /// Restores the network. Connections that lost bytes are reset, others continue.
    ///
    /// # Errors
    ///
    /// If the port cannot be bound again, or the proxy's runtime has ended.
    pub async fn restore(&self) -> Result<()> {
        self.order(Order::Restore).await
    }

    /// Sends later connections to another server; existing ones stay.
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn retarget(&self, target: SocketAddr) -> Result<()> {
        self.order(Order::Retarget(target)).await
    }

    /// Lets `bytes` more through in that direction, over all connections, and then resets the connection that carried
    /// the last one. With 0, the next message that way is lost with its connection. Once; a later call replaces it.
    ///
    /// # Errors
    ///
    /// If the proxy's runtime has ended.
    pub async fn reset_after(&self, direction: Direction, bytes: u64) -> Result<()> {
        self.order(Order::ResetAfter(direction, bytes)).await
    }

    async fn order(&self, order: Order) -> Result<()> {
        let ended = || Error::ProxyEnded { addr: self.addr() };
        let (obeyed, done) = oneshot::channel();
        self.orders.send((order, obeyed)).await.map_err(|_| ended())?;
        done.await.map_err(|_| ended())?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
