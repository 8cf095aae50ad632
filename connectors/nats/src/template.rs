//! The subject of a record: a template, NATS's rules for subjects, and the filter that makes any names keep them.
//!
//! A subject that NATS would not take, or would take for something else, is never sent. Where every record would get
//! one it is an error of the configuration, elsewhere the record is rejected.

mod plain;

use std::fmt::Write;
use std::sync::Arc;

use bridge_core::issue::ConfigIssue;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};
use plain::Plain;
use uuid::Uuid;

/// What a template can speak of.
const VARIABLES: [&str; 5] = ["cluster", "root", "path", "op", "names"];

/// The longest subject that is sent. Servers take four times as much in one line of the protocol (`max_control_line`),
/// which also holds the reply's subject; NATS advises to stay below 256.
const SUBJECT_LENGTH_MAX: usize = 1_024;

/// So many tokens the filter makes of a path at most: NATS advises 16 for a whole subject.
const TOKENS_MAX: usize = 12;

/// So many characters the filter makes of a path at most, without the token that stands for what is cut off.
const LENGTH_MAX: usize = 200;

/// What a token that stands for the rest of a path begins with; no escaped name does.
const REST: &str = "__";

/// What stands for a path without names, and for an empty text; no escaped name is only that.
const EMPTY: &str = "_";

const NAME: &str = "subject";

/// A template that was compiled once.
pub(crate) struct SubjectTemplate {
    environment: Environment<'static>,
    variables: Vec<String>,
    /// The same without the engine, where it is as simple as that.
    plain: Option<Plain>,
}

/// What a template is rendered for.
#[derive(Clone, Copy)]
struct MessagePlace<'a> {
    cluster: &'a str,
    root: Option<&'a ZnodePath>,
    path: Option<&'a ZnodePath>,
    op: &'a str,
}

impl SubjectTemplate {
    /// Compiles a template.
    pub(crate) fn parse(source: &str) -> Result<SubjectTemplate, ConfigIssue> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("subject", subject_filter);
        if let Err(error) = environment.add_template_owned(NAME, source.to_owned()) {
            let message = format!("'{source}' is not a template: {}", sentence(&error));
            return Err(ConfigIssue::error("subject", message, remedy()));
        }
        let template = environment
            .get_template(NAME)
            .expect("the template was added just now");
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.sort_unstable();
        let unknown = variables.iter().find(|name| !VARIABLES.contains(&name.as_str()));
        if let Some(unknown) = unknown {
            return Err(ConfigIssue::error(
                "subject",
                format!("'{source}' speaks of '{unknown}', which no record has"),
                remedy(),
            ));
        }
        Ok(SubjectTemplate {
            environment,
            variables,
            plain: Plain::parse(source),
        })
    }

    /// What is wrong with the subject of an ordinary record, which is then wrong with every record's.
    pub(crate) fn objection(&self) -> Option<ConfigIssue> {
        let sample = "/services/payments";
        let path = ZnodePath::parse(sample).expect("the sample is a path");
        let place = MessagePlace {
            cluster: "main",
            root: Some(&path),
            path: Some(&path),
            op: "update",
        };
        let reason = self.render(place).err()?;
        let message = match self.variables.as_slice() {
            [] => reason,
            _ => format!("for a record of '{sample}' in cluster 'main': {reason}"),
        };
        Some(ConfigIssue::error("subject", message, remedy()))
    }

    /// The subject, where it is the same for all records of a cluster and NATS would take it.
    pub(crate) fn fixed(&self, cluster: &str) -> Option<Arc<str>> {
        if self.variables.iter().any(|name| name != "cluster") {
            return None;
        }
        self.render(MessagePlace {
            cluster,
            root: None,
            path: None,
            op: "",
        })
        .ok()
    }

    /// The subject of a record, or why it has none.
    pub(crate) fn subject(&self, record: &Record) -> Result<Arc<str>, String> {
        self.render(MessagePlace {
            cluster: &record.cluster,
            root: record.root.as_ref(),
            path: record.path.as_ref(),
            op: record.op.as_str(),
        })
    }

    /// Subjects of paths and ops that differ in all that a template can tell apart, each with its path.
    pub(crate) fn samples(&self, cluster: &str) -> Vec<(&'static str, Arc<str>)> {
        const PATHS: [&str; 4] = ["/", "/alpha", "/beta/one", "/gamma/one/two/three/four/five"];
        const OPS: [&str; 2] = ["create", "snapshot_begin"];
        let mut samples = Vec::new();
        for sample in PATHS {
            let path = ZnodePath::parse(sample).expect("the samples are paths");
            for op in OPS {
                let place = MessagePlace {
                    cluster,
                    root: Some(&path),
                    path: Some(&path),
                    op,
                };
                if let Ok(subject) = self.render(place) {
                    samples.push((sample, subject));
                }
            }
        }
        samples
    }

    fn render(&self, place: MessagePlace<'_>) -> Result<Arc<str>, String> {
        let slash = ZnodePath::slash();
        let root = place.root.unwrap_or(&slash);
        let path = place.path.unwrap_or(root);
        let rendered = match &self.plain {
            Some(plain) => plain.render(place.cluster, place.op, path.names()),
            None => self.by_the_engine(place, root, path)?,
        };
        match reason_against(&rendered) {
            None => Ok(rendered.into()),
            Some(reason) => Err(format!("'{rendered}' is not a subject for records: {reason}")),
        }
    }

    fn by_the_engine(
        &self,
        place: MessagePlace<'_>,
        root: &ZnodePath,
        path: &ZnodePath,
    ) -> Result<String, String> {
        let template = self
            .environment
            .get_template(NAME)
            .expect("the template was added when this was made");
        let names: Value = path.names().map(Value::from).collect();
        let (cluster, op) = (place.cluster, place.op);
        template
            .render(context! { cluster, root => root.as_str(), path => path.as_str(), op, names })
            .map_err(|error| format!("the subject template has no result: {}", sentence(&error)))
    }
}

