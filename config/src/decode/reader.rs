//! The tree as serde sees it.

use bridge_core::file_path::FilePath;
use serde::Deserializer;
use serde::de::value::{MapAccessDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::fault::LARGE_NUMBER;
use super::{Fault, FaultKind};
use crate::parse::inline_value;
use crate::tree::{Node, Step, Table, Value};

/// Read in place of a value that is missing or was refused, so that the values around it are read. A name, a
/// path of a file, a host and most other texts may read so.
const STAND_IN: &str = "assumed";

/// Reads one node. Borrows nothing into the result.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    node: &'a Node,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(node: &'a Node) -> Reader<'a> {
        Reader { node }
    }

    /// The text of a variable, which may be read as what the option wants.
    fn loose(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) if text.loose => Some(text.text.trim()),
            _ => None,
        }
    }

    fn whole_number(&self) -> Option<i128> {
        match &self.node.value {
            Value::Integer(number) => Some(*number),
            _ => self.loose()?.parse().ok(),
        }
    }

    /// For an option that takes several types: what the text looks like in TOML.
    fn visit_loose<'de, V: Visitor<'de>>(self, text: &str, visitor: V) -> Result<V::Value, Fault> {
        if let Ok(value) = text.parse() {
            return visitor.visit_bool(value);
        }
        if let Ok(number) = text.parse() {
            return visit_integer(number, visitor);
        }
        match inline_value(text, self.node) {
            Some(node) => Reader::new(&node).deserialize_any(visitor),
            None => visitor.visit_str(text),
        }
    }

    fn visit_text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_str(&text.text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn visit_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.whole_number() {
            Some(number) => visit_integer(number, visitor),
            None => self.deserialize_any(visitor),
        }
    }
}

fn visit_integer<'de, V: Visitor<'de>>(number: i128, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(number) = u64::try_from(number) {
        return visitor.visit_u64(number);
    }
    match i64::try_from(number) {
        Ok(number) => visitor.visit_i64(number),
        Err(_) => Err(Fault::invalid_type(Unexpected::Other(LARGE_NUMBER), &visitor)),
    }
}

/// Methods that read an integer of any size: the visitor checks the bounds.
macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.visit_number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Nothing => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => visit_integer(*number, visitor),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) if text.loose => self.visit_loose(text.text.trim(), visitor),
            Value::Text(text) => visitor.visit_str(&text.text),
            Value::Date(_) => Err(Fault::invalid_type(Unexpected::Other("a date"), &visitor)),
            Value::List(list) => visitor.visit_seq(Elements { list, next: 0 }),
            Value::Table(table) => visitor.visit_map(Entries::new(table)),
            Value::Assumed | Value::Skipped => visitor.visit_str(STAND_IN),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.loose().and_then(|text| text.parse().ok()) {
            Some(value) => visitor.visit_bool(value),
            None => self.deserialize_any(visitor),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.loose().and_then(|text| text.parse().ok()) {
            Some(value) => visitor.visit_f64(value),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Nothing => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Some(text) = self.loose() else {
            return self.deserialize_any(visitor);
        };
        let list = inline_value(text, self.node).filter(|node| matches!(node.value, Value::List(_)));
        match list {
            Some(list) => Reader::new(&list).deserialize_any(visitor),
            None => {
                let list = split(text, self.node);
                visitor.visit_seq(Elements { list: &list, next: 0 })
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let inline = self.loose().and_then(|text| inline_value(text, self.node));
        match inline {
            Some(table) => Reader::new(&table).deserialize_any(visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A list is no table, although serde would take its elements for the fields in their order.
        if matches!(self.node.value, Value::List(_)) {
            return Err(Fault::new(FaultKind::WrongType {
                expected: "a table".to_owned(),
            }));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == FilePath::NAME
            && let Value::Text(text) = &self.node.value
            && let Some(reference) = &text.brought_in
        {
            let marked = [text.text.as_str(), reference].into_iter();
            return visitor.visit_seq(SeqDeserializer::new(marked));
        }
        let secret = name == "Secret";
        visitor.visit_newtype_struct(self).map_err(|fault| Fault {
            secret: fault.secret || secret,
            ..fault
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_enum(Word(&text.text)),
            Value::Table(table) if table.len() == 1 => {
                let access = MapAccessDeserializer::new(Entries::new(table));
                visitor.visit_enum(access)
            }
            _ => Err(Fault::new(FaultKind::WrongWord { known })),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_text(visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// `a,b` in a variable.
fn split(text: &str, node: &Node) -> Vec<Node> {
    let element = |part: &str| {
        let mut element = node.clone();
        if let Value::Text(text) = &mut element.value {
            text.text = part.trim().to_owned();
        }
        element
    };
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(element)
        .collect()
}

struct Elements<'a> {
    list: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        while let Some(node) = self.list.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !matches!(node.value, Value::Skipped) {
                let value = seed.deserialize(Reader::new(node));
                return value.map(Some).map_err(|fault| fault.below(Step::Index(index)));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: std::collections::btree_map::Iter<'a, String, (crate::tree::Place, Node)>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'a> Entries<'a> {
    fn new(table: &'a Table) -> Entries<'a> {
        Entries {
            entries: table.iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        for (key, (_, node)) in self.entries.by_ref() {
            if !matches!(node.value, Value::Skipped) {
                self.value = Some((key, node));
                let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, node)) = self.value.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        let value = seed.deserialize(Reader::new(node));
        value.map_err(|fault| fault.below(Step::Key(key.to_owned())))
    }
}

/// A word that names a variant without content.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let word: StrDeserializer<'_, Fault> = self.0.into_deserializer();
        seed.deserialize(word).map(|variant| (variant, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::custom("this word needs a table"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        Err(de::Error::invalid_type(Unexpected::UnitVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(de::Error::invalid_type(Unexpected::UnitVariant, &visitor))
    }
}
