//! Templates for files: the znodes of a subtree as one text.
//!
//! *Invariants.* A value never leaves its line: a text with a line feed or another control character is an error, unless
//! the template asks for it, and in JSON each value is written as JSON. The same subtree gives the same text. Work and
//! memory are bounded, and nothing reads a file or another template.

use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::de::IgnoredAny;

use super::message_filters::{self, charge};
use super::message_template::{
    TemplateFailure, TemplateForm, check_lengths, compile, is_of_record, located, write_value,
};
use super::message_variables::value_of;
use super::template::NAME;
use super::tree_values::{TreeValues, VARIABLES};
use crate::issue::ConfigIssue;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Data, DataForm, Stat, parsed_json};
use crate::subtree::{Subtree, SubtreeCompleteness, SubtreeLimit, SubtreeZnode};

/// The longest template in bytes: that of the longest file that a reference brings in.
const TREE_SOURCE_BYTES_MAX: usize = 64 << 10;

/// The work of one text, in units of the engine: about an instruction each, or 64 bytes of text. A few seconds at most,
/// and 200 units for each of 100,000 znodes.
const TREE_FUEL: u64 = 20_000_000;

/// The characters of a word besides letters and digits: those of host names, addresses, paths and numbers.
const WORD_CHARACTERS: &str = "._-:/@+=[]";

/// A template for a file, compiled once.
pub struct TreeTemplate {
    environment: Environment<'static>,
    form: TemplateForm,
}

impl TreeTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// The source is no template, too long, or uses a variable that there is not.
    pub fn parse(source: &str, form: TemplateForm) -> Result<TreeTemplate, String> {
        check_lengths(source, TREE_SOURCE_BYTES_MAX)?;
        let mut environment = Environment::new();
        // Lines that only have statements leave nothing, and the last line feed stays.
        let mut syntax = SyntaxConfig::builder();
        syntax
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true);
        environment.set_syntax(syntax.build().map_err(|error| located(&error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(TREE_FUEL));
        environment.set_formatter(move |out, state, value| write(form, out, state, value));
        message_filters::add_to(&mut environment);
        environment.add_filter("from_json", from_json);
        environment.add_filter("multiline", multiline);
        environment.add_filter("word", word);
        environment.add_test("word", |value: &Value| is_word(value));
        environment.add_test("json", is_json);
        if let Some(unknown) = compile(&mut environment, source, &VARIABLES)? {
            return Err(format!(
                "it uses '{unknown}', which there is not; the variables are {}",
                VARIABLES.join(", ")
            ));
        }
        Ok(TreeTemplate { environment, form })
    }

    /// The text for a subtree, of at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Panics
    ///
    /// Never: the engine writes whole texts.
    pub fn render(&self, subtree: &Arc<Subtree>, bytes_max: usize) -> Result<String, TemplateFailure> {
        let mut text = BoundedText {
            bytes: Vec::new(),
            max: bytes_max,
            is_full: false,
        };
        let values = TreeValues::of(subtree);
        let rendered = self.environment.get_template(NAME).and_then(|template| {
            template
                .render_captured_to(values.variables(), &mut text)
                .map(drop)
        });
        if text.is_full {
            return Err(TemplateFailure {
                reason: format!("its result has more than {bytes_max} bytes"),
                is_of_record: true,
            });
        }
        rendered.map_err(|error| {
            let is_of_record = is_of_record(error.kind());
            let used = values.last_used().filter(|_| is_of_record);
            let used = used.map(|path| format!("; the last value that it used is that of {}", path.brief()));
            TemplateFailure {
                reason: located(&error) + &used.unwrap_or_default(),
                is_of_record,
            }
        })?;
        let text = String::from_utf8(text.bytes).expect("the engine writes whole texts");
        if self.form == TemplateForm::Json
            && let Err(error) = serde_json::from_str::<IgnoredAny>(&text)
        {
            return Err(TemplateFailure {
                reason: format!(
                    "its result is no JSON: {error}; {{{{ value }}}} writes quotation marks itself, and {{{{ \
                     loop.last }}}} shows where no comma follows"
                ),
                is_of_record: true,
            });
        }
        Ok(text)
    }

    /// Everything about a template that is wrong: it is compiled, and rendered over a small example. A failure that
    /// another subtree would not have is none.
    pub fn objections(key: &str, source: &str, form: TemplateForm) -> Vec<ConfigIssue> {
        let object = |reason: String| {
            let message = format!("it is no template for files: {reason}");
            vec![ConfigIssue::error(
                key,
                message,
                "correct it, see docs/sinks/render.md",
            )]
        };
        let template = match TreeTemplate::parse(source, form) {
            Ok(template) => template,
            Err(reason) => return object(reason),
        };
        match template.render(&Arc::new(example()), super::template::RESULT_BYTES_MAX) {
            Err(failure) if !failure.is_of_record => object(failure.reason),
            _ => Vec::new(),
        }
    }
}

