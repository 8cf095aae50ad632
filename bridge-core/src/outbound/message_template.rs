//! Templates for the content of messages: bodies, headers and addresses, over a record or a service event.
//!
//! *Invariants.* A value never leaves its place: it is written as JSON, percent-encoded, or as plain text, by the form of
//! the template and whatever the template says. The same record gives the same text. Work, memory and the length of a
//! result are bounded, and nothing reads a file or another template.

use std::fmt::Write as _;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::de::IgnoredAny;

use super::message_filters;
use super::message_variables::{MessageSubject, values_of};
use super::tag_length::longest_tag;
use super::template::{FUEL, NAME, RESULT_BYTES_MAX, TAG_BYTES_MAX, sentence};
use crate::example::examples;
use crate::format::header_value;
use crate::issue::ConfigIssue;
use crate::record::Record;

/// The longest template in bytes. Longer ones belong to a program at the destination.
const SOURCE_BYTES_MAX: usize = 16 << 10;

/// The longest header: receivers take 8 KiB for a line.
const HEADER_BYTES_MAX: usize = 4 << 10;

/// The longest address: more than servers take in a request line.
const ADDRESS_BYTES_MAX: usize = 8 << 10;

/// The form of the text that a template writes, which decides how it writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateForm {
    /// A JSON document: each value is written as JSON, a text with its quotation marks.
    Json,
    /// Text: values as they are.
    Text,
    /// The value of a header: each value in visible ASCII, percent-encoded.
    Header,
    /// A part of an address: each value percent-encoded but for letters, digits, `-`, `_`, `~` and `.`.
    Address,
}

/// A template, compiled once.
pub struct MessageTemplate {
    environment: Environment<'static>,
    form: TemplateForm,
}

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFailure {
    /// The reason, with what to do.
    pub reason: String,
    /// Whether a value of the record is the cause, so that another record may have one.
    pub is_of_record: bool,
}

impl TemplateForm {
    /// The form of a body with this media type.
    pub fn of_media_type(media_type: &str) -> TemplateForm {
        let (essence, _) = media_type.split_once(';').unwrap_or((media_type, ""));
        let essence = essence.trim().to_ascii_lowercase();
        match essence.ends_with("/json") || essence.ends_with("+json") {
            true => TemplateForm::Json,
            false => TemplateForm::Text,
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            TemplateForm::Json | TemplateForm::Text => RESULT_BYTES_MAX,
            TemplateForm::Header => HEADER_BYTES_MAX,
            TemplateForm::Address => ADDRESS_BYTES_MAX,
        }
    }
}

impl MessageTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// The source is no template, too long, or uses a variable that no record has.
    pub fn parse(
        source: &str,
        form: TemplateForm,
        subject: MessageSubject,
    ) -> Result<MessageTemplate, String> {
        check_lengths(source, SOURCE_BYTES_MAX)?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(move |out, state, value| write_value(form, out, state, value));
        message_filters::add_to(&mut environment);
        let known = subject.variables();
        if let Some(unknown) = compile(&mut environment, source, known)? {
            return Err(format!(
                "it uses '{unknown}', which no {} has; the variables are {}",
                subject.as_str(),
                known.join(", ")
            ));
        }
        Ok(MessageTemplate { environment, form })
    }

    /// The text for a record, without white space around it.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn render(&self, record: &Record) -> Result<String, TemplateFailure> {
        let of_record = |reason| TemplateFailure {
            reason,
            is_of_record: true,
        };
        let values = values_of(record).map_err(of_record)?;
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(values))
            .map_err(|error| TemplateFailure {
                reason: located(&error),
                is_of_record: is_of_record(error.kind()),
            })?;
        let text = rendered.trim();
        let most = self.form.bytes_max();
        if text.len() > most {
            let bytes = text.len();
            return Err(of_record(format!(
                "its result has {bytes} bytes, and {most} are allowed"
            )));
        }
        if self.form == TemplateForm::Json
            && !text.is_empty()
            && let Err(error) = serde_json::from_str::<IgnoredAny>(text)
        {
            return Err(TemplateFailure {
                reason: format!(
                    "its result is no JSON: {error}; {{{{ value }}}} writes quotation marks itself, and parts of a text \
                     are joined by ~, as in {{{{ op ~ \" of \" ~ path }}}}"
                ),
                is_of_record: false,
            });
        }
        Ok(text.to_owned())
    }

    /// Everything about a template that is wrong, or probably a mistake: it is compiled, and rendered over an example of
    /// each record that it can meet.
    pub fn objections(
        key: &str,
        source: &str,
        form: TemplateForm,
        subject: MessageSubject,
    ) -> Vec<ConfigIssue> {
        const REMEDY: &str = "correct it; 'zkbridge template FILE' renders one over examples";
        let template = match MessageTemplate::parse(source, form, subject) {
            Ok(template) => template,
            Err(reason) => {
                let message = format!("it is no template for messages: {reason}");
                return vec![ConfigIssue::error(key, message, REMEDY)];
            }
        };
        let mut of_records: Vec<(String, String)> = Vec::new();
        for example in examples(subject) {
            match template.render(&example.record) {
                Ok(_) => {}
                Err(failure) if failure.is_of_record => of_records.push((example.name, failure.reason)),
                Err(failure) => {
                    let message = format!("for an example of '{}': {}", example.name, failure.reason);
                    return vec![ConfigIssue::error(key, message, REMEDY)];
                }
            }
        }
        let Some((_, reason)) = of_records.first() else {
            return Vec::new();
        };
        let names: Vec<&str> = of_records.iter().map(|(name, _)| &**name).collect();
        let message = format!(
            "it has no result for an example of {}: {reason}; a record like that becomes a dead letter",
            names.join(", ")
        );
        vec![ConfigIssue::warning(
            key,
            message,
            "leave such records out with filters, or ask first, as in {% if after.data.value %}",
        )]
    }
}

