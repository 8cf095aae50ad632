//! Waits for a condition with a bound. Tests use it instead of sleeping.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, Result};

/// The poll interval: short compared to every awaited condition, long compared to the cost of a check.
const PAUSE: Duration = Duration::from_millis(20);

/// The result of one check of a condition.
pub trait Look {
    /// The result of a met condition.
    type Found;

    /// The finding, or `None` to look again.
    fn found(self) -> Option<Self::Found>;
}

impl Look for bool {
    type Found = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Self {
        self
    }
}

/// Looks until the condition is met, at most for `bound`; a look that hangs counts against the bound as well.
///
/// `what` completes the sentence "waited 5s in vain for …".
///
/// # Errors
///
/// [`Error::TimedOut`], which names the condition.
pub async fn eventually<L, F, Fut>(what: impl Display, bound: Duration, mut look: F) -> Result<L::Found>
where
    L: Look,
    F: FnMut() -> Fut,
    Fut: Future<Output = L>,
{
    let deadline = Instant::now() + bound;
    loop {
        if let Ok(seen) = timeout_at(deadline, look()).await {
            if let Some(found) = seen.found() {
                return Ok(found);
            }
            sleep(PAUSE).await;
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: what.to_string(),
                bound,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_condition_met_later_returns_its_result() {
        let looks = Cell::new(0);
        let found = eventually("the third look", Duration::from_secs(5), || async {
            looks.set(looks.get() + 1);
            (looks.get() == 3).then_some("here")
        });
        assert_eq!(found.await.unwrap(), "here");
    }

    #[tokio::test]
    async fn a_condition_never_met_is_named_in_the_error() {
        let never = eventually("a second moon", Duration::from_millis(50), || async { false });
        assert_eq!(
            never.await.unwrap_err().to_string(),
            "waited 50ms in vain for a second moon"
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_bound() {
        let hung = eventually(
            "an answer",
            Duration::from_millis(50),
            std::future::pending::<bool>,
        );
        assert!(matches!(hung.await, Err(Error::TimedOut { .. })));
    }
}
