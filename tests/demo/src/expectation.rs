//! The records that a step of the scenario must produce, field by field. Pure.
//!
//! An expectation comes from the request of the client and the answer of ZooKeeper, never from the bridge.

use bridge_core::number::{SessionId, Zxid};
use bridge_core::record::{Fidelity, Op, Record, State, ZxidKind};

/// One change of ZooKeeper, and the records that it must produce.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The step, for the table.
    pub(crate) done: String,
    /// The expected records, for the table.
    pub(crate) expected: String,
    /// The records; those of one path in this order.
    pub(crate) wanted: Vec<ExpectedRecord>,
}

impl Step {
    pub(crate) fn new(done: &str, expected: &str, wanted: Vec<ExpectedRecord>) -> Step {
        Step {
            done: done.to_owned(),
            expected: expected.to_owned(),
            wanted,
        }
    }
}

/// A record that must arrive.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedRecord {
    path: String,
    op: Op,
    fidelity: Fidelity,
    before: Option<Version>,
    after: Option<Version>,
}

/// A version of a znode as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Its data.
    pub(crate) data: Vec<u8>,
    /// The transaction that created the znode.
    pub(crate) czxid: Zxid,
    /// The transaction that wrote this version.
    pub(crate) mzxid: Zxid,
    /// How many writes came before.
    pub(crate) version: i32,
    /// The session that owns the znode; none for a persistent one.
    pub(crate) owner: SessionId,
}

impl Version {
    /// The version that a state holds; `None` if data or Stat is missing.
    pub(crate) fn of(state: &State) -> Option<Version> {
        let (data, stat) = (state.data.as_ref()?, state.stat.as_ref()?);
        Some(Version {
            data: data.bytes.to_vec(),
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            version: stat.version,
            owner: stat.ephemeral_owner,
        })
    }

    /// The first difference, for people; `None` if both are equal.
    pub(crate) fn difference(found: Option<&Version>, expected: Option<&Version>) -> Option<String> {
        let (found, expected) = match (found, expected) {
            (None, None) => return None,
            (Some(_), None) => return Some("it is there and must not be".to_owned()),
            (None, Some(_)) => return Some("it is not there".to_owned()),
            (Some(found), Some(expected)) => (found, expected),
        };
        let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
        let rows = [
            ("data", text(&found.data), text(&expected.data)),
            ("czxid", found.czxid.to_string(), expected.czxid.to_string()),
            ("mzxid", found.mzxid.to_string(), expected.mzxid.to_string()),
            ("version", found.version.to_string(), expected.version.to_string()),
            (
                "ephemeralOwner",
                found.owner.to_string(),
                expected.owner.to_string(),
            ),
        ];
        rows.into_iter()
            .find(|(_, found, expected)| found != expected)
            .map(|(name, found, expected)| format!("{name} is {found} and not {expected}"))
    }
}

impl ExpectedRecord {
    /// The snapshot record of a znode that existed before the bridge started.
    pub(crate) fn snapshot(path: &str, after: Version) -> ExpectedRecord {
        ExpectedRecord::new(path, Op::Snapshot, None, Some(after)).reconciled()
    }

    pub(crate) fn create(path: &str, after: Version) -> ExpectedRecord {
        ExpectedRecord::new(path, Op::Create, None, Some(after))
    }

    pub(crate) fn update(path: &str, before: Version, after: Version) -> ExpectedRecord {
        ExpectedRecord::new(path, Op::Update, Some(before), Some(after))
    }

    pub(crate) fn delete(path: &str, before: Version) -> ExpectedRecord {
        ExpectedRecord::new(path, Op::Delete, Some(before), None)
    }

    /// Expects the record to be reconciled: the bridge was down when the change happened.
    pub(crate) fn reconciled(mut self) -> ExpectedRecord {
        self.fidelity = Fidelity::Reconciled;
        self
    }

