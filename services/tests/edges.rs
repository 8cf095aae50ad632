//! The edges of the machine in a real journal: listings, gaps, masks, sections that go and come back, and two sections of
//! one convention.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Journal, JournalOptions, JournalWriter, ReadLimit, Reader};
use bridge_core::number::{Epoch, Seq, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{
    Data, DataForm, DownCause, Fidelity, GapReason, MaskKey, Masking, ServiceEvent, ServiceEventType, Stat,
    Timestamp,
};
use bridge_services::{Present, ServiceConfig, ServiceFormat, ServiceMachine};
use tempfile::TempDir;
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_795_355_000_000);

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn section(format: ServiceFormat, base: &str) -> ServiceConfig {
    ServiceConfig {
        format,
        base: Some(path(base)),
        ..ServiceConfig::default()
    }
}

fn queues() -> ServiceConfig {
    ServiceConfig {
        format: ServiceFormat::Queue,
        elections: vec!["/latch".to_owned()],
        locks: vec!["/lock".to_owned()],
        ..ServiceConfig::default()
    }
}

fn curator(name: &str, host: &str) -> String {
    format!(r#"{{"name":"pay","id":"{name}","address":"{host}","port":1}}"#)
}

/// A journal in a folder of its own.
struct Rig {
    folder: TempDir,
    journal: Journal,
    zxid: u64,
}

impl Rig {
    fn new(sections: &[ServiceConfig]) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path().join("main.journal"), sections);
        Rig {
            folder,
            journal,
            zxid: 0x10,
        }
    }

    fn reopen(self, sections: &[ServiceConfig]) -> Rig {
        let Rig {
            folder,
            journal,
            zxid,
        } = self;
        drop(journal);
        let journal = open(folder.path().join("main.journal"), sections);
        Rig {
            folder,
            journal,
            zxid,
        }
    }

    fn append(&mut self, kind: RecordKind) {
        let entry = Append {
            root: Some(path("/")),
            captured: NOW,
            kind,
        };
        self.journal.append(entry).unwrap();
    }

    fn change(&mut self, name: &str, fidelity: Fidelity, kind: ChangeKind) {
        let missed = (fidelity == Fidelity::Exact).then_some(0);
        self.append(RecordKind::Change(Change {
            path: path(name),
            kind,
            fidelity,
            missed,
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }));
    }

    fn create(&mut self, name: &str, owner: u64, text: &str) {
        self.zxid += 1;
        let read = read(self.zxid, owner, text);
        self.change(name, Fidelity::Exact, ChangeKind::Created { read });
    }

    fn delete(&mut self, name: &str) {
        self.zxid += 1;
        let at = DeletedAt::Exact(Zxid(self.zxid));
        self.change(name, Fidelity::Exact, ChangeKind::Deleted { at });
    }

    /// The events after a second of silence.
    fn events(&mut self) -> Vec<Arc<ServiceEvent>> {
        self.journal.tick(Timestamp(NOW.0 + 1_000)).unwrap();
        self.journal.commit().unwrap();
        let limit = ReadLimit {
            records: 1_000,
            bytes: usize::MAX,
        };
        let mut reader = Reader::open(self.journal.file()).unwrap();
        let records = reader.read(Seq::ZERO, limit).unwrap();
        records.iter().filter_map(|record| record.event.clone()).collect()
    }

    fn present(&self) -> Present {
        let mut reader = Reader::open(self.journal.file()).unwrap();
        Present::of(&mut reader.derived()).unwrap()
    }
}

fn open(file: PathBuf, sections: &[ServiceConfig]) -> Journal {
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
    let machine = ServiceMachine::new("main", sections).unwrap();
    match sections {
        [] => journal.set_derivation(None, NOW).unwrap(),
        _ => journal.set_derivation(Some(Box::new(machine)), NOW).unwrap(),
    };
    journal
}

fn read(zxid: u64, owner: u64, text: &str) -> Read {
    Read {
        stat: Stat {
            czxid: Zxid(zxid),
            mzxid: Zxid(zxid),
            ephemeral_owner: SessionId(owner),
            ..Stat::default()
        },
        data: Some(Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20)),
    }
}

fn kinds(events: &[Arc<ServiceEvent>]) -> Vec<ServiceEventType> {
    events.iter().map(|event| event.kind).collect()
}

fn cause_of_down(events: &[Arc<ServiceEvent>]) -> Option<DownCause> {
    let mut events = events.iter();
    let down = events.find(|event| event.kind == ServiceEventType::InstanceDown);
    down.unwrap().cause
}

