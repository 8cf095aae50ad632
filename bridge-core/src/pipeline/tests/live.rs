//! How far capture is known to have been live, in time: a gap begins there, and not where the bridge is back.

use super::*;
use crate::capture::{Event, EventKind};
use crate::machine::CaptureState;
use crate::record::Gap;

/// A bridge with a tree of one znode, on the journal of a folder.
struct Bridge(Flow<Journal>);

impl Bridge {
    fn start(folder: &TempDir) -> Bridge {
        let file = folder.path().join("main.journal");
        let journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
        Bridge(Flow::new(machine(), journal, 1))
    }

    fn input(&mut self, input: Input, now: i64) {
        self.0.report(SourceEvent::Input(input), Timestamp(now)).unwrap();
        self.answer(now);
    }

    fn connect(&mut self, now: i64) {
        self.compare(now);
        self.0.commit().unwrap();
        assert_eq!(self.0.machine().state(), CaptureState::Live);
    }

    /// Connects and compares in a batch that stays open.
    fn compare(&mut self, now: i64) {
        let session = SessionFate::New;
        let connection = Connection(now.unsigned_abs());
        let report = SourceEvent::Connected {
            connection,
            session,
            server: None,
        };
        self.0.report(report, Timestamp(now)).unwrap();
        self.answer(now);
        assert_eq!(self.0.machine().state(), CaptureState::Live);
    }

    /// The connection answers every request at once.
    fn answer(&mut self, now: i64) {
        while let Some(event) = self.0.next_event() {
            let PipelineEvent::Request(AddressedRequest { request, .. }) = event else {
                continue;
            };
            match request {
                SourceRequest::Arm(_) => self.input(Input::Armed, now),
                SourceRequest::Read { ticket, reads } => {
                    let one = |read: &ReadRequest| znode(1, 3, read.children.then_some(&[]));
                    let outcomes = reads.iter().map(one).collect();
                    self.input(Input::Answer { ticket, outcomes }, now);
                }
                _ => {}
            }
        }
    }

    /// A second passes; every tenth stores how far capture is live.
    fn tick(&mut self, now: i64) {
        self.0.tick(Timestamp(now)).unwrap();
        self.answer(now);
        self.0.commit().unwrap();
        if now % 10_000 == 0 {
            self.0.retain(Timestamp(now)).unwrap();
        }
    }
}

fn reader(folder: &TempDir) -> Reader {
    Reader::open(&folder.path().join("main.journal")).unwrap()
}

/// The begin of the last gap.
fn last_gap(folder: &TempDir) -> Gap {
    let marks = reader(folder).marks(Seq::ZERO, 100).unwrap().unwrap();
    let begin = marks.iter().rev().find(|mark| mark.op == Op::GapBegin);
    begin.unwrap().gap.clone().unwrap()
}

#[test]
fn the_gap_after_a_bridge_was_killed_begins_at_most_ten_seconds_before_that() {
    let folder = TempDir::new().unwrap();
    let mut bridge = Bridge::start(&folder);
    bridge.connect(1_000);
    for now in [9_000, 10_000, 11_000, 17_000] {
        bridge.tick(now);
    }
    drop(bridge);
    assert_eq!(reader(&folder).live_until().unwrap(), Some(Timestamp(10_000)));

    Bridge::start(&folder).connect(900_000);
    assert_eq!(last_gap(&folder).since, Some(Timestamp(10_000)));
}

#[test]
fn the_gap_of_a_lost_connection_begins_with_the_last_moment_of_the_connection() {
    let folder = TempDir::new().unwrap();
    let mut bridge = Bridge::start(&folder);
    bridge.connect(1_000);
    bridge.tick(2_000);
    bridge.input(Input::Disconnected, 3_000);
    for now in [4_000, 500_000] {
        bridge.tick(now);
    }
    bridge.connect(600_000);
    assert_eq!(last_gap(&folder).since, Some(Timestamp(2_000)));
}

#[test]
fn a_bridge_that_stood_still_is_live_again_only_when_a_lost_connection_would_have_shown() {
    // The connection notices only after a while that it is lost.
    for (noticed, expected) in [(3_602_000, 2_000), (3_700_000, 3_699_000)] {
        let folder = TempDir::new().unwrap();
        let mut bridge = Bridge::start(&folder);
        bridge.connect(1_000);
        bridge.tick(2_000);
        // The machine is suspended for an hour.
        for now in (3_600_000..noticed).step_by(1_000) {
            bridge.tick(now);
        }
        bridge.input(Input::Disconnected, noticed);
        bridge.connect(noticed + 1_000);
        assert_eq!(last_gap(&folder).since, Some(Timestamp(expected)), "{noticed}");
    }
}

#[test]
fn a_bridge_that_ends_stores_how_far_its_connection_was_live_and_no_later_moment() {
    let folder = TempDir::new().unwrap();
    let mut bridge = Bridge::start(&folder);
    bridge.connect(1_000);
    bridge.tick(12_000);
    bridge.0.ended();
    // The sinks are still at work.
    bridge.tick(19_000);
    bridge.0.store_progress().unwrap();
    assert_eq!(reader(&folder).live_until().unwrap(), Some(Timestamp(12_000)));
}

#[test]
fn a_watch_that_was_lost_without_an_error_names_no_moment_at_which_it_was_live() {
    let folder = TempDir::new().unwrap();
    let mut bridge = Bridge::start(&folder);
    bridge.connect(1_000);
    bridge.tick(2_000);
    bridge.input(Input::Unanswered, 3_000);
    bridge.connect(4_000);
    let gap = last_gap(&folder);
    assert_eq!((gap.reason.as_str(), gap.since), ("liveness", None));
}

/// More events than may wait by default, so that the step fails and the open batch is rolled back.
fn flood() -> Input {
    let event = |at: u64| Event {
        path: ZnodePath::parse(&format!("/a/n{at}")).unwrap(),
        kind: EventKind::Created,
        zxid: Some(Zxid(2_000 + at)),
    };
    Input::Events((0..300_000).map(event).collect())
}

#[test]
fn a_gap_whose_end_was_rolled_back_begins_where_it_began_before() {
    let check = |end: &dyn Fn(&mut Bridge), expected: (&str, Option<i64>)| {
        let folder = TempDir::new().unwrap();
        let mut bridge = Bridge::start(&folder);
        bridge.connect(1_000);
        bridge.tick(10_000);
        end(&mut bridge);
        bridge.compare(900_000);
        bridge.input(flood(), 900_001);
        assert_eq!(bridge.0.machine().state(), CaptureState::Detached);
        bridge.connect(950_000);
        let gap = last_gap(&folder);
        let since = expected.1.map(Timestamp);
        assert_eq!((gap.reason.as_str(), gap.since), (expected.0, since));
    };
    check(
        &|bridge| bridge.input(Input::Unanswered, 11_000),
        ("liveness", None),
    );
    check(
        &|bridge| bridge.input(Input::Disconnected, 11_000),
        ("overflow", Some(10_000)),
    );
}
