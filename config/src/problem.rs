//! The problems of a configuration, as text for people and as JSON for programs.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use bridge_core::issue::Severity;
use serde_json::{Value, json};
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::tree::Place;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the configuration cannot be used.
    pub severity: Severity,
    /// Its place.
    pub place: Place,
    /// The keys that lead to it, `source[0].roots[1]`; empty for the file as a whole.
    pub key: String,
    /// The problem, with the value unless that is a secret.
    pub message: String,
    /// The line, where the text could not be read at all.
    pub excerpt: Option<String>,
    /// The values or keys that are possible.
    pub allowed: Option<String>,
    /// The remedy.
    pub remedy: Option<String>,
}

impl Problem {
    pub(crate) fn error(place: Place, key: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            place,
            key: key.into(),
            message: message.into(),
            excerpt: None,
            allowed: None,
            remedy: None,
        }
    }

    pub(crate) fn excerpt(mut self, line: impl Into<String>) -> Problem {
        self.excerpt = Some(line.into());
        self
    }

    pub(crate) fn allowed(mut self, allowed: impl Into<String>) -> Problem {
        self.allowed = Some(allowed.into());
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = Some(remedy.into());
        self
    }

    /// Cuts each text to this number of characters.
    pub(crate) fn cut(&mut self, max: usize) {
        let texts = [Some(&mut self.key), Some(&mut self.message)];
        let more = [&mut self.excerpt, &mut self.allowed, &mut self.remedy];
        let all = texts.into_iter().chain(more.map(Option::as_mut));
        for text in all.flatten() {
            if let Some((at, _)) = text.char_indices().nth(max) {
                text.truncate(at);
                text.push('…');
            }
        }
    }

    /// For programs.
    pub fn to_json(&self, file: &Path) -> Value {
        let (line, column) = match &self.place {
            Place::At { line, column } => (Some(line), Some(column)),
            _ => (None, None),
        };
        let variable = match &self.place {
            Place::Variable(name) => Some(name.as_ref()),
            _ => None,
        };
        json!({
            "severity": self.severity.as_str(),
            "file": file.display().to_string(),
            "line": line,
            "column": column,
            "variable": variable,
            "key": self.key,
            "message": self.message,
            "allowed": self.allowed,
            "remedy": self.remedy,
        })
    }

    /// For people, in lines of at most [`WIDTH`] characters as far as words allow; ends with a line feed.
    pub fn to_text(&self, file: &Path) -> String {
        let mut head = format!("{}: ", self.severity.as_str());
        match &self.place {
            Place::At { line, column } => head.push_str(&format!("{}:{line}:{column}: ", file.display())),
            Place::File => head.push_str(&format!("{}: ", file.display())),
            Place::Variable(name) => head.push_str(&format!("variable {name}: ")),
        }
        if !self.key.is_empty() {
            head.push_str(&format!("{}: ", self.key));
        }
        head.push_str(&self.message);
        let mut text = wrapped(&head, "", "    ");
        if let Some(line) = &self.excerpt {
            text.push_str(&format!("  | {line}\n"));
        }
        if let Some(help) = self.help() {
            text.push_str(&wrapped(&format!("help: {help}"), "  ", "        "));
        }
        text
    }

    /// The remedy, then the possible values.
    fn help(&self) -> Option<String> {
        match (&self.remedy, &self.allowed) {
            (Some(remedy), Some(allowed)) if remedy.ends_with('?') => {
                Some(format!("{remedy} Possible: {allowed}"))
            }
            (Some(remedy), Some(allowed)) => Some(format!("{remedy}; possible: {allowed}")),
            (None, Some(allowed)) => Some(format!("possible: {allowed}")),
            (remedy, None) => remedy.clone(),
        }
    }
}

/// So wide a terminal is everywhere.
pub const WIDTH: usize = 80;

/// The text in lines of at most [`WIDTH`] columns; a longer word gets a line of its own.
fn wrapped(text: &str, first: &str, later: &str) -> String {
    let options = Options::new(WIDTH)
        .initial_indent(first)
        .subsequent_indent(later)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, options) + "\n"
}

/// A configuration that cannot be used: all that is wrong with it, warnings too.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The file.
    pub file: PathBuf,
    /// At least one of them an error; in the order of the file.
    pub problems: Vec<Problem>,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            f.write_str(&problem.to_text(&self.file))?;
        }
        let mut end = String::new();
        let _ = write!(end, "{}: {}", self.file.display(), count(&self.problems));
        f.write_str(&end)
    }
}

/// `2 errors, 1 warning`.
pub fn count(problems: &[Problem]) -> String {
    let of = |severity| {
        problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    };
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    format!(
        "{}, {}",
        plural(of(Severity::Error), "error"),
        plural(of(Severity::Warning), "warning")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_place_and_what_to_do_in_lines_of_80_columns() {
        let place = Place::At { line: 3, column: 9 };
        let problem = Problem::error(
            place,
            "http.listen",
            "'x' is no address, and this is a longer sentence",
        )
        .allowed("an address and a port, as in \"127.0.0.1:9641\", or \"off\" for nothing at all")
        .remedy("give one");
        let text = problem.to_text(Path::new("zkbridge.toml"));
        assert!(
            text.starts_with("error: zkbridge.toml:3:9: http.listen: 'x' is no"),
            "{text}"
        );
        assert!(
            text.contains("\n  help: give one; possible: an address"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
