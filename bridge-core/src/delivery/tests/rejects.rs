//! Records that a destination never accepts.

use super::*;
use crate::record::Record;
use crate::testing::a_record;

/// Seq 1 to 12 over `/a`, `/b`, `/c` in turn.
fn three_paths() -> Vec<Arc<Record>> {
    (1..=12)
        .map(|seq| {
            let path = ["/c", "/a", "/b"][(seq % 3) as usize];
            a_record().seq(seq).path(path).arc()
        })
        .collect()
}

fn policy(on_reject: OnReject, rejected_path: RejectedPath) -> Given {
    Given {
        rejects: RejectPolicy {
            on_reject,
            rejected_path,
        },
        ..Given::default()
    }
}

fn letters(journal: &MemoryJournal) -> Vec<u64> {
    let letters = journal.rejected("one");
    letters.iter().map(|letter| letter.seq.0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_rejected_record_becomes_a_dead_letter_and_the_rest_passes() {
    let journal = MemoryJournal::with(three_paths());
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([1, 5, 12]);
    let mut bench = Bench::at(&journal);

    let given = policy(OnReject::DeadLetter, RejectedPath::Continue);
    let mut status = bench.start_scripted("one", &destination, &script, given);
    let end = until_idle_at(&mut status, 12).await;
    bench.stop().await;

    assert_eq!(destination.seqs(), [2, 3, 4, 6, 7, 8, 9, 10, 11]);
    assert_eq!(letters(&journal), [1, 5, 12]);
    assert_eq!((end.delivered, end.rejected, end.error), (9, 3, None));
}

#[tokio::test(start_paused = true)]
async fn with_halt_the_cursor_stays_before_the_record_and_a_later_start_delivers_it() {
    let journal = MemoryJournal::with(three_paths());
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([5]);

    let mut bench = Bench::at(&journal);
    let given = policy(OnReject::Halt, RejectedPath::Continue);
    let mut status = bench.start_scripted("one", &destination, &script, given);
    let halted = until_halted(&mut status).await;
    bench.stop().await;
    assert_eq!(halted.cursor, Seq(4));
    assert_eq!(letters(&journal), [0u64; 0]);
    let failure = halted.error.unwrap();
    assert_eq!(failure.kind, SinkFailureKind::Rejected);
    assert_eq!(failure.message, "record 5 was rejected: scripted: never accepted");

    script.accept_all();
    let mut bench = Bench::at(&journal);
    let given = policy(OnReject::Halt, RejectedPath::Continue);
    let mut status = bench.start_scripted("one", &destination, &script, given);
    until_idle_at(&mut status, 12).await;
    bench.stop().await;
    assert!(destination.seqs().ends_with(&[5, 6, 7, 8, 9, 10, 11, 12]));
}

#[tokio::test(start_paused = true)]
async fn with_block_the_later_records_of_the_path_wait_after_the_rejected_one_as_dead_letters() {
    let journal = MemoryJournal::with(three_paths());
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([4]);
    let mut bench = Bench::at(&journal);

    let given = policy(OnReject::DeadLetter, RejectedPath::Block);
    let mut status = bench.start_scripted("one", &destination, &script, given);
    until_idle_at(&mut status, 12).await;
    bench.stop().await;

    assert_eq!(destination.seqs(), [1, 2, 3, 5, 6, 8, 9, 11, 12]);
    assert_eq!(
        letters(&journal),
        [4, 7, 10],
        "/a waits from the rejected record on"
    );
    let reasons = journal.rejected("one");
    assert_eq!(reasons[0].reason, "scripted: never accepted");
    assert!(
        reasons[1].reason.starts_with("waits for rejected record 4"),
        "{}",
        reasons[1].reason
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_lets_nothing_overtake_a_rejected_record() {
    let journal = MemoryJournal::with(three_paths()[..6].to_vec());
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([2]);
    for tail in [6, 12] {
        let mut bench = Bench::at(&journal);
        let given = policy(OnReject::DeadLetter, RejectedPath::Block);
        let mut status = bench.start_scripted("one", &destination, &script, given);
        until_idle_at(&mut status, tail).await;
        bench.stop().await;
        if tail == 6 {
            script.accept_all();
            journal.append(three_paths().split_off(6));
        }
    }

    assert_eq!(destination.seqs(), [1, 3, 4, 6, 7, 9, 10, 12]);
    assert_eq!(letters(&journal), [2, 5, 8, 11]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_rejects_everything_halts_the_sink_before_its_memory_grows() {
    let count = DEAD_LETTERS_MAX as u64 + 5;
    let journal = MemoryJournal::with(
        (1..=count)
            .map(|seq| a_record().seq(seq).path(&format!("/n/{seq}")).arc())
            .collect(),
    );
    let script = FaultScript::new().rejects(1..=count);
    let mut bench = Bench::at(&journal);

    let given = Given {
        records_at_once: 1000,
        ..policy(OnReject::DeadLetter, RejectedPath::Block)
    };
    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, given);
    let halted = until_halted(&mut status).await;
    bench.stop().await;

    assert_eq!(halted.error.unwrap().kind, SinkFailureKind::TooManyLetters);
    assert_eq!(letters(&journal).len() as u64, halted.cursor.0);
}
