//! Whether a history from before is of the ensemble of its journal: states that the journal has must be in it.
//!
//! A state is named by the zxids, the version and the clock of its write, so one that both have shows that they are of one
//! ensemble. Files of another ensemble of the same age have the same zxids, and other clocks.

use std::path::Path;

use bridge_config::SourceConfig;
use bridge_core::journal::{JournalError, ReadLimit, Reader};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, Stat, State};
use bridge_query::JournalQuery;

use crate::exit::{Exit, Failure};

/// Records of the journal in one read.
const SAMPLE: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 8 << 20,
};

/// Reads of the journal at most: those of znodes that are never written again can come after many others.
const SAMPLES_MAX: usize = 100;

/// Records of one znode that are looked at in the history. More of them were written since.
const DEPTH_MAX: usize = 10_000;

/// Records of one znode in one read.
const DEPTH_STEP: usize = 100;

/// The result of the search.
#[derive(Debug, PartialEq)]
enum EnsembleMatch {
    /// Both have a state.
    Same,
    /// The history lacks the states of the journal that it would have; this is the first.
    Other(ZnodePath, Stat),
    /// No record of the journal has a state that the history would have.
    Nothing { records: u64 },
}

/// Looks for states of the journal in the history, which ends at `to`.
///
/// # Errors
///
/// If nothing shows that both are of one ensemble, or a file cannot be read.
pub(super) fn check_ensemble(
    file: &Path,
    journal: &JournalQuery,
    source: &SourceConfig,
    to: Zxid,
) -> Result<(), Failure> {
    let roots = source.kind.options().roots();
    let is_captured = |path: &ZnodePath| roots.iter().any(|root| root.covers(path));
    let mut past = Reader::open(file)?;
    let mut reader = journal.reader()?;
    let message = match compare(&mut past, &mut reader, is_captured, to)? {
        EnsembleMatch::Same => return Ok(()),
        EnsembleMatch::Other(path, stat) => format!(
            "the files are those of another ensemble: the journal has {path} as written at {}, and they do not\n\
             help: name folders of servers of the ensemble of source '{}'",
            stat.mzxid, source.name
        ),
        EnsembleMatch::Nothing { records } => format!(
            "nothing shows that the files are of the ensemble of source '{}': none of {records} records of the journal has \
             a znode that was written up to {to}, the last transaction in the files\n\
             help: write a znode below the roots while the bridge runs, then run the command again",
            source.name
        ),
    };
    Err(Failure::new(Exit::Runtime, message))
}

fn compare(
    past: &mut Reader,
    journal: &mut Reader,
    is_captured: impl Fn(&ZnodePath) -> bool,
    to: Zxid,
) -> Result<EnsembleMatch, JournalError> {
    let mut after = Seq(journal.oldest()?.map_or(0, |first| first.0.saturating_sub(1)));
    let (mut records, mut other) = (0, None);
    for _ in 0..SAMPLES_MAX {
        let sample = journal.read(after, SAMPLE)?;
        let Some(last) = sample.last() else { break };
        after = last.seq;
        records += sample.len() as u64;
        for record in &sample {
            let Some(path) = record.path.as_ref().filter(|path| is_captured(path)) else {
                continue;
            };
            for stat in states_of(record).filter(|stat| is_evidence(stat, to)) {
                match has_version(past, path, &stat)? {
                    Some(true) => return Ok(EnsembleMatch::Same),
                    Some(false) => other = other.or_else(|| Some((path.clone(), stat))),
                    None => {}
                }
            }
        }
    }
    Ok(match other {
        Some((path, stat)) => EnsembleMatch::Other(path, stat),
        None => EnsembleMatch::Nothing { records },
    })
}

/// Whether a history up to `to` has this state, and no new server has it.
fn is_evidence(stat: &Stat, to: Zxid) -> bool {
    stat.mzxid > Zxid(0) && stat.mzxid <= to
}

/// The states that a record has of its znode: also the one before it, for a znode that is only deleted.
fn states_of(record: &Record) -> impl Iterator<Item = Stat> {
    let stat = |state: &Option<State>| state.as_ref().and_then(|state| state.stat);
    stat(&record.after).into_iter().chain(stat(&record.before))
}

