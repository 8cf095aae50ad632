//! The parsed configuration as a tree in which every value has its place.
//!
//! Nothing is converted here: a number stays a number, so that a later step can refuse it where a text is wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A value and its place.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value as it is written.
#[derive(Clone)]
pub(crate) enum Value {
    /// `null` or nothing, which TOML does not have.
    Nothing,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Text),
    /// A date or time, which no option takes.
    Date(String),
    List(Vec<Node>),
    Table(Table),
    /// Replaces a value that was refused or is missing, so that reading can continue.
    Assumed,
    /// An element of a list that was refused; the others keep their indexes.
    Skipped,
}

/// A text.
#[derive(Clone)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// The references that brought in a part of it, `${NAME}`, so that it must not be shown.
    pub(crate) brought_in: Option<Arc<str>>,
    /// From a variable, in which everything is text: may also be read as a number, a truth value or a list.
    pub(crate) loose: bool,
}

/// Keys with their places and values.
pub(crate) type Table = BTreeMap<String, (Place, Node)>;

/// The place of a key or value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Place {
    /// In the file; line and column count from 1.
    At {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In the file, at an unknown line.
    #[default]
    File,
    /// In a variable of the environment.
    Variable(Arc<str>),
}

/// The keys that lead to a value: `source[0].roots[1]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct KeyPath(pub(crate) Vec<Step>);

/// One step into the tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    pub(crate) fn new(place: Place, value: Value) -> Node {
        Node { place, value }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The node at the end of the path.
    pub(crate) fn at(&self, path: &[Step]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        match (&self.value, first) {
            (Value::Table(table), Step::Key(key)) => table.get(key)?.1.at(rest),
            (Value::List(list), Step::Index(index)) => list.get(*index)?.at(rest),
            _ => None,
        }
    }

    pub(crate) fn at_mut(&mut self, path: &[Step]) -> Option<&mut Node> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        match (&mut self.value, first) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key)?.1.at_mut(rest),
            (Value::List(list), Step::Index(index)) => list.get_mut(*index)?.at_mut(rest),
            _ => None,
        }
    }

    /// The place of the longest part of the path that is there; a key's place rather than its value's.
    pub(crate) fn place_of(&self, path: &[Step]) -> Place {
        let mut place = self.place.clone();
        let mut node = self;
        for step in path {
            match (&node.value, step) {
                (Value::Table(table), Step::Key(key)) => match table.get(key) {
                    Some((at, below)) => (place, node) = (at.clone(), below),
                    None => break,
                },
                (Value::List(list), Step::Index(index)) => match list.get(*index) {
                    Some(below) => (place, node) = (below.place.clone(), below),
                    None => break,
                },
                _ => break,
            }
        }
        place
    }

    /// The reference of a text that was brought in, anywhere in this value.
    pub(crate) fn brought_in(&self) -> Option<&Arc<str>> {
        match &self.value {
            Value::Text(text) => text.brought_in.as_ref(),
            Value::List(list) => list.iter().find_map(Node::brought_in),
            Value::Table(table) => table.values().find_map(|(_, node)| node.brought_in()),
            _ => None,
        }
    }

    /// The type of the value, for messages about it. Shows no text: it may be a secret in the wrong place.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Text(Text { brought_in: None, .. }) => "a text".to_owned(),
            Value::Integer(_) | Value::Float(_) => "a number".to_owned(),
            _ => self.shown(),
        }
    }

    /// The value in a few words. Never shows what was brought in.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Nothing => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Date(text) => format!("the date {text}"),
            Value::Text(Text {
                brought_in: Some(_), ..
            }) => "a text that is not shown".to_owned(),
            Value::Text(text) => format!("{:?}", shortened(&text.text)),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Assumed | Value::Skipped => "a value that was refused".to_owned(),
        }
    }
}

/// Longest part of a value in a message.
const SHOWN_CHARS_MAX: usize = 80;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Longer than every name of a key.
const WORD_BYTES_MAX: usize = 32;

/// Whether a text may be the mistyped name of a key.
pub(crate) fn is_word(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_part)
}

impl KeyPath {
    pub(crate) fn key(&self, key: &str) -> KeyPath {
        self.step(Step::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> KeyPath {
        self.step(Step::Index(index))
    }

    pub(crate) fn step(&self, step: Step) -> KeyPath {
        let mut steps = self.0.clone();
        steps.push(step);
        KeyPath(steps)
    }

    pub(crate) fn join(&self, below: &[Step]) -> KeyPath {
        KeyPath(self.0.iter().chain(below).cloned().collect())
    }

    /// Reads on a path as objections write it: `roots[1]`, `properties."linger.ms"`.
    pub(crate) fn join_text(&self, below: &str) -> KeyPath {
        let mut path = self.clone();
        for (at, part) in below.split('"').enumerate() {
            if at % 2 == 1 {
                path = path.key(part);
                continue;
            }
            for part in part.split('.').filter(|part| !part.is_empty()) {
                let (key, indexes) = part.split_once('[').unwrap_or((part, ""));
                path = path.key(key);
                for index in indexes.split(['[', ']']).filter_map(|index| index.parse().ok()) {
                    path = path.index(index);
                }
            }
        }
        path
    }

    /// Whether one of the two leads through the other.
    pub(crate) fn touches(&self, other: &KeyPath) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// The names only, without indexes: `source.roots`.
    pub(crate) fn names(&self) -> String {
        let names = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        names.collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !key.is_empty() && key.chars().all(plain) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_path_is_shown_as_people_write_it_and_read_back() {
        let top = KeyPath::default();
        let path = top.key("source").index(0).key("roots").index(1);
        assert_eq!(path.to_string(), "source[0].roots[1]");
        assert_eq!(path.names(), "source.roots");
        assert_eq!(top.join_text("source[0].roots[1]"), path);
        let odd = top.key("a").key("b.c").index(2);
        assert_eq!(odd.to_string(), "a.\"b.c\"[2]");
        assert_eq!(top.join_text("a.\"b.c\""), top.key("a").key("b.c"));
    }
}
