//! The places of keys and values in TOML.

use std::error::Error;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::{Map, place_at};
use crate::tree::{KeyPath, Place};

/// The places of all keys and values. Empty where the text is no TOML.
pub(super) fn map(text: &str) -> Map {
    let mut map = Map::default();
    if let Ok(table) = DeTable::parse(text) {
        walk_table(table.get_ref(), &KeyPath::default(), text, &mut map);
    }
    map
}

fn walk_table(table: &DeTable<'_>, path: &KeyPath, text: &str, map: &mut Map) {
    for (key, value) in table {
        let path = path.key(key.get_ref());
        map.put(
            path.clone(),
            place_at(text, key.span().start),
            place_at(text, value.span().start),
        );
        walk(value, &path, text, map);
    }
}

fn walk(value: &Spanned<DeValue<'_>>, path: &KeyPath, text: &str, map: &mut Map) {
    match value.get_ref() {
        DeValue::Table(table) => walk_table(table, path, text, map),
        DeValue::Array(list) => {
            for (index, element) in list.iter().enumerate() {
                let path = path.index(index);
                let place = place_at(text, element.span().start);
                map.put(path.clone(), place.clone(), place);
                walk(element, &path, text, map);
            }
        }
        DeValue::Datetime(_) => {
            map.dates.insert(path.clone());
        }
        _ => {}
    }
}

/// The keys and places of numbers that do not fit into the 64 bits of TOML. The `config` crate refuses the whole text for
/// the first one, and names neither.
pub(super) fn too_large(text: &str) -> Vec<(KeyPath, Place)> {
    let mut found = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        large_in_table(table.get_ref(), &KeyPath::default(), text, &mut found);
    }
    found
}

fn large_in_table(table: &DeTable<'_>, path: &KeyPath, text: &str, found: &mut Vec<(KeyPath, Place)>) {
    for (key, value) in table {
        large_in(value, &path.key(key.get_ref()), text, found);
    }
}

fn large_in(value: &Spanned<DeValue<'_>>, path: &KeyPath, text: &str, found: &mut Vec<(KeyPath, Place)>) {
    let is_large = match value.get_ref() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).is_err(),
        DeValue::Float(number) => {
            let text = number.as_str();
            !text.contains("inf") && text.parse().is_ok_and(f64::is_infinite)
        }
        DeValue::Table(table) => return large_in_table(table, path, text, found),
        DeValue::Array(list) => {
            let elements = list.iter().enumerate();
            return elements.for_each(|(index, element)| large_in(element, &path.index(index), text, found));
        }
        _ => false,
    };
    if is_large {
        found.push((path.clone(), place_at(text, value.span().start)));
    }
}

/// The position and cause of the first syntax error in TOML.
pub(super) fn syntax(cause: &(dyn Error + Send + Sync + 'static), text: &str) -> Option<(Place, String)> {
    let error = cause.downcast_ref::<::toml::de::Error>()?;
    let place = error
        .span()
        .map_or(Place::File, |span| place_at(text, span.start));
    Some((place, error.message().replace('\n', ", ")))
}
