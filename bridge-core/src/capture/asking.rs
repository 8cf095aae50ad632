//! Sends reads: the sample that identifies the ensemble, then values of events, then the walk, each within its window.

use super::StepResult;
use super::batch::{Purpose, Request};
use super::machine::{Capture, EpochState};
use crate::image_txn::ImageTxn;
use crate::machine::StepOutcome;
use crate::record::Timestamp;

impl Capture {
    /// Sends reads as far as the windows allow.
    pub(super) fn send_requests(
        &mut self,
        now: Timestamp,
        image: &mut dyn ImageTxn,
        outcome: &mut StepOutcome,
    ) -> StepResult<()> {
        if let EpochState::Attached(attached) = &self.state
            && let Some(reads) = self.lineage.take_pending()
        {
            let request = Request::new(Purpose::Lineage, reads, attached.follow.end());
            self.counters.requests += 1;
            self.requests.send(request, &mut outcome.requests);
        }
        let may_walk = self.lineage.is_settled();
        let Some((context, follow, walk, requests)) = self.parts(now, image) else {
            return Ok(());
        };
        let covers = follow.end();
        let mut sent = 0;
        let is_follow = |purpose: &Purpose| matches!(purpose, Purpose::Follow);
        while context
            .options
            .limits
            .follow_is_due(requests.under_way(is_follow), follow.to_read.len())
        {
            let reads = follow.next_reads();
            if reads.is_empty() {
                break;
            }
            requests.send(
                Request::new(Purpose::Follow, reads, covers),
                &mut outcome.requests,
            );
            sent += 1;
        }
        if let Some(reads) = follow.next_window() {
            requests.send(
                Request::new(Purpose::Positions, reads, covers),
                &mut outcome.requests,
            );
            sent += 1;
        }
        if let Some(walk) = walk.as_mut().filter(|_| may_walk) {
            let is_walk = |purpose: &Purpose| matches!(purpose, Purpose::WalkRead | Purpose::WalkList);
            while requests.under_way(is_walk) < context.options.limits.walk_window {
                let Some((purpose, reads)) = walk.next_request(context.image)? else {
                    break;
                };
                let request = match walk.is_audit {
                    true => Request::proof(purpose, reads, covers),
                    false => Request::new(purpose, reads, covers),
                };
                requests.send(request, &mut outcome.requests);
                sent += 1;
            }
        }
        self.counters.requests += sent;
        Ok(())
    }
}