fn remedy() -> String {
    format!(
        "use {} and visible ASCII, tokens with dots between them; write names with the filter subject, as in \
         \"zk.{{{{ cluster }}}}.{{{{ names | subject }}}}\"",
        VARIABLES.join(", ")
    )
}

/// Why a subject is not sent.
pub(crate) fn reason_against(subject: &str) -> Option<String> {
    if subject.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(letter) = subject.chars().find(|letter| !is_allowed(*letter)) {
        return Some(format!(
            "it holds {letter:?}, and only visible ASCII without '*' and '>' is allowed (the filter subject writes \
             others)"
        ));
    }
    if subject.split('.').any(str::is_empty) {
        return Some("a token is empty: two dots follow each other, or one stands at an end".to_owned());
    }
    if subject.starts_with('$') || subject.starts_with("_INBOX.") {
        return Some("what begins with '$' or '_INBOX.' is the servers' own".to_owned());
    }
    (subject.len() > SUBJECT_LENGTH_MAX).then(|| {
        format!(
            "it has {} characters, and {SUBJECT_LENGTH_MAX} are allowed",
            subject.len()
        )
    })
}

fn is_allowed(letter: char) -> bool {
    letter.is_ascii_graphic() && !matches!(letter, '*' | '>')
}

/// A list of names becomes one token each, a text one token.
///
/// Letters, digits and `-` stay, every other byte becomes `_` and two hex digits, so that two texts never become one.
/// A list without names, and an empty text, is `_`. A list of more than [`TOKENS_MAX`] names, or longer than
/// [`LENGTH_MAX`], keeps the first that fit; one token, `__` and a hash, stands for the rest.
fn subject_filter(value: &Value) -> Result<String, Error> {
    let names = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .map(|name| text_of(&name))
            .collect::<Result<Vec<_>, _>>()?,
        _ => vec![text_of(value)?],
    };
    if names.is_empty() {
        return Ok(EMPTY.to_owned());
    }
    Ok(tokens(&names))
}

fn text_of(value: &Value) -> Result<String, Error> {
    value.as_str().map(str::to_owned).ok_or_else(|| {
        let message = format!(
            "the filter subject takes a text or a list of texts, not {}",
            value.kind()
        );
        Error::new(ErrorKind::InvalidOperation, message)
    })
}

fn tokens<S: AsRef<str>>(names: &[S]) -> String {
    let mut subject = String::new();
    let escaped: Vec<String> = names.iter().map(|name| escaped(name.as_ref())).collect();
    let length: usize = escaped.iter().map(|token| token.len() + 1).sum();
    let fits = escaped.len() <= TOKENS_MAX && length <= LENGTH_MAX + 1;
    for (at, token) in escaped.iter().enumerate() {
        let is_cut = !fits && (at + 1 == TOKENS_MAX || subject.len() + token.len() > LENGTH_MAX);
        if is_cut {
            subject.push_str(&rest(&names[at..]));
            return subject;
        }
        subject.push_str(token);
        if at + 1 < escaped.len() {
            subject.push('.');
        }
    }
    subject
}

/// The token that stands for names that have no room: a hash of them with slashes between.
fn rest<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, names.join("/").as_bytes());
    format!("{REST}{}", hash.simple())
}

fn escaped(name: &str) -> String {
    if name.is_empty() {
        return EMPTY.to_owned();
    }
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            token.push(char::from(byte));
        } else {
            write!(token, "_{byte:02x}").expect("a text takes everything");
        }
    }
    token
}

/// An error of the template engine in one line.
fn sentence(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
