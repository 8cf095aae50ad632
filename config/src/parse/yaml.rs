//! The places of keys and values in YAML and JSON.

use std::collections::HashSet;
use std::error::Error;

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, ScanError};

use super::Map;
use crate::tree::{KeyPath, Place};

/// The places of all keys and values, as far as the text is YAML. Of JSON, also the keys that are given twice: serde_json
/// takes the last one and reports nothing.
pub(super) fn map(text: &str) -> Map {
    let mut walk = YamlReader::default();
    // The parser of the values has reported a syntax error.
    let _ = Parser::new_from_str(text).load(&mut walk, false);
    walk.map
}

/// Follows the parser's events with a stack of the open lists and tables.
#[derive(Default)]
struct YamlReader {
    open: Vec<Open>,
    map: Map,
}

struct Open {
    path: KeyPath,
    inside: Inside,
}

enum Inside {
    List {
        next: usize,
    },
    /// The key read last, if its value is still to come.
    Table {
        key: Option<(String, Place)>,
        seen: HashSet<String>,
    },
}

impl YamlReader {
    /// Records the place of the value that begins here. Returns its path; `None` for a key.
    fn begin(&mut self, place: Place, scalar: Option<&str>) -> Option<KeyPath> {
        let Some(open) = self.open.last_mut() else {
            self.map.put(KeyPath::default(), place.clone(), place);
            return Some(KeyPath::default());
        };
        match &mut open.inside {
            Inside::List { next } => {
                let path = open.path.index(*next);
                *next += 1;
                self.map.put(path.clone(), place.clone(), place);
                Some(path)
            }
            Inside::Table { key, seen } => match key.take() {
                None => {
                    let name = scalar.unwrap_or_default().to_owned();
                    if !seen.insert(name.clone()) {
                        self.map.twice.push((open.path.key(&name), place.clone()));
                    }
                    *key = Some((name, place));
                    None
                }
                Some((name, key_place)) => {
                    let path = open.path.key(&name);
                    self.map.put(path.clone(), key_place, place);
                    Some(path)
                }
            },
        }
    }
}

impl MarkedEventReceiver for YamlReader {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let place = place(&mark);
        match event {
            Event::Scalar(text, ..) => {
                self.begin(place, Some(&text));
            }
            Event::Alias(_) => {
                self.begin(place, None);
            }
            Event::SequenceStart(..) => {
                let path = self.begin(place, None).unwrap_or_default();
                let inside = Inside::List { next: 0 };
                self.open.push(Open { path, inside });
            }
            Event::MappingStart(..) => {
                let path = self.begin(place, None).unwrap_or_default();
                let inside = Inside::Table {
                    key: None,
                    seen: HashSet::new(),
                };
                self.open.push(Open { path, inside });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            _ => {}
        }
    }
}

/// The parser counts lines from 1 and columns from 0.
fn place(mark: &Marker) -> Place {
    Place::At {
        line: mark.line(),
        column: mark.col() + 1,
    }
}

/// The position and cause of the first syntax error in YAML.
pub(super) fn syntax(cause: &(dyn Error + Send + Sync + 'static)) -> Option<(Place, String)> {
    let error = cause.downcast_ref::<ScanError>()?;
    // This message would repeat a text of the file.
    let reason = match error.info().contains("duplicated key") {
        true => "a key is given twice in its table",
        false => error.info(),
    };
    Some((place(error.marker()), reason.to_owned()))
}
