//! Writes as fast as a server takes them: trees of a million znodes and storms of changes.

use std::time::Duration;

use futures::{StreamExt, stream};
use zookeeper_client::Client;

use crate::bridge::BOUND;
use crate::writer::PERSISTENT;

/// A server at full load answers late, and no load may lose its session by that.
const SESSION: Duration = Duration::from_secs(120);
/// Transactions under way: enough that the server never waits for the next.
const MULTIS_UNDER_WAY: usize = 8;
/// Single writes under way.
const WRITES_UNDER_WAY: usize = 1_000;
/// Operations of one transaction.
const MULTI_OPERATIONS: usize = 1_000;
/// Bytes of one transaction, below the server's limit of 1 MiB for a request.
const MULTI_BYTES: usize = 512 << 10;

/// A path and its data.
pub type Write = (String, Vec<u8>);

/// A client that only writes.
pub struct Load {
    client: Client,
}

impl Load {
    pub async fn connect(connect: &str) -> Load {
        let connecting = bridge_servers::eventually("a session", BOUND, || async {
            let connector = Client::connector().with_session_timeout(SESSION);
            connector.connect(connect).await.ok()
        });
        Load {
            client: connecting.await.unwrap(),
        }
    }

    /// Creates many znodes in each transaction, in the order given: parents first.
    pub async fn create(&self, nodes: impl Iterator<Item = Write>) {
        let mut sent = stream::iter(Multis::of(nodes))
            .map(|nodes| {
                let mut multi = self.client.new_multi_writer();
                for (path, data) in &nodes {
                    multi.add_create(path, data, &PERSISTENT).unwrap();
                }
                multi.commit()
            })
            .buffered(MULTIS_UNDER_WAY);
        while let Some(outcome) = sent.next().await {
            outcome.unwrap();
        }
    }

    /// Changes many znodes in each transaction.
    pub async fn set_in_multis(&self, writes: impl Iterator<Item = Write>) {
        let mut sent = stream::iter(Multis::of(writes))
            .map(|writes| {
                let mut multi = self.client.new_multi_writer();
                for (path, data) in &writes {
                    multi.add_set_data(path, data, None).unwrap();
                }
                multi.commit()
            })
            .buffered(MULTIS_UNDER_WAY);
        while let Some(outcome) = sent.next().await {
            outcome.unwrap();
        }
    }

    pub async fn delete(&self, path: &str) {
        self.client.delete(path, None).await.unwrap();
    }

    /// Changes one znode in each transaction.
    pub async fn set(&self, writes: impl Iterator<Item = Write>) {
        let mut sent = stream::iter(writes)
            .map(|(path, data)| self.client.set_data(&path, &data, None))
            .buffered(WRITES_UNDER_WAY);
        while let Some(outcome) = sent.next().await {
            outcome.unwrap();
        }
    }
}

/// Cuts writes into transactions.
struct Multis<I: Iterator<Item = Write>> {
    writes: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = Write>> Multis<I> {
    fn of(writes: I) -> Multis<I> {
        Multis {
            writes: writes.peekable(),
        }
    }
}

impl<I: Iterator<Item = Write>> Iterator for Multis<I> {
    type Item = Vec<Write>;

    fn next(&mut self) -> Option<Vec<Write>> {
        let (mut multi, mut bytes) = (Vec::new(), 0);
        while let Some((path, data)) = self.writes.peek() {
            bytes += path.len() + data.len() + 100;
            if !multi.is_empty() && (bytes > MULTI_BYTES || multi.len() == MULTI_OPERATIONS) {
                break;
            }
            multi.extend(self.writes.next());
        }
        (!multi.is_empty()).then_some(multi)
    }
}
