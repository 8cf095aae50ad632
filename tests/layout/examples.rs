//! Code blocks of documents equal the files that they show. A fenced block names the file after its language. It shows the
//! whole file if that is an example, otherwise lines of it in their order, with `…` for omitted ones.

use std::path::Path;

use crate::markdown::{Block, parted};
use crate::project::{File, assert_none, assert_one, files};

/// Files below this are shown whole, so that readers can build them.
const EXAMPLES: &str = "examples";

/// The mark for omitted lines.
const LEFT_OUT: &str = "…";

/// The file that a block shows.
fn shown(block: &Block) -> Option<&Path> {
    let (_, path) = block.language.split_once(' ')?;
    Some(Path::new(path))
}

/// Blocks that differ from their file.
fn drifted(project: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in project.iter().filter(|file| file.has_extension("md")) {
        for block in parted(&document.text).0 {
            let Some(path) = shown(&block) else { continue };
            if let Some(reason) = drift(project, path, &block.text) {
                let place = format!("{}:{}", document.path.display(), block.line);
                complaints.push(format!("{place} shows {} otherwise: {reason}", path.display()));
            }
        }
    }
    complaints
}

fn drift(project: &[File], path: &Path, text: &str) -> Option<String> {
    let Some(file) = project.iter().find(|file| file.path == path) else {
        return Some("the project has no such file".to_owned());
    };
    if path.starts_with(EXAMPLES) {
        return different(&file.text, text);
    }
    let mut lines = file.text.lines();
    let wanted = text.lines().filter(|line| line.trim() != LEFT_OUT);
    let mut missing = wanted.filter(|wanted| !lines.any(|line| line.trim() == wanted.trim()));
    missing
        .next()
        .map(|line| format!("the line '{}' is not there, or not in this order", line.trim()))
}

fn different(whole: &str, shown: &str) -> Option<String> {
    let mut pairs = whole.lines().zip(shown.lines());
    if let Some((line, _)) = pairs.find(|(line, shown)| line != shown) {
        return Some(format!("the file has the line '{}'", line.trim()));
    }
    (whole.lines().count() != shown.lines().count()).then(|| "one of them is longer".to_owned())
}

/// Files of an example that no document shows.
fn not_shown(project: &[File]) -> Vec<String> {
    let documents = project.iter().filter(|file| file.has_extension("md"));
    let blocks: Vec<Block> = documents.flat_map(|document| parted(&document.text).0).collect();
    let is_shown = |file: &File| blocks.iter().filter_map(shown).any(|path| path == file.path);
    let examples = project.iter().filter(|file| file.path.starts_with(EXAMPLES));
    examples
        .filter(|file| !is_shown(file))
        .map(|file| format!("no document shows {}", file.path.display()))
        .collect()
}

#[test]
fn code_blocks_of_documents_equal_their_files() {
    let project = files();
    let examples = project.iter().filter(|file| file.path.starts_with(EXAMPLES));
    assert!(examples.count() >= 7, "docs/adding-a-sink.md has an example");
    assert_none(&drifted(&project));
    assert_none(&not_shown(&project));
}

#[test]
fn a_code_block_that_differs_from_its_file_is_found() {
    let project = |page: &str| {
        [
            File::imagined("examples/one/src/lib.rs", "one\ntwo\n"),
            File::imagined("src/main.rs", "first\n  second\nthird\n"),
            File::imagined("docs/page.md", page),
        ]
    };
    let check = |block: &str, expected: Option<&str>| {
        let found = drifted(&project(&format!("```rust {block}```\n")));
        match expected {
            None => assert_none(&found),
            Some(expected) => assert_one(&found, expected),
        }
    };
    check("examples/one/src/lib.rs\none\ntwo\n", None);
    check(
        "examples/one/src/lib.rs\none\nsecond\n",
        Some("docs/page.md:1 shows examples/one/src/lib.rs"),
    );
    check("examples/one/src/lib.rs\none\n", Some("one of them is longer"));
    check("src/main.rs\nfirst\n…\nthird\n", None);
    check("src/main.rs\nsecond\n", None);
    check(
        "src/main.rs\nthird\nfirst\n",
        Some("the line 'first' is not there"),
    );
    check("src/gone.rs\nfirst\n", Some("the project has no such file"));
    assert_one(
        &not_shown(&project("")),
        "no document shows examples/one/src/lib.rs",
    );
    assert_none(&not_shown(&project(
        "```rust examples/one/src/lib.rs\none\ntwo\n```\n",
    )));
}
