//! Compares the output of a command with its golden file. `ZKBRIDGE_GOLDEN=write` writes the files; check the difference
//! before you commit it.

use std::path::{Path, PathBuf};

use regex::Regex;

/// Patterns that differ from run to run, with their placeholders. The first match wins.
const MASKS: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\d\d:\d\d:\d\d\.\d{3}", "HH:MM:SS.mmm"),
    (r"0x[0-9a-f]{16}", "ZXID"),
    (r"webhook-id [0-9a-f-]+", "webhook-id ID"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\(\d+ (ms|s|min)( \d+ \w+)? ago\)", "(AGO)"),
    (r"\d+(\.\d+)? (B|KiB|MiB|GiB)\b", "SIZE"),
    // The length of a gap, in whatever unit it is printed: a busy machine takes longer than a second.
    (r"(?m)(TIME – TIME  )\d+ (ms|s|min)( \d+ \w+)?$", "${1}SPAN"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (
        r#""(used_bytes|file_bytes|bytes_before|bytes_after|ctime|mtime)": ?\d+"#,
        "\"$1\": NUMBER",
    ),
    (r#""(lag_seconds|retry_in_seconds)": ?[\d.]+"#, "\"$1\": SECONDS"),
];

pub fn masked(text: &str) -> String {
    MASKS.iter().fold(text.to_owned(), |text, (pattern, word)| {
        let pattern = Regex::new(pattern).unwrap();
        pattern.replace_all(&text, *word).into_owned()
    })
}

/// Fails unless the text equals `golden/<name>`.
#[track_caller]
pub fn check(name: &str, text: &str) {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/commands/golden")
        .join(name);
    let text = masked(text);
    if std::env::var_os("ZKBRIDGE_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(&file, &text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        text == known,
        "it is not what {} says; printed was:\n{text}\nknown is:\n{known}",
        file.display()
    );
}

/// No line is wider than a terminal, and nothing in it is a control sequence.
#[track_caller]
pub fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}
