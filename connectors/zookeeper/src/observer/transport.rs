//! Connects to a quorum port: TCP, encryption, and authentication before the first packet.
//!
//! A leader authenticates learners on the thread that accepts them, so that a connection that says nothing keeps
//! followers out. So the first bytes are sent as soon as the connection is made, and no connection is made to see
//! whether a port is open.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bridge_core::secret::Secret;
use bridge_transactions::quorum::{AuthPacket, PacketError, auth_packet, read_auth_packet};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use uuid::Uuid;

use super::digest_md5::{DigestError, answer};
use super::members::QuorumAddress;

/// Rounds of an authentication. DIGEST-MD5 has two.
const AUTH_ROUNDS_MAX: u32 = 8;

/// How a quorum port is reached.
#[derive(Clone)]
pub(super) struct Transport {
    /// For encrypted quorum ports.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// For quorum ports that require authentication.
    pub(super) sasl: Option<QuorumLogin>,
    /// For a connection.
    pub(super) connect_timeout: Duration,
    /// For a packet, until the leader has accepted the observer.
    pub(super) init_timeout: Duration,
}

/// A user of quorum authentication.
#[derive(Clone, Debug)]
pub(super) struct QuorumLogin {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// Why there is no conversation with a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    /// Nothing listens: a server that is not the leader does not open its quorum port.
    #[error("refuses the connection, as servers do that are not the leader")]
    Refused,
    /// The name has no address.
    #[error("its name cannot be resolved: {0}")]
    Name(io::Error),
    /// The connection failed otherwise.
    #[error("{0}")]
    Network(io::Error),
    /// The encryption failed.
    #[error("{0}")]
    Encryption(String),
    /// The authentication failed.
    #[error("{0}")]
    Authentication(String),
    /// The bridge is about to end.
    #[error("the connection was given up")]
    Stopped,
}

/// Ends a conversation from another thread.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    is_set: AtomicBool,
    socket: Mutex<Option<TcpStream>>,
}

impl Interrupt {
    /// Ends the conversation, now or as soon as it has a socket.
    pub(super) fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        self.close();
    }

    /// Closes the socket, if there is one. A leader must not fill a connection that nobody reads.
    pub(super) fn close(&self) {
        if let Some(socket) = self.socket().take() {
            // It may be closed already.
            let _closed = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    fn watch(&self, socket: &TcpStream) -> io::Result<()> {
        *self.socket() = Some(socket.try_clone()?);
        Ok(())
    }

    fn socket(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.socket.lock().expect("no holder of the socket panics")
    }
}

/// A socket with a bound for each read and write, and one for several of them together: a server that sends a byte
/// from time to time is not silent.
pub(super) struct QuorumSocket {
    socket: TcpStream,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl QuorumSocket {
    /// `timeout` is for each read and write, and for all of them until another deadline is set.
    fn new(socket: TcpStream, timeout: Duration) -> QuorumSocket {
        QuorumSocket {
            socket,
            timeout,
            deadline: Instant::now().checked_add(timeout),
        }
    }

    /// The bound of a read or write that begins now.
    fn bound(&self) -> io::Result<Duration> {
        let Some(deadline) = self.deadline else {
            return Ok(self.timeout);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left.min(self.timeout)),
        }
    }
}

impl Read for QuorumSocket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.bound()?))?;
        self.socket.read(bytes)
    }
}

impl Write for QuorumSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.bound()?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A connection to a quorum port.
pub(super) enum QuorumStream {
    Plain(QuorumSocket),
    Encrypted(Box<StreamOwned<ClientConnection, QuorumSocket>>),
}

impl QuorumStream {
    /// How long a read or a write may wait for the other side.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.socket().timeout = timeout;
    }

    /// Begins the time of a packet: all of it has to arrive within the timeout.
    pub(super) fn begin_packet(&mut self) {
        let socket = self.socket();
        socket.deadline = Instant::now().checked_add(socket.timeout);
    }

    /// Bounds each read and write alone, for a tree of any size.
    pub(super) fn begin_tree(&mut self) {
        self.socket().deadline = None;
    }

    fn socket(&mut self) -> &mut QuorumSocket {
        match self {
            QuorumStream::Plain(socket) => socket,
            QuorumStream::Encrypted(stream) => stream.get_mut(),
        }
    }
}

impl Read for QuorumStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            QuorumStream::Plain(socket) => socket.read(bytes),
            QuorumStream::Encrypted(stream) => stream.read(bytes),
        }
    }
}

