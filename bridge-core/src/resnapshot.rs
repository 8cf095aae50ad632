//! A run of `snapshot` records made from the image: the last known state of every existing znode of a root.
//!
//! With `snapshot = "always"` the run of a root is appended after each gap, for every sink. A snapshot for one sink is
//! made by the journal when it is read (`journal/sink_snapshot.rs`) and is not appended.
//!
//! The run has the znodes that are reachable from the root through existing znodes: a znode below one that was never
//! readable is left out.
//!
//! A run that a crash interrupted has no end; the next one has another id.

use uuid::Uuid;

use crate::append::{Append, Change, ChangeKind, RecordKind};
use crate::image_txn::{ImageTxn, Node};
use crate::journal::JournalError;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Fidelity, Timestamp};

/// Children read at once and held for each level of the tree.
const CHILDREN_AT_ONCE: usize = 128;

/// Appends the run of one root, some records at a time: the caller commits in between, so that no transaction grows
/// with the tree. Memory is bounded by the depth of the tree.
#[derive(Debug)]
pub struct Resnapshot {
    root: ZnodePath,
    run: Uuid,
    captured: Timestamp,
    levels: Vec<Level>,
    nodes: u64,
    newest: Option<Zxid>,
    phase: ResnapshotPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResnapshotPhase {
    Begin,
    Walk,
    Done,
}

/// A znode whose children are appended next.
#[derive(Debug)]
struct Level {
    path: ZnodePath,
    /// The next children, in reverse order; never kept from one step to the next.
    next: Vec<(Box<str>, Node)>,
    /// The last child that was appended.
    after: Option<Box<str>>,
}

impl Resnapshot {
    /// A run with this id, from its begin.
    pub fn new(root: ZnodePath, run: Uuid, captured: Timestamp) -> Resnapshot {
        Resnapshot {
            root,
            run,
            captured,
            levels: Vec::new(),
            nodes: 0,
            newest: None,
            phase: ResnapshotPhase::Begin,
        }
    }

    /// Whether the end of the run is appended.
    pub fn is_done(&self) -> bool {
        self.phase == ResnapshotPhase::Done
    }

    /// Znodes appended so far.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Appends about `budget` records, parents before their children.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn step(&mut self, image: &mut (impl ImageTxn + ?Sized), budget: usize) -> Result<(), JournalError> {
        if self.phase == ResnapshotPhase::Begin {
            self.append(image, RecordKind::RunBegin { run: self.run })?;
            self.phase = ResnapshotPhase::Walk;
            let root = self.root.clone();
            let node = image.node(&root)?;
            self.visit(image, root, node)?;
        }
        // These znodes may have been deleted since the last step.
        for level in &mut self.levels {
            level.next.clear();
        }
        for _ in 0..budget {
            if self.phase == ResnapshotPhase::Done {
                return Ok(());
            }
            self.next(image)?;
        }
        Ok(())
    }

    fn next(&mut self, image: &mut (impl ImageTxn + ?Sized)) -> Result<(), JournalError> {
        let Some(level) = self.levels.last_mut() else {
            return self.end(image);
        };
        if level.next.is_empty() {
            let after = level.after.as_deref();
            level.next = image.children(&level.path, after, CHILDREN_AT_ONCE)?;
            level.next.reverse();
        }
        match level.next.pop() {
            Some((name, node)) => {
                let path = level.path.child(&name);
                level.after = Some(name);
                self.visit(image, path, Some(node))
            }
            None => {
                self.levels.pop();
                Ok(())
            }
        }
    }

    /// Appends a znode. One that was not read yet has no state; its first read makes an `update`.
    fn visit(
        &mut self,
        image: &mut (impl ImageTxn + ?Sized),
        path: ZnodePath,
        node: Option<Node>,
    ) -> Result<(), JournalError> {
        if let Some(stat) = node.and_then(|node| node.stat) {
            self.nodes += 1;
            self.newest = self.newest.max(Some(stat.newest_zxid()));
            let kind = ChangeKind::Restated {
                run: self.run,
                index: self.nodes,
            };
            let change = Change {
                path: path.clone(),
                kind,
                fidelity: Fidelity::Reconciled,
                missed: None,
                superseded: Vec::new(),
                txn: None,
                facts: None,
            };
            self.append(image, RecordKind::Change(change))?;
        }
        self.levels.push(Level {
            path,
            next: Vec::new(),
            after: None,
        });
        Ok(())
    }

    fn end(&mut self, image: &mut (impl ImageTxn + ?Sized)) -> Result<(), JournalError> {
        self.phase = ResnapshotPhase::Done;
        let end = RecordKind::RunEnd {
            run: self.run,
            index: self.nodes + 1,
            nodes: self.nodes,
            unreadable: 0,
            zxid: self.newest,
            is_exact: false,
        };
        self.append(image, end)
    }