/// A text that takes no more than its limit.
struct BoundedText {
    bytes: Vec<u8>,
    max: usize,
    is_full: bool,
}

impl io::Write for &mut BoundedText {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.max {
            self.is_full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two instances of a service, with znodes of two levels below them.
fn example() -> Subtree {
    let path = |path: &str| ZnodePath::parse(path).expect("the example has paths");
    let (top, seq) = ("/services/example", Seq(1));
    let complete = SubtreeCompleteness::Complete;
    let mut subtree = Subtree::new("main".into(), path(top), seq, complete);
    for (below, data) in [
        ("", ""),
        ("/10.0.0.7:8080", r#"{"address":"10.0.0.7","port":8080}"#),
        ("/10.0.0.7:8080/health", "ok"),
        ("/10.0.0.7:8080/health/since", "1"),
        ("/10.0.0.8:8080", r#"{"address":"10.0.0.8","port":8080}"#),
    ] {
        let znode = SubtreeZnode {
            path: path(&format!("{top}{below}")),
            stat: Some(Stat::default()),
            data: Some(Data::limited(data.as_bytes(), DataForm::Auto, 1_024)),
        };
        let limit = SubtreeLimit {
            znodes: 5,
            bytes: 1_024,
        };
        subtree.add(znode, limit).expect("the example is small");
    }
    subtree
}

/// Writes a value so that it cannot leave its place.
fn write(
    form: TemplateForm,
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            "there is no such znode or value; the filter default gives one in its place",
        ));
    }
    if form != TemplateForm::Json
        && !value.is_safe()
        && let Some(text) = value.as_str()
        && let Some(control) = text.chars().find(|letter| is_control(*letter))
    {
        return Err(refused(format!(
            "a value has the control character {control:?}, which could begin another line: the filter multiline writes \
             it as it is, the filter json as a text in quotation marks"
        )));
    }
    write_value(form, out, state, value)
}

fn is_control(letter: char) -> bool {
    letter != '\t' && (letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}'))
}

/// `multiline`: a text as it is, line feeds included.
fn multiline(state: &State<'_, '_>, text: &str) -> Result<Value, Error> {
    charge(state, text.len())?;
    Ok(Value::from_safe_string(text.to_owned()))
}

/// `from_json`: the document in a text.
fn from_json(state: &State<'_, '_>, text: &str) -> Result<Value, Error> {
    charge(state, text.len())?;
    let document = parsed_json(text);
    let document = document.map_err(|error| {
        refused(format!(
            "from_json: the text is no JSON: {error}; the test 'is json' leaves such values out"
        ))
    })?;
    Ok(value_of(document))
}

/// `is json`: whether `from_json` takes the value.
fn is_json(state: &State<'_, '_>, value: &Value) -> Result<bool, Error> {
    let Some(text) = value.as_str() else {
        return Ok(false);
    };
    charge(state, text.len())?;
    Ok(parsed_json(text).is_ok())
}

/// `word`: the value, if it is a word.
fn word(value: &Value) -> Result<Value, Error> {
    match is_word(value) {
        true => Ok(value.clone()),
        false => Err(refused(format!(
            "word: a {} is no word of letters, digits and {WORD_CHARACTERS}; the test 'is word' leaves such values out",
            value.kind()
        ))),
    }
}

/// Whether a value is a number or a text of letters, digits and a few other characters, so that it can end no directive of
/// any usual configuration.
fn is_word(value: &Value) -> bool {
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || WORD_CHARACTERS.contains(letter);
    match value.as_str() {
        Some(text) => !text.is_empty() && text.chars().all(is_of_word),
        None => value.is_number(),
    }
}

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Option<Data> {
        Some(Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20))
    }

    fn subtree(top: &str, znodes: &[(&str, Option<Data>)]) -> Arc<Subtree> {
        let path = |path: &str| ZnodePath::parse(path).unwrap();
        let complete = SubtreeCompleteness::Complete;
        let mut subtree = Subtree::new("main".into(), path(top), Seq(7), complete);
        for (at, data) in znodes {
            let znode = SubtreeZnode {
                path: path(at),
                stat: Some(Stat::default()),
                data: data.clone(),
            };
            let limit = SubtreeLimit {
                znodes: 100,
                bytes: 1 << 20,
            };
            subtree.add(znode, limit).unwrap();
        }
        Arc::new(subtree)
    }

    /// Two servers with a port each, and a limit.
    fn servers() -> Arc<Subtree> {
        subtree(
            "/up",
            &[
                ("/up", data("")),
                ("/up/limit", data("10")),
                ("/up/servers", data("")),
                (
                    "/up/servers/a",
                    data(r#"{"port": 1, "big": 12345678901234567890}"#),
                ),
                ("/up/servers/a/zone", data("z")),
                ("/up/servers/b", data(r#"{"port": 2}"#)),
            ],
        )
    }

    fn render_as(form: TemplateForm, source: &str, subtree: &Arc<Subtree>) -> Result<String, String> {
        let template =
            TreeTemplate::parse(source, form).unwrap_or_else(|reason| panic!("{source}: {reason}"));
        template.render(subtree, 10_000).map_err(|failure| failure.reason)
    }

    fn render(source: &str, subtree: &Arc<Subtree>) -> Result<String, String> {
        render_as(TemplateForm::Text, source, subtree)
    }

    #[test]
    fn a_text_is_made_of_the_znodes_below_a_path() {
        let check = |source: &str, expected: &str| {
            assert_eq!(render(source, &servers()).as_deref(), Ok(expected), "{source}")
        };
        check(
            "{% for server in node.get('servers').children %}\n  {{ server.name }}:{{ (server.value | from_json).port }};\n{% endfor %}\n}\n",
            "  a:1;\n  b:2;\n}\n",
        );
        check("{{ node.get('limit').value | int + 1 }}", "11");
        check(
            "{{ node.get('/up/limit').path }} {{ cluster }} {{ path }}",
            "/up/limit main /up",
        );
        check("{{ node.get('none').value | default('5') }}", "5");
        check(
            "{% for a in node.get('none').children %}{{ a }}{% endfor %}.",
            ".",
        );
        check(
            "{% for a in nodes %}{{ a.name }} {% endfor %}",
            "up limit servers a zone b ",
        );
        check(
            "{% for a in node.get('servers').below %}{{ a }} {% endfor %}",
            "/up/servers/a /up/servers/a/zone /up/servers/b ",
        );
        check("{{ node.children | length }}", "2");
        check(
            "{{ (node.get('servers/a').value | from_json).big }}",
            "12345678901234567890",
        );
        check(
            "{{ node.get('limit').version }} {{ node.get('limit').encoding }} {{ node.get('limit').size }}",
            "0 utf8 2",
        );
        check(
            "{{ node.get('limit').ephemeral }} {{ node.get('limit').czxid }}",
            "False 0x0000000000000000",
        );
        check("{% if node %}here{% else %}gone{% endif %}", "here");
        let gone = subtree("/up", &[]);
        assert_eq!(
            render("{% if node %}here{% else %}gone{% endif %}", &gone).as_deref(),
            Ok("gone")
        );
    }

    #[test]
    fn a_document_with_a_key_of_the_json_library_is_never_taken_for_the_text_in_it() {
        let value = r#"{"$serde_json::private::RawValue":"{\"w\":666}"}"#;
        let tree = subtree("/a", &[("/a", data(value))]);
        let refused = render("{{ node.value | from_json }}", &tree).unwrap_err();
        assert!(refused.contains("a key of the JSON library"), "{refused}");
        assert_eq!(render("{{ node.value is json }}", &tree).as_deref(), Ok("False"));
    }

    #[test]
    fn no_value_leaves_its_line_unless_the_template_asks_for_it() {
        let hostile = subtree("/a", &[("/a", data("x;\n}\r\ninclude /etc/passwd;\u{2028}"))]);
        for source in [
            "{{ node.value }}",
            "{{ 'x' ~ node.value }}",
            "{{ node.value | upper }}",
        ] {
            let refused = render(source, &hostile).unwrap_err();
            assert!(refused.contains("multiline"), "{source}: {refused}");
        }
        assert!(
            render("{{ node.value | multiline }}", &hostile)
                .unwrap()
                .contains("}\r\n")
        );
        let quoted = render("{{ node.value | json }}", &hostile).unwrap();
        assert!(quoted.starts_with(r#""x;\n}\r\n"#), "{quoted}");
        let json = render_as(TemplateForm::Json, r#"{"v": {{ node.value }}}"#, &hostile).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["v"], "x;\n}\r\ninclude /etc/passwd;\u{2028}");
        let cut = render_as(TemplateForm::Json, r#"[{{ path }},]"#, &hostile).unwrap_err();
        assert!(cut.contains("no JSON"), "{cut}");
    }

    #[test]
    fn a_word_ends_no_directive_and_a_value_that_is_none_can_be_left_out() {
        let check = |value: &str, expected: bool| {
            let tree = subtree("/a", &[("/a", data(value))]);
            let tested = render("{% if node.value is word %}yes{% endif %}", &tree).unwrap();
            assert_eq!(tested == "yes", expected, "{value:?}");
            assert_eq!(
                render("{{ node.value | word }}", &tree).is_ok(),
                expected,
                "{value:?}"
            );
        };
        for word in [
            "10.0.0.7:8080",
            "[::1]:80",
            "host-1.example.com",
            "/var/run/a.sock",
            "a=b+c",
        ] {
            check(word, true);
        }
        for other in [
            "", "a b", "a;", "}", "{", "\"", "'", "a\nb", "$x", "`x`", "ü", "a#", "<", "\\", "|", "&", "*",
        ] {
            check(other, false);
        }
    }

    #[test]
    fn a_value_that_is_not_that_of_the_znode_is_never_written() {
        let cut = Some(Data::limited(b"0123456789", DataForm::Auto, 4));
        let masked = Some(Data {
            form: DataForm::Masked,
            ..data("hmac-sha256:k:d").unwrap()
        });
        let tree = subtree("/a", &[("/a", None), ("/a/cut", cut), ("/a/masked", masked)]);
        let check = |source: &str, part: &str| {
            let refused = render(source, &tree).unwrap_err();
            assert!(refused.contains(part), "{source}: {refused}");
        };
        check("{{ node.value }}", "no such znode or value");
        check("{{ node.get('cut').value }}", "was cut at max_data");
        check(
            "{{ node.get('cut').value | default('1') }}",
            "was cut at max_data",
        );
        check("{{ node.get('masked').value }}", "is masked");
        check("{% if node.get('masked').value == 'a' %}{% endif %}", "is masked");
        assert_eq!(render("{{ node.get('cut').size }}", &tree).as_deref(), Ok("10"));
    }

    #[test]
    fn a_value_that_is_no_json_can_be_left_out_and_its_znode_is_named_where_it_is_not() {
        let values = [
            ("/a", ""),
            ("/a/b", r#"{"port": 1}"#),
            ("/a/c", "host:1"),
            ("/a/d", "7"),
        ];
        let znodes: Vec<(&str, Option<Data>)> = values
            .into_iter()
            .map(|(path, text)| (path, data(text)))
            .collect();
        let tree = subtree("/a", &znodes);
        let each = |test: &str| {
            format!(
                "{{% for z in node.children {test} %}}{{{{ z.name }}}}:{{{{ (z.value | from_json).port | default('-') }}}} {{% endfor %}}"
            )
        };
        let refused = render(&each(""), &tree).unwrap_err();
        for part in [
            "from_json: the text is no JSON",
            "'is json' leaves such values out",
            "that of /a/c",
        ] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
        assert_eq!(
            render(&each("if z.value is json"), &tree).as_deref(),
            Ok("b:1 d:- ")
        );
    }

    #[test]
    fn a_template_reads_nothing_and_its_work_and_its_text_are_bounded() {
        for source in [
            "{% include 'a' %}",
            "{% macro a() %}{% endmacro %}",
            "{{ now() }}",
            "{{ record }}",
            "{{ node",
            &"x".repeat(70_000),
            &format!("{{{{ {} }}}}", "1+".repeat(600)),
        ] {
            let parsed = TreeTemplate::parse(source, TemplateForm::Text);
            assert!(parsed.is_err(), "{}", &source[..source.len().min(60)]);
        }
        let tree = servers();
        let check = |source: &str, part: &str| {
            let refused = render(source, &tree).unwrap_err();
            assert!(refused.contains(part), "{source}: {refused}");
        };
        check(
            "{% for a in range(9999) %}0123456789{% endfor %}",
            "more than 10000 bytes",
        );
        check(
            "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}",
            "fuel",
        );
    }

    #[test]
    fn mistakes_are_found_before_a_tree_is_met_and_values_that_are_missing_are_none() {
        let check = |source: &str, form, is_wrong: bool| {
            let found = TreeTemplate::objections("template", source, form);
            assert_eq!(!found.is_empty(), is_wrong, "{source}: {found:?}");
        };
        check(
            "{% for a in node.children %}{{ a.name }}{% endfor %}",
            TemplateForm::Text,
            false,
        );
        check("{{ node.get('limit').value }}", TemplateForm::Text, false);
        check("{{ (node.value | from_json).a }}", TemplateForm::Text, false);
        check("{{ node.nam | nothing }}", TemplateForm::Text, true);
        check("{{ nod }}", TemplateForm::Text, true);
        check(
            "{% for a in node.children %}{% for b in a.children %}{{ b.value | nosuch }}{% endfor %}{% endfor %}",
            TemplateForm::Text,
            true,
        );
        check("{% if node is wrd %}{% endif %}", TemplateForm::Text, true);
        check("{% for a in node %}", TemplateForm::Text, true);
        check("[{{ path }}]", TemplateForm::Json, false);
    }
}
