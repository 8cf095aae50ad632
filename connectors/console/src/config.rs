//! The options of a console sink: typed, documented.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The options of a sink of type `console`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// The form of a printed record.
    pub format: Format,
    /// Whether lines for people are coloured.
    pub color: Color,
}

/// The form of a printed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A line for people: time, operation, path, change. Long values are abbreviated on a terminal.
    #[default]
    Pretty,
    /// The whole record as one line of JSON.
    Record,
}

/// Whether lines for people are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// On a terminal, unless the environment variable `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also if the output is a pipe or a file.
    Always,
    /// Not even on a terminal.
    Never,
}
