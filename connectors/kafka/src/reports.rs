//! The delivery reports of one producer: reported on the producer's own thread, taken in the order in which the
//! messages were sent.
//!
//! Brokers acknowledge hundreds of messages at once, and each partition at its own time. A caller waits for a number of
//! reports, so that a batch costs one wake-up and not one for each message; a failure wakes it at once. The numbers are
//! positions: the message that was sent first is 0.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use rdkafka::error::RDKafkaErrorCode as Code;

/// How a message ended.
pub(crate) type End = Result<(), Code>;

/// The reports of one producer. Bounded by what the producer's queue holds.
#[derive(Default)]
pub(crate) struct Reports {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The ends of the messages from `taken` on, as far as they are known.
    ends: VecDeque<Option<End>>,
    /// How many ends were taken, from the first on.
    taken: usize,
    /// How many were reported.
    count: usize,
    /// A failure was reported that woke no caller.
    has_failed: bool,
    /// The producer is gone: there are no more reports.
    is_over: bool,
    /// Messages that were set aside and whose ends are not known.
    aside: HashSet<usize>,
    /// The ends of those that were reported since.
    late: Vec<(usize, End)>,
    /// The waiting caller, and the number of reports that it waits for.
    waiting: Option<(usize, Waker)>,
}

impl Reports {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports how a message ended. Each is reported once.
    pub(crate) fn report(&self, number: usize, end: End) {
        let mut state = self.state();
        let Some(at) = number.checked_sub(state.taken) else {
            if state.aside.remove(&number) {
                state.late.push((number, end));
                if let Some((_, waker)) = state.waiting.take_if(|(enough, _)| *enough == usize::MAX) {
                    waker.wake();
                }
            }
            return;
        };
        if state.ends.len() <= at {
            state.ends.resize(at + 1, None);
        }
        state.ends[at] = Some(end);
        state.count += 1;
        state.has_failed |= end.is_err();
        state.wake();
    }

    /// Sets all messages aside whose ends were not taken, up to this number, and returns the ends that are known. The
    /// others are reported as late ones.
    pub(crate) fn set_aside(&self, up_to: usize) -> Vec<Option<End>> {
        let mut state = self.state();
        let first = state.taken;
        let mut ends: Vec<Option<End>> = state.ends.drain(..).collect();
        ends.resize(up_to.saturating_sub(first), None);
        let unknown = ends.iter().enumerate().filter(|(_, end)| end.is_none());
        let unknown: Vec<usize> = unknown.map(|(at, _)| first + at).collect();
        state.aside.extend(unknown);
        state.taken = up_to;
        state.count = up_to;
        state.has_failed = false;
        ends
    }

    /// Takes the ends of messages that were set aside.
    pub(crate) fn take_late(&self) -> Vec<(usize, End)> {
        let mut state = self.state();
        if state.is_over {
            let given_up: Vec<usize> = state.aside.drain().collect();
            let given_up = given_up
                .into_iter()
                .map(|number| (number, Err(Code::PurgeInflight)));
            state.late.extend(given_up);
        }
        std::mem::take(&mut state.late)
    }

    /// Waits until the end of a message that was set aside was reported, or there will be no more. Cancel safe.
    pub(crate) async fn until_late(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if !state.late.is_empty() || state.is_over {
                state.waiting = None;
                return Poll::Ready(());
            }
            state.waiting = Some((usize::MAX, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// There will be no more reports.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.wake();
    }

    /// How many reports there were so far.
    pub(crate) fn count(&self) -> usize {
        self.state().count
    }

    /// Takes the end of the oldest message whose end was not taken, if it is known.
    pub(crate) fn take(&self) -> Option<End> {
        let mut state = self.state();
        let end = match state.ends.front() {
            Some(Some(end)) => *end,
            Some(None) | None if state.is_over => Err(Code::PurgeInflight),
            Some(None) | None => return None,
        };
        state.ends.pop_front();
        state.taken += 1;
        Some(end)
    }

    /// Waits until there were `enough` reports since the producer began, or a failure, or there will be no more. One
    /// caller may wait at a time. Cancel safe.
    pub(crate) async fn until(&self, enough: usize) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.is_enough(enough) {
                state.has_failed = false;
                state.waiting = None;
                return Poll::Ready(());
            }
            state.waiting = Some((enough, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn is_enough(&self, enough: usize) -> bool {
        self.count >= enough || self.has_failed || self.is_over
    }

    fn wake(&mut self) {
        if self
            .waiting
            .as_ref()
            .is_some_and(|(enough, _)| self.is_enough(*enough))
            && let Some((_, waker)) = self.waiting.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use futures::FutureExt;

    use super::*;

    #[test]
    fn ends_are_taken_in_the_order_of_handing_over_in_whatever_order_they_are_reported() {
        let reports = Reports::default();
        reports.report(2, Ok(()));
        reports.report(1, Err(Code::MessageSizeTooLarge));
        assert_eq!(reports.take(), None, "the first is not known");
        reports.report(0, Ok(()));
        assert_eq!(reports.take(), Some(Ok(())));
        assert_eq!(reports.take(), Some(Err(Code::MessageSizeTooLarge)));
        assert_eq!(reports.take(), Some(Ok(())));
        assert_eq!(reports.take(), None);
    }

    #[test]
    fn a_caller_wakes_up_once_when_all_were_reported() {
        let reports = Reports::default();
        let (waker, wakes) = counted_waker();
        let mut context = Context::from_waker(&waker);
        let mut all = std::pin::pin!(reports.until(3));
        assert!(all.as_mut().poll(&mut context).is_pending());
        for number in 0..3 {
            assert_eq!(wakes(), 0, "{number} were reported");
            reports.report(number, Ok(()));
        }
        assert_eq!(wakes(), 1);
        assert!(all.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_failure_wakes_at_once_and_is_woken_up_for_once() {
        let reports = Reports::default();
        reports.report(1, Err(Code::PurgeQueue));
        assert_eq!(reports.until(9).now_or_never(), Some(()));
        assert_eq!(reports.until(9).now_or_never(), None);
    }

    #[test]
    fn messages_that_a_producer_never_reported_before_its_end_are_given_up() {
        let reports = Reports::default();
        reports.report(1, Ok(()));
        reports.end();
        assert_eq!(reports.until(9).now_or_never(), Some(()));
        assert_eq!(reports.take(), Some(Err(Code::PurgeInflight)));
        assert_eq!(reports.take(), Some(Ok(())));
        assert_eq!(reports.take(), Some(Err(Code::PurgeInflight)));
    }

    #[test]
    fn messages_that_are_set_aside_keep_no_later_one_waiting_and_are_reported_late() {
        let reports = Reports::default();
        reports.report(1, Ok(()));
        assert_eq!(reports.set_aside(3), [None, Some(Ok(())), None]);
        reports.report(3, Ok(()));
        assert_eq!(reports.until(4).now_or_never(), Some(()));
        assert_eq!(reports.take(), Some(Ok(())), "of the message after them");

        assert_eq!(reports.take_late(), []);
        reports.report(2, Ok(()));
        reports.report(1, Ok(()));
        assert_eq!(reports.take_late(), [(2, Ok(()))]);
        assert_eq!(reports.until(5).now_or_never(), None);
        reports.end();
        assert_eq!(reports.take_late(), [(0, Err(Code::PurgeInflight))]);
    }

    /// A waker, and how often it was woken.
    fn counted_waker() -> (Waker, impl Fn() -> usize) {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        (waker, move || count.0.load(Ordering::Relaxed))
    }
}
