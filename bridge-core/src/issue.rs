//! Problems of options that are well-formed but cannot work, or are probably a mistake.
//!
//! A type with options reports problems of its own keys; the reader of the configuration adds file, line and column.

use strum::IntoStaticStr;

/// One thing that is wrong with a group of options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigIssue {
    /// Whether the configuration can be used.
    pub severity: Severity,
    /// The key below the group, as a person writes it: `roots[1]`, `tls.cert`.
    pub key: String,
    /// The problem, in lower case, with the concrete value unless that is a secret.
    pub message: String,
    /// The remedy.
    pub remedy: String,
}

/// Whether a configuration with a [`ConfigIssue`] can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// It cannot work.
    Error,
    /// It works, and is surely not meant.
    Warning,
}

impl Severity {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The errors among these, if there are any.
///
/// # Errors
///
/// All of them.
pub fn no_error(mut issues: Vec<ConfigIssue>) -> Result<(), Vec<ConfigIssue>> {
    issues.retain(|issue| issue.severity == Severity::Error);
    if issues.is_empty() { Ok(()) } else { Err(issues) }
}

impl ConfigIssue {
    /// It cannot work.
    pub fn error(
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigIssue {
        ConfigIssue {
            severity: Severity::Error,
            key: key.into(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// It works, and is surely not meant.
    pub fn warning(
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigIssue {
        ConfigIssue {
            severity: Severity::Warning,
            ..ConfigIssue::error(key, message, remedy)
        }
    }
}