impl Write for QuorumStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            QuorumStream::Plain(socket) => socket.write(bytes),
            QuorumStream::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            QuorumStream::Plain(socket) => socket.flush(),
            QuorumStream::Encrypted(stream) => stream.flush(),
        }
    }
}

impl Transport {
    /// Connects to a quorum port, encrypts the connection and authenticates the bridge where that is asked for.
    pub(super) fn connect(
        &self,
        address: &QuorumAddress,
        interrupt: &Interrupt,
    ) -> Result<QuorumStream, ConnectFault> {
        let socket = self.reach(address, interrupt)?;
        interrupt.watch(&socket).map_err(ConnectFault::Network)?;
        if interrupt.is_set() {
            return Err(ConnectFault::Stopped);
        }
        socket.set_nodelay(true).map_err(ConnectFault::Network)?;
        // Encryption and authentication together have this long.
        let socket = QuorumSocket::new(socket, self.init_timeout);
        let mut stream = match &self.tls {
            None => QuorumStream::Plain(socket),
            Some(config) => encrypt(address, config, socket)?,
        };
        if let Some(login) = &self.sasl {
            authenticate(&mut stream, login).map_err(ConnectFault::Authentication)?;
        }
        Ok(stream)
    }

    fn reach(&self, address: &QuorumAddress, interrupt: &Interrupt) -> Result<TcpStream, ConnectFault> {
        let found = (address.host.as_str(), address.port).to_socket_addrs();
        let mut last = None;
        for address in found.map_err(ConnectFault::Name)? {
            if interrupt.is_set() {
                return Err(ConnectFault::Stopped);
            }
            match TcpStream::connect_timeout(&address, self.connect_timeout) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectFault::Refused,
            Some(error) => ConnectFault::Network(error),
            None => ConnectFault::Name(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        })
    }
}

fn encrypt(
    address: &QuorumAddress,
    config: &Arc<ClientConfig>,
    mut socket: QuorumSocket,
) -> Result<QuorumStream, ConnectFault> {
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| ConnectFault::Encryption(format!("'{}' cannot be in a certificate", address.host)))?;
    let mut connection = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| ConnectFault::Encryption(error.to_string()))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut socket)
            .map_err(|error| ConnectFault::Encryption(handshake_words(&error)))?;
    }
    Ok(QuorumStream::Encrypted(Box::new(StreamOwned::new(
        connection, socket,
    ))))
}

/// Whether a read or write ended because the other side was silent for too long.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn handshake_words(error: &io::Error) -> String {
    if is_timeout(error) {
        return "the server does not answer the handshake: its quorum port may not be encrypted (sslQuorum)"
            .to_owned();
    }
    format!(
        "{error}; the quorum port must be encrypted (sslQuorum), [source.observer.tls] must have the authority of the \
         servers' certificates, and a certificate of the bridge that they accept, with its own address as a name"
    )
}

fn authenticate(stream: &mut QuorumStream, login: &QuorumLogin) -> Result<(), String> {
    send(stream, &[])?;
    let mut proof = None;
    for _ in 0..AUTH_ROUNDS_MAX {
        match read_auth_packet(stream).map_err(|error| auth_words(&error))? {
            AuthPacket::Refused => {
                return Err(format!(
                    "the server refuses the user '{}' of [source.observer.sasl]: check user and password in the \
                     QuorumServer section of its JAAS configuration; servers from 3.9.5 on refuse DIGEST-MD5 in FIPS \
                     mode (zookeeper.fips-mode=false turns that off)",
                    login.user
                ));
            }
            AuthPacket::InProgress(challenge) => {
                let cnonce = Uuid::new_v4().simple().to_string();
                let reply = answer(&challenge, &login.user, &login.password, &cnonce).map_err(words)?;
                send(stream, &reply.token)?;
                proof = Some(reply);
            }
            AuthPacket::Success(token) => {
                let reply = proof.ok_or_else(|| words(DigestError::Unproved))?;
                return reply.check(&token).map_err(words);
            }
        }
    }
    Err(format!(
        "the server still asks after {AUTH_ROUNDS_MAX} rounds of authentication"
    ))
}

fn words(error: DigestError) -> String {
    format!("{error}; check [source.observer.sasl]")
}

fn auth_words(error: &PacketError) -> String {
    format!(
        "the server ended the authentication: {error}; quorum.auth.enableSasl must be true on the servers, or leave \
         [source.observer.sasl] out"
    )
}

fn send(stream: &mut QuorumStream, token: &[u8]) -> Result<(), String> {
    let sent = stream
        .write_all(&auth_packet(token))
        .and_then(|()| stream.flush());
    sent.map_err(|error| format!("the connection was lost during the authentication: {error}"))
}
