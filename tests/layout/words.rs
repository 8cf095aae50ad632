//! Words that the product and its documents avoid, because a plainer one of the field exists.
//!
//! `WORDS` is a ratchet: lower a count with every use that goes, never raise it. The uses that remain have the ordinary
//! sense of the word, such as "behind a proxy".

use crate::project::{File, assert_none, assert_one, files, is_product};

/// A word, how often it may still be used, and what to write instead.
const WORDS: &[(&str, usize, &str)] = &[
    (
        "told",
        3,
        "a record is delivered, a method is called, a value is set",
    ),
    ("tells", 0, "says, shows, returns, delivers"),
    ("behind", 13, "after"),
    ("stands", 0, "is"),
    ("for ever", 0, "without a limit"),
    ("wishes", 0, "requests"),
];

/// How often the word is in the text, in any case; an underscore separates words, so that names count too.
fn uses(text: &str, word: &str) -> usize {
    let text = text.to_lowercase();
    let is_end = |char: Option<char>| !char.is_some_and(char::is_alphanumeric);
    text.match_indices(word)
        .filter(|(at, _)| is_end(text[..*at].chars().next_back()))
        .filter(|(at, _)| is_end(text[at + word.len()..].chars().next()))
        .count()
}

/// Words that are used more often than they may be.
fn overused(files: &[File], words: &[(&str, usize, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (word, max, instead) in words {
        let counts: Vec<(usize, &File)> = files
            .iter()
            .filter(|file| file.has_extension("md") || is_product(file))
            .map(|file| (uses(&file.text, word), file))
            .filter(|(count, _)| *count > 0)
            .collect();
        let total: usize = counts.iter().map(|(count, _)| count).sum();
        if total > *max {
            let places: Vec<String> = counts
                .iter()
                .map(|(count, file)| format!("{} {count}", file.path.display()))
                .collect();
            complaints.push(format!(
                "'{word}' is used {total} times, {max} are allowed; write instead: {instead}\n  {}",
                places.join("\n  ")
            ));
        }
    }
    complaints
}

#[test]
fn no_avoided_word_is_used_more_often_than_before() {
    assert_none(&overused(&files(), WORDS));
}

#[test]
fn an_avoided_word_that_is_used_once_more_is_found() {
    let files = [
        File::imagined("bridge-core/src/a.rs", "/// Told once.\nfn nobody_is_told() {}\n"),
        File::imagined("docs/a.md", "It is told, and foretold, toldly.\n"),
        File::imagined("tests/chaos/src/a.rs", "// told\n"),
    ];
    assert_none(&overused(&files, &[("told", 3, "said")]));
    assert_one(
        &overused(&files, &[("told", 2, "said"), ("behind", 0, "after")]),
        "'told' is used 3 times, 2 are allowed; write instead: said\n  bridge-core/src/a.rs 2\n  docs/a.md 1",
    );
}
