//! A bare ZooKeeper client that only sets data, with many requests in flight and as little processor time as possible, so
//! that the load does not distort the measurement.
//!
//! It neither reconnects nor watches; any error ends it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

/// The requested session timeout; the server lowers it to its own limit.
const SESSION_MS: i32 = 60_000;
/// The code of `setData` in the protocol.
const SET_DATA: i32 = 5;
/// Any version.
const ANY: i32 = -1;
/// Bytes of one read from the socket: the answers to hundreds of writes.
const CHUNK: usize = 64 << 10;
/// Bytes of an answer's header: length, number of the request, zxid and error.
const HEADER: usize = 4 + 4 + 8 + 4;

/// A session that only sets data.
pub struct Wire {
    stream: TcpStream,
    requests: Vec<u8>,
    answers: Vec<u8>,
    number: i32,
}

impl Wire {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// If the server refuses it.
    pub fn open(server: SocketAddr) -> Result<Wire> {
        let stream = TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
        stream.set_nodelay(true)?;
        let mut this = Wire {
            stream,
            requests: Vec::new(),
            answers: Vec::new(),
            number: 0,
        };
        this.ask_for_session()?;
        Ok(this)
    }

    fn ask_for_session(&mut self) -> Result<()> {
        let mut request = Vec::new();
        request.extend_from_slice(&0_i32.to_be_bytes()); // the version of the protocol
        request.extend_from_slice(&0_i64.to_be_bytes()); // the last zxid seen
        request.extend_from_slice(&SESSION_MS.to_be_bytes());
        request.extend_from_slice(&0_i64.to_be_bytes()); // a new session
        push_bytes(&mut request, &[0; 16]); // its password
        request.push(0); // not read-only
        push_bytes(&mut self.requests, &request);
        self.send()?;
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .context("the server gave no session")?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        Ok(())
    }

    /// Adds a write to the next packet.
    pub fn set_data(&mut self, path: &str, data: &[u8]) {
        self.number = self.number.wrapping_add(1) & i32::MAX;
        let length = 4 + 4 + 4 + path.len() + 4 + data.len() + 4;
        self.requests.extend_from_slice(&number(length).to_be_bytes());
        self.requests.extend_from_slice(&self.number.to_be_bytes());
        self.requests.extend_from_slice(&SET_DATA.to_be_bytes());
        push_bytes(&mut self.requests, path.as_bytes());
        push_bytes(&mut self.requests, data);
        self.requests.extend_from_slice(&ANY.to_be_bytes());
    }

    /// Sends the added writes.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.requests).context("send requests")?;
        self.requests.clear();
        Ok(())
    }

    /// Waits for answers. Returns their number, at least 1.
    ///
    /// # Errors
    ///
    /// If a write was refused, or the connection is gone.
    pub fn take_answers(&mut self) -> Result<usize> {
        loop {
            let begin = self.answers.len();
            self.answers.resize(begin + CHUNK, 0);
            let read = self
                .stream
                .read(&mut self.answers[begin..])
                .context("take answers")?;
            self.answers.truncate(begin + read);
            ensure!(read > 0, "the server closed the connection of the load");
            let taken = self.parse()?;
            if taken > 0 {
                return Ok(taken);
            }
        }
    }

    fn parse(&mut self) -> Result<usize> {
        let (mut at, mut count) = (0, 0);
        while let Some(header) = self.answers.get(at..at + HEADER) {
            let length = i32_of(header, 0);
            let whole = 4 + usize::try_from(length).context("an answer of a negative length")?;
            if self.answers.len() - at < whole {
                break;
            }
            let error = i32_of(header, 16);
            ensure!(error == 0, "a write was refused with the error {error}");
            at += whole;
            count += 1;
        }
        self.answers.drain(..at);
        Ok(count)
    }
}

fn i32_of(bytes: &[u8], at: usize) -> i32 {
    let four = bytes[at..at + 4].try_into().expect("four bytes were cut out");
    i32::from_be_bytes(four)
}

fn number(length: usize) -> i32 {
    i32::try_from(length).expect("requests are far below 2 GiB")
}

fn push_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&number(bytes.len()).to_be_bytes());
    to.extend_from_slice(bytes);
}
