//! The places of keys and values in JSON: a walk over a text that is known to be JSON.
//!
//! serde_json keeps no positions, and of two equal keys it takes the last without a word.

use std::collections::HashSet;
use std::error::Error;

use super::{Map, place_at};
use crate::tree::{KeyPath, Place};

/// The places of all keys and values.
pub(super) fn map(text: &str) -> Map {
    let mut walk = JsonReader {
        text,
        at: 0,
        map: Map::default(),
    };
    walk.value(&KeyPath::default());
    walk.map
}

/// A position in a text that serde_json has accepted: the next character to read.
struct JsonReader<'a> {
    text: &'a str,
    at: usize,
    map: Map,
}

impl JsonReader<'_> {
    fn value(&mut self, path: &KeyPath) {
        match self.peek() {
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => {
                self.string();
            }
            _ => {
                let rest = &self.text[self.at..];
                self.at += rest.find([',', ']', '}']).unwrap_or(rest.len());
            }
        }
    }

    fn object(&mut self, path: &KeyPath) {
        let mut seen = HashSet::new();
        self.at += 1;
        while self.peek() == Some(b'"') {
            let key_place = self.place();
            let key = self.string();
            let path = path.key(&key);
            if !seen.insert(key) {
                self.map.twice.push((path.clone(), key_place.clone()));
            }
            self.pass(b':');
            self.peek();
            let value_place = self.place();
            self.map.put(path.clone(), key_place, value_place);
            self.value(&path);
            self.pass(b',');
        }
        self.pass(b'}');
    }

    fn array(&mut self, path: &KeyPath) {
        self.at += 1;
        let mut index = 0;
        while self.peek().is_some_and(|byte| byte != b']') {
            let path = path.index(index);
            let place = self.place();
            self.map.put(path.clone(), place.clone(), place);
            self.value(&path);
            self.pass(b',');
            index += 1;
        }
        self.pass(b']');
    }

    fn string(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += match byte {
                b'\\' => 2,
                _ => 1,
            };
            if *byte == b'"' {
                break;
            }
        }
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(quoted).unwrap_or_default()
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn pass(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }

    fn place(&self) -> Place {
        place_at(self.text, self.at)
    }
}

/// Where the text stops being JSON, and why.
pub(super) fn syntax(cause: &(dyn Error + Send + Sync + 'static)) -> Option<(Place, String)> {
    let error = cause.downcast_ref::<serde_json::Error>()?;
    let place = Place::At {
        line: error.line().max(1),
        column: error.column().max(1),
    };
    let text = error.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason);
    Some((place, reason.to_owned()))
}
