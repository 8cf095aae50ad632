//! Rules for every source file.

use std::path::Path;

use crate::project::{File, assert_none, assert_one, files, files_with};

/// Lines of code of a file: neither blank nor a comment. A longer file has more than one subject.
const LINES_MAX: usize = 500;

/// Files that may be longer, with their lines of code: a ratchet. Lower a number with every line that goes, never raise
/// one, and never add a file.
const LONGER: &[(&str, usize)] = &[];

/// Files without a first line that states their purpose.
fn without_header(files: &[File]) -> Vec<String> {
    let begins = |file: &&File| !file.text.starts_with("//! ");
    let shown = |file: &File| {
        format!(
            "{} does not begin with '//! ' and its purpose",
            file.path.display()
        )
    };
    files.iter().filter(begins).map(shown).collect()
}

/// Files with more than one subject.
fn too_long(files: &[File], longer: &[(&str, usize)]) -> Vec<String> {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let shown = |file: &File| {
        let lines = file.text.lines().filter(is_code).count();
        let listed = longer
            .iter()
            .find(|(path, _)| file.path.as_path() == Path::new(path));
        let max = listed.map_or(LINES_MAX, |(_, max)| *max);
        (lines > max).then(|| {
            format!(
                "{} has {lines} lines of code, more than {max}",
                file.path.display()
            )
        })
    };
    files.iter().filter_map(shown).collect()
}

/// Words that no file may contain, with the reason. They are assembled here, so that this file does not contain them.
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
        words.push((["#[", "ignore"].concat(), "an ignored test proves nothing"));
        words.push((["to", "do!("].concat(), "something is not written"));
        words.push((["unimple", "mented!("].concat(), "something is not written"));
    }
    words
}

/// Lines with forbidden words.
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
fn every_module_begins_with_its_purpose() {
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
    assert_none(&too_long(&files_with("rs"), LONGER));
}

#[test]
fn a_source_file_that_is_too_long_is_found() {
    let lines = |count: usize| [File::imagined("a.rs", &"// why\n\nuse x;\n".repeat(count))];
    assert_none(&too_long(&lines(LINES_MAX), &[]));
    assert_one(
        &too_long(&lines(LINES_MAX + 1), &[]),
        "a.rs has 501 lines of code",
    );
    let longer = [("a.rs", LINES_MAX + 1)];
    assert_none(&too_long(&lines(LINES_MAX + 1), &longer));
    assert_one(&too_long(&lines(LINES_MAX + 2), &longer), "more than 501");
}

#[test]
fn no_file_holds_ignored_tests_unwritten_code_or_local_paths() {
    assert_none(&with_forbidden_words(&files()));
}

#[test]
fn forbidden_words_are_found() {
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
