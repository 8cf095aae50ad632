//! The identity of a change: a UUIDv5 of its name, so that the same change has the same id at every delivery, restart
//! and replay, and when another instance sees it.

use std::fmt::{self, Write};

use sha1::{Digest, Sha1};
use uuid::{Builder, Uuid};

use super::Op;
use crate::number::{Epoch, Seq, Zxid, push_hex};

/// The UUIDv5 of `zkbridge.change` in the DNS namespace; a test computes it.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x11ffacbc_6176_5700_805d_4f48ed75f0bc);

/// Room for all of a name but the cluster and the path. The longest is that of a listing: op, zxid, version, aversion
/// and run.
const PARTS_BYTES: usize = 96;

/// The name of a change: six texts joined by line feeds: cluster, path (control records: root), op, czxid, version,
/// extra.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// A create; a reconciled create is named by the version that it holds, others by version 0.
    Create {
        /// Of the incarnation.
        czxid: Zxid,
        /// 0, or that of `after` for a reconciled create.
        version: i32,
    },
    /// A write of data.
    Update {
        /// Of the incarnation.
        czxid: Zxid,
        /// Of `after`.
        version: i32,
    },
    /// The delete of an incarnation.
    Delete {
        /// Of the incarnation.
        czxid: Zxid,
    },
    /// A delete of an incarnation whose root is no longer watched.
    DeleteUnwatched {
        /// Of the incarnation.
        czxid: Zxid,
        /// Names the record: the incarnation may be watched and left again.
        seq: Seq,
    },
    /// The delete of an incarnation whose czxid was never read.
    DeleteUnseen {
        /// The zxid bound, where there is one.
        bound: Option<Zxid>,
        /// Names the record where there is no bound.
        seq: Seq,
    },
    /// A change of the access control list.
    Acl {
        /// Of the incarnation.
        czxid: Zxid,
        /// The one found.
        aversion: i32,
    },
    /// A znode in a listing.
    Snapshot {
        /// Of the incarnation.
        czxid: Zxid,
        /// Of `after`.
        version: i32,
        /// Of `after`.
        aversion: i32,
        /// The run.
        run: &'a Uuid,
    },
    /// The begin or end of a listing.
    RunMark {
        /// Which of the two.
        op: Op,
        /// The run.
        run: &'a Uuid,
    },
    /// The begin or end of a gap.
    GapMark {
        /// Which of the two.
        op: Op,
        /// Where the gap begins.
        from_zxid: Zxid,
        /// The watch epoch.
        epoch: Epoch,
    },
    /// A heartbeat.
    Heartbeat {
        /// Its position.
        seq: Seq,
    },
}

impl Identity<'_> {
    /// The id. `place` is the path, for control records the root, for heartbeats empty.
    ///
    /// # Panics
    ///
    /// Never: writing to a text does not fail.
    pub fn id(self, cluster: &str, place: &str) -> Uuid {
        let mut name = String::with_capacity(cluster.len() + place.len() + PARTS_BYTES);
        let written = self.write(&mut name, cluster, place);
        written.expect("a text takes all that is written to it");
        named(&NAMESPACE, name.as_bytes())
    }

    /// Texts and zxids without the standard formatter, which would take a third of the time of an id.
    fn write(self, to: &mut String, cluster: &str, place: &str) -> fmt::Result {
        for text in [cluster, place, self.op().as_str()] {
            to.push_str(text);
            to.push('\n');
        }
        if let Some(zxid) = self.incarnation() {
            push_hex(to, zxid.0);
        }
        to.push('\n');
        match self {
            Identity::Create { version, .. } | Identity::Update { version, .. } => writeln!(to, "{version}"),
            Identity::Delete { .. } => {
                to.push('\n');
                Ok(())
            }
            Identity::DeleteUnseen {
                bound: Some(bound), ..
            } => {
                to.push('\n');
                push_hex(to, bound.0);
                Ok(())
            }
            Identity::DeleteUnwatched { seq, .. }
            | Identity::DeleteUnseen { bound: None, seq }
            | Identity::Heartbeat { seq } => {
                write!(to, "\n{seq}")
            }
            Identity::Acl { aversion, .. } => write!(to, "\n{aversion}"),
            Identity::Snapshot {
                version,
                aversion,
                run,
                ..
            } => write!(to, "{version}\n{aversion}/{run}"),
            Identity::RunMark { run, .. } => write!(to, "\n{run}"),
            Identity::GapMark { from_zxid, epoch, .. } => {
                to.push('\n');
                push_hex(to, from_zxid.0);
                write!(to, "/{epoch}")
            }
        }
    }

    /// The czxid, where it is part of the name.
    fn incarnation(self) -> Option<Zxid> {
        match self {
            Identity::Create { czxid, .. }
            | Identity::Update { czxid, .. }
            | Identity::Delete { czxid }
            | Identity::DeleteUnwatched { czxid, .. }
            | Identity::Acl { czxid, .. }
            | Identity::Snapshot { czxid, .. } => Some(czxid),
            Identity::DeleteUnseen { .. }
            | Identity::RunMark { .. }
            | Identity::GapMark { .. }
            | Identity::Heartbeat { .. } => None,
        }
    }

    fn op(self) -> Op {
        match self {
            Identity::Create { .. } => Op::Create,
            Identity::Update { .. } => Op::Update,
            Identity::Delete { .. } | Identity::DeleteUnwatched { .. } | Identity::DeleteUnseen { .. } => {
                Op::Delete
            }
            Identity::Acl { .. } => Op::Acl,
            Identity::Snapshot { .. } => Op::Snapshot,
            Identity::RunMark { op, .. } | Identity::GapMark { op, .. } => op,
            Identity::Heartbeat { .. } => Op::Heartbeat,
        }
    }
}

