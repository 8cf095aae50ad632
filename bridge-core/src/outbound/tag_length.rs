//! Measures the expressions of a template before it is compiled: the compiler needs stack for each operator of one, and an
//! overflow of the stack would end the process.

/// The length of the longest expression or statement in bytes, its delimiters included. One without an end counts up to
/// the end of the template.
pub(super) fn longest_tag(source: &str) -> usize {
    let bytes = source.as_bytes();
    let (mut at, mut longest) = (0, 0);
    while let Some(pair) = bytes.get(at..at + 2) {
        let end = match pair {
            b"{{" => end_of_tag(bytes, at, b"}}"),
            b"{%" => end_of_tag(bytes, at, b"%}"),
            b"{#" => {
                // A comment is not compiled.
                at = find(bytes, at + 2, b"#}");
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        longest = longest.max(end - at);
        at = end;
    }
    longest
}

/// The position after the first `close` from there on.
fn find(bytes: &[u8], from: usize, close: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let found = rest.windows(2).position(|pair| pair == close);
    found.map_or(bytes.len(), |found| from + found + 2)
}

/// The same outside of quotation marks.
fn end_of_tag(bytes: &[u8], start: usize, close: &[u8]) -> usize {
    let mut quote = None;
    let mut at = start + 2;
    while at < bytes.len() {
        let byte = bytes[at];
        match quote {
            Some(_) if byte == b'\\' => at += 1,
            Some(mark) if byte == mark => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None if bytes.get(at..at + 2) == Some(close) => return at + 2,
            None => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_ends_outside_of_its_texts() {
        let check = |source: &str, expected: usize| assert_eq!(longest_tag(source), expected, "{source}");
        check("", 0);
        check("{", 0);
        check("text }} {", 0);
        check("{{ a }}", 7);
        check("x{{a}}{% if a %}", 10);
        check("{{ '}}' }}", 10);
        check("{{ '\\'}}' ~ a }}", 16);
        check("{# '{{ # very long comment #}{{a}}", 5);
        check("{{ a", 4);
        check("{{ 'a", 5);
        check("{#", 0);
    }
}
