//! The time before a journal: a file beside it, which `zkbridge backfill` makes from transaction logs.
//!
//! It has the form of a journal, with records, numbers and an image of its own. Its records have the ids that the journal
//! would have given them. It may reach into the time of the journal, whose records count there.
//!
//! Invariant: where the file ends before the kept records of the journal begin, an answer from it says so
//! ([`Doubt::NotJoined`]).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bridge_core::journal::{DateKind, Position, Reader, Side};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record, ZxidKind};

use crate::PAGE_MAX;
use crate::as_of::{AsOfQuery, AsOfValue};
use crate::certainty::Doubt;
use crate::changes::{PAGE_BYTES_MAX, SCAN_MAX, bytes_of};
use crate::coverage::STEP_MARKS;
use crate::error::QueryError;
use crate::history::{PositionRange, STEP_VERSIONS, Version, just_before};
use crate::journal::JournalQuery;
use crate::pool::{PooledReader, READER_WAIT, READERS_MAX, ReaderPool};
use crate::timeline::own_time;

/// Records of one path that a list reads in one step. Their values are of an unknown size.
const STEP_PAST_VERSIONS: usize = 20;

/// The file for the time before a journal.
pub fn past_file(journal: &Path) -> PathBuf {
    journal.with_extension("history")
}

/// The readers of such a file.
#[derive(Debug)]
pub(crate) struct Past {
    file: PathBuf,
    /// Device and inode: a repeated backfill puts another file in its place.
    id: (u64, u64),
    pool: ReaderPool,
}

impl Past {
    /// The time before a journal; `None` if there is no file. It is opened when it is needed.
    pub(crate) fn beside(journal: &Path) -> Option<Past> {
        let file = past_file(journal);
        Some(Past {
            id: id_of(&file)?,
            pool: ReaderPool::new(&file, READERS_MAX, READER_WAIT),
            file,
        })
    }
}

fn id_of(file: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.dev(), found.ino()))
}

/// Where a page of versions of the time before begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastPlace {
    /// The last zxid that counts: the journal has the rest. `None`: it has nothing of the path.
    until: Option<Zxid>,
    /// `None`: at the newest.
    from: Option<Seq>,
}

/// Versions of one znode from the time before.
#[derive(Clone, Debug, PartialEq)]
pub struct PastPage {
    /// The newest first. Their numbers are those of the file.
    pub versions: Vec<Version>,
    /// Where the next page begins; `None` at the first record.
    pub next: Option<PastPlace>,
    /// Why there may be versions between these and those of the journal.
    pub doubt: Option<Doubt>,
}

impl PastPlace {
    /// The newest version in the file.
    pub(crate) const NEWEST: PastPlace = PastPlace {
        until: None,
        from: None,
    };

    /// The place before the records of a journal, of which `oldest` is the oldest one of the znode; `None` if it has none.
    pub fn before(oldest: Option<&Record>) -> PastPlace {
        let until = oldest.and_then(|record| {
            let zxid = record.zxid?;
            // A listing has the state that an earlier transaction made. All others are in both files.
            let repeats = record.op != Op::Snapshot && record.zxid_kind == ZxidKind::Exact;
            Some(Zxid(zxid.0.saturating_sub(u64::from(repeats))))
        });
        PastPlace { until, from: None }
    }

    /// The place before the versions of a page of the journal, or this one if none of them has a zxid.
    pub(crate) fn or_before(self, versions: &[Version]) -> PastPlace {
        let mut oldest_first = versions.iter().rev();
        let oldest = oldest_first.find(|version| version.record.zxid.is_some());
        oldest.map_or(self, |version| PastPlace::before(Some(&version.record)))
    }

    /// The place as parts of a cursor.
    pub(crate) fn to_parts(self) -> [String; 2] {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        [
            number(self.until.map(|zxid| zxid.0)),
            number(self.from.map(|seq| seq.0)),
        ]
    }

    /// Reads the parts of a cursor; `None` if they are none of ours.
    pub(crate) fn of_parts(until: &str, from: &str) -> Option<PastPlace> {
        let number = |text: &str| match text {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        };
        Some(PastPlace {
            until: number(until)?.map(Zxid),
            from: number(from)?.map(Seq),
        })
    }