/// The functions of the engine that a template may call.
const FUNCTIONS: [&str; 3] = ["range", "dict", "namespace"];

/// Whether the engine can take a source without a deep stack.
///
/// # Errors
///
/// It is longer than `bytes_max`, or one of its expressions is too long.
pub(super) fn check_lengths(source: &str, bytes_max: usize) -> Result<(), String> {
    if source.len() > bytes_max {
        return Err(format!(
            "the template has {} bytes, and {bytes_max} are allowed",
            source.len()
        ));
    }
    let longest = longest_tag(source);
    if longest > TAG_BYTES_MAX {
        return Err(format!(
            "the template has an expression of {longest} bytes, and {TAG_BYTES_MAX} are allowed"
        ));
    }
    Ok(())
}

/// Adds a source to the engine. Returns the first variable that it uses and that is not one of these.
///
/// # Errors
///
/// The source is no template.
pub(super) fn compile(
    environment: &mut Environment<'static>,
    source: &str,
    known: &[&str],
) -> Result<Option<String>, String> {
    let added = environment.add_template_owned(NAME, source.to_owned());
    added.map_err(|error| located(&error))?;
    let template = environment.get_template(NAME).map_err(|error| located(&error))?;
    let mut used: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    used.sort_unstable();
    // A function is a variable to the engine.
    let is_known = |name: &str| known.contains(&name) || FUNCTIONS.contains(&name);
    Ok(used.into_iter().find(|name| !is_known(name)))
}

/// Whether another record may fare better.
pub(super) fn is_of_record(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UndefinedError
            | ErrorKind::InvalidOperation
            | ErrorKind::NonPrimitive
            | ErrorKind::NonKey
            | ErrorKind::CannotUnpack
            | ErrorKind::BadSerialization
            | ErrorKind::OutOfFuel
    )
}

/// An error of the engine with its line.
pub(super) fn located(error: &Error) -> String {
    match error.line() {
        Some(line) => format!("{} (line {line})", sentence(error)),
        None => sentence(error),
    }
}

/// Writes a value so that it cannot leave its place.
pub(super) fn write_value(
    form: TemplateForm,
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            "the record has no such value; the filter default gives one in its place",
        ));
    }
    if form == TemplateForm::Json {
        let written = match value.as_str() {
            // Of the filter json, which makes the only safe texts.
            Some(json) if value.is_safe() => json.to_owned(),
            _ => message_filters::json_text(state, value)?,
        };
        message_filters::charge(state, written.len())?;
        return out.write_str(&written).map_err(Error::from);
    }
    let text = match value.kind() {
        ValueKind::None => String::new(),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => message_filters::json_text(state, value)?,
        _ => value.to_string(),
    };
    message_filters::charge(state, text.len())?;
    let written = match form {
        TemplateForm::Json | TemplateForm::Text => text,
        TemplateForm::Header => header_value(&text),
        TemplateForm::Address => percent_encoded(&text),
    };
    out.write_str(&written).map_err(Error::from)
}

