//! A journal that a source has written whose `capture` was another one.

use super::rules::{Bench, found, stat};
use crate::append::RecordKind;
use crate::capture::{CaptureState, Input};
use crate::committed::HistoryPosition;
use crate::image_txn::ImageTxn;
use crate::machine::SourceMachine;
use crate::number::Zxid;
use crate::record::GapReason;

impl Bench {
    /// The bound and the reason of the last gap that ended.
    pub(super) fn last_gap(&self) -> Option<(Zxid, GapReason)> {
        self.image
            .appended
            .iter()
            .rev()
            .find_map(|entry| match &entry.kind {
                RecordKind::GapEnd {
                    from_zxid, reason, ..
                } => Some((*from_zxid, *reason)),
                _ => None,
            })
    }
}

#[test]
fn a_journal_with_a_position_is_compared_in_a_gap_that_says_so_and_loses_the_position() {
    let mut bench = Bench::live();
    let position = HistoryPosition {
        zxid: Zxid(50),
        ..HistoryPosition::default()
    };
    bench.image.set_position(Some(&position)).unwrap();

    // Cut before the comparison has ended: the reason and the bound stay, and no source may resume from there.
    bench.input(Input::Disconnected);
    bench.connect();
    let left = bench
        .image
        .position()
        .unwrap()
        .expect("it is the bound of the gap");
    assert_eq!(left, position.left_in_other_mode());
    assert_ne!(left.scope, position.scope);
    bench.input(Input::Disconnected);
    let ticket = bench.connect();
    bench.answer(ticket, vec![found(stat(1, 1, 0, 60, 0), Some(&[]))]);
    assert_eq!(bench.capture.state(), CaptureState::Live);
    assert_eq!(bench.last_gap(), Some((Zxid(50), GapReason::Mode)));
    assert_eq!(bench.image.position().unwrap(), None);

    bench.input(Input::Disconnected);
    let ticket = bench.connect();
    bench.answer(ticket, vec![found(stat(1, 1, 0, 60, 0), Some(&[]))]);
    assert_eq!(bench.last_gap(), Some((Zxid(60), GapReason::Expired)));
}
