//! Waits between the attempts of a request that a server throttles because it is overloaded.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use zookeeper_client::Error;

/// The first wait before a throttled request is sent again; it doubles with each one.
const FIRST: Duration = Duration::from_millis(20);
/// No such wait is longer.
const MAX: Duration = Duration::from_secs(2);

/// The waits, and how often the server has throttled in a row.
#[derive(Debug)]
pub(crate) struct Throttle {
    next: Duration,
    times: u32,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            next: FIRST,
            times: 0,
        }
    }
}

impl Throttle {
    /// Counts a request that was throttled, and returns when it may be sent again.
    pub(crate) fn until(&mut self) -> Instant {
        let wait = self.next;
        tracing::debug!(wait_ms = wait.as_millis(), "the server throttles a request");
        self.next = (wait * 2).min(MAX);
        self.times = self.times.saturating_add(1);
        Instant::now() + wait
    }

    /// Notes a request that was not throttled.
    pub(crate) fn answered(&mut self) {
        *self = Throttle::default();
    }

    /// Whether the last request was throttled.
    pub(crate) fn is_throttled(&self) -> bool {
        self.times > 0
    }

    /// Sends a request until the server does not throttle it. Cancel safe if the request is.
    pub(crate) async fn unthrottled<T, F: Future<Output = Result<T, Error>>>(
        &mut self,
        send: impl Fn() -> F,
    ) -> Result<T, Error> {
        loop {
            match send().await {
                Err(Error::Throttled) => {
                    let until = self.until();
                    sleep(until.saturating_duration_since(Instant::now())).await;
                }
                answer => {
                    self.answered();
                    return answer;
                }
            }
        }
    }
}
