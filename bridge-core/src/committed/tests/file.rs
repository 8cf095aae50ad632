//! The machine on the journal's file.

use super::bench::Bench;
use super::machine::filled;
use super::tree::*;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::journal::{Journal, JournalOptions, JournalWriter, ReadLimit, Reader};
use crate::machine::SourceMachine;
use crate::number::{Seq, SessionId};
use crate::record::{LifetimeKind, Record};
use crate::testing::records_after;

#[test]
fn the_journals_file_gets_the_same_records_position_and_proof_as_the_model() {
    let mut bench = filled();
    bench
        .server
        .one(&Ask::Create("/early", "", LifetimeKind::Ephemeral));
    let operation = Ask::Create("/of-8", "", LifetimeKind::Ephemeral);
    let operation = bench.server.tree.operation(&operation);
    let of_8 = bench.server.txn(8, TxnContent::Single(operation));
    bench.server.commit(of_8);
    bench.list();
    let create = Ask::Create("/a/n", "1", LifetimeKind::Ttl);
    let txns = vec![
        bench
            .server
            .multi(&[create, Ask::Set("/a/n", "2"), Ask::Delete("/a/1")]),
        bench.server.one(&Ask::SetAcl("/a/n", "r")),
        bench.server.one(&Ask::Create("/b", "", LifetimeKind::Container)),
    ];
    bench.send(txns).unwrap();
    // A hole, and a gap.
    bench.server.one(&Ask::Set("/a/n", "lost"));
    let after = bench.server.one(&Ask::Set("/a/n", "w"));
    bench.send(vec![after]).unwrap_err();
    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    let last = bench.server.one(&Ask::Delete("/a/n"));
    bench.send(vec![last]).unwrap();
    // A session that ends without its list has znodes that are not captured, from the snapshot and from after it.
    let ends = |session: u64, paths: &[&str], bench: &mut Bench| {
        let paths = Some(paths.iter().map(|at| path(at)).collect());
        let end = bench.server.txn(session, TxnContent::CloseSession { paths });
        let end = bench.server.commit(end);
        let content = TxnContent::CloseSession { paths: None };
        CommittedTxn { content, ..end }
    };
    let later = bench
        .server
        .one(&Ask::Create("/later", "", LifetimeKind::Ephemeral));
    let owners = [SessionId(7), SessionId(8)];
    let end = ends(8, &["/of-8"], &mut bench);
    bench.send(vec![later, end]).unwrap();
    let owned = owners.map(|owner| bench.journal.uncaptured_of(owner).unwrap());
    let of_7 = vec![path("/early"), path("/later")];
    assert_eq!(owned, [Some(of_7), Some(Vec::new())]);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
    let mut machine = Committed::new(bench.options.clone());
    for (now, input) in std::mem::take(&mut bench.inputs) {
        match machine.step(now, input, &mut journal) {
            Ok(_) => {
                journal.commit().unwrap();
                machine.committed();
            }
            Err(error) => {
                journal.rollback().unwrap();
                machine.reset(&error).unwrap();
            }
        }
    }
    let limit = ReadLimit {
        records: 1_000,
        bytes: usize::MAX,
    };
    let mut reader = Reader::open(&file).unwrap();
    let json = |record: &Record| String::from_utf8(record.to_json()).unwrap();
    let found: Vec<_> = reader
        .read(Seq::ZERO, limit)
        .unwrap()
        .iter()
        .map(|record| json(record))
        .collect();
    let records = records_after(&bench.disk.borrow(), Seq::ZERO, usize::MAX);
    let expected: Vec<_> = records.iter().map(|record| json(record)).collect();
    assert_eq!(found, expected);
    assert!(
        expected.iter().any(|record| record.contains("\"ttl\":5000")),
        "{expected:?}"
    );
    assert_eq!(journal.position().unwrap(), bench.journal.position().unwrap());
    for at in bench.server.tree.nodes.keys().chain([&path("/a/n")]) {
        let key = ShadowKey::of(at);
        assert_eq!(
            journal.shadow(&key).unwrap(),
            bench.journal.shadow(&key).unwrap(),
            "{at}"
        );
    }
    assert_eq!(owners.map(|owner| journal.uncaptured_of(owner).unwrap()), owned);
    assert_eq!(reader.inspect(|_| {}).unwrap().findings, []);
}
