//! The environment of the process, as far as a configuration may look at it: variables and the files of secrets.
//!
//! Read once, so that tests can bring one of their own.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// The variables that a configuration may name.
#[derive(Clone, Default)]
pub struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
    /// Names of variables whose values are no Unicode.
    pub(crate) unreadable: Vec<String>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Environment {
        let mut found = Environment::default();
        for (name, value) in std::env::vars_os() {
            found.take(name, value);
        }
        found
    }

    /// These variables and no others.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Environment {
            variables: variables.into_iter().map(owned).collect(),
            unreadable: Vec::new(),
        }
    }

    fn take(&mut self, name: OsString, value: OsString) {
        // A name that is no Unicode cannot be written in a configuration.
        let Ok(name) = name.into_string() else { return };
        match value.into_string() {
            Ok(value) => {
                self.variables.insert(name, value);
            }
            Err(_) => self.unreadable.push(name),
        }
    }
}

/// Names only: values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
