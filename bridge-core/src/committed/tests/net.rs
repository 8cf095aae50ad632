//! The records of single transactions, by the tables of the contract.

use super::bench::{Bench, options};
use super::tree::*;
use crate::capture::AclMode;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::machine::StepError;
use crate::number::{SessionId, Zxid};
use crate::record::{
    Fidelity, Lifetime, LifetimeKind, Op, SUPERSEDED_MAX, SessionEnd, Timestamp, TxnKind, ZxidKind,
};

use LifetimeKind::{Container, Ephemeral, Persistent, Ttl};

/// A bench on `/a` whose server has these znodes.
fn bench(asks: &[Ask]) -> Bench {
    let mut bench = Bench::new(options(&["/a"]));
    bench.server.one(&Ask::Create("/a", "root", Persistent));
    for ask in asks {
        bench.server.one(ask);
    }
    bench.list();
    bench
}

/// Op, path, index, `missed` of each record.
type Row = (Op, &'static str, u32, u64);

fn check(given: &[Ask], asks: &[Ask], expected: &[Row]) {
    let mut bench = bench(given);
    let before = bench.server.tree.clone();
    let txn = match asks {
        [ask] => bench.server.one(ask),
        _ => bench.server.multi(asks),
    };
    bench.send(vec![txn.clone()]).unwrap();
    let records = bench.new_records();
    let found: Vec<_> = records
        .iter()
        .map(|record| {
            let about = record.txn.as_ref().unwrap();
            let path = record.path.clone().unwrap().to_string();
            (record.op, path, about.index, record.missed.unwrap())
        })
        .collect();
    let rows: Vec<_> = expected
        .iter()
        .map(|(op, path, index, missed)| (*op, (*path).to_owned(), *index, *missed))
        .collect();
    assert_eq!(found, rows, "{asks:?}");
    let after = &bench.server.tree;
    for (nth, record) in records.iter().enumerate() {
        let at = record.path.clone().unwrap();
        let about = record.txn.as_ref().unwrap();
        assert_eq!((record.zxid, record.zxid_kind), (Some(txn.zxid), ZxidKind::Exact));
        assert_eq!(record.fidelity, Fidelity::Exact);
        assert_eq!(record.time.changed, Some(Timestamp(txn.time)));
        assert_eq!(about.count as usize, asks.len());
        assert_eq!(about.rest as usize, records.len() - nth - 1);
        assert_eq!((about.session, about.cxid), (txn.session, txn.cxid));
        assert_eq!(about.time, txn.time);
        let listed = usize::try_from(record.missed.unwrap())
            .unwrap()
            .min(SUPERSEDED_MAX);
        assert_eq!(record.superseded, vec![txn.zxid; listed]);
        if let Some(state) = &record.after {
            assert_eq!(state.stat, after.stat(&at), "after {at}");
            let data = state.data.as_ref().map(|data| data.bytes.clone());
            assert_eq!(data, Some(after.nodes[&at].data.clone()), "{at}");
        }
        if let Some(state) = &record.before {
            assert_eq!(state.stat, before.stat(&at), "before {at}");
            let data = state.data.as_ref().map(|data| data.bytes.clone());
            assert_eq!(data, Some(before.nodes[&at].data.clone()), "{at}");
        }
    }
    bench.check_image();
}

#[test]
fn each_operation_has_its_record() {
    let given = [
        Ask::Create("/a/b", "x", Persistent),
        Ask::Create("/a/b/c", "y", Persistent),
    ];
    check(
        &given,
        &[Ask::Create("/a/n", "1", Persistent)],
        &[(Op::Create, "/a/n", 0, 0)],
    );
    check(
        &given,
        &[Ask::Create("/a/b/c/d", "", Container)],
        &[(Op::Create, "/a/b/c/d", 0, 0)],
    );
    check(&given, &[Ask::Set("/a/b", "x")], &[(Op::Update, "/a/b", 0, 0)]);
    check(&given, &[Ask::Set("/a", "root")], &[(Op::Update, "/a", 0, 0)]);
    check(&given, &[Ask::SetAcl("/a/b", "r")], &[(Op::Acl, "/a/b", 0, 0)]);
    check(&given, &[Ask::Delete("/a/b/c")], &[(Op::Delete, "/a/b/c", 0, 0)]);
    check(&given, &[Ask::Create("/elsewhere", "", Persistent)], &[]);
}

#[test]
fn a_multi_has_the_net_effect_on_each_path() {
    let given = [Ask::Create("/a/b", "x", Persistent)];
    let set = |data| Ask::Set("/a/b", data);
    check(&given, &[set("1"), Ask::Check], &[(Op::Update, "/a/b", 0, 0)]);
    check(
        &given,
        &[set("1"), Ask::Check, set("2"), set("3")],
        &[(Op::Update, "/a/b", 3, 2)],
    );
    check(
        &given,
        &[set("1"), set("2"), Ask::Delete("/a/b")],
        &[(Op::Delete, "/a/b", 2, 2)],
    );
    check(
        &given,
        &[
            Ask::Create("/a/n", "1", Persistent),
            Ask::Set("/a/n", "2"),
            Ask::Set("/a/n", "3"),
        ],
        &[(Op::Create, "/a/n", 0, 2)],
    );
    check(
        &given,
        &[Ask::Delete("/a/b"), Ask::Create("/a/b", "new", Persistent)],
        &[(Op::Delete, "/a/b", 0, 0), (Op::Create, "/a/b", 1, 0)],
    );
    check(
        &given,
        &[Ask::Create("/a/n", "", Persistent), Ask::Delete("/a/n")],
        &[],
    );
    check(
        &given,
        &[
            Ask::Delete("/a/b"),
            Ask::Create("/a/b", "2", Persistent),
            Ask::Delete("/a/b"),
            Ask::Create("/a/b", "3", Persistent),
            Ask::Set("/a/b", "4"),
            Ask::Set("/a", "r"),
        ],
        &[
            (Op::Delete, "/a/b", 0, 0),
            (Op::Create, "/a/b", 3, 1),
            (Op::Update, "/a", 5, 0),
        ],
    );
    // Parents before and after their children.
    check(
        &given,
        &[
            Ask::Create("/a/p", "", Persistent),
            Ask::Create("/a/p/q", "", Persistent),
            Ask::Set("/a/p", "late"),
            Ask::Create("/elsewhere", "", Persistent),
        ],
        &[(Op::Create, "/a/p", 0, 1), (Op::Create, "/a/p/q", 1, 0)],
    );
}

#[test]
fn more_than_64_overwritten_values_are_counted_and_the_newest_listed() {
    let given = [Ask::Create("/a/b", "x", Persistent)];
    let asks = vec![Ask::Set("/a/b", "y"); 70];
    check(&given, &asks, &[(Op::Update, "/a/b", 69, 69)]);
}

#[test]
fn a_create_has_the_lifetime_and_the_list_of_its_znode() {
    for (kind, ttl, txn) in [
        (Persistent, None, TxnKind::Create),
        (Ephemeral, None, TxnKind::Create),
        (Container, None, TxnKind::CreateContainer),
        (Ttl, Some(5_000), TxnKind::CreateTtl),
    ] {
        let mut bench = bench(&[]);
        let created = bench.server.one(&Ask::Create("/a/n", "", kind));
        bench.send(vec![created]).unwrap();
        let record = bench.new_records().pop().unwrap();
        assert_eq!(record.lifetime, Some(Lifetime { kind, ttl }));
        assert_eq!(record.acl, Some(acl("cdrwa")));
        assert_eq!(record.ephemeral, Some(kind == Ephemeral));
        assert_eq!(record.txn.as_ref().unwrap().kind, txn);
        bench.check_image();
    }
}

#[test]
fn lists_are_recorded_as_the_source_is_configured_to() {
    let check = |mode, expected: &[(Op, bool)]| {
        let mut options = options(&["/a"]);
        options.capture.acls = mode;
        let mut bench = Bench::new(options);
        bench.server.one(&Ask::Create("/a", "", Persistent));
        bench.list();
        let txns = vec![
            bench.server.one(&Ask::Create("/a/n", "", Persistent)),
            bench.server.one(&Ask::SetAcl("/a/n", "r")),
        ];
        bench.send(txns).unwrap();
        let records = bench.new_records();
        let found: Vec<_> = records
            .iter()
            .map(|record| (record.op, record.acl.is_some()))
            .collect();
        assert_eq!(found, expected, "{mode:?}");
        // Also where it has no record, the image has the change.
        bench.check_image();
    };
    check(AclMode::List, &[(Op::Create, true), (Op::Acl, true)]);
    check(AclMode::Notice, &[(Op::Create, false), (Op::Acl, false)]);
    check(AclMode::Off, &[(Op::Create, false)]);
}

#[test]
fn the_end_of_a_session_deletes_its_znodes_in_the_order_of_its_list() {
    for (cxid, ended_by) in [(0, SessionEnd::Server), (9, SessionEnd::Client)] {
        let mut bench = bench(&[
            Ask::Create("/other", "", Persistent),
            Ask::Create("/a/e2", "2", Ephemeral),
            Ask::Create("/other/e", "", Ephemeral),
            Ask::Create("/a/e1", "1", Ephemeral),
        ]);
        let paths = ["/a/e2", "/other/e", "/a/e1"].map(path).to_vec();
        let mut txn = bench
            .server
            .txn(7, TxnContent::CloseSession { paths: Some(paths) });
        txn.cxid = cxid;
        let txn = bench.server.commit(txn);
        bench.send(vec![txn]).unwrap();
        let records = bench.new_records();
        let found: Vec<_> = records
            .iter()
            .map(|record| {
                let about = record.txn.as_ref().unwrap();
                assert_eq!((about.kind, about.count), (TxnKind::CloseSession, 3));
                assert_eq!(about.ended_by, Some(ended_by));
                assert_eq!(about.session, SessionId(7));
                (record.op, record.path.clone().unwrap().to_string(), about.index)
            })
            .collect();
        let delete = |at: &str, index| (Op::Delete, at.to_owned(), index);
        assert_eq!(found, [delete("/a/e2", 0), delete("/a/e1", 2)]);
        bench.check_image();
    }
}

/// Commits the end of session 7 as a server does that does not list its znodes.
fn unlisted(bench: &mut Bench, deleted: &[&str]) -> CommittedTxn {
    let paths = Some(deleted.iter().map(|at| path(at)).collect());
    let end = bench.server.txn(7, TxnContent::CloseSession { paths });
    let end = bench.server.commit(end);
    CommittedTxn {
        content: TxnContent::CloseSession { paths: None },
        ..end
    }
}

#[test]
fn a_session_end_without_its_list_deletes_what_the_image_has_of_it_in_the_order_of_paths() {
    let mut bench = bench(&[
        Ask::Create("/a/2", "", Persistent),
        Ask::Create("/a/2/e", "", Ephemeral),
        Ask::Create("/a/1", "", Ephemeral),
    ]);
    let other = bench.server.tree.operation(&Ask::Create("/a/3", "", Ephemeral));
    let other = bench.server.txn(8, TxnContent::Single(other));
    let other = bench.server.commit(other);
    let end = unlisted(&mut bench, &["/a/2/e", "/a/1"]);
    bench.send(vec![other, end]).unwrap();
    let records = bench.new_records();
    let found: Vec<_> = records
        .iter()
        .filter(|record| record.op == Op::Delete)
        .map(|record| {
            let about = record.txn.as_ref().unwrap();
            assert_eq!((about.kind, about.session), (TxnKind::CloseSession, SessionId(7)));
            (record.path.as_deref().unwrap(), about.index, about.count)
        })
        .collect();
    assert_eq!(found, [("/a/1", 0, 2), ("/a/2/e", 1, 2)]);
    bench.check_image();

    // It has none any more.
    let again = unlisted(&mut bench, &[]);
    bench.send(vec![again.clone()]).unwrap();
    assert_eq!(bench.new_records(), []);
    assert_eq!(bench.stored_position().zxid, again.zxid);
}

/// All ways in which a session end can be proved: the mode, and whether the server writes digests.
const PROOFS: [(ProofMode, bool); 4] = [
    (ProofMode::Tree, true),
    (ProofMode::Tree, false),
    (ProofMode::Roots, true),
    (ProofMode::Sequence, true),
];

/// A bench that has listed `/a` without `/a/hidden`, which is of session 7.
fn hiding(proof: ProofMode) -> Bench {
    let mut options = options(&["/a"]);
    let glob = globset::Glob::new("/a/hidden").unwrap();
    options.capture.exclude = globset::GlobSetBuilder::new().add(glob).build().unwrap();
    options.proof = proof;
    let mut bench = Bench::new(options);
    bench.server.one(&Ask::Create("/a", "", Persistent));
    bench.server.one(&Ask::Create("/a/hidden", "", Ephemeral));
    bench.list();
    bench
}

#[test]
fn a_session_end_without_its_list_deletes_what_is_not_captured_too() {
    for (proof, has_digest) in PROOFS {
        let mut bench = hiding(proof);
        // Others of the session: a captured one, one outside of the roots that is deleted, and one that is not.
        let asks = [
            Ask::Create("/a/seen", "", Ephemeral),
            Ask::Create("/gone", "", Ephemeral),
            Ask::Delete("/gone"),
            Ask::Create("/out", "", Ephemeral),
        ];
        let mut txns: Vec<CommittedTxn> = asks.iter().map(|ask| bench.server.one(ask)).collect();
        for txn in &mut txns {
            txn.digest = txn.digest.filter(|_| has_digest);
        }
        bench.send(txns).unwrap();
        bench.new_records();
        // The state that the last snapshot brought outlasts the connection and the process.
        bench.crash();
        bench.resume().unwrap();
        let mut end = unlisted(&mut bench, &["/a/hidden", "/a/seen", "/out"]);
        end.digest = end.digest.filter(|_| has_digest);
        bench.send(vec![end]).unwrap();
        let records = bench.new_records();
        let [record] = &records[..] else {
            panic!("{proof:?} {has_digest}: {records:?}")
        };
        let about = record.txn.as_ref().unwrap();
        let found = (record.op, record.path.as_deref(), about.index, about.count);
        assert_eq!(found, (Op::Delete, Some("/a/seen"), 0, 1), "{proof:?}");
        bench.check_image();
        let left = bench.journal.uncaptured_of(SessionId(7)).unwrap();
        assert_eq!(left, Some(Vec::new()), "{proof:?}");
    }
}

#[test]
fn in_a_journal_of_an_earlier_version_a_session_end_without_its_list_is_not_proved_where_it_may_hide_a_child()
{
    for (proof, has_digest) in PROOFS {
        let mut bench = hiding(proof);
        bench.disk.borrow_mut().state.forget_uncaptured();
        let mut end = unlisted(&mut bench, &["/a/hidden"]);
        end.digest = end.digest.filter(|_| has_digest);
        let step = bench.send(vec![end]);
        assert!(
            matches!(step, Err(StepError::Unproved(_))),
            "{proof:?} {has_digest}: {step:?}"
        );
        assert_eq!(bench.new_records(), []);
    }
}

#[test]
fn transactions_without_an_effect_move_the_position() {
    let mut bench = bench(&[]);
    let txn = bench.server.txn(7, TxnContent::Nothing);
    let txn = bench.server.commit(txn);
    bench.send(vec![txn.clone()]).unwrap();
    assert_eq!(bench.new_records(), []);
    let position = bench.stored_position();
    assert_eq!(
        (position.zxid, position.payload_crc),
        (txn.zxid, Some(txn.payload_crc))
    );
}

#[test]
fn excluded_znodes_have_no_records_and_count_as_children() {
    let mut options = options(&["/a"]);
    let glob = globset::Glob::new("/a/hidden").unwrap();
    options.capture.exclude = globset::GlobSetBuilder::new().add(glob).build().unwrap();
    let mut bench = Bench::new(options);
    bench.server.one(&Ask::Create("/a", "", Persistent));
    bench.list();
    let txns = vec![
        bench.server.one(&Ask::Create("/a/hidden", "", Persistent)),
        bench.server.one(&Ask::Create("/a/hidden/deep", "", Persistent)),
        bench.server.one(&Ask::Set("/a/hidden", "x")),
        bench.server.one(&Ask::Set("/a", "x")),
    ];
    bench.send(txns).unwrap();
    let records = bench.new_records();
    let [record] = &records[..] else {
        panic!("{records:?}");
    };
    let before = record.before.as_ref().unwrap().stat.unwrap();
    assert_eq!((before.num_children, before.cversion), (1, 1));
    bench.check_image();
}

#[test]
fn a_transaction_that_contradicts_the_image_is_not_recorded() {
    let contradictions: [fn(&mut NodeOperation); 4] = [
        |operation| {
            if let NodeOperation::SetData { version, .. } = operation {
                *version += 1;
            }
        },
        |operation| {
            if let NodeOperation::SetData { path, .. } = operation {
                *path = super::tree::path("/a/missing");
            }
        },
        |operation| {
            let path = super::tree::path("/a/missing");
            let is_of_container = false;
            *operation = NodeOperation::Delete {
                path,
                is_of_container,
            };
        },
        |operation| {
            *operation = NodeOperation::Create {
                path: super::tree::path("/a/n"),
                data: [].into(),
                acl: Vec::new(),
                lifetime: Lifetime::PERSISTENT,
                parent_cversion: Some(7),
            };
        },
    ];
    for contradict in contradictions {
        let mut bench = bench(&[Ask::Create("/a/b", "x", Persistent)]);
        let at = bench.stored_position();
        let good = bench.server.one(&Ask::Set("/a", "y"));
        let mut bad = bench.server.one(&Ask::Set("/a/b", "y"));
        let TxnContent::Single(operation) = &mut bad.content else {
            panic!("{bad:?}");
        };
        contradict(operation);
        let step = bench.send(vec![good, bad.clone()]);
        assert!(matches!(step, Err(StepError::Unproved(_))), "{bad:?}: {step:?}");
        assert_eq!(bench.new_records(), [], "nothing of the input stays");
        assert_eq!(bench.stored_position(), at);
    }
}

#[test]
fn a_chroot_is_applied_to_records() {
    let mut options = options(&["/a"]);
    options.chroot = Some(path("/app"));
    let mut bench = Bench::new(options);
    bench.server.one(&Ask::Create("/app", "", Persistent));
    bench.server.one(&Ask::Create("/app/a", "", Persistent));
    bench.server.one(&Ask::Create("/a", "", Persistent));
    bench.list();
    let txns = vec![
        bench.server.one(&Ask::Create("/app/a/n", "", Persistent)),
        bench.server.one(&Ask::Create("/a/n", "", Persistent)),
    ];
    bench.send(txns).unwrap();
    let records = bench.new_records();
    let paths: Vec<_> = records.iter().map(|record| record.path.as_deref()).collect();
    assert_eq!(paths, [Some("/a/n")]);
    let parent = bench.journal.node(&path("/a")).unwrap().unwrap().stat.unwrap();
    assert_eq!(
        (parent.num_children, parent.pzxid),
        (1, records[0].zxid.unwrap_or(Zxid::ZERO))
    );
}