    /// Whether a record of the file counts.
    fn takes(self, record: &Record) -> bool {
        match (self.until, record.zxid) {
            (Some(until), Some(zxid)) => zxid <= until,
            _ => true,
        }
    }
}

impl JournalQuery {
    /// The zxid with which the kept records begin: every later change is in the journal. `None` before the end of the
    /// first listing.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn begins_at(&self) -> Result<Option<Zxid>, QueryError> {
        Ok(self.reader()?.begins_at()?)
    }

    /// The file for the time before; `None` if there is none.
    pub fn past_file(&self) -> Option<&Path> {
        self.past.as_ref().map(|past| past.file.as_path())
    }

    /// Whether the file for the time before this journal is the one that was there when it was opened. If not, open it
    /// again.
    pub fn has_past_of(&self, journal: &Path) -> bool {
        self.past.as_ref().map(|past| past.id) == id_of(&past_file(journal))
    }

    /// Lends a reader of the time before, as [`JournalQuery::reader`] does; `None` if there is no file for it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is of another source, or all readers are busy.
    pub fn past_reader(&self) -> Result<Option<PooledReader<'_>>, QueryError> {
        let Some(past) = &self.past else { return Ok(None) };
        let reader = past.pool.reader()?;
        match reader.cluster() == self.source() {
            true => Ok(Some(reader)),
            false => Err(QueryError::OtherSource {
                file: past.file.clone(),
                found: reader.cluster().to_string(),
                source_name: self.source().to_string(),
            }),
        }
    }

    /// The time before as a journal of its own, with its own record numbers, for the same caller; `None` if there is no
    /// file. It may reach into the time of this journal.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is of another source, or all readers are busy.
    pub fn past_journal(&self) -> Result<Option<JournalQuery>, QueryError> {
        let Some(past) = &self.past else { return Ok(None) };
        // Refuses a file of another source.
        drop(self.past_reader()?);
        // The last record counts also for a caller who may not see it.
        let journal = JournalQuery::open(&past.file)?
            .without_past()
            .with_end_of_watch()?;
        Ok(Some(journal.with_visibility(self.visibility())))
    }

    /// The doubt of a list from `from` on whose first record is the oldest of the journal, where there is a file for the
    /// time before.
    pub(crate) fn older_history(
        &self,
        from: Option<Position>,
        after: Seq,
    ) -> Result<Option<Doubt>, QueryError> {
        if self.past.is_none() || matches!(from, Some(Position::Seq(_))) {
            return Ok(None);
        }
        let oldest = self.oldest()?;
        let is_first = oldest.is_none_or(|oldest| after.next() <= oldest);
        Ok(is_first.then_some(Doubt::OlderHistory))
    }

    /// The part of a range that may be in the time before; `None` if there is none. The number of a record names a place in
    /// the journal, and the time before is before all of them.
    fn range_of_past(&self, (from, to): PositionRange) -> Result<Option<PositionRange>, QueryError> {
        let to = match (from, to) {
            (Some(Position::Seq(_)), _) => return Ok(None),
            (_, Some(Position::Seq(seq))) => {
                let oldest = self.oldest()?;
                // The records up to it are removed: which of them are in the file is not known.
                if oldest.is_some_and(|oldest| seq.next() < oldest) {
                    return Ok(None);
                }
                None
            }
            (_, to) => to,
        };
        Ok(Some((from, to)))
    }

    /// The versions of a znode before those of the journal, at most `limit` ([`PAGE_MAX`] at most), or fewer if their
    /// values are large, that may be in the range: at or after its first position and at or before its second. `None`:
    /// there is no file, it knows nothing of the path, or the range begins with the number of a record, which names none
    /// there.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the file cannot be read, or all readers are busy.
    pub fn past_versions(
        &self,
        path: &ZnodePath,
        range: PositionRange,
        place: PastPlace,
        limit: usize,
    ) -> Result<Option<PastPage>, QueryError> {
        self.must_be_visible(path)?;
        let Some(range) = self.range_of_past(range)? else {
            return Ok(None);
        };
        let before = range.0.map(|from| AsOfQuery::new(just_before(from)));
        let until = range.1.map(AsOfQuery::new);
        let is_before = |record: &Record| {
            let before = before.as_ref();
            before.is_some_and(|at| at.side_of(record) == Side::Before)
        };
        let is_after = |record: &Record| {
            let until = until.as_ref();
            until.is_some_and(|at| at.side_of(record) == Side::After)
        };
        let limit = limit.clamp(1, PAGE_MAX);
        let (mut bytes, mut scanned) = (0, 0);
        let mut page = PastPage {
            versions: Vec::new(),
            next: Some(place),
            doubt: None,
        };
        while let Some(at) = page.next {
            if page.versions.len() >= limit || bytes >= PAGE_BYTES_MAX || scanned >= SCAN_MAX {
                break;
            }
            let Some(mut reader) = self.past_reader()? else {
                return Ok(None);
            };
            let step = STEP_PAST_VERSIONS.min(limit - page.versions.len());
            let Some(read) = reader.history(path, at.from, step)? else {
                return Ok(None);
            };
            drop(reader);
            scanned += read.records.len() as u64;
            page.next = read.next.map(|from| PastPlace {
                from: Some(from),
                ..place
            });
            for record in &read.records {
                if is_before(record) {
                    page.next = None;
                    break;
                }
                if is_after(record) || !place.takes(record) {
                    continue;
                }
                bytes += bytes_of(record);
                page.versions.extend(self.shown(record).map(|record| Version {
                    record,
                    compacted: None,
                }));
            }
        }
        if page.versions.is_empty() && page.next.is_none() && place.from.is_none() {
            return Ok(None);
        }
        page.doubt = self.not_joined()?;
        Ok(Some(page))
    }

    /// The value of a znode in the time before, where `query` has taken the records of the journal. `None`: there is no
    /// file, or it knows nothing of the path, and the query is as it was.
    pub(crate) fn past_value(
        &self,
        path: &ZnodePath,
        query: &AsOfQuery,
        place: PastPlace,
    ) -> Result<Option<AsOfValue>, QueryError> {
        let mut query = query.clone();
        let mut from = None;
        loop {
            let Some(mut reader) = self.past_reader()? else {
                return Ok(None);
            };
            let Some(read) = reader.history(path, from, STEP_VERSIONS)? else {
                return Ok(None);
            };
            drop(reader);
            let counted = read.records.iter().filter(|record| place.takes(record));
            let found = counted.into_iter().find_map(|record| query.take(record, None));
            let value = match (found, read.next) {
                (None, Some(next)) => {
                    from = Some(next);
                    continue;
                }
                (None, None) => {
                    let is_complete = self.past_is_complete(query.position())?;
                    query.end(false, is_complete)
                }
                (Some(value), _) => value,
            };
            return Ok(Some(value.of_past(self.not_joined()?)));
        }
    }

    /// Whether the file lists all znodes that existed at a position: it begins with a listing.
    fn past_is_complete(&self, position: Position) -> Result<bool, QueryError> {
        let Some(mut past) = self.past_reader()? else {
            return Ok(false);
        };
        let at = match position {
            Position::Seq(_) => return Ok(false),
            Position::Zxid(at) => return Ok(past.begins_at()?.is_some_and(|begin| begin <= at)),
            Position::Time(at) => at,
        };
        let marks = past.marks(Seq::ZERO, STEP_MARKS)?.unwrap_or_default();
        let Some(listed) = marks.iter().find(|mark| mark.op == Op::SnapshotEnd) else {
            return Ok(false);
        };
        // The listings of all roots end together.
        let next = past.dated_between((listed.seq, Seq(listed.seq.0 + STEP_MARKS as u64)))?;
        Ok(next.is_some_and(|next| next.kind == DateKind::Committed && own_time(&next) <= at))
    }

    /// The doubt if records are missing between the file and the journal.
    fn not_joined(&self) -> Result<Option<Doubt>, QueryError> {
        let Some(mut past) = self.past_reader()? else {
            return Ok(None);
        };
        let until = end_of(&mut past)?;
        drop(past);
        let from = self.begins_at()?;
        let is_joined = from.is_none_or(|from| from <= until);
        Ok((!is_joined).then(|| Doubt::NotJoined {
            until,
            from: from.unwrap_or_default(),
        }))
    }
}

/// The zxid up to which the file has everything.
fn end_of(reader: &mut Reader) -> Result<Zxid, QueryError> {
    let roots = reader.overview()?.roots;
    let reported = roots.iter().map(|root| root.reported).max();
    Ok(reported.unwrap_or_default())
}
