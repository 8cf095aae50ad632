//! Shared by the commands that ask about a moment or a range: their journal, how pages become one document, and the
//! words for what is not certain.

use bridge_config::SourceConfig;
use bridge_console::Style;
use bridge_console::text::{escaped, size};
use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_query::answer::{AnswerList, Moment};
use bridge_query::{AsOfValue, Certainty, Doubt, JournalQuery};
use clap::Args;

use super::serving;
use crate::cli::ConfigFlag;
use crate::exit::{Exit, Failure};
use crate::operator::{Journals, ask_status};
use crate::terminal::{Tone, broken, notice, to_the_second};

/// Items that a command prints unless `-n` gives another number.
pub const COUNT: usize = 200;

/// Indents lines below an item.
const INDENT: &str = "    ";

/// The options of a question about one journal.
#[derive(Args, Debug)]
pub struct QuestionFlags {
    #[command(flatten)]
    pub config: ConfigFlag,
    /// Ask the journal of this source [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Print a JSON document, as the HTTP API serves it
    #[arg(long)]
    pub json: bool,
}

impl QuestionFlags {
    /// The journal of the question.
    ///
    /// # Errors
    /// If there is none, or several and none is named.
    pub fn journal(&self) -> Result<JournalQuery, Failure> {
        let journals = self.config.journals()?;
        only_journal(&journals, self.source.as_deref()).map(|(_, journal)| journal)
    }
}

/// The journal of the named source, or of the only one, and its source.
///
/// # Errors
/// If there is none, or several and none is named.
pub fn only_journal<'a>(
    journals: &'a Journals,
    source: Option<&str>,
) -> Result<(&'a SourceConfig, JournalQuery), Failure> {
    let mut opened = journals.of_source(source)?;
    if opened.len() > 1 {
        let names: Vec<&str> = opened.iter().map(|(source, _)| &*source.name).collect();
        let message = format!(
            "there are several sources\nhelp: name one with --source: {}",
            names.join(", ")
        );
        return Err(Failure::new(Exit::Configuration, message));
    }
    let (source, journal) = opened.pop().expect("there is at least one");
    Ok((source, watched(journals, source, journal)?))
}

/// The same journal, which knows whether a bridge captures its source now. Where that cannot be asked, it is taken for
/// captured.
pub fn watched(
    journals: &Journals,
    source: &SourceConfig,
    journal: JournalQuery,
) -> Result<JournalQuery, Failure> {
    let Ok(status) = serving::block_on(ask_status(&journals.config().data_dir)) else {
        return Ok(journal);
    };
    let is_live = status.is_some_and(|status| {
        let mut sources = status.sources.iter();
        sources.any(|known| *known.source == *source.name && known.state == "live")
    });
    match is_live {
        true => Ok(journal),
        false => Ok(journal.with_end_of_watch()?),
    }
}

/// All pages of a list as one, until there are `count` items. `page` gets the cursor and the number of items that are
/// still wanted.
pub fn pages<T>(
    count: usize,
    mut page: impl FnMut(Option<&str>, usize) -> Result<AnswerList<T>, Failure>,
) -> Result<AnswerList<T>, Failure> {
    let mut all = page(None, count)?;
    while all.items.len() < count
        && let Some(next) = all.next.take()
    {
        let more = page(Some(&next), count - all.items.len())?;
        all.items.extend(more.items);
        all.scanned += more.scanned;
        all.gaps.extend(more.gaps);
        all.unreadable.extend(more.unreadable);
        all.unknown += more.unknown;
        for doubt in more.doubts {
            if !all.doubts.contains(&doubt) {
                all.doubts.push(doubt);
            }
        }
        all.next = more.next;
    }
    all.complete = all.next.is_none();
    Ok(all)
}

/// The failure of a question about a path that the journal does not know.
pub fn never_seen(path: &ZnodePath) -> Failure {
    let message = format!(
        "no journal has a record of {}: it never existed below a watched root, or only inside a gap, or the bridge may \
         not read it, or retention has removed all its records\nhelp: list the known znodes with 'zkbridge tree', and \
         the gaps with 'zkbridge gaps'",
        escaped(path)
    );
    Failure::new(Exit::Runtime, message)
}

