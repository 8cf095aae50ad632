//! From the tree to typed options, strictly: no number becomes a text, no text a number.
//!
//! serde stops at the first error. [`decode`] records it, removes the wrong value from the tree, and reads again until
//! nothing is wrong: so all errors are found, each with the keys that lead to it.
//!
//! Why not a crate: `serde_path_to_error` gives the path of the first error only, and can neither skip the value and
//! continue nor tell a missing key from an unknown one. `serde_ignored` finds unknown keys, but only in a document
//! without errors. The deserializer is ours because two kinds of values need it: texts from variables, which may be read
//! as numbers or lists, and texts that were brought in by a reference, whose mark must reach the options
//! ([`bridge_core::file_path`]).

mod fault;
mod reader;

use serde::de::DeserializeOwned;

pub(crate) use fault::{Fault, FaultKind};
pub(crate) use reader::Reader;

use crate::tree::{Node, Place, Step, Table, Value};

/// Reads options from a table, and hands every error to `report`. Returns `None` if too little of the table is left.
pub(crate) fn decode<T: DeserializeOwned>(node: &Node, report: &mut dyn FnMut(&Fault)) -> Option<T> {
    let mut tree = node.clone();
    loop {
        let fault = match T::deserialize(Reader::new(&tree)) {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        let assumed = fault
            .node(&tree)
            .is_some_and(|node| matches!(node.value, Value::Assumed));
        if !assumed && !was_refused(&tree, &fault) {
            report(&fault);
        }
        if !take_out(&mut tree, &fault, assumed) {
            return None;
        }
    }
}

/// Whether the key is missing only because its value was removed before.
fn was_refused(tree: &Node, fault: &Fault) -> bool {
    let FaultKind::Missing { name } = &fault.kind else {
        return false;
    };
    let table = fault.node(tree).and_then(Node::table);
    table.is_some_and(|table| table.contains_key(*name))
}

/// Changes the tree so that the same fault cannot occur again. Returns false if that is not possible. Every call leaves
/// fewer values that can be wrong: it removes a key, assumes a value, or skips a table.
fn take_out(tree: &mut Node, fault: &Fault, assumed: bool) -> bool {
    match &fault.kind {
        FaultKind::Unknown { name, .. } => {
            let table = tree.at_mut(&fault.path).and_then(table_mut);
            table.is_some_and(|table| table.remove(name).is_some())
        }
        FaultKind::Missing { name } => {
            let Some(table) = tree.at_mut(&fault.path).and_then(table_mut) else {
                return false;
            };
            let entry = (Place::File, Node::new(Place::File, Value::Assumed));
            let before = table.insert((*name).to_owned(), entry);
            !before.is_some_and(|(_, node)| matches!(node.value, Value::Assumed))
        }
        // The assumed value was refused too, so the table around it cannot be read.
        _ if assumed => match fault.path.split_last() {
            Some((_, above)) => skip(tree, above),
            None => false,
        },
        _ => skip(tree, &fault.path),
    }
}

/// Skips a value: the default of its key is read instead, and the other elements of a list keep their indexes.
fn skip(tree: &mut Node, path: &[Step]) -> bool {
    if path.is_empty() {
        return false;
    }
    match tree.at_mut(path) {
        Some(node) if !matches!(node.value, Value::Skipped) => {
            node.value = Value::Skipped;
            true
        }
        _ => false,
    }
}

fn table_mut(node: &mut Node) -> Option<&mut Table> {
    match &mut node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}
