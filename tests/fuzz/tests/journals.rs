//! A journal's file that a disk, a copy or a person changed: it is refused, or read as far as it is whole.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::path::{Path, PathBuf};

use bridge_core::append::{Append, Change, ChangeKind, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Journal, JournalOptions, JournalWriter, ReadLimit, Reader, SinkState};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Record, Stat, Timestamp};
use bridge_fuzz::damaged;
use tempfile::TempDir;

const WORDS: &[&str] = &["SQLite", "\0\0\0\0"];

const LIMIT: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 1 << 20,
};

fn create(at: u64) -> Append {
    let zxid = Zxid(0x2_0000_0000 + at);
    let stat = Stat {
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        data_length: 5,
        ..Stat::default()
    };
    let read = Read {
        stat,
        data: Some(Data::limited(b"value", DataForm::Auto, 1 << 20)),
    };
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(1_795_355_000_120),
        kind: RecordKind::Change(Change {
            path: ZnodePath::parse(&format!("/a/{at}")).unwrap(),
            kind: ChangeKind::Created { read },
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    }
}

/// A small journal, closed, as its bytes.
fn valid(folder: &Path) -> Vec<u8> {
    let file = folder.join("main.journal");
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
    for at in 1..=50 {
        journal.append(create(at)).unwrap();
    }
    journal.register_sink("out", Seq(7)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    std::fs::read(&file).unwrap()
}

/// A journal of these bytes, in a folder of its own.
fn file_of(folder: &Path, bytes: &[u8]) -> (TempDir, PathBuf) {
    let place = tempfile::tempdir_in(folder).unwrap();
    let file = place.path().join("main.journal");
    std::fs::write(&file, bytes).unwrap();
    (place, file)
}

fn read_all(file: &Path) -> Result<Vec<String>, String> {
    let mut reader = Reader::open(file).map_err(|error| error.to_string())?;
    let records = reader.read(Seq::ZERO, LIMIT).map_err(|error| error.to_string())?;
    let texts = records
        .iter()
        .map(|record| serde_json::to_string(&**record).unwrap());
    Ok(texts.collect())
}

#[test]
fn no_damage_of_a_journal_makes_its_reader_panic_or_invent_a_record() {
    let folder = tempfile::tempdir().unwrap();
    damaged!(
        "no_damage_of_a_journal_makes_its_reader_panic_or_invent_a_record",
        300,
        [valid(folder.path())],
        WORDS,
        |_, bytes: &[u8]| {
            let (_place, file) = file_of(folder.path(), bytes);
            match read_all(&file) {
                Err(said) => assert!(said.contains("main.journal"), "{said}"),
                Ok(texts) => {
                    for text in texts {
                        serde_json::from_str::<Record>(&text)
                            .unwrap_or_else(|error| panic!("{error}: {text}"));
                    }
                }
            }
        }
    );
}

#[test]
fn no_damage_of_a_journal_makes_its_writer_panic() {
    let folder = tempfile::tempdir().unwrap();
    damaged!(
        "no_damage_of_a_journal_makes_its_writer_panic",
        300,
        [valid(folder.path())],
        WORDS,
        |_, bytes: &[u8]| {
            let (_place, file) = file_of(folder.path(), bytes);
            if let Ok(mut journal) = Journal::open(&file, &JournalOptions::new("main")) {
                let _ = journal.stats();
                let _ = journal.cursors();
            }
        }
    );
}
