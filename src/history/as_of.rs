//! The value of a path at a moment, as far as its records tell.
//!
//! ```text
//! newest ─── later ───┬─── standing ─── oldest      records of the path, newest first
//!                     │
//!                   moment
//! ```
//!
//! `standing` is the newest record that is at the moment or before it for certain; `later` the one behind it. What
//! `later` says of the time between the two decides how certain `standing` is.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::{Data, Fidelity, Op, Record, Timestamp, ZxidKind};
use serde::Serialize;

/// What is seen as it happens is captured within the timeout of the session; servers allow 40 s by default.
const LATE_MS: i64 = 60_000;

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right behind a transaction.
    Zxid(Zxid),
    /// A time of ZooKeeper's clock.
    Time(Timestamp),
    /// Right behind a record.
    Seq(Seq),
}

/// What can be said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AsOfValue {
    /// Whether it existed; null where that is not known.
    pub exists: Option<bool>,
    /// Its data; null where it did not exist, and where nobody knows it.
    pub data: Option<Data>,
    /// The record that tells it.
    pub seq: Option<Seq>,
    /// Whether nothing is left open.
    pub certain: bool,
    /// What is left open, and why.
    pub doubts: Vec<String>,
}

/// Reads records, the newest first, until enough is known.
#[derive(Debug)]
pub struct AsOfQuery {
    moment: Moment,
    later: Option<Arc<Record>>,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// At the moment or before it.
    Before,
    /// Behind it.
    After,
    /// Its own time is only a bound.
    Unclear,
}

impl From<Position> for Moment {
    fn from(position: Position) -> Moment {
        match position {
            Position::Seq(seq) => Moment::Seq(seq),
            Position::Zxid(zxid) => Moment::Zxid(zxid),
            Position::Time(time) => Moment::Time(time),
        }
    }
}

impl AsOfQuery {
    /// Of this moment.
    pub fn new(moment: Moment) -> AsOfQuery {
        AsOfQuery { moment, later: None }
    }

    /// Takes the next older record; `Some` once it is known what stood. `reported`: everything up to it is in the
    /// journal.
    pub fn take(&mut self, record: &Arc<Record>, reported: Option<Zxid>) -> Option<AsOfValue> {
        // Its data is that of the record before, and its time is that of a read.
        if record.op == Op::Acl || record.op.is_control() {
            return None;
        }
        if self.stands(record) == Stands::Before {
            return Some(self.then(record, reported));
        }
        self.later = Some(Arc::clone(record));
        None
    }

    /// No older record is kept. `is_cut`: there may have been some.
    pub fn end(self, is_cut: bool) -> AsOfValue {
        let mut then = AsOfValue::default();
        if is_cut {
            then.doubts
                .push("retention has removed the records before".to_owned());
        }
        let Some(later) = self.later.clone() else {
            then.doubts.push("the journal has no record of it".to_owned());
            return then;
        };
        let born = czxid_of(&later);
        match (later.op, self.moment, born) {
            (Op::Create, _, _) if self.stands(&later) == Stands::After && !is_cut => {
                then.exists = Some(false);
                then.doubts.push(format!(
                    "its first record is its create, {}; what was before the journal began is not known",
                    name(&later)
                ));
            }
            (_, Moment::Zxid(at), Some(born)) if born <= at => {
                then.exists = Some(true);
                then.doubts.push(format!(
                    "it was created at {born}, and its first value that is kept is that of {}",
                    name(&later)
                ));
            }
            _ => then
                .doubts
                .push(format!("the first record that is kept is {}", name(&later))),
        }
        then
    }

    fn stands(&self, record: &Record) -> Stands {
        match self.moment {
            Moment::Seq(seq) => stands(record.seq <= seq, true),
            Moment::Zxid(at) => match (record.zxid, record.zxid_kind) {
                (Some(zxid), kind) => stands(zxid <= at, kind == ZxidKind::Exact),
                (None, _) => Stands::Unclear,
            },
            Moment::Time(at) => match record.time.changed {
                Some(changed) => stands(changed <= at, true),
                None => {
                    let captured = record.time.captured;
                    let is_long_after = at.0.saturating_add(LATE_MS) < captured.0;
                    stands(
                        captured <= at,
                        is_long_after && record.fidelity == Fidelity::Exact,
                    )
                }
            },
        }
    }

