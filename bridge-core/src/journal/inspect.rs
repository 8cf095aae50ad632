//! Checks a journal for damage: the file itself, and whether its tables agree.
//!
//! Each check is one transaction and sees one state of the journal. It cannot be split, so it may take long: a running
//! bridge continues, but its write-ahead log grows until the check ends. Nothing is repaired here.

mod image;

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use super::error::JournalError;
use super::read::{ReadLimit, Reader};
use super::stretches;
use crate::number::Seq;

/// Findings that are kept; more of them are counted only.
pub const FINDINGS_MAX: usize = 1000;

/// Records that are read at once to check that they are readable.
const AT_ONCE: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 8 << 20,
};

/// A finding in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The violated check, in one word: `file`, `records`, `history`, `values`, `image`, `facts`,
    /// `position`, `cursors`, `aside`, `stretches`, `ended`, `unreadable`, `paths`.
    pub subject: &'static str,
    /// The affected path, if there is one.
    pub path: Option<String>,
    /// The affected record, if there is one.
    pub seq: Option<Seq>,
    /// The problem.
    pub message: String,
    /// The remedy.
    pub remedy: &'static str,
}

/// The result of an inspection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Records that were read.
    pub records: u64,
    /// Paths of the image that were compared with their last record.
    pub paths: u64,
    /// The findings, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub total: u64,
}

const RESTORE: &str = "restore a copy of the data directory, or move the journal away and begin with a new one, which \
     begins with a snapshot; deletes of the time between are then not reported";
const ANEW: &str = "what this znode is now is found by the next comparison; to have all of it right, restore a copy or \
     begin with a new journal";
const FORGET: &str = "restore a copy, or give the sink's place up with 'zkbridge run --forget-sink NAME' and let it \
     begin anew";

const UNUSED: &str =
    "no answer uses it, so nothing is lost; if there are other findings, follow their remedies";

const MISCOUNTED: &str = "records are as they were, but a question about an earlier moment may get a wrong answer: restore a \
     copy of the data directory";

/// A query that returns the rows that are wrong.
struct IntegrityQuery {
    subject: &'static str,
    /// Columns: the number of the path or null, the seq or null, and a word for the message.
    sql: &'static str,
    message: &'static str,
    remedy: &'static str,
}

