//! The bridge's process: how it starts from what is on the disk, and what is left when it or the power is gone.

use std::rc::Rc;

use bridge_core::capture::Capture;
use bridge_core::journal::{JournalWriter, SinkState};
use bridge_core::number::Seq;
use bridge_core::pipeline::Flow;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::Client;
use crate::controls::Habit;
use crate::coverage::{Coverage, Seen};
use crate::journal::Tap;
use crate::judge::Bench;
use crate::sinks::Sink;
use crate::world::{Bridge, World};

impl World {
    /// The process starts.
    pub(crate) fn start(&mut self) {
        self.seen.see(Seen::Restarted);
        self.trace(|| "the bridge starts".into());
        self.liveness.started(self.now_ms);
        let mut journal = self.store.open();
        let names: Vec<_> = self.sinks.iter().map(|sink| sink.name.clone()).collect();
        let cursors: Vec<Seq> = names
            .iter()
            .map(|name| journal.register_sink(name, Seq::ZERO))
            .collect::<Result<_, _>>()
            .expect("sinks can be registered");
        journal.commit().expect("sinks can be stored");
        for (sink, cursor) in self.sinks.iter_mut().zip(cursors) {
            sink.start(cursor, &self.store, self.now_ms, &mut self.seen);
        }
        let tail = Seq(self.store.disk.borrow().state.model.records.len() as u64);
        let (faults, trail) = (Rc::clone(&self.disk_faults), Rc::clone(&self.trail));
        let tap = Tap::new(journal, tail, faults, trail, self.habit);
        let mut options = self.plan.capture.clone();
        options.seed = self.random.random();
        options.accept_baseline = std::mem::take(&mut self.accepts_baseline);
        let is_stored = self.store.disk.borrow().state.due_gap.is_some();
        self.judge.starts(options.accept_baseline, is_stored);
        if options.accept_baseline {
            self.excuses.accepted_baseline = true;
            self.seen.see(Seen::BaselineAccepted);
        }
        let random = StdRng::seed_from_u64(self.random.random());
        let jitter_seed = self.random.random();
        self.bridge = Some(Bridge {
            flow: Flow::new(Box::new(Capture::new(options)), tap, jitter_seed),
            client: Client::new(&self.plan, random, self.habit, self.now_ms),
            durable: tail,
            has_open_batch: false,
            halted: None,
            beats: 0,
            next_beat_ms: self.now_ms,
            walk_reads: 0,
            unreadable: Vec::new(),
        });
    }

    /// The process is killed: what is not committed is gone.
    pub(crate) fn kill(&mut self) {
        self.trace(|| "the bridge is killed".into());
        self.seen.see(Seen::Killed);
        if let Some(bridge) = self.bridge.take() {
            let behind = self
                .sinks
                .iter()
                .filter_map(Sink::cursor)
                .any(|cursor| cursor < bridge.durable);
            if behind {
                self.seen.see(Seen::KilledBeforeDelivery);
            }
        }
        for sink in &mut self.sinks {
            if sink.kill() {
                self.seen.see(Seen::KilledBeforeNote);
            }
        }
        if self.habit == Some(Habit::CheckpointAfterAck) {
            self.lose_power();
        }
        self.restart_ms = self.now_ms + self.random.random_range(10..3_000);
    }

    /// Unsynchronised data is lost; the sinks keep the records that they got.
    pub(crate) fn lose_power(&mut self) {
        let lost = self.store.disk.borrow_mut().lose_power();
        if lost == 0 {
            return;
        }
        self.trace(|| format!("{lost} records are lost"));
        self.seen.see(Seen::CommitsLost);
        let tail = self.store.disk.borrow().state.model.records.len();
        self.timed = self.timed.min(tail);
        let mut bench = Bench {
            ensemble: &self.ensemble,
            excuses: self.excuses,
            seen: &mut Coverage::default(),
        };
        self.judge.forget_behind(tail, &mut bench);
        if self.habit != Some(Habit::CheckpointAfterAck) {
            // The documented price of durability = "process_crash": a destination may hold what the journal lost.
            for sink in &mut self.sinks {
                sink.forget_behind(Seq(tail as u64));
            }
        }
    }

    /// The disk writes when it likes; with the wrong habit, when all sinks have acknowledged.
    pub(crate) fn checkpoint(&mut self) {
        let may = match self.habit {
            Some(Habit::CheckpointAfterAck) => {
                let disk = self.store.disk.borrow();
                let tail = Seq(disk.state.model.records.len() as u64);
                disk.state.cursors.values().all(|cursor| *cursor == tail)
            }
            _ => self.random.random_bool(0.2),
        };
        if may {
            self.store.disk.borrow_mut().sync();
        }
    }
}