    fn then(&self, standing: &Record, reported: Option<Zxid>) -> AsOfValue {
        let data = standing.after.as_ref().and_then(|state| state.data.clone());
        let mut then = AsOfValue {
            exists: Some(standing.op != Op::Delete),
            seq: Some(standing.seq),
            data,
            ..AsOfValue::default()
        };
        match &self.later {
            Some(later) => self.doubt_between(standing, later, &mut then),
            None => self.doubt_end(reported, &mut then),
        }
        let is_living = then.exists == Some(true);
        if is_living && then.data.is_none() && then.doubts.is_empty() {
            then.doubts.push(format!(
                "{} has no value: nobody read it, or data is switched off",
                name(standing)
            ));
        }
        if then.data.as_ref().is_some_and(|data| data.truncated) {
            then.doubts
                .push("only the beginning of the value is kept (max_data)".to_owned());
        }
        then.certain = then.doubts.is_empty();
        then
    }

    /// The next record says what is not known of the time before it.
    fn doubt_between(&self, standing: &Record, later: &Record, then: &mut AsOfValue) {
        if let Moment::Seq(_) = self.moment {
            return;
        }
        let moment = self.moment;
        if self.stands(later) == Stands::Unclear {
            then.exists = None;
            let bound = match (moment, later.zxid) {
                (Moment::Time(_), _) => later.time.captured.to_string(),
                (_, Some(zxid)) => zxid.to_string(),
                (_, None) => "a zxid that is not known".to_owned(),
            };
            then.doubts.push(format!(
                "it was deleted at some time up to {bound}, found as {}: perhaps before",
                name(later)
            ));
        }
        let born = czxid_of(later).filter(|_| standing.op == Op::Delete);
        if let (Some(born), Moment::Zxid(at)) = (born, moment)
            && born <= at
        {
            then.exists = Some(true);
            then.data = None;
            then.doubts.push(format!(
                "it was created again at {born}, and its first value that was read is that of {}",
                name(later)
            ));
            return;
        }
        let overwritten = match moment {
            Moment::Zxid(at) => later.superseded.iter().find(|zxid| **zxid <= at),
            _ => None,
        };
        if let Some(zxid) = overwritten {
            then.data = None;
            then.doubts.push(format!(
                "it was written at {zxid}, and overwritten before it could be read"
            ));
            return;
        }
        let untold = later.missed.unwrap_or(0) > later.superseded.len() as u64;
        let is_timeless = matches!(moment, Moment::Time(_)) && later.missed.unwrap_or(0) > 0;
        if untold || is_timeless {
            then.doubts.push(format!(
                "{} values between this and {} could not be read: it may have been one of them",
                later.missed.unwrap_or(0),
                name(later)
            ));
        } else if later.missed.is_none() && later.op != Op::Snapshot && standing.op != Op::Delete {
            then.doubts.push(format!(
                "how many values were between this and {} is not known",
                name(later)
            ));
        }
    }

    /// It is the last record: it holds as far as the journal has come.
    fn doubt_end(&self, reported: Option<Zxid>, then: &mut AsOfValue) {
        if let (Moment::Zxid(at), Some(reported)) = (self.moment, reported)
            && at > reported
        {
            then.doubts.push(format!(
                "the journal knows everything up to {reported}; what came then is not known to it yet"
            ));
        }
    }
}

fn stands(is_before: bool, is_exact: bool) -> Stands {
    match (is_before, is_exact) {
        (true, _) => Stands::Before,
        (false, true) => Stands::After,
        (false, false) => Stands::Unclear,
    }
}

fn czxid_of(record: &Record) -> Option<Zxid> {
    let state = record.after.as_ref().or(record.before.as_ref());
    state.and_then(|state| state.stat).map(|stat| stat.czxid)
}

fn name(record: &Record) -> String {
    format!("{} (seq {})", record.op.as_str(), record.seq)
}

#[cfg(test)]
mod tests {
    use bridge_core::testing::a_record;

    use super::*;

    fn at(zxid: u64) -> Moment {
        Moment::Zxid(Zxid(zxid))
    }

    /// What is said at a moment, of records from the oldest to the newest, up to zxid 100.
    fn then(moment: Moment, records: &[Record], is_cut: bool) -> AsOfValue {
        let mut account = AsOfQuery::new(moment);
        for record in records.iter().rev() {
            if let Some(then) = account.take(&Arc::new(record.clone()), Some(Zxid(100))) {
                return then;
            }
        }
        account.end(is_cut)
    }

    /// A record at a zxid, with a value that names its version.
    fn record(op: Op, seq: u64, zxid: u64) -> Record {
        let mut record = a_record().path("/a").op(op).seq(seq).build();
        record.zxid = Some(Zxid(zxid));
        record.zxid_kind = ZxidKind::Exact;
        record.missed = Some(0);
        record.superseded = Vec::new();
        let stat = bridge_core::record::Stat {
            czxid: Zxid(10),
            mzxid: Zxid(zxid),
            ..Default::default()
        };
        let data = Data::limited(
            format!("v{seq}").as_bytes(),
            bridge_core::record::DataForm::Auto,
            99,
        );
        let state = bridge_core::record::State {
            data: Some(data),
            stat: Some(stat),
        };
        record.after = (op != Op::Delete).then(|| state.clone());
        record.before = (op == Op::Delete).then_some(state);
        record
    }

