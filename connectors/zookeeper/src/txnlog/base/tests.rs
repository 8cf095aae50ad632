//! Snapshots of servers, some of which have what was never committed.

use bridge_core::number::Zxid;
use bridge_transactions::testing;

use super::*;

/// The first zxid of an epoch, less one.
const NEXT: i64 = 1 << 32;

/// A folder with a log of transactions, and a snapshot after each of some of them.
fn folder(zxids: &[i64], snapshots: &[i64]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (all, _) = testing::some_creates(zxids);
    if let Some(first) = zxids.first() {
        let name = folder.path().join(format!("log.{first:x}"));
        std::fs::write(name, testing::log_file(&all)).unwrap();
    }
    for zxid in snapshots {
        let upto: Vec<i64> = zxids.iter().copied().filter(|one| one <= zxid).collect();
        std::fs::write(
            folder.path().join(format!("snapshot.{zxid:x}")),
            testing::snapshot_after_creates(&upto),
        )
        .unwrap();
    }
    folder
}

/// Runs something with the files of some folders.
fn with<T>(folders: &[&tempfile::TempDir], run: impl FnOnce(&Sources<'_>) -> T) -> T {
    let stage_folder = tempfile::tempdir().unwrap();
    let folders: Vec<LogFolder> = folders.iter().map(|one| LogFolder::new(one.path())).collect();
    run(&Sources {
        folders: &folders,
        stage_folder: stage_folder.path(),
        is_stopped: &|| false,
    })
}

#[test]
fn folders_whose_snapshots_cannot_be_read_have_one_remedy() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("snapshot.1"), "no snapshot").unwrap();
    let text = with(&[&home], |sources| match sources.stage(0, &[9], &[]) {
        Ok(base) => panic!("{}", base.name),
        Err(error) => error.to_string(),
    });
    assert!(text.contains("snapshot.1: "), "{text}");
    assert_eq!(text.matches("help: ").count(), 1, "{text}");
}

#[test]
fn a_snapshot_that_a_server_or_a_log_shows_to_be_committed_is_taken_before_a_newer_one() {
    // The leader wrote a snapshot of its own log, and no quorum had followed it.
    let (before, dead) = (NEXT + 2, NEXT + 4);
    let leader = folder(&[NEXT + 1, before, NEXT + 3, dead], &[before, dead]);
    let follower = folder(&[NEXT + 1, before, NEXT + 3], &[]);
    let check = |folders: &[&tempfile::TempDir], applied: &[i64], refused: &[i64], expected: i64| {
        let base = with(folders, |sources| {
            sources.stage(2, applied, refused).unwrap().zxid
        });
        assert_eq!(base, expected, "{applied:x?} without {refused:x?}");
    };
    let applied = [NEXT + 3, 2 * NEXT];
    for folders in [&[&leader][..], &[&leader, &follower], &[&follower, &leader]] {
        check(folders, &applied, &[], before);
        check(folders, &applied, &[before], dead);
        check(folders, &applied, &[before, dead], 0);
        // A server that has applied it shows that it was committed.
        check(folders, &[dead], &[], dead);
    }
    // The next epoch begins after the one before it.
    let right = folder(&[NEXT + 1, before, NEXT + 3, 2 * NEXT + 1], &[]);
    check(&[&leader, &right], &[2 * NEXT + 1], &[], before);
}

#[test]
fn a_position_is_found_although_a_newer_snapshot_before_it_has_what_was_never_committed() {
    let dead = folder(&[NEXT + 1, NEXT + 2, NEXT + 3], &[NEXT + 3]);
    let zxids = [NEXT + 1, NEXT + 2, 2 * NEXT + 1, 2 * NEXT + 2];
    let right = folder(&zxids, &[NEXT + 1]);
    let (all, tree) = testing::some_creates(&zxids);
    let at = HistoryPosition {
        zxid: Zxid(all[3].zxid.cast_unsigned()),
        payload_crc: Some(all[3].payload_crc),
        digest: Some(tree.digest()),
        ..HistoryPosition::default()
    };
    let resume = |folders: &[&tempfile::TempDir], at: &HistoryPosition| {
        with(folders, |sources| sources.resume(at, &[all[3].zxid]).unwrap())
    };
    for folders in [[&dead, &right], [&right, &dead]] {
        let Resumed::From(history) = resume(&folders, &at) else {
            panic!("the logs lead to the position")
        };
        assert!(history.is_proved() && history.has_digest(tree.digest()));
    }
    assert!(matches!(resume(&[&dead], &at), Resumed::Missing));
    let other = HistoryPosition {
        payload_crc: at.payload_crc.map(|crc| crc ^ 1),
        ..at
    };
    assert!(matches!(resume(&[&right], &other), Resumed::Other));
}
