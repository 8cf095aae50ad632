//! From the text of a configuration file to the tree.
//!
//! The `config` crate reads the values of all three formats into one shape. It keeps no lines and columns, so they come
//! from a second pass: over the spans of `toml`, and over the marked events of `yaml-rust2` for YAML and JSON.
//!
//! Why not `saphyr`: `config` links `yaml-rust2`, so its events are the places of exactly the values that were read, while
//! a second YAML parser may read the same file in another way. It also reads JSON; a text outside of the part that both
//! share, such as a surrogate pair in an escape, has no lines and columns after it.

mod json;
mod toml;
mod yaml;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use config::{ConfigError, FileFormat, Source, ValueKind};

use crate::bounds;
use crate::hidden::masked_line;
use crate::problem::Problem;
use crate::tree::{KeyPath, Node, Place, Text, Value};

/// The formats of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.toml`
    Toml,
    /// `.yaml`, `.yml`
    Yaml,
    /// `.json`
    Json,
}

impl Format {
    /// The format that a file's extension names.
    pub fn of(file: &Path) -> Option<Format> {
        match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Toml => "TOML",
            Format::Yaml => "YAML",
            Format::Json => "JSON",
        }
    }
}

/// The places of keys and values, and other facts that the `config` crate does not keep.
#[derive(Default)]
pub(crate) struct Map {
    marks: HashMap<KeyPath, Mark>,
    /// Dates, which arrive as texts.
    dates: HashSet<KeyPath>,
    /// Keys that are given twice in one table, where the parser accepts it.
    twice: Vec<(KeyPath, Place)>,
}

/// The places of a key and its value; for an element of a list both are the same.
struct Mark {
    key: Place,
    value: Place,
}

impl Map {
    fn put(&mut self, path: KeyPath, key: Place, value: Place) {
        self.marks.insert(path, Mark { key, value });
    }
}

/// Reads the text; an error where it is not of its format.
pub(crate) fn parse(text: &str, format: Format, problems: &mut Vec<Problem>) -> Option<Node> {
    if let Some(objection) = bounds::objection(text, format) {
        problems.push(objection);
        return None;
    }
    let kind = match format {
        Format::Toml => FileFormat::Toml,
        Format::Yaml => FileFormat::Yaml,
        Format::Json => FileFormat::Json,
    };
    match config::File::from_str(text, kind).collect() {
        Ok(table) => {
            let map = map(text, format);
            for (path, place) in &map.twice {
                problems.push(
                    Problem::error(
                        place.clone(),
                        path.to_string(),
                        "the key is given twice in its table",
                    )
                    .remedy("leave one of them out"),
                );
            }
            let value = config::Value::new(None, ValueKind::Table(table));
            Some(node(value, &KeyPath::default(), &map))
        }
        Err(error) => {
            let large = match format {
                Format::Toml => toml::too_large(text),
                Format::Yaml | Format::Json => Vec::new(),
            };
            match large.is_empty() {
                true => problems.push(syntax(&error, text, format)),
                false => problems.extend(large.into_iter().map(too_large)),
            }
            None
        }
    }
}

fn map(text: &str, format: Format) -> Map {
    match format {
        Format::Toml => toml::map(text),
        Format::Yaml | Format::Json => yaml::map(text),
    }
}

fn node(value: config::Value, path: &KeyPath, map: &Map) -> Node {
    let place = map
        .marks
        .get(path)
        .map(|mark| mark.value.clone())
        .unwrap_or_default();
    let value = match value.kind {
        ValueKind::Nil => Value::Nothing,
        ValueKind::Boolean(value) => Value::Bool(value),
        ValueKind::I64(value) => Value::Integer(value.into()),
        ValueKind::I128(value) => Value::Integer(value),
        ValueKind::U64(value) => Value::Integer(value.into()),
        ValueKind::U128(value) => Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)),
        ValueKind::Float(value) => Value::Float(value),
        ValueKind::String(text) if map.dates.contains(path) => Value::Date(text),
        ValueKind::String(text) => Value::Text(Text {
            text,
            brought_in: None,
            loose: false,
        }),
        ValueKind::Array(list) => {
            let element = |(index, value)| node(value, &path.index(index), map);
            Value::List(list.into_iter().enumerate().map(element).collect())
        }
        ValueKind::Table(table) => {
            let entry = |(key, value): (String, config::Value)| {
                let path = path.key(&key);
                let place = map
                    .marks
                    .get(&path)
                    .map(|mark| mark.key.clone())
                    .unwrap_or_default();
                (key, (place, node(value, &path, map)))
            };
            Value::Table(table.into_iter().map(entry).collect())
        }
    };
    Node::new(place, value)
}

/// The list or table that a variable holds, written as in TOML. All texts in it are as secret as the variable.
pub(crate) fn inline_value(text: &str, variable: &Node) -> Option<Node> {
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let text = format!("value = {text}");
    if bounds::objection(&text, Format::Toml).is_some() {
        return None;
    }
    let source = config::File::from_str(&text, FileFormat::Toml);
    let value = source.collect().ok()?.remove("value")?;
    let mut node = node(value, &KeyPath::default(), &Map::default());
    mark(&mut node, variable);
    Some(node)
}

fn mark(node: &mut Node, variable: &Node) {
    node.place = variable.place.clone();
    match &mut node.value {
        Value::Text(text) => text.brought_in = variable.brought_in().cloned(),
        Value::List(list) => list.iter_mut().for_each(|element| mark(element, variable)),
        Value::Table(table) => table.values_mut().for_each(|(place, node)| {
            *place = variable.place.clone();
            mark(node, variable);
        }),
        _ => {}
    }
}

/// The largest number that a configuration can have.
pub(crate) const NUMBER_MAX: &str = "9223372036854775807";

/// A number that no option can have. It is not shown: it may be a secret without quotes.
fn too_large((path, place): (KeyPath, Place)) -> Problem {
    Problem::error(place, path.to_string(), "the number is too large")
        .allowed(format!("a number up to {NUMBER_MAX}"))
        .remedy("write a smaller number, or a text in quotes")
}

/// The library says so of a whole file that is one text, too, and repeats it, which may be a secret in the wrong place.
fn not_a_table() -> (Place, String) {
    (
        Place::File,
        "the whole file has to be one table of keys and values".to_owned(),
    )
}

/// A text that is not of its format, with line, column and the line.
fn syntax(error: &ConfigError, text: &str, format: Format) -> Problem {
    let found = match error {
        ConfigError::FileParse { cause, .. } => {
            let cause = cause.as_ref();
            toml::syntax(cause, text)
                .or_else(|| yaml::syntax(cause))
                .or_else(|| json::syntax(cause))
                .unwrap_or_else(not_a_table)
        }
        _ => not_a_table(),
    };
    let (place, reason) = found;
    let line = match place {
        Place::At { line, .. } => text.lines().nth(line - 1).map(masked_line),
        _ => None,
    };
    let message = format!("this is not {}: {}", format.name(), reason.trim_end());
    let mut problem = Problem::error(place, String::new(), message);
    if let Some(line) = line {
        problem = problem.excerpt(line);
    }
    problem.remedy(match format {
        Format::Toml => {
            "put texts in quotes, and begin tables with [name] or [[name]]; 'zkbridge init' prints an example"
        }
        Format::Yaml => "indent with spaces, not tabs, and put texts with ':' or '#' in quotes",
        Format::Json => "put keys and texts in double quotes, and no comma after the last one",
    })
}

/// Line and column of a byte in a text, from 1.
pub(crate) fn place_at(text: &str, byte: usize) -> Place {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place::At {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