/// The sign and the word of a certainty: never the sign alone.
pub fn sign(certainty: Certainty) -> (&'static str, &'static str) {
    match certainty {
        Certainty::Exact => ("●", "exact"),
        Certainty::Superseded => ("◐", "superseded"),
        Certainty::Missed => ("◔", "missed"),
        Certainty::Bounded => ("┆", "bounded"),
        Certainty::Gap => ("▨", "gap"),
        Certainty::Unread => ("○", "unread"),
        Certainty::Masked => ("○", "masked"),
        Certainty::Cut => ("○", "cut"),
        Certainty::Removed => ("○", "removed"),
        Certainty::Beyond => ("○", "beyond"),
    }
}

/// Doubts as indented lines.
pub fn doubt_lines(doubts: &[Doubt], style: &Style) -> String {
    let width = style.width.saturating_sub(INDENT.len());
    let lines = doubts
        .iter()
        .flat_map(|doubt| broken(&doubt.to_string(), width))
        .map(|line| format!("{INDENT}{}\n", Tone::Quiet.paint(&line, style)));
    lines.collect()
}

/// Says since when a journal knows, if records are asked for from a moment before that on.
pub fn say_known_since(journal: &JournalQuery, from: Position) -> Result<(), Failure> {
    if let Some(doubt) = journal.known_since(from)? {
        notice(format_args!("{}: {doubt}", journal.source()));
    }
    Ok(())
}

/// A moment for a heading, and the doubts about it.
pub fn moment_words(moment: &Moment) -> String {
    let place = moment.before.as_ref();
    let changed = place.map(|place| to_the_second(place.changed.unwrap_or(place.captured)));
    let zxid = place.and_then(|place| place.zxid);
    let mut words = format!("record {}", moment.seq);
    if let Some(time) = changed {
        words.push_str(&format!(", {time}"));
    }
    if let Some(zxid) = zxid {
        words.push_str(&format!(", {zxid}"));
    }
    words
}

/// The end of a list for people: what was left out.
pub fn rest_words<T>(list: &AnswerList<T>, noun: &str) -> Option<String> {
    let more = (!list.complete).then(|| format!("there are more {noun}; raise -n to see them"));
    let unknown = (list.unknown > 0).then(|| {
        format!(
            "{} more may have existed: the journal does not show that they did not",
            list.unknown
        )
    });
    let words: Vec<String> = more.into_iter().chain(unknown).collect();
    (!words.is_empty()).then(|| words.join("\n"))
}

/// The size of a value, its version and the time of its last write.
pub fn version_words(value: &AsOfValue) -> String {
    let data = value
        .data
        .as_ref()
        .map(|data| size(u64::from(data.size)))
        .unwrap_or_else(|| "no value".to_owned());
    match value.stat {
        Some(stat) => {
            let changed = bridge_core::record::Timestamp::of_stat(stat.mtime);
            let changed = changed.map_or_else(|| "no time".to_owned(), to_the_second);
            format!("{data}  v{}  {changed}", stat.version)
        }
        None => data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(items: &[u32], next: Option<&str>) -> AnswerList<u32> {
        let moment = Moment {
            at: "1".to_owned(),
            seq: bridge_core::number::Seq(1),
            before: None,
            after: None,
            oldest: None,
            tail: bridge_core::number::Seq(1),
            certain: true,
            certainty: Certainty::Exact,
            doubts: Vec::new(),
        };
        AnswerList {
            from: None,
            to: moment,
            items: items.to_vec(),
            complete: next.is_none(),
            next: next.map(str::to_owned),
            scanned: 1,
            gaps: Vec::new(),
            unreadable: Vec::new(),
            unknown: 1,
            doubts: Vec::new(),
        }
    }

    #[test]
    fn pages_are_one_list_that_ends_where_enough_is_read() {
        let read = |cursor: Option<&str>, _: usize| match cursor {
            None => Ok(page(&[1, 2], Some("a"))),
            Some("a") => Ok(page(&[], Some("b"))),
            _ => Ok(page(&[3], None)),
        };
        let all = pages(9, read).unwrap();
        assert_eq!((all.items, all.complete, all.next), (vec![1, 2, 3], true, None));
        assert_eq!((all.scanned, all.unknown), (3, 3));
        let some = pages(2, read).unwrap();
        assert_eq!(
            (some.items, some.complete, some.next),
            (vec![1, 2], false, Some("a".to_owned()))
        );
    }
}
