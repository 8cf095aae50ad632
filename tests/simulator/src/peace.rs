//! The end of a seed: the faults end, and everything has to come to rest and to add up.

use bridge_core::capture::CaptureState;

use crate::journal::Faults;
use crate::judge::{Bench, check_arrivals, check_open};
use crate::world::World;

/// Steps in which everything has to come to rest.
const REST_STEPS: usize = 60_000;
/// Virtual time that a quiet bridge has to find out what it could not hear of.
const QUIET_MS: u64 = 12_000;

impl World {
    pub(crate) fn make_peace(&mut self) {
        self.trace(|| "--- no more faults".into());
        self.is_peace = true;
        self.disturbed_ms = self.now_ms;
        self.isolated_until_ms = Some(0);
        self.half_open_until_ms = self.half_open_until_ms.map(|_| 0);
        *self.disk_faults.borrow_mut() = Faults::default();
        self.end_passing_faults();
        for server in 0..self.plan.servers {
            self.ensemble.servers[server].is_up = true;
        }
        self.grant_some();
    }

    /// Everything comes to rest, and adds up.
    pub(crate) fn settle(&mut self) {
        for _ in 0..REST_STEPS {
            self.pass(20);
            self.connection();
            for server in 0..self.plan.servers {
                while self.replicate_one(server) {}
            }
            self.serve();
            self.pipeline();
            self.deliver();
            if self.bridge.as_ref().is_some_and(|bridge| bridge.halted.is_some())
                && self.now_ms >= self.restart_ms
            {
                self.bridge = None;
                for sink in &mut self.sinks {
                    sink.kill();
                }
                self.start();
            }
            // A change without an event is found by comparing, which takes its time.
            let needs_ms = if self.excuses.is_none() { 0 } else { QUIET_MS };
            if self.is_quiet() && self.now_ms >= self.disturbed_ms + needs_ms {
                return self.check_end();
            }
        }
        let state = self.bridge.as_ref().map(|bridge| bridge.flow.machine().state());
        panic!("does not come to rest: {state:?}");
    }

    fn is_quiet(&self) -> bool {
        let Some(bridge) = &self.bridge else { return false };
        let capture = bridge.flow.machine();
        capture.state() == CaptureState::Live
            && capture.waiting() == 0
            && !bridge.flow.has_more()
            && !bridge.has_open_batch
            && bridge.client.is_quiet()
            && self.sinks.iter().all(|sink| sink.is_at_rest(bridge.durable))
    }

    fn check_end(&mut self) {
        self.commit();
        if let Some(bridge) = &self.bridge {
            let state = &self.store.disk.borrow().state;
            for sink in &self.sinks {
                check_arrivals(sink, state);
            }
            let named: Vec<_> = bridge.flow.machine().unreadable(usize::MAX);
            for path in self.ensemble.topmost_unreadable(&self.plan.capture.roots) {
                assert!(
                    named.contains(&path),
                    "{path} may not be read, and nobody says so: {named:?}"
                );
            }
            let topmost = self.ensemble.topmost_unreadable(&self.plan.capture.roots);
            check_open(&state.unreadable.spans, &named, &topmost);
        }
        let bench = Bench {
            ensemble: &self.ensemble,
            excuses: self.excuses,
            seen: &mut self.seen,
        };
        self.judge.check_rest(&bench);
    }
}
