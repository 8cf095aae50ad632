//! Renders templates that only put values between fixed texts, as the defaults do. A name is rendered for every record,
//! and the template engine takes longer for it than all other work on a message.
//!
//! The result must equal that of the engine; any other template is left to the engine.

use super::template::{TemplateValues, TextFilter};

/// A template in pieces.
pub(super) struct Plain {
    pieces: Vec<Piece>,
    filters: Vec<TextFilter>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Cluster,
    Op,
    /// The names of the path through a filter, by its position.
    Names(usize),
}

impl Plain {
    /// The pieces; `None` if the template has anything else.
    pub(super) fn parse(source: &str, filters: Vec<TextFilter>) -> Option<Plain> {
        let mut pieces = Vec::new();
        let mut parts = source.split("{{");
        pieces.push(text(parts.next()?)?);
        for part in parts {
            let (expression, rest) = part.split_once("}}")?;
            pieces.push(value(expression, &filters)?);
            pieces.push(text(rest)?);
        }
        Some(Plain { pieces, filters })
    }

    pub(super) fn render(&self, values: TemplateValues<'_>) -> String {
        let mut rendered = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => rendered.push_str(text),
                Piece::Cluster => rendered.push_str(values.cluster),
                Piece::Op => rendered.push_str(values.op),
                Piece::Names(filter) => {
                    let names: Vec<&str> = values.path.names().collect();
                    rendered.push_str(&(self.filters[*filter].write)(&names));
                }
            }
        }
        rendered
    }
}

/// A text that the engine does not change: it drops a line feed at the end, and braces may begin something.
fn text(part: &str) -> Option<Piece> {
    let is_plain = !part.contains(['{', '}', '\n', '\r']);
    is_plain.then(|| Piece::Text(part.to_owned()))
}

fn value(expression: &str, filters: &[TextFilter]) -> Option<Piece> {
    let words: Vec<&str> = expression.split('|').map(|word| word.trim_matches(' ')).collect();
    match words[..] {
        ["cluster"] => Some(Piece::Cluster),
        ["op"] => Some(Piece::Op),
        ["names", name] => {
            let at = filters.iter().position(|filter| filter.name == name)?;
            Some(Piece::Names(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::name_template::NameRules;
    use super::*;

    const RULES: NameRules = NameRules {
        option: "subject",
        filter: |names| names.join("."),
        further: &[("joined", |names| names.join("-"))],
        meaning: "a name",
        length_max: 100,
        reason_against: |_| None,
        remedy: "",
    };

    #[test]
    fn only_what_is_surely_plain_is_read() {
        let check = |source: &str, is_plain: bool| {
            assert_eq!(
                Plain::parse(source, RULES.filters().collect()).is_some(),
                is_plain,
                "{source:?}"
            );
        };
        check("zk.{{ cluster }}.{{ names | subject }}", true);
        check("zk.{{cluster}}.{{names|subject}}.{{ op }}", true);
        check("zk", true);
        check("zk.{{ names | joined }}", true);
        check("zk.{{ names[0] }}", false);
        check("zk.{{ names subject }}", false);
        check("zk.{{ names | topic }}", false);
        check("zk.{{ | names subject }}", false);
        check("zk.{{ path | subject }}", false);
        check("zk. {{- cluster -}} .x", false);
        check("zk.{{ cluster", false);
        check("zk.{% if op %}x{% endif %}", false);
        check("zk.{# a word #}{{ cluster }}", false);
        check("zk.{{ cluster }}\n", false);
        check("zk.{{ '}}' }}", false);
    }
}
