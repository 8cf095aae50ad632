//! Variables that override single keys: `ZKBRIDGE_HTTP__LISTEN`, `ZKBRIDGE_SOURCE__0__CONNECT`.
//!
//! The `config` crate finds and names them; it would turn a list into a table when a name holds an index, so they are
//! put into the tree here.
//!
//! * `__` separates keys; an element of a list is named by its index, and the index after the last adds one.
//! * Names are read without regard to case, so a key that holds a capital or a dot cannot be named; the table that
//!   holds it can be given as a whole, as in TOML: `{ "linger.ms" = "5" }`.
//! * Everything in a variable is text; where an option wants a number, a truth value or a list (`a,b` or `["a", "b"]`)
//!   it is read as such.
//! * A variable with one key counts as an override only if that key exists at the top. So `ZKBRIDGE_TOKEN` may serve
//!   `${ZKBRIDGE_TOKEN}`, and the `ZKBRIDGE_SERVICE_HOST` that Kubernetes sets for a service of that name is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge_core::issue::Severity;
use config::Source;

use crate::bounds::DEPTH_MAX;
use crate::environment::Environment;
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::tree::{KeyPath, Node, Place, Step, Table, Text, Value};

/// The prefix of the names, before `_`.
pub(crate) const PREFIX: &str = "ZKBRIDGE";

/// Between keys.
const SEPARATOR: &str = "__";

/// The most characters that are shown of the name of a variable that names no key.
const SHOWN_CHARS: usize = 60;

/// The keys at the top.
const TOP: [&str; 5] = ["data_dir", "http", "log", "sink", "source"];

/// Puts the overrides into the tree. `raw` is the text of the file.
pub(crate) fn apply(tree: &mut Node, raw: &str, environment: &Environment, problems: &mut Vec<Problem>) {
    let begins = |name: &str| name.to_ascii_uppercase().starts_with("ZKBRIDGE_");
    for name in environment.unreadable.iter().filter(|name| begins(name)) {
        problems.push(
            Problem::error(variable(name), "", "the variable's value is not valid UTF-8")
                .remedy("set it anew"),
        );
    }
    for (keys, text) in named(environment) {
        let path: Vec<&str> = keys.split('.').collect();
        if path.len() == 1 && !TOP.contains(&path[0]) {
            problems.extend(slip(&keys, raw));
            continue;
        }
        let name = format!("{PREFIX}_{}", keys.to_uppercase().replace('.', SEPARATOR));
        if path.len() > DEPTH_MAX {
            let shown: String = name
                .chars()
                .take(SHOWN_CHARS)
                .chain(std::iter::once('…'))
                .collect();
            let message = format!("the variable names a key that is more than {DEPTH_MAX} levels deep");
            problems.push(
                Problem::error(variable(&shown), "", message)
                    .remedy("correct the name of the variable, or unset it"),
            );
            continue;
        }
        let leaf = Value::Text(Text {
            text,
            brought_in: Some(Arc::from(name.as_str())),
            loose: true,
        });
        if let Err((key, message)) = put(tree, &path, &KeyPath::default(), &variable(&name), leaf) {
            problems.push(
                Problem::error(variable(&name), key.to_string(), message)
                    .remedy("correct the name of the variable, or unset it"),
            );
        }
    }
}

/// A variable that is not an override and is probably meant to be one: `ZKBRIDGE_HTTP_LISTEN`.
fn slip(key: &str, raw: &str) -> Option<Problem> {
    let name = format!("{PREFIX}_{}", key.to_uppercase());
    // Then it serves a reference.
    if raw.contains(&format!("${{{name}")) {
        return None;
    }
    let section = TOP
        .iter()
        .find_map(|top| Some((top, key.strip_prefix(top)?.strip_prefix('_')?)));
    let meant = match section {
        Some((top, rest)) => format!("{top}{SEPARATOR}{rest}"),
        None => nearest(key, TOP)?.to_owned(),
    };
    let message = "the variable names no key, so it overrides nothing";
    let problem = Problem::error(variable(&name), "", message).remedy(format!(
        "did you mean {PREFIX}_{}? Two '_' separate keys",
        meant.to_uppercase()
    ));
    Some(Problem {
        severity: Severity::Warning,
        ..problem
    })
}

/// Key paths, dotted, and values, sorted so that index 0 comes before index 1.
fn named(environment: &Environment) -> BTreeMap<String, String> {
    let variables = environment.variables.clone().into_iter().collect();
    let found = config::Environment::with_prefix(PREFIX)
        .prefix_separator("_")
        .separator(SEPARATOR)
        .source(Some(variables))
        .collect()
        .unwrap_or_default();
    let text = |(key, value): (String, config::Value)| Some((key, value.into_string().ok()?));
    found.into_iter().filter_map(text).collect()
}

fn variable(name: &str) -> Place {
    Place::Variable(Arc::from(name))
}

fn put(
    node: &mut Node,
    path: &[&str],
    above: &KeyPath,
    place: &Place,
    leaf: Value,
) -> Result<(), (KeyPath, String)> {
    let Some((first, rest)) = path.split_first() else {
        *node = Node::new(place.clone(), leaf);
        return Ok(());
    };
    match &mut node.value {
        Value::Table(table) => {
            let fresh = || (place.clone(), empty_for(first, rest, above, place));
            let (at, below) = table.entry((*first).to_owned()).or_insert_with(fresh);
            if rest.is_empty() {
                *at = place.clone();
            }
            put(below, rest, &above.key(first), place, leaf)
        }
        Value::List(list) => {
            let index = index(first, list.len()).ok_or_else(|| {
                let message = format!("'{first}' is not an index from 0 to {} of this list", list.len());
                (above.clone(), message)
            })?;
            if index == list.len() {
                list.push(Node::new(place.clone(), Value::Table(Table::new())));
            }
            put(
                &mut list[index],
                rest,
                &above.step(Step::Index(index)),
                place,
                leaf,
            )
        }
        _ => Err((
            above.clone(),
            format!("this is {}, so '{first}' below it does not exist", node.kind()),
        )),
    }
}

/// The value of a missing key that a variable names something below: a list or a table.
fn empty_for(key: &str, rest: &[&str], above: &KeyPath, place: &Place) -> Node {
    let holds_list = above.0.is_empty() && matches!(key, "source" | "sink");
    let is_index = rest.first().is_some_and(|next| next.parse::<usize>().is_ok());
    let value = if is_index && holds_list {
        Value::List(Vec::new())
    } else {
        Value::Table(Table::new())
    };
    Node::new(place.clone(), value)
}

fn index(text: &str, len: usize) -> Option<usize> {
    text.parse().ok().filter(|index| *index <= len)
}
