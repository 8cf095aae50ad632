//! The files of the project: those that git tracks, without the code of others in `vendor`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A text file of the project.
pub struct File {
    /// Relative to the folder of the workspace.
    pub path: PathBuf,
    pub text: String,
}

impl File {
    /// A file that exists only in a test.
    pub fn imagined(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    pub fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

/// Whether the file is source code of the product, which the tests, benches and examples are not.
pub fn is_product(file: &File) -> bool {
    let outside = ["tests", "benches", "examples"];
    let is_outside = outside.iter().any(|folder| file.path.starts_with(folder));
    file.has_extension("rs") && !is_outside
}

/// Every text file that git tracks, without binary files.
pub fn files() -> Vec<File> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(&path)).ok()?;
        Some(File { path, text })
    };
    let files: Vec<File> = tracked().into_iter().filter_map(read).collect();
    assert!(
        files.len() > 100,
        "only {} files of the project are seen",
        files.len()
    );
    files
}

/// The files with this extension.
pub fn files_with(extension: &str) -> Vec<File> {
    let mut files = files();
    files.retain(|file| file.has_extension(extension));
    assert!(!files.is_empty(), "the project has no .{extension} file");
    files
}

fn tracked() -> Vec<PathBuf> {
    // The checkout may belong to another user than the tests.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(ROOT)
        .output()
        .expect("git lists the files of the project: install it");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "git ls-files failed, run this in a clone: {words}"
    );
    let names = String::from_utf8(output.stdout).expect("paths of the project are UTF-8");
    let paths = names.split_terminator('\0').map(PathBuf::from);
    paths.filter(|path| !path.starts_with("vendor")).collect()
}

/// Fails with all complaints at once.
#[track_caller]
pub fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Fails unless exactly one complaint is made and holds `expected`.
#[track_caller]
pub fn assert_one(complaints: &[String], expected: &str) {
    assert!(
        matches!(complaints, [only] if only.contains(expected)),
        "expected one complaint with '{expected}': {complaints:#?}"
    );
}