    fn new(path: &str, op: Op, before: Option<Version>, after: Option<Version>) -> ExpectedRecord {
        ExpectedRecord {
            path: path.to_owned(),
            op,
            fidelity: Fidelity::Exact,
            before,
            after,
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// All but the path.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (Op, Fidelity, [Option<&Version>; 2]) {
        (
            self.op,
            self.fidelity,
            [self.before.as_ref(), self.after.as_ref()],
        )
    }

    /// `delete of /config/a`, for people.
    pub(crate) fn words(&self) -> String {
        format!("{} of {}", self.op.as_str(), self.path)
    }

    /// Why the record is not the wanted one; `None` if it is.
    pub(crate) fn objection(&self, record: &Record) -> Option<String> {
        if record.op != self.op {
            return Some(format!("it is a {}", record.op.as_str()));
        }
        if record.fidelity != self.fidelity {
            return Some(format!("its fidelity is {:?}", record.fidelity));
        }
        let states = [
            ("before", &record.before, &self.before),
            ("after", &record.after, &self.after),
        ];
        let differing = states.into_iter().find_map(|(name, found, expected)| {
            let found = found.as_ref().map(Version::of);
            if found == Some(None) {
                return Some(format!("its `{name}` holds no data or no stat"));
            }
            let difference = Version::difference(found.flatten().as_ref(), expected.as_ref())?;
            Some(format!("in its `{name}`: {difference}"))
        });
        differing
            .or_else(|| self.zxid_objection(record))
            .or_else(|| self.mark_objection(record))
    }

    /// A value has ZooKeeper's own zxid. ZooKeeper does not return the zxid of a delete; it must be above the one of the
    /// deleted version.
    fn zxid_objection(&self, record: &Record) -> Option<String> {
        let kind = match (self.op, self.fidelity) {
            (Op::Delete, Fidelity::Reconciled) => ZxidKind::UpperBound,
            _ => ZxidKind::Exact,
        };
        if record.zxid_kind != kind {
            return Some(format!("its zxid is of kind {:?}", record.zxid_kind));
        }
        let zxid = record.zxid?;
        let (is_right, expected) = match (&self.after, &self.before) {
            (Some(after), _) => (zxid == after.mzxid, format!("not {}", after.mzxid)),
            (None, Some(before)) => (zxid > before.mzxid, format!("not after {}", before.mzxid)),
            (None, None) => return None,
        };
        (!is_right).then(|| format!("its zxid is {zxid} and {expected}"))
    }

    fn mark_objection(&self, record: &Record) -> Option<String> {
        let version = self.after.as_ref().or(self.before.as_ref())?;
        let is_ephemeral = version.owner != SessionId::NONE;
        if record.ephemeral != Some(is_ephemeral) {
            return Some(format!(
                "`ephemeral` is {:?} and not {is_ephemeral}",
                record.ephemeral
            ));
        }
        // The scenario waits for each version before it writes the next one.
        match record.missed {
            Some(missed) if missed > 0 => Some(format!("it says that {missed} versions were missed")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{delete_of, record_of, version};

    #[test]
    fn the_record_of_what_was_done_is_accepted() {
        let wanted = [
            ExpectedRecord::snapshot("/a", version(1, 1, "x")),
            ExpectedRecord::create("/a", version(2, 2, "x")),
            ExpectedRecord::update("/a", version(2, 2, "x"), version(2, 3, "y")),
            ExpectedRecord::delete("/a", version(2, 3, "y")),
            ExpectedRecord::delete("/a", version(2, 3, "y")).reconciled(),
            ExpectedRecord::create("/a", version(5, 5, "y")).reconciled(),
        ];
        for wanted in wanted {
            let record = record_of(&wanted, 1);
            assert_eq!(wanted.objection(&record), None, "{}", wanted.words());
        }
    }

    #[test]
    fn every_field_that_is_wrong_is_named() {
        let wanted = ExpectedRecord::update("/a", version(2, 2, "x"), version(2, 3, "y"));
        let check = |spoil: fn(&mut Record), expected: &str| {
            let mut record = record_of(&wanted, 1);
            spoil(&mut record);
            let objection = wanted.objection(&record).expect("a spoilt record is refused");
            assert!(objection.contains(expected), "{objection}");
        };
        check(|record| record.op = Op::Create, "it is a create");
        check(
            |record| record.fidelity = Fidelity::Reconciled,
            "fidelity is Reconciled",
        );
        check(|record| record.before = None, "`before`: it is not there");
        check(
            |record| record.before = record.after.clone(),
            r#"`before`: data is "y" and not "x""#,
        );
        check(
            |record| record.after.as_mut().unwrap().stat.as_mut().unwrap().version = 9,
            "`after`: version is 9",
        );
        check(
            |record| record.after.as_mut().unwrap().data = None,
            "holds no data",
        );
        check(
            |record| record.zxid = Some(Zxid(9)),
            "zxid is 0x0000000000000009 and not",
        );
        check(
            |record| record.zxid_kind = ZxidKind::UpperBound,
            "of kind UpperBound",
        );
        check(|record| record.ephemeral = Some(true), "`ephemeral`");
        check(|record| record.missed = Some(2), "2 versions were missed");
    }

    #[test]
    fn a_delete_must_name_the_session_and_have_a_higher_zxid_than_the_znode() {
        let wanted = ExpectedRecord::delete("/a", version(2, 2, "x"));
        let mut other_session = delete_of("/a", version(2, 2, "x"), 1);
        let stat = other_session.before.as_mut().unwrap().stat.as_mut().unwrap();
        stat.ephemeral_owner = SessionId(7);
        assert!(
            wanted
                .objection(&other_session)
                .unwrap()
                .contains("ephemeralOwner")
        );
        let mut too_early = delete_of("/a", version(2, 2, "x"), 1);
        too_early.zxid = Some(Zxid(2));
        assert!(wanted.objection(&too_early).unwrap().contains("not after"));
    }
}
