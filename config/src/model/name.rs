//! The names of sources and sinks: they are part of records, metrics, file names and logs.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use bridge_core::text_value;

/// A longer name would not fit into a file name with its ending on every file system.
const CHARS_MAX: usize = 100;

/// The name of a source or sink: letters, digits, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a name: use 1 to 100 letters (a to z, A to Z), digits, '.', '_' and '-', no '.' at the begin"
)]
pub struct BadName(String);

impl Name {
    /// A name that the program itself gives.
    pub(crate) fn known(name: &str) -> Name {
        name.parse().expect("names given by the program are names")
    }

    /// The name for an owner that outlives the configuration.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Name, BadName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let whole = !text.is_empty() && text.len() <= CHARS_MAX && !text.starts_with('.');
        if whole && text.bytes().all(allowed) {
            return Ok(Name(text.into()));
        }
        Err(BadName(text.to_owned()))
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(Name, {
    "type": "string",
    "description": "Letters, digits, '.', '_' and '-'; no '.' at the begin.",
    "pattern": r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$|\$\{",
    "examples": ["main", "registry-hook"],
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_a_file_name_and_in_a_metric() {
        for good in ["main", "a", "eu-west-1.prod_2", "-"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ü", "*", &"x".repeat(101)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
