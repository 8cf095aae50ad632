//! One table of the file that several types read: the options of its type, and those that all types have.
//!
//! serde's `flatten` cannot refuse unknown keys, so the table is parted by the names of the fields.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::decode::{Fault, FaultKind};
use crate::tree::{Node, Place, Table, Value};

/// The names of the keys that a type of options reads.
pub(crate) fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Keys) {
        Err(Fault {
            kind: FaultKind::Unknown { known, .. },
            ..
        }) => known,
        _ => &[],
    }
}

/// Asks a type for its keys: a derived type names them when it asks to be read.
struct Keys;

impl<'de> Deserializer<'de> for Keys {
    type Error = Fault;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::new(FaultKind::Unknown {
            name: String::new(),
            known,
        }))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A table that gives its keys away, a part to each reader.
pub(crate) struct Parts {
    place: Place,
    rest: Table,
    known: Vec<&'static str>,
}

impl Parts {
    /// `None` where the node is no table.
    pub(crate) fn of(node: &Node) -> Option<Parts> {
        Some(Parts {
            place: node.place.clone(),
            rest: node.table()?.clone(),
            known: Vec::new(),
        })
    }

    /// Takes one key.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        self.rest.remove(key).map(|(_, node)| node)
    }

    /// The part that a type reads.
    pub(crate) fn part<T: DeserializeOwned>(&mut self) -> Node {
        let mut part = BTreeMap::new();
        for key in keys_of::<T>() {
            self.known.push(key);
            if let Some((key, entry)) = self.rest.remove_entry(*key) {
                part.insert(key, entry);
            }
        }
        Node::new(self.place.clone(), Value::Table(part))
    }

    /// The keys that no type has read, and those that are known.
    pub(crate) fn rest(self) -> (Vec<String>, Vec<&'static str>) {
        (self.rest.into_keys().collect(), self.known)
    }
}
