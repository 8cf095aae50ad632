//! The questions of the routes: parameters in, a document out. Each runs on a thread that may block.

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use bridge_query::JournalQuery;
use bridge_query::answer::{
    ActivityQuestion, ChangesOrder, ChangesQuestion, ChildrenQuestion, DiffQuestion, HistoryQuestion,
    RangeQuestion,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::document::Document;
use super::parameter::Parameters;
use super::problem::Problem;
use super::raw_value;

/// Intervals of an activity without `buckets`.
const BUCKETS: u32 = 100;

/// A dead letter, without its record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct LetterItem {
    /// The record.
    seq: Seq,
    /// Its path; null for a control record.
    path: Option<ZnodePath>,
    /// The destination's reason; null if the caller may not see the value, which the destination may have repeated.
    reason: Option<String>,
    /// How often it was tried.
    attempts: u32,
    /// When it was rejected.
    at: Option<Timestamp>,
}

pub(super) fn moment(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let at = parameters.moment("at", journal, now)?;
    Document::json(&journal.moment_under(&ZnodePath::slash(), at, now)?)
}

pub(super) fn node(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let path = parameters.path("path")?;
    let node = journal.node(&path, parameters.moment("at", journal, now)?, now)?;
    let node = node.ok_or_else(|| Problem::never_seen(path.as_str()))?;
    if !parameters.switch("raw")? {
        return Document::json(&node);
    }
    match &node.then.data {
        Some(data) => Ok(raw_value::document(&node.then, data)),
        None => Err(Problem::never_seen(&format!(
            "the value of {path} at this moment"
        ))),
    }
}

pub(super) fn children(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let path = parameters.path("path")?;
    let question = ChildrenQuestion {
        path: &path,
        at: parameters.moment("at", journal, now)?,
        prefix: parameters.text("prefix").unwrap_or_default(),
        after: parameters.text("after"),
        cursor: parameters.cursor(),
        limit: parameters.limit()?,
    };
    let list = journal.children_at(&question, now)?;
    // Without children it may be a znode that the journal knows nothing of.
    let is_empty = list.items.is_empty() && list.complete && question.cursor.is_none();
    if is_empty && !path.is_slash() && journal.node(&path, question.at, now)?.is_none() {
        return Err(Problem::never_seen(path.as_str()));
    }
    Document::list(&list, list.items.len())
}

pub(super) fn history(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let path = parameters.path("path")?;
    let before = parameters.seq("before")?;
    let before = before.map(|before| Position::Seq(Seq(before.0.saturating_sub(1))));
    let question = HistoryQuestion {
        path: &path,
        from: parameters.moment("from", journal, now)?,
        to: match before {
            Some(before) => Some(before),
            None => parameters.moment("to", journal, now)?,
        },
        cursor: parameters.cursor(),
        limit: parameters.limit()?,
    };
    let answer = journal.versions(&question, now)?;
    let answer = answer.ok_or_else(|| Problem::never_seen(path.as_str()))?;
    Document::list(&answer, answer.items.len() + answer.past.len())
}

pub(super) fn changes(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let (selection, mut filter) = parameters.selection()?;
    let past = match parameters.switch("past")? {
        true => Some(past_of(journal)?),
        false => None,
    };
    if past.is_some() {
        filter.push_str("\0past");
    }
    let question = ChangesQuestion {
        from: parameters.moment("from", journal, now)?,
        to: parameters.moment("to", journal, now)?,
        selection: &selection,
        filter: &filter,
        order: match parameters.text("order") {
            None | Some("oldest") => ChangesOrder::Oldest,
            Some("newest") => ChangesOrder::Newest,
            Some(other) => {
                let reason = format!("'{other}' is no order\nhelp: give oldest or newest");
                return Err(Problem::bad_parameter("order", reason));
            }
        },
        cursor: parameters.cursor(),
        limit: parameters.limit()?,
    };
    let list = past.as_ref().unwrap_or(journal).records_between(&question, now)?;
    Document::list(&list, list.items.len())
}