/// Whether the history has this version; `None` if it has too many later ones to know.
fn has_version(past: &mut Reader, path: &ZnodePath, wanted: &Stat) -> Result<Option<bool>, JournalError> {
    let names = |stat: &Stat| (stat.czxid, stat.mzxid, stat.version, stat.mtime);
    let (mut from, mut looked) = (None, 0);
    loop {
        let Some(read) = past.history(path, from, DEPTH_STEP)? else {
            return Ok(Some(false));
        };
        let after = |record: &Record| record.after.as_ref().and_then(|state| state.stat);
        for stat in read.records.iter().filter_map(|record| after(record)) {
            if stat.mzxid <= wanted.mzxid {
                return Ok(Some(names(&stat) == names(wanted)));
            }
        }
        looked += read.records.len();
        match read.next {
            None => return Ok(Some(false)),
            Some(_) if looked >= DEPTH_MAX => return Ok(None),
            next => from = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
    use bridge_core::image_txn::ImageTxn;
    use bridge_core::journal::{Journal, JournalOptions, JournalWriter};
    use bridge_core::record::{Fidelity, Timestamp};

    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn append(at: &str, kind: ChangeKind) -> Append {
        let change = Change {
            path: path(at),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        };
        Append {
            root: Some(ZnodePath::slash()),
            captured: Timestamp(0),
            kind: RecordKind::Change(change),
        }
    }

    /// A write at a zxid, by a clock that is so much ahead.
    fn written(at: &str, zxid: u64, clock: i64) -> Append {
        let stat = Stat {
            czxid: Zxid(zxid),
            mzxid: Zxid(zxid),
            pzxid: Zxid(zxid),
            ctime: zxid.cast_signed() + clock,
            mtime: zxid.cast_signed() + clock,
            ..Stat::default()
        };
        let read = Read { stat, data: None };
        append(at, ChangeKind::Created { read })
    }

    fn deleted(at: &str, zxid: u64) -> Append {
        let at_zxid = DeletedAt::Exact(Zxid(zxid));
        append(at, ChangeKind::Deleted { at: at_zxid })
    }

    /// The comparison of a history up to zxid 20 with a journal, whose first records retention may have removed.
    fn compared(past: Vec<Append>, journal: Vec<Append>) -> EnsembleMatch {
        let folder = tempfile::tempdir().unwrap();
        let mut readers = [("main.history", past), ("main.journal", journal)].map(|(name, appends)| {
            let file = folder.path().join(name);
            let mut journal = Journal::open(&file, &JournalOptions::new("main")).unwrap();
            for append in appends {
                journal.append(append).unwrap();
            }
            journal.commit().unwrap();
            drop(journal);
            Reader::open(&file).unwrap()
        });
        let [past, journal] = &mut readers;
        compare(past, journal, |path| path.starts_with("/app"), Zxid(20)).unwrap()
    }

    #[test]
    fn a_history_is_taken_only_where_a_state_of_the_journal_is_in_it() {
        let past = || vec![written("/app/a", 10, 0), written("/app/b", 11, 0)];
        let other = |found: EnsembleMatch| match found {
            EnsembleMatch::Other(path, stat) => (path.to_string(), stat.mzxid.0),
            found => panic!("{found:?}"),
        };
        let check = |journal: Vec<Append>| compared(past(), journal);
        assert_eq!(check(vec![written("/app/a", 10, 0)]), EnsembleMatch::Same);
        // A znode that the roots exclude now may be missing.
        let excluded = vec![written("/app/x", 9, 0), written("/app/b", 11, 0)];
        assert_eq!(check(excluded), EnsembleMatch::Same);
        // The same number and another clock.
        let found = other(check(vec![written("/app/a", 10, 5)]));
        assert_eq!(found, ("/app/a".to_owned(), 10));
        let found = other(check(vec![written("/app/c", 12, 0)]));
        assert_eq!(found, ("/app/c".to_owned(), 12));
    }

    #[test]
    fn a_journal_without_a_state_that_the_files_would_have_proves_nothing() {
        let nothing = |journal: Vec<Append>, records| {
            let past = vec![written("/app/a", 10, 0), written("/other", 11, 0)];
            assert_eq!(compared(past, journal), EnsembleMatch::Nothing { records });
        };
        nothing(vec![], 0);
        // After the end of the files, outside of the roots, and as every new server has it.
        nothing(vec![written("/app/a", 21, 0)], 1);
        nothing(vec![written("/other", 11, 0)], 1);
        nothing(vec![written("/app", 0, 0)], 1);
    }

    #[test]
    fn the_state_before_a_delete_is_compared_too_and_so_are_records_after_many_others() {
        let past = vec![written("/app/a", 10, 0)];
        let others = (0..2_500).map(|at| written(&format!("/x/{at}"), 30 + at, 0));
        let mut journal: Vec<Append> = others.collect();
        journal.extend([written("/app/a", 10, 0), deleted("/app/a", 3_000)]);
        assert_eq!(compared(past, journal), EnsembleMatch::Same);
    }
}
