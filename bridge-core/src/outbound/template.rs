//! Templates for names over a record, with the limits of the template engine for all templates.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};

use crate::path::ZnodePath;

/// The variables that a template can use.
pub(super) const VARIABLES: [&str; 5] = ["cluster", "root", "path", "op", "names"];

/// The work of one result, in units of the engine: about an instruction each, or 64 bytes of text. A loop cannot stop a
/// sink, and a result takes 6.4 MB of memory at most while it is made.
pub(super) const FUEL: u64 = 100_000;

/// The longest expression of a template in bytes, and the longest template for names. The engine needs stack for each
/// operator of an expression, before there is any fuel.
pub(super) const TAG_BYTES_MAX: usize = 1_024;

/// The longest result in bytes.
pub(super) const RESULT_BYTES_MAX: usize = 1 << 20;

/// The template's name inside the engine.
pub(super) const NAME: &str = "template";

/// A template, compiled once.
pub(super) struct Template {
    environment: Environment<'static>,
    variables: Vec<String>,
}

/// The values of the variables.
#[derive(Clone, Copy)]
pub(super) struct TemplateValues<'a> {
    pub(super) cluster: &'a str,
    pub(super) root: &'a ZnodePath,
    pub(super) path: &'a ZnodePath,
    pub(super) op: &'a str,
}

/// A filter that takes a text or a list of texts.
#[derive(Clone, Copy)]
pub(super) struct TextFilter {
    pub(super) name: &'static str,
    pub(super) write: fn(&[&str]) -> String,
}

/// Why a source is no template.
pub(super) enum Unusable {
    TooLong(String),
    Syntax(String),
    Variable(String),
}

impl Template {
    pub(super) fn compile(source: &str, filters: &[TextFilter]) -> Result<Template, Unusable> {
        if source.len() > TAG_BYTES_MAX {
            let length = source.len();
            let message = format!("the template has {length} bytes, and {TAG_BYTES_MAX} are allowed");
            return Err(Unusable::TooLong(message));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        for &TextFilter { name, write } in filters {
            environment.add_filter(name, move |value: &Value| filtered(name, write, value));
        }
        let added = environment.add_template_owned(NAME, source.to_owned());
        added.map_err(|error| Unusable::Syntax(sentence(&error)))?;
        let template = environment.get_template(NAME);
        let template = template.map_err(|error| Unusable::Syntax(sentence(&error)))?;
        let mut variables: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        variables.sort_unstable();
        match variables.iter().find(|name| !VARIABLES.contains(&name.as_str())) {
            Some(unknown) => Err(Unusable::Variable(unknown.clone())),
            None => Ok(Template {
                environment,
                variables,
            }),
        }
    }

    /// The variables that it uses, sorted.
    pub(super) fn variables(&self) -> &[String] {
        &self.variables
    }

    /// The result, or why there is none.
    pub(super) fn render(&self, values: TemplateValues<'_>) -> Result<String, String> {
        let TemplateValues { cluster, op, .. } = values;
        let (root, path) = (values.root.as_str(), values.path.as_str());
        let names: Value = values.path.names().map(Value::from).collect();
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(context! { cluster, root, path, op, names }))
            .map_err(|error| sentence(&error))?;
        if rendered.len() > RESULT_BYTES_MAX {
            return Err(format!(
                "it has {} bytes, and {RESULT_BYTES_MAX} are allowed",
                rendered.len()
            ));
        }
        Ok(rendered)
    }
}

fn filtered(name: &str, write: fn(&[&str]) -> String, value: &Value) -> Result<String, Error> {
    let values = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.collect(),
        _ => vec![value.clone()],
    };
    let text = |value| {
        Value::as_str(value).ok_or_else(|| {
            let message = format!(
                "the filter {name} takes a text or a list of texts, not {}",
                value.kind()
            );
            Error::new(ErrorKind::InvalidOperation, message)
        })
    };
    let texts: Vec<&str> = values.iter().map(text).collect::<Result<_, _>>()?;
    Ok(write(&texts))
}

/// An error of the template engine in one line.
pub(super) fn sentence(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_works_without_end_or_makes_a_huge_text_has_no_result() {
        let filter = TextFilter {
            name: "joined",
            write: |names| names.join("."),
        };
        let path = ZnodePath::parse("/a/b").unwrap();
        let render = |source: &str| {
            let template = Template::compile(source, &[filter]).ok().unwrap();
            template.render(TemplateValues {
                cluster: "main",
                root: &path,
                path: &path,
                op: "update",
            })
        };
        assert_eq!(render("{{ names | joined }}").as_deref(), Ok("a.b"));
        let loops = "{% for a in [1] * 9999 %}{% for b in [1] * 9999 %}{{ a }}{% endfor %}{% endfor %}";
        for (source, expected) in [(loops, "fuel"), ("{{ 'x' * 2000000 }}", "1048576 are allowed")] {
            let reason = render(source).unwrap_err();
            assert!(reason.contains(expected), "{source}: {reason}");
        }
    }
}