fn mask(rig: &mut Rig, glob: &str) {
    let glob = bridge_core::path_glob::path_glob(glob).unwrap();
    let masking = Masking::new([&glob], MaskKey::new([7; 32])).unwrap();
    rig.journal.set_masking(Some(Arc::new(masking))).unwrap();
}

#[test]
fn a_listing_that_meets_a_queue_in_another_order_says_at_its_end_who_leads_and_nothing_before() {
    let mut rig = Rig::new(&[queues()]);
    let run = Uuid::from_u128(1);
    rig.append(RecordKind::RunBegin { run });
    let mut index = 0;
    for owner in [5, 3, 4] {
        for (parent, mark) in [("/latch", "latch"), ("/lock", "lock")] {
            index += 1;
            let guid = format!("{:08}-0000-4000-8000-000000000000", 9 - owner);
            let name = format!("{parent}/_c_{guid}-{mark}-{owner:010}");
            let read = read(owner, owner, &format!("node {owner}"));
            rig.change(
                &name,
                Fidelity::Reconciled,
                ChangeKind::Listed { read, run, index },
            );
        }
        assert_eq!(rig.events(), []);
        rig = rig.reopen(&[queues()]);
    }
    rig.append(RecordKind::RunEnd {
        run,
        index: index + 1,
        nodes: index,
        unreadable: 0,
        zxid: None,
        is_exact: false,
    });
    let events = rig.events();
    let expected = [ServiceEventType::LeaderElected, ServiceEventType::LockAcquired];
    assert_eq!(kinds(&events), expected);
    assert_eq!(
        (events[0].leader.as_deref(), events[0].queue),
        (Some("node 3"), Some(3))
    );
    assert_eq!(
        (events[1].holder.as_deref(), events[1].waiting),
        (Some("node 3"), Some(2))
    );
}

#[test]
fn a_new_section_takes_queues_from_the_image_as_they_are_and_facts_beside_before_their_instance() {
    let mut rig = Rig::new(&[]);
    for owner in [3, 4, 5] {
        rig.create(&format!("/lock/a-lock-{owner:010}"), owner, "");
    }
    rig.create("/clickhouse/t/replicas/r1/host", 0, "host: h1\nport: 9009\n");
    rig.create("/clickhouse/t/replicas/r1/is_active", 7, "");
    assert_eq!(rig.events(), []);
    let sections = [queues(), section(ServiceFormat::Clickhouse, "/clickhouse")];
    let events = rig.reopen(&sections).events();
    let expected = [ServiceEventType::InstanceListed, ServiceEventType::LockAcquired];
    assert_eq!(kinds(&events), expected);
    assert_eq!(events[0].endpoints.len(), 1);
    assert_eq!(events[1].waiting, Some(2));
}

#[test]
fn sections_that_were_gone_for_a_while_keep_no_instance_that_went_meanwhile() {
    let sections = [section(ServiceFormat::Curator, "/services")];
    let mut rig = Rig::new(&sections);
    rig.create("/services/pay/a", 1, &curator("a", "h1"));
    rig.journal.commit().unwrap();
    assert_eq!(rig.present().instances.len(), 1);
    let mut rig = rig.reopen(&[]);
    rig.delete("/services/pay/a");
    rig.create("/services/pay/b", 1, &curator("b", "h2"));
    rig.journal.commit().unwrap();
    let present = rig.reopen(&sections).present();
    let names: Vec<&str> = present.instances.iter().map(|one| &*one.instance).collect();
    assert_eq!(names, ["h2:1"]);
}

#[test]
fn two_sections_of_one_convention_give_events_of_different_ids() {
    let topics = section(ServiceFormat::Curator, "/services");
    let people = ServiceConfig {
        name: Some("people".to_owned()),
        ..topics.clone()
    };
    let mut rig = Rig::new(&[topics, people]);
    rig.create("/services/pay/a", 1, &curator("a", "h1"));
    let events = rig.events();
    let ids: BTreeSet<Uuid> = events.iter().map(|event| event.id).collect();
    assert_eq!((events.len(), ids.len()), (4, 4));
}

