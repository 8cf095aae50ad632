//! Templates that only put values between fixed texts, as the default does. They are rendered for every record, and the
//! template engine takes longer for one than all the rest of a message.
//!
//! What is read here must give what the engine gives; whatever else a template says is left to the engine.

use super::{EMPTY, tokens};

/// A template in pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Cluster,
    Op,
    /// The names of the path through the filter.
    Names,
}

impl Plain {
    /// The pieces; `None` where the template says something else.
    pub(super) fn parse(source: &str) -> Option<Plain> {
        let mut pieces = Vec::new();
        let mut parts = source.split("{{");
        pieces.push(text(parts.next()?)?);
        for part in parts {
            let (expression, behind) = part.split_once("}}")?;
            pieces.push(value(expression)?);
            pieces.push(text(behind)?);
        }
        Some(Plain(pieces))
    }

    pub(super) fn render<'a>(&self, cluster: &str, op: &str, names: impl Iterator<Item = &'a str>) -> String {
        let names: Vec<&str> = names.collect();
        let mut rendered = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => rendered.push_str(text),
                Piece::Cluster => rendered.push_str(cluster),
                Piece::Op => rendered.push_str(op),
                Piece::Names if names.is_empty() => rendered.push_str(EMPTY),
                Piece::Names => rendered.push_str(&tokens(&names)),
            }
        }
        rendered
    }
}

/// A text that the engine takes as it stands: it drops a line feed at the end, and braces may begin something.
fn text(part: &str) -> Option<Piece> {
    let is_plain = !part.contains(['{', '}', '\n', '\r']);
    is_plain.then(|| Piece::Text(part.to_owned()))
}

fn value(expression: &str) -> Option<Piece> {
    let words: Vec<&str> = expression.split(' ').filter(|word| !word.is_empty()).collect();
    match words[..] {
        ["cluster"] => Some(Piece::Cluster),
        ["op"] => Some(Piece::Op),
        ["names", "|", "subject"] | ["names|subject"] => Some(Piece::Names),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_plain_is_read() {
        let check = |source: &str, is_plain: bool| {
            assert_eq!(Plain::parse(source).is_some(), is_plain, "{source:?}");
        };
        check("zk.{{ cluster }}.{{ names | subject }}", true);
        check("zk.{{cluster}}.{{names|subject}}.{{ op }}", true);
        check("zk", true);
        check("zk.{{ names[0] }}", false);
        check("zk.{{ path | subject }}", false);
        check("zk. {{- cluster -}} .x", false);
        check("zk.{{ cluster", false);
        check("zk.{% if op %}x{% endif %}", false);
        check("zk.{# a word #}{{ cluster }}", false);
        check("zk.{{ cluster }}\n", false);
        check("zk.{{ '}}' }}", false);
    }
}
