//! The contract of a path that fails beside one that was taken, while nothing else comes.

use std::time::Duration;

use super::suite::{BOUND, Rig, SINK, Where, a_sink, a_worker_with, assert_arrived};
use super::{FaultScript, MemoryJournal, a_record};
use crate::amount::{Patience, Span};
use crate::delivery::{Phase, Retry, SinkStatus};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::sink::{Extent, Sink, SinkErrorKind};

/// A path that fails while nothing else comes, after another one was taken, is tried after waits that grow, whatever the
/// sink knows about the extent of the failure. Its record becomes a dead letter when its patience ends; the sink stays.
///
/// # Panics
///
/// If the sink breaks the rule.
pub async fn a_path_that_fails_beside_a_taken_one_waits_longer_and_is_given_up<R: Rig>(rig: &mut R) {
    for place in [Where::InFront, Where::AtTheDestination] {
        rig.fresh().await;
        let bad = ZnodePath::parse("/bad").expect("it is a path");
        let script = FaultScript::new().fails_alone_with(SinkErrorKind::Unavailable, Extent::Unknown);
        let journal = MemoryJournal::with(vec![
            a_record().seq(1).path("/bad").arc(),
            a_record().seq(2).path("/good").arc(),
        ]);
        let sink: Box<dyn Sink> = match place {
            Where::InFront => {
                script.fail_paths([bad]);
                Box::new(script.in_front_of(a_sink(rig, &journal)))
            }
            Where::AtTheDestination if !rig.refuse(&[bad]) => return,
            Where::AtTheDestination => a_sink(rig, &journal),
        };
        let retry = Retry {
            first: Span(Duration::from_millis(10)),
            max: Span(Duration::from_secs(1)),
            give_up_after: Patience::After(Span(Duration::from_millis(500))),
        };
        let (worker, mut status, stop, stored) = a_worker_with(&journal, sink, retry);
        let shown = status.clone();
        let until_over = async {
            let is_over = |status: &SinkStatus| {
                let is_given_up = status.rejected == 1 && status.cursor == Seq(2);
                is_given_up || status.state == Phase::Halted
            };
            drop(status.wait_for(is_over).await);
            stop.cancel();
        };
        let all = async { tokio::join!(worker.run(), journal.store(stored), until_over) };
        let ended = tokio::time::timeout(BOUND, all).await;
        let calls = script.failed_alone();
        assert!(
            ended.is_ok(),
            "{place:?}: the path is never given up, after {calls} calls: {:?}",
            shown.borrow().clone()
        );
        let letters: Vec<u64> = journal.rejected(SINK).iter().map(|one| one.seq.0).collect();
        assert_eq!(letters, [1], "{place:?}: {:?}", shown.borrow().clone());
        // Waits that do not grow are a hundred.
        assert!(calls < 30, "{place:?}: {calls} calls");
        assert_arrived(rig, &journal, &journal.records()[1..]).await;
        rig.refuse(&[]);
    }
}