const INTEGRITY_QUERIES: &[IntegrityQuery] = &[
    IntegrityQuery {
        subject: "records",
        // A hole that is known reaches from one record to the next.
        sql: "SELECT NULL, seq, NULL FROM record r WHERE seq > (SELECT min(seq) FROM record)
            AND NOT EXISTS (SELECT 1 FROM record p WHERE p.seq = r.seq - 1)
            AND NOT EXISTS (SELECT 1 FROM hole h WHERE h.first = (SELECT max(first) FROM hole WHERE first < r.seq)
                AND h.last = r.seq - 1 AND EXISTS (SELECT 1 FROM record p WHERE p.seq = h.first - 1))",
        message: "the record before it is missing",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "records",
        sql: "SELECT r.path, r.seq, NULL FROM hole h JOIN record r ON r.seq BETWEEN h.first AND h.last",
        message: "it is there and is said to have gone into a later one",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "records",
        sql: "SELECT r.path, r.seq, NULL FROM record r WHERE r.path IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM path p WHERE p.id = r.path)",
        message: "its path is not known",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "history",
        sql: "SELECT r.path, r.seq, r.previous FROM record r LEFT JOIN record p ON p.seq = r.previous
            WHERE r.previous >= (SELECT min(seq) FROM record) AND (p.seq IS NULL OR p.path <> r.path OR p.seq >= r.seq)",
        message: "the record that it follows is not one of its path",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "history",
        sql: "SELECT r.path, r.seq, NULL FROM record r JOIN record p ON p.seq = r.previous
            WHERE r.zxid_kind = 0 AND p.zxid_kind = 0 AND r.zxid < p.zxid
            AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'rebaselined' AND value BETWEEN p.seq AND r.seq)",
        message: "its zxid is before that of the record that it follows",
        remedy: ANEW,
    },
    IntegrityQuery {
        subject: "history",
        sql: "SELECT w.path, w.seq, NULL FROM waypoint w LEFT JOIN record r ON r.seq = w.seq WHERE r.path IS NOT w.path",
        message: "it is a waypoint in the history of this path, and no record of it",
        remedy: UNUSED,
    },
    IntegrityQuery {
        subject: "ended",
        sql: "SELECT e.path, e.died, NULL FROM ended e LEFT JOIN record r ON r.seq = e.died LEFT JOIN path p ON p.id = e.path
            LEFT JOIN record b ON b.seq = e.born
            WHERE r.op IS NOT 2 OR r.path IS NOT e.path OR p.parent IS NOT e.parent OR e.born NOT BETWEEN 0 AND e.died - 1
            OR e.died - e.born NOT BETWEEN 1 << e.rank AND (2 << e.rank) - 1
            OR (e.born >= (SELECT min(seq) FROM record) AND (b.op IS NOT 0 OR b.path IS NOT e.path))",
        message: "the incarnation that ends here is not as the records say",
        remedy: MISCOUNTED,
    },
    IntegrityQuery {
        subject: "ended",
        sql: "SELECT r.path, r.seq, NULL FROM record r LEFT JOIN path p ON p.id = r.path
            WHERE r.op = 2 AND r.seq > (SELECT value FROM meta WHERE key = 'ended_since')
            AND (NOT EXISTS (SELECT 1 FROM ended e WHERE e.died = r.seq) OR (r.zxid IS NULL
            AND NOT EXISTS (SELECT 1 FROM unclear u WHERE u.parent = p.parent AND u.path = r.path)))",
        message: "the incarnation that ends here is missing among those that ended",
        remedy: MISCOUNTED,
    },
    IntegrityQuery {
        subject: "ended",
        sql: "SELECT i.path, NULL, NULL FROM image i WHERE i.life = 0 AND i.path <> 1
            AND (i.last IS NULL OR i.last < (SELECT min(seq) FROM record))
            AND EXISTS (SELECT 1 FROM meta WHERE key = 'ended_since')
            AND NOT EXISTS (SELECT 1 FROM unclear u WHERE u.parent = i.parent AND u.path = i.path)",
        message: "no record says when it existed, and it is missing among the paths of which that is not known",
        remedy: MISCOUNTED,
    },
    IntegrityQuery {
        subject: "ended",
        sql: "SELECT i.path, i.born, NULL FROM image i LEFT JOIN record r ON r.seq = i.born WHERE i.born IS NOT NULL
            AND (i.life = 0 OR (i.born >= (SELECT min(seq) FROM record) AND (r.op IS NOT 0 OR r.path IS NOT i.path)))",
        message: "it was not created by the record that the image names",
        remedy: MISCOUNTED,
    },
    IntegrityQuery {
        subject: "values",
        sql: "SELECT r.path, r.seq, r.value FROM record r WHERE r.value IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM value v WHERE v.id = r.value)",
        message: "its value is missing",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "values",
        sql: "SELECT r.path, r.seq, r.retired FROM record r WHERE r.before = 2 AND r.retired IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM value v WHERE v.id = r.retired)",
        message: "the value before it is missing",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "values",
        sql: "SELECT i.path, NULL, i.value FROM image i WHERE i.value IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM value v WHERE v.id = i.value)",
        message: "the value that the image has of it is missing",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "image",
        sql: "SELECT NULL, value, NULL FROM meta WHERE key = 'applied' AND value <>
            (SELECT ifnull(max(seq), 0) FROM record)",
        message: "the image has applied the records up to this one, which is not the last one of the journal",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "facts",
        sql: "SELECT i.path, NULL, i.facts FROM image i WHERE i.facts IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM fact f WHERE f.id = i.facts)",
        message: "the lifetime and the access control list that the image has of it are missing",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "image",
        sql: "SELECT p.id, NULL, NULL FROM path p LEFT JOIN image i
            ON i.parent = p.parent AND i.name = p.name AND i.path = p.id WHERE i.path IS NULL",
        message: "the image does not have it under its number",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "image",
        sql: "SELECT i.path, NULL, i.occupied FROM image i WHERE i.occupied <> (i.life <> 0
            OR EXISTS (SELECT 1 FROM image c WHERE c.parent = i.path AND c.occupied = 1))",
        message: "the image is wrong about whether it or something below it is living",
        remedy: ANEW,
    },
    IntegrityQuery {
        subject: "position",
        // A position whose scope is even is that of a comparison that has not ended.
        sql: "SELECT r.path, r.seq, NULL FROM record r, position p WHERE r.txn IS NOT NULL AND p.scope & 1
            AND r.zxid > p.zxid AND r.seq > (SELECT value FROM meta WHERE key = 'rebaselined')",
        message: "it is of a later transaction than the position in the history",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "position",
        sql: "SELECT NULL, NULL, NULL FROM shadow WHERE length(path) <> 16 OR length(stat) <> 60",
        message: "a row of the table that proves the server's tree is damaged",
        remedy: RESTORE,
    },
    IntegrityQuery {
        subject: "unreadable",
        sql: "SELECT NULL, found_seq, path FROM unreadable WHERE substr(path, 1, 1) <> '/' OR extent NOT IN (0, 1)
            OR since_seq > found_seq OR since_seq < 0 OR found_seq > ifnull(until_seq, found_seq)
            OR ifnull(until_seq, found_seq) > (SELECT ifnull(max(seq), 0) FROM record)
            OR (until_seq IS NULL) <> (until_zxid IS NULL) OR (until_seq IS NULL) <> (until_time IS NULL)",
        message: "the time in which this path could not be read is not one",
        remedy: MISCOUNTED,
    },
    IntegrityQuery {
        subject: "unreadable",
        sql: "SELECT NULL, min(found_seq), path FROM unreadable WHERE until_seq IS NULL GROUP BY path, extent
            HAVING count(*) > 1",
        message: "this path may not be read since two moments at once",
        remedy: MISCOUNTED,
    },
    IntegrityQuery {
        subject: "cursors",
        sql: "SELECT NULL, cursor, name FROM sink
            WHERE cursor < 0 OR cursor > (SELECT ifnull(max(seq), 0) FROM record)",
        message: "this sink's cursor is past the end of the journal",
        remedy: FORGET,
    },
    IntegrityQuery {
        subject: "cursors",
        sql: "SELECT NULL, cursor, name FROM sink WHERE cursor + 1 <
            min((SELECT min(seq) FROM record), ifnull((SELECT min(first) FROM hole), 9223372036854775807))",
        message: "records that this sink has not got are gone",
        remedy: FORGET,
    },
    IntegrityQuery {
        subject: "aside",
        sql: "SELECT NULL, seq, sink FROM (SELECT sink, seq, record FROM rejected UNION ALL
            SELECT sink, seq, record FROM parked) WHERE record IS NULL
            AND seq NOT IN (SELECT seq FROM record)",
        message: "a record that this sink has set aside is gone",
        remedy: "let it go with 'zkbridge dlq drop', as it cannot be delivered any more",
    },
    IntegrityQuery {
        subject: "aside",
        sql: "SELECT NULL, a.seq, a.sink FROM (SELECT sink, seq FROM rejected UNION ALL
            SELECT sink, seq FROM parked) a LEFT JOIN sink s ON s.name = a.sink WHERE s.name IS NULL OR a.seq > s.cursor",
        message: "this sink has set a record aside that it never came to",
        remedy: FORGET,
    },
];

