//! What holds for every source file.

use crate::project::{File, assert_none, assert_one, files, files_with};

/// A longer file has more than one subject.
const LINES_MAX: usize = 600;

/// Files that do not say at their top what they are for.
fn without_header(files: &[File]) -> Vec<String> {
    let begins = |file: &&File| !file.text.starts_with("//! ");
    let shown = |file: &File| {
        format!(
            "{} does not begin with '//! ' and what it is for",
            file.path.display()
        )
    };
    files.iter().filter(begins).map(shown).collect()
}

/// Files with more than one subject.
fn too_long(files: &[File]) -> Vec<String> {
    let shown = |file: &File| {
        let lines = file.text.lines().count();
        (lines > LINES_MAX)
            .then(|| format!("{} has {lines} lines, more than {LINES_MAX}", file.path.display()))
    };
    files.iter().filter_map(shown).collect()
}

/// Words that no file may hold, with the reason. Put together here, so that this file does not hold them.
fn forbidden(file: &File) -> Vec<(String, &'static str)> {
    let mut words = vec![
        (
            ["shared", "/"].concat(),
            "names a folder that is not in the project",
        ),
        (["/", "work/"].concat(), "names a place on one machine"),
        (["/", "root/"].concat(), "names a place on one machine"),
        (["<<<", "<<<< "].concat(), "a merge is not finished"),
    ];
    if file.has_extension("rs") {
        words.push((["#[", "ignore"].concat(), "a test that is not run proves nothing"));
        words.push((["to", "do!("].concat(), "something is not written"));
        words.push((["unimple", "mented!("].concat(), "something is not written"));
    }
    words
}

/// Lines with words that must not be there.
fn with_forbidden_words(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (word, reason) in forbidden(file) {
            let lines = file
                .text
                .lines()
                .enumerate()
                .filter(|(_, line)| line.contains(&word));
            complaints.extend(lines.map(|(at, line)| {
                format!(
                    "{}:{} '{word}': {reason}: {}",
                    file.path.display(),
                    at + 1,
                    line.trim()
                )
            }));
        }
    }
    complaints
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    assert_none(&without_header(&files_with("rs")));
}

#[test]
fn a_module_without_a_header_is_found() {
    let files = [
        ("a.rs", "//! Why.\n"),
        ("b.rs", "use std::fmt;\n"),
        ("c.rs", "//!\n"),
    ];
    let found = without_header(&files.map(|(path, text)| File::imagined(path, text)));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("b.rs does not begin"), "{found:?}");
}

#[test]
fn no_source_file_has_more_than_one_subject() {
    assert_none(&too_long(&files_with("rs")));
}

#[test]
fn a_source_file_that_is_too_long_is_found() {
    let lines = |count: usize| File::imagined("a.rs", &"\n".repeat(count));
    assert_none(&too_long(&[lines(LINES_MAX)]));
    assert_one(&too_long(&[lines(LINES_MAX + 1)]), "a.rs has 601 lines");
}

#[test]
fn nothing_is_left_out_unwritten_or_only_here() {
    assert_none(&with_forbidden_words(&files()));
}

#[test]
fn words_that_must_not_be_there_are_found() {
    let check = |path: &str, text: String, expected: &str| {
        assert_one(&with_forbidden_words(&[File::imagined(path, &text)]), expected);
    };
    check("a.md", ["see shared", "/notes.md"].concat(), "a.md:1");
    check("a.toml", ["x = 1\npath = \"/ro", "ot/x\""].concat(), "a.toml:2");
    check("Makefile", ["cd /wo", "rk/x"].concat(), "one machine");
    check("a.rs", ["#[", "ignore = \"slow\"]"].concat(), "proves nothing");
    check("a.rs", ["to", "do!(\"later\")"].concat(), "not written");
    assert_none(&with_forbidden_words(&[File::imagined(
        "a.md",
        &["to", "do!()"].concat(),
    )]));
}
