//! The files for operators (`docker/`), checked with the tools that read them and compared with the program.
//! `ZKBRIDGE_TESTS=offline` skips tests that need a fetched tool, and prints their names.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod chart;
mod chart_secrets;
mod compose;
mod image;
mod monitoring;
mod program;
mod unit;

use std::path::{Path, PathBuf};

/// A file or folder in `docker/`.
fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

/// The text of a file in `docker/`.
fn text(path: &str) -> String {
    let place = place(path);
    std::fs::read_to_string(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()))
}
