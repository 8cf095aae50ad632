//! The journal's file is locked by another program, or gone from its path, while the pipeline runs.

use std::path::PathBuf;

use rusqlite::Connection as Shell;

use super::*;

/// A live pipeline with one record of a snapshot.
async fn live() -> Bench {
    let mut bench = Bench::start(None);
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 3, Some(&[]))]).await;
    bench.durable(3).await;
    bench.status(SourceStatus::is_live).await;
    bench
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
    while let Ok(request) = bench.requests.try_recv() {
        assert!(
            !matches!(request.request, SourceRequest::Reconnect { .. }),
            "the connection was given up"
        );
    }
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
