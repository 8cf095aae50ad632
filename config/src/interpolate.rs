//! `${NAME}`, `${NAME:-default}` and `${file:/run/secrets/name}` inside texts.
//!
//! Replaced after parsing, so that a value can never change the structure. The value of a variable or a file is a
//! secret: the text that holds it is marked and never shown. `$${` gives `${`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bridge_core::file_path::read_regular;
use bridge_core::secret::Secret;

use crate::environment::Environment;
use crate::problem::Problem;
use crate::tree::{KeyPath, Node, Place, Text, Value};

/// Size limit of a secret's file; a larger one is probably a mistake.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The most bytes that all references of a configuration may insert together, and the length of the texts that hold
/// them.
const BROUGHT_IN_BYTES_MAX: usize = 4 << 20;

/// Replaces the references in all texts of the tree. Returns the values that they brought in.
pub(crate) fn interpolate(
    tree: &mut Node,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Vec<Secret> {
    let mut work = Work {
        environment,
        problems,
        secrets: BTreeSet::new(),
        bytes: 0,
    };
    work.node(tree, &KeyPath::default());
    work.secrets.into_iter().map(Secret::new).collect()
}

struct Work<'a> {
    environment: &'a Environment,
    problems: &'a mut Vec<Problem>,
    secrets: BTreeSet<String>,
    /// The bytes inserted so far.
    bytes: usize,
}

impl Work<'_> {
    fn node(&mut self, node: &mut Node, path: &KeyPath) {
        match &mut node.value {
            Value::Text(text) => match self.text(text) {
                Ok(()) => {}
                Err(reason) => {
                    self.problems.push(problem(node.place.clone(), path, reason));
                    node.value = Value::Skipped;
                }
            },
            Value::List(list) => {
                for (index, element) in list.iter_mut().enumerate() {
                    self.node(element, &path.index(index));
                }
            }
            Value::Table(table) => {
                for (key, (_, value)) in table {
                    self.node(value, &path.key(key));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &mut Text) -> Result<(), String> {
        if text.loose {
            self.secrets.insert(text.text.clone());
        }
        if !text.text.contains("${") {
            return Ok(());
        }
        let mut done = String::new();
        let mut rest = text.text.as_str();
        let mut sources: Vec<String> = text.brought_in.iter().map(ToString::to_string).collect();
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                done.push_str(&rest[..at]);
                done.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            done.push_str(&rest[..at]);
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else {
                return Err("a reference '${' lacks its '}'".to_owned());
            };
            let reference = &inside[..end];
            match self.resolve(reference)? {
                Resolved::Default(text) => done.push_str(text),
                Resolved::BroughtIn(text) => {
                    let name = reference.split_once(":-").map_or(reference, |(name, _)| name);
                    let source = format!("${{{name}}}");
                    // The reference counts too: a variable may be empty.
                    self.bytes += text.len() + reference.len();
                    if self.bytes > BROUGHT_IN_BYTES_MAX {
                        return Err("the references bring in more than 4 MiB together".to_owned());
                    }
                    done.push_str(&text);
                    self.secrets.insert(text);
                    if !sources.contains(&source) {
                        sources.push(source);
                    }
                }
            }
            rest = &inside[end + 1..];
        }
        done.push_str(rest);
        text.text = done;
        if !sources.is_empty() {
            text.brought_in = Some(Arc::from(sources.join(", ")));
        }
        Ok(())
    }

    fn resolve<'a>(&self, reference: &'a str) -> Result<Resolved<'a>, String> {
        if let Some(file) = reference.strip_prefix("file:") {
            return read_file(file).map(Resolved::BroughtIn);
        }
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            return Err("a reference '${…}' does not name a variable".to_owned());
        }
        let value = self.environment.variables.get(name);
        match (
            value.filter(|value| default.is_none() || !value.is_empty()),
            default,
        ) {
            (Some(value), _) => Ok(Resolved::BroughtIn(value.clone())),
            (None, Some(default)) => Ok(Resolved::Default(default)),
            (None, None) if self.environment.unreadable.iter().any(|other| other == name) => {
                Err(format!("the value of the variable {name} is not valid UTF-8"))
            }
            (None, None) => Err(format!("the variable {name} is not set")),
        }
    }
}