    fn append(&self, image: &mut (impl ImageTxn + ?Sized), kind: RecordKind) -> Result<(), JournalError> {
        let entry = Append {
            root: Some(self.root.clone()),
            captured: self.captured,
            kind,
        };
        image.append(entry).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::amount::{Horizon, Span};
    use crate::append::{DeletedAt, Read};
    use crate::journal::{Journal, JournalOptions, JournalWriter, ReadLimit, Reader, SinkState};
    use crate::number::Seq;
    use crate::record::{Data, DataForm, Op, Record, Stat};

    const DAY_MS: i64 = 86_400_000;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn change(at: &str, kind: ChangeKind) -> Append {
        Append {
            root: Some(path("/a")),
            captured: Timestamp(0),
            kind: RecordKind::Change(Change {
                path: path(at),
                kind,
                fidelity: Fidelity::Exact,
                missed: Some(0),
                superseded: Vec::new(),
                txn: None,
                facts: None,
            }),
        }
    }

    fn read(czxid: u64, mzxid: u64, version: i32, text: &str) -> Read {
        Read {
            stat: Stat {
                czxid: Zxid(czxid),
                mzxid: Zxid(mzxid),
                version,
                ..Stat::default()
            },
            data: Some(Data::limited(text.as_bytes(), DataForm::Auto, 99)),
        }
    }

    fn created(at: &str, zxid: u64, text: &str) -> Append {
        let read = read(zxid, zxid, 0, text);
        change(at, ChangeKind::Created { read })
    }

    /// `/a` with 300 children, one of them written again, one gone, one with a child, one never read; everything
    /// older than a day removed by retention.
    fn a_journal_without_its_beginning(file: &std::path::Path) -> Journal {
        let mut options = JournalOptions::new("main");
        options.retention = Horizon::For(Span::secs(86_400));
        let mut journal = Journal::open(file, &options).unwrap();
        journal.append(created("/a", 10, "top")).unwrap();
        for child in 0..300 {
            let entry = created(&format!("/a/n{child:03}"), 100 + child, &format!("v{child}"));
            journal.append(entry).unwrap();
        }
        let unread = ChangeKind::CreatedUnread {
            czxid: Zxid(900),
            ephemeral: None,
            ctime: None,
        };
        let gone = ChangeKind::Deleted {
            at: DeletedAt::Exact(Zxid(902)),
        };
        let written = ChangeKind::Updated {
            read: read(100, 903, 1, "again"),
        };
        for entry in [
            change("/a/unread", unread),
            created("/a/n007/below", 901, "deep"),
            change("/a/n001", gone),
            change("/a/n000", written),
        ] {
            journal.append(entry).unwrap();
        }
        journal.commit().unwrap();
        let removed = journal.maintain(Timestamp(2 * DAY_MS), 10_000).unwrap();
        assert!(removed.removed > 300, "{removed:?}");
        journal
    }

    fn read_all(file: &std::path::Path, after: Seq) -> Vec<Arc<Record>> {
        let all = ReadLimit {
            records: 10_000,
            bytes: usize::MAX,
        };
        Reader::open(file).unwrap().read(after, all).unwrap()
    }

    #[test]
    fn a_sink_that_begins_before_a_run_gets_every_living_znode_with_its_last_value() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.journal");
        let mut journal = a_journal_without_its_beginning(&file);
        let tail = journal.tail();

        let mut resnapshot = Resnapshot::new(path("/a"), Uuid::from_u128(7), Timestamp(2 * DAY_MS));
        while !resnapshot.is_done() {
            resnapshot.step(&mut journal, 50).unwrap();
            journal.commit().unwrap();
        }
        journal.register_sink("new", tail).unwrap();
        journal.commit().unwrap();

        let records = read_all(&file, tail);
        let ops: Vec<Op> = records.iter().map(|record| record.op).collect();
        assert_eq!((ops[0], ops[ops.len() - 1]), (Op::SnapshotBegin, Op::SnapshotEnd));
        let states: BTreeMap<&str, &[u8]> = records
            .iter()
            .filter(|record| record.op == Op::Snapshot)
            .map(|record| {
                let data = record.after.as_ref().unwrap().data.as_ref().unwrap();
                (record.path.as_deref().unwrap(), &*data.bytes)
            })
            .collect();
        assert_eq!(states.len(), 301, "the top, 299 children, one below");
        assert_eq!(resnapshot.nodes(), 301);
        assert_eq!(states["/a/n000"], b"again");
        assert_eq!(states["/a/n007/below"], b"deep");
        assert!(!states.contains_key("/a/n001") && !states.contains_key("/a/unread"));
        let end = records.last().unwrap();
        assert_eq!(end.zxid, Some(Zxid(903)));
        assert_eq!(end.run.as_ref().unwrap().nodes, Some(301));
    }

    #[test]
    fn parents_come_before_their_children_and_indexes_ascend() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.journal");
        let mut journal = a_journal_without_its_beginning(&file);
        let tail = journal.tail();

        let mut resnapshot = Resnapshot::new(path("/a"), Uuid::from_u128(7), Timestamp(0));
        resnapshot.step(&mut journal, 10_000).unwrap();
        journal.commit().unwrap();

        assert!(resnapshot.is_done());
        let records = read_all(&file, tail);
        let indexes: Vec<u64> = records
            .iter()
            .map(|record| record.run.as_ref().unwrap().index)
            .collect();
        assert_eq!(indexes, (0..303).collect::<Vec<_>>());
        let mut seen = std::collections::HashSet::from(["/".to_owned()]);
        for at in records.iter().filter_map(|record| record.path.as_ref()) {
            assert!(seen.contains(at.parent_str().unwrap()), "{at} before its parent");
            seen.insert(at.to_string());
        }
    }

    #[test]
    fn a_root_that_does_not_exist_is_a_run_without_znodes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.journal");
        let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();

        let mut resnapshot = Resnapshot::new(path("/none"), Uuid::from_u128(7), Timestamp(0));
        resnapshot.step(&mut journal, 10).unwrap();
        journal.commit().unwrap();

        let records = read_all(&file, Seq::ZERO);
        assert!(resnapshot.is_done());
        assert_eq!(records.len(), 2);
        assert_eq!((records[1].op, records[1].zxid), (Op::SnapshotEnd, None));
    }
}
