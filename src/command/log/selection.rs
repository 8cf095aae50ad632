//! Selects the rows to print.

use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_query::PathPattern;
use bridge_transactions::transaction::{Operation, TYPE_NAMES};
use clap::builder::PossibleValuesParser;

use super::LogArgs;
use super::row::Row;
use crate::command::argument;
use crate::exit::{Exit, Failure};

/// A zxid or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A transaction.
    Zxid(i64),
    /// Milliseconds since 1970, by the leader's clock.
    Time(i64),
}

/// Reads a zxid or a time, for `--from`.
pub fn moment(text: &str) -> Result<Moment, String> {
    of_log(text, argument::position(text))
}

/// Reads a zxid or a time, for `--to`: a date is the whole day.
pub fn range_end(text: &str) -> Result<Moment, String> {
    of_log(text, argument::range_end(text))
}

fn of_log(text: &str, position: Result<Position, String>) -> Result<Moment, String> {
    // A log has no numbers of records.
    let position = position.map_err(|error| error.replace("a record's number (1842), ", ""))?;
    match position {
        Position::Zxid(zxid) => Ok(Moment::Zxid(zxid.0.cast_signed())),
        Position::Time(time) => Ok(Moment::Time(time.0)),
        Position::Seq(_) => Err(format!(
            "{text} is the number of a record in a journal; write a zxid as 0x{text} in hexadecimal, or a time"
        )),
    }
}

/// Reads the id of a session as ZooKeeper writes it, with or without `0x`.
pub fn session(text: &str) -> Result<i64, String> {
    argument::session(text).map(|id| id.0.cast_signed())
}

/// The rows of snapshots beside those of logs.
const SNAPSHOT_TYPES: [&str; 2] = ["znode", "session"];

/// Takes a type of rows.
pub fn type_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(TYPE_NAMES.into_iter().chain(SNAPSHOT_TYPES))
}

/// The conditions of a command line; all must be met.
#[derive(Debug)]
pub struct RowSelection {
    paths: Vec<PathPattern>,
    types: Vec<String>,
    session: Option<i64>,
    from: Option<Moment>,
    to: Option<Moment>,
}

impl RowSelection {
    /// The conditions of these options.
    pub fn new(args: &LogArgs) -> Result<RowSelection, Failure> {
        if let (Some(Moment::Zxid(from)), Some(Moment::Zxid(to))) = (args.from, args.to)
            && from > to
        {
            let message =
                format!("--from 0x{from:x} --to 0x{to:x}: nothing is between them\nhelp: exchange them");
            return Err(Failure::new(Exit::Configuration, message));
        }
        Ok(RowSelection {
            paths: args.path.clone(),
            types: args.types.clone(),
            session: args.session,
            from: args.from,
            to: args.to,
        })
    }

    /// No transaction before this zxid is selected.
    pub fn first_zxid(&self) -> i64 {
        match self.from {
            Some(Moment::Zxid(zxid)) => zxid,
            _ => 0,
        }
    }

    /// Whether a row of a log is selected.
    pub fn selects(&self, row: &Row<'_>) -> bool {
        let transaction = row.transaction;
        let listed: &[String] = match row.operation {
            Operation::CloseSession { paths: Some(paths) } => paths,
            _ => &[],
        };
        let paths = row
            .operation
            .path()
            .into_iter()
            .chain(listed.iter().map(String::as_str));
        let is_of_multi = matches!(transaction.operation, Operation::Multi(_));
        self.is_within(transaction.zxid, transaction.time)
            && self.session.is_none_or(|session| session == transaction.session)
            && (self.has_type(row.operation.type_name()) || is_of_multi && self.has_type("multi"))
            && self.has_path(paths)
    }

    /// Whether a znode of a snapshot is selected, by its last write and its owner.
    pub fn selects_znode(&self, path: &str, zxid: i64, time: i64, owner: i64) -> bool {
        self.is_within(zxid, time)
            && self.session.is_none_or(|session| session == owner)
            && self.has_type("znode")
            && self.has_path(std::iter::once(path))
    }

    /// Whether a session of a snapshot is selected.
    pub fn selects_session(&self, id: i64) -> bool {
        self.paths.is_empty()
            && self.from.is_none()
            && self.to.is_none()
            && self.session.is_none_or(|session| session == id)
            && self.has_type("session")
    }

    fn is_within(&self, zxid: i64, time: i64) -> bool {
        let order = |moment: Moment| match moment {
            Moment::Zxid(bound) => zxid.cmp(&bound),
            Moment::Time(bound) => time.cmp(&bound),
        };
        self.from.is_none_or(|from| order(from).is_ge()) && self.to.is_none_or(|to| order(to).is_le())
    }

    fn has_type(&self, name: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|one| one == name)
    }

    fn has_path<'a>(&self, mut paths: impl Iterator<Item = &'a str>) -> bool {
        let selects = |path: &str| {
            let path = ZnodePath::parse(if path.is_empty() { "/" } else { path });
            path.is_ok_and(|path| self.paths.iter().any(|pattern| pattern.selects(&path)))
        };
        self.paths.is_empty() || paths.any(selects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_begins_a_range_with_its_first_moment_and_ends_one_with_its_last() {
        let midnight = 1_577_836_800_000;

        assert_eq!(moment("2020-01-01"), Ok(Moment::Time(midnight)));
        assert_eq!(range_end("2020-01-01"), Ok(Moment::Time(midnight + 86_399_999)));
        assert_eq!(range_end("2020-01-01T00:00:00Z"), Ok(Moment::Time(midnight)));
        assert_eq!(range_end("0x5"), Ok(Moment::Zxid(5)));
        assert!(range_end("5").unwrap_err().contains("write a zxid as 0x5"));
    }
}
