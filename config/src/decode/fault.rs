//! Why a value could not be read, with the keys that lead to it.

use std::fmt::{self, Display};

use serde::de::{Error, Expected, Unexpected};

use crate::parse::NUMBER_MAX;
use crate::tree::{Node, Step};

/// The first number that is too large, 2 to the power of 63.
const NUMBER_END: f64 = 9_223_372_036_854_775_808.0;

/// An integer that no option can have, where serde has no word for it.
pub(super) const LARGE_NUMBER: &str = "a number of more than 64 bits";

/// One value that could not be read.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// The keys that lead to the value; for unknown and missing keys: to the table.
    pub(crate) path: Vec<Step>,
    pub(crate) kind: FaultKind,
    /// The option is a secret, so its value must not be shown, even if it is in the file.
    pub(crate) secret: bool,
}

/// The kind of error.
#[derive(Clone, Debug)]
pub(crate) enum FaultKind {
    /// A key that no option has.
    Unknown {
        name: String,
        known: &'static [&'static str],
    },
    /// A key that must be given.
    Missing { name: &'static str },
    /// A value of another type.
    WrongType { expected: String },
    /// A word that is none of those that mean something.
    WrongWord { known: &'static [&'static str] },
    /// The message of the option's own type. May repeat the value.
    Refused { message: String },
}

impl Fault {
    pub(crate) fn new(kind: FaultKind) -> Fault {
        Fault {
            path: Vec::new(),
            kind,
            secret: false,
        }
    }

    /// The fault as the table or list around the value sees it.
    pub(crate) fn below(mut self, step: Step) -> Fault {
        self.path.insert(0, step);
        self
    }

    /// The value.
    pub(crate) fn node<'a>(&self, tree: &'a Node) -> Option<&'a Node> {
        tree.at(&self.path)
    }
}

impl std::error::Error for Fault {}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault::new(FaultKind::Refused {
            message: message.to_string(),
        })
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        let expected = wanted(found, &expected.to_string());
        Fault::new(FaultKind::WrongType { expected })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::invalid_type(found, expected)
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(FaultKind::WrongWord { known })
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(FaultKind::Unknown {
            name: name.to_owned(),
            known,
        })
    }

    fn missing_field(name: &'static str) -> Fault {
        Fault::new(FaultKind::Missing { name })
    }
}

/// The type in words; of an integer that is too large, which the number is.
fn wanted(found: Unexpected<'_>, expected: &str) -> String {
    let is_large = match found {
        Unexpected::Unsigned(number) => i64::try_from(number).is_err(),
        // YAML and JSON read a larger one as a number with a fraction.
        Unexpected::Float(number) => number.abs() >= NUMBER_END && number.fract() == 0.0,
        Unexpected::Other(found) => found == LARGE_NUMBER,
        _ => false,
    };
    match (is_large, in_words(expected)) {
        (true, words) if words.starts_with("an integer") && !words.contains(" to ") => {
            format!("an integer up to {NUMBER_MAX}")
        }
        (_, words) => words,
    }
}

/// The types of serde in the words of a person who writes a configuration.
fn in_words(expected: &str) -> String {
    let words = match expected {
        "a string" | "path string" | "a character" | "string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list, as in [\"a\", \"b\"]",
        "a map" => "a table",
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "usize" => "an integer, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        structure if structure.starts_with("struct ") => "a table",
        words if words.starts_with("enum ") => "one of the known words, in quotes",
        other => other,
    };
    words.to_owned()
}