enum Resolved<'a> {
    /// The text after `:-`, which is part of the file.
    Default(&'a str),
    BroughtIn(String),
}

fn read_file(path: &str) -> Result<String, String> {
    let bytes = read_regular(Path::new(path), FILE_BYTES_MAX);
    let bytes = bytes.map_err(|error| format!("the file '{path}' cannot be read: {error}"))?;
    let bytes =
        bytes.ok_or_else(|| format!("the file '{path}' is larger than 64 KiB, so it is no secret"))?;
    let mut text = String::from_utf8(bytes)
        .map_err(|_| format!("the file '{path}' cannot be read: it is not valid UTF-8"))?;
    // Editors and `echo` end a file with a line feed that is no part of the secret.
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn problem(place: Place, path: &KeyPath, reason: String) -> Problem {
    Problem::error(place, path.to_string(), reason)
        .allowed("${NAME}, ${NAME:-default} or ${file:/run/secrets/name}; $${ gives ${")
        .remedy(
            "set the variable before the start (a running bridge keeps the variables of its start), provide the file, \
             or give a default",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, bool), &str>) {
        let environment = Environment::of([("USER_NAME", "ann"), ("EMPTY", "")]);
        let mut problems = Vec::new();
        let mut node = Node::new(
            Place::File,
            Value::Text(Text {
                text: text.to_owned(),
                brought_in: None,
                loose: false,
            }),
        );
        interpolate(&mut node, &environment, &mut problems);
        match (&node.value, expected) {
            (Value::Text(found), Ok((expected, secret))) => {
                assert_eq!(found.text, expected, "{text}");
                assert_eq!(found.brought_in.is_some(), secret, "{text}");
            }
            (_, Err(word)) => assert!(problems[0].message.contains(word), "{text}: {problems:?}"),
            (_, Ok(_)) => panic!("{text}: {problems:?}"),
        }
    }

    #[test]
    fn references_are_replaced_and_what_they_bring_in_is_marked() {
        check("plain $5", Ok(("plain $5", false)));
        check("a ${USER_NAME}/${USER_NAME}", Ok(("a ann/ann", true)));
        check("${NOBODY:-default}", Ok(("default", false)));
        check("${USER_NAME:-default}", Ok(("ann", true)));
        check("${EMPTY:-default}${EMPTY}", Ok(("default", true)));
        check("$${USER_NAME} ${USER_NAME}", Ok(("${USER_NAME} ann", true)));
        check("${NOBODY}", Err("NOBODY is not set"));
        check("${USER_NAME", Err("lacks its '}'"));
        check("${no name}", Err("does not name a variable"));
        check("${file:/nowhere/at/all}", Err("cannot be read"));
    }

    #[test]
    fn a_brought_in_text_is_not_searched_for_references() {
        let environment = Environment::of([("A", "${B}"), ("B", "b")]);
        let mut work = Work {
            environment: &environment,
            problems: &mut Vec::new(),
            secrets: BTreeSet::new(),
            bytes: 0,
        };
        let mut text = Text {
            text: "${A}".to_owned(),
            brought_in: None,
            loose: false,
        };
        work.text(&mut text).unwrap();
        assert_eq!(text.text, "${B}");
    }

    #[test]
    fn a_file_is_read_without_its_last_line_feed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "hunter2\n").unwrap();
        check(&format!("${{file:{}}}", path.display()), Ok(("hunter2", true)));
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        check(
            &format!("${{file:{}}}", path.display()),
            Err("larger than 64 KiB"),
        );
    }
}