    fn story() -> Vec<Record> {
        vec![
            record(Op::Create, 1, 10),
            record(Op::Update, 2, 20),
            record(Op::Delete, 3, 30),
        ]
    }

    /// Whether it existed, its value, and whether that is certain.
    fn said(then: &AsOfValue) -> (Option<bool>, Option<String>, bool) {
        let text = |data: &Data| String::from_utf8_lossy(&data.bytes).into_owned();
        (then.exists, then.data.as_ref().map(text), then.certain)
    }

    #[track_caller]
    fn check(zxid: u64, records: &[Record], exists: Option<bool>, value: Option<&str>, certain: bool) {
        let then = then(at(zxid), records, false);
        assert_eq!(
            said(&then),
            (exists, value.map(str::to_owned), certain),
            "{:?}",
            then.doubts
        );
    }

    #[test]
    fn what_was_seen_as_it_happened_is_certain_at_every_zxid() {
        check(9, &story(), Some(false), None, false);
        check(10, &story(), Some(true), Some("v1"), true);
        check(19, &story(), Some(true), Some("v1"), true);
        check(20, &story(), Some(true), Some("v2"), true);
        check(30, &story(), Some(false), None, true);
        check(100, &story(), Some(false), None, true);
        check(101, &story(), Some(false), None, false);
    }

    #[test]
    fn a_value_that_nobody_read_is_not_made_up() {
        let mut records = story();
        records[1].missed = Some(2);
        records[1].superseded = vec![Zxid(14), Zxid(16)];
        check(13, &records, Some(true), Some("v1"), true);
        check(15, &records, Some(true), None, false);
        records[1].superseded.clear();
        check(13, &records, Some(true), Some("v1"), false);
        records[1].missed = None;
        check(13, &records, Some(true), Some("v1"), false);
    }

    #[test]
    fn a_delete_with_a_bound_may_have_been_before() {
        let mut records = story();
        records[2].zxid_kind = ZxidKind::UpperBound;
        check(25, &records, None, Some("v2"), false);
        check(30, &records, Some(false), None, true);
        records[2].zxid = None;
        check(99, &records, None, Some("v2"), false);
    }

    #[test]
    fn a_life_that_began_before_its_first_value_was_read_existed() {
        let mut again = record(Op::Create, 4, 60);
        if let Some(stat) = again.after.as_mut().and_then(|state| state.stat.as_mut()) {
            stat.czxid = Zxid(50);
        }
        let records = [story(), vec![again]].concat();
        check(45, &records, Some(false), None, true);
        check(55, &records, Some(true), None, false);
        check(60, &records, Some(true), Some("v4"), true);
    }

    #[test]
    fn what_retention_removed_is_said() {
        let kept = &story()[1..];
        let cut = then(at(15), kept, true);
        assert_eq!(said(&cut), (Some(true), None, false));
        assert!(
            cut.doubts[0].contains("retention has removed"),
            "{:?}",
            cut.doubts
        );
        let cut = then(at(5), kept, true);
        assert_eq!(said(&cut), (None, None, false));
        assert_eq!(said(&then(at(5), &[], false)), (None, None, false));
    }

    #[test]
    fn a_time_is_that_of_zookeeper_where_it_is_known() {
        let mut records = story();
        for (record, ms) in records.iter_mut().zip([1000, 2000, 3000]) {
            record.time.changed = Some(Timestamp(ms));
            record.time.captured = Timestamp(ms + 10);
        }
        records[2].time.changed = None;
        let told = |records: &[Record], ms, expected: (Option<bool>, Option<&str>, bool)| {
            let then = then(Moment::Time(Timestamp(ms)), records, false);
            let (exists, value, certain) = said(&then);
            assert_eq!(
                (exists, value.as_deref(), certain),
                expected,
                "{ms} {:?}",
                then.doubts
            );
        };
        told(&records, 1500, (Some(true), Some("v1"), true));
        told(&records, 2000, (None, Some("v2"), false));
        told(&records, 3010, (Some(false), None, true));
        records[2].time.captured = Timestamp(100_000);
        told(&records, 2000, (Some(true), Some("v2"), true));
        records[2].fidelity = Fidelity::Reconciled;
        told(&records, 2000, (None, Some("v2"), false));
    }
}
