//! Checks that the image is what the records fold to.

use rusqlite::{Connection, Row};

use super::{ANEW, Finding, Inspection, path_of};
use crate::journal::code::StatCode;
use crate::journal::row::op_number;
use crate::number::Seq;
use crate::record::{Op, Stat};

/// The image compared with the last record of each path.
const FOLDED: &str = "SELECT i.path, i.last, i.life, i.stat, i.value, r.op, r.stat, r.value, r.path
    FROM image i LEFT JOIN record r ON r.seq = i.last
    WHERE i.last IS NOT NULL AND i.last >= (SELECT min(seq) FROM record)";

/// Paths whose newest record is not the one that the image names.
const NEWEST: &str = "SELECT n.path, n.newest, i.last
    FROM (SELECT path, max(seq) AS newest FROM record WHERE path IS NOT NULL GROUP BY path) n
    LEFT JOIN path p ON p.id = n.path
    LEFT JOIN image i ON i.parent = p.parent AND i.name = p.name
    WHERE i.last IS NOT n.newest";

/// Folding the records gives the image: the last record of each path agrees with the image.
pub(super) fn image_is_folded(connection: &Connection, found: &mut Inspection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(FOLDED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        found.paths += 1;
        let Some(message) = unlike(row)? else { continue };
        let last: i64 = row.get(1)?;
        found.add(Finding {
            subject: "image",
            path: path_of(connection, row.get(0)?)?,
            seq: Some(Seq(last.cast_unsigned())),
            message,
            remedy: ANEW,
        });
    }
    Ok(())
}

/// How a row of [`FOLDED`] contradicts itself.
fn unlike(row: &Row<'_>) -> rusqlite::Result<Option<String>> {
    let op: Option<i64> = row.get(5)?;
    let Some(op) = op else {
        return Ok(Some("its last record is missing".to_owned()));
    };
    let (own, of_record): (i64, Option<i64>) = (row.get(0)?, row.get(8)?);
    if of_record != Some(own) {
        return Ok(Some(
            "the last record that the image names is one of another path".to_owned(),
        ));
    }
    let is_gone = op == op_number(Op::Delete);
    let life: i64 = row.get(2)?;
    if (life == 0) != is_gone {
        let (image, record) = if is_gone {
            ("living", "deleted")
        } else {
            ("gone", "living")
        };
        return Ok(Some(format!(
            "it is {image} in the image, and {record} by its last record"
        )));
    }
    if is_gone {
        return Ok(None);
    }
    let (image, record): (Option<StatCode>, Option<StatCode>) = (row.get(3)?, row.get(6)?);
    let version = |stat: StatCode| -> (u64, u64, i32) {
        let StatCode(Stat {
            czxid,
            mzxid,
            version,
            ..
        }) = stat;
        (czxid.0, mzxid.0, version)
    };
    let (image, record) = (image.map(version), record.map(version));
    if image != record {
        return Ok(Some(format!(
            "the image has another version than its last record: {} and {}",
            shown(image),
            shown(record)
        )));
    }
    let (image, record): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(7)?);
    Ok((image != record).then(|| "the image has another value than its last record".to_owned()))
}

fn shown(version: Option<(u64, u64, i32)>) -> String {
    match version {
        None => "none that was read".to_owned(),
        Some((czxid, mzxid, version)) => {
            format!("version {version} of {mzxid:#018x}, created at {czxid:#018x}")
        }
    }
}

pub(super) fn image_names_the_newest(
    connection: &Connection,
    found: &mut Inspection,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(NEWEST)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let newest: i64 = row.get(1)?;
        found.add(Finding {
            subject: "image",
            path: path_of(connection, row.get(0)?)?,
            seq: Some(Seq(newest.cast_unsigned())),
            message: "its newest record is not the one that the image names".to_owned(),
            remedy: ANEW,
        });
    }
    Ok(())
}
