//! The task that owns the proxy's listener and connections, and obeys the test.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::pump::{Flow, Fuse, Lane};
use super::{Counts, Direction};
use crate::{Error, Result};

/// The orders of a test to the gate.
#[derive(Debug)]
pub(super) enum Order {
    Cut,
    Restore,
    ResetConnections,
    Hold,
    Dark,
    Deaf,
    Silent,
    OneWay(Direction),
    Slow(Duration),
    Hostile(u64),
    Retarget(SocketAddr),
    ResetAfter(Direction, u64),
}

/// Listener, connections and the state of the network.
pub(super) struct Gate {
    addr: SocketAddr,
    target: SocketAddr,
    /// `None` while cut.
    listener: Option<TcpListener>,
    connections: JoinSet<()>,
    flow: watch::Sender<Flow>,
    /// Counts the resets; a connection ends when it moves.
    resets: watch::Sender<u64>,
    fuse: Arc<Fuse>,
    counts: Arc<Counts>,
}

impl Gate {
    pub(super) async fn open(addr: SocketAddr, target: SocketAddr, counts: Arc<Counts>) -> Result<Self> {
        Ok(Self {
            addr,
            target,
            listener: Some(listen(addr).await?),
            connections: JoinSet::new(),
            flow: watch::Sender::new(Flow::Open),
            resets: watch::Sender::new(0),
            fuse: Arc::default(),
            counts,
        })
    }

    /// Serves until the orders end. Orders are handled before connections, so that a cut rejects later ones.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<(Order, oneshot::Sender<Result<()>>)>) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    // Nobody listening for the outcome is fine: the test gave up waiting.
                    Some((order, obeyed)) => drop(obeyed.send(self.obey(order).await)),
                    None => return,
                },
                Some(_) = self.connections.join_next() => {}
                accepted = accept(self.listener.as_ref()) => if let Ok(client) = accepted {
                    self.admit(client);
                },
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Cut => {
                self.listener = None;
                self.reset_connections().await;
            }
            Order::ResetConnections => self.reset_connections().await,
            Order::Hold => drop(self.flow.send_replace(Flow::Held)),
            Order::Dark => drop(self.flow.send_replace(Flow::Dark)),
            Order::Deaf => drop(self.flow.send_replace(Flow::Deaf)),
            Order::Silent => drop(self.flow.send_replace(Flow::Silent)),
            Order::OneWay(lost) => drop(self.flow.send_replace(Flow::OneWay(lost))),
            Order::Slow(delay) => drop(self.flow.send_replace(Flow::Slow(delay))),
            Order::Hostile(seed) => drop(self.flow.send_replace(Flow::Hostile(seed))),
            Order::Restore => self.restore().await?,
            Order::Retarget(target) => self.target = target,
            Order::ResetAfter(direction, bytes) => self.fuse.arm(direction, bytes),
        }
        Ok(())
    }

    async fn restore(&mut self) -> Result<()> {
        let before = self.flow.send_replace(Flow::Open);
        if matches!(
            before,
            Flow::Dark | Flow::Silent | Flow::OneWay(_) | Flow::Hostile(_)
        ) {
            self.reset_connections().await;
        }
        if self.listener.is_none() {
            self.listener = Some(listen(self.addr).await?);
        }
        Ok(())
    }

    /// Every connection sees the reset before this returns.
    async fn reset_connections(&mut self) {
        self.resets.send_modify(|resets| *resets += 1);
        while self.connections.join_next().await.is_some() {}
    }

    fn admit(&mut self, client: TcpStream) {
        let number = self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let lane = Lane::new(number, &self.flow, &self.fuse, &self.counts);
        let target = self.target;
        let mut resets = self.resets.subscribe();
        self.connections
            .spawn(async move { carry(client, target, lane, &mut resets).await });
    }
}

/// Carries one connection to its end, or resets it.
async fn carry(mut client: TcpStream, target: SocketAddr, lane: Lane, resets: &mut watch::Receiver<u64>) {
    let carried = tokio::select! {
        biased;
        _ = resets.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        carried = connect_and_exchange(&mut client, target, lane) => carried,
    };
    if carried.is_err() {
        // Closed at once and with RST, as a broken network would. If it fails the peer has closed already.
        let _ = client.set_zero_linger();
    }
}

async fn connect_and_exchange(client: &mut TcpStream, target: SocketAddr, mut lane: Lane) -> io::Result<()> {
    client.set_nodelay(true)?;
    if lane.swallow_if_dark(client).await? {
        return Ok(());
    }
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    lane.exchange(client, &mut server).await
}

async fn listen(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(Error::attempt(format!("listen on {addr}")))
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}
