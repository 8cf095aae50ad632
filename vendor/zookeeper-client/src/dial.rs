// zkbridge: the whole file.
//! Connects to a server whose name has several addresses.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use async_io::Timer;
use futures::future::{self, Either};
use futures::stream::{FuturesUnordered, StreamExt};

/// How long an address has before the next one is tried, too (RFC 8305, section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// The most addresses that are tried.
const ADDRESSES_MAX: usize = 16;

/// Connects to the address that answers first. Each one is tried when the one before has failed, or has not answered for
/// 250 ms; none is given up for the next.
pub async fn first_of<S, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<S>
where
    F: Future<Output = Result<S>>, {
    let mut addresses = addresses.into_iter().take(ADDRESSES_MAX).peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failure = Error::new(ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(address) => attempts.push(connect(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {},
        }
        let next = match addresses.peek() {
            Some(_) => Either::Left(Timer::after(NEXT_AFTER)),
            None => Either::Right(future::pending()),
        };
        match future::select(attempts.next(), pin!(next)).await {
            Either::Left((Some(Ok(stream)), _)) => return Ok(stream),
            Either::Left((Some(Err(error)), _)) => failure = error,
            Either::Left((None, _)) => return Err(failure),
            Either::Right(_) => {},
        }
    }
}
