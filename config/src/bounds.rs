//! How large and how deep a configuration may be, decided before it is parsed.
//!
//! The parsers copy what a YAML alias repeats, and build and drop nested values by recursion. So a text of half a
//! kilobyte could take gigabytes, and one of a few kilobytes the whole stack. Nothing here recurses or copies.

use std::collections::HashMap;

use yaml_rust2::parser::{Event, Parser};

use crate::parse::{Format, place_at};
use crate::problem::Problem;
use crate::tree::Place;

/// Tables and lists in each other. Options need five.
pub(crate) const DEPTH_MAX: usize = 32;

/// Keys and values, those that an alias of YAML repeats included. A hundred sources and sinks have two thousand.
const VALUES_MAX: usize = 5_000;

/// Why a text is too much for a configuration; `None` if it is not, or is not of its format.
pub(crate) fn objection(text: &str, format: Format) -> Option<Problem> {
    let excess = match format {
        Format::Yaml => of_yaml(text),
        Format::Toml | Format::Json => of_marks(text, format),
    };
    let (place, message) = excess.err()?;
    Some(Problem::error(place, "", message).remedy("split it up, or leave out what is no option"))
}

type Excess = (Place, String);

fn too_deep(place: Place) -> Excess {
    let message = format!("tables and lists are nested in each other more than {DEPTH_MAX} deep");
    (place, message)
}

fn too_many(place: Place) -> Excess {
    let message = format!("there are more than {VALUES_MAX} keys and values here");
    (place, message)
}

/// Counts what the parser of TOML or JSON is going to build, by the marks between keys and values.
fn of_marks(text: &str, format: Format) -> Result<(), Excess> {
    let bytes = text.as_bytes();
    let is_toml = format == Format::Toml;
    let (mut at, mut open, mut dots, mut values) = (0, 0_usize, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at, is_toml),
            b'\'' if is_toml => at = end_of_string(bytes, at, is_toml),
            b'#' if is_toml => at += bytes[at..].iter().take_while(|byte| **byte != b'\n').count(),
            _ => {}
        }
        match bytes.get(at) {
            Some(b'[' | b'{') => (open, dots, values) = (open + 1, 0, values + 1),
            Some(b']' | b'}') => (open, dots) = (open.saturating_sub(1), 0),
            // `a.b.c` is three tables.
            Some(b'.') if is_toml => dots += 1,
            Some(b'=' | b':' | b',') => (dots, values) = (0, values + 1),
            Some(b'\n') => dots = 0,
            _ => {}
        }
        if open + dots > DEPTH_MAX {
            return Err(too_deep(place_at(text, at)));
        }
        if values > VALUES_MAX {
            return Err(too_many(place_at(text, at)));
        }
        at += 1;
    }
    Ok(())
}

/// The last byte of the string that begins here; that of the text if the string has no end.
fn end_of_string(bytes: &[u8], start: usize, is_toml: bool) -> usize {
    let quote = bytes[start];
    let is_long = is_toml && bytes[start..].starts_with(&[quote; 3]);
    let quotes = if is_long { 3 } else { 1 };
    let mut at = start + quotes;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3][..quotes]) => {
                return at + quotes - 1;
            }
            // A string in one line that lacks its end.
            b'\n' if !is_long => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// A list or table of YAML that is not yet closed.
struct OpenValue {
    /// 0 if it has none.
    anchor: usize,
    /// Values that were counted before it.
    before: usize,
    /// Levels in it, as far as it was read.
    levels: usize,
}

/// Follows the parser's events, and counts for each alias what it repeats.
fn of_yaml(text: &str) -> Result<(), Excess> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<OpenValue> = Vec::new();
    // Values and levels of each anchor.
    let mut anchors: HashMap<usize, (usize, usize)> = HashMap::new();
    let mut values = 0_usize;
    // The parser of the values reports a syntax error.
    while let Ok((event, mark)) = parser.next_token() {
        let mut levels = 0;
        match event {
            Event::StreamEnd => break,
            Event::Scalar(_, _, anchor, _) => {
                values += 1;
                anchors.insert(anchor, (1, 0));
            }
            Event::Alias(anchor) => {
                let (size, deep) = anchors.get(&anchor).copied().unwrap_or((1, 0));
                (values, levels) = (values.saturating_add(size), deep);
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                let (before, levels) = (values, 0);
                open.push(OpenValue {
                    anchor,
                    before,
                    levels,
                });
                values += 1;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(closed) = open.pop() {
                    levels = closed.levels + 1;
                    anchors.insert(closed.anchor, (values - closed.before, levels));
                }
            }
            _ => {}
        }
        if let Some(around) = open.last_mut() {
            around.levels = around.levels.max(levels);
        }
        let place = Place::At {
            line: mark.line(),
            column: mark.col() + 1,
        };
        if open.len() + levels > DEPTH_MAX {
            return Err(too_deep(place));
        }
        if values > VALUES_MAX {
            return Err(too_many(place));
        }
    }
    Ok(())
}