/// The UUIDv5 of a name, as [`Uuid::new_v5`] makes it, which does not use the instructions that processors have for
/// SHA-1: each record has such an id.
fn named(namespace: &Uuid, name: &[u8]) -> Uuid {
    let digest = Sha1::new().chain_update(namespace).chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_sha1_bytes(bytes).into_uuid()
}

/// 16 hex digits without `0x`, as names hold them.
pub fn czxid_text(zxid: Zxid) -> String {
    format!("{:016x}", zxid.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_the_uuid_of_the_contracts_name() {
        assert_eq!(Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"zkbridge.change"), NAMESPACE);
    }

    #[test]
    fn an_id_is_the_uuid_of_version_5_of_its_name_whatever_its_length() {
        for length in 0..300 {
            let name = "n".repeat(length);
            assert_eq!(
                named(&NAMESPACE, name.as_bytes()),
                Uuid::new_v5(&NAMESPACE, name.as_bytes()),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn the_example_of_the_contract_has_its_id() {
        let id = Identity::Update {
            czxid: Zxid(0x0000_0003_0000_1a01),
            version: 2,
        }
        .id("main", "/services/payments/10.0.0.7:8080");
        assert_eq!(id.to_string(), "590f094f-2a01-52a9-9179-91366077bdc2");
    }

    #[test]
    fn a_name_is_six_texts_joined_by_line_feeds() {
        let run = Uuid::from_u128(7);
        let check = |identity: Identity<'_>, expected: [&str; 4]| {
            let mut name = String::new();
            identity.write(&mut name, "main", "/a").unwrap();
            assert_eq!(name, format!("main\n/a\n{}", expected.join("\n")));
        };
        let (czxid, incarnation) = (Zxid(0x3_0000_1a01), "0000000300001a01");
        check(
            Identity::Create { czxid, version: 0 },
            ["create", incarnation, "0", ""],
        );
        check(
            Identity::Update { czxid, version: -2 },
            ["update", incarnation, "-2", ""],
        );
        check(Identity::Delete { czxid }, ["delete", incarnation, "", ""]);
        let (seq, bound) = (Seq(12), Some(czxid));
        check(
            Identity::DeleteUnseen { bound, seq },
            ["delete", "", "", incarnation],
        );
        check(
            Identity::DeleteUnseen { bound: None, seq },
            ["delete", "", "", "12"],
        );
        check(
            Identity::Acl { czxid, aversion: 3 },
            ["acl", incarnation, "", "3"],
        );
        let listed = Identity::Snapshot {
            czxid,
            version: 1,
            aversion: 2,
            run: &run,
        };
        let place = "2/00000000-0000-0000-0000-000000000007";
        check(listed, ["snapshot", incarnation, "1", place]);
        let (op, run) = (Op::SnapshotEnd, &run);
        check(
            Identity::RunMark { op, run },
            ["snapshot_end", "", "", &place[2..]],
        );
        let begun = Identity::GapMark {
            op: Op::GapBegin,
            from_zxid: czxid,
            epoch: Epoch(4),
        };
        check(begun, ["gap_begin", "", "", "0000000300001a01/4"]);
        check(Identity::Heartbeat { seq }, ["heartbeat", "", "", "12"]);
    }

    #[test]
    fn each_kind_of_change_has_a_name_of_its_own() {
        let run = Uuid::nil();
        let ids = [
            Identity::Create {
                czxid: Zxid(1),
                version: 0,
            },
            Identity::Create {
                czxid: Zxid(1),
                version: 1,
            },
            Identity::Update {
                czxid: Zxid(1),
                version: 1,
            },
            Identity::Delete { czxid: Zxid(1) },
            Identity::DeleteUnseen {
                bound: Some(Zxid(1)),
                seq: Seq(1),
            },
            Identity::DeleteUnseen {
                bound: None,
                seq: Seq(1),
            },
            Identity::Acl {
                czxid: Zxid(1),
                aversion: 1,
            },
            Identity::Snapshot {
                czxid: Zxid(1),
                version: 1,
                aversion: 1,
                run: &run,
            },
            Identity::RunMark {
                op: Op::SnapshotBegin,
                run: &run,
            },
            Identity::RunMark {
                op: Op::SnapshotEnd,
                run: &run,
            },
            Identity::GapMark {
                op: Op::GapBegin,
                from_zxid: Zxid(1),
                epoch: Epoch(1),
            },
            Identity::GapMark {
                op: Op::GapEnd,
                from_zxid: Zxid(1),
                epoch: Epoch(1),
            },
            Identity::Heartbeat { seq: Seq(1) },
        ]
        .map(|identity| identity.id("main", "/a"));
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
