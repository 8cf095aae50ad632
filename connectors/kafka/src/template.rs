//! The topic of a record: a template, Kafka's rules for names, and the filter that makes any text keep them.
//!
//! A name that Kafka would not take is never sent. Where every record would get one it is an error of the
//! configuration, elsewhere the record is rejected: replacing characters in silence would let two topics become one.

use std::sync::Arc;

use bridge_core::issue::ConfigIssue;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};

/// What a template can speak of.
const VARIABLES: [&str; 5] = ["cluster", "root", "path", "op", "names"];

/// The longest name that Kafka takes: the folder of a partition holds it, with the partition's number.
const TOPIC_LENGTH_MAX: usize = 249;

const NAME: &str = "topic";

/// A template that was compiled once.
pub(crate) struct TopicTemplate {
    environment: Environment<'static>,
    variables: Vec<String>,
}

impl TopicTemplate {
    /// Compiles a template.
    pub(crate) fn parse(source: &str) -> Result<TopicTemplate, ConfigIssue> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("topic", topic_filter);
        if let Err(error) = environment.add_template_owned(NAME, source.to_owned()) {
            let message = format!("'{source}' is not a template: {}", sentence(&error));
            return Err(ConfigIssue::error("topic", message, remedy()));
        }
        let template = environment
            .get_template(NAME)
            .expect("the template was added just now");
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.sort_unstable();
        let template = TopicTemplate {
            environment,
            variables,
        };
        match template.unknown_variable() {
            Some(unknown) => Err(ConfigIssue::error(
                "topic",
                format!("'{source}' speaks of '{unknown}', which no record has"),
                remedy(),
            )),
            None => Ok(template),
        }
    }

    fn unknown_variable(&self) -> Option<&str> {
        let mut variables = self.variables.iter().map(String::as_str);
        variables.find(|name| !VARIABLES.contains(name))
    }

    /// What is wrong with the topic of an ordinary record, which is then wrong with every record's.
    pub(crate) fn objection(&self) -> Option<ConfigIssue> {
        let sample = "/services/payments";
        let path = ZnodePath::parse(sample).expect("the sample is a path");
        let reason = self.name_of("main", Some(&path), Some(&path), "update").err()?;
        let message = match self.variables.as_slice() {
            [] => reason,
            _ => format!("for a record of '{sample}' in cluster 'main': {reason}"),
        };
        Some(ConfigIssue::error("topic", message, remedy()))
    }

    /// The topic, where it is the same for all records of a cluster and Kafka would take it.
    pub(crate) fn fixed(&self, cluster: &str) -> Option<Arc<str>> {
        if self.variables.iter().any(|name| name != "cluster") {
            return None;
        }
        self.name_of(cluster, None, None, "").ok()
    }

    /// The topic of a record, or why it has none.
    pub(crate) fn topic(&self, record: &Record) -> Result<Arc<str>, String> {
        self.name_of(
            &record.cluster,
            record.root.as_ref(),
            record.path.as_ref(),
            record.op.as_str(),
        )
    }

    fn name_of(
        &self,
        cluster: &str,
        root: Option<&ZnodePath>,
        path: Option<&ZnodePath>,
        op: &str,
    ) -> Result<Arc<str>, String> {
        let slash = ZnodePath::slash();
        let root = root.unwrap_or(&slash);
        let path = path.unwrap_or(root);
        let template = self
            .environment
            .get_template(NAME)
            .expect("the template was added when this was made");
        let names: Value = path.names().map(Value::from).collect();
        let rendered = template
            .render(context! { cluster, root => root.as_str(), path => path.as_str(), op, names })
            .map_err(|error| format!("the topic template has no result: {}", sentence(&error)))?;
        match reason_against(&rendered) {
            None => Ok(rendered.into()),
            Some(reason) => Err(format!("'{rendered}' is not the name of a topic: {reason}")),
        }
    }
}

fn remedy() -> String {
    format!(
        "use {} and letters, digits, '.', '_', '-'; write what may hold other characters with the filter topic, as in \
         \"zk.{{{{ cluster }}}}.{{{{ names | topic }}}}\"",
        VARIABLES.join(", ")
    )
}

/// Why Kafka would not take a name.
fn reason_against(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if matches!(name, "." | "..") {
        return Some("'.' and '..' are folders".to_owned());
    }
    if let Some(letter) = name.chars().find(|letter| !is_allowed(*letter)) {
        return Some(format!(
            "it holds {letter:?}, and only letters, digits, '.', '_' and '-' are allowed (the filter topic writes others)"
        ));
    }
    (name.len() > TOPIC_LENGTH_MAX).then(|| {
        format!(
            "it has {} characters, and {TOPIC_LENGTH_MAX} are allowed",
            name.len()
        )
    })
}

fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

/// Letters, digits and `-` stay, every other byte becomes `_` and two hex digits, so that two texts never become one.
/// The parts of a list are joined by dots.
fn topic_filter(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let parts: Vec<String> = value
                .try_iter()?
                .map(|part| escaped(&part))
                .collect::<Result<_, _>>()?;
            Ok(parts.join("."))
        }
        _ => escaped(value),
    }
}

fn escaped(value: &Value) -> Result<String, Error> {
    let Some(text) = value.as_str() else {
        let message = format!(
            "the filter topic takes a text or a list of texts, not {}",
            value.kind()
        );
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    };
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("_{byte:02x}"));
        }
    }
    Ok(name)
}

/// An error of the template engine in one line.
fn sentence(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
