//! The reason for which the tree is compared, after a batch was rolled back.

use std::path::Path;

use super::rules::{self, Bench, found, path, stat};
use crate::capture::{Capture, CaptureOptions, CaptureState, Input, SessionFate, StepError, Ticket};
use crate::journal::{JournalError, JournalErrorKind, JournalWriter};
use crate::machine::SourceMachine;
use crate::record::GapReason;
use crate::source::{ReadRequest, SourceRequest};

impl Bench {
    /// The journal has no room for the open batch.
    fn roll_back(&mut self) {
        let error = JournalError::new(JournalErrorKind::DiskFull, Path::new("main.journal"), "no room");
        self.image.rollback().unwrap();
        self.capture.reset(&StepError::Journal(error)).unwrap();
    }

    /// Connects in a batch that stays open, up to the first read of the walk.
    fn connect_uncommitted(&mut self) -> Ticket {
        self.input_uncommitted(Input::Connected {
            session: SessionFate::New,
        });
        let requests = self.input_uncommitted(Input::Armed);
        let [SourceRequest::Read { ticket, reads }] = &requests[..] else {
            panic!("{requests:?}");
        };
        if reads.iter().any(|read| read.children) {
            return *ticket;
        }
        let known = |read: &ReadRequest| found(self.image.image()[&read.path].stat.unwrap(), None);
        let (ticket, outcomes) = (*ticket, reads.iter().map(known).collect());
        rules::ticket(&self.input_uncommitted(Input::Answer { ticket, outcomes }))
    }
}

/// Of the last gap that ended.
fn reason_of(bench: &Bench) -> GapReason {
    bench.last_gap().unwrap().1
}

#[test]
fn a_comparison_that_was_rolled_back_is_made_again_for_the_same_reason() {
    let check = |case: &str, reason: GapReason, end: &dyn Fn(&mut Bench)| {
        let mut bench = Bench::live();
        end(&mut bench);
        let mut begun = Vec::new();
        for is_kept in [false, false, true] {
            let ticket = bench.connect_uncommitted();
            let outcomes = vec![found(stat(1, 1, 0, 1, 0), Some(&[]))];
            bench.input_uncommitted(Input::Answer { ticket, outcomes });
            assert_eq!(bench.capture.state(), CaptureState::Live, "{case}");
            begun.push(reason_of(&bench));
            match is_kept {
                true => {
                    bench.image.commit().unwrap();
                    bench.capture.committed();
                }
                false => bench.roll_back(),
            }
        }
        assert_eq!(begun, [reason; 3], "{case}");
        bench.roll_back();
        bench.go_live();
        assert_eq!(reason_of(&bench), GapReason::Expired, "{case}: it is durable");
    };
    let accepting = || {
        let mut options = CaptureOptions::new("main", vec![path("/a")]);
        options.accept_baseline = true;
        Capture::new(options)
    };
    check("expired", GapReason::Expired, &|bench| {
        bench.input(Input::Disconnected);
    });
    check("unanswered", GapReason::Liveness, &|bench| {
        bench.input(Input::Unanswered);
    });
    check("overflow", GapReason::Overflow, &|bench| {
        bench.input(Input::Overflow);
    });
    check("accepted", GapReason::Rebaselined, &|bench| {
        bench.capture = accepting();
    });
    check(
        "a dead watch, and then an overflow",
        GapReason::Liveness,
        &|bench| {
            bench.input(Input::Unanswered);
            bench.connect();
            bench.input(Input::Overflow);
        },
    );
}

#[test]
fn a_connection_that_the_journal_could_not_take_leaves_the_reason_of_the_gap() {
    let mut bench = Bench::live();
    bench.input(Input::Unanswered);
    bench.input_uncommitted(Input::Connected {
        session: SessionFate::New,
    });
    bench.roll_back();
    bench.go_live();
    assert_eq!(reason_of(&bench), GapReason::Liveness);
}