#[test]
fn each_registration_that_became_unreadable_in_a_gap_is_named_at_its_end_unless_it_is_gone_again() {
    let mut rig = Rig::new(&[section(ServiceFormat::Curator, "/services")]);
    let (epoch, from_zxid, reason) = (Epoch(1), Zxid(1), GapReason::Disconnected);
    rig.append(RecordKind::GapBegin {
        epoch,
        from_zxid,
        reason,
    });
    for name in ["a", "b", "c"] {
        rig.create(&format!("/services/pay/{name}"), 1, "{broken");
    }
    rig.delete("/services/pay/c");
    rig.append(RecordKind::GapEnd {
        epoch,
        from_zxid,
        to_zxid: Zxid(rig.zxid),
        reason,
        differences: 4,
    });
    let events = rig.events();
    let paths: Vec<&str> = events.iter().map(|event| &*event.path).collect();
    assert_eq!(paths, ["/services/pay/a", "/services/pay/b"]);
}

#[test]
fn a_mask_of_a_znode_beside_a_registration_removes_its_facts_from_the_event_of_the_registration() {
    let mut rig = Rig::new(&[section(ServiceFormat::Clickhouse, "/clickhouse")]);
    rig.create(
        "/clickhouse/t/replicas/r1/host",
        0,
        "host: hidden-host\nport: 9009\n",
    );
    rig.create("/clickhouse/t/replicas/r1/is_active", 7, "");
    assert_eq!(rig.events()[0].endpoints.len(), 1);
    mask(&mut rig, "/clickhouse/t/replicas/*/host");
    assert_eq!(rig.events()[0].endpoints, []);
    let bytes = std::fs::read(rig.folder.path().join("main.journal")).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"hidden-host"));
}

#[test]
fn two_deletes_of_a_session_in_two_transactions_are_no_end_of_it_even_if_the_first_was_unreadable() {
    let mut rig = Rig::new(&[section(ServiceFormat::Curator, "/services")]);
    rig.create("/services/pay/a", 7, "{broken");
    rig.create("/services/pay/b", 7, &curator("b", "h1"));
    rig.delete("/services/pay/a");
    rig.delete("/services/pay/b");
    assert_eq!(cause_of_down(&rig.events()), Some(DownCause::Unknown));
}

#[test]
fn the_cause_of_an_instance_that_went_before_anyone_read_it_is_unknown() {
    let mut rig = Rig::new(&[section(ServiceFormat::Clickhouse, "/clickhouse")]);
    let name = "/clickhouse/t/replicas/r1/is_active";
    let unread = ChangeKind::CreatedUnread {
        czxid: Zxid(rig.zxid),
        ephemeral: None,
        ctime: None,
    };
    rig.change(name, Fidelity::Exact, unread);
    rig.delete(name);
    assert_eq!(cause_of_down(&rig.events()), Some(DownCause::Unknown));
}

#[test]
fn the_rest_of_a_transaction_is_waited_for_until_it_is_known_that_none_comes() {
    let going = || {
        let mut rig = Rig::new(&[section(ServiceFormat::Curator, "/services")]);
        rig.create("/services/pay/a", 7, &curator("a", "h1"));
        rig.create("/services/pay/b", 7, &curator("b", "h2"));
        rig.delete("/services/pay/a");
        rig.journal.commit().unwrap();
        assert!(rig.journal.is_within_transaction());
        rig.append(RecordKind::Heartbeat { zxid: None });
        rig.journal.tick(Timestamp(NOW.0 + 400)).unwrap();
        rig.journal.commit().unwrap();
        assert!(rig.journal.is_within_transaction());
        rig
    };
    // Nothing comes.
    assert_eq!(cause_of_down(&going().events()), Some(DownCause::Deregistered));
    // Another transaction comes, in whatever part of the tree.
    let mut rig = going();
    rig.create("/elsewhere", 0, "");
    assert!(!rig.journal.is_within_transaction());
    assert_eq!(cause_of_down(&rig.events()), Some(DownCause::Deregistered));
    // The znode of another root is listed, which may be older than the transaction.
    let mut rig = going();
    let (run, index, read) = (Uuid::from_u128(1), 0, read(9, 0, ""));
    let listed = ChangeKind::Listed { read, run, index };
    rig.change("/other", Fidelity::Reconciled, listed);
    assert_eq!(cause_of_down(&rig.events()), Some(DownCause::Unknown));
    // The bridge starts again.
    let mut rig = going().reopen(&[section(ServiceFormat::Curator, "/services")]);
    assert!(!rig.journal.is_within_transaction());
    assert_eq!(cause_of_down(&rig.events()), Some(DownCause::Unknown));
}
