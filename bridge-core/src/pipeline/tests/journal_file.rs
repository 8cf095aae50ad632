//! The journal's file is locked by another program, or gone from its path, while the pipeline runs.

use std::path::PathBuf;

use rusqlite::Connection as Shell;
use tokio::sync::oneshot;

use super::*;
use crate::journal::JournalError;

/// A live pipeline with one record of a snapshot.
async fn live() -> Bench {
    let mut bench = Bench::start(None);
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 3, Some(&[]))]).await;
    bench.durable(3).await;
    bench.status(SourceStatus::is_live).await;
    bench
}

impl Bench {
    /// Registers a sink as a task does that is sent to the pipeline.
    async fn register(&self, sink: &'static str) -> Result<(), JournalError> {
        let (answer, answered) = oneshot::channel();
        let task: WriterTask = Box::new(move |journal| {
            let registered = journal
                .register_sink(sink, Seq::ZERO)
                .and_then(|_| journal.commit());
            answer.send(registered.map(drop)).unwrap();
        });
        self.writer_tasks.send(task).await.unwrap();
        timeout(BOUND, answered)
            .await
            .expect("an answer within the bound")
            .unwrap()
    }

    /// No request since the last check has asked for another connection.
    fn check_connection_kept(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            assert!(
                !matches!(request.request, SourceRequest::Reconnect { .. }),
                "the connection was given up"
            );
        }
    }
}

fn file(bench: &Bench) -> PathBuf {
    bench.folder.path().join("main.journal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_a_shell_keeps_locked_is_waited_for_and_no_connection_is_given_up() {
    let mut bench = live().await;
    let shell = Shell::open(file(&bench)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();

    let held = bench.status(|status| status.trouble.is_some()).await;
    assert!(held.halted.is_none());
    let trouble = held.trouble.unwrap();
    assert!(trouble.contains("SQLite shell"), "{trouble}");
    // An event of this time.
    bench.input(Input::Tick).await;

    shell.execute_batch("COMMIT").unwrap();
    let freed = bench.status(|status| status.trouble.is_none()).await;
    assert!(freed.is_live() && freed.halted.is_none());
    bench.check_connection_kept();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_switched_off_while_a_shell_keeps_the_journal_locked_costs_no_connection() {
    let mut bench = live().await;
    let shell = Shell::open(file(&bench)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reason = "gone".to_owned();
    bench
        .progress
        .send(SinkProgress {
            sink: "slow".into(),
            switch: Some(Switch::Disabled { reason }),
            ..SinkProgress::default()
        })
        .await
        .unwrap();
    bench.status(|status| status.trouble.is_some()).await;
    // Longer than the second attempt.
    tokio::time::sleep(Duration::from_secs(6)).await;

    shell.execute_batch("COMMIT").unwrap();
    let freed = bench.status(|status| status.trouble.is_none()).await;
    assert!(freed.is_live() && freed.halted.is_none());
    bench.check_connection_kept();
    let mut reader = Reader::open(&file(&bench)).unwrap();
    bench.end().await;
    assert!(reader.disabled("slow").unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_inside_its_transaction_leaves_none_open_and_the_source_goes_on() {
    let mut bench = live().await;
    let shell = Shell::open(file(&bench)).unwrap();
    let no_new_sink = "CREATE TRIGGER refuse BEFORE INSERT ON sink BEGIN SELECT RAISE(ABORT, 'refused'); END";
    shell.execute_batch(no_new_sink).unwrap();
    assert!(bench.register("new").await.is_err());
    shell.execute_batch("DROP TRIGGER refuse").unwrap();

    bench.register("new").await.unwrap();
    let status = bench.status(|_| true).await;
    assert!(status.is_live() && status.halted.is_none());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_file_that_cannot_be_opened_is_tried_again_and_does_not_end_the_source() {
    let mut bench = live().await;
    let lock = file(&bench).with_file_name("main.journal.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    // Longer than two ticks.
    tokio::time::sleep(Duration::from_secs(3)).await;
    std::fs::remove_dir(&lock).unwrap();

    let is_locked = async {
        while !lock.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(BOUND, is_locked)
        .await
        .expect("locked again within the bound");
    let status = bench.status(|_| true).await;
    assert!(status.is_live() && status.halted.is_none());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_dir_that_is_removed_under_a_running_source_stops_it_within_seconds() {
    let mut bench = live().await;
    std::fs::remove_dir_all(bench.folder.path()).unwrap();
    let halted = bench
        .status(|status| status.halted.is_some())
        .await
        .halted
        .unwrap();
    assert!(halted.contains("removed or moved away"), "{halted}");
    assert!(bench.thread.join().is_err(), "the pipeline ends with the error");
}