impl Reader {
    /// Checks whether the journal is intact. `tell` is called with each check that begins.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn inspect(&mut self, mut tell: impl FnMut(&'static str)) -> Result<Inspection, JournalError> {
        let mut found = Inspection::default();
        tell("file");
        self.ask(&mut found, file_is_whole)?;
        tell("tables");
        for question in INTEGRITY_QUERIES {
            self.ask(&mut found, |connection, found| question.ask(connection, found))?;
        }
        self.ask(&mut found, paths_lead_up)?;
        tell("image");
        self.ask(&mut found, image::image_is_folded)?;
        self.ask(&mut found, image::image_names_the_newest)?;
        tell("stretches");
        self.ask(&mut found, stretches_are_summed_up)?;
        tell("records");
        self.read_all(&mut found)?;
        Ok(found)
    }

    fn ask(
        &mut self,
        found: &mut Inspection,
        question: impl FnOnce(&Connection, &mut Inspection) -> rusqlite::Result<()>,
    ) -> Result<(), JournalError> {
        question(self.connection.for_whole_file(), found).map_err(|error| self.fault("inspecting it", error))
    }

    /// Each record must be one that can be read.
    fn read_all(&mut self, found: &mut Inspection) -> Result<(), JournalError> {
        let Some(oldest) = self.oldest()? else {
            return Ok(());
        };
        let (mut after, tail) = (Seq(oldest.0 - 1), self.tail()?);
        while after < tail {
            match self.read_what_is_there(after, AT_ONCE) {
                Ok(records) => {
                    let Some(last) = records.last() else { break };
                    (after, found.records) = (last.seq, found.records + records.len() as u64);
                }
                Err(error) => after = self.read_singly(after, found, &error)?,
            }
        }
        Ok(())
    }

    /// Among the next records there is one that cannot be read: names it, and returns how far it came.
    fn read_singly(
        &mut self,
        mut after: Seq,
        found: &mut Inspection,
        error: &JournalError,
    ) -> Result<Seq, JournalError> {
        let single = ReadLimit { records: 1, bytes: 0 };
        for _ in 0..AT_ONCE.records {
            match self.read_what_is_there(after, single) {
                Ok(records) => {
                    let Some(last) = records.last() else {
                        return Ok(after);
                    };
                    (after, found.records) = (last.seq, found.records + 1);
                }
                Err(error) => {
                    let Some(next) = self.first_at(super::Position::Seq(after.next()))? else {
                        return Ok(after);
                    };
                    found.add(Finding {
                        subject: "records",
                        path: None,
                        seq: Some(next),
                        message: format!("it cannot be read: {}", error.message),
                        remedy: RESTORE,
                    });
                    return Ok(next);
                }
            }
        }
        // None of them alone: the error passed.
        tracing::debug!(%error, "records could be read the second time");
        Ok(after)
    }
}

