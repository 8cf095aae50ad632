//! An address that answers no attempt to connect.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// An attempt that takes longer is not answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// More connections than the queue of a listener takes that was asked to take one.
const CONNECTIONS_MAX: usize = 64;

/// A listener whose queue is full: the system drops further attempts to connect, as a firewall would.
pub struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// At this address; port 0 means any.
    ///
    /// # Errors
    ///
    /// If the address is taken, or answers although the queue is full.
    pub async fn at(address: SocketAddr) -> io::Result<BlackHole> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(address)?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(PATIENCE, TcpStream::connect(address)).await {
            queued.push(connected?);
            if queued.len() > CONNECTIONS_MAX {
                return Err(io::Error::other(format!(
                    "{address} answers although its queue is full"
                )));
            }
        }
        Ok(BlackHole {
            address,
            _listener: listener,
            _queued: queued,
        })
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}
