//! The status of journals that no bridge writes.

use bridge_core::journal::{JournalWriter, SinkState};
use bridge_core::number::Seq;
use bridge_core::record::Timestamp;

use super::scratch::{Scratch, created, time_of, updated};
use crate::status::BridgeStatus;

#[test]
fn the_status_of_a_journal_shows_its_sinks_their_lag_and_sinks_that_are_new() {
    let mut scratch = Scratch::with([
        created("/a", 1, "1"),
        updated("/a", 1, 2, "2"),
        updated("/a", 1, 3, "3"),
    ]);
    scratch.journal.register_sink("audit", Seq(1)).unwrap();
    scratch.journal.register_sink("done", Seq(3)).unwrap();
    scratch.journal.commit().unwrap();
    let query = scratch.query();
    let now = Timestamp(time_of(12));
    let journals = [(&query, vec!["audit", "later"])];
    let status = BridgeStatus::of_journals(journals, now).unwrap();
    assert!(!status.running && !status.ready);
    assert_eq!(
        status.attention,
        ["sink done from main: no sink is configured for this cursor"]
    );
    assert_eq!(
        status.attention_headline().as_deref(),
        Some("1 sink needs attention")
    );
    assert_eq!(status.not_ready, ["no bridge runs on this data_dir"]);
    let source = &status.sources[0];
    assert_eq!((&*source.source, &*source.state), ("main", "stopped"));
    assert_eq!((source.journal.tail, source.journal.records), (Seq(3), 3));
    let sinks: Vec<_> = status
        .sinks
        .iter()
        .map(|sink| {
            (
                &*sink.sink,
                &*sink.state,
                sink.cursor.0,
                sink.lag_records,
                sink.lag_seconds,
            )
        })
        .collect();
    assert_eq!(
        sinks,
        [
            ("audit", "stopped", 1, 2, 10.0),
            ("done", "unconfigured", 3, 0, 0.0),
            ("later", "new", 0, 0, 0.0),
        ]
    );
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<BridgeStatus>(&json).unwrap(), status);
}
