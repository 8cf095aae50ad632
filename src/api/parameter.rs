//! The parameters of a request, checked against the table of routes.

use std::str::FromStr;

use bridge_core::journal::Position;
use bridge_core::number::{Seq, SessionId};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Timestamp};
use bridge_query::answer::DiffKind;
use bridge_query::{JournalQuery, PathPattern, Selection, parse_position, parse_range_end};

use super::problem::Problem;
use super::route::Route;
use crate::command::argument;

/// The items of a page without `limit`.
const LIMIT: usize = 100;

/// The longest text that is looked for.
const TEXT_CHARS_MAX: usize = 1_000;

/// The parameters of one request: those of its path, and those of its query, each at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the parameters that the route has.
    ///
    /// # Errors
    /// If there is another one, or one twice.
    pub(super) fn read<'a>(
        route: &Route,
        path: impl Iterator<Item = (&'a str, &'a str)>,
        query: Option<&str>,
    ) -> Result<Parameters, Problem> {
        let mut found: Vec<(String, String)> = path
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !route.parameters.iter().any(|known| known.name == name) {
                let known: Vec<&str> = route.parameters.iter().map(|known| known.name).collect();
                let reason = format!(
                    "the route has no parameter '{name}'\nhelp: use {}",
                    match known.is_empty() {
                        true => "none".to_owned(),
                        false => known.join(", "),
                    }
                );
                return Err(Problem::bad_parameter(&name, reason));
            }
            if found.iter().any(|(known, _)| *known == name) {
                return Err(Problem::bad_parameter(
                    &name,
                    "it is given twice\nhelp: give it once",
                ));
            }
            // The replacement character of a text that is not UTF-8 would ask about another znode.
            if value.contains('\u{fffd}') && !query.unwrap_or_default().contains("%EF%BF%BD") {
                return Err(Problem::bad_parameter(
                    &name,
                    "it is not UTF-8\nhelp: encode the text as UTF-8 before it is percent-encoded",
                ));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Parameters(found))
    }

    /// A parameter as text; an empty one counts as left out.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The name of the source in the path.
    pub(super) fn source(&self) -> &str {
        self.text("source").unwrap_or_default()
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let parsed = self.text(name).map(parse).transpose();
        parsed.map_err(|reason| Problem::bad_parameter(name, reason))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.parsed(name, |text| {
            text.parse()
                .map_err(|_| format!("'{text}' is no number that fits\nhelp: give a whole number"))
        })
    }

    /// A moment; `None` also for `now`, which is the end of the journal. A date is its first moment, and as `to`, the end of
    /// a range, its last. The number of a record that exists is that of the record, also where it could be a date: programs
    /// give what they were given.
    pub(super) fn moment(
        &self,
        name: &str,
        journal: &JournalQuery,
        now: Timestamp,
    ) -> Result<Option<Position>, Problem> {
        if self.text(name) == Some("now") {
            return Ok(None);
        }
        let number: Option<u64> = self.text(name).and_then(|text| text.parse().ok());
        if let Some(seq) = number.map(Seq)
            && seq <= journal.tail()?
        {
            return Ok(Some(Position::Seq(seq)));
        }
        self.parsed(name, |text| {
            let parsed = match name {
                "to" => parse_range_end(text, now),
                _ => parse_position(text, now),
            };
            parsed.map_err(|error| error.to_string())
        })
    }

    /// A path that must be given.
    pub(super) fn path(&self, name: &str) -> Result<ZnodePath, Problem> {
        let path = self.parsed(name, argument::znode)?;
        path.ok_or_else(|| {
            Problem::bad_parameter(name, "the parameter is missing\nhelp: give the path of a znode")
        })
    }

    /// A path, or `/`.
    pub(super) fn path_or_top(&self, name: &str) -> Result<ZnodePath, Problem> {
        Ok(self
            .parsed(name, argument::znode)?
            .unwrap_or_else(ZnodePath::slash))
    }

    pub(super) fn seq(&self, name: &str) -> Result<Option<Seq>, Problem> {
        Ok(self.number(name)?.map(Seq))
    }

    /// A number of things, at least one: of none there is nothing to answer. A larger one than any limit counts as that.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, Problem> {
        let count: Option<u64> = self.number(name)?;
        match count {
            Some(0) => Err(Problem::bad_parameter(
                name,
                "0 of them would be no answer\nhelp: give 1 or more, or leave it out",
            )),
            count => Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX))),
        }
    }

    /// The size of a page.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let limit = self.count("limit")?;
        Ok(limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.text("cursor")
    }

    /// `0`, `1` or left out.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Problem> {
        let switch = self.parsed(name, |text| match text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(format!("'{text}' is neither 0 nor 1\nhelp: give 0 or 1")),
        });
        Ok(switch?.unwrap_or(false))
    }

    /// The differences that a list has; empty: all.
    pub(super) fn kinds(&self) -> Result<Vec<DiffKind>, Problem> {
        self.words("kind", "kind of difference", DiffKind::ALL, DiffKind::as_str)
    }

    /// Some of the words that name these values, separated by commas; none if the parameter is left out.
    fn words<T: Copy>(
        &self,
        name: &str,
        noun: &str,
        all: &[T],
        as_str: fn(T) -> &'static str,
    ) -> Result<Vec<T>, Problem> {
        let word = |text: &str| {
            let found = all.iter().copied().find(|one| as_str(*one) == text);
            found.ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|one| as_str(*one)).collect();
                format!(
                    "'{text}' is no {noun}\nhelp: give one or several of {}, separated by commas",
                    known.join(", ")
                )
            })
        };
        let found = self.parsed(name, |text| text.split(',').map(word).collect())?;
        Ok(found.unwrap_or_default())
    }

    /// The filter of a list, and its name for cursors.
    pub(super) fn selection(&self) -> Result<(Selection, String), Problem> {
        let pattern = |text: &str| PathPattern::parse(text).map_err(|error| error.to_string());
        let under = self.parsed("under", pattern)?;
        let ops = self.words("op", "operation", Op::ALL, Op::as_str)?;
        let selection = Selection {
            paths: under.into_iter().collect(),
            within: self.parsed("glob", pattern)?,
            ops,
            session: self.parsed::<SessionId>("session", argument::session)?,
            client: self.parsed("client", short)?,
            user: self.parsed("user", short)?,
            text: self.parsed("text", short)?,
            sink: None,
        };
        let named = ["under", "glob", "op", "session", "client", "user", "text"]
            .map(|name| format!("{name}={}", self.text(name).unwrap_or_default()));
        Ok((selection, named.join("\0")))
    }
}

fn short(text: &str) -> Result<String, String> {
    match text.chars().count() <= TEXT_CHARS_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "it has more than {TEXT_CHARS_MAX} characters\nhelp: look for a shorter text"
        )),
    }
}
