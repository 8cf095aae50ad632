//! The writers: at the maximum rate, and at a steady rate. Each value begins with the time at which it was due, so that a
//! reader can compute its age.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::wire::Wire;

/// Maximum number of writes in flight: enough that the server never waits.
const WINDOW: usize = 1_000;
/// New writes are sent together after this many answers: one system call for hundreds of writes.
const REFILL: usize = WINDOW / 2;

/// The result of a writer.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Answered writes.
    pub writes: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// The time of the last answer.
    pub ended: Instant,
}

impl Written {
    /// Writes a second.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.writes as f64 / self.took.as_secs_f64()
    }
}

/// A value of `bytes` bytes that begins with the time at which it was due. Read as a query, it has a version, which each
/// write changes.
fn value(bytes: usize, now: Duration) -> Vec<u8> {
    let nanos = now.as_nanos();
    let mut value = format!("{nanos:020} &version={nanos:020}&rest=").into_bytes();
    value.resize(bytes, b'x');
    value
}

/// The time at the start of a value; `None` if it has none.
pub fn issued(value: &str) -> Option<Duration> {
    let nanos = value.split(' ').next()?.parse::<u64>().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// The time since 1970; writer and reader use the same clock.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Sets each path in turn, at the maximum rate of the server.
///
/// # Errors
///
/// If the server refuses a write or the connection is gone.
pub async fn flat_out(
    server: SocketAddr,
    paths: Vec<String>,
    writes: usize,
    bytes: usize,
) -> Result<Written> {
    on_a_thread(move || {
        let mut wire = Wire::open(server)?;
        let mut in_turn = paths.iter().cycle();
        let (mut sent, mut answered) = (0, 0);
        let began = Instant::now();
        while answered < writes {
            if sent - answered <= WINDOW - REFILL {
                let now = now();
                while sent < writes && sent - answered < WINDOW {
                    wire.set_data(in_turn.next().context("no path to write to")?, &value(bytes, now));
                    sent += 1;
                }
                wire.send()?;
            }
            answered += wire.take_answers()?;
        }
        Ok(written(writes, began))
    })
    .await
}

/// Sets each path in turn, at `rate` writes a second. Writes that are due while an answer is awaited go
/// together after it;
/// the values keep the time at which they were due.
///
/// # Errors
///
/// As [`flat_out`].
pub async fn paced(
    server: SocketAddr,
    paths: Vec<String>,
    writes: usize,
    rate: u32,
    bytes: usize,
) -> Result<Written> {
    on_a_thread(move || {
        let mut wire = Wire::open(server)?;
        let mut in_turn = paths.iter().cycle();
        let pause = Duration::from_secs(1) / rate;
        let (mut sent, mut answered) = (0, 0);
        let mut due = Duration::ZERO;
        let began = Instant::now();
        let clock = now();
        while answered < writes {
            if sent == answered
                && let Some(early) = due.checked_sub(began.elapsed())
            {
                std::thread::sleep(early);
            }
            let passed = began.elapsed();
            while sent < writes && sent - answered < WINDOW && due <= passed {
                let path = in_turn.next().context("no path to write to")?;
                wire.set_data(path, &value(bytes, clock + due));
                sent += 1;
                due += pause;
            }
            wire.send()?;
            answered += wire.take_answers()?;
        }
        Ok(written(writes, began))
    })
    .await
}

fn written(writes: usize, began: Instant) -> Written {
    let ended = Instant::now();
    Written {
        writes,
        took: ended - began,
        ended,
    }
}

async fn on_a_thread(work: impl FnOnce() -> Result<Written> + Send + 'static) -> Result<Written> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the writer's thread ended")?
}
