//! Names the topic or subject of a record's messages: a template, and the destination's rules for names.
//!
//! A name that the destination would not accept is never sent. If it affects every record, it is an error of the
//! configuration; otherwise the record is rejected, because replacing characters silently could make two names equal.

use std::fmt::Write;
use std::sync::Arc;

use uuid::Uuid;

use super::plain::Plain;
use super::template::{Template, TemplateValues, TextFilter, Unusable, VARIABLES};
use crate::issue::ConfigIssue;
use crate::path::ZnodePath;
use crate::record::Record;

/// The path of an ordinary record.
const SAMPLE: &str = "/services/payments";

/// Writes the names of a path, or one text, as a name or a part of one.
pub type NameFilter = fn(&[&str]) -> String;

/// A destination's rules for names.
pub struct NameRules {
    /// The option that holds the template, and the filter that writes any texts as a name.
    pub option: &'static str,
    /// The filter, for the names of a path or one text.
    pub filter: NameFilter,
    /// Further filters, by their names.
    pub further: &'static [(&'static str, NameFilter)],
    /// The name's description: "the name of a topic".
    pub meaning: &'static str,
    /// The longest name that is sent. A longer one of a record is cut and ends with a hash of the whole.
    pub length_max: usize,
    /// The reason why the destination would not take a name, of any length; `None` if it would.
    pub reason_against: fn(&str) -> Option<String>,
    /// The part of the remedy after "use {variables} and".
    pub remedy: &'static str,
}

/// A template for names.
pub struct NameTemplate {
    rules: &'static NameRules,
    template: Template,
    /// The same without the engine, where it is so simple.
    plain: Option<Plain>,
    /// The name, if it is the same for all records.
    fixed: Option<Arc<str>>,
}

impl NameTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// The source is no template, or uses a variable that no record has.
    pub fn parse(rules: &'static NameRules, source: &str) -> Result<NameTemplate, ConfigIssue> {
        let filters: Vec<TextFilter> = rules.filters().collect();
        let template = Template::compile(source, &filters).map_err(|unusable| {
            rules.objection(match unusable {
                Unusable::TooLong(message) => message,
                Unusable::Syntax(reason) => format!("'{source}' is not a template: {reason}"),
                Unusable::Variable(name) => format!("'{source}' uses '{name}', which no record has"),
            })
        })?;
        Ok(NameTemplate {
            rules,
            template,
            plain: Plain::parse(source, rules.filters().collect()),
            fixed: None,
        })
    }

    /// The problem of the name of an ordinary record, and therefore of every record.
    ///
    /// # Panics
    ///
    /// Never: the path of the record is valid.
    pub fn objection(&self) -> Option<ConfigIssue> {
        let path = ZnodePath::parse(SAMPLE).expect("the sample is a path");
        let reason = self.name_of("main", &path, "update").err()?;
        let message = match self.template.variables() {
            [] => reason,
            _ => format!("for a record of '{SAMPLE}' in cluster 'main': {reason}"),
        };
        Some(self.rules.objection(message))
    }

    /// The same for the records of one cluster: if they all have the same name, it is rendered once.
    #[must_use]
    pub fn of_cluster(mut self, cluster: &str) -> NameTemplate {
        if self.template.variables().iter().all(|name| name == "cluster") {
            self.fixed = self.name_of(cluster, &ZnodePath::slash(), "").ok();
        }
        self
    }

    /// The name of all records of the cluster, if it is the same.
    pub fn fixed(&self) -> Option<&Arc<str>> {
        self.fixed.as_ref()
    }

    /// The name for a record. One without a path has that of its root.
    ///
    /// # Errors
    ///
    /// Why it has none.
    pub fn name(&self, record: &Record) -> Result<Arc<str>, String> {
        if let Some(fixed) = &self.fixed {
            return Ok(Arc::clone(fixed));
        }
        let slash = ZnodePath::slash();
        let root = record.root.as_ref().unwrap_or(&slash);
        let name = self.render(TemplateValues {
            cluster: &record.cluster,
            root,
            path: record.path.as_ref().unwrap_or(root),
            op: record.op.as_str(),
        })?;
        Ok(match name.len() > self.rules.length_max {
            true => cut(&name, self.rules.length_max).into(),
            false => name,
        })
    }

    /// The name for records of this op and path, as if the path were their root.
    ///
    /// # Errors
    ///
    /// Why they have none.
    pub fn name_of(&self, cluster: &str, path: &ZnodePath, op: &str) -> Result<Arc<str>, String> {
        let name = self.render(TemplateValues {
            cluster,
            root: path,
            path,
            op,
        })?;
        match name.len() > self.rules.length_max {
            true => Err(format!(
                "'{name}' is not {}: it has {} characters, and {} are allowed",
                self.rules.meaning,
                name.len(),
                self.rules.length_max
            )),
            false => Ok(name),
        }
    }

    fn render(&self, values: TemplateValues<'_>) -> Result<Arc<str>, String> {
        let NameRules { option, meaning, .. } = self.rules;
        let rendered = match &self.plain {
            Some(plain) => plain.render(values),
            None => self
                .template
                .render(values)
                .map_err(|reason| format!("the {option} template has no result: {reason}"))?,
        };
        match (self.rules.reason_against)(&rendered) {
            None => Ok(rendered.into()),
            Some(reason) => Err(format!("'{rendered}' is not {meaning}: {reason}")),
        }
    }
}

impl NameRules {
    /// All filters, that of the option first.
    pub(super) fn filters(&self) -> impl Iterator<Item = TextFilter> {
        let all = std::iter::once((self.option, self.filter)).chain(self.further.iter().copied());
        all.map(|(name, write)| TextFilter { name, write })
    }

    fn objection(&self, message: String) -> ConfigIssue {
        let remedy = format!("use {} and {}", VARIABLES.join(", "), self.remedy);
        ConfigIssue::error(self.option, message, remedy)
    }
}

/// Before the hash of a name that was cut; no escaped name holds it.
const REST: &str = "__";

/// `__` and a hash of a text, in place of a text that has no room.
pub fn hashed_rest(text: &str) -> String {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes());
    format!("{REST}{}", hash.simple())
}

/// The beginning of a name and a hash of the whole, so that two names never become one.
fn cut(name: &str, length: usize) -> String {
    let rest = hashed_rest(name);
    let mut end = length.saturating_sub(rest.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{rest}", &name[..end])
}

/// A text with letters, digits and `-` only: every other byte becomes `_` and two hex digits, so that two texts never
/// become one.
pub fn escaped_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            write!(name, "_{byte:02x}").expect("writing to a string cannot fail");
        }
    }
    name
}