impl IntegrityQuery {
    fn ask(&self, connection: &Connection, found: &mut Inspection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(self.sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq: Option<i64> = row.get(1)?;
            let word: Option<rusqlite::types::Value> = row.get(2)?;
            let whose = match word {
                Some(rusqlite::types::Value::Text(name)) => format!("sink '{name}': "),
                _ => String::new(),
            };
            let path = path_of(connection, row.get(0)?)?;
            found.add(Finding {
                subject: self.subject,
                path,
                seq: seq.map(|seq| Seq(seq.cast_unsigned())),
                message: format!("{whose}{}", self.message),
                remedy: self.remedy,
            });
        }
        Ok(())
    }
}

impl Inspection {
    fn add(&mut self, finding: Finding) {
        self.total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

fn file_is_whole(connection: &Connection, found: &mut Inspection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let word: String = row.get(0)?;
        if word != "ok" {
            found.add(Finding {
                subject: "file",
                path: None,
                seq: None,
                message: format!("SQLite says: {word}"),
                remedy: RESTORE,
            });
        }
    }
    Ok(())
}

fn stretches_are_summed_up(connection: &Connection, found: &mut Inspection) -> rusqlite::Result<()> {
    stretches::compare(connection, |(last, message)| {
        found.add(Finding {
            subject: "stretches",
            path: None,
            seq: Some(last),
            message: message.to_owned(),
            remedy: MISCOUNTED,
        });
    })
}

/// Each path leads up to `/`. A path gets its number after the one above it, so that only the others can lead in a circle.
fn paths_lead_up(connection: &Connection, found: &mut Inspection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id FROM path WHERE parent >= id")?;
    let mut rows = statement.query([])?;
    let mut above = connection.prepare("SELECT parent FROM path WHERE id = ?1")?;
    while let Some(row) = rows.next()? {
        let first: i64 = row.get(0)?;
        let (mut at, mut seen) = (Some(first), HashSet::new());
        while let Some(id) = at.filter(|id| seen.insert(*id)) {
            at = above.query_row([id], |row| row.get(0)).optional()?;
        }
        if at.is_some() {
            found.add(Finding {
                subject: "paths",
                path: path_of(connection, Some(first))?,
                seq: None,
                message: format!("the paths above path {first} lead in a circle"),
                remedy: RESTORE,
            });
        }
    }
    Ok(())
}

/// The path of a number as far as it is known: the table of paths may be what is wrong.
fn path_of(connection: &Connection, id: Option<i64>) -> rusqlite::Result<Option<String>> {
    let Some(mut id) = id else { return Ok(None) };
    let mut names: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    loop {
        if !seen.insert(id) {
            names.push(format!("(path {id})"));
            break;
        }
        let found: Option<(i64, String)> = connection
            .prepare_cached("SELECT parent, name FROM path WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((0, _)) => break,
            Some((parent, name)) => {
                names.push(name);
                id = parent;
            }
            None => {
                names.push(format!("(path {id})"));
                break;
            }
        }
    }
    names.reverse();
    Ok(Some(format!("/{}", names.join("/"))))
}