/// A text in which only unreserved characters of RFC 3986 stay.
fn percent_encoded(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            written.push(char::from(byte));
        } else {
            write!(written, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a_record;

    fn render(source: &str, form: TemplateForm, record: &Record) -> Result<String, TemplateFailure> {
        MessageTemplate::parse(source, form, MessageSubject::of_record(record))
            .unwrap_or_else(|reason| panic!("{source}: {reason}"))
            .render(record)
    }

    fn json(source: &str, record: &Record) -> String {
        render(source, TemplateForm::Json, record).unwrap_or_else(|failure| panic!("{source}: {failure:?}"))
    }

    #[test]
    fn a_body_is_made_of_the_fields_of_the_record_and_values_are_written_as_json() {
        let record = a_record().path("/a/\"b").before("1").after("2").build();
        let check = |source, expected: &str| assert_eq!(json(source, &record), expected, "{source}");
        check(r#"{"path": {{ path }}}"#, r#"{"path": "/a/\"b"}"#);
        check("{{ names }}", r#"["a","\"b"]"#);
        check("{{ op ~ ' of ' ~ name }}", r#""update of \"b""#);
        check("{{ before.data.value }}", r#""1""#);
        check("{{ record.after.data.value | int + 1 }}", "3");
        check("[{{ run }}, {{ acl }}, {{ missed }}]", "[null, null, 0]");
        check("{% if op == 'delete' %}1{% endif %}", "");
    }

    #[test]
    fn a_service_event_has_its_own_fields() {
        let record = a_record()
            .path("/services/a")
            .control(crate::record::Op::Service)
            .build();
        assert_eq!(
            json("{{ service ~ ' ' ~ type }}", &record),
            r#""a instance.down""#
        );
        assert_eq!(json("{{ event.zone }}", &record), r#""az-1""#);
        assert_eq!(json("{{ leader }}", &record), "null");
    }

    #[test]
    fn no_value_leaves_its_place_in_any_form() {
        let hostile = "\",\"x\":1}\r\nhost: a/../?b#c&d=\u{202e}{{ 7 * 7 }}";
        let record = a_record().after(hostile).build();
        for filter in ["", "|safe", "|e", "|escape"] {
            let source = format!("{{\"v\":{{{{ after.data.value{filter} }}}}}}");
            let parsed = MessageTemplate::parse(&source, TemplateForm::Json, MessageSubject::Changes);
            let Ok(written) = parsed.unwrap().render(&record) else {
                assert!(!filter.is_empty());
                continue;
            };
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(read, serde_json::json!({"v": hostile}), "{filter}");
        }
        let header = render("x {{ after.data.value }}", TemplateForm::Header, &record).unwrap();
        assert!(
            header.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{header}"
        );
        let address = render("/{{ after.data.value }}", TemplateForm::Address, &record).unwrap();
        assert!(
            !address[1..].contains(['/', '?', '#', '&', '=', ' ', '\r']),
            "{address}"
        );
    }

    #[test]
    fn a_template_reads_nothing_and_ends_soon() {
        let record = a_record().after(vec![b'x'; 100_000]).build();
        for source in [
            "{% include 'a' %}",
            "{% import 'a' as b %}",
            "{% extends 'a' %}",
            "{% macro a() %}{{ a() }}{% endmacro %}",
            "{{ debug() }}",
            &format!("{{{{ {} }}}}", "1+".repeat(600)),
            &format!("{{{{ '}}}}' ~ {} }}}}", "1~".repeat(600)),
            &format!("{{% if {} %}}", "(".repeat(400)),
            &"{% if 1 %}".repeat(300),
            &"x".repeat(20_000),
            "{{ pth }}",
        ] {
            let parsed = MessageTemplate::parse(source, TemplateForm::Text, MessageSubject::Changes);
            assert!(parsed.is_err(), "{}", &source[..source.len().min(60)]);
        }
        for source in [
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
            "{{ 'x' * 2000000 }}",
            "{% for a in range(9999) %}{{ after.data.value | json | length }}{% endfor %}",
            "{% for a in range(9999) %}{{ after.data.value | truncate(50000) | length }}{% endfor %}",
            "{{ after.nothing }}",
            "{{ [[1] * 100000] * 100000 }}",
            "{{ ([after.data.value] * 100000) | json | length }}",
            "{{ ([after.data.value] * 100000) | join | length }}",
            "{{ ([after.data.value] * 100000) | string | length }}",
            "{{ ([after.data.value] * 100000) | upper | length }}",
            &format!(
                "{{% set a = [1] %}}{}{{{{ a }}}}",
                "{% set a = [a, a] %}".repeat(60)
            ),
            &format!(
                "{{% set a = [1] %}}{}{{{{ a | string }}}}",
                "{% set a = [a, a] %}".repeat(60)
            ),
            "{% set n = namespace(a=[]) %}{% for i in range(9000) %}{% set n.a = [n.a] %}{% endfor %}{{ n.a }}",
            "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
            "{% set n = namespace() %}{% set n.a = [n] %}{{ n | json }}",
        ] {
            let failure = render(source, TemplateForm::Text, &record).unwrap_err();
            assert!(failure.is_of_record, "{source}: {failure:?}");
        }
    }

    #[test]
    fn values_that_nest_without_end_are_neither_written_nor_compared() {
        let record = a_record().after(vec![b'x'; 100_000]).build();
        let deep = "{% set n = namespace(a=[]) %}{% for i in range(9000) %}{% set n.a = [n.a] %}{% endfor %}";
        let doubled = format!("{{% set a = [1] %}}{}", "{% set a = [a, a] %}".repeat(60));
        let zipped = format!(
            "{{% set a = [1] %}}{}",
            "{% set a = a | zip(a) | list %}".repeat(60)
        );
        let twins = format!(
            "{doubled}{{% set b = [1] %}}{}",
            "{% set b = [b, b] %}".repeat(60)
        );
        let nested = format!("{{% set a = [1] %}}{}", "{% set a = [a] %}".repeat(900));
        let lazy = "{% set n = namespace(a=[]) %}{% for i in range(9000) %}{% set n.a = [n.a] | chain([1]) %}{% endfor %}";
        let itself = "{% set n = namespace() %}{% set n.a = n %}";
        let others = "{% set n = namespace() %}{% set m = namespace(n=n) %}{% set n.m = [m] %}";
        for (make, used) in [
            (deep, "{{ n.a ~ '' }}"),
            (deep, "{{ n.a == [n.a] }}"),
            (lazy, "{{ n.a ~ '' }}"),
            (&*doubled, "{{ a ~ '' }}"),
            (&*doubled, "{{ a | pprint }}"),
            (&*doubled, "{{ a is in [[a]] }}"),
            (&*doubled, "{{ [a, [a]] | sort }}"),
            (&*doubled, "{{ '%s' | format(a) }}"),
            (&*twins, "{{ a == b }}"),
            (&*twins, "{{ a < b }}"),
            (&*twins, "{{ [a, b] | unique | list | length }}"),
            (&*zipped, "{{ a ~ '' }}"),
            (&*nested, "{{ a ~ '' }}"),
            (itself, "{{ n ~ '' }}"),
            (itself, "{{ n == namespace(a=n) }}"),
            (others, "{{ m ~ '' }}"),
            ("", "{{ 'a\nb' | indent(1000000000) }}"),
            ("", "{{ ['a\nb'] | map('indent', 1000000000) | list }}"),
            ("", "{% filter indent(1000000000) %}a\nb{% endfilter %}"),
            ("", "{{ '%1000000000d' | format(1) }}"),
            ("{% set s = 'x' * 999999 %}", "{{ ([s] * 9000) ~ '' }}"),
        ] {
            let failure = render(&format!("{make}{used}"), TemplateForm::Text, &record).unwrap_err();
            assert!(failure.is_of_record, "{used}: {failure:?}");
        }
        // The next template of the thread has its own limits.
        let usual = "{% set n = namespace(a=[], i=0) %}{% for x in range(900) %}{% set n.a = n.a + [x] %}\
                     {% set n.i = n.i + x %}{% endfor %}{{ n.a | length }} {{ n.i }} {{ [1, [2, {'a': 3}]] ~ '' }}";
        let expected = "900 404550 [1, [2, {'a': 3}]]";
        assert_eq!(
            render(usual, TemplateForm::Text, &record).as_deref(),
            Ok(expected)
        );
    }

    #[test]
    fn a_cycle_of_nothing_is_nothing() {
        let source =
            "{% for x in [1, 2] %}{{ loop.cycle() is undefined }}{{ loop.cycle('a', 'b') }}{% endfor %}";
        let rendered = render(source, TemplateForm::Text, &a_record().build());
        assert_eq!(rendered.as_deref(), Ok("TrueaTrueb"));
    }

    #[test]
    fn mistakes_are_found_with_examples_before_a_record_is_met() {
        let check = |source: &str, expected: &[&str]| {
            let found =
                MessageTemplate::objections("body", source, TemplateForm::Json, MessageSubject::Changes);
            let said: Vec<String> = found
                .iter()
                .map(|one| format!("{} {}", one.severity.as_str(), one.message))
                .collect();
            assert_eq!(said.len(), expected.len(), "{source}: {said:?}");
            for (said, part) in said.iter().zip(expected) {
                assert!(said.contains(part), "{source}: {said}");
            }
        };
        check(r#"{"text": {{ path }}}"#, &[]);
        check("{{ after.data.value | default('') }}", &[]);
        check(
            r#"{"text": "{{ path }}"}"#,
            &["error for an example of 'create': its result is no JSON"],
        );
        check("{{ path | jsn }}", &["error"]);
        check("{{ path", &["error it is no template"]);
        check("{{ pth }}", &["no change record has"]);
        check(
            "{{ after.data.value }}",
            &["warning it has no result for an example of"],
        );
    }
}