/// The history from before a journal.
fn past_of(journal: &JournalQuery) -> Result<JournalQuery, Problem> {
    let past = journal.past_journal()?;
    past.ok_or_else(|| Problem::never_seen("the time before it: 'zkbridge backfill' has made no history"))
}

pub(super) fn diff(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let under = parameters.path_or_top("under")?;
    let a = match (parameters.text("a"), parameters.moment("a", journal, now)?) {
        (None, _) => {
            let reason = "the parameter is missing\nhelp: give the first moment";
            return Err(Problem::bad_parameter("a", reason));
        }
        (Some(_), Some(a)) => a,
        (Some(_), None) => Position::Seq(journal.tail()?),
    };
    let question = DiffQuestion {
        under: &under,
        a,
        b: parameters.moment("b", journal, now)?,
        kinds: &parameters.kinds()?,
        cursor: parameters.cursor(),
        limit: parameters.limit()?,
    };
    let list = journal.diff(&question, now)?;
    Document::list(&list, list.items.len())
}

fn range<'a>(
    journal: &JournalQuery,
    parameters: &'a Parameters,
    now: Timestamp,
) -> Result<RangeQuestion<'a>, Problem> {
    Ok(RangeQuestion {
        from: parameters.moment("from", journal, now)?,
        to: parameters.moment("to", journal, now)?,
        cursor: parameters.cursor(),
        limit: parameters.limit()?,
    })
}

pub(super) fn activity(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let (selection, filter) = parameters.selection()?;
    let question = ActivityQuestion {
        range: range(journal, parameters, now)?,
        selection: &selection,
        filter: &filter,
        buckets: parameters.count("buckets")?.unwrap_or(BUCKETS),
    };
    let list = journal.activity_between(&question, now)?;
    Document::list(&list, list.items.len())
}

pub(super) fn gaps(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let list = journal.gaps_between(&range(journal, parameters, now)?, now)?;
    Document::list(&list, list.items.len())
}

pub(super) fn record(
    journal: &JournalQuery,
    parameters: &Parameters,
    _: Timestamp,
) -> Result<Document, Problem> {
    let seq = parameters.seq("seq")?.unwrap_or_default();
    match journal.record(seq)? {
        Some(record) => Document::json(&record),
        // A hidden record is answered like one that was removed.
        None if seq > Seq::ZERO && seq <= journal.tail()? => Err(Problem::removed(&format!("record {seq}"))),
        None => Err(Problem::never_seen(&format!("record {seq}"))),
    }
}

pub(super) fn letters(
    journal: &JournalQuery,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Document, Problem> {
    let sink = sink(journal, parameters)?;
    let page = journal.letters_page(&sink, parameters.cursor(), parameters.limit()?, now)?;
    let list = page.map(|(letter, is_shown)| LetterItem {
        seq: letter.seq,
        path: letter.path,
        reason: is_shown.then_some(letter.reason),
        attempts: letter.attempts,
        at: letter.at,
    });
    Document::list(&list, list.items.len())
}

pub(super) fn letter(
    journal: &JournalQuery,
    parameters: &Parameters,
    _: Timestamp,
) -> Result<Document, Problem> {
    let sink = sink(journal, parameters)?;
    let seq = parameters.seq("seq")?.unwrap_or_default();
    match journal.dead_letter(&sink, seq)? {
        Some(letter) => Document::json(&letter.record),
        None => Err(Problem::never_seen(&format!(
            "dead letter {seq} of sink '{sink}'"
        ))),
    }
}

fn sink(journal: &JournalQuery, parameters: &Parameters) -> Result<String, Problem> {
    let Some(sink) = parameters.text("sink") else {
        let reason = "the parameter is missing\nhelp: give the name of a sink";
        return Err(Problem::bad_parameter("sink", reason));
    };
    match journal.cursor(sink)? {
        Some(_) => Ok(sink.to_owned()),
        None => Err(Problem::never_seen(&format!("sink '{sink}'"))),
    }
}
