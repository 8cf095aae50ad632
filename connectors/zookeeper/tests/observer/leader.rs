//! A leader that is a script: it sends its steps, and checks every packet that the observer sends.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bridge_servers::eventually;
use bridge_transactions::testing;
use bridge_transactions::transaction::Transaction;
use bridge_zookeeper::observer::{ObserverOptions, QuorumAddress};

use crate::player::BOUND;

/// The epoch of all scripts.
pub const EPOCH: i64 = 3 << 32;

/// A packet of an observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// With its id.
    ObserverInfo(i64),
    /// With its position.
    AckEpoch(i64),
    /// Of this zxid.
    Ack(i64),
    /// Of this zxid.
    Ping(i64),
}

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read one packet, which must be this.
    Expect(Sent),
    /// Read the first packet.
    ExpectObserver,
    /// Send these bytes again and again, until the observer closes the connection.
    Flood(Vec<u8>),
    /// Send these bytes one at a time, with a pause after each, until the observer closes the connection.
    Drip(Vec<u8>, Duration),
    /// Read until the observer closes the connection; nothing must come.
    ExpectClose,
}

/// A listener that plays one script for each connection, the last one again and again.
pub struct Leader {
    address: QuorumAddress,
    failures: Arc<Mutex<Vec<String>>>,
    played: Arc<Mutex<usize>>,
}

impl Leader {
    pub fn start(scripts: Vec<Vec<Step>>) -> Leader {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let failures = Arc::new(Mutex::new(Vec::new()));
        let played = Arc::new(Mutex::new(0));
        let (failed, done) = (Arc::clone(&failures), Arc::clone(&played));
        // It ends with the process: a test has few of them.
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let script = scripts.get(number).or(scripts.last()).unwrap();
                let outcome = stream.and_then(|stream| play(stream, script));
                if let Err(error) = outcome {
                    failed
                        .lock()
                        .unwrap()
                        .push(format!("connection {number}: {error}"));
                }
                *done.lock().unwrap() += 1;
            }
        });
        Leader {
            address: QuorumAddress {
                host: "127.0.0.1".to_owned(),
                port,
            },
            failures,
            played,
        }
    }

    pub fn options(&self) -> ObserverOptions {
        ObserverOptions::new(vec![self.address.clone()])
    }

    /// Waits until so many scripts were played to their ends, as they were written.
    pub async fn has_played(&self, count: usize) {
        let played = eventually("the end of a script", BOUND, || async {
            *self.played.lock().unwrap() >= count
        });
        played.await.unwrap();
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:?}");
    }
}

fn play(mut stream: TcpStream, script: &[Step]) -> io::Result<()> {
    stream.set_read_timeout(Some(BOUND))?;
    for step in script {
        match step {
            Step::Send(bytes) => stream.write_all(bytes)?,
            Step::ExpectObserver => {
                let sent = read(&mut stream)?;
                check(
                    matches!(sent, Sent::ObserverInfo(id) if id > 1 << 32),
                    &sent,
                    step,
                )?;
            }
            Step::Expect(expected) => {
                let sent = read(&mut stream)?;
                check(sent == *expected, &sent, step)?;
            }
            Step::Flood(bytes) => while stream.write_all(bytes).is_ok() {},
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    if stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(*pause);
                }
            }
            Step::ExpectClose => {
                let mut rest = Vec::new();
                // A connection with unread bytes is reset.
                let _closed = stream.read_to_end(&mut rest);
                check(rest.is_empty(), &rest, step)?;
            }
        }
    }
    Ok(())
}

fn check(is_right: bool, found: &dyn std::fmt::Debug, step: &Step) -> io::Result<()> {
    match is_right {
        true => Ok(()),
        false => Err(io::Error::other(format!("{found:x?} at {step:x?}"))),
    }
}

/// Reads a packet, and refuses everything that an observer must never send.
fn read(stream: &mut TcpStream) -> io::Result<Sent> {
    let int = |stream: &mut TcpStream| {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).map(|()| i32::from_be_bytes(bytes))
    };
    let kind = int(stream)?;
    let mut zxid = [0; 8];
    stream.read_exact(&mut zxid)?;
    let zxid = i64::from_be_bytes(zxid);
    let length = int(stream)?;
    let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut data)?;
    let identities = int(stream)?;
    if identities != -1 {
        return Err(io::Error::other("identities"));
    }
    match (kind, length) {
        // It states no epoch, the version of the protocol, and no version of a configuration.
        (16, 20) if zxid == 0 && data[8..] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => Ok(Sent::ObserverInfo(
            i64::from_be_bytes(data[..8].try_into().unwrap()),
        )),
        (18, 4) if data == [0xff; 4] => Ok(Sent::AckEpoch(zxid)),
        (3, -1) => Ok(Sent::Ack(zxid)),
        (5, 0) => Ok(Sent::Ping(zxid)),
        other => Err(io::Error::other(format!(
            "a packet of type and length {other:?}: {data:x?}"
        ))),
    }
}

fn packet(kind: i32, zxid: i64, data: Option<&[u8]>) -> Step {
    let mut bytes = [kind.to_be_bytes().as_slice(), &zxid.to_be_bytes()].concat();
    let length = data.map_or(-1, |data| i32::try_from(data.len()).unwrap());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data.unwrap_or_default());
    bytes.extend((-1_i32).to_be_bytes());
    Step::Send(bytes)
}

pub fn leader_info(epoch: i64) -> Step {
    packet(17, epoch, Some(&[0, 1, 0, 0]))
}

pub fn diff(zxid: i64) -> Step {
    packet(13, zxid, None)
}

pub fn trunc(zxid: i64) -> Step {
    packet(14, zxid, None)
}

pub fn snap(zxid: i64) -> Step {
    packet(15, zxid, None)
}

pub fn proposal(transaction: &Transaction) -> Step {
    packet(2, transaction.zxid, Some(&testing::payload(transaction)))
}

pub fn commit(zxid: i64) -> Step {
    packet(4, zxid, None)
}

pub fn inform(transaction: &Transaction) -> Step {
    packet(8, transaction.zxid, Some(&testing::payload(transaction)))
}

/// A transaction that is none.
pub fn inform_bytes(zxid: i64, payload: &[u8]) -> Step {
    packet(8, zxid, Some(payload))
}

pub fn new_leader(config: &str) -> Step {
    packet(10, EPOCH, Some(config.as_bytes()))
}

pub fn up_to_date() -> Step {
    packet(12, -1, None)
}

pub fn ping(zxid: i64) -> Step {
    packet(5, zxid, Some(&[]))
}

/// The steps up to the answer to this position.
pub fn begin(position: i64) -> Vec<Step> {
    vec![
        Step::ExpectObserver,
        leader_info(EPOCH),
        Step::Expect(Sent::AckEpoch(position)),
    ]
}

/// The steps from NEWLEADER to UPTODATE.
pub fn finish() -> Vec<Step> {
    vec![
        new_leader("server.1=127.0.0.1:2888:3888:participant\n"),
        Step::Expect(Sent::Ack(EPOCH)),
        up_to_date(),
        Step::Expect(Sent::Ack(EPOCH)),
    ]
}
